//! Tests on the built binaries against real engines.
