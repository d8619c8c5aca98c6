//! The findings of a verdict, as each start reads them.
//!
//! All numbers are little endian and of fixed width, so that a record is read without a branch
//! for each byte. The section is
//!
//! | what | bytes |
//! | --- | --- |
//! | how many texts, texts of several findings, aliases, times and findings there are | 5 × 4 |
//! | where each text ends in the last part | texts × 4 |
//! | texts that are aliases, in order of the findings that have them | aliases × 4 |
//! | times: seconds since 1970, nanoseconds | times × 12 |
//! | the findings, in order of the reports | findings × 60 |
//! | all texts, UTF-8 | the rest |
//!
//! A finding is fifteen numbers: see [`encode`]. Texts and times are named by one more than their
//! place, and 0 is none. Each distinct text stands once; those that several mention come first, so
//! that a reader makes those once, and the others when it meets them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use portcullis_types::{Finding, Text, Timestamp};

use super::head::{ClassRecord, Numbered, SeverityRecord};
use super::rest::Titles;
use super::{BEHIND, NO_ID, NO_TEXT, SHAPE, TOO_MANY, score};
use crate::MAX_FINDINGS;

const FIELDS: usize = 15;
const RECORD: usize = FIELDS * 4;
const TIME: usize = 12;

/// Bits of a finding's last number, above its class and severity.
const KEV: u8 = 1;
const CVSS: u8 = 2;
const EPSS: u8 = 4;

/// The section for these findings. `None` if there is more than the format can number.
pub(super) fn encode<'a, I: Iterator<Item = &'a Arc<Finding>>>(
    findings: impl Fn() -> I,
) -> Option<Vec<u8>> {
    let mut texts = Numbers::default();
    findings().flat_map(|finding| mentioned(finding)).for_each(|text| texts.mention(&**text));
    let texts_of_several = texts.several_first()?;
    let mut times = Numbers::default();
    let dates = |f: &Finding| [f.published, f.fixed, f.first_seen];
    findings().flat_map(|finding| dates(finding)).flatten().for_each(|time| times.mention(time));
    times.several_first()?;

    let mut aliases = Vec::new();
    let mut records = Vec::new();
    let mut count = 0;
    for finding in findings() {
        let text = |text: &Option<Text>| text.as_deref().map_or(0, |t| texts.number(t));
        let time = |time: Option<Timestamp>| time.map_or(0, |t| times.number(t));
        let flags =
            [(finding.kev, KEV), (finding.cvss.is_some(), CVSS), (finding.epss.is_some(), EPSS)];
        let flags = flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
        let class = ClassRecord::from(finding.class) as u8;
        let severity = SeverityRecord::from(finding.severity) as u8;
        let record: [u32; FIELDS] = [
            texts.number(&*finding.id),
            text(&finding.package),
            text(&finding.version),
            text(&finding.fixed_version),
            text(&finding.path),
            text(&finding.purl),
            text(&finding.sha256),
            texts.number(&*finding.source),
            u32::try_from(finding.aliases.len()).ok()?,
            time(finding.published),
            time(finding.fixed),
            time(finding.first_seen),
            finding.cvss.unwrap_or_default().to_bits(),
            finding.epss.unwrap_or_default().to_bits(),
            u32::from_le_bytes([class, severity, flags, 0]),
        ];
        records.extend(record.iter().flat_map(|number| number.to_le_bytes()));
        aliases.extend(finding.aliases.iter().map(|alias| texts.number(&**alias)));
        count += 1;
    }

    let mut ends = Vec::new();
    let mut end = 0_usize;
    for text in &texts.values {
        end += text.len();
        ends.push(u32::try_from(end).ok()?);
    }
    let counts = [texts.values.len(), texts_of_several, aliases.len(), times.values.len(), count];
    let mut section = Vec::with_capacity(records.len() + end + 4 * ends.len());
    for count in counts {
        section.extend(u32::try_from(count).ok()?.to_le_bytes());
    }
    section.extend(ends.iter().chain(&aliases).flat_map(|number| number.to_le_bytes()));
    for time in &times.values {
        section.extend(time.as_second().to_le_bytes());
        section.extend(time.subsec_nanosecond().to_le_bytes());
    }
    section.extend(records);
    texts.values.iter().for_each(|text| section.extend(text.as_bytes()));
    Some(section)
}

/// All texts of a finding that stand in this section.
fn mentioned(finding: &Finding) -> impl Iterator<Item = &Text> {
    let Finding { id, package, version, fixed_version, path, purl, sha256, source, .. } = finding;
    let may_be = [package, version, fixed_version, path, purl, sha256];
    [id, source].into_iter().chain(may_be.into_iter().flatten()).chain(&finding.aliases)
}

/// Distinct values and their numbers.
struct Numbers<T> {
    values: Vec<T>,
    /// How often each is mentioned, and its number.
    known: HashMap<T, (usize, u32)>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { values: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Numbers<T> {
    fn mention(&mut self, value: T) {
        let (mentions, _) = self.known.entry(value).or_insert((0, 0));
        *mentions += 1;
        if *mentions == 1 {
            self.values.push(value);
        }
    }

    /// Numbers the values, those first that were mentioned several times, and says how many these
    /// are. `None` if there are too many values.
    fn several_first(&mut self) -> Option<usize> {
        let Self { values, known } = self;
        let is_single = |value: &T| known.get(value).is_some_and(|(mentions, _)| *mentions == 1);
        values.sort_by_key(is_single);
        let several = values.partition_point(|value| !is_single(value));
        for (place, value) in values.iter().enumerate() {
            let number = u32::try_from(place + 1).ok()?;
            if let Some(known) = known.get_mut(value) {
                known.1 = number;
            }
        }
        Some(several)
    }

    /// The number of a value that was mentioned.
    fn number(&self, value: T) -> u32 {
        self.known.get(&value).map_or(0, |(_, number)| *number)
    }
}

/// What is wrong with a section; small, since each finding could say it many times.
type Broken = &'static str;

/// What is left of a section while it is read.
pub(super) struct Reader<'a> {
    texts: Texts<'a>,
    times: Vec<Timestamp>,
    aliases: std::slice::Iter<'a, [u8; 4]>,
    records: &'a [[u8; RECORD]],
    titles: Option<Titles>,
}

impl<'a> Reader<'a> {
    /// Reads all but the findings. Without titles, findings get none.
    pub(super) fn new(section: &'a [u8], titles: Option<Titles>) -> Result<Self, Broken> {
        let (counts, mut section) = section.split_first_chunk().ok_or(SHAPE)?;
        let [texts, several, aliases, times, findings] = numbers::<20, 5>(counts);
        let ends = take(&mut section, texts)?;
        let aliases = take(&mut section, aliases)?.iter();
        let times = take(&mut section, times)?.iter().map(time).collect::<Result<_, _>>()?;
        let records = take(&mut section, findings)?;
        if records.len() > MAX_FINDINGS {
            return Err(TOO_MANY);
        }
        let all = std::str::from_utf8(section).map_err(|_| SHAPE)?;
        let texts = Texts::new(ends, all, several as usize)?;
        Ok(Self { texts, times, aliases, records, titles })
    }

    /// The next findings.
    pub(super) fn next(&mut self, count: usize) -> Result<Vec<Arc<Finding>>, Broken> {
        let (records, rest) = self.records.split_at_checked(count).ok_or(TOO_MANY)?;
        self.records = rest;
        let mut findings = Vec::with_capacity(count);
        for record in records {
            findings.push(Arc::new(self.finding(record)?));
        }
        Ok(findings)
    }

    /// Makes sure that nothing is left.
    pub(super) fn end(self) -> Result<(), Broken> {
        let titles = self.titles.is_none_or(|titles| titles.is_empty());
        if !self.records.is_empty() || self.aliases.len() != 0 || !titles {
            return Err(BEHIND);
        }
        Ok(())
    }

    fn finding(&mut self, record: &[u8; RECORD]) -> Result<Finding, Broken> {
        let [
            id,
            package,
            version,
            fixed_version,
            path,
            purl,
            sha256,
            source,
            aliases,
            published,
            fixed,
            first_seen,
            cvss,
            epss,
            kind,
        ] = numbers::<RECORD, FIELDS>(record);
        let [class, severity, flags, _] = kind.to_le_bytes();
        let class = ClassRecord::numbered(class).ok_or(SHAPE)?;
        let severity = SeverityRecord::numbered(severity).ok_or(SHAPE)?;
        let value = |flag, bits| (flags & flag != 0).then(|| f32::from_bits(bits));
        Ok(Finding {
            class: class.into(),
            id: self.texts.get(id)?.ok_or(NO_ID)?,
            aliases: self.aliases(aliases as usize)?,
            severity: severity.into(),
            package: self.texts.get(package)?,
            version: self.texts.get(version)?,
            fixed_version: self.texts.get(fixed_version)?,
            path: self.texts.get(path)?,
            purl: self.texts.get(purl)?,
            sha256: self.texts.get(sha256)?,
            title: self.titles.as_mut().map_or(Ok(None), Titles::next)?,
            cvss: score(value(CVSS, cvss))?,
            epss: score(value(EPSS, epss))?,
            kev: flags & KEV != 0,
            published: self.time(published)?,
            fixed: self.time(fixed)?,
            first_seen: self.time(first_seen)?,
            source: self.texts.get(source)?.ok_or(NO_ID)?,
        })
    }

    fn aliases(&mut self, count: usize) -> Result<Vec<Text>, Broken> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if count > self.aliases.len() {
            return Err(NO_TEXT);
        }
        let aliases = self.aliases.by_ref().take(count);
        aliases
            .map(|number| {
                let text = self.texts.get(u32::from_le_bytes(*number))?;
                text.ok_or(NO_TEXT)
            })
            .collect()
    }

    fn time(&self, number: u32) -> Result<Option<Timestamp>, Broken> {
        let Some(place) = number.checked_sub(1) else {
            return Ok(None);
        };
        let time = self.times.get(place as usize);
        time.copied().map(Some).ok_or("a finding names a time that is not there")
    }
}

/// The texts that findings name by number.
struct Texts<'a> {
    ends: &'a [[u8; 4]],
    all: &'a str,
    /// Those that several mention.
    several: Vec<Text>,
    /// How many bytes the others have that were not met yet.
    left: usize,
}

impl<'a> Texts<'a> {
    fn new(ends: &'a [[u8; 4]], all: &'a str, several: usize) -> Result<Self, Broken> {
        let end = ends.last().map_or(0, |end| u32::from_le_bytes(*end));
        if several > ends.len() || end as usize != all.len() {
            return Err(NO_TEXT);
        }
        let mut texts = Self { ends, all, several: Vec::with_capacity(several), left: all.len() };
        for place in 0..several {
            let text = texts.cut(place)?;
            texts.several.push(text.into());
        }
        Ok(texts)
    }

    #[inline]
    fn get(&mut self, number: u32) -> Result<Option<Text>, Broken> {
        let Some(place) = number.checked_sub(1) else {
            return Ok(None);
        };
        match self.several.get(place as usize) {
            Some(text) => Ok(Some(Arc::clone(text))),
            None => self.single(place as usize).map(Some),
        }
    }

    /// Makes a text that is mentioned once. One that is mentioned again and again would turn a
    /// small file into a large allocation.
    #[inline(never)]
    fn single(&mut self, place: usize) -> Result<Text, Broken> {
        let text = self.cut(place)?;
        self.left = self.left.checked_sub(text.len()).ok_or("it unfolds to too much text")?;
        Ok(text.into())
    }

    fn cut(&self, place: usize) -> Result<&'a str, Broken> {
        let end = |place: usize| self.ends.get(place).map(|end| u32::from_le_bytes(*end) as usize);
        let start = place.checked_sub(1).map_or(Some(0), end);
        let text = start.zip(end(place)).and_then(|(start, end)| self.all.get(start..end));
        text.ok_or(NO_TEXT)
    }
}

/// The numbers of a record of `B = 4 * N` bytes.
fn numbers<const B: usize, const N: usize>(record: &[u8; B]) -> [u32; N] {
    const { assert!(B == 4 * N) };
    let (numbers, _) = record.as_chunks();
    std::array::from_fn(|place| u32::from_le_bytes(numbers[place]))
}

/// Takes so many records of `B` bytes from the front.
fn take<'a, const B: usize>(section: &mut &'a [u8], count: u32) -> Result<&'a [[u8; B]], Broken> {
    let size = (count as usize).checked_mul(B);
    let (records, rest) = size.and_then(|size| section.split_at_checked(size)).ok_or(SHAPE)?;
    *section = rest;
    Ok(records.as_chunks().0)
}

fn time(bytes: &[u8; TIME]) -> Result<Timestamp, Broken> {
    let [s @ .., n0, n1, n2, n3] = *bytes;
    Timestamp::new(i64::from_le_bytes(s), i32::from_le_bytes([n0, n1, n2, n3]))
        .map_err(|_| "a time is out of range")
}
