//! Reads images that may be hostile, in a process of its own.

#![forbid(unsafe_code)]

mod apk;
mod confine;
mod debian;
mod detect;
mod documents;
mod engines;
mod folder;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod layer;
mod link;
mod packages;
mod source;
mod stream;
mod tar;
mod whole;
mod worker;

pub use confine::{ConfineError, enter as confine};
pub use gather::LayerError;
pub use link::Link;
pub use worker::serve;
