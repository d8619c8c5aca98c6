//! The words of Portcullis as types: digests, references, findings, verdicts, requests, decisions.
//!
//! No IO, no clock, no task. What was checked once has a type that cannot be wrong, so that the
//! crates above never check again: a [`Digest`] is well-formed, an [`ImageRef`] is normalised.

#![forbid(unsafe_code)]

mod causes;
mod chain;
mod decision;
mod digest;
mod event;
mod evidence;
mod finding;
mod identity;
mod ids;
mod place;
mod purl;
mod reference;
mod request;
#[cfg(feature = "schema")]
mod schema;
mod verdict;
mod vex;

pub use causes::with_causes;
pub use chain::chain_id;
pub use decision::{
    Action, Cause, Decision, Expired, Failure, Grace, GraceClock, PolicyAnswer, Reason,
    SettingsAnswer, Subject, WaivedBy, Waiver,
};
pub use digest::{Algorithm, Digest, DigestError};
pub use event::{Event, EventId, EventKind, Mark, Recorded, Status};
pub use evidence::{Evidence, ImageConfig, Lookup, Workload};
pub use finding::{Class, Finding, FindingKey, Severity, Text, UnknownWord};
pub use identity::{Identity, Name, Surety};
pub use ids::{Named, cve_prefix, is_cve, preferred};
pub use jiff::Timestamp;
pub use place::Place;
pub use purl::{Purl, PurlError};
pub use reference::{ImageRef, ReferenceError};
pub use request::{Engine, Kind, Request};
#[cfg(feature = "schema")]
pub use schema::TimeSchema;
pub use verdict::{Binding, Coverage, ImageFacts, ScanReport, Scanner, Verdict};
pub use vex::{NotAVexImage, VexImage, VexProduct, VexStatement, VexStatus};
