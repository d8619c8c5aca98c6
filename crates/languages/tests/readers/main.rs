//! Every reader on the files that it is for, and on files that are made to harm.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod binaries;
mod hostile;
mod jars;
mod support;
mod texts;
