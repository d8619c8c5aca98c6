//! What goes in and out of a container: pipes, terminals, log URIs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::run::Run;
use portcullis_integration::shim::{self, Shim};
use portcullis_integration::suite::{Case, Ctx, Door};
use portcullis_integration::{PATIENCE, wait_for};

use crate::tasks::remove;

pub(crate) const CASES: &[Case] = &[
    Case::new("stdin_is_passed_to_its_end", stdin),
    Case::new("large_output_is_complete", large_output),
    Case::new("large_input_is_complete", large_input),
    Case::new("a_reader_that_goes_away_leaves_the_container", reader_gone),
    Case::new("a_terminal_has_its_size_and_input", terminal),
    Case::new("exec_has_a_terminal_of_its_own", exec_terminal),
    Case::new("attach_shows_what_runs", attach),
    Case::new("null_io_is_no_io", null_io),
    Case::new("a_file_log_uri_collects_the_output", file_log),
    // The stock shim of 1.7 closes the file for both outputs at the end of the first
    // (pkg/process/io.go, copyPipes), and loses what the second still holds.
    Case::new("a_file_log_is_whole_when_both_outputs_end", short_file_log)
        .only(&[Door::Portcullis]),
    Case::new("a_binary_log_uri_feeds_the_logger", binary_log),
    Case::new("exec_has_a_logger_of_its_own", exec_binary_log),
    Case::new("a_logger_that_stays_is_ended", stubborn_logger),
    // The stock shim starts a container whose logger has died, and waits for ever for one that does
    // not get ready.
    Case::new("a_logger_that_dies_is_an_error", dead_logger).only(&[Door::Portcullis]),
    Case::new("a_logger_that_never_gets_ready_is_an_error", mute_logger).only(&[Door::Portcullis]),
    Case::new("a_failed_start_leaves_no_logger", failed_start).only(&[Door::Portcullis]),
    Case::new("a_logger_says_that_it_is_ready", binary_log_v2).only(&[Door::Portcullis]),
    Case::new("a_terminal_can_have_a_logger", terminal_log).only(&[Door::Portcullis]),
    Case::new("an_unknown_log_uri_is_an_error", unknown_log),
];

/// `ctr` passes on the end of its input only when the task has been started, so it is not given all
/// at once.
fn stdin(ctx: &Ctx) -> Result<()> {
    let mut run = ctx.run(&["--rm"], &ctx.id(), &["cat"]).hold_stdin().spawn()?;
    run.write(b"hi\n")?;
    run.wait_for_text("hi\n")?;
    run.wait()?.ok()?.expect_text("hi")?;
    Ok(())
}

const MEGABYTE: usize = 1 << 20;

/// The container waits to be told that all has come: on a busy machine `ctr` gives up reading what
/// is still on its way when a container has ended, whatever the shim.
fn large_output(ctx: &Ctx) -> Result<()> {
    let script = format!("yes 0123456789abcde | head -c {MEGABYTE}; read word");
    let run = ctx.run(&["--rm"], &ctx.id(), &["sh", "-c", &script]);
    let mut run = run.hold_stdin().spawn()?;
    run.wait_for_bytes(MEGABYTE)?;
    run.write(b"all\n")?;
    let output = run.wait()?.ok()?;
    let wanted = b"0123456789abcde\n".repeat(MEGABYTE / 16);
    ensure!(output.stdout == wanted, "{} of {MEGABYTE} bytes came, or others", output.stdout.len());
    Ok(())
}

fn large_input(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let run = ctx.run(&["--rm"], &id, &["sh", "-c", "wc -c; exec sleep 1000"]);
    let mut run = run.stdin(vec![b'x'; MEGABYTE]).spawn()?;
    run.wait_for_text("\n")?;
    ctx.ctr(&["tasks", "kill", "--signal", "KILL", &id]).ok()?;
    run.wait()?.expect_code(137)?.expect_text(&MEGABYTE.to_string())?;
    Ok(())
}

/// A client that dies takes the other end of the fifos with it. The container may then wait for a
/// reader, but it stays under control and leaves no shim.
fn reader_gone(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let mut client = ctx.run(&[], &id, &["yes"]).spawn()?;
    client.wait_for_text("y\n")?;
    client.kill()?;
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    remove(ctx, &id)
}

/// Waits for the size of the terminal, names the terminal, and ends as it is told there.
const ON_TERMINAL: &str = "until test $(stty size | tr ' ' x) = 33x77; do sleep 0.02; done
    tty; read word; exit $word";

fn terminal(ctx: &Ctx) -> Result<()> {
    let command = ["sh", "-c", ON_TERMINAL];
    talk(ctx.run(&["--rm", "--tty"], &ctx.id(), &command))
}

fn exec_terminal(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let exec = ["tasks", "exec", "--tty", "--exec-id", "e", &id];
    talk(ctx.ctr(&exec).args(["sh", "-c", ON_TERMINAL]))?;
    remove(ctx, &id)
}

fn talk(run: Run) -> Result<()> {
    let mut run = run.on_terminal(33, 77).hold_stdin().spawn()?;
    run.wait_for_text("/dev/pts/0")?;
    run.write(b"5\n")?;
    run.wait()?.expect_code(5)?;
    Ok(())
}

fn attach(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let script = "while :; do echo tick; sleep 0.02; done";
    ctx.run(&["-d"], &id, &["sh", "-c", script]).ok()?;
    let mut attached = ctx.ctr(&["tasks", "attach", &id]).spawn()?;
    attached.wait_for_text("tick")?;
    ctx.ctr(&["tasks", "kill", "--signal", "KILL", &id]).ok()?;
    // It deletes the task, too.
    attached.wait()?.expect_code(137)?;
    ctx.ctr(&["containers", "delete", &id]).ok()?;
    Ok(())
}

fn null_io(ctx: &Ctx) -> Result<()> {
    let script = "echo lost; ls -l /proc/self/fd/1";
    ctx.run(&["--rm", "--null-io"], &ctx.id(), &["sh", "-c", script]).ok()?.expect_text("")?;
    Ok(())
}

fn file_log(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let log = log_to_file(ctx, "echo out; echo err >&2; sleep 1000")?;
    expect_logged(&log, &["err", "out"])?;
    ctx.ctr(&["tasks", "kill", "--signal", "KILL", &id]).ok()?;
    delete_stopped(ctx, &id)
}

fn short_file_log(ctx: &Ctx) -> Result<()> {
    let log = log_to_file(ctx, "echo out; echo err >&2")?;
    expect_logged(&log, &["err", "out"])?;
    delete_stopped(ctx, &ctx.id())
}

/// Runs a script in a container whose log is a file, and tells which.
fn log_to_file(ctx: &Ctx, script: &str) -> Result<PathBuf> {
    let log = ctx.node().folder().join(format!("log-of-{}", ctx.id()));
    let uri = format!("file://{}", log.display());
    ctx.run(&["-d", "--log-uri", &uri], &ctx.id(), &["sh", "-c", script]).ok()?;
    Ok(log)
}

/// A logger has the two outputs at 3 and 4, and says that it is ready by closing 5.
const LOGGER: &str = r#"echo "$CONTAINER_NAMESPACE/$CONTAINER_ID" >"$2"
exec 5>&-
cat <&3 >>"$2" &
cat <&4 >>"$2"
wait
"#;

/// Makes a logger that runs this script, and tells its URI and where it logs to.
fn logger(ctx: &Ctx, name: &str, script: &str) -> Result<(String, PathBuf)> {
    let program = ctx.node().folder().join(format!("{name}.sh"));
    std::fs::write(&program, format!("#!/bin/sh\n{script}"))?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let log = ctx.node().folder().join(format!("{name}-of-{}.log", ctx.id()));
    // The query's keys and values become arguments.
    Ok((format!("binary://{}?to={}", program.display(), log.display()), log))
}

fn binary_log(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let (uri, log) = logger(ctx, "logger", LOGGER)?;
    let script = "echo out; echo err >&2";
    ctx.run(&["-d", "--log-uri", &uri], &id, &["sh", "-c", script]).ok()?;
    expect_logged(&log, &[&format!("default/{id}"), "err", "out"])?;
    delete_stopped(ctx, &id)
}

fn expect_logged(log: &Path, wanted: &[&str]) -> Result<()> {
    let text = wait_for_file(log, |text| text.lines().count() == wanted.len())?;
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    ensure!(lines == wanted, "{text}");
    Ok(())
}

fn exec_binary_log(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let (uri, log) = logger(ctx, "logger", LOGGER)?;
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let exec = ["tasks", "exec", "--log-uri", &uri, "--exec-id", "e1", &id];
    ctx.ctr(&exec).args(["sh", "-c", "echo out; echo err >&2; exit 3"]).output()?.expect_code(3)?;
    expect_logged(&log, &["default/e1", "err", "out"])?;
    remove(ctx, &id)
}

/// The end of its input says nothing to it, but the signal does.
fn stubborn_logger(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let script = "trap 'echo asked >>$2; exit' TERM; exec 5>&-; while :; do sleep 0.1; done";
    let (uri, log) = logger(ctx, "stubborn", script)?;
    ctx.run(&["-d", "--log-uri", &uri], &id, &["true"]).ok()?;
    delete_stopped(ctx, &id)?;
    expect_logged(&log, &["asked"])
}

fn dead_logger(ctx: &Ctx) -> Result<()> {
    for (script, wanted) in [("exit 3", "status 3"), ("kill -9 $$", "status 137")] {
        let (uri, _) = logger(ctx, "dead", script)?;
        refused_log(ctx, &uri, wanted)?;
    }
    refused_log(ctx, "binary:///no/such/logger", "/no/such/logger")
}

fn mute_logger(ctx: &Ctx) -> Result<()> {
    let (uri, _) = logger(ctx, "mute", "trap '' TERM; while :; do sleep 0.1; done")?;
    refused_log(ctx, &uri, "was not ready within")
}

/// Neither the end of its input nor a polite signal ends this one.
fn failed_start(ctx: &Ctx) -> Result<()> {
    let script = "trap '' TERM; exec 5>&-; while :; do sleep 0.1; done";
    let (uri, _) = logger(ctx, "deaf", script)?;
    let output = ctx.run(&["--rm", "--log-uri", &uri], &ctx.id(), &["/no/such"]).output()?;
    ensure!(output.errors().contains("/no/such"), "{}", output.errors());
    Ok(())
}

fn binary_log_v2(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let (uri, _) = logger(ctx, "logger", LOGGER)?;
    let strict = uri.replacen("binary:", "binary-v2:", 1);
    refused_log(ctx, &strict, "did not say that it is ready")?;
    let (uri, log) = logger(ctx, "strict", &LOGGER.replace("exec 5>&-", "echo >&5; exec 5>&-"))?;
    let strict = uri.replacen("binary:", "binary-v2:", 1);
    ctx.run(&["-d", "--log-uri", &strict], &id, &["echo", "out"]).ok()?;
    expect_logged(&log, &[&format!("default/{id}"), "out"])?;
    delete_stopped(ctx, &id)
}

/// As `nerdctl run -dt` asks for; `ctr` cannot.
fn terminal_log(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let (uri, log) = logger(ctx, "logger", LOGGER)?;
    ctx.run(&["-d"], &id, &["sleep", "1000"]).ok()?;
    let sockets = std::fs::read_dir(ctx.node().outside("/run/containerd/s"))?;
    let socket = sockets.last().context("no shim listens")??.path();
    let mut shim = Shim::connect(&socket)?;
    let spec = br#"{"args":["sh","-c","tty"],"cwd":"/","user":{"uid":0,"gid":0},
        "env":["PATH=/bin"]}"#;
    let exec = shim::Exec {
        id: id.clone(),
        exec_id: "e".into(),
        terminal: true,
        stdout: uri,
        spec: Some(shim::Any { type_url: "process".into(), value: spec.to_vec() }),
    };
    let process = shim::Process { id: id.clone(), exec_id: "e".into() };
    let _: shim::Nothing = shim.call("Exec", &exec)?;
    let _: shim::Nothing = shim.call("Start", &process)?;
    let exit: shim::Exit = shim.call("Wait", &process)?;
    ensure!(exit.status == 0, "{exit:?}");
    expect_logged(&log, &["/dev/pts/0", "default/e"])?;
    let _: shim::Nothing = shim.call("Delete", &process)?;
    remove(ctx, &id)
}

fn unknown_log(ctx: &Ctx) -> Result<()> {
    refused_log(ctx, "carrier-pigeon:///x", "carrier-pigeon")
}

fn refused_log(ctx: &Ctx, uri: &str, wanted: &str) -> Result<()> {
    let flags = ["--rm", "--log-uri", uri];
    let run = ctx.run(&flags, &ctx.id(), &["true"]);
    let output = run.limit(PATIENCE).output()?;
    ensure!(output.code() != 0, "nobody knows where its output went");
    ensure!(output.errors().contains(wanted), "{}", output.errors());
    Ok(())
}

fn wait_for_file(file: &Path, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let mut text = String::new();
    let seen = wait_for("a log", PATIENCE, || {
        text = std::fs::read_to_string(file).unwrap_or_default();
        Ok(wanted(&text).then(|| text.clone()))
    });
    seen.with_context(|| format!("the log holds {text:?}"))
}

fn delete_stopped(ctx: &Ctx, id: &str) -> Result<()> {
    ctx.wait_for_task(id, "STOPPED")?;
    ctx.ctr(&["tasks", "delete", id]).ok()?;
    ctx.ctr(&["containers", "delete", id]).ok()?;
    Ok(())
}
