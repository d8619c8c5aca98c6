//! The real program's metrics and health, asked as anybody may: what is counted, across files that
//! are moved aside and restarts of the agent, and what whoever asks cannot do to it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_audit::Ledger;
use portcullis_node::{SHIM, lock, publish};
use portcullis_osv::database;
use portcullis_settings::Paths;
use portcullis_store::{FileStore, VerdictStore};
use portcullis_testkit::promtool::promtool;
use portcullis_types::{Event, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// An agent with a root of its own, which tells its metrics at any port.
struct Agent {
    root: tempfile::TempDir,
    child: Option<Child>,
    said: Arc<Mutex<String>>,
    address: Option<SocketAddr>,
    arguments: &'static [&'static str],
}

impl Agent {
    /// One that is not started yet.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let built = env!("CARGO_BIN_EXE_portcullisd");
        let program = root.path().join("portcullisd");
        // A copy could not be started while a sibling's child has it open for writing.
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
        fs::write(root.path().join("portcullis-scanner"), "").unwrap();
        let said = Arc::default();
        let agent = Self { root, child: None, said, address: None, arguments: &[] };
        agent.settings("127.0.0.1:0");
        agent
    }

    fn started() -> Self {
        let mut agent = Self::new();
        agent.start();
        agent
    }

    fn settings(&self, listen: &str) {
        let file = self.paths().settings();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text =
            format!("[agent]\nfollow = []\nlisten = \"{listen}\"\n[events]\nmaxBytes = 65536\n");
        fs::write(file, text).unwrap();
    }

    fn paths(&self) -> Paths {
        Paths::below(self.root.path())
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(self.paths().events(), 65536)
    }

    fn append(&self, events: impl IntoIterator<Item = Event>) {
        let ledger = self.ledger();
        for event in events {
            ledger.append(&event).unwrap();
        }
    }

    fn run(&mut self) {
        let root = self.root.path();
        let mut command = Command::new(root.join("portcullisd"));
        command.arg("--root").arg(root).args(self.arguments).env_clear().stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        self.said = Arc::default();
        let said = self.said.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *said.lock().unwrap() += &format!("{line}\n");
            }
        });
    }

    /// Starts it, and waits until it is ready.
    fn start(&mut self) {
        self.run();
        let address = wait(|| {
            let said = self.said.lock().unwrap();
            let address = said.split("metrics are at http://").nth(1)?;
            address.split('/').next()?.parse().ok()
        });
        self.address = Some(address);
        wait(|| (self.get("/readyz").status == 200).then_some(()));
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn address(&self) -> SocketAddr {
        self.address.unwrap()
    }

    /// What is answered to bytes.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let _it_may_have_heard_enough = stream.write_all(bytes);
        let mut answer = String::new();
        let _reset = stream.read_to_string(&mut answer);
        answer
    }

    fn get(&self, path: &str) -> Answer {
        self.get_as(path, "*/*")
    }

    fn get_as(&self, path: &str, accept: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: node\r\nAccept: {accept}\r\n\r\n");
        Answer::new(&self.send(head.as_bytes()))
    }

    fn metrics(&self) -> Text {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Text(answer.body)
    }

    /// Waits until a series has a value, and gives all that was told with it.
    fn metrics_with(&self, series: &str, value: f64) -> Text {
        wait(|| {
            let text = self.metrics();
            (text.value(series) == Some(value)).then_some(text)
        })
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

#[track_caller]
fn wait<T>(mut until: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = until() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn new(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }
}

/// Metrics as text.
struct Text(String);

impl Text {
    fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }

    #[track_caller]
    fn has(&self, wanted: &[(&str, f64)]) {
        for (series, value) in wanted {
            assert_eq!(self.value(series), Some(*value), "{series} in\n{}", self.0);
        }
    }

    /// The names of all metrics.
    fn names(&self) -> BTreeSet<String> {
        let types = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

fn event(kind: &str, action: &str, more: Value) -> Event {
    let mut event = json!({
        "id": portcullis_audit::new_id(), "time": "2026-11-24T12:00:00Z", "kind": kind,
        "action": action, "message": "a line", "image": { "surety": "unknown" },
        "request": { "engine": "cri-o", "node": "n", "containerId": "c", "kind": "container" },
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(event).unwrap()
}

fn decision(action: &str, more: Value) -> Event {
    event("decision", action, more)
}

fn blocks(number: usize) -> impl Iterator<Item = Event> {
    (0..number).map(|_| decision("block", json!({ "gateMicros": 700 })))
}

const BLOCKS: &str =
    "portcullis_decisions_total{action=\"block\",engine=\"cri-o\",kind=\"container\"}";

/// All that is told, of a node with everything on it.
fn full() -> Agent {
    let mut agent = Agent::new();
    let paths = agent.paths();
    let put = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put(paths.root().join(SHIM), "");
    let policy = "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n\
                  metadata: {name: first}\nspec: {}\n";
    put(paths.policies().join("first.yaml"), policy);
    publish(&paths, &lock(&paths).unwrap()).unwrap().compiled.unwrap();
    let kev = json!({
        "catalogVersion": "2026.01.01", "dateReleased": "2026-01-01T00:00:00Z", "count": 1,
        "vulnerabilities": [{ "cveID": "CVE-2024-0001", "dateAdded": "2024-01-02" }],
    });
    put(paths.feeds().join("kev.json"), &kev.to_string());
    let advisory = json!({
        "id": "DSA-1", "modified": "2026-01-02T03:04:05Z", "affected": [{
            "package": { "ecosystem": "Debian:12", "name": "bash" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }] }],
        }],
    });
    let source = paths.root().join("osv/DSA-1.json");
    put(source.clone(), &advisory.to_string());
    struct Silent;
    impl database::Progress for Silent {
        fn file(&mut self, _: &str, _: usize, _: usize) {}
        fn records(&mut self, _: u64) {}
        fn unreadable(&mut self, name: &str, why: &str) {
            panic!("{name}: {why}");
        }
    }
    let now = Timestamp::now();
    database::update(&paths.advisories(), vec![source.into()], now, &mut Silent).unwrap();
    let store = FileStore::open(paths.verdicts());
    fs::create_dir_all(paths.verdicts()).unwrap();
    for (image, day) in [("a", "2026-01-03"), ("b", "2026-01-04")] {
        let digest = format!("sha256:{}", image.repeat(64));
        let facts = serde_json::from_value(json!({ "config": digest })).unwrap();
        let at = format!("{day}T00:00:00Z");
        let report = json!({
            "scanner": { "name": "portcullis" }, "scannedAt": at, "importedAt": at,
            "binding": "byScan", "coverage": { "classes": ["malware"] }, "findings": [],
        });
        store.absorb(&facts, serde_json::from_value(report).unwrap()).unwrap();
    }
    agent.start();
    agent.append([decision("allow", json!({ "policies": ["first"] }))]);
    agent.metrics_with("portcullis_events_total{kind=\"decision\"}", 1.0);
    agent
}

fn seconds(time: &str) -> f64 {
    time.parse::<Timestamp>().unwrap().as_second() as f64
}

#[test]
fn each_record_is_counted_as_what_it_is() {
    let mut agent = Agent::new();
    // From before: somebody has to look at it, and it is not counted.
    let old = decision("block", json!({ "policies": ["old"] }));
    agent.append([old.clone(), decision("alarm", json!({}))]);
    agent.start();
    agent.metrics().has(&[
        (BLOCKS, 0.0),
        ("portcullis_events_total{kind=\"decision\"}", 0.0),
        ("portcullis_events_unhandled{action=\"block\"}", 1.0),
        ("portcullis_events_unhandled{action=\"alarm\"}", 1.0),
        ("portcullis_outcomes_total{result=\"failed\"}", 0.0),
    ]);
    agent.append([
        decision(
            "block",
            json!({
                "policies": ["first", "sec\"ond\n"], "causes": ["stale", "noData"],
                "counted": { "vulnerability/critical": 3, "secret/high": 1, "nothing/at-all": 9 },
                "gateMicros": 700, "whitelisted": true,
            }),
        ),
        decision(
            "alarm",
            json!({ "policies": ["first"], "wouldBlock": true, "gateMicros": 30_000 }),
        ),
        decision("allow", json!({ "gateMicros": 2_500_000 })),
        event("outcome", "allow", json!({})),
        event("outcome", "alarm", json!({})),
        event("notice", "block", json!({})),
        event("violation", "alarm", json!({})),
        event(
            "mark",
            "allow",
            json!({ "decision": old.id, "mark": { "status": "ignored", "by": "root" } }),
        ),
    ]);
    let text = agent.metrics_with("portcullis_events_total{kind=\"mark\"}", 1.0);
    text.has(&[
        (BLOCKS, 1.0),
        ("portcullis_decisions_total{action=\"alarm\",engine=\"cri-o\",kind=\"container\"}", 1.0),
        ("portcullis_decisions_total{action=\"allow\",engine=\"cri-o\",kind=\"container\"}", 1.0),
        ("portcullis_decisions_total{action=\"allow\",engine=\"docker\",kind=\"sandbox\"}", 0.0),
        ("portcullis_decisions_by_policy_total{policy=\"first\",action=\"block\"}", 1.0),
        ("portcullis_decisions_by_policy_total{policy=\"first\",action=\"alarm\"}", 1.0),
        ("portcullis_decisions_by_policy_total{policy=\"sec_ond_\",action=\"block\"}", 1.0),
        ("portcullis_findings_counted_total{class=\"vulnerability\",severity=\"critical\"}", 3.0),
        ("portcullis_findings_counted_total{class=\"secret\",severity=\"high\"}", 1.0),
        ("portcullis_causes_total{cause=\"stale\",action=\"block\"}", 1.0),
        ("portcullis_causes_total{cause=\"stale\",action=\"alarm\"}", 0.0),
        ("portcullis_would_block_total", 1.0),
        ("portcullis_whitelisted_total", 1.0),
        ("portcullis_outcomes_total{result=\"started\"}", 1.0),
        ("portcullis_outcomes_total{result=\"failed\"}", 1.0),
        ("portcullis_notices_total", 1.0),
        ("portcullis_violations_total{action=\"alarm\"}", 1.0),
        ("portcullis_events_total{kind=\"decision\"}", 3.0),
        ("portcullis_gate_duration_seconds_bucket{le=\"0.0005\"}", 0.0),
        ("portcullis_gate_duration_seconds_bucket{le=\"0.001\"}", 1.0),
        ("portcullis_gate_duration_seconds_bucket{le=\"0.05\"}", 2.0),
        ("portcullis_gate_duration_seconds_bucket{le=\"2.0\"}", 2.0),
        ("portcullis_gate_duration_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("portcullis_gate_duration_seconds_count", 3.0),
        // The old one is ignored, the new one differs from it.
        ("portcullis_events_unhandled{action=\"block\"}", 1.0),
        ("portcullis_events_unhandled{action=\"alarm\"}", 2.0),
        ("portcullis_ledger_records_missed_total", 0.0),
        ("portcullis_ledger_damaged_lines_total", 0.0),
    ]);
    assert!(!text.0.contains("old") && !text.0.contains("nothing"), "{}", text.0);
}

#[test]
fn records_are_counted_once_across_files_and_what_is_gone_is_said() {
    let agent = Agent::started();
    let mut written = 0;
    // More than all files hold, but never more at once than the reader finds.
    for _ in 0..12 {
        agent.append(blocks(12));
        written += 12;
        agent.metrics_with(BLOCKS, f64::from(written));
    }
    let files = fs::read_dir(agent.paths().events()).unwrap().count();
    assert!(files > 3, "{files}");
    let kept = agent.ledger().read().unwrap().events.len();
    assert!(kept < written as usize, "nothing was deleted");
    agent.metrics().has(&[("portcullis_ledger_records_missed_total", 0.0)]);
    // A thousand while it stands still: what is gone before it is read is told.
    let process = Pid::from_child(agent.child.as_ref().unwrap());
    kill_process(process, Signal::STOP).unwrap();
    agent.append(blocks(1000));
    agent.append([decision("allow", json!({}))]);
    kill_process(process, Signal::CONT).unwrap();
    let allows = "portcullis_decisions_total{action=\"allow\",engine=\"cri-o\",kind=\"container\"}";
    let text = agent.metrics_with(allows, 1.0);
    let missed = text.value("portcullis_ledger_records_missed_total").unwrap();
    assert_eq!(text.value(BLOCKS).unwrap() + missed, f64::from(written) + 1000.0);
    assert!(missed > 0.0);
}

#[test]
fn a_killed_agent_counts_from_nothing_again() {
    let mut agent = Agent::started();
    agent.append(blocks(3));
    agent.metrics_with(BLOCKS, 3.0);
    agent.kill();
    agent.append(blocks(2));
    agent.start();
    let unhandled = "portcullis_events_unhandled{action=\"block\"}";
    agent.metrics().has(&[(BLOCKS, 0.0), (unhandled, 1.0)]);
    agent.append(blocks(4));
    agent.metrics_with(BLOCKS, 4.0);
}

#[test]
fn damage_in_the_ledger_is_told_and_a_torn_line_is_none() {
    let agent = Agent::started();
    agent.append(blocks(1));
    let current = agent.ledger().path();
    let add = |bytes: &[u8]| {
        fs::File::options().append(true).open(&current).unwrap().write_all(bytes).unwrap();
    };
    // What a killed writer leaves, which the next one closes.
    add(b"{\"seq\":");
    agent.append(blocks(1));
    let damaged = "portcullis_ledger_damaged_lines_total";
    agent.metrics_with(BLOCKS, 2.0).has(&[(damaged, 0.0), ("portcullis_notices_total", 1.0)]);
    add(b"damaged\n");
    agent.metrics_with(damaged, 1.0);
}

#[test]
fn how_the_node_stands_is_told_as_status_tells_it() {
    let agent = full();
    let text = agent.metrics();
    text.has(&[
        ("portcullis_node_state{state=\"protected\"}", 1.0),
        ("portcullis_node_state{state=\"error\"}", 0.0),
        ("portcullis_node_state{state=\"unprotected\"}", 0.0),
        ("portcullis_node_state{state=\"enabled-not-configured\"}", 0.0),
        ("portcullis_policies", 1.0),
        ("portcullis_policy_drift", 0.0),
        ("portcullis_store_verdicts", 2.0),
        ("portcullis_store_damaged_verdicts", 0.0),
        ("portcullis_store_oldest_scan_timestamp_seconds{}", seconds("2026-01-03T00:00:00Z")),
        ("portcullis_store_newest_scan_timestamp_seconds{}", seconds("2026-01-04T00:00:00Z")),
        ("portcullis_feed_timestamp_seconds{feed=\"KEV\"}", seconds("2026-01-01T00:00:00Z")),
        (
            "portcullis_database_timestamp_seconds{ecosystem=\"Debian\"}",
            seconds("2026-01-02T03:04:05Z"),
        ),
        ("portcullis_degraded{reason=\"store\"}", 0.0),
        ("portcullis_degraded{reason=\"policy-set\"}", 0.0),
        ("portcullis_degraded{reason=\"settings\"}", 0.0),
        ("portcullis_degraded{reason=\"feed\"}", 0.0),
        // The newest advisory is older than a week.
        ("portcullis_degraded{reason=\"database\"}", 1.0),
    ]);
    let set = portcullis_gate::published::load(&agent.paths().published()).unwrap();
    text.has(&[(&format!("portcullis_policy_set_info{{digest=\"{}\"}}", set.digest()), 1.0)]);
}

#[test]
fn what_is_broken_is_told_too() {
    let mut agent = Agent::new();
    let paths = agent.paths();
    fs::create_dir_all(paths.root().join("usr/local/bin")).unwrap();
    fs::write(paths.root().join(SHIM), "").unwrap();
    fs::create_dir_all(paths.published()).unwrap();
    std::os::unix::fs::symlink("nothing", paths.published().join("current")).unwrap();
    fs::create_dir_all(paths.feeds()).unwrap();
    fs::write(paths.feeds().join("kev.json"), "{").unwrap();
    fs::create_dir_all(paths.advisories()).unwrap();
    std::os::unix::fs::symlink("nothing", paths.advisories().join("current")).unwrap();
    agent.start();
    agent.metrics().has(&[
        ("portcullis_node_state{state=\"error\"}", 1.0),
        ("portcullis_degraded{reason=\"policy-set\"}", 1.0),
        ("portcullis_degraded{reason=\"store\"}", 1.0),
        ("portcullis_degraded{reason=\"database\"}", 1.0),
        ("portcullis_degraded{reason=\"feed\"}", 1.0),
        ("portcullis_degraded{reason=\"ledger\"}", 0.0),
    ]);
}

#[test]
fn scans_and_those_that_wait_are_counted() {
    use portcullis_gate::agent::{AgentAsk, ask};
    let agent = Agent::started();
    let place = portcullis_types::Place::Storage { roots: vec!["/nonexistent".into()] };
    let image = portcullis_types::Digest::of(b"an image");
    let wanted = AgentAsk::Scan { image, place, wait_millis: 20_000 };
    ask(&agent.paths().agent(), &wanted, Instant::now() + PATIENCE).unwrap();
    let text = agent.metrics_with("portcullis_scans_total{result=\"failed\"}", 1.0);
    text.has(&[
        ("portcullis_scans_total{result=\"scanned\"}", 0.0),
        ("portcullis_scan_duration_seconds_count", 1.0),
        ("portcullis_scan_queue{state=\"waiting\"}", 0.0),
        ("portcullis_scan_queue{state=\"scanning\"}", 0.0),
    ]);
}

#[test]
fn it_is_well_as_long_as_it_works_and_ready_when_it_can_read_the_ledger() {
    let mut agent = Agent::new();
    let events = agent.paths().events();
    fs::create_dir_all(events.join("events.jsonl")).unwrap();
    agent.run();
    agent.address = Some(wait(|| {
        let said = agent.said.lock().unwrap();
        said.split("metrics are at http://").nth(1)?.split('/').next()?.parse().ok()
    }));
    let unready = wait(|| {
        let answer = agent.get("/readyz");
        answer.body.contains("is not a regular file").then_some(answer)
    });
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("the ledger: ") && unready.body.contains("events.jsonl"));
    let well = agent.get("/healthz");
    assert_eq!((well.status, well.body.as_str()), (200, "ok\n"));
    fs::remove_dir(events.join("events.jsonl")).unwrap();
    wait(|| (agent.get("/readyz").status == 200).then_some(()));
}

#[test]
fn both_forms_of_text_are_told_by_what_is_asked_for() {
    let agent = Agent::started();
    let open = agent.get_as("/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    assert!(open.head.contains("Content-Type: application/openmetrics-text; version=1.0.0"));
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    let classic = agent.get_as("/metrics?x=y", "text/plain");
    assert!(classic.head.contains("Content-Type: text/plain; version=0.0.4"));
    assert!(!classic.body.contains("# EOF"));
    let head = Answer::new(&agent.send(b"HEAD /metrics HTTP/1.1\r\n\r\n"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("Connection: close"));
}

#[test]
fn what_is_no_request_is_refused_and_the_next_is_answered() {
    let agent = Agent::started();
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 404),
        (b"GET /metrics/../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /metrics HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n: no name\r\n\r\n", 400),
        (long.as_bytes(), 431),
        (many.as_bytes(), 431),
    ] {
        let answer = Answer::new(&agent.send(request));
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]);
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
    }
    let answer = Answer::new(&agent.send(b"PUT /metrics HTTP/1.1\r\n\r\n"));
    assert!(answer.head.contains("Allow: GET, HEAD"), "{answer:?}");
    // No end, and nothing at all.
    for (bytes, answered) in [(&b"GET /met"[..], true), (b"", false)] {
        let mut stream = TcpStream::connect(agent.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 400"), answered, "{answer}");
    }
    assert_eq!(agent.get("/healthz").status, 200);
}

/// Open files of the agent, and its threads that serve.
fn held(agent: &Agent) -> (usize, usize) {
    let process = PathBuf::from(format!("/proc/{}", agent.child.as_ref().unwrap().id()));
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let tasks = fs::read_dir(process.join("task")).unwrap();
    let serving = tasks.flatten().filter_map(name).filter(|name| name == "http\n").count();
    (fs::read_dir(process.join("fd")).unwrap().count(), serving)
}

#[test]
fn a_hundred_at_once_are_answered_and_nothing_of_them_stays() {
    let agent = Agent::started();
    // The one that waits for others is left.
    let calm = || wait(|| Some(held(&agent).0).filter(|_| held(&agent).1 == 1));
    let before = calm();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| agent.metrics())).collect();
            for text in asked {
                text.join().unwrap().has(&[(BLOCKS, 0.0)]);
            }
        });
        wait(|| (calm() <= before).then_some(()));
    }
}

#[test]
fn slow_ones_are_cut_off_and_keep_nobody_away_for_long() {
    let agent = Agent::started();
    let connect = || TcpStream::connect(agent.address()).unwrap();
    // More than are served at a time: some say nothing, some a byte now and then, some do not read.
    let silent: Vec<_> = (0..20).map(|_| connect()).collect();
    let dripping: Vec<_> = (0..20).map(|_| connect()).collect();
    let deaf: Vec<_> = (0..10).map(|_| connect()).collect();
    for mut stream in &deaf {
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    }
    let mut cut = vec![false; dripping.len()];
    let is_answered = std::thread::scope(|scope| {
        let asked = scope.spawn(|| agent.get("/healthz").status);
        let begun = Instant::now();
        while !(asked.is_finished() && cut.iter().all(|cut| *cut)) {
            assert!(begun.elapsed() < PATIENCE, "{cut:?}");
            for (mut stream, cut) in dripping.iter().zip(&mut cut) {
                *cut |= stream.write_all(b"G").is_err();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        asked.join().unwrap()
    });
    assert_eq!(is_answered, 200);
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty());
    }
}

#[test]
fn an_address_that_is_taken_or_none_keeps_no_agent_from_its_work() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut agent = Agent::new();
    agent.settings(&address.to_string());
    agent.run();
    wait(|| agent.said.lock().unwrap().contains("cannot listen at").then_some(()));
    let socket = agent.paths().agent();
    wait(|| UnixStream::connect(&socket).ok());
    // It is tried again.
    drop(taken);
    agent.address = Some(address);
    wait(|| TcpStream::connect(address).ok());
    assert_eq!(agent.get("/healthz").status, 200);

    let mut agent = Agent::new();
    agent.settings("");
    agent.run();
    let socket = agent.paths().agent();
    wait(|| UnixStream::connect(&socket).ok());
    let said = agent.said.lock().unwrap().clone();
    assert!(!said.contains("metrics"), "{said}");
    agent.kill();

    // What is said on the command line goes before the settings.
    agent.arguments = &["--listen", "127.0.0.1:0"];
    agent.start();
    agent.metrics().has(&[(BLOCKS, 0.0)]);
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The words of a text that begin with our prefix.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_word(c));
    words.filter(|word| word.starts_with("portcullis_")).map(ToOwned::to_owned).collect()
}

#[test]
fn each_metric_is_described_and_each_that_is_used_is_there() {
    let agent = full();
    let there = agent.metrics().names();
    assert!(there.len() > 30, "{there:?}");
    let read = |path: &str| fs::read_to_string(project().join(path)).unwrap();
    // Those of a cluster are compared with what is described where they are made.
    let described = named(&read("docs/metrics.md"));
    let (of_cluster, described): (BTreeSet<_>, BTreeSet<_>) =
        described.into_iter().partition(|name| name.starts_with("portcullis_cluster_"));
    assert_eq!(described, there, "docs/metrics.md");
    // A histogram is asked for by its parts.
    let part = |name: &String| {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| name.strip_suffix(part));
        let is_there = |name: &String| there.contains(name) || of_cluster.contains(name);
        is_there(name) || base.is_some_and(|base| there.contains(base))
    };
    for file in ["dashboard.json", "rules.yaml"] {
        let used = named(&read(&format!("integration/kubernetes/monitoring/{file}")));
        assert!(used.len() > 5, "{file}: {used:?}");
        let unknown: Vec<_> = used.iter().filter(|name| !part(name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_what_is_told() {
    let agent = full();
    let mut check = promtool();
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(agent.metrics().0.as_bytes()).unwrap();
    let found = check.wait_with_output().unwrap();
    assert!(found.status.success() && found.stderr.is_empty(), "{found:?}");
}

fn monitoring(file: &str) -> PathBuf {
    project().join("integration/kubernetes/monitoring").join(file)
}

#[test]
fn the_rules_are_well_and_each_alert_comes_when_it_should() {
    for (what, file) in [("check", "rules.yaml"), ("test", "rules_test.yaml")] {
        let output = promtool().args([what, "rules"]).arg(monitoring(file)).output().unwrap();
        assert!(output.status.success(), "{file}: {output:?}");
    }
    let (rules, tests) = (monitoring("rules.yaml"), monitoring("rules_test.yaml"));
    let (rules, tests) = (fs::read_to_string(rules).unwrap(), fs::read_to_string(tests).unwrap());
    let described = fs::read_to_string(project().join("docs/metrics.md")).unwrap();
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is not tested");
        assert!(described.contains(&format!("`{alert}`")), "{alert} is not in docs/metrics.md");
    }
    for part in ["severity: ", "summary: ", "description: ", "remedy: "] {
        assert_eq!(rules.matches(&format!("          {part}")).count(), alerts.len(), "{part}");
    }
}

#[test]
fn the_operators_rules_are_the_same() {
    let lines = |file: &str| {
        let text = fs::read_to_string(monitoring(file)).unwrap();
        let from = text.find("groups:").unwrap();
        let until = text[from..].find("\n---").map_or(text.len(), |at| from + at);
        let lines = text[from..until].lines().map(|line| line.trim_start().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(lines("prometheusrule.yaml"), lines("rules.yaml"));
}

#[test]
fn the_dashboard_asks_what_can_be_asked() {
    let text = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels: Vec<&Value> = dashboard["panels"].as_array().unwrap().iter().collect();
    let rows = panels.iter().filter(|panel| panel["type"] == "row").count();
    assert!(rows >= 4 && panels.len() > rows, "{rows}");
    let mut ids = BTreeSet::new();
    let mut expressions = Vec::new();
    for panel in &panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("$node"), "{expression}");
            expressions
                .push(expression.replace("$__range", "1h").replace("$__rate_interval", "5m"));
        }
    }
    // A rule for each: promtool parses them.
    let rule = |(at, expression)| json!({ "record": format!("panel:{at}"), "expr": expression });
    let rules: Vec<Value> = expressions.iter().enumerate().map(rule).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    let all = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(file.path(), all.to_string()).unwrap();
    let output = promtool().args(["check", "rules"]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
