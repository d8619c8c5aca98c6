//! `install.sh` against the containerd of this machine and, where they were unpacked, the newer
//! ones, and in `wrapper` against CRI-O, Podman and Docker: each test installs below a root or in a
//! node of its own, so that nothing on the machine is touched.
//!
//! What containerd reads is asked of containerd (`config dump`), never of our own idea of TOML.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

mod wrapper;

const CONFIG: &str = "etc/containerd/config.toml";
const DROP_IN: &str = "etc/containerd/conf.d/portcullis.toml";
const SHIM: &str = "usr/local/bin/containerd-shim-portcullis-v2";

// ---------------------------------------------------------------------------- what the tests need

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the project")
}

/// A folder with the built binaries, without which nothing here can be tested: copies without what
/// debuggers read, since they are copied and compared hundreds of times here.
fn binaries() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(stripped_binaries).clone()
}

fn stripped_binaries() -> PathBuf {
    let built = portcullis_integration::engine::own_binaries();
    let folder = built.join("stripped-for-install-tests");
    fs::create_dir_all(&folder).expect("a folder beside the binaries");
    for name in ["portcullis", "portcullis-scanner", "portcullisd", "containerd-shim-portcullis-v2"]
    {
        let from = built.join(name);
        assert!(
            from.exists(),
            "{} is not there: build the workspace first, or set PORTCULLIS_BIN_DIR",
            from.display()
        );
        let strip = Command::new("strip").arg("-o").arg(folder.join(name)).arg(&from).status();
        if !strip.is_ok_and(|status| status.success()) {
            copy_program(&from, &folder.join(name));
        }
    }
    let wrapper = built.join("portcullis-runc");
    if wrapper.exists() {
        copy_program(&wrapper, &folder.join("portcullis-runc"));
    } else {
        // Where it was not built: what it is once it has decided.
        program(&folder.join("portcullis-runc"), "exec /usr/sbin/runc \"$@\"");
    }
    folder
}

/// Writes a program of the shell.
fn program(file: &Path, text: &str) {
    let mut text_file = tempfile::tempfile().expect("a file");
    writeln!(text_file, "#!/bin/sh\n{text}").expect("a file");
    text_file.rewind().expect("a file");
    install(Path::new("/dev/stdin"), file, text_file.into());
}

fn copy_program(from: &Path, to: &Path) {
    install(from, to, Stdio::null());
}

/// Writes a program by another process: what this one has open for writing, the children of other
/// threads have open, too, until they are what they shall be, and nobody can run it meanwhile.
fn install(from: &Path, to: &Path, stdin: Stdio) {
    let install =
        Command::new("install").args(["-m", "755"]).arg(from).arg(to).stdin(stdin).status();
    assert!(install.is_ok_and(|status| status.success()), "{} is not written", to.display());
}

/// A containerd, with the first two numbers of its version.
#[derive(Clone)]
struct Engine {
    path: PathBuf,
    version: (u32, u32),
}

impl Engine {
    fn at(path: PathBuf) -> Self {
        let output = Command::new(&path).arg("--version").output();
        let text = text(&output.expect("containerd runs").stdout);
        let word = text.split_whitespace().nth(2).expect("a version").to_owned();
        let mut numbers = word
            .trim_start_matches('v')
            .split(['.', '~', '+', '-'])
            .map(|n| n.parse().expect("a number"));
        let mut number = || numbers.next().expect("a number");
        let version = (number(), number());
        Self { path, version }
    }

    /// Debian 12's own, which must be there.
    fn of_this_machine() -> Self {
        let path = PathBuf::from("/usr/bin/containerd");
        assert!(path.exists(), "/usr/bin/containerd is not there: run integration/packages.sh");
        Self::at(path)
    }

    /// All that are here.
    fn all() -> Vec<Self> {
        let mut engines = vec![Self::of_this_machine()];
        for suite in ["trixie", "sid"] {
            match Self::newer(suite) {
                Some(engine) => engines.push(engine),
                None => panic!("no containerd of {suite}: run integration/packages.sh"),
            }
        }
        engines
    }

    fn newer(suite: &str) -> Option<Self> {
        let path = portcullis_integration::engine::cache()
            .join("engines")
            .join(suite)
            .join("usr/bin/containerd");
        path.exists().then(|| Self::at(path))
    }

    /// What it reads in a file, and nothing if it cannot.
    fn dump(&self, file: &Path) -> Option<String> {
        let output = Command::new(&self.path)
            .arg("--config")
            .arg(file)
            .args(["config", "dump"])
            .output()
            .expect("containerd runs");
        output.status.success().then(|| text(&output.stdout).replace('\'', "\""))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A system that `install.sh` is let loose on.
struct Node {
    root: TempDir,
    engine: Engine,
    binaries: PathBuf,
}

impl Node {
    /// With this text as containerd's configuration, or none.
    fn new(engine: &Engine, config: Option<&str>) -> Self {
        let node = Self {
            root: tempfile::tempdir().expect("a folder"),
            engine: engine.clone(),
            binaries: binaries(),
        };
        fs::create_dir_all(node.path("var/lib")).expect("a folder");
        if let Some(config) = config {
            node.write(CONFIG, config);
            // A mode and an owner that nobody would choose, to be found again.
            let file = node.path(CONFIG);
            fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("a mode");
            if fs::metadata(&file).expect("the file").uid() == 0 {
                std::os::unix::fs::chown(&file, Some(12), Some(34)).expect("an owner");
            }
        }
        node
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command
            .arg(project().join("install.sh"))
            .arg("--root")
            .arg(self.root.path())
            .arg("--containerd")
            .arg(&self.engine.path)
            .args(arguments)
            .stdin(Stdio::null());
        if !arguments.contains(&"--uninstall") {
            command.arg("--bin-dir").arg(&self.binaries);
        }
        command
    }

    /// Runs the script, which must succeed, and returns what it said on stdout.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments).output().expect("bash runs");
        assert!(
            output.status.success(),
            "install.sh {arguments:?} with containerd {:?} failed: {}\n{}",
            self.engine.version,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs the script, which must fail with code 1, and returns what it said on stderr.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments).output().expect("bash runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said
    }

    /// Every file below the root: kind, mode, owner and content.
    fn state(&self) -> BTreeMap<PathBuf, String> {
        let mut state = BTreeMap::new();
        note(self.root.path(), self.root.path(), &mut state);
        state
    }

    /// The same without our data, which an uninstall leaves.
    fn state_but_data(&self) -> BTreeMap<PathBuf, String> {
        let mut state = self.state();
        state.retain(|path, _| !path.starts_with("var"));
        state
    }

    /// What containerd reads here, with absolute imports looked up below the root.
    fn dump(&self) -> String {
        let root = self.root.path().display().to_string();
        let config =
            self.read(CONFIG).replace("[\"/etc/containerd", &format!("[\"{root}/etc/containerd"));
        let folder = self.path("etc/containerd");
        let copy = tempfile::Builder::new().suffix(".copy").tempfile_in(folder).expect("a file");
        fs::write(copy.path(), &config).expect("a file");
        self.engine.dump(copy.path()).unwrap_or_else(|| panic!("containerd cannot read\n{config}"))
    }

    /// The values of the table of a handler, options included, without those that are empty.
    fn handler(&self, name: &str) -> Vec<String> {
        let dump = self.dump();
        values(&dump, &format!(".containerd.runtimes.{name}]"))
            .into_iter()
            .chain(values(&dump, &format!(".containerd.runtimes.{name}.options]")))
            .collect()
    }

    fn default_handler(&self) -> String {
        let line = self
            .dump()
            .lines()
            .find_map(|l| Some(l.trim().strip_prefix("default_runtime_name = ")?.to_owned()))
            .expect("a default handler");
        line.trim_matches('"').to_owned()
    }

    fn wanted_handler(&self) -> Vec<String> {
        if self.engine.version == (1, 6) {
            return vec!["runtime_type = \"io.containerd.portcullis.v2\"".to_owned()];
        }
        vec![
            "runtime_path = \"/usr/local/bin/containerd-shim-portcullis-v2\"".to_owned(),
            "runtime_type = \"io.containerd.runc.v2\"".to_owned(),
        ]
    }
}

fn note(root: &Path, folder: &Path, state: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let data = fs::symlink_metadata(&path).expect("its data");
        let content = if data.is_dir() {
            note(root, &path, state);
            "folder".to_owned()
        } else if data.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            format!("link to {}", target.display())
        } else {
            content_of(&path)
        };
        let about = format!("{:o} {}:{} {content}", data.mode(), data.uid(), data.gid());
        let path = path.strip_prefix(root).expect("below the root").to_owned();
        state.insert(path, about);
    }
}

/// The text of a file or, for a binary, of which a difference shows nothing, its checksum.
fn content_of(file: &Path) -> String {
    match String::from_utf8(fs::read(file).expect("a file")) {
        Ok(text) => text,
        Err(binary) => format!("{:?}", Sha256::digest(binary.as_bytes())),
    }
}

/// The values in the table whose head ends like this, without those that are empty, sorted.
fn values(dump: &str, head: &str) -> Vec<String> {
    let mut values: Vec<String> = dump
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.ends_with(head))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty())
        .filter(|line| ![" = \"\"", " = []", " = 0", " = false"].iter().any(|e| line.ends_with(e)))
        .filter(|line| !line.ends_with("= \"podsandbox\""))
        .map(str::to_owned)
        .collect();
    values.sort();
    values
}

#[track_caller]
fn assert_same(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>, when: &str) {
    let shown = |about: Option<&String>| match about {
        Some(about) => about.chars().take(2000).collect(),
        None => "nothing".to_owned(),
    };
    for path in before.keys().chain(after.keys()) {
        assert!(
            before.get(path) == after.get(path),
            "{when}: {} was {} and is {}",
            path.display(),
            shown(before.get(path)),
            shown(after.get(path))
        );
    }
}

// ---------------------------------------------------------------------------- configurations

/// Debian 12's own.
const DEBIAN: &str = r#"version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"#;

/// As `containerd config default` and the guides to kubeadm make it.
const KUBEADM: &str = r#"disabled_plugins = []
imports = []
oom_score = 0
root = "/var/lib/containerd"
state = "/run/containerd"
version = 2

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins]

  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.k8s.io/pause:3.9"

    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc" # the usual one
      discard_unpacked_layers = false
      snapshotter = "overlayfs"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          base_runtime_spec = "/etc/containerd/base.json"
          runtime_type = "io.containerd.runc.v2"

          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            BinaryName = "/usr/local/sbin/runc"
            SystemdCgroup = true

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
          runtime_type = "io.containerd.kata.v2"
          privileged_without_host_devices = true

    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"

[timeouts]
  "io.containerd.timeout.shim.load" = "5s"
"#;

const VERSION_3: &str = r#"version = 3
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = true
"#;

/// Configurations that this containerd can read, by what is special about them.
fn configurations(engine: &Engine) -> Vec<(&'static str, Option<String>)> {
    let mut all: Vec<(&str, Option<String>)> = vec![
        ("none", None),
        ("empty", Some(String::new())),
        ("comments alone", Some("# nothing here\n".into())),
        ("Debian 12", Some(DEBIAN.into())),
        ("kubeadm", Some(KUBEADM.into())),
        ("line ends of Windows", Some(KUBEADM.replace('\n', "\r\n"))),
        ("no newline at the end", Some(DEBIAN.trim_end().into())),
        ("tabs", Some(KUBEADM.replace("  ", "\t"))),
        (
            "a key in single quotes, a head with blanks",
            Some(
                KUBEADM.replace("      default_runtime_name =", "'default_runtime_name'=").replace(
                    "[plugins.\"io.containerd.grpc.v1.cri\".containerd]",
                    "[ plugins . 'io.containerd.grpc.v1.cri' . \"containerd\" ]  # CRI",
                ),
            ),
        ),
        (
            "a section without the key",
            Some(KUBEADM.replace("      default_runtime_name = \"runc\" # the usual one\n", "")),
        ),
        (
            "an older default of another name",
            Some(
                KUBEADM
                    .replace("\"runc\" # the usual one", "\"plain\"")
                    .replace("runtimes.runc", "runtimes.plain"),
            ),
        ),
    ];
    if engine.version.0 >= 2 {
        all.extend([
            ("version 3", Some(VERSION_3.to_owned())),
            (
                "version 3 with a list of imports over lines",
                Some(VERSION_3.replace(
                    "[\"/etc/containerd/conf.d/*.toml\"]",
                    "[ # two\n  'other.d/*.toml', # [none]\n  \"conf.d/*.toml\",\n]",
                )),
            ),
            (
                "version 3 without imports",
                Some(VERSION_3.replace("imports = [\"/etc/containerd/conf.d/*.toml\"]\n", "")),
            ),
            ("version 3 with other imports", Some(VERSION_3.replace("conf.d/*", "other.d/*"))),
        ]);
    }
    all
}

#[test]
fn every_configuration_gets_the_handler_and_comes_back_to_the_byte() {
    std::thread::scope(|scope| {
        for engine in Engine::all() {
            scope.spawn(move || {
                for (name, config) in configurations(&engine) {
                    comes_and_goes(&engine, name, config.as_deref(), &["--default-runtime"]);
                    // The oldest has the most to be careful about; of the others the file's
                    // version is what matters.
                    if engine.version == (1, 6) || name.starts_with("version") {
                        comes_and_goes(&engine, name, config.as_deref(), &[]);
                    }
                }
            });
        }
    });
}

fn comes_and_goes(engine: &Engine, name: &str, config: Option<&str>, arguments: &[&str]) {
    let when = format!("{name}, containerd {:?}, {arguments:?}", engine.version);
    let node = Node::new(engine, config);
    let before = node.state();

    let dry: Vec<&str> = arguments.iter().copied().chain(["--dry-run"]).collect();
    let said = node.run(&dry);
    assert_same(&before, &node.state(), &format!("{when}: dry run"));
    assert!(said.contains("runtimes.portcullis]"), "{when}: no diff in {said}");

    node.run(arguments);
    let installed = node.state();
    let handler = node.handler("portcullis");
    for value in node.wanted_handler() {
        assert!(handler.contains(&value), "{when}: {value} is not in {handler:?}");
    }
    let default = arguments.contains(&"--default-runtime");
    assert_eq!(node.default_handler() == "portcullis", default, "{when}");
    let base = if name == "an older default of another name" { "plain" } else { "runc" };
    assert!(!node.handler(base).is_empty(), "{when}: {base} is gone");
    takes_over(&node, base, &handler, &when);
    if config.is_some_and(|c| c.contains("kata")) {
        assert_eq!(node.handler("kata").len(), 2, "{when}");
    }

    // Without arguments, as for an upgrade: that does not take the default back.
    node.run(&[]);
    assert_same(&installed, &node.state(), &format!("{when}: second run"));
    if name == "kubeadm" {
        node.run(arguments);
        assert_same(&installed, &node.state(), &format!("{when}: third run"));
        node.run(&["--uninstall", "--dry-run"]);
        assert_same(&installed, &node.state(), &format!("{when}: dry uninstall"));
        // That takes it back, and the handler stays.
        node.run(&["--no-default-runtime"]);
        assert_ne!(node.default_handler(), "portcullis", "{when}");
        assert_eq!(node.handler("portcullis"), handler, "{when}");
        node.run(arguments);
        assert_same(&installed, &node.state(), &format!("{when}: the default again"));
    }
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), &format!("{when}: uninstall"));
}

/// All that the usual handler has, ours has too, but where containerd cannot pass it on.
#[track_caller]
fn takes_over(node: &Node, base: &str, ours: &[String], when: &str) {
    for value in node.handler(base) {
        let option = value.starts_with(char::is_uppercase);
        if value.starts_with("runtime_type") || (option && node.engine.version == (1, 6)) {
            continue;
        }
        assert!(ours.contains(&value), "{when}: {value} is not in {ours:?}");
    }
}

#[test]
fn a_version_3_that_imports_our_folder_is_not_edited() {
    let engine = Engine::newer("sid").expect("no containerd of sid: run integration/packages.sh");
    let node = Node::new(&engine, Some(VERSION_3));
    node.run(&["--default-runtime"]);
    assert_eq!(node.read(CONFIG), VERSION_3);
    assert!(node.read(DROP_IN).contains("default_runtime_name = \"portcullis\""));

    // Once the import is gone the handler moves into the file itself, and back.
    node.write(CONFIG, &VERSION_3.replace("imports", "# imports"));
    node.run(&[]);
    assert!(!node.path(DROP_IN).exists());
    assert_eq!(node.default_handler(), "portcullis");
    let edited = node.read(CONFIG).replace("# imports", "imports");
    node.write(CONFIG, &edited);
    node.run(&[]);
    assert_eq!(node.read(CONFIG), VERSION_3);
    assert!(node.path(DROP_IN).exists());
}

#[test]
fn what_somebody_changed_since_stays() {
    for engine in Engine::all() {
        let node = Node::new(&engine, Some(KUBEADM));
        let data = fs::metadata(node.path(CONFIG)).unwrap();
        node.run(&["--default-runtime"]);
        let more = "\n[metrics]\n  address = \"127.0.0.1:1338\"\n";
        let edited = node.read(CONFIG).replace("pause:3.9", "pause:3.10") + more;
        fs::write(node.path(CONFIG), edited).unwrap();
        node.run(&[]);
        assert_eq!(node.default_handler(), "portcullis");

        // A further change, this time of the text that the last run wrote.
        let edited = node.read(CONFIG).replace("oom_score = 0", "oom_score = -999");
        fs::write(node.path(CONFIG), edited).unwrap();
        let said = node.run(&["--uninstall"]);
        assert!(said.contains("it was changed since"), "{said}");
        let wanted =
            KUBEADM.replace("pause:3.9", "pause:3.10").replace("oom_score = 0", "oom_score = -999")
                + more;
        assert_eq!(node.read(CONFIG), wanted);
        let now = fs::metadata(node.path(CONFIG)).unwrap();
        assert_eq!((now.mode(), now.uid(), now.gid()), (data.mode(), data.uid(), data.gid()));
    }
}

#[test]
fn a_default_that_somebody_chose_since_stays() {
    let node = Node::new(&Engine::of_this_machine(), Some(KUBEADM));
    node.run(&["--default-runtime"]);
    let ours = "      default_runtime_name = \"portcullis\"\n";
    let theirs = "      default_runtime_name = \"kata\"\n";
    assert!(node.read(CONFIG).contains(ours));
    node.write(CONFIG, &node.read(CONFIG).replace(ours, theirs));
    node.run(&["--uninstall"]);
    let old = "      default_runtime_name = \"runc\" # the usual one\n";
    assert_eq!(node.read(CONFIG), KUBEADM.replace(old, theirs));
}

#[test]
fn an_uninstall_without_a_record_takes_out_what_is_marked() {
    let node = Node::new(&Engine::of_this_machine(), Some(KUBEADM));
    node.run(&["--default-runtime"]);
    fs::remove_dir_all(node.path("var/lib/portcullis")).unwrap();
    node.run(&["--uninstall"]);
    assert_eq!(node.read(CONFIG), KUBEADM);
}

// ---------------------------------------------------------------------------- refusals

#[test]
fn what_cannot_go_well_is_refused_before_anything_is_changed() {
    let engine = Engine::of_this_machine();
    let kata = KUBEADM.replace("\"runc\" # the usual one", "\"kata\"");
    let inline = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  \
                  containerd = { default_runtime_name = \"runc\" }\n";
    let theirs = format!(
        "{DEBIAN}[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.portcullis]\n  \
         runtime_type = \"io.containerd.runc.v2\"\n"
    );
    let replaced = DEBIAN.replace("version = 2\n", "version = 2\nimports = [\"more.toml\"]\n");
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("root = \"/var/lib/containerd\"\n", &[], &["version 1", "config migrate"]),
        ("version = 1\n[plugins.cri]\n", &[], &["version 1"]),
        ("disabled_plugins = [\"cri\"]\n", &[], &["Docker"]),
        (
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n",
            &[],
            &["disabled_plugins"],
        ),
        ("version = 3\n", &[], &["version 3"]),
        ("version = 4\n", &[], &["version 4"]),
        ("version = 2\n[plugins\n", &[], &["cannot read", "as it is"]),
        (inline, &[], &["with the handler added"]),
        (&theirs, &[], &["that install.sh did not write"]),
        (&kata, &["--default-runtime"], &["\"kata\"", "Portcullis runs runc"]),
        (&replaced, &[], &["does not see the handler", "more.toml"]),
    ];
    for (config, arguments, words) in cases {
        let node = Node::new(&engine, Some(config));
        node.write(
            "etc/containerd/more.toml",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"x\"\n",
        );
        let before = node.state();
        let said = node.refused(arguments);
        for word in ["config.toml"].iter().chain(*words) {
            assert!(said.contains(word), "{word} is not in {said}");
        }
        assert_same(&before, &node.state(), config);
        if arguments.is_empty() {
            assert!(said.lines().count() > 1, "no remedy in {said}");
        }
    }
}

#[test]
fn a_configuration_that_containerd_refuses_in_its_place_is_put_back() {
    let engine = Engine::of_this_machine();
    for arguments in [&[][..], &["--default-runtime"][..]] {
        let mut node = Node::new(&engine, Some(KUBEADM));
        // A containerd that takes the new text, and no longer once it is in place.
        let fake = node.path("containerd");
        let script = format!(
            "if [ \"$3\" = config ] && grep -q portcullis '{}'; then\n  \
             echo 'containerd: no' >&2; exit 1\nfi\nexec {} \"$@\"",
            node.path(CONFIG).display(),
            engine.path.display()
        );
        program(&fake, &script);
        node.engine.path = fake;
        let before = node.state();
        let said = node.refused(arguments);
        assert!(said.contains("containerd: no"), "{said}");
        assert!(said.contains("as it was before"), "{said}");
        let file = Path::new(CONFIG);
        assert_eq!(before[file], node.state()[file]);
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), "uninstall after it");
    }
}

#[test]
fn a_wrong_command_line_is_said_to_be_one() {
    for arguments in [
        &["--wrong"][..],
        &["--root"],
        &["--root="],
        &["--purge"],
        &["--uninstall", "--default-runtime"],
        &["--uninstall", "--no-default-runtime"],
        &["--default-runtime", "--no-default-runtime"],
        &["--uninstall", "--try"],
        &["--root", "/tmp", "--restart"],
        &["--try", "--restart"],
        &["--engine", "lxc"],
        &["--door", "window"],
        &["--engine", "podman", "--door", "wrapper"],
        &["--as-runc"],
        &["--uninstall", "--runtime", "/usr/sbin/runc"],
        &["--uninstall", "--settings", "/etc/passwd"],
    ] {
        let output = Command::new("bash")
            .arg(project().join("install.sh"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains("--help"), "{arguments:?}: {output:?}");
    }
    let output =
        Command::new("bash").arg(project().join("install.sh")).arg("--help").output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("Examples:"));
}

// ---------------------------------------------------------------------------- our own files

#[test]
fn what_people_edit_is_never_overwritten_and_stays() {
    let node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    node.write("etc/portcullis/portcullis.toml", "node = \"mine\"\n");
    node.run(&[]);
    assert_eq!(node.read("etc/portcullis/portcullis.toml"), "node = \"mine\"\n");
    let watch = "etc/portcullis/policies/watch.yaml";
    let edited = node.read(watch).replace("epss: 0.5", "epss: 0.1");
    node.write(watch, &edited);
    node.run(&[]);
    assert_eq!(node.read(watch), edited);
    node.run(&["--uninstall"]);
    let said = node.run(&["--uninstall"]);
    assert!(said.contains("is not installed"), "{said}");
    assert_eq!(node.read(watch), edited);
    assert_eq!(node.read("etc/portcullis/portcullis.toml"), "node = \"mine\"\n");
    assert!(node.path("var/lib/portcullis/policy/current").exists());
    assert!(!node.path("usr/local/bin/portcullis").exists());
    assert!(!node.path("var/lib/portcullis/install").exists());
}

#[test]
fn folders_have_the_modes_that_their_readers_expect() {
    let node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    node.run(&[]);
    for (path, mode) in [
        ("etc/portcullis", 0o755),
        ("etc/portcullis/policies", 0o755),
        ("etc/portcullis/portcullis.toml", 0o644),
        ("etc/portcullis/malware", 0o755),
        ("etc/portcullis/malware/portcullis.yar", 0o644),
        ("usr/local/bin/portcullis-scanner", 0o755),
        ("usr/local/bin/portcullisd", 0o755),
        ("etc/systemd/system/portcullisd.service", 0o644),
        ("var/lib/portcullis/verdicts", 0o700),
        ("var/lib/portcullis/events", 0o700),
        ("var/lib/portcullis/policy", 0o755),
        ("var/lib/portcullis/install", 0o700),
        (SHIM, 0o755),
    ] {
        let data = fs::metadata(node.path(path)).unwrap();
        assert_eq!(data.mode() & 0o7777, mode, "{path}");
        assert_eq!(data.uid(), fs::metadata(node.root.path()).unwrap().uid(), "{path}");
    }
    for path in [
        "usr/local/share/bash-completion/completions/portcullis",
        "usr/local/share/man/man1/portcullis.1",
    ] {
        assert!(node.path(path).exists(), "{path}");
    }
    let wanted = node.path("etc/systemd/system/multi-user.target.wants/portcullisd.service");
    assert_eq!(fs::read_link(wanted).unwrap(), Path::new("../portcullisd.service"));
}

/// In a cluster an update brings the agent that brings the mended policy.
#[test]
fn a_faulty_policy_stops_a_first_install_and_no_later_one() {
    let faulty = "etc/portcullis/policies/kubernetes.production.yaml";
    let node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    node.write(faulty, "apiVersion: portcullis.dev/v1alpha1\nkind: Other\n");
    let said = node.refused(&[]);
    assert!(said.contains("nor are any yet"), "{said}");
    assert_eq!(node.read(CONFIG), DEBIAN);

    fs::remove_file(node.path(faulty)).unwrap();
    node.run(&[]);
    let current = node.path("var/lib/portcullis/policy/current");
    let in_force = fs::read_link(&current).unwrap();
    node.write(faulty, "apiVersion: portcullis.dev/v1alpha1\nkind: Other\n");
    let output = node.script(&["--default-runtime"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout) + &text(&output.stderr);
    for words in ["kubernetes.production.yaml", "warning", "the set that is in force goes on"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(node.default_handler(), "portcullis");
    assert_eq!(fs::read_link(&current).unwrap(), in_force);
}

#[test]
fn templates_can_be_picked_and_are_not_in_force() {
    let node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    let before = node.state();
    node.run(&[]);
    let mut names = Vec::new();
    for entry in fs::read_dir(project().join("config/policies/templates")).unwrap() {
        let template = entry.unwrap().path();
        let name = template.file_name().unwrap().to_str().unwrap().to_owned();
        let installed = node.path(&format!("usr/local/share/portcullis/policies/{name}"));
        assert_eq!(fs::read(&installed).unwrap(), fs::read(&template).unwrap(), "{name}");
        assert_eq!(fs::metadata(&installed).unwrap().mode() & 0o7777, 0o644, "{name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["balanced.yaml", "hss-like.yaml", "strict.yaml"]);
    let in_force = Command::new(binaries().join("portcullis"))
        .arg("--root")
        .arg(node.root.path())
        .args(["policy", "list"])
        .output()
        .expect("portcullis runs");
    let in_force = text(&in_force.stdout).to_string();
    assert!(in_force.contains("watch") && !in_force.contains("balanced"), "{in_force}");
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), "uninstall");
}

#[test]
fn a_file_that_was_in_our_place_comes_back() {
    let node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    node.write("usr/local/bin/portcullis", "#!/bin/sh\necho another\n");
    symlink("/nowhere/at/all", node.path(SHIM)).unwrap();
    let before = node.state();
    node.run(&[]);
    node.run(&[]);
    let installed = fs::read(node.path("usr/local/bin/portcullis")).unwrap();
    assert!(installed == fs::read(node.binaries.join("portcullis")).unwrap());
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), "uninstall");
}

#[test]
fn a_link_to_the_configuration_stays_a_link() {
    let node = Node::new(&Engine::of_this_machine(), None);
    node.write("etc/containerd/real/config.toml", DEBIAN);
    symlink("real/config.toml", node.path(CONFIG)).unwrap();
    let before = node.state();
    node.run(&["--default-runtime"]);
    assert!(fs::symlink_metadata(node.path(CONFIG)).unwrap().is_symlink());
    assert_eq!(node.default_handler(), "portcullis");
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), "uninstall");

    fs::remove_file(node.path(CONFIG)).unwrap();
    symlink("/etc/hostname", node.path(CONFIG)).unwrap();
    assert!(node.refused(&[]).contains("leads out of"));
}

#[test]
fn a_running_shim_keeps_its_binary_until_it_is_gone() {
    let mut node = Node::new(&Engine::of_this_machine(), Some(DEBIAN));
    // A shim that only sleeps, and the real command.
    let folder = tempfile::tempdir().unwrap();
    let name = "containerd-shim-portcullis-v2";
    copy_program(Path::new("/bin/sleep"), &folder.path().join(name));
    for command in ["portcullis", "portcullis-scanner", "portcullisd"] {
        symlink(node.binaries.join(command), folder.path().join(command)).unwrap();
    }
    node.binaries = folder.path().to_owned();
    let before = node.state();
    node.run(&["--default-runtime"]);
    let mut shim = Command::new(node.path(SHIM)).arg("600").spawn().unwrap();

    let dry = node.script(&["--uninstall", "--dry-run"]).output().unwrap();
    let said = node.refused(&["--uninstall", "--purge"]);
    let again = node.refused(&["--uninstall", "--purge"]);
    shim.kill().unwrap();
    shim.wait().unwrap();

    assert!(dry.status.success() && text(&dry.stderr).contains("not all would be removed"));
    for said in [said, again] {
        assert!(said.contains("1 shim(s)"), "{said}");
        assert!(said.contains(&format!("process {}", shim.id())), "{said}");
        assert!(said.contains("--uninstall again"), "{said}");
    }
    assert_eq!(node.read(CONFIG), DEBIAN);
    assert!(node.path(SHIM).exists());
    assert!(node.path("etc/portcullis/policies/watch.yaml").exists());
    assert!(node.path("var/lib/portcullis/policy/current").exists());
    node.run(&["--uninstall", "--purge"]);
    assert_same(&before, &node.state(), "uninstall once it is gone");
}

/// Kills the script at each of its renames in turn, right before it or right after.
#[test]
fn a_run_that_is_killed_can_be_repeated_or_undone() {
    let engine = Engine::of_this_machine();
    // With a single man page: the others come to be in the same way.
    let folder = tempfile::tempdir().unwrap();
    let shim = "containerd-shim-portcullis-v2";
    copy_program(&binaries().join(shim), &folder.path().join(shim));
    program(&folder.path().join("portcullis-scanner"), "exit 1");
    program(&folder.path().join("portcullisd"), "exit 1");
    let command = folder.path().join("portcullis");
    let script = format!(
        "{} \"$@\" || exit\n[ \"$1\" != man ] || rm \"$2\"/portcullis-*",
        binaries().join("portcullis").display()
    );
    program(&command, &script);
    let fresh = || Node { binaries: folder.path().to_owned(), ..Node::new(&engine, Some(KUBEADM)) };

    let wanted = fresh();
    let before = wanted.state();
    wanted.run(&["--default-runtime"]);
    let wanted = wanted.state_but_data();

    let mut at = 1;
    loop {
        let node = fresh();
        if run_with_deadly_mv(&node, &["--default-runtime"], at) {
            break;
        }
        if !at.is_multiple_of(3) {
            node.run(&["--default-runtime"]);
            assert_same(&wanted, &node.state_but_data(), &format!("repeated after {at}"));
        }
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), &format!("undone after {at}"));
        at += 1;
    }
    assert!(at > 20, "the script was killed only {at} times");
    at = 1;
    loop {
        let node = fresh();
        node.run(&["--default-runtime"]);
        if run_with_deadly_mv(&node, &["--uninstall", "--purge"], at) {
            break;
        }
        node.run(&["--uninstall", "--purge"]);
        assert_same(&before, &node.state(), &format!("undone after {at} of an uninstall"));
        at += 1;
    }
    assert!(at > 2, "the script was killed only {at} times");
}

/// Runs the script with an `mv` that kills it at its n-th call; whether it came to its end.
fn run_with_deadly_mv(node: &Node, arguments: &[&str], at: usize) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let calls = folder.path().join("calls");
    let script = format!(
        "echo >>'{calls}'\nif [ \"$(wc -l <'{calls}')\" = {call} ]; then\n  \
         {before}\n  kill -KILL $PPID\n  exit 1\nfi\nexec /bin/mv \"$@\"",
        calls = calls.display(),
        call = at,
        before = if at.is_multiple_of(2) { "/bin/mv \"$@\"" } else { ":" },
    );
    program(&folder.path().join("mv"), &script);
    let path = std::env::var("PATH").unwrap_or_default();
    let Output { status, stderr, .. } = node
        .script(arguments)
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("TMPDIR", folder.path())
        .output()
        .expect("bash runs");
    assert!(status.code() != Some(1), "{}", text(&stderr));
    status.success()
}

// ---------------------------------------------------------------------------- what we ship

#[test]
fn the_shipped_settings_are_well_and_so_is_every_key_in_them() {
    let file = project().join("config/portcullis.toml");
    let folder = tempfile::tempdir().unwrap();
    let shipped = fs::read_to_string(file).unwrap();
    // `#key = value` and `#[table]` are settings, `# text` is talk.
    let is_setting = |line: &str| line.starts_with(|c: char| c.is_alphabetic() || c == '[');
    let settings = shipped.lines().filter_map(|line| line.strip_prefix('#'));
    let settings: Vec<&str> = settings.filter(|line| is_setting(line)).collect();
    assert_eq!(settings.len(), 35, "{settings:?}");
    let all: String = shipped
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if is_setting(key) => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    for (name, text) in [("as shipped", &shipped), ("with every key", &all)] {
        let copy = folder.path().join("portcullis.toml");
        fs::write(&copy, text).unwrap();
        let output = portcullis(&["config", "check"], &copy);
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

#[test]
fn the_shipped_policy_is_well_and_blocks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("watch.yaml");
    fs::copy(project().join("config/policies/watch.yaml"), &copy).unwrap();
    let output = portcullis(&["policy", "check"], &copy);
    assert!(output.status.success(), "{output:?}");
    let policy = fs::read_to_string(&copy).unwrap();
    let policy: String = policy.lines().filter(|l| !l.trim_start().starts_with('#')).collect();
    assert!(!policy.contains("block"));
    let documents = policy.matches("kind: ProtectionPolicy").count();
    assert_eq!(policy.matches("mode: observe").count(), documents);
}

fn portcullis(arguments: &[&str], file: &Path) -> Output {
    Command::new(binaries().join("portcullis"))
        .args(arguments)
        .arg(file)
        .output()
        .expect("portcullis runs")
}

#[test]
fn the_shipped_examples_for_containerd_are_what_is_installed() {
    for engine in Engine::all() {
        for (name, plain) in
            [("version-2.toml", "version = 2\n"), ("version-3.toml", "version = 3\n")]
        {
            if name == "version-3.toml" && engine.version.0 < 2 {
                continue;
            }
            let example = project().join("config/containerd").join(name);
            let dump = engine.dump(&example).unwrap_or_else(|| panic!("{name} cannot be read"));
            let node = Node::new(&engine, Some(plain));
            node.run(&[]);
            assert!(!values(&dump, ".runtimes.runc]").is_empty(), "{name}: runc is gone");
            let shown = values(&dump, ".runtimes.portcullis]");
            assert_eq!(shown.len(), 2, "{name}: {shown:?}");
            // The oldest cannot use what the example shows, and the example says so.
            if engine.version != (1, 6) {
                assert_eq!(shown, node.handler("portcullis"), "{name}");
            }
        }
    }
}

#[test]
fn the_runtime_class_names_our_handler() {
    let text = fs::read_to_string(project().join("config/runtimeclass.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(
        lines,
        [
            "apiVersion: node.k8s.io/v1",
            "kind: RuntimeClass",
            "metadata:",
            "  name: portcullis",
            "handler: portcullis"
        ]
    );
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let output = Command::new("shellcheck")
        .current_dir(project())
        .args(["install.sh", "integration/packages.sh", "integration/src/node.sh"])
        .args(
            ["podman", "docker", "restart", "pod"]
                .map(|name| format!("integration/tests/install/{name}.sh")),
        )
        .output()
        .unwrap_or_else(|e| panic!("shellcheck does not run ({e}): apt-get install shellcheck"));
    assert!(output.status.success(), "{}", text(&output.stdout));
}
