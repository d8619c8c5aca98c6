//! Where the three readers put what they find: one place for counting and for the limits.

use crate::error::{HeaderError, RpmDbError};
use crate::header::{self, Content};
use crate::{Damaged, Kind, Limits, Package, Summary};

pub(crate) struct Collector<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) summary: Summary,
    each: &'a mut dyn FnMut(Package),
    files: usize,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(kind: Kind, limits: &'a Limits, each: &'a mut dyn FnMut(Package)) -> Self {
        let summary = Summary {
            packages: 0,
            keys: 0,
            damaged: Vec::new(),
            kind,
            log_frames: 0,
            log_frames_uncommitted: 0,
        };
        Self { limits, summary, each, files: 0 }
    }

    pub(crate) fn finish(self) -> Summary {
        self.summary
    }

    /// Takes an entry's header.
    pub(crate) fn header(&mut self, number: Option<i64>, blob: &[u8]) -> Result<(), RpmDbError> {
        if blob.len() > self.limits.max_blob {
            return self.damaged(number, HeaderError::TooLarge(blob.len() as u64));
        }
        self.count()?;
        match header::read(blob, self.limits.max_path_bytes) {
            Ok(Content::Key) => self.summary.keys += 1,
            Ok(Content::Package(package)) => {
                self.files = self.files.saturating_add(package.files.len());
                if self.files > self.limits.max_file_names {
                    let limit = self.limits.max_file_names as u64;
                    return Err(RpmDbError::Limit { what: "names of files", limit });
                }
                self.summary.packages += 1;
                (self.each)(package);
            }
            Err(cause) => self.summary.damaged.push(Damaged { number, cause }),
        }
        Ok(())
    }

    /// Takes an entry that has no header to read.
    pub(crate) fn damaged(
        &mut self,
        number: Option<i64>,
        cause: HeaderError,
    ) -> Result<(), RpmDbError> {
        self.count()?;
        self.summary.damaged.push(Damaged { number, cause });
        Ok(())
    }

    fn count(&self) -> Result<(), RpmDbError> {
        let Summary { packages, keys, damaged, .. } = &self.summary;
        if packages + keys + damaged.len() >= self.limits.max_packages {
            let limit = self.limits.max_packages as u64;
            return Err(RpmDbError::Limit { what: "entries", limit });
        }
        Ok(())
    }
}
