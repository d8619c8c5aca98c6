//! See `portcullis_fuzzing::file_table`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::file_table(data);
});
