//! What the agent does by itself, beside what doors ask for: two threads that nobody waits for.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bell::Bell;
use crate::health::Health;
use crate::images::{Follower, InUse};
use crate::queue::Queue;
use crate::running::Judge;
use crate::scans::Scans;

/// How long an engine may take for one answer: the agent ends within five seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Follows the images of a node, and judges again what runs on it.
#[derive(Debug)]
pub struct Follow {
    bells: Vec<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl Follow {
    /// Begins, unless the settings say that nothing is followed.
    ///
    /// # Errors
    /// There are no threads or descriptors for it.
    pub fn begin(scans: &Arc<Scans>, queue: &Arc<Queue>, health: &Health) -> io::Result<Self> {
        let mut follow = Self { bells: Vec::new(), threads: Vec::new() };
        if scans.settings().agent.follow.as_ref().is_some_and(|engines| engines.is_empty()) {
            return Ok(follow);
        }
        let in_use = InUse::default();
        let bell = follow.bell()?;
        let (own_scans, own_queue, own_in_use) = (scans.clone(), queue.clone(), in_use.clone());
        follow.spawn("images", health, move || {
            Follower::new(&own_scans, &own_queue, &bell, &own_in_use).run();
        })?;
        let bell = follow.bell()?;
        let (scans, queue) = (scans.clone(), queue.clone());
        follow.spawn("judge", health, move || Judge::new(&scans, &queue, &bell, &in_use).run())?;
        Ok(follow)
    }

    fn bell(&mut self) -> io::Result<Bell> {
        let bell = Bell::new()?;
        self.bells.push(bell.clone());
        Ok(bell)
    }

    /// A thread that waits for engines, each as long as it is allowed, so it need not beat.
    fn spawn(
        &mut self,
        name: &'static str,
        health: &Health,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let pulse = health.thread(name, None);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _pulse = pulse;
            run();
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Begins to end: no engine is asked any more.
    pub fn end(&self) {
        self.bells.iter().for_each(Bell::end);
    }

    /// Whether all has ended.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}
