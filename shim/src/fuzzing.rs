//! Entry points for fuzzers, where types are private.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::args::Args;
use crate::bundle::Spec;
use crate::oci_args::{self, Line};
use crate::options::{self, RuntimeOptions};
use crate::{bootstrap, status};

/// What the wrapper makes of a runtime's arguments.
#[derive(Debug)]
pub enum Reading {
    /// It asks for this bundle (empty: the current folder) and id.
    Gates(String, String),
    /// It hands them on.
    Passes,
    /// It does neither.
    Refuses,
}

/// Reads a runtime's arguments.
pub fn arguments(line: &[&str]) -> Reading {
    let words: Vec<_> = line.iter().map(std::ffi::OsString::from).collect();
    match oci_args::read(&words) {
        Line::Pass(_) => Reading::Passes,
        Line::Unclear(_) => Reading::Refuses,
        Line::Creates(creation) => {
            let bundle = creation.bundle.unwrap_or_default().display().to_string();
            Reading::Gates(bundle, creation.id)
        }
    }
}

/// What the shim sees in a runtime specification.
#[derive(Debug)]
pub struct SpecSeen {
    /// Whose shim the container shares.
    pub group: String,
    /// Whether its processes outlive its init.
    pub shares_pid_namespace: bool,
}

/// Reads a `config.json`, of the container `id`; `None` if it is refused.
pub fn spec(json: &[u8], id: &str) -> Option<SpecSeen> {
    let spec: Spec = serde_json::from_slice(json).ok()?;
    Some(SpecSeen {
        group: spec.group(id).to_owned(),
        shares_pid_namespace: spec.shares_pid_namespace(),
    })
}

/// What `start` heard on stdin.
#[derive(Debug)]
pub struct Heard {
    /// By the new protocol.
    pub is_bootstrap: bool,
}

/// Hears `start`'s stdin for a container.
///
/// # Errors
/// Why it is refused, on one line.
pub fn hear(id: &str, namespace: &str, stdin: &[u8]) -> Result<Heard, String> {
    let args = Args { id: id.into(), namespace: namespace.into(), ..Args::default() };
    let is_bootstrap = bootstrap::understood(&args, stdin).map_err(|e| status::chain(&e))?;
    Ok(Heard { is_bootstrap })
}

/// Reads runtime options, and what was accepted once more from what is written of it. Says whether
/// they were accepted.
pub fn options(type_url: &str, value: &[u8]) -> bool {
    let any =
        |type_url: &str, value: Vec<u8>| Any { type_url: type_url.into(), value, ..Any::default() };
    let Ok(sent) = options::decode(Some(&any(type_url, value.to_vec()))) else { return false };
    let sent = sent.expect("an Any with a type holds options");
    let bytes = sent.write_to_bytes().expect("writing to memory does not fail");
    let again = options::decode(Some(&any("containerd.runc.v1.Options", bytes)));
    assert_eq!(again.expect("what was written is read").as_ref(), Some(&sent));
    let settings = portcullis_settings::Settings::default().runtime;
    let resolved = RuntimeOptions::resolve(Some(sent), &settings, "k8s.io", "/a");
    assert!(!resolved.binary.as_os_str().is_empty() && resolved.root.ends_with("k8s.io"));
    let json = serde_json::to_vec(&resolved).expect("options can be written");
    let kept: RuntimeOptions = serde_json::from_slice(&json).expect("what was kept is read");
    assert_eq!((kept.root, kept.binary), (resolved.root, resolved.binary));
    true
}
