//! What a document's product is to us: an image, a package, or something that cannot be checked.

use portcullis_types::{Digest, ImageRef, Purl, Text, VexImage, VexProduct};

use super::MAX_NOTE;
use crate::text::{printable, shortened};

/// A product or a part of it, as a document identifies it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Component<'a> {
    /// How the document calls it: a package URL, another IRI, an image reference, a name.
    pub(super) id: Option<&'a str>,
    /// Its package URL.
    pub(super) purl: Option<&'a str>,
    /// Its SHA-256, as hexadecimal digits.
    pub(super) sha256: Option<&'a str>,
    /// It stands for a range of versions, so that a package URL without one does not name it.
    pub(super) is_range: bool,
}

impl Component<'_> {
    /// How people know it.
    pub(super) fn name(&self) -> String {
        shortened(self.id.or(self.purl).unwrap_or("unnamed"), MAX_NOTE)
    }
}

/// What a component is to us.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// An image that can be checked.
    Image(VexImage),
    /// A package, by its package URL.
    Package(Text),
    /// Neither, for this reason: the rest of a sentence that begins with its name.
    Neither(String),
}

impl Target {
    /// What a component is. Its package URL comes first; a SHA-256 is taken for an image's digest,
    /// since nothing else can be proven to be it; last, an id may be an image's name with its
    /// registry.
    pub(super) fn of(component: &Component<'_>) -> Self {
        let is_purl = |text: &&str| text.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("pkg:"));
        let purls = component.purl.into_iter().chain(component.id).filter(is_purl);
        let mut neither = None;
        for purl in purls {
            match of_purl(purl, component.is_range) {
                Self::Neither(why) => neither = neither.or(Some(why)),
                target => return target,
            }
        }
        let hash = component.sha256.map(|hex| format!("sha256:{}", hex.to_ascii_lowercase()));
        if let Some(digest) = hash.and_then(|hash| hash.parse::<Digest>().ok()) {
            return Self::Image(VexImage::Digest(digest));
        }
        let reference = component.id.filter(|id| !is_purl(id)).and_then(of_reference);
        reference.map_or_else(
            || {
                Self::Neither(neither.unwrap_or_else(|| {
                    "has no package URL, no SHA-256 and no image's name with its registry"
                        .to_owned()
                }))
            },
            Self::Image,
        )
    }
}

const RANGE: &str = "stands for a range of versions, which is not read";

fn of_purl(text: &str, is_range: bool) -> Target {
    let purl = match Purl::parse(text) {
        Ok(purl) => purl,
        Err(error) => return Target::Neither(format!("has a wrong package URL: {}", error.why)),
    };
    if purl.is_image() {
        return match of_image(&purl) {
            Ok(VexImage::Digest(digest)) => Target::Image(VexImage::Digest(digest)),
            Ok(_) if is_range => Target::Neither(RANGE.to_owned()),
            Ok(image) => Target::Image(image),
            Err(why) => Target::Neither(why),
        };
    }
    let has_range = |v: &str| v.starts_with("vers:") || v.contains(['<', '>', '|', '*']);
    if purl.version().map_or(is_range, has_range) {
        return Target::Neither(RANGE.to_owned());
    }
    // Written out, it would be another name.
    match printable(text) == text {
        true => Target::Package(text.into()),
        false => Target::Neither("has characters that cannot be shown".to_owned()),
    }
}

/// The image of a package URL of type `oci` or `docker`: by digest if it has one, and otherwise by
/// repository and tag.
fn of_image(purl: &Purl<'_>) -> Result<VexImage, String> {
    let version = purl.version();
    if let Some(digest) = version.and_then(|v| v.to_ascii_lowercase().parse().ok()) {
        return Ok(VexImage::Digest(digest));
    }
    if version.is_some_and(|v| v.contains(':')) {
        return Err("has a version that is no whole digest".to_owned());
    }
    if purl.qualifier("arch").is_some() {
        return Err("has no digest, and its architecture alone cannot be checked".to_owned());
    }
    let url = purl.qualifier("repository_url").map(without_scheme);
    let repository = match (purl.kind(), url) {
        // Some write the repository whole, as the specification does, others its folder.
        (_, Some(url)) if url.rsplit('/').next() == Some(purl.name()) => url.to_owned(),
        ("oci", None) => {
            return Err("has neither a digest (@sha256:...) nor a repository_url".to_owned());
        }
        (_, url) => {
            let host = url.filter(|url| *url != "hub.docker.com").unwrap_or("docker.io");
            let parts = std::iter::once(host).chain(purl.namespace()).chain([purl.name()]);
            parts.collect::<Vec<_>>().join("/")
        }
    };
    let tag = version.or(purl.qualifier("tag"));
    let text = tag.map_or_else(|| repository.clone(), |tag| format!("{repository}:{tag}"));
    let reference: ImageRef =
        text.parse().map_err(|error| format!("names a repository that is none: {error}"))?;
    let tag = tag.map(Text::from);
    Ok(VexImage::Repository { repository: reference.repository().into(), tag })
}

fn without_scheme(url: &str) -> &str {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    url.trim_end_matches('/')
}

/// The image of a reference with its registry: without that, any word would be one.
fn of_reference(id: &str) -> Option<VexImage> {
    let text = id.strip_prefix("oci://").or(id.strip_prefix("docker://")).unwrap_or(id);
    let (host, _) = text.split_once('/')?;
    if text.contains("://") || !(host.contains(['.', ':']) || host == "localhost") {
        return None;
    }
    let reference: ImageRef = text.parse().ok()?;
    if let Some(digest) = reference.digest() {
        return Some(VexImage::Digest(digest.clone()));
    }
    let has_tag = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = reference.tag().filter(|_| has_tag).map(Text::from);
    Some(VexImage::Repository { repository: reference.repository().into(), tag })
}

/// The packages that a statement names within a product, and what cannot be used of them.
pub(super) fn packages(parts: &[Component<'_>]) -> (Vec<Text>, Vec<String>) {
    let (mut packages, mut warnings) = (Vec::new(), Vec::new());
    for part in parts {
        let why = match Target::of(part) {
            Target::Package(purl) => {
                packages.push(purl);
                continue;
            }
            Target::Image(_) => {
                "is no package, and only packages can be checked within a product".to_owned()
            }
            Target::Neither(why) => why,
        };
        warnings.push(format!("\"{}\" {why}: passed over", part.name()));
    }
    (packages, warnings)
}

/// A product as a whole, or packages within it, and what cannot be used of it.
///
/// `within` are the packages of a product that a statement narrows to parts; if none of these can
/// be used there is no product, since the whole was not meant.
pub(super) fn product(
    whole: &Component<'_>,
    within: Option<&[Text]>,
) -> (Option<VexProduct>, Option<String>) {
    let name = whole.name();
    if within.is_some_and(<[Text]>::is_empty) {
        return (None, Some(format!("\"{name}\" has no part that can be used: passed over")));
    }
    let mut packages = within.unwrap_or_default().to_vec();
    let (image, why) = match Target::of(whole) {
        Target::Image(image) => (image, None),
        Target::Package(purl) if within.is_none() => {
            packages.push(purl);
            (VexImage::Any, None)
        }
        Target::Package(_) => {
            let why = "is a package, and whether a part is in it cannot be checked";
            (VexImage::Named, Some(why.to_owned()))
        }
        Target::Neither(why) => (VexImage::Named, Some(why)),
    };
    let is_its_purl = image.is_any() && packages.first().is_some_and(|purl| **purl == *name);
    let warning = why.map(|why| format!("\"{name}\" {why}: it matches nothing"));
    let name = (!is_its_purl).then(|| name.into());
    (Some(VexProduct { name, image, packages }), warning)
}
