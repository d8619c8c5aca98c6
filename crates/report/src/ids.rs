//! Ids of vulnerabilities, and which of several a finding goes by.

/// The id that a vulnerability goes by, and its others, sorted: of several ids the CVE's, so that
/// all scanners call it the same; its own where they name none, or more than one, since an
/// advisory that bundles several has no CVE of its own.
pub(crate) fn preferred(
    own: &str,
    others: impl IntoIterator<Item = String>,
) -> (String, Vec<String>) {
    let mut ids: Vec<String> = others.into_iter().filter(|id| !id.is_empty()).collect();
    ids.push(own.to_owned());
    ids.sort_unstable();
    ids.dedup();
    let mut cves = ids.iter().filter(|id| is_cve(id));
    let id = match (cves.next(), cves.next()) {
        (Some(cve), None) => cve.clone(),
        _ => own.to_owned(),
    };
    ids.retain(|other| *other != id);
    (id, ids)
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
    fn the_one_cve_is_the_name() {
        for (own, others, id, aliases) in [
            ("CVE-2024-0001", &[][..], "CVE-2024-0001", &[][..]),
            (
                "GHSA-jfh8-c2jp-5v3q",
                &["CVE-2021-44228"],
                "CVE-2021-44228",
                &["GHSA-jfh8-c2jp-5v3q"],
            ),
            (
                "CVE-2021-44228",
                &["GHSA-jfh8-c2jp-5v3q", "CVE-2021-44228", ""],
                "CVE-2021-44228",
                &["GHSA-jfh8-c2jp-5v3q"],
            ),
            (
                "ELSA-2024-1",
                &["CVE-2024-0002", "CVE-2024-0001"],
                "ELSA-2024-1",
                &["CVE-2024-0001", "CVE-2024-0002"],
            ),
            ("GHSA-jfh8-c2jp-5v3q", &["OSV-1"], "GHSA-jfh8-c2jp-5v3q", &["OSV-1"]),
        ] {
            let others = others.iter().map(|s| (*s).to_owned());
            let (name, rest) = preferred(own, others);
            assert_eq!(
                (name.as_str(), rest),
                (id, aliases.iter().map(|s| (*s).to_owned()).collect())
            );
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
