//! What one node costs its API server: requests and bytes for a change of a policy, for a refused pod
//! and for a time of rest, as the API server's audit log and the pod's network tell them.
//!
//! `docs/scale.md` has the figures, and what follows from them for 5,000 nodes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portcullis_integration::cluster::{Cluster, agent_image, pod};
use portcullis_integration::evidence::{CRITICAL, write_report};
use portcullis_integration::image::{ImageBuilder, busybox_layer};
use serde_json::Value;

const POLICY: &str = r#"
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata: { name: production }
spec:
  description: DESCRIPTION
  rules:
    - { class: vulnerability, severity: [critical], fixable: true, action: block }
"#;

/// How long what a change leads to may take.
const SETTLE: Duration = Duration::from_secs(20);

/// Measures, with a rest of so many seconds.
pub(crate) fn measure(seconds: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = |name: &str| {
        ImageBuilder::new(format!("registry.example.com/{name}:1.0"))
            .layer(busybox_layer()?)
            .env(format!("NAME={name}"))
            .command(["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"])
            .build(folder.path())
    };
    let (bad, pause) = (image("bad")?, image("pause")?);
    let cluster = Cluster::start(&pause)?;
    for image in [&bad, &agent_image(folder.path())?] {
        cluster.import(image)?;
    }
    cluster.install()?;
    // Kubelet's probes would be counted with the rest of the pod's network.
    let probes = r#"[{"op":"remove","path":"/spec/template/spec/containers/0/livenessProbe"},
        {"op":"remove","path":"/spec/template/spec/containers/0/readinessProbe"}]"#;
    let patch =
        ["patch", "-n", "portcullis-system", "daemonset", "portcullis", "--type=json", "-p"];
    cluster.kubectl(&[&patch[..], &[probes]].concat()).ok()?;
    let rollout = ["-n", "portcullis-system", "rollout", "status", "daemonset/portcullis"];
    cluster.kubectl(&rollout).limit(Duration::from_secs(90)).ok()?;
    cluster.make_namespace("shop")?;
    let report = cluster.node().folder().join("report.json");
    write_report(&report, &bad, &[CRITICAL])?;
    let import = cluster.node().run("/usr/local/bin/portcullis").arg("import").arg(&report);
    import.ok()?;
    cluster.apply(&POLICY.replace("DESCRIPTION", "first"))?;
    in_force(&cluster)?;
    std::thread::sleep(SETTLE);

    let measured = |what: &str, times: f64, act: &dyn Fn() -> Result<()>| -> Result<()> {
        let before = Seen::now(&cluster)?;
        act()?;
        let after = Seen::now(&cluster)?;
        after.tell(&before, what, times)
    };
    measured("a change of a policy", 1.0, &|| {
        cluster.apply(&POLICY.replace("DESCRIPTION", "second"))?;
        in_force(&cluster)?;
        std::thread::sleep(SETTLE);
        Ok(())
    })?;
    measured("a refused pod: an Event and a result", 1.0, &|| {
        cluster.apply(&pod("shop", "bad", &bad.name))?;
        cluster.wait_until("the report has it", || {
            let report = cluster.get(&["-n", "shop", "policyreport", "portcullis"])?;
            Ok(report["summary"]["fail"] == 1)
        })?;
        std::thread::sleep(SETTLE);
        Ok(())
    })?;
    cluster.kubectl(&["delete", "-n", "shop", "pod", "bad", "--wait=true"]).ok()?;
    std::thread::sleep(SETTLE);
    measured("an hour of rest", 3600.0 / seconds as f64, &|| {
        std::thread::sleep(Duration::from_secs(seconds));
        Ok(())
    })
}

fn in_force(cluster: &Cluster) -> Result<()> {
    cluster.wait_until("the policy is in force", || {
        let policy = cluster.get(&["protectionpolicy", "production"])?;
        let status = &policy["status"];
        Ok(status["inForce"] == 1
            && status["observedGeneration"] == policy["metadata"]["generation"])
    })
}

/// What the API server has seen of the agent so far.
struct Seen {
    requests: BTreeMap<String, u64>,
    received: u64,
    sent: u64,
}

impl Seen {
    fn now(cluster: &Cluster) -> Result<Self> {
        let log = std::fs::read_to_string(cluster.node().folder().join("audit.log"))?;
        let mut requests = BTreeMap::new();
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line)?;
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let object = &entry["objectRef"];
            let of = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            // One object is watched by each node; all of them by the agent that sums up.
            let one = text("requestURI").contains("fieldSelector") || object["name"].is_string();
            let is_leader = match (of("resource").as_str(), of("subresource").as_str()) {
                ("nodeprotections", "") => !one,
                ("protectionpolicies", "status") => true,
                ("leases", "") => text("verb") == "update",
                _ => false,
            };
            let slash = if of("subresource").is_empty() { "" } else { "/" };
            let who = if is_leader { " (the one that sums up)" } else { "" };
            let what =
                format!("{} {}{slash}{}{who}", text("verb"), of("resource"), of("subresource"));
            *requests.entry(what).or_insert(0) += 1;
        }
        let table = "exec cat /proc/$(pidof portcullisd)/net/dev";
        let table = cluster.node().run("sh").args(["-c", table]).ok()?.text();
        let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let numbers: Vec<u64> = line
            .context("no eth0")?
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self { requests, received: numbers[0], sent: numbers[8] })
    }

    /// Prints what came since then, so many times.
    fn tell(&self, before: &Self, what: &str, times: f64) -> Result<()> {
        let mut out = std::io::stdout();
        let kilobytes = |now: u64, then: u64| (now - then) as f64 * times / 1000.0;
        writeln!(
            out,
            "{what}: {:.1} kB received, {:.1} kB sent",
            kilobytes(self.received, before.received),
            kilobytes(self.sent, before.sent)
        )?;
        for (request, count) in &self.requests {
            let more = count - before.requests.get(request).copied().unwrap_or(0);
            if more > 0 {
                writeln!(out, "  {:>6.1}  {request}", more as f64 * times)?;
            }
        }
        Ok(())
    }
}
