//! See `portcullis_fuzzing::rpmdb`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::rpmdb(data);
});
