//! See `portcullis_fuzzing::image_documents`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::image_documents(data);
});
