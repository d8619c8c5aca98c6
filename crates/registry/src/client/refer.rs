//! What refers to an image: the referrers API, and the tag that stands in for it (distribution
//! specification 1.1, "Listing Referrers", "Referrers Tag Schema").
//!
//! The tag is a list that everybody reads, changes and writes as a whole, and registries have no way
//! to do that at once. So whoever writes looks again, later than another who read before could still
//! write, and writes once more if he was lost.

use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_types::Digest;
use serde_json::{Value, json};
use ureq::http::StatusCode;
use ureq::http::header::{ACCEPT, LINK};

use super::{Repository, media_type};
use crate::artifact::CREATED;
use crate::document::{Descriptor, MAX_DOCUMENT, OCI_INDEX, referrers, told};
use crate::error::RegistryError;

/// Most pages of a list.
const MAX_PAGES: usize = 8;
/// How often the tag is written.
const TRIES: u32 = 12;
/// How long is waited at least before one looks again, and how many times the time that reading and
/// writing took: whoever read before we wrote has most likely written by then.
const SETTLES: Duration = Duration::from_millis(250);
const SETTLES_TIMES: u32 = 4;
/// How long before a tag that is not there is believed not to be there: a registry may be writing it.
const ABSENT: Duration = Duration::from_millis(50);
/// Most entries of a kind that stay in the list; the oldest go.
const MAX_KEPT: usize = 32;

impl Repository<'_> {
    /// The artifacts of a type that refer to the document with this digest.
    pub(crate) fn referrers(
        &self,
        subject: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let what = format!("what refers to {}@{subject}", self.path);
        let malformed = |why| RegistryError::Malformed { what: what.clone(), why };
        let url = self.url(&["referrers", &subject.to_string()])?;
        let mut url = url
            .with_query(&[("artifactType", artifact_type)])
            .map_err(|source| self.address(source))?;
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let answer = self.get_at(url.clone(), &[(ACCEPT, OCI_INDEX)], MAX_DOCUMENT, &what)?;
            let is_index = answer.status == StatusCode::OK && media_type(&answer) == OCI_INDEX;
            match answer.status {
                _ if is_index => {}
                // There is no such thing at this registry: a proxy or a page of its own may answer.
                StatusCode::OK | StatusCode::NOT_FOUND if page == 0 => {
                    return self.referrers_by_tag(subject, artifact_type);
                }
                _ => return Err(self.status(&answer, &what)),
            }
            found.extend(referrers(&answer.body, artifact_type).map_err(malformed)?);
            let Some(next) = answer.header(LINK).and_then(next) else { break };
            let next = answer.url.join(next).map_err(|source| self.address(source))?;
            if !next.is_at_the_same_host(&url) {
                return Err(self.redirect("to another host for the rest of a list"));
            }
            url = next;
        }
        Ok(found)
    }

    fn referrers_by_tag(
        &self,
        subject: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let tag = tag(subject);
        let Some((bytes, _)) = self.manifest(&tag)? else { return Ok(Vec::new()) };
        referrers(&bytes, artifact_type)
            .map_err(|why| RegistryError::Malformed { what: format!("{}:{tag}", self.path), why })
    }

    /// Puts an entry into the list by tag of what refers to a document.
    pub(crate) fn refer(&self, subject: &Digest, entry: &Descriptor) -> Result<(), RegistryError> {
        let tag = tag(subject);
        for attempt in 0..TRIES {
            let begun = Instant::now();
            let mut index = self.index_at(&tag)?;
            if !add(&mut index, entry) {
                return Ok(());
            }
            let bytes = index.to_string().into_bytes();
            if bytes.len() > MAX_DOCUMENT {
                let what = format!("{}:{tag}", self.path);
                return Err(RegistryError::TooLarge { what, most: MAX_DOCUMENT });
            }
            self.put_manifest(&tag, OCI_INDEX, &bytes)?;
            // Those who write at once must not do so in step: each waits as its content has it.
            let own = u32::from_str_radix(&entry.digest.hex()[..2], 16).unwrap_or(0);
            let own = Duration::from_millis(u64::from(own * (attempt + 1)));
            let wait = (begun.elapsed() * SETTLES_TIMES).max(SETTLES) + own;
            if wait >= self.until.saturating_duration_since(Instant::now()) {
                return Err(RegistryError::Deadline(self.host.clone()));
            }
            sleep(wait);
        }
        Err(RegistryError::Contended(tag))
    }

    /// The list at a tag, or an empty one.
    fn index_at(&self, tag: &str) -> Result<Value, RegistryError> {
        let mut found = self.manifest(tag)?;
        if found.is_none() {
            sleep(ABSENT);
            found = self.manifest(tag)?;
        }
        let Some((bytes, _)) = found else {
            return Ok(json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }));
        };
        let malformed =
            |why: String| RegistryError::Malformed { what: format!("{}:{tag}", self.path), why };
        let index: Value = serde_json::from_slice(&bytes).map_err(|e| malformed(told(&e)))?;
        if !index["manifests"].is_array() {
            return Err(malformed("it is no index, and is left alone".to_owned()));
        }
        Ok(index)
    }
}

/// The tag at which a registry without the API has the list (`sha256-<digits>`).
fn tag(subject: &Digest) -> String {
    let mut tag = format!("{}-{}", subject.algorithm().as_str(), subject.hex());
    tag.truncate(128);
    tag
}

/// Adds an entry, if it is not there. Of the others nothing is lost, but of its own kind the oldest if
/// there are many.
fn add(index: &mut Value, entry: &Descriptor) -> bool {
    let Some(entries) = index["manifests"].as_array_mut() else { return false };
    let Ok(value) = serde_json::to_value(entry) else { return false };
    if entries.iter().any(|known| known["digest"] == value["digest"]) {
        return false;
    }
    entries.push(value.clone());
    let is_alike = |known: &Value| known["artifactType"] == value["artifactType"];
    let created = |known: &Value| known["annotations"][CREATED].as_str().map(ToOwned::to_owned);
    while entries.iter().filter(|known| is_alike(known)).count() > MAX_KEPT {
        let others = entries.iter().enumerate().filter(|(_, known)| is_alike(known));
        let others = others.filter(|(_, known)| known["digest"] != value["digest"]);
        let Some((oldest, _)) = others.min_by_key(|(_, known)| created(known)) else { break };
        entries.remove(oldest);
    }
    true
}

/// The next page of a list: `<address>; rel="next"` (RFC 8288).
fn next(link: &str) -> Option<&str> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then_some(address)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entry(n: u8, created: &str) -> Descriptor {
        Descriptor {
            media_type: "m".to_owned(),
            digest: Digest::sha256([n; 32]),
            size: 1,
            artifact_type: Some("a".to_owned()),
            annotations: BTreeMap::from([(CREATED.to_owned(), created.to_owned())]),
            platform: None,
        }
    }

    #[test]
    fn a_list_keeps_what_others_have_put_there() {
        let foreign = json!({ "digest": "x", "anything": [1, 2] });
        let mut index = json!({ "manifests": [foreign], "annotations": { "a": "b" } });
        assert!(add(&mut index, &entry(1, "2026-01-01T00:00:00Z")));
        assert!(!add(&mut index, &entry(1, "2026-01-01T00:00:00Z")));
        assert_eq!(index["manifests"][0], foreign);
        assert_eq!(index["annotations"], json!({ "a": "b" }));
        assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn of_many_the_oldest_go() {
        let mut index = json!({ "manifests": [{ "digest": "x", "artifactType": "other" }] });
        for n in 0..40 {
            let day = 39 - n;
            let created = format!("2026-01-{:02}T00:00:00Z", day % 28 + 1);
            assert!(add(&mut index, &entry(n, &created)));
            let kept = index["manifests"].as_array().unwrap();
            assert!(kept.iter().any(|e| e["digest"] == json!(Digest::sha256([n; 32]))));
        }
        let kept = index["manifests"].as_array().unwrap();
        assert_eq!(kept.len(), MAX_KEPT + 1);
        assert_eq!(kept[0]["artifactType"], "other");
    }

    #[test]
    fn a_list_may_go_on() {
        for (link, wanted) in [
            ("</v2/a/referrers/x?n=1>; rel=\"next\"", Some("/v2/a/referrers/x?n=1")),
            (" <b>;rel=next", Some("b")),
            ("<b>; rel=\"prev\"", None),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(next(link), wanted, "{link}");
        }
    }
}
