//! See `portcullis_fuzzing::tar`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::tar(data);
});
