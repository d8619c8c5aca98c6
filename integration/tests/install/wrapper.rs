//! `install.sh --engine`: the wrapper in front of CRI-O, Podman, Docker and containerd's own shim.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use portcullis_integration::again::SecondTries;
use tempfile::TempDir;

use crate::{
    CONFIG, DEBIAN, Engine, KUBEADM, Node, SHIM, assert_same, binaries, copy_program, program,
    project, text,
};

const SETTINGS: &str = "etc/portcullis/portcullis.toml";
const CRIO: &str = "etc/crio/crio.conf.d/50-portcullis.conf";
const PODMAN: &str = "etc/containers/containers.conf.d/50-portcullis.conf";
const DOCKER: &str = "etc/docker/daemon.json";

/// As CRI-O's packages ship it.
const CRIO_SHIPPED: &str = r##"[crio.image]
signature_policy = "/etc/crio/policy.json"

[crio.runtime]
default_runtime = "crun"

[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = [
    "io.containers.trace-syscall", # not the end: ]
    'io.kubernetes.cri-o.Devices',
]
[crio.runtime.runtimes.crun.default_annotations]
"run.oci.systemd.subgroup" = "#"

[crio.runtime.runtimes.runc]
runtime_path = "/usr/libexec/crio/runc"
runtime_root = "/run/runc"
"##;

const DAEMON: &str = r#"{
    "log-driver": "json-file",
    "default-runtime": "other",
    "data-root": "/srv/docker",
    "runtimes": {
        "other": {
            "path": "/usr/sbin/runc"
        }
    },
    "debug": false
}
"#;

/// The binaries, with a command that brings no man pages: they come to be as all files do.
fn few_files() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["portcullis-runc", "containerd-shim-portcullis-v2"] {
            copy_program(&binaries().join(name), &folder.path().join(name));
        }
        program(&folder.path().join("portcullis-scanner"), "exit 1");
        program(&folder.path().join("portcullisd"), "exit 1");
        let command = binaries().join("portcullis").display().to_string();
        program(
            &folder.path().join("portcullis"),
            &format!("{command} \"$@\" || exit\n[ \"$1\" != man ] || rm \"$2\"/*"),
        );
        folder
    });
    folder.path().to_owned()
}

/// A system with CRI-O, Podman and Docker, as far as `install.sh` looks.
fn node() -> Node {
    let node = Node { binaries: few_files(), ..Node::new(&Engine::of_this_machine(), None) };
    for file in ["bin/crio", "bin/podman", "sbin/dockerd", "sbin/runc", "bin/crun"] {
        tool(&node, &format!("usr/{file}"));
    }
    for name in ["crun", "runc"] {
        tool(&node, &format!("usr/libexec/crio/{name}"));
    }
    node.write("etc/crio/crio.conf.d/10-crio.conf", CRIO_SHIPPED);
    node.write("etc/containers/containers.conf", "[engine]\nruntime = \"runc\"\n");
    node.write("etc/containers/storage.conf", "[storage]\ngraphroot = \"/srv/images\"\n");
    node.write(DOCKER, DAEMON);
    node
}

fn tool(node: &Node, path: &str) {
    node.write(path, "");
    program(&node.path(path), "exit 1");
}

/// What is ours in a file: the lines between the marks.
fn block(text: &str) -> String {
    let lines = text.lines().skip_while(|l| !l.starts_with("# >>> portcullis")).skip(1);
    lines.take_while(|l| !l.starts_with("# <<< portcullis")).fold(String::new(), |all, line| {
        if line.starts_with('#') { all } else { format!("{all}{line}\n") }
    })
}

const OTHERS: &[&str] = &["--engine", "crio", "--engine", "podman", "--engine", "docker"];

fn with<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    first.iter().chain(more).copied().collect()
}

// ---------------------------------------------------------------------------- there and back

#[test]
fn each_engine_gets_its_file_and_comes_back_to_the_byte() {
    let crio = "[crio.runtime.runtimes.portcullis]\n\
        runtime_path = \"/usr/local/bin/portcullis-runc-crio\"\nruntime_type = \"oci\"\n\
        runtime_root = \"/run/crun\"\nmonitor_path = \"/usr/libexec/crio/conmon\"\n\
        allowed_annotations = [ \"io.containers.trace-syscall\", 'io.kubernetes.cri-o.Devices', ]\n\
        [crio.runtime.runtimes.portcullis.default_annotations]\n\
        \"run.oci.systemd.subgroup\" = \"#\"\n";
    let json = "runtime_supports_json = [\"crun\", \"runc\", \"kata\", \"runsc\", \"krun\", \
        \"portcullis-runc-podman\"]\n";
    let podman = format!(
        "{json}[engine.runtimes]\nportcullis-runc-podman = \
         [\"/usr/local/bin/portcullis-runc-podman\"]\n"
    );
    let docker = DAEMON.replace(
        "sbin/runc\"\n        }\n",
        "sbin/runc\"\n        },\n        \"portcullis\": {\"path\": \
         \"/usr/local/bin/portcullis-runc-docker\"}\n",
    );
    comes_and_goes(
        "crio",
        CRIO,
        crio,
        &format!("[crio.runtime]\ndefault_runtime = \"portcullis\"\n{crio}"),
        "engine = \"cri-o\"\nruntime = \"/usr/libexec/crio/crun\"\nstorage = [\"/srv/images\"]\n",
    );
    comes_and_goes(
        "podman",
        PODMAN,
        &format!("[engine]\n{podman}"),
        &format!("[engine]\nruntime = \"portcullis-runc-podman\"\n{podman}"),
        "engine = \"podman\"\nruntime = \"/usr/sbin/runc\"\nstorage = [\"/srv/images\"]\n",
    );
    comes_and_goes(
        "docker",
        DOCKER,
        &docker,
        &docker.replace("\"other\",", "\"portcullis\","),
        "engine = \"docker\"\nruntime = \"/usr/sbin/runc\"\ndata = \"/srv/docker\"\n",
    );
}

/// Installs for `engine`, without and with the default, and back: the file has to be `plain`, then
/// `default`, then `plain` again, and the settings must have this table.
#[track_caller]
fn comes_and_goes(engine: &str, file: &str, plain: &str, default: &str, table: &str) {
    let node = node();
    let before = node.state();
    let name = format!("portcullis-runc-{engine}");
    for (more, wanted) in [
        (&[][..], plain),
        (&["--default-runtime"][..], default),
        (&["--no-default-runtime"][..], plain),
    ] {
        let arguments = with(&["--engine", engine], more);
        let state = node.state();
        node.run(&with(&arguments, &["--dry-run"]));
        assert_same(&state, &node.state(), &format!("{engine}: dry run"));
        node.run(&arguments);
        let text = node.read(file);
        let ours = if engine == "docker" { text.clone() } else { block(&text) };
        assert_eq!(ours, wanted, "{engine} {more:?}");
        assert_eq!(block(&node.read(SETTINGS)), format!("[wrapper.{name}]\n{table}"));
        let bytes = |file: PathBuf| fs::read(file).expect("a file");
        let installed = bytes(node.path(&format!("usr/local/bin/{name}")));
        assert!(installed == bytes(node.binaries.join("portcullis-runc")));
        assert!(!node.path(SHIM).exists());

        // Without arguments, as for an upgrade: the same engine, and the default stays.
        let state = node.state();
        node.run(&[]);
        assert_same(&state, &node.state(), &format!("{engine}: second run"));
        node.run(&["--uninstall", "--dry-run"]);
        assert_same(&state, &node.state(), &format!("{engine}: dry uninstall"));
    }
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), &format!("{engine}: uninstall"));
}

#[test]
fn engines_come_and_go_one_by_one() {
    let node = node();
    let before = node.state();
    node.run(&["--engine", "podman"]);
    node.run(&["--engine", "docker"]);
    node.run(&["--engine", "crio", "--default-runtime"]);
    let tables = || {
        let text = block(&node.read(SETTINGS));
        text.lines().filter(|l| l.starts_with('[')).map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ["crio", "podman", "docker"].map(|e| format!("[wrapper.portcullis-runc-{e}]"));
    assert_eq!(tables(), all);
    // The default of one is not that of another.
    assert!(!block(&node.read(PODMAN)).contains("\nruntime = "));

    let said = node.run(&["--uninstall", "--engine", "podman"]);
    assert!(said.contains("stays for crio docker"), "{said}");
    assert_eq!(tables(), [&*all[0], &*all[2]]);
    assert!(!node.path("usr/local/bin/portcullis-runc-podman").exists());
    assert!(!node.path("etc/containers/containers.conf.d").exists());
    assert!(node.path("usr/local/bin/portcullis-runc-docker").exists());
    assert!(node.refused(&["--uninstall", "--engine", "crio", "--purge"]).contains("docker"));
    let said = node.run(&["--uninstall", "--engine", "podman"]);
    assert!(said.contains("is not installed for podman"), "{said}");

    node.run(&["--uninstall", "--engine", "docker"]);
    assert_eq!(node.read(DOCKER), DAEMON);
    node.run(&["--uninstall", "--engine", "crio", "--purge"]);
    assert_same(&before, &node.state(), "uninstall");
}

#[test]
fn a_runtime_can_be_chosen_and_stays() {
    let node = node();
    node.run(&["--engine", "podman", "--runtime", "/usr/bin/crun"]);
    // What crun can do without cgroups, the wrapper in front of it can do.
    let nocgroups = "runtime_supports_nocgroups = [\"crun\", \"krun\", \"portcullis-runc-podman\"]";
    for arguments in [&[][..], &["--engine", "podman", "--default-runtime"][..]] {
        node.run(arguments);
        assert!(node.read(SETTINGS).contains("runtime = \"/usr/bin/crun\""));
        assert!(node.read(PODMAN).contains(nocgroups));
    }
}

#[test]
fn what_somebody_changed_since_stays() {
    let node = node();
    node.run(&with(OTHERS, &["--default-runtime"]));
    let change = |path: &str, from: &str, to: &str| {
        let text = node.read(path);
        assert!(text.contains(from), "{from} is not in {text}");
        node.write(path, &text.replace(from, to));
    };
    change(DOCKER, "json-file", "journald");
    change(SETTINGS, "#node = \"worker-1\"", "node = \"mine\"");
    node.write(PODMAN, &format!("{}[network]\ndns_bind_port = 53\n", node.read(PODMAN)));
    node.run(&[]);
    change(DOCKER, "false", "true");
    node.run(&["--uninstall"]);
    let daemon = DAEMON.replace("json-file", "journald").replace("false", "true");
    assert_eq!(node.read(DOCKER), daemon);
    assert_eq!(node.read(PODMAN), "[network]\ndns_bind_port = 53\n");
    let shipped = fs::read_to_string(project().join("config/portcullis.toml")).unwrap();
    assert_eq!(node.read(SETTINGS), shipped.replace("#node = \"worker-1\"", "node = \"mine\""));
    assert!(!node.path(CRIO).exists());
}

#[test]
fn settings_of_people_are_only_added_to() {
    let node = node();
    let theirs = "node = \"mine\"\n[wrapper.portcullis-runc-crio]\nruntime = \"/opt/runc\"";
    node.write(SETTINGS, theirs);
    let before = node.state();
    let said = node.run(OTHERS);
    assert!(said.contains("left as it is: [wrapper.portcullis-runc-crio]"), "{said}");
    let text = node.read(SETTINGS);
    assert!(text.starts_with(theirs), "{text}");
    assert_eq!(text.matches("[wrapper.portcullis-runc-crio]").count(), 1, "{text}");
    assert_eq!(text.matches("[wrapper.").count(), 3, "{text}");
    node.run(&["--uninstall"]);
    assert_eq!(node.read(SETTINGS), theirs);
    let after = node.state();
    let file = Path::new(SETTINGS);
    assert_eq!(before[file], after[file]);
}

/// What a wrapper finds no table for, it would ask of another runtime.
#[test]
fn other_settings_are_put_in_place_with_our_tables_or_not_at_all() {
    let node = node();
    let before = node.state();
    node.write("given.toml", "node = \"one\"");
    let given = node.path("given.toml").display().to_string();
    let settings = |text: &str| {
        node.write("given.toml", text);
        ["--engine", "podman", "--settings", &given]
    };
    node.run(&with(OTHERS, &["--settings", &given]));
    let ours = block(&node.read(SETTINGS));
    assert_eq!(ours.matches("[wrapper.").count(), 3, "{ours}");
    // The tables of engines that are not spoken of stay as well.
    node.run(&settings("node = \"two\"\n"));
    assert!(node.read(SETTINGS).starts_with("node = \"two\"\n# >>> portcullis"));
    assert_eq!(block(&node.read(SETTINGS)), ours);
    // One that was copied from a node changes nothing.
    let state = node.state();
    node.run(&settings(&node.read(SETTINGS)));
    fs::write(&given, "node = \"two\"\n").unwrap();
    assert_same(&state, &node.state(), "a copy");
    // A table of its own goes before ours.
    let own = "[wrapper.portcullis-runc-crio]\nruntime = \"/opt/runc\"\n";
    node.run(&settings(own));
    let text = node.read(SETTINGS);
    assert!(text.starts_with(own) && text.matches("portcullis-runc-crio]").count() == 1, "{text}");

    let state = node.state();
    for (text, fault) in [
        ("node = \"a\nb\"", "line 2"),
        ("defaultAction = \"shrug\"\n", "defaultAction"),
        ("wrapper.portcullis-runc-podman.runtime = \"/usr/sbin/runc\"\n", "duplicate key"),
    ] {
        let said = node.refused(&settings(text));
        assert!(said.contains(&given) && said.contains(fault), "{said}");
        fs::write(&given, own).unwrap();
        assert_same(&state, &node.state(), text);
    }
    node.run(&["--uninstall", "--purge"]);
    fs::remove_file(&given).unwrap();
    assert_same(&before, &node.state(), "uninstall");
}

#[test]
fn a_daemon_json_is_edited_in_its_own_form() {
    let ours = "\"portcullis\": {\"path\": \"/usr/local/bin/portcullis-runc-docker\"}";
    let default = "\"default-runtime\": \"portcullis\"";
    let cases = [
        (None, format!("{{\n  \"runtimes\": {{{ours}}},\n  {default}\n}}\n")),
        (Some(""), format!("{{\n  \"runtimes\": {{{ours}}},\n  {default}\n}}\n")),
        (Some("{}"), format!("{{\n  \"runtimes\": {{{ours}}},\n  {default}\n}}")),
        (
            Some("{\"a\":[1,{\"runtimes\":{}}]}\n"),
            format!("{{\"a\":[1,{{\"runtimes\":{{}}}}], \"runtimes\": {{{ours}}}, {default}}}\n"),
        ),
        (
            Some("{\r\n\t\"runtimes\": {},\r\n\t\"x\": \"}\\\"\\u00e9\"\r\n}\r\n"),
            format!(
                "{{\r\n\t\"runtimes\": {{{ours}}},\r\n\t\"x\": \"}}\\\"\\u00e9\",\r\n\t{default}\r\n}}\r\n"
            ),
        ),
        (
            Some("{\n \"default-runtime\" : \"runc\"\n}\n"),
            format!("{{\n {default},\n \"runtimes\": {{{ours}}}\n}}\n"),
        ),
    ];
    for (text, wanted) in cases {
        let node = node();
        fs::remove_file(node.path(DOCKER)).unwrap();
        if let Some(text) = text {
            node.write(DOCKER, text);
        }
        let before = node.state();
        node.run(&["--engine", "docker", "--default-runtime"]);
        let edited = node.read(DOCKER);
        assert_eq!(edited, wanted, "{text:?}");
        if !wanted.trim().is_empty() {
            serde_json::from_str::<serde_json::Value>(&edited).unwrap();
        }
        // Changed by nothing but white space: it is taken out, and not put back.
        node.write(DOCKER, &format!(" {edited}"));
        node.run(&["--uninstall"]);
        let left: serde_json::Value = serde_json::from_str(&node.read(DOCKER)).unwrap();
        let original = text.filter(|t| !t.is_empty()).unwrap_or("{}");
        assert_eq!(left, serde_json::from_str::<serde_json::Value>(original).unwrap(), "{text:?}");

        match text {
            Some(text) => node.write(DOCKER, text),
            None => fs::remove_file(node.path(DOCKER)).unwrap(),
        }
        node.run(&["--engine", "docker", "--default-runtime"]);
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), &format!("{text:?}"));
    }
}

/// Kills the script at each of its renames in turn, right before it or right after.
#[test]
fn a_run_that_is_killed_can_be_repeated_or_undone() {
    let arguments = with(OTHERS, &["--default-runtime"]);

    let wanted = node();
    let before = wanted.state();
    wanted.run(&arguments);
    let wanted = wanted.state_but_data();
    let mut at = 1;
    loop {
        let node = node();
        if crate::run_with_deadly_mv(&node, &arguments, at) {
            break;
        }
        if !at.is_multiple_of(3) {
            node.run(&arguments);
            assert_same(&wanted, &node.state_but_data(), &format!("repeated after {at}"));
        }
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), &format!("undone after {at}"));
        at += 1;
    }
    assert!(at > 20, "the script was killed only {at} times");
    at = 1;
    loop {
        let node = node();
        node.run(&arguments);
        if crate::run_with_deadly_mv(&node, &["--uninstall", "--purge"], at) {
            break;
        }
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), &format!("undone after {at} of an uninstall"));
        at += 1;
    }
    assert!(at > 2, "the script was killed only {at} times");
}

// ---------------------------------------------------------------------------- refusals

#[test]
fn what_cannot_go_well_is_refused_before_anything_is_changed() {
    type Case<'a> = (&'a [&'a str], &'a str, &'a str, &'a [&'a str]);
    let vm = CRIO_SHIPPED.replace("runtime_root = \"/run/crun\"", "runtime_type = \"vm\"");
    let taken = CRIO_SHIPPED.replace("runtimes.runc]", "runtimes.portcullis]");
    let later = "[crio.runtime]\ndefault_runtime = \"runc\"\n";
    let shipped = "etc/crio/crio.conf.d/10-crio.conf";
    let docker_taken = "{\"runtimes\": {\"portcullis\": {\"path\": \"/x\"}}}";
    let arguments = "{\"default-runtime\": \"x\", \
                     \"runtimes\": {\"x\": {\"path\": \"/x\", \"runtimeArgs\": []}}}";
    let cases: &[Case] = &[
        (&["--engine", "crio"], shipped, &vm, &["\"vm\"", "default_runtime"]),
        (&["--engine", "crio"], shipped, &taken, &["did not write", "take it out"]),
        (&["--engine", "crio"], CRIO, "# mine\n", &["50-portcullis.conf", "move it away"]),
        (
            &["--engine", "crio", "--default-runtime"],
            "etc/crio/crio.conf.d/99.conf",
            later,
            &["\"runc\"", "wins"],
        ),
        (&["--engine", "podman"], PODMAN, "[engine]\n", &["move it away"]),
        (
            &["--engine", "podman", "--default-runtime"],
            "etc/containers/containers.conf.d/99.conf",
            "[engine]\nruntime = \"crun\"\n",
            &["99.conf", "wins"],
        ),
        (&["--engine", "docker"], DOCKER, "{\n\"a\": 1,\n}\n", &["not valid JSON", "line 3"]),
        (&["--engine", "docker"], DOCKER, "{\"a\": 01}", &["not valid JSON", "line 1"]),
        (&["--engine", "docker"], DOCKER, "{\"a\": 1, \"a\": 2}", &["there twice"]),
        (&["--engine", "docker"], DOCKER, "[]", &["not valid JSON"]),
        (&["--engine", "docker"], DOCKER, "{} {}", &["not valid JSON"]),
        (&["--engine", "docker"], DOCKER, "{\"runtimes\": 1}", &["\"runtimes\" is no object"]),
        (&["--engine", "docker"], DOCKER, docker_taken, &["did not write", "take it out"]),
        (&["--engine", "docker"], DOCKER, arguments, &["\"x\"", "--runtime"]),
        (&["--engine", "podman", "--runtime", "runc"], "etc/x", "", &["no absolute path"]),
        (&["--engine", "podman", "--runtime", "/nothing"], "etc/x", "", &["not there"]),
        (&["--engine", "podman", "--runtime", "/etc/x"], "etc/x", "", &["no program"]),
        (
            &["--engine", "podman", "--runtime", "/usr/local/bin/portcullis-runc"],
            "usr/local/bin/portcullis-runc",
            "#!",
            &["Portcullis itself"],
        ),
        (
            &["--engine", "podman", "--runtime", "/opt/runc"],
            "opt/runc",
            "#!",
            &["/opt/runc", "others may write"],
        ),
    ];
    for (arguments, path, text, words) in cases {
        let node = node();
        node.write(path, text);
        if text.starts_with("#!") {
            program(&node.path(path), "exit");
        }
        if path.starts_with("opt") {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(node.path(path), open).unwrap();
        }
        let before = node.state();
        let said = node.refused(arguments);
        for word in *words {
            assert!(said.contains(word), "{arguments:?} {text}: {word} is not in {said}");
        }
        assert!(said.lines().count() > 1, "no remedy in {said}");
        assert_same(&before, &node.state(), text);
    }
}

#[test]
fn an_engine_that_is_lacking_is_named_and_so_are_those_that_are_there() {
    let node = node();
    fs::remove_file(node.path("usr/bin/crio")).unwrap();
    let said = node.refused(&["--engine", "crio"]);
    assert!(said.contains("crio is not on this machine"), "{said}");
    for engine in ["containerd", "podman", "docker"] {
        assert!(said.contains(&format!("here is: --engine {engine}")), "{said}");
    }
    let without = Node { engine: Engine { path: "/nothing".into(), version: (0, 0) }, ..node };
    let said = without.refused(&[]);
    assert!(said.contains("containerd is not found at /nothing"), "{said}");
    assert!(said.contains("here is: --engine podman"), "{said}");
}

/// An engine that can judge its configuration is asked, with a stand-in for it in PATH.
#[test]
fn an_engine_judges_before_anything_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    program(
        &folder.path().join("dockerd"),
        &format!(
            "[ \"$1\" != --help ] || {{ echo '      --validate'; exit; }}\ncat \"$3\" >>{0}\n\
             ! grep -q '\"debug\": true' \"$3\" || {{ echo 'no debug here' >&2; exit 1; }}",
            log.display()
        ),
    );
    program(
        &folder.path().join("crio"),
        &format!(
            "[ \"$1\" != --version ] || exit 0\ncat \"$4\"/* >>{0}\n\
             ! grep -q wrong \"$4\"/* || {{ echo 'wrong it is' >&2; exit 1; }}",
            log.display()
        ),
    );
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let node = node();
    let run = |arguments: &[&str]| node.script(arguments).env("PATH", &path).output().unwrap();

    let output = run(&["--engine", "docker", "--engine", "crio"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output.stdout).contains("not checked by docker"), "{output:?}");
    let judged = fs::read_to_string(&log).unwrap();
    assert!(judged.contains("portcullis-runc-docker") && judged.contains("runtimes.portcullis]"));
    node.run(&["--uninstall", "--purge"]);

    node.write(DOCKER, &DAEMON.replace("false", "true"));
    node.write("etc/crio/crio.conf.d/20.conf", "wrong = 1\n");
    let before = node.state();
    for (engine, words) in [("docker", "no debug here"), ("crio", "wrong it is")] {
        let output = run(&["--engine", engine]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(words), "{output:?}");
        assert_same(&before, &node.state(), engine);
    }
}

// ---------------------------------------------------------------------------- what is in use

#[test]
fn what_a_container_needs_stays_until_it_is_gone() {
    let docker = "srv/docker/containers/abc/hostconfig.json";
    let crio = "srv/images/overlay-containers/def/userdata/config.json";
    let handler = "{\"annotations\":{\"io.kubernetes.cri-o.RuntimeHandler\":\"portcullis\"}}";
    let bundle = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ghi/options.json";
    let binary = "{\"binary_name\":\"/usr/local/bin/portcullis-runc\"}";
    in_use(
        &["--engine", "docker"],
        docker,
        "{\"Runtime\":\"portcullis\"}",
        "abc",
        "portcullis-runc-docker",
        DOCKER,
    );
    in_use(&["--engine", "crio"], crio, handler, "def", "portcullis-runc-crio", CRIO);
    in_use(&["--door", "wrapper"], bundle, binary, "ghi", "portcullis-runc", CONFIG);
}

#[track_caller]
fn in_use(arguments: &[&str], file: &str, text: &str, id: &str, wrapper: &str, config: &str) {
    let node = node();
    node.write(CONFIG, DEBIAN);
    let before = node.state();
    node.run(&with(arguments, &["--default-runtime"]));
    node.write(file, text);
    for _ in 0..2 {
        let said = node.refused(&["--uninstall", "--purge"]);
        assert!(said.contains("not finished") && said.contains(id), "{said}");
        assert!(node.path(&format!("usr/local/bin/{wrapper}")).exists());
        assert!(node.read(SETTINGS).contains(&format!("[wrapper.{wrapper}]")));
        let text = node.read(config);
        assert!(
            !text.contains("runtime = \"portcullis\"")
                && !text.contains("runtime\": \"portcullis\""),
            "{text}"
        );
    }
    let (top, _) = file.split_once('/').expect("a folder");
    fs::remove_dir_all(node.path(top)).expect("a folder");
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), wrapper);
}

// ---------------------------------------------------------------------------- containerd

#[test]
fn containerd_gets_the_wrapper_with_the_options_of_its_runc() {
    for engine in Engine::all() {
        let node = Node::new(&engine, Some(KUBEADM));
        tool(&node, "usr/local/sbin/runc");
        let before = node.state();
        node.run(&["--door", "wrapper", "--default-runtime"]);
        let mut handler = node.handler("portcullis");
        handler.sort();
        assert_eq!(
            handler,
            [
                "BinaryName = \"/usr/local/bin/portcullis-runc\"",
                "SystemdCgroup = true",
                "base_runtime_spec = \"/etc/containerd/base.json\"",
                "runtime_type = \"io.containerd.runc.v2\"",
            ]
        );
        assert_eq!(node.default_handler(), "portcullis");
        assert_eq!(
            block(&node.read(SETTINGS)),
            "[wrapper.portcullis-runc]\nengine = \"containerd\"\nruntime = \"/usr/local/sbin/runc\"\n"
        );
        assert!(!node.path(SHIM).exists());

        // A later install keeps the door, and may take the other one.
        let state = node.state();
        node.run(&[]);
        assert_same(&state, &node.state(), "second run");
        node.run(&["--door", "shim"]);
        for value in node.wanted_handler() {
            assert!(node.handler("portcullis").contains(&value), "{value}");
        }
        assert_eq!(node.default_handler(), "portcullis");
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), "uninstall");
    }
}

#[test]
fn the_wrapper_can_be_the_runc_of_containerds_unit() {
    let node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    tool(&node, "usr/sbin/runc");
    let before = node.state();
    node.run(&["--door", "wrapper", "--as-runc"]);
    let link = node.path("usr/local/lib/portcullis/bin/runc");
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/usr/local/bin/portcullis-runc"));
    let unit = "etc/systemd/system/containerd.service.d/50-portcullis.conf";
    assert_eq!(
        block(&node.read(unit)),
        "[Service]\nEnvironment=\"PATH=/usr/local/lib/portcullis/bin:\
         /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n"
    );
    let state = node.state();
    node.run(&[]);
    assert_same(&state, &node.state(), "second run");
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), "uninstall");
}

// ---------------------------------------------------------------------------- the real ones

/// Runs a script of this folder in a node of its own, with an engine of this machine.
fn on_the_real_one(name: &str) {
    static TRIES: SecondTries = SecondTries::new();
    let played = TRIES.play(name, || on_a_fresh_node(name));
    played.unwrap_or_else(|error| panic!("{name}: {error:#}"));
}

fn on_a_fresh_node(name: &str) -> anyhow::Result<()> {
    let node = portcullis_integration::node::Node::start()?;
    let files: BTreeMap<&str, PathBuf> = BTreeMap::from([
        ("FOLDER", node.folder().to_owned()),
        ("INSTALL", project().join("install.sh")),
        ("BINARIES", binaries()),
        ("PORTCULLIS_CACHE", portcullis_integration::engine::cache()),
    ]);
    let script = project().join("integration/tests/install").join(name);
    let run = node.inside().daemon("bash").arg(script).limit(Duration::from_secs(300));
    let run = files.iter().fold(run, |run, (name, file)| run.env(name, file));
    run.ok().map(drop)
}

#[test]
fn podman_sees_its_runtime_and_containers_go_on() {
    on_the_real_one("podman.sh");
}

#[test]
fn docker_sees_its_runtime() {
    on_the_real_one("docker.sh");
}

#[test]
fn containerd_is_restarted_when_what_it_read_is_outdated() {
    on_the_real_one("restart.sh");
}

#[test]
fn a_pod_writes_where_the_links_of_its_node_lead() {
    on_the_real_one("pod.sh");
}
