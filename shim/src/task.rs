//! The Task service (containerd, `api/runtime/task/v3/shim.proto`; v2 is the same on the wire).
//!
//! `create` asks the gate, before it mounts and before it takes any lock; everything else goes on
//! working whatever is broken there. No lock is held across a call of the runtime that another
//! container could wait for: a slow start of one never shows in the state of its siblings.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::api::{self, Empty};
use containerd_shim_protos::events::task as events;
use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::ttrpc::{self, Code};
use containerd_shim_protos::types::mount::Mount;
use containerd_shim_protos::types::task::{ProcessInfo, Status};
use portcullis_gate::{Admission, Ask, Gate, Permit};
use portcullis_resolve::{ContainerdResolver, RootfsMount, Start};
use portcullis_settings::Door;
use portcullis_types::{Engine, Place};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::args::is_id;
use crate::bundle::Spec;
use crate::cgroups::Cgroup;
use crate::events::{Publisher, any, timestamp};
use crate::io::{self, ContainerSide, Copies, Prepared, Streams, Whose};
use crate::mounts;
use crate::options::{self, RuntimeOptions};
use crate::process::{Process, State};
use crate::reaper::{Exit, Reaper};
use crate::runc::{Checkpoint, Runc, Started};
use crate::status::{Failed, not_found, status};
use crate::sys;

/// How long the end of a container waits for the ends of its other processes.
const STRAGGLERS: Duration = Duration::from_secs(10);

type Answer<T> = Result<T, Failed>;

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct TaskService(Arc<Inner>);

struct Inner {
    namespace: String,
    door: Door,
    resolver: ContainerdResolver,
    reaper: Reaper,
    publisher: Publisher,
    containers: Mutex<Containers>,
    exit: Notify,
    /// Records that nobody waits for but the end of the shim.
    records: Mutex<JoinSet<()>>,
}

/// The containers of this shim.
#[derive(Default)]
struct Containers {
    by_id: HashMap<String, Slot>,
    /// containerd has sent Shutdown: nothing is begun any more, and what was begun is undone.
    closing: bool,
}

/// A container's id is taken from the moment its creation begins.
enum Slot {
    Creating,
    Present(Arc<Container>),
}

/// A container that exists in the runtime.
struct Container {
    id: String,
    bundle: PathBuf,
    runc: Runc,
    shares_pid_namespace: bool,
    init: Arc<Process>,
    execs: Mutex<BTreeMap<String, Arc<Process>>>,
    /// From when its init is there.
    cgroup: OnceLock<Cgroup>,
    /// What its start restores, if it is not made anew.
    restore: Mutex<Option<Restore>>,
    paused: AtomicBool,
    gate: Arc<Gate>,
    admission: Admission,
}

/// All that a restore takes. The gate was asked when it was created.
struct Restore {
    permit: Permit,
    from: Checkpoint,
    theirs: ContainerSide,
    ours: Prepared,
}

/// What a creation has brought into being.
enum Made {
    /// The init, which waits for its start.
    Init(Started, Copies),
    /// A restore that waits for its start.
    Restore(Restore),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs to its end even if the caller hangs up: half a creation would leave mounts behind.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Answer<T>> + Send + 'static,
) -> ttrpc::Result<T> {
    match tokio::spawn(work).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(error) => Err(status(Code::INTERNAL, format!("a bug in portcullis: {error}"))),
    }
}

/// Runs blocking work beside the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Failed(status(Code::INTERNAL, format!("a bug in portcullis: {e}"))))
}

impl TaskService {
    pub(crate) fn new(
        namespace: &str,
        door: Door,
        resolver: ContainerdResolver,
        reaper: Reaper,
        publisher: Publisher,
    ) -> Self {
        Self(Arc::new(Inner {
            namespace: namespace.to_owned(),
            door,
            resolver,
            reaper,
            publisher,
            containers: Mutex::default(),
            exit: Notify::new(),
            records: Mutex::default(),
        }))
    }

    /// Waits until containerd has sent Shutdown and no container is left.
    pub(crate) async fn ended(&self) {
        self.0.exit.notified().await;
    }

    /// Waits until the last records are written.
    pub(crate) async fn recorded(&self) {
        let mut records = std::mem::take(&mut *lock(&self.0.records));
        while records.join_next().await.is_some() {}
    }

    fn container(&self, id: &str) -> Answer<Arc<Container>> {
        match lock(&self.0.containers).by_id.get(id) {
            Some(Slot::Present(container)) => Ok(container.clone()),
            Some(Slot::Creating) | None => Err(not_found("container", id).into()),
        }
    }

    fn process(&self, id: &str, exec_id: &str) -> Answer<(Arc<Container>, Arc<Process>)> {
        let container = self.container(id)?;
        let process = container.process(exec_id)?;
        Ok((container, process))
    }

    async fn create_container(
        self,
        request: api::CreateTaskRequest,
        caller_waits: Option<Duration>,
    ) -> Answer<u32> {
        if !is_id(&request.id) {
            let shown: String = request.id.chars().take(80).collect();
            return Err(
                status(Code::INVALID_ARGUMENT, format!("\"{shown}\" is no container id")).into()
            );
        }
        if request.rootfs.iter().any(|mount| !mount.target.is_empty()) {
            // The gate compares what stands at the root; more could be hidden below it.
            let text = "mounts below the root filesystem are not supported by this runtime";
            return Err(status(Code::INVALID_ARGUMENT, text).into());
        }
        let given_up = caller_waits.map(|waits| tokio::time::Instant::now() + waits);
        let reservation = Reservation::take(&self, &request.id)?;
        let bundle = PathBuf::from(&request.bundle);
        let spec = Spec::read(&bundle)?;
        // Read anew for each container: a pod's shim may be older than the node's settings.
        let door = self.0.door.clone();
        let gate = Arc::new(blocking(move || Gate::of_door(door.settings())).await?);
        let options = RuntimeOptions::resolve(
            options::decode(request.options.as_ref())?,
            &gate.settings().runtime,
            &self.0.namespace,
            &spec.linux.cgroups_path,
        );
        let streams = Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            driver: None,
        }
        .checked()?;
        let permit = self.permit(&gate, &request, caller_waits).await?;
        let admission = permit.admission();
        let runc = Runc { options, bundle, reaper: self.0.reaper.clone() };
        let created = self.bring_to_life(permit, &request, runc.clone(), &streams, given_up).await;
        let made = match created {
            Ok(made) => made,
            Err(failed) => {
                let why = failed.to_string();
                blocking(move || gate.failed(&admission, &why)).await?;
                return Err(failed);
            }
        };
        let init = Arc::new(Process::new(String::new(), streams, Vec::new()));
        let (exit, restore) = match made {
            Made::Init(started, copies) => {
                init.created(started.pid, copies);
                (Some(started.exit), None)
            }
            Made::Restore(restore) => (None, Some(restore)),
        };
        let container = Arc::new(Container {
            id: request.id.clone(),
            bundle: runc.bundle.clone(),
            runc,
            shares_pid_namespace: spec.shares_pid_namespace(),
            init,
            execs: Mutex::default(),
            cgroup: OnceLock::new(),
            restore: Mutex::new(restore),
            paused: AtomicBool::new(false),
            gate,
            admission,
        });
        if let Err(given_up) = reservation.keep(container.clone()) {
            self.undo(&container.runc, &container.id).await?;
            return Err(given_up);
        }
        self.0.publisher.publish(&events::TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: MessageField::some(events::TaskIO {
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
                terminal: request.terminal,
                ..events::TaskIO::default()
            }),
            checkpoint: request.checkpoint,
            pid: container.init.pid(),
            ..events::TaskCreate::default()
        });
        if let Some(exit) = exit {
            self.watch_oom(&container);
            self.watch_exit(&container, &container.init, exit);
        }
        Ok(container.init.pid())
    }

    /// Asks the gate, on a thread beside the runtime.
    async fn permit(
        &self,
        gate: &Arc<Gate>,
        request: &api::CreateTaskRequest,
        caller_waits: Option<Duration>,
    ) -> Answer<Permit> {
        let gate = gate.clone();
        let ask = Ask {
            engine: Engine::Containerd,
            container_id: request.id.clone(),
            bundle: PathBuf::from(&request.bundle),
            caller_waits,
            place: Place::Containerd {
                socket: self.0.resolver.address().to_owned(),
                namespace: Some(self.0.namespace.clone()),
            },
        };
        let resolver = self.0.resolver.clone();
        let namespace = self.0.namespace.clone();
        let id = request.id.clone();
        let rootfs: Vec<RootfsMount> = request.rootfs.iter().map(rootfs_mount).collect();
        let admitted = blocking(move || {
            let admitted = gate.admit(&ask, move |deadline| {
                resolver.resolve(&Start {
                    namespace: &namespace,
                    container_id: &id,
                    rootfs: &rootfs,
                    deadline,
                })
            });
            // Policies and findings are read once, and the shim lives as long as its pod.
            sys::give_back_memory();
            admitted
        })
        .await?;
        admitted.map_err(|refusal| status(Code::FAILED_PRECONDITION, refusal.message()).into())
    }

    /// Mounts, makes the streams, runs the runtime; leaves nothing behind if one of them fails.
    async fn bring_to_life(
        &self,
        permit: Permit,
        request: &api::CreateTaskRequest,
        runc: Runc,
        streams: &Streams,
        given_up: Option<tokio::time::Instant>,
    ) -> Answer<Made> {
        let rootfs = runc.bundle.join("rootfs");
        options_file(&runc)?;
        if !request.rootfs.is_empty() {
            let (mounts, rootfs) = (request.rootfs.clone(), rootfs.clone());
            blocking(move || {
                mounts::ensure_point(&rootfs)?;
                mounts::mount_all(&mounts, &rootfs)
            })
            .await??;
        }
        let id = permit.container_id().to_owned();
        let made = async {
            let whose = self.whose(&runc, &id);
            let (theirs, ours) = io::prepare(streams, whose, &self.0.reaper).await?;
            if !request.checkpoint.is_empty() {
                let from = Checkpoint {
                    images: request.checkpoint.clone(),
                    parent: request.parent_checkpoint.clone(),
                };
                return Ok(Made::Restore(Restore { permit, from, theirs, ours }));
            }
            let started = runc.create(permit, theirs, given_up).await?;
            let copies = ours.start(streams, started.terminal.clone())?;
            Answer::Ok(Made::Init(started, copies))
        };
        match made.await {
            Ok(made) => Ok(made),
            Err(failed) => {
                self.undo(&runc, &id).await?;
                Err(failed)
            }
        }
    }

    fn whose<'a>(&'a self, runc: &Runc, id: &'a str) -> Whose<'a> {
        Whose { id, namespace: &self.0.namespace, owner: runc.options.owner }
    }

    /// Takes away what is left of a creation: runc cleans up after itself unless it was killed or
    /// we failed after it.
    async fn undo(&self, runc: &Runc, id: &str) -> Answer<()> {
        if let Err(error) = runc.undo(id).await {
            log::warn!("after a failed create of {id}: {error}");
        }
        let rootfs = runc.bundle.join("rootfs");
        if let Err(error) = blocking(move || mounts::unmount_all(&rootfs)).await? {
            log::warn!("after a failed create of {id}: {error}");
        }
        Ok(())
    }

    fn watch_exit(
        &self,
        container: &Arc<Container>,
        process: &Arc<Process>,
        exit: tokio::sync::oneshot::Receiver<Exit>,
    ) {
        let (service, container, process) = (self.clone(), container.clone(), process.clone());
        tokio::spawn(async move {
            if let Ok(exit) = exit.await {
                service.process_ended(&container, &process, exit).await;
            }
        });
    }

    async fn process_ended(&self, container: &Container, process: &Process, exit: Exit) {
        let _turn = process.turn.lock().await;
        let is_init = process.exec_id.is_empty();
        if is_init {
            if container.shares_pid_namespace
                && let Err(error) = container.runc.kill(&container.id, 9, true).await
                && !error.is_gone()
            {
                log::warn!("container {}: {error}", container.id);
            }
            // The end of the container comes after the ends of its processes.
            let others: Vec<_> = lock(&container.execs).values().cloned().collect();
            let all_ended = async {
                for other in others.iter().filter(|o| matches!(o.state(), State::Running { .. })) {
                    other.wait().await;
                }
            };
            if tokio::time::timeout(STRAGGLERS, all_ended).await.is_err() {
                log::warn!("container {}: a process outlives its init", container.id);
            }
        }
        process.stopped(exit);
        let event_id = if is_init { &container.id } else { &process.exec_id };
        self.0.publisher.publish(&events::TaskExit {
            container_id: container.id.clone(),
            id: event_id.clone(),
            pid: process.pid(),
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..events::TaskExit::default()
        });
    }

    /// Finds the cgroup of a container whose init is there, and watches it.
    fn watch_oom(&self, container: &Arc<Container>) {
        let pid = i32::try_from(container.init.pid()).unwrap_or_default();
        let cgroup = match Cgroup::of(pid) {
            Ok(cgroup) => container.cgroup.get_or_init(|| cgroup),
            Err(error) => {
                log::warn!("container {}: no statistics: {error}", container.id);
                return;
            }
        };
        let mut watch = match cgroup.watch_oom() {
            Ok(watch) => watch,
            Err(error) => {
                log::warn!("container {}: no out-of-memory events: {error}", container.id);
                return;
            }
        };
        let (publisher, container) = (self.0.publisher.clone(), Arc::downgrade(container));
        tokio::spawn(async move {
            while watch.next().await.is_some() {
                let Some(container) = container.upgrade() else {
                    return;
                };
                publisher.publish(&events::TaskOOM {
                    container_id: container.id.clone(),
                    ..events::TaskOOM::default()
                });
            }
        });
    }

    async fn start_process(self, id: String, exec_id: String) -> Answer<u32> {
        let (container, process) = self.process(&id, &exec_id)?;
        let _turn = process.turn.lock().await;
        match (process.state(), exec_id.is_empty()) {
            (State::Created { pid }, true) => self.start_init(&container, pid).await,
            (State::Added, true) => self.start_restored(&container).await,
            (State::Added, false) => self.start_exec(&container, &process).await,
            (state, _) => {
                let what = match state {
                    State::Running { .. } => "is running already",
                    State::Stopped { .. } => "has ended",
                    State::Added | State::Created { .. } => "is being created",
                };
                Err(status(Code::FAILED_PRECONDITION, format!("process {exec_id} of {id} {what}"))
                    .into())
            }
        }
    }

    async fn start_init(&self, container: &Arc<Container>, pid: i32) -> Answer<u32> {
        if let Err(error) = container.runc.start(&container.id).await {
            return Err(self.not_started(container, error.into()).await?);
        }
        container.init.running(pid);
        self.has_started(container);
        Ok(pid.unsigned_abs())
    }

    /// Runs a container on from its checkpoint.
    async fn start_restored(&self, container: &Arc<Container>) -> Answer<u32> {
        let Some(restore) = lock(&container.restore).take() else {
            let text = format!("the restore of container {} has failed", container.id);
            return Err(status(Code::FAILED_PRECONDITION, text).into());
        };
        let Restore { permit, from, theirs, ours } = restore;
        let started = match container.runc.restore(permit, &from, theirs).await {
            Ok(started) => started,
            Err(error) => return Err(self.not_started(container, error.into()).await?),
        };
        let copies =
            ours.start(&container.init.streams, started.terminal).unwrap_or_else(|error| {
                log::error!("container {}: {}", container.id, Failed::from(error));
                Copies::default()
            });
        container.init.created(started.pid, copies);
        container.init.running(started.pid);
        self.has_started(container);
        self.watch_oom(container);
        self.watch_exit(container, &container.init, started.exit);
        Ok(started.pid.unsigned_abs())
    }

    /// Records that a container's start has failed.
    async fn not_started(&self, container: &Container, failed: Failed) -> Answer<Failed> {
        let (gate, admission) = (container.gate.clone(), container.admission.clone());
        let why = failed.to_string();
        blocking(move || gate.failed(&admission, &why)).await?;
        Ok(failed)
    }

    /// Tells, and records, that a container runs.
    fn has_started(&self, container: &Container) {
        self.0.publisher.publish(&events::TaskStart {
            container_id: container.id.clone(),
            pid: container.init.pid(),
            ..events::TaskStart::default()
        });
        let (gate, admission) = (container.gate.clone(), container.admission.clone());
        let mut records = lock(&self.0.records);
        while records.try_join_next().is_some() {}
        records.spawn_blocking(move || gate.started(&admission));
    }

    async fn start_exec(&self, container: &Arc<Container>, process: &Arc<Process>) -> Answer<u32> {
        let streams = &process.streams;
        let whose = self.whose(&container.runc, &process.exec_id);
        let (theirs, ours) = io::prepare(streams, whose, &self.0.reaper).await?;
        let started =
            container.runc.exec(&container.id, &process.exec_id, &process.spec, theirs).await?;
        let copies = ours.start(streams, started.terminal).unwrap_or_else(|error| {
            log::error!("process {}: {}", process.exec_id, Failed::from(error));
            Copies::default()
        });
        process.created(started.pid, copies);
        process.running(started.pid);
        let pid = started.pid.unsigned_abs();
        self.0.publisher.publish(&events::TaskExecStarted {
            container_id: container.id.clone(),
            exec_id: process.exec_id.clone(),
            pid,
            ..events::TaskExecStarted::default()
        });
        self.watch_exit(container, process, started.exit);
        Ok(pid)
    }

    async fn delete_process(self, id: String, exec_id: String) -> Answer<api::DeleteResponse> {
        let (container, process) = self.process(&id, &exec_id)?;
        let _turn = process.turn.lock().await;
        if let State::Running { .. } = process.state() {
            let text = format!("cannot delete the running process {exec_id} of {id}");
            return Err(status(Code::FAILED_PRECONDITION, text).into());
        }
        process.finish_io().await;
        let exit = match process.state() {
            State::Stopped { exit, .. } => exit,
            _ => Exit { status: 0, at: jiff::Timestamp::now() },
        };
        let response = api::DeleteResponse {
            pid: process.pid(),
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..api::DeleteResponse::default()
        };
        if !exec_id.is_empty() {
            lock(&container.execs).remove(&exec_id);
            return Ok(response);
        }
        container.runc.delete(&id).await?;
        // Processes that nobody has deleted have ended with their container.
        let others = std::mem::take(&mut *lock(&container.execs));
        for other in others.values().filter(|other| other.is_stopped()) {
            other.finish_io().await;
        }
        let rootfs = container.bundle.join("rootfs");
        blocking(move || mounts::unmount_all(&rootfs)).await??;
        lock(&self.0.containers).by_id.remove(&id);
        self.0.publisher.publish(&events::TaskDelete {
            container_id: id,
            pid: response.pid,
            exit_status: response.exit_status,
            exited_at: response.exited_at.clone(),
            ..events::TaskDelete::default()
        });
        Ok(response)
    }

    fn add_exec(&self, request: api::ExecProcessRequest) -> Answer<()> {
        let container = self.container(&request.id)?;
        if !is_id(&request.exec_id) {
            let shown: String = request.exec_id.chars().take(80).collect();
            let text = format!("\"{shown}\" is no process id");
            return Err(status(Code::INVALID_ARGUMENT, text).into());
        }
        let streams = Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            driver: None,
        }
        .checked()?;
        let spec = process_spec(&request.spec.value, request.terminal)?;
        let mut execs = lock(&container.execs);
        if execs.contains_key(&request.exec_id) {
            let text = format!("process {} exists already", request.exec_id);
            return Err(status(Code::ALREADY_EXISTS, text).into());
        }
        let process = Process::new(request.exec_id.clone(), streams, spec);
        execs.insert(request.exec_id.clone(), Arc::new(process));
        drop(execs);
        self.0.publisher.publish(&events::TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..events::TaskExecAdded::default()
        });
        Ok(())
    }

    async fn kill_process(self, request: api::KillRequest) -> Answer<()> {
        let (container, process) = self.process(&request.id, &request.exec_id)?;
        match (process.state(), request.exec_id.is_empty()) {
            (State::Stopped { .. }, _) => {
                Err(status(Code::NOT_FOUND, "process already finished").into())
            }
            // Not NOT_FOUND: clients of 1.6 would wait for its end then.
            (State::Added, _) | (State::Created { .. }, false) => {
                let text = format!("process {} has not been started", request.exec_id);
                Err(status(Code::FAILED_PRECONDITION, text).into())
            }
            (_, true) => Ok(container.runc.kill(&request.id, request.signal, request.all).await?),
            (State::Running { pid }, false) => send_signal(pid, request.signal),
        }
    }

    async fn list_pids(self, id: String) -> Answer<api::PidsResponse> {
        let container = self.container(&id)?;
        let pids = container.runc.pids(&id).await?;
        let execs = lock(&container.execs);
        let processes = pids.into_iter().map(|pid| {
            let mut info = ProcessInfo { pid, ..ProcessInfo::default() };
            if let Some(exec) = execs.values().find(|e| e.pid() == pid) {
                let details =
                    ProcessDetails { exec_id: exec.exec_id.clone(), ..ProcessDetails::default() };
                info.info = MessageField::some(any(&details));
            }
            info
        });
        Ok(api::PidsResponse { processes: processes.collect(), ..api::PidsResponse::default() })
    }

    async fn set_paused(self, id: String, paused: bool) -> Answer<()> {
        let container = self.container(&id)?;
        if paused {
            container.runc.pause(&id).await?;
        } else {
            container.runc.resume(&id).await?;
        }
        container.paused.store(paused, Ordering::Relaxed);
        if paused {
            self.0
                .publisher
                .publish(&events::TaskPaused { container_id: id, ..events::TaskPaused::default() });
        } else {
            self.0.publisher.publish(&events::TaskResumed {
                container_id: id,
                ..events::TaskResumed::default()
            });
        }
        Ok(())
    }

    async fn checkpoint_container(self, request: api::CheckpointTaskRequest) -> Answer<()> {
        let container = self.container(&request.id)?;
        let options = options::decode_checkpoint(request.options.as_ref())?;
        let _turn = container.init.turn.lock().await;
        let State::Running { .. } = container.init.state() else {
            let text = format!("container {} does not run: no checkpoint", request.id);
            return Err(status(Code::FAILED_PRECONDITION, text).into());
        };
        Ok(container.runc.checkpoint(&request.id, &request.path, &options).await?)
    }

    async fn update_resources(self, request: api::UpdateTaskRequest) -> Answer<()> {
        let container = self.container(&request.id)?;
        Ok(container.runc.update(&request.id, &request.resources.value).await?)
    }
}

impl Container {
    fn process(&self, exec_id: &str) -> Answer<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        let found = lock(&self.execs).get(exec_id).cloned();
        found.ok_or_else(|| not_found("process", exec_id).into())
    }
}

/// An id that is being created; free again unless the container is kept.
struct Reservation {
    service: TaskService,
    id: String,
}

impl Reservation {
    fn take(service: &TaskService, id: &str) -> Answer<Self> {
        let mut containers = lock(&service.0.containers);
        if containers.closing {
            return Err(status(Code::FAILED_PRECONDITION, "this shim is ending").into());
        }
        if containers.by_id.contains_key(id) {
            return Err(
                status(Code::ALREADY_EXISTS, format!("container {id} exists already")).into()
            );
        }
        containers.by_id.insert(id.to_owned(), Slot::Creating);
        Ok(Self { service: service.clone(), id: id.to_owned() })
    }

    /// The container is there. Fails if containerd has given it up in the meantime: then nobody
    /// would ever delete it.
    fn keep(&self, container: Arc<Container>) -> Answer<()> {
        let mut containers = lock(&self.service.0.containers);
        if containers.closing {
            let text = format!("container {} was given up by containerd", self.id);
            return Err(status(Code::ABORTED, text).into());
        }
        containers.by_id.insert(self.id.clone(), Slot::Present(container));
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut containers = lock(&self.service.0.containers);
        if let Some(Slot::Creating) = containers.by_id.get(&self.id) {
            containers.by_id.remove(&self.id);
        }
        if containers.closing && containers.by_id.is_empty() {
            self.service.0.exit.notify_one();
        }
    }
}

fn rootfs_mount(mount: &Mount) -> RootfsMount {
    RootfsMount {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        options: mount.options.clone(),
    }
}

/// Keeps what the `delete` verb must know, should this shim be killed.
fn options_file(runc: &Runc) -> Answer<()> {
    let path = runc.bundle.join(options::FILE);
    let written = serde_json::to_vec(&runc.options)
        .map_err(std::io::Error::from)
        .and_then(|bytes| std::fs::write(&path, bytes));
    written.map_err(|e| {
        status(Code::UNKNOWN, format!("cannot write {}: {e}", Path::new(&path).display())).into()
    })
}

/// The OCI process of an exec request, with the terminal that the request asks for.
fn process_spec(json: &[u8], terminal: bool) -> Answer<Vec<u8>> {
    let wrong = |e: serde_json::Error| {
        Failed(status(
            Code::INVALID_ARGUMENT,
            format!("the process specification is not JSON: {e}"),
        ))
    };
    let mut spec: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(wrong)?;
    spec.insert("terminal".into(), terminal.into());
    serde_json::to_vec(&spec).map_err(wrong)
}

/// Sends a signal to a child that has not been reaped: its pid cannot be another's.
fn send_signal(pid: i32, signal: u32) -> Answer<()> {
    let number = i32::try_from(signal).ok().filter(|n| (1..=64).contains(n));
    let (Some(number), Some(pid)) = (number, rustix::process::Pid::from_raw(pid)) else {
        return Err(status(Code::INVALID_ARGUMENT, format!("{signal} is no signal")).into());
    };
    match sys::kill(pid, number) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            Err(status(Code::NOT_FOUND, "process already finished").into())
        }
        Err(error) => Err(status(Code::UNKNOWN, format!("cannot send the signal: {error}")).into()),
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        ctx: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        let caller_waits =
            u64::try_from(ctx.timeout_nano).ok().filter(|n| *n > 0).map(Duration::from_nanos);
        let pid = whole(self.clone().create_container(request, caller_waits)).await?;
        Ok(api::CreateTaskResponse { pid, ..api::CreateTaskResponse::default() })
    }

    async fn start(
        &self,
        _: &TtrpcContext,
        request: api::StartRequest,
    ) -> ttrpc::Result<api::StartResponse> {
        let pid = whole(self.clone().start_process(request.id, request.exec_id)).await?;
        Ok(api::StartResponse { pid, ..api::StartResponse::default() })
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: api::DeleteRequest,
    ) -> ttrpc::Result<api::DeleteResponse> {
        whole(self.clone().delete_process(request.id, request.exec_id)).await
    }

    async fn exec(
        &self,
        _: &TtrpcContext,
        request: api::ExecProcessRequest,
    ) -> ttrpc::Result<Empty> {
        self.add_exec(request)?;
        Ok(Empty::default())
    }

    async fn state(
        &self,
        _: &TtrpcContext,
        request: api::StateRequest,
    ) -> ttrpc::Result<api::StateResponse> {
        let (container, process) = self.process(&request.id, &request.exec_id)?;
        let mut response = api::StateResponse {
            id: container.id.clone(),
            bundle: container.bundle.display().to_string(),
            pid: process.pid(),
            stdin: process.streams.stdin.clone(),
            stdout: process.streams.stdout.clone(),
            stderr: process.streams.stderr.clone(),
            terminal: process.streams.terminal,
            exec_id: process.exec_id.clone(),
            ..api::StateResponse::default()
        };
        let mut now = process.status();
        if now == Status::RUNNING && container.paused.load(Ordering::Relaxed) {
            now = Status::PAUSED;
        }
        response.status = EnumOrUnknown::new(now);
        if let State::Stopped { exit, .. } = process.state() {
            response.exit_status = exit.status;
            response.exited_at = timestamp(exit.at);
        }
        Ok(response)
    }

    async fn wait(
        &self,
        _: &TtrpcContext,
        request: api::WaitRequest,
    ) -> ttrpc::Result<api::WaitResponse> {
        let (_, process) = self.process(&request.id, &request.exec_id)?;
        let exit = process.wait().await;
        Ok(api::WaitResponse {
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..api::WaitResponse::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<Empty> {
        whole(self.clone().kill_process(request)).await?;
        Ok(Empty::default())
    }

    async fn pids(
        &self,
        _: &TtrpcContext,
        request: api::PidsRequest,
    ) -> ttrpc::Result<api::PidsResponse> {
        whole(self.clone().list_pids(request.id)).await
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> ttrpc::Result<Empty> {
        whole(self.clone().set_paused(request.id, true)).await?;
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> ttrpc::Result<Empty> {
        whole(self.clone().set_paused(request.id, false)).await?;
        Ok(Empty::default())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        request: api::CheckpointTaskRequest,
    ) -> ttrpc::Result<Empty> {
        whole(self.clone().checkpoint_container(request)).await?;
        Ok(Empty::default())
    }

    async fn resize_pty(
        &self,
        _: &TtrpcContext,
        request: api::ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        let (_, process) = self.process(&request.id, &request.exec_id)?;
        process.resize(request.width, request.height)?;
        Ok(Empty::default())
    }

    async fn close_io(
        &self,
        _: &TtrpcContext,
        request: api::CloseIORequest,
    ) -> ttrpc::Result<Empty> {
        let (_, process) = self.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.close_input();
        }
        Ok(Empty::default())
    }

    async fn update(
        &self,
        _: &TtrpcContext,
        request: api::UpdateTaskRequest,
    ) -> ttrpc::Result<Empty> {
        whole(self.clone().update_resources(request)).await?;
        Ok(Empty::default())
    }

    async fn stats(
        &self,
        _: &TtrpcContext,
        request: api::StatsRequest,
    ) -> ttrpc::Result<api::StatsResponse> {
        let container = self.container(&request.id)?;
        let Some(cgroup) = container.cgroup.get() else {
            return Err(not_found("cgroup of container", &request.id));
        };
        let stats = MessageField::some(cgroup.metrics());
        Ok(api::StatsResponse { stats, ..api::StatsResponse::default() })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> ttrpc::Result<api::ConnectResponse> {
        // containerd 2 asks this to learn our pid, for ids we do not know too.
        let task_pid = self.container(&request.id).map(|c| c.init.pid()).unwrap_or(0);
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..api::ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> ttrpc::Result<Empty> {
        let mut containers = lock(&self.0.containers);
        let present = containers.by_id.values().any(|slot| matches!(slot, Slot::Present(_)));
        if !present {
            // A creation that its caller has given up ends the shim when it ends.
            containers.closing = true;
            if containers.by_id.is_empty() {
                self.0.exit.notify_one();
            }
        }
        Ok(Empty::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_process_gets_the_terminal_of_its_request() {
        let spec = process_spec(br#"{"args":["sh"],"terminal":true}"#, false).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&spec).unwrap()["terminal"], false);
        assert!(process_spec(b"[]", false).is_err());
        assert!(process_spec("[".repeat(10_000).as_bytes(), false).is_err());
    }
}
