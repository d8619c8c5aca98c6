//! What a policy document says, and the pure function that decides by it.
//!
//! No IO, no clock, no task: documents come in as text or bytes, evidence as a value, time as
//! `now`. [`decide`] has no `Result`, since every input has an answer. Doors load the published
//! form with [`PolicySet::from_published`]; only tools read YAML (feature `yaml`).

#![forbid(unsafe_code)]

#[cfg(feature = "cases")]
pub mod case;
pub mod cel;
mod check;
mod compiled;
mod decide;
pub mod document;
pub mod explain;
mod fault;
mod glob;
mod index;
#[cfg(feature = "lint")]
pub mod lint;
mod message;
mod path;
mod pattern;
mod period;
#[cfg(feature = "remedy")]
pub mod remedy;
#[cfg(feature = "schema")]
pub mod schema;
mod vex;
#[cfg(feature = "yaml")]
pub mod yaml;

pub use cel::{
    Asked, COST_LIMIT, Cost, EvaluationError, Expression, ExpressionError, Input, START_COST_LIMIT,
};
pub use compiled::{PolicySet, PublishedError};
pub use decide::{Defaults, InForce, decide, is_unscanned};
pub use document::ProtectionPolicy;
pub use fault::{Fault, Place};
pub use message::{one_line, refusal, violation};
pub use pattern::{ImagePattern, PatternError, WordPattern};
pub use period::{Period, PeriodError};
pub use vex::{PackagePart, VexAnswer, VexIndex, VexJudgement, VexMatch, WhyNot, vex_applies};
