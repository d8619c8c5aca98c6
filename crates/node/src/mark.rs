//! What somebody did about an event, recorded like an event.

use portcullis_audit::{Audit, new_id};
use portcullis_settings::Settings;
use portcullis_types::{Action, Event, EventKind, Mark, Timestamp};

/// The ledger did not take it.
#[derive(Debug, thiserror::Error)]
#[error("event {event} is not marked: the ledger does not take it: {why}")]
pub struct MarkError {
    event: String,
    why: String,
}

/// Records a mark of a decision in the ledger, from which the list is made, and in the journal; and
/// what the journal has against it.
///
/// # Errors
/// [`MarkError`].
pub fn record_mark(
    settings: &Settings,
    decision: &Event,
    mark: Mark,
    plain: impl Fn(&str) -> String,
) -> Result<(Event, Vec<String>), MarkError> {
    let why = mark.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    let message =
        plain(&format!("portcullis: event {}: {} by {}{why}", decision.id, mark.status, mark.by));
    let event = Event {
        mark: Some(mark),
        decision: Some(decision.id.clone()),
        ..Event::new(
            new_id(),
            Timestamp::now(),
            EventKind::Mark,
            Action::Allow,
            message,
            decision.request.clone(),
            decision.image.clone(),
        )
    };
    // Marks are few: the journal gets them even where it gets no allowed starts.
    let audit = Audit::new(settings.paths().events(), settings.max_event_bytes, true);
    let outcome = audit.record(&event);
    match outcome.recorded.file {
        true => Ok((event, outcome.problems)),
        false => Err(MarkError { event: decision.id.clone(), why: outcome.problems.join("; ") }),
    }
}
