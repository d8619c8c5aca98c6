//! From the files of a layer, one after another, to its inventory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use portcullis_baseline::Mode;
use portcullis_inventory::{FileTable, Item, Kind, Layer, TableBuilder, TableError, path_hash};
use portcullis_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::detect::Detectors;
use crate::packages::{self, Job, Tools};
use crate::whole::{Spool, Whole};
use portcullis_inventory::protocol::Limits;

/// Bytes of a file that tell what it is.
const HEAD: usize = 4096;
const CHUNK: usize = 128 << 10;

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is no archive that an engine takes.
    #[error("it is no archive that an engine would unpack")]
    Tar(#[from] crate::tar::TarError),
    /// Too many paths.
    #[error("it cannot be kept")]
    Table(#[from] TableError),
    /// A path leads out of the root, or is longer than any.
    #[error("it has the path \"{0}\", which leads out of the image or is too long")]
    Path(String),
    /// More of something than any layer has.
    #[error("it has more than {0}")]
    Limit(String),
    /// overlayfs has the contents of a path in another layer (`redirect_dir`, `metacopy`).
    #[error(
        "overlayfs keeps what is at {0} in another layer (redirect_dir or metacopy): write the \
         image to an archive, for example with podman save, and scan that"
    )]
    Elsewhere(String),
    /// An engine's folder of a layer changed.
    #[error("the image was changed or removed while it was read (at /{0})")]
    Changed(String),
}

/// Collects a layer.
pub(crate) struct Gatherer<'g> {
    tools: &'g Tools,
    detectors: &'g mut Detectors,
    limits: &'g Limits,
    scratch: BorrowedFd<'g>,
    table: TableBuilder,
    layer: Layer,
    /// Other names of files, and what they are names of.
    links: BTreeMap<String, String>,
    /// RPM's databases wait for what was written beside them.
    databases: BTreeMap<String, Whole>,
    entries: usize,
    buffer: Vec<u8>,
    progress: Box<dyn FnMut(u64) + 'g>,
}

impl<'g> Gatherer<'g> {
    pub(crate) fn new(
        tools: &'g Tools,
        detectors: &'g mut Detectors,
        limits: &'g Limits,
        scratch: BorrowedFd<'g>,
        progress: Box<dyn FnMut(u64) + 'g>,
    ) -> Self {
        Self {
            tools,
            detectors,
            limits,
            scratch,
            table: TableBuilder::default(),
            layer: Layer::default(),
            links: BTreeMap::new(),
            databases: BTreeMap::new(),
            entries: 0,
            buffer: vec![0; CHUNK],
            progress,
        }
    }

    /// Counts an entry.
    pub(crate) fn count(&mut self) -> Result<(), LayerError> {
        self.entries += 1;
        if self.entries.is_multiple_of(500) {
            (self.progress)(self.layer.bytes);
        }
        match self.entries as u64 > self.limits.entries {
            true => Err(LayerError::Limit(format!("{} entries", self.limits.entries))),
            false => Ok(()),
        }
    }

    /// A path of lower layers is taken away.
    pub(crate) fn removed(&mut self, path: String) {
        self.layer.removed.insert(path);
    }

    /// Nothing is left of what lower layers had in a folder.
    pub(crate) fn opaque(&mut self, folder: String) {
        self.layer.opaque.insert(folder);
    }

    /// A folder, a link, or something else that has no content.
    pub(crate) fn other(&mut self, path: &str, kind: Kind, mode: Mode) -> Result<(), LayerError> {
        self.replaced(path);
        self.mode(path, mode);
        Ok(self.table.add(path, kind)?)
    }

    /// Another name of a file of this layer.
    pub(crate) fn hard_link(&mut self, path: String, target: String) {
        self.replaced(&path);
        self.links.insert(path, target);
    }

    /// What stood at a path in the same layer is gone.
    fn replaced(&mut self, path: &str) {
        self.layer.items.remove(path);
        self.databases.remove(path);
        self.links.remove(path);
    }

    fn mode(&mut self, path: &str, mode: Mode) {
        if portcullis_baseline::wants_mode(path, &mode) {
            self.add(path, Item::Mode(mode));
        }
    }

    /// A file was not looked at, for this reason.
    pub(crate) fn unread(&mut self, path: &str, why: &str) {
        self.add(path, Item::Unread(why.to_owned()));
    }

    fn add(&mut self, path: &str, item: Item) {
        self.layer.items.entry(path.to_owned()).or_default().push(item);
    }

    /// A regular file.
    pub(crate) fn file(
        &mut self,
        path: &str,
        mode: Mode,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        self.replaced(path);
        self.mode(path, mode);
        self.layer.bytes = self.layer.bytes.saturating_add(size);
        if size > self.limits.file_bytes {
            let most = self.limits.file_bytes;
            let why = format!("it has {size} bytes, and files of more than {most} are not read");
            self.add(path, Item::Unread(why));
            return Ok(self.table.add(path, Kind::Unread)?);
        }
        let kind = self.look(path, size, content)?;
        Ok(self.table.add(path, kind)?)
    }

    /// The content of a file, under another of its names.
    pub(crate) fn file_as(
        &mut self,
        path: &str,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        if size <= self.limits.file_bytes {
            self.look(path, size, content)?;
        }
        Ok(())
    }

    fn look(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<Kind, LayerError> {
        let most = usize::try_from(size).unwrap_or(usize::MAX).min(HEAD);
        let mut head = vec![0; most];
        let count = fill(content, &mut head)?;
        head.truncate(count);
        let jobs = packages::jobs(path, &head, size);
        let is_searched = self.detectors.want(size);
        let mut spool = (!jobs.is_empty() || is_searched).then(|| Spool::new(self.scratch));
        let mut hash = Sha256::new();
        hash.update(&head);
        if let Some(spool) = &mut spool {
            spool.write(&head)?;
        }
        let mut read = head.len() as u64;
        while read < size {
            let most = usize::try_from(size - read).unwrap_or(usize::MAX).min(CHUNK);
            let count = content.read(&mut self.buffer[..most])?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            hash.update(&self.buffer[..count]);
            if let Some(spool) = &mut spool {
                spool.write(&self.buffer[..count])?;
            }
            read += count as u64;
        }
        let digest: [u8; 32] = hash.finalize().into();
        if let Some(spool) = spool {
            let whole = spool.finish();
            if is_searched {
                for item in
                    self.detectors.search(path, &whole, size, Digest::sha256(digest).hex())?
                {
                    self.add(path, item);
                }
            }
            for job in jobs {
                for item in self.tools.items(job, path, &whole, size)? {
                    self.add(path, item);
                }
            }
            // Its journal may come before or behind it.
            if packages::is_rpm(path) {
                self.databases.insert(path.to_owned(), whole);
            }
        }
        Ok(Kind::File(std::array::from_fn(|at| digest[at])))
    }

    /// Whether more is known of a file by its path than by its content.
    pub(crate) fn is_wanted(&self, path: &str) -> bool {
        let is_by_path = |job: &Job| !matches!(job, Job::Secrets);
        packages::jobs(path, &[], 1).iter().any(is_by_path)
    }

    /// Files that are to be looked at under other names too, by path.
    pub(crate) fn again(&self) -> BTreeMap<String, Vec<String>> {
        let mut again: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, target) in &self.links {
            if self.is_wanted(path) {
                again.entry(target.clone()).or_default().push(path.clone());
            }
        }
        again
    }

    /// The layer.
    pub(crate) fn finish(mut self) -> Result<Layer, LayerError> {
        for (path, database) in &self.databases {
            if path.ends_with("-wal") {
                continue;
            }
            let journal = self.databases.get(&format!("{path}-wal"));
            let items = packages::rpm(database, journal)?;
            self.layer.items.entry(path.clone()).or_default().extend(items);
        }
        let table = std::mem::take(&mut self.table).finish();
        for (path, target) in &self.links {
            let is_read = !matches!(table.get(target), None | Some(Kind::Unread));
            if !is_read && !self.links.contains_key(target) && self.is_wanted(path) {
                let why = format!("it is another name of {target}, which is not in its layer");
                self.layer.items.entry(path.clone()).or_default().push(Item::Unread(why));
            }
        }
        self.layer.table = with_links(table, &self.links)?;
        Ok(self.layer)
    }
}

/// Most names that lead to each other.
const MAX_LINKS: usize = 40;

/// Gives each other name of a file what the file has.
fn with_links(table: FileTable, links: &BTreeMap<String, String>) -> Result<FileTable, TableError> {
    if links.is_empty() {
        return Ok(table);
    }
    let mut builder = TableBuilder::default();
    for (path, kind) in table.iter() {
        builder.add(&path, kind)?;
    }
    for (path, first) in links {
        let mut target = first;
        // A name may be of a name that came before it.
        for _ in 0..MAX_LINKS {
            match links.get(target) {
                Some(next) => target = next,
                None => break,
            }
        }
        builder.add(path, table.get(target).unwrap_or(Kind::Unread))?;
    }
    Ok(builder.finish())
}

/// Reads until the buffer is full or there is no more.
fn fill(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The hashes of paths that packages own, sorted.
pub(crate) fn owned(files: impl IntoIterator<Item = String>) -> Item {
    let mut hashes: Vec<u64> = files.into_iter().map(|file| path_hash(&file)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    Item::Owned(hashes)
}
