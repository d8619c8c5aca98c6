//! An installation in a folder of its own, and the command run on it.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests are tests; each uses some")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_audit::{Head, Ledger, LedgerError};
use portcullis_types::Event;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Node {
    root: TempDir,
}

pub(crate) const FEEDS: &str = "var/lib/portcullis/feeds";
pub(crate) const VEX: &str = "etc/portcullis/vex";

impl Node {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/portcullis/policies", VEX, "var/lib/portcullis/verdicts", FEEDS] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// A node whose policy has these rules.
    pub(crate) fn with_rules(rules: &str) -> Self {
        let node = Self::new();
        let policy = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n\
             metadata: {{ name: all }}\nspec: {{ rules: [{rules}] }}\n"
        );
        node.file("etc/portcullis/policies/all.yaml", policy);
        node.run(&["policy", "apply"], 0);
        node
    }

    /// A node on which images can be scanned: the scanner's program is built if it is not there, as
    /// it is not where the tests of this crate alone are run.
    pub(crate) fn with_scanner() -> Self {
        static BUILT: std::sync::Once = std::sync::Once::new();
        BUILT.call_once(|| {
            let own = Path::new(env!("CARGO_BIN_EXE_portcullis"));
            if own.with_file_name("portcullis-scanner").exists() {
                return;
            }
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--locked", "-p", "portcullis-scanner", "--manifest-path"]);
            cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"));
            if own.parent().unwrap().ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success());
        });
        Self::new()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// Writes a file that nobody else may write, and returns its name.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        path.display().to_string()
    }

    /// Runs the command, which must end with this code, and returns all that it said.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str], code: i32) -> String {
        self.told(args, code).concat()
    }

    /// Like [`Self::run`]: the data, and the talk beside it.
    #[track_caller]
    pub(crate) fn told(&self, args: &[&str], code: i32) -> [String; 2] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("--root").arg(self.root.path()).args(args);
        // Servers of tests are asked directly.
        let output = command.env("no_proxy", "*").output().unwrap();
        let said = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
        assert_eq!(output.status.code(), Some(code), "{args:?} said {said:?}");
        assert!(!said[1].contains("panicked"), "{said:?}");
        said
    }

    /// What the command prints for programs.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str], code: i32) -> Value {
        let [said, _] = self.told(&[args, &["--output", "json"]].concat(), code);
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    /// Imports a Trivy report on an image, with these vulnerabilities of zlib.
    pub(crate) fn import(&self, image: u8, ids: &[&str]) {
        let report = self.file(&format!("report-{image}.json"), report(image, ids).to_string());
        self.run(&["import", &report], 0);
    }

    /// The exit code that a decision must have: 0 to allow, 4 to block.
    #[track_caller]
    pub(crate) fn decides(&self, image: u8, more: &[&str], code: i32) {
        let image = digest(image);
        self.run(&[&["decide", "--exit-code", "--image", &image], more].concat(), code);
    }

    /// Runs what must fail: it says these things, and changes nothing that the node keeps.
    #[track_caller]
    pub(crate) fn refuses(&self, args: &[&str], parts: &[&str]) {
        let before = contents(&self.path("var"));
        assert_says(&self.run(args, 1), parts);
        assert!(contents(&self.path("var")) == before, "{args:?} changed something");
    }
}

/// Appends an event as the gate does.
pub(crate) fn append(ledger: &Ledger, event: &Event) -> Head {
    // A child that another test has forked and that has not yet executed its program holds the lock
    // for a moment.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match ledger.append(event) {
            Err(LedgerError::Locked { .. }) if Instant::now() < until => {}
            appended => return appended.unwrap(),
        }
    }
}

/// All files below a folder with what they hold.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => found.push((path.clone(), fs::read(path).unwrap_or_default())),
        }
    }
    found.sort();
    found
}

pub(crate) fn digest(n: u8) -> String {
    format!("sha256:{}", format!("{n:02x}").repeat(32))
}

pub(crate) fn report(image: u8, ids: &[&str]) -> Value {
    let found: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({
                "VulnerabilityID": id, "PkgName": "zlib", "InstalledVersion": "1.2-1",
                "PkgIdentifier": { "PURL": "pkg:deb/debian/zlib@1.2-1?arch=amd64" },
                "Severity": "HIGH",
            })
        })
        .collect();
    json!({
        "SchemaVersion": 2,
        "CreatedAt": "2025-06-01T00:00:00Z",
        "ArtifactName": "web",
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": { "Family": "debian", "Name": "12.5" },
            "ImageID": digest(image),
            "DiffIDs": [digest(200)],
        },
        "Results": [{
            "Target": "web", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": found,
        }],
    })
}

#[track_caller]
pub(crate) fn assert_says(said: &str, parts: &[&str]) {
    // Words that were wrapped are one text.
    let one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(one_line.contains(part), "\"{part}\" is not in: {said}");
    }
}

/// Every line of a text is at most 100 columns wide, unless one word is longer.
#[track_caller]
pub(crate) fn assert_narrow(said: &str) {
    for line in said.lines() {
        let words = line.split_whitespace().count();
        assert!(line.chars().count() <= 100 || words == 1, "too wide: {line}");
    }
}
