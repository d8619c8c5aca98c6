//! `config.json`: the workload's reader and the shim's own.

use portcullis_types::{Class, Finding};
use portcullis_workload::{findings, item};
use serde_json::Value;

use crate::text::{printable, told};

/// What `portcullis_workload::findings` promises.
const MOST_FINDINGS: usize = 256;
const MOST_TEXT: usize = 512;

/// An OCI runtime specification.
///
/// Accepted: findings are bounded, known, printable, in order and each once; and what a plain
/// JSON reader makes of the document leads to the same ones. The shim's reader finds the same
/// annotations and namespaces as a plain JSON reader.
pub fn config_json(data: &[u8]) -> bool {
    let plain: Option<Value> = serde_json::from_slice(data).ok();
    if let Some(spec) = portcullis_shim::fuzzing::spec(data, "id") {
        plain.iter().for_each(|plain| shim_agrees(plain, &spec));
    }
    match findings(data) {
        Err(error) => {
            told(&error);
            false
        }
        Ok(found) => {
            found.iter().for_each(bounded);
            assert!(found.len() <= MOST_FINDINGS, "{} findings", found.len());
            assert!(found.is_sorted_by(|a, b| a.key() < b.key()), "not in order: {found:?}");
            if let Some(plain) = plain {
                read_again(&plain, &found);
            }
            true
        }
    }
}

fn bounded(finding: &Finding) {
    assert_eq!(finding.class, Class::Workload);
    assert!(item(&finding.id).is_some(), "{} is not in the list of items", finding.id);
    for text in finding.path.iter().chain(&finding.title) {
        printable("a finding's text", text, MOST_TEXT);
    }
}

/// A document that was accepted means the same once a plain reader has written it anew: no member
/// stands twice, or is taken from another spelling. Maps with names of any kind keep the last of
/// several entries then, so there something may be missing, and never something new.
fn read_again(plain: &Value, found: &[Finding]) {
    let again = serde_json::to_vec(plain).expect("a value can be written");
    let again = findings(&again).expect("what was accepted is accepted again");
    for finding in &again {
        assert!(found.contains(finding), "only a plain reader leads to {finding:?}");
    }
}

fn shim_agrees(plain: &Value, spec: &portcullis_shim::fuzzing::SpecSeen) {
    // serde reads a list as an object's members in order; no runtime does, and such a bundle ends
    // at the runtime.
    let Some(document) = plain.as_object() else { return };
    let linux = document.get("linux");
    if linux.is_some_and(|linux| !linux.is_object()) {
        return;
    }
    let annotations = document.get("annotations");
    let text = |key: &str| annotations.and_then(|a| a.get(key)).and_then(Value::as_str);
    let keys = annotations.and_then(Value::as_object).into_iter().flatten();
    let group = match keys.into_iter().any(|(key, _)| key.starts_with("io.kubernetes.cri.")) {
        true => text("io.kubernetes.cri.sandbox-id"),
        false => text("io.containerd.runc.v2.group"),
    };
    assert_eq!(spec.group, group.unwrap_or("id"));
    let namespaces = linux.and_then(|l| l.get("namespaces")).and_then(Value::as_array);
    let of_its_own =
        namespaces.into_iter().flatten().filter(|n| n.is_object()).any(|n| {
            n["type"] == "pid" && n.get("path").is_none_or(|path| path.as_str() == Some(""))
        });
    if namespaces.is_none_or(|all| all.iter().all(Value::is_object)) {
        assert_eq!(spec.shares_pid_namespace, !of_its_own);
    }
}
