//! Typed readers over the tree: each takes a node, and what is wrong with it becomes a fault.
//!
//! Reading goes on after a fault, so that all of a document's faults are seen at once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use portcullis_types::UnknownWord;

use super::tree::{Entry, Node, Position, Value};
use crate::fault::shown;
use crate::path::Path;
use crate::{Fault, PatternError, Place};

/// Reads one document.
pub(super) struct Reader<'r, 't> {
    file: &'r str,
    root: &'r Node<'t>,
    name: Option<(String, Position)>,
    faults: &'r mut Vec<Fault>,
    /// Where this document's faults begin among those of the file.
    first: usize,
}

/// A field that is known and refused: its name, what is wrong with it, what to write instead.
pub(super) type RefusedField = (&'static str, &'static str, &'static str);

/// The fields of a mapping.
pub(super) struct Fields<'r, 't> {
    at: Position,
    entries: BTreeMap<&'r str, &'r Entry<'t>>,
}

impl<'r, 't> Fields<'r, 't> {
    pub(super) fn get(&self, name: &str) -> Option<&'r Node<'t>> {
        self.entries.get(name).map(|e| &e.value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'r str, &'r Node<'t>)> {
        self.entries.values().map(|e| (&*e.key, &e.value))
    }
}

impl<'r, 't> Reader<'r, 't> {
    pub(super) fn new(file: &'r str, root: &'r Node<'t>, faults: &'r mut Vec<Fault>) -> Self {
        let first = faults.len();
        Self { file, root, name: None, faults, first }
    }

    /// The document's name with its place, once it was read.
    pub(super) fn name(&self) -> Option<(String, Position)> {
        self.name.clone()
    }

    pub(super) fn set_name(&mut self, name: &str, at: Position) {
        self.name = Some((name.to_owned(), at));
    }

    pub(super) fn fault(
        &mut self,
        at: Position,
        path: &Path<'_>,
        message: impl Into<String>,
        remedy: impl Display,
    ) {
        self.faults.push(Fault {
            place: Some(Place { file: self.file.to_owned(), line: at.line, column: at.column }),
            policy: self.name.as_ref().map(|(name, _)| name.clone()),
            path: path.to_string(),
            message: message.into(),
            remedy: remedy.to_string(),
        });
    }

    /// A fault that was found on the finished document. If the same place has a fault already,
    /// this one may only follow from it and is not worth a line.
    pub(super) fn later_fault(&mut self, path: &Path<'_>, message: String, remedy: &str) {
        let text = path.to_string();
        let node = locate(self.root, path);
        if holds_refused(node) || self.faults[self.first..].iter().any(|f| related(&f.path, &text))
        {
            return;
        }
        self.fault(node.at, path, message, remedy);
    }

    /// What is not the kind of value that is wanted.
    fn wrong_kind(&mut self, node: &Node<'_>, path: &Path<'_>, wanted: &str) {
        let found = match &node.value {
            Value::Refused => return,
            Value::Scalar { text, plain: true } if is_null(text) => {
                return self.fault(
                    node.at,
                    path,
                    "the value is missing",
                    format!("write {wanted}"),
                );
            }
            Value::Scalar { text, .. } => format!("\"{}\"", shown(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        };
        self.fault(node.at, path, format!("{found} stands here"), format!("write {wanted}"));
    }

    /// The fields of a mapping. Faults: another kind of value, a key written twice, a field that
    /// is not known or refused.
    pub(super) fn fields(
        &mut self,
        node: &'r Node<'t>,
        path: &Path<'_>,
        known: &[&str],
        refused: &[RefusedField],
    ) -> Option<Fields<'r, 't>> {
        let fields = self.any_fields(node, path)?;
        for entry in fields.entries.values() {
            let here = path.field(&entry.key);
            if let Some((_, message, remedy)) = refused.iter().find(|(name, ..)| *name == entry.key)
            {
                self.fault(entry.key_at, &here, *message, remedy);
            } else if !known.contains(&&*entry.key) {
                let remedy = match closest(&entry.key, known) {
                    Some(name) => format!("did you mean {name}?"),
                    None => format!("the fields here are {}", known.join(", ")),
                };
                let message = format!("the field \"{}\" is not known", shown(&entry.key));
                self.fault(entry.key_at, &here, message, remedy);
            }
        }
        Some(fields)
    }

    /// The entries of a mapping whose keys are free.
    pub(super) fn any_fields(
        &mut self,
        node: &'r Node<'t>,
        path: &Path<'_>,
    ) -> Option<Fields<'r, 't>> {
        let Value::Map(written) = &node.value else {
            self.wrong_kind(node, path, "fields, each as name: value");
            return None;
        };
        let mut entries: BTreeMap<&str, &Entry<'_>> = BTreeMap::new();
        for entry in written {
            match entries.get(&*entry.key) {
                Some(first) => {
                    let remedy = format!("it stands in line {} already", first.key_at.line);
                    let message = "the field is written twice";
                    self.fault(entry.key_at, &path.field(&entry.key), message, remedy);
                }
                None => {
                    entries.insert(&entry.key, entry);
                }
            }
        }
        Some(Fields { at: node.at, entries })
    }

    /// A field that must be there.
    pub(super) fn required(
        &mut self,
        fields: &Fields<'r, 't>,
        path: &Path<'_>,
        name: &str,
    ) -> Option<&'r Node<'t>> {
        let node = fields.get(name);
        if node.is_none() {
            self.fault(fields.at, &path.field(name), "the field is missing", "it must be given");
        }
        node
    }

    /// Each item of a list that is not empty; an item with a fault is left out.
    pub(super) fn list<T>(
        &mut self,
        node: Option<&'r Node<'t>>,
        path: &Path<'_>,
        mut read: impl FnMut(&mut Self, &'r Node<'t>, &Path<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = node else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong_kind(node, path, "a list, each item behind - or in [ ]");
            return Vec::new();
        };
        if items.is_empty() {
            let remedy = "name at least one, or leave the field out";
            self.fault(node.at, path, "the list is empty", remedy);
        }
        items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| read(self, item, &path.item(index)))
            .collect()
    }

    /// A text. One that YAML, or the YAML that Kubernetes reads, takes for another type is a
    /// fault, since the same document must mean the same in both places.
    pub(super) fn text(&mut self, node: &'r Node<'t>, path: &Path<'_>) -> Option<&'r str> {
        let Value::Scalar { text, plain } = &node.value else {
            self.wrong_kind(node, path, "a text");
            return None;
        };
        if *plain && is_null(text) {
            self.wrong_kind(node, path, "a text");
            return None;
        }
        if *plain && (is_boolean(text) || is_number(text)) {
            let message = format!("{} is not a text for YAML", shown(text));
            self.fault(node.at, path, message, "put it in quotes");
        }
        Some(text)
    }

    pub(super) fn boolean(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<bool> {
        match &node.value {
            Value::Scalar { text, plain: true } if text == "true" => Some(true),
            Value::Scalar { text, plain: true } if text == "false" => Some(false),
            _ => {
                self.wrong_kind(node, path, "true or false");
                None
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<f32> {
        if let Value::Scalar { text, plain: true } = &node.value
            && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && let Ok(number) = text.parse::<f32>()
            && number.is_finite()
        {
            return Some(number);
        }
        self.wrong_kind(node, path, "a number such as 0.5");
        None
    }

    /// A scalar that is one of some words.
    pub(super) fn word<T>(&mut self, node: &Node<'_>, path: &Path<'_>) -> Option<T>
    where
        T: FromStr<Err = UnknownWord>,
    {
        // No word is empty, so this error only lends its list of words.
        let wanted = match T::from_str("") {
            Err(error) => format!("one of {}", error.known),
            Ok(_) => "a word".to_owned(),
        };
        self.parsed(node, path, &wanted, |text| {
            text.parse().map_err(|e: UnknownWord| {
                (format!("\"{}\" is not {}", e.word, e.what), format!("use {}", e.known))
            })
        })
    }

    /// A scalar that is a pattern.
    pub(super) fn pattern<T>(&mut self, node: &'r Node<'t>, path: &Path<'_>) -> Option<T>
    where
        T: FromStr<Err = PatternError>,
    {
        match self.text(node, path)?.parse() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.fault(node.at, path, error.to_string(), error.remedy());
                None
            }
        }
    }

    /// A scalar that a parser takes; its error is message and remedy.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node<'_>,
        path: &Path<'_>,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Scalar { text, plain } if !(*plain && is_null(text)) => text,
            _ => {
                self.wrong_kind(node, path, wanted);
                return None;
            }
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err((message, remedy)) => {
                self.fault(node.at, path, message, remedy);
                None
            }
        }
    }
}

pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// YAML 1.1, which Kubernetes reads, has more of these than YAML 1.2.
fn is_boolean(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(text.as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n")
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text).replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let based = |prefix: &str, base: u32| {
        lower
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(base)))
    };
    matches!(lower.as_str(), ".inf" | ".nan")
        || lower.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && (lower.parse::<f64>().is_ok() || based("0x", 16) || based("0o", 8) || based("0b", 2))
}

/// Whether one path is the other or leads to it.
fn related(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    !short.is_empty()
        && long
            .strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a part of this node could not be read, so that what seems missing may not be.
fn holds_refused(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Refused => true,
        Value::Scalar { .. } => false,
        Value::List(items) => items.iter().any(holds_refused),
        Value::Map(entries) => entries.iter().any(|e| holds_refused(&e.value)),
    }
}

/// The node at a path, or the nearest above it.
fn locate<'r, 't>(root: &'r Node<'t>, path: &Path<'_>) -> &'r Node<'t> {
    let (parent, child) = match path {
        Path::Root => return root,
        Path::Field(parent, name) => {
            let parent = locate(root, parent);
            let child = match &parent.value {
                Value::Map(entries) => entries.iter().find(|e| e.key == *name).map(|e| &e.value),
                _ => None,
            };
            (parent, child)
        }
        Path::Item(parent, index) => {
            let parent = locate(root, parent);
            let child = match &parent.value {
                Value::List(items) => items.get(*index),
                _ => None,
            };
            (parent, child)
        }
    };
    child.unwrap_or(parent)
}

/// The known name that was most likely meant.
fn closest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer than any field by far: no slip of the fingers, and no work for it.
    if written.len() > 40 {
        return None;
    }
    known
        .iter()
        .map(|name| (distance(written, name), *name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min()
        .map(|(_, name)| name)
}

/// Edit distance (Levenshtein), upper and lower case alike.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_are_recognised() {
        let known = ["severity", "ids", "fixable", "action"];
        for (written, wanted) in [
            ("severities", Some("severity")),
            ("Action", Some("action")),
            ("id", Some("ids")),
            ("fixeable", Some("fixable")),
            ("namespace", None),
            ("", None),
        ] {
            assert_eq!(closest(written, &known), wanted, "{written}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn what_yaml_takes_for_a_number_is_none_of_a_text() {
        for text in
            ["1", "-1", "1.10", ".5", "1e3", "0x1f", "0o17", "1_000", ".inf", "-.INF", ".nan"]
        {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "inf", "nan", "1.2.3", "v1", "0xg", "1a", "-", ".", "e3", "12-3"] {
            assert!(!is_number(text), "{text}");
        }
    }

    #[test]
    fn only_paths_above_or_below_are_related() {
        assert!(related("spec.rules[1]", "spec.rules[1].ids[0]"));
        assert!(related("spec.rules[1].ids", "spec.rules[1]"));
        assert!(!related("spec.rules[1]", "spec.rules[10]"));
        assert!(!related("spec.rule", "spec.rules"));
        assert!(!related("", "spec"));
    }
}
