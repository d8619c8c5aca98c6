//! See `portcullis_fuzzing::decompression`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::decompression(data);
});
