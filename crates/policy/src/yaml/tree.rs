//! YAML text as a tree in which every node knows its place.
//!
//! Anchors, aliases and tags are refused here: a policy has no use for them, and they are how a
//! short text becomes a large document.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, options};

use super::reader::is_null;
use crate::fault::shown;

/// Deepest nesting of block and of flow collections; a policy needs seven.
const MAX_DEPTH: usize = 24;
/// Most nodes of one file; a thousand rules have about ten thousand.
const MAX_NODES: usize = 100_000;

/// Counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) at: Position,
    pub(super) value: Value<'t>,
}

#[derive(Debug)]
pub(super) enum Value<'t> {
    Scalar {
        text: Cow<'t, str>,
        plain: bool,
    },
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
    /// Its fault is reported already.
    Refused,
}

#[derive(Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) key_at: Position,
    pub(super) value: Node<'t>,
}

/// Takes where, what is wrong, and what is expected.
pub(super) type Report<'a> = &'a mut dyn FnMut(Position, String, &str);

/// The documents of a text that have content and could be parsed. After a fault in one the next
/// is read all the same.
pub(super) fn documents<'t>(text: &'t str, report: Report<'_>) -> Vec<Node<'t>> {
    let options = options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::default();
    let mut nodes = 0_usize;
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => {
                nodes += usize::from(event.is_node());
                if nodes > MAX_NODES {
                    let message = format!("the file has more than {MAX_NODES} values");
                    report(Position::of(&span), message, "divide it");
                    break;
                }
                builder.take(event, &span, report);
            }
            Some(Err(error)) => {
                builder.abandon_document();
                let mark = error.marker();
                let at = Position { line: mark.line(), column: mark.col() + 1 };
                report(
                    at,
                    format!("this is not YAML: {}", shown(&error.info())),
                    remedy(error.kind()),
                );
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
    }
    builder.documents
}

/// What to do about the one syntax error that good patterns make.
fn remedy(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::MissingAnchorOrAliasName => QUOTE_STAR,
        _ => "",
    }
}

const QUOTE_STAR: &str = "put a text that begins with * in quotes";

#[derive(Default)]
struct Builder<'t> {
    documents: Vec<Node<'t>>,
    open: Vec<Open<'t>>,
}

/// A collection whose end has not come.
enum Open<'t> {
    List { at: Position, items: Vec<Node<'t>> },
    Map { at: Position, entries: Vec<Entry<'t>>, key: Key<'t> },
}

/// The state of a mapping between a key and its value.
enum Key<'t> {
    Awaited,
    Read(Cow<'t, str>, Position),
    Refused,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: &Span, report: Report<'_>) {
        let at = Position::of(span);
        if let Some(tag) = event.tag() {
            let message = format!("the tag {} is not supported", shown(&tag.original()));
            report(at, message, "leave it out");
        }
        match event {
            Event::Scalar(text, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                self.complete(Node { at, value: Value::Scalar { text, plain } }, report);
            }
            Event::SequenceStart(..) => self.open.push(Open::List { at, items: Vec::new() }),
            Event::MappingStart(..) => {
                self.open.push(Open::Map { at, entries: Vec::new(), key: Key::Awaited });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List { at, items }) => Node { at, value: Value::List(items) },
                    Some(Open::Map { at, entries, .. }) => Node { at, value: Value::Map(entries) },
                    None => return,
                };
                self.complete(node, report);
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                report(at, "aliases are not supported".to_owned(), QUOTE_STAR);
                self.complete(Node { at, value: Value::Refused }, report);
            }
            Event::Anchor(..) => {
                let remedy = "leave it out, or put a text that begins with & in quotes";
                report(at, "anchors are not supported".to_owned(), remedy);
            }
            _ => {}
        }
    }

    fn complete(&mut self, node: Node<'t>, report: Report<'_>) {
        match self.open.last_mut() {
            // A document of nothing but comments is a plain scalar without value.
            None => {
                if !matches!(&node.value, Value::Scalar { text, plain: true } if is_null(text)) {
                    self.documents.push(node);
                }
            }
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match std::mem::replace(key, Key::Awaited) {
                Key::Awaited => {
                    *key = match node.value {
                        Value::Scalar { text, .. } => Key::Read(text, node.at),
                        Value::Refused => Key::Refused,
                        Value::List(_) | Value::Map(_) => {
                            report(node.at, "a key must be a text".to_owned(), "");
                            Key::Refused
                        }
                    };
                }
                Key::Read(key, key_at) => entries.push(Entry { key, key_at, value: node }),
                Key::Refused => {}
            },
        }
    }

    fn abandon_document(&mut self) {
        self.open.clear();
    }
}
