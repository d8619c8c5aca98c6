//! The node's journal: structured fields, priority by action, stable message ids.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use log::{Level, Record};
use portcullis_types::{Action, Event, EventKind};
use serde::Deserialize;
use systemd_journal_logger::JournalLog;

use crate::ledger::Head;
use crate::ledger::lines::Lines;

/// The identifier for `journalctl -t`.
pub const SYSLOG_IDENTIFIER: &str = "portcullis";
/// `MESSAGE_ID` of decisions; never changes.
pub const DECISION_MESSAGE_ID: &str = "6f1c3d0a52d84c0e9b7e4a1f0c5d2b31";
/// `MESSAGE_ID` of outcomes; never changes.
pub const OUTCOME_MESSAGE_ID: &str = "a94be0c8b1f34d5f8d27c6e3f5a01b47";

/// `MESSAGE_ID` of what the ledger says of itself and of what people say of events; never changes.
pub const NOTICE_MESSAGE_ID: &str = "3d1fa0c7b5e94e7c8a50c3b9e1d72f66";

/// `MESSAGE_ID` of containers that run and violate a policy now; never changes.
pub const VIOLATION_MESSAGE_ID: &str = "b7c2e95f0d6a4b1894f3a8d07e5c6120";

/// How long the journal may take; a stopped journald lets its socket fill and then blocks.
const BOUND: Duration = Duration::from_millis(200);

/// Why the journal did not take a record.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The socket is not there or refuses.
    #[error("the journal does not take records")]
    Send(#[source] io::Error),
    /// It did not answer in time.
    #[error("the journal did not take a record within {} ms", BOUND.as_millis())]
    Slow,
    /// No thread could be made for it.
    #[error("cannot start a thread for the journal")]
    Thread(#[source] io::Error),
}

/// Fields that name a record of the ledger: its folder, number and hash.
const LEDGER: &str = "PORTCULLIS_LEDGER";
const LEDGER_SEQ: &str = "PORTCULLIS_LEDGER_SEQ";
const LEDGER_HASH: &str = "PORTCULLIS_LEDGER_HASH";

/// More heads than a ledger of the usual size has records.
const MAX_HEADS: usize = 1 << 20;

/// Sends one event, with the ledger's folder and the event's record in it if it has one.
///
/// # Errors
/// [`JournalError`] if it was not taken.
pub(crate) fn send(event: &Event, record: Option<(&Path, Head)>) -> Result<(), JournalError> {
    let (done, answer) = mpsc::channel();
    let fields = fields(event, record);
    let (message, level) = (event.message.clone(), level(event.action));
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            // Who gave up waiting needs no answer.
            let _gone = done.send(send_fields(fields, &message, level));
        })
        .map_err(JournalError::Thread)?;
    match answer.recv_timeout(BOUND) {
        Ok(sent) => sent.map_err(JournalError::Send),
        Err(_) => Err(JournalError::Slow),
    }
}

fn send_fields(fields: Vec<(&'static str, String)>, message: &str, level: Level) -> io::Result<()> {
    let journal = JournalLog::empty()?
        .with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned())
        .with_extra_fields(fields);
    journal.journal_send(
        &Record::builder()
            .level(level)
            .target("portcullis")
            .args(format_args!("{message}"))
            .build(),
    )
}

/// The level whose journal priority is wanted: 3 (err), 4 (warning) and 6 (info).
fn level(action: Action) -> Level {
    match action {
        Action::Block => Level::Error,
        Action::Alarm => Level::Warn,
        Action::Allow => Level::Debug,
    }
}

fn fields(event: &Event, record: Option<(&Path, Head)>) -> Vec<(&'static str, String)> {
    let message_id = match event.kind {
        EventKind::Decision => DECISION_MESSAGE_ID,
        EventKind::Outcome => OUTCOME_MESSAGE_ID,
        EventKind::Notice | EventKind::Mark => NOTICE_MESSAGE_ID,
        EventKind::Violation => VIOLATION_MESSAGE_ID,
    };
    let words = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(" ");
    let optional = |text: Option<&dyn ToString>| text.map(ToString::to_string).unwrap_or_default();
    let of_record = |field: fn((&Path, Head)) -> String| record.map(field).unwrap_or_default();
    let all = [
        ("MESSAGE_ID", message_id.to_owned()),
        ("PORTCULLIS_EVENT", event.id.clone()),
        ("PORTCULLIS_KIND", event.kind.to_string()),
        ("PORTCULLIS_ACTION", event.action.to_string()),
        ("PORTCULLIS_ENGINE", event.request.engine.to_string()),
        ("PORTCULLIS_CONTAINER_ID", event.request.container_id.clone()),
        ("PORTCULLIS_NAMESPACE", event.request.namespace.clone()),
        ("PORTCULLIS_POD", event.request.pod.clone()),
        ("PORTCULLIS_CONTAINER", event.request.container.clone()),
        ("PORTCULLIS_IMAGE", event.image.to_string()),
        ("PORTCULLIS_CONFIG_DIGEST", optional(event.image.config.as_ref().map(|d| d as _))),
        ("PORTCULLIS_CHAIN_ID", optional(event.image.chain_id.as_ref().map(|d| d as _))),
        ("PORTCULLIS_IDENTITY", event.image.surety.to_string()),
        ("PORTCULLIS_POLICIES", event.policies.join(" ")),
        ("PORTCULLIS_POLICY_SET", event.policy_set.clone().unwrap_or_default()),
        ("PORTCULLIS_CAUSES", words(&mut event.causes.iter().map(ToString::to_string))),
        ("PORTCULLIS_WOULD_BLOCK", if event.would_block { "1" } else { "" }.to_owned()),
        ("PORTCULLIS_WHITELISTED", if event.whitelisted { "1" } else { "" }.to_owned()),
        ("PORTCULLIS_DECISION", event.decision.clone().unwrap_or_default()),
        (LEDGER, of_record(|(folder, _)| folder.display().to_string())),
        (LEDGER_SEQ, of_record(|(_, head)| head.seq.to_string())),
        (LEDGER_HASH, of_record(|(_, head)| head.hash.to_string())),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// What the journal knows of a ledger.
#[derive(Debug, Default)]
pub struct JournalHeads {
    /// Heads, by number; for [`crate::Ledger::verify`].
    pub heads: Vec<Head>,
    /// Lines that name no record of this ledger, or cannot be read.
    pub others: usize,
}

/// Reads what `journalctl -t portcullis -o json` prints: the heads of the ledger in `folder`.
///
/// Any process may write to the journal under our name; only records of root (`_UID=0`) count, a
/// field that journald itself writes.
///
/// # Errors
/// If reading fails. Lines that are something else are counted.
pub fn heads_from_journal(lines: impl BufRead, folder: &Path) -> io::Result<JournalHeads> {
    let folder = folder.display().to_string();
    let mut heads = BTreeSet::new();
    let mut others = 0;
    let mut lines = Lines::new(lines);
    while let Some(line) = lines.next()? {
        match head_of(line.bytes, &folder) {
            Some(head) if !line.is_too_long() => {
                heads.insert(head);
                if heads.len() > MAX_HEADS {
                    heads.pop_first();
                }
            }
            _ => others += 1,
        }
    }
    Ok(JournalHeads { heads: heads.into_iter().collect(), others })
}

fn head_of(line: &[u8], folder: &str) -> Option<Head> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "_UID")]
        uid: String,
        #[serde(rename = "PORTCULLIS_LEDGER")]
        ledger: String,
        #[serde(rename = "PORTCULLIS_LEDGER_SEQ")]
        seq: String,
        #[serde(rename = "PORTCULLIS_LEDGER_HASH")]
        hash: String,
    }
    let entry: Entry = serde_json::from_slice(line).ok()?;
    if entry.uid != "0" || entry.ledger != folder {
        return None;
    }
    Some(Head { seq: entry.seq.parse().ok()?, hash: entry.hash.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_types::{Engine, Identity, Request, Timestamp};
    use serde_json::{Map, Value};

    fn head(seq: u64) -> Head {
        Head { seq, hash: format!("{seq:064x}").parse().unwrap() }
    }

    /// What `journalctl -o json` prints of an event that has this record.
    fn entry(folder: &str, seq: u64) -> Map<String, Value> {
        let event: Event = serde_json::from_value(serde_json::json!({
            "id": "1", "time": Timestamp::UNIX_EPOCH, "kind": "decision", "action": "block",
            "message": "", "image": Identity::unknown("test"),
            "request": Request::new(Engine::Containerd, "node", "container"),
        }))
        .unwrap();
        let fields = fields(&event, Some((Path::new(folder), head(seq))));
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        fields.chain([("_UID".to_owned(), "0".into())]).collect()
    }

    #[test]
    fn the_heads_of_one_ledger_are_read_from_the_journal() {
        let with = |name: &str, value: Value| {
            let mut entry = entry("/events", 9);
            entry.insert(name.to_owned(), value);
            serde_json::to_string(&entry).unwrap()
        };
        let without = |name: &str| {
            let mut entry = entry("/events", 9);
            entry.remove(name);
            serde_json::to_string(&entry).unwrap()
        };
        let ours = |seq| serde_json::to_string(&entry("/events", seq)).unwrap();
        let others = [
            serde_json::to_string(&entry("/other", 4)).unwrap(),
            with("_UID", "1000".into()),
            with("_UID", 0.into()),
            without("_UID"),
            without(LEDGER),
            without(LEDGER_SEQ),
            with(LEDGER_SEQ, "-1".into()),
            with(LEDGER_SEQ, serde_json::json!(["1", "2"])),
            with(LEDGER_HASH, Value::Null),
            with(LEDGER_HASH, "F".repeat(64).into()),
            "-- No entries --".into(),
            String::new(),
            "[".repeat(100_000),
            "x".repeat(3 << 20),
        ];
        let mut lines = vec![ours(7), ours(3)];
        lines.extend(others.iter().cloned());
        lines.push(ours(5));
        let text = lines.join("\n");
        let read = heads_from_journal(text.as_bytes(), Path::new("/events")).unwrap();
        assert_eq!(read.heads, [head(3), head(5), head(7)]);
        assert_eq!(read.others, others.len());
    }

    #[test]
    fn no_record_means_no_fields_of_one() {
        let mut event = entry("/events", 1);
        event.retain(|name, _| name.starts_with(LEDGER));
        assert_eq!(event.len(), 3);
        let event: Event = serde_json::from_value(serde_json::json!({
            "id": "1", "time": Timestamp::UNIX_EPOCH, "kind": "notice", "action": "alarm",
            "message": "", "image": Identity::unknown("test"),
            "request": Request::new(Engine::Containerd, "node", "container"),
        }))
        .unwrap();
        let fields = fields(&event, None);
        assert!(!fields.iter().any(|(name, _)| name.starts_with(LEDGER)), "{fields:?}");
        assert!(fields.contains(&("MESSAGE_ID", NOTICE_MESSAGE_ID.to_owned())));
    }
}
