//! Whole nodes, by small configurations in the shapes of the real ones: what is found, by severity,
//! check and key.

use super::files::testing::Node;
use super::*;

const SHIM: (&str, &str) = (ours::SHIM_PATH, "shim");
const RUNC: (&str, &str) = ("/usr/sbin/runc", "stock");
const CRUN: (&str, &str) = ("/usr/bin/crun", "stock crun");
const C: (&str, &str) = ("/usr/bin/containerd", "");
const V2: &str = "plugins.\"io.containerd.grpc.v1.cri\".containerd";

fn args(version: &str) -> (Doctor, Option<Version>) {
    let args =
        Doctor { all: false, strict: false, containerd_config: None, containerd_version: None };
    (args, Some(version.parse().unwrap()))
}

/// What is said of a node's engines, but for what is well and what is only good to know.
fn said(files: &[(&str, &str)], version: &str) -> Vec<String> {
    let node = Node::of(files);
    let settings = match node.host.read("/etc/portcullis/portcullis.toml") {
        Text::Read(text) => text,
        _ => String::new(),
    };
    let ours = Ours { host: &node.host, wrappers: ours::wrappers(&settings) };
    let (args, version) = args(version);
    let mut found = Vec::new();
    engines(&ours, &args, version, &mut found);
    for finding in &found {
        let told = [&finding.why, finding.remedy.as_ref().unwrap_or(&finding.why)];
        let must = finding.severity < Severity::Info;
        assert!(!must || told.iter().all(|t| !t.is_empty()), "{finding:?}");
        assert!(!must || finding.remedy.is_some() && finding.file.is_some(), "{finding:?}");
    }
    found
        .into_iter()
        .filter(|finding| finding.severity < Severity::Info)
        .map(|f| format!("{} {}: {}", f.severity.as_str(), f.check, f.seen))
        .collect()
}

#[track_caller]
fn check(files: &[(&str, &str)], version: &str, wanted: &[&str]) {
    let said = said(files, version);
    assert_eq!(said, wanted, "{files:#?}");
}

const CTR: &str = "warning containerd.clients: ctr and nerdctl run io.containerd.runc.v2, and with it /usr/sbin/runc";

#[test]
fn a_stock_containerd_is_open() {
    let open = [
        "bypass containerd.handler: handler runc runs /usr/sbin/runc",
        "bypass containerd.default: the default handler is runc",
        CTR,
    ];
    check(&[C, RUNC], "1.7.24", &open);
    check(&[C, RUNC, (containerd::CONFIG, "")], "2.1.9", &open);
    check(&[], "1.7.24", &[]);
    // As the package of Docker's makers brings it: no Kubernetes at all.
    check(&[C, RUNC, (containerd::CONFIG, "disabled_plugins = [\"cri\"]\n")], "1.7.24", &[CTR]);
}

#[test]
fn handlers_of_containerd() {
    let config = |default: &str, handlers: &str| {
        let text = format!("version = 2\n[{V2}]\ndefault_runtime_name = \"{default}\"\n{handlers}");
        text.replace("{R}", &format!("{V2}.runtimes"))
    };
    let ours_17 = "[{R}.p]\nruntime_type = \"io.containerd.runc.v2\"\n\
                   runtime_path = \"/usr/local/bin/containerd-shim-portcullis-v2\"\n";
    let ours_16 = "[{R}.p]\nruntime_type = \"io.containerd.portcullis.v2\"\n";
    let stock = "[{R}.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";
    let kata = "[{R}.kata]\nruntime_type = \"io.containerd.kata.v2\"\n";
    let wrapped = "[{R}.w]\nruntime_type = \"io.containerd.runc.v2\"\n[{R}.w.options]\n\
                   BinaryName = \"/usr/local/bin/portcullis-runc\"\n";
    let past = "bypass containerd.handler: handler runc runs /usr/sbin/runc";
    let stale = "error containerd.handler: handler p has runtime_path \
                 /usr/local/bin/containerd-shim-portcullis-v2";
    let lost =
        "warning containerd.handler: handler w reaches portcullis-runc by options.BinaryName";
    for (version, default, handlers, wanted) in [
        ("1.7.24", "p", ours_17.to_owned(), vec![CTR]),
        ("1.6.20", "p", ours_16.to_owned(), vec![CTR]),
        // The built-in one is there again.
        ("2.1.9", "p", ours_17.to_owned(), vec![past, CTR]),
        (
            "1.7.24",
            "runc",
            format!("{ours_17}{stock}"),
            vec![past, "bypass containerd.default: the default handler is runc", CTR],
        ),
        (
            "1.6.20",
            "p",
            ours_17.to_owned(),
            vec![
                stale,
                "bypass containerd.handler: handler p runs /usr/sbin/runc",
                "bypass containerd.default: the default handler is p",
                CTR,
            ],
        ),
        (
            "1.7.24",
            "p",
            format!("{ours_17}{kata}"),
            vec!["bypass containerd.handler: handler kata runs io.containerd.kata.v2", CTR],
        ),
        ("1.7.24", "w", wrapped.to_owned(), vec![lost, CTR]),
        ("2.1.9", "w", wrapped.to_owned(), vec![past, CTR]),
        (
            "1.7.24",
            "x",
            ours_17.to_owned(),
            vec![
                "error containerd.default: the default handler is x, and there is no such handler",
                CTR,
            ],
        ),
        (
            "1.7.24",
            "p",
            format!("{ours_17}sandboxer = \"shim\"\n[{{R}}.n]\nsnapshotter = \"x\"\n"),
            vec![
                "error containerd.handler: handler n: it has no runtime_type",
                "error containerd.handler: handler p has the sandboxer shim",
                CTR,
            ],
        ),
        (
            "1.7.24",
            "p",
            ours_17.replace("portcullis-v2", "gone-v2"),
            vec![
                "error containerd.handler: handler p: there is no program \
                 /usr/local/bin/containerd-shim-gone-v2",
                "error containerd.default: the default handler is p, which does not work",
                CTR,
            ],
        ),
    ] {
        let text = config(default, &handlers);
        let wrapper = ("/usr/local/bin/portcullis-runc", "wrapper");
        check(&[C, RUNC, SHIM, wrapper, (containerd::CONFIG, &text)], version, &wanted);
    }
}

#[test]
fn the_runc_in_path_may_be_the_gate() {
    let files = [
        C,
        ("/usr/sbin/runc", "-> /usr/local/bin/portcullis-runc"),
        ("/usr/local/bin/portcullis-runc", "wrapper"),
        ("/usr/sbin/runc.stock", "stock"),
    ];
    check(&files, "1.6.20", &[]);
    let wrong =
        ("/etc/portcullis/portcullis.toml", "[wrapper.portcullis-runc]\nengine = \"podman\"\n");
    check(
        &[&files[..], &[wrong]].concat(),
        "1.6.20",
        &[
            "error wrapper.engine: containerd uses the wrapper portcullis-runc, whose engine is podman",
        ],
    );
}

#[test]
fn files_that_cannot_be_read_are_findings_and_the_rest_is_checked() {
    let main = "version = 2\nimports = [\"conf.d/*.toml\", \"/none.toml\"]\n";
    check(
        &[
            C,
            RUNC,
            SHIM,
            (containerd::CONFIG, main),
            ("/etc/containerd/conf.d/a.toml", "x = \n"),
            ("/etc/docker/daemon.json", "{\n\"runtimes\": {,}\n}"),
            ("/etc/crio/crio.conf", "[crio\n"),
            ("/etc/crio/crio.conf.d/x", "[crio.runtime]\ndefault_runtime = \"runc\"\n"),
            ("/etc/kubernetes/manifests/a.yaml", "kind: Pod\nx: [\n"),
        ],
        "1.7.24",
        &[
            "error containerd.config: it cannot be read: string values must be quoted, expected literal string",
            "error containerd.config: it imports /none.toml, which is not there",
            "bypass containerd.handler: handler runc runs /usr/sbin/runc",
            "bypass containerd.default: the default handler is runc",
            CTR,
            "error crio.config: it cannot be read: unclosed table, expected `]`",
            "bypass crio.handler: the handler that is built in, crun or runc, is as it was",
            "bypass crio.default: the default handler is runc",
            "error docker.config: it cannot be read: key must be a string at line 2 column 14",
            "bypass docker.built-in: the default runtime runc runs /usr/sbin/runc, also as io.containerd.runc.v2",
            "error static-pod: it cannot be read: unclosed bracket '['",
        ],
    );
}

#[test]
fn drop_ins_that_nobody_imports_and_tables_that_are_replaced() {
    let drop_in = ("/etc/containerd/conf.d/portcullis.toml", "version = 2\n");
    check(
        &[C, RUNC, (containerd::CONFIG, "version = 2\n"), drop_in],
        "1.7.24",
        &[
            "warning containerd.drop-ins: it is not read by containerd",
            "bypass containerd.handler: handler runc runs /usr/sbin/runc",
            "bypass containerd.default: the default handler is runc",
            CTR,
        ],
    );
    let main = format!(
        "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n[{V2}.runtimes.p]\n\
         runtime_type = \"io.containerd.portcullis.v2\"\n"
    );
    let drop_in = format!("version = 2\n[{V2}]\ndefault_runtime_name = \"p\"\n");
    let files =
        [C, RUNC, SHIM, (containerd::CONFIG, &main), ("/etc/containerd/conf.d/a.toml", &drop_in)];
    check(
        &files,
        "1.7.24",
        &[
            "warning containerd.config: what /etc/containerd/config.toml says of the CRI plug-in is dropped",
            "bypass containerd.handler: handler runc runs /usr/sbin/runc",
            "error containerd.default: the default handler is p, and there is no such handler",
            CTR,
        ],
    );
    check(&files, "2.1.9", &["bypass containerd.handler: handler runc runs /usr/sbin/runc", CTR]);
}

#[test]
fn handlers_of_cri_o() {
    let wrapper = ("/usr/local/bin/portcullis-runc-crio", "wrapper");
    let main = "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\n\
                runtime_path = \"/usr/bin/crun\"\n[crio.image]\npause_image = \"k/pause:1\"\n";
    let ours = "[crio.runtime]\ndefault_runtime = \"p\"\n[crio.runtime.runtimes.p]\n\
                runtime_path = \"/usr/local/bin/portcullis-runc-crio\"\nruntime_type = \"oci\"\n";
    let past = "bypass crio.handler: handler crun runs /usr/bin/crun (oci)";
    for (drop_in, wanted) in [
        ("", vec![past, "bypass crio.default: the default handler is crun"]),
        (ours, vec![past]),
        (
            "[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/local/bin/portcullis-runc-crio\"\n",
            vec![],
        ),
        (
            "[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/local/bin/portcullis-runc-crio\"\n\
             runtime_type = \"vm\"\n",
            vec![
                "error crio.handler: handler crun runs /usr/local/bin/portcullis-runc-crio with \
                 the runtime_type vm",
                "bypass crio.default: the default handler is crun",
            ],
        ),
        (
            "[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/local/bin/portcullis-runc-crio\"\n\
             [crio.runtime.runtimes.high]\ninherit_default_runtime = true\n\
             [crio.runtime.runtimes.gone]\nruntime_path = \"/usr/bin/gone\"\n\
             [crio.runtime.runtimes.wrong]\nruntime_path = \"/usr/local/bin/portcullis-runc\"\n",
            vec![
                "error crio.handler: handler gone: there is no program /usr/bin/gone",
                "error wrapper.engine: cri-o uses the wrapper portcullis-runc, whose engine is containerd",
            ],
        ),
    ] {
        let files = [
            CRUN,
            wrapper,
            ("/usr/local/bin/portcullis-runc", "other"),
            ("/etc/crio/crio.conf", main),
            ("/etc/crio/crio.conf.d/50.conf", drop_in),
        ];
        check(&files, "1.7.24", &wanted);
    }
}

#[test]
fn runtimes_of_docker() {
    let wrapper = ("/usr/local/bin/portcullis-runc-docker", "wrapper");
    let dockerd = ("/usr/sbin/dockerd", "");
    let built_in =
        "warning docker.built-in: runtime runc runs /usr/sbin/runc, also as io.containerd.runc.v2";
    let open = "bypass docker.built-in: the default runtime runc runs /usr/sbin/runc, also as \
                io.containerd.runc.v2";
    for (json, unit, settings, wanted) in [
        ("{}", "", "", vec![open]),
        (
            r#"{"default-runtime": "p", "runtimes":
                {"p": {"path": "/usr/local/bin/portcullis-runc-docker"}}}"#,
            "",
            "",
            vec![built_in],
        ),
        (
            r#"{"default-runtime": "k", "runtimes": {"k": {"runtimeType": "io.containerd.kata.v2"}}}"#,
            "",
            "",
            vec![
                "bypass docker.runtime: the default runtime k runs io.containerd.kata.v2",
                built_in,
            ],
        ),
        (
            r#"{"runtimes": {"c": {"path": "crun"}}}"#,
            "ExecStart=/usr/sbin/dockerd --default-runtime=p \
             --add-runtime p=/usr/local/bin/portcullis-runc-docker",
            "",
            vec!["warning docker.runtime: runtime c runs /usr/bin/crun", built_in],
        ),
        (
            r#"{"default-runtime": "x"}"#,
            "",
            "",
            vec![
                built_in,
                "error docker.default: the default runtime is x, and there is no such runtime",
            ],
        ),
        (
            r#"{"default-runtime": "p", "data-root": "/srv/docker", "runtimes":
                {"p": {"path": "/usr/local/bin/portcullis-runc-docker"}}}"#,
            "",
            "[wrapper.portcullis-runc-docker]\nengine = \"docker\"\n",
            vec![
                built_in,
                "error docker.wrapper: data-root is /srv/docker, and the wrapper \
                 portcullis-runc-docker has data \"/var/lib/docker\"",
            ],
        ),
    ] {
        let files = [
            dockerd,
            RUNC,
            CRUN,
            wrapper,
            ("/etc/docker/daemon.json", json),
            ("/lib/systemd/system/docker.service", unit),
            ("/etc/portcullis/portcullis.toml", settings),
        ];
        check(&files, "1.7.24", &wanted);
    }
}

#[test]
fn runtimes_of_podman() {
    let wrapper = ("/usr/local/bin/portcullis-runc-podman", "wrapper");
    let podman = ("/usr/bin/podman", "");
    let ours = "[engine]\nruntime = \"p\"\nruntime_supports_json = [\"portcullis-runc-podman\"]\n\
                [engine.runtimes]\np = [\"/none\", \"/usr/local/bin/portcullis-runc-podman\"]\n";
    let other = "warning podman.runtime: runtime crun runs /usr/bin/crun";
    for (conf, storage, settings, wanted) in [
        (
            "",
            "",
            "",
            vec!["bypass podman.default: the default runtime crun runs /usr/bin/crun", other],
        ),
        (ours, "", "", vec![other]),
        (
            "[engine]\nruntime = \"/usr/local/bin/portcullis-runc-podman\"\n",
            "",
            "",
            vec![
                "warning podman.json: runtime_supports_json does not name portcullis-runc-podman",
                other,
            ],
        ),
        (
            ours,
            "[storage]\ngraphroot = \"/srv/c\"\n[storage.options]\nadditionalimagestores = [\"/ro\"]\n",
            "[wrapper.portcullis-runc-podman]\nstorage = [\"/srv/c/\"]\n",
            vec![
                other,
                "error podman.storage: images are in /ro, where the wrapper portcullis-runc-podman \
                 does not look",
            ],
        ),
        (
            "[engine]\nruntime = \"gone\"\n",
            "",
            "",
            vec![
                "error podman.default: the default runtime is gone, and there is no such program",
                other,
            ],
        ),
    ] {
        let files = [
            podman,
            CRUN,
            wrapper,
            ("/usr/share/containers/containers.conf", "[engine]\nruntime = \"crun\"\n"),
            ("/etc/containers/containers.conf.d/a.conf", conf),
            ("/etc/containers/storage.conf", storage),
            ("/etc/portcullis/portcullis.toml", settings),
        ];
        let files =
            if conf.is_empty() { [&files[..3], &files[5..]].concat() } else { files.to_vec() };
        check(&files, "1.7.24", &wanted);
    }
}

#[test]
fn static_pods() {
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{more}containers: []}}\n"
        )
    };
    let config = format!(
        "version = 2\n[{V2}]\ndefault_runtime_name = \"runc\"\n[{V2}.runtimes.p]\n\
         runtime_type = \"io.containerd.portcullis.v2\"\n[{V2}.runtimes.runc]\n\
         runtime_type = \"io.containerd.runc.v2\"\n"
    );
    let plain = pod("etcd", "");
    let gated = pod("gated", "runtimeClassName: p, ");
    let other = pod("other", "runtimeClassName: kata, ");
    let files = [
        C,
        RUNC,
        SHIM,
        (containerd::CONFIG, config.as_str()),
        ("/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\nstaticPodPath: /srv/pods\n"),
        ("/srv/pods/etcd.yaml", &plain),
        ("/srv/pods/gated.yaml", &gated),
        ("/srv/pods/other.yaml", &other),
        ("/srv/pods/.hidden", "x: ["),
    ];
    let wanted = [
        "bypass static-pod: static pod etcd names no RuntimeClass",
        "warning static-pod: static pod other has the RuntimeClass kata",
    ];
    let said = said(&files, "1.7.24");
    assert_eq!(said[said.len() - 2..], wanted, "{said:#?}");
    let gate = config.replace("name = \"runc\"", "name = \"p\"");
    let mut files = files.to_vec();
    files[3].1 = &gate;
    let said = self::said(&files, "1.7.24");
    assert_eq!(said[said.len() - 1..], wanted[1..], "{said:#?}");
}
