//! The agent follows the images of an engine without being asked, and tells of containers that have
//! come to violate a policy.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_integration::rules::Rules;
use portcullis_integration::stage::Way;
use portcullis_integration::starter::Start;
use portcullis_integration::suite::Door;
use portcullis_integration::wait_for;
use portcullis_types::Digest;
use serde_json::Value;

use crate::agent::Agent;
use crate::{Case, Ctx};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "images_are_scanned_when_they_come_and_forgotten_when_they_are_gone".to_owned(),
            run: Box::new(followed),
            // A name that is deleted leaves the CRI plug-in's own record of the image.
            fits: |way| way.door == own_door(way) && !way.is_advisory() && !way.has_pods(),
        },
        Case {
            name: "what_has_come_to_violate_is_told_once".to_owned(),
            run: Box::new(violating),
            // Judgements are half a minute apart, so one way of each kind has to do.
            fits: |way| {
                let is_one = match way.engine() {
                    engine if engine.starts_with("containerd") => way.has_pods(),
                    engine => engine.ends_with("crun") || engine.starts_with("docker-20"),
                };
                way.door == own_door(way) && !way.is_advisory() && is_one
            },
        },
        Case {
            name: "advisories_come_by_themselves".to_owned(),
            run: Box::new(updated),
            // Nothing of it is the engine's.
            fits: |way| {
                way.engine() == "containerd-1.6" && way.door == own_door(way) && !way.has_pods()
            },
        },
    ]
}

/// The agent asks the engine, whatever its door: the one that is recommended for it.
pub(crate) fn own_door(way: &Way) -> Door {
    match way.engine().starts_with("containerd") {
        true => Door::Portcullis,
        false => Door::Wrapper,
    }
}

const FRESH: &str = "docker.io/portcullis-test/fresh:1";
const LASTING: &[&str] = &["sleep", "1000"];
/// Longer than all takes on a busy machine: judgements are half a minute apart.
const LIMIT: Duration = Duration::from_secs(180);

/// The node's settings, with what a case wants of the agent, or in tables of its own.
pub(crate) fn write_settings(ctx: &Ctx, agent: &str) -> Result<()> {
    let node = ctx.starter.node();
    let tables = match ctx.way.door {
        // The shim is told of the socket by containerd.
        Door::Portcullis => {
            let socket = node.folder().join("containerd.sock");
            format!("[wrapper.portcullis-runc]\nsocket = \"{}\"\n", socket.display())
        }
        _ => ctx.starter.settings().tables().to_owned(),
    };
    let settings = node.etc_portcullis().join("portcullis.toml");
    fs::write(settings, format!("[agent]\n{agent}\n{tables}")).map_err(Into::into)
}

/// An image with a file of its own.
fn fresh(ctx: &Ctx, content: &[u8]) -> Result<BuiltImage> {
    ImageBuilder::new(FRESH)
        .layer(busybox_layer()?)
        .layer([Entry::File("srv/own".into(), 0o644, content.to_vec())])
        .build(ctx.images.folder())
}

/// Whether the store has a verdict about an image.
pub(crate) fn is_known(rules: &Rules, image: &BuiltImage) -> Result<bool> {
    let list = rules.portcullis(&["--output", "json", "verdict", "list"]).output()?;
    Ok(list.text().contains(&image.config_digest))
}

fn status(rules: &Rules) -> Result<Value> {
    let status = rules.portcullis(&["--output", "json", "status"]).ok()?;
    Ok(serde_json::from_str::<Value>(&status.text())?["agent"].clone())
}

fn followed(ctx: &Ctx) -> Result<()> {
    let starter = ctx.starter;
    let rules = Rules::new(starter.node(), starter.settings(), "unscanned: { action: block }")?;
    write_settings(ctx, "forgetAfter = \"1s\"")?;
    let fresh = fresh(ctx, b"followed")?;
    let agent = Agent::start(starter.node())?;
    // What was there before it.
    wait_for("the first scan", LIMIT, || Ok(is_known(&rules, &ctx.images.busybox)?.then_some(())))?;
    ensure!(!is_known(&rules, &fresh)?, "it is not there yet");

    starter.import(&fresh)?;
    wait_for("a scan", LIMIT, || Ok(is_known(&rules, &fresh)?.then_some(())))?;
    ensure!(rules.events(true)?.is_empty(), "nothing was started");
    let fares = status(&rules)?;
    ensure!(fares["images"].as_u64() >= Some(2) && fares["failed"] == 0, "{fares:#}");
    starter.run(&Start::new(FRESH, "known", &["true"]))?.ok()?;

    starter.forget(FRESH)?;
    starter.tidy()?;
    wait_for("its end", LIMIT, || Ok((!is_known(&rules, &fresh)?).then_some(())))?;
    ensure!(is_known(&rules, &ctx.images.busybox)?, "that is still there");
    agent.end()?;

    // Doors decide without it as before.
    starter.run(&Start::new(&ctx.images.busybox.name, "without", &["true"]))?.ok()?;
    starter.import(&fresh)?;
    let refused = starter.run(&Start::new(FRESH, "unknown", &["true"]))?;
    ensure!(refused.code != 0 && refused.errors.contains("not scanned"), "{refused:?}");
    starter.forget(FRESH)?;
    starter.tidy()
}

fn violating(ctx: &Ctx) -> Result<()> {
    let starter = ctx.starter;
    let policy = "unscanned: { action: alarm }\nrules: [{ class: malware, action: block }]\n\
         onFailure: { noData: allow }";
    let rules = Rules::new(starter.node(), starter.settings(), policy)?;
    write_settings(ctx, "")?;
    let content = b"not known to be bad yet";
    let fresh = fresh(ctx, content)?;
    starter.import(&fresh)?;
    let agent = Agent::start(starter.node())?;
    wait_for("a scan", LIMIT, || Ok(is_known(&rules, &fresh)?.then_some(())))?;
    starter.create(&Start::new(FRESH, "turns", LASTING))?;
    starter.start("turns")?.ok()?;
    let start = rules.events(false)?.pop().context("a decision")?;
    ensure!(start["action"] == "allow", "{start:#}");

    let malware = starter.node().etc_portcullis().join("malware");
    fs::create_dir_all(&malware)?;
    let list = format!("{}  Turned.Bad\n", Digest::of(content).hex());
    fs::write(malware.join("list.txt"), list)?;
    let violation = wait_for("a violation", LIMIT, || Ok(violations(&rules)?.pop()))?;
    ensure!(violation["action"] == "block", "{violation:#}");
    ensure!(violation["decision"] == start["id"], "{violation:#}");
    let id = violation["request"]["containerId"].as_str().context("an id")?;
    ensure!(start["request"]["containerId"] == id, "{violation:#}");
    let line = violation["message"].as_str().context("a line")?;
    let id = id.chars().take(20).collect::<String>();
    for part in ["portcullis: now violating: ", "Turned.Bad", "; container ", &id, "; policy test"]
    {
        ensure!(line.contains(part), "{line}");
    }
    ensure!(line.len() < 512 && line.is_ascii(), "{line}");

    // One that is killed, and its successor, tell nothing again: not of what is as it was, nor when
    // something else has changed.
    agent.kill()?;
    rules.apply(&format!("{policy}\ndescription: the same"))?;
    let agent = Agent::start(starter.node())?;
    wait_for("the state", LIMIT, || Ok((status(&rules)?["violations"] == 1).then_some(())))?;
    ensure!(violations(&rules)?.len() == 1, "{:#?}", violations(&rules)?);
    ensure!(starter.exec("turns", &["true"])?.code == 0, "nothing is stopped");

    let id = violation["id"].as_str().context("an id")?;
    let shown = rules.portcullis(&["events", "show", id]).ok()?.text();
    ensure!(shown.contains("violation") && shown.contains("Turned.Bad"), "{shown}");
    let explained = rules.portcullis(&["explain", id]).ok()?.text();
    ensure!(explained.contains("Turned.Bad"), "{explained}");
    rules.portcullis(&["events", "verify", "--no-journal"]).ok()?;
    let refused = starter.run(&Start::new(FRESH, "again", &["true"]))?;
    ensure!(refused.code != 0 && refused.errors.contains("Turned.Bad"), "{refused:?}");

    // What it waits for between two judgements is spent on two engines only.
    if ctx.way.is_newest_containerd() || ctx.way.engine() == "podman-4.3-crun" {
        rules.apply("onFailure: { noData: allow }")?;
        wait_for("its end", LIMIT, || Ok((status(&rules)?["violations"] == 0).then_some(())))?;
        ensure!(violations(&rules)?.len() == 1, "an end is no event");
        rules.apply(policy)?;
        wait_for("another one", LIMIT, || Ok((violations(&rules)?.len() == 2).then_some(())))?;
    }

    agent.end()?;
    starter.remove("turns")?;
    starter.forget(FRESH)?;
    starter.tidy()?;
    fs::remove_dir_all(&malware)?;
    Ok(())
}

/// Nobody runs `db update`: the agent does, by the settings, and judges anew what runs.
fn updated(ctx: &Ctx) -> Result<()> {
    let starter = ctx.starter;
    let policy = "unscanned: { action: alarm }\nonFailure: { noData: allow }\n\
         rules: [{ class: vulnerability, action: block }]";
    let rules = Rules::new(starter.node(), starter.settings(), policy)?;
    let advisory = starter.node().folder().join("osv.json");
    write_settings(ctx, &format!("[updates]\nadvisories = [\"{}\"]", advisory.display()))?;
    let status = "Package: xz-utils\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.6.0-0.2\n";
    let image = ImageBuilder::new(FRESH)
        .layer(busybox_layer()?)
        .layer(
            [("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"), ("var/lib/dpkg/status", status)]
                .map(|(path, text)| Entry::File(path.into(), 0o644, text.into())),
        )
        .build(ctx.images.folder())?;
    starter.import(&image)?;
    let agent = Agent::start(starter.node())?;
    wait_for("a scan", LIMIT, || Ok(is_known(&rules, &image)?.then_some(())))?;
    starter.create(&Start::new(FRESH, "turns", LASTING))?;
    starter.start("turns")?.ok()?;

    // It was not there when the agent began, which tries again after a minute.
    let record = serde_json::json!({
        "id": "DEBIAN-CVE-2024-3094", "modified": "2024-04-01T00:00:00Z",
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": "xz-utils" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "5.6.0-0.1" }, { "fixed": "5.6.1+really5.4.5-1" }] }],
        }],
    });
    let tried = || agent.said().contains("advisories are not updated ([updates] advisories): ");
    wait_for("an attempt", LIMIT, || Ok(tried().then_some(())))?;
    fs::write(&advisory, record.to_string())?;
    let violation = wait_for("a violation", LIMIT, || Ok(violations(&rules)?.pop()))?;
    ensure!(violation["message"].to_string().contains("CVE-2024-3094"), "{violation:#}");
    let said = agent.end()?;
    ensure!(said.contains("advisories are up to date"), "{said}");
    starter.remove("turns")?;
    starter.forget(FRESH)?;
    starter.tidy()
}

/// The events of containers that have come to violate a policy.
fn violations(rules: &Rules) -> Result<Vec<Value>> {
    let mut events = rules.events(false)?;
    events.retain(|event| event["kind"] == "violation");
    Ok(events)
}
