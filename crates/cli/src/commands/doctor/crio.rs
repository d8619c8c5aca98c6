//! CRI-O: its handlers and its default.
//!
//! As CRI-O's `pkg/config` reads it: `/etc/crio/crio.conf`, then the files of `/etc/crio/crio.conf.d`
//! in order of their names, each key over the one before; a handler that is named again is a new one.

use std::collections::BTreeMap;

use toml::Value;

use super::containerd::wrapper_of;
use super::files::Host;
use super::finding::{Finding, Place, Severity};
use super::ours::{Ours, PATH, Program};
use super::tables;

const MAIN: &str = "/etc/crio/crio.conf";
const DROP_INS: &str = "/etc/crio/crio.conf.d";
const OURS: &str = "/usr/local/bin/portcullis-runc-crio";

/// What else needs to be known of this engine.
#[derive(Debug, Default)]
pub(super) struct Crio {
    /// The handlers that go through the gate.
    pub(super) gated: Vec<String>,
    /// Whether a pod that names no handler goes through the gate.
    pub(super) default_gated: bool,
    /// The image of a pod's sandbox, where one is started.
    pub(super) sandbox_image: Option<(String, Option<Place>)>,
}

/// What the files say, put together.
#[derive(Default)]
struct Config {
    handlers: BTreeMap<String, (toml::Table, Place)>,
    default: Option<(String, Place)>,
    pause_image: Option<(String, Place)>,
    drops_infra: bool,
}

/// Looks at CRI-O; `None` if the node has none.
pub(super) fn check(ours: &Ours<'_>, out: &mut Vec<Finding>) -> Option<Crio> {
    let host = ours.host;
    let has_files = host.find(MAIN).is_some() || !host.names(DROP_INS).is_empty();
    if host.program("crio", PATH).is_none() && !has_files {
        return None;
    }
    let config = load(host, out);
    let mut found = Crio::default();
    for (name, (table, place)) in &config.handlers {
        if handler(ours, &config, name, table, place, out) {
            found.gated.push(name.clone());
        }
    }
    let built_in = !["runc", "crun"].iter().any(|name| config.handlers.contains_key(*name));
    if built_in {
        out.push(
            Finding::new(
                Severity::Bypass,
                "crio.handler",
                "the handler that is built in, crun or runc, is as it was",
            )
            .file(DROP_INS)
            .key("crio.runtime.runtimes")
            .why("a pod whose RuntimeClass has this handler starts past the gate")
            .remedy(mended("crun")),
        );
    }
    found.default_gated = default(&config, &found.gated, built_in, out);
    if !config.drops_infra {
        found.sandbox_image = config.pause_image.map(|(image, place)| (image, Some(place)));
    }
    Some(found)
}

fn load(host: &Host, out: &mut Vec<Finding>) -> Config {
    let mut config = Config { drops_infra: true, ..Config::default() };
    let drop_ins = host.names(DROP_INS).into_iter().map(|name| format!("{DROP_INS}/{name}"));
    for file in std::iter::once(MAIN.to_owned()).chain(drop_ins) {
        let Some(table) = tables::read(host, &file, "crio.config", "CRI-O", out) else { continue };
        let place = |key: &str| Place { file: file.clone(), key: key.to_owned() };
        let at = |path: &[&str]| tables::at(&table, path);
        if let Some(name) = at(&["crio", "runtime", "default_runtime"]).and_then(Value::as_str) {
            config.default = Some((name.to_owned(), place("crio.runtime.default_runtime")));
        }
        if let Some(image) = at(&["crio", "image", "pause_image"]).and_then(Value::as_str) {
            config.pause_image = Some((image.to_owned(), place("crio.image.pause_image")));
        }
        if let Some(drops) = at(&["crio", "runtime", "drop_infra_ctr"]).and_then(Value::as_bool) {
            config.drops_infra = drops;
        }
        let runtimes = at(&["crio", "runtime", "runtimes"]).and_then(Value::as_table);
        for (name, handler) in runtimes.into_iter().flatten() {
            let Some(handler) = handler.as_table() else { continue };
            let key = format!("crio.runtime.runtimes.{name}");
            config.handlers.insert(name.clone(), (handler.clone(), place(&key)));
        }
    }
    config
}

fn mended(name: &str) -> String {
    format!(
        "in {DROP_INS}/99-portcullis.conf: [crio.runtime.runtimes.{name}] with runtime_path = \
         \"{OURS}\" and runtime_type = \"oci\"; then: systemctl restart crio"
    )
}

/// Looks at one handler, and says whether it goes through the gate.
fn handler(
    ours: &Ours<'_>,
    config: &Config,
    name: &str,
    table: &toml::Table,
    place: &Place,
    out: &mut Vec<Finding>,
) -> bool {
    const CHECK: &str = "crio.handler";
    let text = |table: &toml::Table, key: &str| {
        table.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(ToOwned::to_owned)
    };
    let inherits = table.get("inherit_default_runtime").and_then(Value::as_bool).unwrap_or(false);
    let default = config.default.as_ref().map(|(name, _)| name.as_str());
    // With its own path and type replaced by those of the default.
    let (source, name_of) = match (inherits, default.and_then(|d| config.handlers.get_key_value(d)))
    {
        (true, Some((name, (table, _)))) => (table, name.as_str()),
        _ => (table, name),
    };
    let kind = text(source, "runtime_type").unwrap_or_else(|| "oci".to_owned());
    let (path, program) = match text(source, "runtime_path") {
        Some(path) => {
            let program = ours.program(&path);
            (path, program)
        }
        None => ours
            .in_path(name_of)
            .unwrap_or_else(|| (format!("{name_of} in PATH"), Program::Missing)),
    };
    let key = format!("{}.runtime_path", place.key);
    let found = |severity, seen: String| {
        Finding::new(severity, CHECK, seen).file(&place.file).key(key.clone())
    };
    let (finding, gated) = match (program, kind.as_str()) {
        (Program::Wrapper(wrapper), "oci" | "pod") => {
            wrapper_of(ours, &wrapper, "cri-o", out);
            (found(Severity::Ok, format!("handler {name} goes through the gate")), true)
        }
        (program, kind) if program.is_ours() => (
            found(
                Severity::Error,
                format!("handler {name} runs {path} with the runtime_type {kind}"),
            )
            .why("CRI-O reaches the gate by the wrapper and by the types oci and pod alone")
            .remedy(mended(name)),
            false,
        ),
        (Program::Missing, _) => (
            found(Severity::Error, format!("handler {name}: there is no program {path}"))
                .why("CRI-O leaves such a handler out, or does not start")
                .remedy(mended(name)),
            false,
        ),
        (_, kind) => (
            found(Severity::Bypass, format!("handler {name} runs {path} ({kind})"))
                .why("a pod whose RuntimeClass has this handler starts past the gate")
                .remedy(mended(name)),
            false,
        ),
    };
    out.push(finding);
    gated
}

fn default(config: &Config, gated: &[String], built_in: bool, out: &mut Vec<Finding>) -> bool {
    const CHECK: &str = "crio.default";
    let remedy = |name: &str| {
        format!(
            "in {DROP_INS}/99-portcullis.conf, below [crio.runtime]: default_runtime = \"{name}\"; \
             then: systemctl restart crio"
        )
    };
    let ours = gated.first().map_or("portcullis", String::as_str);
    let (finding, is_gated) = match &config.default {
        Some((name, place)) if gated.contains(name) => {
            let seen = format!("the default handler {name} goes through the gate");
            (Finding::ok(CHECK, seen).at(Some(place)), true)
        }
        Some((name, place)) if config.handlers.contains_key(name) || built_in => (
            Finding::new(Severity::Bypass, CHECK, format!("the default handler is {name}"))
                .at(Some(place))
                .why("a pod without a RuntimeClass, and each static pod, starts past the gate")
                .remedy(remedy(ours)),
            false,
        ),
        Some((name, place)) => (
            Finding::new(
                Severity::Error,
                CHECK,
                format!("the default handler is {name}, and there is no such handler"),
            )
            .at(Some(place))
            .why("CRI-O does not start")
            .remedy(remedy(ours)),
            false,
        ),
        None => {
            // Which of the two it is depends on the version.
            let gated = ["runc", "crun"].iter().all(|name| gated.iter().any(|g| g == name));
            let finding = match gated {
                true => Finding::ok(CHECK, "the default handler goes through the gate"),
                false => Finding::new(
                    Severity::Bypass,
                    CHECK,
                    "the default handler is the built-in one, crun or runc",
                )
                .file(DROP_INS)
                .key("crio.runtime.default_runtime")
                .why("a pod without a RuntimeClass, and each static pod, starts past the gate")
                .remedy(remedy(ours)),
            };
            (finding, gated)
        }
    };
    out.push(finding);
    is_gated
}
