//! The models of command lines, held against the runtimes that are installed.
//!
//! Each line is read by the model and given to the binary, which works in a folder of its own: its
//! state folder is there, and so are the bundles. What the binary complains of tells which bundle
//! and id it took: a bundle that is missing, or an id that is taken already, is named or known.

#![allow(
    clippy::unwrap_used,
    reason = "this file is all test; the settings spare only test functions"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use portcullis_testkit::runtimes::{
    Creates, ORDINARY, READERS, Reader, Wrapper, check_wrapper, crun_1_8, line_of, runc_1_1_debian,
};

/// Numbers that look like chance and are the same each time (xorshift).
struct Chance(u64);

impl Chance {
    /// Bytes for [`line_of`], of which one in eight glues its piece to the one before.
    fn pieces(&mut self, most: u64) -> Vec<u8> {
        let piece = |chance: &mut Self| {
            let [piece, glue, ..] = (chance.next() >> 16).to_le_bytes();
            (piece & 0x7f) | if glue.is_multiple_of(8) { 0x80 } else { 0 }
        };
        (0..self.next() % most).map(|_| piece(self)).collect()
    }

    fn next(&mut self) -> u64 {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        self.0
    }
}

/// A specification with which a runtime comes as far as to look whether the id is taken, and no
/// further: it has no root, and no program.
const SPEC: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"linux":{"namespaces":
    [{"type":"mount"}]},"mounts":[],"process":{"terminal":false,"user":{"uid":0,"gid":0},"cwd":"/",
    "args":["/none"]}}"#;

/// How many lines each binary is given: enough to meet each piece several times.
const LINES: usize = 250;

/// What a binary did with a line.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    /// It took this bundle and the id that was taken.
    TookId,
    /// It took the bundle that is named, and found nothing there.
    NoBundle(String),
    /// It came to the bundle or the id, but refused these.
    Tried,
    /// Nothing of it.
    Else,
}

/// Runs the binary on a line, in a folder in which only the id that the model reads is taken.
fn run(binary: &str, line: &[&str], read: Option<&Creates>) -> (Did, String) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for bundle in ["", "b1", "b2"] {
        fs::create_dir_all(at(bundle).join("rootfs")).unwrap();
        fs::write(at(bundle).join("config.json"), SPEC).unwrap();
    }
    if let Some(creates) = read.filter(|creates| is_name(&creates.id)) {
        for root in ["state", "r1"] {
            take(&at(root), &creates.id);
        }
        // The bundle that it must take is missing, if it is one that can be.
        if ["b1", "b2"].contains(&&*creates.bundle) {
            fs::remove_dir_all(at(&creates.bundle)).unwrap();
        }
    }
    let output = Command::new(binary)
        .args(["--root", at("state").to_str().unwrap()])
        .args(line)
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let said = ["l1", "r1", "auto", "json"]
        .iter()
        .filter_map(|log| fs::read_to_string(at(log)).ok())
        .fold(said, |said, log| said + &log);
    (did(&said), said)
}

/// Whether a folder can have this name, so that the id can be taken.
fn is_name(id: &str) -> bool {
    !matches!(id, "" | "." | "..") && !id.contains('/')
}

fn take(root: &Path, id: &str) {
    fs::create_dir_all(root.join(id)).unwrap();
    fs::write(root.join(id).join("status"), "{}").unwrap();
}

fn did(said: &str) -> Did {
    let missing = |before: &str, behind: char| {
        let (_, rest) = said.split_once(before)?;
        rest.split(behind).next().map(|bundle| Did::NoBundle(bundle.to_owned()))
    };
    let has = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
    if let Some(did) = missing("chdir ", ':').or_else(|| missing("realpath `", '`')) {
        did
    } else if has(&["already exists", "File exists"]) {
        Did::TookId
    } else if has(&[
        "invalid container ID format",
        "container id cannot be empty",
        "config.json not found",
        "cannot create state directory",
        "loading config",
        "open `",
    ]) {
        Did::Tried
    } else {
        Did::Else
    }
}

/// Holds the model against the binary on lines that are made of chance, and says on how many of
/// them it creates.
fn hold(binary: &str, model: Reader, lines: usize) -> usize {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let (mut creating, mut differ) = (0, Vec::new());
    for _ in 0..lines {
        let mut line = line_of(&chance.pieces(5));
        // Most lines of chance do not come as far as to a command and an id.
        if !chance.next().is_multiple_of(4) {
            let command = ["create", "run"][usize::from(chance.next().is_multiple_of(2))];
            line.insert(0, command.to_owned());
            let place = 1 + chance.next() as usize % line.len();
            line.insert(place, "c1".to_owned());
        }
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        if line.contains(&"exec") {
            continue;
        }
        let full = [&["--root", "state"], &*line].concat();
        let read = model(&full);
        let (did, said) = run(binary, &line, read.as_ref());
        if !agree(read.as_ref(), &did, &said) {
            differ.push(format!("{line:?}: read {read:?}, did {did:?}: {said}"));
        }
        creating += usize::from(read.is_some() && did != Did::Else);
    }
    assert!(differ.is_empty(), "{binary}, {} times:\n{}", differ.len(), differ.join("\n"));
    creating
}

fn agree(read: Option<&Creates>, did: &Did, said: &str) -> bool {
    match (read, did) {
        (None, did) => *did == Did::Else,
        (Some(creates), Did::NoBundle(name)) => {
            creates.bundle == *name || creates.config.as_ref() == Some(name)
        }
        // An empty id is the state folder itself to crun.
        (Some(creates), Did::TookId) => is_name(&creates.id) || creates.id.is_empty(),
        // runc allows fewer characters in an id than a folder's name may have.
        (Some(creates), Did::Tried) => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_+.".contains(&b);
            let is_id = is_name(&creates.id) && creates.id.bytes().all(allowed);
            // The state folders are there too, and are no bundles.
            let is_bundle = ["", "b1", "b2"].contains(&&*creates.bundle);
            !is_id || !is_bundle || creates.config.is_some()
        }
        // A model says what is done at most: see the values that it does not look into.
        (Some(_), Did::Else) => is_about_a_value(said),
    }
}

/// Complaints about what a flag was given, which the models do not look into.
fn is_about_a_value(said: &str) -> bool {
    [
        "invalid value",
        "log-format",
        "unknown log format",
        "rootless",
        "no such file",
        "is a directory",
        "console",
        "unknown command restore",
        "log format",
        "realpath",
    ]
    .iter()
    .any(|text| said.to_lowercase().contains(text))
}

#[test]
fn the_model_of_runc_reads_as_runc_does() {
    let version = Command::new("runc").arg("--version").output().expect("runc is installed");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.contains("1.1.5"), "there is no model of this runc: {version}");
    assert!(hold("runc", runc_1_1_debian, LINES) > LINES / 8);
}

#[test]
fn the_model_of_crun_reads_as_crun_does() {
    let version = Command::new("crun").arg("--version").output().expect("crun is installed");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(version.contains("1.8.1"), "there is no model of this crun: {version}");
    assert!(hold("crun", crun_1_8, LINES) > LINES / 8);
}

/// What each reader makes of lines on which they differ: bundle, id, and `!` for a file of its own.
#[test]
fn readers_differ_where_their_sources_do() {
    let shown = |read: Option<Creates>| {
        read.map_or("-".to_owned(), |c| {
            format!("{}:{}{}", c.bundle, c.id, if c.config.is_some() { "!" } else { "" })
        })
    };
    // runc 1.1, its Debian build, 1.2 to 1.5, after 1.5; crun 1.8, 1.29.
    for (line, wanted) in [
        (&["create", "-b", "b", "c"][..], ["b:c", "b:c", "b:c", "b:c", "b:c", "b:c"]),
        (&["create", "c", "-b", "b"], ["b:c", "b:c", "b:c", "b:c", "-", "-"]),
        (&["create", "--no-pivot", "c", "-b", "b"], ["-", "-", "-", "b:c", "-", "-"]),
        (&["create", "c", " --bundle", "b"], ["-", "-", "-", "b:c", "-", "-"]),
        (&["create", " c "], [": c ", ": c ", ": c ", ":c", ": c ", ": c "]),
        (&["create", "-", "--bundle", "b"], ["b:-", "b:-", "b:-", ":-", "-", "-"]),
        (&["create", "-", "x"], ["-", "-", "-", ":-", "-", "-"]),
        (&["create", "--bun", "b", "c"], ["-", "-", "-", "-", "b:c", "b:c"]),
        (&["create", "-bb", "c"], ["-", "-", "-", "-", "b:c", "b:c"]),
        (&["create", "-f", "x", "c"], ["-", "-", "-", "-", ":c!", ":c!"]),
        (&["create", "--config=config.json", "c"], ["-", "-", "-", "-", ":c", ":c"]),
        (&["create", "-b=b", "c"], ["b:c", "b:c", "b:c", "b:c", "=b:c", "=b:c"]),
        (&["create", "--root", "r", "c"], ["-", "-", "-", ":c", "-", "-"]),
        (&["create", "--pidfd-socket", "p", "c"], ["-", "-", ":c", ":c", "-", "-"]),
        (&["create", "--pid-file", "--", "c"], [":c"; 6]),
        (&["create", "x", "--", "c"], ["-", "-", "-", "-", "-", "-"]),
        (&["--", "create", "c"], [":c"; 6]),
        (&["create", "--", "help"], [":help", ":help", ":help", "-", ":help", ":help"]),
        (&["--criu", "create", "run", "c"], [":c", ":c", "-", "-", "-", "-"]),
        (&["--log-level", "debug", "run", "c"], ["-", "-", "-", "-", "-", ":c"]),
        (&["--roo", "r", "run", "c"], ["-", "-", "-", "-", ":c", ":c"]),
        (&["--cgroup-manager", "disabled", "run", "c"], ["-", "-", "-", "-", ":c", ":c"]),
        (&["restore", "c", "d"], ["-", "-", "-", "-", ":c", ":c"]),
        (&["run", "--keep", "c"], [":c", ":c", ":c", ":c", "-", ":c"]),
        (&["create", "-b", "a", "--bundle", "b", "c"], ["-", "-", "-", "b:c", "b:c", "b:c"]),
        (&["create", "--help=false", "c"], [":c", ":c", ":c", ":c", "-", "-"]),
        (&["exec", "c", "create", "d"], ["-"; 6]),
    ] {
        let read: Vec<String> = READERS.iter().map(|(_, reader)| shown(reader(line))).collect();
        assert_eq!(read, wanted, "{line:?}");
    }
}

#[test]
fn engines_lines_are_read_alike_by_all() {
    for (line, wanted) in ORDINARY {
        let wrapper = |_: &[&str]| match wanted {
            Some((bundle, id)) => {
                Wrapper::Gates { bundle: (*bundle).to_owned(), id: (*id).to_owned() }
            }
            None => Wrapper::Passes,
        };
        check_wrapper(line, wrapper);
        let any = READERS.iter().any(|(_, reader)| reader(line).is_some());
        assert_eq!(any, wanted.is_some(), "{line:?}");
    }
}

#[test]
fn a_wrapper_that_looks_at_the_first_word_is_found_out() {
    let naive = |line: &[&str]| match line {
        ["create", "--bundle", bundle, id] => {
            Wrapper::Gates { bundle: (*bundle).to_owned(), id: (*id).to_owned() }
        }
        _ => Wrapper::Passes,
    };
    check_wrapper(&["create", "--bundle", "b", "c"], naive);
    for line in [&["--debug", "create", "c"][..], &["create", "--bundle", "-f", "c", "d"]] {
        let found = std::panic::catch_unwind(|| check_wrapper(line, naive));
        assert_eq!(found.is_err(), READERS.iter().any(|(_, reader)| reader(line).is_some()));
    }
}
