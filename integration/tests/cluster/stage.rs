//! A cluster with the images of the tests, and what the tests ask it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portcullis_integration::cluster::{Cluster, Part, agent_image};
use portcullis_integration::evidence::{CRITICAL, MEDIUM, Vulnerability, report};
use portcullis_integration::image::{BuiltImage, Entry, ImageBuilder, busybox_layer};
use portcullis_types::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

/// For what takes long.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// A cluster, with images in its containerd.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) good: BuiltImage,
    pub(crate) odd: BuiltImage,
    pub(crate) bad: BuiltImage,
    pub(crate) pause: BuiltImage,
    _images: TempDir,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let images = tempfile::tempdir().unwrap();
        let image = |name: &str| {
            let mark = Entry::File("etc/image".to_owned(), 0o644, name.as_bytes().to_vec());
            ImageBuilder::new(format!("registry.example.com/{name}:1.0"))
                .layer(busybox_layer().unwrap())
                .layer([mark])
                .command(["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"])
                .build(images.path())
                .unwrap()
        };
        let (good, odd, bad, pause) = (image("good"), image("odd"), image("bad"), image("pause"));
        let cluster = Cluster::start(&pause).unwrap();
        for image in [&good, &odd, &bad, &agent_image(images.path()).unwrap()] {
            cluster.import(image).unwrap();
        }
        Self { cluster, good, odd, bad, pause, _images: images }
    }

    /// `kubectl apply -k`, and waits until the node is ready for pods.
    pub(crate) fn install(&self) {
        let cluster = &self.cluster;
        cluster.kubectl(&["apply", "-k", &manifests("reports")]).ok().unwrap();
        cluster.kubectl(&["apply", "-k", &manifests("")]).ok().unwrap();
        let ready = cluster.wait_until("the node is labelled ready", || {
            let node = cluster.get(&["node", portcullis_integration::cluster::NODE])?;
            Ok(node["metadata"]["labels"]["portcullis.dev/ready"] == "true")
        });
        if let Err(error) = ready {
            panic!("{error:#}\n{}", self.complaints());
        }
        cluster.kubectl(&["create", "namespace", "shop"]).ok().unwrap();
        cluster
            .wait_until("the namespace has an account", || {
                cluster.get(&["-n", "shop", "serviceaccount", "default"]).map(|_| true)
            })
            .unwrap();
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
        let logs = |container: &str| {
            let agent =
                ["logs", "-n", "portcullis-system", "daemonset/portcullis", "-c", container];
            let output = cluster.kubectl(&agent).output().unwrap();
            format!("{container}: {}{}", output.text(), output.errors())
        };
        let told = cluster.kubectl(&["get", "events", "-A"]).output().unwrap().text();
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
    pub(crate) fn events(&self, namespace: &str, pod: &str) -> Vec<Value> {
        let events = self.cluster.get(&["-n", namespace, "events"]).unwrap();
        let ours = |event: &&Value| {
            event["source"]["component"] == "portcullis" && event["involvedObject"]["name"] == *pod
        };
        events["items"].as_array().unwrap().iter().filter(ours).cloned().collect()
    }

    pub(crate) fn wait_for_event(&self, namespace: &str, pod: &str, reason: &str) -> Value {
        let mut found = None;
        let waited = self.cluster.wait_until("an event on a pod", || {
            found =
                self.events(namespace, pod).into_iter().find(|event| event["reason"] == *reason);
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

    /// `kubectl delete -k`, and waits until the agent is gone.
    pub(crate) fn uninstall(&self) {
        let delete = ["delete", "-k", &manifests(""), "--wait=true"];
        self.cluster.kubectl(&delete).limit(LONG).ok().unwrap();
        let delete = ["delete", "-k", &manifests("reports"), "--wait=true"];
        self.cluster.kubectl(&delete).limit(LONG).ok().unwrap();
    }

    /// The node's files, with their checksums: what an administrator would call its installation.
    pub(crate) fn files(&self) -> String {
        const LIST: &str = "find /etc /usr/local /opt /var/lib -xdev \
            \\( -path /var/lib/containerd -o -path /var/lib/kubelet -o -path /var/lib/cni \
               -o -path /etc/resolv.conf -o -path /var/lib/dpkg -o -path /var/lib/apt \\) -prune \
            -o -printf '%p %y %m %l\\n' | sort; \
            find /etc /usr/local -xdev -type f -exec sha256sum {} + | sort -k 2";
        self.cluster.node().run("sh").args(["-c", LIST]).limit(LONG).ok().unwrap().text()
    }

    pub(crate) fn expect_files(&self, before: &str) {
        let after = self.files();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(before), lines(&after));
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}\ngone: {gone:#?}");
    }
}

fn manifests(below: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    top.join("kubernetes").join(below).display().to_string()
}

/// A pod under the RuntimeClass.
pub(crate) fn pod(namespace: &str, name: &str, image: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: {namespace}, labels: {{ app: {name} }} }}
spec:
  runtimeClassName: portcullis
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - {{ name: main, image: "{image}", imagePullPolicy: Never }}
"#
    )
}
