//! What a container may use, and what happens when it wants more.

use std::time::Duration;

use anyhow::{Result, ensure};
use portcullis_integration::suite::{Capability, Case, Ctx, Door};
use portcullis_integration::wait_for;

pub(crate) const CASES: &[Case] = &[
    Case::new("running_out_of_memory_is_reported_on_cgroup_v1", out_of_memory)
        .needs(&[Capability::CgroupV1]),
    Case::new("running_out_of_memory_is_reported_on_cgroup_v2", out_of_memory)
        .needs(&[Capability::CgroupV2]),
];

fn out_of_memory(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let mut events = ctx.ctr(&["events"]).spawn()?;
    // It tells of what happens after it has subscribed, and does not say when that is.
    wait_for("the first event", Duration::from_secs(10), || {
        let image = ctx.images().busybox.name.as_str();
        ctx.ctr(&["images", "label", image, "watched=true"]).ok()?;
        Ok((!events.stdout_so_far().is_empty()).then_some(()))
    })?;
    let limit = ["--rm", "--memory-limit", "16777216"];
    // It looks for the end of an endless line.
    let output = ctx.run(&limit, &id, &["tail", "/dev/zero"]).output()?;
    output.expect_code(137)?;
    // The stock shim may end before it has told of its task's end; containerd tells of its own.
    events.wait_for_text("/containers/delete")?;
    let seen = events.stdout_so_far();
    events.kill()?;
    ensure!(seen.contains("/tasks/oom"), "{seen}");
    ensure!(ctx.door() == Door::Stock || seen.contains("/tasks/delete"), "{seen}");
    Ok(())
}
