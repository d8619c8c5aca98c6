//! What a container may use, and what happens when it wants more.

use anyhow::{Result, ensure};
use portcullis_integration::shim::Any;
use portcullis_integration::suite::{Capability, Case, Ctx, Door};
use portcullis_integration::{PATIENCE, wait_for};
use prost::Message as _;

use crate::faults::kill_shim;

pub(crate) const CASES: &[Case] = &[
    Case::new("running_out_of_memory_is_reported_on_cgroup_v1", out_of_memory)
        .needs(&[Capability::CgroupV1]),
    Case::new("running_out_of_memory_is_reported_on_cgroup_v2", out_of_memory)
        .needs(&[Capability::CgroupV2]),
    Case::new("a_shim_joins_the_cgroup_of_its_options", shim_cgroup),
];

fn out_of_memory(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let mut events = ctx.ctr(&["events"]).spawn()?;
    // It tells of what happens after it has subscribed, and does not say when that is.
    wait_for("the first event", PATIENCE, || {
        let image = ctx.images().busybox.name.as_str();
        ctx.ctr(&["images", "label", image, "watched=true"]).ok()?;
        Ok((!events.stdout_so_far().is_empty()).then_some(()))
    })?;
    let limit = ["--rm", "--memory-limit", "16777216"];
    // It looks for the end of an endless line.
    let output = ctx.run(&limit, &id, &["tail", "/dev/zero"]).output()?;
    output.expect_code(137)?;
    // What containerd tells of its own may come before what a shim tells.
    events.wait_for_text("/containers/delete")?;
    // The stock shim may end before it has told of its task.
    if ctx.door() != Door::Stock {
        events.wait_for_text("/tasks/oom")?;
        events.wait_for_text("/tasks/delete")?;
    }
    events.kill()
}

/// Started as containerd starts it: `ctr` has no flag for this.
fn shim_cgroup(ctx: &Ctx) -> Result<()> {
    const CGROUP: &str = "/shims-of-the-node";
    let bundle = ctx.node().folder().join("shim-cgroup");
    std::fs::create_dir_all(&bundle)?;
    std::fs::write(bundle.join("config.json"), "{}")?;
    let in_each = |command: &str| {
        let script = format!(
            "for top in $(findmnt -rn -t cgroup,cgroup2 -o TARGET); do {command} $top{CGROUP}; done"
        );
        ctx.in_namespace("sh").args(["-c", &script]).ok().map(drop)
    };
    in_each("mkdir")?;

    // `containerd.runc.v1.Options` with its third field, `shim_cgroup`.
    let mut value = vec![0x1a, u8::try_from(CGROUP.len())?];
    value.extend(CGROUP.bytes());
    let options = Any { type_url: "containerd.runc.v1.Options".to_owned(), value };
    let socket = ctx.engine().socket().display().to_string();
    let start = ["-namespace", "default", "-address", &socket, "-id", &ctx.id(), "start"];
    ctx.in_namespace("sh")
        // It reads the score of its parent, which must be one of the node's.
        .args(["-c", "cd $0 && mkfifo log && \"$@\" && true"])
        .arg(&bundle)
        .arg(ctx.shim())
        .args(start)
        .env("TTRPC_ADDRESS", format!("{socket}.ttrpc"))
        .stdin(options.encode_to_vec())
        .ok()?;
    let shims = ctx.shims();
    ensure!(shims.len() == 1, "shims: {shims:?}");
    let joined = std::fs::read_to_string(ctx.node().outside(format!("/proc/{}/cgroup", shims[0])))?;
    kill_shim(ctx)?;
    wait_for("the end of the shim", PATIENCE, || Ok(ctx.shims().is_empty().then_some(())))?;
    // One that is killed leaves its socket.
    std::fs::remove_dir_all(ctx.node().outside("/run/containerd/s"))?;
    std::fs::remove_dir_all(bundle)?;
    in_each("rmdir")?;
    // A hybrid machine has the controllers in v1, and its unified hierarchy without any.
    let wrong = joined.lines().find(|l| !l.starts_with("0::") && !l.ends_with(CGROUP));
    ensure!(joined.contains(CGROUP) && wrong.is_none(), "{joined}");
    Ok(())
}
