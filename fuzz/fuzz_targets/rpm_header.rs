//! See `portcullis_fuzzing::rpm_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::rpm_header(data);
});
