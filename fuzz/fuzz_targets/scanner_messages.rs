//! See `portcullis_fuzzing::scanner_messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::scanner_messages(data);
});
