//! CycloneDX in JSON, with vulnerabilities (ECMA-424), as Trivy, Grype and others write it.
//!
//! - One vulnerability that affects several components is a finding for each.
//! - A document without `vulnerabilities` is an inventory and is refused. One whose list is empty
//!   found nothing, but from a tool that writes the empty list also where it did not look
//!   ([`INVENTORIES`]) it covers no class: its silence means nothing.
//! - `analysis.state` is a statement (VEX), and statements count only from the node's VEX folder:
//!   what it would take out stays a finding, with a warning.
//! - Trivy sorts an image's diff IDs by their text, so the order of the layers, and with it their
//!   chain ID, is known only for a single one.
//! - A package of a lock file does not say in which: its path is unknown.
//! - Not told: the database's date, the end of a release's life, and which distribution had no
//!   advisories.

mod json;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use portcullis_types::{Class, Coverage, Finding, ImageRef, Named, Severity, preferred};

use self::json::{Bom, Component, Metadata, Property, Rating, Root, Scale, Vulnerability};
use crate::draft::{Dates, Draft, relative};
use crate::json::{Few, Names, Object, Text, Title, some, title};
use crate::purl::{Purl, unescaped};
use crate::{Imported, Limits, ReportError, ReportImage, detect, ecosystem};

/// Tools that write an empty list of vulnerabilities where they only listed packages.
const INVENTORIES: &[&str] = &["trivy", "cdxgen", "syft"];

/// What takes the place of a tool's name where none is told.
const UNNAMED: &str = "cyclonedx";

/// Reads a document; `file` is for messages.
pub(crate) fn read(
    input: impl Read,
    file: &Path,
    limits: &Limits,
) -> Result<Imported, ReportError> {
    let bom: Bom = crate::json::read(input, file, limits)?;
    let version = title(bom.spec_version).unwrap_or_default();
    if bom.format.0.is_none_or(|Title(format)| format != "CycloneDX") || !version.starts_with("1.")
    {
        let what = format!("is CycloneDX of the version \"{version}\", not 1.x");
        return Err(ReportError::UnknownFormat { file: file.to_owned(), what });
    }
    let Some(vulnerabilities) = bom.vulnerabilities else {
        return Err(ReportError::NotAReport {
            file: file.to_owned(),
            what: "a CycloneDX inventory (it has no vulnerabilities)",
            remedy: detect::SCAN_IT,
        });
    };
    let metadata = bom.metadata.fields().unwrap_or_default();
    let tool = metadata.tools.0.as_ref();
    let name = tool.and_then(|tool| tool.name.as_deref()).map(str::to_lowercase);
    let mut draft = Draft::new(file, name.as_deref().unwrap_or(UNNAMED), limits);
    if name.is_none() {
        draft.warn(format!("no scanner is named (metadata.tools): it is called {UNNAMED}"));
    }
    let version = tool.and_then(|tool| tool.version.clone());
    let components = Components::new(bom.components.unwrap_or_default());
    let looked = !vulnerabilities.is_empty()
        || name.as_deref().is_some_and(|name| !INVENTORIES.contains(&name));
    let coverage = if looked { components.coverage() } else { Coverage::default() };
    if !looked {
        draft.warn(
            "it lists no vulnerability, as it would if none were looked for (for Trivy: without \
             --scanners vuln): nothing is taken as covered",
        );
    }
    let image = image(&mut draft, &metadata)?;
    let mut importer = Importer { draft, components, excused: 0, unlisted: 0 };
    for (number, vulnerability) in vulnerabilities.into_iter().enumerate() {
        importer.vulnerability(number, vulnerability)?;
    }
    let mut draft = importer.finish();
    let created_at = title(metadata.timestamp);
    let created_at = created_at.and_then(|time| draft.time("metadata.timestamp", &time));
    Ok(draft.finish(version, image, Dates { created_at, database_at: None }, coverage))
}

/// The components, flat, found by their references.
struct Components {
    all: Vec<Component>,
    by_ref: HashMap<String, usize>,
}

impl Components {
    fn new(components: Vec<Component>) -> Self {
        let mut all = Vec::new();
        let mut waiting = components;
        // Their nesting is bounded by the parser's.
        while let Some(mut component) = waiting.pop() {
            waiting.extend(component.components.take().unwrap_or_default());
            all.push(component);
        }
        let refs = all.iter().enumerate();
        let by_ref = refs.filter_map(|(at, c)| Some((some(c.bom_ref.as_ref())?.to_owned(), at)));
        Self { by_ref: by_ref.collect(), all }
    }

    /// The component that a reference names, here or by a BOM-Link, `urn:cdx:…/1#ref`.
    fn get(&self, reference: &str) -> Option<&Component> {
        let linked = || {
            let (_, reference) = reference.strip_prefix("urn:cdx:")?.split_once('#')?;
            self.by_ref.get(&unescaped(reference))
        };
        self.by_ref.get(reference).or_else(linked).map(|&at| &self.all[at])
    }

    fn coverage(&self) -> Coverage {
        let mut coverage =
            Coverage { classes: [Class::Vulnerability].into(), ..Coverage::default() };
        let mut family = None;
        for component in &self.all {
            let is_os = component.kind.0.as_ref().is_some_and(|Title(k)| k == "operating-system");
            if let (true, Some(name)) = (is_os, some(component.name.as_ref())) {
                let name = ecosystem::distribution(name);
                coverage.distribution = Some(match some(component.version.0.as_ref()) {
                    Some(version) => format!("{name} {version}"),
                    None => name.clone(),
                });
                family = Some(name);
            }
        }
        for component in &self.all {
            let purl = some(component.purl.0.as_ref()).and_then(Purl::parse);
            let trivy = some(component.properties.trivy_type.as_ref()).map(ToOwned::to_owned);
            let kind = component.kind_of_package(purl.as_ref());
            let word = || ecosystem::of_package(kind.as_deref()?, purl.as_ref(), family.as_deref());
            coverage.ecosystems.extend(trivy.or_else(word));
        }
        coverage
    }
}

impl Component {
    /// The type of a package, Syft's or the package URL's.
    fn kind_of_package(&self, purl: Option<&Purl>) -> Option<String> {
        let syft = some(self.properties.syft_type.as_ref()).map(ToOwned::to_owned);
        syft.or_else(|| purl.map(|purl| purl.kind.clone()))
    }
}

/// A document on its way.
struct Importer<'a> {
    draft: Draft<'a>,
    components: Components,
    /// Findings that the document itself says do not count.
    excused: usize,
    /// Findings of components that it does not list.
    unlisted: usize,
}

impl<'a> Importer<'a> {
    fn vulnerability(
        &mut self,
        number: usize,
        vulnerability: Vulnerability,
    ) -> Result<(), ReportError> {
        let place = || format!("vulnerabilities[{number}]");
        let own = self.draft.needed(vulnerability.id.as_ref(), "id", place)?;
        let references = vulnerability.references.unwrap_or_default().into_iter();
        let others = references.filter_map(|reference| reference.id).map(|Text(id)| id);
        let Named { ids, aliases } = preferred(own, others);
        let source = vulnerability.source.fields().and_then(|source| title(source.name));
        let ratings = vulnerability.ratings.unwrap_or_default();
        let rated = chosen(&ratings, own, source.as_deref());
        let severity = match rated.and_then(|rating| rating.severity.as_deref()) {
            Some("none") => Severity::Low,
            word => self.draft.severity(word),
        };
        let published = title(vulnerability.published);
        let common = Finding {
            aliases: self.draft.shared_all(aliases),
            title: self.draft.shared(title(vulnerability.description).as_deref()),
            cvss: base_score(&ratings, rated),
            epss: ratings.iter().filter_map(Rating::epss).max_by(f32::total_cmp),
            kev: ratings.iter().any(|rating| rating.scale == Scale::Kev),
            published: published.and_then(|time| self.draft.time("published", &time)),
            ..self.draft.finding(Class::Vulnerability, own, severity)
        };
        let state = vulnerability.analysis.fields().and_then(|analysis| title(analysis.state));
        let excused = matches!(
            state.as_deref(),
            Some("not_affected" | "false_positive" | "resolved" | "resolved_with_pedigree")
        );
        let upgrades = vulnerability.recommendation.0.unwrap_or_default().0;
        let affected = vulnerability.affects.unwrap_or_default();
        self.excused += if excused { affected.len().max(1) } else { 0 };
        if affected.is_empty() {
            return self.push(common, &ids);
        }
        for reference in affected {
            let reference = some(reference.reference.as_ref()).unwrap_or_default().to_owned();
            let finding = self.affected(common.clone(), &reference, &upgrades);
            self.push(finding, &ids)?;
        }
        Ok(())
    }

    /// Keeps a finding under each of these ids.
    fn push(&mut self, finding: Finding, ids: &[String]) -> Result<(), ReportError> {
        let ids: Vec<_> = ids.iter().map(|id| self.draft.share(id)).collect();
        self.draft.push_all(ids.into_iter().map(|id| Finding { id, ..finding.clone() }))
    }

    /// The finding about one component.
    fn affected(
        &mut self,
        common: Finding,
        reference: &str,
        upgrades: &[(String, String)],
    ) -> Finding {
        let draft = &mut self.draft;
        let Some(component) = self.components.get(reference) else {
            self.unlisted += 1;
            // Many tools take the package URL as the reference.
            let Some(purl) = Purl::parse(reference) else {
                return common;
            };
            let name = ecosystem::package_name(&purl.name, Some(&purl));
            return Finding {
                package: draft.shared(Some(&name)),
                version: draft.shared(purl.version.as_deref()),
                purl: draft.shared(Some(reference)),
                ..common
            };
        };
        let purl_text = some(component.purl.0.as_ref());
        let purl = purl_text.and_then(Purl::parse);
        let kind = component.kind_of_package(purl.as_ref()).unwrap_or_default();
        let full_name = component.full_name().unwrap_or_default();
        let name = ecosystem::package_name(&full_name, purl.as_ref());
        let version = some(component.version.0.as_ref());
        let version = version.map(|v| ecosystem::package_version(&name, &kind, v));
        let path = some(component.properties.path.as_ref());
        let fixed = upgrades.iter().find(|(package, _)| {
            *package == name || Some(package.as_str()) == some(component.name.as_ref())
        });
        Finding {
            package: draft.shared(Some(&name)),
            version: draft.shared(version.as_deref()),
            fixed_version: draft.shared(fixed.map(|(_, version)| version.as_str())),
            path: draft
                .shared(path.filter(|_| !ecosystem::is_of_distribution(&kind)).map(relative)),
            purl: draft.shared(purl_text),
            ..common
        }
    }

    fn finish(mut self) -> Draft<'a> {
        if self.excused > 0 {
            let excused = self.excused;
            self.draft.warn(format!(
                "{excused} findings are imported although the document says that they do not \
                 count (analysis.state): statements count only from the VEX folder of this node, \
                 see portcullis vex"
            ));
        }
        if self.unlisted > 0 {
            let unlisted = self.unlisted;
            self.draft.warn(format!(
                "{unlisted} findings are about components that the document does not list"
            ));
        }
        self.draft
    }
}

impl Rating {
    fn is_from(&self, source: &str) -> bool {
        self.source.as_deref() == Some(source)
    }

    fn has_severity(&self) -> bool {
        self.severity.as_deref().is_some_and(|severity| severity != "unknown")
    }

    fn epss(&self) -> Option<f32> {
        match self.scale {
            Scale::Epss(probability) => Some(probability),
            _ => None,
        }
    }
}

/// The rating whose severity counts: as Trivy chooses, that of the vulnerability's own source, for
/// a GitHub advisory GitHub's, else the National Vulnerability Database's; else the worst.
fn chosen<'r>(ratings: &'r [Rating], id: &str, source: Option<&str>) -> Option<&'r Rating> {
    let ghsa = id.starts_with("GHSA-").then_some("ghsa");
    let with_severity = || ratings.iter().filter(|rating| rating.has_severity());
    // CVSS 2 knows no critical, so its word counts last.
    let of = |source: &str| {
        let own = || with_severity().filter(|rating| rating.is_from(source));
        own().find(|rating| rating.scale != Scale::Cvss2).or_else(|| own().next())
    };
    let named = [source, ghsa, Some("nvd")].into_iter().flatten().find_map(of);
    named.or_else(|| with_severity().min_by_key(|rating| rating.severity_word()))
}

impl Rating {
    fn severity_word(&self) -> Severity {
        Severity::from_scanner(self.severity.as_deref().unwrap_or_default())
    }
}

/// The base score of the source whose severity counts; if it gives none, the highest. Version 3
/// goes before 4.
fn base_score(ratings: &[Rating], chosen: Option<&Rating>) -> Option<f32> {
    let highest = |among: &dyn Fn(&&Rating) -> bool| {
        let of = |score: fn(Scale) -> Option<f32>| {
            let scores = ratings.iter().filter(among).filter_map(|rating| score(rating.scale));
            scores.max_by(f32::total_cmp)
        };
        of(|scale| if let Scale::Cvss3(score) = scale { Some(score) } else { None }).or_else(|| {
            of(|scale| if let Scale::Cvss4(score) = scale { Some(score) } else { None })
        })
    };
    let own = chosen.and_then(|chosen| highest(&|rating| rating.source == chosen.source));
    own.or_else(|| highest(&|_| true))
}

fn image(draft: &mut Draft<'_>, metadata: &Metadata) -> Result<ReportImage, ReportError> {
    let Some(root) = metadata.component.get() else {
        return Ok(ReportImage::default());
    };
    if root.kind.0.as_ref().is_none_or(|Title(kind)| kind != "container") {
        return Ok(ReportImage::default());
    }
    let ids = ["aquasecurity:trivy:ImageID", "portcullis:ImageID"];
    let config = ids.into_iter().find_map(|name| root.property(name).0.pop());
    let config = some(config.as_ref())
        .map(|id| draft.digest("metadata.component.properties (ImageID)", id))
        .transpose()?;
    let diff_ids = draft.digests(
        "metadata.component.properties (DiffID)",
        &root.property("aquasecurity:trivy:DiffID"),
    )?;
    let repo_digests =
        draft.references("RepoDigest", &root.property("aquasecurity:trivy:RepoDigest"));
    let references = draft.references("RepoTag", &root.property("aquasecurity:trivy:RepoTag"));
    let purl = some(root.purl.0.as_ref()).and_then(Purl::parse).filter(|purl| purl.kind == "oci");
    let manifest = purl.as_ref().and_then(|purl| purl.version.as_deref()?.parse().ok());
    let named = purl.and_then(|purl| named(&purl));
    // Syft and Grype give the manifest as the image's version.
    let version = some(root.version.0.as_ref()).and_then(|version| version.parse().ok());
    let mut manifests: Vec<_> = manifest.into_iter().chain(version).collect();
    manifests.sort_unstable();
    manifests.dedup();
    Ok(ReportImage {
        config,
        repo_digests: repo_digests.into_iter().chain(named).collect(),
        manifests,
        diff_ids: if diff_ids.len() == 1 { diff_ids } else { Vec::new() },
        references: references.into_iter().collect(),
    })
}

/// The reference that a package URL of an image is made of.
fn named(purl: &Purl) -> Option<ImageRef> {
    let repository = purl.repository_url.as_deref()?;
    let repository = repository.split_once("://").map_or(repository, |(_, rest)| rest);
    format!("{repository}@{}", purl.version.as_deref()?).parse().ok()
}

impl Root {
    /// The values of a property, in their order.
    fn property(&self, wanted: &str) -> Names {
        let properties = self.properties.0.iter().filter_map(Object::get);
        let is_wanted = |property: &&Property| {
            property.name.0.as_ref().is_some_and(|Title(name)| name == wanted)
        };
        Few(properties.filter(is_wanted).filter_map(|property| property.value.0.clone()).collect())
    }
}

#[cfg(test)]
mod tests;
