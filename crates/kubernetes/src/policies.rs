//! The cluster's policies, brought to the node: watched, put into force by the node, and told of.

use std::collections::BTreeMap;
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
/// How long a watch lasts before it is asked for anew, in seconds; below the silence that ends a
/// connection.
const WATCH: u32 = 270;

/// Follows the policies until the end of the agent.
pub(crate) async fn follow(client: Client, node: Arc<dyn Node>, shared: Arc<Shared>) {
    let api: Api<DynamicObject> = Api::all_with(client, &objects::policies());
    let config = from_cache();
    let mut events = pin!(watcher(api, config).backoff(Waits::default()));
    let mut known: BTreeMap<String, Policy> = BTreeMap::new();
    let mut listed: Option<BTreeMap<String, Policy>> = None;
    let mut begun: Option<Instant> = None;
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            event = events.next() => {
                let changed = match event {
                    None => return,
                    Some(Err(error)) => {
                        shared.watch_failed("policies", &error);
                        false
                    }
                    Some(Ok(Event::Init)) => {
                        listed = Some(BTreeMap::new());
                        false
                    }
                    Some(Ok(Event::InitApply(object))) => {
                        if let (Some(listed), Some(policy)) = (&mut listed, policy_of(&object)) {
                            // An API server whose cache is behind takes no change back.
                            let newer = known.get(&policy.name).filter(|known| known.follows(&policy));
                            if newer.is_none() {
                                shared.saw(&object);
                            }
                            let policy = newer.cloned().unwrap_or(policy);
                            listed.insert(policy.name.clone(), policy);
                        }
                        false
                    }
                    Some(Ok(Event::InitDone)) => {
                        shared.works("policies");
                        let now = listed.take().unwrap_or_default();
                        let first = !shared.has_policies();
                        let changed = now != known || first;
                        known = now;
                        changed
                    }
                    Some(Ok(Event::Apply(object))) => {
                        shared.works("policies");
                        shared.saw(&object);
                        match policy_of(&object) {
                            // A status that was written is no change of the policy.
                            Some(policy) if known.get(&policy.name) != Some(&policy) => {
                                known.insert(policy.name.clone(), policy);
                                true
                            }
                            _ => false,
                        }
                    }
                    Some(Ok(Event::Delete(object))) => {
                        let name = object.metadata.name.unwrap_or_default();
                        known.remove(&name).is_some()
                    }
                };
                if changed {
                    let now = Instant::now();
                    due = Some((now + QUIET).min(*begun.get_or_insert(now) + LONGEST));
                }
            }
            () = until(due) => {
                due = None;
                begun = None;
                let policies: Vec<Policy> = known.values().cloned().collect();
                let (node, given) = (node.clone(), policies.clone());
                let applied = tokio::task::spawn_blocking(move || node.apply(&given)).await;
                match applied {
                    Ok(applied) => {
                        if let Some(why) = &applied.failed {
                            log::warn!("the cluster's policies are not in force: {why}");
                            due = Some(Instant::now() + AGAIN);
                        } else {
                            log::info!(
                                "{} of the cluster: {} with faults",
                                counted(policies.len()),
                                applied.faults.len()
                            );
                        }
                        shared.applied(policies, applied);
                    }
                    Err(error) => {
                        log::error!("a bug in portcullis: {error}");
                        due = Some(Instant::now() + AGAIN);
                    }
                }
            }
        }
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

impl Policy {
    /// Whether this is a later state of the same object.
    fn follows(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation > other.generation
    }
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

    #[test]
    fn an_older_state_is_not_taken_for_a_change() {
        let policy = |uid: &str, generation| Policy {
            name: "p".to_owned(),
            uid: uid.to_owned(),
            generation,
            spec: Value::Null,
        };
        assert!(policy("a", 3).follows(&policy("a", 2)));
        assert!(!policy("a", 3).follows(&policy("a", 3)));
        // One that was made anew begins again at 1.
        assert!(!policy("a", 3).follows(&policy("b", 1)));
    }
}
