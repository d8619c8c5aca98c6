//! Pods, as kubelet drives them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portcullis_integration::cri::{
    Client, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ImageSpec,
    LinuxContainerConfig, LinuxContainerResources, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, Status,
};
use portcullis_integration::suite::{Case, Ctx, Door};
use portcullis_integration::{PATIENCE, wait_for};
use rustix::process::Signal;

use crate::faults::{kill_shim, remove_dead_sockets};

pub(crate) const CASES: &[Case] = &[
    Case::new("a_pod_runs_a_container", life),
    Case::new("a_pod_shares_the_network_of_the_node", host_network),
    Case::new("exit_codes_have_reasons", exit_codes),
    Case::new("a_container_that_cannot_start_says_why", start_error),
    Case::new("running_out_of_memory_is_the_reason", out_of_memory),
    Case::new("limits_can_be_changed", update),
    Case::new("a_pod_has_one_shim", one_shim),
    Case::new("shared_processes_end_with_their_containers", shared_processes),
    Case::new("a_terminal_is_logged", terminal),
    Case::new("exec_in_a_pod_is_limited_in_time", exec_limited),
    Case::new("a_container_is_asked_before_it_is_killed", graceful_stop),
    Case::new("pods_outlive_a_killed_containerd", containerd_killed),
    Case::new("a_pod_whose_shim_was_killed_can_be_removed", shim_killed),
    Case::new("a_running_pod_can_be_removed_at_once", removed_at_once),
    Case::new("twenty_containers_in_a_pod_leave_nothing", twenty),
];

/// A pod of the case, with a client to drive it.
pub(crate) struct Pod {
    client: Client,
    config: PodSandboxConfig,
    image: String,
    id: String,
}

impl Pod {
    /// A pod as kubelet starts it by default: a network of its own, and processes not shared.
    pub(crate) fn start(ctx: &Ctx) -> Result<Self> {
        Self::start_with(ctx, NamespaceMode::Pod, NamespaceMode::Container)
    }

    /// A pod with these namespaces.
    pub(crate) fn start_with(
        ctx: &Ctx,
        network: NamespaceMode,
        pid: NamespaceMode,
    ) -> Result<Self> {
        Self::start_by(ctx, ctx.door().handler(), network, pid)
    }

    /// A pod of another handler than the door's; the engine's default if it has no name.
    pub(crate) fn start_by(
        ctx: &Ctx,
        handler: &str,
        network: NamespaceMode,
        pid: NamespaceMode,
    ) -> Result<Self> {
        let client = ctx.cri()?;
        let shared =
            NamespaceOption { network: network.into(), pid: pid.into(), ..Default::default() };
        let logs = ctx.node().folder().join("logs").join(ctx.id());
        std::fs::create_dir_all(&logs)?;
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: ctx.id(),
                uid: format!("uid-of-{}", ctx.id()),
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
        let id = client.run_pod(&config, handler)?;
        let image = ctx.images().busybox.name.clone();
        Ok(Self { client, config, image, id })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn container(&self, name: &str, command: &[&str]) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: self.image.clone(), ..Default::default() }),
            command: command.iter().map(ToString::to_string).collect(),
            log_path: format!("{name}.log"),
            ..Default::default()
        }
    }

    pub(crate) fn create(&self, config: &ContainerConfig) -> Result<String> {
        self.client.create_container(&self.id, &self.config, config)
    }

    /// Creates and starts a container.
    fn run(&self, config: &ContainerConfig) -> Result<String> {
        let id = self.create(config)?;
        self.client.start_container(&id)?;
        Ok(id)
    }

    pub(crate) fn run_script(&self, name: &str, script: &str) -> Result<String> {
        self.run(&self.container(name, &["sh", "-c", script]))
    }

    fn wait_for_exit(&self, id: &str) -> Result<ContainerStatus> {
        wait_for("the end of a container", PATIENCE, || {
            let status = self.client.container_status(id)?;
            Ok((status.state() == ContainerState::Exited).then_some(status))
        })
    }

    pub(crate) fn exec(&self, id: &str, command: &[&str]) -> Result<String> {
        let answer = self.client.exec(id, command, PATIENCE)?;
        ensure!(answer.exit_code == 0, "{answer:?}");
        Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    }

    /// What a container has logged: without the time and the stream that each line begins with.
    fn wait_for_log(&self, name: &str, wanted: &str) -> Result<()> {
        let file = PathBuf::from(&self.config.log_directory).join(format!("{name}.log"));
        let mut text = String::new();
        let seen = wait_for("a log", PATIENCE, || {
            text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
            Ok((lines.collect::<Vec<_>>().join("\n") == wanted).then_some(()))
        });
        seen.with_context(|| format!("the log holds {text:?}"))
    }

    /// containerd knows of an end by an event, which may be behind the answer to the stop; kubelet
    /// asks again too.
    pub(crate) fn kill_and_remove(&self, id: &str) -> Result<()> {
        self.client.stop_container(id, Duration::ZERO)?;
        wait_for("the removal", PATIENCE, || match self.client.remove_container(id) {
            Err(error) if format!("{error:#}").contains("still running") => Ok(None),
            removed => removed.map(Some),
        })
    }

    pub(crate) fn remove(self) -> Result<()> {
        self.client.stop_pod(&self.id)?;
        self.client.remove_pod(&self.id)
    }
}

fn life(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let id = pod.create(&pod.container("main", &["sh", "-c", "echo hello; exec sleep 1000"]))?;
    let state = || Ok::<_, anyhow::Error>(pod.client.container_status(&id)?.state());
    ensure!(state()? == ContainerState::Created);
    pod.client.start_container(&id)?;
    ensure!(state()? == ContainerState::Running);
    pod.wait_for_log("main", "hello")?;

    let answer = pod.client.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 3"], PATIENCE)?;
    ensure!(answer.stdout == b"out\n" && answer.stderr == b"err\n", "{answer:?}");
    ensure!(answer.exit_code == 3, "{answer:?}");

    wait_for("statistics", PATIENCE, || {
        let memory = pod.client.container_stats(&id)?.memory;
        let used = memory.and_then(|memory| memory.working_set_bytes);
        Ok(used.filter(|used| used.value > 0))
    })?;

    pod.client.stop_container(&id, Duration::ZERO)?;
    let status = pod.client.container_status(&id)?;
    ensure!(status.state() == ContainerState::Exited && status.exit_code == 137, "{status:?}");
    pod.client.remove_container(&id)?;
    pod.remove()
}

fn host_network(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start_with(ctx, NamespaceMode::Node, NamespaceMode::Container)?;
    let id = pod.run_script("main", "exec sleep 1000")?;
    let network = std::fs::read_link(ctx.node().outside("/proc/1/ns/net"))?;
    let seen = pod.exec(&id, &["ls", "-l", "/proc/self/ns/net"])?;
    ensure!(seen.contains(&*network.to_string_lossy()), "{seen}");
    pod.kill_and_remove(&id)?;
    pod.remove()
}

fn exit_codes(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    for (code, reason) in [(0, "Completed"), (3, "Error")] {
        let id = pod.run_script("main", &format!("exit {code}"))?;
        let status = pod.wait_for_exit(&id)?;
        ensure!(status.exit_code == code && status.reason == reason, "{status:?}");
        pod.client.remove_container(&id)?;
    }
    pod.remove()
}

fn start_error(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let id = pod.create(&pod.container("main", &["/no/such"]))?;
    let error = pod.client.start_container(&id).err().context("it was started")?;
    ensure!(format!("{error:#}").contains("/no/such"), "{error:#}");
    let status = pod.client.container_status(&id)?;
    ensure!(status.state() == ContainerState::Exited, "{status:?}");
    ensure!(status.reason == "StartError", "{status:?}");
    ensure!(status.message.contains("/no/such"), "{status:?}");
    pod.client.remove_container(&id)?;
    pod.remove()
}

fn out_of_memory(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let mut config = pod.container("main", &["tail", "/dev/zero"]);
    config.linux = Some(LinuxContainerConfig {
        resources: Some(LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            ..Default::default()
        }),
    });
    let id = pod.run(&config)?;
    let status = pod.wait_for_exit(&id)?;
    ensure!(status.exit_code == 137, "{status:?}");
    // The event may be a moment behind the exit.
    wait_for("OOMKilled", PATIENCE, || {
        let status = pod.client.container_status(&id)?;
        Ok((status.reason == "OOMKilled").then_some(()))
    })
    .with_context(|| format!("{status:?}"))?;
    pod.client.remove_container(&id)?;
    pod.remove()
}

fn update(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let id = pod.run_script("main", "exec sleep 1000")?;
    let limits = LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() };
    pod.client.update_container(&id, limits)?;
    let files = ["memory.limit_in_bytes", "memory.max"];
    let mut limits = Vec::new();
    for top in ctx.node().cgroups()? {
        for file in files {
            let file = top.join("k8s.io").join(&id).join(file);
            limits.extend(std::fs::read_to_string(file));
        }
    }
    ensure!(limits == ["67108864\n"], "{limits:?}");
    pod.kill_and_remove(&id)?;
    pod.remove()
}

fn one_shim(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let shims = ctx.shims();
    ensure!(shims.len() == 1, "shims: {shims:?}");
    let one = pod.run_script("one", "exec sleep 1000")?;
    let two = pod.run_script("two", "exec sleep 1000")?;
    ensure!(ctx.shims() == shims, "shims: {shims:?}, later {:?}", ctx.shims());
    pod.kill_and_remove(&one)?;
    ensure!(pod.exec(&two, &["echo", "alive"])? == "alive");
    pod.kill_and_remove(&two)?;
    ensure!(ctx.shims() == shims, "shims: {shims:?}, later {:?}", ctx.shims());
    pod.remove()
}

fn shared_processes(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start_with(ctx, NamespaceMode::Pod, NamespaceMode::Pod)?;
    let one = pod.run_script("one", "sleep 1001 & sleep 1002")?;
    let two = pod.run_script("two", "exec sleep 1003")?;
    let count = |seen: &str| seen.matches("sleep 100").count();
    let mut seen = String::new();
    // A shell is there before what it starts.
    wait_for("the processes of both", PATIENCE, || {
        seen = pod.exec(&two, &["ps", "-o", "args"])?;
        Ok((count(&seen) >= 3).then_some(()))
    })
    .with_context(|| seen.clone())?;
    pod.kill_and_remove(&one)?;
    let seen = pod.exec(&two, &["ps", "-o", "args"])?;
    ensure!(count(&seen) == 1, "{seen}");
    pod.kill_and_remove(&two)?;
    pod.remove()
}

fn terminal(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let mut config = pod.container("main", &["sh", "-c", "tty"]);
    config.tty = true;
    let id = pod.run(&config)?;
    pod.wait_for_exit(&id)?;
    pod.wait_for_log("main", "/dev/pts/0")?;
    pod.client.remove_container(&id)?;
    pod.remove()
}

fn exec_limited(ctx: &Ctx) -> Result<()> {
    const DEADLINE_EXCEEDED: u32 = 4;
    let pod = Pod::start(ctx)?;
    let id = pod.run_script("main", "exec sleep 1000")?;
    let exec = pod.client.exec(&id, &["sleep", "1001"], Duration::from_secs(1));
    let error = exec.err().context("it had no limit")?;
    let status = error.downcast_ref::<Status>();
    ensure!(status.is_some_and(|s| s.code == DEADLINE_EXCEEDED), "{error:#}");
    let seen = pod.exec(&id, &["ps", "-o", "args"])?;
    ensure!(!seen.contains("1001"), "{seen}");
    pod.kill_and_remove(&id)?;
    pod.remove()
}

fn graceful_stop(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let script = "trap 'echo bye; exit 6' TERM; echo ready; while :; do sleep 0.02; done";
    let id = pod.run_script("main", script)?;
    pod.wait_for_log("main", "ready")?;
    pod.client.stop_container(&id, PATIENCE)?;
    let status = pod.client.container_status(&id)?;
    ensure!(status.exit_code == 6, "{status:?}");
    pod.wait_for_log("main", "ready\nbye")?;
    pod.client.remove_container(&id)?;
    pod.remove()
}

fn containerd_killed(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let id = pod.run_script("main", "echo ready; exec sleep 1000")?;
    pod.wait_for_log("main", "ready")?;
    let shims = ctx.shims();
    ctx.engine().stop_containerd(Signal::KILL)?;
    ctx.engine().start_containerd()?;
    let status = pod.client.container_status(&id)?;
    ensure!(status.state() == ContainerState::Running, "{status:?}");
    ensure!(ctx.shims() == shims, "shims: {shims:?}, later {:?}", ctx.shims());
    ensure!(pod.exec(&id, &["echo", "alive"])? == "alive");
    let more = pod.run_script("more", "exec sleep 1000")?;
    ensure!(ctx.shims() == shims, "shims: {shims:?}, later {:?}", ctx.shims());
    pod.kill_and_remove(&more)?;
    pod.kill_and_remove(&id)?;
    pod.remove()
}

fn shim_killed(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let id = pod.run_script("main", "exec sleep 1000")?;
    kill_shim(ctx)?;
    let status = pod.wait_for_exit(&id)?;
    ensure!(status.exit_code != 0, "{status:?}");
    pod.client.remove_container(&id)?;
    pod.remove()?;
    if ctx.door() == Door::Stock {
        // containerd 2 does not run the `delete` verb for a container in a pod whose shim answered
        // with protocol version 3, so what the stock shim leaves stays: the process, runc's state
        // and the cgroup.
        let runc = ctx.in_namespace("runc").arg("--root");
        let runc = runc.arg("/run/containerd/runc/k8s.io");
        runc.args(["delete", "--force", &id]).ok()?;
    }
    remove_dead_sockets(ctx)
}

fn removed_at_once(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    pod.run_script("one", "exec sleep 1000")?;
    pod.run_script("two", "exec sleep 1000")?;
    pod.client.remove_pod(&pod.id)
}

fn twenty(ctx: &Ctx) -> Result<()> {
    let pod = Pod::start(ctx)?;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(pod.run_script(&format!("c{n}"), "exec sleep 1000")?);
    }
    ensure!(ctx.shims().len() == 1, "shims: {:?}", ctx.shims());
    for id in ids {
        pod.kill_and_remove(&id)?;
    }
    pod.remove()
}
