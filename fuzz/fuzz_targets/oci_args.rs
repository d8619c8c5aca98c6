//! See `portcullis_fuzzing::oci_args`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::oci_args(data);
});
