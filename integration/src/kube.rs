//! containerd as kubelet drives it, as one of the engines of the table of decisions. All containers
//! live in one pod that is there from the beginning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cri::{
    Client, ContainerConfig, ContainerMetadata, ContainerState, ImageSpec, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata,
};
use crate::engine::{Engine, RunningEngine};
use crate::image::BuiltImage;
use crate::journal::Journal;
use crate::leak::Watched;
use crate::node::Node;
use crate::starter::{Root, Settings, Start, Starter, Told};
use crate::suite::Door;
use crate::{PATIENCE, wait_for};

/// How kubelet tells that a container could not be started.
const START_ERROR: i32 = 128;

/// A containerd that runs, with a pod and one door.
#[derive(Debug)]
pub struct Kube {
    engine: RunningEngine,
    config: PodSandboxConfig,
    pod: String,
    /// The ids of the containers, by the names that they were started under.
    ids: Mutex<BTreeMap<String, String>>,
}

impl Kube {
    /// Starts it in a node of its own.
    ///
    /// # Errors
    /// When it is lacking, or does not come up.
    pub fn start(engine: &Engine, door: Door, sandbox_image: &BuiltImage) -> Result<Self> {
        let engine = engine.start_with(door, sandbox_image)?;
        let shared = NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        };
        let logs = engine.node().folder().join("logs");
        std::fs::create_dir_all(&logs)?;
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "pod".to_owned(),
                uid: "uid".to_owned(),
                namespace: "tests".to_owned(),
            }),
            log_directory: logs.display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(shared),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let pod = engine.cri()?.run_pod(&config, door.handler())?;
        Ok(Self { engine, config, pod, ids: Mutex::default() })
    }

    fn client(&self) -> Result<Client> {
        self.engine.cri()
    }

    fn id_of(&self, name: &str) -> Result<String> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(name).cloned().with_context(|| format!("no container {name}"))
    }

    /// containerd's Kubernetes side hears of images a moment later.
    fn wait_for_image(&self, name: &str, wanted: Option<&str>) -> Result<()> {
        let client = self.client()?;
        wait_for("an image's name to move", PATIENCE, || {
            Ok((client.image(name)?.as_deref() == wanted).then_some(()))
        })
    }

    fn wait_for_exit(&self, name: &str) -> Result<Told> {
        let (client, id) = (self.client()?, self.id_of(name)?);
        let status = wait_for("the end of a container", PATIENCE, || {
            let status = client.container_status(&id)?;
            Ok((status.state() == ContainerState::Exited).then_some(status))
        })?;
        let log = PathBuf::from(&self.config.log_directory).join(format!("{name}.log"));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        // Each line begins with the time and the stream.
        let lines = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        let text = lines.collect::<Vec<_>>().join("\n");
        Ok(Told { code: status.exit_code, text, errors: status.message })
    }
}

impl Watched for Kube {
    fn node(&self) -> &Node {
        self.engine.node()
    }

    fn journal(&self) -> &Journal {
        self.engine.journal()
    }

    fn own_processes(&self) -> Result<Vec<u32>> {
        self.engine.own_processes()
    }

    fn places(&self) -> Vec<PathBuf> {
        self.engine.places()
    }

    fn containers(&self) -> Result<Vec<String>> {
        self.engine.containers()
    }
}

impl Starter for Kube {
    fn import(&self, image: &BuiltImage) -> Result<()> {
        self.engine.import("k8s.io", image)?;
        self.wait_for_image(&image.name, Some(&image.config_digest))
    }

    fn push(&self, name: &str) -> Result<()> {
        let push = ["images", "push", "--plain-http", name];
        self.engine.ctr("k8s.io").args(push).ok().map(drop)
    }

    fn forget(&self, name: &str) -> Result<()> {
        let ctr = self.engine.ctr("k8s.io");
        ctr.args(["images", "delete", "--sync", name]).ok()?;
        self.wait_for_image(name, None)
    }

    fn run(&self, start: &Start) -> Result<Told> {
        self.create(start)?;
        let told = self.start(start.id)?;
        let told = if told.code == 0 { self.wait_for_exit(start.id) } else { Ok(told) };
        self.remove(start.id)?;
        told
    }

    fn create(&self, start: &Start) -> Result<()> {
        let Root::Image(image) = start.root else { bail!("a pod has no containers on folders") };
        let notes = start.notes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: start.id.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image.to_owned(), ..Default::default() }),
            command: start.command.iter().map(ToString::to_string).collect(),
            annotations: notes.clone().collect(),
            labels: notes.collect(),
            log_path: format!("{}.log", start.id),
            ..Default::default()
        };
        let id = self.client()?.create_container(&self.pod, &self.config, &container)?;
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(start.id.to_owned(), id);
        Ok(())
    }

    fn start(&self, id: &str) -> Result<Told> {
        let (code, errors) = match self.client()?.start_container(&self.id_of(id)?) {
            Ok(()) => (0, String::new()),
            Err(error) => (START_ERROR, format!("{error:#}")),
        };
        Ok(Told { code, text: String::new(), errors })
    }

    fn exec(&self, id: &str, command: &[&str]) -> Result<Told> {
        let answer = self.client()?.exec(&self.id_of(id)?, command, PATIENCE)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(Told {
            code: answer.exit_code,
            text: text(&answer.stdout),
            errors: text(&answer.stderr),
        })
    }

    fn remove(&self, id: &str) -> Result<()> {
        let (client, of_engine) = (self.client()?, self.id_of(id)?);
        client.stop_container(&of_engine, Duration::ZERO)?;
        client.remove_container(&of_engine)?;
        let log = PathBuf::from(&self.config.log_directory).join(format!("{id}.log"));
        let _none_was_written = std::fs::remove_file(log);
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(id);
        Ok(())
    }

    fn tidy(&self) -> Result<()> {
        Ok(())
    }

    fn settings(&self) -> &Settings {
        self.engine.settings()
    }

    fn complaints(&self) -> String {
        crate::suite::complaints(&self.engine.log())
    }
}
