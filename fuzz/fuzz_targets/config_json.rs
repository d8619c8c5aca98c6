//! See `portcullis_fuzzing::config_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::config_json(data);
});
