//! What a scanner found in one layer.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_baseline::Mode;
use serde::{Deserialize, Serialize};

use crate::{FileTable, Package};

/// One layer of an image, read once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// All its paths.
    pub table: FileTable,
    /// What was found, by path.
    pub items: BTreeMap<String, Vec<Item>>,
    /// Paths of lower layers that it takes away, with all that is below (OCI image spec,
    /// `layer.md`, "Whiteouts").
    pub removed: BTreeSet<String>,
    /// Folders of which nothing is left that lower layers had ("Opaque Whiteout").
    pub opaque: BTreeSet<String>,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// Something about a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// Packages that the file tells of.
    Packages(Vec<Package>),
    /// Hashes of the paths that a distribution's packages own, as the file says, sorted.
    Owned(Vec<u64>),
    /// The content of a small file that checks are about.
    Text(Vec<u8>),
    /// The file is special by its mode.
    Mode(Mode),
    /// A signature of malware fits.
    Malware(Signature),
    /// A key, token or password.
    Secret {
        /// The rule that found it.
        rule: String,
        /// The line, from 1; 0 for none.
        line: u32,
        /// A few characters of it.
        shown: String,
    },
    /// What keeps a file from being looked at, or a part of it, as a sentence.
    Unread(String),
}

/// Which signature fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The engine: `clamav`, `yara`.
    pub engine: String,
    /// The signature's or rule's name.
    pub name: String,
    /// The severity that the rule itself gives, if it gives one.
    pub severity: Option<String>,
    /// What the rule says of itself.
    pub description: Option<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}
