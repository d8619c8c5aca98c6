//! A store in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_types::{Digest, ImageFacts, ScanReport, Verdict};

use crate::merge::merge;
use crate::{Absorbed, Listed, StoreError, VerdictStore};

/// Verdicts in memory; lost with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    verdicts: Mutex<BTreeMap<Digest, Verdict>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn verdicts(&self) -> MutexGuard<'_, BTreeMap<Digest, Verdict>> {
        // No change below is made in parts, so a panic elsewhere leaves nothing half done.
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerdictStore for MemoryStore {
    fn by_config(&self, config: &Digest) -> Result<Option<Verdict>, StoreError> {
        Ok(self.verdicts().get(config).cloned())
    }

    fn by_chain(&self, chain: &Digest) -> Result<Vec<Result<Verdict, StoreError>>, StoreError> {
        let verdicts = self.verdicts();
        let of_chain = verdicts.values().filter(|v| v.image.chain_id.as_ref() == Some(chain));
        Ok(of_chain.cloned().map(Ok).collect())
    }

    fn absorb(&self, image: &ImageFacts, report: ScanReport) -> Result<Absorbed, StoreError> {
        let mut verdicts = self.verdicts();
        let absorbed = merge(verdicts.get(&image.config).cloned(), image, report)?;
        verdicts.insert(image.config.clone(), absorbed.verdict.clone());
        Ok(absorbed)
    }

    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let verdicts = self.verdicts();
        let listed = verdicts.iter().map(|(config, verdict)| Listed {
            config: config.clone(),
            entry: Ok(verdict.clone().into()),
        });
        Ok(listed.collect())
    }

    fn remove(&self, config: &Digest) -> Result<bool, StoreError> {
        Ok(self.verdicts().remove(config).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_passes_the_suite() {
        crate::suite::run(MemoryStore::new);
    }
}
