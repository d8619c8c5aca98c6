//! See `portcullis_fuzzing::baseline`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::baseline(data);
});
