//! See `portcullis_fuzzing::layer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::layer(data);
});
