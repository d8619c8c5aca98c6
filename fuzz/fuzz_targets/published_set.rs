//! See `portcullis_fuzzing::published_set`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::published_set(data);
});
