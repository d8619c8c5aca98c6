//! Scopes that take in nothing, and fields that let too much through.

use portcullis_types::Action;

use super::{Level, Report, enforces};
use crate::document::{Scope, Selection, Spec};
use crate::pattern::Reach;
use crate::{ImagePattern, WordPattern};

pub(super) fn scope(scope: &Scope, report: &mut Report<'_>) {
    let words = WordPattern::includes;
    let every_word = |word: &WordPattern| word.as_str() == "*";
    let taken_in = [
        ("namespaces", swallowed(scope.namespaces.as_ref(), words, every_word)),
        ("nodes", swallowed(scope.nodes.as_ref(), words, every_word)),
        (
            "images",
            swallowed(scope.images.as_ref(), ImagePattern::includes, |image| {
                image.reach() == Reach::Everything
            }),
        ),
    ];
    for (field, swallowed) in taken_in {
        let path = format!("spec.scope.{field}");
        match swallowed {
            Swallowed::Some(some) => {
                for (include, exclude) in some {
                    report.add(
                        Level::Warning,
                        "include-excluded",
                        format!("{path}.include[{include}]"),
                        format!("exclude[{exclude}] takes out all that it takes in"),
                        "leave one of them out",
                    );
                }
            }
            // An image that cannot be told is never excluded, so there it is about something.
            Swallowed::All if field == "images" => report.add(
                Level::Warning,
                "empty-scope",
                path,
                "exclude takes out every image: the policy is only about those that cannot be told",
                "exclude less",
            ),
            Swallowed::All => report.add(
                Level::Error,
                "empty-scope",
                path,
                format!("exclude takes out all {field}: the policy is about nothing"),
                "exclude less",
            ),
        }
    }
}

/// What of a selection can never be selected.
enum Swallowed {
    /// These includes, each by this exclude.
    Some(Vec<(usize, usize)>),
    /// Everything.
    All,
}

fn swallowed<P>(
    selection: Option<&Selection<P>>,
    includes: impl Fn(&P, &P) -> bool,
    is_everything: impl Fn(&P) -> bool,
) -> Swallowed {
    let Some(Selection { include, exclude }) = selection else {
        return Swallowed::Some(Vec::new());
    };
    if exclude.iter().any(is_everything) {
        return Swallowed::All;
    }
    let by = |pattern: &P| exclude.iter().position(|wide| includes(wide, pattern));
    let some: Vec<(usize, usize)> =
        include.iter().enumerate().filter_map(|(index, p)| Some((index, by(p)?))).collect();
    if !include.is_empty() && some.len() == include.len() {
        return Swallowed::All;
    }
    Swallowed::Some(some)
}

pub(super) fn lets_through(spec: &Spec, report: &mut Report<'_>) {
    if let Some(authorized) = &spec.authorized
        && let Some(index) =
            authorized.images.iter().position(|image| image.reach() == Reach::Everything)
    {
        report.add(
            Level::Warning,
            "authorized-any",
            format!("spec.authorized.images[{index}]"),
            "every image that has a name is authorized",
            "name the registries that you trust, or leave images out",
        );
    }
    allow_rules(spec, report);
    if enforces(spec) {
        silent(spec, report);
    }
    whitelist(spec, report);
}

fn allow_rules(spec: &Spec, report: &mut Report<'_>) {
    let allows = |rule: &&crate::document::Rule| rule.action == Action::Allow;
    if !spec.rules.is_empty() && spec.rules.iter().all(|rule| allows(&rule)) {
        report.add(
            Level::Warning,
            "allow-only",
            "spec.rules",
            "all rules allow: no finding does anything here",
            "write what should alarm or block",
        );
        return;
    }
    for (index, _) in spec.rules.iter().enumerate().filter(|(_, rule)| allows(rule)) {
        report.add(
            Level::Warning,
            "allow-rule",
            format!("spec.rules[{index}].action"),
            "it softens nothing: a finding takes the strictest action of the rules it matches",
            "use an exception or the whitelist, or narrow the other rules",
        );
    }
}

/// What an enforcing policy lets start without a word.
fn silent(spec: &Spec, report: &mut Report<'_>) {
    if spec.unscanned.as_ref().is_some_and(|u| u.action == Action::Allow) {
        report.add(
            Level::Warning,
            "unscanned-allowed",
            "spec.unscanned.action",
            "an image of which nothing is known starts without a word",
            "write alarm, or block with scan: true",
        );
    }
    let cells = [
        ("default", spec.on_failure.default, "what keeps Portcullis from knowing is passed over"),
        (
            "identityUnknown",
            spec.on_failure.identity_unknown,
            "a start whose image cannot be told is passed over",
        ),
    ];
    for (cell, action, message) in cells {
        if action == Some(Action::Allow) {
            report.add(
                Level::Warning,
                "failures-allowed",
                format!("spec.onFailure.{cell}"),
                message,
                "write alarm, and allow single causes by their names",
            );
        }
    }
}

fn whitelist(spec: &Spec, report: &mut Report<'_>) {
    for (index, entry) in spec.whitelist.iter().enumerate() {
        let (what, level) = match (entry.image.reach(), entry.malware) {
            (Reach::Everything, true) => ("every image with its malware", Level::Error),
            (Reach::Everything, false) => ("every image", Level::Warning),
            (Reach::Host, true) => ("a whole registry with its malware", Level::Error),
            (Reach::Host, false) => ("a whole registry", Level::Note),
            (Reach::Part, _) => continue,
        };
        report.add(
            level,
            "broad-whitelist",
            format!("spec.whitelist[{index}]"),
            format!("it takes {what} out of the count"),
            "name the images that you have looked at, best by their digests",
        );
    }
}
