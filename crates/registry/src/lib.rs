//! Verdicts that nodes share through the registries that images come from.
//!
//! A verdict lies there as an artifact that refers to its image (OCI distribution specification 1.1,
//! "referrers"): a signed statement (DSSE, in-toto) of what scanners found. A registry is a stranger:
//! everything it says is bounded, held against its digest, and believed for the signature alone. See
//! `docs/verdicts.md`.

#![forbid(unsafe_code)]

mod artifact;
mod client;
mod document;
mod envelope;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod login;
mod share;
mod statement;
mod target;

pub use artifact::ARTIFACT;
pub use client::{Registry, Repository};
pub use document::Descriptor;
pub use envelope::{Envelope, EnvelopeError, NotBelieved, PAYLOAD};
pub use error::RegistryError;
pub use keys::{KeyError, SigningKey, TrustedKey};
pub use login::Logins;
pub use share::{
    Belief, PullError, Pulled, PushError, Pushed, Taken, Told, Wanted, at, candidates, pull, push,
    take_in,
};
pub use statement::{PREDICATE, Statement, StatementError};
