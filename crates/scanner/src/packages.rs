//! What is to be done with a file, by its path and first bytes, and what comes of it.

use std::io;

pub(crate) use portcullis_inventory::Database;
use portcullis_inventory::{Item, Package, PackageKind, database_of};
use portcullis_languages::{Found, Reader};
use portcullis_rpmdb::RpmDbError;
use portcullis_secrets::Finder;

use crate::gather::owned;
use crate::whole::Whole;
use crate::{apk, debian};

/// Most bytes of a database of stanzas, and of a list of files.
const MAX_TEXT: u64 = 64 << 20;

/// Something to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Read a package manager's database.
    Database(Database),
    /// Read what tells of packages of a language.
    Language(Reader),
    /// Keep its content, up to so many bytes.
    Text(usize),
    /// Search it for keys and tokens.
    Secrets,
}

/// What is to be done with a file. By its path alone, with no first bytes, what only the content
/// tells is not known.
pub(crate) fn jobs(path: &str, head: &[u8], size: u64) -> Vec<Job> {
    if size == 0 {
        // An empty database is one without packages; it hides a lower one, as a path.
        return Vec::new();
    }
    let mut jobs = Vec::new();
    jobs.extend(database_of(path).map(Job::Database));
    jobs.extend(portcullis_languages::reader_of(path, head).map(Job::Language));
    jobs.extend(portcullis_baseline::wants_text(path).map(Job::Text));
    if matches!(
        path,
        "etc/os-release"
            | "usr/lib/os-release"
            | "etc/alpine-release"
            | "etc/debian_version"
            | "etc/redhat-release"
            | "etc/centos-release"
    ) {
        jobs.push(Job::Text(64 << 10));
    }
    if Finder::wants(path, size) && !head.contains(&0) {
        jobs.push(Job::Secrets);
    }
    jobs
}

/// What analysing files needs and is made once.
pub(crate) struct Tools {
    secrets: Finder,
}

impl Tools {
    pub(crate) fn new() -> Self {
        Self { secrets: Finder::new() }
    }

    /// What a job finds in a file.
    pub(crate) fn items(
        &self,
        job: Job,
        path: &str,
        whole: &Whole,
        size: u64,
    ) -> io::Result<Vec<Item>> {
        let text = || whole.bytes(MAX_TEXT);
        let too_large = || {
            vec![Item::Unread(format!("it has {size} bytes, and no more than {MAX_TEXT} are read"))]
        };
        Ok(match job {
            Job::Database(Database::Rpm) => Vec::new(),
            Job::Database(_) if size > MAX_TEXT => too_large(),
            Job::Database(Database::Dpkg) => vec![Item::Packages(debian::packages(&text()?))],
            Job::Database(Database::DpkgFiles) => vec![owned(debian::files(path, &text()?))],
            Job::Database(Database::Apk) => {
                let (packages, files) = apk::packages(&text()?);
                vec![Item::Packages(packages), owned(files)]
            }
            Job::Language(reader) => language(reader, path, whole, size)?,
            Job::Text(most) => {
                let mut items = vec![Item::Text(whole.bytes(most as u64)?.into_owned())];
                if size > most as u64 {
                    items.push(Item::Unread(format!(
                        "only the first {most} of its {size} bytes are read"
                    )));
                }
                items
            }
            Job::Secrets => {
                let found = self.secrets.in_file(path, &whole.bytes(size)?);
                found
                    .into_iter()
                    .map(|secret| Item::Secret {
                        rule: secret.rule.id.to_owned(),
                        line: secret.line,
                        shown: secret.shown,
                    })
                    .collect()
            }
        })
    }
}

fn language(reader: Reader, path: &str, whole: &Whole, size: u64) -> io::Result<Vec<Item>> {
    let content = whole.reader()?;
    let read = portcullis_languages::read(reader, path, content, size, &Default::default());
    let (packages, unread) = match read {
        Ok(Found { packages, unread, .. }) => (packages, unread),
        Err(error) => {
            let why = portcullis_types::with_causes(&error);
            return Ok(vec![Item::Unread(format!(
                "what it tells of packages cannot be read: {why}"
            ))]);
        }
    };
    let kept = packages.into_iter().filter(|package| !package.is_dev).map(|package| Package {
        within: package.inner.clone(),
        is_wish: reader.is_manifest(),
        ..Package::new(kind(package.kind), package.name, package.version)
    });
    let packages: Vec<Package> = kept.collect();
    let mut items = Vec::new();
    if !packages.is_empty() {
        items.push(Item::Packages(packages));
    }
    if let Some(first) = unread.first() {
        let why = portcullis_types::with_causes(&first.error);
        let more = unread.len();
        items.push(Item::Unread(format!(
            "{more} parts of it cannot be read, the first is {}: {why}",
            first.inner
        )));
    }
    Ok(items)
}

fn kind(kind: portcullis_languages::Kind) -> PackageKind {
    use portcullis_languages::Kind;
    match kind {
        Kind::Cargo => PackageKind::Cargo,
        Kind::Go => PackageKind::Go,
        Kind::Maven => PackageKind::Maven,
        Kind::NuGet => PackageKind::NuGet,
        Kind::Packagist => PackageKind::Packagist,
        Kind::PyPi => PackageKind::PyPi,
        Kind::RubyGems => PackageKind::RubyGems,
        _ => PackageKind::Npm,
    }
}

/// Whether a file is one of RPM's databases, or the journal of one.
pub(crate) fn is_rpm(path: &str) -> bool {
    database_of(path) == Some(Database::Rpm)
}

/// The packages of an RPM database.
pub(crate) fn rpm(database: &Whole, journal: Option<&Whole>) -> io::Result<Vec<Item>> {
    let (mut packages, mut files) = (Vec::new(), Vec::new());
    let mut journal = journal.map(Whole::reader).transpose()?;
    let mut each = |package: portcullis_rpmdb::Package| {
        let source = package.source_name().zip(package.source_version());
        let source = source.map(|(name, version)| (name.to_owned(), version.to_owned()));
        let version = package.evr();
        files.extend(package.files.iter().map(|file| file.trim_start_matches('/').to_owned()));
        packages.push(Package {
            architecture: package.arch,
            source,
            module: package.modularity,
            ..Package::new(PackageKind::Rpm, package.name, version)
        });
    };
    let journal = journal.as_mut().map(|journal| journal as &mut dyn portcullis_rpmdb::ReadSeek);
    let read = portcullis_rpmdb::read(database.reader()?, journal, &Default::default(), &mut each);
    let mut items = vec![Item::Packages(packages), owned(files)];
    match read {
        Ok(summary) if summary.damaged.is_empty() => {}
        Ok(summary) => items.push(Item::Unread(format!(
            "{} of its {} packages cannot be read",
            summary.damaged.len(),
            summary.damaged.len() + summary.packages
        ))),
        Err(RpmDbError::Unknown) => {
            items.push(Item::Unread("it is no database that RPM keeps".to_owned()));
        }
        Err(error) => items.push(Item::Unread(format!(
            "the package database cannot be read: {}",
            portcullis_types::with_causes(&error)
        ))),
    }
    Ok(items)
}
