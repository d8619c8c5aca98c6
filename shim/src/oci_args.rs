//! Which command an OCI command line gives to a runtime, and whether it creates a container.
//!
//! Runtimes read their arguments differently: runc 1.1 by Go's `flag` with options moved to the
//! front, later ones without that, crun by `argp`, which takes abbreviations and joined short
//! options. A line that one of them could read as a creation and that is not plain to all of them is
//! refused, so that no reader sees a bundle that the gate did not see. A line without any of the
//! words `create`, `run` and `restore` creates nothing for any of them and is not looked at.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What a command line does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It creates no container.
    Pass(CreatesNothing),
    /// It creates this container.
    Creates(Creation),
    /// It may create a container, and runtimes could read it differently.
    Unclear(Unclear),
}

/// A line that was read and creates nothing; made here only.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CreatesNothing(());

/// How a container is created.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Creation {
    pub(crate) id: String,
    /// The bundle's folder, if the line names one; else the current folder is it.
    pub(crate) bundle: Option<PathBuf>,
    /// `--root`: where the runtime keeps its state.
    pub(crate) state: Option<PathBuf>,
    pub(crate) told: Told,
}

/// Where the runtime is told to write its errors.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// `--log`.
    pub(crate) log: Option<PathBuf>,
    /// `--log-format json`.
    pub(crate) json: bool,
}

/// A line that cannot be read in one way only.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unclear {
    /// What is unclear, and what to write.
    pub(crate) why: String,
    pub(crate) told: Told,
}

/// The words that bring a container to life.
const CREATING: [&str; 3] = ["create", "run", "restore"];

/// The other commands of runc, crun, youki and runsc.
const OTHERS: [&str; 20] = [
    "checkpoint",
    "delete",
    "events",
    "exec",
    "features",
    "help",
    "init",
    "kill",
    "list",
    "pause",
    "ps",
    "resume",
    "start",
    "state",
    "stats",
    "spec",
    "update",
    "wait",
    "info",
    "mounts",
];

/// Options before the command that have a value, in all runtimes that know them. Not `rootless`,
/// which is a switch of runsc.
const GLOBAL_VALUES: [&str; 5] = ["root", "log", "log-format", "log-level", "cgroup-manager"];
/// Options before the command that have none.
const GLOBAL_SWITCHES: [&str; 2] = ["debug", "systemd-cgroup"];

/// Options of a creating command that have a value. Those that would make the runtime read another
/// specification than the bundle's (crun's `--config`) are not here.
const VALUES: [&str; 12] = [
    "bundle",
    "console-socket",
    "pid-file",
    "preserve-fds",
    "image-path",
    "work-path",
    "pidfd-socket",
    "manage-cgroups-mode",
    "empty-ns",
    "lsm-profile",
    "lsm-mount-context",
    "network-lock",
];
/// Options of a creating command that have none.
const SWITCHES: [&str; 12] = [
    "detach",
    "keep",
    "no-subreaper",
    "no-pivot",
    "no-new-keyring",
    "tcp-established",
    "tcp-close",
    "ext-unix-sk",
    "shell-job",
    "file-locks",
    "auto-dedup",
    "lazy-pages",
];

/// Reads the arguments of a runtime, without its name.
pub(crate) fn read(args: &[OsString]) -> Line {
    if !args.iter().any(|arg| may_create(arg)) {
        return Line::Pass(CreatesNothing(()));
    }
    let mut reader = Reader { rest: args, told: Told::default(), state: None };
    match reader.line() {
        Ok(line) => line,
        Err(why) => Line::Unclear(Unclear { why, told: reader.told }),
    }
}

/// Whether some runtime could take a word for one that creates: newer runcs cut blanks off.
fn may_create(arg: &OsStr) -> bool {
    arg.to_str().is_some_and(|word| CREATING.contains(&word.trim()))
}

fn is_one_of(arg: &OsStr, words: &[&str]) -> bool {
    words.iter().any(|word| arg == OsStr::new(word))
}

/// An option as it is written.
struct Written<'a> {
    name: &'a str,
    /// What stands behind `=`.
    value: Option<&'a OsStr>,
}

struct Reader<'a> {
    rest: &'a [OsString],
    told: Told,
    state: Option<PathBuf>,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Result<Line, String> {
        while let Some(option) = self.option()? {
            self.global(&option)?;
        }
        let Some(command) = self.take() else {
            return Err("it names no command".into());
        };
        if is_one_of(command, &OTHERS) {
            return Ok(Line::Pass(CreatesNothing(())));
        }
        if !is_one_of(command, &CREATING) {
            return Err(format!("the command {} is unknown", shown(command)));
        }
        self.creation().map(Line::Creates)
    }

    fn global(&mut self, option: &Written<'a>) -> Result<(), String> {
        let name = option.name;
        if GLOBAL_SWITCHES.contains(&name) {
            return Ok(());
        }
        if !GLOBAL_VALUES.contains(&name) {
            // With its value in the same word it is one word to every reader.
            return match option.value {
                Some(_) if name.len() > 1 => Ok(()),
                _ => Err(format!(
                    "the option --{name} before the command is unknown: write --{name}=VALUE"
                )),
            };
        }
        let value = self.value(option)?;
        match name {
            "root" => once(&mut self.state, value.into(), name),
            "log" => once(&mut self.told.log, value.into(), name),
            "log-format" => {
                self.told.json = value == "json";
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn creation(&mut self) -> Result<Creation, String> {
        let mut bundle = None;
        while let Some(option) = self.option()? {
            let name = if option.name == "b" { "bundle" } else { option.name };
            match (option.value, name) {
                (None, "d") => {}
                (Some(_), _) if option.name.len() == 1 => {
                    return Err(format!("runtimes read -{}=VALUE differently", option.name));
                }
                (None, _) if SWITCHES.contains(&name) => {}
                (Some(value), _) if SWITCHES.contains(&name) => {
                    if value != "true" && value != "false" {
                        return Err(format!("--{name} is true or false"));
                    }
                }
                _ if VALUES.contains(&name) => {
                    let value = self.value(&option)?;
                    if name == "bundle" {
                        once(&mut bundle, PathBuf::from(value), name)?;
                    }
                }
                _ => return Err(format!("the option --{name} is unknown to Portcullis")),
            }
        }
        let [id] = self.rest else {
            return Err("the container's id must come last, and nothing behind it".into());
        };
        let Some(id) = id.to_str().filter(|id| is_container_id(id)) else {
            return Err(format!("{} is no container id", shown(id)));
        };
        if bundle.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err("--bundle is empty".into());
        }
        Ok(Creation {
            id: id.to_owned(),
            bundle,
            state: self.state.take(),
            told: self.told.clone(),
        })
    }

    fn take(&mut self) -> Option<&'a OsString> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The next word, if it is an option in a form that all runtimes read alike: `--name`,
    /// `--name=value` or `-x`.
    fn option(&mut self) -> Result<Option<Written<'a>>, String> {
        let Some(word) = self.rest.first() else {
            return Ok(None);
        };
        let Some(written) = word.as_bytes().strip_prefix(b"-") else {
            return Ok(None);
        };
        self.take();
        let unclear = || format!("runtimes read {} differently", shown(word));
        let long = written.strip_prefix(b"-");
        let text = long.unwrap_or(written);
        let (name, value) = match text.iter().position(|byte| *byte == b'=') {
            Some(at) => (&text[..at], Some(OsStr::from_bytes(&text[at + 1..]))),
            None => (text, None),
        };
        let name = std::str::from_utf8(name).map_err(|_| unclear())?;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && name.starts_with(|c: char| c.is_ascii_alphanumeric());
        // Joined short options, and long ones behind one dash, are read in two ways.
        let of_its_form = match long {
            Some(_) => name.len() > 1,
            None => name.len() == 1,
        };
        if !plain || !of_its_form {
            return Err(unclear());
        }
        Ok(Some(Written { name, value }))
    }

    /// The value of an option: behind `=`, or the next word.
    fn value(&mut self, option: &Written<'a>) -> Result<&'a OsStr, String> {
        match option.value {
            Some(value) => Ok(value),
            None => match self.take() {
                Some(value) => Ok(value),
                None => Err(format!("--{} has no value", option.name)),
            },
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, name: &str) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("--{name} is given twice")),
    }
}

fn shown(word: &OsStr) -> String {
    let text: String = word.to_string_lossy().chars().take(60).collect();
    format!("\"{}\"", text.escape_debug())
}

/// Whether a text may be a container's id (runc, `libcontainer/factory_linux.go`, `validateID`).
fn is_container_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    !matches!(text, "" | "." | "..") && text.len() <= 1024 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_testkit::runtimes::{ORDINARY, Wrapper, check_wrapper, line_of};

    fn line(text: &str) -> Line {
        read(&text.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn creation(text: &str) -> (Option<String>, String) {
        match line(text) {
            Line::Creates(c) => (c.bundle.map(|b| b.display().to_string()), c.id),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// As recorded from the engines: containerd's shim, CRI-O's and Podman's conmon, Docker.
    #[test]
    fn engines_own_lines_are_read() {
        for (text, bundle, id) in [
            (
                "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json \
                 --systemd-cgroup create --bundle /b --pid-file /b/init.pid --no-pivot \
                 --no-new-keyring --console-socket /t/pty.sock c1",
                Some("/b"),
                "c1",
            ),
            (
                "--root=/run/runc create --bundle /b/userdata --pid-file /p c2",
                Some("/b/userdata"),
                "c2",
            ),
            (
                "--cgroup-manager disabled --log-format=json --log /l create --bundle /b -d c3",
                Some("/b"),
                "c3",
            ),
            ("create --bundle=/b c4", Some("/b"), "c4"),
            ("run -d -b /b c5", Some("/b"), "c5"),
            ("run c6", None, "c6"),
            ("restore --image-path /i --work-path /w --bundle /b --detach c7", Some("/b"), "c7"),
            ("--strace=true --debug create --bundle /b c8", Some("/b"), "c8"),
            ("create --bundle create create", Some("create"), "create"),
            ("--root create create --bundle /b c9", Some("/b"), "c9"),
            ("create --bundle /b .c+1_0-x.", Some("/b"), ".c+1_0-x."),
        ] {
            let (seen, name) = creation(text);
            assert_eq!((seen.as_deref(), name.as_str()), (bundle, id), "{text}");
        }
    }

    #[test]
    fn what_creates_nothing_passes() {
        for text in [
            "",
            "--version",
            "features",
            "--root /r state c1",
            "--root /r --log /l --log-format json kill --all create 9",
            "--root create state run",
            "delete --force run",
            "exec --process /p create",
            "start restore",
            "--unknown state c1",
            "help create",
        ] {
            assert_eq!(line(text), Line::Pass(CreatesNothing(())), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "--unknown create --bundle /b c1",
            "-x create --bundle /b c1",
            "--rootless create state",
            "-root /r create --bundle /b c1",
            "--help create --bundle /b c1",
            "--root /r --root /s create --bundle /b c1",
            "-- create --bundle /b c1",
            "create -- c1",
            "create --bundle /b -- c1",
            "create --bundle /b --bundle /c c1",
            "create --bundle /b -b /c c1",
            "create -b=/b c1",
            "create -b/b c1",
            "create -bundle /b c1",
            "create --bun /b c1",
            "create --config /elsewhere.json --bundle /b c1",
            "create --config=/elsewhere.json --bundle /b c1",
            "create -f /elsewhere.json --bundle /b c1",
            "create c1 --bundle /b",
            "create --bundle /b c1 c2",
            "create --bundle /b",
            "create",
            "create --bundle",
            "create --bundle= c1",
            "create --bundle /b ../c1",
            "create --bundle /b ..",
            "create --bundle /b c,1",
            "create --bundle /b --detach=maybe c1",
            "foo create --bundle /b c1",
            "--debug run",
        ] {
            assert!(matches!(line(text), Line::Unclear(_)), "{text}: {:?}", line(text));
        }
        for words in [&[" create", "c1"][..], &["create\n", "c1"], &["create", " c1"]] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert!(matches!(read(&words), Line::Unclear(_)), "{words:?}");
        }
    }

    /// The models say what six runtimes would make of a line.
    #[test]
    fn no_runtime_creates_what_the_gate_does_not_see() {
        for (line, wanted) in ORDINARY {
            check_wrapper(line, reading);
            let seen = match reading(line) {
                Wrapper::Gates { bundle, id } => Some((bundle, id)),
                Wrapper::Passes => None,
                Wrapper::Refuses => panic!("an engine's own line is refused: {line:?}"),
            };
            let wanted = wanted.map(|(bundle, id)| (bundle.to_owned(), id.to_owned()));
            assert_eq!(seen, wanted, "{line:?}");
        }
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut gated, mut refused) = (0, 0);
        for _ in 0..60_000 {
            // Short lines are plain more often; one piece in eight is joined to the one before.
            let bytes: Vec<u8> = (0..random(8))
                .map(|_| random(128) as u8 | if random(8) == 0 { 0x80 } else { 0 })
                .collect();
            let line = line_of(&bytes);
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            check_wrapper(&line, reading);
            match reading(&line) {
                Wrapper::Gates { .. } => gated += 1,
                Wrapper::Refuses => refused += 1,
                Wrapper::Passes => {}
            }
        }
        assert!(gated > 100 && refused > 100, "{gated} gated, {refused} refused");
    }

    fn reading(line: &[&str]) -> Wrapper {
        let words: Vec<_> = line.iter().map(OsString::from).collect();
        match read(&words) {
            Line::Pass(_) => Wrapper::Passes,
            Line::Unclear(_) => Wrapper::Refuses,
            Line::Creates(creation) => Wrapper::Gates {
                bundle: creation.bundle.unwrap_or_default().display().to_string(),
                id: creation.id,
            },
        }
    }

    #[test]
    fn where_to_tell_a_refusal_is_known_even_then() {
        let Line::Unclear(unclear) = line("--log /l --log-format json create --bundle /b c1 c2")
        else {
            panic!("it is clear");
        };
        assert_eq!(unclear.told, Told { log: Some("/l".into()), json: true });
    }
}
