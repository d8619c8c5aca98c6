//! See `portcullis_fuzzing::settings`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::settings(data);
});
