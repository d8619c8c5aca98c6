//! What a scan is given: the image, and what this node knows of malware and passwords.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portcullis_baseline::passwords::WordList;
use portcullis_inventory::protocol::{Source, StoredLayer};
use portcullis_inventory::{Hashes, Item, Package};
use portcullis_malware::hashes::List;
use portcullis_resolve::{ContainerdResolver, StorageEngine, StorageResolver};
use portcullis_scan::{Scanned, source_at};
use portcullis_types::Digest;

use crate::args::{Scan, ScanEngine};
use crate::context::Context;

/// Where Debian's and Red Hat's clamd listen.
const CLAMD: [&str; 3] =
    ["/run/clamav/clamd.ctl", "/run/clamd.scan/clamd.sock", "/run/clamav/clamd.sock"];

/// How long an engine may take to say where an image is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The source that a target names: a path if there is something, else an image of containerd's, of
/// Podman's or of CRI-O's.
pub(super) fn of(context: &Context, args: &Scan, target: &str) -> Result<Source> {
    let is_path = target.starts_with(['/', '.']) || Path::new(target).exists();
    if is_path {
        return Ok(source_at(Path::new(target))?);
    }
    let taken = || {
        format!("\"{target}\" is no file or folder here, and was taken for the name of an image")
    };
    let in_containerd = || -> Result<Source> {
        let resolver = ContainerdResolver::new(&args.address);
        let deadline = Instant::now() + PATIENCE;
        let stored = resolver.stored(target, args.namespace.as_deref(), deadline)?;
        let references = BTreeSet::from([stored.name]);
        Ok(Source::Blobs { folder: stored.folder, target: stored.target, references })
    };
    let in_storage = || -> Result<Source> {
        let resolver = StorageResolver::new(StorageEngine::Podman, graph_roots(context, args));
        let stored = resolver.stored(target, Instant::now() + PATIENCE)?;
        Ok(Source::Stored {
            config: stored.config,
            layers: stored.layers.into_iter().map(StoredLayer::Folder).collect(),
            manifests: BTreeSet::new(),
            references: stored.names.into_iter().collect(),
        })
    };
    match args.engine {
        Some(ScanEngine::Containerd) => in_containerd().with_context(taken),
        Some(ScanEngine::Storage) => in_storage().with_context(taken),
        None => in_containerd().or_else(|first| {
            in_storage().with_context(|| format!("{first:#}; and")).with_context(taken)
        }),
    }
}

/// The folders of containers/storage that are named, or those that this node's engines use.
fn graph_roots(context: &Context, args: &Scan) -> Vec<PathBuf> {
    if let Some(folder) = &args.storage {
        return vec![folder.clone()];
    }
    let mut roots: Vec<PathBuf> =
        context.settings.wrappers().flat_map(|(_, w)| w.storage.clone()).collect();
    for engine in [StorageEngine::CriO, StorageEngine::Podman] {
        roots.extend(StorageResolver::default_roots(engine));
    }
    roots
}

/// The platform of this node, as OCI names it.
pub(super) fn own_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

/// The packages of an image.
pub(super) fn packages(scanned: &Scanned) -> impl Iterator<Item = (&str, &Package)> {
    scanned.merged.items().into_iter().flat_map(|(path, item)| {
        let packages = match item {
            Item::Packages(packages) => packages.as_slice(),
            _ => &[],
        };
        packages.iter().map(move |package| (path, package))
    })
}

/// The socket of clamd: the one that is named, else one that is there.
pub(super) fn clamd(args: &Scan) -> Result<Option<PathBuf>> {
    if args.no_clamd {
        return Ok(None);
    }
    if let Some(socket) = &args.clamd {
        if !socket.exists() {
            bail!("{} is not there: name the LocalSocket of clamd.conf", socket.display());
        }
        return Ok(Some(socket.clone()));
    }
    Ok(CLAMD.iter().map(PathBuf::from).find(|socket| socket.exists()))
}

/// Words that are tried as passwords: those that are built in, and the node's own.
pub(in crate::commands) fn words(context: &Context) -> Result<WordList> {
    let mut words = WordList::new();
    let path = context.paths.malware().with_file_name("passwords.txt");
    match fs::read(&path) {
        Ok(text) => words.add(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    Ok(words)
}

/// The node's rules of YARA.
pub(super) fn rules(context: &Context) -> Result<Vec<(String, Vec<u8>)>> {
    let mut rules = Vec::new();
    for path in files(&context.paths.malware(), &["yar", "yara"])? {
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        rules.push((path.display().to_string(), text));
    }
    Ok(rules)
}

/// The node's lists of malicious files.
pub(in crate::commands) fn lists(context: &Context) -> Result<Option<Lists>> {
    let mut lists = Vec::new();
    for path in files(&context.paths.malware(), &["txt", "csv", "sha256", "hsb"])? {
        let file =
            fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        lists.push(List::read(file, &path.display().to_string())?);
    }
    Ok((!lists.is_empty()).then_some(Lists(lists)))
}

/// Lists of malicious files.
pub(in crate::commands) struct Lists(Vec<List>);

impl Hashes for Lists {
    fn find(&self, hash: &[u8; 16]) -> Option<(String, String)> {
        let entry = self.0.iter().find_map(|list| list.lookup(hash))?;
        let sha256 = Digest::sha256(*entry.digest).hex().to_owned();
        // One without a name goes by the digest itself.
        let name =
            entry.name.map_or_else(|| format!("sha256-{}", &sha256[..16]), ToOwned::to_owned);
        Some((sha256, name))
    }
}

/// The files of a folder whose names end so, in order.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let wrong = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(wrong),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(wrong)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| endings.contains(&ending)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
