//! Brings advisories and feeds up to date by itself, where the settings say from where: it runs
//! `portcullis db update` and `portcullis feed update` now and then, in processes of their own.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_settings::{Settings, UpdateSettings};
use portcullis_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::{Backoff, random};
use crate::bell::Bell;
use crate::health::Health;
use crate::rests::Said;
use crate::scans::be_nice;
use crate::state::Memory;

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often it is looked whether it has ended.
const LOOKS: Duration = Duration::from_millis(100);
/// How long after its end by a signal ours may come.
const ENDING: Duration = Duration::from_secs(1);
/// Agents that begin together do not ask together.
const SPREAD: Duration = Duration::from_secs(60);
/// After a failure.
const FIRST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(3600);
/// Most bytes that are kept of what it says.
const MAX_SAID: u64 = 4 << 10;

/// What is brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Advisories,
    Feeds,
}

/// How it went, from one run of the agent to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Past {
    advisories: Times,
    feeds: Times,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Times {
    /// When it was done last.
    done: Option<Timestamp>,
    /// Why it could not be done since.
    failed: Option<String>,
}

impl Past {
    fn of(&mut self, what: What) -> &mut Times {
        match what {
            What::Advisories => &mut self.advisories,
            What::Feeds => &mut self.feeds,
        }
    }
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Advisories => "advisories",
            Self::Feeds => "feeds",
        }
    }

    /// The arguments of the command that does it; `None` if nothing says from where.
    fn arguments(self, settings: &UpdateSettings) -> Option<Vec<String>> {
        let (command, sources) = match self {
            Self::Advisories => ("db", &settings.advisories),
            Self::Feeds => ("feed", &settings.feeds),
        };
        if sources.is_empty() {
            return None;
        }
        let mut arguments = vec![command.to_owned(), "update".to_owned()];
        if self == Self::Advisories {
            arguments.extend(settings.ecosystems.iter().map(|name| match name.as_str() {
                "*" => "--all-ecosystems".to_owned(),
                name => format!("--ecosystem={name}"),
            }));
        }
        arguments.extend(settings.ca.iter().map(|file| format!("--ca={}", file.display())));
        arguments.push("--".to_owned());
        arguments.extend(sources.iter().cloned());
        Some(arguments)
    }
}

/// Updates that go on until the end.
#[derive(Debug)]
pub struct Updates {
    bell: Bell,
    thread: JoinHandle<()>,
}

impl Updates {
    /// Begins; `None` if the settings name nothing. `program` is the command `portcullis`.
    ///
    /// # Errors
    /// There is no thread or descriptor for it.
    pub fn begin(
        settings: &Settings,
        program: PathBuf,
        health: &Health,
    ) -> io::Result<Option<Self>> {
        if due(settings).is_empty() {
            return Ok(None);
        }
        let bell = Bell::new()?;
        let pulse = health.thread("updates", None);
        let (settings, own_bell) = (settings.clone(), bell.clone());
        let thread = std::thread::Builder::new().name("updates".to_owned()).spawn(move || {
            let _pulse = pulse;
            be_nice();
            run(&settings, &program, &own_bell, SPREAD);
        })?;
        Ok(Some(Self { bell, thread }))
    }

    /// Begins to end: what runs is given up, and leaves everything as it was.
    pub fn end(&self) {
        self.bell.end();
    }

    /// Whether all has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Whether something that the settings want is older than it may be, since it cannot be fetched.
pub(crate) fn are_failing(settings: &Settings) -> bool {
    let wanted = due(settings);
    if wanted.is_empty() {
        return false;
    }
    let (mut past, now): (Past, _) = (memory(settings).recall(), Timestamp::now());
    wanted.into_iter().any(|(what, _)| {
        let Times { done, failed } = past.of(what);
        failed.is_some() && done.is_none_or(|done| age(done, now) > settings.updates.every)
    })
}

fn memory(settings: &Settings) -> Memory {
    Memory::new(&settings.paths().followed(), "updates.json")
}

/// What the settings want, and the arguments for it.
fn due(settings: &Settings) -> Vec<(What, Vec<String>)> {
    [What::Advisories, What::Feeds]
        .into_iter()
        .filter_map(|what| Some((what, what.arguments(&settings.updates)?)))
        .collect()
}

/// What is of the future is as old as can be.
fn age(done: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(done)).unwrap_or(Duration::MAX)
}

/// One of those that are wanted.
struct Wanted {
    what: What,
    arguments: Vec<String>,
    at: Instant,
    backoff: Backoff,
    said: Said,
}

fn run(settings: &Settings, program: &Path, bell: &Bell, spread: Duration) {
    let memory = memory(settings);
    let mut past: Past = memory.recall();
    let every = settings.updates.every;
    let fresh = || Backoff::between(FIRST, MOST.min(every));
    let (begun, now) = (Instant::now(), Timestamp::now());
    let mut wanted: Vec<Wanted> = due(settings)
        .into_iter()
        .map(|(what, arguments)| {
            // Whoever is restarted again and again does not ask again and again.
            let left = past
                .of(what)
                .done
                .map_or(Duration::ZERO, |done| every.saturating_sub(age(done, now)));
            let at = begun + left.max(spread.min(every).mul_f64(random()));
            Wanted { what, arguments, at, backoff: fresh(), said: Said::default() }
        })
        .collect();
    while let Some(next) = wanted.iter_mut().min_by_key(|wanted| wanted.at) {
        if bell.is_ending() {
            return;
        }
        if next.at > Instant::now() {
            bell.wait(None, next.at);
            continue;
        }
        let name = next.what.name();
        let times = past.of(next.what);
        match update(program, settings.paths().root(), &next.arguments, bell) {
            None => return,
            Some(Ok(())) => {
                log::info!("{name} are up to date");
                *times = Times { done: Some(Timestamp::now()), failed: None };
                next.backoff = fresh();
                next.said.passed();
                // Not all nodes at the same time.
                next.at = Instant::now() + every.mul_f64(0.9 + random() / 5.0);
            }
            Some(Err(why)) => {
                if next.said.is_new(&why) {
                    log::warn!("{name} are not updated ([updates] {name}): {why}");
                }
                times.failed = Some(why);
                next.at = Instant::now() + next.backoff.failed();
            }
        }
        memory.keep(&past);
    }
}

/// Runs one; `None` if the end came first.
fn update(
    program: &Path,
    root: &Path,
    arguments: &[String],
    bell: &Bell,
) -> Option<Result<(), String>> {
    let mut command = Command::new(program);
    if root != Path::new("/") {
        command.arg("--root").arg(root);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Some(Err(format!("cannot run {}: {error}", program.display()))),
    };
    let stderr = child.stderr.take();
    std::thread::scope(|scope| {
        // It is read to its end, so that nobody waits for room in it.
        let said =
            std::thread::Builder::new().name("updates".to_owned()).spawn_scoped(scope, || {
                let mut said = Vec::new();
                let Some(mut stderr) = stderr else { return said };
                let _cut = (&mut stderr).take(MAX_SAID).read_to_end(&mut said);
                let _dropped = io::copy(&mut stderr, &mut io::sink());
                said
            });
        let ended = wait(&mut child, bell);
        let said = said.ok().and_then(|said| said.join().ok()).unwrap_or_default();
        Some(ended?.map_err(|why| match String::from_utf8_lossy(&said).trim() {
            "" => why,
            said => said.chars().take(1000).flat_map(char::escape_debug).collect(),
        }))
    })
}

/// Waits for its end: whether it did what it should. `None`, and it is ended, if ours came first.
fn wait(child: &mut Child, bell: &Bell) -> Option<Result<(), String>> {
    let until = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Some(Ok(())),
            Ok(Some(status)) => {
                // systemd ends all of a service together.
                if status.signal().is_some() && !bell.is_ending() {
                    bell.wait(None, Instant::now() + ENDING);
                }
                return (!bell.is_ending()).then(|| Err(format!("it ended with {status}")));
            }
            Ok(None) => {}
            Err(error) => return Some(Err(format!("its end cannot be waited for: {error}"))),
        }
        let is_late = Instant::now() >= until;
        if bell.is_ending() || is_late {
            let _gone = child.kill();
            let _status = child.wait();
            let minutes = PATIENCE.as_secs() / 60;
            return is_late.then(|| Err(format!("it took more than {minutes} minutes")));
        }
        bell.wait(None, Instant::now() + LOOKS);
    }
}

#[cfg(test)]
mod tests;
