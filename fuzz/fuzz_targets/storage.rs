//! See `portcullis_fuzzing::storage`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::storage(data);
});
