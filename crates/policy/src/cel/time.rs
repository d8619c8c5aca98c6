//! Timestamps and durations (langdef "Overflow", "Timezones", "Date/Time Functions").

use std::fmt::Write;

use portcullis_types::Timestamp;

use super::error::EvaluationError;

const NANOS: i128 = 1_000_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, in seconds since 1970.
const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;

const A_TIMESTAMP: &str = "a timestamp: write for example 2026-01-31T12:00:00Z";
const A_DURATION: &str = "a duration: write for example 8760h, 1h30m or -1.5s";
const A_TIME_ZONE: &str = "a time zone that is known here: write UTC or an offset such as +02:00";

/// A point in time, between the years 1 and 9999. [`Timestamp`] ends a day before CEL's last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant {
    seconds: i64,
    nanos: u32,
}

/// Which part of a timestamp or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl From<Timestamp> for Instant {
    fn from(time: Timestamp) -> Self {
        let nanos = i64::from(time.subsec_nanosecond());
        // The parts have one sign; here the second is the earlier one.
        let seconds = time.as_second() + nanos.div_euclid(NANOS as i64);
        Self { seconds, nanos: nanos.rem_euclid(NANOS as i64) as u32 }
    }
}

impl Instant {
    fn of_nanos(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(NANOS)).ok()?;
        let nanos = nanos.rem_euclid(NANOS) as u32;
        (FIRST_SECOND..=LAST_SECOND).contains(&seconds).then_some(Self { seconds, nanos })
    }

    pub(super) fn of_seconds(seconds: i64) -> Option<Self> {
        Self::of_nanos(i128::from(seconds) * NANOS)
    }

    fn as_nanos(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    /// Since 1970, rounded down.
    pub(super) fn seconds(self) -> i64 {
        self.seconds
    }

    /// `None`: out of range.
    pub(super) fn plus(self, duration: i64) -> Option<Self> {
        Self::of_nanos(self.as_nanos() + i128::from(duration))
    }

    /// `None`: out of range.
    pub(super) fn minus(self, duration: i64) -> Option<Self> {
        Self::of_nanos(self.as_nanos() - i128::from(duration))
    }

    /// The duration from another one to this, in nanoseconds. `None`: out of range.
    pub(super) fn since(self, other: Self) -> Option<i64> {
        i64::try_from(self.as_nanos() - other.as_nanos()).ok()
    }

    /// Reads RFC 3339.
    pub(super) fn parse(text: &str) -> Result<Self, EvaluationError> {
        parse_instant(text).ok_or_else(|| EvaluationError::malformed(A_TIMESTAMP, text))
    }

    /// A part as the wall clock of this zone shows it.
    pub(super) fn part(self, part: Part, zone: Option<&str>) -> Result<i64, EvaluationError> {
        let offset = match zone {
            None => 0,
            Some(text) => parse_zone(text)?,
        };
        let local = self.seconds + offset;
        let (days, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        Ok(match part {
            Part::FullYear => year,
            Part::Month => month - 1,
            Part::Date => day,
            Part::DayOfMonth => day - 1,
            // 1970-01-01 was a Thursday; Sunday is 0.
            Part::DayOfWeek => (days + 4).rem_euclid(7),
            Part::DayOfYear => days - days_of(year, 1, 1),
            Part::Hours => second / 3600,
            Part::Minutes => second / 60 % 60,
            Part::Seconds => second % 60,
            Part::Milliseconds => i64::from(self.nanos / 1_000_000),
        })
    }
}

impl std::fmt::Display for Instant {
    /// RFC 3339 in UTC, with as many decimals as it has.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, second) = (self.seconds.div_euclid(DAY), self.seconds.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        f.write_str(&fraction(self.nanos))?;
        f.write_char('Z')
    }
}

/// Decimals without trailing zeros, with their point.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms": years begin in March, so that the leap day is the last).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day, the latter from 1; the inverse of [`days_of`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn parse_instant(text: &str) -> Option<Instant> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| number(bytes.get(from..to)?);
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    let separated = is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":");
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    };
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !separated || !in_range {
        return None;
    }
    let mut rest = bytes.get(19..)?;
    let mut nanos = 0;
    if let [b'.', decimals @ ..] = rest {
        let count = decimals.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=9).contains(&count) {
            return None;
        }
        nanos = number(&decimals[..count])? * 10_i64.pow(9 - count as u32);
        rest = &decimals[count..];
    }
    let offset = match rest {
        b"Z" | b"z" => 0,
        [b'+' | b'-', ..] => parse_offset(rest)?,
        _ => return None,
    };
    let seconds = days_of(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Instant::of_nanos(i128::from(seconds) * NANOS + i128::from(nanos))
}

/// Digits only; at most nine are ever given.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Some(sum * 10 + i64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds of `+02:00`; the sign may be left out, as the reference implementations allow.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => (1, text),
    };
    let [h1, h2, b':', m1, m2] = text else {
        return None;
    };
    let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Seconds east of UTC. Names of places are refused: a door carries no database of time zones.
pub(super) fn parse_zone(text: &str) -> Result<i64, EvaluationError> {
    match text {
        "UTC" => Ok(0),
        _ => parse_offset(text.as_bytes())
            .ok_or_else(|| EvaluationError::malformed(A_TIME_ZONE, text)),
    }
}

/// Reads a duration, in nanoseconds: `1h30m`, `-1.5h`, `0`.
pub(super) fn parse_duration(text: &str) -> Result<i64, EvaluationError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    duration_nanos(unsigned)
        .and_then(|nanos| i64::try_from(if text.starts_with('-') { -nanos } else { nanos }).ok())
        .ok_or_else(|| EvaluationError::malformed(A_DURATION, text))
}

/// The longest units first, so that `ms` is not taken for minutes.
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("h", 3600 * NANOS),
    ("m", 60 * NANOS),
    ("s", NANOS),
];

fn duration_nanos(text: &str) -> Option<i128> {
    /// More digits before the point are out of range for every unit, and more behind it are less
    /// than a nanosecond for every unit.
    const MOST_DIGITS: usize = 19;
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = leading_digits(rest);
        let (decimals, after) = match after.strip_prefix('.') {
            Some(after) => leading_digits(after),
            None => ("", after),
        };
        if whole.len() + decimals.len() == 0 || whole.len() > MOST_DIGITS {
            return None;
        }
        let (unit, after) = UNITS
            .iter()
            .find_map(|(name, unit)| after.strip_prefix(name).map(|after| (*unit, after)))?;
        sum += whole.parse::<i128>().unwrap_or(0) * unit;
        let decimals = &decimals[..decimals.len().min(MOST_DIGITS)];
        let scale = 10_i128.pow(decimals.len() as u32);
        sum += decimals.parse::<i128>().unwrap_or(0) * unit / scale;
        if sum > i128::from(i64::MAX) + 1 {
            return None;
        }
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Seconds with their decimals and an `s`.
pub(super) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / NANOS as u64, (nanos % NANOS as u64) as u32);
    format!("{sign}{seconds}{}s", fraction(rest))
}

/// A part of a duration: the whole of it in that unit, but for milliseconds only what is beyond
/// the seconds (langdef `getMilliseconds`). `None`: durations have no such part.
pub(super) fn duration_part(nanos: i64, part: Part) -> Option<i64> {
    let second = NANOS as i64;
    Some(match part {
        Part::Hours => nanos / (3600 * second),
        Part::Minutes => nanos / (60 * second),
        Part::Seconds => nanos / second,
        Part::Milliseconds => nanos % second / 1_000_000,
        _ => return None,
    })
}
