//! The life of a container, as `ctr` drives it.
//!
//! `ctr` drops the output that it has not begun to read when a container ends. So what is to be
//! compared is read before the end: the container waits to be released.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::suite::{Case, Ctx};
use portcullis_integration::{PATIENCE, wait_for};

pub(crate) const CASES: &[Case] = &[
    Case::new("ctr_run_passes_on_output_and_exit_code", run_to_the_end),
    Case::new("a_detached_container_is_listed_until_deleted", detached),
    Case::new("a_stopped_task_is_deleted_with_its_exit_code", delete_stopped),
    Case::new("exec_passes_on_output_and_exit_code", exec),
    Case::new("exec_with_stdin_leaves_no_shim", exec_with_stdin),
    Case::new("exec_of_a_missing_command_leaves_the_container", exec_missing),
    Case::new("exec_can_be_killed_alone", exec_killed),
    Case::new("a_paused_container_stands_still_until_resumed", pause),
    Case::new("signals_reach_the_container", signals),
    Case::new("signals_start_with_their_default_actions", default_signals),
    Case::new("processes_are_listed", processes),
    Case::new("metrics_are_told", metrics),
    Case::new("an_id_in_use_is_refused", same_id),
    Case::new("a_missing_command_is_an_error", missing_command),
    Case::new("a_folder_can_be_the_root", rootfs_folder),
    Case::new("users_can_be_mapped", user_namespace),
    Case::new("owners_can_be_mapped_by_the_mount", idmapped),
    Case::new("what_a_container_leaves_running_dies_with_it", stragglers),
    Case::new("twenty_containers_leave_nothing", twenty),
];

fn run_to_the_end(ctx: &Ctx) -> Result<()> {
    let script = "echo out; echo err >&2; read word; exit $word";
    let run = ctx.run(&["--rm"], &ctx.id(), &["sh", "-c", script]);
    let mut run = run.hold_stdin().spawn()?;
    run.wait_for_text("out\n")?;
    run.wait_for_text("err\n")?;
    run.write(b"7\n")?;
    let output = run.wait()?.expect_code(7)?.expect_text("out")?;
    ensure!(output.errors() == "err", "stderr: {}", output.errors());
    Ok(())
}

fn detached(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let (pid, state) = ctx.task(&id)?.unwrap_or_default();
    ensure!(state == "RUNNING", "it is {state:?}");
    let comm = ctx.node().outside(format!("/proc/{pid}/comm"));
    // The runtime's start is over before the runtime's process has become the container's.
    wait_for("sleep", PATIENCE, || {
        Ok((std::fs::read_to_string(&comm)?.trim() == "sleep").then_some(()))
    })?;
    ensure!(ctx.shims().len() == 1, "shims: {:?}", ctx.shims());
    remove(ctx, &id)?;
    ensure!(ctx.task(&id)?.is_none(), "it is still listed");
    Ok(())
}

fn delete_stopped(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sh", "-c", "exit 9"]).ok()?;
    ctx.wait_for_task(&id, "STOPPED")?;
    let delete = ctx.ctr(&["tasks", "delete", &id]).ok()?;
    ensure!(delete.errors().contains("code 9"), "{}", delete.errors());
    ctx.ctr(&["containers", "delete", &id]).ok()?;
    Ok(())
}

fn exec(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let script = "echo out; echo err >&2; until test -e /go; do sleep 0.02; done; exit 6";
    let exec = ["tasks", "exec", "--exec-id", "e", &id, "sh", "-c", script];
    let mut exec = ctx.ctr(&exec).spawn()?;
    exec.wait_for_text("out\n")?;
    exec.wait_for_text("err\n")?;
    ctx.ctr(&["tasks", "exec", "--exec-id", "other", &id, "touch", "/go"]).ok()?;
    let output = exec.wait()?.expect_code(6)?.expect_text("out")?;
    ensure!(output.errors() == "err", "stderr: {}", output.errors());
    remove(ctx, &id)
}

/// A shim that opens the fifo of an input must let go of it, too.
fn exec_with_stdin(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    for exec_id in ["one", "two"] {
        let exec = ctx.ctr(&["tasks", "exec", "--exec-id", exec_id, &id, "cat"]);
        let mut exec = exec.hold_stdin().spawn()?;
        exec.write(b"through\n")?;
        exec.wait_for_text("through\n")?;
        exec.wait()?.ok()?.expect_text("through")?;
    }
    remove(ctx, &id)
}

fn exec_missing(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let exec = ctx.ctr(&["tasks", "exec", "--exec-id", "e", &id, "/no/such"]);
    let output = exec.output()?;
    ensure!(output.code() != 0, "a missing command was run");
    ensure!(output.errors().contains("/no/such"), "{}", output.errors());
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    remove(ctx, &id)
}

fn exec_killed(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let script = "echo ready; exec sleep 1000";
    let exec = ctx.ctr(&["tasks", "exec", "--exec-id", "e", &id, "sh", "-c", script]);
    let mut exec = exec.spawn()?;
    exec.wait_for_text("ready")?;
    let kill = ["tasks", "kill", "--exec-id", "e", "--signal", "KILL", &id];
    ctx.ctr(&kill).ok()?;
    exec.wait()?.expect_code(137)?;
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    remove(ctx, &id)
}

fn pause(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let script = "while :; do echo tick; sleep 0.02; done";
    let mut run = ctx.run(&["--rm"], &id, &["sh", "-c", script]).spawn()?;
    run.wait_for_text("tick")?;
    ctx.ctr(&["tasks", "pause", &id]).ok()?;
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "PAUSED");
    // What it had printed before may still be on its way.
    let mut still = run.stdout_so_far();
    wait_for("it to stand still", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300));
        let seen = std::mem::replace(&mut still, run.stdout_so_far());
        Ok((seen == still).then_some(()))
    })?;
    ctx.ctr(&["tasks", "resume", &id]).ok()?;
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    run.wait_for_text(&format!("{still}tick"))?;
    ctx.ctr(&["tasks", "kill", "--signal", "KILL", &id]).ok()?;
    run.wait()?.expect_code(137)?;
    Ok(())
}

fn signals(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let script =
        "trap 'echo caught; read word; exit $word' USR1; echo ready; while :; do sleep 0.02; done";
    let run = ctx.run(&["--rm"], &id, &["sh", "-c", script]);
    let mut run = run.hold_stdin().spawn()?;
    run.wait_for_text("ready")?;
    ctx.ctr(&["tasks", "kill", "--signal", "USR1", &id]).ok()?;
    run.wait_for_text("caught")?;
    run.write(b"5\n")?;
    run.wait()?.expect_code(5)?.expect_text("ready\ncaught")?;
    Ok(())
}

/// What a shim ignores, such as SIGPIPE, would be ignored in its containers.
fn default_signals(ctx: &Ctx) -> Result<()> {
    let script = "cat /proc/self/status; echo end; read _";
    let run = ctx.run(&["--rm"], &ctx.id(), &["sh", "-c", script]);
    let mut run = run.hold_stdin().spawn()?;
    run.wait_for_text("end\n")?;
    run.write(b"\n")?;
    let status = run.wait()?.ok()?.text();
    for field in ["SigIgn:\t", "SigBlk:\t"] {
        let mask = status.lines().find_map(|line| line.strip_prefix(field));
        let mask = u64::from_str_radix(mask.unwrap_or_default(), 16)?;
        // The machine may have taken some of the real-time signals above for itself.
        ensure!(mask & 0x7fff_ffff == 0, "{field}{mask:x}");
    }
    Ok(())
}

fn processes(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sh", "-c", "sleep 1000 & wait"]).ok()?;
    let (pid, _) = ctx.task(&id)?.unwrap_or_default();
    let mut list = String::new();
    // A shell is there before what it starts.
    wait_for("two processes", PATIENCE, || {
        list = ctx.ctr(&["tasks", "ps", &id]).ok()?.text();
        Ok((list.lines().count() == 3).then_some(()))
    })
    .with_context(|| list.clone())?;
    let pids: Vec<_> = list.lines().skip(1).filter_map(|l| l.split(' ').next()).collect();
    ensure!(pids.contains(&pid.to_string().as_str()), "{pid}: {list}");
    remove(ctx, &id)
}

fn metrics(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let mut metrics = String::new();
    // The names differ between the versions of cgroups; each has the count of processes. The
    // runtime's own threads count until its process has become the container's.
    wait_for("one process", PATIENCE, || {
        metrics = ctx.ctr(&["tasks", "metrics", &id]).ok()?.text();
        let pids = metrics.lines().find_map(|line| line.strip_prefix("pids.current"));
        Ok((pids.map(str::trim) == Some("1")).then_some(()))
    })
    .with_context(|| metrics.clone())?;
    ensure!(metrics.contains("memory."), "{metrics}");
    remove(ctx, &id)
}

fn same_id(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let again = ctx.run(&[], &id, &["true"]).output()?;
    ensure!(again.code() != 0, "the id was given twice");
    // Past containerd's own check, too: the task exists, whatever the container's record says.
    let again = ctx.ctr(&["tasks", "start", &id]).output()?;
    ensure!(again.code() != 0, "the task was started twice");
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    remove(ctx, &id)
}

fn missing_command(ctx: &Ctx) -> Result<()> {
    let output = ctx.run(&["--rm"], &ctx.id(), &["/no/such"]).output()?;
    ensure!(output.code() != 0, "a missing command was run");
    ensure!(output.errors().contains("/no/such"), "{}", output.errors());
    Ok(())
}

fn rootfs_folder(ctx: &Ctx) -> Result<()> {
    let root = ctx.node().folder().join("rootfs-folder");
    for folder in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let path = root.display().to_string();
    let script = "test -x /bin/busybox && test ! -e /etc && exit 4";
    let command = ["/bin/busybox", "sh", "-c", script];
    let run = ctx.run_image(&path, &["--rm", "--rootfs"], &ctx.id(), &command);
    run.output()?.expect_code(4)?;
    std::fs::remove_dir_all(root)?;
    Ok(())
}

fn user_namespace(ctx: &Ctx) -> Result<()> {
    let map = "0:100000:65536";
    let flags = ["--rm", "--uidmap", map, "--gidmap", map];
    let script = "echo $(id -u) of $(cat /proc/self/uid_map); touch /root/x || exit; read _";
    let run = ctx.run(&flags, &ctx.id(), &["sh", "-c", script]);
    let mut run = run.hold_stdin().spawn()?;
    run.wait_for_text("0 of 0 100000 65536\n")?;
    run.write(b"\n")?;
    run.wait()?.ok()?;
    Ok(())
}

/// containerd 2 asks for a root filesystem whose owners are mapped as it is mounted. 1.7 shifts
/// them in a layer, and 1.6 leaves the image's, so that the container's root may make nothing.
fn idmapped(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let map = "0:100000:65536";
    let flags = ["-d", "--remap-labels", "--uidmap", map, "--gidmap", map];
    let run = ctx.run(&flags, &id, &["sleep", "1000"]).output()?;
    if ctx.engine().engine().name().contains("-1.6") {
        ensure!(run.errors().contains("permission denied"), "{}", run.errors());
        ctx.ctr(&["containers", "delete", &id]).ok()?;
        return Ok(());
    }
    run.ok()?;
    let mounts = ctx.node().mountinfo()?;
    let point = |line: &&str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let root = mounts.lines().find(|l| point(l).ends_with(&format!("{id}/rootfs")));
    let mapped = root.is_some_and(|line| line.contains("idmapped"));
    ensure!(mapped != ctx.engine().engine().name().contains("-1."), "{root:?}");
    // The layers, under the mapping, are needed only for the moment of the mount.
    ensure!(!mounts.lines().any(|l| point(&l).contains("idmapped")), "{mounts}");

    let script = "stat -c %u:%g /etc/release; until test -e /go; do sleep 0.02; done";
    let exec = ctx.ctr(&["tasks", "exec", "--exec-id", "e", &id, "sh", "-c", script]);
    let mut exec = exec.spawn()?;
    exec.wait_for_text("\n")?;
    ctx.ctr(&["tasks", "exec", "--exec-id", "other", &id, "touch", "/go"]).ok()?;
    exec.wait()?.ok()?.expect_text("0:0")?;
    remove(ctx, &id)
}

/// In a process namespace that is not its own, the end of a container ends nothing by itself.
fn stragglers(ctx: &Ctx) -> Result<()> {
    let flags = ["--rm", "--with-ns", "pid:/proc/1/ns/pid"];
    let script = "sleep 1000 >/dev/null 2>&1 & exit 3";
    let run = ctx.run(&flags, &ctx.id(), &["sh", "-c", script]);
    run.output()?.expect_code(3)?;
    Ok(())
}

fn twenty(ctx: &Ctx) -> Result<()> {
    let ids: Vec<_> = (0..20).map(|n| format!("{}-{n}", ctx.id())).collect();
    let mut starts = Vec::new();
    for id in &ids {
        starts.push(ctx.run(&["-d"], id, &["sleep", "1000"]).spawn()?);
    }
    for start in starts {
        start.wait()?.ok()?;
    }
    ensure!(ctx.shims().len() == 20, "shims: {:?}", ctx.shims());
    let mut ends = Vec::new();
    for id in &ids {
        ends.push(ctx.ctr(&["tasks", "delete", "--force", id]).spawn()?);
    }
    for end in ends {
        end.wait()?;
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    ctx.ctr(&[&["containers", "delete"], &ids[..]].concat()).ok()?;
    Ok(())
}

/// Kills a container and deletes all of it.
pub(crate) fn remove(ctx: &Ctx, id: &str) -> Result<()> {
    ctx.ctr(&["tasks", "kill", "--signal", "KILL", id]).ok()?;
    ctx.wait_for_task(id, "STOPPED")?;
    let delete = ctx.ctr(&["tasks", "delete", id]).ok()?;
    ensure!(delete.errors().contains("code 137"), "{}", delete.errors());
    ctx.ctr(&["containers", "delete", id]).ok()?;
    Ok(())
}
