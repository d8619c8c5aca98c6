//! Tests on real files; those that need further processes are in `tests/`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn event_at(id: &str, at: Timestamp) -> Event {
    let mut event = say("a line".into(), &blank());
    (event.id, event.time) = (id.into(), at);
    event.kind = EventKind::Decision;
    event.action = Action::Block;
    event
}

fn blank() -> Event {
    serde_json::from_value(serde_json::json!({
        "id": "", "time": "2026-11-24T12:00:00Z", "kind": "decision", "action": "block",
        "message": "", "image": { "surety": "unknown" },
        "request": { "engine": "containerd", "node": "n", "containerId": "c", "kind": "container" },
    }))
    .unwrap()
}

fn event(id: &str) -> Event {
    event_at(id, time("2026-11-24T12:00:00Z"))
}

/// A ledger in a folder of its own.
struct Node {
    folder: TempDir,
    ledger: Ledger,
}

impl Node {
    fn new(max_bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path().to_owned(), max_bytes);
        Self { folder, ledger }
    }

    /// A ledger whose files take about this many events each.
    fn of_events_per_file(count: u64) -> Self {
        Self::new(FILES * (count * 720 + 100))
    }

    fn append(&self, ids: impl IntoIterator<Item = u32>) -> Vec<Head> {
        ids.into_iter().map(|id| self.ledger.append(&event(&id.to_string())).unwrap()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Ids of the decisions that are read back.
    fn ids(&self) -> Vec<String> {
        ids(&self.ledger.read().unwrap())
    }

    /// The messages of what the ledger said of itself.
    fn said(&self) -> Vec<String> {
        let read = self.ledger.read().unwrap();
        let notices = read.events.into_iter().filter(|e| e.kind == EventKind::Notice);
        notices.map(|e| e.message).collect()
    }

    fn verify(&self, heads: &[Head]) -> Verification {
        self.ledger.verify(heads).unwrap()
    }

    #[track_caller]
    fn whole(&self) -> Verification {
        let found = self.verify(&[]);
        assert!(found.is_whole(), "{:#?}", found.faults);
        found
    }

    /// Files in order.
    fn files(&self) -> Vec<PathBuf> {
        folder::snapshot(self.folder.path()).unwrap().into_iter().map(|p| p.path).collect()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn put(&self, name: &str, lines: &[String]) {
        fs::write(self.path(name), lines.iter().map(|l| format!("{l}\n")).collect::<String>())
            .unwrap();
    }

    fn extend(&self, name: &str, bytes: &[u8]) {
        let mut options = OpenOptions::new();
        options.append(true).create(true).open(self.path(name)).unwrap().write_all(bytes).unwrap();
    }
}

fn ids(read: &Read) -> Vec<String> {
    let decisions = read.events.iter().filter(|e| e.kind == EventKind::Decision);
    decisions.map(|e| e.id.clone()).collect()
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_line_is_the_event_between_the_fields_of_the_chain() {
    let node = Node::new(1 << 20);
    let heads = node.append(1..=2);
    let lines = node.lines(CURRENT);
    let read: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read[0]["seq"], 1);
    assert_eq!(read[0]["prev"], "0".repeat(64));
    assert_eq!(read[0]["id"], "1");
    assert_eq!(read[1]["prev"], read[0]["hash"]);
    assert_eq!(read[1]["latest"], "2026-11-24T12:00:00Z");
    // As docs/ledger.md says: SHA-256 of the line up to the field.
    let (body, _) = lines[1].split_once(",\"hash\":").unwrap();
    assert_eq!(read[1]["hash"], RecordHash::of(body.as_bytes()).to_string());
    assert_eq!(heads[1], Head { seq: 2, hash: read[1]["hash"].as_str().unwrap().parse().unwrap() });
    let found = node.verify(&heads);
    assert!(found.is_whole());
    assert_eq!((found.records, found.heads_confirmed, found.last), (2, 2, Some(heads[1])));
}

#[test]
fn the_example_in_the_documentation_is_a_ledger() {
    let node = Node::new(1 << 20);
    let text = include_str!("../../../../docs/ledger.md");
    let lines = text.lines().filter(|line| line.starts_with('{')).map(ToOwned::to_owned);
    node.put(CURRENT, &lines.collect::<Vec<_>>());
    assert_eq!(node.whole().records, 2);
    assert_eq!(node.ledger.read().unwrap().events.len(), 2);
}

#[test]
fn only_root_may_read_it() {
    let node = Node::new(1 << 20);
    let ledger = Ledger::new(node.path("made/on/demand"), 1 << 20);
    ledger.append(&event("1")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(ledger.folder()), 0o700);
    for name in [CURRENT, "head", ".lock"] {
        assert_eq!(mode(&ledger.folder().join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_torn_line_is_closed_by_a_marker() {
    let torn_lines: [&[u8]; 5] =
        [b"{\"id\":\"tor", b"{\"seq\":2}\n", b"\n", b"\xff\xfe\n\0\0\0", b"a\nb\nc\n"];
    for torn in torn_lines {
        let node = Node::new(1 << 20);
        node.append(1..=1);
        node.extend(CURRENT, torn);
        let before = node.verify(&[]);
        assert_eq!(before.faults.len(), 1, "{torn:?}");
        assert_eq!(before.faults[0].at.line, 2, "{torn:?}");
        node.append(2..=3);
        let found = node.whole();
        assert_eq!(found.records, 4, "{torn:?}");
        assert_eq!(found.closed.len(), 1, "{torn:?}");
        assert_eq!(found.closed[0].at.line, 2, "{torn:?}");
        assert_eq!(node.ids(), ["1", "2", "3"], "{torn:?}");
        let bytes = torn.strip_suffix(b"\n").unwrap_or(torn).len();
        let said = format!("portcullis: the ledger: a torn line of {bytes} bytes was closed");
        assert_eq!(node.said(), [said]);
        // Who takes away what it closes is seen.
        let mut lines = fs::read(node.path(CURRENT)).unwrap();
        let first = lines.iter().position(|b| *b == b'\n').unwrap() + 1;
        let newline = usize::from(!torn.ends_with(b"\n"));
        lines.drain(first..first + torn.len() + newline);
        fs::write(node.path(CURRENT), lines).unwrap();
        assert_eq!(node.verify(&[]).faults[0].kind, FaultKind::NothingTorn, "{torn:?}");
    }
}

#[test]
fn a_line_torn_at_any_byte_is_closed() {
    let node = Node::new(1 << 20);
    node.append(1..=2);
    let whole = fs::read(node.path(CURRENT)).unwrap();
    let second = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for end in (0..=second).chain(second..whole.len()) {
        let node = Node::new(1 << 20);
        fs::write(node.path(CURRENT), &whole[..end]).unwrap();
        node.append(3..=3);
        let found = node.whole();
        let kept = match end {
            _ if end + 1 >= whole.len() => 2,
            _ if end + 1 >= second => 1,
            _ => 0,
        };
        assert_eq!(node.ids().len(), kept + 1, "cut at {end}");
        let clean = [0, second - 1, second, whole.len() - 1].contains(&end);
        assert_eq!(found.closed.len(), usize::from(!clean), "cut at {end}");
    }
}

#[test]
fn more_than_a_torn_line_is_no_torn_line() {
    let node = Node::new(8 << 20);
    node.append(1..=1);
    node.extend(CURRENT, &vec![b'x'; 1 << 20]);
    let head = node.append(2..=2)[0];
    assert_eq!(head.seq, 3);
    assert_eq!(node.ids(), ["1", "2"]);
    assert!(node.said()[0].contains("behind record 1 are no record"), "{:?}", node.said());
    let faults = node.verify(&[]).faults;
    assert_eq!((faults.len(), faults[0].at.line), (1, 2), "{faults:?}");
    assert_eq!(faults[0].kind, FaultKind::NotARecord);
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let node = Node::new(1 << 20);
    let heads = node.append(1..=3);
    let whole = fs::read(node.path(CURRENT)).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        let line = whole[..at].iter().filter(|b| **b == b'\n').count() + 1;
        for flip in [1, 0x20, whole[at] ^ b'\n'] {
            if flip == 0 {
                continue;
            }
            bytes[at] = whole[at] ^ flip;
            fs::write(node.path(CURRENT), &bytes).unwrap();
            let faults = node.verify(&[]).faults;
            let first = faults.first().unwrap_or_else(|| panic!("byte {at} ^ {flip}: nothing"));
            assert_eq!(first.at.file, node.path(CURRENT));
            assert_eq!(first.at.line as usize, line, "byte {at} ^ {flip}: {faults:?}");
            assert_eq!(first.at.seq, Some(line as u64).filter(|l| *l > 1), "{faults:?}");
        }
    }
    // The last line's damage does not go away when others follow.
    let mut bytes = whole.clone();
    let at = whole.len() - 200;
    bytes[at] ^= 1;
    fs::write(node.path(CURRENT), &bytes).unwrap();
    node.append(4..=5);
    let found = node.verify(&heads);
    assert_eq!(found.faults[0].kind, FaultKind::Missing { from: 3, to: 3 });
    assert!(node.said().iter().any(|s| s.contains("record 3 is missing at its end")));
}

#[test]
fn an_edit_is_named_with_its_line() {
    type Edit = fn(&mut Vec<String>);
    let edits: &[(&str, Edit, u64, FaultKind)] = &[
        ("dropped", |l| drop(l.remove(2)), 3, FaultKind::Missing { from: 3, to: 3 }),
        ("two dropped", |l| drop(l.drain(1..3)), 2, FaultKind::Missing { from: 2, to: 3 }),
        ("the first dropped", |l| drop(l.remove(0)), 1, FaultKind::Missing { from: 1, to: 1 }),
        ("swapped", |l| l.swap(1, 2), 2, FaultKind::Missing { from: 2, to: 2 }),
        ("put in again", |l| l.insert(3, l[1].clone()), 4, FaultKind::OutOfOrder { found: 2 }),
        ("repeated", |l| l.insert(3, l[2].clone()), 4, FaultKind::OutOfOrder { found: 3 }),
        ("something put in", |l| l.insert(3, "{}".into()), 4, FaultKind::NotARecord),
        ("an empty line", |l| l.insert(3, String::new()), 4, FaultKind::NotARecord),
        ("edited", |l| l[2] = l[2].replace("block", "allow"), 3, FaultKind::Changed),
        ("reformatted", |l| l[2] = l[2].replace("\":", "\": "), 3, FaultKind::NotARecord),
        (
            "the last dropped",
            |l| drop(l.pop()),
            6,
            FaultKind::Cut { ends: 5, known: 6, by: Known::HeadFile },
        ),
        ("all dropped", Vec::clear, 1, FaultKind::Cut { ends: 0, known: 6, by: Known::HeadFile }),
    ];
    for (name, edit, line, kind) in edits {
        let node = Node::new(1 << 20);
        node.append(1..=6);
        let mut lines = node.lines(CURRENT);
        edit(&mut lines);
        node.put(CURRENT, &lines);
        let faults = node.verify(&[]).faults;
        assert_eq!((faults[0].at.line, &faults[0].kind), (*line, kind), "{name}: {faults:?}");
        assert_eq!(faults[0].at.file, node.path(CURRENT), "{name}");
        // It stays, when others follow.
        node.append(7..=8);
        assert!(!node.verify(&[]).is_whole(), "{name} was forgotten");
    }
}

#[test]
fn a_record_in_the_place_of_another_is_named_though_it_is_right_in_itself() {
    let node = Node::new(1 << 20);
    let heads = node.append(1..=5);
    let lines = node.lines(CURRENT);
    let forged = |prev: RecordHash, seq: u64| {
        let chain = Chain { seq, prev, latest: Timestamp::UNIX_EPOCH, torn: None };
        String::from_utf8(record::encode(&chain, &event("forged")).unwrap().0).unwrap()
    };
    let replaced = FaultKind::Replaced { by: Known::HeadFile };
    for (name, line, prev, fault_line, kind) in [
        ("of another chain", 3, RecordHash::of(b"x"), 3, FaultKind::NotTheSuccessor),
        ("in the middle", 3, heads[1].hash, 4, FaultKind::NotTheSuccessor),
        ("at the end", 5, heads[3].hash, 5, replaced),
        ("at the beginning", 1, RecordHash::of(b"x"), 1, FaultKind::NotTheSuccessor),
    ] {
        let mut lines = lines.clone();
        lines[line - 1] = forged(prev, line as u64);
        node.put(CURRENT, &lines);
        let faults = node.verify(&[]).faults;
        assert_eq!((faults[0].at.line, &faults[0].kind), (fault_line, &kind), "{name}: {faults:?}");
    }
    // The last one stays a fault when others follow.
    let mut lines = lines;
    lines[4] = forged(heads[3].hash, 5);
    node.put(CURRENT, &lines);
    node.append(6..=7);
    assert_eq!(node.said(), ["portcullis: the ledger: record 5 is not the one that was written"]);
    let faults = node.verify(&[]).faults;
    assert_eq!((faults[0].at.line, &faults[0].kind), (6, &FaultKind::NotTheSuccessor));
}

#[test]
fn a_cut_end_is_known_from_the_head_file_and_from_heads_elsewhere() {
    let node = Node::new(1 << 20);
    let heads = node.append(1..=5);
    let head_of_three = {
        let other = Node::new(1 << 20);
        other.put(CURRENT, &node.lines(CURRENT)[..3]);
        fs::write(other.path("head"), "").unwrap();
        other
    };
    // Without the file, only a head from elsewhere tells.
    assert!(head_of_three.verify(&heads[..3]).is_whole());
    let found = head_of_three.verify(&heads);
    assert_eq!(found.heads_confirmed, 3);
    assert_eq!(found.faults[0].kind, FaultKind::Cut { ends: 3, known: 5, by: Known::Given });
    assert_eq!(found.faults[0].at.line, 4);
    let told = found.faults[0].to_string();
    assert!(told.contains("ends at record 3") && told.contains("record 5"), "{told}");
    // Another chain of the same length.
    let other = Node::new(1 << 20);
    other.append(11..=15);
    let found = other.verify(&heads[2..]);
    assert_eq!(found.faults[0].kind, FaultKind::Replaced { by: Known::Given });
    assert_eq!((found.faults.len(), found.faults[0].at.line), (3, 3));
    // The file itself may be damaged anywhere; then it says nothing, and is written anew.
    let whole = fs::read(node.path("head")).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(node.path("head"), bytes).unwrap();
        assert_eq!(node.verify(&[]).faults[0].kind, FaultKind::HeadDamaged, "byte {at}");
    }
    node.append(6..=6);
    node.whole();
}

#[test]
fn a_cut_end_stays_known_when_others_are_appended() {
    let node = Node::new(1 << 20);
    node.append(1..=5);
    node.put(CURRENT, &node.lines(CURRENT)[..2]);
    assert_eq!(node.append(6..=6)[0].seq, 7);
    assert_eq!(node.said(), ["portcullis: the ledger: records 3 to 5 are missing at its end"]);
    let faults = node.verify(&[]).faults;
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].at.line, &faults[0].kind), (3, &FaultKind::Missing { from: 3, to: 5 }));
}

#[test]
fn all_files_together_are_bounded_and_one_chain() {
    let node = Node::of_events_per_file(5);
    let heads = node.append(1..=100);
    let files = node.files();
    assert_eq!(files.len(), 4);
    let total: u64 = files.iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!(total <= node.ledger.max_bytes, "{total} of {}", node.ledger.max_bytes);
    let found = node.verify(&heads);
    assert!(found.is_whole(), "{:?}", found.faults);
    assert_eq!((found.files, found.first, found.last), (4, Some(81), heads.last().copied()));
    assert_eq!(found.heads_confirmed, 20);
    assert_eq!(node.ids(), numbers(81..=100));
    assert!(files[0].ends_with("events-00000000000000000081.jsonl"), "{files:?}");

    // Whatever is gone is missed, where the next record stands.
    for (gone, file, kind) in [
        (0, 1, FaultKind::Missing { from: 81, to: 85 }),
        (1, 2, FaultKind::Missing { from: 86, to: 90 }),
        (2, 3, FaultKind::Missing { from: 91, to: 95 }),
        (3, 3, FaultKind::Cut { ends: 95, known: 100, by: Known::HeadFile }),
    ] {
        let kept = fs::read(&files[gone]).unwrap();
        fs::remove_file(&files[gone]).unwrap();
        let faults = node.verify(&[]).faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].kind, kind);
        if gone < 3 {
            assert_eq!((&faults[0].at.file, faults[0].at.line), (&files[file], 1));
        }
        fs::write(&files[gone], kept).unwrap();
    }
    node.whole();
}

#[test]
fn a_writer_that_dies_in_a_rotation_leaves_it_to_the_next() {
    // Before the file that holds the newest record was followed by another one.
    let node = Node::of_events_per_file(5);
    node.append(1..=28);
    let moved = folder::path_after(node.folder.path(), &older(&node), Some(26));
    fs::rename(node.path(CURRENT), &moved).unwrap();
    assert_eq!(node.whole().last.unwrap().seq, 28);
    assert_eq!(node.ledger.judged_now(Timestamp::UNIX_EPOCH), time("1970-01-02T00:00:00Z"));
    node.append(29..=32);
    assert_eq!(node.whole().last.unwrap().seq, 32);
    let total: u64 = node.files().iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!(total <= node.ledger.max_bytes, "{total}");

    // After the other one was made, and with a line torn on either side.
    for torn in ["", "{\"torn"] {
        let node = Node::of_events_per_file(5);
        node.append(1..=5);
        fs::rename(node.path(CURRENT), node.path("events-00000000000000000001.jsonl")).unwrap();
        node.extend("events-00000000000000000001.jsonl", torn.as_bytes());
        node.extend(CURRENT, torn.repeat(2).as_bytes());
        node.append(6..=7);
        assert_eq!(node.whole().closed.len(), 2 * usize::from(!torn.is_empty()));
        assert_eq!(node.ids(), numbers(1..=7));
    }

    // Before an old file was deleted, though the head says that it is.
    let node = Node::of_events_per_file(5);
    node.append(1..=20);
    let oldest = node.files()[0].clone();
    let kept = fs::read(&oldest).unwrap();
    node.append(21..=21);
    assert!(!oldest.exists());
    fs::write(&oldest, kept).unwrap();
    assert_eq!(node.whole().first, Some(1));
    node.append(22..=30);
    assert_eq!(node.whole().first, Some(11));
}

fn older(node: &Node) -> Vec<Older> {
    folder::older(node.folder.path()).unwrap()
}

#[test]
fn a_torn_line_before_a_rotation_is_closed_in_the_next_file() {
    let node = Node::of_events_per_file(5);
    node.append(1..=5);
    node.extend(CURRENT, b"{\"seq\":6,\"pr");
    node.append(6..=6);
    assert_eq!(node.files().len(), 2);
    let found = node.whole();
    assert_eq!(found.closed[0].at.file, node.files()[0]);
    assert_eq!(node.ids(), numbers(1..=6));
}

#[test]
fn a_lower_limit_holds_from_the_next_file_on() {
    let node = Node::new(1 << 20);
    node.append(1..=100);
    let smaller = Ledger::new(node.folder.path().to_owned(), 16 << 10);
    for id in 101..=110 {
        smaller.append(&event(&id.to_string())).unwrap();
    }
    let total: u64 = node.files().iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!(total <= 16 << 10, "{total}");
    node.whole();
    assert_eq!(node.ids().last().unwrap(), "110");
}

#[test]
fn an_event_that_is_too_long_is_refused_and_nothing_is_left_of_it() {
    let node = Node::new(1 << 20);
    node.append(1..=1);
    let mut long = event("2");
    long.message = "x".repeat(256 << 10);
    let error = node.ledger.append(&long).unwrap_err();
    assert!(matches!(error, LedgerError::TooLong { .. }), "{error}");
    long.message = "x".repeat(255 << 10);
    node.ledger.append(&long).unwrap();
    node.append(3..=3);
    assert_eq!(node.whole().records, 3);
    assert_eq!(node.ids(), numbers(1..=3));
}

#[test]
fn events_from_before_the_chain_are_kept_and_counted() {
    let old = |ids: std::ops::RangeInclusive<u32>| {
        let line = |id: u32| serde_json::to_string(&event(&id.to_string())).unwrap();
        ids.map(line).collect::<Vec<_>>()
    };
    let node = Node::new(1 << 20);
    node.put("events.1.jsonl", &old(1..=3));
    node.put(CURRENT, &[old(4..=6), vec!["torn by a killed writer".into()]].concat());
    assert_eq!(node.ids(), numbers(1..=6));
    assert_eq!(node.whole().before_the_chain, 7);
    let heads = node.append(7..=9);
    assert_eq!(heads[0].seq, 1);
    let found = node.verify(&heads);
    assert!(found.is_whole(), "{:?}", found.faults);
    assert_eq!((found.before_the_chain, found.records, found.files), (7, 3, 3));
    assert_eq!(node.ids(), numbers(1..=9));
    assert!(node.said().is_empty());
    // A program of the version before that still runs beside ours.
    node.extend(CURRENT, format!("{}\n", old(10..=10)[0]).as_bytes());
    node.append(11..=11);
    assert_eq!(node.ids(), numbers(1..=11));
    assert_eq!(node.whole().closed.len(), 1);
    // They go first.
    let small = Node::of_events_per_file(5);
    small.put(CURRENT, &old(1..=3));
    small.append(4..=40);
    assert_eq!(small.whole().before_the_chain, 0);
}

#[test]
fn a_clock_that_is_set_back_is_an_event_and_judged_for_a_day_at_most() {
    let node = Node::new(1 << 20);
    let at = |id: &str, at: &str| node.ledger.append(&event_at(id, time(at))).unwrap();
    let judged = |clock: &str| node.ledger.judged_now(time(clock)).to_string();
    assert_eq!(judged("2026-11-24T12:00:00Z"), "2026-11-24T12:00:00Z");
    at("1", "2026-11-24T12:00:00Z");
    // Records come out of order by some seconds.
    at("2", "2026-11-24T11:59:30Z");
    assert!(node.said().is_empty());
    for (clock, wanted) in [
        ("2026-11-24T11:59:00Z", "2026-11-24T11:59:00Z"),
        ("2026-11-24T11:58:59Z", "2026-11-24T12:00:00Z"),
        ("2026-11-23T12:00:00Z", "2026-11-24T12:00:00Z"),
        ("2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z"),
        ("2026-11-25T12:00:00Z", "2026-11-25T12:00:00Z"),
    ] {
        assert_eq!(judged(clock), wanted, "{clock}");
    }
    at("3", "2026-11-20T12:00:00Z");
    at("4", "2026-11-20T12:01:00Z");
    let said =
        "portcullis: the clock was set back from 2026-11-24T12:00:00Z to 2026-11-20T12:00:00Z";
    assert_eq!(node.said(), [said], "once");
    // It is known from the last record alone, and stays so.
    assert_eq!(judged("2026-11-24T11:00:00Z"), "2026-11-24T12:00:00Z");
    at("5", "2026-11-24T12:00:01Z");
    assert_eq!(judged("2026-11-24T12:00:02Z"), "2026-11-24T12:00:02Z");
    at("6", "2026-11-24T10:00:00Z");
    assert_eq!(node.said().len(), 2, "a second time is a second event");
    node.whole();
}

#[test]
fn one_bad_clock_does_not_stay() {
    let node = Node::new(1 << 20);
    let at = |id: &str, at: &str| node.ledger.append(&event_at(id, time(at))).unwrap();
    at("1", "2026-11-24T12:00:00Z");
    at("2", "2027-11-24T12:00:00Z");
    let judged = |clock: &str| node.ledger.judged_now(time(clock)).to_string();
    assert_eq!(judged("2026-11-24T12:01:00Z"), "2026-11-25T12:01:00Z");
    at("3", "2026-11-24T12:01:00Z");
    assert_eq!(node.said().len(), 1);
    assert_eq!(judged("2026-11-24T12:02:00Z"), "2026-11-25T12:00:00Z");
    assert_eq!(judged("2026-11-25T12:00:00Z"), "2026-11-25T12:00:00Z");
    at("4", "2026-11-25T12:02:00Z");
    assert_eq!(judged("2026-11-25T12:02:01Z"), "2026-11-25T12:02:01Z");
    assert_eq!(node.said().len(), 1);
    // At the ends of time nothing overflows.
    for bad in [Timestamp::MIN, Timestamp::MAX, Timestamp::MIN] {
        node.ledger.append(&event_at("x", bad)).unwrap();
        node.ledger.judged_now(Timestamp::MAX);
        node.ledger.judged_now(Timestamp::MIN);
    }
    node.whole();
}

#[test]
fn a_follower_sees_what_comes_across_files() {
    let node = Node::of_events_per_file(3);
    node.append(1..=2);
    let mut followed = node.ledger.follow().unwrap();
    let mut seen = |wanted: std::ops::RangeInclusive<u32>| {
        assert_eq!(ids(&node.ledger.since(&mut followed).unwrap()), numbers(wanted));
    };
    #[expect(clippy::reversed_empty_ranges, reason = "nothing is wanted")]
    seen(1..=0);
    node.append(3..=3);
    seen(3..=3);
    node.append(4..=6);
    seen(4..=6);
    // Several files came meanwhile, and then more than are kept: the rest is gone.
    node.append(7..=15);
    seen(7..=15);
    node.append(16..=40);
    let kept: u32 = node.ids()[0].parse().unwrap();
    assert!(kept > 17);
    seen(kept..=40);
    // A line in parts, and a torn one that is closed.
    node.extend(CURRENT, b"{\"seq\"");
    #[expect(clippy::reversed_empty_ranges, reason = "nothing is wanted")]
    seen(1..=0);
    node.append(41..=41);
    seen(41..=41);
}

#[test]
fn a_follower_sees_a_record_that_lost_its_newline_before_its_file_was_moved_aside() {
    let node = Node::of_events_per_file(3);
    node.append(1..=2);
    let mut followed = node.ledger.follow().unwrap();
    node.append(3..=3);
    let file = OpenOptions::new().write(true).open(node.path(CURRENT)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert!(node.ledger.since(&mut followed).unwrap().events.is_empty());
    assert_eq!(node.verify(&[]).faults[0].kind, FaultKind::Torn);
    node.append(4..=4);
    assert_eq!(node.files().len(), 2);
    assert_eq!(ids(&node.ledger.since(&mut followed).unwrap()), numbers(3..=4));
    node.whole();
}

#[test]
fn a_follower_of_nothing_sees_the_first_event() {
    let node = Node::new(1 << 20);
    let mut followed = node.ledger.follow().unwrap();
    assert!(node.ledger.since(&mut followed).unwrap().events.is_empty());
    node.append(1..=2);
    assert_eq!(ids(&node.ledger.since(&mut followed).unwrap()), numbers(1..=2));
}

/// Reads on, and says the ids of what came.
fn next_ids(node: &Node, followed: &mut Followed) -> Vec<String> {
    std::iter::from_fn(|| node.ledger.next(followed).unwrap()).map(|r| r.event.id).collect()
}

#[test]
fn following_goes_on_where_it_stopped() {
    let node = Node::of_events_per_file(3);
    let heads = node.append(1..=8);
    for (at, head) in heads.iter().enumerate() {
        let (mut followed, resumed) = node.ledger.follow_from(&Trail::from(*head)).unwrap();
        assert_eq!(resumed, Resumed::Behind, "{at}");
        let wanted = u32::try_from(at).unwrap() + 2..=8;
        assert_eq!(next_ids(&node, &mut followed), numbers(wanted));
        assert_eq!((followed.last(), followed.missed()), (Some(heads[7]), 0));
    }
    let (mut followed, _) = node.ledger.follow_from(&heads[7].into()).unwrap();
    node.append(9..=10);
    assert_eq!(next_ids(&node, &mut followed), numbers(9..=10));
    // What is not kept any more was missed.
    node.append(11..=40);
    let kept: u64 = node.ids()[0].parse().unwrap();
    let first = u32::try_from(kept).unwrap();
    let (mut followed, resumed) = node.ledger.follow_from(&heads[3].into()).unwrap();
    assert_eq!(resumed, Resumed::Later);
    assert_eq!(next_ids(&node, &mut followed), numbers(first..=40));
    assert_eq!(followed.missed(), kept - heads[3].seq - 1);
    assert_eq!(followed.damaged(), 0);
}

#[test]
fn following_of_another_ledger_begins_at_its_beginning() {
    let node = Node::of_events_per_file(3);
    let heads = node.append(1..=5);
    let other = Node::of_events_per_file(3);
    other.append(6..=7);
    // A number that it has, one that it has not, and one of nothing.
    for (node, head) in [(&other, heads[1]), (&other, heads[4])] {
        let (mut followed, resumed) = node.ledger.follow_from(&head.into()).unwrap();
        assert_eq!(resumed, Resumed::Another);
        assert_eq!(next_ids(node, &mut followed), numbers(6..=7));
        assert_eq!(followed.missed(), 0);
    }
    let none = Node::new(1 << 20);
    let (mut followed, resumed) = none.ledger.follow_from(&heads[0].into()).unwrap();
    assert_eq!(resumed, Resumed::Another);
    none.append(1..=1);
    assert_eq!(next_ids(&none, &mut followed), numbers(1..=1));
}

/// The files of a ledger at some time, to which a loss of power brings it back.
struct OnDisk(Vec<(PathBuf, Vec<u8>)>);

impl OnDisk {
    fn of(node: &Node) -> Self {
        let files = fs::read_dir(node.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        Self(files.map(|path| (path.clone(), fs::read(path).unwrap())).collect())
    }

    /// Of what was written later, some bytes of the first line are there.
    fn bring_back(&self, node: &Node, torn: &[u8]) {
        for entry in fs::read_dir(node.folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).unwrap();
        }
        if !torn.is_empty() {
            node.extend(CURRENT, torn);
        }
    }
}

/// All that is there is read, and this is what was read last.
fn trail_of(node: &Node) -> Trail {
    let mut followed = Followed::default();
    while node.ledger.next(&mut followed).unwrap().is_some() {}
    followed.trail().clone()
}

#[test]
fn a_trail_has_a_record_not_far_before_what_may_be_lost() {
    let head = |seq: u64| Head { seq, hash: RecordHash::of(&seq.to_le_bytes()) };
    let mut trail = Trail::default();
    let read = 40_000;
    for seq in 1..=read {
        trail.push(head(seq));
        assert!(trail.before().count() < 28, "{trail:?}");
        if seq < 300 || seq > read - 8 {
            assert_eq!(trail.last(), Some(head(seq)));
            for lost in 1..=(seq / 4).min(8192) {
                let left = trail.before().find(|known| known.seq <= seq - lost).unwrap();
                assert!(seq - left.seq < 4 * lost, "{lost} of {seq}: {}", left.seq);
            }
        }
    }
    assert_eq!(Trail::new(head(read), trail.before()), trail);
    // A ledger that begins anew has none of these.
    trail.push(head(3));
    assert_eq!(trail, head(3).into());
}

#[test]
fn records_that_are_lost_with_the_power_are_neither_waited_for_nor_passed_over() {
    // In one file, and in several.
    for (per_file, all) in [(100, &[1, 2, 16, 17][..]), (6, &[5, 9])] {
        for &read in all {
            for kept in 0..read {
                for (torn, more) in [(0, 0), (0, 1), (40, 3), (usize::MAX, 3), (0, 9)] {
                    let node = Node::of_events_per_file(per_file);
                    node.append(1..=kept);
                    let on_disk = OnDisk::of(&node);
                    node.append(kept + 1..=read);
                    let lines = node.ledger.read().unwrap().events.len();
                    assert_eq!(lines, read as usize, "nothing was deleted");
                    let trail = trail_of(&node);
                    // The line that was being written, up to some byte, or to its last one.
                    let last = node.files().pop().unwrap();
                    let line =
                        fs::read(last).unwrap().split(|b| *b == b'\n').next().unwrap().to_vec();
                    on_disk.bring_back(&node, &line[..torn.min(line.len() - 1)]);
                    let new = 101..=100 + more;
                    node.append(new.clone());

                    let (mut followed, resumed) = node.ledger.follow_from(&trail).unwrap();
                    let mut told = next_ids(&node, &mut followed);
                    node.append(201..=202);
                    told.extend(next_ids(&node, &mut followed));
                    told.retain(|id| id.len() < 10);
                    let case = format!("{kept} of {read}, {torn}, {more}: {resumed:?}, {told:?}");
                    let new = [numbers(new), numbers(201..=202)].concat();
                    assert!(told.ends_with(&new), "{case}");
                    let again = told.len() - new.len();
                    // What is told again is the end of what is left, and not much.
                    let lost = (read - kept) as usize;
                    assert!(again <= (3 * lost).min(kept as usize), "{case}");
                    let first = kept - u32::try_from(again).unwrap() + 1;
                    assert_eq!(told[..again], numbers(first..=kept), "{case}");
                    let known = trail.before().any(|head| head.seq <= kept.into());
                    let wanted = if known { Resumed::Earlier } else { Resumed::Another };
                    assert_eq!((resumed, followed.missed()), (wanted, 0), "{case}");
                    assert_eq!(followed.damaged(), 0, "{case}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_told_again_if_the_ledger_remembers_what_was_lost() {
    for per_file in [100, 6] {
        for kept in [0, 1, 6, 7, 8] {
            for more in [0, 1, 9] {
                let node = Node::of_events_per_file(per_file);
                node.append(1..=kept);
                let on_disk = OnDisk::of(&node);
                node.append(kept + 1..=9);
                let trail = trail_of(&node);
                let head = fs::read(node.path("head")).unwrap();
                on_disk.bring_back(&node, b"");
                fs::write(node.path("head"), head).unwrap();
                // By the last record alone, too.
                for trail in [trail.clone(), trail.last().unwrap().into()] {
                    let (mut followed, resumed) = node.ledger.follow_from(&trail).unwrap();
                    assert_eq!(resumed, Resumed::Behind, "{kept} of 9");
                    assert_eq!(next_ids(&node, &mut followed), Vec::<String>::new());
                }
                let (mut waiting, _) = node.ledger.follow_from(&trail).unwrap();
                node.append(101..=100 + more);
                let (mut followed, resumed) = node.ledger.follow_from(&trail).unwrap();
                for followed in [&mut waiting, &mut followed] {
                    let mut told = next_ids(&node, followed);
                    told.retain(|id| id.len() < 10);
                    assert_eq!(told, numbers(101..=100 + more), "{kept} of 9, {more}: {resumed:?}");
                    assert_eq!(followed.missed(), 0);
                }
            }
        }
    }
}

#[test]
fn a_follower_tells_what_it_missed_and_what_is_damaged() {
    let node = Node::of_events_per_file(3);
    node.append(1..=2);
    let mut followed = node.ledger.follow().unwrap();
    node.append(3..=40);
    let seen = next_ids(&node, &mut followed);
    // The rest of the file that is held open is read although it is deleted.
    assert_eq!(seen, [numbers(3..=3), node.ids()].concat());
    assert_eq!(followed.missed(), 38 - seen.len() as u64);
    assert!(followed.missed() > 0);
    // A torn line that is closed is no damage, another line is.
    let missed = followed.missed();
    node.extend(CURRENT, b"{\"seq\"");
    node.append(41..=41);
    assert!(next_ids(&node, &mut followed).ends_with(&numbers(41..=41)));
    assert_eq!((followed.missed(), followed.damaged()), (missed, 0));
    node.extend(CURRENT, b"{}\n");
    assert_eq!(next_ids(&node, &mut followed), Vec::<String>::new());
    assert_eq!((followed.missed(), followed.damaged()), (missed, 1));
    // A marker of what was torn before does not stand for another line.
    node.extend(CURRENT, b"{\"seq\"");
    let mut followed = node.ledger.follow().unwrap();
    node.append(42..=42);
    node.extend(CURRENT, b"{}\n");
    assert_eq!(next_ids(&node, &mut followed).last().unwrap(), "42");
    assert_eq!(followed.damaged(), 1);
}

#[test]
fn a_follower_goes_on_with_a_ledger_that_began_anew_or_was_cut() {
    let node = Node::new(1 << 20);
    node.append(1..=4);
    let mut followed = node.ledger.follow().unwrap();
    assert_eq!(followed.last().unwrap().seq, 4);
    for file in node.files() {
        fs::remove_file(file).unwrap();
    }
    fs::remove_file(node.path("head")).unwrap();
    node.append(5..=6);
    assert_eq!(next_ids(&node, &mut followed), numbers(5..=6));
    assert_eq!((followed.last().unwrap().seq, followed.missed()), (2, 0));
    let file = OpenOptions::new().write(true).open(node.path(CURRENT)).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(next_ids(&node, &mut followed), Vec::<String>::new());
    node.append(7..=7);
    // Behind a notice, which says that records are missing.
    assert_eq!(next_ids(&node, &mut followed).last().unwrap(), "7");
}

#[test]
fn a_filter_of_time_passes_over_old_files() {
    let node = Node::of_events_per_file(3);
    let day = |n: i64| time("2026-11-01T00:00:00Z") + jiff::SignedDuration::from_hours(24 * n);
    for n in 1..=9 {
        node.ledger.append(&event_at(&n.to_string(), day(n))).unwrap();
    }
    // A damaged line in each tells whether it was read.
    for (file, written) in node.files().iter().zip([3, 6, 9]) {
        let mut file = File::options().append(true).open(file).unwrap();
        file.write_all(b"damaged\n").unwrap();
        let seconds = u64::try_from(day(written).as_second()).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
    let since = |n: i64| {
        let mut records = node.ledger.records(Some(day(n))).unwrap();
        let ids: Vec<String> = records.by_ref().map(|e| e.unwrap().id).collect();
        (ids, records.damaged())
    };
    assert_eq!(since(1), (numbers(1..=9), 3));
    assert_eq!(since(5), (numbers(5..=9), 2));
    assert_eq!(since(9), (numbers(9..=9), 1));
    assert_eq!(since(99), (vec![], 1));
}

#[test]
fn a_lock_that_another_process_holds_is_an_error_until_that_is_killed() {
    let node = Node::new(1 << 20);
    node.append(1..=1);
    let mut holder = Command::new("flock")
        .arg("--no-fork")
        .arg(node.path(".lock"))
        .args(["sh", "-c", "echo held; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "held\n");
    assert!(matches!(node.ledger.append(&event("2")), Err(LedgerError::Locked { .. })));
    // Readers go on.
    assert_eq!(node.ids(), ["1"]);
    node.whole();
    holder.kill().unwrap();
    holder.wait().unwrap();
    node.append(3..=3);
    assert_eq!(node.ids(), ["1", "3"]);
}

#[test]
fn what_is_no_file_is_named_and_waited_for_by_nobody() {
    for name in [CURRENT, ".lock"] {
        for kind in ["fifo", "link", "folder", "socket"] {
            let node = Node::new(1 << 20);
            let path = node.path(name);
            match kind {
                "fifo" => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )
                .unwrap(),
                "link" => std::os::unix::fs::symlink(node.path("elsewhere"), &path).unwrap(),
                "folder" => fs::create_dir(&path).unwrap(),
                _ => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
            }
            let error = node.ledger.append(&event("1")).unwrap_err();
            assert!(
                matches!(&error, LedgerError::NotAFile { path: named } if *named == path),
                "{name} is a {kind}: {error}"
            );
            assert!(!node.path("elsewhere").exists());
            if name == CURRENT {
                assert!(node.ledger.read().is_err(), "{kind}");
                assert!(node.ledger.verify(&[]).is_err(), "{kind}");
            }
            let clock = time("2026-11-24T12:00:00Z");
            assert_eq!(node.ledger.judged_now(clock), clock);
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let node = Node::new(1 << 20);
    let blocked = node.path("file");
    fs::write(&blocked, "").unwrap();
    let error = Ledger::new(blocked.join("events"), 1 << 20).append(&event("1")).unwrap_err();
    assert!(error.to_string().contains("events"), "{error}");
}

#[test]
fn no_ledger_is_an_empty_one() {
    let node = Node::new(1 << 20);
    let none = Ledger::new(node.path("none"), 1 << 20);
    assert!(none.read().unwrap().events.is_empty());
    assert!(none.verify(&[]).unwrap().is_whole());
    let head = Head { seq: 3, hash: RecordHash::ZERO };
    let found = none.verify(&[head]).unwrap();
    assert_eq!(found.faults[0].kind, FaultKind::Cut { ends: 0, known: 3, by: Known::Given });
    assert!(!node.path("none").exists(), "reading makes nothing");
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let node = Node::new(1 << 20);
    node.append(1..=1);
    // A hole: a gigabyte of zeros that takes no room on the disk.
    let file = OpenOptions::new().write(true).open(node.path(CURRENT)).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(b"x", length + (1 << 30)).unwrap();
    let before = peak();
    let mut followed = Followed::default();
    assert_eq!(ids(&node.ledger.since(&mut followed).unwrap()), ["1"]);
    assert_eq!(node.ids(), ["1"]);
    assert_eq!(node.verify(&[]).faults[0].kind, FaultKind::Torn);
    let clock = time("2026-11-24T12:00:00Z");
    assert_eq!(node.ledger.judged_now(clock), clock);
    let last = node.append(2..=2)[0];
    assert_eq!(ids(&node.ledger.since(&mut followed).unwrap()), ["2"]);
    assert_eq!(node.verify(&[]).last, Some(last));
    let grown = peak() - before;
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Everything that reads, and then a writer: none may panic, and the writer's event is there.
fn survives(node: &Node) {
    let mut followed = Followed::default();
    node.ledger.since(&mut followed).unwrap();
    node.ledger.read().unwrap();
    node.ledger.verify(&[]).unwrap().faults.iter().for_each(|f| drop(f.to_string()));
    node.ledger.judged_now(time("2026-11-24T12:00:00Z"));
    let last = node.append(99..=99)[0];
    assert_eq!(node.ids().last().map(String::as_str), Some("99"));
    assert_eq!(node.ledger.verify(&[last]).unwrap().last, Some(last));
    assert_eq!(ids(&node.ledger.since(&mut followed).unwrap()).last().unwrap(), "99");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_can_be_read_and_appended_to(
        files in proptest::collection::vec((0..4_usize, proptest::collection::vec(any::<u8>(), 0..300)), 0..4),
    ) {
        let node = Node::new(1 << 20);
        let names =
            [CURRENT, "head", "events.1.jsonl", "events-00000000000000000007.jsonl"];
        for (name, bytes) in files {
            fs::write(node.path(names[name]), bytes).unwrap();
        }
        survives(&node);
    }

    #[test]
    fn a_ledger_cut_and_sewn_anyhow_can_be_read_and_appended_to(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..5),
        file in 0..3_usize,
    ) {
        let node = Node::of_events_per_file(3);
        node.append(1..=8);
        let path = &node.files()[file];
        let whole = fs::read(path).unwrap();
        let piece = |(a, b): &(prop::sample::Index, prop::sample::Index)| {
            let (a, b) = (a.index(whole.len()), b.index(whole.len()));
            whole[a.min(b)..a.max(b)].to_vec()
        };
        fs::write(path, cuts.iter().flat_map(piece).collect::<Vec<u8>>()).unwrap();
        survives(&node);
    }
}
