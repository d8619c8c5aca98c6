//! VEX statements: whether a product is affected by a vulnerability, as those who know it say.
//!
//! The serialised form is the published one: a door reads it beside the policies.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::finding::words;
use crate::{Digest, ImageRef, Text, Timestamp};

words! {
    /// What a statement says (OpenVEX specification, "Status Labels"; CSAF 2.0 section 3.2.3.9;
    /// CycloneDX `vulnerabilities[].analysis.state`).
    VexStatus, "a VEX status" {
        /// The vulnerability does not touch the product.
        NotAffected = "not_affected",
        /// It does.
        Affected = "affected",
        /// The product holds a fix.
        Fixed = "fixed",
        /// It is not known yet.
        UnderInvestigation = "under_investigation",
    }
}

impl VexStatus {
    /// Whether it takes the finding out of the count.
    pub const fn suppresses(self) -> bool {
        matches!(self, Self::NotAffected | Self::Fixed)
    }
}

/// One statement about one vulnerability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexStatement {
    /// Where it stands, for people: the file's name and the number of the statement.
    pub source: Text,
    /// Ids of the vulnerability: its name first, then its aliases.
    pub vulnerability: Vec<Text>,
    /// What is said.
    pub status: VexStatus,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<Text>,
    /// Since when it is said; of two statements about one finding the later counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::TimeSchema>"))]
    pub stated_at: Option<Timestamp>,
    /// Of what. A statement without a product says nothing.
    pub products: Vec<VexProduct>,
}

impl VexStatement {
    /// The statement without products that no image or package can be held against; `None` if
    /// none is left. What is published for doors leaves them out, and only `explain` shows them.
    pub fn checkable(&self) -> Option<Self> {
        let products: Vec<_> = self.products.iter().filter(|p| p.is_checkable()).cloned().collect();
        (!products.is_empty()).then(|| Self { products, ..self.clone() })
    }
}

/// What a statement is about: an image, packages of any image, or packages within an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexProduct {
    /// As the document writes it, for people, where that is not the package's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// In which image.
    #[serde(default, skip_serializing_if = "VexImage::is_any")]
    pub image: VexImage,
    /// Package URLs of the packages, any of them; empty means every package of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Text>,
}

impl VexProduct {
    /// How people know it.
    pub fn name(&self) -> &str {
        self.name.as_ref().or(self.packages.first()).map_or("", |text| text)
    }

    /// Whether some image or package could be held against it.
    pub fn is_checkable(&self) -> bool {
        match self.image {
            VexImage::Any => !self.packages.is_empty(),
            VexImage::Digest(_) | VexImage::Repository { .. } => true,
            VexImage::Named => false,
        }
    }
}

/// Which image a statement speaks of.
///
/// Written as one text: a digest; a repository with or without a tag, normalised and so always
/// with a `/`; or `?`. [`VexImage::Any`] is written by leaving the field out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub enum VexImage {
    /// Any: the statement speaks of packages, wherever they are.
    #[default]
    Any,
    /// The image with this manifest, index or configuration, which must be proven.
    Digest(Digest),
    /// Any image that the engine's record knows by a name of this repository, and by this tag if
    /// there is one. A name is not a proof: whoever may name images on the node may meet it.
    Repository {
        /// Host and path: `docker.io/library/nginx`.
        repository: Text,
        /// The tag.
        tag: Option<Text>,
    },
    /// Something with a name that no image can be held against, so that nothing matches: a
    /// product of a vendor, a package that holds the packages, a CPE.
    Named,
}

/// A text that is not a [`VexImage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither a digest nor a repository in its normal form")]
pub struct NotAVexImage(String);

impl VexImage {
    /// Whether it is [`VexImage::Any`].
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl fmt::Display for VexImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Digest(digest) => write!(f, "{digest}"),
            Self::Repository { repository, tag: None } => f.write_str(repository),
            Self::Repository { repository, tag: Some(tag) } => write!(f, "{repository}:{tag}"),
            Self::Named => f.write_str("?"),
        }
    }
}

impl From<VexImage> for String {
    fn from(image: VexImage) -> Self {
        image.to_string()
    }
}

impl TryFrom<String> for VexImage {
    type Error = NotAVexImage;

    fn try_from(text: String) -> Result<Self, NotAVexImage> {
        let wrong = || NotAVexImage(text.chars().take(120).flat_map(char::escape_debug).collect());
        match &*text {
            "*" => return Ok(Self::Any),
            "?" => return Ok(Self::Named),
            _ => {}
        }
        if !text.contains('/') {
            return text.parse().map(Self::Digest).map_err(|_| wrong());
        }
        let reference: ImageRef = text.parse().map_err(|_| wrong())?;
        let repository = reference.repository();
        let tag = match text.strip_prefix(&*repository) {
            Some("") => None,
            Some(_) if reference.digest().is_none() => reference.tag().map(Text::from),
            _ => return Err(wrong()),
        };
        Ok(Self::Repository { repository: repository.into(), tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form that a published set has; a change of it needs a new version of the set.
    #[test]
    fn the_published_form_is_stable() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let json = format!(
            concat!(
                r#"{{"source":"web.openvex.json statement 1","vulnerability":["CVE-2024-1","GHSA-1"],"#,
                r#""status":"not_affected","justification":"component_not_present","#,
                r#""statedAt":"2024-05-01T00:00:00Z","products":["#,
                r#"{{"packages":["pkg:deb/debian/openssl@1"]}},"#,
                r#"{{"name":"pkg:oci/web","image":"{digest}"}},"#,
                r#"{{"name":"web","image":"a.io/web:1","packages":["pkg:npm/x","pkg:npm/y"]}},"#,
                r#"{{"name":"web","image":"a.io:80/web"}},"#,
                r#"{{"name":"Our product","image":"?"}}]}}"#
            ),
            digest = digest
        );
        let statement: VexStatement = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&statement).unwrap(), json);
        assert_eq!(statement.products[0].name(), "pkg:deb/debian/openssl@1");
        assert_eq!(statement.checkable().unwrap().products.len(), 4);
        let named = VexStatement { products: vec![statement.products[4].clone()], ..statement };
        assert_eq!(named.checkable(), None);
    }

    #[test]
    fn an_image_has_one_spelling() {
        for wrong in ["", "nginx", "a.io/b@sha256:00", "A.io/web", "nginx/x", "a.io/", "sha256:ab"]
        {
            assert!(VexImage::try_from(wrong.to_owned()).is_err(), "{wrong:?} was taken");
        }
    }
}
