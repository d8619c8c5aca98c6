//! What the other cases rely on: a node is private, and its journal is a real one.

use std::path::Path;

use anyhow::{Result, ensure};
use portcullis_integration::journal::Mark;
use portcullis_integration::suite::{Case, Ctx, Door};

pub(crate) const CASES: &[Case] = &[
    Case::new("a_node_is_private", private).only(&[Door::Stock]),
    Case::new("a_nodes_journal_is_read", journal).only(&[Door::Stock]),
];

fn private(ctx: &Ctx) -> Result<()> {
    let name = format!("portcullis-test-{}", std::process::id());
    for folder in ["/etc", "/run", "/run/containerd", "/var/lib"] {
        let file = format!("{folder}/{name}");
        ctx.in_namespace("touch").arg(&file).ok()?;
        ensure!(ctx.node().outside(&file).exists(), "{file} is not seen in the node");
        ensure!(!Path::new(&file).exists(), "{file} was made on the machine");
        ctx.in_namespace("rm").arg(&file).ok()?;
    }
    let (folder, node) = (ctx.node().etc_portcullis(), ctx.node().outside("/etc/portcullis"));
    std::fs::write(folder.join(&name), "seen")?;
    ensure!(std::fs::read_to_string(node.join(&name))? == "seen");
    std::fs::remove_file(folder.join(&name))?;
    let inside = ctx.in_namespace("readlink").arg("/proc/self/ns/net").ok()?.text();
    let outside = std::fs::read_link("/proc/self/ns/net")?;
    ensure!(outside != Path::new(&inside), "the network is that of the machine");
    Ok(())
}

fn journal(ctx: &Ctx) -> Result<()> {
    const SENDER: &str = "portcullis-test";
    let log = |text: &str| {
        let cat = ctx.in_namespace("systemd-cat").args(["-t", SENDER, "-p", "warning"]);
        cat.args(["echo", text]).ok().map(drop)
    };
    log("before")?;
    let begin = Mark::default();
    ctx.journal().wait_for(SENDER, &begin, |entry| entry["MESSAGE"] == "before")?;
    let mark = ctx.journal().mark(SENDER)?;
    log("after")?;
    let entry = ctx.journal().wait_for(SENDER, &mark, |entry| entry["MESSAGE"] == "after")?;
    ensure!(entry["PRIORITY"] == "4", "{entry:#}");
    let entries = ctx.journal().since(SENDER, &mark)?;
    ensure!(entries.iter().all(|entry| entry["MESSAGE"] != "before"), "{entries:#?}");
    Ok(())
}
