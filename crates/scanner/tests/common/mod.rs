//! The scanner on images that are made in memory.

#![allow(dead_code, reason = "each test uses some")]

use portcullis_inventory::protocol::{Limits, Source};
use portcullis_inventory::{Image, Item, Wishes};
use portcullis_scan::{Chosen, Progress, ScanError, Scanned, Scanner};

pub(crate) fn scanner() -> Scanner {
    Scanner {
        program: env!("CARGO_BIN_EXE_portcullis-scanner").into(),
        kept: None,
        rules: Vec::new(),
        clamd: None,
        limits: Limits::default(),
    }
}

struct Quiet;

impl Progress for Quiet {
    fn found(&mut self, _: &Image, _: usize, _: usize) {}
    fn read(&mut self, _: usize, _: u64) {}
    fn done(&mut self) {}
}

pub(crate) fn scan(source: Source) -> Result<Scanned, ScanError> {
    scan_with(&scanner(), source)
}

pub(crate) fn scan_with(scanner: &Scanner, source: Source) -> Result<Scanned, ScanError> {
    let chosen = Chosen { source, image: None, platform: "linux/amd64".to_owned(), config: None };
    scanner.scan(chosen, Wishes::LeftOut, &mut Quiet)
}

/// Everything that was found, but modes.
pub(crate) fn items(scanned: &Scanned) -> Vec<(String, Item)> {
    let items =
        scanned.merged.items().into_iter().map(|(path, item)| (path.to_owned(), item.clone()));
    items.filter(|(_, item)| !matches!(item, Item::Mode(_))).collect()
}
