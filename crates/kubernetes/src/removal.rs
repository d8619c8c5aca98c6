//! Whether what was installed in the cluster is being removed from it, so that the node is to be
//! restored; as opposed to an update, a drain or a restart, after which the agent comes again.
//!
//! `kubectl delete -k` removes the rights of the agent along with everything else, so that at its end
//! it may not ask any more. But a watch goes on that was allowed when it began: a ConfigMap that is
//! deleted with the rest, and does not change otherwise, is watched from the beginning.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
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
const PATIENCE: Duration = Duration::from_secs(5);

/// How long what is watched may take to tell, of what may not be asked for any more.
const TELLS: Duration = Duration::from_secs(10);

/// Watches the ConfigMap that bears the DaemonSet's name.
pub(crate) async fn follow(client: Client, cluster: Arc<Cluster>, shared: Arc<Shared>) {
    let Some(name) = &cluster.daemonset else { return std::future::pending().await };
    let api: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(client, &cluster.namespace);
    let config = from_cache().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(api, config).backoff(Waits::default()));
    let mut is_there = false;
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Err(error) => shared.watch_failed("the installation", &error),
            Ok(Event::Init) => listed = false,
            Ok(Event::InitApply(_)) => listed = true,
            Ok(Event::InitDone) => {
                shared.works("the installation");
                // One that was never there is no sign.
                shared.set_removed(is_there && !listed);
                is_there |= listed;
            }
            Ok(Event::Apply(_)) => {
                is_there = true;
                shared.set_removed(false);
            }
            Ok(Event::Delete(_)) => shared.set_removed(is_there),
        }
    }
}

/// What the DaemonSet says, or what was seen before, if it may not be asked any more.
pub(crate) async fn is_removed(client: &Client, cluster: &Cluster, shared: &Shared) -> bool {
    let Some(name) = &cluster.daemonset else { return false };
    let api: Api<DaemonSet> = Api::namespaced(client.clone(), &cluster.namespace);
    match tokio::time::timeout(PATIENCE, api.get_metadata(name)).await {
        Ok(Ok(daemonset)) => daemonset.metadata.deletion_timestamp.is_some(),
        // A proxy before the API server may say 404 of anything.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 && status.reason == "NotFound" => {
            true
        }
        // The rights may be removed before the rest.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            log::info!("the DaemonSet may not be asked for: {}", status.message);
            let tells = async {
                while !shared.is_removed() {
                    tokio::time::sleep(TELLS / 50).await;
                }
            };
            tokio::time::timeout(TELLS, tells).await.is_ok()
        }
        Ok(Err(error)) => {
            log::info!("the DaemonSet cannot be asked for: {}", with_causes(&error));
            shared.is_removed()
        }
        Err(_) => shared.is_removed(),
    }
}
