//! Checkpoints and restores, as the runtime is asked for them.
//!
//! CRIU does not run on every kernel. So the runtime of these cases stands in for it: it keeps what
//! it was called with, makes an image with nothing in it, and restores by a fresh start. What it is
//! called with must be the same through every door; that CRIU and runc do the rest is theirs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use portcullis_integration::run::Output;
use portcullis_integration::suite::{Case, Ctx, Door};
use portcullis_integration::{PATIENCE, wait_for};

use crate::faults::kill_shim;
use crate::tasks::remove;

/// CRIU's folder in a bundle: `work` there is containerd's link to a folder that lasts longer.
const CRIU_WORK: &str = "work/criu-work";

pub(crate) const CASES: &[Case] = &[
    Case::new("a_checkpoint_is_made_by_the_runtime", made),
    Case::new("a_checkpoint_can_end_its_container", exiting),
    Case::new("a_checkpoint_is_restored_by_the_runtime", restored),
    Case::new("a_failed_checkpoint_leaves_the_container", failed),
    Case::new("a_failed_restore_is_told_and_leaves_nothing", not_restored),
];

/// The runtime: `runc` but for two of its verbs.
const RUNTIME: &str = r#"#!/bin/sh
folder=${0%/*}
for arg; do
    case $arg in checkpoint | restore) verb=$arg ;; esac
done
[ -n "$verb" ] || exec runc "$@"
echo "$*" >>"$folder/calls"
while [ $# -gt 1 ]; do
    case $1 in
        --root) root=$2 ;;
        --log) log=$2 ;;
        --image-path) images=$2 ;;
        --bundle) bundle=$2 ;;
        --pid-file) pid_file=$2 ;;
    esac
    shift
done
id=$1
if [ -e "$folder/fail" ]; then
    echo '{"level":"error","msg":"not today"}' >>"$log"
    exit 1
fi
if [ "$verb" = checkpoint ]; then
    echo pages >"$images/pages.img"
else
    [ "$(cat "$images/pages.img")" = pages ] &&
        runc --root "$root" create --bundle "$bundle" --pid-file "$pid_file" "$id" &&
        runc --root "$root" start "$id"
fi
"#;

const IMAGE: &str = "docker.io/portcullis-test/checkpoint:1";

/// A checkpoint of a container, and the runtime that made it.
pub(crate) struct Checkpoint<'a> {
    ctx: &'a Ctx<'a>,
    runtime: Runtime<'a>,
}

/// The runtime in its folder; our shim is told of it by the node's settings.
struct Runtime<'a> {
    ctx: &'a Ctx<'a>,
    folder: PathBuf,
}

impl<'a> Runtime<'a> {
    fn install(ctx: &'a Ctx<'a>) -> Result<Self> {
        let folder = ctx.node().folder().join("runtime");
        std::fs::create_dir_all(&folder)?;
        let runtime = Self { ctx, folder };
        std::fs::write(runtime.program(), RUNTIME)?;
        std::fs::set_permissions(runtime.program(), std::fs::Permissions::from_mode(0o755))?;
        std::fs::create_dir_all(ctx.node().etc_portcullis())?;
        let settings = format!("[runtime]\nbinary = \"{}\"\n", runtime.program().display());
        std::fs::write(runtime.settings(), settings)?;
        Ok(runtime)
    }

    fn program(&self) -> PathBuf {
        self.folder.join("runtime.sh")
    }

    fn settings(&self) -> PathBuf {
        self.ctx.node().etc_portcullis().join("portcullis.toml")
    }

    /// Runs a container by it.
    fn run(&self, id: &str) -> Result<()> {
        let program = self.program().display().to_string();
        let flags = match self.ctx.door() {
            Door::Stock | Door::Wrapper => vec!["-d", "--runc-binary", &program],
            Door::Portcullis => vec!["-d"],
        };
        self.ctx.run(&flags, id, &["sleep", "1000"]).ok().map(drop)
    }

    fn fails(&self, fails: bool) -> Result<()> {
        let mark = self.folder.join("fail");
        match fails {
            true => std::fs::write(mark, "")?,
            false => std::fs::remove_file(mark)?,
        }
        Ok(())
    }

    /// What it has been called with since the last time: the arguments behind those that all calls
    /// have, with the folder of images, which is a new one each time, named `IMAGES`.
    fn calls(&self) -> Result<Vec<String>> {
        let file = self.folder.join("calls");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, "")?;
        Ok(text.lines().map(normal).collect())
    }

    fn bundle(&self, id: &str) -> String {
        let tasks = self.ctx.engine().state().join("io.containerd.runtime.v2.task/default");
        tasks.join(id).display().to_string()
    }
}

fn normal(call: &str) -> String {
    let mut words = call.split(' ').skip_while(|w| !matches!(*w, "checkpoint" | "restore"));
    let mut normal = Vec::new();
    while let Some(word) = words.next() {
        normal.push(word);
        if word == "--image-path" && words.next().is_some() {
            normal.push("IMAGES");
        }
    }
    normal.join(" ")
}

impl Drop for Runtime<'_> {
    fn drop(&mut self) {
        let _gone_is_well = std::fs::remove_file(self.settings());
        let _gone_is_well = std::fs::remove_dir_all(&self.folder);
    }
}

impl<'a> Checkpoint<'a> {
    /// Runs a container, makes a checkpoint of it, and takes the container away.
    pub(crate) fn of_a_container(ctx: &'a Ctx<'a>) -> Result<Self> {
        let runtime = Runtime::install(ctx)?;
        let id = ctx.id();
        runtime.run(&id)?;
        ctx.ctr(&["containers", "checkpoint", "--image", "--task", &id, IMAGE]).ok()?;
        if ctx.task(&id)?.is_some_and(|(_, state)| state == "RUNNING") {
            remove(ctx, &id)?;
        }
        runtime.calls()?;
        Ok(Self { ctx, runtime })
    }

    pub(crate) fn restored_id(&self) -> String {
        format!("{}-restored", self.ctx.id())
    }

    /// Restores it, and tells what the runtime was called with.
    pub(crate) fn restore(&mut self) -> Result<(Vec<String>, Output)> {
        let restore = ["containers", "restore", "--live", &self.restored_id(), IMAGE];
        let output = self.ctx.ctr(&restore).output()?;
        Ok((self.runtime.calls()?, output))
    }

    pub(crate) fn remove_restored(&self) -> Result<()> {
        remove(self.ctx, &self.restored_id())
    }
}

impl Drop for Checkpoint<'_> {
    fn drop(&mut self) {
        let _shown_by_the_next_case = self.ctx.ctr(&["images", "delete", "--sync", IMAGE]).output();
    }
}

fn made(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let runtime = Runtime::install(ctx)?;
    runtime.run(&id)?;
    let image = ctx.ctr(&["tasks", "checkpoint", &id]).ok()?.text();
    let work = format!("{}/{CRIU_WORK}", runtime.bundle(&id));
    let wanted = format!("checkpoint --image-path IMAGES --work-path {work} --leave-running {id}");
    let calls = runtime.calls()?;
    ensure!(calls == [wanted], "{calls:?}");
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    remove(ctx, &id)?;
    ctx.ctr(&["images", "delete", "--sync", image.trim()]).ok()?;
    Ok(())
}

/// The options of `ctr` reach the runtime.
fn exiting(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let runtime = Runtime::install(ctx)?;
    runtime.run(&id)?;
    let work = ctx.node().folder().join("criu").display().to_string();
    std::fs::create_dir_all(&work)?;
    let flags = ["tasks", "checkpoint", "--exit", "--work-path", &work, &id];
    let image = ctx.ctr(&flags).ok()?.text();
    let calls = runtime.calls()?;
    // `ctr` before 2.0 has options for the stock shim's name only.
    let told = ctx.door() == Door::Stock || !ctx.engine().engine().name().contains("-1.");
    let wanted = match told {
        true => format!("--work-path {work} {id}"),
        false => {
            format!("--work-path {}/{CRIU_WORK} --leave-running {id}", runtime.bundle(&id))
        }
    };
    ensure!(calls == [format!("checkpoint --image-path IMAGES {wanted}")], "{calls:?}");
    ensure!(std::fs::exists(&work)?, "the folder that was named is gone");
    remove(ctx, &id)?;
    ctx.ctr(&["images", "delete", "--sync", image.trim()]).ok()?;
    Ok(())
}

fn restored(ctx: &Ctx) -> Result<()> {
    let mut checkpoint = Checkpoint::of_a_container(ctx)?;
    let (calls, output) = checkpoint.restore()?;
    output.ok()?;
    let id = checkpoint.restored_id();
    let bundle = checkpoint.runtime.bundle(&id);
    let wanted = format!(
        "restore --image-path IMAGES --work-path {bundle}/work --detach \
         --pid-file {bundle}/init.pid -no-subreaper --bundle {bundle} {id}"
    );
    ensure!(calls == [wanted], "{calls:?}");
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    let exec = ctx.ctr(&["tasks", "exec", "--exec-id", "e", &id, "sh", "-c", "exit 6"]);
    exec.output()?.expect_code(6)?;
    ctx.ctr(&["tasks", "metrics", &id]).ok()?;
    checkpoint.remove_restored()
}

fn failed(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let runtime = Runtime::install(ctx)?;
    runtime.run(&id)?;
    runtime.fails(true)?;
    let output = ctx.ctr(&["tasks", "checkpoint", &id]).output()?;
    runtime.fails(false)?;
    ensure!(output.code() != 0 && !output.errors().is_empty(), "it failed without a word");
    ensure!(ctx.task(&id)?.unwrap_or_default().1 == "RUNNING");
    remove(ctx, &id)
}

fn not_restored(ctx: &Ctx) -> Result<()> {
    let mut checkpoint = Checkpoint::of_a_container(ctx)?;
    checkpoint.runtime.fails(true)?;
    let (calls, output) = checkpoint.restore()?;
    ensure!(calls.len() == 1, "{calls:?}");
    ensure!(
        output.errors().contains("OCI runtime restore failed: not today"),
        "{}",
        output.errors()
    );
    let id = checkpoint.restored_id();
    match ctx.door() {
        // `ctr` of 1.6 waits for ever for the end of what has not begun.
        Door::Stock | Door::Wrapper => {
            kill_shim(ctx)?;
            wait_for("the end of the task", PATIENCE, || {
                Ok(ctx.task(&id)?.is_none().then_some(()))
            })?;
            // What the client and the killed shim would have removed.
            for left in ["fifo", "s"] {
                std::fs::remove_dir_all(ctx.node().outside("/run/containerd").join(left))?;
            }
        }
        Door::Portcullis => {
            ctx.ctr(&["tasks", "delete", "--force", &id]).ok()?;
        }
    }
    ctx.ctr(&["containers", "delete", &id]).ok()?;
    Ok(())
}
