//! A store in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_types::{Digest, ImageFacts, ScanReport, Verdict};

use crate::merge::merge;
use crate::record::Entry;
use crate::{Absorbed, Annotate, Annotated, Depth, Detail, Listed, StoreError, VerdictStore};

/// Verdicts in memory; lost with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: Mutex<BTreeMap<Digest, Entry>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Digest, Entry>> {
        // No change below is made in parts, so a panic elsewhere leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerdictStore for MemoryStore {
    fn by_config(&self, config: &Digest, detail: Detail) -> Result<Option<Verdict>, StoreError> {
        Ok(self.entries().get(config).map(|entry| cut(&entry.verdict, detail)))
    }

    fn by_chain(
        &self,
        chain: &Digest,
        detail: Detail,
    ) -> Result<Vec<Result<Verdict, StoreError>>, StoreError> {
        let entries = self.entries();
        let verdicts = entries.values().map(|entry| &entry.verdict);
        let of_chain = verdicts.filter(|v| v.image.chain_id.as_ref() == Some(chain));
        Ok(of_chain.map(|verdict| Ok(cut(verdict, detail))).collect())
    }

    fn absorb(&self, image: &ImageFacts, report: ScanReport) -> Result<Absorbed, StoreError> {
        let mut entries = self.entries();
        let (change, entry) = merge(entries.get(&image.config).cloned(), image, report)?;
        let verdict = entry.verdict.clone();
        entries.insert(image.config.clone(), entry);
        Ok(Absorbed { change, verdict })
    }

    fn annotate(&self, annotate: Annotate<'_>) -> Result<Vec<Annotated>, StoreError> {
        let mut entries = self.entries();
        let annotated = entries.iter_mut().map(|(config, entry)| Annotated {
            config: config.clone(),
            changed: Ok(entry.annotate(annotate)),
        });
        Ok(annotated.collect())
    }

    fn count(&self) -> Result<usize, StoreError> {
        Ok(self.entries().len())
    }

    fn list(&self, _depth: Depth) -> Result<Vec<Listed>, StoreError> {
        let entries = self.entries();
        let listed = entries.iter().map(|(config, entry)| Listed {
            config: config.clone(),
            entry: Ok(entry.verdict.clone().into()),
        });
        Ok(listed.collect())
    }

    fn remove(&self, config: &Digest) -> Result<bool, StoreError> {
        Ok(self.entries().remove(config).is_some())
    }
}

/// The verdict with no more detail than this.
fn cut(verdict: &Verdict, detail: Detail) -> Verdict {
    let mut verdict = verdict.clone();
    if detail == Detail::Decision {
        let findings = verdict.reports.iter_mut().flat_map(|report| &mut report.findings);
        findings.for_each(|finding| Arc::make_mut(finding).title = None);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes_the_suite() {
        crate::suite::run(MemoryStore::new);
    }
}
