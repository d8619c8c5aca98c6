//! See `portcullis_fuzzing::kev`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::kev(data);
});
