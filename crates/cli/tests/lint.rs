//! `portcullis policy lint`, `schema` and `template`, as people run them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use portcullis_audit::Ledger;
use portcullis_types::{
    Action, Digest, Engine, Event, EventKind, Identity, Kind, Name, Request, Surety, Timestamp,
};
use serde_json::Value;
use tempfile::TempDir;

const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n";

/// An installation in a folder of its own.
struct Node {
    root: TempDir,
}

impl Node {
    fn with_policy(spec: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let node = Self { root };
        node.file(
            "etc/portcullis/policies/web.yaml",
            &format!("{HEAD}metadata: {{ name: web }}\nspec:\n{spec}"),
        );
        node
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("--root").arg(self.root.path()).args(args).output().unwrap()
    }

    /// Standard output, of a run that ends with this code.
    fn says(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?} said {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Records starts of an image, as a door does.
    fn records(&self, reference: &str, kind: Kind, times: usize) {
        let folder = self.root.path().join("var/lib/portcullis/events");
        fs::create_dir_all(&folder).unwrap();
        let file = Ledger::new(folder, 1 << 20);
        for number in 0..times {
            common::append(&file, &event(reference, kind, &format!("{kind}-{number}")));
        }
    }
}

fn event(reference: &str, kind: Kind, container: &str) -> Event {
    let name = Name { reference: reference.parse().unwrap(), held: true, asked: true };
    let request = Request {
        kind,
        namespace: "prod".to_owned(),
        pod: container.to_owned(),
        ..Request::new(Engine::Containerd, "node-1", container)
    };
    let image = Identity {
        surety: Surety::Bound,
        chain_id: None,
        config: Some(Digest::sha256([7; 32])),
        manifests: Default::default(),
        names: [name].into(),
        note: None,
    };
    Event {
        workload: Some(Vec::new()),
        ..Event::new(
            portcullis_audit::new_id(),
            Timestamp::now(),
            EventKind::Decision,
            Action::Alarm,
            "portcullis: alarm".to_owned(),
            request,
            image,
        )
    }
}

const ERRORS: &str = "  whitelist: [{ image: 'registry.example.com/**', malware: true }]\n";
const WARNINGS: &str = "  rules: [{ class: malware, action: allow }]\n";
const NOTES: &str = "  whitelist: [{ image: 'registry.example.com/web:1' }]\n";
const NOTHING: &str = "  rules: [{ class: malware, action: block }]\n";

#[test]
fn the_exit_code_tells_the_worst() {
    for (spec, code, strict) in [(ERRORS, 1, 1), (WARNINGS, 0, 1), (NOTES, 0, 0), (NOTHING, 0, 0)] {
        let node = Node::with_policy(spec);
        node.says(&["policy", "lint"], code);
        node.says(&["policy", "lint", "--strict"], strict);
    }
    let node = Node::with_policy("  rules: 1\n");
    let said = node.says(&["policy", "lint"], 1);
    assert!(said.contains("web.yaml:5:10: spec.rules") && said.contains("1 fault"), "{said}");
    let said = Node::with_policy(NOTHING).says(&["policy", "lint"], 0);
    assert_eq!(said, "1 policy, no recorded starts: nothing to remark\n");
}

#[test]
fn each_warning_says_where_what_and_what_to_do_in_lines_that_fit() {
    let long = "a".repeat(200);
    let node = Node::with_policy(&format!(
        "  whitelist: [{{ image: 'registry.example.com/{long}' }}, {{ image: '**', malware: true }}]\n"
    ));
    let said = node.says(&["policy", "lint"], 1);
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    let wanted = "\
error: broad-whitelist: policy web: spec.whitelist[1]
    it takes every image with its malware out of the count
    -> name the images that you have looked at, best by their digests
";
    assert!(said.contains(wanted), "{said}");
    assert!(
        said.ends_with("1 policy, no recorded starts: 1 error, 1 warning, 2 notes\n"),
        "{said}"
    );
}

#[test]
fn programs_get_json() {
    let node = Node::with_policy(ERRORS);
    let said: Value =
        serde_json::from_str(&node.says(&["policy", "lint", "--output", "json"], 1)).unwrap();
    assert_eq!(said["policies"], serde_json::json!(["web"]));
    let warning = &said["warnings"][0];
    assert_eq!(
        (&warning["policy"], &warning["path"], &warning["severity"], &warning["code"]),
        (&"web".into(), &"spec.whitelist[0]".into(), &"error".into(), &"broad-whitelist".into())
    );
    assert!(warning["message"].is_string() && warning["remedy"].is_string());
}

#[test]
fn check_points_to_lint_if_there_are_errors() {
    let hint = "hint: lint finds 1 error: run portcullis policy lint\n";
    let said = Node::with_policy(ERRORS).says(&["policy", "check"], 0);
    assert_eq!(said, format!("1 policy checked, no fault\n{hint}"));
    assert_eq!(
        Node::with_policy(WARNINGS).says(&["policy", "check"], 0),
        "1 policy checked, no fault\n"
    );
}

#[test]
fn what_recorded_starts_did_not_use_is_noted() {
    let used = "  rules: [{ class: malware, action: block }]\n  scope: { namespaces: { include: [prod] } }\n";
    let node = Node::with_policy(used);
    node.records("registry.example.com/web:1", Kind::Container, 3);
    let said = node.says(&["policy", "lint"], 0);
    assert!(said.contains("note: unused-rule: policy web: spec.rules[0]\n"), "{said}");
    assert!(said.contains("it did not speak in 3 starts since "), "{said}");
    assert!(said.ends_with("1 policy, 3 recorded starts: 1 note\n"), "{said}");
    // Nothing is recorded since then, so nothing is known.
    let said = node.says(&["policy", "lint", "--since", "2999-01-01T00:00:00Z"], 0);
    assert!(said.contains("no recorded starts: nothing to remark"), "{said}");
    // Nor is a rule unused that speaks: nobody has scanned the image.
    let other = format!(
        "{HEAD}metadata: {{ name: web }}\nspec: {{ scope: {{ namespaces: {{ include: [test] }} }} }}\n"
    );
    node.file("other.yaml", &other);
    let other = node.root.path().join("other.yaml").display().to_string();
    let said = node.says(&["policy", "lint", &other], 0);
    assert!(said.contains("unused-policy") && said.contains("not in scope in 3 starts"), "{said}");
}

#[test]
fn a_pause_image_that_would_be_blocked_is_an_error_unless_the_settings_allow_it() {
    let spec = "  authorized: { images: ['registry.example.com/**'], action: block }\n";
    let node = Node::with_policy(spec);
    node.records("registry.k8s.io/pause:3.9", Kind::Sandbox, 2);
    let said = node.says(&["policy", "lint"], 1);
    assert!(said.contains("error: blocks-sandbox: policy web: spec.authorized\n"), "{said}");
    assert_eq!(said.matches("blocks-sandbox").count(), 1, "{said}");
    let settings = format!("sandboxImages = [\"{}\"]\n", Digest::sha256([7; 32]));
    node.file("etc/portcullis/portcullis.toml", &settings);
    assert!(!node.says(&["policy", "lint"], 0).contains("blocks-sandbox"));
}

#[test]
fn the_schema_is_printed_even_where_the_settings_are_broken() {
    let node = Node::with_policy(NOTHING);
    node.file("etc/portcullis/portcullis.toml", "defaultAction = \"shrug\"\n");
    let schema: Value = serde_json::from_str(&node.says(&["policy", "schema"], 0)).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["spec"]["type"], "object");
    node.says(&["policy", "template"], 0);
    node.says(&["policy", "lint"], 1);
}

#[test]
fn templates_are_listed_and_each_is_the_file_that_is_shipped() {
    let node = Node::with_policy(NOTHING);
    let said = node.says(&["policy", "template"], 0);
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/policies");
    let mut shipped = vec![folder.join("watch.yaml")];
    for entry in fs::read_dir(folder.join("templates")).unwrap() {
        shipped.push(entry.unwrap().path());
    }
    assert_eq!(said.lines().count(), shipped.len() + 3, "{said}");
    for path in shipped {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(said.contains(&format!("\n{name} ")), "{said}");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(node.says(&["policy", "template", name], 0), text);
        let json: Value =
            serde_json::from_str(&node.says(&["policy", "template", name, "-o", "json"], 0))
                .unwrap();
        assert_eq!((&json["name"], &json["text"]), (&name.into(), &text.into()));
    }
    let output = node.run(&["policy", "template", "lax"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("watch, balanced, hss-like, strict"), "{said}");
}

#[test]
fn each_command_has_help_with_an_example() {
    let node = Node::with_policy(NOTHING);
    for command in ["check", "lint", "schema", "template"] {
        let said = node.says(&["policy", command, "--help"], 0);
        assert!(said.contains("Example"), "{said}");
        assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    }
}
