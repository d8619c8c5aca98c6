//! `portcullis db`.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::{Node, assert_says};
use serde_json::json;

#[test]
fn two_versions_are_compared() {
    let node = Node::new();
    for (ecosystem, a, sign, b) in [
        ("Debian:12", "1.0~rc1", "<", "1.0"),
        ("Red Hat", "1.0a", ">", "1.0"),
        ("npm", "1.0.0+1", "=", "1.0.0"),
        ("Alpine:v3.20", "-1", "<", "1"),
    ] {
        assert_eq!(node.run(&["db", "compare", ecosystem, a, b], 0), format!("{sign}\n"));
        let wanted = json!({ "ecosystem": ecosystem, "order": sign, "claims": 0, "wrong": [] });
        assert_eq!(node.json(&["db", "compare", ecosystem, a, b], 0), wanted);
    }
}

#[test]
fn claims_of_a_file_are_checked() {
    let node = Node::new();
    let file =
        node.file("good.txt", "# from our own tests\n\n1.0 < 1.1\n1.1 = 1.1.0\n// more\n2 > 1\n");
    assert_eq!(node.run(&["db", "compare", "npm", "--file", &file], 0), "3 claims: 0 wrong\n");
    let file = node.file("bad.txt", "1.0 < 1.1\n1.10 < 1.9\n1 = 2\n");
    let said = node.run(&["db", "compare", "npm", "--file", &file], 1);
    assert_says(
        &said,
        &["line 2: 1.10 < 1.9 is wrong: 1.10 > 1.9", "line 3: 1 = 2", "3 claims: 2 wrong"],
    );
    let wrong = node.json(&["db", "compare", "npm", "--file", &file], 1)["wrong"].clone();
    assert_eq!(
        wrong[0],
        json!({ "line": 2, "a": "1.10", "claimed": "<", "b": "1.9", "order": ">" })
    );
}

#[test]
fn what_cannot_be_compared_is_an_error() {
    let node = Node::new();
    node.refuses(&["db", "compare", "Atari", "1", "2"], &["ecosystem", "\"Atari\""]);
    node.refuses(&["db", "compare", "Debian", "a:1", "2"], &["\"a:1\"", "epoch"]);
    let none = node.path("none.txt").display().to_string();
    node.refuses(&["db", "compare", "npm", "--file", &none], &["cannot read", &none]);
    for (text, part) in
        [("", "no line of the form"), ("1 < 2\n1 <= 2\n", "line 2"), ("1 < 2 3\n", "line 1")]
    {
        let file = node.file("claims.txt", text);
        node.refuses(&["db", "compare", "npm", "--file", &file], &[&file, part]);
    }
    let epoch = node.file("epoch.txt", "1 < 2\n\nx:1 < 2\n");
    node.refuses(&["db", "compare", "Debian", "--file", &epoch], &["line 3", "epoch"]);
    for args in [&["npm", "1"][..], &["npm"], &["npm", "1", "2", "--file", "x"]] {
        node.run(&[&["db", "compare"], args].concat(), 2);
    }
}

fn advisory(id: &str, name: &str, fixed: &str) -> String {
    let events = json!([{ "introduced": "0" }, { "fixed": fixed }]);
    let affected = json!([{
        "package": { "ecosystem": "PyPI", "name": name },
        "ranges": [{ "type": "ECOSYSTEM", "events": events }],
    }]);
    json!({ "id": id, "modified": "2026-01-01T00:00:00Z", "summary": "Why", "affected": affected })
        .to_string()
}

#[test]
fn advisories_are_taken_in_and_asked() {
    let node = Node::new();
    let hint = ["no vulnerability database", "db update FOLDER"];
    for args in [&["db", "status"][..], &["db", "verify"], &["db", "query", "PyPI", "a", "1"]] {
        node.refuses(args, &hint);
    }
    let first = node.file("first.json", advisory("PYSEC-1", "Some_Package", "2.0"));
    let second = node.file("second.json", advisory("PYSEC-2", "some.package", "3.0"));
    let said = node.run(&["db", "update", &first, &second], 0);
    assert_says(&said, &["ECOSYSTEM", "PyPI", "2026-01-01", "0 days ago"]);
    let query = |version| node.run(&["db", "query", "PyPI", "some-package", version], 0);
    assert_eq!(query("1.0"), "PYSEC-1  fixed in 2.0  Why\nPYSEC-2  fixed in 3.0  Why\n");
    assert_eq!(query("2.0"), "PYSEC-2  fixed in 3.0  Why\n");
    assert_eq!(query("3.0"), "");
    let status = node.json(&["db", "status"], 0);
    assert_eq!(status["ecosystems"][0]["advisories"], 2);
    assert_says(&node.run(&["db", "verify"], 0), &["1 ecosystem", "as it was written"]);
    node.refuses(&["db", "query", "Debian:12", "a", "1"], &["no advisories", "\"Debian\""]);

    // What fails leaves what is there.
    let broken = node.file("broken.json", "{");
    node.refuses(&["db", "update", &first, &broken], &["is as it was before", &broken]);
    assert_eq!(query("2.0"), "PYSEC-2  fixed in 3.0  Why\n");
    let shard = node.path("var/lib/portcullis/advisories/current/pypi.shard");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    node.refuses(&["db", "verify"], &["pypi.shard", "damaged", "db update"]);
    node.run(&["db", "update"], 2);
}
