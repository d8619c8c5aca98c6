//! `install.sh --try`: four images are scanned and started by a real containerd through our shim: one
//! allowed, one alarmed for its accounts, one refused for a vulnerability and one for malware, told
//! in plain words. All of it in a node of its own that is gone afterwards; nothing on the machine is
//! touched.
//!
//! Exit code 0 if the four starts went as told, 1 if not.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::engine::{Engine, RunningEngine, own_binaries};
use portcullis_integration::evidence::{EICAR, install_rules};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_integration::leak::Snapshot;
use portcullis_integration::run::{Output, Run};

const POLICY: &str = "\
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata:
  name: demo
spec:
  description: Refuse malware, and what is critical and can be mended; warn of dangerous accounts.
  rules:
    - class: malware
      action: block
    - class: vulnerability
      severity: [critical]
      fixable: true
      action: block
    - class: baseline
      severity: [critical, high]
      action: alarm
";

/// Advisories of OSV as they are published, but one alone.
const ADVISORY: &str = r#"{
  "schema_version": "1.7.0",
  "id": "DEBIAN-CVE-2024-3094",
  "upstream": ["CVE-2024-3094"],
  "modified": "2026-11-01T00:00:00Z",
  "published": "2024-03-29T17:15:21Z",
  "summary": "Malicious code was discovered in the upstream tarballs of xz",
  "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H" }],
  "affected": [{
    "package": { "ecosystem": "Debian:12", "name": "xz-utils" },
    "ranges": [{
      "type": "ECOSYSTEM",
      "events": [{ "introduced": "5.5.1alpha-0.1" }, { "fixed": "5.6.1+really5.4.5-1" }]
    }]
  }]
}"#;

const RELEASE: &str =
    "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\n";

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

/// One of the starts.
struct Start {
    name: &'static str,
    /// What the image has beside a shell.
    files: &'static [(&'static str, &'static [&'static str])],
    story: &'static str,
    action: &'static str,
}

const STARTS: [Start; 4] = [
    Start {
        name: "shop",
        files: &[
            ("var/lib/dpkg/status", &[XZ, "Version: 5.4.1-0.2\n"]),
            ("etc/passwd", &[ACCOUNTS]),
        ],
        story: "The scanner found nothing that the policy minds: it starts.",
        action: "allow",
    },
    Start {
        name: "blog",
        files: &[
            ("etc/passwd", &[ACCOUNTS, "guest:x:0:0::/tmp:/bin/sh\n"]),
            ("etc/shadow", &["root:*:19700:0:99999:7:::\nguest::19700:0:99999:7:::\n"]),
        ],
        story: "A second root account without a password: it starts, and the node's journal warns.",
        action: "alarm",
    },
    Start {
        name: "bank",
        files: &[
            ("var/lib/dpkg/status", &[XZ, "Version: 5.6.0-0.2\n"]),
            ("etc/passwd", &[ACCOUNTS]),
        ],
        story: "A critical vulnerability that has a fix: it does not start, and says why.",
        action: "block",
    },
    Start {
        name: "mall",
        files: &[("srv/upload/invoice.com", &EICAR), ("etc/passwd", &[ACCOUNTS])],
        story: "A malicious file: it does not start.",
        action: "block",
    },
];

const XZ: &str = "Package: xz-utils\nStatus: install ok installed\nArchitecture: amd64\n";

fn tried() -> Result<()> {
    let engine = Engine::all().into_iter().next().context("no engine is known")?;
    say(&format!(
        "A containerd {} of its own starts, with a journal, in namespaces of its own.\n",
        engine.version()
    ))?;
    let folder = tempfile::tempdir()?;
    let mut images = Vec::new();
    for start in &STARTS {
        let file = |path: &str, parts: &[&str]| {
            let mode = if path.ends_with("shadow") { 0o640 } else { 0o644 };
            Entry::File(path.into(), mode, parts.concat().into())
        };
        let mut entries = vec![file("etc/os-release", &[RELEASE])];
        entries.extend(start.files.iter().map(|(path, parts)| file(path, parts)));
        let name = format!("registry.example.com/{}:1.0", start.name);
        let image = ImageBuilder::new(name).layer(busybox_layer()?).layer(entries);
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

    say(
        "What is known of vulnerabilities (one advisory of OSV), and of malware (the rules that come with it):\n",
    )?;
    let advisory = running.node().folder().join("osv.json");
    std::fs::write(&advisory, ADVISORY)?;
    node.portcullis(&["db", "update", &advisory.display().to_string()])?;
    install_rules(&running.node().etc_portcullis())?;

    say("Four images come to the node, and are scanned where containerd keeps them:\n")?;
    images.iter().try_for_each(|image| running.import("default", image))?;
    let socket = running.socket().display().to_string();
    let names = images.iter().map(|image| image.name.as_str());
    let scan = ["scan", "--address", &socket, "--severity", "critical,high", "--no-clamd"];
    let scanned = node.portcullis(&scan.into_iter().chain(names).collect::<Vec<_>>())?;
    for id in ["CVE-2024-3094", "Eicar_Test_File", "account-uid0-not-root"] {
        ensure!(scanned.contains(id), "the scan does not tell of {id}");
    }
    ensure!(scanned.contains("known before"), "a layer that the images share was read again");

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
    let rows: Vec<serde_json::Value> = serde_json::from_str(&list)?;
    let mut bank = rows.iter().filter(|row| row.to_string().contains("/bank:"));
    let id = bank.find_map(|row| row["event"]["id"].as_str().or(row["id"].as_str()));
    let id = id.context("no event of bank")?;
    ensure!(journal.text().contains(id), "the journal does not have the event {id}");
    node.portcullis(&["events", "verify"])?;

    say("Why, finding by finding, and what would let it start:\n")?;
    let explained = node.portcullis(&["explain", id])?;
    ensure!(explained.contains("update xz-utils"), "explain names no update");
    say("What a policy would change that refuses dangerous accounts too:\n")?;
    let folder = running.node().folder().join("stricter");
    std::fs::create_dir(&folder)?;
    let stricter = POLICY.replace("action: alarm", "action: block");
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
