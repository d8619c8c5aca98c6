//! CycloneDX in JSON with analysed vulnerabilities (CycloneDX 1.4 and later, `vulnerabilities`).
//!
//! A vulnerability's analysis speaks of the component that the document is about, as the
//! capability's description says ("exploitability of a product's components"): so a component
//! within an image is that package in that image, and one within an application matches nothing,
//! since we cannot tell where that runs. Only a document that is about nothing itself speaks of
//! its components wherever they are.
//!
//! A reference is a `bom-ref`, a BOM-Link (`urn:cdx:serial/version#bom-ref`), or, as many tools
//! write it, a package URL; each may be percent-encoded.

use std::collections::HashMap;

use portcullis_types::{Purl, Text, VexImage, VexProduct, VexStatement, VexStatus};
use serde::Deserialize;

use super::json::{Note, Word, word};
use super::product::{Component, packages, product};
use super::{Draft, MAX_NOTE, VexError};
use crate::text::shortened;

#[derive(Debug, Deserialize)]
pub(super) struct Bom<'a> {
    #[serde(borrow, rename = "serialNumber")]
    serial_number: Option<Word<'a>>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    components: Option<Vec<Part<'a>>>,
    #[serde(borrow)]
    vulnerabilities: Option<Vec<Vulnerability<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    timestamp: Option<Word<'a>>,
    #[serde(borrow)]
    component: Option<Part<'a>>,
}

#[derive(Debug, Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "bom-ref")]
    bom_ref: Option<Word<'a>>,
    #[serde(borrow)]
    name: Option<Word<'a>>,
    #[serde(borrow)]
    purl: Option<Word<'a>>,
    #[serde(borrow)]
    hashes: Option<Vec<Hash<'a>>>,
    #[serde(borrow)]
    components: Option<Vec<Part<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Hash<'a> {
    #[serde(borrow)]
    alg: Option<Word<'a>>,
    #[serde(borrow)]
    content: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
struct Vulnerability<'a> {
    #[serde(borrow)]
    id: Option<Word<'a>>,
    #[serde(borrow)]
    references: Option<Vec<Reference<'a>>>,
    #[serde(borrow)]
    analysis: Option<Analysis<'a>>,
    #[serde(borrow)]
    affects: Option<Vec<Affected<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Reference<'a> {
    #[serde(borrow)]
    id: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Analysis<'a> {
    #[serde(borrow)]
    state: Option<Word<'a>>,
    justification: Option<Note>,
    detail: Option<Note>,
    #[serde(borrow)]
    first_issued: Option<Word<'a>>,
    #[serde(borrow)]
    last_updated: Option<Word<'a>>,
}

#[derive(Debug, Deserialize)]
struct Affected<'a> {
    #[serde(borrow, rename = "ref")]
    reference: Option<Word<'a>>,
    #[serde(borrow)]
    versions: Option<Vec<Version<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    version: Option<Word<'a>>,
}

/// Takes the statements of a document over.
pub(super) fn read(bom: Bom<'_>, draft: &mut Draft<'_>) -> Result<(), VexError> {
    let vulnerabilities = bom.vulnerabilities.as_deref().unwrap_or_default();
    if vulnerabilities.is_empty() {
        draft.warn("document", "it has no vulnerabilities");
    }
    let mut parts = Parts::of(&bom);
    let time = bom.metadata.as_ref().and_then(|metadata| word(&metadata.timestamp));
    for (index, vulnerability) in vulnerabilities.iter().enumerate() {
        let place = format!("vulnerability {}", index + 1);
        take(vulnerability, &place, time, &mut parts, draft)?;
    }
    Ok(())
}

fn take<'d>(
    vulnerability: &'d Vulnerability<'d>,
    place: &str,
    time: Option<&str>,
    parts: &mut Parts<'d>,
    draft: &mut Draft<'_>,
) -> Result<(), VexError> {
    let references = vulnerability.references.iter().flatten().filter_map(|r| word(&r.id));
    let ids = draft.ids(word(&vulnerability.id).into_iter().chain(references))?;
    let Some(analysis) = &vulnerability.analysis else {
        draft.warn(place, "it has no analysis: passed over");
        return Ok(());
    };
    if ids.is_empty() {
        draft.warn(place, "it has no id: passed over");
        return Ok(());
    }
    let state = word(&analysis.state).unwrap_or("none");
    let Some(status) = status(state) else {
        let state = shortened(state, 40);
        draft.warn(place, format_args!("the state \"{state}\" is not known: passed over"));
        return Ok(());
    };
    let affects = vulnerability.affects.as_deref().unwrap_or_default();
    draft.check_length("products of one statement", affects.len())?;
    let mut products = Vec::new();
    for affected in affects {
        draft.spend(1)?;
        products.extend(parts.product(affected, place, draft)?);
    }
    let note = analysis.justification.as_ref().or(analysis.detail.as_ref());
    let time = word(&analysis.last_updated).or(word(&analysis.first_issued)).or(time);
    let statement = VexStatement {
        source: draft.source(place),
        vulnerability: ids,
        status,
        justification: note.and_then(Note::shared),
        stated_at: draft.time(place, time),
        products,
    };
    draft.push(place, statement)
}

fn status(state: &str) -> Option<VexStatus> {
    Some(match state {
        "not_affected" | "false_positive" => VexStatus::NotAffected,
        "resolved" | "resolved_with_pedigree" => VexStatus::Fixed,
        "exploitable" => VexStatus::Affected,
        "in_triage" => VexStatus::UnderInvestigation,
        _ => return None,
    })
}

/// What references of a document lead to.
struct Parts<'d> {
    /// The document's serial number without `urn:uuid:`.
    serial: Option<&'d str>,
    /// What the document is about.
    whole: Option<&'d Part<'d>>,
    by_ref: HashMap<&'d str, &'d Part<'d>>,
    /// What was looked up before and names no versions of its own, so that repeated references
    /// share their texts and warn once.
    known: HashMap<&'d str, Option<VexProduct>>,
}

impl<'d> Parts<'d> {
    fn of(bom: &'d Bom<'d>) -> Self {
        let mut by_ref = HashMap::new();
        enter(&mut by_ref, bom.components.as_deref().unwrap_or_default());
        let whole = bom.metadata.as_ref().and_then(|metadata| metadata.component.as_ref());
        if let Some(whole) = whole {
            enter(&mut by_ref, std::slice::from_ref(whole));
        }
        let serial = word(&bom.serial_number).map(|s| s.strip_prefix("urn:uuid:").unwrap_or(s));
        Self { serial, whole, by_ref, known: HashMap::new() }
    }

    /// The product of an affected component; `None` if it is passed over.
    fn product(
        &mut self,
        affected: &'d Affected<'d>,
        place: &str,
        draft: &mut Draft<'_>,
    ) -> Result<Option<VexProduct>, VexError> {
        let Some(reference) = word(&affected.reference) else {
            draft.warn(place, "it affects something without a ref: passed over");
            return Ok(None);
        };
        let versions = affected.versions.as_deref().unwrap_or_default();
        if let (true, Some(known)) = (versions.is_empty(), self.known.get(reference)) {
            return Ok(known.clone());
        }
        draft.check_length("versions of one component", versions.len())?;
        draft.spend(versions.len())?;
        let (product, warnings) = self.look_up(reference, versions);
        for warning in warnings {
            draft.warn(place, warning);
        }
        if versions.is_empty() {
            self.known.insert(reference, product.clone());
        }
        Ok(product)
    }

    fn look_up(
        &self,
        reference: &str,
        versions: &[Version<'_>],
    ) -> (Option<VexProduct>, Vec<String>) {
        let decoded = decoded(reference);
        match [reference, &decoded].into_iter().find_map(|r| self.find(r)) {
            None => {
                let reference = shortened(reference, MAX_NOTE);
                (None, vec![format!("\"{reference}\" is not in the document: passed over")])
            }
            Some(Found::Part(part))
                if self.whole.is_some_and(|whole| std::ptr::eq(part, whole)) =>
            {
                let (product, warning) = product(&component(part), None);
                (product, warning.into_iter().collect())
            }
            Some(Found::Part(part)) => self.within(&component(part), versions),
            Some(Found::Purl(purl, Of::Another)) if self.whole.is_none() => {
                let name = shortened(reference, MAX_NOTE);
                let part = Component { id: Some(purl), ..Component::default() };
                let (packages, mut warnings) = packages(&[part]);
                warnings.push(format!(
                    "\"{name}\" is in another document, and in which image cannot be told: it \
                     matches nothing"
                ));
                let name = Some(name.into());
                (Some(VexProduct { name, image: VexImage::Named, packages }), warnings)
            }
            Some(Found::Purl(purl, _)) => {
                self.within(&Component { id: Some(purl), ..Component::default() }, versions)
            }
        }
    }

    /// A component within what the document is about. If that is nothing, the component is meant
    /// wherever it is, and may be an image itself.
    fn within(
        &self,
        part: &Component<'_>,
        versions: &[Version<'_>],
    ) -> (Option<VexProduct>, Vec<String>) {
        let (within, mut warnings) = packages(&[*part]);
        let within = at_versions(within, versions, &mut warnings);
        let (product, warning) = match self.whole {
            Some(whole) => product(&component(whole), Some(&within)),
            None if within.is_empty() && versions.is_empty() => {
                warnings.clear();
                product(part, None)
            }
            None => (of_packages(within), None),
        };
        warnings.extend(warning);
        (product, warnings)
    }

    fn find<'r>(&self, reference: &'r str) -> Option<Found<'d, 'r>> {
        if let Some(part) = self.by_ref.get(reference) {
            return Some(Found::Part(part));
        }
        let Some(link) = reference.strip_prefix("urn:cdx:") else {
            return is_purl(reference).then_some(Found::Purl(reference, Of::This));
        };
        let (bom, fragment) = link.split_once('#').unwrap_or((link, ""));
        let is_ours = self.serial.is_some() && bom.split('/').next() == self.serial;
        match (is_ours, fragment) {
            (true, "") => self.whole.map(Found::Part),
            (true, fragment) => self.by_ref.get(fragment).map(|part| Found::Part(part)),
            (false, fragment) => is_purl(fragment).then_some(Found::Purl(fragment, Of::Another)),
        }
    }
}

#[derive(Clone, Copy)]
enum Found<'d, 'r> {
    Part(&'d Part<'d>),
    /// A package URL.
    Purl(&'r str, Of),
}

/// Of which document something is.
#[derive(Clone, Copy)]
enum Of {
    This,
    Another,
}

fn is_purl(text: &str) -> bool {
    text.starts_with("pkg:")
}

fn of_packages(packages: Vec<Text>) -> Option<VexProduct> {
    let product = VexProduct { name: None, image: VexImage::Any, packages };
    product.is_checkable().then_some(product)
}

/// Packages without a version at the versions that are listed; ranges are passed over.
fn at_versions(
    packages: Vec<Text>,
    versions: &[Version<'_>],
    warnings: &mut Vec<String>,
) -> Vec<Text> {
    if versions.is_empty() || packages.iter().all(|purl| has_version(purl)) {
        return packages;
    }
    if versions.iter().any(|version| word(&version.version).is_none()) {
        warnings.push("a range of versions is not read: passed over".to_owned());
    }
    let versions = versions.iter().filter_map(|version| word(&version.version));
    let versions: Vec<_> = versions.collect();
    packages
        .iter()
        .flat_map(|purl| versions.iter().map(|version| with_version(purl, version)))
        .collect()
}

fn has_version(purl: &str) -> bool {
    Purl::parse(purl).is_ok_and(|purl| purl.version().is_some())
}

fn with_version(purl: &str, version: &str) -> Text {
    let end = purl.find(['?', '#']).unwrap_or(purl.len());
    let mut text = format!("{}@", &purl[..end]);
    for byte in version.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text.push_str(&purl[end..]);
    text.into()
}

/// Enters components; the parser's own limit bounds how deep these nest.
fn enter<'d>(by_ref: &mut HashMap<&'d str, &'d Part<'d>>, parts: &'d [Part<'d>]) {
    for part in parts {
        if let Some(reference) = word(&part.bom_ref) {
            by_ref.entry(reference).or_insert(part);
        }
        enter(by_ref, part.components.as_deref().unwrap_or_default());
    }
}

fn component<'c>(part: &'c Part<'_>) -> Component<'c> {
    let mut hashes = part.hashes.iter().flatten();
    let sha256 = hashes.find(|hash| word(&hash.alg) == Some("SHA-256"));
    Component {
        id: word(&part.name),
        purl: word(&part.purl),
        sha256: sha256.and_then(|hash| word(&hash.content)),
        is_range: false,
    }
}

/// Undoes percent-encoding (RFC 3986 section 2.1); what is no encoded character stays.
fn decoded(text: &str) -> String {
    let hex = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
        u8::from_str_radix(digits, 16).ok()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
