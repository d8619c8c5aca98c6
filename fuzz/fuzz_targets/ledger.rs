//! See `portcullis_fuzzing::ledger`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis_fuzzing::ledger(data);
});
