//! See `portcullis_fuzzing::bootstrap`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::bootstrap(data);
});
