//! See `portcullis_fuzzing::languages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::languages(data);
});
