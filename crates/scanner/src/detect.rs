//! Engines that know malicious files by their content.

use std::io;

use portcullis_inventory::{Item, Signature};

use crate::whole::Whole;

/// An engine.
pub(crate) trait Detector {
    /// Its name, as findings have it.
    fn name(&self) -> &'static str;

    /// What it says of a file.
    ///
    /// # Errors
    /// The engine as a whole is broken: the scan must fail, since silence would mean nothing.
    fn search(&mut self, path: &str, content: &[u8]) -> io::Result<Searched>;
}

/// What an engine says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Searched {
    /// Its signatures that fit.
    pub(crate) hits: Vec<Hit>,
    /// Why it did not look at all of the file, as a sentence.
    pub(crate) unread: Option<String>,
}

/// A signature that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Its name.
    pub name: String,
    /// What it says of its severity.
    pub severity: Option<String>,
    /// What it says of itself.
    pub description: Option<String>,
}

/// The engines that are there.
#[derive(Default)]
pub(crate) struct Detectors {
    engines: Vec<Box<dyn Detector>>,
    most: u64,
}

impl Detectors {
    /// Each file of up to so many bytes goes before each of these.
    pub(crate) fn new(engines: Vec<Box<dyn Detector>>, most: u64) -> Self {
        Self { engines, most }
    }

    pub(crate) fn want(&self, size: u64) -> bool {
        !self.engines.is_empty() && size > 0
    }

    pub(crate) fn search(
        &mut self,
        path: &str,
        whole: &Whole,
        size: u64,
        sha256: &str,
    ) -> io::Result<Vec<Item>> {
        if size > self.most {
            let why = format!(
                "it has {size} bytes, and files of more than {} are not searched for malware",
                self.most
            );
            return Ok(vec![Item::Unread(why)]);
        }
        let content = whole.bytes(self.most)?;
        let mut items = Vec::new();
        for engine in &mut self.engines {
            let Searched { hits, unread } = engine.search(path, &content)?;
            items.extend(hits.into_iter().map(|hit| {
                Item::Malware(Signature {
                    engine: engine.name().to_owned(),
                    name: hit.name,
                    severity: hit.severity,
                    description: hit.description,
                    sha256: sha256.to_owned(),
                })
            }));
            items.extend(unread.map(|why| Item::Unread(format!("{}: {why}", engine.name()))));
        }
        Ok(items)
    }
}
