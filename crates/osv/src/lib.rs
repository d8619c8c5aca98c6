//! Advisories in the OSV schema (<https://ossf.github.io/osv-schema/>, 1.7): what is read of them, and
//! whether a version of a package is affected.
//!
//! A record is somebody else's: it is read with bounds, members that are not needed are passed over
//! whatever they hold, and what cannot be understood is an error of that record alone.

#![forbid(unsafe_code)]

mod affects;
pub mod database;
mod names;
mod record;

pub use affects::Hit;
pub use names::{is_in_ecosystem, normal_name};
pub use record::{
    Advisory, Affected, Event, MAX_RECORD, Package, Range, RecordError, Severity, SeverityKind,
};
