//! How often a node may write to the API server, and how long it waits after a failure.

use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;
use tokio::sync::watch;

/// All nodes of a cluster together write at most so often in the long run.
const WRITES_PER_SECOND: u32 = 50;
/// What a node may write at once after a rest.
const BURST: u32 = 30;
/// The longest that nodes which have the same to tell spread it over.
const MAX_SPREAD: Duration = Duration::from_secs(120);

/// The share of one node: a token bucket that fills more slowly the more nodes there are.
#[derive(Debug)]
pub struct Pace {
    nodes: u32,
    tokens: f64,
    filled: Instant,
}

impl Pace {
    /// In a cluster of so many nodes.
    pub fn new(nodes: u32, now: Instant) -> Self {
        Self { nodes: nodes.max(1), tokens: f64::from(BURST), filled: now }
    }

    /// The cluster has another size.
    pub fn resize(&mut self, nodes: u32, now: Instant) {
        self.fill(now);
        self.nodes = nodes.max(1);
    }

    /// How long it takes until one more write is allowed after the burst.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.nodes.into()) / WRITES_PER_SECOND
    }

    /// Takes leave to write now, or says how long to wait.
    ///
    /// # Errors
    /// Nothing may be written before that time has passed.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(self.interval().mul_f64(1.0 - self.tokens).max(Duration::from_millis(10)))
    }

    /// A random part of the time over which all nodes spread what they tell at once.
    pub fn spread(&self) -> Duration {
        self.interval().min(MAX_SPREAD).mul_f64(fastrand::f64())
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        self.filled = now;
        let more = passed.as_secs_f64() / self.interval().as_secs_f64();
        self.tokens = (self.tokens + more).min(f64::from(BURST));
    }
}

/// Waits twice as long after each failure, from a second to two minutes, of which a random half is
/// left out, so that a server that comes back is not met by all nodes at once.
#[derive(Debug)]
pub(crate) struct Waits {
    longest: Duration,
    failures: u32,
    last: Option<Instant>,
}

impl Default for Waits {
    fn default() -> Self {
        Self::up_to(Duration::from_secs(120))
    }
}

impl Waits {
    /// Waits for so long at most.
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { longest, failures: 0, last: None }
    }

    pub(crate) fn after_failure(&mut self) -> Duration {
        let whole = Duration::from_secs(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        half_at_least(whole)
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.after_failure())
    }
}

impl Backoff for Waits {
    /// A watch says that all is well before it has asked for anything, so that counts only if nothing
    /// has failed for a while.
    fn reset(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() > self.longest) {
            self.succeeded();
        }
    }
}

/// A random time between half of it and all of it, so that nodes which wait for the same do not come
/// together.
pub(crate) fn half_at_least(whole: Duration) -> Duration {
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Waits until the end is asked for, or nobody is there any more who could.
pub(crate) async fn ended(stop: &mut watch::Receiver<bool>) {
    let _nobody = stop.wait_for(|stop| *stop).await;
}

/// Waits until then, or for ever.
pub(crate) async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_thousand_nodes_write_fifty_times_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(5000, start);
        let mut written = 0;
        for second in 0..36_000 {
            while pace.take(start + Duration::from_secs(second)).is_ok() {
                written += 1;
            }
        }
        // Ten hours: the burst and one in each hundred seconds.
        assert_eq!(written, BURST + 359);
        let spread = (0..1000).map(|_| pace.spread()).max().unwrap();
        assert!(
            spread > Duration::from_secs(80) && spread < Duration::from_secs(100),
            "{spread:?}"
        );
    }

    #[test]
    fn a_node_alone_hardly_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(1, start);
        for _ in 0..BURST {
            pace.take(start).unwrap();
        }
        let wait = pace.take(start).unwrap_err();
        assert!(wait <= Duration::from_millis(20), "{wait:?}");
        assert!(pace.take(start + wait).is_ok());
        assert!(pace.spread() <= Duration::from_millis(20));
    }

    #[test]
    fn failures_make_it_wait_longer_and_longer_within_bounds() {
        let mut waits = Waits::default();
        let first = waits.after_failure();
        assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1));
        let all: Vec<_> = (0..100).map(|_| waits.after_failure()).collect();
        let longest = Waits::default().longest;
        assert!(all.iter().all(|wait| *wait <= longest));
        assert!(all[50..].iter().all(|wait| *wait >= longest / 2));
        waits.succeeded();
        assert!(waits.after_failure() <= Duration::from_secs(1));
    }
}
