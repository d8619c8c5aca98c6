//! What `doctor` says of a node is what its engine does, and `preflight` names what could not be
//! started again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::cri::NamespaceMode;
use portcullis_integration::engine::{SHIM, own_binaries};
use portcullis_integration::evidence::{CRITICAL, MEDIUM};
use portcullis_integration::image::{Entry, ImageBuilder, busybox_layer};
use portcullis_integration::rules::Rules;
use portcullis_integration::suite::{Case, Ctx, Door};
use rustix::process::Signal;
use serde_json::Value;

use crate::gate::with_policy;
use crate::pods::Pod;

const GATED: &[Door] = &[Door::Portcullis];

pub(crate) const CASES: &[Case] = &[
    Case::new("doctor_sees_what_goes_past_the_gate", doctor).only(GATED),
    Case::new("preflight_names_what_would_be_blocked", preflight).only(GATED),
];

/// Before and after the gate is made the default, doctor says of the engine's own configuration what
/// pods then show.
fn doctor(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "unscanned: { action: allow }")?;
    let config = ctx.node().folder().join("config.toml");
    let whole = fs::read_to_string(&config)?;
    // The other door's handler, which comes last, is not what this is about.
    let before = match whole.find(".runtimes.wrapper]").and_then(|at| whole[..at].rfind('[')) {
        Some(begin) => whole[..begin].to_owned(),
        None => whole.clone(),
    };
    let past = ["containerd.default", "containerd.handler"];

    let found = examined(ctx, &before)?;
    ensure!(
        found.get("bypass").map(Vec::as_slice) == Some(&past.map(str::to_owned)[..]),
        "{found:?}"
    );
    ensure!(!found.contains_key("error"), "{found:?}");
    ensure!(!default_is_gated(ctx, &node)?, "a pod of the stock default asked the gate");

    // The same handler twice: by its own name, and in place of the built-in one.
    let ours = before
        .split_once(".runtimes.portcullis]\n")
        .map(|(_, keys)| keys.trim_end().to_owned())
        .context("the handler portcullis")?;
    let after = before
        .replace("default_runtime_name = \"runc\"", "default_runtime_name = \"portcullis\"")
        .replace(
            ".runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"",
            &format!(".runtimes.runc]\n{ours}"),
        );
    let found = examined(ctx, &after)?;
    ensure!(!found.contains_key("bypass") && !found.contains_key("error"), "{found:?}");
    let gated = restarted(ctx, &config, &after).and_then(|()| default_is_gated(ctx, &node));
    let back = restarted(ctx, &config, &whole);
    // What failed first is what is told.
    ensure!(gated?, "a pod of the gate's default asked nobody");
    back?;
    Ok(())
}

fn restarted(ctx: &Ctx, config: &Path, text: &str) -> Result<()> {
    fs::write(config, text)?;
    ctx.engine().stop_containerd(Signal::TERM)?;
    ctx.engine().start_containerd()
}

/// Whether a pod that names no handler is decided about.
fn default_is_gated(ctx: &Ctx, node: &Rules<'_>) -> Result<bool> {
    let before = node.events(true)?.len();
    Pod::start_by(ctx, "", NamespaceMode::Pod, NamespaceMode::Container)?.remove()?;
    Ok(node.events(true)?.len() > before)
}

/// What doctor finds in a configuration of the engine under test: the checks of containerd by their
/// severities. The node is a folder with the programs where an installation has them.
fn examined(ctx: &Ctx, config: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let root = ctx.node().folder().join("doctor");
    for folder in ["etc/containerd", "usr/bin", "usr/sbin", "usr/local/bin"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let shim = own_binaries().join(SHIM).display().to_string();
    let installed = format!("/usr/local/bin/{SHIM}");
    fs::write(root.join("etc/containerd/config.toml"), config.replace(&shim, &installed))?;
    fs::copy(&shim, root.join(&installed[1..]))?;
    for program in ["usr/bin/containerd", "usr/sbin/runc.real"] {
        fs::write(root.join(program), "a program")?;
        fs::set_permissions(root.join(program), PermissionsExt::from_mode(0o755))?;
    }
    // An absolute link, which is one below the root.
    symlink("/usr/sbin/runc.real", root.join("usr/sbin/runc"))?;
    let version = ctx.engine().engine().version();
    let version = version.split_whitespace().find(|word| word.contains('.') && !word.contains('/'));
    let output = ctx
        .portcullis(&["--output", "json", "--root"])
        .arg(&root)
        .args(["doctor", "--containerd-version", version.context("a version")?])
        .output()?;
    fs::remove_dir_all(&root)?;
    // The folder has no policies in force, which is an error of its own.
    ensure!(output.code() == 5, "{} {}", output.text(), output.errors());
    let examined: Value = serde_json::from_str(&output.text())?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in examined["findings"].as_array().context("findings")? {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        if text("check").starts_with("containerd.") {
            found.entry(text("severity")).or_default().push(text("check"));
        }
    }
    found.values_mut().for_each(|checks| checks.sort());
    Ok(found)
}

/// Three containers run; by stricter policies one could not start again for its image and one for its
/// settings. What is said beforehand is what happens then.
fn preflight(ctx: &Ctx) -> Result<()> {
    let node = with_policy(ctx, "unscanned: { action: allow }")?;
    let worse = ctx.import(
        ImageBuilder::new("docker.io/portcullis-test/worse:1")
            .layer(busybox_layer()?)
            .layer([Entry::File("etc/release".into(), 0o644, b"worse\n".to_vec())]),
    )?;
    node.knows(&ctx.images().busybox, &[MEDIUM])?;
    node.knows(&worse, &[CRITICAL])?;
    let id = |name: &str| format!("{}-{name}", ctx.id());
    let busybox = ctx.images().busybox.name.clone();
    let starts = [
        ("fine", busybox.as_str(), &[][..]),
        ("image", worse.name.as_str(), &[]),
        ("settings", busybox.as_str(), &["--privileged"]),
    ];
    let start = |(name, image, flags): &(&str, &str, &[&str])| {
        let flags = [&["--detach", "--null-io"], *flags].concat();
        ctx.run_image(image, &flags, &id(name), &["sleep", "1000"])
    };
    for each in &starts {
        start(each).ok()?;
    }
    let pod = Pod::start(ctx)?;
    let main = pod.run_script("main", "exec sleep 1000")?;

    let (rows, code) = flown(ctx, None)?;
    ensure!(code == 0 && rows.values().all(|row| row["action"] != "block"), "{rows:#?}");
    ensure!(rows.len() == 5, "{rows:#?}");
    ensure!(
        rows[&main]["pod"] == ctx.id().as_str() && rows[&main]["container"] == "main",
        "{rows:#?}"
    );

    let strict = "unscanned: { action: allow }\nrules:\n\
                  - { class: vulnerability, severity: [critical], action: block }\n\
                  - { class: workload, ids: [privileged], action: block }";
    let folder = ctx.node().folder().join("stricter");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("test.yaml"), Rules::document(strict))?;
    let (rows, code) = flown(ctx, Some(&folder))?;
    let blocked: Vec<&String> =
        rows.iter().filter(|(_, row)| row["action"] == "block").map(|(id, _)| id).collect();
    ensure!(code == 4 && blocked == [&id("image"), &id("settings")], "{rows:#?}");
    for (name, part) in [("image", "CVE-2024-3094"), ("settings", "privileged")] {
        let message = rows[&id(name)]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(part) && message.contains("policy test"), "{message}");
    }
    let said = ctx
        .portcullis(&["preflight", "--address"])
        .arg(ctx.engine().socket())
        .arg("--policies")
        .arg(&folder)
        .output()?
        .expect_code(4)?
        .text();
    ensure!(said.contains("5 running containers: started again, 2 would be blocked"), "{said}");
    fs::remove_dir_all(&folder)?;

    pod.kill_and_remove(&main)?;
    pod.remove()?;
    for (name, ..) in &starts {
        ctx.ctr(&["tasks", "kill", "--signal", "KILL", &id(name)]).ok()?;
        ctx.wait_for_task(&id(name), "STOPPED")?;
        ctx.ctr(&["tasks", "delete", &id(name)]).output()?;
        ctx.ctr(&["containers", "delete", &id(name)]).ok()?;
    }
    // Once the policies are in force, a start is answered as was said.
    node.apply(strict)?;
    for (each, starts_again) in starts.iter().zip([true, false, false]) {
        let id = id(each.0);
        let again = start(each).output()?;
        ensure!((again.code() == 0) == starts_again, "{id}: {}", again.errors());
        if starts_again {
            ctx.ctr(&["tasks", "kill", "--signal", "KILL", &id]).ok()?;
            ctx.wait_for_task(&id, "STOPPED")?;
            ctx.ctr(&["tasks", "delete", &id]).output()?;
        }
        let _removed_by_ctr_in_some_versions = ctx.ctr(&["containers", "delete", &id]).output()?;
    }
    Ok(())
}

/// The rows of preflight by the containers' ids, and its exit code.
fn flown(ctx: &Ctx, policies: Option<&Path>) -> Result<(BTreeMap<String, Value>, i32)> {
    let run = ctx.portcullis(&["--output", "json", "preflight", "--address"]);
    let mut run = run.arg(ctx.engine().socket());
    if let Some(folder) = policies {
        run = run.arg("--policies").arg(folder);
    }
    let output = run.output()?;
    let said: Value = serde_json::from_str(&output.text()).with_context(|| output.errors())?;
    let rows = said["containers"].as_array().context("containers")?.iter();
    let rows =
        rows.map(|row| (row["containerId"].as_str().unwrap_or_default().to_owned(), row.clone()));
    Ok((rows.collect(), output.code()))
}
