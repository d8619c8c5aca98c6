//! What is mounted where, as the kernel tells it (proc(5), `/proc/self/mountinfo`).
//!
//! An OCI runtime is given a folder, not mounts: only the kernel knows which layers lie below it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Most bytes of a mount table that are read: some 60,000 mounts.
const MAX_BYTES: u64 = 32 << 20;

/// One mount, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Where it is.
    pub(crate) at: PathBuf,
    /// The file system, as `major:minor`: each overlay is one of its own.
    pub(crate) device: String,
    /// Which folder of the file system is at its root; `/` but for bind mounts.
    pub(crate) root: PathBuf,
    /// Type of the file system, for example `overlay`.
    pub(crate) kind: String,
    /// Device or folder; an overlay's is a label.
    pub(crate) source: OsString,
    /// Options of the file system (for overlay `lowerdir`, `upperdir`, `workdir`), each as
    /// `key=value` or a word, in the kernel's order.
    pub(crate) options: Vec<OsString>,
}

impl Mounted {
    /// The value of an option of the file system.
    pub(crate) fn option(&self, key: &str) -> Option<PathBuf> {
        self.options.iter().find_map(|option| {
            let value = option.as_bytes().strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            Some(OsString::from_vec(value.to_vec()).into())
        })
    }

    /// The lower directories of an overlay, the uppermost first.
    ///
    /// They are as the engine wrote them: relative ones, which engines use where many do not fit
    /// into one call of mount(2), are relative to a folder that the kernel does not tell.
    pub(crate) fn lower(&self) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        for option in &self.options {
            let bytes = option.as_bytes();
            let single = bytes.strip_prefix(b"lowerdir+=");
            if let Some(one) = single {
                dirs.extend((!one.is_empty()).then(|| OsString::from_vec(one.to_vec()).into()));
            } else if let Some(all) = bytes.strip_prefix(b"lowerdir=") {
                dirs.extend(split_lower(all));
            }
        }
        dirs
    }

    /// Whether layers lie below an overlay that are seen only through others (`::` before them, or
    /// `datadir+`).
    pub(crate) fn has_data_only(&self) -> bool {
        self.options.iter().any(|option| {
            let bytes = option.as_bytes();
            let list = bytes.strip_prefix(b"lowerdir=").unwrap_or_default();
            bytes.starts_with(b"datadir+=") || list.windows(2).any(|pair| pair == b"::")
        })
    }
}

/// Splits at colons that no backslash stands before (`Documentation/filesystems/overlayfs.rst`).
fn split_lower(all: &[u8]) -> Vec<PathBuf> {
    let mut dirs = vec![Vec::new()];
    let mut bytes = all.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => {
                if let (Some(&next), Some(dir)) = (bytes.next(), dirs.last_mut()) {
                    dir.push(next);
                }
            }
            b':' => dirs.push(Vec::new()),
            _ => {
                if let Some(dir) = dirs.last_mut() {
                    dir.push(byte);
                }
            }
        }
    }
    // An empty one is the mark before data-only layers (`::`).
    let dirs = dirs.into_iter().filter(|dir| !dir.is_empty());
    dirs.map(|dir| OsString::from_vec(dir).into()).collect()
}

/// What is mounted at this place, in the mount namespace of this process; the last one mounted,
/// which hides the others. `None` if no mount is there.
///
/// # Errors
/// If the table cannot be read or is larger than any node's.
pub(crate) fn mounted_at(place: &Path) -> io::Result<Option<Mounted>> {
    Ok(find(&read(Path::new("/proc/self/mountinfo"))?, place))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut table = Vec::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut table)?;
    if table.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the mount table is too large"));
    }
    Ok(table)
}

/// A folder by where it is in its file system: the same for each mount namespace that sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct InFileSystem {
    device: String,
    folder: PathBuf,
}

/// The mounts of one mount namespace.
#[derive(Debug)]
pub(crate) struct Mounts {
    table: Vec<u8>,
}

impl Mounts {
    /// Those that this process sees.
    ///
    /// # Errors
    /// If the table cannot be read or is larger than any node's.
    pub(crate) fn of_this() -> io::Result<Self> {
        Ok(Self { table: read(Path::new("/proc/self/mountinfo"))? })
    }

    /// Where a folder, without links, is in its file system.
    pub(crate) fn place_of(&self, folder: &Path) -> Option<InFileSystem> {
        let (at, mounted) = folder.ancestors().find_map(|at| Some((at, find(&self.table, at)?)))?;
        let below = folder.strip_prefix(at).ok()?;
        Some(InFileSystem { device: mounted.device, folder: joined(&mounted.root, below) })
    }

    /// The roots of the processes in other mount namespaces than this process's. What may not be
    /// read, or ends meanwhile, is passed over.
    ///
    /// # Errors
    /// If `/proc` cannot be listed.
    pub(crate) fn roots_of_others(&self) -> io::Result<HashSet<InFileSystem>> {
        let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
        let mut seen: HashSet<_> = namespace(Path::new("/proc/self")).into_iter().collect();
        let mut roots = HashSet::new();
        for process in std::fs::read_dir("/proc")? {
            let process = process?.path();
            let is_process = process
                .file_name()
                .is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit));
            if !is_process || !namespace(&process).is_some_and(|found| seen.insert(found)) {
                continue;
            }
            let Ok(table) = read(&process.join("mountinfo")) else { continue };
            roots.extend(Self { table }.place_of(Path::new("/")));
        }
        Ok(roots)
    }
}

/// A path without a slash at its end.
fn joined(folder: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { folder.to_owned() } else { folder.join(below) }
}

/// The last mount of a table at this place.
pub(crate) fn find(table: &[u8], place: &Path) -> Option<Mounted> {
    let wanted = place.as_os_str().as_bytes();
    table
        .split(|byte| *byte == b'\n')
        .rev()
        // Cheap first: the place is the fifth word.
        .filter(|line| line.split(|b| *b == b' ').nth(4).is_some_and(|w| unescaped(w) == wanted))
        .find_map(parse)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = words.nth(2)?;
    let root = words.next()?;
    let at = words.next()?;
    // The options of the mount, then any number of tags, then a dash.
    words.next()?;
    words.by_ref().find(|word| *word == b"-")?;
    let kind = words.next()?;
    let source = words.next()?;
    let options = words.next()?;
    Some(Mounted {
        at: PathBuf::from(OsString::from_vec(unescaped(at))),
        device: String::from_utf8_lossy(device).into_owned(),
        root: PathBuf::from(OsString::from_vec(unescaped(root))),
        kind: String::from_utf8_lossy(kind).into_owned(),
        source: OsString::from_vec(unescaped(source)),
        options: split_options(options),
    })
}

/// Splits at commas that no backslash stands before, then takes the kernel's escapes back. A
/// backslash before a colon stays for [`split_lower`]: the kernel writes it as `\134`.
fn split_options(options: &[u8]) -> Vec<OsString> {
    options.split(|byte| *byte == b',').map(|word| OsString::from_vec(unescaped(word))).collect()
}

/// Takes `\ooo` back (kernel, `mangle()`: blank, tab, newline, backslash and, in options, comma).
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..]) => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = left;
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 21 0:49 / /run/c/default/a/rootfs rw,relatime shared:21 master:3 - overlay overlay rw,lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work,index=off
41 21 254:0 /srv/with\\040blank /mnt/a\\040b rw - ext4 /dev/vda rw
42 21 0:50 / /twice rw - tmpfs one rw
43 21 0:51 / /twice rw - tmpfs two rw,size=1k
44 21 0:52 / /colon rw - overlay overlay rw,lowerdir+=/s/a\\134:b,lowerdir+=/s/c,upperdir=/u
45 21 0:53 / /old rw - overlay overlay rw,lowerdir=l/AA:l/B\\134:B::/data
47 21 0:55 / /added rw - overlay overlay rw,lowerdir+=/s/a,datadir+=/s/b,upperdir=/u
48 21 0:56 / /empty rw - overlay overlay rw,lowerdir+=,lowerdir=:/s/a:,upperdir=/u
broken line
46 21 0:54 / /cut rw -";

    fn at(place: &str) -> Option<Mounted> {
        find(TABLE.as_bytes(), Path::new(place))
    }

    fn lower(place: &str) -> Vec<String> {
        at(place).unwrap().lower().iter().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn an_overlay_is_read_with_its_layers() {
        let mounted = at("/run/c/default/a/rootfs").unwrap();
        assert_eq!(mounted.kind, "overlay");
        assert_eq!(mounted.option("upperdir").unwrap(), Path::new("/s/3/fs"));
        assert_eq!(mounted.option("work"), None);
        assert_eq!(lower("/run/c/default/a/rootfs"), ["/s/2/fs", "/s/1/fs"]);
    }

    #[test]
    fn escapes_are_taken_back() {
        let mounted = at("/mnt/a b").unwrap();
        assert_eq!(mounted.root, Path::new("/srv/with blank"));
        assert_eq!(lower("/old"), ["l/AA", "l/B:B", "/data"]);
        assert_eq!(lower("/empty"), ["/s/a"]);
        assert!(at("/old").unwrap().has_data_only());
        assert!(at("/added").unwrap().has_data_only());
        assert!(!at("/colon").unwrap().has_data_only());
    }

    #[test]
    fn the_last_mount_hides_the_others() {
        assert_eq!(at("/twice").unwrap().source, "two");
    }

    #[test]
    fn what_is_not_there_or_broken_is_none() {
        for place in ["/run/c", "/run/c/default/a/rootfs/", "/cut", "", "line"] {
            assert_eq!(at(place), None, "{place}");
        }
        assert_eq!(find(b"", Path::new("/")), None);
    }

    #[test]
    fn a_folder_has_a_place_in_its_file_system() {
        let mounts = Mounts { table: TABLE.as_bytes().to_vec() };
        let place = |folder: &str| {
            let place = mounts.place_of(Path::new(folder)).unwrap();
            (place.device, place.folder.display().to_string())
        };
        for (folder, device, inside) in [
            ("/run/c/default/a/rootfs", "0:49", "/"),
            ("/run/c/default/a", "254:0", "/run/c/default/a"),
            ("/mnt/a b/c", "254:0", "/srv/with blank/c"),
            ("/srv/with blank/c", "254:0", "/srv/with blank/c"),
            ("/twice", "0:51", "/"),
            ("/", "254:0", "/"),
        ] {
            assert_eq!(place(folder), (device.to_owned(), inside.to_owned()), "{folder}");
        }
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        assert_eq!(mounted_at(Path::new("/no/such/place")).unwrap(), None);
    }
}
