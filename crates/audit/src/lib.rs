//! Events: to the node's journal and to the append-only event file.
