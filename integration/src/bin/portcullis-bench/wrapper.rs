//! What the wrapper adds to a call of the runtime, interleaved with the same call without it: for a
//! call that creates nothing, and for a gated creation with a policy in force and a verdict in the
//! store.
//!
//! The runtime behind the wrapper is `true`, so that what runc itself takes, and its noise, are in
//! neither. A third pair has runc behind it, for scale.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::{Engine, RunningEngine, own_binaries};
use portcullis_integration::image::{ImageBuilder, busybox_layer};

use crate::starts::{median, prepare};

/// The word by which this program is called in the node.
pub(crate) const INSIDE: &str = "inside";
/// What separates the two command lines for [`inside`].
const THEN: &str = "::";
const WRAPPER: &str = "portcullis-runc";
const TRUE: &str = "/bin/true";

/// Measures this many pairs of each call, on the oldest engine: the engine is only asked.
pub(crate) fn measure(pairs: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = ImageBuilder::new("registry.example.com/bench:1").layer(busybox_layer()?);
    let image = image.build(folder.path())?;
    let engine = Engine::all().into_iter().next().context("no engine")?;
    let running = engine.start(&image)?;
    running.import("default", &image)?;
    prepare(&running, &image)?;
    // A container of the stock shim leaves what a creation finds: a record, a snapshot, a bundle.
    let run = running.ctr("default").args(["run", "-d", "--null-io", &image.name, "bench"]);
    run.args(["sleep", "1000"]).ok()?;
    let bundle = running.node().folder().join("state/io.containerd.runtime.v2.task/default/bench");
    let bundle = bundle.to_str().context("a path that is no text")?.to_owned();
    ensure!(running.node().outside(&bundle).is_dir(), "the bundle is not at {bundle}");

    let before_true = install(&running, "true", Path::new(TRUE))?;
    let before_runc = install(&running, "runc", Path::new("/usr/sbin/runc"))?;
    let root = "/run/containerd/runc/default";
    let state = ["--root", root, "state", "bench"];
    let create = ["--root", root, "create", "--bundle", &bundle, "bench"];
    let mut out = std::io::stdout();
    for (what, wrapper, runtime, args) in [
        ("pass-through, over true", &before_true, TRUE, &state[..]),
        ("gated create, over true", &before_true, TRUE, &create),
        ("pass-through of state, over runc", &before_runc, "/usr/sbin/runc", &state),
    ] {
        let this = std::env::current_exe()?;
        let count = pairs.to_string();
        let wrapper = wrapper.to_str().context("a path that is no text")?;
        let lines = [&[wrapper][..], args, &[THEN, runtime], args].concat();
        let told = running.node().run(this).args([INSIDE, &count]).args(&lines).ok()?.text();
        writeln!(out, "{what}: {told}")?;
    }
    running.ctr("default").args(["tasks", "delete", "--force", "bench"]).ok()?;
    running.ctr("default").args(["containers", "delete", "bench"]).ok()?;
    Ok(())
}

/// The wrapper in a folder of its own, before this runtime.
fn install(running: &RunningEngine, name: &str, runtime: &Path) -> Result<PathBuf> {
    let folder = running.node().folder().join(format!("wrapper-{name}"));
    std::fs::create_dir(&folder)?;
    let wrapper = folder.join(WRAPPER);
    std::fs::copy(own_binaries().join(WRAPPER), &wrapper)?;
    let settings = format!(
        "[wrapper.{WRAPPER}]\nengine = \"containerd\"\nruntime = \"{}\"\nsocket = \"{}\"\n",
        runtime.display(),
        running.node().folder().join("containerd.sock").display()
    );
    std::fs::write(folder.join(format!("{WRAPPER}.toml")), settings)?;
    Ok(wrapper)
}

/// Runs two command lines by turns, and prints what the first takes more than the second.
pub(crate) fn inside(pairs: usize, lines: &[String]) -> Result<()> {
    let middle = lines.iter().position(|word| word == THEN).context("one command line only")?;
    let (first, second) = (&lines[..middle], &lines[middle + 1..]);
    let (mut with, mut without, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..=pairs {
        // Whoever comes second finds warm caches.
        let (a, b) = if at % 2 == 0 {
            let a = time(first)?;
            (a, time(second)?)
        } else {
            let b = time(second)?;
            (time(first)?, b)
        };
        if at > 0 {
            with.push(a);
            without.push(b);
            more.push(a.as_secs_f64() - b.as_secs_f64());
        }
    }
    more.sort_by(f64::total_cmp);
    let of = |part: usize| more[(more.len() - 1) * part / 100] * 1e3;
    writeln!(
        std::io::stdout(),
        "{:.2} ms with, {:.2} ms without; {:.2} ms more (middle half {:.2} to {:.2}, p99 {:.2})",
        median(with).as_secs_f64() * 1e3,
        median(without).as_secs_f64() * 1e3,
        of(50),
        of(25),
        of(75),
        of(99)
    )?;
    Ok(())
}

fn time(line: &[String]) -> Result<Duration> {
    let (program, args) = line.split_first().context("an empty command line")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    let took = begun.elapsed();
    ensure!(status.success(), "{program} ended with {status}");
    Ok(took)
}
