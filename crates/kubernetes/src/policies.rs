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

use crate::client::words;
use crate::node::{Node, Policy};
use crate::objects;
use crate::pace::Waits;
use crate::run::Shared;

/// How long a set of changes must have been quiet before it is put into force: `kubectl apply` of a
/// folder is one change.
const QUIET: Duration = Duration::from_millis(500);
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
    let mut due: Option<tokio::time::Instant> = None;
    loop {
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => {
                let changed = match event {
                    None => return,
                    Some(Err(error)) => {
                        shared.trouble("policies", &watch_words(&error));
                        false
                    }
                    Some(Ok(Event::Init)) => {
                        listed = Some(BTreeMap::new());
                        false
                    }
                    Some(Ok(Event::InitApply(object))) => {
                        shared.saw(&object);
                        if let (Some(listed), Some(policy)) = (&mut listed, policy_of(&object)) {
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
                    due = Some(tokio::time::Instant::now() + QUIET);
                }
            }
            () = wait => {
                due = None;
                let policies: Vec<Policy> = known.values().cloned().collect();
                let (node, given) = (node.clone(), policies.clone());
                let applied = tokio::task::spawn_blocking(move || node.apply(&given)).await;
                match applied {
                    Ok(applied) => {
                        if let Some(why) = &applied.failed {
                            log::warn!("the cluster's policies are not in force: {why}");
                            due = Some(tokio::time::Instant::now() + AGAIN);
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
                        due = Some(tokio::time::Instant::now() + AGAIN);
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
    Some(Policy { name, generation: object.metadata.generation.unwrap_or(0), spec })
}

/// Lists from the API server's cache: what all nodes ask at once must not reach etcd. With pages it
/// would.
pub(crate) fn from_cache() -> Config {
    let mut config = Config::default().timeout(WATCH).any_semantic();
    config.page_size = None;
    config
}

/// Why a watch failed.
pub(crate) fn watch_words(error: &kube::runtime::watcher::Error) -> String {
    use kube::runtime::watcher::Error;
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => words(error),
        error => portcullis_types::with_causes(error),
    }
}
