//! Issues, and the list that keeps them few and short however many things are wrong.

use std::collections::BTreeMap;

use crate::{ITEMS, Item};

/// Most issues of one item; what is above is counted.
const MOST_OF_AN_ITEM: usize = 100;

/// Most bytes of a detail.
const MOST_OF_A_DETAIL: usize = 240;

/// Most bytes of a name or path inside a detail.
const MOST_OF_A_NAME: usize = 64;

/// Something that is not as it should be. There is at most one for an item and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// What was checked.
    pub item: &'static Item,
    /// The file below the root, with a leading slash: `/etc/passwd`. `None` for what the image's
    /// configuration says, and for the last issue of an item that has too many.
    pub path: Option<String>,
    /// One line, at most a few hundred bytes long, with control characters escaped. Never a
    /// password, a hash or a value of the environment.
    pub detail: String,
}

/// Gathers issues; the order in which they come does not matter.
#[derive(Default)]
pub(crate) struct Issues {
    // By the item's place in the table, then by path.
    by_item: BTreeMap<usize, BTreeMap<Option<String>, Detail>>,
}

#[derive(Default)]
struct Detail {
    text: String,
    more: usize,
}

impl Issues {
    /// Adds one thing that is wrong. Several of the same path become one issue.
    ///
    /// `path` has no leading slash; `part` must be short, made with [`shown`] where it quotes.
    pub(crate) fn add(&mut self, id: &str, path: Option<&str>, part: &str) {
        let Some(index) = ITEMS.iter().position(|item| item.id == id) else {
            debug_assert!(false, "no item {id}");
            return;
        };
        let path = path.map(|path| format!("/{path}"));
        let detail = self.by_item.entry(index).or_default().entry(path).or_default();
        let has_room = detail.text.len() + 2 + part.len() <= MOST_OF_A_DETAIL;
        if detail.text.is_empty() {
            detail.text.push_str(part);
        } else if has_room && detail.more == 0 {
            detail.text.push_str("; ");
            detail.text.push_str(part);
        } else {
            detail.more += 1;
        }
    }

    /// The issues, in the order of the table and then of the paths.
    pub(crate) fn finish(self) -> Vec<Issue> {
        let mut issues = Vec::new();
        for (index, by_path) in self.by_item {
            let Some(item) = ITEMS.get(index) else { continue };
            let above = by_path.len().saturating_sub(MOST_OF_AN_ITEM);
            for (path, detail) in by_path.into_iter().take(MOST_OF_AN_ITEM) {
                let mut text = detail.text;
                if detail.more > 0 {
                    text.push_str(&format!("; and {} more", detail.more));
                }
                let path = path.map(|path| escaped(&path, 4096));
                issues.push(Issue { item, path, detail: text });
            }
            if above > 0 {
                let detail = format!("and {above} more files");
                issues.push(Issue { item, path: None, detail });
            }
        }
        issues
    }
}

/// A name, path or word of the image, as a detail may show it.
pub(crate) fn shown(text: &str) -> String {
    escaped(text, MOST_OF_A_NAME)
}

/// Escapes control characters and what changes the direction of writing; cut to `most` bytes.
fn escaped(text: &str, most: usize) -> String {
    let mut out = String::new();
    for character in text.chars() {
        let is_plain = !character.is_control()
            && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        let before = out.len();
        if is_plain {
            out.push(character);
        } else {
            out.extend(character.escape_default());
        }
        if out.len() > most {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_often_is_told_once() {
        let mut issues = Issues::default();
        for n in 0..1000 {
            issues.add("setid-file", Some(&format!("f{n}")), "mode 4755");
            issues.add("nis-entry-passwd", Some("etc/passwd"), &format!("line {n}"));
        }
        let issues = issues.finish();
        assert_eq!(issues.len(), 102);
        assert_eq!(issues[0].item.id, "nis-entry-passwd");
        assert!(issues[0].detail.starts_with("line 0; line 1; "), "{}", issues[0].detail);
        assert!(issues[0].detail.ends_with(" more"), "{}", issues[0].detail);
        assert!(issues.iter().all(|issue| issue.detail.len() < 300));
        assert_eq!(issues[101].path, None);
        assert_eq!(issues[101].detail, "and 900 more files");
    }

    #[test]
    fn hostile_names_are_escaped() {
        assert_eq!(shown("a\nb\u{1b}[2J\u{202e}c"), "a\\nb\\u{1b}[2J\\u{202e}c");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), 33);
    }
}
