//! See `portcullis_fuzzing::osv`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::osv(data);
});
