//! See `portcullis_fuzzing::secrets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::secrets(data);
});
