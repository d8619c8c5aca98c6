//! The policy document as people and Kubernetes write it.
//!
//! The same types are the published form (JSON). What a field can hold is said by its type, so a
//! document that was read has well-formed patterns, dates and words; what fields mean together is
//! checked when a set is compiled. A field that is left out has the meaning its comment gives.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use portcullis_types::{Action, Cause, Class, Engine, GraceClock, Severity};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cel::Expression;
use crate::{ImagePattern, Period, WordPattern};

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtectionPolicy {
    /// Version of the policy language.
    pub api_version: ApiVersion,
    /// Kind of document.
    pub kind: DocumentKind,
    /// Its name.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
}

/// Version of the policy language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ApiVersion {
    /// The first, which may still change.
    #[default]
    #[serde(rename = "portcullis.dev/v1alpha1")]
    V1Alpha1,
}

impl ApiVersion {
    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "portcullis.dev/v1alpha1",
        }
    }
}

/// Kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DocumentKind {
    /// A policy.
    #[default]
    ProtectionPolicy,
}

impl DocumentKind {
    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProtectionPolicy => "ProtectionPolicy",
        }
    }
}

/// What Kubernetes calls metadata. All but the name is Kubernetes' own and says nothing about
/// protection, so it is read past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Metadata {
    /// A DNS-1123 subdomain, unique among the policies of a node.
    pub name: String,
}

/// What a policy says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it enforces; see [`Spec::observes`]. Left out: it does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Until when it observes; see [`Spec::observes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::Time>"))]
    pub observe_until: Option<Timestamp>,
    /// Which starts it is about. Left out: all on this node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// Which images may start at all. Left out: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized: Option<Authorized>,
    /// Which findings count, and what they do.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What an image does of which nothing is known. Left out: alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unscanned: Option<Unscanned>,
    /// When knowledge is too old. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// The failure matrix.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Images whose findings do not count.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub whitelist: Vec<WhitelistEntry>,
    /// Findings that do not count until a day.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
}

/// Whether a policy enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// What it says happens.
    #[default]
    Enforce,
    /// What would block is an alarm, marked so.
    Observe,
}

/// Which starts a policy is about: every field that is named must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// Kubernetes namespaces. A start outside Kubernetes has the empty one, which only `*` matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Selection<WordPattern>>,
    /// Images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Selection<ImagePattern>>,
    /// Labels that the pod must carry, all of them, with exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Engines.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<Engine>,
    /// Names of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Selection<WordPattern>>,
}

/// Some of many: what any of `include` matches, without what any of `exclude` matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, bound(deserialize = "P: Deserialize<'de>"))]
pub struct Selection<P> {
    /// Left out: everything.
    #[serde(
        default = "Vec::<P>::new",
        deserialize_with = "filled",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub include: Vec<P>,
    /// Left out: nothing. Wins over `include`.
    #[serde(
        default = "Vec::<P>::new",
        deserialize_with = "filled",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub exclude: Vec<P>,
}

/// Which images may start; one that may not is a finding of class `authorization`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authorized {
    /// These. Left out: any, so that only `requireDigest` speaks.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImagePattern>,
    /// The start must be asked for by a digest, not by a tag alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub require_digest: bool,
    /// What the finding does.
    pub action: Action,
}

/// Which findings do what. Fields are joined by AND, the items of a list by OR; a field that is
/// left out matches anything. A rule needs a `class` or a `when`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Class of the finding; never `authorization`, which `authorized` judges. Left out: the rule
    /// is about the start as a whole, and `when` alone says whether it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Its severity is one of these.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<Severity>,
    /// Its id is one of these, upper and lower case alike.
    #[serde(default, deserialize_with = "filled", skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// A version that mends it exists, or does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixable: Option<bool>,
    /// Its CVSS score is at least this; a finding without one does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvss: Option<f32>,
    /// Its EPSS probability is at least this; a finding without one does not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epss: Option<f32>,
    /// It is known to be exploited, or is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kev: Option<bool>,
    /// For how long a block is an alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<GracePeriod>,
    /// A condition in CEL, for what the fields cannot say: of the finding where there is a class,
    /// else of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
    /// What happens.
    pub action: Action,
}

/// For how long a block is an alarm, counted from a date of the finding. A finding that is known to
/// be exploited has no grace, nor has one for which neither date is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GracePeriod {
    /// The date.
    pub from: GraceClock,
    /// How long.
    #[serde(rename = "for")]
    pub period: Period,
    /// The date if that one is not known. Left out: then there is no grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<GraceClock>,
}

/// A finding that does not count until a day, since somebody answers for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exception {
    /// Id of the finding, or another id of the same vulnerability; upper and lower case alike.
    pub id: String,
    /// Only in this package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Only in these images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImagePattern>,
    /// Only in these Kubernetes namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Selection<WordPattern>>,
    /// Only of the file with this SHA-256; without it the exception is not about malware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The last day, UTC.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::Day"))]
    pub expires: Date,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

impl Exception {
    /// Whether its last day is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        Offset::UTC.to_datetime(now).date() > self.expires
    }
}

/// What an image does of which nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unscanned {
    /// Left out: alarm.
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: Action,
    /// Ask the agent for a scan, within the deadline, before deciding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scan: bool,
}

/// When knowledge is too old.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stale {
    /// Greatest age of a scan or of its database.
    pub max_age: Period,
    /// What happens beyond it.
    pub action: Action,
}

/// What each failure cause does; see [`Spec::failure_action`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OnFailure {
    /// For every cause that is not named. Left out: alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Action>,
    /// The verdict is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_corrupt: Option<Action>,
    /// The store cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_unreadable: Option<Action>,
    /// It is not known which image this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_unknown: Option<Action>,
    /// Only a name says which image this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_claimed: Option<Action>,
    /// The gate's time was up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Action>,
    /// Nothing took the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_unavailable: Option<Action>,
    /// Something that a rule asks about was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<Action>,
}

/// An image whose findings of the classes vulnerability, baseline and secret do not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WhitelistEntry {
    /// Which.
    pub image: ImagePattern,
    /// Nor does its malware.
    #[serde(default, skip_serializing_if = "is_default")]
    pub malware: bool,
    /// Nor do dangerous settings of its starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub workload: bool,
}

impl Spec {
    /// Whether the policy observes at this time.
    ///
    /// A date stages it, whatever the mode says: it observes until then and enforces after.
    /// `mode: observe` without a date observes for good.
    pub fn observes(&self, now: Timestamp) -> bool {
        match (self.observe_until, self.mode) {
            (Some(until), _) => now < until,
            (None, mode) => mode == Mode::Observe,
        }
    }

    /// What a cause does here, with the place that says so. `None`: the cause is not this
    /// policy's, that is `stale` without a limit, and what the node's settings answer for.
    ///
    /// A cause that is not named takes the `default` that is written, even `identityClaimed` and
    /// `noData`; only `unscanned` and `stale`, which have fields of their own, do not. Without a
    /// written default it is an alarm.
    pub fn failure_action(&self, cause: Cause) -> Option<(Action, &'static str)> {
        let named = &self.on_failure;
        let (action, place) = match cause {
            Cause::Unscanned => {
                let action = self.unscanned.as_ref().map_or(Action::Alarm, |u| u.action);
                return Some((action, "unscanned"));
            }
            Cause::Stale => return self.stale.as_ref().map(|s| (s.action, "stale")),
            Cause::PolicyInvalid | Cause::Internal => return None,
            Cause::NoData => (named.no_data, "onFailure.noData"),
            Cause::StoreCorrupt => (named.store_corrupt, "onFailure.storeCorrupt"),
            Cause::StoreUnreadable => (named.store_unreadable, "onFailure.storeUnreadable"),
            Cause::IdentityUnknown => (named.identity_unknown, "onFailure.identityUnknown"),
            Cause::IdentityClaimed => (named.identity_claimed, "onFailure.identityClaimed"),
            Cause::Deadline => (named.deadline, "onFailure.deadline"),
            Cause::AuditUnavailable => (named.audit_unavailable, "onFailure.auditUnavailable"),
        };
        Some(match action {
            Some(action) => (action, place),
            None => (named.default.unwrap_or(Action::Alarm), "onFailure.default"),
        })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Refuses a list that is written and empty: one reader takes it for "any", the next for "none".
fn filled<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(serde::de::Error::custom(
            "the list is empty: name at least one, or leave it out",
        ));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_refused() {
        let read = |json| serde_json::from_str::<Rule>(json);
        assert!(read(r#"{"class":"malware","action":"block"}"#).is_ok());
        assert!(read(r#"{"class":"malware","action":"block","severity":[]}"#).is_err());
    }

    #[test]
    fn what_this_version_does_not_know_is_refused() {
        for field in ["until", "Severity"] {
            let json = format!(r#"{{"class":"malware","action":"block","{field}":"x"}}"#);
            assert!(serde_json::from_str::<Rule>(&json).is_err(), "{field}");
        }
        assert!(serde_json::from_str::<Spec>(r#"{"excuses":[]}"#).is_err());
    }

    #[test]
    fn a_date_stages_a_policy_whatever_its_mode() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for mode in [Mode::Enforce, Mode::Observe] {
            let spec = Spec { mode, observe_until: Some(at(10)), ..Spec::default() };
            assert!(spec.observes(at(9)));
            assert!(!spec.observes(at(10)));
        }
        assert!(Spec { mode: Mode::Observe, ..Spec::default() }.observes(at(0)));
        assert!(!Spec::default().observes(at(0)));
    }

    #[test]
    fn every_cause_of_the_matrix_has_its_cell() {
        let mut spec = Spec::default();
        for cause in Cause::ALL {
            let wanted = match cause {
                Cause::Stale | Cause::PolicyInvalid | Cause::Internal => None,
                _ => Some(Action::Alarm),
            };
            assert_eq!(spec.failure_action(*cause).map(|(a, _)| a), wanted, "{cause}");
        }
        spec.on_failure.default = Some(Action::Block);
        for cause in Cause::ALL {
            let wanted = match cause {
                Cause::Stale | Cause::PolicyInvalid | Cause::Internal => None,
                Cause::Unscanned => Some(Action::Alarm),
                _ => Some(Action::Block),
            };
            assert_eq!(spec.failure_action(*cause).map(|(a, _)| a), wanted, "{cause}");
        }
        let json = r#"{"onFailure":{"storeCorrupt":"allow","storeUnreadable":"allow",
            "identityUnknown":"allow","identityClaimed":"allow","deadline":"allow",
            "auditUnavailable":"allow","noData":"allow"},
            "unscanned":{"action":"allow"},"stale":{"maxAge":"1h","action":"allow"}}"#;
        let spec: Spec = serde_json::from_str(json).unwrap();
        for cause in Cause::ALL {
            match spec.failure_action(*cause) {
                Some((action, place)) => {
                    assert_eq!(action, Action::Allow, "{cause}");
                    assert!(place.ends_with(cause.as_str()), "{cause} is answered by {place}");
                }
                None => assert!(matches!(cause, Cause::PolicyInvalid | Cause::Internal)),
            }
        }
    }
}
