//! The rules of a policy in the order in which findings ask for them.
//!
//! A start asks each rule of each policy about some thousands of findings. Most rules are about
//! another class or severity, or name other ids; those are never looked at.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use portcullis_types::{Action, Class, Finding, Severity};

use crate::document::{Rule, Spec};

/// The rules of one policy, by what they are about. Each list has the strictest first and, among
/// equals, the first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleIndex {
    /// Rules that name no id, by class and severity.
    open: Vec<Box<[Candidate]>>,
    /// Rules that name ids, by the hash of each id.
    by_id: HashMap<IdHash, Vec<u32>, BuildHasherDefault<Ready>>,
    /// Rules without a class, in their order.
    about_start: Box<[u32]>,
    /// `rules[0]`, `rules[1]` and so on.
    names: Box<[Arc<str>]>,
    /// `exceptions[0]` and so on.
    exceptions: Box<[Arc<str>]>,
    /// `whitelist[0]` and so on.
    whitelist: Box<[Arc<str>]>,
}

/// A rule of a class and a severity that names no id: what of it is asked of each finding, in one
/// place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) rule: u32,
    pub(crate) action: Action,
    fixable: Option<bool>,
    kev: Option<bool>,
    /// Below every value where the rule asks for none.
    cvss: f32,
    epss: f32,
}

/// What candidates ask of a finding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    fixable: bool,
    kev: bool,
    cvss: f32,
    epss: f32,
}

/// A value that reaches no threshold that a rule can have, and is reached by one that asks for none.
const NO_VALUE: f32 = -1.0;

impl Candidate {
    pub(crate) fn new(number: u32, rule: &Rule) -> Self {
        Self {
            rule: number,
            action: rule.action,
            fixable: rule.fixable,
            kev: rule.kev,
            cvss: rule.cvss.unwrap_or(f32::NEG_INFINITY),
            epss: rule.epss.unwrap_or(f32::NEG_INFINITY),
        }
    }

    /// The first value of the finding that the rule does not match, by its field.
    pub(crate) fn unmet(&self, finding: &Asked) -> Option<&'static str> {
        if self.fixable.is_some_and(|wanted| wanted != finding.fixable) {
            Some("fixable")
        } else if finding.cvss < self.cvss {
            Some("cvss")
        } else if finding.epss < self.epss {
            Some("epss")
        } else if self.kev.is_some_and(|wanted| wanted != finding.kev) {
            Some("kev")
        } else {
            None
        }
    }
}

impl Asked {
    pub(crate) fn of(finding: &Finding) -> Self {
        let value = |value: Option<f32>| value.filter(|v| !v.is_nan()).unwrap_or(NO_VALUE);
        Self {
            fixable: finding.is_fixable(),
            kev: finding.kev,
            cvss: value(finding.cvss),
            epss: value(finding.epss),
        }
    }
}

/// A hash of an id in which upper and lower case are alike. Two ids may share one, so whatever is
/// found by it is compared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct IdHash(u64);

impl IdHash {
    /// FNV-1a over the id's bytes in lower case.
    pub(crate) fn of(id: &str) -> Self {
        Self(id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

/// Takes a hash as it is.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Ready(u64);

impl Hasher for Ready {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn bucket(class: Class, severity: Severity) -> usize {
    class as usize * Severity::ALL.len() + severity as usize
}

fn numbered(list: &str, length: usize) -> Box<[Arc<str>]> {
    (0..length).map(|index| format!("{list}[{index}]").into()).collect()
}

impl RuleIndex {
    pub(crate) fn new(spec: &Spec) -> Self {
        let mut open = vec![Vec::new(); Class::ALL.len() * Severity::ALL.len()];
        let mut by_id: HashMap<IdHash, Vec<u32>, _> = HashMap::default();
        let mut about_start = Vec::new();
        let mut order: Vec<(u32, &Rule)> = (0..).zip(&spec.rules).collect();
        order.sort_by_key(|(_, rule)| Reverse(rule.action));
        for (number, rule) in order {
            let Some(class) = rule.class else {
                about_start.push(number);
                continue;
            };
            for id in &rule.ids {
                let rules = by_id.entry(IdHash::of(id)).or_default();
                if rules.last() != Some(&number) {
                    rules.push(number);
                }
            }
            if rule.ids.is_empty() {
                let any = rule.severity.is_empty();
                for severity in Severity::ALL {
                    if any || rule.severity.contains(severity) {
                        open[bucket(class, *severity)].push(Candidate::new(number, rule));
                    }
                }
            }
        }
        about_start.sort_unstable();
        Self {
            open: open.into_iter().map(Vec::into_boxed_slice).collect(),
            by_id,
            about_start: about_start.into(),
            names: numbered("rules", spec.rules.len()),
            exceptions: numbered("exceptions", spec.exceptions.len()),
            whitelist: numbered("whitelist", spec.whitelist.len()),
        }
    }

    /// Rules without ids that may match, the strictest first.
    pub(crate) fn open(&self, class: Class, severity: Severity) -> &[Candidate] {
        &self.open[bucket(class, severity)]
    }

    /// Whether any rule names an id.
    pub(crate) fn names_ids(&self) -> bool {
        !self.by_id.is_empty()
    }

    /// Rules that may name this id, the strictest first.
    pub(crate) fn naming(&self, id: IdHash) -> &[u32] {
        self.by_id.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Rules about the start as a whole.
    pub(crate) fn about_start(&self) -> &[u32] {
        &self.about_start
    }

    pub(crate) fn rule_name(&self, index: usize) -> Arc<str> {
        Arc::clone(&self.names[index])
    }

    pub(crate) fn exception_name(&self, index: usize) -> Arc<str> {
        Arc::clone(&self.exceptions[index])
    }

    pub(crate) fn whitelist_name(&self, index: usize) -> Arc<str> {
        Arc::clone(&self.whitelist[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(rules: &str) -> RuleIndex {
        let spec = format!(r#"{{"rules":{rules}}}"#);
        RuleIndex::new(&serde_json::from_str(&spec).unwrap())
    }

    #[test]
    fn the_strictest_come_first_and_others_do_not_come() {
        let index = index(
            r#"[{"class":"vulnerability","severity":["high","low"],"action":"alarm"},
                {"class":"vulnerability","ids":["CVE-1","cve-1","CVE-2"],"action":"alarm"},
                {"class":"vulnerability","action":"block"},
                {"class":"malware","action":"block"},
                {"class":"vulnerability","ids":["cve-2"],"action":"block"}]"#,
        );
        let open = |class, severity| -> Vec<u32> {
            index.open(class, severity).iter().map(|candidate| candidate.rule).collect()
        };
        assert_eq!(open(Class::Vulnerability, Severity::High), [2, 0]);
        assert_eq!(open(Class::Vulnerability, Severity::Critical), [2]);
        assert_eq!(open(Class::Malware, Severity::Unknown), [3]);
        assert!(open(Class::Secret, Severity::High).is_empty());
        assert_eq!(index.naming(IdHash::of("CvE-1")), [1]);
        assert_eq!(index.naming(IdHash::of("CVE-2")), [4, 1]);
        assert!(index.naming(IdHash::of("CVE-3")).is_empty());
    }
}
