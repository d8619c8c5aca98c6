//! What is remembered of images and containers from one run to the next: files of JSON in a folder for
//! root alone, each put in place by a rename.
//!
//! A file that is missing, damaged or of another form is begun anew: then every image is new, and so
//! nothing is forgotten early.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use portcullis_settings::{keep, recall};
use portcullis_types::{Action, Digest, Engine, EventId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most bytes of a file.
const MAX_BYTES: u64 = 64 << 20;

/// Changes when the files do.
const FORM: u32 = 1;

/// Images, as the engines had them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Images {
    /// The rules of YARA by which they were read last.
    pub(crate) rules: Option<Digest>,
    pub(crate) images: BTreeMap<Digest, Image>,
}

/// An image that some engine has or had, or of which there was a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Image {
    /// When it was met for the first time, or was there last.
    pub(crate) since: Timestamp,
    /// The engines that had it then; none if it was never on this node.
    pub(crate) engines: BTreeSet<String>,
}

/// Containers, as they were judged last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Containers {
    /// What the node knew when all images were judged by it last.
    pub(crate) known: Option<Digest>,
    pub(crate) containers: Vec<Container>,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Container {
    pub(crate) engine: Engine,
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// What would be decided if it were started again.
    pub(crate) action: Action,
    /// When that was found.
    pub(crate) at: Timestamp,
    /// It was decided less strictly when it was started.
    pub(crate) violates: bool,
    /// The decision that let it start, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<EventId>,
}

/// A file with its form.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    form: u32,
    content: T,
}

/// A file of the agent's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
}

impl Memory {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(name) }
    }

    /// What is remembered; nothing if that cannot be read, which is told.
    pub(crate) fn recall<T: DeserializeOwned + Default>(&self) -> T {
        match self.read() {
            Ok(Some(Versioned { form: FORM, content })) => content,
            Ok(None) => T::default(),
            Ok(Some(other)) => {
                log::warn!("{}: form {} is begun anew", self.path.display(), other.form);
                T::default()
            }
            Err(error) => {
                log::warn!("{} is begun anew: {error}", self.path.display());
                T::default()
            }
        }
    }

    fn read<T: DeserializeOwned>(&self) -> io::Result<Option<Versioned<T>>> {
        let Some(bytes) = recall(&self.path, MAX_BYTES)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Remembers; that it cannot is told.
    pub(crate) fn keep<T: Serialize>(&self, content: &T) {
        if let Err(error) = self.write(content) {
            log::warn!("{} is not written: {error}", self.path.display());
        }
    }

    fn write<T: Serialize>(&self, content: &T) -> io::Result<()> {
        keep(&self.path, &serde_json::to_vec(&Versioned { form: FORM, content })?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_recalled_and_for_root_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("agent");
        let memory = Memory::new(&folder, "images.json");
        assert_eq!(memory.recall::<Images>(), Images::default());
        let image = Image { since: Timestamp::UNIX_EPOCH, engines: ["podman".to_owned()].into() };
        let images = Images { rules: None, images: [(Digest::of(b"1"), image)].into() };
        memory.keep(&images);
        memory.keep(&images);
        assert_eq!(memory.recall::<Images>(), images);
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("images.json"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_is_damaged_is_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        let memory = Memory::new(root.path(), "containers.json");
        for text in
            ["", "{", "[]", "{\"form\":1}", "{\"form\":2,\"content\":{\"containers\":[]}}", "\u{0}"]
        {
            fs::write(root.path().join("containers.json"), text).unwrap();
            assert_eq!(memory.recall::<Containers>(), Containers::default(), "{text}");
        }
        memory.keep(&Containers { known: Some(Digest::of(b"1")), ..Containers::default() });
        assert_eq!(memory.recall::<Containers>().known, Some(Digest::of(b"1")));
    }
}
