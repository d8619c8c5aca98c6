//! See `portcullis_fuzzing::epss`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::epss(data);
});
