//! `portcullis verdict push` and `pull`, from one node to another through Debian's registry.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{Node, assert_narrow, assert_says};
use portcullis_testkit::registry::{Access, DebianRegistry, PushedImage, push_image, write_login};
use serde_json::{Value, json};

/// A report of Trivy on an image.
fn report(node: &Node, image: &PushedImage, name: Option<&str>, ids: &[&str]) {
    let mut report = common::report(1, ids);
    report["Metadata"]["ImageID"] = json!(image.config);
    report["Metadata"]["DiffIDs"] = json!(image.diff_ids);
    report["Metadata"]["RepoTags"] = json!(name.into_iter().collect::<Vec<_>>());
    let file = node.file("trivy.json", report.to_string());
    node.run(&["import", &file], 0);
}

/// A node with keys that were made as the documentation says.
fn with_keys(settings: &[&str]) -> Node {
    let node = Node::new();
    let folder = node.path("etc/portcullis").display().to_string();
    for (name, kind) in [
        ("own", &["-algorithm", "ed25519"][..]),
        ("other", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ] {
        let (private, public) = (format!("{folder}/{name}.key"), format!("{folder}/{name}.pub"));
        let pair: [Vec<&str>; 2] = [
            [&["genpkey"], kind, &["-out", &private]].concat(),
            vec!["pkey", "-in", &private, "-pubout", "-out", &public],
        ];
        for arguments in pair {
            let output = Command::new("openssl").args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }
    node.set(settings);
    node
}

trait Set {
    fn set(&self, settings: &[&str]);
}

impl Set for Node {
    /// The `[registry]` of the node; `ETC` is its folder of settings.
    fn set(&self, settings: &[&str]) {
        let folder = self.path("etc/portcullis").display().to_string();
        let text = format!("[registry]\n{}\n", settings.join("\n")).replace("ETC", &folder);
        self.file("etc/portcullis/portcullis.toml", text);
    }
}

const SIGNS: &str = "signingKey = \"ETC/own.key\"";
const TRUSTS: &str = "trustedKeys = [\"ETC/own.pub\"]";

/// The same keys on another node.
fn give_keys(from: &Node, to: &Node) {
    for name in ["own.pub", "other.pub", "other.key", "own.key"] {
        let name = format!("etc/portcullis/{name}");
        let path = to.file(&name, std::fs::read(from.path(&name)).unwrap());
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

#[test]
fn one_scan_serves_another_node() {
    let registry = DebianRegistry::start(Access::Login);
    let host = &registry.address;
    let image = push_image(host, "team/web", "1.4", "amd64", "x");
    let (here, there) = (with_keys(&[SIGNS]), Node::new());
    give_keys(&here, &there);
    let name = format!("{host}/team/web:1.4");
    report(&here, &image, Some(&name), &["CVE-2024-0001", "CVE-2024-0002"]);
    let config = image.config.to_string();
    // Without a login.
    here.refuses(&["verdict", "push", &config], &["401", "podman login"]);
    write_login(&here.path("etc/portcullis/auth.json"), host);
    write_login(&there.path("etc/portcullis/auth.json"), host);
    here.set(&[SIGNS, "authFile = \"ETC/auth.json\""]);
    let said = here.run(&["verdict", "push", &config], 0);
    assert_says(&said, &["pushed 1 report", &name, &image.manifest.to_string(), "signed by"]);
    assert_narrow(&said);
    let pushed = here.json(&["verdict", "push", &config], 0);
    assert_eq!(pushed["listedBy"], "tag");
    assert_eq!(pushed["manifest"], json!(image.manifest));
    there.set(&[TRUSTS, "authFile = \"ETC/auth.json\""]);
    let platform = ["--platform", "linux/amd64"];
    let pull = [&["verdict", "pull", &name][..], &platform].concat();
    let pulled = there.json(&pull, 0);
    assert_eq!(pulled["change"], "created");
    assert_eq!(pulled["known"], 2);
    assert_eq!(pulled["verdicts"][0]["artifact"], pushed["artifact"]);
    assert_eq!(pulled["verdicts"][0]["signedBy"], pushed["signedBy"]);
    assert_says(&there.run(&pull, 0), &["pulled 1 verdict; unchanged, 2 findings known"]);
    let shown = there.json(&["verdict", "show", &config], 0);
    assert_eq!(shown["image"]["references"], json!([name]));
    assert_eq!(shown["reports"][0]["scannedAt"], "2025-06-01T00:00:00Z");
    assert_eq!(shown["reports"][0]["binding"], "byReport");
    // The other node decides by it.
    let rules = "{class: vulnerability, severity: [high], action: block}";
    let policy = format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n\
         metadata: {{ name: all }}\nspec: {{ rules: [{rules}] }}\n"
    );
    there.file("etc/portcullis/policies/all.yaml", policy);
    there.run(&["policy", "apply"], 0);
    there.run(&["decide", "--exit-code", "--image", &config], 4);
}

#[test]
fn what_is_not_signed_by_a_key_that_is_trusted_is_refused() {
    let registry = DebianRegistry::start(Access::Open);
    let host = &registry.address;
    let image = push_image(host, "web", "1", "amd64", "x");
    let node = with_keys(&[]);
    let (config, name) = (image.config.to_string(), format!("{host}/web:1"));
    report(&node, &image, None, &["CVE-2024-0001"]);
    let pull = ["verdict", "pull", &name, "--platform", "linux/amd64"];
    let unsigned = [&pull[..], &["--allow-unsigned"]].concat();
    node.refuses(&["verdict", "push", &config], &["names no registry", "--repository"]);
    let repository = format!("{host}/web");
    let push = ["verdict", "push", &config, "--repository", &repository];
    node.refuses(&push, &["names no manifest", &format!("{repository}:TAG")]);
    let push = ["verdict", "push", &config, "--repository", &name];
    node.refuses(&pull, &["no key is trusted", "trustedKeys", "--allow-unsigned"]);
    node.refuses(&unsigned, &["nobody has pushed a verdict", "portcullis verdict push"]);
    assert_says(&node.run(&push, 0), &["nobody has signed it"]);
    node.set(&[TRUSTS]);
    node.refuses(&pull, &["is refused: nobody signed it", "[registry] trustedKeys"]);
    node.refuses(&unsigned, &["leave --allow-unsigned out"]);
    node.set(&["signingKey = \"ETC/other.key\"", TRUSTS]);
    node.run(&push, 0);
    node.refuses(&pull, &["signed by keys that are not trusted here"]);
    // What is taken without a signature is but claimed, and stands beside what was known.
    node.set(&[]);
    let taken = node.json(&unsigned, 0);
    assert_eq!(taken["change"], "updated");
    assert_eq!(taken["verdicts"][0]["signedBy"], Value::Null);
    let shown = node.json(&["verdict", "show", &config], 0);
    let bindings: Vec<&Value> =
        shown["reports"].as_array().unwrap().iter().map(|report| &report["binding"]).collect();
    assert_eq!(bindings, [&json!("byReport"), &json!("byImporter")]);
    // Now that one is signed by a key that is trusted, it is taken, and the others are told.
    node.set(&[SIGNS, TRUSTS]);
    node.run(&push, 0);
    let said = node.run(&pull, 0);
    assert_says(&said, &["pulled 1 verdict", "refused", "nobody signed it"]);
    assert_narrow(&said);
}

#[test]
fn keys_are_to_be_kept_well() {
    let node = with_keys(&[SIGNS, TRUSTS]);
    let image = PushedImage {
        config: common::digest(1).parse().unwrap(),
        diff_ids: vec![common::digest(2).parse().unwrap()],
        manifest: common::digest(3).parse().unwrap(),
    };
    report(&node, &image, Some("127.0.0.1:1/web:1"), &["CVE-2024-0001"]);
    let push = ["verdict", "push", &common::digest(1)];
    let pull = ["verdict", "pull", "127.0.0.1:1/web:1"];
    let mode = |name: &str, mode: u32| {
        let path = node.path(&format!("etc/portcullis/{name}"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    node.refuses(&push, &["127.0.0.1:1 cannot be reached", "nothing listens"]);
    mode("own.key", 0o640);
    node.refuses(&push, &["[registry] signingKey", "own.key", "chmod go-rwx"]);
    mode("own.pub", 0o666);
    node.refuses(&pull, &["[registry] trustedKeys", "own.pub", "chmod go-w"]);
    node.file("etc/portcullis/own.pub", "garbage");
    node.refuses(&pull, &["own.pub", "no key in it"]);
    node.set(&["signingKey = \"ETC/other.pub\"", "trustedKeys = [\"ETC/other.key\"]"]);
    node.refuses(&pull, &["other.key", "is a private key"]);
    mode("other.pub", 0o600);
    node.refuses(&push, &["other.pub", "is a public key"]);
    node.set(&["trustedKeys = [\"ETC/nothing.pub\"]"]);
    node.refuses(&pull, &["nothing.pub does not exist"]);
    let unknown = common::digest(9);
    node.refuses(&["verdict", "push", &unknown], &["nothing is known about", &unknown]);
    node.run(&["verdict", "pull", "UPPER/case:1:2"], 2);
}
