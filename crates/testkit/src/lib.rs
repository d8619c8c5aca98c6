//! What tests of several crates share. The rules of the workspace, as tests, are in `tests/`.

#![forbid(unsafe_code)]

pub mod cache;
pub mod clamd;
pub mod events;
pub mod image;
pub mod promtool;
pub mod registry;
pub mod runtimes;
pub mod samples;
