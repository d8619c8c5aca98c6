//! The manifests say what the types say.

use std::path::Path;

use portcullis_kubernetes::{custom_resources, for_people};
use serde_json::Value;

/// Everything in a schema, with the path to it.
fn walk<'s>(schema: &'s Value, path: &str, seen: &mut Vec<(String, &'s Value)>) {
    seen.push((path.to_owned(), schema));
    match schema {
        Value::Object(members) => {
            members.iter().for_each(|(k, v)| walk(v, &format!("{path}.{k}"), seen))
        }
        Value::Array(all) => all.iter().for_each(|v| walk(v, path, seen)),
        _ => {}
    }
}

#[test]
fn the_definitions_are_those_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/kubernetes/crds.yaml");
    let text = std::fs::read_to_string(file).expect("the file is there");
    assert_eq!(
        text,
        for_people(&custom_resources()),
        "write it anew: portcullisd --print-crds > integration/kubernetes/crds.yaml"
    );
}

#[test]
fn the_schemas_are_what_an_api_server_takes() {
    for definition in custom_resources() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut seen = Vec::new();
        walk(schema, "", &mut seen);
        assert!(seen.len() > 50);
        for (path, value) in seen {
            let Value::Object(members) = value else { continue };
            // Where the members are properties, their names are anything.
            if path.ends_with(".properties") {
                continue;
            }
            for keyword in ["$ref", "$schema", "examples", "const", "title"] {
                assert!(!members.contains_key(keyword), "{path} has {keyword}");
            }
            let typed = members.get("type").is_some_and(Value::is_string);
            assert!(
                typed || !members.contains_key("properties") || path.contains("anyOf"),
                "{path} has properties and no type"
            );
        }
    }
}
