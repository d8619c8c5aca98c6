//! dpkg's database (dpkg, `dpkg(1)` "FILES"; deb822(5)): which packages are installed, and which
//! files are theirs.
//!
//! `var/lib/dpkg/status` has all of them, one stanza each; distroless images have one file each in
//! `var/lib/dpkg/status.d`.

use portcullis_inventory::{Package, PackageKind};

/// Most packages of a database.
const MAX_PACKAGES: usize = 100_000;
/// Most bytes of a field that is kept.
const MAX_FIELD: usize = 512;

/// The packages of a file of stanzas.
pub(crate) fn packages(text: &[u8]) -> Vec<Package> {
    let text = String::from_utf8_lossy(text);
    let mut packages = Vec::new();
    let mut stanza = Stanza::default();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            packages.extend(std::mem::take(&mut stanza).package());
            if packages.len() >= MAX_PACKAGES {
                break;
            }
        } else if !line.starts_with([' ', '\t'])
            && let Some((field, value)) = line.split_once(':')
        {
            stanza.take(field, value.trim());
        }
    }
    packages
}

/// The fields that tell which package it is.
#[derive(Default)]
struct Stanza {
    name: String,
    version: String,
    architecture: Option<String>,
    source: Option<String>,
    status: Option<String>,
}

impl Stanza {
    fn take(&mut self, field: &str, value: &str) {
        if value.len() > MAX_FIELD {
            return;
        }
        let is = |name: &str| field.eq_ignore_ascii_case(name);
        if is("Package") {
            self.name = value.to_owned();
        } else if is("Version") {
            self.version = value.to_owned();
        } else if is("Architecture") {
            self.architecture = Some(value.to_owned());
        } else if is("Source") {
            self.source = Some(value.to_owned());
        } else if is("Status") {
            self.status = Some(value.to_owned());
        }
    }

    fn package(self) -> Option<Package> {
        // `install ok installed`; of a package whose configuration alone is left nothing runs. One
        // without a status is of an image that was made without dpkg.
        let state = self.status.as_deref().and_then(|status| status.split_whitespace().nth(2));
        let is_gone = matches!(state, Some("config-files" | "not-installed"));
        if self.name.is_empty() || self.version.is_empty() || is_gone {
            return None;
        }
        // `Source: glibc`, or `Source: gcc-12 (12.2.0-14)` if its version is another.
        let source = self.source.as_deref().unwrap_or(&self.name);
        let source = match source.split_once('(') {
            Some((name, version)) => (name.trim(), version.trim_end_matches(')').trim()),
            None => (source, self.version.as_str()),
        };
        Some(Package {
            architecture: self.architecture,
            source: Some((source.0.to_owned(), source.1.to_owned())),
            ..Package::new(PackageKind::Deb, self.name.clone(), self.version.clone())
        })
    }
}

/// The files of a package, from `info/<package>.list` or `status.d/<package>.md5sums`, as paths
/// from the root.
pub(crate) fn files(path: &str, text: &[u8]) -> Vec<String> {
    let is_sums = path.ends_with(".md5sums");
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| match is_sums {
        true => line.split_once("  ").map(|(_, file)| file),
        false => Some(line),
    });
    lines.map(|file| file.trim_start_matches("./").trim_start_matches('/').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_are_packages() {
        let text = b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9+deb12u4\nDescription: GNU C Library\n Package: not-this\n\n\
            Package: gcc-12-base\nStatus: install ok installed\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\n\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
            Package: half\nStatus: install reinstreq half-installed\nVersion: 1\n\n\
            Package: base-files\nversion: 12.4";
        let found = packages(text);
        let found: Vec<_> = found
            .iter()
            .map(|p| (p.name.as_str(), p.version.as_str(), p.source.clone().unwrap()))
            .collect();
        let source = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(
            found,
            [
                ("libc6", "2.36-9+deb12u4", source("glibc", "2.36-9+deb12u4")),
                ("gcc-12-base", "12.2.0-14+b1", source("gcc-12", "12.2.0-14")),
                ("half", "1", source("half", "1")),
                ("base-files", "12.4", source("base-files", "12.4")),
            ]
        );
    }

    #[test]
    fn lists_are_files() {
        assert_eq!(files("info/a.list", b"/.\n/etc\n/etc/a\n"), [".", "etc", "etc/a"]);
        assert_eq!(
            files("status.d/a.md5sums", b"d41d8cd98f00b204e9800998ecf8427e  etc/a\nx\n"),
            ["etc/a"]
        );
    }
}
