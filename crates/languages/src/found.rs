//! What a file told.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::{Kind, LanguageError, Package};

/// What a file told.
#[derive(Debug)]
#[non_exhaustive]
pub struct Found {
    /// Its packages, each once, in the order of the file.
    pub packages: Vec<Package>,
    /// Parts of it that could not be read. What stands in them is not known.
    pub unread: Vec<Unread>,
    most: usize,
    /// Where each stands in `packages`, by a hash of what makes it one.
    places: HashMap<u64, usize>,
    hasher: RandomState,
}

/// A part of a file that could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unread {
    /// Its place inside: `BOOT-INF/lib/a.jar`.
    pub inner: String,
    /// Why.
    pub error: LanguageError,
}

/// Most parts that are named one by one.
const MAX_UNREAD: usize = 256;

impl Found {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            packages: Vec::new(),
            unread: Vec::new(),
            most,
            places: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes a package, unless it is there: it is for development only if it is never for more.
    pub(crate) fn add(&mut self, package: Package) -> Result<(), LanguageError> {
        let key = self.hasher.hash_one(identity(&package));
        let there = self.places.get(&key).and_then(|place| self.packages.get_mut(*place));
        if let Some(there) = there.filter(|there| identity(there) == identity(&package)) {
            there.is_dev &= package.is_dev;
            if there.license.is_none() {
                there.license = package.license;
            }
            return Ok(());
        }
        if self.packages.len() >= self.most {
            return Err(LanguageError::TooMany(self.most));
        }
        self.places.insert(key, self.packages.len());
        self.packages.push(package);
        Ok(())
    }

    /// Takes a name and a version, if they can be some.
    pub(crate) fn add_if_valid(
        &mut self,
        kind: Kind,
        name: &str,
        version: &str,
        is_dev: bool,
    ) -> Result<(), LanguageError> {
        match Package::new(kind, name, version) {
            Some(package) => self.add(Package { is_dev, ..package }),
            None => Ok(()),
        }
    }

    pub(crate) fn fail(&mut self, inner: &str, error: LanguageError) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push(Unread { inner: inner.to_owned(), error });
        }
    }
}

/// What makes a package one.
fn identity(package: &Package) -> impl std::hash::Hash + PartialEq {
    (package.kind, &package.name, &package.version, &package.inner)
}
