//! See `portcullis_fuzzing::dpkg`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::dpkg(data);
});
