//! See `portcullis_fuzzing::policy_yaml`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::policy_yaml(data);
});
