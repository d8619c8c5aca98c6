//! The JSON Schema of a policy document, for editors, other tools and, later, a cluster.
//!
//! Draft 2020-12, generated from the document's types. It is structural, as Kubernetes asks of the
//! schema of a custom resource: no `$ref`, a type everywhere, plain `enum`s, no `null`. It says
//! what can be said of shapes; what fields mean together is for `portcullis policy check`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::{Expression, ImagePattern, Period, ProtectionPolicy, WordPattern};

/// The schema of one document.
pub fn schema() -> Value {
    let mut schema = of_types();
    if let Value::Object(schema) = &mut schema {
        merge(schema, beyond_types());
    }
    schema
}

/// What the types and their documentation say.
fn of_types() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<ProtectionPolicy>();
    RecursiveTransform(structural).transform(&mut schema);
    schema.to_value()
}

/// What the types do not say, in the places where the schema has them.
fn beyond_types() -> Value {
    let one_of_both =
        json!({ "anyOf": [{ "required": ["include"] }, { "required": ["exclude"] }] });
    let not_blank = |example: &str| json!({ "pattern": "\\S", "examples": [example] });
    let id = json!({ "pattern": "^\\S(.*\\S)?$", "examples": ["CVE-2021-44228"] });
    let label = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?";
    let rules = json!({ "items": {
        "anyOf": [{ "required": ["class"] }, { "required": ["when"] }],
        "examples": [
            { "class": "vulnerability", "severity": ["critical"], "fixable": true, "action": "block" },
        ],
        "properties": {
            // All classes but `authorization`.
            "class": { "enum": ["vulnerability", "malware", "baseline", "secret", "workload"] },
            "severity": { "minItems": 1 },
            "ids": { "minItems": 1, "items": id },
            "cvss": { "minimum": 0, "maximum": 10, "examples": [9.0] },
            "epss": { "minimum": 0, "maximum": 1, "examples": [0.5] },
        },
    }});
    let exceptions = json!({ "items": { "properties": {
        "id": id,
        "package": not_blank("openssl"),
        "namespaces": one_of_both,
        "sha256": { "pattern": "^[0-9a-f]{64}$" },
        "owner": not_blank("team-web@example.com"),
        "reason": not_blank("not reachable, behind mTLS"),
        "ticket": not_blank("SEC-1234"),
    }}});
    json!({
        "properties": {
            "metadata": {
                "additionalProperties": false,
                "properties": kubernetes_metadata(&format!("^{label}(\\.{label})*$")),
            },
            "spec": { "properties": {
                "scope": { "properties": {
                    "namespaces": one_of_both,
                    "images": one_of_both,
                    "podLabels": {
                        "minProperties": 1,
                        "additionalProperties": { "pattern": "^[^*]*$" },
                        "examples": [{ "tier": "web" }] },
                    "engines": { "minItems": 1 },
                    "nodes": one_of_both,
                }},
                "authorized": {
                    "anyOf": [
                        { "required": ["images"] },
                        {
                            "required": ["requireDigest"],
                            "properties": { "requireDigest": { "enum": [true] } },
                        },
                    ],
                    "properties": { "images": { "minItems": 1 } },
                },
                "rules": rules,
                "unscanned": { "minProperties": 1 },
                "exceptions": exceptions,
            }},
            "status": {
                "description": "Kept by Kubernetes. Says nothing about protection.",
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
            },
        },
    })
}

/// The name, and what Kubernetes keeps beside it; the document's reader reads past those.
fn kubernetes_metadata(name: &str) -> Value {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "name": { "maxLength": 253, "pattern": name, "examples": ["production"] },
        "annotations": texts,
        "creationTimestamp": { "type": "string" },
        "finalizers": { "type": "array", "items": { "type": "string" } },
        "generation": { "type": "integer" },
        "labels": texts,
        "managedFields": { "type": "array", "items": open },
        "ownerReferences": { "type": "array", "items": open },
        "resourceVersion": { "type": "string" },
        "selfLink": { "type": "string" },
        "uid": { "type": "string" },
    })
}

/// Puts `more` into a schema: objects are joined, all else is replaced.
fn merge(schema: &mut Map<String, Value>, more: Value) {
    let Value::Object(more) = more else {
        return;
    };
    for (key, value) in more {
        match schema.get_mut(&key) {
            Some(Value::Object(present)) if value.is_object() => merge(present, value),
            _ => {
                schema.insert(key, value);
            }
        }
    }
}

/// Turns what the generator writes into what a structural schema has.
pub fn structural(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    without_null(object);
    words(object);
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = for_people(text);
    }
    // A list that is written is not empty: the readers refuse it.
    if object.get("type") == Some(&json!("array")) {
        object.entry("minItems").or_insert(json!(1));
    }
}

/// A field that may be left out is never written as `null`.
fn without_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(kinds)) = object.get("anyOf")
        && let [Value::Object(kind), null] = kinds.as_slice()
        && *null == json!({ "type": "null" })
    {
        let kind = kind.clone();
        object.remove("anyOf");
        for (key, value) in kind {
            object.entry(key).or_insert(value);
        }
    }
}

/// One of several words, each with a description, becomes an `enum` that describes them all.
fn words(object: &mut Map<String, Value>) {
    let Some(Value::Array(kinds)) = object.get("oneOf") else {
        return;
    };
    let mut names = Vec::new();
    let mut described = String::new();
    for kind in kinds {
        let Some(name) = kind.get("const").and_then(Value::as_str) else {
            return;
        };
        let meaning = kind.get("description").and_then(Value::as_str).unwrap_or_default();
        described.push_str(&format!("\n- {name}: {meaning}"));
        names.push(name.to_owned());
    }
    let general = object.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{general}\n{described}").trim().to_owned();
    object.remove("oneOf");
    object.insert("type".to_owned(), json!("string"));
    object.insert("enum".to_owned(), json!(names));
    object.insert("description".to_owned(), json!(description));
}

/// Documentation as people read it: links within the code say nothing to them.
fn for_people(text: &str) -> String {
    let mut plain = text.replace("[`", "`").replace("`]", "`");
    // "See" goes to code, whatever stands before it is the meaning.
    while let Some(at) = plain.find("; see `") {
        let end = plain[at + 7..].find('`').map_or(plain.len(), |end| at + 8 + end);
        plain.replace_range(at..end, "");
    }
    plain
}

/// A text that is read by a parser of ours: its pattern and examples.
macro_rules! texts {
    ($($(#[$meta:meta])* $name:ty, $title:literal, $description:literal, $more:tt;)+) => {$(
        $(#[$meta])*
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let mut schema = json_schema!($more);
                schema.insert("type".to_owned(), json!("string"));
                schema.insert("description".to_owned(), json!($description));
                schema
            }
        }
    )+};
}

/// Stands for a time in the schema.
pub(crate) struct Time;
/// Stands for a day in the schema.
pub(crate) struct Day;

texts! {
    ImagePattern, "ImagePattern",
    "Which images: a reference, in which * stands for characters within one component and ** for \
     one or more components. nginx is docker.io/library/nginx:latest and matches that tag only; \
     with @sha256:... the digest alone counts.",
    {
        "minLength": 1,
        "maxLength": 512,
        "pattern": "^[a-z0-9.:_*/\\[\\]-]*(:[A-Za-z0-9_.*-]+)?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$",
        "examples": ["registry.example.com/**", "nginx:1.*"]
    };
    WordPattern, "WordPattern",
    "A name, in which * stands for any characters.",
    {
        "minLength": 1,
        "maxLength": 512,
        "pattern": "^[A-Za-z0-9_.*-]+$",
        "examples": ["prod-*"]
    };
    Period, "Period",
    "A length of time, with the longest unit first: days, hours, minutes, seconds.",
    {
        "minLength": 2,
        "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        "examples": ["7d", "168h", "1d12h"]
    };
    Expression, "Expression",
    "A condition in CEL over finding (where the rule has a class), image, request and now.",
    {
        "minLength": 1,
        "maxLength": 4096,
        "examples": ["image.created < now - duration(\"8760h\")"]
    };
    Time, "Time",
    "A time with its zone.",
    {
        "format": "date-time",
        "examples": ["2026-12-15T00:00:00Z"]
    };
    Day, "Day",
    "A day, UTC.",
    {
        "format": "date",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        "examples": ["2026-12-31"]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fields below a schema, by their paths.
    fn fields(schema: &Value, path: &str, found: &mut Vec<String>) {
        if let Some(Value::Object(properties)) = schema.get("properties") {
            for (name, field) in properties {
                let path = format!("{path}.{name}");
                fields(field, &path, found);
                found.push(path);
            }
        }
        if let Some(items) = schema.get("items") {
            fields(items, path, found);
        }
    }

    #[test]
    fn nothing_is_said_of_a_field_that_does_not_exist() {
        let (mut of, mut beyond) = (Vec::new(), Vec::new());
        fields(&of_types(), "", &mut of);
        fields(&beyond_types(), "", &mut beyond);
        beyond.retain(|path| !path.starts_with(".metadata.") && path != ".status");
        assert!(beyond.len() > 20, "{beyond:?}");
        for path in beyond {
            assert!(of.contains(&path), "{path} is not among {of:?}");
        }
    }

    #[test]
    fn documentation_is_for_people() {
        assert_eq!(
            for_people("Whether; see [`Spec::observes`]. Left out: no."),
            "Whether. Left out: no."
        );
        assert_eq!(for_people("A [`Period`]."), "A `Period`.");
    }
}
