//! `portcullis-runc`: called by an engine in an OCI runtime's place, with the runtime's arguments.
//!
//! Rust's own start would ignore SIGPIPE and install a handler before `main`, which the runtime and
//! its container would inherit in part. So this is C's `main`: what came in goes on.

#![no_main]
#![allow(unsafe_code, reason = "an exported symbol is unsafe by definition; nothing else here is")]

/// The entry. The arguments are those of the process: on Linux with glibc Rust knows them anyway.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    portcullis_shim::wrapper(&args)
}
