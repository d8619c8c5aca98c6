//! See `portcullis_fuzzing::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::names(data);
});
