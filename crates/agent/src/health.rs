//! Whether the agent's threads make progress, and whether it is ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the agent's threads fare.
#[derive(Debug)]
pub struct Health {
    begun: Instant,
    threads: Mutex<Vec<Arc<Thread>>>,
    /// What is not ready, and why.
    awaited: Mutex<BTreeMap<&'static str, String>>,
}

#[derive(Debug)]
struct Thread {
    name: &'static str,
    /// How long it may do something else between two beats, if it has to beat.
    most: Option<Duration>,
    /// Milliseconds from the beginning to its last beat.
    beat: AtomicU64,
    has_ended: AtomicBool,
}

/// Held by a thread as long as it runs.
#[derive(Debug)]
pub struct Pulse {
    begun: Instant,
    thread: Arc<Thread>,
}

impl Default for Health {
    fn default() -> Self {
        Self { begun: Instant::now(), threads: Mutex::default(), awaited: Mutex::default() }
    }
}

impl Health {
    /// A thread that is meant to run for ever, and to [beat](Pulse::beat) once in `most` at least if
    /// that is given. It has ended, and the agent is not well, when the pulse is dropped.
    pub fn thread(&self, name: &'static str, most: Option<Duration>) -> Pulse {
        let thread = Arc::new(Thread {
            name,
            most,
            beat: AtomicU64::new(millis(self.begun)),
            has_ended: AtomicBool::new(false),
        });
        held(&self.threads).push(thread.clone());
        Pulse { begun: self.begun, thread }
    }

    /// The agent is not ready as long as this is so, for this reason.
    pub fn awaits(&self, what: &'static str, why: impl Into<String>) {
        held(&self.awaited).insert(what, why.into());
    }

    /// That is ready now.
    pub fn has(&self, what: &'static str) {
        held(&self.awaited).remove(what);
    }

    /// Why the agent is not well, if it is not.
    pub fn problems(&self) -> Vec<String> {
        let now = millis(self.begun);
        let problem = |thread: &Arc<Thread>| {
            if thread.has_ended.load(Ordering::SeqCst) {
                return Some(format!("the thread {} has ended", thread.name));
            }
            let rests = now.saturating_sub(thread.beat.load(Ordering::SeqCst));
            let is_stuck = thread.most.is_some_and(|most| u128::from(rests) > most.as_millis());
            is_stuck.then(|| format!("the thread {} is stuck for {} s", thread.name, rests / 1000))
        };
        held(&self.threads).iter().filter_map(problem).collect()
    }

    /// Why the agent is not ready, if it is not.
    pub fn awaited(&self) -> Vec<String> {
        held(&self.awaited).iter().map(|(what, why)| format!("{what}: {why}")).collect()
    }
}

impl Pulse {
    /// The thread makes progress.
    pub fn beat(&self) {
        self.thread.beat.store(millis(self.begun), Ordering::SeqCst);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.thread.has_ended.store(true, Ordering::SeqCst);
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_or_rests_too_long_is_a_problem() {
        let health = Health::default();
        let stuck = health.thread("stuck", Some(Duration::ZERO));
        let calm = health.thread("calm", None);
        let beating = health.thread("beating", Some(Duration::from_secs(3600)));
        std::thread::sleep(Duration::from_millis(5));
        let problems = health.problems();
        assert!(problems.len() == 1 && problems[0].starts_with("the thread stuck is stuck for "));
        // A panic drops it as well.
        let ends = std::thread::spawn(move || {
            let _pulse = calm;
            panic!("on purpose");
        });
        assert!(ends.join().is_err());
        drop(stuck);
        beating.beat();
        let ended = ["the thread stuck has ended", "the thread calm has ended"];
        assert_eq!(health.problems(), ended);
    }

    #[test]
    fn it_is_ready_when_nothing_is_awaited() {
        let health = Health::default();
        assert!(health.awaited().is_empty());
        health.awaits("the ledger", "it is being read");
        health.awaits("the ledger", "it cannot be read");
        assert_eq!(health.awaited(), ["the ledger: it cannot be read"]);
        health.has("the ledger");
        assert!(health.awaited().is_empty() && health.problems().is_empty());
    }
}
