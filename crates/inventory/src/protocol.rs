//! What a scanner's process and whoever started it tell each other, on two pipes.
//!
//! Each message is its length, as four bytes with the low one first, and as many bytes of postcard.
//! The scanner reads hostile data, so what it says is read with bounds.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use portcullis_types::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Image, Layer};

/// Most bytes of a message: a layer with two million paths has some 200 MB.
const MAX_MESSAGE: u32 = 400 << 20;

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where the image is.
    pub source: Source,
    /// Which of several images, by its name; `None` for the only one.
    pub image: Option<String>,
    /// Which platform of several: operating system, architecture, variant (`linux/arm64/v8`).
    pub platform: String,
    /// Rules of YARA, with the names of their files.
    pub rules: Vec<(String, Vec<u8>)>,
    /// Whether a connection to clamd can be had.
    pub clamd: bool,
    /// A folder for what does not fit into memory.
    pub scratch: PathBuf,
    /// Bounds.
    pub limits: Limits,
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A folder in OCI's layout (image-spec `image-layout.md`).
    Layout(PathBuf),
    /// A folder with the blobs of a layout, but no index: containerd's content store.
    Blobs {
        /// The folder that has `blobs`.
        folder: PathBuf,
        /// The index or manifest.
        target: Digest,
        /// Its names.
        references: BTreeSet<String>,
    },
    /// An archive of `docker save`, or of an OCI layout, perhaps compressed.
    Archive(PathBuf),
    /// A root filesystem.
    Root(PathBuf),
    /// An image that an engine has.
    Stored {
        /// Its configuration.
        config: Vec<u8>,
        /// Its layers, lowest first, as many as the configuration has.
        layers: Vec<StoredLayer>,
        /// Digests of manifests and indexes that lead to it.
        manifests: BTreeSet<Digest>,
        /// Its names.
        references: BTreeSet<String>,
    },
}

/// Where an engine has a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredLayer {
    /// As an archive.
    Archive(PathBuf),
    /// Unpacked, as overlayfs has it.
    Folder(PathBuf),
}

/// Bounds on what one image may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most bytes of a layer, out of its compression.
    pub layer_bytes: u64,
    /// Most entries of a layer.
    pub entries: u64,
    /// Most bytes of a file that is read; a larger one is told.
    pub file_bytes: u64,
    /// Most folders within each other.
    pub depth: u64,
    /// Most bytes of a file that is searched for malware by its content.
    pub searched_bytes: u64,
    /// Most bytes of memory.
    pub memory: u64,
    /// Most seconds.
    pub seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 64 << 30,
            entries: 2_000_000,
            file_bytes: 4 << 30,
            depth: 256,
            searched_bytes: 64 << 20,
            memory: 512 << 20,
            seconds: 900,
        }
    }
}

/// What a scanner says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// It is confined, as far as the kernel can, and has found the image. It waits for [`Asked`].
    Image {
        /// The image.
        image: Image,
        /// What confines it: `landlock`, `seccomp`.
        confined: Vec<String>,
        /// The engines that search for malware, with their versions.
        engines: Vec<String>,
    },
    /// It wants a connection to clamd: as a descriptor beside one byte.
    Connect,
    /// So many bytes of a layer were read.
    Progress {
        /// Which layer, from 0.
        layer: u32,
        /// Bytes so far.
        bytes: u64,
    },
    /// A layer.
    Layer {
        /// Its diff ID; `None` for a root filesystem.
        diff_id: Option<Digest>,
        /// What is in it.
        layer: Layer,
    },
    /// All that was asked for has been said.
    Done,
    /// It cannot be done, for this reason.
    Failed(String),
}

/// What a scanner is asked once it has found the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The layers that are not known yet.
    pub layers: BTreeSet<Digest>,
}

/// Writes a message.
///
/// # Errors
/// It cannot be written, or is larger than any.
pub fn send(to: &mut dyn Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_MESSAGE);
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads a message; `None` if there is no more.
///
/// # Errors
/// It cannot be read, or is none.
pub fn receive<M: DeserializeOwned>(from: &mut dyn Read) -> io::Result<Option<M>> {
    let mut length = Vec::new();
    from.take(4).read_to_end(&mut length)?;
    let length = match <[u8; 4]>::try_from(length.as_slice()) {
        Ok(length) => u32::from_le_bytes(length),
        Err(_) if length.is_empty() => return Ok(None),
        Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is larger than any"));
    }
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() != length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_they_were_sent() {
        let mut pipe = Vec::new();
        let said = [Said::Progress { layer: 1, bytes: 5 }, Said::Done];
        said.iter().for_each(|message| send(&mut pipe, message).unwrap());
        let mut pipe = pipe.as_slice();
        for message in said {
            assert_eq!(receive::<Said>(&mut pipe).unwrap(), Some(message));
        }
        assert_eq!(receive::<Said>(&mut pipe).unwrap(), None);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [&[1, 0][..], &[255; 8], &[2, 0, 0, 0, 9], &[1, 0, 0, 0, 77]] {
            assert!(receive::<Said>(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
