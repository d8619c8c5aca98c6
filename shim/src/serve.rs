//! The shim's daemon: one thread, one socket, until its last container is gone.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc::r#async::Server;
use containerd_shim_protos::ttrpc::r#async::transport::Listener;
use portcullis_resolve::ContainerdResolver;
use portcullis_settings::Door;
use rustix::fs::{Mode, OFlags};
use tokio::signal::unix::{SignalKind, signal};

use crate::events::Publisher;
use crate::logger;
use crate::reaper::Reaper;
use crate::task::TaskService;

/// The last events may take this long.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// The last answers may take this long.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// A thread beside the runtime ends when it has had nothing to do for this long.
const IDLE_THREAD: Duration = Duration::from_millis(500);

/// What the daemon needs to know.
pub(crate) struct Daemon {
    pub(crate) namespace: String,
    pub(crate) grpc_address: String,
    pub(crate) ttrpc_address: String,
    pub(crate) debug: bool,
    pub(crate) socket: PathBuf,
}

/// Leaves the session and the streams of whoever called; containerd reads the end of stdout as
/// "ready".
///
/// # Errors
/// If `/dev/null` cannot be opened.
pub(crate) fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Serves until the shim's work is done. What fails here is in the log.
pub(crate) fn run(
    daemon: &Daemon,
    listener: UnixListener,
    wants_core: bool,
    oom_score: Option<i32>,
) {
    logger::start(daemon.debug);
    if wants_core && let Err(error) = crate::sys::own_scheduling_core() {
        log::warn!("no scheduling core of its own: {error}");
    }
    if let Some(score) = oom_score
        && let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        log::warn!("cannot set the out-of-memory score: {error}");
    }
    // What runc leaves behind, the container's init first of all, becomes our child.
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        log::error!("cannot become subreaper: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(32)
        .thread_keep_alive(IDLE_THREAD)
        .build();
    let served = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(serve(daemon, listener));
            // A thread that is stuck in a dead file system must not keep the shim.
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        log::error!("the shim ends: {error}");
        let _it_is_ending = std::fs::remove_file(&daemon.socket);
    }
}

async fn serve(daemon: &Daemon, listener: UnixListener) -> io::Result<()> {
    let reaper = Reaper::default();
    reaper.start()?;
    let resolver = ContainerdResolver::new(&daemon.grpc_address);
    let publisher = Publisher::start(&daemon.namespace, &daemon.ttrpc_address);
    let service = TaskService::new(
        &daemon.namespace,
        Door::of_this_binary(),
        resolver,
        reaper,
        publisher.clone(),
    );

    let mut server = Server::new()
        .add_listener(Listener::try_from(listener)?)
        .register_service(under_both_names(&service));
    server.start().await.map_err(io::Error::other)?;
    ignore_polite_signals()?;
    service.ended().await;

    // Whoever wants a shim under this name now gets one of its own.
    if let Err(error) = std::fs::remove_file(&daemon.socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove the socket: {error}");
    }
    let last = async { tokio::join!(publisher.flush(LAST_EVENTS), service.recorded()) };
    if tokio::time::timeout(LAST_EVENTS, last).await.is_err() {
        log::warn!("the last records are given up");
    }
    if tokio::time::timeout(LAST_ANSWERS, server.shutdown()).await.is_err() {
        log::warn!("the last answers are given up");
    }
    Ok(())
}

/// The messages of task v2 and v3 are the same on the wire: one service under both names.
fn under_both_names(
    service: &TaskService,
) -> std::collections::HashMap<String, containerd_shim_protos::ttrpc::r#async::Service> {
    let v3 = || create_task(Arc::new(service.clone()) as Arc<dyn Task + Send + Sync>);
    let v2 = v3().into_iter().map(|(name, methods)| (name.replace(".v3.", ".v2."), methods));
    v3().into_iter().chain(v2).collect()
}

/// A shim that ends while its containers run orphans them; only containerd's Shutdown ends it.
fn ignore_polite_signals() -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut arrivals = signal(kind)?;
        tokio::spawn(async move {
            while arrivals.recv().await.is_some() {
                log::info!("signal {} is ignored", kind.as_raw_value());
            }
        });
    }
    Ok(())
}
