//! CVE ids as numbers: eight bytes each, ordered, so that a feed is a sorted list.

use std::fmt;

/// Bits of the number behind the year; ids have up to 14 digits, 47 bits, here.
const NUMBER_BITS: u32 = 48;

/// The longest number that is read, in digits.
const MAX_DIGITS: usize = 14;

/// A CVE id: the year, then the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cve(u64);

impl Cve {
    /// Reads `CVE-2024-3094`, upper and lower case alike: a year of four digits, and a number of
    /// at least four that is not padded beyond that, so that each id has one spelling.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_at_checked(4)?;
        let (year, number) = rest.split_once('-')?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let well_formed = prefix.eq_ignore_ascii_case("CVE-")
            && year.len() == 4
            && (4..=MAX_DIGITS).contains(&number.len())
            && digits(year)
            && digits(number)
            && (number.len() == 4 || !number.starts_with('0'));
        if !well_formed {
            return None;
        }
        let (year, number): (u64, u64) = (year.parse().ok()?, number.parse().ok()?);
        Some(Self(year << NUMBER_BITS | number))
    }
}

impl fmt::Display for Cve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, number) = (self.0 >> NUMBER_BITS, self.0 & ((1 << NUMBER_BITS) - 1));
        write!(f, "CVE-{year:04}-{number:04}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        for id in ["CVE-1999-0001", "cve-2024-3094", "CVE-2014-0160", "CVE-2024-12345678901234"] {
            let text = Cve::parse(id).map(|cve| cve.to_string());
            assert_eq!(text.as_deref(), Some(&*id.to_uppercase()));
        }
        for wrong in [
            "",
            "CVE",
            "CVE-",
            "CVE-2024",
            "CVE-2024-",
            "CVE-2024-123",
            "CVE-2024-00123",
            "CVE-24-1234",
            "CVE-2024-1234x",
            "CVE-2024-+123",
            "CVE-2024-123456789012345",
            "GHSA-jfh8-c2jp-5v3q",
            "CVEä2024-1234",
            " CVE-2024-1234",
        ] {
            assert_eq!(Cve::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_are_ordered_by_year_and_number() {
        let cve = |id| Cve::parse(id).unwrap();
        assert!(cve("CVE-2014-0160") < cve("CVE-2014-10000"));
        assert!(cve("CVE-2014-99999999999999") < cve("CVE-2015-0001"));
    }
}
