//! What must hold between the fields of a document, beyond what their types say.
//!
//! Both ways in pass here: documents read from YAML and those read from the published set.

use portcullis_types::Class;

use crate::document::{Authorized, ProtectionPolicy, Rule, Scope, Selection};
use crate::fault::shown;
use crate::path::Path;

/// Takes where, what is wrong, and what is expected.
pub(crate) type Report<'a> = &'a mut dyn FnMut(&Path<'_>, String, &str);

/// Reports all that is wrong with the document.
pub(crate) fn check(policy: &ProtectionPolicy, report: Report<'_>) {
    let metadata = Path::Root.field("metadata");
    name(&policy.metadata.name, &metadata.field("name"), report);
    let path = Path::Root.field("spec");
    let spec = &policy.spec;
    scope(&spec.scope, &path.field("scope"), report);
    if let Some(rule) = &spec.authorized {
        authorized(rule, &path.field("authorized"), report);
    }
    let rules = path.field("rules");
    for (index, entry) in spec.rules.iter().enumerate() {
        rule(entry, &rules.item(index), report);
    }
}

/// DNS-1123 subdomain, as Kubernetes asks of an object's name.
fn name(text: &str, path: &Path<'_>, report: Report<'_>) {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        report(
            path,
            format!("\"{}\" is not a name", shown(text)),
            "write lower-case letters, digits, '-' and '.', at most 63 between dots and 253 in all",
        );
    }
}

fn scope(scope: &Scope, path: &Path<'_>, report: Report<'_>) {
    fn selection<P>(chosen: Option<&Selection<P>>, path: &Path<'_>, report: Report<'_>) {
        if chosen.is_some_and(|s| s.include.is_empty() && s.exclude.is_empty()) {
            report(path, "it names nothing".into(), "give include or exclude, or leave it out");
        }
    }
    selection(scope.namespaces.as_ref(), &path.field("namespaces"), report);
    selection(scope.images.as_ref(), &path.field("images"), report);
    selection(scope.nodes.as_ref(), &path.field("nodes"), report);
    let labels = path.field("podLabels");
    for (key, value) in &scope.pod_labels {
        let label = labels.field(key);
        if key.is_empty() {
            report(&label, "the label has no name".into(), "write name: value");
        }
        if key.contains('*') || value.contains('*') {
            report(&label, "labels take no wildcard".into(), "write name and value in full");
        }
    }
}

fn authorized(authorized: &Authorized, path: &Path<'_>, report: Report<'_>) {
    if authorized.images.is_empty() && !authorized.require_digest {
        report(path, "it asks for nothing".into(), "give images or requireDigest: true");
    }
}

fn rule(rule: &Rule, path: &Path<'_>, report: Report<'_>) {
    if rule.class == Class::Authorization {
        report(
            &path.field("class"),
            "rules do not judge authorization".into(),
            "use spec.authorized",
        );
    }
    if rule.class != Class::Vulnerability {
        let named = [
            ("fixable", rule.fixable.is_some()),
            ("cvss", rule.cvss.is_some()),
            ("epss", rule.epss.is_some()),
            ("kev", rule.kev.is_some()),
        ];
        for (field, _) in named.iter().filter(|(_, named)| *named) {
            report(
                &path.field(field),
                format!("findings of class {} have no such value", rule.class),
                "use it with class: vulnerability only",
            );
        }
    }
    let mut threshold = |field: &str, value: Option<f32>, highest: f32| {
        if value.is_some_and(|v| !(0.0..=highest).contains(&v)) {
            report(
                &path.field(field),
                "the value is out of range".into(),
                &format!("write a number from 0 to {highest}"),
            );
        }
    };
    threshold("cvss", rule.cvss, 10.0);
    threshold("epss", rule.epss, 1.0);
    for (index, id) in rule.ids.iter().enumerate() {
        if id.trim() != id || id.is_empty() {
            report(
                &path.field("ids").item(index),
                "an id is empty or has blanks around it".into(),
                "write it as the scanner does, for example CVE-2021-44228",
            );
        }
    }
}
