//! What one node has scanned and signed, another node need not scan: its agent takes the verdict from
//! the registry that the image is from. Without the registry it scans by itself, starts are decided as
//! before, and what is to be pushed is pushed later, once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::evidence::{EICAR, install_rules};
use portcullis_integration::image::{Entry, ImageBuilder, busybox_layer};
use portcullis_integration::node::Node;
use portcullis_integration::registry::Registry;
use portcullis_integration::rules::Rules;
use portcullis_integration::starter::Start;
use portcullis_integration::wait_for;

use crate::agent::Agent;
use crate::follow::{is_known, own_door, write_settings};
use crate::{Case, Ctx};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "what_another_node_has_scanned_is_taken_over".to_owned(),
        run: Box::new(shared),
        // One way of each kind of storage that knows an image's manifest.
        fits: |way| {
            let is_one = (way.is_newest_containerd() && !way.has_pods())
                || ["podman-4.3-runc", "docker-28"].contains(&way.engine());
            way.door == own_door(way) && !way.is_advisory() && is_one
        },
    }]
}

const ADDRESS: &str = "127.0.0.1:5000";
const IMAGE: &str = "127.0.0.1:5000/team/bad:1";
const FOUND: &str = "1 critical malicious file (Eicar_Test_File srv/bad)";
const POLICY: &str = "unscanned: { action: block }\nrules: [{ class: malware, action: block }]";
/// Longer than all takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A pair of keys, made as the documentation says; the public one alone is on both nodes.
fn make_keys(node: &Node, folder: &Path) -> Result<()> {
    let (private, public) = (folder.join("verdicts.key"), folder.join("verdicts.pub"));
    let (private, public) = (private.display().to_string(), public.display().to_string());
    let openssl = |args: &[&str]| node.run("openssl").args(args).ok().map(drop);
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private])?;
    openssl(&["pkey", "-in", &private, "-pubout", "-out", &public])
}

/// A start that is refused for this reason.
fn refused(ctx: &Ctx, id: &str, why: &str) -> Result<()> {
    let told = ctx.starter.run(&Start::new(IMAGE, id, &["true"]))?;
    ensure!(told.code != 0 && told.errors.contains(why), "{told:?}");
    Ok(())
}

fn shared(ctx: &Ctx) -> Result<()> {
    let (starter, node) = (ctx.starter, ctx.starter.node());
    let bad = Entry::File("srv/bad".into(), 0o644, EICAR.concat().into());
    let image =
        ImageBuilder::new(IMAGE).layer(busybox_layer()?).layer([bad]).build(ctx.images.folder())?;
    let scanned = format!("{} is scanned, in", image.config_digest);
    let registry = Registry::start(node, ADDRESS)?;
    let keys = tempfile::tempdir_in(node.folder())?;
    make_keys(node, keys.path())?;
    let key = |name: &str| keys.path().join(name).display().to_string();

    // The first node scans, signs and pushes.
    let rules = Rules::new(node, starter.settings(), POLICY)?;
    install_rules(&node.etc_portcullis())?;
    let signs = format!("[registry]\npush = true\nsigningKey = {:?}", key("verdicts.key"));
    write_settings(ctx, &signs)?;
    starter.import(&image)?;
    starter.push(IMAGE)?;
    registry.end()?;
    let agent = Agent::start(node)?;
    wait_for("a scan", LIMIT, || Ok(is_known(&rules, &image)?.then_some(())))?;
    refused(ctx, "alone", FOUND)?;
    wait_for("an attempt", LIMIT, || Ok(agent.said().contains("are pushed later").then_some(())))?;
    let registry = Registry::start(node, ADDRESS)?;
    let verdicts = registry.referrers("team/bad").with_context(|| agent.said())?;
    ensure!(verdicts.len() == 1, "{verdicts:#?}");
    agent.end()?;
    drop(rules);

    // The second one trusts the key. It knows nothing of malware itself, so that what it says is from
    // the first one.
    let rules = Rules::new(node, starter.settings(), POLICY)?;
    let trusts = format!("[registry]\ntrustedKeys = [{:?}]", key("verdicts.pub"));
    write_settings(ctx, &trusts)?;
    refused(ctx, "unknown", "not scanned")?;
    let agent = Agent::start(node)?;
    wait_for("the verdict", LIMIT, || Ok(is_known(&rules, &image)?.then_some(())))?;
    refused(ctx, "told", FOUND)?;
    let said = agent.end()?;
    ensure!(said.contains(&format!("{} has a verdict signed by", image.config_digest)), "{said}");
    ensure!(said.contains("and needs no scan"), "{said}");
    ensure!(!said.contains(&scanned), "{said}");
    drop(rules);

    // Without the registry it scans by itself.
    registry.end()?;
    let rules = Rules::new(node, starter.settings(), POLICY)?;
    install_rules(&node.etc_portcullis())?;
    write_settings(ctx, &trusts)?;
    let agent = Agent::start(node)?;
    wait_for("a scan", LIMIT, || Ok(is_known(&rules, &image)?.then_some(())))?;
    refused(ctx, "scanned", FOUND)?;
    let said = agent.end()?;
    ensure!(said.contains(&scanned) && !said.contains("needs no scan"), "{said}");
    fs::remove_dir_all(node.folder().join("registry"))?;
    starter.forget(IMAGE)?;
    starter.tidy()
}
