//! The one way to a Permit: identify, look up, decide, record.
