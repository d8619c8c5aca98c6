//! Verdicts that are to be pushed to the registries of their images: each once, also if a registry is
//! away for a while, or the agent is restarted meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_registry::{PushError, RegistryError, SigningKey, candidates};
use portcullis_settings::{RegistrySettings, Settings, replace};
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{Digest, ImageRef, with_causes};

use crate::backoff::Backoff;
use crate::shared::registry;

/// How long a push may take, which nobody waits for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most verdicts that wait.
const MAX_WAITING: usize = 5000;
/// Most bytes of the file that has them.
const MAX_FILE: u64 = 1 << 20;
/// Most registries and repositories that are left alone for a while.
const MAX_RESTS: usize = 1000;

/// What waits, and the thread that pushes it.
pub(crate) struct Pushes(Arc<Inner>);

struct Inner {
    settings: RegistrySettings,
    verdicts: PathBuf,
    file: PathBuf,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// Images by their configurations, and until when each is left alone.
    images: BTreeMap<Digest, Instant>,
    /// The one that is being pushed; it may come to wait again meanwhile.
    current: Option<Digest>,
    is_ending: bool,
}

/// Why a verdict is not pushed.
enum Fault {
    /// It may be from then on.
    Later(Instant),
    /// It never will be.
    Never(String),
}

impl Pushes {
    /// Goes on with what waited when the agent ended.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn begin(settings: &Settings) -> io::Result<Self> {
        let file = settings.paths().root().join("var/lib/portcullis/agent/pushes.json");
        let images = open(&file).unwrap_or_else(|error| {
            log::warn!("{} is begun anew: {error}", file.display());
            Vec::new()
        });
        let now = Instant::now();
        let images = images.into_iter().take(MAX_WAITING).map(|image| (image, now)).collect();
        let inner = Arc::new(Inner {
            settings: settings.registry.clone(),
            verdicts: settings.paths().verdicts(),
            file,
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
        waiting.images.insert(image.clone(), Instant::now());
        self.0.save(&waiting);
        self.0.changed.notify_one();
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
            let pushed = self.push(&image, &mut rests);
            let mut waiting = self.held();
            waiting.current = None;
            match pushed {
                Ok(()) => {}
                Err(Fault::Never(why)) => {
                    log::warn!("the verdict of {image} is not pushed: {why}");
                }
                Err(Fault::Later(until)) => {
                    waiting.images.entry(image).or_insert(until);
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
            let next = waiting.images.iter().min_by_key(|(_, until)| **until);
            let Some((image, until)) = next else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if *until <= now {
                let image = image.clone();
                waiting.images.remove(&image);
                waiting.current = Some(image.clone());
                return Some(image);
            }
            let rest = until.duration_since(now);
            let woken = self.changed.wait_timeout(waiting, rest);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, image: &Digest, rests: &mut Rests) -> Result<(), Fault> {
        let never = |error: &dyn std::error::Error| Fault::Never(with_causes(error));
        let store = FileStore::open(&self.verdicts);
        let verdict = store.by_config(image, Detail::Full).map_err(|error| never(&error))?;
        // The node has it no more.
        let Some(verdict) = verdict else { return Ok(()) };
        let facts = &verdict.image;
        let references = candidates(facts.references.iter().map(String::as_str), &facts.manifests);
        if references.is_empty() {
            return Err(Fault::Never("it has no name at a registry".to_owned()));
        }
        let key = self.settings.signing_key.as_deref();
        let key =
            key.ok_or_else(|| Fault::Never("there is no [registry] signingKey".to_owned()))?;
        let key = SigningKey::read(key).map_err(|error| never(&error))?;
        let registry = registry(&self.settings);
        let until = Instant::now() + PATIENCE;
        let mut missing = Vec::new();
        let mut later = None;
        for reference in references {
            if let Some(until) = rests.until(&reference) {
                later = Some(later.map_or(until, |later: Instant| later.min(until)));
                continue;
            }
            let repository = registry.repository(&reference, until);
            match portcullis_registry::push(&repository, &reference, &verdict, Some(&key)) {
                Ok(pushed) => {
                    rests.answered(&reference);
                    log::info!("the verdict of {image} is pushed to {reference}");
                    log::debug!("it is the artifact {}", pushed.artifact);
                    return Ok(());
                }
                Err(PushError::Registry(error @ RegistryError::Missing(_))) => {
                    missing.push(error.to_string());
                }
                Err(PushError::Registry(error)) if error.may_pass() => {
                    let until = rests.failed(&reference, &error);
                    log::warn!("the verdict of {image} is pushed later: {}", with_causes(&error));
                    later = Some(later.map_or(until, |later: Instant| later.min(until)));
                }
                Err(error) => return Err(never(&error)),
            }
        }
        Err(later.map_or_else(|| Fault::Never(missing.join("; ")), Fault::Later))
    }

    /// Whoever waits is pushed again after a restart at worst, which changes nothing at the registry.
    fn save(&self, waiting: &Waiting) {
        let images: BTreeSet<&Digest> =
            waiting.images.keys().chain(waiting.current.as_ref()).collect();
        let save = || {
            if let Some(folder) = self.file.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            replace(&self.file, 0o600, &serde_json::to_vec(&images)?)
        };
        if let Err(error) = save() {
            log::warn!("{} is not written: {error}", self.file.display());
        }
    }
}

/// What was saved; nothing if nothing was.
fn open(file: &Path) -> io::Result<Vec<Digest>> {
    let mut bytes = Vec::new();
    match File::open(file) {
        Ok(open) => open.take(MAX_FILE + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is too large"));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Registries that are out of reach, and repositories that do not take what is pushed: each is left
/// alone longer after each failure.
#[derive(Default)]
struct Rests(BTreeMap<String, (Instant, Backoff)>);

impl Rests {
    /// Until when nothing is to be pushed there.
    fn until(&self, reference: &ImageRef) -> Option<Instant> {
        let until = |key: &str| self.0.get(key).map(|(until, _)| *until);
        let until = until(reference.host()).max(until(&reference.repository()));
        until.filter(|until| *until > Instant::now())
    }

    fn failed(&mut self, reference: &ImageRef, error: &RegistryError) -> Instant {
        let key = match error.is_out_of_reach() {
            true => reference.host().to_owned(),
            false => reference.repository(),
        };
        if self.0.len() >= MAX_RESTS && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let (until, backoff) = self.0.entry(key).or_insert((Instant::now(), Backoff::default()));
        *until = Instant::now() + backoff.failed();
        *until
    }

    fn answered(&mut self, reference: &ImageRef) {
        self.0.remove(reference.host());
        self.0.remove(&reference.repository());
    }
}
