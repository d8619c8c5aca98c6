//! See `portcullis_fuzzing::layouts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::layouts(data);
});
