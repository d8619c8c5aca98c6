//! Where package managers of distributions keep what is installed.

/// What a file of a package manager is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// Stanzas of dpkg.
    Dpkg,
    /// The files of a package of dpkg.
    DpkgFiles,
    /// apk's database.
    Apk,
    /// RPM's database, in one of its three forms, or the journal of one.
    Rpm,
}

/// Folders of RPM's database: its own, and SUSE's and Fedora's since 36.
const OF_RPM: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];

/// The package manager that a path is of.
pub fn database_of(path: &str) -> Option<Database> {
    let (folder, name) = path.rsplit_once('/')?;
    match folder {
        "var/lib/dpkg" => (name == "status").then_some(Database::Dpkg),
        "var/lib/dpkg/info" => name.ends_with(".list").then_some(Database::DpkgFiles),
        "var/lib/dpkg/status.d" => Some(match name.ends_with(".md5sums") {
            true => Database::DpkgFiles,
            false => Database::Dpkg,
        }),
        "lib/apk/db" | "usr/lib/apk/db" => (name == "installed").then_some(Database::Apk),
        _ if OF_RPM.contains(&folder) => {
            matches!(name, "rpmdb.sqlite" | "rpmdb.sqlite-wal" | "Packages.db" | "Packages")
                .then_some(Database::Rpm)
        }
        _ => None,
    }
}

/// The databases themselves, that an image's packages are told by.
pub(crate) const MAIN: [&str; 10] = [
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "usr/lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
    "usr/share/rpm/rpmdb.sqlite",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_have_fixed_places() {
        for (path, wanted) in [
            ("var/lib/dpkg/status", Some(Database::Dpkg)),
            ("var/lib/dpkg/status-old", None),
            ("var/lib/dpkg/info/a.list", Some(Database::DpkgFiles)),
            ("var/lib/dpkg/info/a.postinst", None),
            ("var/lib/dpkg/status.d/base", Some(Database::Dpkg)),
            ("var/lib/dpkg/status.d/base.md5sums", Some(Database::DpkgFiles)),
            ("lib/apk/db/installed", Some(Database::Apk)),
            ("app/var/lib/dpkg/status", None),
            ("status", None),
        ] {
            assert_eq!(database_of(path), wanted, "{path}");
        }
        assert!(MAIN.iter().all(|path| database_of(path).is_some()));
    }
}
