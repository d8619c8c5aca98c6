//! Findings as they are collected: one for each id and place, bounded in number and in text.

use std::collections::BTreeMap;

use portcullis_types::{Class, Finding, Severity, Text};

use crate::items::TOO_MANY_SETTINGS;

/// Most findings about one start, the one that says that there are more included.
pub(crate) const MOST_FINDINGS: usize = 256;
/// Most bytes of a path or a title.
const MOST_TEXT_BYTES: usize = 512;
/// Who speaks, as findings name it.
const SOURCE: &str = "oci-spec";

/// Finding by id and place.
#[derive(Default)]
pub(crate) struct Found(BTreeMap<(&'static str, Option<Text>), (Severity, String)>);

impl Found {
    /// Adds a finding; of two with the same id and place the worse stands.
    pub(crate) fn add(
        &mut self,
        id: &'static str,
        severity: Severity,
        path: Option<&str>,
        title: impl Into<String>,
    ) {
        let path = path.filter(|p| !p.is_empty()).map(|p| Text::from(clean(p)));
        let new = (severity, title.into());
        let known = self.0.entry((id, path)).or_insert_with(|| new.clone());
        if new.0 < known.0 {
            *known = new;
        }
    }

    /// The findings in order of their keys; of too many the worst, and one that says so.
    pub(crate) fn finish(self) -> Vec<Finding> {
        let source = Text::from(SOURCE);
        let finding = |id, severity, path, title: &str| Finding {
            path,
            title: Some(clean(title).into()),
            ..Finding::new(Class::Workload, id, severity, source.clone())
        };
        let all = self.0.into_iter();
        let mut all: Vec<Finding> = all
            .map(|((id, path), (severity, title))| finding(id, severity, path, &title))
            .collect();
        let found = all.len();
        if found > MOST_FINDINGS {
            // The sort is stable: of two alike, that with the lesser key stays.
            all.sort_by_key(|f| f.severity);
            all.truncate(MOST_FINDINGS - 1);
            let title = format!("{found} dangerous settings, of which only the worst are listed");
            all.push(finding(TOO_MANY_SETTINGS, Severity::High, None, &title));
            all.sort_by(|a, b| a.key().cmp(&b.key()));
        }
        all
    }
}

/// A hostile text as one short line: what could steer a terminal is written out.
pub(crate) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MOST_TEXT_BYTES));
    let mut cut = 0;
    for char in text.chars() {
        match steers(char) {
            true => line.extend(char.escape_unicode()),
            false => line.push(char),
        }
        if line.len() > MOST_TEXT_BYTES {
            line.truncate(cut);
            line.push('…');
            break;
        }
        if line.len() <= MOST_TEXT_BYTES - '…'.len_utf8() {
            cut = line.len();
        }
    }
    line
}

/// Whether a character does more than show itself: controls, line ends, changes of direction.
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_and_steer_no_terminal() {
        for (text, wanted) in [
            ("/etc", "/etc".to_owned()),
            ("/a\nb\u{1b}[31m", "/a\\u{a}b\\u{1b}[31m".to_owned()),
            ("/\u{202e}cba", "/\\u{202e}cba".to_owned()),
            (&"x".repeat(512), "x".repeat(512)),
            (&"x".repeat(513), format!("{}…", "x".repeat(509))),
            (&"é".repeat(300), format!("{}…", "é".repeat(254))),
            (&"\0".repeat(300), format!("{}…", "\\u{0}".repeat(101))),
        ] {
            assert_eq!(clean(text), wanted);
            assert!(clean(text).len() <= MOST_TEXT_BYTES);
        }
    }

    #[test]
    fn one_finding_for_an_id_and_a_place_and_the_worse_stands() {
        let mut found = Found::default();
        found.add("hook", Severity::Medium, Some("/a"), "a");
        found.add("hook", Severity::High, Some("/a"), "b");
        found.add("hook", Severity::Low, Some("/a"), "c");
        found.add("hook", Severity::Low, Some("/b"), "d");
        let all = found.finish();
        let said: Vec<_> = all.iter().map(|f| (f.severity, f.title.as_deref())).collect();
        assert_eq!(said, [(Severity::High, Some("b")), (Severity::Low, Some("d"))]);
    }
}
