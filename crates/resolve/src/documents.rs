//! Reading indexes, manifests and configurations of images: hostile JSON.
//!
//! Engines written in Go match the names of members without regard to case and let the last of
//! several win. A document that could mean one thing to the engine and another to this crate is
//! therefore refused, as is one that could be both an index and a manifest (CVE-2021-41190).

use std::borrow::Cow;
use std::fmt;

use portcullis_types::{Digest, ImageConfig};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most layers that a configuration may name; engines stop far below.
const MAX_LAYERS: usize = 1024;
/// Most labels of a configuration; the largest seen has some fifty.
const MAX_LABELS: usize = 512;
/// Most manifests that an index may name.
const MAX_MANIFESTS: usize = 128;

/// Media types of indexes, the OCI's first.
pub(crate) const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Media types of manifests, the OCI's first.
pub(crate) const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// Not JSON, or not of the form that the specification gives.
    #[error("it is not well-formed")]
    Malformed(#[source] serde_json::Error),
    /// A required member is missing.
    #[error("it has no \"{0}\"")]
    Missing(&'static str),
    /// It could be an index as well as a manifest.
    #[error("it is an index and a manifest at once")]
    Ambiguous,
    /// Too many manifests or layers.
    #[error("it names more than {1} {0}")]
    TooMany(&'static str, usize),
    /// Neither an index nor a manifest.
    #[error("its media type \"{0}\" is neither an index's nor a manifest's")]
    MediaType(String),
}

/// What a document says of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Media type; empty if not given.
    pub(crate) media_type: String,
    /// Digest of the content. The size beside it is not read: what is received is bounded anyway.
    pub(crate) digest: Digest,
}

/// An index or a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// The manifests (or further indexes) that it names and that can be followed.
    Index(Vec<Descriptor>),
    /// The configuration that it names.
    Manifest(Descriptor),
}

/// Reads an index or a manifest; `media_type` is what named it, empty if nothing did.
pub(crate) fn document(json: &[u8], media_type: &str) -> Result<Document, DocumentError> {
    let [manifests, config, layers, own_type] =
        members(json, ["manifests", "config", "layers", "mediaType"])?;
    if manifests.is_some() && (config.is_some() || layers.is_some()) {
        return Err(DocumentError::Ambiguous);
    }
    let own_type = own_type.map(parse::<String>).transpose()?;
    let media_type = match media_type {
        "" => own_type.as_deref().unwrap_or_default(),
        given => given,
    };
    if INDEXES.contains(&media_type) {
        let manifests: Vec<&RawValue> =
            parse(manifests.ok_or(DocumentError::Missing("manifests"))?)?;
        if manifests.len() > MAX_MANIFESTS {
            return Err(DocumentError::TooMany("manifests", MAX_MANIFESTS));
        }
        let mut followed = Vec::new();
        for entry in manifests {
            // Another kind of artifact leads nowhere. An entry that only this crate cannot read is
            // another matter: the engine may follow it.
            let entry_type = media_type_of(entry)?;
            if INDEXES.contains(&&*entry_type) || MANIFESTS.contains(&&*entry_type) {
                followed.push(descriptor(entry)?);
            }
        }
        Ok(Document::Index(followed))
    } else if MANIFESTS.contains(&media_type) {
        let config = config.ok_or(DocumentError::Missing("config"))?;
        Ok(Document::Manifest(descriptor(config)?))
    } else {
        Err(DocumentError::MediaType(
            media_type.chars().take(100).flat_map(char::escape_default).collect(),
        ))
    }
}

/// The diff IDs of a configuration, from the lowest layer up.
pub(crate) fn diff_ids(json: &[u8]) -> Result<Vec<Digest>, DocumentError> {
    let [rootfs] = members(json, ["rootfs"])?;
    let rootfs = rootfs.ok_or(DocumentError::Missing("rootfs"))?;
    let [diff_ids] = members(rootfs.get().as_bytes(), ["diff_ids"])?;
    // `FROM scratch` without layers: Go writes `null` or leaves it out.
    let diff_ids: Option<Vec<Digest>> = diff_ids.map(parse).transpose()?.flatten();
    let diff_ids = diff_ids.unwrap_or_default();
    if diff_ids.len() > MAX_LAYERS {
        return Err(DocumentError::TooMany("layers", MAX_LAYERS));
    }
    Ok(diff_ids)
}

/// What a configuration says of its image, beside the layers.
pub(crate) fn image_config(json: &[u8]) -> Result<ImageConfig, DocumentError> {
    let [created, config] = members(json, ["created", "config"])?;
    let mut says = ImageConfig::default();
    // A date that cannot be read is none: nothing but a condition of a policy asks for it.
    if let Some(text) = created.map(parse::<Option<String>>).transpose()?.flatten() {
        says.created = text.parse().ok();
    }
    if let Some(config) = config.filter(|json| json.get() != "null") {
        let [user, labels] = members(config.get().as_bytes(), ["User", "Labels"])?;
        says.user = user.map(parse::<Option<_>>).transpose()?.flatten().unwrap_or_default();
        says.labels = labels.map(parse::<Option<_>>).transpose()?.flatten().unwrap_or_default();
        if says.labels.len() > MAX_LABELS {
            return Err(DocumentError::TooMany("labels", MAX_LABELS));
        }
    }
    Ok(says)
}

/// Whether a configuration is of an image for this platform, `os[/architecture]`; one that does not
/// say is.
pub(crate) fn is_for(json: &[u8], platform: &str) -> Result<bool, DocumentError> {
    let own = members(json, ["os", "architecture"])?;
    for (own, wanted) in own.into_iter().zip(platform.split('/')) {
        let own = own.map(parse::<Option<String>>).transpose()?.flatten().unwrap_or_default();
        if !own.is_empty() && own != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads a descriptor.
pub(crate) fn descriptor(json: &RawValue) -> Result<Descriptor, DocumentError> {
    let [digest] = members(json.get().as_bytes(), ["digest"])?;
    Ok(Descriptor {
        media_type: media_type_of(json)?,
        digest: parse(digest.ok_or(DocumentError::Missing("digest"))?)?,
    })
}

fn media_type_of(json: &RawValue) -> Result<String, DocumentError> {
    let [media_type] = members(json.get().as_bytes(), ["mediaType"])?;
    Ok(media_type.map(parse).transpose()?.unwrap_or_default())
}

/// Reads one value.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Result<T, DocumentError> {
    serde_json::from_str(json.get()).map_err(DocumentError::Malformed)
}

/// The wanted members of a JSON object, unread; all others are skipped.
///
/// Refuses an object in which a wanted member comes twice, or in another spelling that Go would
/// take for it.
pub(crate) fn members<'a, const N: usize>(
    json: &'a [u8],
    wanted: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], DocumentError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    Members(wanted)
        .deserialize(&mut reader)
        .and_then(|found| reader.end().map(|()| found))
        .map_err(DocumentError::Malformed)
}

/// The wanted members of each object in a JSON list, as [`members`] gives them; nothing is copied.
///
/// A file without a list (`null`) has no objects.
pub(crate) fn each<'a, const N: usize>(
    json: &'a [u8],
    wanted: [&'static str; N],
    mut take: impl FnMut([Option<&'a RawValue>; N]) -> Result<(), DocumentError>,
) -> Result<(), DocumentError> {
    let mut trouble = Ok(());
    let mut reader = serde_json::Deserializer::from_slice(json);
    let list = Each(wanted, |found| match take(found) {
        Ok(()) => true,
        Err(error) => {
            trouble = Err(error);
            false
        }
    });
    let read = reader.deserialize_option(list).and_then(|()| reader.end());
    trouble.and(read.map_err(DocumentError::Malformed))
}

/// Reads an object's wanted members.
#[derive(Clone, Copy)]
struct Members<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        /// Borrowed unless it has escapes.
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut found = [None; N];
        while let Some(Key(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            let Some(at) = self.0.iter().position(|name| is_taken_for(&key, name)) else {
                continue;
            };
            if key != self.0[at] || found[at].is_some() {
                let name = self.0[at];
                return Err(A::Error::custom(format_args!(
                    "\"{name}\" is written twice or in another case"
                )));
            }
            found[at] = Some(value);
        }
        Ok(found)
    }
}

/// Reads a list of objects; the function says whether to go on.
struct Each<const N: usize, F>([&'static str; N], F);

impl<'de, const N: usize, F> Visitor<'de> for Each<N, F>
where
    F: FnMut([Option<&'de RawValue>; N]) -> bool,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(found) = list.next_element_seed(Members(self.0))? {
            if !(self.1)(found) {
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Whether Go's `encoding/json` takes this key for the name, which is ASCII.
fn is_taken_for(key: &str, name: &str) -> bool {
    match key.is_ascii() {
        true => key.eq_ignore_ascii_case(name),
        // `s` and `k` have forms beyond ASCII.
        false => folded(key) == folded(name),
    }
}

fn folded(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = INDEXES[0];
    const MANIFEST: &str = MANIFESTS[0];

    fn entry(media_type: &str) -> String {
        let digest = Digest::of(media_type.as_bytes());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":7}}"#)
    }

    #[test]
    fn an_index_names_what_can_be_followed() {
        let json = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{{"digest":"md5:1"}},{}]}}"#,
            entry(MANIFEST),
            entry("application/vnd.in-toto+json"),
            entry(INDEX)
        );
        let Document::Index(named) = document(json.as_bytes(), INDEX).unwrap() else {
            panic!("not an index");
        };
        let types: Vec<_> = named.iter().map(|d| d.media_type.as_str()).collect();
        assert_eq!(types, [MANIFEST, INDEX]);
        assert_eq!(named[0].digest, Digest::of(MANIFEST.as_bytes()));
    }

    #[test]
    fn a_manifest_names_its_config_and_may_name_its_own_type() {
        let config = entry("application/vnd.oci.image.config.v1+json");
        let json = format!(r#"{{"mediaType":"{MANIFEST}","config":{config},"layers":[]}}"#);
        for named_as in [MANIFEST, ""] {
            let Document::Manifest(config) = document(json.as_bytes(), named_as).unwrap() else {
                panic!("not a manifest");
            };
            assert_eq!(config.digest, Digest::of(config.media_type.as_bytes()));
        }
    }

    #[test]
    fn what_go_could_read_otherwise_is_refused() {
        let config = entry("application/vnd.oci.image.config.v1+json");
        for (why, json) in [
            ("both", format!(r#"{{"config":{config},"manifests":[]}}"#)),
            ("twice", format!(r#"{{"config":{config},"config":{config}}}"#)),
            ("case", format!(r#"{{"config":{config},"Config":{config}}}"#)),
            ("long s", format!(r#"{{"config":{config},"layer\u017f":[]}}"#)),
            ("inner", r#"{"config":{"digest":"sha256:0","DIGEST":"x"}}"#.into()),
            ("none", r#"{"layers":[]}"#.into()),
            ("list", "[]".into()),
            ("tail", format!(r#"{{"config":{config}}} x"#)),
            ("depth", format!(r#"{{"config":{}"#, "[".repeat(1_000_000))),
            ("empty", String::new()),
        ] {
            assert!(document(json.as_bytes(), MANIFEST).is_err(), "{why}");
        }
        assert!(matches!(
            document(b"{}", "application/vnd.docker.distribution.manifest.v1+json"),
            Err(DocumentError::MediaType(_))
        ));
    }

    #[test]
    fn an_entry_that_the_engine_might_follow_is_not_skipped() {
        let digest = Digest::of(b"x");
        for entry in [
            format!(r#"{{"mediaType":"{MANIFEST}","digest":"sha384:00"}}"#),
            format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","Digest":"{digest}"}}"#),
            format!(r#"{{"mediaType":"x","mediatype":"{MANIFEST}","digest":"{digest}"}}"#),
            format!(r#"{{"mediaType":"{MANIFEST}"}}"#),
            "1".to_owned(),
        ] {
            let json = format!(r#"{{"manifests":[{entry}]}}"#);
            assert!(document(json.as_bytes(), INDEX).is_err(), "{entry}");
        }
    }

    #[test]
    fn counts_are_bounded() {
        let many = vec![entry(MANIFEST); MAX_MANIFESTS + 1].join(",");
        let json = format!(r#"{{"manifests":[{many}]}}"#);
        assert!(matches!(document(json.as_bytes(), INDEX), Err(DocumentError::TooMany(..))));
        let many = vec![format!("\"{}\"", Digest::of(b"x")); MAX_LAYERS + 1].join(",");
        let json = format!(r#"{{"rootfs":{{"diff_ids":[{many}]}}}}"#);
        assert!(matches!(diff_ids(json.as_bytes()), Err(DocumentError::TooMany(..))));
    }

    #[test]
    fn a_config_names_its_layers() {
        let layer = Digest::of(b"layer");
        let json = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{layer}"]}},"x":[1]}}"#);
        assert_eq!(diff_ids(json.as_bytes()).unwrap(), [layer]);
        assert_eq!(diff_ids(br#"{"rootfs":{"diff_ids":null}}"#).unwrap(), []);
        assert_eq!(diff_ids(br#"{"rootfs":{}}"#).unwrap(), []);
        assert!(diff_ids(br#"{"rootfs":{"diff_ids":["x"]}}"#).is_err());
        assert!(diff_ids(br#"{"RootFS":{"diff_ids":[]}}"#).is_err());
        assert!(diff_ids(b"\xff\xfe").is_err());
    }

    #[test]
    fn a_config_says_who_made_it_when() {
        let json = br#"{"created":"2024-01-02T03:04:05.6Z","config":{"User":"1000:1000",
            "Labels":{"a":"b"},"Env":["X=1"]}}"#;
        let says = image_config(json).unwrap();
        assert_eq!(says.created, "2024-01-02T03:04:05.6Z".parse().ok());
        assert_eq!((says.user.as_str(), &*says.labels["a"]), ("1000:1000", "b"));
        for nothing in ["{}", r#"{"created":null,"config":null}"#, r#"{"created":"yesterday"}"#] {
            assert_eq!(image_config(nothing.as_bytes()).unwrap(), ImageConfig::default());
        }
        let many: Vec<String> = (0..=MAX_LABELS).map(|n| format!("\"{n}\":\"\"")).collect();
        let many = format!(r#"{{"config":{{"Labels":{{{}}}}}}}"#, many.join(","));
        for wrong in [r#"{"config":{"user":"0","User":"1"}}"#, r#"{"created":1}"#, &many] {
            assert!(image_config(wrong.as_bytes()).is_err(), "{wrong:.60}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = diff_ids(&bytes);
            let _ = image_config(&bytes);
            let _ = document(&bytes, INDEX);
        }
    }
}
