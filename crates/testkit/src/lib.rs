//! The rules of the workspace, as tests: see `tests/`.
