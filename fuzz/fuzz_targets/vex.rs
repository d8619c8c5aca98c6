//! See `portcullis_fuzzing::vex`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::vex(data);
});
