//! An image made of what a test says, gathered as a scanner does.

use std::collections::BTreeMap;

use portcullis_baseline::{
    Config, Image, Mode, Options, Report, check, wants_mode, wants_presence, wants_text,
};

/// The day of these tests: 2026-11-28.
pub(crate) const TODAY: i64 = 20_785;

#[derive(Default)]
pub(crate) struct Fake {
    texts: BTreeMap<String, Vec<u8>>,
    modes: BTreeMap<String, Mode>,
    present: Vec<String>,
    pub(crate) config: Config,
}

impl Fake {
    /// Adds a file with this content.
    pub(crate) fn text(&mut self, path: &str, text: impl AsRef<[u8]>) -> &mut Self {
        if let Some(most) = wants_text(path) {
            let text = text.as_ref();
            self.texts.insert(path.to_owned(), text[..text.len().min(most)].to_vec());
        }
        self.file(path)
    }

    /// Adds a file or folder with this mode, owned by root.
    pub(crate) fn mode(&mut self, path: &str, mode: u32) -> &mut Self {
        self.inode(path, Mode { mode, ..Mode::default() })
    }

    pub(crate) fn inode(&mut self, path: &str, mode: Mode) -> &mut Self {
        if wants_mode(path, &mode) {
            self.modes.insert(path.to_owned(), mode);
        }
        if mode.is_file() { self.file(path) } else { self }
    }

    /// Adds a file of which nothing else is known.
    pub(crate) fn file(&mut self, path: &str) -> &mut Self {
        if wants_presence(path) && !self.present.iter().any(|known| known == path) {
            self.present.push(path.to_owned());
        }
        self
    }

    /// Adds steps to the history.
    pub(crate) fn step(&mut self, line: &str) -> &mut Self {
        self.config.history.push(line.to_owned());
        self
    }

    pub(crate) fn env(&mut self, entry: &str) -> &mut Self {
        self.config.env.push(entry.to_owned());
        self
    }

    pub(crate) fn check(&self) -> Report {
        check(self, &Options { today: Some(TODAY), ..Options::default() })
    }

    /// The ids of all issues, each once.
    pub(crate) fn ids(&self) -> Vec<&'static str> {
        let mut ids: Vec<_> = self.check().issues.iter().map(|issue| issue.item.id).collect();
        ids.dedup();
        ids
    }
}

impl Image for Fake {
    fn texts(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_> {
        Box::new(self.texts.iter().map(|(path, text)| (&**path, &**text)))
    }

    fn modes(&self) -> Box<dyn Iterator<Item = (&str, Mode)> + '_> {
        Box::new(self.modes.iter().map(|(path, mode)| (&**path, *mode)))
    }

    fn present(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.present.iter().map(|path| &**path))
    }

    fn config(&self) -> &Config {
        &self.config
    }
}
