//! See `portcullis_fuzzing::clamd`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::clamd(data);
});
