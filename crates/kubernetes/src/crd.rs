//! The custom resource definitions, generated from the types, and the policies' YAML for a node.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use crate::objects::{GROUP, NodeProtectionSpec, NodeProtectionStatus, PolicyStatus, VERSION};

/// The definitions of all our resources, in `apiextensions.k8s.io/v1`.
pub fn custom_resources() -> Vec<Value> {
    vec![protection_policies(), node_protections()]
}

fn protection_policies() -> Value {
    let mut schema = portcullis_policy::schema::schema();
    // The API server has its own notion of these.
    let object = json!({ "type": "object" });
    schema["properties"]["apiVersion"] = json!({ "type": "string" });
    schema["properties"]["kind"] = json!({ "type": "string" });
    schema["properties"]["metadata"] = object;
    schema["properties"]["status"] = of::<PolicyStatus>("Written by the agents.");
    if let Some(schema) = schema.as_object_mut() {
        schema.retain(|key, _| {
            matches!(key.as_str(), "type" | "description" | "properties" | "required")
        });
    }
    definition(
        &Names { kind: "ProtectionPolicy", plural: "protectionpolicies", short: "pp" },
        schema,
        &[
            ("Mode", "string", ".spec.mode"),
            ("Nodes", "integer", ".status.nodes"),
            ("In force", "integer", ".status.inForce"),
            ("Failing", "integer", ".status.failing"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
    )
}

fn node_protections() -> Value {
    let schema = json!({
        "type": "object",
        "description": "How Portcullis protects a node, and what people did about its events.",
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": of::<NodeProtectionSpec>("Yours."),
            "status": of::<NodeProtectionStatus>("The node's."),
        },
    });
    definition(
        &Names { kind: "NodeProtection", plural: "nodeprotections", short: "np" },
        schema,
        &[
            ("State", "string", ".status.state"),
            ("Set", "string", ".status.policySet"),
            ("Problem", "string", ".status.problems[0]"),
            ("Version", "string", ".status.version"),
            ("Age", "date", ".metadata.creationTimestamp"),
        ],
    )
}

struct Names {
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
}

fn definition(names: &Names, mut schema: Value, columns: &[(&str, &str, &str)]) -> Value {
    for_api_server(&mut schema);
    let columns: Vec<Value> = columns
        .iter()
        .map(|(name, kind, path)| json!({ "name": name, "type": kind, "jsonPath": path }))
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", names.plural),
            "labels": { "app.kubernetes.io/name": "portcullis" },
        },
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": names.kind,
                "listKind": format!("{}List", names.kind),
                "plural": names.plural,
                "singular": names.kind.to_lowercase(),
                "shortNames": [names.short],
                "categories": ["portcullis"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns,
            }],
        },
    })
}

/// The schema of a type, structural.
fn of<T: schemars::JsonSchema>(description: &str) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schemars::transform::Transform::transform(
        &mut RecursiveTransform(portcullis_policy::schema::structural),
        &mut schema,
    );
    let mut schema = schema.to_value();
    schema["description"] = json!(description);
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$schema");
        schema.remove("title");
    }
    without(&mut schema, &["default", "minItems"]);
    schema
}

/// Takes keywords out everywhere: what agents write may be empty, and has no defaults.
fn without(schema: &mut Value, keywords: &[&str]) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(|one| without(one, keywords)),
        Value::Object(object) => {
            keywords.iter().for_each(|keyword| drop(object.remove(*keyword)));
            object.values_mut().for_each(|value| without(value, keywords));
        }
        _ => {}
    }
}

/// Takes out what the API server's subset of JSON Schema (OpenAPI 3.0) does not have.
fn for_api_server(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(for_api_server),
        Value::Object(object) => {
            // A property may be called like one of these: then its value is a schema.
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                properties.values_mut().for_each(for_api_server);
            }
            for unknown in ["$schema", "examples", "title", "deprecated"] {
                object.remove(unknown);
            }
            // What is not named is refused by pruning it, where both would exclude each other.
            if object.contains_key("properties")
                && object.get("additionalProperties").is_some_and(|more| more == false)
            {
                object.remove("additionalProperties");
            }
            // Numbers of Rust's types are no formats of OpenAPI.
            if let Some(format) = object.get("format").and_then(Value::as_str)
                && !matches!(format, "date-time" | "date" | "int32" | "int64" | "double")
            {
                object.remove("format");
            }
            for (key, value) in object.iter_mut() {
                if matches!(
                    key.as_str(),
                    "items" | "additionalProperties" | "anyOf" | "allOf" | "oneOf" | "not"
                ) {
                    for_api_server(value);
                }
            }
        }
        _ => {}
    }
}

/// Definitions as a file for `kubectl apply`: YAML documents, each written as JSON, which YAML is.
pub fn for_people(documents: &[Value]) -> String {
    let mut text = String::from("# Generated from the types: portcullisd --print-crds\n");
    for document in documents {
        text.push_str("---\n");
        text.push_str(&serde_json::to_string_pretty(document).unwrap_or_default());
        text.push('\n');
    }
    text
}
