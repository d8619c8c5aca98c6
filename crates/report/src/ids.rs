//! Ids of vulnerabilities, and by which of several they go.

/// The vulnerabilities that an entry of a report is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The id of each, sorted; at least one.
    pub(crate) ids: Vec<String>,
    /// Their other ids, sorted, which all of them share.
    pub(crate) aliases: Vec<String>,
}

/// The vulnerabilities that an id and its others name: each CVE is one, so that all scanners call
/// it the same, and so that a statement or an exception about one CVE of an advisory says nothing
/// of the rest. Where there is no CVE, the id itself is the only one.
pub(crate) fn preferred(own: &str, others: impl IntoIterator<Item = String>) -> Named {
    let mut all: Vec<String> = others.into_iter().filter(|id| !id.is_empty()).collect();
    all.push(own.to_owned());
    all.sort_unstable();
    all.dedup();
    let (mut ids, mut aliases): (Vec<_>, Vec<_>) = all.into_iter().partition(|id| is_cve(id));
    if ids.is_empty() {
        aliases.retain(|other| other != own);
        ids.push(own.to_owned());
    }
    Named { ids, aliases }
}

/// `CVE-2024-3094`: year, and a number of at least four digits (CVE Numbering, "CVE ID syntax").
pub(crate) fn is_cve(id: &str) -> bool {
    cve_prefix(id) == Some(id)
}

/// The CVE id that a text begins with.
fn cve_prefix(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix("CVE-")?;
    let number = rest.get(4..).filter(|_| digits(rest) == 4)?.strip_prefix('-')?;
    let length = digits(number);
    (length >= 4).then(|| &text[.."CVE-0000-".len() + length])
}

/// The GitHub advisory that a text begins with: `GHSA-jfh8-c2jp-5v3q`.
fn ghsa_prefix(text: &str) -> Option<&str> {
    let id = text.get(.."GHSA-xxxx-xxxx-xxxx".len())?;
    let groups: Vec<&str> = id.strip_prefix("GHSA-")?.split('-').collect();
    let is_group =
        |g: &&str| g.len() == 4 && g.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (groups.len() == 3 && groups.iter().all(is_group)).then_some(id)
}

/// The id of a vulnerability that a text begins with, where a `-` may follow: Grype calls its
/// rules by id and package, `CVE-2024-3094-xz-utils`.
pub(crate) fn vulnerability_prefix(text: &str) -> Option<&str> {
    let id = cve_prefix(text).or_else(|| ghsa_prefix(text))?;
    matches!(text.as_bytes().get(id.len()), None | Some(b'-')).then_some(id)
}

/// Whether a rule's id is one that only vulnerabilities have.
pub(crate) fn names_vulnerability(id: &str) -> bool {
    const ADVISORIES: &[&str] = &[
        "ALAS", "ALBA-", "ALSA-", "BIT-", "CGA-", "DLA-", "DSA-", "ELSA-", "GO-", "MAL-", "OSV-",
        "PYSEC-", "RHBA-", "RHSA-", "RLSA-", "RUSTSEC-", "SNYK-", "SUSE-SU-", "TEMP-", "USN-",
    ];
    vulnerability_prefix(id).is_some() || ADVISORIES.iter().any(|prefix| id.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cve_is_a_name() {
        for (own, others, ids, aliases) in [
            ("CVE-2024-0001", &[][..], &["CVE-2024-0001"][..], &[][..]),
            (
                "GHSA-jfh8-c2jp-5v3q",
                &["CVE-2021-44228"],
                &["CVE-2021-44228"],
                &["GHSA-jfh8-c2jp-5v3q"],
            ),
            (
                "CVE-2021-44228",
                &["GHSA-jfh8-c2jp-5v3q", "CVE-2021-44228", ""],
                &["CVE-2021-44228"],
                &["GHSA-jfh8-c2jp-5v3q"],
            ),
            (
                "ELSA-2024-1",
                &["CVE-2024-0002", "CVE-2024-0001", "CVE-2024-0002"],
                &["CVE-2024-0001", "CVE-2024-0002"],
                &["ELSA-2024-1"],
            ),
            ("CVE-2024-0002", &["CVE-2024-0001"], &["CVE-2024-0001", "CVE-2024-0002"], &[]),
            ("GHSA-jfh8-c2jp-5v3q", &["OSV-1"], &["GHSA-jfh8-c2jp-5v3q"], &["OSV-1"]),
        ] {
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
            let wanted = Named { ids: owned(ids), aliases: owned(aliases) };
            assert_eq!(preferred(own, owned(others)), wanted, "{own}");
        }
    }

    #[test]
    fn an_id_is_told_from_the_package_behind_it() {
        for (text, wanted) in [
            ("CVE-2024-3094-xz-utils", Some("CVE-2024-3094")),
            ("CVE-2024-3094", Some("CVE-2024-3094")),
            ("GHSA-jfh8-c2jp-5v3q-log4j-core", Some("GHSA-jfh8-c2jp-5v3q")),
            ("CVE-2024-309", None),
            ("CVE-20245-3094", None),
            ("CVE-2024-3094x", None),
            ("GHSA-JFH8-c2jp-5v3q", None),
            ("CVE-ä", None),
            ("", None),
        ] {
            assert_eq!(vulnerability_prefix(text), wanted, "{text}");
        }
        assert!(names_vulnerability("ELSA-2020-4907-openssl"));
        assert!(!names_vulnerability("DS-0002"));
    }
}
