//! A cluster with the images of the tests, and what the tests ask it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use portcullis_integration::cluster::{Cluster, Part, agent_image, pod, twice};
use portcullis_integration::evidence::{CRITICAL, MEDIUM, Vulnerability, report};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_types::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Where a registry is, if one runs.
pub(crate) const REGISTRY: &str = "10.0.0.1:5000";

/// For what takes long.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// A cluster, with images in its containerd.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) good: BuiltImage,
    pub(crate) odd: BuiltImage,
    pub(crate) bad: BuiltImage,
    pub(crate) pause: BuiltImage,
    /// Not imported yet.
    pub(crate) late: BuiltImage,
    images: TempDir,
}

fn image(folder: &TempDir, registry: &str, name: &str) -> BuiltImage {
    let mark = Entry::File("etc/image".to_owned(), 0o644, name.as_bytes().to_vec());
    ImageBuilder::new(format!("{registry}/{name}:1.0"))
        .layer(busybox_layer().unwrap())
        .layer([mark])
        .command(["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"])
        .build(folder.path())
        .unwrap()
}

impl Stage {
    pub(crate) fn start() -> Self {
        let images = tempfile::tempdir().unwrap();
        let image = |name: &str| image(&images, "registry.example.com", name);
        let (good, odd, bad) = (image("good"), image("odd"), image("bad"));
        let (pause, late) = (image("pause"), image("late"));
        let cluster = Cluster::start(&pause).unwrap();
        for image in [&good, &odd, &bad, &agent_image(images.path()).unwrap()] {
            cluster.import(image).unwrap();
        }
        Self { cluster, good, odd, bad, pause, late, images }
    }

    /// `kubectl apply -k`, and waits until the node is ready for pods.
    pub(crate) fn install(&self) {
        if let Err(error) = self.cluster.install() {
            panic!("{error:#}\n{}", self.complaints());
        }
        self.cluster.make_namespace("shop").unwrap();
    }

    /// Waits until something is so; a failure tells what the agent says.
    pub(crate) fn wait(&self, what: &str, is_so: impl FnMut() -> Result<bool>) {
        if let Err(error) = self.cluster.wait_until(what, is_so) {
            panic!("{error:#}\n{}", self.complaints());
        }
    }

    /// What the agent's pod and kubelet say, for a failure.
    pub(crate) fn complaints(&self) -> String {
        let cluster = &self.cluster;
        let said = |args: &[&str]| match cluster.kubectl(args).output() {
            Ok(output) => format!("{}{}", output.text(), output.errors()),
            Err(error) => format!("{error:#}"),
        };
        let logs = |container: &str| {
            let agent = ["logs", "-n", "portcullis-system", "daemonset/portcullis", "-c"];
            format!("{container}: {}", said(&[&agent[..], &[container]].concat()))
        };
        let told = said(&["get", "events", "-A"]);
        let kubelet = cluster.log(Part::Kubelet);
        let kubelet: Vec<&str> = kubelet.lines().rev().take(15).collect();
        format!("{}\n{}\n{told}\n{}", logs("install"), logs("agent"), kubelet.join("\n"))
    }

    /// Reports of a scanner on the images.
    pub(crate) fn know_images(&self) {
        let found: [(&BuiltImage, &[Vulnerability]); 4] = [
            (&self.good, &[]),
            (&self.pause, &[]),
            (&self.odd, &[MEDIUM]),
            (&self.bad, &[CRITICAL]),
        ];
        for (image, found) in found {
            let file = self.cluster.node().folder().join("report.json");
            let mut report = report(image, found);
            report["CreatedAt"] = Timestamp::now().to_string().into();
            std::fs::write(&file, report.to_string()).unwrap();
            self.portcullis(&["import", &file.display().to_string()]);
        }
    }

    /// The command that was installed on the node.
    pub(crate) fn portcullis(&self, args: &[&str]) -> String {
        let run = self.cluster.node().run("/usr/local/bin/portcullis").args(args);
        run.ok().unwrap().text()
    }

    pub(crate) fn phase(&self, namespace: &str, pod: &str) -> Result<String> {
        let pod = self.cluster.get(&["-n", namespace, "pod", pod])?;
        let state = &pod["status"]["containerStatuses"][0]["state"];
        let running = if state.get("running").is_some() { "Running" } else { "" };
        Ok(running.to_owned())
    }

    /// What kubelet says of a container that it could not start.
    pub(crate) fn refusal(&self, namespace: &str, pod: &str) -> Result<String> {
        let pod = self.cluster.get(&["-n", namespace, "pod", pod])?;
        let status = &pod["status"]["containerStatuses"][0];
        let states = [&status["state"], &status["lastState"]];
        let message = states.iter().find_map(|state| state["terminated"]["message"].as_str());
        Ok(message.context("it was not refused")?.to_owned())
    }

    /// Our Events on a pod.
    pub(crate) fn events(&self, namespace: &str, pod: &str) -> Result<Vec<Value>> {
        let events = self.cluster.get(&["-n", namespace, "events"])?;
        let ours = |event: &&Value| {
            event["source"]["component"] == "portcullis" && event["involvedObject"]["name"] == *pod
        };
        let items = events["items"].as_array().context("no events")?;
        Ok(items.iter().filter(ours).cloned().collect())
    }

    pub(crate) fn wait_for_event(&self, namespace: &str, pod: &str, reason: &str) -> Value {
        let mut found = None;
        let waited = self.cluster.wait_until("an event on a pod", || {
            found =
                self.events(namespace, pod)?.into_iter().find(|event| event["reason"] == *reason);
            Ok(found.is_some())
        });
        if let Err(error) = waited {
            panic!("{error:#}: {reason} on {pod}\n{}", self.complaints());
        }
        found.unwrap()
    }

    /// The results of the report of a namespace.
    pub(crate) fn results(&self, namespace: &str) -> Result<Vec<Value>> {
        let report = self.cluster.get(&["-n", namespace, "policyreport", "portcullis"])?;
        Ok(report["results"].as_array().context("no results")?.clone())
    }

    /// Waits until the newest generation of a policy is in force on the node.
    pub(crate) fn wait_in_force(&self, policy: &str) {
        self.wait("the policy is in force on the node", || {
            let policy = self.cluster.get(&["protectionpolicy", policy])?;
            let status = &policy["status"];
            Ok(status["observedGeneration"] == policy["metadata"]["generation"]
                && status["inForce"] == 1
                && status["nodes"] == 1)
        });
    }

    /// Brings an image into the node's containerd, and into the registry that its name says.
    pub(crate) fn pushed(&self, name: &str) -> BuiltImage {
        let image = image(&self.images, REGISTRY, name);
        self.cluster.import(&image).unwrap();
        self.cluster
            .ctr(&["images", "push", "--plain-http", &image.name])
            .limit(LONG)
            .ok()
            .unwrap();
        image
    }

    /// Says in the ConfigMap how all nodes are set, and has that read.
    pub(crate) fn set(&self, data: &Value) {
        let data = json!({ "data": data }).to_string();
        let patch = ["patch", "-n", "portcullis-system", "configmap", "portcullis", "--type=merge"];
        self.cluster.change(&[&patch[..], &["-p", &data]].concat()).unwrap();
        self.restart_agent();
    }

    /// A pair of keys in the namespace's Secret, as the documentation has it.
    pub(crate) fn make_keys(&self) {
        let at = |name: &str| self.cluster.node().folder().join(name).display().to_string();
        let (private, public) = (at("verdicts.key"), at("verdicts.pub"));
        let openssl = |args: &[&str]| self.cluster.node().run("openssl").args(args).ok().unwrap();
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private]);
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
        let files = [private, public].map(|file| format!("--from-file={file}"));
        let create = ["create", "secret", "generic", "portcullis", "-n", "portcullis-system"];
        let files = files.each_ref().map(String::as_str);
        self.cluster.kubectl(&[&create[..], &files].concat()).ok().unwrap();
    }

    /// What Prometheus would read.
    pub(crate) fn metrics(&self) -> String {
        let pods = twice(|| self.cluster.get(&["-n", "portcullis-system", "pods"])).unwrap();
        let address = pods["items"][0]["status"]["podIP"].as_str().unwrap().to_owned();
        let url = format!("http://{address}:9417/metrics");
        self.cluster.node().run("curl").args(["-sf", &url]).ok().unwrap().text()
    }

    /// Takes the agent off the node, as a label of the node would, and leaves the DaemonSet.
    pub(crate) fn stop_agent(&self) {
        self.select_nodes(r#"{"elsewhere":"yes"}"#);
        self.wait("the agent is gone", || self.has_no_agent());
    }

    pub(crate) fn has_no_agent(&self) -> Result<bool> {
        Ok(self.agents()?.is_empty())
    }

    /// Lets it come back, and waits until it is ready.
    pub(crate) fn start_agent(&self) {
        self.select_nodes("null");
        self.wait_for_agent();
    }

    /// Makes the agent's pod anew, as `kubectl rollout restart` does.
    pub(crate) fn restart_agent(&self) {
        let old = twice(|| self.agents()).unwrap();
        let restart = ["-n", "portcullis-system", "rollout", "restart", "daemonset/portcullis"];
        self.cluster.change(&restart).unwrap();
        self.wait("the old agent is gone", || {
            Ok(!self.agents()?.iter().any(|name| old.contains(name)))
        });
        self.wait_for_agent();
    }

    fn wait_for_agent(&self) {
        self.wait("the agent is ready", || {
            let pods = self.cluster.get(&["-n", "portcullis-system", "pods"])?;
            Ok(pods["items"][0]["status"]["containerStatuses"][0]["ready"] == true)
        });
    }

    fn agents(&self) -> Result<Vec<String>> {
        let pods = self.cluster.get(&["-n", "portcullis-system", "pods"])?;
        let items = pods["items"].as_array().context("no pods")?;
        Ok(items.iter().map(|pod| pod["metadata"]["name"].to_string()).collect())
    }

    fn select_nodes(&self, selector: &str) {
        let patch =
            format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{selector}}}}}}}}}"#);
        let args = ["-n", "portcullis-system", "patch", "daemonset", "portcullis", "--type=merge"];
        self.cluster.change(&[&args[..], &["-p", &patch]].concat()).unwrap();
    }

    /// A pod that kubelet starts by itself, without an API server.
    pub(crate) fn static_pod(&self, name: &str, image: &str) {
        let file = self.cluster.node().folder().join("static").join(format!("{name}.yaml"));
        std::fs::write(file, pod("shop", name, image)).unwrap();
    }

    /// Takes those away, and waits until the API server knows.
    pub(crate) fn no_static_pods(&self) {
        let folder = self.cluster.node().folder().join("static");
        for entry in std::fs::read_dir(&folder).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        self.wait("the static pods are gone", || {
            let pods = self.cluster.get(&["-n", "shop", "pods"])?;
            let items = pods["items"].as_array().context("no pods")?;
            let is_static = |pod: &Value| {
                pod["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-n1"))
            };
            Ok(!items.iter().any(is_static))
        });
    }

    /// What the ledger says of a pod's containers, without its sandbox.
    pub(crate) fn decisions(&self, pod: &str) -> Vec<String> {
        let ledger = self.cluster.node().run("cat").arg("/var/lib/portcullis/events/events.jsonl");
        let text = ledger.ok().unwrap().text();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_pod = events.filter(|event| {
            event["kind"] == "decision"
                && event["request"]["kind"] == "container"
                && event["request"]["pod"] == *pod
        });
        of_pod.map(|event| event["action"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// `kubectl delete -k`, and waits until the agent is gone. Tells what that said at its end.
    pub(crate) fn uninstall(&self) -> String {
        let last = "exec tail -n 0 -F /var/log/pods/portcullis-system_*/agent/*.log";
        let last = self.cluster.node().run("sh").args(["-c", last]).spawn().unwrap();
        self.cluster.uninstall().unwrap();
        let said = last.stdout_so_far();
        // The agent's own pod is behind the gate, and the node does the rest when that is gone.
        let gone = self.cluster.wait_until("the node is restored", || {
            let test = ["!", "-e", "/var/lib/portcullis"];
            Ok(self.cluster.node().run("test").args(test).output()?.code() == 0)
        });
        if let Err(error) = gone {
            let told = self.cluster.node().run("cat").arg("/var/lib/portcullis/setup/said");
            panic!("{error:#}\n{said}\n{:?}", told.output());
        }
        said
    }

    /// The node's files, with their checksums: what an administrator would call its installation.
    pub(crate) fn files(&self) -> String {
        // Of others' folders in /var/lib only that they are there: the machine writes to its own.
        const LIST: &str = "{ find /etc /usr/local /opt -xdev -path /etc/resolv.conf -prune \
                -o -printf '%p %y %m %l\\n'; \
            find /var/lib -xdev -maxdepth 1 ! -path /var/lib/cni -printf '%p %y %m\\n'; \
            [ ! -e /var/lib/portcullis ] || find /var/lib/portcullis -printf '%p %y %m %l\\n'; \
            } | sort; \
            find /etc /usr/local -xdev -type f ! -path /etc/resolv.conf -exec sha256sum {} + \
                | sort -k 2";
        self.cluster.node().run("sh").args(["-c", LIST]).limit(LONG).ok().unwrap().text()
    }

    pub(crate) fn expect_files(&self, before: &str, said: &str) {
        // The node may still be taking things away when the cluster has nothing more to tell.
        let _told_below = self.cluster.wait_until("the files", || Ok(self.files() == before));
        let after = self.files();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(before), lines(&after));
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(new.is_empty() && gone.is_empty(), "{said}\nnew: {new:#?}\ngone: {gone:#?}");
    }
}
