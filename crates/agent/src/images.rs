//! Keeps the store in step with the images of this node's engines: those that nobody has scanned are
//! scanned when they come, and what is known of those that are gone for long is forgotten.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_engines::{Patience, Source};
use portcullis_scan::{Kept, Known};
use portcullis_store::{Depth, Detail, FileStore, VerdictStore};
use portcullis_types::{Binding, Cause, Digest, Engine, Place, Timestamp, with_causes};

use crate::backoff::Backoff;
use crate::bell::Bell;
use crate::changes::{Events, Folders};
use crate::follow::PATIENCE;
use crate::queue::{Queue, Scan};
use crate::scans::{Scans, be_nice};
use crate::state::{self, Memory};

/// How often engines are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// How often all images are listed without a word of a change.
const LIST: Duration = Duration::from_secs(600);

/// How long a change may be followed by others, and how far lists are apart at least: a pull makes
/// several.
const SETTLES: Duration = Duration::from_secs(1);
const APART: Duration = Duration::from_secs(4);

/// How often what is remembered is written if only times have changed.
const WRITE: Duration = Duration::from_secs(60);

/// Most images that are remembered.
const MAX_REMEMBERED: usize = 100_000;

/// The images of running containers.
#[derive(Debug, Default)]
pub(crate) struct Running {
    /// As of the last list of what runs; none before the first.
    images: Option<BTreeSet<Digest>>,
    /// Whether that is to be listed again: an image would be forgotten if nothing ran of it.
    is_wanted: bool,
}

/// The same for those who tell of it and those who ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct InUse(Arc<Mutex<Running>>);

impl InUse {
    fn held(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The images of all containers that run.
    pub(crate) fn tell(&self, images: BTreeSet<Digest>) {
        *self.held() = Running { images: Some(images), is_wanted: false };
    }

    /// Whether somebody waits to be told again.
    pub(crate) fn is_wanted(&self) -> bool {
        self.held().is_wanted
    }
}

/// Follows the images of a node.
pub(crate) struct Follower<'a> {
    scans: &'a Scans,
    queue: &'a Queue,
    bell: &'a Bell,
    in_use: &'a InUse,
    store: FileStore,
    memory: Memory,
    remembered: state::Images,
    written: Option<Instant>,
    /// When the store was listed last.
    met: Option<Instant>,
    /// What each engine had when it was listed last.
    listed: BTreeMap<String, Listed>,
    /// Configurations by what containerd was asked for.
    known: BTreeMap<Digest, Digest>,
    /// Images that were looked up in the store since the last list without a word of a change.
    looked_up: BTreeSet<Digest>,
    /// The files of what the node knows, and the rules of YARA among them.
    files: Option<Known>,
    rules: Option<Digest>,
    /// Images that are read once more, since the rules are others.
    again: BTreeMap<Digest, Arc<Scan>>,
    folders: Option<Folders>,
    events: BTreeMap<PathBuf, Events>,
}

/// An engine, as it was listed.
#[derive(Default)]
struct Listed {
    had: BTreeSet<Digest>,
    place: Option<Place>,
    backoff: Backoff,
    /// When it is asked again after a failure.
    asked_at: Option<Instant>,
    /// It said all in the last round.
    is_complete: bool,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(
        scans: &'a Scans,
        queue: &'a Queue,
        bell: &'a Bell,
        in_use: &'a InUse,
    ) -> Self {
        let paths = scans.settings().paths();
        let memory = Memory::new(&paths.followed(), "images.json");
        let folders = Folders::new();
        if let Err(error) = &folders {
            log::warn!("changes of folders are not told: {error}");
        }
        Self {
            scans,
            queue,
            bell,
            in_use,
            store: FileStore::open(paths.verdicts()),
            remembered: memory.recall(),
            memory,
            written: None,
            met: None,
            listed: BTreeMap::new(),
            known: BTreeMap::new(),
            looked_up: BTreeSet::new(),
            files: None,
            rules: None,
            again: BTreeMap::new(),
            folders: folders.ok(),
            events: BTreeMap::new(),
        }
    }

    /// Until the end.
    pub(crate) fn run(mut self) {
        be_nice();
        let mut sources = Vec::new();
        let (mut look_at, mut list_at, mut all_at) = (Instant::now(), None, Instant::now());
        let mut forget_at = Instant::now();
        let (mut listed_at, mut asked_at) = (None::<Instant>, Instant::now());
        while !self.bell.is_ending() {
            let now = Instant::now();
            if now >= look_at {
                sources = self.here();
                if self.listen(&sources) | self.has_other_rules() {
                    list_at = Some(now);
                }
                look_at = now + LOOK;
            }
            if now >= all_at {
                self.looked_up.clear();
                list_at = Some(now);
                all_at = now + LIST;
            }
            if list_at.is_some_and(|at| now >= at) {
                list_at = None;
                asked_at = now;
                self.list(&sources);
                listed_at = Some(Instant::now());
                self.write();
            }
            if now >= forget_at {
                self.forget();
                forget_at = Instant::now() + self.forgets_every();
            }
            let retry = self.listed.values().filter_map(|listed| listed.asked_at).min();
            let retry = retry.into_iter().chain(self.queue.rests_until(asked_at)).min();
            let retry = retry.map(|at| at.max(now + SETTLES));
            let until = [Some(look_at), Some(all_at), Some(forget_at), list_at, retry];
            let until = until.into_iter().flatten().min();
            let fd = self.folders.as_ref().map(Folders::fd);
            self.bell.wait(fd, until.unwrap_or(look_at));
            if self.have_changed() {
                let apart = listed_at.map_or(now, |at| at + APART);
                list_at = list_at.or(Some((Instant::now() + SETTLES).max(apart)));
            }
            if retry.is_some_and(|at| Instant::now() >= at) {
                list_at = list_at.or(Some(Instant::now()));
            }
        }
        // The threads that listen end with the bell.
        self.events.clear();
        self.memory.keep(&self.remembered);
    }

    /// The engines that are here and are to be followed, each place once.
    fn here(&self) -> Vec<Source> {
        let settings = self.scans.settings();
        let follow = settings.agent.follow.as_ref();
        let is_followed = |engine: Engine| follow.is_none_or(|follow| follow.contains(&engine));
        let mut places = BTreeSet::new();
        let all = Source::all(settings, &portcullis_engines::containerd(settings)).into_iter();
        all.filter(|source| is_followed(source.engine()) && source.is_here())
            // CRI-O and Podman may share a storage.
            .filter(|source| places.insert(source.place()))
            .collect()
    }

    /// Listens where word of changes may come from; whether there is somewhere new to listen.
    fn listen(&mut self, sources: &[Source]) -> bool {
        let mut is_new = sources.iter().any(|source| !self.listed.contains_key(&name(source)));
        let folders: Vec<PathBuf> = sources.iter().flat_map(Source::image_folders).collect();
        if let Some(watched) = &mut self.folders {
            is_new |= watched.watch(&folders);
        }
        let tell: BTreeMap<PathBuf, _> = sources
            .iter()
            .filter_map(Source::tells)
            .filter(|containerd| containerd.address().exists())
            .map(|containerd| (containerd.address().to_owned(), containerd))
            .collect();
        self.events.retain(|address, _| tell.contains_key(address));
        for (address, containerd) in tell {
            if !self.events.contains_key(&address) {
                match Events::listen(containerd.clone(), self.bell.clone()) {
                    Ok(events) => drop(self.events.insert(address, events)),
                    Err(error) => log::warn!("no thread for events: {error}"),
                }
            }
        }
        is_new
    }

    /// Reads the rules of YARA, if one of the files may be another; whether they are others than at
    /// the last time.
    fn has_other_rules(&mut self) -> bool {
        let paths = self.scans.settings().paths();
        let files = Known::now(&paths);
        if self.files.as_ref() == Some(&files) {
            return false;
        }
        self.files = Some(files);
        // What cannot be read keeps images from being scanned, and whoever scans them says so.
        let Ok(rules) = portcullis_scan::rules(&paths) else { return false };
        let each = rules.iter().map(|(name, text)| format!("{} {name}\n", Digest::of(text)));
        let digest = Digest::of(each.collect::<String>().as_bytes());
        let is_other = self.rules.as_ref() != Some(&digest);
        if is_other {
            self.again.clear();
            self.looked_up.clear();
            self.rules = Some(digest);
        }
        is_other
    }

    /// Whether images were read by other rules than there are now.
    fn are_outdated(&mut self) -> bool {
        let Some(rules) = &self.rules else { return false };
        let before = self.remembered.rules.get_or_insert_with(|| rules.clone());
        before != rules
    }

    fn have_changed(&self) -> bool {
        // Each is asked, so that none tells the same again.
        let folders = self.folders.as_ref().is_some_and(Folders::have_changed);
        let told = self.events.values().filter(|events| events.have_told()).count();
        folders || told > 0
    }

    /// Asks each engine for its images, and has those scanned that nobody has.
    fn list(&mut self, sources: &[Source]) {
        let platform = portcullis_scan::own_platform();
        let goes_on = || !self.bell.is_ending();
        let patience = Patience { each: PATIENCE, goes_on: &goes_on };
        // One that is gone says nothing more, not even that it has no images.
        let here: BTreeSet<String> = sources.iter().map(name).collect();
        self.listed.retain(|name, _| here.contains(name));
        for listed in self.listed.values_mut() {
            listed.is_complete = false;
        }
        let mut wanted = Vec::new();
        for source in sources {
            let name = name(source);
            let listed = self.listed.entry(name.clone()).or_default();
            if listed.asked_at.is_some_and(|at| at > Instant::now()) {
                continue;
            }
            let images = source.images(&platform, &self.known, patience);
            if self.bell.is_ending() {
                return;
            }
            listed.place = Some(source.place());
            listed.is_complete = images.problem.is_none();
            let had = images.had.iter().map(|had| had.config.clone());
            match &images.problem {
                None => {
                    (listed.backoff, listed.asked_at) = (Backoff::default(), None);
                    listed.had = had.collect();
                }
                Some(problem) => {
                    // What it had is taken to be there still.
                    listed.had.extend(had);
                    listed.asked_at = Some(Instant::now() + listed.backoff.failed());
                    if listed.backoff.is_first() {
                        log::warn!("the images of {name} are not known: {}", with_causes(problem));
                    }
                }
            }
            for had in images.had {
                if self.known.len() < MAX_REMEMBERED && had.asked != had.config {
                    self.known.insert(had.asked.clone(), had.config.clone());
                }
                wanted.push((had, source.place()));
            }
        }
        let all: BTreeSet<&Digest> = self.listed.values().flat_map(|listed| &listed.had).collect();
        self.queue.follows(all.len(), |image, place| {
            let at = self.listed.values().filter(|listed| listed.place.as_ref() == Some(place));
            // A place that only doors name is theirs.
            at.clone().next().is_none() || at.clone().any(|listed| listed.had.contains(image))
        });
        self.remember();
        let are_outdated = self.are_outdated();
        let mut are_left = false;
        let knows = OnceCell::new();
        for (had, place) in wanted {
            if self.bell.is_ending() {
                return;
            }
            if let Some(scan) = self.again.get(&had.config) {
                are_left |= scan.wait(Instant::now()).is_none();
                continue;
            }
            if self.looked_up.contains(&had.config) {
                continue;
            }
            match self.store.by_config(&had.config, Detail::Decision) {
                Ok(Some(verdict)) if verdict.reports.iter().any(|r| r.says_something()) => {
                    let has = |binding| verdict.reports.iter().any(|r| r.binding == binding);
                    if are_outdated && has(Binding::ByScan) {
                        are_left = true;
                        let scan = self.queue.want_again(had.config.clone(), place, had.asked);
                        self.again.extend(scan.map(|scan| (had.config, scan)));
                    } else if has(Binding::BySignature)
                        && !has(Binding::ByScan)
                        && self.scans.is_outdone(&verdict, knows.get_or_init(|| self.scans.knows()))
                    {
                        // Other nodes may say more by now; else it is scanned.
                        self.queue.want_again(had.config, place, had.asked);
                    } else {
                        self.looked_up.insert(had.config);
                    }
                }
                // A damaged verdict stays: what it said is not known to be outdone.
                Err(error) if error.cause() == Cause::StoreCorrupt => {}
                // A store that is not there yet holds nothing.
                Ok(_) | Err(_) => {
                    self.queue.want_in_background(had.config, place, had.asked);
                }
            }
        }
        if are_outdated && !are_left && self.listed.values().all(|listed| listed.is_complete) {
            self.remembered.rules.clone_from(&self.rules);
            self.again.clear();
        }
    }

    /// Remembers which images were there.
    fn remember(&mut self) {
        let now = Timestamp::now();
        let in_use = self.in_use.held().images.clone();
        for (name, listed) in self.listed.iter().filter(|(_, listed)| listed.is_complete) {
            for image in &listed.had {
                see(&mut self.remembered, image, Some(name), now);
            }
            for (digest, image) in &mut self.remembered.images {
                if !listed.had.contains(digest) && image.engines.len() > 1 {
                    image.engines.remove(name);
                }
            }
        }
        for image in in_use.iter().flatten() {
            see(&mut self.remembered, image, None, now);
        }
    }

    /// How often it is looked for images that are gone for long enough.
    fn forgets_every(&self) -> Duration {
        let after = self.scans.settings().agent.forget_after;
        after.map_or(LOOK, |after| after.clamp(SETTLES, LOOK))
    }

    /// Forgets what is known of images that no engine has had for long.
    fn forget(&mut self) {
        let Some(after) = self.scans.settings().agent.forget_after else { return };
        // Without knowing what runs, what is not there may be in use.
        let in_use = self.in_use.held().images.clone();
        let (Some(in_use), now) = (in_use, Timestamp::now()) else { return };
        let every = self.listed.values().all(|listed| listed.is_complete);
        if !every || self.listed.is_empty() {
            return;
        }
        let is_old =
            |since: Timestamp| now.duration_since(since).unsigned_abs() >= after && since <= now;
        if self.met.is_none_or(|at| at.elapsed() >= LIST) {
            self.meet_others(now);
            self.met = Some(Instant::now());
        }
        let due: Vec<Digest> = self
            .remembered
            .images
            .iter()
            .filter(|(digest, image)| {
                is_old(image.since)
                    && !self.listed.values().any(|listed| listed.had.contains(*digest))
                    // An engine that had it and is not here cannot say that it has it no more.
                    && image.engines.iter().all(|name| self.listed.contains_key(name))
            })
            .map(|(digest, _)| digest.clone())
            .collect();
        let (used, due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|digest| in_use.contains(digest));
        if !used.is_empty() {
            // What ran of it may have ended since.
            self.in_use.held().is_wanted = true;
        }
        if due.is_empty() {
            return;
        }
        let imported = match self.imported() {
            Ok(imported) => imported,
            Err(error) => return log::warn!("nothing is forgotten: {}", with_causes(&error)),
        };
        let kept = Kept::new(self.scans.settings().paths().inventories());
        for image in due {
            if self.bell.is_ending() {
                return;
            }
            if imported.get(&image).is_some_and(|at| !is_old(*at)) {
                continue;
            }
            let removed = self.store.remove(&image).map_err(|error| with_causes(&error));
            let removed = removed.and_then(|removed| {
                let kept = kept.forget(&image).map_err(|error| with_causes(&error))?;
                Ok(removed || kept)
            });
            match removed {
                Ok(removed) => {
                    if removed {
                        log::info!("{image} is forgotten: no engine has it any more");
                    }
                    self.remembered.images.remove(&image);
                    self.known.retain(|_, config| *config != image);
                }
                Err(error) => log::warn!("{image} is not forgotten: {error}"),
            }
        }
    }

    /// Meets the images of which there is a verdict and that were never on this node.
    fn meet_others(&mut self, now: Timestamp) {
        // A store that cannot be listed is met the next time.
        for listed in self.store.list(Depth::Heads).unwrap_or_default() {
            if self.remembered.images.len() >= MAX_REMEMBERED {
                return;
            }
            let fresh = state::Image { since: now, engines: BTreeSet::new() };
            self.remembered.images.entry(listed.config).or_insert(fresh);
        }
    }

    /// When what other scanners say of images was imported last. A report of ours is made anew with
    /// each change of what the node knows, and so its time says nothing.
    fn imported(&self) -> Result<BTreeMap<Digest, Timestamp>, portcullis_store::StoreError> {
        let mut imported = BTreeMap::new();
        for listed in self.store.list(Depth::Heads)? {
            let Ok(summary) = listed.entry else { continue };
            let others = summary.reports.iter().map(|(report, _)| report);
            let others = others.filter(|report| report.binding != Binding::ByScan);
            if let Some(latest) = others.map(|report| report.imported_at).max() {
                imported.insert(listed.config, latest);
            }
        }
        Ok(imported)
    }

    fn write(&mut self) {
        if self.written.is_none_or(|at| at.elapsed() >= WRITE) {
            self.memory.keep(&self.remembered);
            self.written = Some(Instant::now());
        }
    }
}

/// An image is there.
fn see(remembered: &mut state::Images, image: &Digest, engine: Option<&str>, now: Timestamp) {
    if remembered.images.len() >= MAX_REMEMBERED && !remembered.images.contains_key(image) {
        return;
    }
    let fresh = state::Image { since: now, engines: BTreeSet::new() };
    let entry = remembered.images.entry(image.clone()).or_insert(fresh);
    entry.since = now;
    entry.engines.extend(engine.map(ToOwned::to_owned));
}

/// By which an engine is remembered.
fn name(source: &Source) -> String {
    format!("{} {}", source.engine(), source.shown())
}

#[cfg(test)]
mod tests;
