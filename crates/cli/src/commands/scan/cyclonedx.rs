//! An image's packages, and what is known of them, as CycloneDX 1.6 (ECMA-424).

use std::collections::{BTreeMap, BTreeSet};

use portcullis_inventory::Distribution;
use portcullis_scan::Scanned;
use portcullis_types::{Class, Finding, Timestamp};
use serde_json::{Value, json};

use super::{Row, sources};

/// The document of one image.
pub(super) fn bom(row: &Row, scanned: &Scanned, now: Timestamp) -> Value {
    let distribution = Distribution::of(&scanned.merged);
    let words = distribution.as_ref().map(|d| (d.word.as_str(), d.release.as_str()));
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    for (path, package) in sources::packages(scanned) {
        let purl = package.purl(words);
        let place = match &package.within {
            Some(within) => format!("/{path}!{within}"),
            None => format!("/{path}"),
        };
        let component = components.entry(purl.clone()).or_insert_with(|| {
            json!({
                "type": "library",
                "bom-ref": purl,
                "name": package.name,
                "version": package.version,
                "purl": purl,
                "scope": if package.is_wish { "optional" } else { "required" },
                "evidence": { "occurrences": [] },
            })
        });
        if let Some(places) = component["evidence"]["occurrences"].as_array_mut()
            && places.len() < 100
        {
            places.push(json!({ "location": place }));
        }
    }
    if let Some(distribution) = &distribution {
        let name = distribution.name();
        components.insert(
            String::new(),
            json!({ "type": "operating-system", "bom-ref": name, "name": distribution.word, "version": distribution.release }),
        );
    }
    let mut vulnerabilities: BTreeMap<&str, (&Finding, BTreeSet<&str>)> = BTreeMap::new();
    let found = row.findings.iter().filter(|finding| finding.class == Class::Vulnerability);
    for finding in found {
        let (_, affects) = vulnerabilities.entry(&finding.id).or_insert((finding, BTreeSet::new()));
        affects.extend(finding.purl.as_deref());
    }
    let vulnerabilities = vulnerabilities.into_values().map(|(finding, affects)| {
        json!({
            "bom-ref": finding.id,
            "id": finding.id,
            "source": { "name": "OSV", "url": format!("https://osv.dev/vulnerability/{}", finding.id) },
            "ratings": [{ "severity": finding.severity, "score": finding.cvss }],
            "description": finding.title,
            "published": finding.published,
            "recommendation": finding.fixed_version.as_deref().map(|fixed| format!("update to {fixed}")),
            "affects": affects.into_iter().map(|purl| json!({ "ref": purl })).collect::<Vec<_>>(),
        })
    });
    let image = row.image.as_ref().map(ToString::to_string);
    let properties = |name: &str, value: &str| json!({ "name": name, "value": value });
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": now,
            "tools": { "components": [{ "type": "application", "name": "portcullis", "version": env!("CARGO_PKG_VERSION") }] },
            "component": {
                "type": "container",
                "bom-ref": image.as_deref().unwrap_or(&row.target),
                "name": row.references.iter().next().unwrap_or(&row.target),
                "version": scanned.image.manifests.iter().next(),
                "properties": image.iter().map(|image| properties("portcullis:ImageID", image)).collect::<Vec<_>>(),
            },
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "vulnerabilities": vulnerabilities.collect::<Vec<_>>(),
    })
}
