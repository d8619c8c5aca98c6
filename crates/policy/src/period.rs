//! Lengths of time as a policy writes them: `168h`, `7d`, `1d12h`.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fault::shown;

/// The units, longest first, in seconds. Days have 24 hours: times are UTC.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// A century: longer is a slip, and sums stay far from overflow.
const MAX_SECONDS: u64 = 36_525 * 86_400;

/// A length of time, longer than nothing, in whole seconds. Written with the longest units first,
/// each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    seconds: u64,
}

/// Why a text is not a [`Period`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a length of time: {why}")]
pub struct PeriodError {
    text: String,
    why: &'static str,
}

impl PeriodError {
    /// What to write instead.
    pub const REMEDY: &'static str = "write for example 7d, 168h, 90m, 30s or 1d12h";
}

impl Period {
    /// In seconds.
    pub fn as_seconds(self) -> u64 {
        self.seconds
    }

    /// Whether more than this has passed from `then` to `now`. A `then` in the future is fresh.
    pub fn has_passed(self, then: Timestamp, now: Timestamp) -> bool {
        let seconds = i64::try_from(self.seconds).unwrap_or(i64::MAX);
        now.duration_since(then) > SignedDuration::from_secs(seconds)
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let wrong = |why| PeriodError { text: shown(text), why };
        let mut seconds: u64 = 0;
        let mut units = UNITS.iter();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let mut tail = tail.chars();
            let (_, length) = tail
                .next()
                .and_then(|unit| units.find(|(known, _)| *known == unit))
                .ok_or_else(|| wrong("its units are d, h, m and s, the longest first"))?;
            let number: u64 =
                number.parse().map_err(|_| wrong("each unit needs a whole number"))?;
            seconds = number
                .checked_mul(*length)
                .and_then(|more| seconds.checked_add(more))
                .filter(|sum| *sum <= MAX_SECONDS)
                .ok_or_else(|| wrong("it is longer than a hundred years"))?;
            rest = tail.as_str();
        }
        match seconds {
            0 => Err(wrong("it is nothing")),
            seconds => Ok(Self { seconds }),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.seconds;
        for (unit, length) in UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_summed() {
        for (text, seconds) in [
            ("168h", 604_800),
            ("7d", 604_800),
            ("90m", 5_400),
            ("30s", 30),
            ("1d12h", 129_600),
            ("0d1s", 1),
        ] {
            assert_eq!(text.parse::<Period>().unwrap().as_seconds(), seconds, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "0s",
            "7",
            "d",
            "7w",
            "-1d",
            "1.5h",
            "1h1d",
            "1h1h",
            "7 d",
            "99999999999999999999d",
            "40000d",
            "1h ",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_period_has_passed_only_when_more_has() {
        let period: Period = "1h".parse().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(!period.has_passed(at(0), at(3_600)));
        assert!(period.has_passed(at(0), at(3_601)));
        assert!(!period.has_passed(at(9_999), at(0)));
        assert!(!period.has_passed(Timestamp::MAX, Timestamp::MIN));
        assert!(period.has_passed(Timestamp::MIN, Timestamp::MAX));
    }

    proptest! {
        #[test]
        fn written_and_read_alike(seconds in 1..MAX_SECONDS) {
            let period = Period { seconds };
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
    }
}
