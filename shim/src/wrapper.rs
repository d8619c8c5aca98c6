//! `portcullis-runc`: stands in an OCI runtime's place, decides on what creates a container, and
//! becomes the runtime.
//!
//! It is as if it were not there: arguments, environment, descriptors, signals, umask and process id
//! reach the runtime as they came, and nothing is printed. Only a creation is looked at; all that
//! concerns containers that run goes on with nothing of Portcullis in its way but the runtime's
//! path.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use portcullis_gate::{Ask, Gate, Permit, Refusal};
use portcullis_resolve::{
    ContainerdResolver, DockerResolver, OciStart, Resolved, StorageEngine, StorageResolver,
};
use portcullis_settings::{Door, RuntimeError, WrapperSettings};
use portcullis_types::{Engine, Place};
use serde::Serialize;

use crate::oci_args::{self, CreatesNothing, Creation, Line, Told, Unclear};
use crate::oci_bundle::{Bundle, BundleError};
use crate::status::chain;
use crate::sys;

/// Runtimes that start a container themselves. Any other one may be a wrapper too, which could find
/// us again where it looks for its runtime.
const LAST: [&str; 4] = ["runc", "crun", "youki", "runsc"];
/// Tells a wrapper that is called again by the runtime that it became. It can only make it stop.
const LOOP_MARK: &str = "PORTCULLIS_WRAPPED";

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
enum WrapperError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("portcullis")]
    Bundle(#[from] BundleError),
    #[error("portcullis")]
    Runtime(#[from] RuntimeError),
    #[error("portcullis: cannot run {runtime}")]
    Exec { runtime: PathBuf, source: io::Error },
    #[error(
        "portcullis: {runtime} calls Portcullis again, for ever: make it call the real runtime by \
         its path"
    )]
    Loop { runtime: PathBuf },
}

/// What may be handed to the runtime.
enum Leave {
    /// The line creates nothing.
    Nothing(CreatesNothing),
    /// The gate let it through.
    Container(Permit),
}

/// Becomes the runtime, or says why not and gives the exit code: 1, as runc's own for an error.
pub fn wrapper(args: &[OsString]) -> i32 {
    // What is opened here must not take the place of a stream that the caller left closed.
    sys::fill_streams();
    // A bug is one line, and the runtime's code for an error; the runtime's streams are the
    // container's, where nothing else may be written.
    std::panic::set_hook(Box::new(|_| {}));
    let line = oci_args::read(args);
    let told = match &line {
        Line::Pass(_) => Told::default(),
        Line::Creates(creation) => creation.told.clone(),
        Line::Unclear(unclear) => unclear.told.clone(),
    };
    let message = match std::panic::catch_unwind(AssertUnwindSafe(|| go(line, args))) {
        Ok(Err(error)) => chain(&error),
        Err(_) => "portcullis: a bug in portcullis: it panicked".to_owned(),
    };
    tell(&told, &message);
    1
}

fn go(line: Line, args: &[OsString]) -> Result<Infallible, WrapperError> {
    let door = Door::of_this_binary();
    let runtime = door.runtime()?;
    if std::env::var(LOOP_MARK).is_ok_and(|pid| pid == std::process::id().to_string()) {
        return Err(WrapperError::Loop { runtime });
    }
    match line {
        Line::Pass(nothing) => become_runtime(Leave::Nothing(nothing), &runtime, args),
        Line::Creates(creation) => {
            // A socket whose other end is gone is an error to us and no signal.
            let pipe_signal = sys::PipeSignal::ignored();
            let permit = permit(&door, &creation)?;
            pipe_signal.put_back();
            become_runtime(Leave::Container(permit), &runtime, args)
        }
        Line::Unclear(Unclear { why, .. }) => {
            let _pipe_signal = sys::PipeSignal::ignored();
            let gate = Gate::of_door(door.settings());
            let engine = gate.settings().wrapper(door.name()).engine;
            let why = format!(
                "the command line may create a container and cannot be read in one way only: {why}"
            );
            Err(gate.turn_away(engine, "", &why).into())
        }
    }
}

/// Asks the gate. The bundle is looked at again last, since the runtime reads it next.
fn permit(door: &Door, creation: &Creation) -> Result<Permit, WrapperError> {
    let gate = Gate::of_door(door.settings());
    let settings = gate.settings().wrapper(door.name());
    let engine = settings.engine;
    let turn_away = |error: BundleError| -> WrapperError {
        if error.is_missing() {
            return error.into();
        }
        gate.turn_away(engine, &creation.id, &chain(&error)).into()
    };
    let bundle = Bundle::open(creation.bundle.as_deref()).map_err(turn_away)?;
    let ask = Ask {
        engine,
        container_id: creation.id.clone(),
        bundle: bundle.path.clone(),
        caller_waits: None,
        place: place(&settings),
    };
    let (state, place) = (creation.state.clone(), ask.place.clone());
    let (id, path, root) = (creation.id.clone(), bundle.path.clone(), bundle.root.clone());
    let permit = gate.admit(&ask, move |deadline| match root {
        Err(why) => Resolved::unknown(&why),
        Ok(root) => resolve(
            engine,
            place,
            &OciStart {
                container_id: &id,
                bundle: &path,
                root: &root,
                state: state.as_deref(),
                deadline,
            },
        ),
    })?;
    bundle.check_unchanged().map_err(turn_away)?;
    Ok(permit)
}

/// Where the engine has its images.
fn place(settings: &WrapperSettings) -> Place {
    let storage = |engine| Place::Storage {
        roots: match settings.storage.is_empty() {
            true => StorageResolver::default_roots(engine),
            false => settings.storage.clone(),
        },
    };
    let socket = settings.socket.clone();
    match settings.engine {
        Engine::Containerd => Place::Containerd { socket, namespace: None },
        Engine::CriO => storage(StorageEngine::CriO),
        Engine::Podman => storage(StorageEngine::Podman),
        Engine::Docker => Place::Docker { data: settings.data.clone(), socket },
    }
}

/// Which image it is, asked where the engine keeps its records.
fn resolve(engine: Engine, place: Place, start: &OciStart<'_>) -> Resolved {
    match place {
        Place::Containerd { socket, .. } => {
            ContainerdResolver::new(&socket.to_string_lossy()).resolve_oci(start)
        }
        Place::Storage { roots } => {
            let engine = match engine {
                Engine::CriO => StorageEngine::CriO,
                _ => StorageEngine::Podman,
            };
            StorageResolver::new(engine, roots).resolve(start)
        }
        Place::Docker { data, socket } => {
            DockerResolver::new(data, &socket.to_string_lossy()).resolve(start)
        }
    }
}

/// Consumes the leave: nothing comes back from a success.
fn become_runtime(
    leave: Leave,
    runtime: &Path,
    args: &[OsString],
) -> Result<Infallible, WrapperError> {
    match leave {
        Leave::Nothing(_) => {}
        Leave::Container(used_up) => drop(used_up),
    }
    let is_last = runtime.file_name().is_some_and(|name| LAST.iter().any(|last| name == *last));
    let mark = (!is_last).then(|| format!("{LOOP_MARK}={}", std::process::id()));
    let source = sys::exec(runtime, args, mark.as_deref());
    Err(WrapperError::Exec { runtime: runtime.to_owned(), source })
}

/// A line of a runtime's log, as runc writes it.
#[derive(Serialize)]
struct LogLine<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

/// The file that `--log` names. crun takes words before a colon for other places.
fn log_file(log: &Path) -> Option<&Path> {
    let text = log.as_os_str().as_bytes();
    match text.strip_prefix(b"file:") {
        Some(path) => Some(Path::new(OsStr::from_bytes(path))),
        None if text.starts_with(b"journald:") || text.starts_with(b"syslog:") => None,
        None => Some(log),
    }
}

/// Says the one line in the two places where engines look for it: the runtime's log, where
/// containerd and Podman read one line and no more, and standard error, which conmon reads once.
fn tell(told: &Told, message: &str) {
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if let Some(log) = told.log.as_deref().and_then(log_file) {
        let line = match told.json {
            true => serde_json::to_string(&LogLine { level: "error", msg: message, time })
                .unwrap_or_default(),
            false => format!("time=\"{time}\" level=error msg={message:?}"),
        };
        // The engine still has standard error.
        let _unwritable = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
    let _nobody_reads_it = io::stderr().write_all(format!("{message}\n").as_bytes());
}
