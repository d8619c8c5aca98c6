//! Counters of what stands in the ledger.

use std::collections::BTreeSet;

use portcullis_types::{Action, Cause, Class, Engine, Event, EventKind, Kind, Severity};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Labels, counter, label};

/// Most policies that are counted by name; all others are `other`.
const MAX_POLICIES: usize = 200;
const OTHER: &str = "other";

/// How long the gate may take: a millisecond or two as a rule, and 1.5 s at most.
const GATE_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

/// Two labels, of which the first is the name of a policy.
type OfPolicy = [(&'static str, String); 2];

#[derive(Debug)]
pub(super) struct Seen {
    events: Family<Labels<1>, Counter>,
    decisions: Family<Labels<3>, Counter>,
    by_policy: Family<OfPolicy, Counter>,
    policies: BTreeSet<String>,
    findings: Family<Labels<2>, Counter>,
    causes: Family<Labels<2>, Counter>,
    would_block: Counter,
    whitelisted: Counter,
    outcomes: Family<Labels<1>, Counter>,
    notices: Counter,
    violations: Family<Labels<1>, Counter>,
    gate_seconds: Histogram,
}

impl Seen {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let r = registry;
        let seen = Self {
            would_block: counter(
                r,
                "would_block",
                "Decisions in which an observing policy would have blocked",
            ),
            whitelisted: counter(r, "whitelisted", "Decisions that a whitelist changed"),
            notices: counter(
                r,
                "notices",
                "What the ledger said of itself, and starts that could not be described",
            ),
            events: Family::default(),
            decisions: Family::default(),
            by_policy: Family::default(),
            policies: BTreeSet::new(),
            findings: Family::default(),
            causes: Family::default(),
            outcomes: Family::default(),
            violations: Family::default(),
            gate_seconds: Histogram::new(GATE_SECONDS),
        };
        r.register("events", "Records of the ledger", seen.events.clone());
        r.register("decisions", "Starts that were decided", seen.decisions.clone());
        r.register(
            "decisions_by_policy",
            "Starts that were decided, by each policy whose answer was the action",
            seen.by_policy.clone(),
        );
        r.register(
            "findings_counted",
            "Findings that a rule matched, at each start",
            seen.findings.clone(),
        );
        r.register("causes", "Failure causes that came to pass in decisions", seen.causes.clone());
        r.register("outcomes", "What became of admitted containers", seen.outcomes.clone());
        r.register(
            "violations",
            "Containers that run and would be decided more strictly now",
            seen.violations.clone(),
        );
        r.register(
            "gate_duration_seconds",
            "Time from request to decision",
            seen.gate_seconds.clone(),
        );
        seen.begin();
        seen
    }

    /// All series of closed sets are there from the beginning: one that appears with 1 is no rise.
    fn begin(&self) {
        for kind in EventKind::ALL {
            self.events.get_or_create_owned(&[("kind", kind.as_str())]);
        }
        for action in Action::ALL {
            for engine in Engine::ALL {
                for kind in Kind::ALL {
                    self.decisions.get_or_create_owned(&decision(*action, *engine, *kind));
                }
            }
            for cause in Cause::ALL {
                self.causes.get_or_create_owned(&[("cause", cause.as_str()), of(*action)]);
            }
            self.violations.get_or_create_owned(&[of(*action)]);
        }
        for class in Class::ALL {
            for severity in Severity::ALL {
                self.findings.get_or_create_owned(&finding(*class, *severity));
            }
        }
        for result in ["started", "failed"] {
            self.outcomes.get_or_create_owned(&[("result", result)]);
        }
    }

    pub(super) fn count(&mut self, event: &Event) {
        self.events.get_or_create(&[("kind", event.kind.as_str())]).inc();
        match event.kind {
            EventKind::Decision => self.count_decision(event),
            EventKind::Outcome => {
                let result = if event.action == Action::Allow { "started" } else { "failed" };
                self.outcomes.get_or_create(&[("result", result)]).inc();
            }
            EventKind::Notice => {
                self.notices.inc();
            }
            EventKind::Violation => {
                self.violations.get_or_create(&[of(event.action)]).inc();
            }
            EventKind::Mark => {}
        }
    }

    fn count_decision(&mut self, event: &Event) {
        let (engine, kind) = (event.request.engine, event.request.kind);
        self.decisions.get_or_create(&decision(event.action, engine, kind)).inc();
        for policy in &event.policies {
            let policy = self.policy(policy);
            let action = event.action.to_string();
            self.by_policy.get_or_create(&[("policy", policy), ("action", action)]).inc();
        }
        for (key, number) in &event.counted {
            let parsed = key.split_once('/').and_then(|(class, severity)| {
                Some((class.parse::<Class>().ok()?, severity.parse::<Severity>().ok()?))
            });
            if let Some((class, severity)) = parsed {
                self.findings.get_or_create(&finding(class, severity)).inc_by(*number as u64);
            }
        }
        for cause in &event.causes {
            self.causes.get_or_create(&[("cause", cause.as_str()), of(event.action)]).inc();
        }
        self.would_block.inc_by(u64::from(event.would_block));
        self.whitelisted.inc_by(u64::from(event.whitelisted));
        self.gate_seconds.observe(event.gate_micros as f64 / 1e6);
    }

    /// The name under which a policy is counted.
    fn policy(&mut self, name: &str) -> String {
        let name = label(name);
        if self.policies.contains(&name) {
            return name;
        }
        if self.policies.len() >= MAX_POLICIES {
            return OTHER.to_owned();
        }
        self.policies.insert(name.clone());
        name
    }
}

fn of(action: Action) -> (&'static str, &'static str) {
    ("action", action.as_str())
}

fn decision(action: Action, engine: Engine, kind: Kind) -> Labels<3> {
    [of(action), ("engine", engine.as_str()), ("kind", kind.as_str())]
}

fn finding(class: Class, severity: Severity) -> Labels<2> {
    [("class", class.as_str()), ("severity", severity.as_str())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_make_so_many_series_and_no_more() {
        let mut registry = Registry::default();
        let mut seen = Seen::new(&mut registry);
        for number in 0..1000 {
            seen.policy(&format!("policy-{number}"));
        }
        assert_eq!(seen.policies.len(), MAX_POLICIES);
        assert_eq!(seen.policy("policy-7"), "policy-7");
        assert_eq!(seen.policy("policy-999"), OTHER);
    }
}
