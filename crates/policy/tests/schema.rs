//! The JSON Schema against documents as people write them: what is well passes, and each fault of
//! `cases/faults/*.yaml` that is one of shape is found at its place.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use granit_parser::{Event, Parser, ScalarStyle};
use portcullis_policy::case::FOLDER;
use portcullis_policy::schema::schema;
use portcullis_policy::yaml::{SourceFile, read};
use regex_lite::Regex;
use serde_json::{Map, Value, json};

/// The documents of a text by the core schema of YAML 1.2, up to the first syntax error.
fn documents(text: &str) -> Vec<Value> {
    enum Open {
        List(Vec<Value>),
        Map(Map<String, Value>, Option<String>),
    }
    let (mut found, mut open): (Vec<Value>, Vec<Open>) = (Vec::new(), Vec::new());
    for event in Parser::new_from_str(text) {
        let Ok((event, _)) = event else { break };
        let complete = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
            Event::Scalar(text, ..) => json!(text),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().unwrap() {
                Open::List(items) => Value::Array(items),
                Open::Map(fields, _) => Value::Object(fields),
            },
            _ => continue,
        };
        match open.last_mut() {
            None => found.push(complete),
            Some(Open::List(items)) => items.push(complete),
            Some(Open::Map(fields, key)) => match key.take() {
                None => *key = Some(complete.as_str().map_or(complete.to_string(), str::to_owned)),
                Some(key) => {
                    fields.insert(key, complete);
                }
            },
        }
    }
    found.retain(|document| !document.is_null());
    found
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => json!(true),
        "false" => json!(false),
        number if number.bytes().any(|b| b.is_ascii_digit()) => match number.parse::<f64>() {
            Ok(number) => json!(number),
            Err(_) => json!(text),
        },
        _ => json!(text),
    }
}

/// The places where a document does not fit, as faults write them.
fn misfits(schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let below = |field: &str| match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    };
    let keywords = schema.as_object().unwrap();
    if keywords.iter().any(|(keyword, wanted)| contradicts(keyword, wanted, value)) {
        found.insert(path.to_owned());
    }
    let known = schema.get("properties").and_then(Value::as_object);
    if let Some(fields) = value.as_object() {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let required = required.map(|field| field.as_str().unwrap());
        found.extend(required.filter(|field| !fields.contains_key(*field)).map(below));
        for (name, field) in fields {
            match (known.and_then(|known| known.get(name)), schema.get("additionalProperties")) {
                (Some(schema), _) => misfits(schema, field, &below(name), found),
                (None, Some(Value::Bool(false))) => {
                    found.insert(below(name));
                }
                (None, Some(schema)) => misfits(schema, field, &below(name), found),
                (None, None) => {}
            }
        }
    }
    if let Some(items) = schema.get("items") {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            misfits(items, item, &format!("{path}[{index}]"), found);
        }
    }
}

/// Whether the value itself is not as the keyword wants it. A keyword that is not known here fails
/// the test, so nothing of the schema is passed over.
fn contradicts(keyword: &str, wanted: &Value, value: &Value) -> bool {
    let number = || wanted.as_f64().unwrap();
    let is_short = |length: Option<usize>| length.is_some_and(|l| l < number() as usize);
    let text = value.as_str();
    match keyword {
        "$schema" | "title" | "description" | "examples" => false,
        "properties" | "items" | "required" | "additionalProperties" => false,
        "x-kubernetes-preserve-unknown-fields" => false,
        "type" => !is_of_type(wanted.as_str().unwrap(), value),
        "enum" => !wanted.as_array().unwrap().contains(value),
        "pattern" => {
            let pattern = Regex::new(wanted.as_str().unwrap()).unwrap();
            text.is_some_and(|text| !pattern.is_match(text))
        }
        "format" => text.is_some_and(|text| !fits(wanted.as_str().unwrap(), text)),
        "minLength" => is_short(text.map(|text| text.chars().count())),
        "maxLength" => text.is_some_and(|text| text.chars().count() > number() as usize),
        "minItems" => is_short(value.as_array().map(Vec::len)),
        "minProperties" => is_short(value.as_object().map(Map::len)),
        "minimum" => value.as_f64().is_some_and(|v| v < number()),
        "maximum" => value.as_f64().is_some_and(|v| v > number()),
        "anyOf" => {
            let fits = |kind: &Value| {
                let mut found = BTreeSet::new();
                misfits(kind, value, "", &mut found);
                found.is_empty()
            };
            value.is_object() && !wanted.as_array().unwrap().iter().any(fits)
        }
        other => panic!("the keyword {other} is not known"),
    }
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|v| v.fract() == 0.0),
        other => panic!("the type {other} is not known"),
    }
}

fn fits(format: &str, text: &str) -> bool {
    match format {
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        // How precise a number is kept.
        "float" => true,
        other => panic!("the format {other} is not known"),
    }
}

fn all_misfits(text: &str) -> BTreeSet<String> {
    let schema = schema();
    let mut found = BTreeSet::new();
    for document in documents(text) {
        misfits(&schema, &document, "", &mut found);
    }
    found
}

fn files(folder: impl AsRef<Path>, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

/// All policies of the decision cases, of lint's cases, and those that are shipped.
fn well_formed() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for path in files(FOLDER, "toml") {
        let table: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        let cases = table.get("case").and_then(toml::Value::as_array).into_iter().flatten();
        let own = cases.filter_map(|case| case.get("policy"));
        for (index, policy) in table.get("policy").into_iter().chain(own).enumerate() {
            // The cases write digests by words.
            let digests = Regex::new("<digest:[^>]*>").unwrap();
            let digest = format!("sha256:{}", "0".repeat(64));
            let text = digests.replace_all(policy.as_str().unwrap(), &digest).into_owned();
            texts.push((format!("{} {index}", path.display()), text));
        }
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/policies");
    let lint = Path::new(FOLDER).join("lint");
    for folder in [shipped.clone(), shipped.join("templates"), lint] {
        for path in files(folder, "yaml") {
            texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    texts
}

#[test]
fn what_is_well_formed_fits() {
    let texts = well_formed();
    assert!(texts.len() > 60, "only {} texts were found", texts.len());
    for (name, text) in texts {
        assert_eq!(all_misfits(&text), BTreeSet::new(), "{name}");
    }
}

#[test]
fn a_document_as_kubernetes_stores_it_fits() {
    let text = "
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata:
  name: production.team-a
  labels: { app: x }
  annotations: { kubectl.kubernetes.io/last-applied-configuration: '{}' }
  creationTimestamp: '2026-10-01T00:00:00Z'
  finalizers: [a]
  generation: 1
  managedFields: [{ manager: kubectl, fieldsV1: { 'f:spec': {} } }]
  ownerReferences: [{ name: x }]
  resourceVersion: '12'
  selfLink: /x
  uid: 3f0c1f9e-8d5b-4b1e-9a55-2d1c5bb4b9a1
spec:
  mode: enforce
status: { anything: [1, 2] }
";
    assert_eq!(all_misfits(text), BTreeSet::new());
    assert!(read(&[SourceFile { name: "a", bytes: text.as_bytes() }]).is_ok());
}

/// What fields mean together, and what is wrong with a text beyond its shape.
const BEYOND_SHAPE: [&str; 18] = [
    "the field is written twice",
    "another policy is named",
    "have no such value",
    "have no such date",
    "grace turns a block into an alarm",
    "known to be exploited has no grace",
    "is tried already",
    "exceptions do not judge authorization",
    "a rule without a class is about the start",
    // The conditions have a language of their own.
    "(column ",
    "the label has no name",
    "** stands alone between slashes",
    "** is for image paths",
    "its first component could be",
    "it is nothing",
    "longer than a hundred years",
    // YAML 1.1 takes these for other things than texts, JSON Schema sees the text.
    "no is not a text for YAML",
    "1.10 is not a text for YAML",
];

#[test]
fn every_fault_of_shape_is_found_at_its_place() {
    let fault =
        Regex::new(r"^#! \d+:\d+: ((?:spec|metadata|apiVersion|kind)[^ :]*): (.*)$").unwrap();
    let mut beyond = BTreeSet::new();
    let mut faults = 0;
    let mut missed = Vec::new();
    for path in files(Path::new(FOLDER).join("faults"), "yaml") {
        let text = std::fs::read_to_string(&path).unwrap();
        // Where the text is no YAML, or more than JSON can say, it has to be read in another way.
        if text.contains("this is not YAML") || text.contains("anchors are not supported") {
            continue;
        }
        let found = all_misfits(&text);
        for line in text.lines().filter_map(|line| fault.captures(line)) {
            let (place, message) = (&line[1], &line[2]);
            if let Some(known) = BEYOND_SHAPE.iter().find(|known| message.contains(**known)) {
                beyond.insert(*known);
                continue;
            }
            faults += 1;
            // That one of several fields is missing is said of what they would stand in.
            let parent = place.rsplit_once('.').map_or("", |(parent, _)| parent);
            let missing = message.starts_with("the field is missing") && found.contains(parent);
            if !missing && !found.contains(place) {
                missed.push(format!("{}: {place}: {message}", path.file_name().unwrap().display()));
            }
        }
    }
    assert!(missed.is_empty(), "missed:\n{}", missed.join("\n"));
    assert_eq!(beyond.len(), BEYOND_SHAPE.len(), "of these, only: {beyond:#?}");
    assert!(faults > 90, "only {faults} faults are of shape");
}

/// As Kubernetes wants the schema of a custom resource.
#[test]
fn it_is_structural() {
    fn check(schema: &Value, path: &str) {
        let schema = schema.as_object().unwrap();
        assert!(schema.get("type").is_some_and(Value::is_string), "{path} has no type");
        for keyword in ["$ref", "$defs", "oneOf", "allOf", "const", "not", "if"] {
            assert!(!schema.contains_key(keyword), "{path} has {keyword}");
        }
        for (name, field) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            check(field, &format!("{path}.{name}"));
            let says = field.get("description").and_then(Value::as_str).unwrap_or_default();
            assert!(!says.contains("[`"), "{path}.{name}: {says}");
            if path.starts_with(".spec") {
                assert!(!says.is_empty(), "{path}.{name} is not described");
            }
        }
        if let Some(items) = schema.get("items") {
            check(items, &format!("{path}[]"));
        }
        if schema.get("type") == Some(&json!("object")) {
            let open = schema.contains_key("x-kubernetes-preserve-unknown-fields");
            assert!(open || schema.contains_key("additionalProperties"), "{path} is open");
        }
    }
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    check(&schema, "");
}

/// Each example of the schema fits where it stands.
#[test]
fn its_examples_fit() {
    fn check(schema: &Value, seen: &mut usize) {
        for example in schema.get("examples").and_then(Value::as_array).into_iter().flatten() {
            let mut found = BTreeSet::new();
            misfits(schema, example, "", &mut found);
            assert_eq!(found, BTreeSet::new(), "{example}");
            *seen += 1;
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|field| check(field, seen)),
            Value::Array(items) => items.iter().for_each(|item| check(item, seen)),
            _ => {}
        }
    }
    let mut seen = 0;
    check(&schema(), &mut seen);
    assert!(seen > 20, "only {seen} examples");
}
