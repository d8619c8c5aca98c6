//! A checked set of policies, and the bytes in which it is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_types::{Digest, Identity, Request, VexStatement};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::check::check;
use crate::decide::in_scope;
use crate::document::Spec;
use crate::index::RuleIndex;
use crate::{Fault, ProtectionPolicy, VexIndex};

/// Version of the published form. A door that does not know it refuses the set, rather than to
/// decide by half of it. Version 1 had no `vex`.
const VERSION: u32 = 2;
/// The oldest version that is read, so that an upgraded node goes on with the set it has.
const OLDEST: u32 = 1;

/// The policies in force on a node: checked, in order of their names, known by one digest.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySet {
    digest: Digest,
    policies: Vec<Policy>,
    vex: Arc<VexIndex>,
}

/// A checked policy, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    document: ProtectionPolicy,
    index: RuleIndex,
}

impl Policy {
    fn new(document: ProtectionPolicy) -> Self {
        Self { index: RuleIndex::new(&document.spec), document }
    }

    pub(crate) fn name(&self) -> &str {
        &self.document.metadata.name
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.document.spec
    }

    pub(crate) fn index(&self) -> &RuleIndex {
        &self.index
    }
}

/// Why published bytes are not a policy set.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// The bytes are not those that were published.
    #[error("the policy set was published as {expected}, its bytes are {found}")]
    Digest {
        /// By its name.
        expected: Digest,
        /// By its bytes.
        found: Digest,
    },
    /// A later Portcullis published it.
    #[error("the policy set has version {0}, this Portcullis reads {OLDEST} to {VERSION}")]
    Version(u32),
    /// It is not a policy set.
    #[error("the policy set cannot be read")]
    Read(#[source] serde_json::Error),
    /// Its documents have faults.
    #[error("the policy set has faults: {}", join(.0))]
    Faults(Vec<Fault>),
}

fn join(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[derive(Serialize)]
struct Writing<'a, P> {
    version: u32,
    policies: &'a [P],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    vex: &'a [VexStatement],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    version: u32,
    policies: Vec<ProtectionPolicy>,
    #[serde(default)]
    vex: Vec<VexStatement>,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

impl PolicySet {
    /// Checks the documents together. All faults come back together.
    pub fn compile(policies: Vec<ProtectionPolicy>) -> Result<Self, Vec<Fault>> {
        let policies = checked(policies)?;
        let digest = digest_of(&written(&policies, &[]));
        Ok(Self::new(digest, policies, Vec::new()))
    }

    /// The same set with the node's VEX statements, which every policy of it heeds.
    #[must_use]
    pub fn with_vex(mut self, statements: Vec<VexStatement>) -> Self {
        self.vex = Arc::new(VexIndex::new(statements));
        self.digest = digest_of(&self.published());
        self
    }

    /// The VEX statements of the set.
    pub fn vex(&self) -> &VexIndex {
        &self.vex
    }

    /// Reads what [`published`](Self::published) wrote, if it is what `expected` names.
    pub fn from_published(bytes: &[u8], expected: &Digest) -> Result<Self, PublishedError> {
        let found = digest_of(bytes);
        if found != *expected {
            return Err(PublishedError::Digest { expected: expected.clone(), found });
        }
        let read: Reading = match serde_json::from_slice(bytes) {
            Ok(read) => read,
            // A later version may have fields that fail first; the version is the better answer.
            Err(error) => {
                return Err(match serde_json::from_slice::<VersionOnly>(bytes) {
                    Ok(VersionOnly { version }) if !(OLDEST..=VERSION).contains(&version) => {
                        PublishedError::Version(version)
                    }
                    _ => PublishedError::Read(error),
                });
            }
        };
        if !(OLDEST..=VERSION).contains(&read.version) {
            return Err(PublishedError::Version(read.version));
        }
        // The digest is that of the bytes, so that an event names the file that decided.
        let policies = checked(read.policies).map_err(PublishedError::Faults)?;
        Ok(Self::new(found, policies, read.vex))
    }

    fn new(digest: Digest, policies: Vec<ProtectionPolicy>, vex: Vec<VexStatement>) -> Self {
        let policies = policies.into_iter().map(Policy::new).collect();
        Self { digest, policies, vex: Arc::new(VexIndex::new(vex)) }
    }

    /// The set as bytes: JSON, always the same for the same policies in any order.
    pub fn published(&self) -> Vec<u8> {
        let documents: Vec<&ProtectionPolicy> = self.policies().collect();
        written(&documents, self.vex.statements())
    }

    /// SHA-256 of the published bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The policies, in order of their names.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &ProtectionPolicy> {
        self.policies.iter().map(|policy| &policy.document)
    }

    pub(crate) fn ready(&self) -> &[Policy] {
        &self.policies
    }

    /// Whether a policy in scope wants an unscanned image scanned before the decision.
    pub fn wants_scan(&self, request: &Request, identity: &Identity) -> bool {
        self.policies().any(|policy| {
            policy.spec.unscanned.as_ref().is_some_and(|u| u.scan)
                && in_scope(&policy.spec.scope, request, identity)
        })
    }
}

/// The documents in order of their names, if nothing is wrong with them.
fn checked(mut policies: Vec<ProtectionPolicy>) -> Result<Vec<ProtectionPolicy>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in &policies {
        *names.entry(&policy.metadata.name).or_default() += 1;
        check(policy, &mut |path, message, remedy| {
            faults.push(Fault {
                place: None,
                policy: Some(policy.metadata.name.clone()),
                path: path.to_string(),
                message,
                remedy: remedy.to_owned(),
            });
        });
    }
    let doubled = names.iter().filter(|(_, count)| **count > 1);
    faults.extend(doubled.map(|(name, count)| Fault {
        place: None,
        policy: Some((*name).to_owned()),
        path: "metadata.name".to_owned(),
        message: format!("{count} policies have this name"),
        remedy: "give each policy its own".to_owned(),
    }));
    if !faults.is_empty() {
        return Err(faults);
    }
    policies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    Ok(policies)
}

fn written<P: Serialize>(policies: &[P], vex: &[VexStatement]) -> Vec<u8> {
    let writing = Writing { version: VERSION, policies, vex };
    let mut bytes = serde_json::to_vec(&writing)
        .expect("all keys are texts and writing to memory does not fail");
    bytes.push(b'\n');
    bytes
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, spec: &str) -> ProtectionPolicy {
        let json = format!(
            r#"{{"apiVersion":"portcullis.dev/v1alpha1","kind":"ProtectionPolicy",
                 "metadata":{{"name":"{name}"}},"spec":{spec}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    const BLOCK: &str = r#"{"rules":[{"class":"vulnerability","epss":0.1,"action":"block"}]}"#;

    #[test]
    fn the_published_form_is_read_back_and_does_not_depend_on_order() {
        let (a, b) = (policy("a", BLOCK), policy("b", "{}"));
        let set = PolicySet::compile(vec![b.clone(), a.clone()]).unwrap();
        let other = PolicySet::compile(vec![a, b]).unwrap();
        assert_eq!(set.published(), other.published());
        assert_eq!(PolicySet::from_published(&set.published(), set.digest()).unwrap(), set);
    }

    #[test]
    fn the_published_form_is_as_it_was() {
        let set = PolicySet::compile(vec![policy("a", BLOCK)]).unwrap();
        let wanted = concat!(
            r#"{"version":2,"policies":[{"apiVersion":"portcullis.dev/v1alpha1","#,
            r#""kind":"ProtectionPolicy","metadata":{"name":"a"},"#,
            r#""spec":{"rules":[{"class":"vulnerability","epss":0.1,"action":"block"}]}}]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(set.published()).unwrap(), wanted);
    }

    #[test]
    fn damage_is_seen() {
        let set = PolicySet::compile(vec![policy("a", BLOCK)]).unwrap();
        let bytes = set.published();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert!(matches!(
                PolicySet::from_published(&damaged, set.digest()),
                Err(PublishedError::Digest { .. })
            ));
        }
        assert!(PolicySet::from_published(&bytes[1..], set.digest()).is_err());
    }

    #[test]
    fn a_later_version_is_refused_by_its_number() {
        let bytes = br#"{"version":3,"policies":[],"more":true}"#;
        assert!(matches!(
            PolicySet::from_published(bytes, &digest_of(bytes)),
            Err(PublishedError::Version(3))
        ));
    }

    #[test]
    fn a_set_of_the_version_before_is_read() {
        let bytes = br#"{"version":1,"policies":[]}"#;
        let read = PolicySet::from_published(bytes, &digest_of(bytes)).unwrap();
        assert_eq!(*read.digest(), digest_of(bytes), "an event names the file that decided");
    }

    #[test]
    fn statements_are_published_with_the_policies() {
        let set = PolicySet::compile(vec![policy("a", BLOCK)]).unwrap();
        let statement = r#"[{"source":"a.json statement 1","vulnerability":["CVE-1"],
            "status":"not_affected","products":[{"packages":["pkg:deb/debian/a"]}]}]"#;
        let with = set.clone().with_vex(serde_json::from_str(statement).unwrap());
        assert_ne!(with.digest(), set.digest());
        let read = PolicySet::from_published(&with.published(), with.digest()).unwrap();
        assert_eq!(read, with);
        assert_eq!(read.vex().statements().len(), 1);
    }

    #[test]
    fn faults_of_all_policies_come_together() {
        let faults = PolicySet::compile(vec![
            policy("A b", r#"{"authorized":{"action":"block"}}"#),
            policy("c", r#"{"rules":[{"class":"malware","kev":true,"action":"block"}]}"#),
            policy("c", r#"{"scope":{"nodes":{}}}"#),
        ])
        .unwrap_err();
        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        for (fault, wanted) in shown.iter().zip([
            "policy A b: metadata.name: \"A b\" is not a name",
            "policy A b: spec.authorized: it asks for nothing",
            "policy c: spec.rules[0].kev: findings of class malware have no such value",
            "policy c: spec.scope.nodes: it names nothing",
            "policy c: metadata.name: 2 policies have this name",
        ]) {
            assert!(fault.starts_with(wanted), "{fault}");
        }
        assert_eq!(shown.len(), 5, "{shown:#?}");
    }
}
