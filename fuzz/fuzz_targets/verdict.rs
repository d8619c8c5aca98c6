//! See `portcullis_fuzzing::verdict`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::verdict(data);
});
