//! What must hold between the fields of a document, beyond what their types say.
//!
//! Both ways in pass here: documents read from YAML and those read from the published set.

use portcullis_types::{Action, Class, GraceClock};

use crate::cel::Asked;
use crate::decide::{NO_DIGEST, UNAUTHORIZED_IMAGE};
use crate::document::{
    Authorized, Exception, GracePeriod, ProtectionPolicy, Rule, Scope, Selection,
};
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
    let exceptions = path.field("exceptions");
    for (index, entry) in spec.exceptions.iter().enumerate() {
        exception(entry, &exceptions.item(index), report);
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

fn selection<P>(chosen: Option<&Selection<P>>, path: &Path<'_>, report: Report<'_>) {
    if chosen.is_some_and(|s| s.include.is_empty() && s.exclude.is_empty()) {
        report(path, "it names nothing".into(), "give include or exclude, or leave it out");
    }
}

fn authorized(authorized: &Authorized, path: &Path<'_>, report: Report<'_>) {
    if authorized.images.is_empty() && !authorized.require_digest {
        report(path, "it asks for nothing".into(), "give images or requireDigest: true");
    }
}

fn rule(rule: &Rule, path: &Path<'_>, report: Report<'_>) {
    match rule.class {
        Some(Class::Authorization) => report(
            &path.field("class"),
            "rules do not judge authorization".into(),
            "use spec.authorized",
        ),
        Some(Class::Vulnerability) => {}
        class => not_of_vulnerabilities(rule, class, path, report),
    }
    if rule.class.is_none() && rule.when.is_none() {
        report(path, "it asks for nothing".into(), "give class or when");
    }
    if let Some(condition) = &rule.when {
        let asked = if rule.class.is_some() { Asked::PerFinding } else { Asked::PerStart };
        if let Err(error) = condition.check(asked) {
            report(&path.field("when"), error.to_string(), &error.remedy);
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
    for (index, text) in rule.ids.iter().enumerate() {
        id(text, &path.field("ids").item(index), report);
    }
    if let Some(period) = &rule.grace {
        grace(period, rule, &path.field("grace"), report);
    }
}

/// What a rule about another class, or about the start as a whole, cannot ask for.
fn not_of_vulnerabilities(rule: &Rule, class: Option<Class>, path: &Path<'_>, report: Report<'_>) {
    let of_vulnerabilities = [
        ("fixable", rule.fixable.is_some()),
        ("cvss", rule.cvss.is_some()),
        ("epss", rule.epss.is_some()),
        ("kev", rule.kev.is_some()),
    ];
    let of_findings = [("severity", !rule.severity.is_empty()), ("ids", !rule.ids.is_empty())];
    let named = |fields: &[(&'static str, bool)]| -> Vec<&'static str> {
        fields.iter().filter(|(_, named)| *named).map(|(field, _)| *field).collect()
    };
    match class {
        Some(class) => {
            for field in named(&of_vulnerabilities) {
                report(
                    &path.field(field),
                    format!("findings of class {class} have no such value"),
                    "use it with class: vulnerability only",
                );
            }
        }
        None => {
            let grace = [("grace", rule.grace.is_some())];
            for field in [named(&of_findings), named(&of_vulnerabilities), named(&grace)].concat() {
                report(
                    &path.field(field),
                    "a rule without a class is about the start, not about a finding".into(),
                    "name a class, or leave it out",
                );
            }
        }
    }
}

fn grace(period: &GracePeriod, rule: &Rule, path: &Path<'_>, report: Report<'_>) {
    let Some(class) = rule.class else {
        return;
    };
    if rule.action != Action::Block {
        report(
            path,
            format!("grace turns a block into an alarm, and the action is {}", rule.action),
            "write action: block, or leave grace out",
        );
    }
    if rule.kev == Some(true) {
        report(
            path,
            "a finding that is known to be exploited has no grace".into(),
            "leave grace or kev out",
        );
    }
    let mut clock = |clock: GraceClock, path: &Path<'_>| match (class, clock) {
        (Class::Vulnerability, _) => {}
        (class, GraceClock::FirstSeen) if class.is_scanned() => {}
        (class, _) => report(
            path,
            format!("findings of class {class} have no such date"),
            if class.is_scanned() { "use firstSeen" } else { "leave grace out" },
        ),
    };
    clock(period.from, &path.field("from"));
    if let Some(fallback) = period.fallback {
        let path = path.field("fallback");
        clock(fallback, &path);
        if fallback == period.from {
            report(
                &path,
                format!("{fallback} is tried already"),
                "name another date, or leave it out",
            );
        }
    }
}

fn id(text: &str, path: &Path<'_>, report: Report<'_>) {
    if text.trim() != text || text.is_empty() {
        report(
            path,
            "an id is empty or has blanks around it".into(),
            "write it as the scanner does, for example CVE-2021-44228",
        );
    }
}

fn exception(exception: &Exception, path: &Path<'_>, report: Report<'_>) {
    id(&exception.id, &path.field("id"), report);
    if [UNAUTHORIZED_IMAGE, NO_DIGEST].contains(&exception.id.as_str()) {
        report(
            &path.field("id"),
            "exceptions do not judge authorization".into(),
            "add the image to spec.authorized.images",
        );
    }
    let texts = [
        ("package", &exception.package),
        ("reason", &exception.reason),
        ("ticket", &exception.ticket),
    ];
    for (field, _) in texts.iter().filter(|(_, t)| t.as_ref().is_some_and(|t| t.trim().is_empty()))
    {
        report(&path.field(field), "it is empty".into(), "write it, or leave it out");
    }
    if exception.owner.trim().is_empty() {
        report(
            &path.field("owner"),
            "it is empty".into(),
            "write who answers for it, for example team-web@example.com",
        );
    }
    let is_sha256 =
        |t: &String| t.len() == 64 && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if exception.sha256.as_ref().is_some_and(|t| !is_sha256(t)) {
        report(
            &path.field("sha256"),
            "it is not a SHA-256".into(),
            "write the file's 64 lower-case hexadecimal digits",
        );
    }
    selection(exception.namespaces.as_ref(), &path.field("namespaces"), report);
}
