//! What the gate answers. A permit cannot be made elsewhere, and creating a container consumes it.

use std::sync::Arc;

use portcullis_types::{Event, EventId};

/// Leave to create one container, once.
#[derive(Debug)]
#[must_use = "a permit that is not used means a container that was not created"]
pub struct Permit {
    container_id: String,
    admission: Admission,
}

/// The memory of a permit, for the record of what became of it.
#[derive(Debug, Clone)]
pub struct Admission {
    pub(crate) event: Arc<Event>,
}

impl Permit {
    pub(crate) fn new(container_id: String, event: Event) -> Self {
        Self { container_id, admission: Admission { event: Arc::new(event) } }
    }

    /// The container that may be created.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// What to say later about the start.
    pub fn admission(&self) -> Admission {
        self.admission.clone()
    }
}

/// A container may not be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    message: String,
    event: EventId,
}

impl Refusal {
    pub(crate) fn new(message: String, event: EventId) -> Self {
        Self { message, event }
    }

    /// One ASCII line under 512 bytes, for whoever asked.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The event that records it.
    pub fn event(&self) -> &str {
        &self.event
    }
}
