//! See `portcullis_fuzzing::jar`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::jar(data);
});
