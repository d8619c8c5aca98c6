//! What no recorded start had a use for.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_types::{Decision, Timestamp};

use super::{Level, Report};
use crate::decide::day;
use crate::document::ProtectionPolicy;

/// What recorded starts would have used of the policies.
///
/// Whoever knows the records decides each start again, by the policies that are linted and with
/// what is known of its image now, and hands in the decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starts {
    since: Timestamp,
    count: usize,
    in_scope: BTreeSet<String>,
    used: BTreeSet<(String, Arc<str>)>,
}

impl Starts {
    /// None yet, of those since this time.
    pub fn since(since: Timestamp) -> Self {
        Self { since, count: 0, in_scope: BTreeSet::new(), used: BTreeSet::new() }
    }

    /// Counts starts that are decided like this.
    pub fn add(&mut self, decision: &Decision, times: usize) {
        self.count += times;
        for answer in &decision.policies {
            self.in_scope.insert(answer.policy.clone());
            for reason in &answer.reasons {
                let entries = [Some(&reason.rule), reason.waived.as_ref().map(|w| &w.entry)];
                for entry in entries.into_iter().flatten() {
                    self.used.insert((answer.policy.clone(), Arc::clone(entry)));
                }
            }
        }
    }

    /// How many were handed in.
    pub fn count(&self) -> usize {
        self.count
    }

    fn uses(&self, policy: &str, entry: &str) -> bool {
        self.used.contains(&(policy.to_owned(), entry.into()))
    }
}

pub(super) fn unused(
    policy: &ProtectionPolicy,
    starts: &Starts,
    now: Timestamp,
    report: &mut Report<'_>,
) {
    if starts.count == 0 {
        return;
    }
    let plural = if starts.count == 1 { "" } else { "s" };
    let which = format!("{} start{plural} since {}", grouped(starts.count), day(starts.since));
    let name = &policy.metadata.name;
    if !starts.in_scope.contains(name) {
        let message = format!("not in scope in {which}");
        report.add(Level::Note, "unused-policy", "spec.scope", message, "look at its scope");
        return;
    }
    let spec = &policy.spec;
    // What an exception no longer does is reported as its end.
    let ended = |list: &str, index: usize| {
        list == "exceptions" && spec.exceptions.get(index).is_some_and(|e| e.has_expired(now))
    };
    let lists = [
        ("rules", "unused-rule", spec.rules.len()),
        ("whitelist", "unused-whitelist", spec.whitelist.len()),
        ("exceptions", "unused-exception", spec.exceptions.len()),
    ];
    for (list, code, length) in lists {
        for index in 0..length {
            let entry = format!("{list}[{index}]");
            if ended(list, index) || starts.uses(name, &entry) {
                continue;
            }
            let (message, remedy) = match list {
                "rules" => {
                    (format!("it did not speak in {which}"), "keep it if it is a precaution")
                }
                _ => (format!("not used in {which}"), "leave it out, if nothing else needs it"),
            };
            report.add(Level::Note, code, format!("spec.{entry}"), message, remedy);
        }
    }
}

/// `1,204`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_204, "1,204"), (1_000_000, "1,000,000")] {
            assert_eq!(grouped(number), text);
        }
    }
}
