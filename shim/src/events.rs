//! Task events to containerd, in order, over its ttrpc socket; containerd may be away for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use containerd_shim_protos::events::task as messages;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{MessageField, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::topics;
use containerd_shim_protos::ttrpc::context;
use tokio::sync::Notify;

/// Events kept while containerd is away; the oldest go first.
const MAX_WAITING: usize = 2048;
/// How long one event may take.
const FORWARD: Duration = Duration::from_secs(5);
/// Between two tries.
const RETRY: Duration = Duration::from_millis(500);
/// Tries for one event that containerd answers with an error.
const MAX_TRIES: u32 = 5;

/// Sends task events.
#[derive(Clone)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    namespace: String,
    address: String,
    waiting: Mutex<VecDeque<Envelope>>,
    changed: Notify,
    drained: Notify,
}

/// A message that has a topic.
pub(crate) trait TaskEvent: MessageFull {
    const TOPIC: &'static str;
}

macro_rules! topics {
    ($($message:ident = $topic:ident),+ $(,)?) => {
        $(impl TaskEvent for messages::$message { const TOPIC: &'static str = topics::$topic; })+
    };
}
topics! {
    TaskCreate = TASK_CREATE_EVENT_TOPIC,
    TaskStart = TASK_START_EVENT_TOPIC,
    TaskExit = TASK_EXIT_EVENT_TOPIC,
    TaskDelete = TASK_DELETE_EVENT_TOPIC,
    TaskExecAdded = TASK_EXEC_ADDED_EVENT_TOPIC,
    TaskExecStarted = TASK_EXEC_STARTED_EVENT_TOPIC,
    TaskPaused = TASK_PAUSED_EVENT_TOPIC,
    TaskResumed = TASK_RESUMED_EVENT_TOPIC,
    TaskOOM = TASK_OOM_EVENT_TOPIC,
}

/// A time as protobuf writes it.
pub(crate) fn timestamp(at: jiff::Timestamp) -> MessageField<Timestamp> {
    MessageField::some(Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
        ..Timestamp::default()
    })
}

/// A message in an `Any`, with the bare type name that containerd's `typeurl` writes.
pub(crate) fn any<M: MessageFull>(message: &M) -> Any {
    Any {
        type_url: M::descriptor().full_name().to_owned(),
        // Writing to memory fails only for a message that was read half; ours are whole.
        value: message.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}

impl Publisher {
    /// Sends events of a containerd namespace to the ttrpc socket at `address`; empty for none.
    pub(crate) fn start(namespace: &str, address: &str) -> Self {
        let shared = Arc::new(Shared {
            namespace: namespace.to_owned(),
            address: address.strip_prefix("unix://").unwrap_or(address).to_owned(),
            waiting: Mutex::default(),
            changed: Notify::new(),
            drained: Notify::new(),
        });
        if !shared.address.is_empty() {
            tokio::spawn(forward_all(shared.clone()));
        }
        Self { shared }
    }

    /// Puts an event in line; never waits.
    pub(crate) fn publish<E: TaskEvent>(&self, event: &E) {
        if self.shared.address.is_empty() {
            return;
        }
        let envelope = Envelope {
            timestamp: timestamp(jiff::Timestamp::now()),
            namespace: self.shared.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: MessageField::some(any(event)),
            ..Envelope::default()
        };
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == MAX_WAITING {
            waiting.pop_front();
            log::warn!("an event is dropped: containerd has been away for {MAX_WAITING} events");
        }
        waiting.push_back(envelope);
        drop(waiting);
        self.shared.changed.notify_one();
    }

    /// Waits until every event is sent, within a bound.
    pub(crate) async fn flush(&self, bound: Duration) {
        let drained = self.shared.drained.notified();
        if self.shared.address.is_empty() || self.shared.first().is_none() {
            return;
        }
        if tokio::time::timeout(bound, drained).await.is_err() {
            log::warn!("events could not be sent before the end");
        }
    }
}

impl Shared {
    fn first(&self) -> Option<Envelope> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    fn done(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front();
        if waiting.is_empty() {
            self.drained.notify_waiters();
        }
    }
}

/// The one sender: an event goes only after those before it.
async fn forward_all(shared: Arc<Shared>) {
    let mut client: Option<EventsClient> = None;
    let mut tries = 0;
    loop {
        let Some(envelope) = shared.first() else {
            shared.changed.notified().await;
            continue;
        };
        let connected = match &client {
            Some(connected) => connected,
            None => match Client::connect(&format!("unix://{}", shared.address)).await {
                Ok(new) => client.insert(EventsClient::new(new)),
                Err(error) => {
                    log::debug!("containerd's event socket: {error}");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            },
        };
        let mut request = ForwardRequest::new();
        request.envelope = MessageField::some(envelope);
        let within = context::with_timeout(i64::try_from(FORWARD.as_nanos()).unwrap_or(i64::MAX));
        match connected.forward(within, &request).await {
            Ok(_) => {
                tries = 0;
                shared.done();
            }
            Err(error) => {
                log::debug!("an event was not taken: {error}");
                tries += 1;
                // containerd answered, and not once: it does not want this event.
                let answered = matches!(error, containerd_shim_protos::ttrpc::Error::RpcStatus(_));
                if answered && tries >= MAX_TRIES {
                    log::warn!("an event is dropped: {error}");
                    tries = 0;
                    shared.done();
                    continue;
                }
                client = None;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
