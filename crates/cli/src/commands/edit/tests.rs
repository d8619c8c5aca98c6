use super::*;
use portcullis_policy::ProtectionPolicy;
use portcullis_policy::yaml::SourceFile;

const IMAGE: &str = "registry.example.com:5000/web:1@sha256:\
                     aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const HEAD: &str = "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n";

fn entry() -> Entry<'static> {
    Entry { image: IMAGE, malware: false, workload: false, comment: "" }
}

fn read(text: &str) -> Vec<ProtectionPolicy> {
    yaml::read(&[SourceFile { name: "test.yaml", bytes: text.as_bytes() }])
        .unwrap_or_else(|faults| panic!("{faults:?}\n{text}"))
}

/// In `text`, `HEAD` stands for the first two lines of a document, and `+` begins the lines that
/// are to be put into the policy `web`. All else must stay as it is.
#[track_caller]
fn check(name: &str, text: &str, entry: &Entry<'_>) {
    for newline in ["\n", "\r\n"] {
        let head = HEAD.replace('\n', newline);
        let text = text.replace('\n', newline).replace("HEAD", head.trim_end());
        let image = |line: &str| line.replace("IMAGE", IMAGE);
        let (mut old, mut new, mut added) = (String::new(), String::new(), Vec::new());
        let mut first = None;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            match line.strip_prefix('+') {
                Some(line) => {
                    first.get_or_insert(number + 1);
                    added.push(image(line).trim_end().to_owned());
                    new.push_str(&image(line));
                }
                None => [&mut old, &mut new].into_iter().for_each(|text| text.push_str(line)),
            }
        }
        // What is put in at the end of a file without a last newline is not ended either.
        if !new.ends_with('\n') && text.lines().last().is_some_and(|line| line.starts_with('+')) {
            old.truncate(old.trim_end().len());
        }
        let edited = add_to_whitelist(&old, "web", entry).unwrap();
        assert_eq!(edited.text, new, "{name}");
        assert_eq!((edited.line, &edited.added), (first.unwrap(), &added), "{name}");
        let mut meant = read(&old);
        let policy = meant.iter_mut().find(|policy| policy.metadata.name == "web").unwrap();
        policy.spec.whitelist.push(portcullis_policy::document::WhitelistEntry {
            image: entry.image.parse().unwrap(),
            malware: entry.malware,
            workload: entry.workload,
        });
        assert_eq!(read(&new), meant, "{name}");
    }
}

#[test]
fn an_entry_is_put_in_and_the_rest_stays() {
    let web = "HEAD\nmetadata: { name: web }\n";
    let cases = [
        ("no whitelist", "spec:\n  mode: enforce\n+  whitelist:\n+    - image: IMAGE\n"),
        (
            "a comment and an empty line follow",
            "spec:\n  mode: enforce # not yet\n+  whitelist:\n+    - image: IMAGE\n\n# the end\n",
        ),
        ("no end of the last line", "spec:\n  mode: enforce\n+  whitelist:\n+    - image: IMAGE"),
        (
            "a whitelist in the middle, with comments",
            "spec:\n  # ours\n  whitelist: # by hand\n    - image: a/b # first\n    # second\n    - \
             image: c/d\n      malware: true   # TICKET-1\n+    - image: IMAGE\n\n  # the mode\n  \
             mode: enforce\n",
        ),
        (
            "an entry in braces, on two lines",
            "spec:\n  whitelist:\n    - { image: a/b,\n        malware: true }\n+    - image: \
             IMAGE\n  mode: enforce\n",
        ),
        (
            "a list that is not indented",
            "spec:\n  whitelist:\n  - image: a/b\n+  - image: IMAGE\n  mode: enforce\n",
        ),
        (
            "no whitelist, lists that are not indented",
            "spec:\n  rules:\n  - class: malware\n    action: block\n+  whitelist:\n+  - image: \
             IMAGE\n",
        ),
        (
            "deep indentation",
            "spec:\n            mode: enforce\n            whitelist:\n                        -   \
             image: a/b\n+                        - image: IMAGE\n            description: x\n",
        ),
        (
            "quotes and a block of text",
            "spec:\n  description: |\n    text: of\n      - two: lines\n\n  whitelist:\n    - \
             image: 'a/b'\n    - image: >-\n        c/d\n+    - image: IMAGE\n  mode: enforce\n",
        ),
        (
            "a block of text at the end",
            "spec:\n  description: |\n    text: of\n      - two: lines\n+  whitelist:\n+    - \
             image: IMAGE\n",
        ),
        (
            "another document follows",
            "spec:\n  mode: enforce\n+  whitelist:\n+    - image: IMAGE\n---\nHEAD\nmetadata:\n  \
             name: web-2\nspec:\n  whitelist:\n    - image: a/b\n",
        ),
        (
            "the document is ended",
            "spec:\n  mode: enforce\n+  whitelist:\n+    - image: IMAGE\n...\n",
        ),
        (
            "letters of more than a byte",
            "spec:\n  description: äöü€ # 漢字\n  whitelist:\n    - image: a/b # 漢字\n+    - \
             image: IMAGE\n  mode: enforce\n",
        ),
    ];
    for (name, spec) in cases {
        check(name, &format!("{web}{spec}"), &entry());
        let before = "# all\n---\nHEAD\nmetadata:\n  name: other\nspec:\n  whitelist:\n    - image: \
                      a/b\n  mode: enforce\n\n---\n";
        check(&format!("{name}, second document"), &format!("{before}{web}{spec}"), &entry());
    }
    check(
        "spec before metadata",
        "HEAD\nspec:\n  mode: enforce\n+  whitelist:\n+    - image: IMAGE\nmetadata:\n  name: web\n",
        &entry(),
    );
    check(
        "with all that an entry has",
        &format!(
            "{web}spec:\n  whitelist:\n    - image: a/b\n+    - image: IMAGE  # event 1\n+      \
             malware: true\n+      workload: true\n"
        ),
        &Entry { malware: true, workload: true, comment: "event 1", ..entry() },
    );
}

#[test]
fn the_shipped_policies_can_be_edited() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/policies");
    let folders = [shipped.clone(), shipped.join("templates")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut edited = 0;
    for path in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let old = read(&text);
        for (at, policy) in old.iter().enumerate() {
            let new = add_to_whitelist(&text, &policy.metadata.name, &entry()).unwrap();
            let mut meant = old.clone();
            meant[at].spec.whitelist.push(portcullis_policy::document::WhitelistEntry {
                image: IMAGE.parse().unwrap(),
                malware: false,
                workload: false,
            });
            assert_eq!(read(&new.text), meant, "{}", path.display());
            edited += 1;
        }
    }
    assert!(edited > 3, "{edited}");
}

#[test]
fn what_is_unusual_is_not_edited() {
    for (spec, expected) in [
        ("spec: { mode: enforce }\n", Unusual::FlowSpec),
        ("spec: {}\n", Unusual::FlowSpec),
        ("spec:\n  { mode: enforce }\n", Unusual::FlowSpec),
        ("spec:\n  whitelist: [{ image: a/b }]\n", Unusual::FlowList),
        ("spec:\n  whitelist:\n    [\n      { image: a/b }\n    ]\n", Unusual::FlowList),
        ("spec:\n  whitelist: []\n", Unusual::FlowList),
        ("spec:\n  whitelist:\n", Unusual::FlowList),
        ("spec:\n  ? mode\n  : enforce\n", Unusual::SharedLine),
        ("spec:\r  mode: enforce\r", Unusual::Unreadable),
        ("spec:\n\tmode: enforce\n", Unusual::Unreadable),
        ("", Unusual::NotFound),
        ("spec: text\n", Unusual::NotFound),
    ] {
        let text = format!("{HEAD}metadata: {{ name: web }}\n{spec}");
        assert_eq!(add_to_whitelist(&text, "web", &entry()), Err(expected), "{spec}");
    }
    let json = r#"{"metadata": {"name": "web"}, "spec": {"mode": "enforce"}}"#;
    assert_eq!(add_to_whitelist(json, "web", &entry()), Err(Unusual::FlowSpec));
    assert_eq!(add_to_whitelist("", "web", &entry()), Err(Unusual::NotFound));
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    replace(&path, b"old", b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);

    let refused = |path: &Path, said: &str| {
        let error = format!("{:#}", replace(path, b"old", b"newer").unwrap_err());
        assert!(error.contains(said), "{error}");
        assert_eq!(std::fs::read(folder.path().join("policy.yaml")).unwrap(), b"new");
    };
    refused(&path, "changed by somebody else");
    let link = folder.path().join("link.yaml");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refused(&link, "is a link");
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    refused(&path, "chmod go-w");
    std::fs::remove_file(&link).unwrap();
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "a temporary file is left");
}
