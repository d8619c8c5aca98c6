//! EPSS and KEV as they lie on a node.

use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use portcullis_report::feeds::{Feed, FeedError, stored};
use portcullis_settings::Paths;
use portcullis_types::{Timestamp, with_causes};
use serde::Serialize;

use crate::count;

/// What is to be done about a damaged one.
pub const DAMAGED_FEED: &str =
    "a feed of this node is damaged: fetch it and run portcullis feed update FILE";

/// A feed as it lies on the node.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Lying {
    /// Its file.
    pub path: PathBuf,
    /// `EPSS` or `KEV`.
    pub name: Option<&'static str>,
    /// Of which day it is.
    #[cfg_attr(feature = "schema", schemars(with = "Option<portcullis_types::TimeSchema>"))]
    pub date: Option<Timestamp>,
    /// CVEs that it lists.
    pub rows: Option<usize>,
    /// Since its date.
    pub age_seconds: Option<i64>,
    /// Why it cannot be used.
    pub error: Option<String>,
}

impl Lying {
    fn new(path: PathBuf, feed: Result<Feed, FeedError>, now: Timestamp) -> Self {
        let mut lying =
            Self { path, name: None, date: None, rows: None, age_seconds: None, error: None };
        match feed {
            Ok(feed) => {
                lying.name = Some(feed.name());
                lying.date = Some(feed.date());
                lying.rows = Some(feed.rows());
                lying.age_seconds = Some(now.duration_since(feed.date()).as_secs());
            }
            Err(error) => {
                lying.error = Some(format!("{DAMAGED_FEED}: {}", with_causes(&error)));
            }
        }
        lying
    }

    /// `EPSS of 2026-11-20, 250,000 CVEs, 3 days old`, if it can be used.
    pub fn words(&self) -> Option<String> {
        let (name, date, rows) = (self.name?, self.date?, self.rows?);
        let age = match self.age_seconds? {
            seconds if seconds < 0 => "of a time to come".to_owned(),
            seconds if seconds < 2 * 86_400 => format!("{} hours old", seconds / 3600),
            seconds => format!("{} days old", seconds / 86_400),
        };
        Some(format!("{name} of {}, {}, {age}", date.strftime("%F"), count(rows, "CVE")))
    }
}

/// The feeds that lie on the node, usable or not.
pub fn lying(paths: &Paths) -> Vec<Lying> {
    let now = Timestamp::now();
    let all = stored(&paths.feeds()).into_iter();
    all.map(|(path, feed)| Lying::new(path, feed, now)).collect()
}

/// The feeds of a node for whoever looks at it again and again: they have some hundred thousand
/// rows, and are read only when a file is another one.
#[derive(Debug, Default)]
pub struct KnownFeeds {
    files: Vec<Stamp>,
    lying: Vec<Lying>,
}

/// What tells a file from another one.
type Stamp = (PathBuf, u64, u64, i64, i64);

impl KnownFeeds {
    pub(crate) fn lying(&mut self, paths: &Paths) -> Vec<Lying> {
        let files = stamps(&paths.feeds());
        if files != self.files {
            (self.files, self.lying) = (files, lying(paths));
        }
        let now = Timestamp::now();
        for feed in &mut self.lying {
            feed.age_seconds = feed.date.map(|date| now.duration_since(date).as_secs());
        }
        self.lying.clone()
    }
}

fn stamps(folder: &Path) -> Vec<Stamp> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let stamp = |entry: DirEntry| {
        let found = entry.metadata().ok()?;
        Some((entry.path(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    };
    let mut stamps: Vec<Stamp> = entries.flatten().filter_map(stamp).collect();
    stamps.sort();
    stamps
}
