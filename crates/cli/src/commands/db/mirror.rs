//! What `portcullis db update` fetches: single files, and mirrors in the layout in which OSV publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use portcullis_osv::database::{Database, Fetched, Origin, Source};
use portcullis_versions::Scheme;

use crate::args::DbUpdate;
use crate::context::Context;
use crate::fetch::{Answer, Fetcher, Tags, Url};
use crate::render::plain;

/// The archive of an ecosystem in the layout of OSV, and the list of them.
const ARCHIVE: &str = "all.zip";
const LIST: &str = "ecosystems.txt";
/// Most bytes of the list.
const MAX_LIST: u64 = 1 << 20;
/// Most ecosystems of a mirror that are taken without being asked for: such a mirror was made for what
/// is needed; OSV's has some forty.
const FEW: usize = 10;

/// What is taken in.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) sources: Vec<Source>,
    /// Ecosystems of which the mirror has what the node has.
    pub(super) unchanged: Vec<String>,
    /// Ecosystems that the mirror has not; they stay as they are.
    pub(super) absent: Vec<String>,
}

/// A file that is fetched.
#[derive(Debug)]
struct Request {
    url: Url,
    /// By the layout of a mirror.
    ecosystem: Option<String>,
    /// Nobody asked for it by name.
    may_be_absent: bool,
}

/// Fetches what has to be fetched.
///
/// # Errors
/// The command line asks for nothing that could be fetched, or it cannot be.
pub(super) fn sources(context: &Context, args: &DbUpdate) -> Result<Taken> {
    let mut mirror: Option<Url> = None;
    let (mut paths, mut requests) = (Vec::new(), Vec::new());
    for source in &args.sources {
        let Some(url) = Url::of_source(source) else {
            paths.push(Source::Path(source.clone()));
            continue;
        };
        let url = url?;
        let (folder, file) = url.end();
        let file = file.to_ascii_lowercase();
        if file.ends_with(".zip") || file.ends_with(".json") {
            let is_archive = file == ARCHIVE && is_known(&folder);
            let ecosystem = is_archive.then_some(folder);
            requests.push(Request { url, ecosystem, may_be_absent: false });
        } else if url.has_query() {
            bail!("{url} is no URL of a mirror: give it without what follows the ?");
        } else if let Some(other) = mirror.replace(url) {
            bail!(
                "{other} is a mirror too: give one, and what else is needed as <ecosystem>/all.zip"
            );
        }
    }
    let names_some = args.all_ecosystems || !args.ecosystem.is_empty();
    if mirror.is_none() && names_some {
        bail!("--ecosystem and --all-ecosystems are for a mirror: give its URL");
    }
    let mut taken = Taken { sources: paths, ..Taken::default() };
    if mirror.is_none() && requests.is_empty() {
        return Ok(taken);
    }
    let folder = context.paths.advisories();
    let mut create = fs::DirBuilder::new();
    let created = create.recursive(true).mode(0o755).create(&folder);
    created.with_context(|| format!("cannot use {}", folder.display()))?;
    let fetching = Fetching {
        fetcher: Fetcher::new(&args.fetch, (args.max_size, ": allow more with --max-size")),
        database: Database::open(&folder),
        folder,
    };
    if let Some(mirror) = &mirror {
        requests.extend(fetching.of_mirror(mirror, args)?);
    }
    fetching.fetch(requests, &mut taken)?;
    if let (Some(mirror), true) = (mirror, taken.sources.is_empty() && taken.unchanged.is_empty()) {
        let absent = taken.absent.join(", ");
        bail!(
            "{mirror} has nothing of the ecosystems of this node: {absent}; is it a mirror of OSV?"
        );
    }
    Ok(taken)
}

/// Whether the order of an ecosystem's versions is known, without which nothing can be said.
fn is_known(ecosystem: &str) -> bool {
    Scheme::of_ecosystem(ecosystem).is_ok()
}

fn base(ecosystem: &str) -> &str {
    ecosystem.split(':').next().unwrap_or_default()
}

/// Names without those whose ecosystem is among them: its archive has all releases.
fn without_contained(names: BTreeSet<String>) -> BTreeSet<String> {
    let contained = |name: &String| base(name) != name && names.contains(base(name));
    names.iter().filter(|name| !contained(name)).cloned().collect()
}

struct Fetching<'a> {
    fetcher: Fetcher<'a>,
    database: Result<Option<Database>, portcullis_osv::database::DatabaseError>,
    folder: PathBuf,
}

impl Fetching<'_> {
    /// The archives of a mirror: of the ecosystems that were named, or else that the node has, or
    /// else of all if they are few.
    fn of_mirror(&self, mirror: &Url, args: &DbUpdate) -> Result<Vec<Request>> {
        let (names, may_be_absent) = if !args.ecosystem.is_empty() {
            for name in &args.ecosystem {
                if !is_known(name) {
                    bail!(
                        "\"{}\" is no ecosystem of OSV whose versions can be ordered: names are as \
                         OSV has them, PyPI, Debian:12, Red Hat",
                        plain(name)
                    );
                }
            }
            (args.ecosystem.iter().cloned().collect(), false)
        } else if args.all_ecosystems {
            (self.list(mirror)?, true)
        } else {
            match &self.database {
                Ok(Some(database)) => (of_node(database), true),
                Ok(None) => (self.few(mirror)?, true),
                Err(error) => bail!(
                    "the vulnerability database cannot be used ({error}), so that it is not known \
                     what to fetch: say it with --ecosystem or --all-ecosystems"
                ),
            }
        };
        let request = |name: String| {
            let url = mirror.below(&[&name, ARCHIVE])?;
            Ok(Request { url, ecosystem: Some(name), may_be_absent })
        };
        without_contained(names).into_iter().map(request).collect()
    }

    /// The ecosystems of a mirror, if they are few.
    fn few(&self, mirror: &Url) -> Result<BTreeSet<String>> {
        let names = self.list(mirror)?;
        if names.len() > FEW {
            let all: Vec<String> = names.iter().cloned().collect();
            bail!(
                "{mirror} has {} ecosystems, and this node has none yet: name those that are needed \
                 with --ecosystem, or give --all-ecosystems: {}",
                names.len(),
                all.join(", ")
            );
        }
        Ok(names)
    }

    /// The ecosystems that a mirror lists, as far as they can be used, each once.
    fn list(&self, mirror: &Url) -> Result<BTreeSet<String>> {
        let url = mirror.below(&[LIST])?;
        let remedy = "name ecosystems with --ecosystem, or give the URL of an archive (.zip)";
        let Answer::File(file, _) = self.fetcher.get(&url, &Tags::default(), &self.folder, LIST)?
        else {
            bail!("there is no {url}: {remedy}");
        };
        let mut text = String::new();
        let read = file.take(MAX_LIST).read_to_string(&mut text);
        read.with_context(|| format!("{url} is no list of ecosystems: {remedy}"))?;
        let names = text.lines().map(str::trim).filter(|name| is_known(name));
        let names: BTreeSet<String> = names.map(ToOwned::to_owned).collect();
        if names.is_empty() {
            bail!("{url} lists no ecosystem: {remedy}");
        }
        Ok(without_contained(names))
    }

    /// Fetches all, in groups that are one part of the database.
    fn fetch(&self, requests: Vec<Request>, taken: &mut Taken) -> Result<()> {
        let mut groups: BTreeMap<Option<String>, Vec<Request>> = BTreeMap::new();
        for request in requests {
            let key = request.ecosystem.as_deref().map(|name| base(name).to_owned());
            let group = groups.entry(key).or_default();
            if !group.iter().any(|other| other.url == request.url) {
                group.push(request);
            }
        }
        // Whatever else is given may speak of any ecosystem, which then needs all of its parts.
        let is_alone = taken.sources.is_empty() && !groups.contains_key(&None);
        for (ecosystem, requests) in groups {
            let known = ecosystem.as_deref().map(|ecosystem| self.known(ecosystem));
            let known = known.unwrap_or_default();
            self.group(ecosystem.as_deref(), &requests, &known, is_alone, taken)?;
        }
        Ok(())
    }

    /// From where an ecosystem of the node was fetched, if it is whole.
    fn known(&self, ecosystem: &str) -> Vec<Origin> {
        let Ok(Some(database)) = &self.database else { return Vec::new() };
        let contents = database.manifest().ecosystems.get(ecosystem);
        let origins = contents.map(|contents| contents.origins.clone()).unwrap_or_default();
        // What is damaged must not stay as it is.
        if origins.is_empty() || !database.is_whole(ecosystem) { Vec::new() } else { origins }
    }

    fn group(
        &self,
        ecosystem: Option<&str>,
        requests: &[Request],
        known: &[Origin],
        is_alone: bool,
        taken: &mut Taken,
    ) -> Result<()> {
        // A query may name another file at the same address.
        let of = |request: &Request| {
            let url = request.url.to_string();
            known.iter().find(|origin| origin.url == url).filter(|_| !request.url.has_query())
        };
        let tags = |request: &Request| {
            let origin = of(request);
            let etag = origin.and_then(|origin| origin.etag.clone());
            Tags { etag, last_modified: origin.and_then(|origin| origin.last_modified.clone()) }
        };
        let has_tags = |request: &Request| tags(request) != Tags::default();
        // Whether nothing is new can be asked only if the node has these parts and no others.
        let is_same = is_alone && requests.len() == known.len() && requests.iter().all(has_tags);
        let mut fetched = Vec::new();
        let mut unchanged = Vec::new();
        for request in requests {
            let tags = if is_same { tags(request) } else { Tags::default() };
            match self.one(request, &tags)? {
                Answer::File(file, tags) => fetched.push(with_origin(request, file, tags)),
                Answer::Unchanged => unchanged.push(request),
                Answer::Missing if request.may_be_absent && of(request).is_none() => {
                    // Without a part, the rest would take the place of the whole.
                    taken.absent.extend(requests.iter().filter_map(|r| r.ecosystem.clone()));
                    return Ok(());
                }
                Answer::Missing => return Err(missing(request)),
            }
        }
        if let (true, Some(ecosystem)) = (fetched.is_empty(), ecosystem) {
            taken.unchanged.extend(requests.iter().filter_map(|r| r.ecosystem.clone()));
            taken.sources.push(Source::Unchanged(ecosystem.to_owned()));
            return Ok(());
        }
        // A part is new, and takes the place of all of them.
        for request in unchanged {
            match self.one(request, &Tags::default())? {
                Answer::File(file, tags) => fetched.push(with_origin(request, file, tags)),
                Answer::Unchanged | Answer::Missing => return Err(missing(request)),
            }
        }
        taken.sources.extend(fetched.into_iter().map(Source::Fetched));
        Ok(())
    }

    fn one(&self, request: &Request, tags: &Tags) -> Result<Answer> {
        let (_, file) = request.url.end();
        let name = request.ecosystem.as_deref().unwrap_or(&file);
        self.fetcher.get(&request.url, tags, &self.folder, name)
    }
}

fn missing(request: &Request) -> anyhow::Error {
    let url = &request.url;
    let remedy = match request.ecosystem {
        Some(_) => {
            "check the URL of the mirror, below which <ecosystem>/all.zip must be, and the name of \
             the ecosystem"
        }
        None => "check the URL",
    };
    anyhow::anyhow!("cannot fetch {url}: there is no such file (404): {remedy}")
}

fn with_origin(request: &Request, file: fs::File, tags: Tags) -> Fetched {
    let tags = if request.url.has_query() { Tags::default() } else { tags };
    let Tags { etag, last_modified } = tags;
    let origin = Origin { url: request.url.to_string(), etag, last_modified };
    Fetched { file, origin, ecosystem: request.ecosystem.clone() }
}

/// The ecosystems of the node, or the releases that were asked for of them.
fn of_node(database: &Database) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (ecosystem, contents) in &database.manifest().ecosystems {
        match contents.releases.is_empty() {
            true => names.extend([ecosystem.clone()]),
            false => names.extend(contents.releases.iter().cloned()),
        }
    }
    names
}
