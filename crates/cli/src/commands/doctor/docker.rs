//! Docker: its default runtime and the others that can be named.
//!
//! As dockerd reads it: `/etc/docker/daemon.json`, and flags of its service. The runtime `runc` is
//! built in and cannot be redefined.

use serde_json::{Map, Value};

use super::containerd::wrapper_of;
use super::files::Text;
use super::finding::{Finding, Place, Severity};
use super::ours::{Ours, PATH, Program, SHIM};
use super::{flags, tables};

const DEFAULT_FILE: &str = "/etc/docker/daemon.json";
const OURS: &str = "/usr/local/bin/portcullis-runc-docker";
const DATA: &str = "/var/lib/docker";
const SERVICE: &[&str] = &[
    "/lib/systemd/system/docker.service",
    "/etc/systemd/system/docker.service",
    "/etc/systemd/system/docker.service.d/*.conf",
    "/etc/default/docker",
    "/etc/sysconfig/docker",
];

/// Looks at Docker, if the node has it.
pub(super) fn check(ours: &Ours<'_>, out: &mut Vec<Finding>) {
    let host = ours.host;
    let flags = flags::of(host, SERVICE);
    let file = flags.last("config-file").map_or(DEFAULT_FILE, |(file, _)| file);
    let text = host.read(file);
    if host.program("dockerd", PATH).is_none() && text == Text::Absent {
        return;
    }
    let config = match read(text) {
        Ok(config) => config,
        Err((line, what)) => {
            out.push(tables::unusable("docker.config", file, line, &what, "dockerd"));
            Map::new()
        }
    };
    let place = |key: &str| Place { file: file.to_owned(), key: key.to_owned() };
    let mut runtimes: Vec<Runtime> = Vec::new();
    for (name, table) in config.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
        let text = |key: &str| table.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let place = place(&format!("runtimes.{name}"));
        runtimes.push(Runtime {
            name: name.clone(),
            path: text("path"),
            kind: text("runtimeType"),
            place,
        });
    }
    for (value, file) in flags.all("add-runtime") {
        let Some((name, path)) = value.split_once('=') else { continue };
        let place = Place { file: file.to_owned(), key: "--add-runtime".to_owned() };
        let path = Some(path.to_owned());
        runtimes.push(Runtime { name: name.to_owned(), path, kind: None, place });
    }
    let default = match config.get("default-runtime").and_then(Value::as_str) {
        Some(name) => (name.to_owned(), place("default-runtime")),
        None => match flags.last("default-runtime") {
            Some((name, file)) => {
                let (file, key) = (file.to_owned(), "--default-runtime".to_owned());
                (name.to_owned(), Place { file, key })
            }
            None => ("runc".to_owned(), place("default-runtime")),
        },
    };
    let mut gated = Vec::new();
    for runtime in &runtimes {
        if runtime.look(ours, default.0 == runtime.name, out) {
            gated.push(runtime.name.clone());
        }
    }
    if built_in(ours, default.0 == "runc", &default.1, out) {
        gated.extend(["runc".to_owned(), "io.containerd.runc.v2".to_owned()]);
    }
    let known = runtimes.iter().any(|runtime| runtime.name == default.0);
    if gated.contains(&default.0) {
        let seen = format!("the default runtime {} goes through the gate", default.0);
        out.push(Finding::ok("docker.default", seen).at(Some(&default.1)));
    } else if !known && default.0 != "runc" {
        out.push(
            Finding::new(
                Severity::Error,
                "docker.default",
                format!("the default runtime is {}, and there is no such runtime", default.0),
            )
            .at(Some(&default.1))
            .why("dockerd does not start")
            .remedy(mended()),
        );
    }
    data(ours, &config, file, out);
}

fn read(text: Text) -> Result<Map<String, Value>, (Option<usize>, String)> {
    match text {
        Text::Absent => Ok(Map::new()),
        Text::Unusable(what) => Err((None, what)),
        Text::Read(text) if text.trim().is_empty() => Ok(Map::new()),
        Text::Read(text) => {
            serde_json::from_str(&text).map_err(|e| (Some(e.line()), e.to_string()))
        }
    }
}

struct Runtime {
    name: String,
    path: Option<String>,
    kind: Option<String>,
    place: Place,
}

impl Runtime {
    /// Looks at it, and says whether it goes through the gate.
    fn look(&self, ours: &Ours<'_>, is_default: bool, out: &mut Vec<Finding>) -> bool {
        const CHECK: &str = "docker.runtime";
        let Self { name, path, kind, place } = self;
        let (what, program) = match (path, kind) {
            (Some(path), _) if path.starts_with('/') => (path.clone(), ours.program(path)),
            (Some(name), _) => ours.in_path(name).unwrap_or((name.clone(), Program::Missing)),
            (None, Some(kind)) if kind == "io.containerd.portcullis.v2" => {
                ours.in_path(SHIM).unwrap_or((kind.clone(), Program::Missing))
            }
            (None, Some(kind)) if kind.starts_with('/') => (kind.clone(), ours.program(kind)),
            (None, Some(kind)) => (kind.clone(), Program::Other(kind.clone())),
            (None, None) => ("nothing".to_owned(), Program::Missing),
        };
        match program {
            Program::Wrapper(wrapper) => {
                wrapper_of(ours, &wrapper, "docker", out);
                out.push(
                    Finding::ok(CHECK, format!("runtime {name} goes through the gate"))
                        .at(Some(place)),
                );
                true
            }
            Program::Shim => {
                out.push(
                    Finding::ok(CHECK, format!("runtime {name} goes through the gate"))
                        .at(Some(place)),
                );
                true
            }
            Program::Missing => {
                out.push(
                    Finding::new(
                        Severity::Error,
                        CHECK,
                        format!("runtime {name}: there is no program {what}"),
                    )
                    .at(Some(place))
                    .why("containers with this runtime do not start")
                    .remedy(mended()),
                );
                false
            }
            Program::Other(_) => {
                out.push(past(CHECK, name, &what, is_default).at(Some(place)).remedy(mended()));
                false
            }
        }
    }
}

fn past(check: &'static str, name: &str, what: &str, is_default: bool) -> Finding {
    match is_default {
        true => Finding::new(
            Severity::Bypass,
            check,
            format!("the default runtime {name} runs {what}"),
        )
        .why("every docker run, and all that docker restarts, starts past the gate"),
        false => Finding::new(Severity::Warning, check, format!("runtime {name} runs {what}"))
            .why("who may use Docker's socket, which is as good as root, can name it in docker run --runtime"),
    }
}

fn mended() -> String {
    format!(
        "in {DEFAULT_FILE}: \"runtimes\": {{\"portcullis\": {{\"path\": \"{OURS}\"}}}}, \
         \"default-runtime\": \"portcullis\"; then: systemctl restart docker"
    )
}

/// The runtime `runc`, also known as `io.containerd.runc.v2`.
fn built_in(ours: &Ours<'_>, is_default: bool, place: &Place, out: &mut Vec<Finding>) -> bool {
    const CHECK: &str = "docker.built-in";
    match ours.in_path("runc") {
        Some((path, Program::Wrapper(_))) => {
            let seen = format!("docker's built-in runtime runs {path}, which is the gate's");
            out.push(Finding::ok(CHECK, seen).file(path));
            true
        }
        Some((path, _)) => {
            let what = format!("{path}, also as io.containerd.runc.v2");
            let remedy = match is_default {
                true => mended(),
                false => "chown root:root /var/run/docker.sock".into(),
            };
            out.push(past(CHECK, "runc", &what, is_default).at(Some(place)).remedy(remedy));
            false
        }
        None => false,
    }
}

/// Whether the wrapper looks for images where this Docker keeps them.
fn data(ours: &Ours<'_>, config: &Map<String, Value>, file: &str, out: &mut Vec<Finding>) {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let root = text("data-root").unwrap_or(DATA);
    let socket = text("containerd");
    let snapshotter = config
        .get("features")
        .and_then(|features| features.get("containerd-snapshotter"))
        .and_then(Value::as_bool);
    if snapshotter == Some(true) {
        out.push(
            Finding::new(Severity::Info, "docker.images", "images are kept by containerd")
                .file(file)
                .key("features.containerd-snapshotter")
                .why("the wrapper asks containerd's socket which image starts"),
        );
    }
    for (name, wrapper) in &ours.wrappers {
        if ours.engine_of(name).as_deref() != Some("docker") {
            continue;
        }
        let told = wrapper.data.as_deref().unwrap_or(DATA);
        let pairs = [
            ("data", "data-root", told, Some(root)),
            ("socket", "containerd", wrapper.socket.as_deref().unwrap_or_default(), socket),
        ];
        for (key, docker_key, told, wanted) in pairs {
            let Some(wanted) = wanted else { continue };
            if told.trim_end_matches('/') == wanted.trim_end_matches('/') {
                continue;
            }
            out.push(
                Finding::new(
                    Severity::Error,
                    "docker.wrapper",
                    format!("{docker_key} is {wanted}, and the wrapper {name} has {key} \"{told}\""),
                )
                .file(file)
                .key(docker_key)
                .why("the wrapper finds no image, so each is unknown to it")
                .remedy(format!(
                    "in /etc/portcullis/portcullis.toml, below [wrapper.{name}]: {key} = \"{wanted}\""
                )),
            );
        }
    }
}
