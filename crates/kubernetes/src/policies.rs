//! The cluster's policies, brought to the node: watched, put into force by the node, and told of.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::Instant;

use crate::node::{Node, Policy};
use crate::objects;
use crate::pace::{Waits, until};
use crate::shared::Shared;

/// How long a set of changes must have been quiet before it is put into force: `kubectl apply` of a
/// folder is one change.
const QUIET: Duration = Duration::from_millis(500);
/// And how long they may go on.
const LONGEST: Duration = Duration::from_secs(5);
/// What was not put into force for a passing reason is tried again.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a watch lasts before it is asked for anew, in seconds.
pub(crate) const WATCH: u32 = 270;

/// Follows the policies until the end of the agent.
pub(crate) async fn follow(client: Client, node: Arc<dyn Node>, shared: Arc<Shared>) {
    const PART: &str = "policies";
    let api: Api<DynamicObject> = Api::all_with(client, &objects::policies());
    let mut events = pin!(watcher(api.clone(), from_cache()).backoff(Waits::default()));
    let mut known = Known::default();
    let mut listed: Option<BTreeMap<String, Policy>> = None;
    let mut begun: Option<Instant> = None;
    let mut due: Option<Instant> = None;
    let mut confirm: Option<Instant> = None;
    loop {
        let changed = tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Err(error)) => {
                    shared.watch_failed(PART, &error);
                    false
                }
                Some(Ok(Event::Init)) => {
                    listed = Some(BTreeMap::new());
                    false
                }
                Some(Ok(Event::InitApply(object))) => {
                    if let (Some(listed), Some(policy)) = (&mut listed, policy_of(&object)) {
                        if !known.is_behind(&policy) {
                            shared.saw(&object);
                        }
                        listed.insert(policy.name.clone(), policy);
                    }
                    false
                }
                Some(Ok(Event::InitDone)) => {
                    shared.works(PART);
                    let changed = known.list(listed.take().unwrap_or_default());
                    confirm = (!known.missing.is_empty()).then(Instant::now);
                    changed || !shared.has_policies()
                }
                Some(Ok(Event::Apply(object))) => {
                    shared.works(PART);
                    shared.saw(&object);
                    policy_of(&object).is_some_and(|policy| known.take(policy))
                }
                Some(Ok(Event::Delete(object))) => {
                    shared.works(PART);
                    known.remove(&object.metadata.name.unwrap_or_default())
                }
            },
            () = until(confirm) => {
                let mut changed = false;
                for name in known.missing.clone() {
                    changed |= match api.get(&name).await {
                        Ok(object) => {
                            shared.works(PART);
                            shared.saw(&object);
                            policy_of(&object).is_some_and(|policy| known.take(policy))
                        }
                        // A proxy may say 404 of anything, but not in these words.
                        Err(kube::Error::Api(status)) if status.reason == "NotFound" => {
                            shared.works(PART);
                            known.remove(&name)
                        }
                        Err(error) => {
                            shared.failed(PART, &error);
                            false
                        }
                    };
                }
                confirm = (!known.missing.is_empty()).then(|| Instant::now() + AGAIN);
                changed
            },
            () = until(due) => {
                begun = None;
                let is_in_force = put_into_force(&node, &shared, &known).await;
                due = (!is_in_force).then(|| Instant::now() + AGAIN);
                false
            }
        };
        if changed {
            let now = Instant::now();
            due = Some((now + QUIET).min(*begun.get_or_insert(now) + LONGEST));
        }
    }
}

/// Gives the node what is known, and tells of it. Whether all of it is done.
async fn put_into_force(node: &Arc<dyn Node>, shared: &Shared, known: &Known) -> bool {
    const PART: &str = "the cluster's policies on the node";
    let policies: Vec<Policy> = known.policies.values().cloned().collect();
    let (node, given) = (node.clone(), policies.clone());
    let applied = match tokio::task::spawn_blocking(move || node.apply(&given)).await {
        Ok(applied) => applied,
        Err(error) => {
            shared.trouble(PART, &format!("a bug in portcullis: {error}"));
            return false;
        }
    };
    match &applied.failed {
        Some(why) => shared.trouble(PART, why),
        None => {
            shared.works_locally(PART);
            let faults = applied.faults.len();
            log::info!("{} of the cluster: {faults} with faults", counted(policies.len()));
        }
    }
    let is_in_force = applied.failed.is_none();
    shared.applied(policies, applied);
    is_in_force
}

/// The cluster's policies. Lists come from the cache of an API server, which may be behind that of
/// another one that was asked before: an older state of a policy takes nothing back, and one that a
/// list lacks stays until it was asked for by itself.
#[derive(Debug, Default)]
struct Known {
    policies: BTreeMap<String, Policy>,
    /// Those that the last list lacks.
    missing: BTreeSet<String>,
}

impl Known {
    /// Whether a later state of the same object is known.
    fn is_behind(&self, policy: &Policy) -> bool {
        let known = self.policies.get(&policy.name);
        known.is_some_and(|known| known.uid == policy.uid && known.generation > policy.generation)
    }

    /// Takes a list; and whether that changes anything.
    fn list(&mut self, listed: BTreeMap<String, Policy>) -> bool {
        let lacks = |name: &&String| !listed.contains_key(*name);
        self.missing = self.policies.keys().filter(lacks).cloned().collect();
        let mut changed = false;
        for policy in listed.into_values() {
            changed |= self.take(policy);
        }
        changed
    }

    /// Takes a state of a policy; and whether it is another one. A status that was written is none.
    fn take(&mut self, policy: Policy) -> bool {
        self.missing.remove(&policy.name);
        if self.is_behind(&policy) || self.policies.get(&policy.name) == Some(&policy) {
            return false;
        }
        self.policies.insert(policy.name.clone(), policy);
        true
    }

    fn remove(&mut self, name: &str) -> bool {
        self.missing.remove(name);
        self.policies.remove(name).is_some()
    }
}

fn counted(policies: usize) -> String {
    match policies {
        1 => "1 policy".to_owned(),
        number => format!("{number} policies"),
    }
}

fn policy_of(object: &DynamicObject) -> Option<Policy> {
    let name = object.metadata.name.clone()?;
    // One that is being deleted decides until it is gone.
    let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
    let uid = object.metadata.uid.clone().unwrap_or_default();
    Some(Policy { name, uid, generation: object.metadata.generation.unwrap_or(0), spec })
}

/// Lists from the API server's cache: what all nodes ask at once must not reach etcd. With pages it
/// would.
pub(crate) fn from_cache() -> Config {
    let mut config = Config::default().timeout(WATCH).any_semantic();
    config.page_size = None;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, uid: &str, generation: i64) -> Policy {
        Policy { name: name.to_owned(), uid: uid.to_owned(), generation, spec: Value::Null }
    }

    fn listed(policies: &[Policy]) -> BTreeMap<String, Policy> {
        policies.iter().map(|policy| (policy.name.clone(), policy.clone())).collect()
    }

    #[test]
    fn an_older_state_is_not_taken_for_a_change() {
        let mut known = Known::default();
        assert!(known.list(listed(&[policy("p", "a", 2), policy("q", "b", 1)])));
        assert!(known.take(policy("p", "a", 3)));
        assert!(!known.take(policy("p", "a", 3)));
        assert!(!known.list(listed(&[policy("p", "a", 2), policy("q", "b", 1)])));
        assert_eq!(known.policies["p"].generation, 3);
        // One that was made anew begins again at 1.
        assert!(known.take(policy("p", "c", 1)));
    }

    #[test]
    fn what_a_list_lacks_stays_until_it_is_told_or_asked_for() {
        let mut known = Known::default();
        known.list(listed(&[policy("p", "a", 1), policy("q", "b", 1), policy("r", "c", 1)]));
        assert!(!known.list(listed(&[policy("p", "a", 1)])));
        assert_eq!(known.policies.len(), 3);
        assert_eq!(known.missing, ["q".to_owned(), "r".to_owned()].into());
        assert!(known.remove("q") && !known.take(policy("r", "c", 1)));
        assert!(known.missing.is_empty() && known.policies.len() == 2);
    }
}
