//! Static pods: those that kubelet starts from files, with no API server.

use serde_json::Value;

use super::files::{Host, Text};
use super::finding::{Finding, Severity};
use super::ours::PATH;
use super::{flags, tables, yaml};

const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
const SERVICE: &[&str] = &[
    "/lib/systemd/system/kubelet.service",
    "/usr/lib/systemd/system/kubelet.service.d/*.conf",
    "/etc/systemd/system/kubelet.service",
    "/etc/systemd/system/kubelet.service.d/*.conf",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/etc/default/kubelet",
    "/etc/sysconfig/kubelet",
];
/// Most manifests that are read.
const MOST: usize = 500;

/// What the engine that kubelet uses does with a handler.
pub(super) struct Handlers<'a> {
    pub(super) gated: &'a [String],
    pub(super) default_gated: bool,
}

/// What kubelet is told about its engine and its manifests.
pub(super) struct Kubelet {
    folder: String,
    pub(super) uses_crio: bool,
}

/// The node's kubelet; `None` if it has none.
pub(super) fn kubelet(host: &Host, out: &mut Vec<Finding>) -> Option<Kubelet> {
    let flags = flags::of(host, SERVICE);
    let file = flags.last("config").map_or(CONFIG, |(file, _)| file);
    let text = host.read(file);
    let has_kubelet = host.program("kubelet", PATH).is_some() || text != Text::Absent;
    if !has_kubelet && host.names(MANIFESTS).is_empty() {
        return None;
    }
    let config = match text {
        Text::Absent => Value::Null,
        Text::Unusable(what) => {
            out.push(tables::unusable("kubelet.config", file, None, &what, "kubelet"));
            Value::Null
        }
        Text::Read(text) => match yaml::documents(&text) {
            Ok(mut documents) if !documents.is_empty() => documents.swap_remove(0),
            Ok(_) => Value::Null,
            Err(error) => {
                let line = Some(error.line);
                out.push(tables::unusable("kubelet.config", file, line, &error.what, "kubelet"));
                Value::Null
            }
        },
    };
    let told = |key: &str| config.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    let flag = |name: &str| flags.last(name).map(|(value, _)| value);
    let folder = flag("pod-manifest-path").or_else(|| told("staticPodPath")).unwrap_or(MANIFESTS);
    let endpoint = flag("container-runtime-endpoint").or_else(|| told("containerRuntimeEndpoint"));
    Some(Kubelet {
        folder: folder.to_owned(),
        uses_crio: endpoint.is_some_and(|endpoint| endpoint.contains("crio")),
    })
}

/// Looks at each manifest of a static pod.
pub(super) fn check(
    host: &Host,
    kubelet: &Kubelet,
    handlers: &Handlers<'_>,
    out: &mut Vec<Finding>,
) {
    let folder = kubelet.folder.trim_end_matches('/');
    // As kubelet reads them: all but those with a dot in front.
    let names = host.names(folder).into_iter().filter(|name| !name.starts_with('.'));
    for name in names.take(MOST) {
        let file = format!("{folder}/{name}");
        let text = match host.read(&file) {
            Text::Read(text) => text,
            Text::Absent => continue,
            Text::Unusable(what) => {
                if host.find(&file).is_some_and(|found| found.is_file) {
                    out.push(tables::unusable("static-pod", &file, None, &what, "kubelet"));
                }
                continue;
            }
        };
        match yaml::documents(&text) {
            Ok(documents) => {
                let pods = documents.iter().filter(|d| d.get("kind") == Some(&"Pod".into()));
                out.extend(pods.map(|pod| look(pod, &file, handlers)));
            }
            Err(error) => {
                let line = Some(error.line);
                out.push(tables::unusable("static-pod", &file, line, &error.what, "kubelet"));
            }
        }
    }
}

fn look(pod: &Value, file: &str, handlers: &Handlers<'_>) -> Finding {
    const CHECK: &str = "static-pod";
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (name, class) = (text("/metadata/name"), text("/spec/runtimeClassName"));
    let found = |severity, seen: String| {
        Finding::new(severity, CHECK, seen).file(file).key("spec.runtimeClassName")
    };
    let is_gated = handlers.gated.iter().any(|handler| handler == class);
    match (class.is_empty(), handlers.default_gated, is_gated) {
        (true, true, _) => found(
            Severity::Ok,
            format!("static pod {name} goes through the gate: the default handler does"),
        ),
        (true, false, _) => {
            found(Severity::Bypass, format!("static pod {name} names no RuntimeClass"))
                .why("it starts with the default handler, past the gate")
                .remedy("./install.sh --default-runtime --restart")
        }
        (false, _, true) => {
            found(Severity::Ok, format!("static pod {name} has the RuntimeClass {class}"))
        }
        (false, ..) => found(
            Severity::Warning,
            format!("static pod {name} has the RuntimeClass {class}"),
        )
        .why("no handler of this name goes through the gate; which it has is in the API server")
        .remedy(format!("kubectl get runtimeclass {class} -o jsonpath='{{.handler}}'")),
    }
}
