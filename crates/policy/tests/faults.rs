//! Reads the faulty documents of `cases/faults/*.yaml` and compares all faults.
//!
//! What is wanted stands at the end of each file, one fault a line behind `#!`, as people see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its cases has failed")]

use std::path::Path;

use portcullis_policy::PolicySet;
use portcullis_policy::yaml::{MAX_FILE_BYTES, SourceFile, read};
use proptest::prelude::*;

fn faults(files: &[(&str, &[u8])]) -> Vec<String> {
    let files: Vec<SourceFile<'_>> =
        files.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
    match read(&files) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_fault_is_found_at_its_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/faults");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "only {} files were found", files.len());
    let mut failed = Vec::new();
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let wanted: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#! ")).collect();
        let got = faults(&[(name, text.as_bytes())]);
        let got: Vec<&str> =
            got.iter().map(|f| f.strip_prefix(&format!("{name}:")).unwrap_or(f)).collect();
        if got != wanted {
            let lines =
                |faults: &[&str]| faults.iter().map(|f| format!("#! {f}\n")).collect::<String>();
            failed.push(format!("{name}: wanted\n{}got\n{}", lines(&wanted), lines(&got)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn policy(name: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: ProtectionPolicy\n\
         metadata: {{ name: {name} }}\nspec: {{ mode: observe }}\n"
    )
}

#[test]
fn one_name_in_two_files_names_both_places() {
    let (a, b) = (policy("same"), format!("{}---\n{}", policy("other"), policy("same")));
    assert_eq!(
        faults(&[("a.yaml", a.as_bytes()), ("b.yaml", b.as_bytes())]),
        ["b.yaml:8:19: metadata.name: another policy is named \"same\": \
          it stands at a.yaml:3:19, give each policy its own name"]
    );
}

#[test]
fn faults_of_all_files_come_together() {
    let found = faults(&[("a.yaml", b"a: [\n"), ("b.yaml", b"\xff"), ("c.yaml", b"kind: Pod")]);
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn files_without_documents_are_fine() {
    for text in ["", "# nothing here\n", "---\n---\n", "\u{feff}# byte order mark\n"] {
        assert!(faults(&[("a.yaml", text.as_bytes())]).is_empty(), "{text:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let long = vec![b'#'; MAX_FILE_BYTES + 1];
    assert_eq!(
        faults(&[("a.yaml", &long)]),
        ["a.yaml:1:1: the file has 1048577 bytes: a policy file has at most 1 MiB"]
    );
    let many = format!("a: [{}]", "0,".repeat(200_000));
    let found = faults(&[("a.yaml", many.as_bytes())]);
    assert!(found[0].contains("more than 100000 values"), "{found:?}");
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
        let deep = format!("{}x{}", open.repeat(50_000), close.repeat(50_000));
        let found = faults(&[("a.yaml", deep.as_bytes())]);
        assert!(found[0].contains("not YAML"), "{found:?}");
    }
}

#[test]
fn hostile_text_in_a_file_is_escaped() {
    let text = "kind: \"\\e[2J\\n\\u202e\"\n";
    for fault in faults(&[("a.yaml", text.as_bytes())]) {
        assert!(fault.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{fault:?}");
    }
}

#[test]
fn many_keys_and_many_faults_take_no_long_time() {
    let keys: String = (0..40_000).map(|i| format!("k{i}: 1\n")).collect();
    assert!(faults(&[("a.yaml", keys.as_bytes())]).len() > 40_000);
}

#[test]
fn a_document_as_kubernetes_stores_it_is_a_document() {
    let text = "
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata:
  name: production.team-a
  labels: { app: x }
  annotations: { kubectl.kubernetes.io/last-applied-configuration: '{}' }
  resourceVersion: '12'
  uid: 3f0c1f9e-8d5b-4b1e-9a55-2d1c5bb4b9a1
  generation: 1
spec:
  mode: enforce
status: { anything: [1, 2] }
";
    let file = SourceFile { name: "a.yaml", bytes: text.as_bytes() };
    let set = PolicySet::compile(read(&[file]).unwrap()).unwrap();
    assert_eq!(set.policies().next().unwrap().metadata.name, "production.team-a");
}

/// The example of the design, without what this version does not support.
#[test]
fn the_example_document_means_what_it_says() {
    let digest = "0123".repeat(16);
    let text = format!(
        r#"
apiVersion: portcullis.dev/v1alpha1
kind: ProtectionPolicy
metadata:
  name: production
spec:
  description: Refuse what is critical and fixable; watch the rest.
  mode: enforce
  observeUntil: 2026-12-15T00:00:00Z
  scope:
    namespaces: {{ include: ["prod-*"], exclude: ["kube-system"] }}
    images:     {{ include: ["registry.example.com/**"] }}
    podLabels:  {{ tier: web }}
    engines:    [containerd, cri-o]
    nodes:      {{ include: ["edge-*"] }}
  authorized:
    images: ["registry.example.com/**", "registry.k8s.io/**"]
    requireDigest: false
    action: block
  rules:
    - class: vulnerability
      severity: [critical]
      fixable: true
      grace: {{ from: fixed, for: 7d, fallback: firstSeen }}
      action: block
    - {{ class: vulnerability, kev: true, action: block }}
    - {{ class: vulnerability, epss: 0.5, cvss: 9.0, action: alarm }}
    - {{ class: vulnerability, ids: [CVE-2021-44228], action: block }}
    - {{ class: malware, action: block }}
    - {{ class: baseline, severity: [critical, high], action: alarm }}
    - {{ class: workload, ids: [privileged, host-pid, host-path], action: alarm }}
    - when: 'image.created < now - duration("8760h")'
      action: alarm
  unscanned: {{ action: block, scan: true }}
  stale:     {{ maxAge: 168h, action: alarm }}
  onFailure:
    default: block
    storeCorrupt: block
    storeUnreadable: block
    identityUnknown: block
    identityClaimed: alarm
    deadline: alarm
    auditUnavailable: alarm
    noData: alarm
  whitelist:
    - image: registry.example.com/tools/debug@sha256:{digest}
    - image: registry.example.com/tools/shell:1.4
  exceptions:
    - id: CVE-2024-0001
      package: openssl
      image: registry.example.com/web/**
      expires: 2026-12-31
      owner: team-web@example.com
      reason: not reachable, behind mTLS
      ticket: SEC-1234
"#
    );
    let file = SourceFile { name: "a.yaml", bytes: text.as_bytes() };
    let set = PolicySet::compile(read(&[file]).unwrap()).unwrap();
    let wanted = concat!(
        r#"{"version":2,"policies":[{"apiVersion":"portcullis.dev/v1alpha1","#,
        r#""kind":"ProtectionPolicy","metadata":{"name":"production"},"spec":{"#,
        r#""description":"Refuse what is critical and fixable; watch the rest.","#,
        r#""observeUntil":"2026-12-15T00:00:00Z","scope":{"#,
        r#""namespaces":{"include":["prod-*"],"exclude":["kube-system"]},"#,
        r#""images":{"include":["registry.example.com/**"]},"#,
        r#""podLabels":{"tier":"web"},"engines":["containerd","cri-o"],"#,
        r#""nodes":{"include":["edge-*"]}},"#,
        r#""authorized":{"images":["registry.example.com/**","registry.k8s.io/**"],"#,
        r#""action":"block"},"rules":["#,
        r#"{"class":"vulnerability","severity":["critical"],"fixable":true,"#,
        r#""grace":{"from":"fixed","for":"7d","fallback":"firstSeen"},"action":"block"},"#,
        r#"{"class":"vulnerability","kev":true,"action":"block"},"#,
        r#"{"class":"vulnerability","cvss":9.0,"epss":0.5,"action":"alarm"},"#,
        r#"{"class":"vulnerability","ids":["CVE-2021-44228"],"action":"block"},"#,
        r#"{"class":"malware","action":"block"},"#,
        r#"{"class":"baseline","severity":["critical","high"],"action":"alarm"},"#,
        r#"{"class":"workload","ids":["privileged","host-pid","host-path"],"action":"alarm"},"#,
        r#"{"when":"image.created < now - duration(\"8760h\")","action":"alarm"}],"#,
        r#""unscanned":{"action":"block","scan":true},"#,
        r#""stale":{"maxAge":"7d","action":"alarm"},"#,
        r#""onFailure":{"default":"block","storeCorrupt":"block","storeUnreadable":"block","#,
        r#""identityUnknown":"block","identityClaimed":"alarm","deadline":"alarm","#,
        r#""auditUnavailable":"alarm","noData":"alarm"},"whitelist":["#,
        r#"{"image":"registry.example.com/tools/debug@sha256:DIGEST"},"#,
        r#"{"image":"registry.example.com/tools/shell:1.4"}],"exceptions":["#,
        r#"{"id":"CVE-2024-0001","package":"openssl","image":"registry.example.com/web/**","#,
        r#""expires":"2026-12-31","owner":"team-web@example.com","#,
        r#""reason":"not reachable, behind mTLS","ticket":"SEC-1234"}]}}]}"#,
        "\n"
    )
    .replace("DIGEST", &digest);
    assert_eq!(String::from_utf8(set.published()).unwrap(), wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn reading_never_panics_and_what_is_read_compiles(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[-a-z:{}\\[\\]&*!|>'\"%#, \n]{0,200}".prop_map(String::into_bytes),
        ],
        place in any::<prop::sample::Index>(),
        insert in any::<bool>(),
    ) {
        let _ = read(&[SourceFile { name: "a", bytes: &bytes }]);
        // The same in the middle of a document that is well-formed.
        let mut document = policy("p").into_bytes();
        let at = place.index(document.len());
        let end = if insert { at } else { (at + bytes.len()).min(document.len()) };
        document.splice(at..end, bytes);
        if let Ok(policies) = read(&[SourceFile { name: "a", bytes: &document }]) {
            prop_assert!(PolicySet::compile(policies).is_ok());
        }
    }
}
