//! What goes on when containerd or a shim is killed.
//!
//! The containers have no IO here: it is the client that removes the folder of its fifos, when it
//! deletes a task, and a task that containerd gave up is not deleted by a client.

use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};
use portcullis_integration::suite::{Case, Ctx};
use portcullis_integration::{PATIENCE, wait_for};
use rustix::process::Signal;

use crate::tasks::remove;

pub(crate) const CASES: &[Case] = &[
    Case::new("a_killed_shim_is_cleaned_up", shim_killed),
    Case::new("containers_outlive_an_ended_containerd", containerd_ended),
    Case::new("containers_outlive_a_killed_containerd", containerd_killed),
    Case::new("an_exit_while_containerd_is_away_is_seen", exit_unseen),
    Case::new("a_shim_killed_while_containerd_is_away_is_cleaned_up", shim_gone),
];

fn shim_killed(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    start(ctx, &id, "exec sleep 1000")?;
    kill_shim(ctx)?;
    expect_given_up(ctx, &id)
}

fn shim_gone(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    start(ctx, &id, "exec sleep 1000")?;
    ctx.engine().stop_containerd(Signal::KILL)?;
    kill_shim(ctx)?;
    ctx.engine().start_containerd()?;
    expect_given_up(ctx, &id)
}

fn containerd_ended(ctx: &Ctx) -> Result<()> {
    containerd_restarted(ctx, Signal::TERM)
}

fn containerd_killed(ctx: &Ctx) -> Result<()> {
    containerd_restarted(ctx, Signal::KILL)
}

fn containerd_restarted(ctx: &Ctx, signal: Signal) -> Result<()> {
    let id = ctx.id();
    start(ctx, &id, "exec sleep 1000")?;
    let before = (ctx.task(&id)?, ctx.shims());
    ctx.engine().stop_containerd(signal)?;
    ctx.engine().start_containerd()?;
    let after = (ctx.task(&id)?, ctx.shims());
    ensure!(before == after, "{before:?} became {after:?}");
    let exec = ctx.ctr(&["tasks", "exec", "--exec-id", "e", &id, "sh", "-c", "exit 5"]);
    exec.output()?.expect_code(5)?;
    remove(ctx, &id)
}

fn exit_unseen(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    start(ctx, &id, "trap 'exit 4' TERM; while :; do sleep 0.02; done")?;
    let (pid, _) = ctx.task(&id)?.unwrap_or_default();
    ctx.engine().stop_containerd(Signal::TERM)?;
    kill(ctx, "TERM", pid)?;
    wait_for("the end of the container", PATIENCE, || {
        let process = ctx.node().outside(format!("/proc/{pid}"));
        Ok((!process.exists()).then_some(()))
    })?;
    ctx.engine().start_containerd()?;
    // 1.6 finds a stopped task; later ones give up a shim in which nothing runs.
    if ctx.task(&id)?.is_some() {
        ctx.wait_for_task(&id, "STOPPED")?;
        let delete = ctx.ctr(&["tasks", "delete", &id]).ok()?;
        ensure!(delete.errors().contains("code 4"), "{}", delete.errors());
    }
    expect_given_up(ctx, &id)
}

fn start(ctx: &Ctx, id: &str, script: &str) -> Result<()> {
    let flags = ["--detach", "--null-io"];
    ctx.run(&flags, id, &["sh", "-c", script]).ok().map(drop)
}

/// containerd ends what a shim left and forgets the task by itself; then the id can be used again.
fn expect_given_up(ctx: &Ctx, id: &str) -> Result<()> {
    wait_for("the end of the task", PATIENCE, || Ok(ctx.task(id)?.is_none().then_some(())))?;
    ctx.ctr(&["containers", "delete", id]).ok()?;
    wait_for("the id to be free", PATIENCE, || {
        let run = ctx.run(&["--rm", "--null-io"], id, &["true"]);
        Ok((run.output()?.code() == 0).then_some(()))
    })?;
    remove_dead_sockets(ctx)
}

/// A killed shim cannot remove its socket, and the stock shim's next one does not do it either
/// unless it has the same id.
pub(crate) fn remove_dead_sockets(ctx: &Ctx) -> Result<()> {
    for socket in std::fs::read_dir(ctx.node().outside("/run/containerd/s"))? {
        let socket = socket?.path();
        if UnixStream::connect(&socket).is_err() {
            std::fs::remove_file(socket)?;
        }
    }
    Ok(())
}

pub(crate) fn kill_shim(ctx: &Ctx) -> Result<()> {
    let shims = ctx.shims();
    ensure!(shims.len() == 1, "shims: {shims:?}");
    kill(ctx, "KILL", shims[0])
}

fn kill(ctx: &Ctx, signal: &str, pid: u32) -> Result<()> {
    let kill = ctx.in_namespace("kill").arg("-s").arg(signal);
    kill.arg(pid.to_string()).ok().map(drop)
}
