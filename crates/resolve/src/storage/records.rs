//! The records of containers/storage: `containers.go`, `images.go` and `layers.go` there say what
//! each member means.

use std::collections::HashMap;

use portcullis_types::Digest;
use serde_json::value::RawValue;

use crate::documents::{DocumentError, each, parse};

/// Most records in one file. A node with this many images is ten times the largest known.
const MAX_RECORDS: usize = 100_000;
/// Most names, and most files, of one image that are looked at.
const MAX_LISTED: usize = 1024;
/// Fewest and most characters of an id: SHA-256 or SHA-512 in hexadecimal.
const ID_LENGTHS: std::ops::RangeInclusive<usize> = 64..=128;

/// Whether this is an id of a container, an image or a layer, which becomes part of a path.
pub(super) fn is_id(text: &str) -> bool {
    ID_LENGTHS.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Why a file of records cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Not of the form that containers/storage writes.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// An id that cannot be one.
    #[error("a record has the id \"{0}\", which is none")]
    Id(String),
    /// Two records of one thing.
    #[error("it has two records of {0}")]
    Twice(String),
    /// Far more than any node has.
    #[error("it has more than {MAX_RECORDS} records")]
    TooMany,
}

impl RecordError {
    pub(super) fn id(text: &str) -> Self {
        Self::Id(text.chars().take(80).flat_map(char::escape_default).collect())
    }
}

/// What is asked for a container's record.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Its id.
    Id(&'a str),
    /// The id of its own layer, which only it has.
    Layer(&'a str),
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerRecord {
    pub(super) id: String,
    /// Id of its image; empty for a container without one.
    pub(super) image: String,
    /// Id of its own, writable layer.
    pub(super) layer: String,
    /// What the engine wrote: JSON.
    pub(super) metadata: String,
}

/// The record of a container, if the file has one.
pub(super) fn container(
    json: &[u8],
    wanted: Wanted<'_>,
) -> Result<Option<ContainerRecord>, RecordError> {
    let (at, text) = match wanted {
        Wanted::Id(id) => (0, id),
        Wanted::Layer(layer) => (2, layer),
    };
    let Some([id, image, layer, metadata]) =
        one(json, ["id", "image", "layer", "metadata"], at, text)?
    else {
        return Ok(None);
    };
    let record = ContainerRecord {
        id: text_of(id)?,
        image: text_of(image)?,
        layer: text_of(layer)?,
        metadata: text_of(metadata)?,
    };
    for id in [&record.id, &record.layer] {
        if !is_id(id) {
            return Err(RecordError::id(id));
        }
    }
    if !record.image.is_empty() && !is_id(&record.image) {
        return Err(RecordError::id(&record.image));
    }
    Ok(Some(record))
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageRecord {
    /// The names that it has now; `names-history`, which holds former ones, is not read.
    pub(super) names: Vec<String>,
    /// The keys of its files.
    pub(super) big_data: Vec<String>,
}

/// The record of an image, if the file has one.
pub(super) fn image(json: &[u8], id: &str) -> Result<Option<ImageRecord>, RecordError> {
    let found = one(json, ["id", "names", "big-data-names"], 0, id)?;
    let Some([_, names, big_data]) = found else {
        return Ok(None);
    };
    Ok(Some(ImageRecord { names: list_of(names)?, big_data: list_of(big_data)? }))
}

/// A layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerRecord<'a> {
    /// Id of the layer below; empty for the lowest.
    pub(super) parent: &'a str,
    /// Digest of its uncompressed archive, which a configuration's `diff_ids` name; `None` if the
    /// engine did not read the whole archive.
    diff: Option<&'a RawValue>,
}

impl LayerRecord<'_> {
    /// Digest of the uncompressed archive.
    pub(super) fn diff_id(&self) -> Result<Option<Digest>, RecordError> {
        let text: Option<String> = self.diff.map(parse).transpose()?;
        match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Ok(Some(text.parse().map_err(|_| RecordError::id(text))?)),
        }
    }
}

/// All layers of one store.
pub(super) type Layers<'a> = HashMap<&'a str, LayerRecord<'a>>;

/// Adds the layers in a file to those of the same store.
pub(super) fn add_layers<'a>(json: &'a [u8], layers: &mut Layers<'a>) -> Result<(), RecordError> {
    let mut wrong = None;
    each(json, ["id", "parent", "diff-digest"], |[id, parent, diff]| {
        let id: &str = id.map(parse).transpose()?.unwrap_or_default();
        let parent: &str = parent.map(parse::<Option<_>>).transpose()?.flatten().unwrap_or("");
        if layers.insert(id, LayerRecord { parent, diff }).is_some() {
            wrong.get_or_insert(RecordError::Twice(id.escape_debug().take(80).collect()));
        }
        if layers.len() > MAX_RECORDS {
            return Err(DocumentError::TooMany("layers", MAX_RECORDS));
        }
        Ok(())
    })?;
    wrong.map_or(Ok(()), Err)
}

/// The one record whose member at `at` is `text`.
fn one<'a, const N: usize>(
    json: &'a [u8],
    members: [&'static str; N],
    at: usize,
    text: &str,
) -> Result<Option<[Option<&'a RawValue>; N]>, RecordError> {
    let mut found = None;
    let mut twice = false;
    let mut count = 0;
    each(json, members, |record| {
        count += 1;
        // An id has no character that JSON would escape, so its text stands there as it is.
        let is_wanted = record[at].is_some_and(|value| {
            value.get().strip_prefix('"').and_then(|v| v.strip_suffix('"')) == Some(text)
        });
        if is_wanted {
            twice |= found.replace(record).is_some();
        }
        Ok(())
    })?;
    match found {
        _ if count > MAX_RECORDS => Err(RecordError::TooMany),
        _ if twice => Err(RecordError::Twice(text.to_owned())),
        found => Ok(found),
    }
}

pub(super) fn text_of(value: Option<&RawValue>) -> Result<String, RecordError> {
    Ok(value.map(parse::<Option<String>>).transpose()?.flatten().unwrap_or_default())
}

pub(super) fn list_of(value: Option<&RawValue>) -> Result<Vec<String>, RecordError> {
    let list: Option<Vec<String>> = value.map(parse::<Option<_>>).transpose()?.flatten();
    let list = list.unwrap_or_default();
    if list.len() > MAX_LISTED {
        return Err(DocumentError::TooMany("names", MAX_LISTED).into());
    }
    Ok(list)
}
