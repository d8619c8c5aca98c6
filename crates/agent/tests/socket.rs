//! The real program on its socket: who may ask, what it does with questions that are none, how it
//! begins and ends. Scans of real engines' images are in `integration/`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use portcullis_gate::agent::{AgentAnswer, AgentAsk, AgentError, AgentStatus, ask};
use portcullis_types::{Digest, Place};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

/// An agent with a root of its own.
struct Agent {
    root: tempfile::TempDir,
    child: Option<Child>,
}

/// The program in a folder that has a scanner beside it, which these tests never start.
fn program(root: &Path) -> PathBuf {
    let program = root.join("portcullisd");
    if !program.exists() {
        // A copy could not be started while a sibling's child has it open for writing.
        let built = env!("CARGO_BIN_EXE_portcullisd");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
        fs::write(root.join("portcullis-scanner"), "").unwrap();
    }
    program
}

fn command(root: &Path) -> Command {
    let mut command = Command::new(program(root));
    command.arg("--root").arg(root).env_clear();
    command
}

impl Agent {
    fn start() -> Self {
        let mut agent = Self { root: tempfile::tempdir().unwrap(), child: None };
        agent.begin();
        agent
    }

    fn begin(&mut self) {
        let root = self.root.path();
        // The engines of the machine that runs the tests are not theirs.
        let etc = root.join("etc/portcullis");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("portcullis.toml"), "[agent]\nfollow = []\nlisten = \"\"\n").unwrap();
        self.child = Some(command(root).stderr(Stdio::piped()).spawn().unwrap());
        let begun = Instant::now();
        while ask(&self.socket(), &AgentAsk::Status {}, Instant::now() + PATIENCE).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the agent does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("run/portcullis/agent.sock")
    }

    fn ask(&self, question: &AgentAsk) -> Result<AgentAnswer, AgentError> {
        ask(&self.socket(), question, Instant::now() + PATIENCE)
    }

    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let _it_may_have_heard_enough = stream.write_all(bytes);
        let _closed = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _reset = stream.read_to_string(&mut answer);
        answer
    }

    fn end(&mut self, signal: Signal) -> Output {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            let _gone = child.wait();
        }
    }
}

fn scan(image: &Digest) -> AgentAsk {
    let place = Place::Storage { roots: vec!["/nonexistent".into()] };
    AgentAsk::Scan { image: image.clone(), place, wait_millis: 20_000 }
}

#[test]
fn it_says_how_it_fares_and_why_an_image_is_not_scanned() {
    let agent = Agent::start();
    let image = Digest::of(b"an image");
    // Twice: the second is told what is known of the first.
    for _ in 0..2 {
        let answer = agent.ask(&scan(&image)).unwrap();
        let AgentAnswer::Failed { why } = answer else { panic!("{answer:?}") };
        assert!(why.contains("has no image") && why.contains(image.hex()), "{why}");
    }
    let fares = AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scanning: 0,
        waiting: 0,
        scanned: 0,
        failed: 1,
        images: 0,
        unscanned: 0,
        violations: 0,
    };
    assert_eq!(agent.ask(&AgentAsk::Status {}).unwrap(), AgentAnswer::Status(fares));
}

#[test]
fn what_is_no_question_is_refused_and_the_next_is_answered() {
    let agent = Agent::start();
    for garbage in [
        &b"\n"[..],
        b"{}\n",
        b"{\"ask\":\"everything\"}\n",
        b"{\"ask\":\"status\",\"and\":1}\n",
        b"{\"ask\":\"scan\",\"image\":\"latest\",\"place\":{\"store\":\"storage\",\"roots\":[]},\"waitMillis\":1}\n",
        b"\xff\xfe\n",
    ] {
        let answer = agent.send(garbage);
        assert!(answer.contains("not understood"), "{garbage:?}: {answer}");
        assert_eq!(answer.lines().count(), 1);
    }
    // No end, nothing at all, and more than a line may have.
    assert_eq!(agent.send(b"{\"ask\":\"status\"}"), "");
    assert_eq!(agent.send(b""), "");
    assert_eq!(agent.send(&vec![b' '; 1 << 20]), "");
    let nested = [vec![b'['; 60_000], b"\n".to_vec()].concat();
    assert!(agent.send(&nested).contains("not understood"));
    assert!(matches!(agent.ask(&AgentAsk::Status {}), Ok(AgentAnswer::Status(_))));
}

#[test]
fn only_root_may_ask() {
    let agent = Agent::start();
    let socket = agent.socket();
    let folder = socket.parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Even if somebody opens the way to it.
    for (path, mode) in [
        (agent.root.path(), 0o755),
        (&agent.root.path().join("run"), 0o755),
        (folder, 0o755),
        (&socket, 0o666),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let answer = std::thread::spawn(move || {
        // Of this thread alone, which ends here.
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        ask(&socket, &scan(&Digest::of(b"an image")), Instant::now() + PATIENCE)
    });
    let answer = answer.join().unwrap().unwrap();
    assert_eq!(answer, AgentAnswer::Refused { why: "only root may ask".to_owned() });
    let status = agent.ask(&AgentAsk::Status {}).unwrap();
    assert!(matches!(status, AgentAnswer::Status(status) if status.failed == 0), "it was scanned");
}

#[test]
fn it_ends_with_a_signal_and_begins_after_one_that_was_killed() {
    let mut agent = Agent::start();
    for signal in [Signal::TERM, Signal::INT] {
        let ended = agent.end(signal);
        assert!(ended.status.success(), "{ended:?}");
        assert!(!agent.socket().exists());
        agent.begin();
    }
    let killed = agent.end(Signal::KILL);
    assert_eq!(killed.status.signal(), Some(9));
    assert!(agent.socket().exists());
    assert!(matches!(agent.ask(&AgentAsk::Status {}), Err(AgentError::Absent { .. })));
    agent.begin();
}

#[test]
fn a_second_one_says_so_and_leaves_the_first_alone() {
    let agent = Agent::start();
    let second = command(agent.root.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another agent of this node listens at"), "{said}");
    assert!(matches!(agent.ask(&AgentAsk::Status {}), Ok(AgentAnswer::Status(_))));
}

#[test]
fn wrong_settings_and_a_missing_scanner_are_named() {
    let root = tempfile::tempdir().unwrap();
    let run = || {
        let output = command(root.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let file = root.path().join("etc/portcullis/portcullis.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[agent]\nwaiting = 0\nscanTime = \"soon\"\n").unwrap();
    let said = run();
    for part in ["portcullis.toml", "agent.waiting: 1 to 10000", "agent.scanTime: write 1s"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    fs::remove_file(&file).unwrap();
    program(root.path());
    fs::remove_file(root.path().join("portcullis-scanner")).unwrap();
    let said = run();
    assert!(said.contains("portcullis-scanner is not there"), "{said}");
}

#[test]
fn engines_that_hang_do_not_keep_it_from_ending() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("containerd.sock");
    // Takes connections, and never says a word.
    let hangs = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let etc = root.path().join("etc/portcullis");
    fs::create_dir_all(&etc).unwrap();
    let settings = format!(
        "[agent]\nfollow = [\"containerd\"]\nlisten = \"\"\n[wrapper.portcullis-runc]\nsocket = \"{}\"\n",
        socket.display()
    );
    fs::write(etc.join("portcullis.toml"), settings).unwrap();
    let child = command(root.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut agent = Agent { root, child: Some(child) };
    let begun = Instant::now();
    while agent.ask(&AgentAsk::Status {}).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the agent does not get ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    let _asked = hangs.accept().unwrap();
    // It answers while it waits for the engine.
    let AgentAnswer::Failed { why } = agent.ask(&scan(&Digest::of(b"1"))).unwrap() else {
        panic!("there is no such image");
    };
    assert!(why.contains("has no image"), "{why}");
    let output = agent.end(Signal::TERM);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("ending"), "{said}");
}
