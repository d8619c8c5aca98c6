//! The agent of a node: scans images that doors ask for, one after the other.
//!
//! Doors ask on a socket that only root may use, and wait no longer than a start may; the scan goes
//! on after that, so that the next start finds a verdict. A node without an agent decides as before:
//! an image that nobody has scanned is `unscanned`.

#![forbid(unsafe_code)]

mod cluster;
mod health;
mod http;
mod metrics;
mod queue;
mod records;
mod scans;
mod serve;
mod shared;
mod watch;

pub use cluster::{InCluster, access};
pub use health::{Health, Pulse};
pub use queue::{Counts, Ended, NotTaken, Outcome, Queue, Scan};
pub use records::{Cursor, CursorError, Records};
pub use scans::Scans;
pub use serve::{Socket, SocketError};
pub use watch::{Watch, watch};
