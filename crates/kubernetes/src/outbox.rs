//! What the node has yet to tell the cluster. It is saved with the place in the ledger up to which it
//! was filled, so that nothing is told twice or forgotten over a restart.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_settings::recall;
use portcullis_types::{Event, Status, Timestamp};
use serde::{Deserialize, Serialize};

use crate::events::Told;
use crate::pace::Waits;
use crate::report::{Marked, Row, Wanted};

/// Most Events that are remembered, so that what comes again is counted.
const MAX_TOLD: usize = 2000;
/// Most results that wait in all namespaces together.
const MAX_ROWS: usize = 5000;
/// Most images of which it is remembered what was told last.
const MAX_KNOWN: usize = 20_000;
/// What comes again is told again after so long, in seconds.
const TOLD_AGAIN_AFTER: i64 = 600;
/// What did not come again is forgotten after so long, in seconds; the API server forgets an Event
/// after an hour by itself.
const FORGOTTEN_AFTER: i64 = 3600;
/// An image's result is confirmed so often, in seconds.
const CONFIRMED_AFTER: i64 = 86_400;
/// What was refused is tried again after so long, at most.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// Most bytes of the file.
const MAX_FILE: u64 = 32 << 20;

/// What waits, and where the ledger was read to.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outbox {
    /// Behind the last event that was taken in.
    #[serde(default)]
    pub(crate) position: Option<String>,
    /// Events on pods, by their keys.
    #[serde(default)]
    told: BTreeMap<String, Told>,
    /// What reports are to say, by namespace.
    #[serde(default)]
    reports: BTreeMap<String, Wanted>,
    /// What was thrown away for lack of room, or was gone from the ledger.
    #[serde(default)]
    pub(crate) lost: u64,
    /// What was told of an image in a namespace, and when.
    #[serde(skip)]
    known: BTreeMap<(String, String), (String, i64)>,
    /// What was refused lately, and until when it is not tried again.
    #[serde(skip)]
    rests: BTreeMap<String, (Instant, Waits)>,
}

impl Outbox {
    /// What was saved there; empty if nothing was, or nothing that can be understood.
    ///
    /// # Errors
    /// The file is there and cannot be read now.
    pub(crate) fn open(file: &Path) -> io::Result<Self> {
        let read = match recall(file, MAX_FILE) {
            Ok(None) => return Ok(Self::default()),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(read.unwrap_or_else(|why| {
            log::warn!("{} is begun anew: {why}", file.display());
            Self::default()
        }))
    }

    /// Takes an event in.
    pub(crate) fn take_in(&mut self, event: &Event) {
        if let Some((key, told)) = Told::of(event) {
            match self.told.get_mut(&key) {
                Some(before) => before.again(told),
                None => {
                    self.told.insert(key, told);
                }
            }
        }
        if let Some((namespace, row)) = Row::of(event)
            && !self.is_known(&namespace, &row)
        {
            self.reports.entry(namespace).or_default().rows.insert(row.key.clone(), row);
        }
        self.bound();
    }

    /// Takes in what somebody said of a decision.
    pub(crate) fn take_mark(&mut self, mark: &Event, decision: &Event) {
        let Some((namespace, marked)) = Marked::of(mark, decision) else { return };
        self.open_again(&namespace, &marked);
        let report = self.reports.entry(namespace).or_default();
        report.marked.insert(decision.id.clone(), marked);
        self.bound();
    }

    /// What was handled is told again when it comes again, though it was told before.
    fn open_again(&mut self, namespace: &str, marked: &Marked) {
        if marked.status == Status::Handled {
            self.known.remove(&(namespace.to_owned(), marked.key.clone()));
        }
    }

    fn is_known(&self, namespace: &str, row: &Row) -> bool {
        let known = self.known.get(&(namespace.to_owned(), row.key.clone()));
        known.is_some_and(|(says, at)| {
            *says == row.says() && row.time.as_second() - at < CONFIRMED_AFTER
        })
    }

    /// Forgets what was told and did not come again.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        let forgotten = now.as_second() - FORGOTTEN_AFTER;
        self.told.retain(|_, told| told.count > told.sent || told.last.as_second() > forgotten);
        let at = Instant::now();
        self.rests.retain(|_, (until, _)| at < *until + LONGEST_REST);
    }

    fn bound(&mut self) {
        while self.told.len() > MAX_TOLD {
            // What was told goes first, then the oldest that blocks nothing.
            let order = |told: &Told| (told.count > told.sent, told.is_block, told.last);
            let Some(key) =
                self.told.iter().min_by_key(|(_, told)| order(told)).map(|(key, _)| key.clone())
            else {
                break;
            };
            if self.told.remove(&key).is_some_and(|told| told.count > told.sent) {
                self.lost += 1;
            }
        }
        let rows = |reports: &BTreeMap<String, Wanted>| -> usize {
            reports.values().map(Wanted::len).sum()
        };
        while rows(&self.reports) > MAX_ROWS {
            self.reports.retain(|_, wanted| !wanted.is_empty());
            let many = self.reports.values_mut().max_by_key(|wanted| wanted.len());
            let Some(wanted) = many else { break };
            let oldest = wanted.rows.values().min_by_key(|row| row.time).map(|row| row.key.clone());
            match oldest {
                Some(key) => drop(wanted.rows.remove(&key)),
                None => wanted.marked.clear(),
            }
            self.lost += 1;
        }
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
    }

    /// The Event that is to be told next: what blocks first, then the oldest.
    pub(crate) fn next_event(&self, now: Timestamp) -> Option<(String, Told)> {
        let due = |told: &Told| match told.sent_at {
            None => true,
            Some(at) => {
                // A clock that was set back holds nothing up.
                let passed = now.as_second() - at.as_second();
                told.count > told.sent && !(0..TOLD_AGAIN_AFTER).contains(&passed)
            }
        };
        let order = |told: &Told| (!told.is_block, told.first);
        let ready = self.told.iter().filter(|(key, told)| due(told) && !self.rests(key));
        let next = ready.min_by_key(|(_, told)| order(told));
        next.map(|(key, told)| (key.clone(), told.clone()))
    }

    /// The API server knows of so many.
    pub(crate) fn told(&mut self, key: &str, count: i32, now: Timestamp) {
        self.rests.remove(key);
        if let Some(told) = self.told.get_mut(key) {
            told.sent = count;
            told.sent_at = Some(now);
        }
    }

    /// The API server will never take it.
    pub(crate) fn give_up(&mut self, key: &str) {
        self.told.remove(key);
        self.lost += 1;
    }

    /// A namespace whose report is to be written.
    pub(crate) fn next_report(&self) -> Option<(String, Wanted)> {
        let mut all = self.reports.iter();
        let next = all.find(|(namespace, wanted)| !wanted.is_empty() && !self.rests(namespace));
        next.map(|(namespace, wanted)| (namespace.clone(), wanted.clone()))
    }

    /// An Event, or the report of a namespace, is not taken now, and is tried again after a while that
    /// grows. It holds up no other.
    pub(crate) fn rest(&mut self, what: &str) {
        let new = || (Instant::now(), Waits::up_to(LONGEST_REST));
        let (until, waits) = self.rests.entry(what.to_owned()).or_insert_with(new);
        *until = Instant::now() + waits.after_failure();
    }

    fn rests(&self, what: &str) -> bool {
        self.rests.get(what).is_some_and(|(until, _)| *until > Instant::now())
    }

    /// A report says all of this; what has come since remains.
    pub(crate) fn reported(&mut self, namespace: &str, done: &Wanted) {
        self.rests.remove(namespace);
        let Some(wanted) = self.reports.get_mut(namespace) else { return };
        wanted.rows.retain(|key, row| done.rows.get(key) != Some(row));
        wanted.marked.retain(|id, marked| done.marked.get(id) != Some(marked));
        if wanted.is_empty() {
            self.reports.remove(namespace);
        }
        for row in done.rows.values() {
            let told = (row.says(), row.time.as_second());
            self.known.insert((namespace.to_owned(), row.key.clone()), told);
        }
        done.marked.values().for_each(|marked| self.open_again(namespace, marked));
    }

    /// How much waits: Events, and results of reports.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let events = self.told.values().filter(|told| told.count > told.sent).count();
        (events, self.reports.values().map(Wanted::len).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_types::EventKind;
    use serde_json::json;

    fn event(pod: usize, action: &str, second: i64) -> Event {
        let digest = format!("sha256:{}", "a".repeat(64));
        serde_json::from_value(json!({
            "id": format!("01{pod}-{second}"), "time": Timestamp::from_second(second).unwrap(),
            "kind": "decision", "action": action,
            "message": "portcullis: because; see: portcullis explain x",
            "image": { "surety": "bound", "chainId": digest, "config": digest },
            "request": {
                "engine": "containerd", "node": "n1", "containerId": "c", "kind": "container",
                "namespace": "shop", "pod": format!("web-{pod}"), "podUid": "u", "container": "web",
            },
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_restart_neither_forgets_nor_repeats() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent/cluster.json");
        let mut outbox = Outbox::open(&file).unwrap();
        outbox.take_in(&event(1, "alarm", 1000));
        outbox.take_in(&event(2, "block", 1001));
        outbox.position = Some("here".to_owned());
        // What blocks is told first.
        let (key, told) = outbox.next_event(at(1002)).unwrap();
        assert_eq!((told.pod.as_str(), told.count), ("web-2", 1));
        outbox.told(&key, 1, at(1002));
        portcullis_settings::keep(&file, &serde_json::to_vec(&outbox).unwrap()).unwrap();

        let mut outbox = Outbox::open(&file).unwrap();
        assert_eq!(outbox.position.as_deref(), Some("here"));
        let (key, told) = outbox.next_event(at(1003)).unwrap();
        assert_eq!(told.pod, "web-1");
        outbox.told(&key, 1, at(1003));
        assert!(outbox.next_event(at(9000)).is_none());
        // One that comes again is told after a while, with its count.
        outbox.take_in(&event(2, "block", 1004));
        outbox.take_in(&event(2, "block", 1005));
        assert!(outbox.next_event(at(1010)).is_none());
        assert_eq!(outbox.next_event(at(1002 + TOLD_AGAIN_AFTER)).unwrap().1.count, 3);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_lost_is_counted() {
        let mut outbox = Outbox::default();
        for pod in 0..MAX_TOLD + 50 {
            let action = if pod < 10 { "block" } else { "alarm" };
            outbox.take_in(&event(pod, action, 1000 + i64::try_from(pod).unwrap()));
        }
        assert_eq!((outbox.told.len(), outbox.lost), (MAX_TOLD, 50));
        assert_eq!(outbox.told.values().filter(|told| told.is_block).count(), 10);
    }

    #[test]
    fn an_image_that_was_told_of_is_not_told_again() {
        let mut outbox = Outbox::default();
        outbox.take_in(&event(1, "alarm", 1000));
        let (namespace, wanted) = outbox.next_report().unwrap();
        // One that comes while it is written remains.
        outbox.take_in(&event(2, "block", 1001));
        outbox.reported(&namespace, &wanted);
        let (_, wanted) = outbox.next_report().unwrap();
        assert_eq!(wanted.rows.len(), 1);
        outbox.reported(&namespace, &wanted);
        outbox.take_in(&event(3, "block", 1002));
        assert!(outbox.next_report().is_none());
        outbox.take_in(&event(3, "alarm", 1003));
        assert!(outbox.next_report().is_some());
    }

    #[test]
    fn what_was_handled_is_told_again_when_it_comes_again() {
        let mut outbox = Outbox::default();
        let decision = event(1, "block", 1000);
        let report = |outbox: &mut Outbox| {
            let (namespace, wanted) = outbox.next_report().unwrap();
            outbox.reported(&namespace, &wanted);
            (wanted.rows.len(), wanted.marked.len())
        };
        let mark = |status: &str| {
            let said = json!({ "status": status, "by": "somebody" });
            let mark = Some(serde_json::from_value(said).unwrap());
            Event { kind: EventKind::Mark, time: at(1001), mark, ..decision.clone() }
        };
        outbox.take_in(&decision);
        assert_eq!(report(&mut outbox), (1, 0));
        for (status, told) in [("ignored", 0), ("handled", 1)] {
            outbox.take_mark(&mark(status), &decision);
            outbox.take_in(&event(2, "block", 1002));
            assert_eq!(report(&mut outbox), (told, 1));
        }
        // Told together with the mark, it may have been handled by it, so it is looked at once more.
        outbox.take_in(&event(3, "block", 1003));
        assert_eq!(report(&mut outbox), (1, 0));
        outbox.take_in(&event(4, "block", 1004));
        assert!(outbox.next_report().is_none());
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.json");
        std::fs::write(&file, "{").unwrap();
        assert_eq!(Outbox::open(&file).unwrap().waiting(), (0, 0));
    }

    #[test]
    fn a_disk_that_fails_makes_nothing_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        // Reading a folder fails as a broken disk does.
        assert!(Outbox::open(folder.path()).is_err());
    }

    #[test]
    fn what_is_not_taken_rests_and_holds_up_no_other() {
        let mut outbox = Outbox::default();
        outbox.take_in(&event(1, "alarm", 1000));
        outbox.take_in(&event(2, "block", 1001));
        let (blocked, told) = outbox.next_event(at(1002)).unwrap();
        assert_eq!(told.pod, "web-2");
        outbox.rest(&blocked);
        assert_eq!(outbox.next_event(at(1002)).unwrap().1.pod, "web-1");
        outbox.told(&blocked, 1, at(1002));
        outbox.take_in(&event(2, "block", 1003));
        // After a clock was set back by an hour.
        assert_eq!(outbox.next_event(at(1002 - 3600)).unwrap().1.count, 2);
        outbox.told(&blocked, 2, at(1004));
        outbox.forget(at(1004 + FORGOTTEN_AFTER));
        assert_eq!(outbox.told.len(), 1);
    }
}
