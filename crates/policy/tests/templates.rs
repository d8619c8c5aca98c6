//! What the shipped policies and templates mean: each is well, each note of lint is explained in
//! it, and the cases of `cases/templates/*.toml` say what it does.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::path::{Path, PathBuf};

use portcullis_policy::case::{Case, FOLDER};
use portcullis_policy::lint::{Level, LintContext, SandboxImage, lint};
use portcullis_policy::yaml::{SourceFile, read};
use portcullis_policy::{PolicySet, refusal};
use portcullis_types::{Digest, Evidence, Identity, Name, Surety};

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/policies");
    let mut files: Vec<PathBuf> = [folder.clone(), folder.join("templates")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The pause image of a node as kubeadm and containerd have it, by its tag and not scanned.
fn pause() -> SandboxImage {
    let name =
        Name { reference: "registry.k8s.io/pause:3.9".parse().unwrap(), held: true, asked: true };
    SandboxImage {
        identity: Identity {
            surety: Surety::Bound,
            chain_id: None,
            config: Some(Digest::sha256([1; 32])),
            manifests: [Digest::sha256([2; 32])].into(),
            names: [name].into(),
            note: None,
        },
        evidence: Evidence::read(Vec::new()),
    }
}

#[test]
fn each_is_well_and_lint_has_only_notes_that_it_explains() {
    let files = shipped();
    assert_eq!(files.len(), 4, "{files:?}");
    for path in files {
        let name = stem(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.is_ascii(), "{name}");
        let source = SourceFile { name: &name, bytes: text.as_bytes() };
        let policies = read(&[source]).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let set = PolicySet::compile(policies).unwrap_or_else(|faults| panic!("{faults:#?}"));
        // Names begin with that of the file, so that two templates never clash.
        assert!(set.policies().all(|p| p.metadata.name.starts_with(&name)), "{name}");
        let pause = [pause()];
        let now = "2026-10-01T12:00:00Z".parse().unwrap();
        let context = LintContext { now, starts: None, sandbox_images: &pause };
        for warning in lint(&set, &context) {
            assert_eq!(warning.severity, Level::Note, "{name}: {warning}");
            assert!(text.contains(warning.code), "{name} does not explain: {warning}");
        }
    }
}

/// All of them may stand beside each other in the folder of the node.
#[test]
fn all_of_them_together_are_a_set() {
    let texts: Vec<(String, Vec<u8>)> =
        shipped().iter().map(|path| (stem(path), std::fs::read(path).unwrap())).collect();
    let sources: Vec<SourceFile<'_>> =
        texts.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
    let set = read(&sources).and_then(PolicySet::compile);
    assert!(set.unwrap_or_else(|faults| panic!("{faults:#?}")).policies().len() >= 6);
}

#[test]
fn each_decides_as_its_cases_say() {
    let mut failed = Vec::new();
    for path in shipped() {
        let name = stem(&path);
        let file = Path::new(FOLDER).join("templates").join(format!("{name}.toml"));
        let cases = std::fs::read_to_string(&file)
            .unwrap_or_else(|e| panic!("{name} needs cases in {}: {e}", file.display()));
        let policy = std::fs::read_to_string(&path).unwrap();
        let cases = format!("policy = '''\n{policy}'''\n{cases}");
        let cases = Case::read_all(&name, &cases).unwrap_or_else(|e| panic!("{e}: {e:#?}"));
        assert!(cases.len() >= 15, "{name} has only {} cases", cases.len());
        for case in cases {
            let decision = case.decide().unwrap_or_else(|e| panic!("{}: {e}", case.note));
            let differences = case.wanted.differences(&decision);
            if !differences.is_empty() {
                let line = refusal(&decision, &case.identity, "01JD0000000000000000000000");
                failed.push(format!("{}\n{line}\n{}", case.note, differences.join("\n")));
            }
        }
    }
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n\n"));
}
