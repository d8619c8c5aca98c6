//! Verdicts that nodes share through registries: pulled before an image is scanned, and pushed after.
//!
//! Nothing here keeps an image from being scanned. What is pulled stands in for a scan only if a key
//! that this node trusts has signed it, if it is young, and if a scan here could say no more; and what
//! fails is told and left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_inventory::SCANNER;
use portcullis_inventory::protocol::Source;
use portcullis_registry::{
    Belief, Logins, PullError, Pulled, Registry, RegistryError, TrustedKey, Wanted, candidates,
    take_in,
};
use portcullis_scan::Node;
use portcullis_settings::{RegistrySettings, Settings};
use portcullis_store::FileStore;
use portcullis_types::{Binding, Digest, ScanReport, Timestamp, with_causes};

use crate::pushes::Pushes;
use crate::rests::Rests;

/// How long a pull may take: an engine waits for the image, and the scan comes after.
const PULLS: Duration = Duration::from_secs(5);

/// What other nodes have said of images, and what is said to them.
pub(crate) struct Shared {
    settings: RegistrySettings,
    /// Registries that were out of reach.
    rests: Mutex<Rests>,
    /// What is to be pushed; `None` if nothing is.
    pushes: Option<Pushes>,
}

impl Shared {
    /// By the settings of the node.
    pub(crate) fn new(settings: &Settings) -> Self {
        let pushes = settings.registry.push.then(|| Pushes::begin(settings));
        let pushes = pushes.and_then(|pushes| {
            let no_thread = |error| log::warn!("verdicts are not pushed: no thread: {error}");
            pushes.map_err(no_thread).ok()
        });
        Self { settings: settings.registry.clone(), rests: Mutex::default(), pushes }
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
        let keys: BTreeSet<&str> =
            pulled.told.iter().filter_map(|told| told.key.as_deref()).collect();
        let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
        let reports = pulled.told.iter().flat_map(|told| &told.reports);
        let is_enough = self.is_enough(reports, Binding::ByScan, &node, engines);
        let scan = if is_enough { "and needs no scan" } else { "and is scanned all the same" };
        log::info!("{image} has a verdict signed by {keys}, {scan}");
        is_enough
    }

    /// Whether one of these reports makes a scan needless: it is of our own scanner, bound like this,
    /// and young, and a scan here could say no more.
    pub(crate) fn is_enough<'r>(
        &self,
        reports: impl IntoIterator<Item = &'r ScanReport>,
        binding: Binding,
        node: &Node,
        engines: bool,
    ) -> bool {
        // Whoever is trusted no more is not to be relied on for longer.
        if self.settings.trusted_keys.is_empty() || self.settings.max_age.is_zero() {
            return false;
        }
        let now = Timestamp::now();
        let is_young = |report: &ScanReport| {
            now.duration_since(report.scanned_at).unsigned_abs() <= self.settings.max_age
        };
        reports.into_iter().any(|report| {
            report.binding == binding
                && report.scanner.name == SCANNER
                && report.says_something()
                && is_young(report)
                && !node.adds_to(report, engines)
        })
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
            // What one registry has taken is no fault of the next one.
            if Instant::now() >= until {
                break;
            }
            if self.rests().of(reference.host()).is_some() {
                continue;
            }
            let repository = registry.repository(&reference, until);
            let (wanted, belief) = (Wanted::Config(image), Belief::SignedBy(&keys));
            let now = Timestamp::now();
            match portcullis_registry::pull(&repository, &reference, wanted, belief, now) {
                Ok(pulled) => {
                    self.rests().answered(reference.host());
                    for (artifact, why) in &pulled.refused {
                        log::warn!("the verdict {artifact} about {image} is refused: {why}");
                    }
                    return Some(pulled);
                }
                // Most images have none, and most names mean something else in time.
                Err(PullError::None { .. } | PullError::Registry(RegistryError::Missing(_))) => {}
                Err(PullError::Registry(error)) if error.is_out_of_reach() => {
                    let why = with_causes(&error);
                    if self.rests().failed(reference.host(), &why, Duration::ZERO).1 {
                        log::warn!("no verdicts are pulled from {}: {why}", reference.host());
                    }
                    continue;
                }
                Err(error) => {
                    let why = with_causes(&error);
                    log::warn!("no verdict about {image} is pulled from {reference}: {why}");
                }
            }
            self.rests().answered(reference.host());
        }
        None
    }

    fn rests(&self) -> MutexGuard<'_, Rests> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether verdicts are pushed at all.
    pub(crate) fn pushes(&self) -> bool {
        self.pushes.is_some()
    }

    /// How many verdicts wait to be pushed.
    pub(crate) fn waiting(&self) -> usize {
        self.pushes.as_ref().map_or(0, Pushes::waiting)
    }

    /// Pushes what the store knows of an image that was scanned or judged anew, after a while, if the
    /// settings say so.
    pub(crate) fn push(&self, image: &Digest) {
        if let Some(pushes) = &self.pushes {
            pushes.add(image);
        }
    }
}

/// Registries, asked as the settings say.
pub(crate) fn registry(settings: &RegistrySettings) -> Registry {
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
pub(crate) mod tests;
