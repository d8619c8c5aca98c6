//! See `portcullis_fuzzing::containerd_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::containerd_records(data);
});
