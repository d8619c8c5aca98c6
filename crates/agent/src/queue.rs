//! The images that wait for a scan: a bounded number, each once, whoever asks for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_types::{Digest, Place};

/// How long an image that could not be scanned is not tried again, at least, and how many times the
/// time that it took: an engine asks again and again for a container that does not start, and an
/// image may be made to cost all the time that it is given.
const RESTS: Duration = Duration::from_secs(60);
const RESTS_TIMES: u32 = 10;

/// Most ends that are kept for whoever counts them.
const MAX_ENDED: usize = 1024;

/// Most images whose failure is remembered.
const MAX_FAILURES: usize = 1024;

/// What came of a scan.
pub type Outcome = Result<(), String>;

/// Why an image is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotTaken {
    /// Too many wait already.
    Full,
    /// The agent is about to end.
    Ending,
}

/// A scan that somebody waits for.
#[derive(Debug)]
pub struct Scan {
    /// The digest of the image's configuration.
    pub image: Digest,
    /// Where the engine has it.
    pub place: Place,
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Scan {
    fn new(image: Digest, place: Place, outcome: Option<Outcome>) -> Arc<Self> {
        Arc::new(Self { image, place, outcome: Mutex::new(outcome), ended: Condvar::new() })
    }

    /// Waits for its end until then; `None` if it goes on.
    pub fn wait(&self, until: Instant) -> Option<Outcome> {
        let mut outcome = held(&self.outcome);
        while outcome.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.ended.wait_timeout(outcome, left);
            outcome = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        outcome.clone()
    }

    fn end(&self, outcome: Outcome) {
        *held(&self.outcome) = Some(outcome);
        self.ended.notify_all();
    }
}

/// How many images there are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Being scanned.
    pub scanning: usize,
    /// Waiting.
    pub waiting: usize,
    /// Scanned so far.
    pub scanned: u64,
    /// Not scanned so far, for one reason or another.
    pub failed: u64,
}

/// A scan that is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whether the image was scanned.
    pub scanned: bool,
    /// How long it took.
    pub took: Duration,
}

/// Images that wait.
#[derive(Debug)]
pub struct Queue {
    most: usize,
    inner: Mutex<Inner>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// All that are not at their end, by image and place.
    scans: BTreeMap<(Digest, Place), Arc<Scan>>,
    /// Those that have not begun, in order.
    waiting: VecDeque<Arc<Scan>>,
    /// Those that failed lately, and until when they rest.
    failures: VecDeque<(Instant, Arc<Scan>)>,
    /// Ends that nobody has taken yet.
    ended: Vec<Ended>,
    scanned: u64,
    failed: u64,
    is_ending: bool,
}

impl Queue {
    /// A queue in which so many may wait.
    pub fn new(most: usize) -> Self {
        Self { most, inner: Mutex::default(), more: Condvar::new() }
    }

    /// Wants an image scanned. One that waits, is being scanned or failed a moment ago is not taken
    /// in again.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn want(&self, image: Digest, place: Place) -> Result<Arc<Scan>, NotTaken> {
        let mut inner = held(&self.inner);
        if inner.is_ending {
            return Err(NotTaken::Ending);
        }
        if let Some(scan) = inner.scans.get(&(image.clone(), place.clone())) {
            return Ok(scan.clone());
        }
        let now = Instant::now();
        inner.failures.retain(|(until, _)| *until > now);
        let failed = |(_, scan): &&(Instant, Arc<Scan>)| scan.image == image && scan.place == place;
        if let Some((_, scan)) = inner.failures.iter().find(failed) {
            return Ok(scan.clone());
        }
        if inner.waiting.len() >= self.most {
            return Err(NotTaken::Full);
        }
        let scan = Scan::new(image.clone(), place.clone(), None);
        inner.scans.insert((image, place), scan.clone());
        inner.waiting.push_back(scan.clone());
        self.more.notify_one();
        Ok(scan)
    }

    /// The next image, which is being scanned from now on; waits for one. `None` at the end.
    pub fn next(&self) -> Option<Arc<Scan>> {
        let mut inner = held(&self.inner);
        loop {
            if inner.is_ending {
                return None;
            }
            if let Some(scan) = inner.waiting.pop_front() {
                return Some(scan);
            }
            inner = self.more.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells all who wait for it what came of a scan, and how long it took.
    pub fn done(&self, scan: &Arc<Scan>, outcome: Outcome, took: Duration) {
        let mut inner = held(&self.inner);
        inner.scans.remove(&(scan.image.clone(), scan.place.clone()));
        if inner.ended.len() < MAX_ENDED {
            inner.ended.push(Ended { scanned: outcome.is_ok(), took });
        }
        match outcome.is_ok() {
            true => inner.scanned += 1,
            false => {
                inner.failed += 1;
                if inner.failures.len() >= MAX_FAILURES {
                    inner.failures.pop_front();
                }
                let rests = took.saturating_mul(RESTS_TIMES).max(RESTS);
                inner.failures.push_back((Instant::now() + rests, scan.clone()));
            }
        }
        scan.end(outcome);
    }

    /// Nothing more is taken in, nor begun; whoever waits is told.
    pub fn end(&self) {
        let mut inner = held(&self.inner);
        inner.is_ending = true;
        for scan in inner.waiting.drain(..) {
            scan.end(Err("the agent ended".to_owned()));
        }
        self.more.notify_all();
    }

    /// The scans that ended since the last call, the first 1024 of them.
    pub fn take_ended(&self) -> Vec<Ended> {
        std::mem::take(&mut held(&self.inner).ended)
    }

    /// How many images there are in each state.
    pub fn counts(&self) -> Counts {
        let inner = held(&self.inner);
        let waiting = inner.waiting.len();
        let scanning = inner.scans.len().saturating_sub(waiting);
        Counts { scanning, waiting, scanned: inner.scanned, failed: inner.failed }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(number: u8) -> Digest {
        Digest::of(&[number])
    }

    fn place() -> Place {
        Place::Storage { roots: vec!["/var/lib/containers/storage".into()] }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn an_image_is_scanned_once_and_all_who_want_it_are_told() {
        let queue = Arc::new(Queue::new(8));
        let scans: Vec<_> = (0..10).map(|_| queue.want(image(1), place()).unwrap()).collect();
        assert_eq!(queue.counts(), Counts { waiting: 1, ..Counts::default() });
        let taken = queue.next().unwrap();
        // Whoever comes while it is scanned waits for the same.
        let late = queue.want(image(1), place()).unwrap();
        assert_eq!(queue.counts(), Counts { scanning: 1, ..Counts::default() });
        let waiters: Vec<_> = scans
            .into_iter()
            .chain([late])
            .map(|scan| std::thread::spawn(move || scan.wait(soon())))
            .collect();
        queue.done(&taken, Ok(()), Duration::ZERO);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Some(Ok(())));
        }
        assert_eq!(queue.counts(), Counts { scanned: 1, ..Counts::default() });
        // The next wish is a new one.
        queue.want(image(1), place()).unwrap();
        assert_eq!(queue.counts().waiting, 1);
    }

    #[test]
    fn no_more_wait_than_may_and_who_comes_first_is_first() {
        let queue = Queue::new(2);
        queue.want(image(1), place()).unwrap();
        queue.want(image(2), place()).unwrap();
        assert_eq!(queue.want(image(3), place()).unwrap_err(), NotTaken::Full);
        // One that waits already needs no room.
        queue.want(image(2), place()).unwrap();
        assert_eq!(queue.next().unwrap().image, image(1));
        queue.want(image(3), place()).unwrap();
        assert_eq!(queue.next().unwrap().image, image(2));
        assert_eq!(queue.next().unwrap().image, image(3));
    }

    #[test]
    fn what_failed_a_moment_ago_is_not_tried_again_where_it_failed() {
        let queue = Queue::new(2);
        queue.want(image(1), place()).unwrap();
        let scan = queue.next().unwrap();
        queue.done(&scan, Err("a bomb".to_owned()), Duration::ZERO);
        let again = queue.want(image(1), place()).unwrap();
        assert_eq!(again.wait(Instant::now()), Some(Err("a bomb".to_owned())));
        assert_eq!(queue.counts(), Counts { failed: 1, ..Counts::default() });
        let elsewhere = Place::Storage { roots: vec!["/elsewhere".into()] };
        assert_eq!(queue.want(image(1), elsewhere).unwrap().wait(Instant::now()), None);
        assert_eq!(queue.counts().waiting, 1);
    }

    #[test]
    fn failures_are_remembered_within_bounds() {
        let queue = Queue::new(1);
        for number in 0..u16::try_from(MAX_FAILURES + 10).unwrap() {
            queue.want(Digest::of(&number.to_le_bytes()), place()).unwrap();
            queue.done(&queue.next().unwrap(), Err("no".to_owned()), Duration::ZERO);
        }
        assert_eq!(held(&queue.inner).failures.len(), MAX_FAILURES);
        assert_eq!(queue.take_ended().len(), MAX_ENDED);
        assert!(queue.take_ended().is_empty());
    }

    #[test]
    fn the_end_wakes_all() {
        let queue = Arc::new(Queue::new(2));
        let scan = queue.want(image(1), place()).unwrap();
        let other = queue.clone();
        let taken = queue.next().unwrap();
        let scanner = std::thread::spawn(move || other.next());
        queue.want(image(2), place()).unwrap_or_else(|_| unreachable!());
        // It may have been taken by the other thread before the end.
        queue.end();
        assert!(scanner.join().unwrap().is_none_or(|scan| scan.image == image(2)));
        assert_eq!(queue.want(image(3), place()).unwrap_err(), NotTaken::Ending);
        assert_eq!(scan.wait(Instant::now()), None);
        queue.done(&taken, Ok(()), Duration::ZERO);
        assert_eq!(scan.wait(soon()), Some(Ok(())));
    }
}
