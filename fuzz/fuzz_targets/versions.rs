//! See `portcullis_fuzzing::versions`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::versions(data);
});
