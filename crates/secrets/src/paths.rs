//! Which files are worth reading, by path and size.

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 8 << 20;

/// A place where sample keys are shipped.
struct Sample {
    /// Folders in a row. The last may end with `*`. With `/` in front they begin at the root.
    under: &'static str,
    /// Somewhere below: one of these names. Empty: all that is below.
    folders: &'static [&'static str],
    /// Why what is there is not a secret of the image.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for who reads or extends the table"))]
    reason: &'static str,
}

const TESTS: &[&str] = &["test", "tests", "testing", "__tests__", "testdata", "fixtures", "spec"];
const TESTS_AND_SAMPLES: &[&str] = &[
    "test",
    "tests",
    "__tests__",
    "testdata",
    "fixtures",
    "spec",
    "example",
    "examples",
    "sample",
    "samples",
    "docs",
    "doc",
    "benchmark",
    "benches",
];

/// Sample keys are published with their packages: nobody trusts them, and each image would have them.
const SAMPLES: &[Sample] = &[
    Sample { under: "/usr/share/doc", folders: &[], reason: "documentation of packages" },
    Sample { under: "/usr/share/man", folders: &[], reason: "manuals" },
    Sample { under: "/usr/share/info", folders: &[], reason: "manuals" },
    Sample { under: "/usr/share/gtk-doc", folders: &[], reason: "manuals" },
    Sample { under: "/usr/share/help", folders: &[], reason: "manuals" },
    Sample { under: "/usr/share/locale", folders: &[], reason: "translations" },
    Sample { under: "/usr/share/zoneinfo", folders: &[], reason: "time zones" },
    Sample { under: "/usr/local/share/man", folders: &[], reason: "manuals" },
    Sample { under: "/usr/local/share/doc", folders: &[], reason: "documentation of packages" },
    Sample { under: "/usr/share/perl*", folders: &["t"], reason: "Perl's tests" },
    Sample {
        under: "/usr/lib/python3*",
        folders: TESTS,
        reason: "CPython's tests have keys for TLS",
    },
    Sample {
        under: "/usr/local/lib/python3*/test",
        folders: &[],
        reason: "CPython's tests have keys for TLS",
    },
    Sample { under: "python3*/test", folders: &[], reason: "CPython built from source" },
    Sample { under: "python2*/test", folders: &[], reason: "CPython built from source" },
    Sample {
        under: "site-packages",
        folders: TESTS_AND_SAMPLES,
        reason: "tests of Python packages",
    },
    Sample {
        under: "dist-packages",
        folders: TESTS_AND_SAMPLES,
        reason: "tests of Python packages",
    },
    Sample { under: "node_modules", folders: TESTS_AND_SAMPLES, reason: "tests of Node packages" },
    Sample { under: "pkg/mod", folders: TESTS_AND_SAMPLES, reason: "Go's module cache" },
    Sample { under: "vendor", folders: TESTS, reason: "vendored sources: Go, PHP, Ruby" },
    Sample { under: "/usr/local/go", folders: &["testdata", "test"], reason: "Go's tests" },
    Sample { under: "/usr/lib/go*", folders: &["testdata", "test"], reason: "Go's tests" },
    Sample { under: "/usr/share/go*", folders: &["testdata", "test"], reason: "Go's tests" },
    Sample {
        under: "/usr/lib/ruby",
        folders: TESTS_AND_SAMPLES,
        reason: "OpenSSL samples of Ruby",
    },
    Sample {
        under: "/usr/share/ruby*",
        folders: TESTS_AND_SAMPLES,
        reason: "OpenSSL samples of Ruby",
    },
    Sample { under: "gems", folders: TESTS_AND_SAMPLES, reason: "tests of gems" },
    Sample { under: "perl5", folders: &["t", "eg", "examples"], reason: "tests of Perl modules" },
    Sample { under: "registry/src", folders: &[], reason: "published sources, in Cargo's cache" },
    Sample { under: "git/checkouts", folders: TESTS_AND_SAMPLES, reason: "Cargo's cache" },
    Sample {
        under: "google-cloud-sdk",
        folders: &[],
        reason: "public client keys of Google's own tools, and tests; users' keys are elsewhere",
    },
    Sample { under: "third_party", folders: TESTS, reason: "vendored sources" },
    Sample { under: "/var/lib/dpkg", folders: &[], reason: "dpkg's database" },
    Sample { under: "/var/lib/apt", folders: &[], reason: "APT's package lists" },
    Sample { under: "/proc", folders: &[], reason: "not of the image" },
    Sample { under: "/sys", folders: &[], reason: "not of the image" },
];

/// Endings of files that are no text: programs, archives, media, fonts, databases.
const BINARY: &[&str] = &[
    "7z",
    "a",
    "apk",
    "avi",
    "bin",
    "bmp",
    "bz2",
    "cache",
    "class",
    "db",
    "deb",
    "dll",
    "dylib",
    "ear",
    "eot",
    "exe",
    "gif",
    "gmo",
    "gresource",
    "gz",
    "ico",
    "jar",
    "jpeg",
    "jpg",
    "ko",
    "lz4",
    "lzma",
    "mo",
    "mp3",
    "mp4",
    "o",
    "odt",
    "ogg",
    "otf",
    "pack",
    "pak",
    "pdf",
    "png",
    "ppt",
    "pyc",
    "pyd",
    "pyo",
    "rlib",
    "rmeta",
    "rpm",
    "so",
    "sqlite",
    "svgz",
    "tar",
    "tgz",
    "tif",
    "tiff",
    "ttc",
    "ttf",
    "war",
    "wasm",
    "wav",
    "webm",
    "webp",
    "whl",
    "woff",
    "woff2",
    "xls",
    "xz",
    "zip",
    "zst",
];

pub(crate) fn wants(path: &str, size: u64) -> bool {
    let path = path.trim_start_matches(['.', '/']);
    let name = path.rsplit('/').next().unwrap_or_default();
    // `.env` is a name, not an ending, and a leading dot was cut off only at the root.
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    (8..=MAX_FILE).contains(&size)
        && !name.contains(".so.")
        && !name.ends_with("_test.go")
        // The manual of a Python package, as its index shows it.
        && !matches!(name, "METADATA" | "PKG-INFO")
        && ending.is_none_or(|ending| BINARY.binary_search(&ending.as_str()).is_err())
        && !SAMPLES.iter().any(|sample| is_in(path, sample))
}

fn is_in(path: &str, sample: &Sample) -> bool {
    let Some(rest) = below(path, sample.under) else { return false };
    let folders = rest.rsplit_once('/').map_or("", |(folders, _)| folders);
    sample.folders.is_empty() || folders.split('/').any(|name| sample.folders.contains(&name))
}

/// The rest of the path behind the folders `under`.
fn below<'a>(path: &'a str, under: &str) -> Option<&'a str> {
    if let Some(under) = under.strip_prefix('/') {
        return strip_folders(path, under);
    }
    // The first place is enough: what is below it covers what is below a second one.
    let mut rest = path;
    loop {
        if let Some(rest) = strip_folders(rest, under) {
            return Some(rest);
        }
        rest = rest.split_once('/')?.1;
    }
}

fn strip_folders<'a>(mut path: &'a str, under: &str) -> Option<&'a str> {
    for folder in under.split('/') {
        let (first, rest) = path.split_once('/')?;
        let is = match folder.strip_suffix('*') {
            Some(start) => first.starts_with(start),
            None => first == folder,
        };
        if !is {
            return None;
        }
        path = rest;
    }
    Some(path)
}

/// Whether the tables are in order, and say why.
#[cfg(test)]
pub(crate) fn is_sound() -> bool {
    BINARY.is_sorted() && SAMPLES.iter().all(|s| !s.reason.is_empty() && !s.under.ends_with('/'))
}
