//! The gate itself: its files and who may write them, its settings, its policies, its records.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use portcullis_audit::SYSLOG_IDENTIFIER;
use portcullis_gate::agent;
use portcullis_gate::published;
use portcullis_policy::ProtectionPolicy;
use portcullis_types::{
    Action, Engine, Event, EventKind, Evidence, Identity, Kind, Lookup, Name, Request, Surety,
    Timestamp, with_causes,
};

use super::super::situation::{Judge, Situation};
use super::finding::{Finding, Place, Severity};
use super::ours::{Ours, Program, SHIM_PATH, WRAPPER};
use crate::context::Context;

const SETTINGS: &str = "/etc/portcullis/portcullis.toml";
const CLI: &str = "/usr/local/bin/portcullis";
const TOOLS: [&str; 2] = ["/usr/local/bin/portcullisd", "/usr/local/bin/portcullis-scanner"];
const JOURNAL: &str = "/run/systemd/journal/socket";
/// No clock of a node that runs this can be before it was written.
const FIRST_YEAR: i32 = 2026;
/// Below this a ledger or a store is about to fail.
const TOO_LITTLE: u64 = 16 << 20;

/// Programs, settings and data that only root may change, and the runtimes behind the wrappers.
pub(super) fn files(ours: &Ours<'_>, out: &mut Vec<Finding>) {
    let host = ours.host;
    let mut present = 0;
    let wrappers = host
        .names("/usr/local/bin")
        .into_iter()
        .filter(|name| name.starts_with(WRAPPER) && !name.ends_with(".toml"));
    let wrappers: Vec<String> = wrappers.map(|name| format!("/usr/local/bin/{name}")).collect();
    for path in TOOLS.into_iter().filter(|path| host.find(path).is_some()) {
        trusted(ours, "files.program", path, "who can write it is root at the next scan", out);
    }
    for path in [SHIM_PATH, CLI].into_iter().chain(wrappers.iter().map(String::as_str)) {
        if host.find(path).is_none() {
            continue;
        }
        present += 1;
        trusted(ours, "files.program", path, "who can write it is root at the next start", out);
        let beside = format!("{path}.toml");
        if host.find(&beside).is_some() {
            out.push(
                Finding::new(Severity::Info, "files.settings", "settings beside a program")
                    .file(&beside)
                    .why(format!("{path} takes its settings from there, not from {SETTINGS}")),
            );
            trusted(ours, "files.settings", &beside, "settings of others are not used", out);
        }
    }
    if present == 0 {
        out.push(
            Finding::new(Severity::Bypass, "files.program", "no door is installed on this node")
                .file(SHIM_PATH)
                .why("nothing asks the gate")
                .remedy("./install.sh --restart"),
        );
    }
    for (path, why) in [
        (SETTINGS, "settings that others may write are not used"),
        ("/etc/portcullis/policies", "who can write there decides what starts"),
        ("/etc/portcullis/vex", "who can write there decides what starts"),
        ("/var/lib/portcullis/policy", "a set that others may write is not used"),
        ("/var/lib/portcullis/verdicts", "who can write there decides what starts"),
        ("/etc/portcullis/malware", "who can write there decides what is malware"),
        ("/var/lib/portcullis/advisories", "who can write there decides what is vulnerable"),
        ("/var/lib/portcullis/inventories", "who can write there decides what images have"),
        ("/etc/systemd/system/portcullisd.service", "who can write it is root at the next start"),
        ("/var/lib/portcullis/events", "who can write there can rewrite what happened"),
    ] {
        if host.find(path).is_some() {
            trusted(ours, "files.data", path, why, out);
        }
    }
    let mut runtimes = BTreeSet::new();
    for wrapper in wrappers.iter().filter(|path| host.find(path).is_some_and(|f| f.is_program())) {
        let Program::Wrapper(name) = ours.program(wrapper) else { continue };
        if let Some(runtime) = ours.runtime_of(&name) {
            runtimes.insert(runtime.clone());
            runtime_of(ours, &name, wrapper, &runtime, out);
        } else {
            out.push(
                Finding::new(
                    Severity::Error,
                    "wrapper.runtime",
                    format!("{name} finds no OCI runtime"),
                )
                .file(SETTINGS)
                .key(format!("wrapper.{name}.runtime"))
                .why("no container starts")
                .remedy("apt-get install runc"),
            );
        }
    }
    // The shim runs the one in PATH, if nothing else is said.
    if let Some((path, _)) = ours.in_path("runc") {
        runtimes.insert(path);
    }
    for runtime in runtimes {
        trusted(ours, "files.runtime", &runtime, "each container is made by it, as root", out);
    }
}

fn runtime_of(ours: &Ours<'_>, name: &str, wrapper: &str, runtime: &str, out: &mut Vec<Finding>) {
    let key = format!("wrapper.{name}.runtime");
    let found = |seen: String| {
        Finding::new(Severity::Error, "wrapper.runtime", seen).file(SETTINGS).key(key.clone())
    };
    let remedy = || format!("in {SETTINGS}, below [wrapper.{name}]: runtime = \"/usr/sbin/runc\"");
    match (ours.host.find(runtime), ours.host.find(wrapper)) {
        (Some(found_there), Some(own))
            if found_there.is_same(&own) || ours.program(runtime).is_ours() =>
        {
            out.push(
                found(format!("the runtime of {name} is {runtime}, which is the gate itself"))
                    .why("it would become itself for ever; no container starts")
                    .remedy(remedy()),
            );
        }
        (Some(program), _) if program.is_program() => {}
        _ => out.push(
            found(format!("the runtime of {name} is {runtime}, and there is no such program"))
                .why("no container starts")
                .remedy(remedy()),
        ),
    }
}

/// Whether only root may change what is at a path, or put something else there.
fn trusted(ours: &Ours<'_>, check: &'static str, path: &str, why: &str, out: &mut Vec<Finding>) {
    let Some(found) = ours.host.find(path) else { return };
    let own = rustix::process::geteuid().as_raw();
    let mut at = found.real.as_str();
    loop {
        let is_target = at == found.real;
        if let Some(found) = ours.host.find(if at.is_empty() { "/" } else { at }) {
            let owned = found.owner == 0 || (!ours.host.is_this_node() && found.owner == own);
            // In a folder like /tmp nobody can take away what is another's.
            let sticky = !found.is_file && !is_target && found.mode & 0o1000 != 0;
            if !owned || (found.mode & 0o022 != 0 && !sticky) {
                let shown = if at.is_empty() { "/" } else { at };
                let seen = format!("{shown} has owner {} and mode {:04o}", found.owner, found.mode);
                out.push(
                    Finding::new(Severity::Error, check, seen)
                        .file(path)
                        .why(why)
                        .remedy(format!("chown root:root {shown}; chmod go-w {shown}")),
                );
                return;
            }
        }
        match at.rsplit_once('/') {
            Some((above, _)) => at = above,
            None => break,
        }
    }
    out.push(Finding::ok(check, format!("{path} is root's own")).file(path));
}

/// The settings file, which may be why there are other findings.
pub(super) fn settings(problem: Option<&anyhow::Error>, out: &mut Vec<Finding>) {
    out.push(match problem {
        None => Finding::ok("settings", "the settings can be used").file(SETTINGS),
        Some(error) => Finding::new(Severity::Error, "settings", format!("{error:#}"))
            .file(SETTINGS)
            .why("the shipped settings are in force, and each start is an alarm about it at least")
            .remedy("portcullis config check"),
    });
}

/// The policies in force, and how the files differ from them.
pub(super) fn policies(context: &Context, out: &mut Vec<Finding>) {
    const CHECK: &str = "policy";
    let finding = match published::load(&context.paths.published()) {
        Err(error) => Finding::new(Severity::Error, CHECK, with_causes(&error))
            .file("/var/lib/portcullis/policy")
            .why(format!(
                "each start is answered by policyInvalid = {}",
                context.settings.policy_invalid
            ))
            .remedy("portcullis policy apply"),
        Ok(set) => match portcullis_node::drift(&context.paths, &set) {
            Some(drift) => Finding::new(Severity::Warning, CHECK, drift)
                .file("/etc/portcullis/policies")
                .why("what is written there is not what decides")
                .remedy("portcullis policy check && portcullis policy apply"),
            None if set.policies().next().is_none() => Finding::new(
                Severity::Warning,
                CHECK,
                "no policy is in force",
            )
            .file("/etc/portcullis/policies")
            .why(format!(
                "each start is answered by defaultAction = {}",
                context.settings.default_action
            ))
            .remedy(
                "portcullis policy template balanced > /etc/portcullis/policies/balanced.yaml \
                         && portcullis policy apply",
            ),
            None => Finding::ok(CHECK, "the policies in force are those of the files"),
        },
    };
    out.push(finding);
}

/// The agent, where a policy wants images scanned by it.
pub(super) fn agent(ours: &Ours<'_>, context: &Context, out: &mut Vec<Finding>) {
    const CHECK: &str = "agent";
    let path = context.paths.agent();
    // An image that does not run has none.
    if !ours.host.is_this_node() && !path.exists() {
        return;
    }
    let Ok(set) = published::load(&context.paths.published()) else { return };
    let wants = |policy: &&ProtectionPolicy| policy.spec.unscanned.as_ref().is_some_and(|u| u.scan);
    let Some(policy) = set.policies().find(wants) else { return };
    out.push(match agent::status(&path) {
        Ok(_) => Finding::ok(CHECK, "the agent answers"),
        Err(error) => Finding::new(Severity::Warning, CHECK, with_causes(&error))
            .file("/run/portcullis/agent.sock")
            .why(format!(
                "policy {} wants images scanned that nobody has scanned: they stay unscanned",
                policy.metadata.name
            ))
            .remedy("systemctl start portcullisd"),
    });
}

/// Sandbox images: those that started here, and those that engines are configured with.
pub(super) fn pause(
    context: &Context,
    judge: &Judge,
    configured: &[(Engine, String, Option<Place>)],
    events: &[Event],
    out: &mut Vec<Finding>,
) {
    const MOST: usize = 100;
    const WHY: &str = "no pod starts without its sandbox";
    let now = Timestamp::now();
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    let started = events
        .iter()
        .rev()
        .filter(|event| event.kind == EventKind::Decision && event.request.kind == Kind::Sandbox);
    for event in started {
        names.extend(event.image.names.iter().map(|name| name.reference.to_string()));
        if seen.len() >= MOST || !seen.insert(event.image.to_string()) {
            continue;
        }
        let decision = judge.decide(&judge.of_event(event, now));
        if decision.action == Action::Block {
            let digest = event.image.config.as_ref().map(ToString::to_string);
            let seen = format!("the policies would block the pause image {}", event.image);
            let finding =
                Finding::new(Severity::Error, "pause", seen).file(SETTINGS).key("sandboxImages");
            out.push(finding.why(WHY).remedy(format!(
                "in {SETTINGS}: sandboxImages = [\"{}\"]",
                digest.as_deref().unwrap_or("sha256:DIGEST")
            )));
        }
    }
    for (engine, image, place) in configured {
        let Ok(reference) = image.parse() else { continue };
        let name = Name { reference, held: true, asked: true };
        // One that started is judged above, by what is known of it.
        if names.contains(&name.reference.to_string()) {
            continue;
        }
        let mut request = Request::new(*engine, &context.settings.node, "doctor");
        request.kind = Kind::Sandbox;
        let identity = Identity {
            surety: Surety::Claimed,
            names: vec![name].into_iter().collect(),
            ..Identity::unknown("it has not been started here")
        };
        let evidence = Evidence::of(Lookup::NotRead);
        let decision = judge.decide(&Situation { request, identity, evidence, now });
        if decision.action == Action::Block {
            let seen = format!("the policies would block the pause image {image} by its name");
            out.push(
                Finding::new(Severity::Error, "pause", seen)
                    .at(place.as_ref())
                    .why(WHY)
                    .remedy(format!(
                        "add {image} to authorized.images of the policy, or its digest to sandboxImages in {SETTINGS}"
                    )),
            );
        }
    }
    if !out.iter().any(|finding| finding.check == "pause") {
        out.push(Finding::ok("pause", "no pause image would be blocked"));
    }
}

/// The ledger in short, and what it says of the clock.
pub(super) fn ledger(context: &Context, out: &mut Vec<Finding>) -> Vec<Event> {
    const FILE: &str = "/var/lib/portcullis/events";
    let ledger = context.events();
    match ledger.verify(&[]) {
        Ok(found) if found.is_whole() => out.push(
            Finding::ok("ledger", format!("the ledger is whole: {} records", found.records))
                .file(FILE),
        ),
        Ok(found) => {
            let first =
                found.faults.first().map(|fault| format!(": {} at {}", fault.kind, fault.at));
            let seen = format!("the ledger is not whole{}", first.unwrap_or_default());
            out.push(
                Finding::new(Severity::Error, "ledger", seen)
                    .file(FILE)
                    .why("what happened here was changed, or a disk lost it")
                    .remedy("portcullis events verify"),
            );
        }
        Err(error) => out.push(
            Finding::new(Severity::Error, "ledger", with_causes(&error))
                .file(FILE)
                .why("a decision that cannot be recorded is answered by onFailure.auditUnavailable")
                .remedy("portcullis events verify"),
        ),
    }
    ledger.read().map(|read| read.events).unwrap_or_default()
}

/// The clock, by which exceptions, grace and reports are judged.
pub(super) fn clock(now: Timestamp, events: &[Event], out: &mut Vec<Finding>) {
    const CHECK: &str = "clock";
    const REMEDY: &str = "timedatectl set-ntp true";
    const WHY: &str = "exceptions, grace and the age of reports are judged by it";
    let year = now.strftime("%Y").to_string().parse().unwrap_or(0);
    let newest = events.iter().map(|event| event.time).max();
    let finding = match newest {
        _ if year < FIRST_YEAR => Finding::new(
            Severity::Error,
            CHECK,
            format!("the clock says {}", now.strftime("%F %R")),
        )
        .why(format!("that is before this program was written; {WHY}"))
        .remedy(REMEDY),
        Some(newest) if newest > now => Finding::new(
            Severity::Error,
            CHECK,
            format!(
                "the clock says {}, and the newest record is of {}",
                now.strftime("%F %T"),
                newest.strftime("%F %T")
            ),
        )
        .file("/var/lib/portcullis/events")
        .why(format!("it was set back, or was ahead when that was written; {WHY}"))
        .remedy(REMEDY),
        _ => Finding::ok(CHECK, "the clock is not behind the newest record"),
    };
    out.push(finding);
}

/// The journal: whether somebody listens, and whether it has what was decided.
pub(super) fn journal(ours: &Ours<'_>, events: &[Event], out: &mut Vec<Finding>) {
    const CHECK: &str = "journal";
    if !ours.host.is_this_node() {
        return;
    }
    // Connecting sends nothing, and fails if nobody has the socket.
    let answers = UnixDatagram::unbound().and_then(|socket| socket.connect(JOURNAL));
    if let Err(error) = answers {
        out.push(
            Finding::new(Severity::Warning, CHECK, format!("the journal does not listen: {error}"))
                .file(JOURNAL)
                .why("alarms and refusals are in the ledger alone, and its heads nowhere else")
                .remedy("systemctl start systemd-journald.socket"),
        );
        return;
    }
    let told = events.iter().any(|event| event.action != Action::Allow);
    out.push(match seen_by_journalctl() {
        Some(true) => Finding::ok(CHECK, "the journal listens, and has our records"),
        Some(false) if told => {
            Finding::new(Severity::Warning, CHECK, "the journal has none of our records")
                .why("the ledger has alarms or refusals, which were lost there or rotated away")
                .remedy(format!("journalctl -t {SYSLOG_IDENTIFIER}"))
        }
        _ => Finding::ok(CHECK, "the journal listens"),
    });
}

/// Whether `journalctl` finds a record of ours; `None` if it cannot be asked.
fn seen_by_journalctl() -> Option<bool> {
    let mut child = Command::new("journalctl")
        .args(["-t", SYSLOG_IDENTIFIER, "-n", "1", "-o", "cat", "--no-pager", "-q"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        // Who gave up waiting needs no answer.
        let _gone = done.send(stdout.read(&mut byte).is_ok_and(|read| read > 0));
    });
    let seen = answer.recv_timeout(Duration::from_secs(10)).ok();
    // It has said enough, or has said nothing in time.
    let _ended_already = child.kill();
    let reaped = child.wait();
    reaped.ok().and(seen)
}

/// Room for the ledger and for the store.
pub(super) fn disk(context: &Context, out: &mut Vec<Finding>) {
    let most = context.settings.max_event_bytes;
    for (path, what, wanted) in [
        (context.paths.events(), "the ledger", most),
        (context.paths.verdicts(), "the store", TOO_LITTLE),
    ] {
        let Some(free) = free(&path) else { continue };
        let seen = format!("{} MiB are free for {what}", free >> 20);
        let file = path.display().to_string();
        out.push(if free < TOO_LITTLE {
            Finding::new(Severity::Error, "disk", seen)
                .file(file)
                .why("a decision that cannot be recorded is answered by onFailure.auditUnavailable")
                .remedy(format!("df -h {}", path.display()))
        } else if free < wanted {
            Finding::new(Severity::Warning, "disk", seen)
                .file(file)
                .why(format!("it may grow to {} MiB", most >> 20))
                .remedy(format!("df -h {}; or set events.maxBytes in {SETTINGS}", path.display()))
        } else {
            Finding::ok("disk", seen).file(file)
        });
    }
}

fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
