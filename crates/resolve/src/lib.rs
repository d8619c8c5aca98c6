//! Which image a container really runs, from what evidence, and how surely.
