//! The images that wait for a scan: a bounded number, each once, whoever asks for it.
//!
//! Those that doors ask for come first. The others are the node's own images, in the background: one
//! of them that is being scanned gives way to a door's, and goes on where it was, since the layers
//! that were read are kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// Most images in the background, and how long one that failed is not tried again there at most: from
/// a minute on twice as long each time, since nobody waits for it, and the reasons of most failures
/// stay.
const MAX_BACKGROUND: usize = portcullis_engines::MAX_IMAGES;
const RESTS_IN_BACKGROUND: Duration = Duration::from_secs(3600);

/// How often a scan in the background gives way: one layer may take all the time between two doors.
const MAX_GIVES_WAY: usize = 3;

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
    /// The digest by which the engine finds it at once, if that is known.
    pub asked: Option<Digest>,
    /// It is scanned though the store knows it: its layers are to be read in another way.
    pub is_again: bool,
    /// Nobody waits for it.
    is_background: AtomicBool,
    /// Somebody waits for another one.
    is_hurried: AtomicBool,
    gave_way: AtomicUsize,
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Scan {
    /// One that somebody waits for.
    fn new(image: Digest, place: Place) -> Self {
        Self {
            image,
            place,
            asked: None,
            is_again: false,
            is_background: AtomicBool::new(false),
            is_hurried: AtomicBool::new(false),
            gave_way: AtomicUsize::new(0),
            outcome: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Whether nobody waits for it.
    pub fn is_background(&self) -> bool {
        self.is_background.load(Ordering::SeqCst)
    }

    /// Whether it is to stop, so that another one that somebody waits for is scanned first.
    pub fn gives_way(&self) -> bool {
        self.is_hurried.load(Ordering::SeqCst)
            && self.is_background()
            && self.gave_way.load(Ordering::SeqCst) < MAX_GIVES_WAY
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
    /// Waiting for somebody who waits for them.
    pub waiting: usize,
    /// Waiting in the background.
    pub background: usize,
    /// Scanned so far.
    pub scanned: u64,
    /// Not scanned so far, for one reason or another.
    pub failed: u64,
    /// That the engines have, as far as they were listed.
    pub images: usize,
    /// Of these, not scanned: waiting in the background, or failed there.
    pub unscanned: usize,
    /// Containers that run.
    pub runs: Runs,
}

/// Containers that run, as they were judged last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    /// Those that violate a policy since they were started.
    pub violating: usize,
    /// Those of whose start there is a decision.
    pub decided: usize,
    /// Those that started before there was a gate, or past it.
    pub undecided: usize,
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
    /// Those that have not begun and nobody waits for.
    background: VecDeque<Arc<Scan>>,
    /// The one in the background that is being scanned.
    current: Option<Arc<Scan>>,
    /// Those that failed in the background.
    rests: BTreeMap<(Digest, Place), Rest>,
    images: usize,
    runs: Runs,
    /// Those that failed lately, and until when they rest.
    failures: VecDeque<(Instant, Arc<Scan>)>,
    /// Ends that nobody has taken yet.
    ended: Vec<Ended>,
    scanned: u64,
    failed: u64,
    is_ending: bool,
}

/// An image that failed in the background.
#[derive(Debug)]
struct Rest {
    until: Instant,
    failures: u32,
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
        if let Some(scan) = inner.scans.get(&(image.clone(), place.clone())).cloned() {
            return self.hurry(&mut inner, scan);
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
        let scan = Arc::new(Scan::new(image.clone(), place.clone()));
        inner.scans.insert((image, place), scan.clone());
        self.first(&mut inner, scan.clone());
        Ok(scan)
    }

    /// Has a scan in the background done as one that somebody waits for.
    fn hurry(&self, inner: &mut Inner, scan: Arc<Scan>) -> Result<Arc<Scan>, NotTaken> {
        let waits = inner.background.iter().position(|other| Arc::ptr_eq(other, &scan));
        if let Some(at) = waits {
            if inner.waiting.len() >= self.most {
                return Err(NotTaken::Full);
            }
            inner.background.remove(at);
            self.first(inner, scan.clone());
        }
        scan.is_background.store(false, Ordering::SeqCst);
        Ok(scan)
    }

    /// Puts it behind those that somebody waits for, and before the others.
    fn first(&self, inner: &mut Inner, scan: Arc<Scan>) {
        inner.waiting.push_back(scan);
        if let Some(current) = &inner.current {
            current.is_hurried.store(true, Ordering::SeqCst);
        }
        self.more.notify_one();
    }

    /// Wants an image scanned when nobody waits for another one, and says whether it will be. One that
    /// waits or is being scanned stays as it is; one that failed lately is not taken in.
    pub fn want_in_background(&self, image: Digest, place: Place, asked: Digest) -> bool {
        self.background(image, place, asked, false).is_some()
    }

    /// The same for one that the store knows and that is to be read once more.
    pub fn want_again(&self, image: Digest, place: Place, asked: Digest) -> Option<Arc<Scan>> {
        self.background(image, place, asked, true).filter(|scan| scan.is_again)
    }

    fn background(
        &self,
        image: Digest,
        place: Place,
        asked: Digest,
        is_again: bool,
    ) -> Option<Arc<Scan>> {
        let mut inner = held(&self.inner);
        let key = (image, place);
        if inner.is_ending || inner.background.len() >= MAX_BACKGROUND {
            return None;
        }
        if let Some(scan) = inner.scans.get(&key) {
            return Some(scan.clone());
        }
        let now = Instant::now();
        // How often it failed is remembered for a while longer.
        inner.rests.retain(|_, rest| rest.until + RESTS_IN_BACKGROUND > now);
        let rests = inner.rests.get(&key).is_some_and(|rest| rest.until > now);
        if rests || inner.rests.len() >= MAX_BACKGROUND {
            return None;
        }
        let scan = Arc::new(Scan {
            asked: Some(asked),
            is_again,
            is_background: AtomicBool::new(true),
            ..Scan::new(key.0.clone(), key.1.clone())
        });
        inner.scans.insert(key, scan.clone());
        inner.background.push_back(scan.clone());
        self.more.notify_one();
        Some(scan)
    }

    /// The images that the engines have, for [`Self::counts`]. Those that wait in the background and
    /// are not among them any more are let go.
    pub fn follows(&self, images: usize, has: impl Fn(&Digest, &Place) -> bool) {
        let mut inner = held(&self.inner);
        inner.images = images;
        let Inner { background, scans, rests, .. } = &mut *inner;
        rests.retain(|(image, place), _| has(image, place));
        background.retain(|scan| {
            let stays = has(&scan.image, &scan.place);
            if !stays {
                scans.remove(&(scan.image.clone(), scan.place.clone()));
                scan.end(Err("no engine has it any more".to_owned()));
            }
            stays
        });
    }

    /// When the next image that failed in the background may be tried again, of those that could not be
    /// at this time.
    pub fn rests_until(&self, since: Instant) -> Option<Instant> {
        let inner = held(&self.inner);
        inner.rests.values().map(|rest| rest.until).filter(|until| *until > since).min()
    }

    /// What runs, for [`Self::counts`].
    pub fn run(&self, runs: Runs) {
        held(&self.inner).runs = runs;
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
            if let Some(scan) = inner.background.pop_front() {
                inner.current = Some(scan.clone());
                return Some(scan);
            }
            inner = self.more.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A scan that gave way waits again, before all others in the background.
    pub fn put_back(&self, scan: &Arc<Scan>) {
        let mut inner = held(&self.inner);
        inner.current = None;
        scan.gave_way.fetch_add(1, Ordering::SeqCst);
        scan.is_hurried.store(false, Ordering::SeqCst);
        if inner.is_ending {
            scan.end(Err("the agent ended".to_owned()));
            return;
        }
        match scan.is_background() {
            true => inner.background.push_front(scan.clone()),
            // Somebody has come to wait for it meanwhile.
            false => inner.waiting.push_front(scan.clone()),
        }
        self.more.notify_one();
    }

    /// Tells all who wait for it what came of a scan, and how long it took.
    pub fn done(&self, scan: &Arc<Scan>, outcome: Outcome, took: Duration) {
        let mut inner = held(&self.inner);
        inner.current.take_if(|current| Arc::ptr_eq(current, scan));
        let key = (scan.image.clone(), scan.place.clone());
        inner.scans.remove(&key);
        if inner.ended.len() < MAX_ENDED {
            inner.ended.push(Ended { scanned: outcome.is_ok(), took });
        }
        match outcome.is_ok() {
            true => {
                inner.scanned += 1;
                inner.rests.remove(&key);
            }
            false => {
                inner.failed += 1;
                let rests = took.saturating_mul(RESTS_TIMES).max(RESTS);
                // What doors alone ask for has a bound of its own.
                if scan.asked.is_some() {
                    let failures = inner.rests.get(&key).map_or(0, |rest| rest.failures);
                    let rests = rests.max(RESTS.saturating_mul(1 << failures.min(16)));
                    let until = Instant::now() + rests.min(RESTS_IN_BACKGROUND);
                    inner.rests.insert(key, Rest { until, failures: failures + 1 });
                }
                if inner.failures.len() >= MAX_FAILURES {
                    inner.failures.pop_front();
                }
                inner.failures.push_back((Instant::now() + rests, scan.clone()));
            }
        }
        scan.end(outcome);
    }

    /// Nothing more is taken in, nor begun; whoever waits is told.
    pub fn end(&self) {
        let mut inner = held(&self.inner);
        inner.is_ending = true;
        let Inner { waiting, background, .. } = &mut *inner;
        for scan in waiting.drain(..).chain(background.drain(..)) {
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
        let (waiting, background) = (inner.waiting.len(), inner.background.len());
        let scanning = inner.scans.len().saturating_sub(waiting + background);
        let now = Instant::now();
        let rests = inner.rests.values().filter(|rest| rest.until > now).count();
        Counts {
            scanning,
            waiting,
            background,
            scanned: inner.scanned,
            failed: inner.failed,
            images: inner.images,
            unscanned: background + usize::from(inner.current.is_some()) + rests,
            runs: inner.runs,
        }
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

    fn background(queue: &Queue, number: u8) -> bool {
        queue.want_in_background(image(number), place(), image(number))
    }

    #[test]
    fn what_somebody_waits_for_comes_first() {
        let queue = Queue::new(2);
        for number in [1, 2, 3] {
            assert!(background(&queue, number));
        }
        queue.want(image(4), place()).unwrap();
        // One that waits in the background is taken out of it, within the same bound.
        assert!(!queue.want(image(3), place()).unwrap().is_background());
        assert_eq!(queue.want(image(2), place()).unwrap_err(), NotTaken::Full);
        assert_eq!(
            queue.counts(),
            Counts { waiting: 2, background: 2, unscanned: 2, ..Counts::default() }
        );
        let order: Vec<Digest> = (0..4).map(|_| queue.next().unwrap().image.clone()).collect();
        assert_eq!(order, [4, 3, 1, 2].map(image));
    }

    #[test]
    fn a_scan_in_the_background_gives_way_a_few_times() {
        let queue = Queue::new(8);
        assert!(background(&queue, 1));
        for number in 2..8 {
            let scan = queue.next().unwrap();
            assert_eq!((&scan.image, scan.gives_way()), (&image(1), false));
            queue.want(image(number), place()).unwrap();
            if usize::from(number) - 2 >= MAX_GIVES_WAY {
                assert!(!scan.gives_way(), "it has waited long enough");
                return queue.done(&scan, Ok(()), Duration::ZERO);
            }
            assert!(scan.gives_way());
            queue.put_back(&scan);
            let asked = queue.next().unwrap();
            assert_eq!(asked.image, image(number));
            queue.done(&asked, Ok(()), Duration::ZERO);
        }
        unreachable!("it gave way for ever");
    }

    #[test]
    fn whoever_comes_to_wait_for_a_scan_keeps_it_from_giving_way() {
        let queue = Queue::new(8);
        assert!(background(&queue, 1));
        let scan = queue.next().unwrap();
        queue.want(image(2), place()).unwrap();
        assert!(scan.gives_way());
        let waited = queue.want(image(1), place()).unwrap();
        assert!(!scan.gives_way());
        queue.put_back(&scan);
        assert_eq!(queue.next().unwrap().image, image(1));
        queue.done(&scan, Ok(()), Duration::ZERO);
        assert_eq!(waited.wait(Instant::now()), Some(Ok(())));
    }

    #[test]
    fn what_failed_in_the_background_rests_there_and_goes_with_its_image() {
        let queue = Queue::new(8);
        assert!(background(&queue, 1) && background(&queue, 2));
        queue.done(&queue.next().unwrap(), Err("no".to_owned()), Duration::ZERO);
        assert!(!background(&queue, 1) && background(&queue, 2));
        queue.follows(2, |_, _| true);
        assert_eq!(queue.counts().unscanned, 2);
        queue.follows(1, |had, _| *had == image(3));
        assert_eq!(queue.counts(), Counts { images: 1, failed: 1, ..Counts::default() });
        // It is another time that it comes.
        assert!(background(&queue, 1));
    }

    #[test]
    fn what_fails_again_in_the_background_rests_longer() {
        let queue = Queue::new(8);
        let mut least = RESTS;
        for _ in 0..8 {
            assert!(background(&queue, 1));
            queue.done(&queue.next().unwrap(), Err("no".to_owned()), Duration::ZERO);
            let rests = queue.rests_until(Instant::now()).unwrap().duration_since(Instant::now());
            assert!(rests > least - RESTS / 2 && rests <= least, "{rests:?}");
            held(&queue.inner).rests.values_mut().for_each(|rest| rest.until = Instant::now());
            assert_eq!(queue.rests_until(Instant::now()), None);
            least = (least * 2).min(RESTS_IN_BACKGROUND);
        }
        // What it cost counts, too.
        let other = Queue::new(8);
        assert!(background(&other, 1));
        other.done(&other.next().unwrap(), Err("no".to_owned()), Duration::from_secs(100));
        let rests = other.rests_until(Instant::now()).unwrap().duration_since(Instant::now());
        assert!(rests > Duration::from_secs(900), "{rests:?}");
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
