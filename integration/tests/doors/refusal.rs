//! How a refusal looks to whoever starts a container with each engine's own command.

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::evidence::CRITICAL;
use portcullis_integration::rules::{BLOCK_CRITICAL, Rules};
use portcullis_integration::starter::Start;
use portcullis_integration::suite::Door;

use crate::{Case, Ctx};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "a_refusal_is_one_line_with_the_engines_own_exit_code".to_owned(),
        run: Box::new(refused),
        fits: |way| way.door != Door::Stock,
    }]
}

/// What an engine's command exits with when the runtime could not create a container.
fn exit_code(engine: &str, pods: bool) -> i32 {
    match engine.split('-').next() {
        // kubelet's number for it.
        Some("containerd") if pods => 128,
        Some("containerd") => 1,
        // The container command cannot be invoked; or, for some words of the runtime's, not found.
        Some("podman") => 126,
        // An error of the daemon.
        _ => 125,
    }
}

fn refused(ctx: &Ctx) -> Result<()> {
    let rules = Rules::new(ctx.starter.node(), ctx.starter.settings(), BLOCK_CRITICAL)?;
    rules.knows(&ctx.images.busybox, &[CRITICAL])?;
    crate::table::open_store(ctx, &rules)?;
    let told =
        ctx.starter.run(&Start::new(&ctx.images.busybox.name, "refused", &["sleep", "1000"]))?;
    let lines: Vec<_> = told.errors.lines().filter(|line| line.contains("portcullis")).collect();
    ensure!(lines.len() == 1, "{told:?}");
    let (_, line) = lines[0].split_once("portcullis: blocked: ").context("another line")?;
    let wanted =
        "1 critical vulnerability with a fix (CVE-2024-3094 xz-utils 1.0 -> 5.6.1); image ";
    ensure!(line.starts_with(wanted), "{told:?}");
    ensure!(line.contains("; policy test; see: portcullis explain "), "{told:?}");
    let code = exit_code(ctx.way.engine(), ctx.way.has_pods());
    ensure!(told.code == code && told.text.is_empty(), "{code} is wanted: {told:?}");
    Ok(())
}
