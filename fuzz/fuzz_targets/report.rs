//! See `portcullis_fuzzing::report`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::report(data);
});
