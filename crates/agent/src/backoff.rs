//! How long to leave alone what failed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);

/// Longer after each failure, and never the same for two who fail together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure: how long to wait now.
    pub(crate) fn failed(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        // Random enough: the keys of each new state are.
        let jitter = RandomState::new().hash_one(self.failures) % 256;
        wait.mul_f64(0.75 + jitter as f64 / 512.0)
    }

    /// Whether there was one failure so far.
    pub(crate) fn is_first(&self) -> bool {
        self.failures == 1
    }
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
