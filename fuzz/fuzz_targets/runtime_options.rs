//! See `portcullis_fuzzing::runtime_options`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::runtime_options(data);
});
