//! Who can read a file.
//!
//! What tells of an installed package lies in a fixed place, and only there it is taken for one: a
//! `package.json` deep in a package's own tests is none. Lock files within installed packages are
//! those of their authors (trivy#282, #756, #4948) and are passed over.

/// A way to read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reader {
    /// `node_modules/<name>/package.json`.
    NpmPackage,
    /// `package-lock.json` and `npm-shrinkwrap.json`.
    NpmLock,
    /// `yarn.lock`.
    YarnLock,
    /// `pnpm-lock.yaml`.
    PnpmLock,
    /// `*.dist-info/METADATA` and `*.egg-info`.
    PythonMetadata,
    /// `poetry.lock`, `pdm.lock`, `uv.lock` and `pylock.toml`.
    PythonLock,
    /// `Pipfile.lock`.
    PipfileLock,
    /// `requirements.txt`.
    Requirements,
    /// `go.mod`.
    GoMod,
    /// `Cargo.lock`.
    CargoLock,
    /// ELF programs and libraries: what the compiler of Go and cargo-auditable put into them.
    Binary,
    /// Archives of Java: `.jar`, `.war` and the like.
    Jar,
    /// `specifications/*.gemspec`.
    GemSpec,
    /// `Gemfile.lock`.
    GemfileLock,
    /// `composer.lock`.
    ComposerLock,
    /// `vendor/composer/installed.json`.
    ComposerInstalled,
    /// `*.deps.json`.
    NuGetDeps,
    /// `packages.lock.json`.
    NuGetLock,
}

impl Reader {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::NpmPackage,
        Self::NpmLock,
        Self::YarnLock,
        Self::PnpmLock,
        Self::PythonMetadata,
        Self::PythonLock,
        Self::PipfileLock,
        Self::Requirements,
        Self::GoMod,
        Self::CargoLock,
        Self::Binary,
        Self::Jar,
        Self::GemSpec,
        Self::GemfileLock,
        Self::ComposerLock,
        Self::ComposerInstalled,
        Self::NuGetDeps,
        Self::NuGetLock,
    ];
}

/// How many of a file's first bytes [`reader_of`] looks at.
pub const HEAD: usize = 20;

/// Endings of archives of Java, and of plugins of Jenkins.
pub(crate) const ARCHIVES: [&str; 7] = [".jar", ".war", ".ear", ".par", ".sar", ".hpi", ".jpi"];

/// Folders of installed packages, with lock files of the packages' own authors in them.
const INSTALLED: [&str; 9] = [
    "node_modules/",
    "site-packages/",
    "dist-packages/",
    "pkg/mod/",
    "vendor/",
    "registry/src/",
    "git/checkouts/",
    "gems/",
    "testdata/",
];

impl Reader {
    /// Whether it reads what somebody wished for and not what is installed.
    pub fn is_manifest(self) -> bool {
        match self {
            Self::NpmLock
            | Self::YarnLock
            | Self::PnpmLock
            | Self::PythonLock
            | Self::PipfileLock
            | Self::Requirements
            | Self::GoMod
            | Self::CargoLock
            | Self::GemfileLock
            | Self::ComposerLock
            | Self::NuGetLock => true,
            Self::NpmPackage
            | Self::PythonMetadata
            | Self::Binary
            | Self::Jar
            | Self::GemSpec
            | Self::ComposerInstalled
            | Self::NuGetDeps => false,
        }
    }
}

/// The reader of a file, by its path in the image and its first bytes ([`HEAD`] of them, or fewer if
/// it has no more). Links and folders are no files.
pub fn reader_of(path: &str, head: &[u8]) -> Option<Reader> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let lower = name.to_ascii_lowercase();
    if ARCHIVES.iter().any(|ending| lower.ends_with(ending)) && !head.is_empty() {
        return Some(Reader::Jar);
    }
    if is_program(head) {
        return Some(Reader::Binary);
    }
    installed(folder, name).or_else(|| manifest(folder, name))
}

fn installed(folder: &str, name: &str) -> Option<Reader> {
    let last = folder.rsplit('/').next()?;
    // pip renames what it could not remove to `~name`, and does not read it either.
    let is_left_over = last.starts_with('~') || name.starts_with('~');
    match name {
        "package.json" if is_module(folder) => Some(Reader::NpmPackage),
        "METADATA" if last.ends_with(".dist-info") && !is_left_over => Some(Reader::PythonMetadata),
        "PKG-INFO" if (last.ends_with(".egg-info") || last == "EGG-INFO") && !is_left_over => {
            Some(Reader::PythonMetadata)
        }
        "installed.json" if last == "composer" && is_in(folder, "vendor/") => {
            Some(Reader::ComposerInstalled)
        }
        _ if name.ends_with(".egg-info") && !is_left_over => Some(Reader::PythonMetadata),
        _ if name.ends_with(".gemspec") && is_specifications(folder) => Some(Reader::GemSpec),
        _ if name.ends_with(".deps.json") => Some(Reader::NuGetDeps),
        _ => None,
    }
}

fn manifest(folder: &str, name: &str) -> Option<Reader> {
    let reader = match name {
        "package-lock.json" | "npm-shrinkwrap.json" => Reader::NpmLock,
        "yarn.lock" => Reader::YarnLock,
        "pnpm-lock.yaml" => Reader::PnpmLock,
        "poetry.lock" | "pdm.lock" | "uv.lock" | "pylock.toml" => Reader::PythonLock,
        "Pipfile.lock" => Reader::PipfileLock,
        "requirements.txt" => Reader::Requirements,
        "go.mod" => Reader::GoMod,
        "Cargo.lock" => Reader::CargoLock,
        "Gemfile.lock" | "gems.locked" => Reader::GemfileLock,
        "composer.lock" => Reader::ComposerLock,
        "packages.lock.json" => Reader::NuGetLock,
        _ => return None,
    };
    (!INSTALLED.iter().any(|part| is_in(folder, part))).then_some(reader)
}

/// Whether a folder is, or lies in, one of that name (with a slash behind it).
fn is_in(folder: &str, part: &str) -> bool {
    let folder = format!("/{}/", folder.trim_matches('/'));
    folder.contains(&format!("/{part}"))
}

/// Whether a folder is that of a package: `node_modules/name` or `node_modules/@scope/name`.
fn is_module(folder: &str) -> bool {
    let mut parts = folder.rsplit('/');
    let (name, above, top) = (parts.next(), parts.next(), parts.next());
    let is_name = name.is_some_and(|name| !name.is_empty() && !name.starts_with(['.', '@']));
    let is_scoped = above.is_some_and(|scope| scope.len() > 1 && scope.starts_with('@'));
    is_name && (above == Some("node_modules") || (is_scoped && top == Some("node_modules")))
}

/// Whether a folder is that of RubyGems: `specifications`, or for what Ruby brings along `default`
/// in it.
fn is_specifications(folder: &str) -> bool {
    let mut parts = folder.rsplit('/');
    let last = parts.next();
    last == Some("specifications")
        || (last == Some("default") && parts.next() == Some("specifications"))
}

/// Whether it is an ELF program or library, and not an object that is still to be linked.
fn is_program(head: &[u8]) -> bool {
    let Some((ident, rest)) = head.split_first_chunk::<16>() else { return false };
    let kind = match (ident[5], rest) {
        (1, [low, high, ..]) | (2, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
        _ => return false,
    };
    ident.starts_with(b"\x7fELF") && matches!(kind, 2 | 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, head: &[u8], wanted: Option<Reader>) {
        assert_eq!(reader_of(path, head), wanted, "{path}");
        if !path.starts_with('/') {
            assert_eq!(reader_of(&format!("/{path}"), head), wanted, "/{path}");
        }
    }

    #[test]
    fn places_say_what_is_installed() {
        for (path, wanted) in [
            ("app/node_modules/a/package.json", Some(Reader::NpmPackage)),
            ("node_modules/@s/a/package.json", Some(Reader::NpmPackage)),
            ("a/node_modules/.pnpm/a@1/node_modules/a/package.json", Some(Reader::NpmPackage)),
            ("usr/lib/node_modules/npm/package.json", Some(Reader::NpmPackage)),
            ("app/package.json", None),
            ("package.json", None),
            ("node_modules/package.json", None),
            ("node_modules/@s/package.json", None),
            ("node_modules/a/test/package.json", None),
            ("node_modules/@s/a/esm/package.json", None),
            ("node_modules/.cache/package.json", None),
            ("my_node_modules/a/package.json", None),
            ("lib/site-packages/a-1.dist-info/METADATA", Some(Reader::PythonMetadata)),
            ("lib/site-packages/~a-1.dist-info/METADATA", None),
            ("a.egg-info/PKG-INFO", Some(Reader::PythonMetadata)),
            ("x/a-1-py3.egg-info", Some(Reader::PythonMetadata)),
            ("a.egg/EGG-INFO/PKG-INFO", Some(Reader::PythonMetadata)),
            ("src/PKG-INFO", None),
            ("src/METADATA", None),
            ("var/lib/gems/3.1.0/specifications/a-1.gemspec", Some(Reader::GemSpec)),
            ("gems/specifications/default/a-1.gemspec", Some(Reader::GemSpec)),
            ("gems/a-1/a.gemspec", None),
            ("app/vendor/composer/installed.json", Some(Reader::ComposerInstalled)),
            ("app/composer/installed.json", None),
            ("app/a.deps.json", Some(Reader::NuGetDeps)),
        ] {
            check(path, b"{", wanted);
            assert!(wanted.is_none_or(|reader| !reader.is_manifest()));
        }
    }

    #[test]
    fn lock_files_of_installed_packages_are_not_read() {
        for (path, wanted) in [
            ("app/package-lock.json", Some(Reader::NpmLock)),
            ("app/npm-shrinkwrap.json", Some(Reader::NpmLock)),
            ("node_modules/a/package-lock.json", None),
            ("app/yarn.lock", Some(Reader::YarnLock)),
            ("app/node_modules/a/yarn.lock", None),
            ("pnpm-lock.yaml", Some(Reader::PnpmLock)),
            ("uv.lock", Some(Reader::PythonLock)),
            ("poetry.lock", Some(Reader::PythonLock)),
            ("Pipfile.lock", Some(Reader::PipfileLock)),
            ("a/requirements.txt", Some(Reader::Requirements)),
            ("site-packages/a/requirements.txt", None),
            ("src/go.mod", Some(Reader::GoMod)),
            ("go/pkg/mod/x@v1/go.mod", None),
            ("src/a/testdata/go.mod", None),
            ("Cargo.lock", Some(Reader::CargoLock)),
            ("root/.cargo/registry/src/x/a-1/Cargo.lock", None),
            ("app/Gemfile.lock", Some(Reader::GemfileLock)),
            ("var/lib/gems/3.1.0/gems/a-1/Gemfile.lock", None),
            ("composer.lock", Some(Reader::ComposerLock)),
            ("vendor/a/b/composer.lock", None),
            ("packages.lock.json", Some(Reader::NuGetLock)),
        ] {
            check(path, b"{", wanted);
            assert!(wanted.is_none_or(Reader::is_manifest));
        }
    }

    #[test]
    fn archives_go_by_name_and_programs_by_their_first_bytes() {
        let elf = |data: u8, kind: [u8; 2]| {
            let mut head = b"\x7fELF\x02\x01\x01".to_vec();
            head[5] = data;
            head.resize(16, 0);
            head.extend(kind);
            head
        };
        check("app.jar", b"PK\x03\x04", Some(Reader::Jar));
        check("APP.WAR", b"#!/bin/sh", Some(Reader::Jar));
        check("app.jar", b"", None);
        check("app.zip", b"PK\x03\x04", None);
        check("bin/a", &elf(1, [2, 0]), Some(Reader::Binary));
        check("bin/a", &elf(2, [0, 3]), Some(Reader::Binary));
        check("a.ko", &elf(1, [1, 0]), None);
        check("bin/a", &elf(1, [2, 0])[..16], None);
        check("bin/a", b"\x7fELF", None);
        check("bin/a", b"#!/bin/sh", None);
    }
}
