//! `portcullis feed update|status`: EPSS and KEV.
//!
//! All files are read whole before the first is stored, and what is stored takes the place of the
//! old by rename: an update that fails leaves the old feeds, and the verdicts as they are.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_node::{DAMAGED_FEED, Lying, lying};
use portcullis_report::feeds::{FeedFile, FeedLimits, Feeds};
use portcullis_report::feeds::{read_feed, stored};
use portcullis_settings::{remove, replace};
use portcullis_store::{Annotated, Depth, VerdictStore};
use portcullis_types::{Digest, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::args::{Feed, Fetch};
use crate::context::Context;
use crate::exit::Exit;
use crate::fetch::{Answer, Fetcher, Tags, Url};
use crate::render::{count, wrapped};

/// How far a feed's date may be ahead of our clock: clocks differ, and days begin apart.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn run(context: &Context, command: &Feed) -> Result<Exit> {
    match command {
        Feed::Update { files, force, fetch } => update(context, files, fetch, *force),
        Feed::Status => status(context),
    }
}

/// The node's feeds.
///
/// # Errors
/// One that is there is damaged.
pub(super) fn of_node(context: &Context) -> Result<Feeds> {
    Feeds::open(&context.paths.feeds()).context(DAMAGED_FEED)
}

fn status(context: &Context) -> Result<Exit> {
    let feeds = lying(&context.paths);
    context.print.print(&feeds, |out| {
        if feeds.is_empty() {
            let folder = context.paths.feeds();
            return writeln!(out, "no feed is in {}: see portcullis feed update", folder.display());
        }
        for feed in &feeds {
            match feed.words() {
                Some(words) => writeln!(out, "{words}\n  {}", feed.path.display())?,
                None => writeln!(out, "{}", wrapped(feed.error.as_deref().unwrap_or_default(), 2))?,
            }
        }
        Ok(())
    })?;
    let is_damaged = feeds.iter().any(|feed| feed.error.is_some());
    Ok(if is_damaged { Exit::Failed } else { Exit::Done })
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands) struct Updated {
    /// Files that were stored.
    stored: Vec<PathBuf>,
    feeds: Vec<Lying>,
    /// Images about which something is known.
    images: usize,
    /// Those of which something else is known now.
    changed: Vec<Digest>,
    damaged: Vec<Damaged>,
}

#[derive(Serialize, JsonSchema)]
struct Damaged {
    image: Digest,
    error: String,
}

/// Reads a feed, which may have to be fetched.
fn taken(folder: &Path, file: &Path, fetch: &Fetch) -> Result<FeedFile> {
    let limits = FeedLimits::default();
    let Some(url) = Url::of_source(file) else { return Ok(read_feed(file, &limits)?) };
    let url = url?;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let fetcher = Fetcher::new(fetch, (limits.bytes, ", as no feed is"));
    let (_, name) = url.end();
    match fetcher.get(&url, &Tags::default(), folder, &name)? {
        Answer::File(fetched, _) => {
            // It has no name of its own.
            let path = format!("/proc/self/fd/{}", fetched.as_raw_fd());
            let read = read_feed(Path::new(&path), &limits).map_err(anyhow::Error::from);
            read.map_err(|error| anyhow!(format!("{error:#}").replace(&path, &url.to_string())))
        }
        Answer::Unchanged | Answer::Missing => {
            bail!("cannot fetch {url}: there is no such file (404): check the URL")
        }
    }
}

fn update(context: &Context, files: &[PathBuf], fetch: &Fetch, force: bool) -> Result<Exit> {
    let folder = context.paths.feeds();
    let mut taken: Vec<(String, FeedFile)> = Vec::new();
    for file in files {
        let name = match Url::of_source(file) {
            Some(Ok(url)) => url.to_string(),
            Some(Err(_)) => "what is given".to_owned(),
            None => file.display().to_string(),
        };
        let read = self::taken(&folder, file, fetch)
            .with_context(|| format!("{name} is not taken, and nothing is changed"))?;
        if let Some((other, _)) = taken.iter().find(|(_, t)| t.feed.name() == read.feed.name()) {
            let feed = read.feed.name();
            bail!("{name} and {other} are both {feed}: give one of them");
        }
        taken.push((name, read));
    }
    let mut kept = Vec::new();
    for (path, feed) in stored(&folder) {
        let is_for = |new: &FeedFile| {
            [Some(new.name), new.other].into_iter().flatten().any(|name| path.ends_with(name))
        };
        match (feed, taken.iter().find(|(_, new)| is_for(new))) {
            (feed, None) => kept.push(feed.context(DAMAGED_FEED)?),
            // What is damaged is mended by what takes its place.
            (Err(_), Some(_)) => {}
            (Ok(feed), Some((file, new))) if new.feed.date() < feed.date() && !force => bail!(
                "{file} is of {}, and {} is already of {}: give a newer one, or --force to go back",
                new.feed.date().strftime("%F"),
                path.display(),
                feed.date().strftime("%F"),
            ),
            (Ok(_), Some(_)) => {}
        }
    }
    let latest = Timestamp::now().checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    for (file, new) in &taken {
        if new.feed.date() > latest && !force {
            let day = new.feed.date().strftime("%F");
            bail!("{file} is of {day}, a day to come: check the clock, or give --force");
        }
    }
    if taken.is_empty() && kept.is_empty() {
        bail!("no feed is in {}: give EPSS or KEV as a file", folder.display());
    }
    let mut paths = Vec::new();
    for (_, new) in &taken {
        paths.push(put(&folder, new).with_context(|| {
            format!("cannot store {} in {}", new.feed.name(), folder.display())
        })?);
    }
    let feeds = kept.into_iter().chain(taken.into_iter().map(|(_, new)| new.feed)).collect();
    let annotated = annotate(context, &feeds)
        .context("not every verdict has the new feeds: run portcullis feed update again")?;
    report(context, paths, annotated)
}

/// Stores a feed: after it, whoever opens the folder reads the old one or this one, whole.
fn put(folder: &Path, new: &FeedFile) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let path = folder.join(new.name);
    replace(&path, 0o644, &new.bytes)?;
    // Of EPSS in two forms the later one is read, and this one may be the earlier by --force.
    if let Some(other) = new.other {
        remove(&folder.join(other))?;
    }
    File::open(folder)?.sync_all()?;
    Ok(path)
}

/// Writes what the feeds say into all verdicts.
fn annotate(context: &Context, feeds: &Feeds) -> Result<Vec<Annotated>> {
    let store = context.store();
    let bar = ProgressBar::hidden();
    if io::stderr().is_terminal() {
        let heads = store.list(Depth::Heads)?.into_iter().filter_map(|listed| listed.entry.ok());
        let findings = heads.flat_map(|head| head.reports).map(|(_, findings)| findings as u64);
        bar.set_length(findings.sum());
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} findings") {
        bar.set_style(style);
    }
    let annotated = store.annotate(&|finding| {
        bar.inc(1);
        feeds.annotate(finding)
    });
    bar.finish_and_clear();
    Ok(annotated?)
}

fn report(context: &Context, stored: Vec<PathBuf>, annotated: Vec<Annotated>) -> Result<Exit> {
    let images = annotated.len();
    let (mut changed, mut damaged) = (Vec::new(), Vec::new());
    for Annotated { config: image, changed: has_changed } in annotated {
        match has_changed {
            Ok(true) => changed.push(image),
            Ok(false) => {}
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                damaged.push(Damaged { image, error });
            }
        }
    }
    let updated = Updated { stored, feeds: lying(&context.paths), images, changed, damaged };
    context.print.print(&updated, |out| {
        for words in updated.feeds.iter().filter_map(Lying::words) {
            writeln!(out, "{words}")?;
        }
        let changed = updated.changed.len();
        writeln!(out, "{changed} of {} changed", count(updated.images, "image"))?;
        for Damaged { error, .. } in &updated.damaged {
            writeln!(out, "{}", wrapped(&format!("damaged: {error}"), 2))?;
        }
        Ok(())
    })?;
    Ok(if updated.damaged.is_empty() { Exit::Done } else { Exit::Failed })
}
