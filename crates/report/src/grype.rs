//! Grype's JSON (anchore/grype `grype/presenter/models/`, `grype -o json`).
//!
//! What such a report says of its own coverage:
//!
//! - Grype looks for vulnerabilities only, and always.
//! - It lists no packages but those that match, so an ecosystem is known to be covered only where
//!   something was found in it.
//! - It names the distribution whether or not its database has advisories for it. The database's
//!   providers tell that; where they are not listed (before Grype 0.87), the distributions that
//!   any database had are taken as covered.
//!
//! What Grype was told to ignore (`ignoredMatches`) is not imported and makes a warning, since the
//! two cannot be told from what Grype sets aside itself, as a match that a distribution has mended.

mod json;

use std::io::Read;
use std::path::Path;

use portcullis_types::{Class, Coverage, Digest, Finding, Named, preferred};

use self::json::{
    Artifact, Database, Descriptor, Distro, ImageConfig, Match, Rated, Report, Source, Target,
};
use crate::draft::{Dates, Draft, relative};
use crate::json::{Base64, Keys, Object, Text, Title, some, title};
use crate::purl::Purl;
use crate::{Imported, Limits, ReportError, ReportImage, ecosystem};

const NAME: &str = "grype";

/// Distributions that Grype's databases of every age have advisories for.
const ALWAYS_COVERED: &[&str] = &[
    "alpine",
    "amazon",
    "centos",
    "chainguard",
    "debian",
    "oracle",
    "redhat",
    "sles",
    "ubuntu",
    "wolfi",
];

/// Reads a report; `file` is for messages.
pub(crate) fn read(
    input: impl Read,
    file: &Path,
    limits: &Limits,
) -> Result<Imported, ReportError> {
    let report: Report = crate::json::read(input, file, limits)?;
    let unknown = |what: &str| {
        Err(ReportError::UnknownFormat { file: file.to_owned(), what: what.to_owned() })
    };
    let Some(descriptor) = report.descriptor.fields() else {
        return unknown("has matches and no descriptor");
    };
    if descriptor.name.0.as_ref().is_none_or(|Title(name)| name != NAME) {
        return unknown("has matches, and its descriptor does not name grype");
    }
    let Some(matches) = report.matches else {
        return unknown("has no matches");
    };
    let mut draft = Draft::new(file, NAME, limits);
    if report.ignored.0 > 0 {
        let ignored = report.ignored.0;
        draft.warn(format!(
            "{ignored} matches are not imported, since Grype was told to ignore them or sets them \
             aside itself (ignoredMatches): what does not count belongs into a policy's exceptions"
        ));
    }
    let image = image(&mut draft, report.source)?;
    let mut coverage = coverage(report.distro, descriptor.db.get());
    coverage.end_of_life = report.alerts.unwrap_or_default().iter().any(|a| a.end_of_life);
    for (number, entry) in matches.into_iter().enumerate() {
        finding(&mut draft, number, entry, &mut coverage)?;
    }
    let dates = dates(&mut draft, &descriptor);
    Ok(draft.finish(title(descriptor.version), image, dates, coverage))
}

fn finding(
    draft: &mut Draft<'_>,
    number: usize,
    entry: Match,
    coverage: &mut Coverage,
) -> Result<(), ReportError> {
    let place = || format!("matches[{number}].vulnerability");
    let own = draft.needed(entry.id.as_ref(), "id", place)?;
    let Named { ids, aliases } = preferred(own, entry.related.iter().cloned());
    let rated: Vec<Rated> = ids.iter().map(|id| entry.rated(id)).collect();
    let ids: Vec<_> = ids.iter().map(|id| draft.share(id)).collect();
    let severity = draft.severity(some(entry.severity.as_ref()));
    let fixed_on: Vec<_> =
        entry.fixed_on.iter().filter_map(|day| draft.time("fix.available.date", day)).collect();
    let Artifact { name, version, kind, path, purl } = entry.artifact;
    let kind = some(kind.as_ref()).unwrap_or_default();
    let name = some(name.as_ref()).unwrap_or_default();
    let parsed = some(purl.as_ref()).and_then(Purl::parse);
    let distribution = coverage.distribution.as_deref().and_then(|d| d.split(' ').next());
    let word = ecosystem::of_package(kind, parsed.as_ref(), distribution);
    coverage.ecosystems.extend(word.filter(|word| !coverage.uncovered.contains(word)));
    let path = some(path.as_ref()).filter(|_| !ecosystem::is_of_distribution(kind));
    let version = some(version.as_ref()).map(|v| ecosystem::package_version(name, kind, v));
    let finding = Finding {
        aliases: draft.shared_all(aliases),
        package: draft.shared(Some(&ecosystem::package_name(name, parsed.as_ref()))),
        version: draft.shared(version.as_deref()),
        fixed_version: draft.shared(Some(&entry.fixed_in.join(", "))),
        path: draft.shared(path.map(relative)),
        purl: draft.shared(some(purl.as_ref())),
        title: draft.shared(entry.title.as_deref()),
        fixed: fixed_on.into_iter().min(),
        ..draft.finding(Class::Vulnerability, own, severity)
    };
    draft.push_all(ids.into_iter().zip(rated).map(|(id, rated)| Finding {
        id,
        cvss: rated.cvss,
        epss: rated.epss,
        kev: rated.known_exploited,
        ..finding.clone()
    }))
}

fn dates(draft: &mut Draft<'_>, descriptor: &Descriptor) -> Dates {
    let mut time = |field: &str, text: Option<&Title>| {
        let text = text.map(|Title(text)| text).filter(|t| !t.is_empty())?;
        draft.time(field, text)
    };
    let database = descriptor.db.get();
    let status = database.and_then(|db| db.status.get()).and_then(|s| s.built.0.as_ref());
    let built = status.or_else(|| database.and_then(|db| db.built.0.as_ref()));
    Dates {
        created_at: time("descriptor.timestamp", descriptor.timestamp.0.as_ref()),
        database_at: time("descriptor.db.built", built),
    }
}

fn coverage(distro: Object<Distro>, database: Option<&Database>) -> Coverage {
    let mut coverage = Coverage { classes: [Class::Vulnerability].into(), ..Coverage::default() };
    let distro = distro.fields().unwrap_or_default();
    let Some(name) = some(distro.name.as_ref()) else {
        return coverage;
    };
    let family = ecosystem::distribution(name);
    coverage.distribution = Some(match some(distro.version.0.as_ref()) {
        Some(version) => format!("{family} {version}"),
        None => family.clone(),
    });
    let providers = database.and_then(|db| db.providers.0.as_ref());
    let has_advisories = match providers {
        Some(Keys(providers)) if !providers.is_empty() => ecosystem::grype_provider(name)
            .is_some_and(|wanted| providers.iter().any(|Text(provider)| provider == wanted)),
        _ => ALWAYS_COVERED.contains(&family.as_str()),
    };
    let list = if has_advisories { &mut coverage.ecosystems } else { &mut coverage.uncovered };
    list.insert(family);
    coverage
}

fn image(draft: &mut Draft<'_>, source: Object<Source>) -> Result<ReportImage, ReportError> {
    let source = source.fields().unwrap_or_default();
    let is_image = source.kind.0.is_some_and(|Title(kind)| kind == "image");
    let Some(target) = source.target.fields().filter(|_| is_image) else {
        return Ok(ReportImage::default());
    };
    let config = some(target.image_id.as_ref())
        .map(|id| draft.digest("source.target.imageID", id))
        .transpose()?;
    let manifest = some(target.manifest_digest.as_ref())
        .map(|digest| draft.digest("source.target.manifestDigest", digest))
        .transpose()?;
    let diff_ids = diff_ids(draft, &target, config.as_ref())?;
    Ok(ReportImage {
        config,
        repo_digests: draft.references("source.target.repoDigests", &target.repo_digests),
        manifests: manifest.into_iter().collect(),
        diff_ids,
        references: draft.references("source.target.tags", &target.tags).into_iter().collect(),
    })
}

/// The layers, as the list of them and the image's configuration both name them.
fn diff_ids(
    draft: &mut Draft<'_>,
    target: &Target,
    config: Option<&Digest>,
) -> Result<Vec<Digest>, ReportError> {
    let layers = target.layers.0.iter().filter_map(|layer| some(layer.digest.as_ref()));
    let layers = layers
        .map(|digest| draft.digest("source.target.layers", digest))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(Base64(bytes)) = &target.config.0 else {
        return Ok(layers);
    };
    if config.is_some_and(|config| *config != Digest::of(bytes)) {
        draft.warn("source.target.config is not the configuration that imageID names: passed over");
        return Ok(layers);
    }
    let parsed: ImageConfig = serde_json::from_slice(bytes).unwrap_or_default();
    let rootfs = parsed.rootfs.fields().unwrap_or_default();
    let in_config = draft.digests("source.target.config.rootfs.diff_ids", &rootfs.diff_ids)?;
    if !layers.is_empty() && !in_config.is_empty() && layers != in_config {
        return Err(draft.contradiction(
            "source.target.layers and the diff_ids of source.target.config name different layers",
        ));
    }
    Ok(if layers.is_empty() { in_config } else { layers })
}

#[cfg(test)]
mod tests;
