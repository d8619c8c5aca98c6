//! Verdicts, keys made by openssl, and registries to put them into.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests are tests; each uses some")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_registry::{
    Belief, Logins, PullError, Pulled, PushError, Pushed, Registry, SigningKey, TrustedKey, Wanted,
    pull, push,
};
use portcullis_settings::RegistrySettings;
use portcullis_testkit::registry::PushedImage;
use portcullis_types::{
    Binding, Class, Coverage, Digest, Finding, ImageFacts, ImageRef, ScanReport, Scanner, Severity,
    Timestamp, Verdict,
};

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The time at which verdicts are pulled.
pub(crate) fn now() -> Timestamp {
    at("2026-11-20T12:00:00Z")
}

/// A scan of our own on a day of November 2026.
pub(crate) fn report(day: u8, ids: &[&str]) -> ScanReport {
    let finding = |id: &&str| {
        Arc::new(Finding {
            package: Some("openssl".into()),
            ..Finding::new(Class::Vulnerability, *id, Severity::High, "portcullis")
        })
    };
    let time = at(&format!("2026-11-{day:02}T10:00:00Z"));
    ScanReport {
        scanner: Scanner { name: "portcullis".into(), version: Some("0.1.0".into()) },
        scanned_at: time,
        database_at: Some(time),
        imported_at: time,
        binding: Binding::ByScan,
        coverage: Coverage { classes: [Class::Vulnerability].into(), ..Coverage::default() },
        findings: ids.iter().map(finding).collect(),
    }
}

pub(crate) fn verdict(config: &Digest, reports: Vec<ScanReport>) -> Verdict {
    let image = ImageFacts {
        config: config.clone(),
        chain_id: None,
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    Verdict { image, reports }
}

/// The ids of all findings that were pulled, sorted.
pub(crate) fn ids(pulled: &Pulled) -> Vec<String> {
    let reports = pulled.told.iter().flat_map(|told| &told.reports);
    let mut ids: Vec<String> =
        reports.flat_map(|r| &r.findings).map(|f| f.id.to_string()).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A pair of keys in files, as the documentation says to make it.
pub(crate) struct Pair {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

impl Pair {
    pub(crate) fn make(folder: &Path, name: &str, kind: &[&str]) -> Self {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let (private, public) = (file("key"), file("pub"));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        openssl(&[&["genpkey"], kind, &["-out", &text(&private)]].concat());
        openssl(&["pkey", "-in", &text(&private), "-pubout", "-out", &text(&public)]);
        Self { private, public }
    }

    pub(crate) fn ed25519(folder: &Path, name: &str) -> Self {
        Self::make(folder, name, &["-algorithm", "ed25519"])
    }

    pub(crate) fn p256(folder: &Path, name: &str) -> Self {
        Self::make(folder, name, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    /// The id of the key, as the documentation says to work it out.
    pub(crate) fn id_by_openssl(&self) -> String {
        let public = self.public.to_str().unwrap();
        let arguments = ["pkey", "-pubin", "-in", public, "-outform", "DER"];
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success());
        Digest::of(&output.stdout).hex().to_owned()
    }

    pub(crate) fn signs(&self) -> SigningKey {
        SigningKey::read(&self.private).unwrap()
    }

    pub(crate) fn trusted(&self) -> TrustedKey {
        TrustedKey::read(&self.public).unwrap()
    }
}

/// How a node asks.
pub(crate) struct Node {
    pub(crate) registry: Registry,
    pub(crate) patience: Duration,
}

impl Node {
    pub(crate) fn new(logins: Logins) -> Self {
        let registry = Registry::new(&RegistrySettings::default(), logins);
        Self { registry, patience: Duration::from_secs(60) }
    }

    pub(crate) fn push(
        &self,
        reference: &str,
        verdict: &Verdict,
        key: Option<&SigningKey>,
    ) -> Result<Pushed, PushError> {
        let reference: ImageRef = reference.parse().unwrap();
        let repository = self.registry.repository(&reference, Instant::now() + self.patience);
        push(&repository, &reference, verdict, key)
    }

    pub(crate) fn pull(&self, reference: &str, belief: Belief<'_>) -> Result<Pulled, PullError> {
        self.pull_wanted(reference, Wanted::Platform("linux/amd64"), belief)
    }

    pub(crate) fn pull_wanted(
        &self,
        reference: &str,
        wanted: Wanted<'_>,
        belief: Belief<'_>,
    ) -> Result<Pulled, PullError> {
        let reference: ImageRef = reference.parse().unwrap();
        let repository = self.registry.repository(&reference, Instant::now() + self.patience);
        pull(&repository, &reference, wanted, belief, now())
    }
}

/// An error with all its causes.
pub(crate) fn said<T>(result: Result<T, impl std::error::Error>) -> String {
    match result {
        Ok(_) => panic!("it was done"),
        Err(error) => portcullis_types::with_causes(&error),
    }
}

#[track_caller]
pub(crate) fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "\"{part}\" is not in: {said}");
    }
}

pub(crate) fn facts_fit(pulled: &Pulled, image: &PushedImage) {
    assert_eq!(pulled.image.config, image.config);
    assert_eq!(pulled.image.chain_id, portcullis_types::chain_id(&image.diff_ids));
    assert!(pulled.image.manifests.contains(&image.manifest));
    assert_eq!(pulled.manifest, image.manifest);
}
