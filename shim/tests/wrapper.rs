//! The wrapper as an engine calls it: what reaches the runtime, and how a refusal is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const RUNTIME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runtime/runc");
const NAME: &str = "portcullis-runc-podman";

/// A wrapper that is installed in a folder of its own, with its settings beside it.
struct Installed {
    folder: TempDir,
}

impl Installed {
    /// What is said of the policies decides: there is none, and `action` is for that.
    fn new(action: &str) -> Self {
        Self::with(&format!(
            "policyInvalid = \"{action}\"\n[wrapper.{NAME}]\nruntime = \"{RUNTIME}\"\n"
        ))
    }

    fn with(settings: &str) -> Self {
        // Beside the built one, so that a second name can be a hard link.
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_portcullis-runc"), folder.path().join(NAME)).unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("var/lib/portcullis/events")).unwrap();
        let text = format!("root = \"{}\"\n{settings}", root.display());
        fs::write(folder.path().join(format!("{NAME}.toml")), text).unwrap();
        let bundle = folder.path().join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), r#"{"root":{"path":"rootfs"}}"#).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bundle(&self) -> String {
        self.path("bundle").display().to_string()
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(self.path(NAME)).args(args).output().unwrap()
    }

    /// Runs it by a shell's line, which calls it with `"$@"`.
    fn run_by(&self, shell: &str, args: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", shell, "sh"]).arg(self.path(NAME)).args(args);
        command.env("AGAIN", self.path(NAME)).output().unwrap()
    }

    fn create(&self) -> Output {
        self.run(&["create", "--bundle", &self.bundle(), "c1"])
    }

    /// Everything in the ledger.
    fn events(&self) -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(self.path("root/var/lib/portcullis/events"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension() == Some(OsStr::new("jsonl")))
            .collect();
        files.sort();
        let text: String =
            files.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(ToOwned::to_owned).collect()
}

fn told<'a>(lines: &'a [String], key: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix([' ', ':'])).collect()
}

#[test]
fn arguments_reach_the_runtime_as_they_are_and_nothing_is_said() {
    let installed = Installed::new("block");
    for args in [
        &["--root", "/r", "state", "c1"][..],
        &["kill", "create", "9"],
        &["--systemd-cgroup=true", "exec", "--process", "/p", "", "a b", "*"],
        &["nonsense"],
        &[],
    ] {
        let output = installed.run(args);
        let seen = lines(&output);
        assert_eq!(told(&seen, "argument"), args);
        assert_eq!(told(&seen, "name"), [RUNTIME]);
        assert_eq!(text(&output.stderr), "");
    }
    assert!(installed.events().is_empty());
    let features = installed.run(&["features"]);
    assert!(text(&features.stdout).ends_with("{}\n"));
}

#[test]
fn an_admitted_creation_is_the_runtimes_own() {
    let installed = Installed::new("alarm");
    let bundle = installed.bundle();
    for args in [
        &["--log", "/dev/null", "create", "--bundle", &bundle, "--pid-file", "/p", "c1"][..],
        &["run", "-b", &bundle, "c1"],
        &["restore", "--image-path", "/i", "--bundle", &bundle, "c1"],
    ] {
        let output = installed.run(args);
        assert_eq!(told(&lines(&output), "argument"), args);
        assert_eq!(text(&output.stderr), "");
    }
    let events = installed.events();
    assert_eq!(events.len(), 3, "{events:?}");
    for event in events {
        assert_eq!(event["request"]["engine"], "podman", "{event}");
        assert_eq!(event["request"]["containerId"], "c1");
        assert_eq!(event["action"], "alarm");
    }
}

#[test]
fn the_runtime_finds_all_as_its_caller_left_it() {
    let installed = Installed::new("alarm");
    let bundle = installed.bundle();
    let shell = "umask 0027; cd /; exec 3</dev/null 5</etc/passwd; \
                 export LISTEN_FDS=3 LISTEN_PID=$$ NOTIFY_SOCKET=/n ODD='a=b c'; exec \"$@\"";
    for args in [&["state", "c1"][..], &["create", "--bundle", &bundle, "c1"]] {
        let seen = lines(&installed.run_by(shell, args));
        assert_eq!(told(&seen, "umask"), ["0027"]);
        assert_eq!(told(&seen, "folder"), ["/"]);
        let open = told(&seen, "descriptor");
        let numbers: Vec<_> = open.iter().map(|fd| fd.split(' ').next().unwrap()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "5"], "{open:?}");
        assert!(open.contains(&"5 /etc/passwd"), "{open:?}");
        let pid = told(&seen, "pid")[0];
        let environment: Vec<_> = seen.iter().filter(|line| line.contains('=')).collect();
        let listen = format!("LISTEN_PID={pid}");
        assert_eq!(environment, ["LISTEN_FDS=3", &listen, "NOTIFY_SOCKET=/n", "ODD=a=b c"]);
    }
}

#[test]
fn signals_are_as_they_were() {
    let installed = Installed::new("alarm");
    let bundle = installed.bundle();
    let masks = |output: &Output| {
        let lines = lines(output);
        ["SigIgn", "SigBlk"].map(|key| {
            let mask = u64::from_str_radix(told(&lines, key)[0].trim(), 16).unwrap();
            // Signals 32 and 33 are the C library's own, and threads set them up.
            mask & !(0b11 << 31)
        })
    };
    let mut seen = BTreeSet::new();
    // The words of env(1); beside what the runtime finds when it is called without us.
    for how in
        ["--default-signal=PIPE", "--ignore-signal=PIPE", "--ignore-signal=HUP --block-signal=USR1"]
    {
        let plain = Command::new("sh")
            .args(["-c", &format!("exec env {how} {RUNTIME} state c1")])
            .output()
            .unwrap();
        let wanted = masks(&plain);
        for args in [&["state", "c1"][..], &["create", "--bundle", &bundle, "c1"]] {
            let output = installed.run_by(&format!("exec env {how} \"$@\""), args);
            assert_eq!(masks(&output), wanted, "{how} {args:?}");
        }
        seen.insert(wanted);
    }
    assert_eq!(seen.len(), 3, "the ways are not different: {seen:?}");
}

#[test]
fn closed_streams_stay_closed() {
    let installed = Installed::new("alarm");
    let bundle = installed.bundle();
    let out = installed.path("out");
    // Standard output is where the answer is, so it is a file that stands in another place.
    let shell = format!("exec 0<&- 2>&-; exec \"$@\" >{}", out.display());
    for args in [&["state", "c1"][..], &["create", "--bundle", &bundle, "c1"]] {
        assert!(installed.run_by(&shell, args).status.success());
        let seen: Vec<_> =
            fs::read_to_string(&out).unwrap().lines().map(ToOwned::to_owned).collect();
        let open = told(&seen, "descriptor");
        assert!(open.iter().all(|fd| fd.starts_with("1 ")), "{args:?}: {open:?}");
    }
}

#[test]
fn a_refusal_is_one_line_in_each_place_and_code_1() {
    let installed = Installed::new("block");
    let (bundle, log) = (installed.bundle(), installed.path("log.json"));
    let log = log.to_str().unwrap();
    let args = ["--log", log, "--log-format", "json", "create", "--bundle", &bundle, "c1"];
    let output = installed.run(&args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let line = text(&output.stderr);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("portcullis: blocked: ") && line.len() < 512, "{line}");
    let logged: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(logged["msg"], line.trim_end());
    assert_eq!(logged["level"], "error");
    assert!(logged["time"].as_str().unwrap().ends_with('Z'));
    let events = installed.events();
    let id = events[0]["id"].as_str().unwrap();
    assert!(line.contains(&format!("portcullis explain {id}")), "{line}");

    fs::remove_file(log).unwrap();
    let plain = installed.run(&["--log", log, "run", "--bundle", &bundle, "c1"]);
    assert_eq!(plain.status.code(), Some(1));
    let logged = fs::read_to_string(log).unwrap();
    assert!(logged.starts_with("time=\"20") && logged.contains(" level=error msg=\""), "{logged}");
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused_and_recorded() {
    let installed = Installed::new("allow");
    let bundle = installed.bundle();
    let output = installed.run(&["create", "--bundle", &bundle, "--bundle", &bundle, "c1"]);
    assert_eq!(output.status.code(), Some(1));
    let line = text(&output.stderr);
    assert!(line.starts_with("portcullis: refused: ") && line.contains("--bundle"), "{line}");
    let events = installed.events();
    assert_eq!(events[0]["action"], "block", "{events:?}");
}

#[test]
fn a_bundle_that_others_may_write_is_an_error_that_names_it() {
    let installed = Installed::new("allow");
    let config = installed.path("bundle/config.json");
    fs::set_permissions(&config, PermissionsExt::from_mode(0o666)).unwrap();
    let output = installed.create();
    assert_eq!(output.status.code(), Some(1));
    let line = text(&output.stderr);
    assert!(line.starts_with("portcullis: ") && line.contains("0666"), "{line}");
    fs::remove_file(&config).unwrap();
    let line = text(&installed.create().stderr);
    assert!(line.contains("config.json") && line.lines().count() == 1, "{line}");
}

#[test]
fn the_current_folder_is_the_bundle_if_none_is_named() {
    let installed = Installed::new("alarm");
    let mut there = Command::new(installed.path(NAME));
    let output = there.args(["run", "c1"]).current_dir(installed.bundle()).output().unwrap();
    assert_eq!(told(&lines(&output), "argument"), ["run", "c1"]);
    let elsewhere = installed.run_by("cd /; exec \"$@\"", &["run", "c1"]);
    assert_eq!(elsewhere.status.code(), Some(1));
}

#[test]
fn broken_settings_take_no_container_away() {
    let broken = format!("node = \"a\n[wrapper.{NAME}]\nruntime = \"{RUNTIME}\"\n");
    let installed = Installed::with(&broken);
    assert_eq!(told(&lines(&installed.run(&["state", "c1"])), "name"), [RUNTIME]);
}

#[test]
fn an_exit_code_is_the_runtimes() {
    let installed = Installed::new("alarm");
    let output = installed.run_by("EXIT=7 exec \"$@\"", &["start", "c1"]);
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn it_never_becomes_itself() {
    let wrapped = Installed::new("alarm");
    let own = wrapped.path(NAME);
    let settings =
        |runtime: &Path| format!("[wrapper.{NAME}]\nruntime = \"{}\"\n", runtime.display());
    let installed = Installed::with(&settings(&own));
    // A hard link of another name is the same file.
    for args in [&["state", "c1"][..], &["features"]] {
        let output = installed.run(args);
        assert_eq!(output.status.code(), Some(1));
        let line = text(&output.stderr);
        assert!(line.contains("Portcullis itself") && line.contains(NAME), "{line}");
    }
    // A runtime in between that calls it again, as one of a vendor does.
    let between = wrapped.path("vendor-runtime");
    std::os::unix::fs::symlink(RUNTIME, &between).unwrap();
    let wrapped = Installed::with(&settings(&between));
    let output = wrapped.run_by("exec \"$@\"", &["loop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("calls Portcullis again"), "{:?}", output);
}

#[test]
fn a_runtime_that_is_not_there_is_named() {
    let installed = Installed::with(&format!("[wrapper.{NAME}]\nruntime = \"/no/runc\"\n"));
    let output = installed.run(&["state", "c1"]);
    assert_eq!(output.status.code(), Some(1));
    let line = text(&output.stderr);
    assert!(line.contains("/no/runc") && line.contains(".toml"), "{line}");
}
