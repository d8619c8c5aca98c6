//! The agent of a node: scans images, one after the other, those that doors ask for first.
//!
//! Doors ask on a socket that only root may use, and wait no longer than a start may; the scan goes
//! on after that, so that the next start finds a verdict. A node without an agent decides as before:
//! an image that nobody has scanned is `unscanned`.
//!
//! By itself it follows the images of the node's engines, so that they are scanned before they are
//! started, and judges again what runs when something has changed.

#![forbid(unsafe_code)]

mod backoff;
mod bell;
mod changes;
mod cluster;
mod follow;
mod forward;
mod health;
mod http;
mod images;
mod metrics;
mod pushes;
mod queue;
mod records;
mod rests;
mod running;
mod scans;
mod serve;
mod shared;
mod state;
mod updates;
mod watch;

pub use cluster::InCluster;
pub use follow::Follow;
pub use forward::Forward;
pub use health::{Health, Pulse};
pub use queue::{Counts, Ended, NotTaken, Outcome, Queue, Scan};
pub use records::{Cursor, CursorError, Records};
pub use scans::Scans;
pub use serve::{Socket, SocketError};
pub use updates::Updates;
pub use watch::{Watch, watch};
