//! `install.sh --try`: real containers started by a real containerd through our shim, one allowed,
//! one alarmed, one refused, told in plain words. All of it in a node of its own that is gone
//! afterwards; nothing on the machine is touched.
//!
//! Exit code 0 if the three starts went as told, 1 if not.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::{Engine, RunningEngine, own_binaries};
use portcullis_integration::evidence::{CRITICAL, MEDIUM, Vulnerability, write_report};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_integration::leak::Snapshot;
use portcullis_integration::run::{Output, Run};

const POLICY: &str = "\
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata:
  name: demo
spec:
  description: Refuse what is critical and can be mended; warn of the rest.
  rules:
    - class: vulnerability
      severity: [critical]
      fixable: true
      action: block
    - class: vulnerability
      severity: [medium]
      action: alarm
";

fn main() -> ExitCode {
    match tried() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _terminal_gone = writeln!(std::io::stderr(), "\nIt did not go as told: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a paragraph.
fn say(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Prints what a command printed, set off.
fn show(command: &str, text: &str) -> Result<()> {
    say(&format!("  $ {command}"))?;
    text.lines().try_for_each(|line| say(&format!("  {line}")))?;
    say("")
}

/// One of the three starts.
struct Start {
    name: &'static str,
    found: &'static [Vulnerability],
    story: &'static str,
    action: &'static str,
}

const STARTS: [Start; 3] = [
    Start {
        name: "shop",
        found: &[],
        story: "The scanner found nothing in it: it starts.",
        action: "allow",
    },
    Start {
        name: "blog",
        found: &[MEDIUM],
        story: "A vulnerability of medium severity: it starts, and the node's journal warns.",
        action: "alarm",
    },
    Start {
        name: "bank",
        found: &[CRITICAL, MEDIUM],
        story: "A critical vulnerability that has a fix: it does not start, and says why.",
        action: "block",
    },
];

fn tried() -> Result<()> {
    let engine = Engine::all().into_iter().next().context("no engine is known")?;
    say(&format!(
        "A containerd {} of its own starts, with a journal, in namespaces of its own.\n",
        engine.version()
    ))?;
    let folder = tempfile::tempdir()?;
    let mut images = Vec::new();
    for start in &STARTS {
        let mark = Entry::File("etc/name".into(), 0o644, start.name.into());
        let name = format!("registry.example.com/{}:1.0", start.name);
        let image = ImageBuilder::new(name).layer(busybox_layer()?).layer([mark]);
        images.push(image.build(folder.path())?);
    }
    let running = engine.start(&images[0])?;
    let node = Node { running: &running };
    let before = Snapshot::of(&running)?;

    say("The policy:\n")?;
    POLICY.lines().try_for_each(|line| say(&format!("  {line}")))?;
    say("")?;
    let policies = running.node().etc_portcullis().join("policies");
    std::fs::create_dir_all(&policies)?;
    std::fs::write(policies.join("demo.yaml"), POLICY)?;
    node.portcullis(&["policy", "apply"])?;

    say("What a scanner said of three images (reports in Trivy's JSON):\n")?;
    for (start, image) in STARTS.iter().zip(&images) {
        running.import("default", image)?;
        let report = folder.path().join(format!("{}.json", start.name));
        write_report(&report, image, start.found)?;
        let inside = running.node().folder().join(format!("{}.json", start.name));
        std::fs::copy(&report, &inside)?;
        node.portcullis(&["import", &inside.display().to_string()])?;
    }

    for (start, image) in STARTS.iter().zip(&images) {
        say(&format!("{}: {}\n", image.name, start.story))?;
        let output = node.start(image, start.name)?;
        let blocked = output.code() != 0;
        ensure!(blocked == (start.action == "block"), "{}: {}", start.name, output.errors());
    }

    say("The same, in the node's journal:\n")?;
    let journal = node.run("journalctl", &["-t", "portcullis", "--no-pager", "-o", "short"])?;
    show("journalctl -t portcullis", &journal.text())?;
    say("And in the ledger, a chain of hashes:\n")?;
    let events = node.portcullis(&["events", "list"])?;
    for start in &STARTS {
        let told = events.lines().any(|l| l.contains(start.action) && l.contains(start.name));
        ensure!(told, "no event says {} of {}", start.action, start.name);
    }
    let list = node.quiet(&["--output", "json", "events", "list", "--action", "block"])?;
    let id = list.split("\"id\": \"").nth(1).and_then(|t| t.get(..26)).context("no event id")?;
    ensure!(journal.text().contains(id), "the journal does not have the event {id}");
    node.portcullis(&["events", "verify"])?;

    say("Why, finding by finding, and what would let it start:\n")?;
    let explained = node.portcullis(&["explain", id])?;
    ensure!(explained.contains("update xz-utils"), "explain names no update");
    say("What a policy would change that refuses medium severities too:\n")?;
    let folder = running.node().folder().join("stricter");
    std::fs::create_dir(&folder)?;
    let stricter = POLICY.replace("[medium]\n      action: alarm", "[medium]\n      action: block");
    std::fs::write(folder.join("demo.yaml"), stricter)?;
    let simulated = node.portcullis(&["simulate", "--policies", &folder.display().to_string()])?;
    ensure!(simulated.contains("1 would be decided otherwise"), "simulate sees no change");

    before.expect_nothing_more(&running)?;
    drop(running);
    say("Everything is gone again: no process, mount, socket, cgroup or file is left of it.")
}

struct Node<'a> {
    running: &'a RunningEngine,
}

impl Node<'_> {
    fn run(&self, program: &str, args: &[&str]) -> Result<Output> {
        self.running.node().run(program).args(args).ok()
    }

    fn quiet(&self, args: &[&str]) -> Result<String> {
        let program = own_binaries().join("portcullis");
        Ok(self.running.node().run(program).args(args).ok()?.text())
    }

    /// Runs our command and shows it.
    fn portcullis(&self, args: &[&str]) -> Result<String> {
        let text = self.quiet(args)?;
        let folder = self.running.node().folder().display().to_string();
        let command = format!("portcullis {}", args.join(" "));
        show(
            &command.replace(&format!("{folder}/"), ""),
            &text.replace(&format!("{folder}/"), ""),
        )?;
        Ok(text)
    }

    fn start(&self, image: &BuiltImage, id: &str) -> Result<Output> {
        let ctr: Run = self.running.ctr("default");
        let runtime = "io.containerd.portcullis.v2";
        let run = ctr.args(["run", "--rm", "--runtime", runtime, &image.name, id]);
        let output = run.args(["echo", "it runs"]).output()?;
        let text = [output.text(), output.errors()].join("\n");
        show(&format!("ctr run --rm --runtime {runtime} {} {id}", image.name), text.trim())?;
        // A refused container's record stays with every shim; Debian's ctr leaves it there.
        let _removed_by_rm_in_some_versions =
            self.running.ctr("default").args(["containers", "delete", id]).output()?;
        Ok(output)
    }
}
