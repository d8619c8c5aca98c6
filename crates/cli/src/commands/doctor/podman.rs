//! Podman: its default runtime, the others that can be named, and where its images are.
//!
//! As containers/common and containers/storage read it: `containers.conf` of `/usr/share/containers`
//! and `/etc/containers`, then `containers.conf.d/*.conf`, each key over the one before.

use std::collections::BTreeMap;

use toml::Value;

use super::containerd::wrapper_of;
use super::files::Host;
use super::finding::{Finding, Place, Severity};
use super::ours::{Ours, PATH, Program, base};
use super::tables;

const FILES: &[&str] = &[
    "/usr/share/containers/containers.conf",
    "/usr/share/containers/containers.conf.d/*.conf",
    "/etc/containers/containers.conf",
    "/etc/containers/containers.conf.d/*.conf",
];
/// The later one replaces the earlier one.
const STORAGE: &[&str] = &["/usr/share/containers/storage.conf", "/etc/containers/storage.conf"];
const DROP_IN: &str = "/etc/containers/containers.conf.d/99-portcullis.conf";
const OURS: &str = "/usr/local/bin/portcullis-runc-podman";
const GRAPH_ROOT: &str = "/var/lib/containers/storage";

/// What the files say, put together.
#[derive(Default)]
struct Config {
    default: Option<(String, Place)>,
    /// Where the programs of each are looked for, in order.
    runtimes: BTreeMap<String, (Vec<String>, Place)>,
    json: Option<Vec<String>>,
}

/// Looks at Podman, if the node has it.
pub(super) fn check(ours: &Ours<'_>, out: &mut Vec<Finding>) {
    let host = ours.host;
    if host.program("podman", PATH).is_none() {
        return;
    }
    let config = load(host, out);
    default(ours, &config, out);
    others(ours, &config, out);
    storage(ours, out);
    out.push(
        Finding::new(Severity::Info, "podman.rootless", "Podman without root is advised, not held")
            .why("a user who starts containers of their own can run runc or crun directly"),
    );
}

fn load(host: &Host, out: &mut Vec<Finding>) -> Config {
    let mut config = Config::default();
    for file in FILES.iter().flat_map(|pattern| host.glob(pattern)) {
        let Some(table) = tables::read(host, &file, "podman.config", "Podman", out) else {
            continue;
        };
        let place = |key: &str| Place { file: file.clone(), key: key.to_owned() };
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        };
        let engine = |key: &str| tables::at(&table, &["engine", key]);
        if let Some(name) = engine("runtime").and_then(Value::as_str).filter(|n| !n.is_empty()) {
            config.default = Some((name.to_owned(), place("engine.runtime")));
        }
        if let Some(names) = engine("runtime_supports_json") {
            config.json = Some(texts(names));
        }
        for (name, paths) in engine("runtimes").and_then(Value::as_table).into_iter().flatten() {
            let key = format!("engine.runtimes.{name}");
            config.runtimes.insert(name.clone(), (texts(paths), place(&key)));
        }
    }
    config
}

/// The program of a runtime, by its name or its path.
fn program(ours: &Ours<'_>, config: &Config, name: &str) -> (String, Program) {
    if name.starts_with('/') {
        return (name.to_owned(), ours.program(name));
    }
    let listed = config.runtimes.get(name).map(|(paths, _)| paths.as_slice()).unwrap_or_default();
    let found = listed
        .iter()
        .map(|path| (path.clone(), ours.program(path)))
        .find(|(_, program)| *program != Program::Missing);
    found.or_else(|| ours.in_path(name)).unwrap_or_else(|| (name.to_owned(), Program::Missing))
}

fn mended() -> String {
    format!(
        "in {DROP_IN}, below [engine]: runtime = \"portcullis\" and runtime_supports_json = \
         [\"crun\", \"runc\", \"portcullis-runc-podman\"]; below [engine.runtimes]: portcullis = \
         [\"{OURS}\"]"
    )
}

fn default(ours: &Ours<'_>, config: &Config, out: &mut Vec<Finding>) {
    const CHECK: &str = "podman.default";
    let place = config.default.as_ref().map(|(_, place)| place);
    let name = match &config.default {
        Some((name, _)) => name.clone(),
        // The first that is there.
        None => ["crun", "runc"]
            .into_iter()
            .find(|name| program(ours, config, name).1 != Program::Missing)
            .unwrap_or("crun")
            .to_owned(),
    };
    let (path, program) = program(ours, config, &name);
    let found = match program {
        Program::Wrapper(wrapper) => {
            wrapper_of(ours, &wrapper, "podman", out);
            let json = config.json.as_ref();
            let words = base(&path);
            if !json.is_some_and(|names| names.iter().any(|n| n == words)) {
                out.push(
                    Finding::new(
                        Severity::Warning,
                        "podman.json",
                        format!("runtime_supports_json does not name {words}"),
                    )
                    .file(place.map_or(DROP_IN, |place| &place.file))
                    .key("engine.runtime_supports_json")
                    .why("Podman then shows a refusal as the raw lines of a log")
                    .remedy(mended()),
                );
            }
            Finding::ok(CHECK, format!("the default runtime {name} goes through the gate"))
        }
        Program::Shim => {
            Finding::new(Severity::Error, CHECK, format!("the default runtime {name} is our shim"))
                .why("Podman needs an OCI runtime, so nothing starts")
                .remedy(mended())
        }
        Program::Missing => Finding::new(
            Severity::Error,
            CHECK,
            format!("the default runtime is {name}, and there is no such program"),
        )
        .why("nothing starts")
        .remedy(mended()),
        Program::Other(_) => {
            let seen = format!("the default runtime {name} runs {path}");
            Finding::new(Severity::Bypass, CHECK, seen)
                .why("every podman run starts past the gate")
                .remedy(mended())
        }
    };
    let found = match place {
        Some(place) => found.at(Some(place)),
        None => found.file(DROP_IN).key("engine.runtime"),
    };
    out.push(found);
}

/// The runtimes that can be named.
fn others(ours: &Ours<'_>, config: &Config, out: &mut Vec<Finding>) {
    let default = config.default.as_ref().map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = config.runtimes.keys().map(String::as_str).collect();
    names.extend(["crun", "runc"]);
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| Some(*name) != default) {
        let (path, program) = program(ours, config, name);
        let Program::Other(_) = program else { continue };
        let place = config.runtimes.get(name).map(|(_, place)| place);
        out.push(
            Finding::new(
                Severity::Warning,
                "podman.runtime",
                format!("runtime {name} runs {path}"),
            )
            .file(&path)
            .at(place)
            .why("root, and who may use Podman's socket, can name it in podman --runtime")
            .remedy("chmod 600 /run/podman/podman.sock"),
        );
    }
}

/// Whether the wrapper looks for images where Podman keeps them.
fn storage(ours: &Ours<'_>, out: &mut Vec<Finding>) {
    let mut config = None;
    for file in STORAGE {
        if let Some(table) = tables::read(ours.host, file, "podman.storage", "Podman", out) {
            config = Some((*file, table));
        }
    }
    let (file, table) = config.unwrap_or((STORAGE[1], toml::Table::new()));
    let root =
        tables::at(&table, &["storage", "graphroot"]).and_then(Value::as_str).unwrap_or(GRAPH_ROOT);
    let more = tables::at(&table, &["storage", "options", "additionalimagestores"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let roots: Vec<(&str, &str)> = std::iter::once(("storage.graphroot", root))
        .chain(more.map(|store| ("storage.options.additionalimagestores", store)))
        .collect();
    for (name, wrapper) in &ours.wrappers {
        let engine = ours.engine_of(name);
        if !matches!(engine.as_deref(), Some("podman" | "cri-o")) {
            continue;
        }
        let standard = [GRAPH_ROOT.to_owned()];
        let told = if wrapper.storage.is_empty() { &standard[..] } else { &wrapper.storage };
        for (key, wanted) in &roots {
            if told.iter().any(|t| t.trim_end_matches('/') == wanted.trim_end_matches('/')) {
                continue;
            }
            out.push(
                Finding::new(
                    Severity::Error,
                    "podman.storage",
                    format!("images are in {wanted}, where the wrapper {name} does not look"),
                )
                .file(file)
                .key(*key)
                .why("the wrapper finds no image there, so each of them is unknown to it")
                .remedy(format!(
                    "in /etc/portcullis/portcullis.toml, below [wrapper.{name}]: storage = [{}]",
                    roots.iter().map(|(_, r)| format!("\"{r}\"")).collect::<Vec<_>>().join(", ")
                )),
            );
        }
    }
}
