//! Registries that have the referrers API, that want tokens, and that lie, dawdle and lead astray.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Node, Pair, assert_says, facts_fit, ids, report, said, verdict};
use portcullis_registry::{Belief, Logins, TrustedKey};
use portcullis_testkit::registry::{Fake, PushedImage, Reply, push_image, write_login};
use portcullis_types::Digest;
use serde_json::{Value, json};

/// A registry with an image, about which one verdict was pushed.
struct Setting {
    fake: Fake,
    node: Node,
    image: PushedImage,
    reference: String,
    artifact: Digest,
    trusted: [TrustedKey; 1],
    pair: Pair,
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let (fake, folder) = (Fake::start(), tempfile::tempdir().unwrap());
        let pair = Pair::ed25519(folder.path(), "a");
        let node = Node::new(Logins::none());
        let image = push_image(&fake.address, "web", "1", "amd64", "x");
        let reference = format!("{}/web:1", fake.address);
        let known = verdict(&image.config, vec![report(10, &["A"])]);
        let pushed = node.push(&reference, &known, Some(&pair.signs())).unwrap();
        assert!(pushed.by_api);
        let trusted = [pair.trusted()];
        fake.asked();
        let artifact = pushed.artifact;
        Self { fake, node, image, reference, artifact, trusted, pair, folder }
    }

    fn pull(&self) -> Result<portcullis_registry::Pulled, portcullis_registry::PullError> {
        self.node.pull(&self.reference, Belief::SignedBy(&self.trusted))
    }

    #[track_caller]
    fn refuses(&self, parts: &[&str]) {
        assert_says(&said(self.pull()), parts);
    }

    /// The envelope of the verdict.
    fn envelope(&self) -> Digest {
        let manifest: Value = serde_json::from_slice(&self.fake.content(&self.artifact)).unwrap();
        serde_json::from_value(manifest["layers"][0]["digest"].clone()).unwrap()
    }

    fn referrers(&self) -> String {
        format!("/v2/web/referrers/{}", self.image.manifest)
    }
}

fn full(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Full(status, headers.to_owned(), body.into())
}

const INDEX: &str = "Content-Type: application/vnd.oci.image.index.v1+json\r\n";
const MANIFEST: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";

#[test]
fn the_referrers_api_is_asked_page_by_page_and_no_tag_is_written() {
    let setting = Setting::new();
    for (day, id) in [(11, "B"), (12, "C"), (13, "D")] {
        let known = verdict(&setting.image.config, vec![report(day, &[id])]);
        let key = setting.pair.signs();
        assert!(setting.node.push(&setting.reference, &known, Some(&key)).unwrap().by_api);
    }
    let asked = setting.fake.asked();
    assert!(!asked.iter().any(|head| head.contains("/manifests/sha256-")), "{asked:?}");
    let pulled = setting.pull().unwrap();
    assert_eq!(ids(&pulled), ["A", "B", "C", "D"]);
    facts_fit(&pulled, &setting.image);
    let asked = setting.fake.asked();
    let pages: Vec<&String> = asked.iter().filter(|head| head.contains("/referrers/")).collect();
    assert_eq!(pages.len(), 2, "{asked:?}");
    assert!(pages[0].contains("artifactType=application%2Fvnd.portcullis.verdict"), "{pages:?}");
}

#[test]
fn a_token_is_got_for_a_login_and_used_again() {
    let setting = Setting::new();
    setting.fake.want_token();
    setting.refuses(&["does not let us read from web", "401", "podman login"]);
    let file = write_login(&setting.folder.path().join("auth.json"), &setting.fake.address);
    let node = Node::new(Logins::of_file(&file));
    setting.fake.asked();
    let pulled = node.pull(&setting.reference, Belief::SignedBy(&setting.trusted)).unwrap();
    assert_eq!(ids(&pulled), ["A"]);
    let asked = setting.fake.asked();
    let tokens: Vec<&String> = asked.iter().filter(|head| head.starts_with("GET /token")).collect();
    assert_eq!(tokens.len(), 1, "{asked:?}");
    assert!(tokens[0].contains("scope=repository%3Aweb%3Apull&service=fake"), "{tokens:?}");
    // The login itself is told to the one who gives tokens alone.
    let told = asked.iter().filter(|head| head.to_ascii_lowercase().contains("basic "));
    assert_eq!(told.count(), 1);
    let known = verdict(&setting.image.config, vec![report(11, &["B"])]);
    node.push(&setting.reference, &known, None).unwrap();
    let asked = setting.fake.asked();
    assert!(asked.iter().any(|head| head.contains("pull%2Cpush")), "{asked:?}");
    for body in ["{}", "<html>", "{\"token\":\"a\\r\\nX: y\"}"] {
        setting.fake.set("/token", [full(200, "", body)]);
        let node = Node::new(Logins::of_file(&file));
        let told = said(node.pull(&setting.reference, Belief::SignedBy(&setting.trusted)));
        assert_says(&told, &["the token of", "cannot be understood"]);
    }
    // A login is not sent where anybody on the way could read it.
    let realm = "WWW-Authenticate: Bearer realm=\"http://registry.example.com/token\"\r\n";
    setting.fake.set("/v2/web/manifests/1", [full(401, realm, "")]);
    let node = Node::new(Logins::of_file(&file));
    let told = said(node.pull(&setting.reference, Belief::SignedBy(&setting.trusted)));
    assert_says(&told, &["log in without TLS"]);
}

#[test]
fn a_login_does_not_follow_a_redirect_to_another_host() {
    let setting = Setting::new();
    let other = Fake::start();
    setting.fake.want_token();
    let file = write_login(&setting.folder.path().join("auth.json"), &setting.fake.address);
    let node = Node::new(Logins::of_file(&file));
    let blob = format!("/v2/web/blobs/{}", setting.envelope());
    let elsewhere = format!("Location: http://{}/elsewhere\r\n", other.address);
    setting.fake.set(&blob, [full(307, &elsewhere, "")]);
    other.set("/elsewhere", [full(200, "", setting.fake.content(&setting.envelope()))]);
    let pulled = node.pull(&setting.reference, Belief::SignedBy(&setting.trusted)).unwrap();
    assert_eq!(ids(&pulled), ["A"]);
    let asked = other.asked();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].to_ascii_lowercase().contains("authorization"), "{asked:?}");
    // Not even if the other asks for it.
    let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n";
    other.set("/elsewhere", [full(401, challenge, "")]);
    let told = said(node.pull(&setting.reference, Belief::SignedBy(&setting.trusted)));
    assert_says(&told, &["401"]);
    let asked = other.asked();
    assert!(!asked.iter().any(|head| head.to_ascii_lowercase().contains("authorization")));
    // Nor does anything go on without TLS to a host that is not here, or for ever.
    for (to, wanted) in [
        ("http://registry.example.com/x", "without TLS"),
        ("ftp://registry.example.com/x", "cannot be asked"),
        ("", "to nowhere"),
        (blob.as_str(), "again and again"),
    ] {
        setting.fake.set(&blob, [full(302, &format!("Location: {to}\r\n"), "")]);
        let told = said(node.pull(&setting.reference, Belief::SignedBy(&setting.trusted)));
        assert_says(&told, &[wanted]);
    }
    // What is uploaded goes nowhere else either.
    let upload = "Location: http://127.0.0.1:9/v2/web/blobs/uploads/1\r\n";
    setting.fake.set("/v2/web/blobs/uploads/", [full(202, upload, "")]);
    let known = verdict(&setting.image.config, vec![report(11, &["B"])]);
    assert_says(&said(node.push(&setting.reference, &known, None)), &["to another host to upload"]);
}

#[test]
fn what_is_not_what_its_digest_says_is_refused() {
    let setting = Setting::new();
    let intact = setting.fake.content(&setting.image.config);
    setting.fake.replace(&setting.image.config, b"{\"rootfs\":{\"diff_ids\":[]}}");
    setting.refuses(&["sent something else than", &setting.image.config.to_string()]);
    setting.fake.replace(&setting.image.config, &intact);
    for digest in [setting.envelope(), setting.artifact.clone()] {
        let intact = setting.fake.content(&digest);
        // The same length, and another byte.
        let mut changed = intact.clone();
        let last = changed.len() - 2;
        changed[last] ^= 1;
        setting.fake.replace(&digest, &changed);
        setting.refuses(&["sent something else than", &digest.to_string()]);
        setting.fake.replace(&digest, &intact);
    }
    setting.pull().unwrap();
    let by_digest = format!("{}/web@{}", setting.fake.address, setting.image.manifest);
    setting.fake.replace(&setting.image.manifest, b"{}");
    let belief = Belief::SignedBy(&setting.trusted);
    assert_says(&said(setting.node.pull(&by_digest, belief)), &["sent something else than"]);
}

/// An envelope that the registry puts together itself, as an artifact about the image.
fn lay(setting: &Setting, envelope: &[u8], about: &Digest) {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": portcullis_registry::ARTIFACT,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": Digest::of(b"{}"), "size": 2,
        },
        "layers": [{
            "mediaType": "application/vnd.dsse.envelope.v1+json",
            "digest": Digest::of(envelope), "size": envelope.len(),
        }],
        "subject": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": about, "size": 7,
        },
    })
    .to_string();
    let digest = Digest::of(manifest.as_bytes());
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
        "size": manifest.len(), "artifactType": portcullis_registry::ARTIFACT,
    });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let fake = &setting.fake;
    fake.set(&setting.referrers(), [full(200, INDEX, index)]);
    fake.set(&format!("/v2/web/manifests/{digest}"), [full(200, MANIFEST, manifest)]);
    let blob = format!("/v2/web/blobs/{}", Digest::of(envelope));
    fake.set(&blob, [full(200, "", envelope)]);
}

#[test]
fn a_signature_holds_for_its_payload_and_its_image_alone() {
    let setting = Setting::new();
    let signed = setting.fake.content(&setting.envelope());
    lay(&setting, &signed, &setting.image.manifest);
    assert_eq!(ids(&setting.pull().unwrap()), ["A"]);
    // An envelope of another image, well signed, in the place of this one's.
    let other = push_image(&setting.fake.address, "web", "2", "amd64", "y");
    let known = verdict(&other.config, vec![report(10, &["CLEAN"])]);
    let reference = format!("{}/web:2", setting.fake.address);
    let key = setting.pair.signs();
    let pushed = setting.node.push(&reference, &known, Some(&key)).unwrap();
    let manifest: Value = serde_json::from_slice(&setting.fake.content(&pushed.artifact)).unwrap();
    let layer: Digest = serde_json::from_value(manifest["layers"][0]["digest"].clone()).unwrap();
    lay(&setting, &setting.fake.content(&layer), &setting.image.manifest);
    setting.refuses(&["is refused", "another image", &other.manifest.to_string()]);
    // An artifact that refers to another image.
    lay(&setting, &signed, &other.manifest);
    setting.refuses(&["is refused", "refers to another image"]);
    // A payload that somebody has changed, and put the signature beside it.
    let mut envelope: Value = serde_json::from_slice(&signed).unwrap();
    let payload = envelope["payload"].as_str().unwrap().to_owned();
    envelope["payload"] = json!(flip(&payload));
    lay(&setting, envelope.to_string().as_bytes(), &setting.image.manifest);
    setting.refuses(&["is refused", "does not fit", setting.trusted[0].id()]);
    // And what is no envelope, or an unsigned one.
    envelope["payload"] = json!(payload);
    envelope["signatures"] = json!([]);
    lay(&setting, envelope.to_string().as_bytes(), &setting.image.manifest);
    setting.refuses(&["nobody signed it"]);
    lay(&setting, b"garbage", &setting.image.manifest);
    setting.refuses(&["it is no DSSE envelope"]);
}

/// Another character in the middle of a base64 text.
fn flip(payload: &str) -> String {
    let middle = payload.len() / 2;
    let other = if &payload[middle..=middle] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &payload[..middle], &payload[middle + 1..])
}

#[test]
fn what_is_too_large_is_not_read() {
    let setting = Setting::new();
    let huge = 5 << 20;
    let length = format!("{INDEX}Content-Length: 99999999999\r\n");
    for reply in [full(200, INDEX, vec![b' '; huge]), full(200, &length, "")] {
        setting.fake.set(&setting.referrers(), [reply]);
        setting.refuses(&["what refers to web@", "is larger than 4194304 bytes"]);
    }
    // Without a length, for ever.
    let endless = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".as_slice(), &vec![b' '; huge]];
    setting.fake.set("/v2/web/manifests/1", [Reply::Raw(endless.concat())]);
    setting.refuses(&["is larger than 4194304 bytes"]);
    let setting = Setting::new();
    // A blob that says how large it is, and is not.
    let blob = format!("/v2/web/blobs/{}", setting.envelope());
    let short = setting.fake.content(&setting.envelope());
    setting.fake.set(&blob, [full(200, "", [short.as_slice(), b"x"].concat())]);
    setting.refuses(&["is larger than"]);
    setting.fake.set(&blob, [full(200, "", &short[1..])]);
    setting.refuses(&["sent something else than"]);
    // And one that says it is larger than any.
    let manifest = setting.fake.content(&setting.artifact);
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"][0]["size"] = json!(65 << 20);
    let manifest = manifest.to_string();
    let digest = Digest::of(manifest.as_bytes());
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
        "size": manifest.len(), "artifactType": portcullis_registry::ARTIFACT,
    });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    setting.fake.set(&setting.referrers(), [full(200, INDEX, index)]);
    setting.fake.set(&format!("/v2/web/manifests/{digest}"), [full(200, MANIFEST, manifest)]);
    setting.fake.asked();
    setting.refuses(&["is larger than 67108864 bytes"]);
    assert!(!setting.fake.asked().iter().any(|head| head.contains(&blob)), "it was asked for");
}

#[test]
fn of_very_many_verdicts_some_are_read() {
    let setting = Setting::new();
    let entry = |n: u32| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&n.to_le_bytes()), "size": 1,
            "artifactType": portcullis_registry::ARTIFACT,
        })
    };
    let entries: Vec<Value> = (0..5_000).map(entry).collect();
    let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    setting.fake.set(&setting.referrers(), [full(200, INDEX, index)]);
    setting.refuses(&["is refused", "is not there"]);
    let asked = setting.fake.asked();
    assert!(asked.len() < 25, "{} requests", asked.len());
}

#[test]
fn who_dawdles_is_waited_for_until_the_time_is_up() {
    let mut setting = Setting::new();
    setting.node.patience = Duration::from_millis(700);
    let manifest = "/v2/web/manifests/1";
    for silence in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200 OK\r\nX: "] {
        setting.fake.set(manifest, [Reply::Silent(silence.into())]);
        setting.refuses(&["did not answer in time"]);
    }
    // Who asks to be waited for longer than there is time is not waited for.
    setting.node.patience = Duration::from_secs(30);
    let later = full(429, "Retry-After: 600\r\n", "{\"errors\":[{\"message\":\"too many\"}]}");
    setting.fake.set(manifest, [later]);
    setting.fake.asked();
    setting.refuses(&["answers 429", "(too many)"]);
    assert_eq!(setting.fake.asked().len(), 1);
}

#[test]
fn who_stumbles_is_asked_again() {
    let setting = Setting::new();
    let manifest = setting.fake.content(&setting.image.manifest);
    let good = full(200, MANIFEST, manifest);
    let begun = Instant::now();
    let again = full(503, "Retry-After: 1\r\n", "");
    setting.fake.set("/v2/web/manifests/1", [again, good.clone()]);
    setting.pull().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "it was not waited for");
    let broken = Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec());
    setting.fake.set("/v2/web/manifests/1", [broken, Reply::Raw(Vec::new()), good]);
    setting.pull().unwrap();
    setting.fake.set("/v2/web/manifests/1", [full(500, "", "oops")]);
    setting.fake.asked();
    setting.refuses(&["answers 500"]);
    assert_eq!(setting.fake.asked().len(), 3);
}

#[test]
fn a_page_that_is_no_api_is_not_taken_for_one() {
    let setting = Setting::new();
    // A web server before the registry answers everything, and the tag stands in.
    setting.fake.set(&setting.referrers(), [full(200, "Content-Type: text/html\r\n", "<html>")]);
    setting.refuses(&["nobody has pushed a verdict"]);
    let asked = setting.fake.asked();
    assert!(asked.iter().any(|head| head.contains("/manifests/sha256-")), "{asked:?}");
    setting.fake.set(&setting.referrers(), [full(200, INDEX, "<html>")]);
    setting.refuses(&["cannot be understood"]);
    let next = format!("{INDEX}Link: <http://127.0.0.1:9/x>; rel=\"next\"\r\n");
    setting.fake.set(&setting.referrers(), [full(200, &next, "{\"manifests\":[]}")]);
    setting.refuses(&["to another host for the rest"]);
}

#[test]
fn a_registry_that_is_not_there_says_so() {
    let node = Node::new(Logins::none());
    let told = said(node.pull("127.0.0.1:1/web:1", Belief::Anybody));
    assert_says(&told, &["127.0.0.1:1 cannot be reached", "nothing listens there"]);
}
