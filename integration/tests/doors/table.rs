//! One table of decisions, put before every engine through every door: what is known of an image and
//! what is in force, and what must come of a start. All doors must record the same decision.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::evidence::{CRITICAL, MEDIUM, Vulnerability};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_integration::journal::Mark;
use portcullis_integration::rules::{BLOCK_CRITICAL, FAULTS, Fault, Rules};
use portcullis_integration::starter::{Root, Start, Told};
use portcullis_integration::suite::Door;
use serde_json::{Value, json};

use crate::{Case, Ctx};

/// What is done with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It runs.
    Run,
    /// Between its creation and its start the image's name moves to a clean image.
    NameMoves,
    /// Between its creation and its start the image's name is taken away.
    NameGoes,
    /// The image's labels, and whoever starts it, say that it is a clean image and a pod's sandbox.
    Forged,
    /// It runs on a folder that belongs to no image.
    Folder,
}

/// What must come of it.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    action: &'static str,
    would_block: bool,
    whitelisted: bool,
    causes: &'static [&'static str],
    /// The findings that count, by class and severity.
    counted: &'static [(&'static str, u64)],
    /// A part of the line.
    words: &'static str,
}

/// What is wanted when nothing speaks against a start.
const ALLOW: Wanted = Wanted {
    action: "allow",
    would_block: false,
    whitelisted: false,
    causes: &[],
    counted: &[],
    words: "",
};

/// What is wanted when the critical finding counts.
const BLOCK: Wanted = Wanted {
    action: "block",
    counted: &[("vulnerability/critical", 1)],
    words: "1 critical vulnerability with a fix (CVE-2024-3094 xz-utils 1.0 -> 5.6.1)",
    ..ALLOW
};

/// A row: a situation and what must come of it.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    policy: &'static str,
    found: &'static [Vulnerability],
    how: How,
    wanted: Wanted,
}

const fn row(
    name: &'static str,
    policy: &'static str,
    found: &'static [Vulnerability],
    wanted: Wanted,
) -> Row {
    Row { name, policy, found, how: How::Run, wanted }
}

impl Row {
    const fn how(mut self, how: How) -> Self {
        self.how = how;
        self
    }
}

const TABLE: &[Row] = &[
    row("what_was_found_and_is_not_forbidden_is_allowed", BLOCK_CRITICAL, &[MEDIUM], ALLOW),
    row("what_is_forbidden_is_blocked", BLOCK_CRITICAL, &[CRITICAL, MEDIUM], BLOCK),
    row(
        "what_is_warned_of_is_an_alarm",
        "rules: [{ class: vulnerability, action: alarm }]",
        &[MEDIUM],
        Wanted { action: "alarm", counted: &[("vulnerability/medium", 1)], ..ALLOW },
    ),
    row(
        "what_is_only_observed_is_an_alarm",
        "mode: observe\nrules: [{ class: vulnerability, action: block }]",
        &[CRITICAL],
        Wanted { action: "alarm", would_block: true, ..BLOCK },
    ),
    row(
        "an_exception_lets_a_finding_pass",
        "rules: [{ class: vulnerability, action: block }]\n\
         exceptions: [{ id: CVE-2024-3094, package: xz-utils, expires: 2999-12-31, owner: me }]",
        &[CRITICAL],
        Wanted { action: "allow", words: "", ..BLOCK },
    ),
    row(
        "an_exception_that_has_expired_lets_nothing_pass",
        "rules: [{ class: vulnerability, action: block }]\n\
         exceptions: [{ id: CVE-2024-3094, expires: 2020-12-31, owner: me }]",
        &[CRITICAL],
        BLOCK,
    ),
    row(
        "a_whitelist_by_the_name_is_told",
        "rules: [{ class: vulnerability, action: block }]\n\
         whitelist: [{ image: 'docker.io/portcullis-test/busybox:1' }]",
        &[CRITICAL],
        Wanted { whitelisted: true, words: "whitelisted", action: "allow", ..BLOCK },
    ),
    row(
        "a_whitelist_of_another_image_lets_nothing_pass",
        "rules: [{ class: vulnerability, action: block }]\n\
         whitelist: [{ image: 'docker.io/portcullis-test/other:1' }]",
        &[CRITICAL],
        BLOCK,
    ),
    row(
        "an_image_that_is_not_authorized_is_blocked",
        "authorized: { images: ['registry.example.com/**'], action: block }",
        &[],
        Wanted {
            action: "block",
            counted: &[("authorization/high", 1)],
            words: "not among spec.authorized.images",
            ..ALLOW
        },
    ),
    row(
        "settings_of_the_start_are_judged",
        "rules: [{ class: workload, ids: [root-user], action: block }]",
        &[],
        Wanted { action: "block", counted: &[("workload/medium", 1)], words: "root-user", ..ALLOW },
    ),
    row("a_name_that_moved_proves_nothing", BLOCK_CRITICAL, &[CRITICAL], BLOCK).how(How::NameMoves),
    row("an_image_without_a_name_is_judged_by_what_it_is", BLOCK_CRITICAL, &[CRITICAL], BLOCK)
        .how(How::NameGoes),
    row("what_an_image_or_a_user_says_is_not_believed", BLOCK_CRITICAL, &[CRITICAL], BLOCK)
        .how(How::Forged),
    row(
        "a_folder_is_no_image_and_blocked",
        "onFailure: { identityUnknown: block }",
        &[],
        Wanted { action: "block", causes: &["identityUnknown"], ..ALLOW },
    )
    .how(How::Folder),
    row(
        "a_folder_is_no_image_and_an_alarm",
        "onFailure: { identityUnknown: alarm }",
        &[],
        Wanted { action: "alarm", causes: &["identityUnknown"], ..ALLOW },
    )
    .how(How::Folder),
];

const ACTIONS: [&str; 3] = ["allow", "alarm", "block"];

/// The image's name in the rows that change what it stands for.
const NAME: &str = "docker.io/portcullis-test/changing:1";

pub(crate) fn cases() -> Vec<Case> {
    let rows = TABLE.iter().map(|row| Case {
        name: row.name.to_owned(),
        run: Box::new(move |ctx| play(ctx, row)),
        fits: match row.how {
            How::Folder => |way| way.starts_folders(),
            _ => |_| true,
        },
    });
    let faults = FAULTS.iter().flat_map(|fault| {
        ACTIONS.map(|action| Case {
            name: format!("{}_and_{action}", fault.name),
            run: Box::new(move |ctx| break_and_run(ctx, fault, action)),
            fits: |way| way.door != Door::Stock,
        })
    });
    rows.chain(faults).collect()
}

fn play(ctx: &Ctx, row: &Row) -> Result<()> {
    let rules = Rules::new(ctx.starter.node(), ctx.starter.settings(), row.policy)?;
    let image = image_of(ctx, row)?;
    knows(ctx, &rules, &image, row.found)?;
    let mark = ctx.starter.journal().mark("portcullis")?;
    let told = started(ctx, row, &image, &rules)?;
    let starts = ctx.way.door == Door::Stock || row.wanted.action != "block";
    expect_start(&told, starts)?;
    if ctx.way.door == Door::Stock {
        return Ok(());
    }
    let event = only_decision(ctx, &rules, &mark)?;
    expect(&event, row, &image).with_context(|| format!("{event:#}"))?;
    if !starts {
        expect_told(&told, &event)?;
    }
    same_everywhere(ctx, row.name, &event)
}

fn image_of(ctx: &Ctx, row: &Row) -> Result<BuiltImage> {
    match row.how {
        How::Run | How::Folder => Ok(ctx.images.busybox.clone()),
        How::NameMoves => changing(ctx, "bad", |image| image),
        How::NameGoes => changing(ctx, "nameless", |image| image),
        How::Forged => {
            let clean = &ctx.images.busybox;
            changing(ctx, "forged", |image| {
                FORGED
                    .iter()
                    .fold(image, |image, (key, value)| image.label(*key, *value))
                    .label("io.kubernetes.cri-o.ImageRef", &*clean.config_digest)
                    .label("containerd.io/snapshot.ref", &*clean.chain_id)
            })
        }
    }
}

/// What a liar writes on an image, and on a container of it.
const FORGED: &[(&str, &str)] = &[
    ("io.kubernetes.cri.image-name", "docker.io/portcullis-test/busybox:1"),
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.kubernetes.cri-o.ImageName", "docker.io/portcullis-test/busybox:1"),
    ("io.cri-containerd.kind", "sandbox"),
    ("io.podman.annotations.infra", "TRUE"),
];

fn changing(
    ctx: &Ctx,
    mark: &str,
    change: impl FnOnce(ImageBuilder) -> ImageBuilder,
) -> Result<BuiltImage> {
    let file = Entry::File("etc/mark".into(), 0o644, mark.as_bytes().to_vec());
    let image = ImageBuilder::new(NAME).layer(busybox_layer()?).layer([file]);
    let image = change(image).build(ctx.images.folder())?;
    ctx.starter.import(&image)?;
    Ok(image)
}

fn started(ctx: &Ctx, row: &Row, image: &BuiltImage, rules: &Rules) -> Result<Told> {
    let starter = ctx.starter;
    // Its exit code says that it ran; `ctr` may lose the output of what ends at once.
    let command = ["/bin/busybox", "sh", "-c", "exit 5"];
    let plain = Start::new(&image.name, "row", &command);
    match row.how {
        How::Run => starter.run(&plain),
        How::Forged => {
            let told = starter.run(&Start { notes: FORGED, ..plain })?;
            starter.forget(NAME)?;
            Ok(told)
        }
        How::Folder => {
            let folder = starter.node().folder().join("plain-root");
            for place in ["bin", "dev", "etc", "proc", "sys", "run"] {
                fs::create_dir_all(folder.join(place))?;
                // Podman without root makes links there.
                fs::set_permissions(folder.join(place), PermissionsExt::from_mode(0o777))?;
            }
            fs::copy("/bin/busybox", folder.join("bin/busybox"))?;
            let told = starter.run(&Start { root: Root::Folder(&folder), ..plain })?;
            fs::remove_dir_all(folder)?;
            Ok(told)
        }
        How::NameMoves | How::NameGoes => {
            let lasting = ["sleep", "1000"];
            starter.create(&Start { command: &lasting, ..plain })?;
            if row.how == How::NameMoves {
                let good = changing(ctx, "good", |image| image)?;
                knows(ctx, rules, &good, &[])?;
            } else {
                starter.forget(NAME)?;
            }
            let mut told = starter.start("row")?;
            if told.code == 0 {
                told.code = starter.exec("row", &command)?.code;
            }
            starter.remove("row")?;
            if row.how == How::NameMoves {
                starter.forget(NAME)?;
            }
            Ok(told)
        }
    }
}

fn expect_start(told: &Told, starts: bool) -> Result<()> {
    ensure!(
        (told.code == 5) == starts,
        "it should {}run: {told:?}",
        if starts { "" } else { "not " }
    );
    Ok(())
}

/// Takes in what was found.
fn knows(ctx: &Ctx, rules: &Rules, image: &BuiltImage, found: &[Vulnerability]) -> Result<()> {
    rules.knows(image, found)?;
    open_store(ctx, rules)
}

/// Lets those read the store who start containers without being root.
pub(crate) fn open_store(ctx: &Ctx, rules: &Rules) -> Result<()> {
    if ctx.way.is_advisory() {
        let chmod = ctx.starter.node().run("chmod").args(["-R", "go+rX"]);
        chmod.arg(rules.verdicts()).ok()?;
    }
    Ok(())
}

/// The only decision about a container.
fn only_decision(ctx: &Ctx, rules: &Rules, mark: &Mark) -> Result<Value> {
    let mut events = if ctx.way.is_advisory() {
        // The ledger is root's, and what is sent to the journal is in it a moment later.
        let journal = ctx.starter.journal();
        journal.wait_for("portcullis", mark, |entry| entry["PORTCULLIS_KIND"] == "decision")?;
        journalled(&journal.since("portcullis", mark)?)
    } else {
        rules.events(false)?
    };
    events.retain(|event| event["request"]["kind"] == "container");
    ensure!(events.len() == 1, "{} decisions about containers: {events:#?}", events.len());
    events.pop().context("just counted")
}

/// The decisions that the journal has, as far as it has them.
fn journalled(entries: &[Value]) -> Vec<Value> {
    let decisions = entries.iter().filter(|entry| entry["PORTCULLIS_KIND"] == "decision");
    let read = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let words = |key: &str| -> Vec<String> {
            text(key).split_whitespace().map(ToOwned::to_owned).collect()
        };
        let digest = |key: &str| Some(text(key)).filter(|digest| !digest.is_empty());
        json!({
            "action": text("PORTCULLIS_ACTION"),
            "wouldBlock": text("PORTCULLIS_WOULD_BLOCK") == "1",
            "whitelisted": text("PORTCULLIS_WHITELISTED") == "1",
            "causes": words("PORTCULLIS_CAUSES"),
            "policies": words("PORTCULLIS_POLICIES"),
            "policySet": text("PORTCULLIS_POLICY_SET"),
            "message": text("MESSAGE"),
            "request": { "kind": "container" },
            "image": {
                "surety": text("PORTCULLIS_IDENTITY"),
                "chainId": digest("PORTCULLIS_CHAIN_ID"),
                "config": digest("PORTCULLIS_CONFIG_DIGEST"),
            },
        })
    };
    decisions.map(read).collect()
}

fn expect(event: &Value, row: &Row, image: &BuiltImage) -> Result<()> {
    let Wanted { action, would_block, whitelisted, causes, counted, words } = row.wanted;
    ensure!(event["action"] == action, "the action is not {action}");
    ensure!(event["wouldBlock"] == would_block && event["whitelisted"] == whitelisted);
    ensure!(event["causes"] == Value::from(causes), "the causes are not {causes:?}");
    let counted: serde_json::Map<_, _> =
        counted.iter().map(|&(class, count)| (class.to_owned(), count.into())).collect();
    // The journal does not tell what counts.
    let untold = event["counted"].is_null();
    ensure!(
        untold || event["counted"] == Value::from(counted.clone()),
        "what counts is not {counted:?}"
    );
    let message = event["message"].as_str().unwrap_or_default();
    ensure!(message.contains(words), "the line does not say {words:?}");
    let told = &event["image"];
    if row.how == How::Folder {
        ensure!(told["surety"] == "unknown" && told["chainId"].is_null(), "a folder is known");
        return Ok(());
    }
    ensure!(told["surety"] == "bound", "the image is not bound");
    ensure!(told["chainId"] == *image.chain_id, "the layers are others");
    // containerd cannot tell the config when the name that led to it is gone.
    let may_lack = matches!(row.how, How::NameMoves | How::NameGoes) && told["config"].is_null();
    ensure!(may_lack || told["config"] == *image.config_digest, "the config is another");
    Ok(())
}

/// The engine shows the line that the event has.
fn expect_told(told: &Told, event: &Value) -> Result<()> {
    let message = event["message"].as_str().unwrap_or_default();
    ensure!(message.starts_with("portcullis: blocked: "), "{message}");
    // Some engines escape quotes in what they pass on.
    let shown = told.errors.replace('\\', "");
    ensure!(shown.contains(message), "the record says {message}, the engine {told:?}");
    Ok(())
}

/// What every door must say alike: all of a decision that does not depend on the engine.
fn essence(event: &Value) -> Value {
    let message = event["message"].as_str().unwrap_or_default();
    let reason = message.split("; image ").next().unwrap_or_default();
    // Each engine starts containers with settings of its own.
    let of_start = event["workload"].as_array().map_or(0, Vec::len) as u64;
    let of_image = event["findings"].as_u64().map(|all| all - of_start);
    let reason = match reason.split_once("none of ") {
        Some((before, after)) => {
            format!("{before}none of all{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => reason.to_owned(),
    };
    // Why an image is not known, each engine's records say in their own way.
    const UNKNOWN: &str = "it is not known which image this is (";
    let reason = match reason.split_once(UNKNOWN) {
        Some((before, after)) => {
            let behind = after.rsplit_once("): ").map_or(after, |(_, behind)| behind);
            format!("{before}{UNKNOWN}why): {behind}")
        }
        None => reason,
    };
    json!({
        "action": event["action"],
        "wouldBlock": event["wouldBlock"],
        "whitelisted": event["whitelisted"],
        "causes": event["causes"],
        "counted": event["counted"],
        "findings": of_image,
        "policies": event["policies"],
        "policySet": event["policySet"],
        "reason": reason,
        "surety": event["image"]["surety"],
        "chainId": event["image"]["chainId"],
    })
}

/// Compares with what the first door said.
fn same_everywhere(ctx: &Ctx, row: &'static str, event: &Value) -> Result<()> {
    static FIRST: Mutex<BTreeMap<&str, (String, Value)>> = Mutex::new(BTreeMap::new());
    let mut first = FIRST.lock().map_err(|_| anyhow::anyhow!("a trial panicked"))?;
    let (name, essence) = (ctx.way.name(), essence(event));
    let (other, wanted) = first.entry(row).or_insert_with(|| (name, essence.clone()));
    let told = |key: &str| !essence[key].is_null() || !ctx.way.is_advisory();
    let keys = wanted.as_object().into_iter().flatten();
    for (key, wanted) in keys.filter(|(key, _)| told(key)) {
        ensure!(essence[key] == *wanted, "{other} says {key} {wanted}, this {}", essence[key]);
    }
    Ok(())
}

fn break_and_run(ctx: &Ctx, fault: &Fault, action: &str) -> Result<()> {
    let rules = Rules::new(ctx.starter.node(), ctx.starter.settings(), "description: nothing")?;
    knows(ctx, &rules, &ctx.images.busybox, &[])?;
    let mark = ctx.starter.journal().mark("portcullis")?;
    (fault.configure)(&rules, action)?;
    (fault.inflict)(&rules)?;
    let command = ["sh", "-c", "exit 5"];
    let told = ctx.starter.run(&Start::new(&ctx.images.busybox.name, "fault", &command))?;
    expect_start(&told, action != "block")?;
    if fault.cause == "auditUnavailable" {
        // There is no record of it; that is the failure.
        ensure!(action != "block" || told.errors.contains("record"), "{told:?}");
        return Ok(());
    }
    let event = only_decision(ctx, &rules, &mark)?;
    ensure!(event["action"] == action, "{event:#}");
    let mut causes = event["causes"].as_array().into_iter().flatten();
    ensure!(causes.any(|cause| cause == fault.cause), "{event:#}");
    if action == "block" {
        expect_told(&told, &event)?;
    }
    Ok(())
}
