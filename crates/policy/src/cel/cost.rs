//! What an evaluation may cost.
//!
//! The unit is one node of the expression. Beyond that, what grows with its input is charged by
//! its size, so that the time of an evaluation is bounded by its cost.

use super::error::EvaluationError;

/// Most that one evaluation of one expression may cost.
pub const COST_LIMIT: u64 = 10_000;

/// Most that all expressions of one start may cost together, over all its findings.
pub const START_COST_LIMIT: u64 = 5_000_000;

/// Bytes that are compared, copied or searched for one unit.
const BYTES_PER_UNIT: usize = 32;

/// What is left for the evaluations of one start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    left: u64,
}

impl Cost {
    /// A budget of this many units; each evaluation takes at most [`COST_LIMIT`] of it.
    pub fn new(units: u64) -> Self {
        Self { left: units }
    }

    /// The shipped budget of one start, [`START_COST_LIMIT`].
    pub fn of_start() -> Self {
        Self::new(START_COST_LIMIT)
    }

    /// Units that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Runs one evaluation and takes what it used.
    pub(super) fn spend<T>(&mut self, evaluation: impl FnOnce(&mut Meter) -> T) -> T {
        let granted = self.left.min(COST_LIMIT);
        let mut meter = Meter { left: granted };
        let result = evaluation(&mut meter);
        self.left -= granted - meter.left;
        result
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::of_start()
    }
}

/// What is left for this evaluation.
#[derive(Debug)]
pub(super) struct Meter {
    left: u64,
}

impl Meter {
    /// For constants, whose size the length of the text bounds.
    pub(super) fn unlimited() -> Self {
        Self { left: u64::MAX }
    }

    pub(super) fn charge(&mut self, units: u64) -> Result<(), EvaluationError> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvaluationError::TooCostly)
            }
        }
    }

    /// For bytes that are read once.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.charge((bytes / BYTES_PER_UNIT) as u64)
    }
}
