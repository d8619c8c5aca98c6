//! What is wrong ends in one clear error that names the file, the place and the remedy, with an
//! exit code that is not 0, and changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::contents;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An installation in a folder of its own.
struct Node {
    root: TempDir,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc/portcullis/policies", "var/lib/portcullis/verdicts"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("--root").arg(self.root.path()).args(args).output().unwrap()
    }

    /// Runs what must fail, and returns what it said.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let before = contents(&self.path("var"));
        let output = self.run(args);
        let said = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap()).concat();
        assert_eq!(output.status.code(), Some(code), "{args:?} said {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(contents(&self.path("var")), before, "{args:?} changed something: {said}");
        said
    }

    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

fn digest(n: u8) -> String {
    format!("sha256:{}", format!("{n:02x}").repeat(32))
}

fn report(image: u8) -> Value {
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
        "Results": [{ "Target": "web", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [
            { "VulnerabilityID": "CVE-1", "PkgName": "zlib", "InstalledVersion": "1", "Severity": "HIGH" }
        ] }],
    })
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    // Words that were wrapped are one text.
    let one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(said.contains(part) || one_line.contains(part), "\"{part}\" is not in: {said}");
    }
}

#[test]
fn a_report_of_a_gigabyte_is_refused_unread() {
    let node = Node::new();
    let path = node.path("huge.json");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let said = node.fails(&["import", &path.display().to_string()], 1);
    assert_says(&said, &["huge.json", "1073741824", "268435456"]);
}

#[test]
fn reports_that_are_none_are_named_with_their_place() {
    let node = Node::new();
    let deep = node.file("deep.json", "[".repeat(500_000).as_bytes());
    assert_says(&node.fails(&["import", &deep], 1), &["deep.json"]);
    let mut nested = String::from("{\"SchemaVersion\":2,\"Results\":");
    nested.push_str(&"[".repeat(500_000));
    let nested = node.file("nested.json", nested.as_bytes());
    assert_says(&node.fails(&["import", &nested], 1), &["nested.json", "line 1"]);
    let cut = serde_json::to_vec(&report(1)).unwrap();
    let cut = node.file("cut.json", &cut[..cut.len() / 2]);
    assert_says(&node.fails(&["import", &cut], 1), &["cut.json", "line 1"]);
    let binary = node.file("binary.json", &[0xff; 100]);
    assert_says(&node.fails(&["import", &binary], 1), &["binary.json"]);
    let other = node.file("other.json", b"{\"bomFormat\":\"CycloneDX\"}");
    assert_says(&node.fails(&["import", &other], 1), &["other.json", "Trivy"]);
    assert_says(&node.fails(&["import", "/nonexistent.json"], 1), &["/nonexistent.json"]);
    let folder = node.root.path().display().to_string();
    assert_says(&node.fails(&["import", &folder], 1), &[&folder]);
}

#[test]
fn a_report_for_another_image_is_refused_and_one_bad_file_keeps_all_out() {
    let node = Node::new();
    let good = node.file("good.json", &serde_json::to_vec(&report(1)).unwrap());
    let said = node.fails(&["import", &good, "--image", &digest(2)], 1);
    assert_says(&said, &["good.json", &digest(1), &digest(2)]);
    let bad = node.file("bad.json", b"{}");
    node.fails(&["import", &good, &bad], 1);
    node.succeeds(&["import", &good]);
    assert_says(&node.succeeds(&["verdict", "list"]), &["1 high"]);
    let said = node.succeeds(&["verdict", "show", &digest(1)]);
    assert_says(&said, &["CVE-1", "zlib", "looked for: vulnerability", "debian 12.5"]);
    node.succeeds(&["verdict", "rm", &digest(1)]);
    assert_says(&node.fails(&["verdict", "show", &digest(1)], 1), &["portcullis import"]);
}

#[test]
fn a_report_that_names_no_image_asks_for_one() {
    let node = Node::new();
    let mut nameless = report(1);
    nameless["Metadata"].as_object_mut().unwrap().remove("ImageID");
    let nameless = node.file("nameless.json", &serde_json::to_vec(&nameless).unwrap());
    assert_says(&node.fails(&["import", &nameless], 1), &["nameless.json", "--image"]);
    let said = node.succeeds(&["import", &nameless, "--image", &digest(3)]);
    assert_says(&said, &["claimed by the importer"]);
}

const TEN_FAULTS: &str = "\
apiVersion: portcullis.dev/v2
kind: ProtectionPolicy
metadata:
  name: Bad_Name
spec:
  mode: maybe
  descripton: a typo
  rules:
    - class: virus
      action: block
    - class: malware
      severity: [terrible]
      action: deny
    - severity: [high]
      action: alarm
  stale: { maxAge: soon, action: alarm }
  authorized: { images: ['UPPER/case'], action: block }
  onFailure: { sunspots: block }
";

#[test]
fn a_policy_with_ten_faults_shows_all_ten_and_leaves_the_set_in_force() {
    let node = Node::new();
    node.file(
        "etc/portcullis/policies/good.yaml",
        b"apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: { name: good }\nspec: { description: well }\n",
    );
    node.succeeds(&["policy", "apply"]);
    let bad = node.file("etc/portcullis/policies/bad.yaml", TEN_FAULTS.as_bytes());
    for args in [&["policy", "check"][..], &["policy", "apply"], &["policy", "check", &bad]] {
        let said = node.fails(args, 1);
        let faults = said.lines().filter(|l| l.contains("bad.yaml:")).count();
        assert!(faults >= 10, "{faults} faults in {said}");
        assert_says(
            &said,
            &[
                "bad.yaml:1:",
                "apiVersion",
                "bad.yaml:4:",
                "metadata.name",
                "spec.mode",
                "descripton",
                "description",
                "spec.rules[0].class",
                "spec.rules[1].severity[0]",
                "spec.rules[1].action",
                "spec.rules[2]",
                "spec.stale.maxAge",
                "spec.authorized.images[0]",
                "sunspots",
            ],
        );
    }
    let said = node.succeeds(&["policy", "list"]);
    assert_says(&said, &["good", "run portcullis policy check"]);
}

#[test]
fn a_policy_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    let file = node.file("etc/portcullis/policies/open.yaml", b"");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    assert_says(&node.fails(&["policy", "apply"], 1), &["open.yaml", "chmod go-w"]);
}

#[test]
fn settings_with_faults_name_each_key_and_stop_every_command() {
    let node = Node::new();
    let file = "defaultAction = \"shrug\"\n[gate]\ndeadline = \"10s\"\n";
    node.file("etc/portcullis/portcullis.toml", file.as_bytes());
    let said = node.fails(&["config", "check"], 1);
    assert_says(&said, &["portcullis.toml", "defaultAction", "gate.deadline"]);
    assert_says(&node.fails(&["status"], 1), &["portcullis.toml", "defaultAction"]);
}

#[test]
fn a_bundle_without_a_config_and_a_missing_argument_are_named() {
    let node = Node::new();
    let bundle = node.root.path().display().to_string();
    let said = node.fails(&["decide", "--image", &digest(1), "--bundle", &bundle], 1);
    assert_says(&said, &["config.json", &bundle]);
    assert_says(&node.fails(&["decide"], 1), &["--image"]);
    assert_says(&node.fails(&["decide", "--image", "sha256:xyz"], 2), &["--image", "hexadecimal"]);
    assert_says(&node.fails(&["import"], 2), &["FILE"]);
    assert_says(&node.fails(&["frobnicate"], 2), &["frobnicate"]);
    assert_says(&node.fails(&["events", "show", "01XYZ"], 1), &["01XYZ", "events list"]);
}

#[test]
fn decide_tells_the_decision_by_its_exit_code_if_asked() {
    let node = Node::new();
    let policies = node.path("policies");
    fs::create_dir(&policies).unwrap();
    for (action, code) in [("allow", 0), ("alarm", 3), ("block", 4)] {
        let text = format!(
            "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {{ name: p }}\n\
             spec: {{ unscanned: {{ action: {action} }} }}\n"
        );
        fs::write(policies.join("p.yaml"), text).unwrap();
        let policies = policies.display().to_string();
        let image = digest(1);
        let args = ["decide", "--image", &image, "--policies", &policies];
        let plain = node.run(&args);
        assert_eq!(plain.status.code(), Some(0));
        let asked = node.run(&[&args[..], &["--exit-code"]].concat());
        assert_eq!(asked.status.code(), Some(code), "{action}");
    }
}

#[test]
fn help_completions_and_man_pages_are_there() {
    let node = Node::new();
    assert_says(&node.succeeds(&["--help"]), &["Exit codes", "decide", "policy"]);
    assert_says(&node.succeeds(&["decide", "--help"]), &["Example", "--exit-code"]);
    for shell in ["bash", "zsh", "fish"] {
        assert_says(&node.succeeds(&["completions", shell]), &["portcullis"]);
    }
    let folder = node.path("man");
    node.succeeds(&["man", &folder.display().to_string()]);
    assert!(folder.join("portcullis.1").exists() && folder.join("portcullis-decide.1").exists());
}
