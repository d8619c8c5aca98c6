//! The doors: the binaries that container managers start.
