//! A cluster of one node: etcd, the API server, its controllers, a scheduler and a kubelet, all of
//! them real, in a node of its own with containerd. `integration/kubernetes.sh` builds those that
//! Debian has no package of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::engine::own_binaries;
use crate::image::{BuiltImage, ImageBuilder};
use crate::journal::Journal;
use crate::node::Node;
use crate::run::{Run, Running};
use crate::{debian, wait_for};

const SCRIPT: &str = include_str!("cluster.sh");

/// The name of the node in the cluster.
pub const NODE: &str = "n1";
/// The image of the agent, as the manifests name it.
pub const AGENT_IMAGE: &str = "docker.io/library/portcullis:0.1.0";
/// The Kubernetes under test.
pub const VERSION: &str = "1.20";

/// How long pods and objects may take to become what they shall be: kubelet alone may let five minutes
/// pass before it starts again what has failed.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// A part of the cluster that can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    Controllers,
    /// kube-scheduler.
    Scheduler,
    /// kubelet.
    Kubelet,
}

/// Where the programs are that are no package of Debian's.
pub fn programs() -> PathBuf {
    crate::engine::cache().join("kubernetes").join(VERSION)
}

/// A cluster that runs. All of it ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    parts: Mutex<BTreeMap<Part, Running>>,
    journal: Journal,
    node: Node,
}

impl Cluster {
    /// Starts one, with an image for the pods' sandboxes, and waits until the node is ready.
    ///
    /// # Errors
    /// When something is lacking, or does not come up.
    pub fn start(sandbox_image: &BuiltImage) -> Result<Self> {
        let programs = programs();
        ensure!(
            programs.join("kubelet").is_file(),
            "{} has no kubelet: run integration/kubernetes.sh",
            programs.display()
        );
        let node = Node::start()?;
        node.run("bash")
            .args(["-c", SCRIPT])
            .env("FOLDER", node.folder())
            .env("SANDBOX", &sandbox_image.name)
            .ok()?;
        let journal = Journal::start(&node)?;
        let cluster = Self { parts: Mutex::default(), journal, node };
        for part in [Part::Etcd, Part::ApiServer, Part::Controllers, Part::Scheduler] {
            cluster.start_part(part)?;
        }
        wait_for("containerd", PATIENCE, || {
            Ok(cluster.ctr(&["version"]).output()?.ok().ok().map(drop))
        })?;
        cluster.import(sandbox_image)?;
        cluster.start_part(Part::Kubelet)?;
        cluster.wait_until("the node is ready", || {
            let node = cluster.get(&["node", NODE])?;
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            // Its first pods would be refused before their account is there.
            let account = cluster.kubectl(&["get", "serviceaccount", "default"]).output()?;
            Ok(conditions.iter().any(ready) && account.code() == 0)
        })?;
        Ok(cluster)
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<Part, Running>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a part and waits until it serves.
    ///
    /// # Errors
    /// When it runs already, or does not come up.
    pub fn start_part(&self, part: Part) -> Result<()> {
        ensure!(!self.parts().contains_key(&part), "{part:?} runs already");
        let folder = self.node.folder().display().to_string();
        let program = |name: &str| self.node.inside().daemon(programs().join(name));
        let run = match part {
            Part::Etcd => self.node.inside().daemon("etcd").args([
                &format!("--data-dir={folder}/etcd"),
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
            ]),
            Part::ApiServer => program("kube-apiserver").args([
                "--etcd-servers=http://127.0.0.1:2379",
                "--bind-address=0.0.0.0",
                "--advertise-address=10.0.0.1",
                "--secure-port=443",
                "--insecure-port=0",
                &format!("--cert-dir={folder}/pki"),
                "--service-cluster-ip-range=10.0.0.0/24",
                &format!("--token-auth-file={folder}/pki/tokens.csv"),
                &format!("--service-account-key-file={folder}/pki/sa.pub"),
                &format!("--service-account-signing-key-file={folder}/pki/sa.key"),
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=InternalIP",
                &format!("--audit-policy-file={folder}/pki/audit.yaml"),
                &format!("--audit-log-path={folder}/audit.log"),
            ]),
            Part::Controllers => program("kube-controller-manager").args([
                &format!("--kubeconfig={folder}/controllers.kubeconfig"),
                &format!("--service-account-private-key-file={folder}/pki/sa.key"),
                &format!("--root-ca-file={folder}/pki/apiserver.crt"),
                "--leader-elect=false",
                "--secure-port=0",
            ]),
            Part::Scheduler => program("kube-scheduler").args([
                &format!("--kubeconfig={folder}/controllers.kubeconfig"),
                "--leader-elect=false",
                "--secure-port=0",
            ]),
            Part::Kubelet => program("kubelet").args([
                &format!("--kubeconfig={folder}/kubelet.kubeconfig"),
                &format!("--config={folder}/kubelet.yaml"),
                "--container-runtime=remote",
                "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
                &format!("--hostname-override={NODE}"),
                "--node-ip=10.0.0.1",
                // Its log tells of each pod that does not start.
                "--v=1",
            ]),
        };
        let mut running = run.spawn()?;
        let served = wait_for("a part of the cluster", PATIENCE, || {
            if let Some(status) = running.ended()? {
                bail!("it ended with {status}");
            }
            Ok(self.serves(part).then_some(()))
        });
        served.with_context(|| format!("{part:?}: {}", last(&running)))?;
        self.parts().insert(part, running);
        Ok(())
    }

    /// Whether a part answers. Those that are not asked show it by what they do.
    fn serves(&self, part: Part) -> bool {
        let asked = match part {
            Part::Etcd => {
                let health = ["-sf", "--max-time", "10", "http://127.0.0.1:2379/health"];
                self.node.run("curl").args(health)
            }
            Part::ApiServer => self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=10s"]),
            Part::Controllers | Part::Scheduler | Part::Kubelet => return true,
        };
        asked.ok().is_ok()
    }

    /// Fails if a part that was started has ended by itself.
    fn expect_parts(&self) -> Result<()> {
        for (part, running) in self.parts().iter_mut() {
            if let Some(status) = running.ended()? {
                bail!("{part:?} ended with {status}: {}", last(running));
            }
        }
        Ok(())
    }

    /// Ends a part, as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_part(&self, part: Part) -> Result<()> {
        let running =
            self.parts().remove(&part).with_context(|| format!("{part:?} does not run"))?;
        crate::node::signal(running.inner()?, rustix::process::Signal::KILL)?;
        running.wait().map(drop)
    }

    /// What a part has logged.
    pub fn log(&self, part: Part) -> String {
        self.parts().get(&part).map(Running::errors_so_far).unwrap_or_default()
    }

    /// `kubectl` as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Run {
        let kubeconfig = self.node.folder().join("admin.kubeconfig");
        let kubectl = self.node.run(programs().join("kubectl"));
        kubectl
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--cache-dir")
            .arg(self.node.folder().join("kubectl"))
            .args(args)
    }

    /// `kubectl` with what may be said twice.
    ///
    /// # Errors
    /// When it fails twice.
    pub fn change(&self, args: &[&str]) -> Result<()> {
        twice(|| self.kubectl(args).ok().map(drop))
    }

    /// What `kubectl get` shows, as JSON.
    ///
    /// # Errors
    /// When there is no such thing.
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let args = [&["get", "-o", "json"], what].concat();
        Ok(serde_json::from_slice(&self.kubectl(&args).ok()?.stdout)?)
    }

    /// `kubectl apply` of a text.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub fn apply(&self, text: &str) -> Result<()> {
        twice(|| self.kubectl(&["apply", "-f", "-"]).stdin(text).ok().map(drop))
    }

    /// `kubectl apply -k` of our manifests, with those of reports, and waits until the node is ready
    /// for pods.
    ///
    /// # Errors
    /// When the API server does not take them, or the node does not become ready.
    pub fn install(&self) -> Result<()> {
        self.change(&["apply", "-k", &manifests("reports")])?;
        self.change(&["apply", "-k", &manifests("")])?;
        self.wait_until("the node is labelled ready", || {
            let node = self.get(&["node", NODE])?;
            Ok(node["metadata"]["labels"]["portcullis.dev/ready"] == "true")
        })
    }

    /// `kubectl delete -k` of them, and waits until all is gone.
    ///
    /// # Errors
    /// When something does not go.
    pub fn uninstall(&self) -> Result<()> {
        for below in ["", "reports"] {
            let all = manifests(below);
            let delete = ["delete", "-k", &all, "--wait=true", "--ignore-not-found"];
            twice(|| self.kubectl(&delete).limit(2 * PATIENCE).ok().map(drop))?;
        }
        Ok(())
    }

    /// Makes a namespace, and waits until pods may be made in it.
    ///
    /// # Errors
    /// When the API server does not take it, or its account does not come.
    pub fn make_namespace(&self, name: &str) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name }
        });
        self.apply(&namespace.to_string())?;
        self.wait_until("the namespace has an account", || {
            self.get(&["-n", name, "serviceaccount", "default"]).map(|_| true)
        })
    }

    /// `ctr` in the namespace of Kubernetes.
    pub fn ctr(&self, args: &[&str]) -> Run {
        self.node.run("ctr").args(["--namespace", "k8s.io"]).args(args)
    }

    /// Puts an image into containerd's store.
    ///
    /// # Errors
    /// When `ctr` fails.
    pub fn import(&self, image: &BuiltImage) -> Result<()> {
        let archive = image.archive.display().to_string();
        self.ctr(&["images", "import", &archive]).limit(PATIENCE).ok().map(drop)
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not so in time, or a part of the cluster has ended.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut last = None;
        let waited = wait_for(what, PATIENCE, || {
            std::thread::sleep(Duration::from_millis(200));
            self.expect_parts()?;
            match is_so() {
                Ok(true) => Ok(Some(())),
                Ok(false) => Ok(None),
                // It may not be there yet.
                Err(error) => {
                    last = Some(error);
                    Ok(None)
                }
            }
        });
        waited.with_context(|| format!("{last:?}"))
    }
}

/// The last that a part has logged, newest first.
fn last(running: &Running) -> String {
    let log = running.errors_so_far();
    log.lines().rev().take(20).collect::<Vec<_>>().join("\n")
}

/// Asks the API server, and once more if that fails: a busy one refuses now and then.
///
/// # Errors
/// When it fails twice.
pub fn twice<T>(ask: impl Fn() -> Result<T>) -> Result<T> {
    ask().or_else(|_| {
        std::thread::sleep(Duration::from_secs(5));
        ask()
    })
}

/// Where our manifests are.
fn manifests(below: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    top.join("kubernetes").join(below).display().to_string()
}

/// A pod under the RuntimeClass.
pub fn pod(namespace: &str, name: &str, image: &str) -> String {
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

/// The agent's image, as `integration/kubernetes/image/Dockerfile` makes it, on the cached Debian.
///
/// # Errors
/// When the Debian or our binaries are not there.
pub fn agent_image(folder: &Path) -> Result<BuiltImage> {
    let debian = debian::cached();
    ensure!(debian.is_dir(), "{} is not there: run integration/packages.sh", debian.display());
    let base = folder.join("debian.tar");
    Run::new("tar")
        .args(["--create", "--directory"])
        .arg(&debian)
        .arg("--file")
        .arg(&base)
        .args(["--exclude=./var/run", "--exclude=./usr/share/doc", "--exclude=./usr/share/locale"])
        .args(["--exclude=./usr/share/man", "--exclude=./dev/*", "."])
        .limit(PATIENCE)
        .ok()?;
    let ours = folder.join("ours");
    let opt = ours.join("opt/portcullis");
    std::fs::create_dir_all(opt.join("bin"))?;
    std::fs::create_dir_all(ours.join("var/run"))?;
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has a parent")?;
    let scripts = top.join("integration/kubernetes/image");
    for from in [
        top.join("install.sh"),
        top.join("install"),
        top.join("config"),
        scripts.join("node.sh"),
        scripts.join("remove.sh"),
    ] {
        Run::new("cp").arg("-a").arg(&from).arg(&opt).ok()?;
    }
    for name in [
        "containerd-shim-portcullis-v2",
        "portcullis-runc",
        "portcullis",
        "portcullis-scanner",
        "portcullisd",
    ] {
        // As released, without what only debuggers read.
        Run::new("strip")
            .arg("-o")
            .arg(opt.join("bin").join(name))
            .arg(own_binaries().join(name))
            .ok()?;
    }
    let top_layer = folder.join("ours.tar");
    let tar =
        Run::new("tar").args(["--create", "--owner=0", "--group=0", "--directory"]).arg(&ours);
    tar.arg("--file").arg(&top_layer).args(["opt", "var"]).ok()?;
    ImageBuilder::new(AGENT_IMAGE)
        .tarball(std::fs::read(&base)?)
        .tarball(std::fs::read(&top_layer)?)
        .env("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .build(folder)
}
