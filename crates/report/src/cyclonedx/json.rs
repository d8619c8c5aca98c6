//! The part of CycloneDX that we read (ECMA-424; versions 1.2 to 1.7 in JSON), with the properties
//! that Trivy and Syft add (aquasecurity/trivy `pkg/sbom/cyclonedx/`, anchore/syft
//! `syft/format/common/cyclonedxhelpers/`).

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};

use crate::json::{
    Few, Kind, Loose, Object, Seed, Text, Title, base_score, budgeted, pass_list, plain,
    probability, some, title,
};
use crate::text::printable;

/// Most recommendations in one text that are kept.
const MAX_UPGRADES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Bom {
    pub(super) format: Loose<Title>,
    pub(super) spec_version: Loose<Title>,
    pub(super) metadata: Object<Metadata>,
    pub(super) components: Option<Vec<Component>>,
    pub(super) vulnerabilities: Option<Vec<Vulnerability>>,
}

budgeted! {
    Bom, "a CycloneDX document" {
        Format = "bomFormat" => format,
        SpecVersion = "specVersion" => spec_version,
        Metadata = "metadata" => metadata,
        Components = "components" => components [Seed::<Component>::new; entries],
        Vulnerabilities = "vulnerabilities"
            => vulnerabilities [Seed::<Vulnerability>::new; entries],
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) timestamp: Loose<Title>,
    pub(super) tools: Loose<Tool>,
    pub(super) component: Object<Root>,
}

/// The first tool: of a list (until 1.4), or of an object's `components` (from 1.5).
#[derive(Debug, Default)]
pub(super) struct Tool {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawTool {
    name: Loose<Title>,
    version: Loose<Title>,
}

impl Kind for Tool {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let first = list.next_element::<Object<RawTool>>()?;
        pass_list(list)?;
        let first = first.and_then(Object::fields);
        Ok(first.map(|raw| Self { name: title(raw.name), version: title(raw.version) }))
    }

    fn from_object<'de, A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Tools {
            components: Loose<Tool>,
        }
        let tools = Tools::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        Ok(tools.components.0)
    }
}

/// What was scanned.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Root {
    #[serde(rename = "type")]
    pub(super) kind: Loose<Title>,
    pub(super) version: Loose<Text>,
    pub(super) purl: Loose<Text>,
    pub(super) properties: Few<Object<Property>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Property {
    pub(super) name: Loose<Title>,
    pub(super) value: Loose<Text>,
}

#[derive(Debug, Default)]
pub(super) struct Component {
    pub(super) bom_ref: Option<Text>,
    pub(super) kind: Loose<Title>,
    pub(super) group: Loose<Text>,
    pub(super) name: Option<Text>,
    pub(super) version: Loose<Text>,
    pub(super) purl: Loose<Text>,
    pub(super) properties: Properties,
    /// What it holds.
    pub(super) components: Option<Vec<Component>>,
}

budgeted! {
    Component, "a component" {
        BomRef = "bom-ref" => bom_ref,
        Kind = "type" => kind,
        Group = "group" => group,
        Name = "name" => name,
        Version = "version" => version,
        Purl = "purl" => purl,
        Properties = "properties" => properties,
        Components = "components" => components [Seed::<Component>::new; entries],
    }
}

/// What scanners say of a package beside what CycloneDX has members for.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Few<Object<Property>>")]
pub(super) struct Properties {
    /// Where it lies.
    pub(super) path: Option<Text>,
    /// Trivy's type of it: `debian`, `gemspec`.
    pub(super) trivy_type: Option<Text>,
    /// Syft's type of it: `deb`, `gem`.
    pub(super) syft_type: Option<Text>,
}

impl From<Few<Object<Property>>> for Properties {
    fn from(properties: Few<Object<Property>>) -> Self {
        let mut read = Self::default();
        for Property { name, value } in properties.0.into_iter().filter_map(Object::fields) {
            let place = match name.0.as_ref().map(|Title(name)| name.as_str()) {
                Some("aquasecurity:trivy:FilePath" | "syft:location:0:path") => &mut read.path,
                Some("aquasecurity:trivy:PkgType" | "aquasecurity:trivy:Type") => {
                    &mut read.trivy_type
                }
                Some("syft:package:type") => &mut read.syft_type,
                _ => continue,
            };
            *place = place.take().or(value.0);
        }
        read
    }
}

#[derive(Debug, Default)]
pub(super) struct Vulnerability {
    pub(super) id: Option<Text>,
    pub(super) source: Object<Source>,
    pub(super) references: Option<Vec<Reference>>,
    pub(super) ratings: Option<Vec<Rating>>,
    pub(super) published: Loose<Title>,
    pub(super) description: Loose<Title>,
    pub(super) recommendation: Loose<Upgrades>,
    pub(super) analysis: Object<Analysis>,
    pub(super) affects: Option<Vec<Affected>>,
}

budgeted! {
    Vulnerability, "a vulnerability" {
        Id = "id" => id,
        Source = "source" => source,
        References = "references" => references [plain::<Reference>; details],
        Ratings = "ratings" => ratings [plain::<Rating>; details],
        Published = "published" => published,
        Description = "description" => description,
        Recommendation = "recommendation" => recommendation,
        Analysis = "analysis" => analysis,
        Affects = "affects" => affects [plain::<Affected>; findings],
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) name: Loose<Title>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reference {
    pub(super) id: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Analysis {
    pub(super) state: Loose<Title>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Affected {
    #[serde(rename = "ref")]
    pub(super) reference: Option<Text>,
}

/// What one source says of how bad a vulnerability is.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "RawRating")]
pub(super) struct Rating {
    pub(super) source: Option<String>,
    pub(super) severity: Option<String>,
    pub(super) scale: Scale,
}

/// What a rating's number means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Scale {
    #[default]
    None,
    /// A base score of CVSS 2, whose severities are others.
    Cvss2,
    Cvss3(f32),
    Cvss4(f32),
    Epss(f32),
    /// Listed as known to be exploited.
    Kev,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRating {
    source: Object<Source>,
    severity: Loose<Title>,
    score: Loose<f64>,
    method: Loose<Title>,
}

impl From<RawRating> for Rating {
    fn from(raw: RawRating) -> Self {
        let source = raw.source.fields().and_then(|source| title(source.name));
        let method = title(raw.method).unwrap_or_default();
        let cvss = || base_score(&raw.score);
        let scale = match (method.as_str(), source.as_deref()) {
            ("CVSSv2", _) => Some(Scale::Cvss2),
            ("CVSSv3" | "CVSSv31", _) => cvss().map(Scale::Cvss3),
            ("CVSSv4", _) => cvss().map(Scale::Cvss4),
            // Grype's way to say these two; its encoder writes the method as `other`.
            ("EPSS", _) | (_, Some("FIRST")) => probability(&raw.score).map(Scale::Epss),
            (_, Some("CISA KEV Catalog")) => Some(Scale::Kev),
            _ => None,
        };
        Self { source, severity: title(raw.severity), scale: scale.unwrap_or_default() }
    }
}

/// Trivy's recommendations: `Upgrade openssl to version 3.0.12; Upgrade …`, as package and
/// version.
#[derive(Debug, Default)]
pub(super) struct Upgrades(pub(super) Vec<(String, String)>);

impl Kind for Upgrades {
    fn from_text(text: &str) -> Option<Self> {
        let upgrades = text.split("; ").filter_map(|upgrade| {
            let (package, version) =
                upgrade.strip_prefix("Upgrade ")?.split_once(" to version ")?;
            Some((printable(package), printable(version.trim())))
        });
        Some(Self(upgrades.take(MAX_UPGRADES).collect()))
    }
}

impl Component {
    /// The name with its group in front, as package managers write it.
    pub(super) fn full_name(&self) -> Option<String> {
        let name = some(self.name.as_ref())?;
        let Some(group) = some(self.group.0.as_ref()) else {
            return Some(name.to_owned());
        };
        let purl = some(self.purl.0.as_ref()).unwrap_or_default();
        let between = if purl.starts_with("pkg:maven/") { ':' } else { '/' };
        Some(format!("{group}{between}{name}"))
    }
}
