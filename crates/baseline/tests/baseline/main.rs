//! The checks, on images that tests make up.

mod common;
mod hostile;
mod items;
mod stock;
