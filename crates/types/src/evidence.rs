//! What a decision is made from, beside policy, request and identity.

use crate::{Failure, Verdict};

/// What the verdict store answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// The store was read; nothing in it means that the image is unscanned.
    Read(Vec<Verdict>),
    /// The store was not asked or did not answer; the reason stands among the failures.
    NotRead,
}

/// Everything learnt before the decision. What was learnt before a failure still counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The store's answer.
    pub lookup: Lookup,
    /// What went wrong on the way: store, deadline, record, bugs. The causes that follow from
    /// the evidence itself (unscanned, stale, identity) are added by the decision.
    pub failures: Vec<Failure>,
}

impl Evidence {
    /// The store answered, and nothing failed.
    pub fn read(verdicts: Vec<Verdict>) -> Self {
        Self { lookup: Lookup::Read(verdicts), failures: Vec::new() }
    }

    /// Nothing was read, because of this.
    pub fn failed(failure: Failure) -> Self {
        Self { lookup: Lookup::NotRead, failures: vec![failure] }
    }

    /// The verdicts that were read.
    pub fn verdicts(&self) -> &[Verdict] {
        match &self.lookup {
            Lookup::Read(verdicts) => verdicts,
            Lookup::NotRead => &[],
        }
    }
}
