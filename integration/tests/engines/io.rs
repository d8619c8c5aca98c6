//! What goes in and out of a container: pipes, terminals, log URIs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::run::Run;
use portcullis_integration::suite::{Case, Ctx, Door};
use portcullis_integration::wait_for;

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
    Case::new("a_binary_log_uri_feeds_the_logger", binary_log).only(&[Door::Stock]),
    Case::new("a_binary_log_uri_is_an_error_in_time", binary_log_refused).only(&[Door::Portcullis]),
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
    ctx.run(&["--rm"], &ctx.id(), &["wc", "-c"])
        .stdin(vec![b'x'; MEGABYTE])
        .ok()?
        .expect_text(&MEGABYTE.to_string())?;
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
    let log = ctx.node().folder().join("file-log");
    let uri = format!("file://{}", log.display());
    let script = "echo out; echo err >&2";
    ctx.run(&["-d", "--log-uri", &uri], &id, &["sh", "-c", script]).ok()?;
    let text = wait_for_file(&log, |text| text.lines().count() == 2)?;
    ensure!(text.contains("out") && text.contains("err"), "{text}");
    delete_stopped(ctx, &id)
}

/// A logger has the two outputs at 3 and 4, and says that it is ready by closing 5.
const LOGGER: &str = r#"#!/bin/sh
echo "$CONTAINER_ID" >"$2"
exec 5>&-
cat <&3 >>"$2" &
cat <&4 >>"$2"
wait
"#;

fn binary_log(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let logger = ctx.node().folder().join("logger.sh");
    std::fs::write(&logger, LOGGER)?;
    std::fs::set_permissions(&logger, std::fs::Permissions::from_mode(0o755))?;
    let log = ctx.node().folder().join("binary-log");
    // The query's keys and values become arguments.
    let uri = format!("binary://{}?to={}", logger.display(), log.display());
    let script = "echo out; echo err >&2";
    ctx.run(&["-d", "--log-uri", &uri], &id, &["sh", "-c", script]).ok()?;
    let text = wait_for_file(&log, |text| text.lines().count() == 3)?;
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    ensure!(lines == [&id, "err", "out"], "{text}");
    delete_stopped(ctx, &id)
}

fn binary_log_refused(ctx: &Ctx) -> Result<()> {
    refused_log(ctx, "binary:///bin/true")
}

fn unknown_log(ctx: &Ctx) -> Result<()> {
    refused_log(ctx, "carrier-pigeon:///x")
}

fn refused_log(ctx: &Ctx, uri: &str) -> Result<()> {
    let flags = ["--rm", "--log-uri", uri];
    let run = ctx.run(&flags, &ctx.id(), &["true"]);
    let output = run.limit(Duration::from_secs(10)).output()?;
    ensure!(output.code() != 0, "nobody knows where its output went");
    let (scheme, _) = uri.split_once(':').context("a URI has a scheme")?;
    ensure!(output.errors().contains(scheme), "{}", output.errors());
    Ok(())
}

fn wait_for_file(file: &Path, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let mut text = String::new();
    let seen = wait_for("a log", Duration::from_secs(5), || {
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
