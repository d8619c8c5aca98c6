//! Sharing verdicts: from a store to where the image lives, and from there into a store.

use std::collections::BTreeSet;

use portcullis_store::{Change, StoreError, VerdictStore};
use portcullis_types::{Digest, Finding, ImageFacts, ImageRef, ScanReport, Timestamp, Verdict};

use crate::artifact::{self, ARTIFACT, CREATED, EMPTY_CONFIG, MAX_ENVELOPE};
use crate::client::Repository;
use crate::document::Descriptor;
use crate::envelope::{Envelope, EnvelopeError, NotBelieved};
use crate::error::RegistryError;
use crate::keys::{KeyError, SigningKey, TrustedKey};
use crate::statement::{Statement, StatementError, bound};
use crate::target::find;

/// Most verdicts of an image that are read, the newest first as the registry has it.
const MAX_READ: usize = 16;

/// Which image a reference is to lead to.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// The one for a platform, as `linux/amd64`.
    Platform(&'a str),
    /// The one with this configuration, whatever else has come to have its name.
    Config(&'a Digest),
}

/// Whose verdicts are believed.
#[derive(Debug, Clone, Copy)]
pub enum Belief<'a> {
    /// Those that one of these keys has signed.
    SignedBy(&'a [TrustedKey]),
    /// Whatever is there, as if somebody had imported it.
    Anybody,
}

/// Why a verdict was not pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is nothing to say.
    #[error("all that is known of the image was signed by other nodes: scan it here")]
    Nothing,
    /// There is too much.
    #[error("the verdict has more than 64 MiB as an envelope, which nobody would pull")]
    TooLarge,
    /// It cannot be written.
    #[error("the verdict cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Why no verdict was pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Nobody has pushed one.
    #[error("nobody has pushed a verdict about {image} ({manifest}) there")]
    None {
        /// The image.
        image: Digest,
        /// Its manifest.
        manifest: Digest,
    },
    /// None of those that are there is to be believed.
    #[error("{}", .0.iter().map(|(artifact, why)| format!("the verdict {artifact} is refused: {why}"))
        .collect::<Vec<_>>().join("; "))]
    Refused(Vec<(Digest, String)>),
}

/// Why one of the verdicts that are there is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{0}")]
    Artifact(String),
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    NotBelieved(#[from] NotBelieved),
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The image's manifest.
    pub manifest: Digest,
    /// The artifact's manifest.
    pub artifact: Digest,
    /// How many reports it holds.
    pub reports: usize,
    /// Whether the registry knows by itself what refers to what; else a tag says it.
    pub by_api: bool,
}

/// Verdicts about an image.
#[derive(Debug)]
pub struct Pulled {
    /// By what the store knows the image.
    pub image: ImageFacts,
    /// Its manifest.
    pub manifest: Digest,
    /// What is believed; at least one.
    pub told: Vec<Told>,
    /// What is not, and why.
    pub refused: Vec<(Digest, String)>,
    /// How many were not read, since there are so many.
    pub left_out: usize,
}

/// One verdict that is believed.
#[derive(Debug)]
pub struct Told {
    /// The artifact's manifest.
    pub artifact: Digest,
    /// The id of the key that signed it; `None` if it is believed without.
    pub key: Option<String>,
    /// What it says, bound as it was where it was made.
    pub reports: Vec<ScanReport>,
}

/// Most references of an image that are tried.
const MAX_CANDIDATES: usize = 8;

/// By which references an image may be found at registries: its manifests in the repositories that it
/// has names in, and those names, which may have come to mean another image. A name without a host
/// may be anything, and `localhost` is what engines call what was built here.
pub fn candidates<'a>(
    names: impl IntoIterator<Item = &'a str>,
    manifests: &BTreeSet<Digest>,
) -> Vec<ImageRef> {
    let named = names.into_iter().filter_map(|name| {
        let parsed: ImageRef = name.parse().ok()?;
        let says_its_host = name.to_ascii_lowercase().starts_with(&format!("{}/", parsed.host()));
        (says_its_host && parsed.host() != "localhost").then_some(parsed)
    });
    let named: Vec<ImageRef> = named.take(MAX_CANDIDATES).collect();
    let repositories: BTreeSet<String> = named.iter().map(ImageRef::repository).collect();
    let mut found: Vec<ImageRef> = Vec::new();
    for repository in &repositories {
        found.extend(at(repository, manifests));
    }
    found.extend(named);
    let mut seen = BTreeSet::new();
    found.retain(|reference| seen.insert(reference.clone()));
    found.truncate(MAX_CANDIDATES);
    found
}

/// These manifests in a repository.
pub fn at(repository: &str, manifests: &BTreeSet<Digest>) -> Vec<ImageRef> {
    let named = manifests.iter().take(MAX_CANDIDATES / 2);
    named.filter_map(|digest| format!("{repository}@{digest}").parse().ok()).collect()
}

/// Pushes what a verdict says to the repository of its image, beside the image.
///
/// # Errors
/// [`PushError`]: the image is not there, the registry refuses, or there is nothing to push.
pub fn push(
    repository: &Repository<'_>,
    reference: &ImageRef,
    verdict: &Verdict,
    key: Option<&SigningKey>,
) -> Result<Pushed, PushError> {
    let image = find(repository, reference, Wanted::Config(&verdict.image.config))?;
    let statement = Statement::new(image.manifest.digest.clone(), verdict);
    if statement.reports.is_empty() {
        return Err(PushError::Nothing);
    }
    let envelope = Envelope::seal(statement.to_json()?, key)?.to_json();
    if envelope.len() > MAX_ENVELOPE {
        return Err(PushError::TooLarge);
    }
    let (json, entry) = artifact::manifest(&image.manifest, &envelope, statement.newest());
    repository.upload(EMPTY_CONFIG)?;
    repository.upload(&envelope)?;
    let by_api = repository.put_manifest(&entry.digest.to_string(), &entry.media_type, &json)?;
    if !by_api {
        repository.refer(&image.manifest.digest, &entry)?;
    }
    Ok(Pushed {
        manifest: image.manifest.digest,
        artifact: entry.digest,
        reports: statement.reports.len(),
        by_api,
    })
}

/// Pulls what others have pushed about the image that a reference leads to.
///
/// # Errors
/// [`PullError`]: there is nothing, or nothing that is believed.
pub fn pull(
    repository: &Repository<'_>,
    reference: &ImageRef,
    wanted: Wanted<'_>,
    belief: Belief<'_>,
    now: Timestamp,
) -> Result<Pulled, PullError> {
    let target = find(repository, reference, wanted)?;
    let manifest = target.manifest.digest.clone();
    let mut entries = repository.referrers(&manifest, ARTIFACT)?;
    if entries.is_empty() {
        return Err(PullError::None { image: target.config.digest, manifest });
    }
    let mut seen = BTreeSet::new();
    entries.retain(|entry| seen.insert(entry.digest.clone()));
    entries.sort_by(|a, b| b.annotations.get(CREATED).cmp(&a.annotations.get(CREATED)));
    let mut left_out = entries.len().saturating_sub(MAX_READ);
    let image = target.facts(repository)?;
    let (mut told, mut refused) = (Vec::new(), Vec::new());
    // All of them together may be as large as one.
    let mut room = MAX_ENVELOPE;
    for entry in entries.into_iter().take(MAX_READ) {
        match one(repository, &entry, &manifest, &image.config, belief, now, &mut room) {
            Ok(Some(one)) => told.push(one),
            Ok(None) => left_out += 1,
            // What holds for one holds for the rest.
            Err(Refusal::Registry(error)) if error.is_out_of_reach() => return Err(error.into()),
            Err(error) => refused.push((entry.digest, portcullis_types::with_causes(&error))),
        }
    }
    match told.is_empty() {
        true => Err(PullError::Refused(refused)),
        false => Ok(Pulled { image, manifest, told, refused, left_out }),
    }
}

/// Reads one verdict; `None` if there is no room for it any more.
fn one(
    repository: &Repository<'_>,
    entry: &Descriptor,
    manifest: &Digest,
    config: &Digest,
    belief: Belief<'_>,
    now: Timestamp,
    room: &mut usize,
) -> Result<Option<Told>, Refusal> {
    let name = entry.digest.to_string();
    let Some((json, _)) = repository.manifest(&name)? else {
        return Err(RegistryError::Missing(name).into());
    };
    let layer = artifact::envelope(&json, manifest).map_err(Refusal::Artifact)?;
    let size = usize::try_from(layer.size).unwrap_or(usize::MAX);
    if *room < MAX_ENVELOPE && size > *room && size <= MAX_ENVELOPE {
        return Ok(None);
    }
    let bytes = repository.blob(&layer, MAX_ENVELOPE)?;
    *room = room.saturating_sub(size);
    let envelope = Envelope::read(&bytes)?;
    drop(bytes);
    let (payload, key) = match belief {
        Belief::SignedBy(keys) => {
            let (payload, key) = envelope.opened_by(keys)?;
            (payload, Some(key.id().to_owned()))
        }
        Belief::Anybody => (envelope.unchecked(), None),
    };
    let statement = Statement::read(payload, manifest, config, now)?;
    Ok(Some(Told { artifact: entry.digest.clone(), key, reports: statement.reports }))
}

/// What the store made of what was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What it changed.
    pub change: Change,
    /// How many distinct findings are known of the image now.
    pub known: usize,
}

/// Puts what was pulled into a store, by its rule: what was scanned here stays, and of other nodes'
/// scans what is newer and knows no less takes the place of what was known of them.
///
/// `names` are those by which the image was asked for; `annotate` adds what this node's feeds say.
///
/// # Errors
/// The store does not take it. Some of it may be there by then.
pub fn take_in(
    store: &dyn VerdictStore,
    pulled: &Pulled,
    names: impl IntoIterator<Item = String>,
    annotate: &dyn Fn(&mut Finding),
) -> Result<Taken, StoreError> {
    let mut image = pulled.image.clone();
    image.references.extend(names);
    let mut taken = Taken { change: Change::Unchanged, known: 0 };
    for told in &pulled.told {
        for mut report in bound(told.reports.clone(), told.key.is_some()) {
            for finding in &mut report.findings {
                annotate(std::sync::Arc::make_mut(finding));
            }
            let absorbed = store.absorb(&image, report)?;
            taken.change = match (taken.change, absorbed.change) {
                (Change::Created, _) | (_, Change::Created) => Change::Created,
                (Change::Updated, _) | (_, Change::Updated) => Change::Updated,
                (Change::Unchanged, Change::Unchanged) => Change::Unchanged,
            };
            taken.known = Verdict::merged([&absorbed.verdict]).len();
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_looked_for_where_it_has_names() {
        let digest = |n: u8| Digest::sha256([n; 32]);
        let of = |names: &[&str], manifests: &[u8]| -> Vec<String> {
            let manifests = manifests.iter().map(|n| digest(*n)).collect();
            let found = candidates(names.iter().copied(), &manifests);
            found.iter().map(ToString::to_string).collect()
        };
        let none: [&str; 0] = [];
        for name in ["web", "team/web:1", "localhost/web", "", "a b", "sha256:ab"] {
            assert_eq!(of(&[name], &[1]), none, "{name}");
        }
        let names = ["r.example.com/web:1", "r.example.com/web:2", "docker.io/library/web:1"];
        assert_eq!(of(&names, &[]), names);
        let wanted = [
            format!("docker.io/library/web@{}", digest(1)),
            format!("r.example.com/web@{}", digest(1)),
        ];
        assert_eq!(
            of(&names, &[1]),
            [&wanted.map(|w| w)[..], &names.map(ToOwned::to_owned)].concat()
        );
        let many: Vec<String> = (0..100).map(|n| format!("r{n}.example.com/web:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(of(&many, &[1, 2, 3, 4, 5, 6, 7, 8]).len(), 8);
    }
}
