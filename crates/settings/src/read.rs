//! From the text of `portcullis.toml` to settings that cannot be wrong; all faults together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use portcullis_types::{Action, Digest, Engine, UnknownWord};
use serde::Deserialize;

use crate::trusted::{self, TrustError};
use crate::{MAX_DEADLINE, Paths, WrapperSettings};

/// Settings are a page, not a book.
const MAX_BYTES: u64 = 256 * 1024;

/// Ten years: longer is never.
const MAX_FORGET_SECONDS: u64 = 3650 * 24 * 3600;
/// Where an agent tells its metrics if nothing else is said.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9417));

/// How often an `allow` makes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allows {
    /// Every start.
    Each,
    /// None in the journal; the ledger still has every start.
    FileOnly,
}

/// Whether runc is told to use the systemd cgroup driver when the engine does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemdCgroup {
    /// As the container's `cgroupsPath` shows: `slice:prefix:name` is systemd's form.
    Detect,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What the shim runs when the engine passes no runtime options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The OCI runtime: a name found in `PATH`, or an absolute path.
    pub binary: PathBuf,
    /// Its state folder; the containerd namespace is appended.
    pub root: PathBuf,
    /// The cgroup driver.
    pub systemd_cgroup: SystemdCgroup,
}

/// How the agent scans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// Most images that wait for a scan.
    pub waiting: usize,
    /// Most seconds that a scan may take.
    pub scan_seconds: u64,
    /// The engines whose images it follows; `None`: all that are there.
    pub follow: Option<BTreeSet<Engine>>,
    /// After how long the verdict about an image that no engine has is forgotten; `None`: never.
    pub forget_after: Option<Duration>,
    /// Where metrics and health are told over HTTP, if anywhere.
    pub listen: Option<SocketAddr>,
}

/// How verdicts are shared through registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The private key that signs what is pushed.
    pub signing_key: Option<PathBuf>,
    /// Public keys of those who are believed.
    pub trusted_keys: Vec<PathBuf>,
    /// Whether the agent pushes what it scans.
    pub push: bool,
    /// How old a pulled verdict may be that stands in for a scan of one's own; zero: none does.
    pub max_age: Duration,
    /// Registries that are asked without TLS: a host, with its port if it has one.
    pub insecure: BTreeSet<String>,
    /// Logins to registries, in the form of `containers-auth.json`.
    pub auth_file: Option<PathBuf>,
    /// Certificates (PEM) of authorities to trust beside those of the node.
    pub ca: Option<PathBuf>,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            signing_key: None,
            trusted_keys: Vec::new(),
            push: false,
            max_age: Duration::from_secs(24 * 60 * 60),
            insecure: BTreeSet::new(),
            auth_file: None,
            ca: None,
        }
    }
}

/// What the agent brings up to date by itself, by the commands of the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateSettings {
    /// What `portcullis db update` takes: URLs of mirrors, of archives, or absolute paths.
    pub advisories: Vec<String>,
    /// The ecosystems of a mirror that are taken; `*` alone: all; none: those that the node has.
    pub ecosystems: Vec<String>,
    /// What `portcullis feed update` takes: URLs or absolute paths.
    pub feeds: Vec<String>,
    /// How often.
    pub every: Duration,
    /// Certificates (PEM) of authorities to trust beside those of the node.
    pub ca: Option<PathBuf>,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            advisories: Vec::new(),
            ecosystems: Vec::new(),
            feeds: Vec::new(),
            every: Duration::from_secs(6 * 3600),
            ca: None,
        }
    }
}

/// Most sources of advisories or feeds, and most ecosystems.
const MAX_SOURCES: usize = 16;
const MAX_ECOSYSTEMS: usize = 100;

/// Most keys that are trusted.
const MAX_KEYS: usize = 32;

/// The settings of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    root: PathBuf,
    /// This node's name in policies and events; the host name if not set.
    pub node: String,
    /// What happens when no policy is in scope.
    pub default_action: Action,
    /// What happens when the published policy set cannot be used.
    pub policy_invalid: Action,
    /// What happens on a bug.
    pub internal: Action,
    /// Digests of sandbox images that start whatever policies say.
    pub sandbox_images: BTreeSet<Digest>,
    /// How long the gate may take, at most [`MAX_DEADLINE`].
    pub deadline: Duration,
    /// Events for allowed starts.
    pub allows: Allows,
    /// Size of the ledger in all its files, in bytes.
    pub max_event_bytes: u64,
    /// What the shim runs.
    pub runtime: RuntimeSettings,
    /// How the agent scans.
    pub agent: AgentSettings,
    /// How verdicts are shared through registries.
    pub registry: RegistrySettings,
    /// What the agent brings up to date by itself.
    pub updates: UpdateSettings,
    /// The wrappers that the file names.
    wrappers: BTreeMap<String, WrapperSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: "/".into(),
            node: host_name(),
            default_action: Action::Alarm,
            policy_invalid: Action::Alarm,
            internal: Action::Alarm,
            sandbox_images: BTreeSet::new(),
            deadline: MAX_DEADLINE,
            allows: Allows::Each,
            max_event_bytes: 64 << 20,
            runtime: RuntimeSettings {
                binary: "runc".into(),
                root: "/run/containerd/runc".into(),
                systemd_cgroup: SystemdCgroup::Detect,
            },
            agent: AgentSettings {
                waiting: 64,
                scan_seconds: 900,
                listen: Some(LISTEN),
                follow: None,
                forget_after: Some(Duration::from_secs(7 * 24 * 3600)),
            },
            registry: RegistrySettings::default(),
            updates: UpdateSettings::default(),
            wrappers: BTreeMap::new(),
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// One thing that is wrong in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, or a line and column for text that is not TOML.
    pub place: String,
    /// What is wrong and what to write.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no such file: the shipped settings are in force.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not to be trusted or cannot be read.
    #[error("the settings cannot be used")]
    Trust(#[from] TrustError),
    /// The text is wrong.
    #[error("{}: {}", path.display(), faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Faults {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
}

impl Settings {
    /// Reads and checks a settings file.
    ///
    /// # Errors
    /// [`SettingsError`] names the file, each key and what to write.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let bytes = match trusted::read(path, MAX_BYTES) {
            Err(TrustError::Missing { path }) => return Err(SettingsError::Missing { path }),
            other => other?,
        };
        let faults = |faults| SettingsError::Faults { path: path.to_owned(), faults };
        let text = String::from_utf8(bytes).map_err(|e| {
            let place = format!("byte {}", e.utf8_error().valid_up_to());
            faults(vec![Fault { place, message: "the text is not UTF-8".into() }])
        })?;
        text.parse().map_err(faults)
    }

    /// The paths of this installation.
    pub fn paths(&self) -> Paths {
        Paths::below(&self.root)
    }

    /// The settings of the wrapper that is installed under this name.
    pub fn wrapper(&self, name: &str) -> WrapperSettings {
        self.wrappers.get(name).cloned().unwrap_or_else(|| WrapperSettings::by_name(name))
    }

    /// The wrappers that the file names, by name.
    pub fn wrappers(&self) -> impl Iterator<Item = (&str, &WrapperSettings)> {
        self.wrappers.iter().map(|(name, wrapper)| (name.as_str(), wrapper))
    }

    /// The same settings for an installation below another root.
    #[must_use]
    pub fn below(self, root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), ..self }
    }
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    root: Option<String>,
    node: Option<String>,
    default_action: Option<String>,
    policy_invalid: Option<String>,
    internal: Option<String>,
    sandbox_images: Vec<String>,
    gate: RawGate,
    events: RawEvents,
    runtime: RawRuntime,
    agent: RawAgent,
    registry: RawRegistry,
    updates: RawUpdates,
    wrapper: BTreeMap<String, RawWrapper>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawGate {
    deadline: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawEvents {
    allows: Option<String>,
    max_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawRuntime {
    binary: Option<String>,
    root: Option<String>,
    systemd_cgroup: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawAgent {
    waiting: Option<usize>,
    scan_time: Option<String>,
    follow: Option<Vec<String>>,
    forget_after: Option<String>,
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawRegistry {
    signing_key: Option<String>,
    trusted_keys: Vec<String>,
    push: bool,
    max_age: Option<String>,
    insecure: Vec<String>,
    auth_file: Option<String>,
    ca: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawUpdates {
    advisories: Vec<String>,
    ecosystems: Vec<String>,
    feeds: Vec<String>,
    every: Option<String>,
    ca: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawWrapper {
    engine: Option<String>,
    runtime: Option<String>,
    socket: Option<String>,
    storage: Vec<String>,
    data: Option<String>,
}

impl FromStr for Settings {
    type Err = Vec<Fault>;

    fn from_str(text: &str) -> Result<Self, Vec<Fault>> {
        let raw: Raw = toml::from_str(text).map_err(|e| {
            let place = match e.span() {
                Some(span) => {
                    let before = &text[..span.start.min(text.len())];
                    let line = before.matches('\n').count() + 1;
                    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                    format!("line {line}, column {column}")
                }
                None => "the file".into(),
            };
            vec![Fault { place, message: e.message().replace('\n', " ") }]
        })?;
        check(raw)
    }
}

fn check(raw: Raw) -> Result<Settings, Vec<Fault>> {
    let shipped = Settings::default();
    let mut faults = Vec::new();
    let mut fault = |place: &str, message: String| {
        faults.push(Fault { place: place.into(), message });
    };
    let mut action = |key: &str, word: Option<String>, otherwise: Action| match word {
        None => otherwise,
        Some(word) => word.parse().unwrap_or_else(|e: UnknownWord| {
            fault(key, e.to_string());
            otherwise
        }),
    };
    let default_action = action("defaultAction", raw.default_action, shipped.default_action);
    let policy_invalid = action("policyInvalid", raw.policy_invalid, shipped.policy_invalid);
    let internal = action("internal", raw.internal, shipped.internal);
    let mut sandbox_images = BTreeSet::new();
    for (at, text) in raw.sandbox_images.iter().enumerate() {
        match text.parse() {
            Ok(digest) => {
                sandbox_images.insert(digest);
            }
            Err(e) => fault(&format!("sandboxImages[{at}]"), format!("{e}")),
        }
    }
    let mut absolute = |key: &str, path: Option<String>, otherwise: PathBuf| match path {
        None => otherwise,
        Some(path) if path.starts_with('/') => path.into(),
        Some(path) => {
            fault(key, format!("\"{path}\" is not an absolute path"));
            otherwise
        }
    };
    let root = absolute("root", raw.root, shipped.root);
    let runtime_root = absolute("runtime.root", raw.runtime.root, shipped.runtime.root);
    let binary = match raw.runtime.binary {
        None => shipped.runtime.binary,
        Some(name) if name.starts_with('/') || (!name.contains('/') && !name.is_empty()) => {
            name.into()
        }
        Some(name) => {
            fault(
                "runtime.binary",
                format!("\"{name}\" is neither an absolute path nor a bare name"),
            );
            shipped.runtime.binary
        }
    };
    let deadline = match raw.gate.deadline.as_deref().map(milliseconds) {
        None => shipped.deadline,
        Some(Some(ms)) if (1..=MAX_DEADLINE.as_millis()).contains(&u128::from(ms)) => {
            Duration::from_millis(ms)
        }
        Some(_) => {
            fault("gate.deadline", "write 1ms to 1500ms, for example \"800ms\"".into());
            shipped.deadline
        }
    };
    let allows = match raw.events.allows.as_deref() {
        None => shipped.allows,
        Some("each") => Allows::Each,
        Some("fileOnly") => Allows::FileOnly,
        Some(other) => {
            fault("events.allows", format!("\"{other}\" is unknown: use each or fileOnly"));
            shipped.allows
        }
    };
    let max_event_bytes = match raw.events.max_bytes {
        None => shipped.max_event_bytes,
        Some(bytes) if bytes >= 64 * 1024 => bytes,
        Some(_) => {
            fault("events.maxBytes", "at least 65536 bytes".into());
            shipped.max_event_bytes
        }
    };
    let systemd_cgroup = match raw.runtime.systemd_cgroup.as_deref() {
        None | Some("detect") => SystemdCgroup::Detect,
        Some("on") => SystemdCgroup::On,
        Some("off") => SystemdCgroup::Off,
        Some(other) => {
            fault(
                "runtime.systemdCgroup",
                format!("\"{other}\" is unknown: use \"detect\", \"on\" or \"off\""),
            );
            SystemdCgroup::Detect
        }
    };
    let waiting = match raw.agent.waiting {
        None => shipped.agent.waiting,
        Some(waiting @ 1..=10_000) => waiting,
        Some(_) => {
            fault("agent.waiting", "1 to 10000 images".into());
            shipped.agent.waiting
        }
    };
    let scan_seconds = match raw.agent.scan_time.as_deref().map(milliseconds) {
        None => shipped.agent.scan_seconds,
        Some(Some(ms @ 1_000..=86_400_000)) => ms / 1_000,
        Some(_) => {
            fault("agent.scanTime", "write 1s to 86400s, for example \"900s\"".into());
            shipped.agent.scan_seconds
        }
    };
    let mut follow = raw.agent.follow.as_ref().map(|_| BTreeSet::new());
    for (at, word) in raw.agent.follow.iter().flatten().enumerate() {
        match (word.parse(), &mut follow) {
            (Ok(engine), Some(follow)) => {
                follow.insert(engine);
            }
            (Ok(_), None) => {}
            (Err(error), _) => fault(&format!("agent.follow[{at}]"), format!("{error}")),
        }
    }
    let forget_after = match raw.agent.forget_after.as_deref() {
        None => shipped.agent.forget_after,
        Some("never") => None,
        Some(text) => match seconds(text) {
            Some(seconds @ 1..=MAX_FORGET_SECONDS) => Some(Duration::from_secs(seconds)),
            _ => {
                fault(
                    "agent.forgetAfter",
                    "write 1s to 3650d, for example \"7d\" or \"12h\", or \"never\"".into(),
                );
                shipped.agent.forget_after
            }
        },
    };
    let listen = match raw.agent.listen.as_deref() {
        None => shipped.agent.listen,
        Some("") => None,
        Some(text) => text.parse().map(Some).unwrap_or_else(|_| {
            let what = "is no IP address with a port";
            let write = "write \"127.0.0.1:9417\", \"[::1]:9417\", or \"\" for none";
            fault("agent.listen", format!("\"{text}\" {what}: {write}"));
            shipped.agent.listen
        }),
    };
    let registry = registry(raw.registry, &mut faults);
    let updates = updates(raw.updates, &mut faults);
    let mut wrappers = BTreeMap::new();
    for (name, raw) in raw.wrapper {
        let checked = wrapper(&name, raw, &mut faults);
        wrappers.insert(name, checked);
    }
    let node = raw.node.filter(|n| !n.is_empty()).unwrap_or(shipped.node);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Settings {
        root,
        node,
        default_action,
        policy_invalid,
        internal,
        sandbox_images,
        deadline,
        allows,
        max_event_bytes,
        runtime: RuntimeSettings { binary, root: runtime_root, systemd_cgroup },
        agent: AgentSettings { waiting, scan_seconds, follow, forget_after, listen },
        registry,
        updates,
        wrappers,
    })
}

/// The table of updates, with what it leaves out filled in.
fn updates(raw: RawUpdates, faults: &mut Vec<Fault>) -> UpdateSettings {
    let shipped = UpdateSettings::default();
    let mut fault = |key: &str, message: String| {
        faults.push(Fault { place: format!("updates.{key}"), message });
    };
    let is_url = |source: &String| source.starts_with("http://") || source.starts_with("https://");
    for (key, sources) in [("advisories", &raw.advisories), ("feeds", &raw.feeds)] {
        for wrong in sources.iter().filter(|source| !source.starts_with('/') && !is_url(source)) {
            let wrong = wrong.escape_debug();
            fault(key, format!("\"{wrong}\" is neither an http or https URL nor an absolute path"));
        }
        if sources.len() > MAX_SOURCES {
            fault(key, format!("at most {MAX_SOURCES}"));
        }
    }
    for wrong in raw.ecosystems.iter().filter(|name| name.is_empty() || name.len() > 100) {
        let wrong = wrong.escape_debug();
        fault("ecosystems", format!("\"{wrong}\" is no name of an ecosystem, such as \"Debian\""));
    }
    if raw.ecosystems.len() > MAX_ECOSYSTEMS {
        fault("ecosystems", format!("at most {MAX_ECOSYSTEMS}; [\"*\"] takes all"));
    }
    if raw.ecosystems.len() > 1 && raw.ecosystems.iter().any(|name| name == "*") {
        fault("ecosystems", "\"*\" takes all: leave out the others".into());
    }
    if !raw.ecosystems.is_empty() && !raw.advisories.iter().any(is_url) {
        fault("ecosystems", "they are those of a mirror: name its URL in advisories".into());
    }
    let every = match raw.every.as_deref().map(seconds) {
        None => shipped.every,
        Some(Some(seconds @ 300..=2_592_000)) => Duration::from_secs(seconds),
        Some(_) => {
            fault("every", "write 5m to 30d, for example \"6h\"".into());
            shipped.every
        }
    };
    let ca = raw.ca.filter(|path| !path.is_empty()).map(|path| {
        if !path.starts_with('/') {
            fault("ca", format!("\"{path}\" is not an absolute path"));
        }
        PathBuf::from(path)
    });
    let RawUpdates { advisories, ecosystems, feeds, .. } = raw;
    UpdateSettings { advisories, ecosystems, feeds, every, ca }
}

/// The table of registries, with what it leaves out filled in. An empty path is none.
fn registry(raw: RawRegistry, faults: &mut Vec<Fault>) -> RegistrySettings {
    let shipped = RegistrySettings::default();
    let mut fault = |key: &str, message: String| {
        faults.push(Fault { place: format!("registry.{key}"), message });
    };
    let mut absolute = |key: &str, path: String| {
        if !path.starts_with('/') {
            fault(key, format!("\"{path}\" is not an absolute path"));
        }
        PathBuf::from(path)
    };
    let mut file =
        |key: &str, path: Option<String>| Some(absolute(key, path.filter(|p| !p.is_empty())?));
    let signing_key = file("signingKey", raw.signing_key);
    let auth_file = file("authFile", raw.auth_file);
    let ca = file("ca", raw.ca);
    let too_many = raw.trusted_keys.len() > MAX_KEYS;
    let trusted_keys: Vec<PathBuf> =
        raw.trusted_keys.into_iter().map(|path| absolute("trustedKeys", path)).collect();
    if too_many {
        fault("trustedKeys", format!("at most {MAX_KEYS} keys"));
    }
    let max_age = match raw.max_age.as_deref().map(milliseconds) {
        None => shipped.max_age,
        Some(Some(ms @ 0..=31_536_000_000)) => Duration::from_millis(ms),
        Some(_) => {
            fault("maxAge", "write 0s to 31536000s, for example \"86400s\"".into());
            shipped.max_age
        }
    };
    let mut insecure = BTreeSet::new();
    for host in raw.insecure {
        let is_host = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        match is_host {
            true => drop(insecure.insert(host.to_ascii_lowercase())),
            false => fault(
                "insecure",
                format!("\"{}\" is no host: write \"host\" or \"host:port\"", host.escape_debug()),
            ),
        }
    }
    if raw.push && signing_key.is_none() {
        fault("push", "what nobody signed nobody believes: name a signingKey too".into());
    }
    RegistrySettings { signing_key, trusted_keys, push: raw.push, max_age, insecure, auth_file, ca }
}

/// One table of a wrapper, with what it leaves out filled in.
fn wrapper(name: &str, raw: RawWrapper, faults: &mut Vec<Fault>) -> WrapperSettings {
    let shipped = WrapperSettings::by_name(name);
    let mut fault = |key: &str, message: String| {
        faults.push(Fault { place: format!("wrapper.{name}.{key}"), message });
    };
    let mut absolute = |key: &str, path: String| {
        if !path.starts_with('/') {
            fault(key, format!("\"{path}\" is not an absolute path"));
        }
        PathBuf::from(path)
    };
    let runtime = raw.runtime.map(|path| absolute("runtime", path));
    let socket = raw.socket.map(|path| {
        let path = path.strip_prefix("unix://").unwrap_or(&path).to_owned();
        absolute("socket", path)
    });
    let storage = raw.storage.into_iter().map(|path| absolute("storage", path)).collect();
    let data = raw.data.map(|path| absolute("data", path));
    let engine = raw.engine.map(|word| {
        word.parse().unwrap_or_else(|e: UnknownWord| {
            fault("engine", e.to_string());
            shipped.engine
        })
    });
    WrapperSettings {
        engine: engine.unwrap_or(shipped.engine),
        runtime,
        socket: socket.unwrap_or(shipped.socket),
        storage,
        data: data.unwrap_or(shipped.data),
    }
}

/// `90s`, `15m`, `12h`, `7d`.
fn seconds(text: &str) -> Option<u64> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit)
}

fn milliseconds(text: &str) -> Option<u64> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok();
    }
    let seconds: u64 = text.strip_suffix('s')?.parse().ok()?;
    seconds.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_follows_and_how_long_it_remembers() {
        let agent = |text: &str| format!("[agent]\n{text}").parse::<Settings>().map(|s| s.agent);
        let followed = agent("follow = [\"podman\", \"containerd\"]").unwrap().follow.unwrap();
        assert_eq!(followed, BTreeSet::from([Engine::Containerd, Engine::Podman]));
        assert_eq!(agent("follow = []").unwrap().follow, Some(BTreeSet::new()));
        for (text, seconds) in [("7d", 604_800), ("12h", 43_200), ("15m", 900), ("1s", 1)] {
            let read = agent(&format!("forgetAfter = \"{text}\"")).unwrap();
            assert_eq!(read.forget_after, Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(agent("forgetAfter = \"never\"").unwrap().forget_after, None);
        for wrong in ["0s", "7", "d", "", "-1d", "3651d", "99999999999999999999d", "7 d", "1\u{e4}"]
        {
            let faults = agent(&format!("forgetAfter = \"{wrong}\"")).unwrap_err();
            assert_eq!(faults[0].place, "agent.forgetAfter", "{wrong}");
        }
        let faults = agent("follow = [\"podman\", \"rkt\"]").unwrap_err();
        assert_eq!(faults[0].place, "agent.follow[1]");
    }

    #[test]
    fn what_the_agent_brings_up_to_date_by_itself() {
        let updates = |text: &str| format!("[updates]\n{text}").parse::<Settings>();
        let read = updates(
            "advisories = [\"https://mirror.example/osv\"]\necosystems = [\"Debian\", \"PyPI\"]\n\
             feeds = [\"/srv/kev.json\"]\nevery = \"30m\"\nca = \"/etc/ca.pem\"",
        );
        let read = read.unwrap().updates;
        assert_eq!(read.ecosystems, ["Debian", "PyPI"]);
        assert_eq!((read.every, read.ca), (Duration::from_secs(1800), Some("/etc/ca.pem".into())));
        for (text, place) in [
            ("advisories = [\"osv\"]", "updates.advisories"),
            ("advisories = [\"--root\"]", "updates.advisories"),
            ("feeds = [\"ftp://mirror.example/kev.json\"]", "updates.feeds"),
            ("ecosystems = [\"Debian\"]", "updates.ecosystems"),
            ("advisories = [\"http://m\"]\necosystems = [\"*\", \"Go\"]", "updates.ecosystems"),
            ("advisories = [\"http://m\"]\necosystems = [\"\"]", "updates.ecosystems"),
            ("every = \"1s\"", "updates.every"),
            ("ca = \"ca.pem\"", "updates.ca"),
        ] {
            let faults = updates(text).unwrap_err();
            assert_eq!((faults.len(), faults[0].place.as_str()), (1, place), "{text}");
        }
    }

    #[test]
    fn an_empty_file_is_the_shipped_settings() {
        assert_eq!("".parse::<Settings>().unwrap(), Settings::default());
    }

    #[test]
    fn all_faults_are_reported_together() {
        let text = r#"
            root = "relative"
            defaultAction = "deny"
            sandboxImages = ["sha256:abc"]
            [gate]
            deadline = "10s"
            [events]
            allows = "never"
            maxBytes = 1
            [runtime]
            binary = "./runc"
            systemdCgroup = "yes"
            [agent]
            waiting = 0
            listen = "localhost:9417"
            [registry]
            signingKey = "key.pem"
            trustedKeys = ["pub.pem"]
            maxAge = "1d"
            insecure = ["http://mirror.example.com/"]
            [wrapper.portcullis-runc]
            engine = "rkt"
            runtime = "crun"
        "#;
        let faults = text.parse::<Settings>().unwrap_err();
        let places: Vec<&str> = faults.iter().map(|f| f.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "defaultAction",
                "sandboxImages[0]",
                "root",
                "runtime.binary",
                "gate.deadline",
                "events.allows",
                "events.maxBytes",
                "runtime.systemdCgroup",
                "agent.waiting",
                "agent.listen",
                "registry.signingKey",
                "registry.trustedKeys",
                "registry.maxAge",
                "registry.insecure",
                "wrapper.portcullis-runc.runtime",
                "wrapper.portcullis-runc.engine"
            ]
        );
    }

    #[test]
    fn the_agent_pushes_nothing_that_nobody_signs() {
        let faults = "[registry]\npush = true\n".parse::<Settings>().unwrap_err();
        assert_eq!(faults[0].place, "registry.push");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let faults = "node = \"a\"\ndefaultaction = \"alarm\"\n".parse::<Settings>().unwrap_err();
        assert_eq!(faults[0].place, "line 2, column 1");
        assert!(faults[0].message.contains("defaultaction"), "{}", faults[0]);
    }

    #[test]
    fn a_full_file_is_read() {
        let settings: Settings = r#"
            node = "edge-1"
            defaultAction = "block"
            [gate]
            deadline = "1s"
            [runtime]
            binary = "/usr/bin/crun"
            systemdCgroup = "on"
            [agent]
            listen = "[::]:9000"
            [registry]
            signingKey = "/etc/portcullis/verdicts.key"
            trustedKeys = ["/etc/portcullis/verdicts.pub"]
            push = true
            maxAge = "3600s"
            insecure = ["Registry.example.com:5000"]
            authFile = ""
            [wrapper.runc]
            engine = "podman"
            runtime = "/usr/bin/runc.real"
            storage = ["/srv/containers"]
        "#
        .parse()
        .unwrap();
        assert_eq!(settings.node, "edge-1");
        assert_eq!(settings.default_action, Action::Block);
        assert_eq!(settings.deadline, Duration::from_secs(1));
        assert_eq!(settings.runtime.systemd_cgroup, SystemdCgroup::On);
        assert_eq!(settings.agent.listen, Some("[::]:9000".parse().unwrap()));
        let silent: Settings = "[agent]\nlisten = \"\"\n".parse().unwrap();
        assert_eq!(silent.agent.listen, None);
        assert_eq!(
            settings.registry,
            RegistrySettings {
                signing_key: Some("/etc/portcullis/verdicts.key".into()),
                trusted_keys: vec!["/etc/portcullis/verdicts.pub".into()],
                push: true,
                max_age: Duration::from_secs(3600),
                insecure: ["registry.example.com:5000".to_owned()].into(),
                auth_file: None,
                ca: None,
            }
        );
        let wrapper = settings.wrapper("runc");
        assert_eq!(wrapper.engine, Engine::Podman);
        assert_eq!(wrapper.runtime.as_deref(), Some(Path::new("/usr/bin/runc.real")));
        assert_eq!(wrapper.storage, [Path::new("/srv/containers")]);
        assert_eq!(settings.wrapper("portcullis-runc-crio").engine, Engine::CriO);
    }
}
