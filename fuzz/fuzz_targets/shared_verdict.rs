//! See `portcullis_fuzzing::shared_verdict`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::shared_verdict(data);
});
