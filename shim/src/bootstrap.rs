//! The `start` verb: from containerd's words to a shim that listens (contracts 1.1 to 1.5).
//!
//! containerd 1.6 to 2.2 say all by flags and environment and want a plain address; 2.3 and later
//! send `BootstrapParams` on stdin and want a `BootstrapResult`. A plain address means task API
//! v2, which every version takes; v3, which spares a `start` per container of a pod, is answered
//! only where the new protocol shows that it is understood.
//!
//! The socket listens before the daemon is forked: when `start` has printed the address, a
//! connection can be made.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, LogLevel};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Enum, Message};
use containerd_shim_protos::shim::oci::Options as RuncOptions;
use sha2::{Digest, Sha256};

use crate::args::Args;
use crate::bundle::Spec;
use crate::options;
use crate::serve;
use crate::sys::{self, Side};

/// As containerd's own limit.
const MAX_STDIN: u64 = 10 << 20;
/// `sun_path` of a unix address, less the closing zero.
const MAX_SOCKET_PATH: usize = 107;
const DEFAULT_SOCKET_FOLDER: &str = "/run/containerd/s";

/// Why a shim could not be started. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// stdin could not be read.
    #[error("cannot read the bootstrap parameters from stdin")]
    Stdin(#[source] io::Error),
    /// The parameters are of another container.
    #[error("the bootstrap parameters are for {0}, the command line is for {1}")]
    Mismatch(String, String),
    /// The bundle is not usable.
    #[error("container {0}")]
    Bundle(String, #[source] Box<dyn std::error::Error>),
    /// The socket could not be made.
    #[error("cannot listen on {path}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon could not be made.
    #[error("cannot start the shim's daemon")]
    Daemon(#[source] io::Error),
    /// The cgroup that the options name could not be joined.
    #[error("cannot join the shim cgroup {0}")]
    Cgroup(String, #[source] io::Error),
    /// containerd does not read the answer.
    #[error("cannot print the address")]
    Answer(#[source] io::Error),
}

/// How containerd talks to the `start` verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Flags in, a plain address out.
    Legacy,
    /// `BootstrapParams` in, `BootstrapResult` out.
    Bootstrap,
}

/// What containerd said, whichever way.
#[derive(Debug)]
struct Said {
    protocol: Protocol,
    ttrpc_address: String,
    grpc_address: String,
    socket_folder: PathBuf,
    debug: bool,
    options: Option<Any>,
}

/// Runs the `start` verb; in the daemon it returns only when the shim's work is done.
///
/// # Errors
/// [`StartError`]; the text goes to stderr, where containerd reads it.
pub fn start(args: &Args) -> Result<(), StartError> {
    let said = hear(args, read_stdin().map_err(StartError::Stdin)?)?;
    let spec =
        Spec::read(Path::new(".")).map_err(|e| StartError::Bundle(args.id.clone(), Box::new(e)))?;
    // Only the shim's cgroup is asked for here; what is wrong with them, Create says in full.
    let sent = options::decode(said.options.as_ref()).ok().flatten();
    let group = spec.group(&args.id);
    let path = said.socket_folder.join(socket_name(&said.grpc_address, &args.namespace, group));
    let address = format!("unix://{}", path.display());
    let socket = |source| StartError::Socket { path: path.clone(), source };
    let daemon = match listen(&path).map_err(socket)? {
        Listening::ByAnother => None,
        Listening::Ours(listener) => match launch(args, &said, sent.as_ref(), listener, &path) {
            Ok(Side::Parent(daemon)) => Some(daemon),
            Ok(Side::Child) => return Ok(()),
            Err(error) => {
                let _first_error_counts = fs::remove_file(&path);
                return Err(error);
            }
        },
    };
    tell(&address, said.protocol).map_err(|error| {
        if let Some(daemon) = daemon {
            let _it_ends_either_way =
                rustix::process::kill_process(daemon, rustix::process::Signal::KILL);
            let _first_error_counts = fs::remove_file(&path);
        }
        StartError::Answer(error)
    })
}

/// Tells containerd where the shim listens.
fn tell(address: &str, protocol: Protocol) -> io::Result<()> {
    if protocol == Protocol::Legacy {
        // containerd 1.6 and 1.7 find the shim again by this file.
        fs::write("address", address)?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&answer(address, protocol))?;
    out.flush()
}

fn launch(
    args: &Args,
    said: &Said,
    sent: Option<&RuncOptions>,
    listener: UnixListener,
    path: &Path,
) -> Result<Side, StartError> {
    let daemon = serve::Daemon {
        namespace: args.namespace.clone(),
        grpc_address: said.grpc_address.clone(),
        ttrpc_address: said.ttrpc_address.clone(),
        debug: said.debug,
        socket: path.to_owned(),
    };
    let wants_core = std::env::var_os("SCHED_CORE").is_some_and(|v| !v.is_empty());
    let oom_score = oom_score_of_parent();
    match sys::fork().map_err(StartError::Daemon)? {
        Side::Parent(child) => {
            let cgroup = sent.map(|o| o.shim_cgroup.as_str()).filter(|c| !c.is_empty());
            if let Some(cgroup) = cgroup
                && let Err(error) = join_cgroup(cgroup, child)
            {
                let _it_ends_either_way =
                    rustix::process::kill_process(child, rustix::process::Signal::KILL);
                return Err(StartError::Cgroup(cgroup.to_owned(), error));
            }
            Ok(Side::Parent(child))
        }
        Side::Child => {
            serve::detach().map_err(StartError::Daemon)?;
            serve::run(&daemon, listener, wants_core, oom_score);
            Ok(Side::Child)
        }
    }
}

fn read_stdin() -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let mut bytes = Vec::new();
    if !stdin.is_terminal() {
        stdin.lock().take(MAX_STDIN).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Tells the two protocols apart and brings both into one form.
///
/// An `Any` of runtime options reads as `BootstrapParams` too, with the type's name as instance
/// id, so the parameters count only if they name the container of the command line.
fn hear(args: &Args, stdin: Vec<u8>) -> Result<Said, StartError> {
    let env = |name| std::env::var(name).unwrap_or_default();
    if let Some(params) =
        BootstrapParams::parse_from_bytes(&stdin).ok().filter(|_| !stdin.is_empty())
    {
        if params.instance_id == args.id && params.namespace == args.namespace {
            return Ok(of_params(args, params));
        }
        let only_any = BootstrapParams {
            instance_id: params.instance_id.clone(),
            namespace: params.namespace.clone(),
            ..BootstrapParams::default()
        };
        if params != only_any {
            let name = |ns: &str, id: &str| format!("{ns}/{id}");
            return Err(StartError::Mismatch(
                name(&params.namespace, &params.instance_id),
                name(&args.namespace, &args.id),
            ));
        }
    }
    let options = Any::parse_from_bytes(&stdin).ok().filter(|a| !a.type_url.is_empty());
    let ttrpc_address = env("TTRPC_ADDRESS");
    let grpc_address = match args.address.as_str() {
        "" => env("GRPC_ADDRESS"),
        address => address.to_owned(),
    };
    Ok(Said {
        protocol: Protocol::Legacy,
        ttrpc_address,
        grpc_address,
        socket_folder: DEFAULT_SOCKET_FOLDER.into(),
        debug: args.debug,
        options,
    })
}

/// Whether these bytes on stdin are of the new protocol, once all that follows from them was seen
/// to hold.
#[cfg(feature = "fuzzing")]
pub(crate) fn understood(args: &Args, stdin: &[u8]) -> Result<bool, StartError> {
    let said = hear(args, stdin.to_vec())?;
    let _any_answer_will_do = options::decode(said.options.as_ref());
    let answer = answer("unix:///a", said.protocol);
    if said.protocol == Protocol::Legacy {
        assert_eq!(answer, b"unix:///a");
        return Ok(false);
    }
    let params = BootstrapParams::parse_from_bytes(stdin).expect("it was read as this");
    assert_eq!((&params.instance_id, &params.namespace), (&args.id, &args.namespace));
    assert!(said.options.as_ref().is_none_or(options::is_known));
    assert!(!said.socket_folder.as_os_str().is_empty());
    let result = BootstrapResult::parse_from_bytes(&answer).expect("the answer is its message");
    assert_eq!((result.version, result.address.as_str()), (3, "unix:///a"));
    Ok(true)
}

fn of_params(args: &Args, params: BootstrapParams) -> Said {
    // Lower levels say more.
    let level = params.log_level.value();
    let debug = args.debug || level <= LogLevel::LOG_LEVEL_DEBUG.value();
    let options = params.extensions.into_iter().filter_map(|e| e.value.into_option());
    Said {
        protocol: Protocol::Bootstrap,
        ttrpc_address: params.containerd_ttrpc_address,
        grpc_address: match params.containerd_grpc_address {
            address if address.is_empty() => args.address.clone(),
            address => address,
        },
        socket_folder: params
            .socket_dir
            .filter(|d| !d.is_empty())
            .map_or_else(|| DEFAULT_SOCKET_FOLDER.into(), PathBuf::from),
        debug,
        // Extensions of other kinds are not for us.
        options: options.into_iter().find(options::is_known),
    }
}

/// The name that containerd itself computes (`pkg/shim`, `SocketAddress`).
fn socket_name(grpc_address: &str, namespace: &str, group: &str) -> String {
    let path = Path::new(grpc_address).join(namespace).join(group);
    let mut name = String::with_capacity(64);
    for byte in Sha256::digest(path.display().to_string()) {
        // Writing to a string does not fail.
        let _infallible = write!(name, "{byte:02x}");
    }
    name
}

enum Listening {
    Ours(UnixListener),
    ByAnother,
}

/// Listens on `path`, unless a living shim does: then that one serves this container too.
fn listen(path: &Path) -> io::Result<Listening> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        let text = format!("the path is longer than {MAX_SOCKET_PATH} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(Listening::ByAnother);
            }
            // A shim that was killed left it.
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Listening::Ours(bound))
}

fn answer(address: &str, protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::Legacy => address.as_bytes().to_vec(),
        Protocol::Bootstrap => {
            let result = BootstrapResult {
                version: 3,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..BootstrapResult::default()
            };
            // Writing a message of our own making to memory does not fail.
            result.write_to_bytes().unwrap_or_default()
        }
    }
}

/// One more than containerd's, so that the kernel ends a shim before the daemon.
fn oom_score_of_parent() -> Option<i32> {
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj")).ok()?;
    Some((score.trim().parse::<i32>().ok()? + 1).min(1000))
}

/// Puts the daemon into the cgroup that the runtime options name for the shim.
fn join_cgroup(path: &str, daemon: rustix::process::Pid) -> io::Result<()> {
    let pid = daemon.as_raw_nonzero().to_string();
    let relative = path.trim_start_matches('/');
    if relative.split('/').any(|part| part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads upwards"));
    }
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return fs::write(root.join(relative).join("cgroup.procs"), pid);
    }
    let mut joined = false;
    for controller in fs::read_dir(root)? {
        let procs = controller?.path().join(relative).join("cgroup.procs");
        if procs.exists() {
            fs::write(procs, &pid)?;
            joined = true;
        }
    }
    match joined {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "no controller has it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;
    use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};

    fn args() -> Args {
        Args {
            id: "abc".into(),
            namespace: "k8s.io".into(),
            address: "/run/containerd/containerd.sock".into(),
            ..Args::default()
        }
    }

    fn runc_any() -> Any {
        let mut options = RuncOptions::new();
        options.shim_cgroup = "/shims".into();
        crate::events::any(&options)
    }

    #[test]
    fn flags_alone_and_flags_with_options_are_the_old_protocol() {
        let said = hear(&args(), Vec::new()).unwrap();
        assert_eq!(said.protocol, Protocol::Legacy);
        assert!(said.options.is_none());
        let said = hear(&args(), runc_any().write_to_bytes().unwrap()).unwrap();
        assert_eq!(said.protocol, Protocol::Legacy);
        assert_eq!(said.options.unwrap().type_url, "containerd.runc.v1.Options");
        assert_eq!(answer("unix:///x", Protocol::Legacy), b"unix:///x");
    }

    #[test]
    fn bootstrap_parameters_are_the_new_protocol() {
        let other = Any { type_url: "acme.Extension".into(), ..Any::default() };
        let params = BootstrapParams {
            instance_id: "abc".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "/t".into(),
            containerd_grpc_address: "/g".into(),
            socket_dir: Some("/run/sockets".into()),
            log_level: EnumOrUnknown::new(LogLevel::LOG_LEVEL_DEBUG),
            extensions: [other, runc_any()]
                .map(|any| Extension { value: MessageField::some(any), ..Extension::default() })
                .into(),
            ..BootstrapParams::default()
        };
        let said = hear(&args(), params.write_to_bytes().unwrap()).unwrap();
        assert_eq!(said.protocol, Protocol::Bootstrap);
        assert_eq!((said.ttrpc_address.as_str(), said.grpc_address.as_str()), ("/t", "/g"));
        assert_eq!(said.socket_folder, Path::new("/run/sockets"));
        assert!(said.debug);
        assert_eq!(said.options.unwrap().type_url, "containerd.runc.v1.Options");
        let result =
            BootstrapResult::parse_from_bytes(&answer("unix:///x", Protocol::Bootstrap)).unwrap();
        assert_eq!((result.version, result.address.as_str()), (3, "unix:///x"));
    }

    #[test]
    fn parameters_for_another_container_are_refused() {
        let params = BootstrapParams {
            instance_id: "other".into(),
            namespace: "k8s.io".into(),
            containerd_binary: "/usr/bin/containerd".into(),
            ..BootstrapParams::default()
        };
        let error = hear(&args(), params.write_to_bytes().unwrap()).unwrap_err();
        assert!(matches!(error, StartError::Mismatch(..)), "{error}");
    }

    #[test]
    fn garbage_on_stdin_never_panics() {
        for seed in 0_u32..2000 {
            let bytes: Vec<u8> = (0..seed % 60)
                .map(|n| (seed.wrapping_mul(2_654_435_761) >> (n % 24)) as u8)
                .collect();
            let _any_answer_will_do = hear(&args(), bytes);
        }
    }

    #[test]
    fn the_socket_has_the_name_containerd_computes() {
        // From containerd's own computation for these three words.
        assert_eq!(
            socket_name("/run/containerd/containerd.sock", "default", "123"),
            "0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0"
        );
    }

    #[test]
    fn a_living_shim_is_shared_and_a_dead_ones_socket_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s/socket");
        let Listening::Ours(first) = listen(&path).unwrap() else { panic!("nobody listened") };
        assert!(matches!(listen(&path).unwrap(), Listening::ByAnother));
        drop(first);
        // A child that another test has forked and that has not yet executed its program holds the
        // listener for a moment.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut listening = listen(&path).unwrap();
        while matches!(listening, Listening::ByAnother) && std::time::Instant::now() < until {
            std::thread::yield_now();
            listening = listen(&path).unwrap();
        }
        assert!(matches!(listening, Listening::Ours(_)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let long = folder.path().join("x".repeat(120));
        assert!(listen(&long).is_err());
    }
}
