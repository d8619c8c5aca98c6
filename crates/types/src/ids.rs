//! Ids of vulnerabilities, and by which of several they go.

/// The vulnerabilities that an entry of a report is about.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// The id of each, sorted; at least one.
    pub ids: Vec<String>,
    /// Their other ids, sorted, which all of them share.
    pub aliases: Vec<String>,
}

/// The vulnerabilities that an id and its others name: each CVE is one, so that all scanners call
/// it the same, and so that a statement or an exception about one CVE of an advisory says nothing
/// of the rest. Where there is no CVE, the id itself is the only one.
pub fn preferred(own: &str, others: impl IntoIterator<Item = String>) -> Named {
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
pub fn is_cve(id: &str) -> bool {
    cve_prefix(id) == Some(id)
}

/// The CVE id that a text begins with.
pub fn cve_prefix(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix("CVE-")?;
    let number = rest.get(4..).filter(|_| digits(rest) == 4)?.strip_prefix('-')?;
    let length = digits(number);
    (length >= 4).then(|| &text[.."CVE-0000-".len() + length])
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
}
