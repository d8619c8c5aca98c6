//! Whether what was installed in the cluster is being removed from it, so that the node is to be
//! restored; as opposed to an update, a drain or a restart, after which the agent comes again.
//!
//! `kubectl delete -k` removes the rights of the agent along with everything else, so that at its end
//! it may not ask any more. But a watch goes on that was allowed when it began: a ConfigMap that is
//! deleted with the rest, and does not change otherwise, is watched from the beginning.
//!
//! That something is not there says nothing if it never was: a DaemonSet that has another name than the
//! agent was told. And one that is deleted by itself may come again, so that data stays.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Event, watcher};
use kube::{Api, Client};
use portcullis_types::with_causes;

use crate::pace::Waits;
use crate::policies::from_cache;
use crate::run::Cluster;
use crate::shared::Shared;

/// How long the API server may take to say whether the DaemonSet is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what is watched may take to tell.
const TELLS: Duration = Duration::from_secs(10);

/// The longest between two looks for a DaemonSet that was never there.
const SELDOM: Duration = Duration::from_secs(600);

/// What is being removed from the cluster when an agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Nothing, as far as can be told: the node stays as it is.
    Nothing,
    /// The agent, but not all, as far as can be told: the node is restored, and its data stays.
    Agent,
    /// All of it.
    All,
}

/// Looks whether the DaemonSet is there, until it was, and watches the ConfigMap that bears its name.
pub(crate) async fn follow(client: Client, cluster: Arc<Cluster>, shared: Arc<Shared>) {
    let Some(name) = &cluster.daemonset else { return std::future::pending().await };
    tokio::join!(
        look(&client, &cluster, name, &shared),
        watch(Api::namespaced(client.clone(), &cluster.namespace), name, &shared),
    );
}

fn daemonsets(client: &Client, cluster: &Cluster) -> Api<DaemonSet> {
    Api::namespaced(client.clone(), &cluster.namespace)
}

/// Asks for the DaemonSet until it was seen.
async fn look(client: &Client, cluster: &Cluster, name: &str, shared: &Shared) {
    const PART: &str = "the DaemonSet";
    let api = daemonsets(client, cluster);
    let (mut soon, mut seldom) = (Waits::default(), Waits::up_to(SELDOM));
    loop {
        let wait = match api.get_metadata(name).await {
            Ok(_) => {
                shared.works(PART);
                return shared.set_seen_daemonset();
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                let why = format!(
                    "--daemonset={name} was never seen in the namespace {}, so that this node would \
                     not be restored at its removal from the cluster: say the name that it has \
                     there in the agent's arguments, and in the Role portcullis-node: {}",
                    cluster.namespace, status.message
                );
                shared.trouble(PART, &why);
                seldom.after_failure()
            }
            Err(error) => {
                shared.failed(PART, &error);
                soon.after_failure()
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn watch(api: Api<PartialObjectMeta<ConfigMap>>, name: &str, shared: &Shared) {
    let config = from_cache().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(api, config).backoff(Waits::default()));
    let mut was_there = false;
    let mut stays = false;
    while let Some(event) = events.next().await {
        match event {
            Err(error) => shared.watch_failed("the installation", &error),
            Ok(Event::Init) => stays = false,
            Ok(Event::InitApply(object)) => {
                was_there = true;
                stays = !is_going(&object.metadata);
            }
            Ok(Event::InitDone) => {
                shared.works("the installation");
                // One that was never there is no sign.
                shared.set_removed(was_there && !stays);
            }
            Ok(Event::Apply(object)) => {
                was_there = true;
                shared.set_removed(is_going(&object.metadata));
            }
            Ok(Event::Delete(_)) => shared.set_removed(was_there),
        }
    }
}

/// What is being removed, by what the DaemonSet says and the ConfigMap, or that alone if the other may
/// not be asked for any more. A DaemonSet that was never seen says nothing.
pub(crate) async fn removed(client: &Client, cluster: &Cluster, shared: &Shared) -> Removed {
    let Some(name) = &cluster.daemonset else { return Removed::Nothing };
    if !shared.has_seen_daemonset() {
        return Removed::Nothing;
    }
    let asked = daemonsets(client, cluster);
    let otherwise = match tokio::time::timeout(PATIENCE, asked.get_metadata(name)).await {
        Ok(Ok(daemonset)) if !is_going(&daemonset.metadata) => return Removed::Nothing,
        Ok(Ok(_)) => Removed::Agent,
        Ok(Err(error)) if is_absent(&error, name) => Removed::Agent,
        // The rights may be removed before the rest.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            log::info!("the DaemonSet may not be asked for: {}", status.message);
            Removed::Nothing
        }
        Ok(Err(error)) => return unanswered(&with_causes(&error), shared),
        Err(_) => return unanswered("no answer", shared),
    };
    let all = async {
        while !shared.is_removed() {
            tokio::time::sleep(TELLS / 50).await;
        }
        Removed::All
    };
    tokio::time::timeout(TELLS, all).await.unwrap_or(otherwise)
}

/// What the ConfigMap says alone.
fn unanswered(why: &str, shared: &Shared) -> Removed {
    log::info!("the DaemonSet cannot be asked for: {why}");
    if shared.is_removed() { Removed::Agent } else { Removed::Nothing }
}

fn is_going(object: &ObjectMeta) -> bool {
    object.deletion_timestamp.is_some()
}

/// Whether an API server says that there is no object of this name: a proxy before it, and one that
/// begins, may say 404 of anything.
fn is_absent(error: &kube::Error, name: &str) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let is_of = status.details.as_ref().is_some_and(|of| of.name == name);
    status.code == 404 && status.reason == "NotFound" && is_of
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::client::Access;

    /// An API server that gives these answers, code and text, or keeps silent.
    fn server<A>(answer: A) -> Client
    where
        A: Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = answer.clone();
            async move {
                let Some((code, text)) = answer(&request.uri().to_string()) else {
                    return std::future::pending().await;
                };
                Response::builder().status(code).body(Body::from(text.into_bytes()))
            }
        });
        Client::new(service, "default")
    }

    fn cluster() -> Cluster {
        Cluster {
            access: Access::InCluster,
            node: "n1".to_owned(),
            namespace: "system".to_owned(),
            daemonset: Some("guard".to_owned()),
            outbox: "outbox.json".into(),
        }
    }

    fn object(kind: &str, metadata: Value) -> Value {
        let mut object = json!({ "kind": kind, "metadata": { "name": "guard", "uid": "u" } });
        let all = object["metadata"].as_object_mut().unwrap();
        all.extend(metadata.as_object().unwrap().clone());
        object
    }

    fn there() -> (u16, String) {
        (200, object("DaemonSet", json!({})).to_string())
    }

    fn going() -> (u16, String) {
        let since = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
        (200, object("DaemonSet", since).to_string())
    }

    fn refusal(code: u16, reason: &str, details: Value) -> (u16, String) {
        let status = json!({
            "kind": "Status", "status": "Failure", "code": code, "reason": reason,
            "message": "daemonsets.apps \"guard\": no", "details": details,
        });
        (code, status.to_string())
    }

    fn absent() -> (u16, String) {
        let details = json!({ "name": "guard", "group": "apps", "kind": "daemonsets" });
        refusal(404, "NotFound", details)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_there_is_not_removed_and_data_goes_with_all_of_it_alone() {
        use Removed::{Agent, All, Nothing};
        let forbidden = || refusal(403, "Forbidden", Value::Null);
        // Whether the DaemonSet was seen, what is said of it, and what is removed as long as the
        // ConfigMap is there, and without it.
        let cases = [
            ("never seen", false, Some(absent()), [Nothing, Nothing]),
            ("never seen, going", false, Some(going()), [Nothing, Nothing]),
            ("never seen, forbidden", false, Some(forbidden()), [Nothing, Nothing]),
            ("gone", true, Some(absent()), [Agent, All]),
            ("going", true, Some(going()), [Agent, All]),
            ("there", true, Some(there()), [Nothing, Nothing]),
            ("forbidden", true, Some(forbidden()), [Nothing, All]),
            (
                "the word of a proxy",
                true,
                Some((404, "404 page not found".into())),
                [Nothing, Agent],
            ),
            (
                "404 of something else",
                true,
                Some(refusal(404, "NotFound", Value::Null)),
                [Nothing, Agent],
            ),
            ("an error", true, Some(refusal(500, "InternalError", Value::Null)), [Nothing, Agent]),
            ("no answer", true, None, [Nothing, Agent]),
        ];
        for (name, seen, answer, wanted) in cases {
            for (config_map_is_gone, wanted) in [false, true].into_iter().zip(wanted) {
                let shared = Shared::default();
                if seen {
                    shared.set_seen_daemonset();
                }
                shared.set_removed(config_map_is_gone);
                let answer = answer.clone();
                let client = server(move |_| answer.clone());
                let told = removed(&client, &cluster(), &shared).await;
                assert_eq!(told, wanted, "{name}, without the ConfigMap: {config_map_is_gone}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_config_map_that_goes_a_little_later_is_waited_for() {
        let shared = Shared::default();
        shared.set_seen_daemonset();
        let client = server(|_| Some(absent()));
        let begun = Instant::now();
        let later = async {
            tokio::time::sleep(TELLS / 2).await;
            shared.set_removed(true);
        };
        let cluster = cluster();
        let (told, ()) = tokio::join!(removed(&client, &cluster, &shared), later);
        assert_eq!(told, Removed::All);
        assert!(begun.elapsed() < TELLS);
    }

    /// Follows the DaemonSet by these answers, the last of which stays, for some hours.
    async fn followed(answers: Vec<(u16, String)>) -> (Arc<Shared>, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let client = server(move |uri| {
            // The ConfigMap is watched without an answer.
            let of_daemonset = uri.contains("/namespaces/system/daemonsets/guard");
            let number = of_daemonset.then(|| counted.fetch_add(1, SeqCst))?;
            Some(answers[number.min(answers.len() - 1)].clone())
        });
        let shared = Arc::new(Shared::default());
        let follow = follow(client, Arc::new(cluster()), shared.clone());
        let hours = Duration::from_secs(4 * 3600);
        assert!(tokio::time::timeout(hours, follow).await.is_err());
        (shared, asked.load(SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn the_daemonset_is_looked_for_until_it_is_found() {
        let (shared, asked) = followed(vec![there()]).await;
        assert!(shared.has_seen_daemonset() && shared.counts().troubles.is_empty());
        assert_eq!(asked, 1);

        let begins = refusal(403, "Forbidden", Value::Null);
        let (shared, asked) = followed(vec![begins, absent(), there()]).await;
        assert!(shared.has_seen_daemonset() && shared.counts().troubles.is_empty());
        assert_eq!(asked, 3);

        // One that has another name: said, and seldom asked for.
        let (shared, asked) = followed(vec![absent()]).await;
        assert!(!shared.has_seen_daemonset());
        let why = &shared.counts().troubles["the DaemonSet"];
        assert!(why.contains("--daemonset=guard") && why.contains("system"), "{why}");
        assert!((24..80).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_config_map_is_gone_when_it_was_there_and_is_going() {
        let version = |number: u32| json!({ "resourceVersion": number.to_string() });
        let since = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "5" });
        let told = |event: &str, object: Value| json!({ "type": event, "object": object });
        let map = |metadata: Value| object("ConfigMap", metadata);
        // What is listed first, what is told then, and whether it is gone.
        let cases = [
            (vec![], vec![], false),
            (vec![map(version(1))], vec![], false),
            (vec![map(version(1))], vec![told("DELETED", map(version(2)))], true),
            (vec![map(version(1))], vec![told("MODIFIED", map(version(2)))], false),
            (vec![map(version(1))], vec![told("MODIFIED", map(since.clone()))], true),
            (vec![map(since.clone())], vec![], true),
            (
                vec![map(version(1))],
                vec![told("DELETED", map(version(2))), told("ADDED", map(version(3)))],
                false,
            ),
        ];
        for (listed, events, gone) in cases {
            let what = format!("{listed:?} {events:?}");
            let list = json!({
                "kind": "List", "apiVersion": "v1", "metadata": version(1), "items": listed,
            });
            let events: String = events.iter().map(|event| format!("{event}\n")).collect();
            let first = AtomicBool::new(true);
            let client = server(move |uri| match uri {
                uri if uri.contains("/daemonsets/") => Some(there()),
                uri if !uri.contains("watch=true") => Some((200, list.to_string())),
                // It goes on without another word.
                _ => first.swap(false, SeqCst).then(|| (200, events.clone())),
            });
            let shared = Arc::new(Shared::default());
            let follow = follow(client, Arc::new(cluster()), shared.clone());
            assert!(tokio::time::timeout(Duration::from_secs(200), follow).await.is_err());
            assert_eq!(shared.is_removed(), gone, "{what}");
        }
    }
}
