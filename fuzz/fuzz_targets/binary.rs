//! See `portcullis_fuzzing::binary`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::binary(data);
});
