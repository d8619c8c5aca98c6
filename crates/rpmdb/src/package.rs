//! What is known of an installed package.

/// An installed package, as its header describes it. Texts that are not UTF-8 have replacement
/// characters in place of the bytes that are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name: `bash`.
    pub name: String,
    /// Its epoch, if it says one; 0 may be said.
    pub epoch: Option<u32>,
    /// Its version: `5.1.8`.
    pub version: String,
    /// Its release: `6.el9`.
    pub release: String,
    /// Its architecture: `x86_64`, `noarch`.
    pub arch: Option<String>,
    /// The file name of the source package that it was built from: `bash-5.1.8-6.el9.src.rpm`.
    pub source_rpm: Option<String>,
    /// The module that it belongs to: `name:stream:version:context`.
    pub modularity: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// Its licence, in the words of the package.
    pub license: Option<String>,
    /// When it was installed, in seconds since 1970.
    pub install_time: Option<u32>,
    /// The absolute paths of its files and folders, as the header has them: some may not be there, since
    /// documentation can be left out and links in the path are not followed.
    pub files: Vec<String>,
}

impl Package {
    /// `epoch:version-release`, with the epoch only if there is one that is not 0.
    pub fn evr(&self) -> String {
        let Package { version, release, .. } = self;
        match self.epoch {
            None | Some(0) => format!("{version}-{release}"),
            Some(epoch) => format!("{epoch}:{version}-{release}"),
        }
    }

    /// The name of the source package: `bash` of `bash-5.1.8-6.el9.src.rpm`.
    pub fn source_name(&self) -> Option<&str> {
        self.source().map(|(name, _)| name)
    }

    /// Version and release of the source package: `5.1.8-6.el9` of `bash-5.1.8-6.el9.src.rpm`. A file
    /// name has no epoch.
    pub fn source_version(&self) -> Option<&str> {
        self.source().map(|(_, version)| version)
    }

    fn source(&self) -> Option<(&str, &str)> {
        let file = self.source_rpm.as_deref()?;
        // A package whose sources may not be passed on says `nosrc`.
        let whole = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"))?;
        // Only the name may have dashes.
        let (before, release) = whole.rsplit_once('-')?;
        let (name, version) = before.rsplit_once('-')?;
        let is_whole = !name.is_empty() && !version.is_empty() && !release.is_empty();
        is_whole.then(|| (name, &whole[name.len() + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(source_rpm: Option<&str>) -> Package {
        Package {
            name: "bash-doc".to_owned(),
            epoch: None,
            version: "5.1.8".to_owned(),
            release: "6.el9".to_owned(),
            arch: None,
            source_rpm: source_rpm.map(str::to_owned),
            modularity: None,
            vendor: None,
            license: None,
            install_time: None,
            files: Vec::new(),
        }
    }

    #[test]
    fn a_source_package_has_a_name_and_a_version() {
        let check = |file, expected: Option<(&str, &str)>| {
            let package = package(file);
            assert_eq!(package.source_name(), expected.map(|(name, _)| name), "{file:?}");
            assert_eq!(package.source_version(), expected.map(|(_, version)| version), "{file:?}");
        };
        check(Some("bash-5.1.8-6.el9.src.rpm"), Some(("bash", "5.1.8-6.el9")));
        check(
            Some("java-1.8.0-openjdk-1.8.0-1.nosrc.rpm"),
            Some(("java-1.8.0-openjdk", "1.8.0-1")),
        );
        check(Some("libstdc++-docs-1~rc1-0.src.rpm"), Some(("libstdc++-docs", "1~rc1-0")));
        check(None, None);
        for damaged in ["", "bash", "bash-5.1.8-6.el9.rpm", "bash-1.src.rpm", "-1-1.src.rpm"] {
            check(Some(damaged), None);
        }
        for damaged in ["bash--1.src.rpm", "bash-1-.src.rpm", "--.src.rpm", ".src.rpm"] {
            check(Some(damaged), None);
        }
    }

    #[test]
    fn an_epoch_is_written_only_if_it_is_not_zero() {
        let check = |epoch, expected: &str| {
            assert_eq!(Package { epoch, ..package(None) }.evr(), expected);
        };
        check(None, "5.1.8-6.el9");
        check(Some(0), "5.1.8-6.el9");
        check(Some(2), "2:5.1.8-6.el9");
        check(Some(u32::MAX), "4294967295:5.1.8-6.el9");
    }
}
