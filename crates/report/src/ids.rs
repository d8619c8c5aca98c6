//! Ids of vulnerabilities, told from other texts.

use portcullis_types::cve_prefix;

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
