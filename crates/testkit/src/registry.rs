//! Registries on loopback: Debian's own, which has no referrers API, and one in memory that has it
//! and can be told to misbehave.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod fake;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_types::Digest;
use serde_json::{Value, json};

pub use fake::{Fake, Reply};

const PROGRAM: &str = "/usr/bin/docker-registry";
const PATIENCE: Duration = Duration::from_secs(30);

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The user and the password of a registry that wants them.
pub const LOGIN: (&str, &str) = ("user", "secret");
/// As `htpasswd -B` writes them, and as the header `Authorization` has them.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// Whether a registry asks who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It does not.
    Open,
    /// [`LOGIN`] is asked for.
    Login,
}

/// Debian's registry, in a folder of its own, until it is dropped.
pub struct DebianRegistry {
    /// Host and port.
    pub address: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl DebianRegistry {
    /// Starts one at a port that is free.
    pub fn start(access: Access) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is not there: apt-get install docker-registry, or integration/packages.sh"
        );
        // The port may be taken between the look and the start.
        (0..5).find_map(|_| Self::try_start(access)).expect("the registry starts")
    }

    fn try_start(access: Access) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "error", "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": folder.path().join("data") } },
            "http": { "addr": address },
        });
        if access == Access::Login {
            let file = folder.path().join("htpasswd");
            fs::write(&file, HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": file } });
        }
        // JSON is YAML.
        let file = folder.path().join("config.yml");
        fs::write(&file, config.to_string()).unwrap();
        let child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&file)
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { address, child, _folder: folder };
        let begun = Instant::now();
        while registry.child.try_wait().unwrap().is_none() {
            if let Ok(answer) = ask(&registry.address, "GET", "/v2/", &[], b"") {
                // A sibling could have got the port.
                return (answer.status == 200).then_some(registry);
            }
            assert!(begun.elapsed() < PATIENCE, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    head: String,
    /// What it holds.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Asks a server something, in a connection of its own.
///
/// # Errors
/// There is no answer.
pub fn ask(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!(
        "{method} {target} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\nAuthorization: {BASIC}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(invalid)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(invalid)?;
    Ok(Answer { status, head, body: answer.split_off(end + 4) })
}

/// An image at a registry.
#[derive(Debug, Clone)]
pub struct PushedImage {
    /// Its configuration.
    pub config: Digest,
    /// Its layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// Its manifest.
    pub manifest: Digest,
}

/// Puts an image of this platform with one small layer into a repository, and gives it a tag.
pub fn push_image(
    address: &str,
    repository: &str,
    tag: &str,
    architecture: &str,
    content: &str,
) -> PushedImage {
    let layer = content.as_bytes();
    let diff_ids = vec![Digest::of(layer)];
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string();
    let described = |media_type: &str, bytes: &[u8]| {
        push_blob(address, repository, bytes);
        json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": described("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [described("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    let manifest = push_document(address, repository, tag, OCI_MANIFEST, &manifest);
    PushedImage { config: Digest::of(config.as_bytes()), diff_ids, manifest }
}

/// Puts an index of images of these architectures into a repository.
pub fn push_index(
    address: &str,
    repository: &str,
    tag: &str,
    images: &[(&str, &PushedImage)],
) -> Digest {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            let target = format!("/v2/{repository}/manifests/{}", image.manifest);
            let found = ask(address, "GET", &target, &[("Accept", OCI_MANIFEST)], b"").unwrap();
            json!({
                "mediaType": OCI_MANIFEST, "digest": image.manifest, "size": found.body.len(),
                "platform": { "os": "linux", "architecture": architecture },
            })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    push_document(address, repository, tag, OCI_INDEX, &index)
}

/// Puts a manifest or an index into a repository.
pub fn push_document(
    address: &str,
    repository: &str,
    tag: &str,
    media_type: &str,
    document: &Value,
) -> Digest {
    let bytes = document.to_string();
    let target = format!("/v2/{repository}/manifests/{tag}");
    let headers = [("Content-Type", media_type)];
    let answer = ask(address, "PUT", &target, &headers, bytes.as_bytes()).unwrap();
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    Digest::of(bytes.as_bytes())
}

/// Puts bytes into a repository.
pub fn push_blob(address: &str, repository: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let begun =
        ask(address, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").unwrap();
    assert_eq!(begun.status, 202, "{begun:?}");
    let place = begun.header("Location").unwrap();
    let place = place.strip_prefix(&format!("http://{address}")).unwrap_or(place);
    let joint = if place.contains('?') { '&' } else { '?' };
    let put = ask(address, "PUT", &format!("{place}{joint}digest={digest}"), &[], bytes).unwrap();
    assert_eq!(put.status, 201, "{put:?}");
    digest
}

/// Writes [`LOGIN`] for a registry into a file that only its owner may read, as `podman login` does.
pub fn write_login(file: &Path, address: &str) -> PathBuf {
    let auth = BASIC.trim_start_matches("Basic ");
    let text = json!({ "auths": { address: { "auth": auth } } }).to_string();
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_owned()
}
