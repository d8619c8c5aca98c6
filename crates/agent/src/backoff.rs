//! How long to leave alone what failed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);

/// Longer after each failure, and never the same for two who fail together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(FIRST, MOST)
    }
}

impl Backoff {
    /// From so long to so long.
    pub(crate) fn between(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// Counts a failure: how long to wait now.
    pub(crate) fn failed(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(0.75 + random() / 2.0)
    }

    /// Whether there was one failure so far.
    pub(crate) fn is_first(&self) -> bool {
        self.failures == 1
    }
}

/// A number from 0 to less than 1, random enough: the keys of each new state are.
pub(crate) fn random() -> f64 {
    (RandomState::new().hash_one(0) % 256) as f64 / 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound() {
        let mut backoff = Backoff::default();
        let first = backoff.failed();
        assert!((FIRST.mul_f64(0.75)..=FIRST.mul_f64(1.25)).contains(&first), "{first:?}");
        assert!(backoff.is_first());
        let waits: Vec<Duration> = (0..40).map(|_| backoff.failed()).collect();
        assert!(waits[2] > first && !backoff.is_first());
        assert!(waits.iter().all(|wait| *wait <= MOST.mul_f64(1.25)), "{waits:?}");
        assert!(waits[39] >= MOST.mul_f64(0.75));
    }
}
