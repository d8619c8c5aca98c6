//! See `portcullis_fuzzing::mounts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::mounts(data);
});
