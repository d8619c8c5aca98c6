//! Verdicts that nodes share through registries: pulled before an image is scanned, and pushed after.
//!
//! Nothing here keeps an image from being scanned. What is pulled stands in for a scan only if a key
//! that this node trusts has signed it, if it is young, and if a scan here could say no more; and what
//! fails is told and left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_inventory::SCANNER;
use portcullis_inventory::protocol::Source;
use portcullis_registry::{
    Belief, Logins, PullError, Pulled, PushError, Registry, RegistryError, SigningKey, TrustedKey,
    Wanted, candidates, take_in,
};
use portcullis_scan::Node;
use portcullis_settings::{RegistrySettings, Settings};
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{Binding, Digest, ImageFacts, ScanReport, Timestamp, with_causes};

/// How long a pull may take: an engine waits for the image, and the scan comes after.
const PULLS: Duration = Duration::from_secs(5);
/// How long a push may take, which nobody waits for.
const PUSHES: Duration = Duration::from_secs(120);
/// How long a registry that is out of reach is not asked again.
const RESTS: Duration = Duration::from_secs(60);
/// Most registries of which that is remembered.
const MAX_RESTING: usize = 64;
/// Most verdicts that wait to be pushed.
const MAX_WAITING: usize = 64;

/// What other nodes have said of images, and what is said to them.
pub(crate) struct Shared {
    settings: RegistrySettings,
    /// Registries that were out of reach, and until when they are left alone.
    resting: Mutex<BTreeMap<String, Instant>>,
    /// What is to be pushed; `None` if nothing is.
    pushes: Option<SyncSender<Push>>,
}

/// A verdict that is to be pushed.
struct Push {
    verdicts: PathBuf,
    image: ImageFacts,
}

impl Shared {
    /// By the settings of the node.
    pub(crate) fn new(settings: &Settings) -> Self {
        let settings = settings.registry.clone();
        let pushes = settings.push.then(|| {
            let (sender, receiver) = sync_channel(MAX_WAITING);
            let settings = settings.clone();
            let thread = std::thread::Builder::new().name("pushes".to_owned());
            if let Err(error) = thread.spawn(move || push_all(&settings, &receiver)) {
                log::warn!("verdicts are not pushed: no thread for it: {error}");
            }
            sender
        });
        Self { settings, resting: Mutex::default(), pushes }
    }

    /// Pulls what other nodes have signed about an image, and says whether it makes a scan needless.
    ///
    /// `source` is where the engine has the image, and by which names; `engines` says whether this node
    /// searches files for malware; `node` is what it knows.
    pub(crate) fn stands_in(
        &self,
        store: &FileStore,
        image: &Digest,
        source: &Source,
        engines: bool,
        node: &dyn Fn() -> anyhow::Result<Arc<Node>>,
    ) -> bool {
        if self.settings.trusted_keys.is_empty() {
            return false;
        }
        let Some(pulled) = self.pull(image, source) else { return false };
        // A scan would fail for the same reason, and say so.
        let Ok(node) = node() else { return false };
        if let Err(error) = take_in(store, &pulled, Vec::new(), &|finding| node.annotate(finding)) {
            log::warn!("what was pulled about {image} is not stored: {}", with_causes(&error));
            return false;
        }
        let now = Timestamp::now();
        let keys: BTreeSet<&str> =
            pulled.told.iter().filter_map(|told| told.key.as_deref()).collect();
        let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
        let mut reports = pulled.told.iter().flat_map(|told| &told.reports);
        let is_enough = reports.any(|r| self.is_enough(r, now) && !node.adds_to(r, engines));
        let scan = if is_enough { "and needs no scan" } else { "and is scanned all the same" };
        log::info!("{image} has a verdict signed by {keys}, {scan}");
        is_enough
    }

    /// Whether a report is one of our own scanner, and young.
    fn is_enough(&self, report: &ScanReport, now: Timestamp) -> bool {
        let age = now.duration_since(report.scanned_at).unsigned_abs();
        report.binding == Binding::ByScan
            && report.scanner.name == SCANNER
            && report.says_something()
            && age <= self.settings.max_age
            && !self.settings.max_age.is_zero()
    }

    fn pull(&self, image: &Digest, source: &Source) -> Option<Pulled> {
        let (names, manifests) = names(source);
        let references = candidates(names.iter().map(String::as_str), &manifests);
        if references.is_empty() {
            return None;
        }
        let keys: Result<Vec<TrustedKey>, _> =
            self.settings.trusted_keys.iter().map(|path| TrustedKey::read(path)).collect();
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => {
                log::warn!("no verdict is pulled: [registry] trustedKeys: {}", with_causes(&error));
                return None;
            }
        };
        let registry = registry(&self.settings);
        let until = Instant::now() + PULLS;
        for reference in references {
            if self.is_resting(reference.host()) {
                continue;
            }
            let repository = registry.repository(&reference, until);
            let (wanted, belief) = (Wanted::Config(image), Belief::SignedBy(&keys));
            let now = Timestamp::now();
            match portcullis_registry::pull(&repository, &reference, wanted, belief, now) {
                Ok(pulled) => {
                    for (artifact, why) in &pulled.refused {
                        log::warn!("the verdict {artifact} about {image} is refused: {why}");
                    }
                    return Some(pulled);
                }
                // Most images have none, and most names mean something else in time.
                Err(PullError::None { .. } | PullError::Registry(RegistryError::Missing(_))) => {}
                Err(error) => {
                    let why = with_causes(&error);
                    log::warn!("no verdict about {image} is pulled from {reference}: {why}");
                    if matches!(&error, PullError::Registry(error) if error.is_out_of_reach()) {
                        self.rest(reference.host());
                    }
                }
            }
        }
        None
    }

    fn is_resting(&self, host: &str) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.get(host).is_some_and(|until| *until > Instant::now())
    }

    fn rest(&self, host: &str) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        resting.retain(|_, until| *until > now);
        if resting.len() < MAX_RESTING {
            resting.insert(host.to_owned(), now + RESTS);
        }
    }

    /// Pushes what the store knows of an image that was scanned, after a while.
    pub(crate) fn push(&self, verdicts: PathBuf, image: &ImageFacts) {
        let Some(pushes) = &self.pushes else { return };
        match pushes.try_send(Push { verdicts, image: image.clone() }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                log::warn!("the verdict of {} is not pushed: too many wait", image.config);
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

fn push_all(settings: &RegistrySettings, pushes: &Receiver<Push>) {
    for Push { verdicts, image } in pushes {
        if let Err(why) = push(settings, &FileStore::open(verdicts), &image) {
            log::warn!("the verdict of {} is not pushed: {why}", image.config);
        }
    }
}

fn push(settings: &RegistrySettings, store: &FileStore, image: &ImageFacts) -> Result<(), String> {
    let references = candidates(image.references.iter().map(String::as_str), &image.manifests);
    if references.is_empty() {
        return Err("it has no name at a registry".to_owned());
    }
    let key = match &settings.signing_key {
        None => return Err("there is no [registry] signingKey".to_owned()),
        Some(path) => SigningKey::read(path).map_err(|error| with_causes(&error))?,
    };
    let verdict = store.by_config(&image.config, Detail::Full);
    let Some(verdict) = verdict.map_err(|error| with_causes(&error))? else { return Ok(()) };
    let registry = registry(settings);
    let until = Instant::now() + PUSHES;
    let mut missing = Vec::new();
    for reference in references {
        let repository = registry.repository(&reference, until);
        match portcullis_registry::push(&repository, &reference, &verdict, Some(&key)) {
            Ok(pushed) => {
                log::info!("the verdict of {} is pushed to {reference}", image.config);
                log::debug!("it is the artifact {}", pushed.artifact);
                return Ok(());
            }
            Err(PushError::Registry(error @ RegistryError::Missing(_))) => {
                missing.push(error.to_string());
            }
            Err(error) => return Err(with_causes(&error)),
        }
    }
    Err(missing.join("; "))
}

fn registry(settings: &RegistrySettings) -> Registry {
    let logins = settings.auth_file.as_deref().map_or_else(Logins::none, Logins::of_file);
    Registry::new(settings, logins)
}

/// By which names an engine has an image, and which manifests lead to it there.
fn names(source: &Source) -> (BTreeSet<String>, BTreeSet<Digest>) {
    match source {
        Source::Blobs { target, references, .. } => {
            (references.clone(), BTreeSet::from([target.clone()]))
        }
        Source::Stored { manifests, references, .. } => (references.clone(), manifests.clone()),
        Source::Layout(_) | Source::Archive(_) | Source::Root(_) => Default::default(),
    }
}

#[cfg(test)]
mod tests;
