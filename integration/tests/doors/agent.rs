//! An image that nobody has scanned is scanned by the agent when it starts, if the policy wants that.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::own_binaries;
use portcullis_integration::evidence::{EICAR, install_rules};
use portcullis_integration::image::{Entry, ImageBuilder, busybox_layer};
use portcullis_integration::node::{Node, signal};
use portcullis_integration::rules::Rules;
use portcullis_integration::run::Running;
use portcullis_integration::starter::{Start, Starter, Told};
use portcullis_integration::suite::Door;
use portcullis_integration::wait_for;
use rustix::process::Signal;
use serde_json::Value;

use crate::{Case, Ctx};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case {
        name: "an_unscanned_image_is_scanned_by_the_agent".to_owned(),
        run: Box::new(scanned),
        // A user without root may not ask.
        fits: |way| way.door != Door::Stock && !way.is_advisory(),
    }]
}

const BAD: &str = "docker.io/portcullis-test/bad:1";
const SOCKET: &str = "/run/portcullis/agent.sock";
/// Longer than a scan takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The agent of a node.
pub(crate) struct Agent<'n> {
    node: &'n Node,
    running: Option<Running>,
}

impl<'n> Agent<'n> {
    pub(crate) fn start(node: &'n Node) -> Result<Self> {
        let running = node.inside().daemon(own_binaries().join("portcullisd")).spawn()?;
        let mut agent = Self { node, running: Some(running) };
        let socket = agent.outside();
        wait_for("the agent", LIMIT, || {
            let running = agent.running.as_mut().context("it runs")?;
            ensure!(running.ended()?.is_none(), "the agent ended: {}", running.errors_so_far());
            Ok(socket.exists().then_some(()))
        })?;
        Ok(agent)
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.running.as_ref().map(Running::errors_so_far).unwrap_or_default()
    }

    fn outside(&self) -> PathBuf {
        self.node.outside(SOCKET)
    }

    /// Ends it as nobody should.
    pub(crate) fn kill(mut self) -> Result<()> {
        let running = self.running.take().context("it runs")?;
        signal(running.inner()?, Signal::KILL)?;
        running.wait().map(drop)
    }

    /// Ends it as systemd does, takes away what systemd would, and tells what it said.
    pub(crate) fn end(mut self) -> Result<String> {
        let running = self.running.take().context("it runs")?;
        signal(running.inner()?, Signal::TERM)?;
        let output = running.wait()?.ok()?;
        ensure!(output.errors().contains("ending"), "{}", output.errors());
        ensure!(!self.outside().exists(), "its socket is left");
        Ok(output.errors().to_owned())
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _it_may_have_ended = running.kill();
        }
        let _gone_is_well = self.outside().parent().map(fs::remove_dir_all);
    }
}

fn scanned(ctx: &Ctx) -> Result<()> {
    let starter = ctx.starter;
    let policy = "unscanned: { action: block, scan: true }\nrules: [{ class: malware, action: block }]\n\
         onFailure: { deadline: block }";
    let rules = Rules::new(starter.node(), starter.settings(), policy)?;
    // As install.sh writes it.
    let malware = install_rules(&starter.node().etc_portcullis())?;
    let bad = Entry::File("srv/bad".into(), 0o644, EICAR.concat().into());
    let image =
        ImageBuilder::new(BAD).layer(busybox_layer()?).layer([bad]).build(ctx.images.folder())?;
    starter.import(&image)?;
    let good = &ctx.images.busybox.name;

    let refused = starter.run(&Start::new(good, "absent", &["true"]))?;
    let line = format!("not scanned (no agent answers at {SOCKET}");
    ensure!(refused.code != 0 && refused.errors.contains(&line), "{refused:?}");

    // Doors alone ask it.
    let node_settings = starter.node().etc_portcullis().join("portcullis.toml");
    let tables = starter.settings().tables();
    fs::write(node_settings, format!("[agent]\nfollow = []\n{tables}"))?;
    let agent = Agent::start(starter.node())?;
    let told = decided(starter, good, "good")?;
    ensure!(told.code == 0, "{told:?}");
    let told = decided(starter, BAD, "bad")?;
    let line = "1 critical malicious file (Eicar_Test_File srv/bad)";
    ensure!(told.code != 0 && told.errors.contains(line), "{told:?}");
    let status: Value =
        serde_json::from_str(&rules.portcullis(&["--output", "json", "status"]).ok()?.text())?;
    // A door that asks just after the end of a scan has the image scanned once more.
    let scanned = status["agent"]["scanned"].as_u64();
    ensure!(scanned >= Some(2) && status["agent"]["failed"] == 0, "{status:#}");

    agent.end()?;
    // What is known stays known.
    starter.run(&Start::new(good, "known", &["true"]))?.ok()?;
    starter.forget(BAD)?;
    starter.tidy()?;
    fs::remove_dir_all(&malware)?;
    Ok(())
}

/// Starts a container as a kubelet does: again, as long as its image is being scanned.
fn decided(starter: &dyn Starter, image: &str, id: &str) -> Result<Told> {
    let mut attempt = 0;
    wait_for("a scan", LIMIT, || {
        attempt += 1;
        let told = starter.run(&Start::new(image, &format!("{id}-{attempt}"), &["true"]))?;
        let again = [
            "not scanned (the agent is scanning it)",
            "not scanned (the agent did not answer in time)",
            "the gate's time was up",
        ];
        let again = again.iter().any(|line| told.errors.contains(line));
        ensure!(again || !told.errors.contains("not scanned"), "{told:?}");
        Ok((!again).then_some(told))
    })
}
