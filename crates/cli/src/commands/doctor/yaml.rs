//! YAML as Kubernetes' files are written in it, as values: bounded, and tolerant of what is unusual.

use granit_parser::{Event, Parser, ScalarStyle, options};
use serde_json::{Map, Value};

/// Deepest nesting; pods need some ten.
const MAX_DEPTH: usize = 64;
/// Most values of one file.
const MAX_NODES: usize = 200_000;

/// Why a text is not used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotYaml {
    /// From 1.
    pub(super) line: usize,
    pub(super) what: String,
}

/// A collection whose end has not come.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// The documents of a text. An alias is null: what is looked for is never written with one.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, NotYaml> {
    let options = options! {
        emit_unresolved_aliases: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut nodes = 0_usize;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| NotYaml {
            line: error.marker().line(),
            what: error.info().to_string(),
        })?;
        nodes += 1;
        if nodes > MAX_NODES {
            let what = format!("it has more than {MAX_NODES} values");
            return Err(NotYaml { line: span.start.line(), what });
        }
        let done = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style == ScalarStyle::Plain),
            Event::Alias(_) | Event::UnresolvedAlias(_) => Value::Null,
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Value::Array(items),
                Some(Open::Map(fields, _)) => Value::Object(fields),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(done),
            Some(Open::List(items)) => items.push(done),
            Some(Open::Map(fields, key)) => match key.take() {
                Some(key) => {
                    fields.insert(key, done);
                }
                None => {
                    *key = Some(match done {
                        Value::String(text) => text,
                        other => other.to_string(),
                    });
                }
            },
        }
    }
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

fn scalar(text: &str, plain: bool) -> Value {
    match text {
        "" | "~" | "null" if plain => Value::Null,
        "true" if plain => Value::Bool(true),
        "false" if plain => Value::Bool(false),
        text => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_read_and_what_is_no_yaml_has_a_line() {
        for (text, wanted) in [
            (
                "kind: Pod\nspec: {runtimeClassName: x, hostNetwork: true, c: [1, null]}\n---\n# no\n",
                json!([{"kind": "Pod", "spec": {
                    "runtimeClassName": "x", "hostNetwork": true, "c": ["1", null]}}]),
            ),
            (r#"{"kind": "Pod", "n": "true"}"#, json!([{"kind": "Pod", "n": "true"}])),
            ("a: &x [1]\nb: *x\n", json!([{"a": ["1"], "b": null}])),
            ("", json!([])),
        ] {
            assert_eq!(json!(documents(text).unwrap()), wanted, "{text}");
        }
        assert_eq!(documents("a: 1\n  b: [").unwrap_err().line, 2);
        assert!(documents(&"[".repeat(10_000)).is_err());
    }
}
