//! The checks, by what they look at.

mod accounts;
mod build;
mod config;
mod env;
mod files;
mod groups;
mod history;
mod permissions;
mod services;
mod shell;
mod sshd;
mod trust;

use std::borrow::Cow;

use crate::issues::Issues;
use crate::passwords::{Budget, Summary, WordList};
use crate::{Image, Issue};

/// What a check is given beside the image.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Words that are tried as passwords.
    pub words: WordList,
    /// How much work these tries may be.
    pub budget: Budget,
    /// Days since 1970, in UTC; without it, nobody knows what lies in the future.
    pub today: Option<i64>,
}

/// What the checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of [`crate::ITEMS`], then of the paths: at most one issue for an
    /// item and a path, and at most about a hundred for an item.
    pub issues: Vec<Issue>,
    /// What trying passwords came to.
    pub passwords: Summary,
}

/// Checks an image. The time is linear in what the image holds, apart from the tries of passwords,
/// which the budget bounds.
pub fn check(image: &dyn Image, options: &Options) -> Report {
    let mut issues = Issues::default();
    let texts = Texts::of(image);
    let passwords = accounts::check(&texts, options, &mut issues);
    groups::check(&texts, &mut issues);
    trust::check(&texts, &mut issues);
    services::check(&texts, &mut issues);
    sshd::check(&texts, &mut issues);
    permissions::check(image, &mut issues);
    files::check(image, &mut issues);
    config::check(&texts, image.config(), &mut issues);
    env::check(image.config(), &mut issues);
    build::check(image.config(), &mut issues);
    Report { issues: issues.finish(), passwords }
}

/// The files as text: what is not UTF-8 is replaced, so that one odd byte hides nothing.
struct Texts<'a> {
    // In the order of the paths.
    all: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> Texts<'a> {
    fn of(image: &'a dyn Image) -> Self {
        let mut all: Vec<_> =
            image.texts().map(|(path, text)| (path, String::from_utf8_lossy(text))).collect();
        all.sort_by_key(|(path, _)| *path);
        Self { all }
    }

    fn get(&self, path: &str) -> Option<&str> {
        let index = self.all.binary_search_by_key(&path, |(path, _)| path).ok()?;
        self.all.get(index).map(|(_, text)| &**text)
    }

    fn all(&self) -> impl Iterator<Item = (&'a str, &str)> {
        self.all.iter().map(|(path, text)| (*path, &**text))
    }
}
