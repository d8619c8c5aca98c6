//! Verdicts that are to be pushed to the registries of their images: each once, also if a registry is
//! away for a while, or the agent is restarted meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_registry::{PushError, SigningKey, candidates};
use portcullis_settings::{RegistrySettings, Settings};
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{Digest, with_causes};

use crate::rests::Rests;
use crate::shared::registry;
use crate::state::Memory;

/// How long a push may take, which nobody waits for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a repository is left alone that lets nobody in with this node's login, which somebody may
/// renew.
const DENIED: Duration = Duration::from_secs(3600);
/// Most verdicts that wait.
const MAX_WAITING: usize = 5000;

/// What waits, and the thread that pushes it.
pub(crate) struct Pushes(Arc<Inner>);

struct Inner {
    settings: RegistrySettings,
    verdicts: PathBuf,
    memory: Memory,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Images by their configurations.
    images: BTreeMap<Digest, Wait>,
    /// The one that is being pushed; it may come to wait again meanwhile.
    current: Option<Digest>,
    is_ending: bool,
}

/// Until when a verdict is left alone, and for whose sake: a registry's, a repository's, its image's, or
/// the node's own, which is the empty one.
#[derive(Debug, Clone)]
struct Wait {
    until: Instant,
    /// Who was not tried for the longest time comes first.
    tried: Instant,
    place: String,
}

impl Wait {
    fn new(until: Instant, place: &str) -> Self {
        Self { until, tried: Instant::now(), place: place.to_owned() }
    }
}

impl Default for Wait {
    fn default() -> Self {
        Self::new(Instant::now(), "")
    }
}

/// Why a verdict is not pushed.
enum Fault {
    /// It may be later.
    Later(Wait),
    /// It never will be.
    Never(String),
}

impl Pushes {
    /// Goes on with what waited when the agent ended.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn begin(settings: &Settings) -> io::Result<Self> {
        let memory = Memory::new(&settings.paths().followed(), "pushes.json");
        let images: BTreeSet<Digest> = memory.recall();
        let images =
            images.into_iter().take(MAX_WAITING).map(|image| (image, Wait::default())).collect();
        let inner = Arc::new(Inner {
            settings: settings.registry.clone(),
            verdicts: settings.paths().verdicts(),
            memory,
            waiting: Mutex::new(Waiting { images, ..Waiting::default() }),
            changed: Condvar::new(),
        });
        let own = inner.clone();
        std::thread::Builder::new().name("pushes".to_owned()).spawn(move || own.run())?;
        Ok(Self(inner))
    }

    /// Pushes what the store knows of an image, after a while.
    pub(crate) fn add(&self, image: &Digest) {
        let mut waiting = self.0.held();
        if waiting.images.len() >= MAX_WAITING && !waiting.images.contains_key(image) {
            log::warn!("the verdict of {image} is not pushed: {MAX_WAITING} others wait");
            return;
        }
        // What waits goes on waiting: it is pushed as the store has it then.
        if !waiting.images.contains_key(image) {
            waiting.images.insert(image.clone(), Wait::default());
            self.0.save(&waiting);
            self.0.changed.notify_one();
        }
    }

    /// How many verdicts wait.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = self.0.held();
        waiting.images.len() + usize::from(waiting.current.is_some())
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.0.held().is_ending = true;
        self.0.changed.notify_one();
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut rests = Rests::default();
        while let Some(image) = self.next() {
            // A bug in it must not take the rest along.
            let push = AssertUnwindSafe(|| self.push(&image, &mut rests));
            let pushed = catch_unwind(push).unwrap_or_else(|_| {
                Err(Fault::Never("a bug in portcullis: it panicked".to_owned()))
            });
            let mut waiting = self.held();
            waiting.current = None;
            match pushed {
                Ok(()) => {}
                Err(Fault::Never(why)) => {
                    log::warn!("the verdict of {image} is not pushed: {why}");
                }
                Err(Fault::Later(wait)) => {
                    // All that wait for the same are left alone as long.
                    for other in waiting.images.values_mut().filter(|w| w.place == wait.place) {
                        other.until = wait.until.max(other.until);
                    }
                    waiting.images.entry(image).or_insert(wait);
                    // The file has it.
                    continue;
                }
            }
            self.save(&waiting);
        }
    }

    /// The next one that may be pushed; waits for it. `None` at the end.
    fn next(&self) -> Option<Digest> {
        let mut waiting = self.held();
        loop {
            if waiting.is_ending {
                return None;
            }
            let now = Instant::now();
            let next = waiting.images.iter().min_by_key(|(_, wait)| (wait.until, wait.tried));
            let Some((image, wait)) = next else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if wait.until <= now {
                let image = image.clone();
                waiting.images.remove(&image);
                waiting.current = Some(image.clone());
                return Some(image);
            }
            let rest = wait.until.duration_since(now);
            let woken = self.changed.wait_timeout(waiting, rest);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What is left alone: registries that are out of reach, repositories that take nothing now, images
    /// whose verdicts cannot be read, and the node itself if it lacks its key.
    fn push(&self, image: &Digest, rests: &mut Rests) -> Result<(), Fault> {
        let store = FileStore::open(&self.verdicts);
        let verdict = match store.by_config(image, Detail::Full) {
            Ok(Some(verdict)) => verdict,
            // The node has it no more.
            Ok(None) => return Ok(()),
            Err(error) => {
                return Err(later(rests, &image.to_string(), &with_causes(&error), Duration::ZERO));
            }
        };
        rests.answered(&image.to_string());
        let facts = &verdict.image;
        let references = candidates(facts.references.iter().map(String::as_str), &facts.manifests);
        if references.is_empty() {
            log::debug!("the verdict of {image} is not pushed: it has no name at a registry");
            return Ok(());
        }
        let key = self.settings.signing_key.as_deref();
        let key =
            key.ok_or_else(|| Fault::Never("there is no [registry] signingKey".to_owned()))?;
        // It may be put there later, as on a node that is being set up.
        let key = SigningKey::read(key)
            .map_err(|error| later(rests, "", &with_causes(&error), Duration::ZERO))?;
        rests.answered("");
        let registry = registry(&self.settings);
        let until = Instant::now() + PATIENCE;
        let mut refused = Vec::new();
        let mut fault = None;
        for reference in references {
            let (host, place) = (reference.host(), reference.repository());
            let resting = [host, &place].into_iter().find_map(|at| Some((rests.of(at)?, at)));
            if let Some((until, at)) = resting {
                fault = Some(Fault::Later(Wait::new(until, at)));
                continue;
            }
            let repository = registry.repository(&reference, until);
            match portcullis_registry::push(&repository, &reference, &verdict, Some(&key)) {
                Ok(pushed) => {
                    rests.answered(host);
                    rests.answered(&place);
                    log::info!("the verdict of {image} is pushed to {reference}");
                    log::debug!("it is the artifact {}", pushed.artifact);
                    return Ok(());
                }
                Err(PushError::Registry(error)) if error.may_pass() || error.is_denied() => {
                    let place = if error.is_out_of_reach() { host } else { &place };
                    let least = if error.is_denied() { DENIED } else { Duration::ZERO };
                    fault = Some(later(rests, place, &with_causes(&error), least));
                }
                // Another one may take it.
                Err(PushError::Registry(error)) => refused.push(with_causes(&error)),
                Err(error) => return Err(Fault::Never(with_causes(&error))),
            }
        }
        Err(fault.unwrap_or_else(|| Fault::Never(refused.join("; "))))
    }

    /// Whoever waits is pushed again after a restart at worst, which changes nothing at the registry.
    fn save(&self, waiting: &Waiting) {
        let images: BTreeSet<&Digest> =
            waiting.images.keys().chain(waiting.current.as_ref()).collect();
        self.memory.keep(&images);
    }
}

/// A place is left alone for so long at least; why is said once.
fn later(rests: &mut Rests, place: &str, why: &str, least: Duration) -> Fault {
    let (until, is_new) = rests.failed(place, why, least);
    if is_new {
        log::warn!("verdicts are pushed later: {why}");
    }
    Fault::Later(Wait::new(until, place))
}
