//! Which format a file has, told by its members and never by its name.
//!
//! Members of a JSON object may come in any order, so the file is gone through until the first
//! member that only one format has; in what scanners write that is within the first lines. The
//! reader of the format then begins anew and checks for itself.

use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::input::Bounded;
use crate::json::{Loose, Object, Title, check_start, json_error};
use crate::{Limits, ReportError};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Trivy,
    Grype,
    Sarif,
    CycloneDx,
    /// No report: what it is, and what to do with it.
    Other(&'static str, &'static str),
}

/// What to do with a list of packages.
pub(crate) const SCAN_IT: &str = "have it scanned (trivy sbom --format json FILE; \
     grype sbom:FILE -o json) and import what that says";

/// What to do with statements about vulnerabilities.
const TO_THE_VEX_FOLDER: &str = "it belongs into the VEX folder of this node, see portcullis vex";

/// Finds out which format a stream has.
///
/// # Errors
/// It cannot be read, is no JSON object, is broken before it is known, or is of no known format.
pub(crate) fn format(
    input: impl Read,
    file: &Path,
    limits: &Limits,
) -> Result<Format, ReportError> {
    let mut input = Bounded::new(input, limits.bytes);
    check_start(&mut input, file)?;
    let found = Cell::new(None);
    let mut json = serde_json::Deserializer::from_reader(&mut input);
    let read = json.deserialize_map(Members { found: &found });
    if let Some(format) = found.get() {
        return Ok(format);
    }
    if input.is_exhausted() {
        let (file, limit) = (file.to_owned(), limits.bytes);
        return Err(ReportError::TooLarge { file, size: None, limit });
    }
    read.map_err(|error| json_error(error, file))?;
    let what = "is JSON of an unknown kind".to_owned();
    Err(ReportError::UnknownFormat { file: file.to_owned(), what })
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Member {
    SchemaVersion,
    #[serde(rename = "matches")]
    Matches,
    #[serde(rename = "runs")]
    Runs,
    #[serde(rename = "bomFormat")]
    BomFormat,
    #[serde(rename = "spdxVersion")]
    SpdxVersion,
    #[serde(rename = "artifactRelationships")]
    ArtifactRelationships,
    #[serde(rename = "document")]
    Document,
    #[serde(rename = "@context")]
    Context,
    #[serde(other)]
    Other,
}

/// The head of a CSAF document (CSAF 2.0, section 3.2.1).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    csaf_version: Loose<Title>,
}

struct Members<'c> {
    found: &'c Cell<Option<Format>>,
}

impl Members<'_> {
    fn found<E: serde::de::Error>(&self, format: Format) -> Result<(), E> {
        self.found.set(Some(format));
        // Nothing more needs to be read.
        Err(E::custom("known"))
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key()? {
            match member {
                Member::SchemaVersion => return self.found(Format::Trivy),
                Member::Matches => return self.found(Format::Grype),
                Member::Runs => return self.found(Format::Sarif),
                Member::BomFormat => match map.next_value::<Loose<Title>>()?.0 {
                    Some(Title(name)) if name == "CycloneDX" => {
                        return self.found(Format::CycloneDx);
                    }
                    _ => return Err(A::Error::custom("a bomFormat that is not CycloneDX")),
                },
                Member::SpdxVersion => {
                    return self.found(Format::Other("an SPDX inventory", SCAN_IT));
                }
                Member::ArtifactRelationships => {
                    return self.found(Format::Other("an inventory of Syft's", SCAN_IT));
                }
                Member::Document => {
                    let document = map.next_value::<Object<Document>>()?.fields();
                    if document.is_some_and(|d| d.csaf_version.0.is_some()) {
                        let csaf = Format::Other("a CSAF document", TO_THE_VEX_FOLDER);
                        return self.found(csaf);
                    }
                }
                Member::Context => match map.next_value::<Loose<Title>>()?.0 {
                    Some(Title(url)) if url.contains("openvex") => {
                        let vex = Format::Other("an OpenVEX document", TO_THE_VEX_FOLDER);
                        return self.found(vex);
                    }
                    Some(Title(url)) if url.contains("spdx") => {
                        return self.found(Format::Other("an SPDX inventory", SCAN_IT));
                    }
                    _ => {}
                },
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}
