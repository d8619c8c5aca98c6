//! What a container may use, and what happens when it wants more.

use anyhow::{Result, ensure};
use portcullis_integration::suite::{Capability, Case, Ctx};

pub(crate) const CASES: &[Case] = &[
    Case::new("running_out_of_memory_is_reported_on_cgroup_v1", out_of_memory)
        .needs(&[Capability::CgroupV1]),
    Case::new("running_out_of_memory_is_reported_on_cgroup_v2", out_of_memory)
        .needs(&[Capability::CgroupV2]),
];

fn out_of_memory(ctx: &Ctx) -> Result<()> {
    let id = ctx.id();
    let mut events = ctx.ctr(&["events"]).spawn()?;
    // It tells of the first event that comes after it has subscribed.
    ctx.ctr(&["containers", "list"]).ok()?;
    let limit = ["--rm", "--memory-limit", "16777216"];
    // The last pipe of `tail` grows without end.
    let output = ctx.run(&limit, &id, &["tail", "/dev/zero"]).output()?;
    output.expect_code(137)?;
    // A shim that ends at once may not have told of its task's end; containerd tells of its own.
    events.wait_for_text("/containers/delete")?;
    let seen = events.stdout_so_far();
    events.kill()?;
    ensure!(seen.contains("/tasks/oom"), "{seen}");
    Ok(())
}
