//! The settings file of a node, checked.
