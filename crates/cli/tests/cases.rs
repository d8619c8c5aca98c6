//! The decision cases, put before `portcullis decide`: it must say what the library says.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use portcullis_policy::case::{Case, FOLDER};
use portcullis_store::{Detail, FileStore, VerdictStore};
use portcullis_types::{Decision, Kind, Lookup, Surety, Verdict, Workload};

/// Fewer than this means that the reasons to leave a case out have become too many.
const AT_LEAST: usize = 90;

fn all_cases() -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            Case::read_all(&file.file_name().unwrap().to_string_lossy(), &text).unwrap()
        })
        .collect()
}

/// Why a case cannot be said on a command line.
fn unspeakable(case: &Case) -> Option<&'static str> {
    let identity = &case.identity;
    let bound = identity.surety == Surety::Bound;
    if identity.surety == Surety::Unknown || identity.config.is_none() {
        return Some("no digest names the image");
    }
    if !identity.names.iter().all(|n| n.asked && n.held == bound) {
        return Some("a name is observed in another way");
    }
    if !case.evidence.failures.is_empty() || matches!(case.evidence.lookup, Lookup::NotRead) {
        return Some("the gate met a failure");
    }
    if !case.request.pod_known {
        return Some("the pod could not be read");
    }
    if !case.published {
        return Some("nothing is published");
    }
    if !case.vex.is_empty() {
        return Some("the node has VEX statements");
    }
    if case.evidence.image.is_some() || case.evidence.workload != Workload::Read(Vec::new()) {
        return Some("the settings of the start or of the image are none");
    }
    None
}

/// Puts the case's evidence into a store, as importers do, and takes what a start finds there in
/// its place: the store dates the findings. False if it cannot stand there.
fn store(root: &Path, case: &mut Case) -> bool {
    let store = FileStore::open(root.join("var/lib/portcullis/verdicts"));
    std::fs::create_dir_all(root.join("var/lib/portcullis/verdicts")).unwrap();
    for Verdict { image, reports } in case.evidence.verdicts() {
        for report in reports {
            if store.absorb(image, report.clone()).is_err() {
                return false;
            }
        }
    }
    let config = case.identity.config.as_ref().unwrap();
    let stored: Vec<Verdict> =
        store.by_config(config, Detail::Decision).unwrap().into_iter().collect();
    let is_whole = without_marks(&stored) == without_marks(case.evidence.verdicts());
    case.evidence.lookup = Lookup::Read(stored);
    is_whole
}

/// The verdicts apart from what a store changes in those that it keeps for starts.
fn without_marks(verdicts: &[Verdict]) -> Vec<Verdict> {
    let mut verdicts = verdicts.to_vec();
    for report in verdicts.iter_mut().flat_map(|verdict| &mut verdict.reports) {
        report.put_in_order();
        for finding in &mut report.findings {
            let finding = Arc::make_mut(finding);
            finding.first_seen = None;
            finding.title = None;
        }
    }
    verdicts
}

fn decide(root: &Path, case: &Case) -> Decision {
    let policies = root.join("policies");
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(policies.join("case.yaml"), &case.policy_text).unwrap();
    let settings = format!(
        "defaultAction = \"{}\"\npolicyInvalid = \"{}\"\ninternal = \"{}\"\nsandboxImages = {:?}\n",
        case.defaults.default_action,
        case.defaults.policy_invalid,
        case.defaults.internal,
        case.defaults.sandbox_images.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    std::fs::create_dir_all(root.join("etc/portcullis")).unwrap();
    std::fs::write(root.join("etc/portcullis/portcullis.toml"), settings).unwrap();

    let (identity, request) = (&case.identity, &case.request);
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .arg("--root")
        .arg(root)
        .args(["--output", "json", "decide", "--policies"])
        .arg(policies);
    command.args(["--now", &case.now.to_string(), "--node", &request.node]);
    command.args(["--engine", request.engine.as_str(), "--namespace", &request.namespace]);
    for (flag, digest) in [("--image", &identity.config), ("--chain-id", &identity.chain_id)] {
        if let Some(digest) = digest {
            command.args([flag, &digest.to_string()]);
        }
    }
    for manifest in &identity.manifests {
        command.args(["--manifest", &manifest.to_string()]);
    }
    for name in &identity.names {
        command.args(["--reference", &name.reference.to_string()]);
    }
    for (key, value) in &request.pod_labels {
        command.args(["--label", &format!("{key}={value}")]);
    }
    if request.kind == Kind::Sandbox {
        command.arg("--sandbox");
    }
    if identity.surety == Surety::Claimed {
        command.arg("--claimed");
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", case.note);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{}: {e}: {}", case.note, String::from_utf8_lossy(&output.stdout))
    })
}

#[test]
fn decide_says_what_the_library_says() {
    let mut asked = 0;
    let mut left_out = BTreeSet::new();
    for mut case in all_cases() {
        if let Some(why) = unspeakable(&case) {
            left_out.insert(format!("{}: {why}", case.note));
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        if !store(root.path(), &mut case) {
            left_out.insert(format!("{}: the store keeps no such evidence", case.note));
            continue;
        }
        if case.identity.surety == Surety::Claimed {
            case.identity.note = Some("claimed on the command line".to_owned());
        }
        let by_library = case.decide().unwrap();
        assert_eq!(decide(root.path(), &case), by_library, "{}", case.note);
        asked += 1;
    }
    let left_out: Vec<_> = left_out.into_iter().collect();
    assert!(asked >= AT_LEAST, "only {asked} cases were asked; left out:\n{}", left_out.join("\n"));
}
