//! containerd: its handlers, its default, and what `ctr` and `nerdctl` start.

mod config;

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use self::config::{Cri, Handler, Problem};
pub(super) use self::config::{Version, line_at};
use super::files::{Host, Text};
use super::finding::{Finding, Place, Severity};
use super::ours::{Ours, PATH, Program, SHIM, SHIM_PATH, base};

/// Where containerd's configuration is unless it is told otherwise.
pub(super) const CONFIG: &str = "/etc/containerd/config.toml";
/// The folder of drop-ins, which is read only if it is imported.
const CONF_D: &str = "/etc/containerd/conf.d";
/// The type of the stock shim, which passes options on to it or to the one at `runtime_path`.
const RUNC_V2: &str = "io.containerd.runc.v2";
/// Our shim's type.
const OURS: &str = "io.containerd.portcullis.v2";

/// What else needs to be known of this engine.
#[derive(Debug, Default)]
pub(super) struct Containerd {
    /// The handlers that go through the gate.
    pub(super) gated: Vec<String>,
    /// Whether a pod that names no handler goes through the gate.
    pub(super) default_gated: bool,
    /// The image of a pod's sandbox, and where it is written.
    pub(super) sandbox_image: Option<(String, Option<Place>)>,
}

/// Looks at containerd; `None` if the node has none.
pub(super) fn check(
    ours: &Ours<'_>,
    path: &str,
    version: Option<Version>,
    out: &mut Vec<Finding>,
) -> Option<Containerd> {
    let host = ours.host;
    let binary = host.program("containerd", PATH);
    let text = host.read(path);
    if binary.is_none() && text == Text::Absent {
        return None;
    }
    let version = version.or_else(|| of_node(host, binary.as_deref()));
    let judged = version.unwrap_or_else(|| supposed(&text));
    match version {
        Some(version) => {
            out.push(Finding::ok("containerd.version", format!("containerd {version}")))
        }
        None => out.push(
            Finding::new(
                Severity::Info,
                "containerd.version",
                format!("containerd's version is not known; judged as {judged}"),
            )
            .why("what its configuration means depends on it")
            .remedy("portcullis doctor --containerd-version VERSION"),
        ),
    }
    let cri = Cri::load(host, path, judged);
    problems(&cri, judged, path, out);
    drop_ins(host, &cri, path, out);
    let mut found =
        Containerd { sandbox_image: cri.sandbox_image.clone(), ..Containerd::default() };
    match &cri.disabled {
        Some(place) => out.push(
            Finding::new(Severity::Info, "containerd.cri", "containerd serves no Kubernetes")
                .at(Some(place))
                .why("its CRI plug-in is disabled, so its handlers are not used"),
        ),
        None => {
            for (name, handler) in &cri.handlers {
                if self::handler(ours, path, &cri, name, handler, judged, out) {
                    found.gated.push(name.clone());
                }
            }
            let named = cri.handlers.get(&cri.default.0);
            let is_broken = named.is_some_and(|h| matches!(way(ours, h, judged), Way::Broken(_)));
            found.default_gated = default(&cri, judged, path, &found.gated, is_broken, out);
        }
    }
    clients(ours, out);
    Some(found)
}

/// The version of an installed containerd: asked of itself on this node, else of Debian's records.
fn of_node(host: &Host, binary: Option<&str>) -> Option<Version> {
    let found = binary.and_then(|path| host.find(path));
    let trusted = found.is_some_and(|found| found.owner == 0 && found.mode & 0o022 == 0);
    let said = match (host.is_this_node(), trusted, binary) {
        (true, true, Some(path)) => said_by(path),
        _ => None,
    };
    said.or_else(|| of_packages(host))
}

/// What `containerd --version` says: `containerd SOURCE VERSION REVISION`.
fn said_by(path: &str) -> Option<Version> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null());
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || {
        // Who gave up waiting needs no answer.
        let _gone = done.send(command.output());
    });
    let output = answer.recv_timeout(Duration::from_secs(10)).ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2)?.parse().ok()
}

fn of_packages(host: &Host) -> Option<Version> {
    const MOST: u64 = 64 << 20;
    let Text::Read(status) = host.read_up_to("/var/lib/dpkg/status", MOST) else { return None };
    let is_containerd = |block: &&str| {
        block
            .lines()
            .next()
            .is_some_and(|line| ["Package: containerd", "Package: containerd.io"].contains(&line))
    };
    let block = status.split("\n\n").map(str::trim_start).find(is_containerd)?;
    let version = block.lines().find_map(|line| line.strip_prefix("Version: "))?;
    // An epoch stands before a colon.
    version.rsplit(':').next()?.parse().ok()
}

/// What is supposed where nothing tells the version: of those that read the format, the one with
/// the most pitfalls.
fn supposed(text: &Text) -> Version {
    let Text::Read(text) = text else { return Version(1, 7, 1) };
    let format = toml::from_str::<toml::Table>(text)
        .ok()
        .and_then(|table| table.get("version").and_then(toml::Value::as_integer));
    if format >= Some(3) { Version(2, 0, 0) } else { Version(1, 7, 1) }
}

fn problems(cri: &Cri, version: Version, main: &str, out: &mut Vec<Finding>) {
    const CHECK: &str = "containerd.config";
    for problem in &cri.problems {
        out.push(match problem {
            Problem::Unusable { file, line, what } => {
                Finding::new(Severity::Error, CHECK, format!("it cannot be read: {what}"))
                    .file(file)
                    .line(*line)
                    .why("containerd does not start with it; what it would say is not known here")
                    .remedy(format!("mend {file}, then: containerd config dump >/dev/null"))
            }
            Problem::MissingImport { file, import } => {
                Finding::new(Severity::Error, CHECK, format!("it imports {import}, which is not there"))
                    .file(file)
                    .key("imports")
                    .why("containerd does not start while a file is missing that is imported by name")
                    .remedy(format!("take {import} out of imports in {file}, or write a pattern with *"))
            }
            Problem::Replaced { file, by } => Finding::new(
                Severity::Warning,
                CHECK,
                format!("what {file} says of the CRI plug-in is dropped"),
            )
            .file(by)
            .key("plugins.\"io.containerd.grpc.v1.cri\"")
            .why(format!(
                "in containerd {version} a later file that has a table of a plug-in replaces all of it"
            ))
            .remedy(format!("move the table from {by} into {file}, then: systemctl restart containerd")),
        });
    }
    if cri.format >= 3 && !version.merges() && version >= Version(1, 7, 0) {
        out.push(
            Finding::new(Severity::Error, CHECK, format!("format {} ", cri.format).trim_end())
                .file(main)
                .key("version")
                .why(format!("containerd {version} does not start with it: it reads format 2"))
                .remedy("write it in format 2, or install containerd 2"),
        );
    }
}

/// Drop-ins that nobody reads.
fn drop_ins(host: &Host, cri: &Cri, main: &str, out: &mut Vec<Finding>) {
    let unread: Vec<String> = host
        .glob(&format!("{CONF_D}/*.toml"))
        .into_iter()
        .filter(|path| !cri.files.contains(path))
        .filter(|path| {
            !cri.problems
                .iter()
                .any(|p| matches!(p, Problem::Unusable { file, .. } if file == path))
        })
        .collect();
    if let Some(first) = unread.first() {
        out.push(
            Finding::new(Severity::Warning, "containerd.drop-ins", "it is not read by containerd")
                .file(first)
                .why(format!("{main} does not import {CONF_D}/*.toml"))
                .remedy(format!(
                    "at the top of {main}: imports = [\"{CONF_D}/*.toml\"]; then: systemctl restart containerd"
                )),
        );
    }
}

/// What happens to a container of a handler.
enum Way {
    /// Through our shim.
    Shim,
    /// Through the wrapper of this name.
    Wrapper(String),
    /// Past the gate; the words say what runs instead.
    Past(String),
    /// It does not start.
    Broken(String),
}

fn way(ours: &Ours<'_>, handler: &Handler, version: Version) -> Way {
    let Some((kind, _)) = &handler.kind else {
        return Way::Broken("it has no runtime_type".to_owned());
    };
    let shim = match (&handler.path, kind.as_str()) {
        (Some((path, _)), _) if version.knows_runtime_path() => Some(path.clone()),
        (_, kind) if kind.starts_with('/') => Some(kind.to_owned()),
        (_, OURS) => match ours.in_path(SHIM) {
            Some((path, _)) => Some(path),
            None => return Way::Broken(format!("there is no {SHIM} in containerd's PATH")),
        },
        _ => None,
    };
    if let Some(path) = shim {
        match ours.program(&path) {
            Program::Shim => return Way::Shim,
            Program::Wrapper(name) => {
                return Way::Broken(format!("{path} is the wrapper {name}, and no shim"));
            }
            Program::Missing => return Way::Broken(format!("there is no program {path}")),
            // Another copy of the stock shim takes BinaryName as well.
            Program::Other(real) if kind == RUNC_V2 && base(&real) == "containerd-shim-runc-v2" => {
            }
            Program::Other(real) => return Way::Past(real),
        }
    }
    if kind != RUNC_V2 {
        return Way::Past(kind.clone());
    }
    let (path, program) = match &handler.binary {
        Some((path, _)) if path.starts_with('/') => (path.clone(), ours.program(path)),
        named => {
            let name = named.as_ref().map_or("runc", |(name, _)| name.as_str());
            match ours.in_path(name) {
                Some(found) => found,
                None => return Way::Broken(format!("there is no {name} in containerd's PATH")),
            }
        }
    };
    match program {
        Program::Wrapper(name) => Way::Wrapper(name),
        Program::Shim => Way::Broken(format!("{path} is our shim, and no OCI runtime")),
        Program::Missing => Way::Broken(format!("there is no program {path}")),
        Program::Other(real) => Way::Past(real),
    }
}

/// Looks at one handler, and says whether it goes through the gate.
fn handler(
    ours: &Ours<'_>,
    main: &str,
    cri: &Cri,
    name: &str,
    handler: &Handler,
    version: Version,
    out: &mut Vec<Finding>,
) -> bool {
    const CHECK: &str = "containerd.handler";
    let written = [&handler.path, &handler.binary, &handler.kind]
        .into_iter()
        .find_map(|w| w.as_ref().and_then(|(_, place)| place.clone()));
    let place = written.or_else(|| handler.place.clone());
    let table = table_of(cri, version, name);
    let file = place.as_ref().map_or(main, |place| place.file.as_str());
    let key = place.as_ref().map_or_else(|| table.clone(), |place| place.key.clone());
    let found =
        |severity, seen: String| Finding::new(severity, CHECK, seen).file(file).key(key.clone());
    let mend = mended(&table, file, version);
    if let Some((path, place)) = &handler.path
        && !version.knows_runtime_path()
    {
        let is_ours = ours.program(path).is_ours();
        let severity = if is_ours { Severity::Error } else { Severity::Warning };
        out.push(
            Finding::new(severity, CHECK, format!("handler {name} has runtime_path {path}"))
                .at(place.as_ref())
                .why(format!("containerd {version} reads runtime_path and forgets it"))
                .remedy(mend.clone()),
        );
    }
    match way(ours, handler, version) {
        Way::Shim => {
            if let Some((mode, place)) = &handler.sandboxer
                && mode != "podsandbox"
            {
                out.push(
                    Finding::new(
                        Severity::Error,
                        CHECK,
                        format!("handler {name} has the sandboxer {mode}"),
                    )
                    .at(place.as_ref())
                    .why("the shim serves pods of the sandboxer podsandbox alone: others do not start")
                    .remedy(format!("in {file}, below [{table}]: sandboxer = \"podsandbox\"")),
                );
            }
            out.push(found(Severity::Ok, format!("handler {name} goes through the gate")));
            true
        }
        Way::Wrapper(wrapper) => {
            out.push(found(Severity::Ok, format!("handler {name} goes through the gate")));
            wrapper_of(ours, &wrapper, "containerd", out);
            let stock_is_ours = ours.in_path("runc").is_some_and(|(_, p)| p.is_ours());
            if !version.merges() && handler.binary.is_some() && !stock_is_ours {
                out.push(
                    found(
                        Severity::Warning,
                        format!("handler {name} reaches {wrapper} by options.BinaryName"),
                    )
                    .why(format!(
                        "a client of containerd {version} that sets options of the task drops \
                         BinaryName, and runs the runc in PATH"
                    ))
                    .remedy(in_place_of_runc(ours)),
                );
            }
            true
        }
        Way::Past(what) => {
            out.push(
                found(Severity::Bypass, format!("handler {name} runs {what}"))
                    .why("a pod whose RuntimeClass has this handler starts past the gate")
                    .remedy(mend),
            );
            false
        }
        Way::Broken(why) => {
            out.push(
                found(Severity::Error, format!("handler {name}: {why}"))
                    .why("pods with this handler do not start")
                    .remedy(mend),
            );
            false
        }
    }
}

/// The table of a handler, as it would be written.
fn table_of(cri: &Cri, version: Version, name: &str) -> String {
    format!("plugins.\"{}\".containerd.runtimes.{name}", section_of(cri, version))
}

/// The plug-in that has the handlers, in the format that the configuration is written in.
fn section_of(cri: &Cri, version: Version) -> &'static str {
    match version.merges() && (cri.format >= 3 || cri.files.is_empty()) {
        true => "io.containerd.cri.v1.runtime",
        false => "io.containerd.grpc.v1.cri",
    }
}

/// What makes a handler go through the gate.
fn mended(table: &str, file: &str, version: Version) -> String {
    let keys = match version.knows_runtime_path() {
        true => format!("runtime_type = \"{RUNC_V2}\" and runtime_path = \"{SHIM_PATH}\""),
        false => format!("runtime_type = \"{OURS}\", and no runtime_path"),
    };
    format!("in {file}, below [{table}]: {keys}; then: systemctl restart containerd")
}

fn in_place_of_runc(ours: &Ours<'_>) -> String {
    let runc = ours.host.program("runc", PATH).unwrap_or_else(|| "/usr/sbin/runc".to_owned());
    format!(
        "dpkg-divert --local --rename --divert {runc}.stock --add {runc}; \
         ln -s /usr/local/bin/portcullis-runc {runc}; in /etc/portcullis/portcullis.toml, below \
         [wrapper.portcullis-runc]: runtime = \"{runc}.stock\""
    )
}

/// Looks at the default, and says whether it goes through the gate.
fn default(
    cri: &Cri,
    version: Version,
    main: &str,
    gated: &[String],
    is_broken: bool,
    out: &mut Vec<Finding>,
) -> bool {
    const CHECK: &str = "containerd.default";
    let (name, place) = &cri.default;
    let place = place.clone().unwrap_or_else(|| {
        let section = section_of(cri, version);
        let key = format!("plugins.\"{section}\".containerd.default_runtime_name");
        Place { file: main.to_owned(), key }
    });
    let is_gated = gated.contains(name);
    let found = match (is_gated, cri.handlers.contains_key(name)) {
        (true, _) => {
            Finding::ok(CHECK, format!("the default handler {name} goes through the gate"))
        }
        (false, true) if is_broken => Finding::new(
            Severity::Error,
            CHECK,
            format!("the default handler is {name}, which does not work"),
        )
        .why("no pod without a RuntimeClass starts")
        .remedy("./install.sh --default-runtime --restart"),
        (false, true) => {
            Finding::new(Severity::Bypass, CHECK, format!("the default handler is {name}"))
                .why("a pod without a RuntimeClass, and each static pod, starts past the gate")
                .remedy("./install.sh --default-runtime --restart")
        }
        (false, false) => Finding::new(
            Severity::Error,
            CHECK,
            format!("the default handler is {name}, and there is no such handler"),
        )
        .why("containerd's CRI plug-in does not start, and so no pod does")
        .remedy(format!(
            "in {}: add the table of the handler {name}, or name another default; then: \
             systemctl restart containerd",
            place.file
        )),
    };
    out.push(found.at(Some(&place)));
    is_gated
}

/// `ctr` and `nerdctl`, which use no handler.
fn clients(ours: &Ours<'_>, out: &mut Vec<Finding>) {
    const CHECK: &str = "containerd.clients";
    let found = match ours.in_path("runc") {
        Some((path, Program::Wrapper(name))) => {
            wrapper_of(ours, &name, "containerd", out);
            Finding::ok(CHECK, format!("the runc in PATH, {path}, is the gate's")).file(path)
        }
        Some((path, _)) => Finding::new(
            Severity::Warning,
            CHECK,
            format!("ctr and nerdctl run {RUNC_V2}, and with it {path}"),
        )
        .file(path)
        .why(
            "who may use containerd's socket, which is root alone, starts containers past the gate \
             unless a runtime is named",
        )
        .remedy(format!("ctr run --runtime {OURS} IMAGE ID; or {}", in_place_of_runc(ours))),
        None => Finding::new(Severity::Info, CHECK, "there is no runc in PATH")
            .why("ctr and nerdctl start nothing without --runtime"),
    };
    out.push(found);
}

/// Looks whether a wrapper that an engine uses knows that engine, and another runtime than itself.
pub(super) fn wrapper_of(ours: &Ours<'_>, name: &str, engine: &str, out: &mut Vec<Finding>) {
    const CHECK: &str = "wrapper.engine";
    const SETTINGS: &str = "/etc/portcullis/portcullis.toml";
    let key = format!("wrapper.{name}");
    let found = match ours.engine_of(name) {
        Some(told) if told == engine => return,
        Some(told) => Finding::new(
            Severity::Error,
            CHECK,
            format!("{engine} uses the wrapper {name}, whose engine is {told}"),
        ),
        None => Finding::new(
            Severity::Error,
            CHECK,
            format!("{engine} uses the wrapper {name}, whose engine is not told"),
        ),
    };
    let found = found
        .file(SETTINGS)
        .key(format!("{key}.engine"))
        .why("it looks for the image where another engine would keep it, and finds none")
        .remedy(format!("in {SETTINGS}, below [{key}]: engine = \"{engine}\""));
    if !out.contains(&found) {
        out.push(found);
    }
}
