//! Entry points for fuzzers, where types are private.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read};

use portcullis_inventory::protocol::Limits;
use portcullis_inventory::{Image, Layer, Package};

use crate::detect::Detectors;
use crate::documents::{DocumentError, Documents, of_docker, of_layout};
use crate::gather::{Gatherer, LayerError};
use crate::packages::Tools;
use crate::stream::{Bounded, decompressed};
use crate::tar::{EntryKind, Tar};

/// An entry of an archive, with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type as POSIX writes it, and major and minor number of a device.
    pub kind: (u8, u64, u64),
    /// Its name as it stands there.
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// Permissions, owner and group.
    pub mode: [u32; 3],
    /// Bytes of its content, with holes.
    pub size: u64,
    /// It has file capabilities.
    pub capabilities: bool,
    /// As much of its content as was asked for.
    pub content: Vec<u8>,
}

/// The entries of an archive, with up to so many bytes of each, and why there are no more.
pub fn entries(archive: impl Read, most: u64) -> (Vec<Entry>, Result<(), Box<dyn Error>>) {
    let (mut tar, mut entries) = (Tar::new(archive), Vec::new());
    loop {
        let entry = match tar.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (entries, Ok(())),
            Err(error) => return (entries, Err(error.into())),
        };
        let mut content = Vec::new();
        if let Err(error) = (&mut tar).take(most).read_to_end(&mut content) {
            return (entries, Err(error.into()));
        }
        let kind = match entry.kind {
            EntryKind::File => (b'0', 0, 0),
            EntryKind::HardLink => (b'1', 0, 0),
            EntryKind::SymbolicLink => (b'2', 0, 0),
            EntryKind::Device(major, minor) => (b'3', major, minor),
            EntryKind::Folder => (b'5', 0, 0),
            EntryKind::Fifo => (b'6', 0, 0),
            EntryKind::Unknown(kind) => (kind, 0, 0),
        };
        entries.push(Entry {
            kind,
            path: entry.path,
            link: entry.link,
            mode: [entry.mode, entry.uid, entry.gid],
            size: entry.size,
            capabilities: entry.capabilities,
            content,
        });
    }
}

/// What comes out of compression, up to so many bytes, and why there is no more.
pub fn unpacked<'r>(packed: impl Read + 'r, most: u64) -> (Vec<u8>, io::Result<()>) {
    let mut content = Vec::new();
    let read = decompressed(packed).and_then(|reader| {
        Bounded::new(reader, most).read_to_end(&mut content)?;
        Ok(())
    });
    (content, read)
}

/// What is done with the files of layers; made once.
pub struct Reader(Tools);

impl Default for Reader {
    fn default() -> Self {
        Self(Tools::new())
    }
}

impl Reader {
    /// Reads a layer, perhaps compressed; `open` gives it anew.
    ///
    /// # Errors
    /// Why it is none.
    pub fn layer<R: Read>(
        &self,
        open: impl Fn() -> R,
        limits: &Limits,
    ) -> Result<Layer, LayerError> {
        let mut detectors = Detectors::default();
        let scratch = rustix::fs::CWD;
        let gatherer =
            Gatherer::new(&self.0, &mut detectors, limits, scratch, Box::new(|_bytes| ()));
        crate::layer::read(gatherer, &mut |with| {
            with(&mut Bounded::new(decompressed(open())?, limits.layer_bytes))
        })
    }
}

/// The packages of a file of dpkg's stanzas.
pub fn dpkg(text: &[u8]) -> Vec<Package> {
    crate::debian::packages(text)
}

/// The files of a package, by the path and content of dpkg's list of them.
pub fn dpkg_files(path: &str, text: &[u8]) -> Vec<String> {
    crate::debian::files(path, text)
}

/// The packages and files of apk's database.
pub fn apk(text: &[u8]) -> (Vec<Package>, Vec<String>) {
    crate::apk::packages(text)
}

/// Documents by where they lie.
struct Files<'f>(&'f BTreeMap<String, Vec<u8>>);

impl Documents for Files<'_> {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, DocumentError> {
        let missing = || DocumentError::Read(path.to_owned(), io::ErrorKind::NotFound.into());
        self.0.get(path).cloned().ok_or_else(missing)
    }
}

/// The image of a layout, or of an archive of `docker save`, and where its layers lie.
///
/// # Errors
/// Why there is none.
pub fn image(
    files: &BTreeMap<String, Vec<u8>>,
    is_docker: bool,
    wanted: Option<&str>,
) -> Result<(Image, Vec<String>), Box<dyn Error>> {
    let found = match is_docker {
        true => of_docker(&mut Files(files), wanted)?,
        false => of_layout(&mut Files(files), wanted, "linux/amd64")?,
    };
    Ok((found.image, found.layers))
}
