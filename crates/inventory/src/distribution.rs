//! Which distribution an image is of, where its advisories are, and until when it gets some.
//!
//! From `os-release` (os-release(5)), and for images without one from the files that were there
//! before it.

use std::str::FromStr;

use portcullis_types::Timestamp;

use crate::Merged;

/// A distribution and its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Its name, as reports of all scanners are compared by: `debian`, `alma`.
    pub word: String,
    /// Its release: `12`, `9.4`. Empty for those that have none.
    pub release: String,
    /// The ecosystems of the OSV schema that have its advisories: `Debian:12`. None if OSV has
    /// none of it.
    pub ecosystems: Vec<String>,
}

impl Distribution {
    /// The one that an image is of.
    pub fn of(merged: &Merged) -> Option<Self> {
        let text = |path| merged.text(path).map(String::from_utf8_lossy);
        if let Some(release) = text("etc/os-release").or_else(|| text("usr/lib/os-release")) {
            return Self::of_os_release(&release);
        }
        if let Some(release) = text("etc/alpine-release") {
            return Some(Self::new("alpine", release.trim()));
        }
        if let Some(release) = text("etc/redhat-release").or_else(|| text("etc/centos-release")) {
            return Self::of_redhat_release(&release);
        }
        let release = text("etc/debian_version")?;
        // `bookworm/sid` is of no release yet.
        let is_number = release.starts_with(|c: char| c.is_ascii_digit());
        Some(Self::new("debian", if is_number { release.trim() } else { "" }))
    }

    fn of_os_release(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text
                .lines()
                .rev()
                .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
        };
        let id = value("ID")?.to_ascii_lowercase();
        let mut release = value("VERSION_ID").unwrap_or_default();
        if id == "openeuler" {
            // `VERSION="22.03 (LTS-SP1)"`: the service pack has advisories of its own.
            let version = value("VERSION").unwrap_or_default();
            let pack = version.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            if let Some(pack) = pack {
                release = format!("{release}-{pack}");
            }
        }
        let is_word = |text: &str| {
            text.len() <= 64
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        };
        (!id.is_empty() && is_word(&id) && is_word(&release)).then(|| Self::new(&id, &release))
    }

    /// `CentOS Linux release 7.9.2009 (Core)`.
    fn of_redhat_release(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let id = ["centos", "almalinux", "rocky", "fedora", "oracle", "red hat"];
        let id = id.into_iter().find(|id| lower.starts_with(id))?;
        let release = lower.split_once("release ")?.1.split_whitespace().next()?;
        Some(Self::new(if id == "red hat" { "rhel" } else { id }, release))
    }

    fn new(id: &str, release: &str) -> Self {
        let word = match id {
            "almalinux" => "alma",
            "amzn" => "amazon",
            "ol" => "oracle",
            "rhel" => "redhat",
            "mariner" => "cbl-mariner",
            id => id,
        };
        let ecosystems = ecosystems(id, release);
        Self { word: word.to_owned(), release: release.to_owned(), ecosystems }
    }

    /// Name and release for people and reports: `debian 12`.
    pub fn name(&self) -> String {
        format!("{} {}", self.word, self.release).trim_end().to_owned()
    }

    /// The one of this [name](Self::name).
    pub fn of_name(name: &str) -> Self {
        let (word, release) = name.split_once(' ').unwrap_or((name, ""));
        let id = match word {
            "alma" => "almalinux",
            "amazon" => "amzn",
            "oracle" => "ol",
            "redhat" => "rhel",
            "cbl-mariner" => "mariner",
            word => word,
        };
        Self::new(id, release)
    }

    /// Whether its release gets no advisories any more at this time. One that is not known does,
    /// unless it is older than those that are.
    pub fn is_past_its_end(&self, now: Timestamp) -> bool {
        let Some((_, releases)) = ENDS.iter().find(|(word, _)| *word == self.word) else {
            return false;
        };
        let of = releases.iter().find(|(release, _)| {
            let rest = self.release.strip_prefix(release);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        match of {
            Some((_, day)) => {
                Timestamp::from_str(&format!("{day}T23:59:59Z")).is_ok_and(|end| now > end)
            }
            None => {
                let number = |text: &str| -> Option<Vec<u32>> {
                    text.split('.').map(|part| part.parse().ok()).collect()
                };
                let oldest = releases.first().and_then(|(release, _)| number(release));
                oldest.zip(number(&self.release)).is_some_and(|(oldest, own)| own < oldest)
            }
        }
    }
}

/// The ecosystems of the OSV schema (`ossf/osv-schema`, "Defined ecosystems").
fn ecosystems(id: &str, release: &str) -> Vec<String> {
    let major = release.split('.').next().unwrap_or_default();
    let one = |name: String| vec![name];
    if release.is_empty()
        && !matches!(id, "wolfi" | "chainguard" | "opensuse-tumbleweed" | "echo" | "minimos")
    {
        return Vec::new();
    }
    match id {
        "debian" => one(format!("Debian:{major}")),
        "ubuntu" => {
            // Every second April has long-term support.
            let is_lts = release
                .strip_suffix(".04")
                .and_then(|year| year.parse::<u32>().ok())
                .is_some_and(|year| year % 2 == 0);
            one(format!("Ubuntu:{release}{}", if is_lts { ":LTS" } else { "" }))
        }
        "alpine" => {
            let mut parts = release.split(['.', '_']);
            let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
                return Vec::new();
            };
            one(format!("Alpine:v{major}.{minor}"))
        }
        "wolfi" => one("Wolfi".to_owned()),
        "chainguard" => one("Chainguard".to_owned()),
        "echo" => one("Echo".to_owned()),
        "minimos" => one("MinimOS".to_owned()),
        "almalinux" => one(format!("AlmaLinux:{major}")),
        "rocky" => one(format!("Rocky Linux:{major}")),
        "rhel" => {
            let parts = [
                "baseos",
                "appstream",
                "crb",
                "highavailability",
                "nfv",
                "realtime",
                "resilientstorage",
                "sap",
                "sap_hana",
                "supplementary",
            ];
            parts.iter().map(|part| format!("Red Hat:enterprise_linux:{major}::{part}")).collect()
        }
        "opensuse-leap" | "opensuse" => one(format!("openSUSE:Leap {release}")),
        "opensuse-tumbleweed" => one("openSUSE:Tumbleweed".to_owned()),
        "sles" | "sled" => {
            let (major, pack) = release.split_once('.').unwrap_or((release, ""));
            let release =
                if pack.is_empty() { major.to_owned() } else { format!("{major} SP{pack}") };
            let products = [
                "Server",
                "Module for Basesystem",
                "Module for Server Applications",
                "Module for Development Tools",
                "Module for Containers",
                "Module for Python 3",
                "Module for Web and Scripting",
            ];
            products
                .iter()
                .map(|product| format!("SUSE:Linux Enterprise {product} {release}"))
                .collect()
        }
        "openeuler" => one(format!("openEuler:{release}")),
        "photon" => one(format!("Photon OS:{release}")),
        "azurelinux" | "mariner" => one(format!("Azure Linux:{major}")),
        "mageia" => one(format!("Mageia:{major}")),
        "alpaquita" => one(format!("Alpaquita:{release}")),
        _ => Vec::new(),
    }
}

/// A release, and the last day of its advisories that are there for everybody.
type End = (&'static str, &'static str);

/// The last days of releases, from the distributions' own pages, oldest first: Debian with LTS,
/// Ubuntu without ESM, Red Hat without ELS.
const ENDS: &[(&str, &[End])] = &[
    ("alma", &[("8", "2029-03-01"), ("9", "2032-05-31"), ("10", "2035-05-31")]),
    (
        "alpine",
        &[
            ("3.10", "2021-05-01"),
            ("3.11", "2021-11-01"),
            ("3.12", "2022-05-01"),
            ("3.13", "2022-11-01"),
            ("3.14", "2023-05-01"),
            ("3.15", "2023-11-01"),
            ("3.16", "2024-05-23"),
            ("3.17", "2024-11-22"),
            ("3.18", "2025-05-09"),
            ("3.19", "2025-11-01"),
            ("3.20", "2026-04-01"),
            ("3.21", "2026-11-01"),
            ("3.22", "2027-05-01"),
            ("3.23", "2027-11-01"),
        ],
    ),
    (
        "amazon",
        &[
            ("1", "2023-12-31"),
            ("2", "2026-06-30"),
            ("2018.03", "2023-12-31"),
            ("2023", "2029-06-30"),
        ],
    ),
    ("azurelinux", &[("3.0", "2027-08-31")]),
    ("cbl-mariner", &[("1.0", "2023-07-31"), ("2.0", "2025-07-31")]),
    (
        "centos",
        &[("5", "2017-03-31"), ("6", "2020-11-30"), ("7", "2024-06-30"), ("8", "2021-12-31")],
    ),
    (
        "debian",
        &[
            ("7", "2018-05-31"),
            ("8", "2020-06-30"),
            ("9", "2022-06-30"),
            ("10", "2024-06-30"),
            ("11", "2026-08-31"),
            ("12", "2028-06-30"),
            ("13", "2030-06-30"),
        ],
    ),
    (
        "opensuse-leap",
        &[
            ("15.0", "2019-12-03"),
            ("15.1", "2021-02-02"),
            ("15.2", "2022-01-04"),
            ("15.3", "2022-12-31"),
            ("15.4", "2023-12-07"),
            ("15.5", "2024-12-31"),
            ("15.6", "2026-04-30"),
        ],
    ),
    (
        "oracle",
        &[("6", "2021-03-31"), ("7", "2024-12-31"), ("8", "2029-07-31"), ("9", "2032-06-30")],
    ),
    ("photon", &[("1.0", "2022-02-28"), ("2.0", "2022-12-31"), ("3.0", "2024-03-01")]),
    (
        "redhat",
        &[
            ("6", "2020-11-30"),
            ("7", "2024-06-30"),
            ("8", "2029-05-31"),
            ("9", "2032-05-31"),
            ("10", "2035-05-31"),
        ],
    ),
    ("rocky", &[("8", "2029-05-31"), ("9", "2032-05-31"), ("10", "2035-05-31")]),
    (
        "ubuntu",
        &[
            ("14.04", "2019-04-25"),
            ("16.04", "2021-04-30"),
            ("18.04", "2023-05-31"),
            ("20.04", "2025-05-31"),
            ("22.04", "2027-06-01"),
            ("22.10", "2023-07-20"),
            ("23.04", "2024-01-25"),
            ("23.10", "2024-07-11"),
            ("24.04", "2029-05-31"),
            ("24.10", "2025-07-10"),
            ("25.04", "2026-01-15"),
            ("25.10", "2026-07-09"),
            ("26.04", "2031-05-31"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_from_os_release() {
        for (text, wanted) in [
            (
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n",
                Some(("debian 12", &["Debian:12"][..])),
            ),
            // Testing has no release, and no advisories of its own.
            ("ID=debian\nVERSION_CODENAME=sid", Some(("debian", &[]))),
            ("ID=ubuntu\nVERSION_ID='22.04'", Some(("ubuntu 22.04", &["Ubuntu:22.04:LTS"]))),
            ("ID=ubuntu\nVERSION_ID=25.04", Some(("ubuntu 25.04", &["Ubuntu:25.04"]))),
            ("ID=alpine\nVERSION_ID=3.18.4", Some(("alpine 3.18.4", &["Alpine:v3.18"]))),
            (
                "ID=\"almalinux\"\nID_LIKE=\"rhel\"\nVERSION_ID=\"9.4\"",
                Some(("alma 9.4", &["AlmaLinux:9"])),
            ),
            ("ID=wolfi\nVERSION_ID=20230201", Some(("wolfi 20230201", &["Wolfi"]))),
            (
                "ID=opensuse-leap\nVERSION_ID=15.6",
                Some(("opensuse-leap 15.6", &["openSUSE:Leap 15.6"])),
            ),
            (
                "ID=openEuler\nVERSION_ID=22.03\nVERSION=\"22.03 (LTS-SP1)\"",
                Some(("openeuler 22.03-LTS-SP1", &["openEuler:22.03-LTS-SP1"])),
            ),
            ("ID=fedora\nVERSION_ID=40", Some(("fedora 40", &[]))),
            ("ID=a b", None),
            ("VERSION_ID=12", None),
            ("", None),
        ] {
            let found = Distribution::of_os_release(text);
            if let Some(found) = &found {
                assert_eq!(Distribution::of_name(&found.name()), *found);
            }
            let found = found.as_ref().map(|d| (d.name(), d.ecosystems.clone()));
            let wanted = wanted
                .map(|(name, of)| (name.to_owned(), of.iter().map(ToString::to_string).collect()));
            assert_eq!(found, wanted, "{text}");
        }
        let sles = Distribution::of_os_release("ID=sles\nVERSION_ID=15.5").unwrap();
        assert!(
            sles.ecosystems
                .contains(&"SUSE:Linux Enterprise Module for Basesystem 15 SP5".to_owned())
        );
        let centos =
            Distribution::of_redhat_release("CentOS Linux release 7.9.2009 (Core)").unwrap();
        assert_eq!(centos.name(), "centos 7.9.2009");
    }

    #[test]
    fn a_release_has_an_end() {
        let at = |text: &str| Timestamp::from_str(text).unwrap();
        for (id, release, time, wanted) in [
            ("debian", "10", "2024-06-30T12:00:00Z", false),
            ("debian", "10", "2024-07-01T00:00:00Z", true),
            ("debian", "6", "2020-01-01T00:00:00Z", true),
            ("debian", "14", "2030-01-01T00:00:00Z", false),
            ("debian", "", "2030-01-01T00:00:00Z", false),
            ("alpine", "3.9.6", "2026-01-01T00:00:00Z", true),
            ("alpine", "3.18.4", "2025-05-01T00:00:00Z", false),
            // 3.1 is not 3.10.
            ("alpine", "3.1", "2020-01-01T00:00:00Z", true),
            ("almalinux", "8.10", "2026-01-01T00:00:00Z", false),
            ("centos", "7.9.2009", "2024-07-01T00:00:00Z", true),
            ("nixos", "24.05", "2030-01-01T00:00:00Z", false),
        ] {
            assert_eq!(
                Distribution::new(id, release).is_past_its_end(at(time)),
                wanted,
                "{id} {release} {time}"
            );
        }
    }

    #[test]
    fn the_ends_are_days() {
        for (word, releases) in ENDS {
            for (release, day) in *releases {
                assert!(
                    Timestamp::from_str(&format!("{day}T00:00:00Z")).is_ok(),
                    "{word} {release}"
                );
            }
        }
    }
}
