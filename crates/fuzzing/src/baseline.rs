//! What the checks of accounts, permissions and build read.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_baseline::passwords::Budget;
use portcullis_baseline::{
    Config, ITEMS, Image, Mode, Options, check, wants_mode, wants_presence, wants_text,
};

use crate::text::printable;

/// What parts the pieces of an image; it stands in no file that is checked.
const BETWEEN: u8 = 0x1e;

#[derive(Default)]
struct Pieces {
    texts: BTreeMap<String, Vec<u8>>,
    modes: BTreeMap<String, Mode>,
    present: BTreeSet<String>,
    config: Config,
    is_reversed: bool,
}

impl Pieces {
    fn ordered<'a, T: 'a>(
        &self,
        pieces: impl DoubleEndedIterator<Item = T> + 'a,
    ) -> Box<dyn Iterator<Item = T> + 'a> {
        if self.is_reversed { Box::new(pieces.rev()) } else { Box::new(pieces) }
    }
}

impl Image for Pieces {
    fn texts(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_> {
        self.ordered(self.texts.iter().map(|(path, text)| (&**path, &**text)))
    }

    fn modes(&self) -> Box<dyn Iterator<Item = (&str, Mode)> + '_> {
        self.ordered(self.modes.iter().map(|(path, mode)| (&**path, *mode)))
    }

    fn present(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        self.ordered(self.present.iter().map(|path| &**path))
    }

    fn config(&self) -> &Config {
        &self.config
    }
}

/// An image, piece by piece. The first byte of each tells what it is: `t` a path and, behind a line
/// break, the file; `m` a path and a mode; `p` a path; `h` a step of the history; `e` a variable;
/// `u` the user; `v` a volume; `x` a port; `n` a name of the image.
///
/// Issues are known, bounded, printable, each once, and the same in whatever order the files come;
/// no hash of a password is in them. Accepted: there is an issue.
pub fn baseline(data: &[u8]) -> bool {
    let mut image = Pieces::default();
    for piece in data.split(|byte| *byte == BETWEEN) {
        let Some((kind, piece)) = piece.split_first() else { continue };
        let text = String::from_utf8_lossy(piece).into_owned();
        let end = piece.iter().position(|byte| *byte == b'\n').unwrap_or(piece.len());
        let path = String::from_utf8_lossy(&piece[..end]).into_owned();
        let content = &piece[piece.len().min(end + 1)..];
        match kind {
            b't' => {
                if let Some(most) = wants_text(&path) {
                    assert!(most <= 1 << 20, "{most} bytes of {path}");
                    image.texts.insert(path, content[..content.len().min(most)].to_vec());
                }
            }
            b'm' => {
                let octal = std::str::from_utf8(content).ok();
                let mode = octal.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
                let mode = Mode { mode: mode.unwrap_or(0o104_755), ..Mode::default() };
                if wants_mode(&path, &mode) {
                    image.modes.insert(path, mode);
                }
            }
            b'p' if wants_presence(&text) => drop(image.present.insert(text)),
            b'h' => image.config.history.push(text),
            b'e' => image.config.env.push(text),
            b'u' => image.config.user = text,
            b'v' => image.config.volumes.push(text),
            b'x' => image.config.exposed_ports.push(text),
            b'n' => image.config.tags.push(text),
            _ => {}
        }
    }
    let options = Options { budget: Budget::new(2000), today: Some(20_785), ..Options::default() };
    let report = check(&image, &options);
    image.is_reversed = true;
    assert_eq!(check(&image, &options), report, "another order of files");
    assert!(report.issues.len() <= ITEMS.len() * 101, "{} issues", report.issues.len());
    let mut seen = BTreeSet::new();
    let hashes = hashes(&image, data);
    for issue in &report.issues {
        assert!(seen.insert((issue.item.id, &issue.path)), "twice: {issue:?}");
        printable("a detail", &issue.detail, 400);
        if let Some(path) = &issue.path {
            printable("a path", path, 4096 + 3);
            assert!(path.starts_with('/'), "{issue:?}");
        }
        for hash in &hashes {
            assert!(!issue.detail.contains(hash), "{hash} is in {issue:?}");
        }
    }
    !report.issues.is_empty()
}

/// Hashes of passwords that stand at no other place of the image.
fn hashes(image: &Pieces, data: &[u8]) -> Vec<String> {
    let Some(shadow) = image.texts.get("etc/shadow") else { return Vec::new() };
    let shadow = String::from_utf8_lossy(shadow);
    let fields = shadow.lines().filter_map(|line| line.split(':').nth(1));
    let fields = fields.filter(|field| field.len() > 12 && field.starts_with('$'));
    let is_once = |field: &&str| {
        data.windows(field.len()).filter(|bytes| *bytes == field.as_bytes()).count() == 1
    };
    fields.filter(is_once).take(8).map(str::to_owned).collect()
}
