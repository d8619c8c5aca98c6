//! See `portcullis_fuzzing::apk`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::apk(data);
});
