//! `portcullisd`, the agent of a node.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use portcullis_agent::{Follow, Forward, InCluster, Queue, Scans, Socket, Updates};
use portcullis_kubernetes::{Access, Cluster, Removed};
use portcullis_settings::{DoorSettings, Paths, SETTINGS_FILE, Settings};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use systemd_journal_logger::JournalLog;

/// How long a scan that goes on, or an engine that is asked, may take to stop at the end.
const GRACE: Duration = Duration::from_secs(5);

/// The agent of a node: scans images when they come, and those that doors ask for.
///
/// It listens at /run/portcullis/agent.sock, where only root may ask. A policy that says
/// `unscanned: {scan: true}` has an image scanned that nobody has scanned, within the time that a start
/// may take; the scan goes on after that, so that the next start finds a verdict. By itself it scans
/// the images of the node's engines, and judges what runs again when policies or advisories change. It
/// reads /etc/portcullis/portcullis.toml and ends with SIGTERM.
#[derive(Debug, Parser)]
#[command(version, name = "portcullisd")]
struct Args {
    /// The folder below which etc/portcullis, var/lib/portcullis and run/portcullis are
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,

    /// Where metrics and health are told over HTTP, whatever agent.listen of portcullis.toml says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Pass the ledger's records on as JSON lines on standard output: each at least once, and exactly
    /// once over orderly restarts; a kill may repeat up to 500
    #[arg(long)]
    forward_events: bool,

    /// Print the definitions of the custom resources that a cluster needs, and end
    #[arg(long)]
    print_crds: bool,
}

/// The part in a Kubernetes cluster.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "In a Kubernetes cluster")]
struct ClusterArgs {
    /// Take policies from the cluster, and tell it what is decided
    #[arg(long)]
    kubernetes: bool,
    /// The kubeconfig by which the API server is reached; left out: as a pod, by its service account
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    kubeconfig: Option<PathBuf>,
    /// The node's name in the cluster; left out: the node of portcullis.toml
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: Option<String>,
    /// The namespace of what was installed
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "portcullis-system")]
    namespace: String,
    /// The DaemonSet that this is a pod of
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    daemonset: Option<String>,
    /// A program that is run at the end if that DaemonSet was deleted, to restore the node. Its argument
    /// is `all` if the ConfigMap of the same name was deleted too, and `agent` if not
    #[arg(long, value_name = "PROGRAM", requires = "daemonset")]
    on_removal: Option<PathBuf>,
}

impl ClusterArgs {
    /// Which cluster, if any.
    fn cluster(&self, settings: &Settings) -> Option<Cluster> {
        self.kubernetes.then(|| Cluster {
            access: self.kubeconfig.clone().map_or(Access::InCluster, Access::File),
            node: self.node_name.clone().unwrap_or_else(|| settings.node.clone()),
            namespace: self.namespace.clone(),
            daemonset: self.daemonset.clone(),
            outbox: settings.paths().followed().join("cluster.json"),
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.print_crds {
        return print_crds();
    }
    log_to_journal_or_terminal();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    // Before anything else, so that no signal is lost.
    let (ending, signalled) = UnixStream::pair().context("cannot make a pair of sockets")?;
    for signal in [SIGTERM, SIGINT] {
        let pipe = signalled.try_clone().context("cannot make a pair of sockets")?;
        signal_hook::low_level::pipe::register(signal, pipe).context("cannot take signals")?;
    }
    let (mut settings, file) = settings(args.root.as_deref())?;
    settings.agent.listen = args.listen.or(settings.agent.listen);
    let own = std::env::current_exe().context("the path of this program cannot be told")?;
    let program = portcullis_scan::program_beside(&own)?;
    let socket = Socket::listen(&settings.paths().agent())?;
    let queue = Arc::new(Queue::new(settings.agent.waiting));
    let scans = Arc::new(Scans::new(settings.clone(), program));
    let watch = portcullis_agent::watch(&scans, &file, &queue).context("cannot start a thread")?;
    let worker = {
        let (scans, queue, pulse) =
            (scans.clone(), queue.clone(), watch.health.thread("scans", None));
        std::thread::Builder::new().name("scans".to_owned()).spawn(move || {
            let _pulse = pulse;
            scans.work(&queue);
        })
    };
    let worker = worker.context("cannot start a thread")?;
    let follow = Follow::begin(&scans, &queue, &watch.health).context("nothing can be followed")?;
    let updates = Updates::begin(&settings, own.with_file_name("portcullis"), &watch.health)
        .context("cannot start a thread")?;
    let in_cluster = match args.cluster.cluster(&settings) {
        Some(cluster) => Some(InCluster::begin(cluster, settings.clone(), &watch.health)?),
        None => None,
    };
    let forward = match args.forward_events {
        true => Some(Forward::begin(&settings, io::stdout()).context("cannot start a thread")?),
        false => None,
    };
    if let Some(in_cluster) = &in_cluster {
        watch.of_cluster(in_cluster.shared.clone());
    }
    log::info!("ready");
    tell_systemd(NotifyState::Ready);
    let served = socket.serve(&queue, &ending).context("the socket does not work");
    tell_systemd(NotifyState::Stopping);
    log::info!("ending");
    queue.end();
    scans.end();
    follow.end();
    if let Some(updates) = &updates {
        updates.end();
    }
    if let Some(forward) = &forward {
        forward.end();
    }
    // What a scan has in the way of files and processes is gone when its thread is.
    let begun = std::time::Instant::now();
    let has_ended = || {
        let forwarded = forward.as_ref().is_none_or(Forward::has_ended);
        let updated = updates.as_ref().is_none_or(Updates::has_ended);
        worker.is_finished() && follow.has_ended() && forwarded && updated
    };
    while !has_ended() && begun.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(20));
    }
    if !has_ended() {
        log::warn!("something has not ended within {} s and is left", GRACE.as_secs());
    }
    let removed = in_cluster.map_or(Removed::Nothing, InCluster::end);
    drop(socket);
    if let Some(program) = &args.cluster.on_removal {
        restore(program, removed)?;
    }
    served
}

/// Restores the node, if what was installed is being removed from the cluster.
fn restore(program: &Path, removed: Removed) -> Result<()> {
    let what = match removed {
        Removed::Nothing => return Ok(()),
        Removed::Agent => "agent",
        Removed::All => "all",
    };
    log::info!("removed from the cluster: {what}; {} restores this node", program.display());
    let status = Command::new(program).arg(what).status();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(())
}

fn print_crds() -> ExitCode {
    let text = portcullis_kubernetes::for_people(&portcullis_kubernetes::custom_resources());
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The settings of the node, or those below a root, and their file.
fn settings(root: Option<&Path>) -> Result<(Settings, PathBuf)> {
    let file = match root {
        None => PathBuf::from(SETTINGS_FILE),
        Some(root) => Paths::below(root).settings(),
    };
    let DoorSettings { settings, problem } = DoorSettings::at(&file);
    if let Some(problem) = problem {
        return Err(problem).context("the settings are wrong");
    }
    let settings = match root {
        None => settings,
        Some(root) => settings.below(root),
    };
    Ok((settings, file))
}

fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        log::warn!("systemd cannot be told: {error}");
    }
}

/// To the journal if systemd has connected us to it, else to standard error.
fn log_to_journal_or_terminal() {
    log::set_max_level(log::LevelFilter::Info);
    if systemd_journal_logger::connected_to_journal()
        && JournalLog::new().is_ok_and(|journal| journal.install().is_ok())
    {
        return;
    }
    // The only other reason is that there is one already.
    let _there_is_one = log::set_logger(&Terminal);
}

/// A line for each record.
struct Terminal;

impl log::Log for Terminal {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            let _nobody_reads_it =
                writeln!(io::stderr(), "portcullisd: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}
