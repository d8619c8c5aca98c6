//! How many rows of [`fold`](crate::fold) wait for somebody to look at them, told as records come:
//! for a count of them, the ledger need not be read again and again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};

use portcullis_types::{Action, Event, EventId, EventKind, Status};

use crate::repeats::Key;

/// Most decisions that are remembered: more than a ledger of the usual size holds.
const MOST: usize = 1 << 17;

/// A row, known by two hashes with keys of their own, so that nobody can make two equal.
type RowId = (u64, u64);

/// Alarms and blocks that nobody has handled, ignored or whitelisted, equal ones as one.
#[derive(Debug)]
pub struct Unhandled {
    rows: HashMap<RowId, Row>,
    of_id: HashMap<EventId, RowId>,
    /// The decisions by the numbers of their records.
    in_order: BTreeMap<u64, EventId>,
    hashers: (RandomState, RandomState),
}

#[derive(Debug)]
struct Row {
    action: Action,
    /// Number of its latest record.
    latest: u64,
    mark: Option<Status>,
}

impl Default for Unhandled {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            of_id: HashMap::new(),
            in_order: BTreeMap::new(),
            hashers: (RandomState::new(), RandomState::new()),
        }
    }
}

impl Unhandled {
    /// Takes the event of the record with this number; records come in their order.
    pub fn take(&mut self, seq: u64, event: &Event) {
        match event.kind {
            EventKind::Decision if event.action != Action::Allow => {
                let key = Key::of(event);
                let id = (self.hashers.0.hash_one(&key), self.hashers.1.hash_one(&key));
                let action = event.action;
                let row = self.rows.entry(id).or_insert(Row { action, latest: seq, mark: None });
                row.latest = seq;
                row.mark.take_if(|mark| *mark == Status::Handled);
                self.of_id.insert(event.id.clone(), id);
                if let Some(replaced) = self.in_order.insert(seq, event.id.clone())
                    && replaced != event.id
                {
                    // The ledger began anew.
                    self.of_id.remove(&replaced);
                }
                if self.in_order.len() > MOST
                    && let Some((oldest, _)) = self.in_order.first_key_value()
                {
                    self.forget_before(oldest + 1);
                }
            }
            EventKind::Mark => {
                let row = event.decision.as_ref().and_then(|id| self.of_id.get(id));
                if let (Some(row), Some(mark)) = (row, &event.mark)
                    && let Some(row) = self.rows.get_mut(row)
                {
                    row.mark = Some(mark.status);
                }
            }
            EventKind::Decision | EventKind::Outcome | EventKind::Notice | EventKind::Violation => {
            }
        }
    }

    /// Forgets the records before this number, which are not kept any more.
    pub fn forget_before(&mut self, first: u64) {
        let kept = self.in_order.split_off(&first);
        for id in std::mem::replace(&mut self.in_order, kept).into_values() {
            if let Some(row) = self.of_id.remove(&id)
                && self.rows.get(&row).is_some_and(|row| row.latest < first)
            {
                self.rows.remove(&row);
            }
        }
    }

    /// How many there are with this action.
    pub fn count(&self, action: Action) -> usize {
        self.rows.values().filter(|row| row.action == action && row.mark.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fold;

    fn event(kind: &str, id: usize, action: &str, pod: &str) -> Event {
        serde_json::from_value(serde_json::json!({
            "id": id.to_string(), "time": "2026-11-24T12:00:00Z", "kind": kind, "action": action,
            "message": "", "image": { "surety": "unknown" },
            "request": {
                "engine": "containerd", "node": "n", "containerId": "c", "kind": "container",
                "pod": pod,
            },
        }))
        .unwrap()
    }

    fn open(events: &[Event], action: Action) -> usize {
        let rows = fold(events.to_vec());
        rows.iter().filter(|row| row.event.action == action && row.mark.is_none()).count()
    }

    proptest! {
        #[test]
        fn it_counts_the_rows_of_a_fold(
            steps in proptest::collection::vec((0..7_usize, 0..3_usize, 0..40_usize), 0..60),
            gone in 0..60_usize,
        ) {
            let mut events = Vec::new();
            for (at, (what, pod, of)) in steps.into_iter().enumerate() {
                let pod = ["", "a", "b"][pod];
                events.push(match what {
                    0 => event("decision", at, "block", pod),
                    1 | 2 => event("decision", at, "alarm", pod),
                    3 => event("decision", at, "allow", pod),
                    _ => {
                        let mut mark = event("mark", at, "allow", pod);
                        mark.decision = Some(of.to_string());
                        let status = ["handled", "ignored", "whitelisted"][what - 4];
                        let said = serde_json::json!({ "status": status, "by": "somebody" });
                        mark.mark = Some(serde_json::from_value(said).unwrap());
                        mark
                    }
                });
            }
            let mut unhandled = Unhandled::default();
            for (at, event) in events.iter().enumerate() {
                unhandled.take(at as u64, event);
            }
            for action in [Action::Alarm, Action::Block] {
                prop_assert_eq!(unhandled.count(action), open(&events, action));
            }
            unhandled.forget_before(gone as u64);
            prop_assert!(unhandled.count(Action::Block) <= open(&events, Action::Block));
            unhandled.forget_before(u64::MAX);
            prop_assert_eq!(unhandled.count(Action::Alarm), 0);
            prop_assert!(unhandled.rows.is_empty() && unhandled.of_id.is_empty());
        }
    }

    #[test]
    fn it_grows_no_further_than_it_may() {
        let mut unhandled = Unhandled::default();
        for seq in 0..MOST + 1000 {
            unhandled.take(seq as u64, &event("decision", seq, "block", &seq.to_string()));
        }
        assert_eq!(unhandled.count(Action::Block), MOST);
        assert_eq!((unhandled.rows.len(), unhandled.of_id.len()), (MOST, MOST));
    }
}
