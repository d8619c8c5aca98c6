//! Hooks of a container's specification, which the runtime runs.

use anyhow::{Result, ensure};
use portcullis_integration::suite::{Case, Ctx};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = &[
    Case::new("hooks_run_in_their_order", in_order),
    Case::new("a_hook_that_fails_fails_the_start", failing),
];

/// `ctr run` of a specification that has these hooks, with the node's busybox for a root.
fn run(ctx: &Ctx, id: &str, hooks: Value) -> Result<portcullis_integration::run::Output> {
    let folder = ctx.node().folder().join("hooks");
    let root = folder.join("rootfs");
    for place in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(place))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/sh"))?;
    let bundle = folder.display().to_string();
    let _made_before = std::fs::remove_file(folder.join("config.json"));
    ctx.in_namespace("runc").args(["spec", "--bundle", &bundle]).ok()?;
    let config = folder.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["sh", "-c", "exit 4"]);
    spec["root"]["path"] = root.display().to_string().into();
    spec["linux"]["cgroupsPath"] = format!("/default/{id}").into();
    spec["hooks"] = hooks;
    std::fs::write(&config, serde_json::to_vec(&spec)?)?;
    let config = config.display().to_string();
    let run = ctx.ctr(&["run", "--runtime", ctx.door().runtime(), "--rm", "--config", &config]);
    let output = run.arg(id).output()?;
    std::fs::remove_dir_all(folder)?;
    Ok(output)
}

fn shell(script: &str) -> Value {
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
}

fn in_order(ctx: &Ctx) -> Result<()> {
    let log = ctx.node().folder().join("hooks.log");
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks =
        kinds.map(|kind| (kind.to_owned(), shell(&format!("echo {kind} >>{}", log.display()))));
    run(ctx, &ctx.id(), Value::Object(hooks.into_iter().collect()))?.expect_code(4)?;
    let ran = std::fs::read_to_string(&log)?;
    std::fs::remove_file(log)?;
    ensure!(ran.split_whitespace().eq(kinds), "{ran}");
    Ok(())
}

fn failing(ctx: &Ctx) -> Result<()> {
    let output = run(ctx, &ctx.id(), json!({ "createRuntime": shell("exit 5") }))?;
    ensure!(output.code() != 0, "it was started");
    let error = output.errors();
    for wanted in
        ["failed to create shim task: OCI runtime create failed:", "hook #0", "exit status 5"]
    {
        ensure!(error.contains(wanted), "no {wanted:?} in {error}");
    }
    Ok(())
}
