//! What is printed, on a node with long names: no wider than a screen, coloured only where it is
//! wanted, and as JSON of the shape that `portcullis schema` tells.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::{FEEDS, Node, VEX, digest, report};
use portcullis_audit::Ledger;
use portcullis_testkit::registry::{Fake, push_image};
use portcullis_types::Event;
use serde_json::{Value, json};

const EVENTS: &str = "var/lib/portcullis/events";

/// An image about which the node knows something, at a registry in memory; its reference.
fn at_a_registry(node: &Node) -> [String; 2] {
    let fake = Fake::start();
    let image = push_image(&fake.address, "team/web", "1.4", "amd64", "x");
    let reference = format!("{}/team/web:1.4", fake.address);
    let mut about = report(1, &["CVE-2024-0001"]);
    about["Metadata"]["ImageID"] = json!(image.config);
    about["Metadata"]["DiffIDs"] = json!(image.diff_ids);
    about["Metadata"]["RepoTags"] = json!([reference]);
    let file = node.file("at-a-registry.json", about.to_string());
    node.run(&["import", &file], 0);
    [image.config.to_string(), reference]
}

/// A node with something for every command to tell, all of it long.
fn filled() -> Node {
    let node = Node::with_scanner();
    let passwd = node.path("rootfs/etc");
    std::fs::create_dir_all(&passwd).unwrap();
    node.file("rootfs/etc/passwd", format!("root::0:0:{}:/root:/bin/sh\n", "long".repeat(40)));
    node.file("rootfs/etc/os-release", "ID=debian\nVERSION_ID=9\n");
    for n in 0..4 {
        let name = format!("{}-{n}", "policy-with-a-long-name".repeat(2));
        let about = "Says at length what it is good for and why it stands here. ".repeat(4);
        node.file(
            &format!("etc/portcullis/policies/{n}.yaml"),
            format!(
                "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n\
                 metadata: {{ name: {name} }}\nspec:\n  description: {about}\n  rules:\n  \
                 - {{class: vulnerability, severity: [high], action: block}}\n"
            ),
        );
    }
    let statement = json!({
        "vulnerability": { "name": "CVE-2024-0001" }, "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        "products": [{ "@id": "pkg:oci/a-product-with-a-long-name?repository_url=registry.example.com/a" }],
    });
    node.file(
        &format!("{VEX}/web.openvex.json"),
        json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex/1",
            "author": "a", "timestamp": "2026-01-01T00:00:00Z", "version": 1,
            "statements": [statement],
        })
        .to_string(),
    );
    let kev = json!({
        "catalogVersion": "2026.01.01", "dateReleased": "2026-01-01T00:00:00Z", "count": 1,
        "vulnerabilities": [{ "cveID": "CVE-2024-0001", "dateAdded": "2024-01-02" }],
    });
    node.file(&format!("{FEEDS}/kev.json"), kev.to_string());
    node.run(&["policy", "apply"], 0);
    let mut long = report(1, &["CVE-2024-0001", "CVE-2024-0002"]);
    long["ArtifactName"] = json!(format!("registry.example.com/{}/web:1.4", "team".repeat(12)));
    let vulnerabilities = &mut long["Results"][0]["Vulnerabilities"];
    for severity in ["CRITICAL", "MEDIUM", "LOW", "UNKNOWN"] {
        let mut more = vulnerabilities[1].clone();
        more["Severity"] = json!(severity);
        more["VulnerabilityID"] = json!(format!("CVE-2025-{}", severity.len() + 1000));
        more["InstalledVersion"] = json!("2:1.2.3.4-5+deb12u6+really".repeat(2));
        more["FixedVersion"] = json!("2:1.2.3.5-5+deb12u7+really".repeat(2));
        vulnerabilities.as_array_mut().unwrap().push(more);
    }
    vulnerabilities[0]["PkgName"] = json!("a-package-".repeat(5) + "x");
    node.file("report-1.json", long.to_string());
    let report = node.path("report-1.json").display().to_string();
    node.run(&["import", &report], 0);
    std::fs::create_dir_all(node.path(EVENTS)).unwrap();
    let event = json!({
        "id": "01JD3V8Q2M", "time": "2026-11-01T10:00:00Z", "kind": "decision", "action": "allow",
        "message": format!("portcullis: allowed: {}", "something to say; ".repeat(20)),
        "request": {
            "engine": "containerd", "node": "n1", "containerId": "c".repeat(64),
            "kind": "container", "namespace": "a-namespace".repeat(5), "pod": "a-pod".repeat(12),
            "container": "web",
        },
        "image": {
            "surety": "bound", "config": digest(1), "chainId": digest(2), "manifests": [digest(3)],
            "names": [{
                "reference": format!("registry.example.com/{}/web:1.4", "team".repeat(12)),
                "held": true, "asked": true,
            }],
        },
        "policies": ["policy-with-a-long-name"], "findings": 3,
        "workload": [{
            "class": "workload", "id": "privileged", "severity": "critical",
            "title": "all capabilities ".repeat(12), "path": "process.capabilities", "source": "spec",
        }],
        "imageConfig": { "created": "2026-10-01T00:00:00Z", "user": "app", "labels": { "a": "b" } },
    });
    let events = json!([{ "introduced": "0" }, { "fixed": "2" }]);
    let advisory = json!({
        "id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "modified": "2026-01-01T00:00:00Z",
        "summary": "something to say; ".repeat(20),
        "affected": [{
            "package": { "ecosystem": "PyPI", "name": "package" },
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
    });
    node.file("osv.json", advisory.to_string());
    let ledger = Ledger::new(node.path(EVENTS), 16 << 20);
    ledger.append(&serde_json::from_value::<Event>(event).unwrap()).unwrap();
    node
}

/// Every command that prints something of the node: what is typed, its exit code, and by which name
/// `portcullis schema` knows it, if by another one than its first words.
fn commands(node: &Node) -> Vec<(Vec<String>, i32, &'static str)> {
    let report = node.path("report-1.json").display().to_string();
    let policies = node.path("etc/portcullis/policies").display().to_string();
    let osv = node.path("osv.json").display().to_string();
    let image = digest(1);
    let root = node.path("rootfs").display().to_string();
    let [pushed, reference] = at_a_registry(node);
    let pull = ["verdict", "pull", &reference, "--allow-unsigned", "--platform", "linux/amd64"];
    let cases: [(&[&str], i32, &'static str); 38] = [
        (&["status"], 0, "status"),
        (&["policy", "check"], 0, "policy check"),
        (&["policy", "apply"], 0, "policy apply"),
        (&["policy", "list"], 0, "policy list"),
        (&["policy", "lint"], 0, "policy lint"),
        (&["policy", "template"], 0, "policy template"),
        (&["policy", "template", "watch"], 0, "policy template NAME"),
        (&["policy", "show", "policy-with-a-long-namepolicy-with-a-long-name-0"], 0, "policy show"),
        (&["import", &report], 0, "import"),
        (&["scan", &root, "--all"], 0, "scan"),
        (&["feed", "status"], 0, "feed status"),
        (&["feed", "update"], 0, "feed update"),
        (&["db", "compare", "npm", "1.0.0-rc.1", "1.0.0"], 0, "db compare"),
        (&["db", "update", &osv], 0, "db update"),
        (&["db", "rematch"], 0, "db rematch"),
        (&["db", "status"], 0, "db status"),
        (&["db", "verify"], 0, "db verify"),
        (&["db", "query", "PyPI", "package", "1"], 0, "db query"),
        (&["vex", "list"], 0, "vex list"),
        (&["vex", "check"], 0, "vex check"),
        (&["vex", "explain", "CVE-2024-0001", "--all"], 0, "vex explain"),
        (&["verdict", "list"], 0, "verdict list"),
        (&["verdict", "show", &image], 0, "verdict show"),
        (&["decide", "--image", &image, "--exit-code"], 4, "decide"),
        (&["explain", "--image", &image, "--all"], 0, "explain"),
        (&["explain", "01JD3V8Q2M", "--all"], 0, "explain"),
        (&["simulate", "--policies", &policies, "--since", "36500d"], 0, "simulate"),
        (&["events", "list", "--all"], 0, "events list"),
        (&["events", "show", "01JD3V8Q2M"], 0, "events show"),
        (&["events", "verify", "--no-journal"], 0, "events verify"),
        (&["events", "handle", "01JD3V8Q2M"], 0, "events handle"),
        (&["events", "ignore", "01JD3V8Q2M", "--note", "known"], 0, "events ignore"),
        (
            &[
                "events",
                "whitelist",
                "01JD3V8Q2M",
                "--dry-run",
                "--policy",
                "policy-with-a-long-namepolicy-with-a-long-name-0",
            ],
            0,
            "events whitelist",
        ),
        (&["config", "check"], 0, "config check"),
        (&["doctor", "--all"], 5, "doctor"),
        (&["verdict", "push", &pushed], 0, "verdict push"),
        (&pull, 0, "verdict pull"),
        (&["verdict", "rm", &image], 0, "verdict rm"),
    ];
    let own = |args: &[&str]| args.iter().map(ToString::to_string).collect();
    cases.iter().map(|(args, code, name)| (own(args), *code, *name)).collect()
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn no_line_is_wider_than_a_hundred_columns() {
    let node = filled();
    let mut wide = Vec::new();
    for (args, code, name) in commands(&node) {
        // These are JSON and YAML, as they stand.
        if ["policy show", "policy template NAME"].contains(&name) {
            continue;
        }
        let [said, _] = node.told(&borrowed(&args), code);
        for line in said.lines().filter(|line| line.chars().count() > 100) {
            // Digests, references and paths are never broken: they are for copying.
            let is_for_copying = |word: &str| word.contains(['/', ':']);
            let longest = line.split_whitespace().max_by_key(|word| word.len()).unwrap();
            let rest = line.chars().count() - longest.chars().count();
            if !(is_for_copying(longest) && rest <= 40 && longest.len() > 60) {
                wide.push(format!("{name}: {line}"));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let node = filled();
    let mut coloured = 0;
    for (args, code, name) in commands(&node) {
        // What is done to the node is done once, and has no colours.
        let args = borrowed(&args);
        if ["verdict rm", "events handle", "events ignore"].contains(&name) {
            continue;
        }
        let bare = node.run(&args, code);
        assert!(!bare.contains('\u{1b}'), "{name}: {bare}");
        let always = node.run(&[&args[..], &["--color", "always"]].concat(), code);
        let without = ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"]
            .iter()
            .fold(always.clone(), |text, code| text.replace(code, ""));
        assert!(!without.contains('\u{1b}'), "{name}: {without:?}");
        let differs = ["import", "policy apply", "feed status", "feed update", "verdict pull"];
        if !differs.contains(&name) {
            // Doctor tells how much room is left, which others change meanwhile.
            let told = |text: &str| match name {
                "doctor" => text.replace(|c: char| c.is_ascii_digit(), "#"),
                _ => text.to_owned(),
            };
            assert_eq!(told(&without), told(&bare), "{name}: colour alone may differ");
        }
        let never = node.run(&[&args[..], &["--color", "never"]].concat(), code);
        let json = node.run(&[&args[..], &["--color", "always", "-o", "json"]].concat(), code);
        assert!(!never.contains('\u{1b}') && !json.contains('\u{1b}'), "{name}");
        if ["decide", "explain", "simulate", "events list", "events show", "doctor"].contains(&name)
        {
            assert_ne!(always, bare, "{name} has no colour");
            coloured += 1;
        }
    }
    assert_eq!(coloured, 7);
}

#[test]
fn json_is_as_its_schema_says() {
    let node = filled();
    let mut all = Vec::new();
    // `preflight` needs an engine: integration/tests/engines/doctor.rs.
    let mut seen = vec!["events follow".to_owned(), "preflight".to_owned()];
    for (args, code, name) in commands(&node) {
        let printed = node.json(&borrowed(&args), code);
        let words: Vec<&str> = ["schema"].into_iter().chain(name.split(' ')).collect();
        let schema: Value = serde_json::from_str(&node.run(&words, 0)).unwrap();
        fits(&schema, &schema, &printed, name, &mut all);
        let mut misfits = Vec::new();
        // A schema that takes anything would pass too.
        fits(&schema, &schema, &json!(1), name, &mut misfits);
        assert!(!misfits.is_empty(), "{name} takes a number");
        seen.push(name.to_owned());
    }
    assert!(all.is_empty(), "{all:#?}");
    let told = node.run(&["schema"], 0);
    let documented = include_str!("../../../docs/json.md");
    for name in told.lines() {
        assert!(seen.iter().any(|s| s == name), "{name} is not tried");
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not in docs/json.md");
    }
    let (list, show) = (["schema", "events", "list"], ["schema", "nothing"]);
    assert!(node.run(&list, 0).contains("date-time"));
    node.refuses(&show, &["\"nothing\"", "portcullis schema"]);
}

/// Checks a value by the keywords of JSON Schema that are used; another keyword fails the test. A
/// field that the schema does not name is a misfit.
fn fits(root: &Value, schema: &Value, value: &Value, path: &str, misfits: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        return if schema == &json!(false) {
            misfits.push(path.to_owned())
        };
    };
    for (keyword, wanted) in keywords {
        let bad = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "examples" | "default" => false,
            "required" => wanted
                .as_array()
                .unwrap()
                .iter()
                .any(|f| value.is_object() && value.get(f.as_str().unwrap()).is_none()),
            "properties" | "additionalProperties" | "items" | "uniqueItems" => false,
            "$ref" => {
                let target = root.pointer(&wanted.as_str().unwrap()[1..]).unwrap();
                fits(root, target, value, path, misfits);
                false
            }
            "type" => {
                let one = |t: &Value| is_of_type(t.as_str().unwrap(), value);
                !wanted.as_array().map_or_else(|| one(wanted), |all| all.iter().any(one))
            }
            "const" => wanted != value,
            "enum" => !wanted.as_array().unwrap().contains(value),
            "anyOf" | "oneOf" => !wanted.as_array().unwrap().iter().any(|one| {
                let mut whole = one.clone();
                // The fields beside it are known too.
                merge(&mut whole, schema);
                let mut found = Vec::new();
                fits(root, &whole, value, path, &mut found);
                found.is_empty()
            }),
            "format" => match (wanted.as_str().unwrap(), value.as_str()) {
                ("date-time", Some(text)) => text.parse::<jiff::Timestamp>().is_err(),
                ("date", Some(text)) => text.parse::<jiff::civil::Date>().is_err(),
                _ => false,
            },
            "minimum" => value.as_f64().is_some_and(|v| v < wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_some_and(|v| v > wanted.as_f64().unwrap()),
            "minLength" | "maxLength" | "pattern" | "minItems" | "minProperties" => false,
            other => panic!("{path}: the keyword {other} is not known"),
        };
        if bad {
            misfits.push(format!("{path}: {keyword} {wanted}"));
        }
    }
    let is_split = ["anyOf", "oneOf", "$ref"].iter().any(|word| keywords.contains_key(*word));
    for (name, field) in value.as_object().into_iter().flatten() {
        let below = format!("{path}.{name}");
        match (
            schema.get("properties").and_then(|p| p.get(name)),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) | (None, Some(schema)) => fits(root, schema, field, &below, misfits),
            (None, None) if is_split => {}
            (None, None) => misfits.push(format!("{below} is not described")),
        }
    }
    if let Some(items) = schema.get("items") {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            fits(root, items, item, &format!("{path}[{index}]"), misfits);
        }
    }
}

/// Adds the properties of a schema to one of its alternatives.
fn merge(one: &mut Value, of: &Value) {
    if let (Some(one), Some(of)) = (one.as_object_mut(), of.get("properties")) {
        let fields = one.entry("properties").or_insert_with(|| json!({}));
        for (name, field) in of.as_object().unwrap() {
            fields.as_object_mut().unwrap().entry(name.clone()).or_insert_with(|| field.clone());
        }
    }
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known"),
    }
}
