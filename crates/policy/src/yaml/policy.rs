//! The fields of a policy document, one reader for each part.
//!
//! A part with a fault still gives a value that no later check complains of, so that the rest of
//! the document is checked in the same run; the document itself is then not used.

use std::collections::BTreeMap;

use jiff::civil::Date;
use portcullis_types::{Action, Class, Timestamp};

use super::reader::{Fields, Reader, RefusedField};
use super::tree::{Node, Value};
use crate::cel::Expression;
use crate::check::check;
use crate::document::{
    ApiVersion, Authorized, DocumentKind, Exception, GracePeriod, Metadata, Mode, OnFailure,
    ProtectionPolicy, Rule, Scope, Selection, Spec, Stale, Unscanned, WhitelistEntry,
};
use crate::fault::shown;
use crate::path::Path;
use crate::{Period, PeriodError};

/// What Kubernetes keeps in an object's metadata beside the name; none of it is about protection.
const KUBERNETES_METADATA: [&str; 10] = [
    "annotations",
    "creationTimestamp",
    "finalizers",
    "generation",
    "labels",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

type At<'r, 't> = &'r Node<'t>;

/// The document, or nothing if it has a fault.
pub(super) fn read<'r, 't>(
    reader: &mut Reader<'r, 't>,
    root: At<'r, 't>,
) -> Option<ProtectionPolicy> {
    let path = Path::Root;
    // Another kind of object has fields of its own; to list them as unknown would help nobody.
    if let Value::Map(entries) = &root.value
        && let Some(kind) = entries.iter().find(|e| e.key == "kind")
        && let kind_path = path.field("kind")
        && let Some(wrong) = reader.text(&kind.value, &kind_path)
        && wrong != DocumentKind::ProtectionPolicy.as_str()
    {
        let message = format!("\"{}\" is not a kind of policy", shown(wrong));
        let remedy = format!("write {}", DocumentKind::ProtectionPolicy.as_str());
        reader.fault(kind.value.at, &kind_path, message, remedy);
        return None;
    }
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let fields = reader.fields(root, &path, &known, &[])?;
    reader.required(&fields, &path, "kind");
    if let Some(version) = reader.required(&fields, &path, "apiVersion") {
        let wanted = ApiVersion::V1Alpha1.as_str();
        reader.parsed(version, &path.field("apiVersion"), wanted, |text| match text {
            text if text == wanted => Ok(()),
            _ => Err((
                format!("\"{}\" is not a version that is known", shown(text)),
                format!("write {wanted}"),
            )),
        });
    }
    let metadata = reader.required(&fields, &path, "metadata");
    let name = metadata.and_then(|node| name(reader, node, &path.field("metadata")));
    let spec = reader.required(&fields, &path, "spec");
    let spec = spec.map(|node| self::spec(reader, node, &path.field("spec"))).unwrap_or_default();
    let policy = ProtectionPolicy {
        api_version: ApiVersion::V1Alpha1,
        kind: DocumentKind::ProtectionPolicy,
        metadata: Metadata { name: name.unwrap_or_else(|| "unnamed".to_owned()) },
        spec,
    };
    check(&policy, &mut |path, message, remedy| reader.later_fault(path, message, remedy));
    Some(policy)
}

fn name<'r, 't>(reader: &mut Reader<'r, 't>, node: At<'r, 't>, path: &Path<'_>) -> Option<String> {
    let mut known = vec!["name"];
    known.extend(KUBERNETES_METADATA);
    let fields = reader.fields(node, path, &known, &[])?;
    let node = reader.required(&fields, path, "name")?;
    let name = reader.text(node, &path.field("name"))?;
    reader.set_name(name, node.at);
    Some(name.to_owned())
}

fn spec<'r, 't>(reader: &mut Reader<'r, 't>, node: At<'r, 't>, path: &Path<'_>) -> Spec {
    let known = [
        "description",
        "mode",
        "observeUntil",
        "scope",
        "authorized",
        "rules",
        "unscanned",
        "stale",
        "onFailure",
        "whitelist",
        "exceptions",
    ];
    let Some(fields) = reader.fields(node, path, &known, &[]) else {
        return Spec::default();
    };
    let description = fields
        .get("description")
        .and_then(|node| reader.text(node, &path.field("description")).map(ToOwned::to_owned));
    let mode = fields.get("mode").and_then(|node| mode(reader, node, &path.field("mode")));
    let observe_until = fields.get("observeUntil").and_then(|node| {
        reader.parsed(node, &path.field("observeUntil"), "a time", |text| {
            text.parse::<Timestamp>().map_err(|_| {
                let shown = shown(text);
                let remedy = "write a time with its zone, for example 2026-12-15T00:00:00Z";
                (format!("\"{shown}\" is not a time"), remedy.to_owned())
            })
        })
    });
    let scope = fields.get("scope").map(|node| scope(reader, node, &path.field("scope")));
    let authorized = fields
        .get("authorized")
        .and_then(|node| authorized(reader, node, &path.field("authorized")));
    let rules = reader.list(fields.get("rules"), &path.field("rules"), rule);
    let unscanned =
        fields.get("unscanned").and_then(|node| unscanned(reader, node, &path.field("unscanned")));
    let stale = fields.get("stale").and_then(|node| stale(reader, node, &path.field("stale")));
    let on_failure =
        fields.get("onFailure").map(|node| on_failure(reader, node, &path.field("onFailure")));
    let whitelist = reader.list(fields.get("whitelist"), &path.field("whitelist"), whitelist_entry);
    let exceptions = reader.list(fields.get("exceptions"), &path.field("exceptions"), exception);
    Spec {
        description,
        mode: mode.unwrap_or_default(),
        observe_until,
        scope: scope.unwrap_or_default(),
        authorized,
        rules,
        unscanned,
        stale,
        on_failure: on_failure.unwrap_or_default(),
        whitelist,
        exceptions,
    }
}

fn mode(reader: &mut Reader<'_, '_>, node: &Node<'_>, path: &Path<'_>) -> Option<Mode> {
    reader.parsed(node, path, "enforce or observe", |text| match text {
        "enforce" => Ok(Mode::Enforce),
        "observe" => Ok(Mode::Observe),
        other => {
            Err((format!("\"{}\" is not a mode", shown(other)), "use enforce, observe".to_owned()))
        }
    })
}

fn scope<'r, 't>(reader: &mut Reader<'r, 't>, node: At<'r, 't>, path: &Path<'_>) -> Scope {
    let known = ["namespaces", "images", "podLabels", "engines", "nodes"];
    let Some(fields) = reader.fields(node, path, &known, &[]) else {
        return Scope::default();
    };
    let namespaces = fields
        .get("namespaces")
        .and_then(|node| selection(reader, node, &path.field("namespaces"), Reader::pattern));
    let images = fields
        .get("images")
        .and_then(|node| selection(reader, node, &path.field("images"), Reader::pattern));
    let nodes = fields
        .get("nodes")
        .and_then(|node| selection(reader, node, &path.field("nodes"), Reader::pattern));
    let pod_labels =
        fields.get("podLabels").map(|node| labels(reader, node, &path.field("podLabels")));
    let engines =
        reader.list(fields.get("engines"), &path.field("engines"), |reader, node, path| {
            reader.word(node, path)
        });
    Scope { namespaces, images, pod_labels: pod_labels.unwrap_or_default(), engines, nodes }
}

fn labels<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> BTreeMap<String, String> {
    let Some(fields) = reader.any_fields(node, path) else {
        return BTreeMap::new();
    };
    if fields.iter().next().is_none() {
        reader.fault(node.at, path, "it names nothing", "name a label, or leave the field out");
    }
    fields
        .iter()
        .filter_map(|(key, node)| {
            let value = reader.text(node, &path.field(key))?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn selection<'r, 't, P>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
    mut read: impl FnMut(&mut Reader<'r, 't>, At<'r, 't>, &Path<'_>) -> Option<P>,
) -> Option<Selection<P>> {
    let fields = reader.fields(node, path, &["include", "exclude"], &[])?;
    let mut patterns = |reader: &mut Reader<'r, 't>, name: &str| {
        reader.list(fields.get(name), &path.field(name), |reader, node, path| {
            read(reader, node, path)
        })
    };
    Some(Selection { include: patterns(reader, "include"), exclude: patterns(reader, "exclude") })
}

fn action<'r, 't>(
    reader: &mut Reader<'r, 't>,
    fields: &Fields<'r, 't>,
    path: &Path<'_>,
    name: &str,
) -> Option<Action> {
    let node = fields.get(name)?;
    reader.word(node, &path.field(name))
}

fn required_action<'r, 't>(
    reader: &mut Reader<'r, 't>,
    fields: &Fields<'r, 't>,
    path: &Path<'_>,
) -> Action {
    reader.required(fields, path, "action");
    action(reader, fields, path, "action").unwrap_or_default()
}

fn flag<'r, 't>(
    reader: &mut Reader<'r, 't>,
    fields: &Fields<'r, 't>,
    path: &Path<'_>,
    name: &str,
) -> Option<bool> {
    let node = fields.get(name)?;
    reader.boolean(node, &path.field(name))
}

fn authorized<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<Authorized> {
    let fields = reader.fields(node, path, &["images", "requireDigest", "action"], &[])?;
    let images = reader.list(fields.get("images"), &path.field("images"), |reader, node, path| {
        reader.pattern(node, path)
    });
    let require_digest = flag(reader, &fields, path, "requireDigest").unwrap_or_default();
    Some(Authorized { images, require_digest, action: required_action(reader, &fields, path) })
}

fn rule<'r, 't>(reader: &mut Reader<'r, 't>, node: At<'r, 't>, path: &Path<'_>) -> Option<Rule> {
    let known =
        ["class", "severity", "ids", "fixable", "cvss", "epss", "kev", "grace", "when", "action"];
    let Some(fields) = reader.fields(node, path, &known, &[]) else {
        // A rule that cannot be read keeps its place, so that the paths of the next are right.
        return Some(placeholder());
    };
    // A rule needs one of both. One whose class cannot be read is not about the start for that.
    let class = match (fields.get("class"), fields.get("when")) {
        (None, Some(_)) => None,
        (None, None) => {
            reader.required(&fields, path, "class");
            Some(Class::Vulnerability)
        }
        (Some(node), _) => {
            Some(reader.word(node, &path.field("class")).unwrap_or(Class::Vulnerability))
        }
    };
    let severity =
        reader.list(fields.get("severity"), &path.field("severity"), |reader, node, path| {
            reader.word(node, path)
        });
    let ids = reader.list(fields.get("ids"), &path.field("ids"), |reader, node, path| {
        Some(reader.text(node, path).unwrap_or("unreadable").to_owned())
    });
    let cvss = fields.get("cvss").and_then(|node| reader.number(node, &path.field("cvss")));
    let epss = fields.get("epss").and_then(|node| reader.number(node, &path.field("epss")));
    let grace = fields.get("grace").and_then(|node| grace(reader, node, &path.field("grace")));
    let when = fields.get("when").and_then(|node| condition(reader, node, &path.field("when")));
    Some(Rule {
        class,
        severity,
        ids,
        fixable: flag(reader, &fields, path, "fixable"),
        cvss,
        epss,
        kev: flag(reader, &fields, path, "kev"),
        grace,
        when,
        action: required_action(reader, &fields, path),
    })
}

fn placeholder() -> Rule {
    Rule {
        class: Some(Class::Vulnerability),
        severity: Vec::new(),
        ids: Vec::new(),
        fixable: None,
        cvss: None,
        epss: None,
        kev: None,
        grace: None,
        when: None,
        action: Action::default(),
    }
}

fn grace<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<GracePeriod> {
    let fields = reader.fields(node, path, &["from", "for", "fallback"], &[])?;
    let from = reader.required(&fields, path, "from");
    let from = from.and_then(|node| reader.word(node, &path.field("from")));
    let period = reader.required(&fields, path, "for");
    let period = period.and_then(|node| self::period(reader, node, &path.field("for")));
    let fallback =
        fields.get("fallback").and_then(|node| reader.word(node, &path.field("fallback")));
    Some(GracePeriod { from: from?, period: period?, fallback })
}

/// A condition; its types are checked with the rule.
fn condition<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<Expression> {
    let text = reader.text(node, path)?;
    match text.parse::<Expression>() {
        Ok(condition) => Some(condition),
        Err(error) => {
            reader.fault(node.at, path, error.to_string(), error.remedy);
            None
        }
    }
}

fn period(reader: &mut Reader<'_, '_>, node: &Node<'_>, path: &Path<'_>) -> Option<Period> {
    reader.parsed(node, path, "a length of time", |text| {
        let parsed: Result<Period, PeriodError> = text.parse();
        parsed.map_err(|e| (e.to_string(), PeriodError::REMEDY.to_owned()))
    })
}

fn unscanned<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<Unscanned> {
    let fields = reader.fields(node, path, &["action", "scan"], &[])?;
    if fields.iter().next().is_none() {
        reader.fault(node.at, path, "it names nothing", "give action or scan, or leave it out");
    }
    Some(Unscanned {
        action: action(reader, &fields, path, "action").unwrap_or_default(),
        scan: flag(reader, &fields, path, "scan").unwrap_or_default(),
    })
}

fn stale<'r, 't>(reader: &mut Reader<'r, 't>, node: At<'r, 't>, path: &Path<'_>) -> Option<Stale> {
    let fields = reader.fields(node, path, &["maxAge", "action"], &[])?;
    let action = required_action(reader, &fields, path);
    let node = reader.required(&fields, path, "maxAge")?;
    let max_age = period(reader, node, &path.field("maxAge"))?;
    Some(Stale { max_age, action })
}

fn on_failure<'r, 't>(reader: &mut Reader<'r, 't>, node: At<'r, 't>, path: &Path<'_>) -> OnFailure {
    const SETTINGS: &str = "it is answered by the node's settings, not by policies";
    let known = [
        "default",
        "storeCorrupt",
        "storeUnreadable",
        "identityUnknown",
        "identityClaimed",
        "deadline",
        "auditUnavailable",
        "noData",
    ];
    let elsewhere: [RefusedField; 4] = [
        ("unscanned", "it has a field of its own", "use spec.unscanned"),
        ("stale", "it has a field of its own", "use spec.stale"),
        ("policyInvalid", SETTINGS, "leave it out"),
        ("internal", SETTINGS, "leave it out"),
    ];
    let Some(fields) = reader.fields(node, path, &known, &elsewhere) else {
        return OnFailure::default();
    };
    let mut cell = |name: &str| action(reader, &fields, path, name);
    OnFailure {
        default: cell("default"),
        store_corrupt: cell("storeCorrupt"),
        store_unreadable: cell("storeUnreadable"),
        identity_unknown: cell("identityUnknown"),
        identity_claimed: cell("identityClaimed"),
        deadline: cell("deadline"),
        audit_unavailable: cell("auditUnavailable"),
        no_data: cell("noData"),
    }
}

fn whitelist_entry<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<WhitelistEntry> {
    let fields = reader.fields(node, path, &["image", "malware", "workload"], &[])?;
    let malware = flag(reader, &fields, path, "malware").unwrap_or_default();
    let workload = flag(reader, &fields, path, "workload").unwrap_or_default();
    let image = reader.required(&fields, path, "image")?;
    let image = reader.pattern(image, &path.field("image"))?;
    Some(WhitelistEntry { image, malware, workload })
}

/// An exception that cannot be read keeps its place, so that the paths of the next are right.
fn exception<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<Exception> {
    Some(written_exception(reader, node, path).unwrap_or_else(|| Exception {
        id: "unreadable".to_owned(),
        package: None,
        image: None,
        namespaces: None,
        sha256: None,
        expires: Date::MIN,
        owner: "nobody".to_owned(),
        reason: None,
        ticket: None,
    }))
}

fn written_exception<'r, 't>(
    reader: &mut Reader<'r, 't>,
    node: At<'r, 't>,
    path: &Path<'_>,
) -> Option<Exception> {
    let known =
        ["id", "package", "image", "namespaces", "sha256", "expires", "owner", "reason", "ticket"];
    let fields = reader.fields(node, path, &known, &[])?;
    let id = reader.required(&fields, path, "id");
    let id = id.and_then(|node| reader.text(node, &path.field("id")));
    let expires = reader.required(&fields, path, "expires");
    let expires = expires.and_then(|node| day(reader, node, &path.field("expires")));
    let owner = reader.required(&fields, path, "owner");
    let owner = owner.and_then(|node| reader.text(node, &path.field("owner")));
    let mut text = |name: &str| {
        let node = fields.get(name)?;
        reader.text(node, &path.field(name)).map(ToOwned::to_owned)
    };
    let package = text("package");
    let sha256 = text("sha256");
    let reason = text("reason");
    let ticket = text("ticket");
    // An image that cannot be read must not leave an exception for all images.
    let image = match fields.get("image") {
        Some(node) => Some(reader.pattern(node, &path.field("image"))?),
        None => None,
    };
    let namespaces = match fields.get("namespaces") {
        Some(node) => Some(selection(reader, node, &path.field("namespaces"), Reader::pattern)?),
        None => None,
    };
    Some(Exception {
        id: id?.to_owned(),
        package,
        image,
        namespaces,
        sha256,
        expires: expires?,
        owner: owner?.to_owned(),
        reason,
        ticket,
    })
}

fn day(reader: &mut Reader<'_, '_>, node: &Node<'_>, path: &Path<'_>) -> Option<Date> {
    reader.parsed(node, path, "a day", |text| {
        let well_formed = text.len() == 10;
        text.parse::<Date>().ok().filter(|_| well_formed).ok_or_else(|| {
            let remedy = "write a day, for example 2026-12-31".to_owned();
            (format!("\"{}\" is not a day", shown(text)), remedy)
        })
    })
}
