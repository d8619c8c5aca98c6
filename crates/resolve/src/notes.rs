//! What was remarkable on the way to an identity, in words for the event.

use std::error::Error;

use crate::grpc::GrpcError;

/// Events are lines that people read; more remarks than this help nobody.
const MAX_NOTES: usize = 6;
/// In characters, of one remark. Names in remarks may come from hostile records.
const MAX_NOTE: usize = 400;

/// Remarks, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    said: Vec<String>,
    /// One of the troubles was the deadline.
    pub(crate) deadline_hit: bool,
}

impl Notes {
    /// Adds a remark.
    pub(crate) fn say(&mut self, remark: impl Into<String>) {
        let mut remark: String = remark.into();
        if let Some((end, _)) = remark.char_indices().nth(MAX_NOTE) {
            remark.truncate(end);
            remark.push('…');
        }
        if self.said.len() < MAX_NOTES && !self.said.contains(&remark) {
            self.said.push(remark);
        }
    }

    /// Adds that a step failed, with the error and all its causes.
    pub(crate) fn trouble(&mut self, step: &str, error: &(dyn Error + 'static)) {
        self.deadline_hit |= is_deadline(error);
        let mut remark = format!("{step}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            remark.push_str(&format!(": {error}"));
            cause = error.source();
        }
        self.say(remark);
    }

    /// Adds what was said elsewhere, if anything was.
    pub(crate) fn say_all(&mut self, line: Option<String>) {
        self.said.extend(line);
    }

    /// Adds all of another's remarks.
    pub(crate) fn append(&mut self, other: Self) {
        self.deadline_hit |= other.deadline_hit;
        for remark in other.said {
            self.say(remark);
        }
    }

    /// All remarks as one line; `None` if nothing was remarkable.
    pub(crate) fn into_line(self) -> Option<String> {
        (!self.said.is_empty()).then(|| self.said.join("; "))
    }
}

/// Whether the deadline is what caused this.
pub(crate) fn is_deadline(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(GrpcError::Deadline) = error.downcast_ref() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::client::ContentError;

    #[test]
    fn the_deadline_is_found_among_the_causes() {
        let mut notes = Notes::default();
        notes.trouble("reading a", &ContentError::Call(GrpcError::NotFound));
        assert!(!notes.deadline_hit);
        notes.trouble("reading b", &ContentError::Call(GrpcError::Deadline));
        assert!(notes.deadline_hit);
        assert_eq!(
            notes.into_line().unwrap(),
            "reading a: it cannot be read: not found; reading b: it cannot be read: the time was up"
        );
    }

    #[test]
    fn remarks_are_bounded() {
        let mut notes = Notes::default();
        for i in 0..100 {
            notes.say(format!("{i}{}", "ü".repeat(1000)));
        }
        assert!(notes.into_line().unwrap().chars().count() < MAX_NOTES * (MAX_NOTE + 10));
    }
}
