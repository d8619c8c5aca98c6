//! The node's part in the cluster, from its beginning to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Access, ClientError, connect};
use crate::node::Node;
use crate::pace::ended;
use crate::removal::Removed;
use crate::sender::Sender;
use crate::shared::Shared;
use crate::{leader, policies, protection, removal};

/// How long what is under way may take to end.
const GRACE: Duration = Duration::from_secs(3);
/// How long it may take to take back what was said of a node.
const TAKE_BACK: Duration = Duration::from_secs(5);

/// Which cluster, and who this is in it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How its API server is reached.
    pub access: Access,
    /// The node's name there.
    pub node: String,
    /// The namespace of what was installed.
    pub namespace: String,
    /// The DaemonSet that this is a pod of, if it is one.
    pub daemonset: Option<String>,
    /// Where the outbox is kept.
    pub outbox: PathBuf,
}

/// Takes part in the cluster until `stop` says so. Answers what is being removed from the cluster then.
///
/// # Errors
/// A part has ended, which is a bug. An API server that does not answer is no error, nor is a kubeconfig
/// that is not there yet.
pub async fn run(
    cluster: Cluster,
    node: Arc<dyn Node>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> Result<Removed, ClientError> {
    let Some(client) = connect(&cluster.access, &shared, &mut stop).await else {
        return Ok(Removed::Nothing);
    };
    let cluster = Arc::new(cluster);
    let mut following = JoinSet::new();
    following.spawn(policies::follow(client.clone(), node.clone(), shared.clone()));
    following.spawn(protection::follow(
        client.clone(),
        cluster.clone(),
        node.clone(),
        shared.clone(),
    ));
    following.spawn(removal::follow(client.clone(), cluster.clone(), shared.clone()));
    // These end by themselves, and save what they have.
    let mut telling = JoinSet::new();
    let sender = Sender::new(client.clone(), cluster.clone(), node, shared.clone());
    telling.spawn(sender.run(stop.clone()));
    telling.spawn(leader::lead(client.clone(), cluster.clone(), shared.clone(), stop.clone()));
    let ended = tokio::select! {
        // First, since the others end for this reason.
        biased;
        () = ended(&mut stop) => None,
        ended = following.join_next() => ended,
        ended = telling.join_next() => ended,
    };
    if let Some(ended) = ended {
        return Err(ClientError::Ended(ended.err()));
    }
    // What is followed tells of it when nothing may be asked any more.
    let removed = removal::removed(&client, &cluster, &shared).await;
    following.shutdown().await;
    let ends = async { while telling.join_next().await.is_some() {} };
    let _in_time = tokio::time::timeout(GRACE, ends).await;
    telling.shutdown().await;
    if removed != Removed::Nothing {
        // It may not be allowed any more, nor answered.
        let taken = protection::take_back(&client, &cluster);
        let _in_time = tokio::time::timeout(TAKE_BACK, taken).await;
    }
    Ok(removed)
}
