//! KEV, the catalogue of known exploited vulnerabilities, as CISA publishes it in JSON.

use std::io::Read;
use std::path::Path;

use portcullis_types::Timestamp;
use serde::Deserialize;

use super::cve::Cve;
use super::{FeedError, FeedLimits};
use crate::Limits;
use crate::draft::time;
use crate::input::Bounded;
use crate::json::{Budgeted, Budgets, Loose, Text, Title, budgeted, place, plain, title};
use crate::text::shortened;

/// Which vulnerabilities are known to be exploited.
#[derive(Debug, Clone)]
pub struct Kev {
    date: Timestamp,
    version: Option<String>,
    /// By id, with the day of listing.
    rows: Vec<(Cve, Timestamp)>,
}

impl Kev {
    /// When the catalogue was released.
    pub fn date(&self) -> Timestamp {
        self.date
    }

    /// The catalogue's version, `2026.11.20`.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether a CVE is listed, and if so the day since when.
    pub fn contains(&self, cve: &str) -> Option<Timestamp> {
        let cve = Cve::parse(cve)?;
        let at = self.rows.binary_search_by_key(&cve, |(cve, _)| *cve).ok()?;
        Some(self.rows[at].1)
    }

    /// How many CVEs are listed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is listed.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[derive(Debug, Default)]
struct Catalogue {
    version: Loose<Title>,
    released: Option<Date>,
    count: Option<usize>,
    vulnerabilities: Option<Vec<Entry>>,
}

budgeted! {
    Catalogue, "the catalogue" {
        Version = "catalogVersion" => version,
        Released = "dateReleased" => released,
        Count = "count" => count,
        Vulnerabilities = "vulnerabilities" => vulnerabilities [plain::<Entry>; findings],
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Text")]
struct Date(Timestamp);

#[derive(Debug, Deserialize)]
#[serde(try_from = "Text")]
struct Id(Cve);

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "cveID")]
    cve: Id,
    #[serde(rename = "dateAdded")]
    added: Date,
}

impl TryFrom<Text> for Date {
    type Error = String;

    fn try_from(Text(text): Text) -> Result<Self, String> {
        let date = time(&text).map(Self);
        date.ok_or_else(|| format!("\"{}\" is not a date", shortened(&text, 40)))
    }
}

impl TryFrom<Text> for Id {
    type Error = String;

    fn try_from(Text(text): Text) -> Result<Self, String> {
        let cve = Cve::parse(&text).map(Self);
        cve.ok_or_else(|| format!("\"{}\" is not a CVE id", shortened(&text, 40)))
    }
}

/// Reads a KEV file.
///
/// # Errors
/// See [`FeedError`].
pub fn read_kev(file: &Path, limits: &FeedLimits) -> Result<Kev, FeedError> {
    parse_kev(super::open(file, limits)?, file, limits)
}

/// Reads KEV from a stream; `file` is for messages.
///
/// # Errors
/// See [`FeedError`].
pub fn parse_kev(input: impl Read, file: &Path, limits: &FeedLimits) -> Result<Kev, FeedError> {
    let mut input = Bounded::new(input, limits.bytes);
    let budgets = Budgets::new(&Limits { bytes: limits.bytes, findings: limits.rows });
    let mut json = serde_json::Deserializer::from_reader(&mut input);
    let read = Catalogue::read(&budgets, &mut json).and_then(|read| json.end().map(|()| read));
    if input.is_exhausted() {
        return Err(FeedError::TooLarge { file: file.to_owned(), limit: limits.bytes });
    }
    let catalogue = read.map_err(|error| malformed(error, file))?;
    let incomplete =
        |what: &str| FeedError::Incomplete { file: file.to_owned(), what: what.to_owned() };
    let Some(Date(date)) = catalogue.released else {
        return Err(incomplete("has no dateReleased"));
    };
    let entries = catalogue.vulnerabilities.unwrap_or_default();
    if entries.is_empty() {
        return Err(incomplete("lists no CVE"));
    }
    if let Some(count) = catalogue.count.filter(|count| *count != entries.len()) {
        return Err(incomplete(&format!("lists {} CVEs and counts {count}", entries.len())));
    }
    let mut rows: Vec<_> = entries.into_iter().map(|entry| (entry.cve.0, entry.added.0)).collect();
    rows.sort_unstable();
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(incomplete(&format!("lists {} twice", pair[0].0)));
    }
    Ok(Kev { date, version: title(catalogue.version), rows })
}

fn malformed(error: serde_json::Error, file: &Path) -> FeedError {
    let file = file.to_owned();
    if error.is_io() {
        return FeedError::Unreadable { file, source: error.into() };
    }
    let (line, column, what) = place(&error);
    FeedError::Malformed { file, line, column, what }
}
