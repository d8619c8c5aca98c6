//! What the gate decides at real starts, and how it is told.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use portcullis_integration::cri::NamespaceMode;
use portcullis_integration::evidence::{CRITICAL, MEDIUM};
use portcullis_integration::image::{Entry, ImageBuilder, busybox_layer};
use portcullis_integration::node::{go_on, stand_still};
use portcullis_integration::rules::{BLOCK_CRITICAL, FAULTS, Fault, NO_TIME, Rules};
use portcullis_integration::run::Output;
use portcullis_integration::shim::{self, Shim};
use portcullis_integration::stalling::Stalling;
use portcullis_integration::suite::{Case, Ctx, Door};
use portcullis_integration::{PATIENCE, wait_for};
use serde_json::{Value, json};

use crate::checkpoints::Checkpoint;
use crate::pods::Pod;

const fn case(name: &'static str, run: fn(&Ctx) -> Result<()>) -> Case {
    Case::new(name, run).only(&[Door::Portcullis, Door::Wrapper])
}

/// What only the shim does, or what is done to it.
const fn of_shim(name: &'static str, run: fn(&Ctx) -> Result<()>) -> Case {
    Case::new(name, run).only(&[Door::Portcullis])
}

pub(crate) const CASES: &[Case] = &[
    case("a_blocked_start_is_told_everywhere_by_one_id", blocked),
    case("a_blocked_container_is_told_in_its_pod", blocked_in_pod),
    case("an_alarmed_start_runs_and_warns", alarmed),
    case("an_allowed_start_runs_in_silence", allowed),
    of_shim("an_outcome_is_recorded", outcomes),
    case("an_index_and_its_platform_are_one_image", indexed),
    case("two_configs_with_one_chain_are_told_apart", one_chain),
    case("a_remapped_image_is_known", remapped),
    of_shim("a_restore_is_asked_for_as_a_start", restored),
    case("dangerous_settings_of_a_start_are_judged", settings_of_a_start),
    case("dangerous_settings_of_a_pod_are_judged", settings_of_a_pod),
    case("a_vex_statement_lets_an_image_start", vex),
    case("explain_and_simulate_answer_for_a_refused_start", explained),
    case("decide_and_the_shim_and_the_library_agree", agree),
    case("no_time_has_its_configured_action", no_time),
    of_shim("an_image_that_is_only_claimed_has_its_configured_action", claimed),
    case("a_broken_node_keeps_its_containers", broken_node),
    of_shim("a_slow_containerd_delays_its_start_alone", slow_containerd),
    case("a_failure_never_stops_a_pods_sandbox", sandbox),
    of_shim("a_bundle_without_a_config_is_an_error", no_config),
    of_shim("a_creation_that_was_given_up_leaves_nothing", given_up),
];

const CRITICAL_RULE: &str = "class: vulnerability, severity: [critical]";

/// A node on which this is in force, and nothing is known of any image.
pub(crate) fn with_policy<'a>(ctx: &'a Ctx<'_>, spec: &str) -> Result<Rules<'a>> {
    Rules::new(ctx.node(), ctx.engine().settings(), spec)
}

fn run_once(ctx: &Ctx, id: &str) -> Result<Output> {
    ctx.run(&["--rm"], id, &["echo", "it runs"]).output()
}

/// Its exit code says that it ran; `ctr` may lose the output of what ends at once.
fn it_runs(ctx: &Ctx, id: &str) -> Result<()> {
    let run = ctx.run(&["--rm"], id, &["sh", "-c", "exit 5"]);
    run.output()?.expect_code(5).map(drop)
}

/// A refused `ctr run` leaves its container record, as with every shim that fails to create.
fn refused(ctx: &Ctx, id: &str) -> Result<String> {
    let output = run_once(ctx, id)?;
    ensure!(output.code() != 0, "it ran: {}", output.text());
    let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", id]).output()?;
    Ok(output.errors())
}

fn event_id(text: &str) -> Result<&str> {
    let after = text.split("explain ").nth(1).context("no event id")?;
    Ok(&after[..26])
}

fn blocked(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    node.knows(&ctx.images().busybox, &[CRITICAL, MEDIUM])?;
    let mark = ctx.journal().mark("portcullis")?;
    let id = ctx.id();
    let shown = refused(ctx, &id)?;
    let line = "portcullis: blocked: 1 critical vulnerability with a fix \
                (CVE-2024-3094 xz-utils 1.0 -> 5.6.1); image docker.io/portcullis-test/busybox:1@";
    ensure!(shown.contains(line), "{shown}");
    ensure!(shown.contains("policy test"), "{shown}");
    let event = event_id(&shown)?;

    let entry = ctx.journal().wait_for("portcullis", &mark, |e| e["PORTCULLIS_EVENT"] == event)?;
    ensure!(entry["PRIORITY"] == "3" && entry["PORTCULLIS_ACTION"] == "block", "{entry:#}");
    ensure!(entry["MESSAGE_ID"] == "6f1c3d0a52d84c0e9b7e4a1f0c5d2b31", "{entry:#}");
    let message = entry["MESSAGE"].as_str().unwrap_or_default();
    ensure!(shown.contains(message), "the journal says {message}, ctr {shown}");

    let recorded = node.decision(&id)?;
    ensure!(recorded["id"] == event && recorded["message"] == message, "{recorded:#}");
    ensure!(recorded["image"]["surety"] == "bound", "{recorded:#}");
    let list = ctx.portcullis(&["events", "list"]).ok()?.text();
    ensure!(list.contains(event) && list.contains("CVE-2024-3094"), "{list}");
    let show = ctx.portcullis(&["events", "show", event]).ok()?.text();
    ensure!(show.contains("1 vulnerability/critical"), "{show}");
    Ok(())
}

fn blocked_in_pod(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "scope: { podLabels: { tier: web } }")?;
    node.apply(&format!(
        "scope: {{ namespaces: {{ include: [tests] }}, images: {{ include: ['**/busybox:*'] }} }}\n{BLOCK_CRITICAL}"
    ))?;
    node.knows(&ctx.images().busybox, &[CRITICAL])?;
    let mark = ctx.journal().mark("portcullis")?;
    let pod = Pod::start(ctx)?;
    let id = pod.create(&pod.container("main", &["sleep", "1000"]))?;
    let error = pod.client().start_container(&id).err().context("it was started")?;
    let error = format!("{error:#}");
    ensure!(error.contains("portcullis: blocked: 1 critical vulnerability"), "{error}");
    let event = event_id(&error)?;
    let status = pod.client().container_status(&id)?;
    ensure!(status.reason == "StartError" && status.exit_code == 128, "{status:?}");
    ensure!(status.message.contains(event), "{status:?}");
    ctx.journal().wait_for("portcullis", &mark, |e| {
        e["PORTCULLIS_EVENT"] == event && e["PORTCULLIS_NAMESPACE"] == "tests"
    })?;
    let recorded = node.decision(&id)?;
    ensure!(recorded["id"] == event, "{recorded:#}");
    ensure!(recorded["request"]["pod"] == ctx.id().as_str(), "{recorded:#}");
    ensure!(recorded["request"]["container"] == "main", "{recorded:#}");
    pod.client().remove_container(&id)?;
    // The pod goes on: what is not refused starts in it.
    node.apply("mode: observe\nrules: [{ class: vulnerability, action: block }]")?;
    let id = pod.run_script("main", "exec sleep 1000")?;
    let recorded = node.decision(&id)?;
    ensure!(recorded["action"] == "alarm" && recorded["wouldBlock"] == true, "{recorded:#}");
    pod.kill_and_remove(&id)?;
    pod.remove()
}

fn alarmed(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "rules: [{ class: vulnerability, action: alarm }]")?;
    node.knows(&ctx.images().busybox, &[MEDIUM])?;
    let mark = ctx.journal().mark("portcullis")?;
    let id = ctx.id();
    it_runs(ctx, &id)?;
    let recorded = node.decision(&id)?;
    ensure!(recorded["action"] == "alarm", "{recorded:#}");
    let entry =
        ctx.journal().wait_for("portcullis", &mark, |e| e["PORTCULLIS_EVENT"] == recorded["id"])?;
    ensure!(entry["PRIORITY"] == "4", "{entry:#}");
    Ok(())
}

fn allowed(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    node.knows(&ctx.images().busybox, &[MEDIUM])?;
    let mark = ctx.journal().mark("portcullis")?;
    let id = ctx.id();
    it_runs(ctx, &id)?;
    let recorded = node.decision(&id)?;
    ensure!(recorded["action"] == "allow" && recorded["counted"] == json!({}), "{recorded:#}");
    let message = recorded["message"].as_str().unwrap_or_default();
    ensure!(message.contains("none of"), "{message}");
    let entry =
        ctx.journal().wait_for("portcullis", &mark, |e| e["PORTCULLIS_EVENT"] == recorded["id"])?;
    ensure!(entry["PRIORITY"] == "6", "{entry:#}");
    Ok(())
}

fn outcomes(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "description: nothing")?;
    node.knows(&ctx.images().busybox, &[])?;
    let outcome = |container: &str| -> Result<String> {
        let decision = node.decision(container)?;
        let events = node.events(true)?;
        let of = events.iter().find(|e| e["decision"] == decision["id"]);
        Ok(of.context("no outcome")?["message"].as_str().unwrap_or_default().to_owned())
    };
    let id = ctx.id();
    run_once(ctx, &id)?.ok()?;
    let text = wait_for("the outcome", PATIENCE, || Ok(outcome(&id).ok()))?;
    ensure!(text.contains("started"), "{text}");
    let id = format!("{id}-fails");
    let failed = ctx.run(&["--rm"], &id, &["/no/such"]).output()?;
    ensure!(failed.code() != 0, "it ran");
    let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
    let text = outcome(&id)?;
    ensure!(text.contains("failed") && text.contains("/no/such"), "{text}");
    Ok(())
}

fn image(name: &str, mark: &str) -> Result<ImageBuilder> {
    let file = Entry::File("etc/mark".into(), 0o644, mark.as_bytes().to_vec());
    Ok(ImageBuilder::new(name).layer(busybox_layer()?).layer([file]))
}

/// `ctr containers create` now, `ctr tasks start` later: what happens between is the case.
fn create(ctx: &Ctx, image: &str, flags: &[&str], id: &str) -> Result<()> {
    let run = ctx.ctr(&["containers", "create", "--runtime", ctx.door().runtime()]);
    run.args(flags).args([image, id, "sleep", "1000"]).ok().map(drop)
}

fn start(ctx: &Ctx, id: &str) -> Result<Output> {
    ctx.ctr(&["tasks", "start", "--detach", "--null-io", id]).output()
}

fn indexed(ctx: &Ctx) -> Result<()> {
    const NAME: &str = "docker.io/portcullis-test/indexed:1";
    let node = with_policy(ctx, "description: nothing")?;
    let built = ctx.import(image(NAME, "indexed")?.indexed())?;
    let index = built.index_digest.clone().context("no index")?;
    for digest in [index.as_str(), built.manifest_digest.as_str()] {
        node.apply(&format!(
            "authorized: {{ images: ['docker.io/portcullis-test/indexed@{digest}'], action: block }}\n\
             unscanned: {{ action: allow }}"
        ))?;
        let id = ctx.id();
        ctx.run_image(NAME, &["--rm"], &id, &["true"]).ok()?;
        let recorded = node.decision(&id)?;
        ensure!(recorded["action"] == "allow", "by {digest}: {recorded:#}");
    }
    ctx.ctr(&["images", "delete", NAME]).ok().map(drop)
}

fn one_chain(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    let names = ["docker.io/portcullis-test/one:1", "docker.io/portcullis-test/two:1"];
    let one = ctx.import(image(names[0], "chain")?.env("KIND=one"))?;
    let two = ctx.import(image(names[1], "chain")?.env("KIND=two"))?;
    ensure!(one.chain_id == two.chain_id && one.config_digest != two.config_digest);
    node.knows(&one, &[MEDIUM])?;
    node.knows(&two, &[CRITICAL])?;
    let id = ctx.id();
    ctx.run_image(names[0], &["--rm"], &id, &["true"]).ok()?;
    let recorded = node.decision(&id)?;
    ensure!(recorded["image"]["config"] == one.config_digest.as_str(), "{recorded:#}");
    let id = format!("{id}-two");
    let output = ctx.run_image(names[1], &["--rm"], &id, &["true"]).output()?;
    ensure!(output.code() != 0 && output.errors().contains("CVE-2024-3094"), "{}", output.errors());
    let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
    // Which of the two it is is not proven any more: their findings are united.
    let id = format!("{id}-gone");
    create(ctx, names[0], &[], &id)?;
    ctx.ctr(&["images", "delete", "--sync", names[0]]).ok()?;
    let errors = start(ctx, &id)?.errors();
    ensure!(errors.contains("CVE-2024-3094"), "{errors}");
    ctx.ctr(&["containers", "delete", &id]).ok()?;
    ctx.ctr(&["images", "delete", names[1]]).ok().map(drop)
}

/// With its owners shifted in a layer of its own, or by the mount.
fn remapped(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    node.knows(&ctx.images().busybox, &[CRITICAL])?;
    let map = "0:100000:65536";
    for (at, more) in [&[][..], &["--remap-labels"]].into_iter().enumerate() {
        let id = format!("{}-{at}", ctx.id());
        let flags = [&["--uidmap", map, "--gidmap", map], more].concat();
        let output = ctx.run(&flags, &id, &["true"]).output()?;
        ctx.ctr(&["containers", "delete", &id]).ok()?;
        ensure!(output.code() != 0, "it was started");
        ensure!(output.errors().contains("blocked"), "{}", output.errors());
    }
    Ok(())
}

fn restored(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    let mut checkpoint = Checkpoint::of_a_container(ctx)?;
    let (_, restored) = checkpoint.restore()?;
    restored.ok()?;
    checkpoint.remove_restored()?;
    let event = node.decision(&checkpoint.restored_id())?;
    ensure!(event["decision"]["action"] != "block", "{event}");
    node.knows(&ctx.images().busybox, &[CRITICAL])?;
    let (calls, refused) = checkpoint.restore()?;
    ensure!(refused.code() != 0, "it was restored");
    ensure!(refused.errors().contains("blocked"), "{}", refused.errors());
    ensure!(calls.is_empty(), "the runtime was called: {calls:?}");
    ctx.ctr(&["containers", "delete", &checkpoint.restored_id()]).ok()?;
    Ok(())
}

/// `ctr` with flags that weaken the walls, and what is said of each.
fn settings_of_a_start(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "description: nothing")?;
    node.knows(&ctx.images().busybox, &[])?;
    let plain = format!("{}-plain", ctx.id());
    run_once(ctx, &plain)?.ok()?;
    let mount = "type=bind,src=/etc,dst=/host-etc,options=rbind:ro";
    for (row, (flags, item)) in [
        (&["--privileged"][..], "privileged"),
        (&["--net-host"], "host-network"),
        (&["--mount", mount], "host-path"),
        (&["--cap-add", "CAP_SYS_PTRACE"], "added-capability"),
    ]
    .into_iter()
    .enumerate()
    {
        node.apply(&format!("rules: [{{ class: workload, ids: [{item}], action: block }}]"))?;
        let id = format!("{}-{row}", ctx.id());
        let flags = [&["--rm"], flags].concat();
        let output = ctx.run(&flags, &id, &["true"]).output()?;
        let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
        let errors = output.errors();
        ensure!(output.code() != 0 && errors.contains(item), "{item}: {errors}");
        run_once(ctx, &format!("{id}-plain"))?.ok().with_context(|| format!("without {item}"))?;
    }
    Ok(())
}

/// A pod in the host's network: its sandbox and its containers are told so.
fn settings_of_a_pod(ctx: &Ctx) -> Result<()> {
    let node = with_policy(
        ctx,
        "unscanned: { action: allow }\n\
         rules: [{ class: workload, ids: [host-network, host-pid], action: alarm }]",
    )?;
    node.knows(&ctx.images().busybox, &[])?;
    for (network, pid, told) in [
        (NamespaceMode::Pod, NamespaceMode::Container, &[][..]),
        (NamespaceMode::Node, NamespaceMode::Container, &["host-network"]),
        (NamespaceMode::Node, NamespaceMode::Node, &["host-network", "host-pid"]),
    ] {
        let pod = Pod::start_with(ctx, network, pid)?;
        let id = pod.run_script("main", "exec sleep 1000")?;
        let of_pod = |kind| {
            node.events(false)
                .map(|events| events.into_iter().rfind(|e| e["request"]["kind"] == kind))
        };
        for kind in ["container", "sandbox"] {
            let event = of_pod(kind)?.with_context(|| format!("no event of a {kind}"))?;
            let found = event["workload"].as_array().context("no settings")?;
            let found: Vec<&str> = found.iter().filter_map(|f| f["id"].as_str()).collect();
            for item in ["host-network", "host-pid"] {
                let is_told = found.contains(&item);
                ensure!(is_told == told.contains(&item), "{kind} of {told:?}: {found:?}");
            }
            let wanted = if told.is_empty() { "allow" } else { "alarm" };
            ensure!(event["action"] == wanted, "{kind} of {told:?}: {event:#}");
        }
        pod.kill_and_remove(&id)?;
        pod.remove()?;
    }
    Ok(())
}

fn vex(ctx: &Ctx) -> Result<()> {
    let busybox = &ctx.images().busybox;
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    node.knows(&ctx.images().busybox, &[CRITICAL])?;
    let folder = ctx.node().etc_portcullis().join("vex");
    fs::create_dir_all(&folder)?;
    let write = |digest: &str| {
        let document = serde_json::json!({
            "@context": "https://openvex.dev/ns/v0.2.0",
            "@id": "https://example.com/vex/1",
            "author": "security@example.com",
            "timestamp": "2026-11-01T00:00:00Z",
            "version": 1,
            "statements": [{
                "vulnerability": { "name": "CVE-2024-3094" },
                "products": [{ "@id": format!("pkg:oci/busybox@{}", digest.replace(':', "%3A")) }],
                "status": "not_affected",
                "justification": "vulnerable_code_not_present",
            }],
        });
        fs::write(folder.join("busybox.openvex.json"), document.to_string())
    };
    write(&format!("sha256:{}", "0".repeat(64)))?;
    node.apply(BLOCK_CRITICAL)?;
    let id = ctx.id();
    let errors = refused(ctx, &id)?;
    ensure!(errors.contains("CVE-2024-3094"), "another image's statement: {errors}");
    let why = ctx.portcullis(&["vex", "explain", event_id(&errors)?]).ok()?.text();
    ensure!(why.contains("000000000000"), "it does not say which image is meant: {why}");

    write(&busybox.manifest_digest)?;
    node.apply(BLOCK_CRITICAL)?;
    run_once(ctx, &id)?.ok()?;
    let event = node.decision(&id)?;
    let explained = ctx.portcullis(&["explain", event["id"].as_str().unwrap_or_default()]).ok()?;
    ensure!(explained.text().contains("busybox.openvex.json"), "{}", explained.text());
    Ok(())
}

/// A refused start, why, what would let it start, and that it does then.
fn explained(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, BLOCK_CRITICAL)?;
    node.knows(&ctx.images().busybox, &[CRITICAL, MEDIUM])?;
    let id = ctx.id();
    let event = event_id(&refused(ctx, &id)?)?.to_owned();
    let text = ctx.portcullis(&["explain", &event]).ok()?.text();
    for part in ["rules[0]", "CVE-2024-3094", "update xz-utils", "5.6.1", "spec.exceptions"] {
        ensure!(text.contains(part), "no {part}: {text}");
    }
    let all = ctx.portcullis(&["explain", &event, "--all"]).ok()?.text();
    ensure!(all.contains("CVE-2023-0001") && all.contains("another severity"), "{all}");

    // The policy change that is proposed is tried on the recorded starts, and then made.
    let json = ctx.portcullis(&["--output", "json", "explain", &event]).ok()?.text();
    let json: Value = serde_json::from_str(&json)?;
    let changes = json["remedies"]["byPolicy"]["changes"].as_array().context("no plan")?;
    ensure!(changes.len() == 1 && changes[0]["change"] == "exception", "{changes:#?}");
    let fixed = format!(
        "{BLOCK_CRITICAL}\nexceptions: [{{ id: CVE-2024-3094, package: xz-utils, expires: 2999-12-31, owner: me }}]"
    );
    let folder = ctx.node().folder().join("other-policies");
    fs::create_dir_all(&folder)?;
    let policies = fs::read_to_string(node.policies().join("test.yaml"))?;
    let policies = policies.replace(BLOCK_CRITICAL, &fixed.replace('\n', "\n  "));
    fs::write(folder.join("test.yaml"), policies)?;
    let folder_name = folder.display().to_string();
    let simulate = ["--output", "json", "simulate", "--policies", &folder_name];
    let simulated = ctx.portcullis(&simulate).ok()?.text();
    let simulated: Value = serde_json::from_str(&simulated)?;
    let rows = simulated["rows"].as_array().context("no rows")?;
    ensure!(rows.iter().any(|r| r["was"] == "block" && r["wouldBe"] == "allow"), "{simulated:#}");
    node.apply(&fixed)?;
    run_once(ctx, &id)?.ok()?;
    let verified = ctx.portcullis(&["events", "verify", "--no-journal"]).ok()?.text();
    ensure!(!verified.is_empty(), "verify says nothing");
    Ok(fs::remove_dir_all(folder)?)
}

/// What a decision comes down to, for comparing.
#[derive(Debug, PartialEq)]
struct Essence {
    action: String,
    would_block: bool,
    whitelisted: bool,
    causes: Vec<String>,
    counted: Vec<String>,
}

fn of_event(event: &Value) -> Essence {
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(ToOwned::to_owned)).collect()
    };
    let counted = event["counted"].as_object().into_iter().flatten();
    Essence {
        action: event["action"].as_str().unwrap_or_default().to_owned(),
        would_block: event["wouldBlock"] == true,
        whitelisted: event["whitelisted"] == true,
        causes: words(&event["causes"]),
        counted: counted.map(|(k, n)| format!("{n} {k}")).collect(),
    }
}

fn of_decision(decision: &portcullis_types::Decision) -> Essence {
    let mut counted = std::collections::BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for reason in decision.policies.iter().flat_map(|p| &p.reasons) {
        if let portcullis_types::Subject::Finding(finding) = &reason.subject
            && seen.insert((finding.id.clone(), finding.path.clone()))
        {
            *counted.entry(format!("{}/{}", finding.class, finding.severity)).or_insert(0) += 1;
        }
    }
    Essence {
        action: decision.action.to_string(),
        would_block: decision.would_block(),
        whitelisted: decision.whitelisted(),
        causes: decision.causes().iter().map(ToString::to_string).collect(),
        counted: counted.into_iter().map(|(k, n)| format!("{n} {k}")).collect(),
    }
}

/// One table of policies over one image: `decide`, the shim and the library say the same.
fn agree(ctx: &Ctx) -> Result<()> {
    let busybox = &ctx.images().busybox;
    let node = with_policy(ctx, "description: nothing")?;
    node.knows(&ctx.images().busybox, &[CRITICAL, MEDIUM])?;
    let digest = &busybox.manifest_digest;
    let table = [
        ("allow", "description: nothing".to_owned()),
        ("block", BLOCK_CRITICAL.to_owned()),
        ("alarm", format!("mode: observe\n{BLOCK_CRITICAL}")),
        ("alarm", format!("observeUntil: 2999-01-01T00:00:00Z\n{BLOCK_CRITICAL}")),
        ("block", format!("observeUntil: 2020-01-01T00:00:00Z\n{BLOCK_CRITICAL}")),
        (
            "alarm",
            "rules: [{ class: vulnerability, ids: [CVE-2023-0001], action: alarm }]".to_owned(),
        ),
        (
            "allow",
            "rules: [{ class: vulnerability, severity: [high, low], action: block }]".to_owned(),
        ),
        ("block", "rules: [{ class: vulnerability, fixable: false, action: block }]".to_owned()),
        ("alarm", "rules: [{ class: malware, action: block }]".to_owned()),
        ("block", "stale: { maxAge: 1h, action: block }".to_owned()),
        ("block", "authorized: { images: ['registry.example.com/**'], action: block }".to_owned()),
        (
            "allow",
            format!(
                "{BLOCK_CRITICAL}\nwhitelist: [{{ image: 'docker.io/portcullis-test/busybox@{digest}' }}]"
            ),
        ),
        (
            "allow",
            format!(
                "{BLOCK_CRITICAL}\nwhitelist: [{{ image: 'docker.io/portcullis-test/busybox:1' }}]"
            ),
        ),
        (
            "block",
            format!(
                "{BLOCK_CRITICAL}\nwhitelist: [{{ image: 'docker.io/portcullis-test/other:1' }}]"
            ),
        ),
        (
            "alarm",
            format!(
                "scope: {{ images: {{ exclude: ['docker.io/portcullis-test/**'] }} }}\n{BLOCK_CRITICAL}"
            ),
        ),
        ("alarm", format!("scope: {{ engines: [podman] }}\n{BLOCK_CRITICAL}")),
        ("alarm", format!("rules: [{{ {CRITICAL_RULE}, grace: {{ from: firstSeen, for: 7d }}, action: block }}]")),
        ("block", format!("rules: [{{ {CRITICAL_RULE}, grace: {{ from: fixed, for: 7d }}, action: block }}]")),
        ("allow", format!("{BLOCK_CRITICAL}\nexceptions: [{{ id: cve-2024-3094, package: xz-utils, expires: 2999-12-31, owner: me }}]")),
        ("block", format!("{BLOCK_CRITICAL}\nexceptions: [{{ id: CVE-2024-3094, expires: 2020-12-31, owner: me }}]")),
        ("block", format!("{BLOCK_CRITICAL}\nexceptions: [{{ id: CVE-2024-3094, image: 'docker.io/other/**', expires: 2999-12-31, owner: me }}]")),
        ("block", "rules: [{ when: 'image.references.exists(r, r.contains(\"busybox\"))', action: block }]".to_owned()),
        ("allow", "rules: [{ when: 'image.user == \"nobody\" && request.engine == \"containerd\"', action: block }]".to_owned()),
        ("block", "rules: [{ class: vulnerability, when: 'finding.package == \"xz-utils\"', action: block }]".to_owned()),
        ("block", "rules: [{ class: workload, ids: [root-user], action: block }]".to_owned()),
        ("allow", "rules: [{ class: workload, ids: [privileged, host-pid, host-network], action: block }]".to_owned()),
    ];
    for (row, (wanted, spec)) in table.iter().enumerate() {
        node.apply(spec)?;
        let id = format!("{}-{row}", ctx.id());
        let output = run_once(ctx, &id)?;
        let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
        let event = node.decision(&id)?;
        let by_shim = of_event(&event);
        ensure!(by_shim.action == *wanted, "{spec}: {event:#}");
        ensure!((output.code() == 0) == (by_shim.action != "block"), "{spec}: {}", output.errors());

        let decide = ctx.portcullis(&["--output", "json", "decide", "--image"]);
        let answer = decide
            .args([&busybox.config_digest, "--manifest", digest, "--chain-id", &busybox.chain_id])
            .args(["--reference", &busybox.name])
            .ok()?
            .text();
        // It is asked about the image alone, and cannot know the settings of the start.
        if !spec.contains("workload") && !spec.contains("image.user") {
            let by_command: portcullis_types::Decision = serde_json::from_str(&answer)?;
            ensure!(
                of_decision(&by_command) == by_shim,
                "{spec}: decide says {by_command:#?}, the shim {event:#}"
            );
        }
        let id = event["id"].as_str().context("no event id")?;
        let answer = ctx.portcullis(&["--output", "json", "explain", id]).ok()?.text();
        let explained: Value = serde_json::from_str(&answer)?;
        let by_explain = serde_json::from_value(explained["decision"].clone())?;
        ensure!(of_decision(&by_explain) == by_shim, "{spec}: explain says {by_explain:#?}");

        let by_library = by_library(&node, &event)?;
        ensure!(of_decision(&by_library) == by_shim, "{spec}: the library says {by_library:#?}");
    }
    Ok(())
}

/// The decision of the library from what the event recorded.
fn by_library(node: &Rules, event: &Value) -> Result<portcullis_types::Decision> {
    use portcullis_policy::{Defaults, InForce, PolicySet};
    use portcullis_store::{Detail, FileStore, VerdictStore};
    let link = fs::read_link(node.published().join("current"))?;
    let name = link.display().to_string();
    let hex = name.trim_start_matches("sha256-").trim_end_matches(".json");
    let bytes = fs::read(node.published().join(&link))?;
    let set = PolicySet::from_published(&bytes, &format!("sha256:{hex}").parse()?)?;
    let identity: portcullis_types::Identity = serde_json::from_value(event["image"].clone())?;
    let request: portcullis_types::Request = serde_json::from_value(event["request"].clone())?;
    let config = identity.config.clone().context("no config")?;
    let verdict = FileStore::open(node.verdicts()).by_config(&config, Detail::Full)?;
    let mut evidence = portcullis_types::Evidence::read(verdict.into_iter().collect());
    evidence.workload =
        portcullis_types::Workload::Read(serde_json::from_value(event["workload"].clone())?);
    evidence.image = serde_json::from_value(event["imageConfig"].clone())?;
    let in_force = InForce { set: Some(&set), defaults: &Defaults::default() };
    let now = serde_json::from_value(event["time"].clone())?;
    Ok(portcullis_policy::decide(&in_force, &request, &identity, &evidence, now))
}

fn no_time(ctx: &Ctx) -> Result<()> {
    for action in ["allow", "alarm", "block"] {
        let node = with_policy(ctx, "description: nothing")?;
        node.knows(&ctx.images().busybox, &[])?;
        (NO_TIME.configure)(&node, action)?;
        (NO_TIME.inflict)(&node)?;
        let id = format!("{}-{action}", ctx.id());
        let output = run_once(ctx, &id)?;
        let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
        ensure!((output.code() == 0) == (action != "block"), "{action}: {}", output.errors());
        let event = node.decision(&id)?;
        ensure!(event["action"] == action, "{event:#}");
        let mut causes = event["causes"].as_array().into_iter().flatten();
        ensure!(causes.any(|c| c == NO_TIME.cause), "{event:#}");
    }
    Ok(())
}

/// containerd tells the container's record and then nothing: what the record claims is kept, and
/// what was not found out is `identityClaimed` beside `deadline`.
fn claimed(ctx: &Ctx) -> Result<()> {
    for action in ["allow", "alarm", "block"] {
        let policy = format!("onFailure: {{ identityClaimed: {action}, deadline: allow }}");
        let node = with_policy(ctx, &policy)?;
        node.knows(&ctx.images().busybox, &[])?;
        node.settings().write("[gate]\ndeadline = \"1500ms\"\n")?;
        let id = format!("{}-{action}", ctx.id());
        let stalling = Stalling::new(ctx.node().outside(ctx.engine().socket()))?;
        let output = run_once(ctx, &id)?;
        drop(stalling);
        let _removed_by_rm_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
        ensure!((output.code() == 0) == (action != "block"), "{action}: {}", output.errors());
        let event = node.decision(&id)?;
        ensure!(event["action"] == action, "{event:#}");
        ensure!(event["image"]["surety"] == "claimed", "{event:#}");
        let causes = event["causes"].as_array().into_iter().flatten();
        let causes: Vec<&str> = causes.filter_map(Value::as_str).collect();
        ensure!(causes == ["identityClaimed", "deadline"], "{event:#}");
    }
    Ok(())
}

/// A running container and its sibling in each kind of broken node: nothing of them is lost.
fn broken_node(ctx: &Ctx) -> Result<()> {
    let of_one_image = |f: &&Fault| matches!(f.cause, "stale" | "noData" | "unscanned");
    for fault in FAULTS.iter().chain([&NO_TIME]).filter(|f| !of_one_image(f)) {
        let node = with_policy(ctx, "description: nothing")?;
        node.knows(&ctx.images().busybox, &[])?;
        let pod = Pod::start(ctx)?;
        let sibling = pod.run_script("sibling", "exec sleep 1000")?;
        let first = pod.run_script("first", "exec sleep 1000")?;
        (fault.configure)(&node, "block")?;
        (fault.inflict)(&node)?;
        let refused = pod.create(&pod.container("refused", &["true"]))?;
        let error = pod.client().start_container(&refused).err();
        let error = error.with_context(|| format!("{}: a start was not refused", fault.cause))?;
        let error = format!("{error:#}");
        ensure!(error.contains("portcullis: blocked"), "{}: {error}", fault.cause);

        let out = pod.exec(&first, &["echo", "alive"])?;
        ensure!(out == "alive", "{}: {out}", fault.cause);
        for id in [&first, &sibling] {
            let state = pod.client().container_status(id)?.state();
            ensure!(
                state == portcullis_integration::cri::ContainerState::Running,
                "{}: {state:?}",
                fault.cause
            );
        }
        pod.client().remove_container(&refused)?;
        pod.kill_and_remove(&first)?;
        let out = pod.exec(&sibling, &["echo", "alive"])?;
        ensure!(out == "alive", "{}: {out}", fault.cause);
        pod.kill_and_remove(&sibling)?;
        pod.remove()?;
        drop(node);
    }
    Ok(())
}

/// containerd stands still while the gate asks it: the start ends by the policy's deadline, and the
/// other containers of the pod answer, take a process, and can be killed in the meantime.
fn slow_containerd(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "onFailure: { deadline: block }")?;
    node.knows(&ctx.images().busybox, &[])?;
    let pod = Pod::start(ctx)?;
    let sibling = pod.run_script("sibling", "exec sleep 1000")?;
    let victim = pod.run_script("victim", "exec sleep 1000")?;
    let bundle = ctx.node().folder().join("late-bundle");
    fs::create_dir_all(&bundle)?;
    let bundles = ctx.engine().state().join("io.containerd.runtime.v2.task/k8s.io");
    let config = ctx.node().outside(bundles.join(&sibling).join("config.json"));
    fs::copy(config, bundle.join("config.json"))?;
    let mut sockets = fs::read_dir(ctx.node().outside("/run/containerd/s"))?;
    let socket = sockets.next().context("no shim's socket")??.path();

    let containerd = ctx.engine().containerd_pid()?;
    stand_still(containerd)?;
    let told = while_it_stands(&socket, &bundle, &sibling, &victim);
    go_on(containerd)?;
    let refusal = told?;
    ensure!(refusal.contains("portcullis: blocked") && refusal.contains("time"), "{refusal}");

    let out = pod.exec(&sibling, &["echo", "alive"])?;
    ensure!(out == "alive", "{out}");
    pod.kill_and_remove(&victim)?;
    pod.kill_and_remove(&sibling)?;
    pod.remove()?;
    Ok(fs::remove_dir_all(bundle)?)
}

/// Returns what the start was refused with.
fn while_it_stands(socket: &Path, bundle: &Path, sibling: &str, victim: &str) -> Result<String> {
    let (begun, late) = (Instant::now(), socket.to_owned());
    let create = shim::Create { id: "late".into(), bundle: bundle.display().to_string() };
    let start = std::thread::spawn(move || -> Result<_> {
        let answer = Shim::connect(&late)?.call::<shim::Nothing>("Create", &create);
        Ok((answer.err().map(|e| format!("{e:#}")), begun.elapsed()))
    });

    let mut shim = Shim::connect(socket)?;
    let process =
        |id: &str, exec_id: &str| shim::Process { id: id.into(), exec_id: exec_id.into() };
    let state: shim::State = shim.call("State", &process(sibling, ""))?;
    let answered = begun.elapsed();
    ensure!(state.status == 2, "the sibling is {state:?}");
    let spec = br#"{"args":["/bin/true"],"cwd":"/","user":{"uid":0,"gid":0}}"#.to_vec();
    let spec = Some(shim::Any { type_url: "process".into(), value: spec });
    let exec =
        shim::Exec { id: sibling.into(), exec_id: "e".into(), spec, ..shim::Exec::default() };
    let _: shim::Nothing = shim.call("Exec", &exec)?;
    let _: shim::Nothing = shim.call("Start", &process(sibling, "e"))?;
    let exit: shim::Exit = shim.call("Wait", &process(sibling, "e"))?;
    ensure!(exit.status == 0, "{exit:?}");
    let _: shim::Nothing = shim.call("Delete", &process(sibling, "e"))?;
    let _: shim::Nothing = shim.call("Kill", &shim::Kill { id: victim.into(), signal: 9 })?;
    let exit: shim::Exit = shim.call("Wait", &process(victim, ""))?;
    ensure!(exit.status == 137, "{exit:?}");

    let (refusal, ended) = start.join().map_err(|_| anyhow!("the start panicked"))??;
    ensure!(answered < ended, "State answered after {answered:?}, the start after {ended:?}");
    refusal.context("the start was not refused")
}

fn sandbox(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "unscanned: { action: block }\nonFailure: { default: block }")?;
    fs::remove_dir_all(node.verdicts())?;
    let pod = Pod::start(ctx)?;
    let events = node.events(false)?;
    let of_pod = events.iter().rfind(|e| e["request"]["kind"] == "sandbox");
    let of_pod = of_pod.context("no event of a sandbox")?;
    ensure!(of_pod["action"] == "alarm", "{of_pod:#}");
    ensure!(of_pod["request"]["pod"] == ctx.id().as_str(), "{of_pod:#}");
    pod.remove()
}

/// The caller waits two seconds for a runtime that takes six, before it makes the container or after:
/// nothing may stay, the shim neither.
fn given_up(ctx: &Ctx) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let node = with_policy(ctx, "description: nothing")?;
    for (when, create) in
        [("before", "sleep 6; exec runc \"$@\""), ("after", "runc \"$@\"; sleep 6; exit 1")]
    {
        let slow = ctx.node().folder().join(format!("slow-runc-{when}"));
        let script =
            format!("#!/bin/sh\ncase \"$*\" in *' create '*) {create};; esac\nexec runc \"$@\"\n");
        fs::write(&slow, script)?;
        fs::set_permissions(&slow, PermissionsExt::from_mode(0o755))?;
        node.settings().write(&format!("[runtime]\nbinary = \"{}\"\n", slow.display()))?;
        let id = format!("{}-{when}", ctx.id());
        let run =
            ctx.ctr(&["--timeout", "2s", "run", "--runtime", ctx.door().runtime(), "--null-io"]);
        let output = run.args(["-d", &ctx.images().busybox.name, &id, "sleep", "1000"]).output()?;
        ensure!(output.code() != 0, "it was waited for");
        let _removed_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
        wait_for("the end of the shim", PATIENCE, || Ok(ctx.shims().is_empty().then_some(())))?;
    }
    Ok(())
}

fn no_config(ctx: &Ctx) -> Result<()> {
    let shim = portcullis_integration::engine::own_binaries().join(ctx.door().shim());
    let folder = ctx.node().folder().join("empty-bundle");
    fs::create_dir_all(&folder)?;
    let script = format!("cd {} && exec \"$@\"", folder.display());
    let run = ctx.in_namespace("sh").args(["-c", &script, "sh"]).arg(&shim);
    let output =
        run.args(["-namespace", "default", "-id", "x", "-address", "/x", "start"]).output()?;
    ensure!(output.code() == 1, "{}", output.text());
    ensure!(output.errors().contains("config.json"), "{}", output.errors());
    ensure!(output.text().is_empty(), "an error is no address: {}", output.text());
    let output =
        ctx.in_namespace("sh").args(["-c", "exec \"$1\" start", "sh"]).arg(&shim).output()?;
    ensure!(output.code() == 2 && output.errors().contains("-namespace"), "{}", output.errors());
    fs::remove_dir_all(folder)?;
    if ctx.shims().is_empty() { Ok(()) } else { bail!("a shim was left") }
}
