//! Events, for tests of those who read them.

use portcullis_types::{Action, Engine, Event, EventKind, Identity, Request, Timestamp};

/// The decision of a door that let a container start, with this id.
pub fn decision(id: &str) -> Event {
    Event::new(
        id.to_owned(),
        Timestamp::now(),
        EventKind::Decision,
        Action::Allow,
        String::new(),
        Request::new(Engine::Containerd, "n", "c"),
        Identity::unknown("a test"),
    )
}
