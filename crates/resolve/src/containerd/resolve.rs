//! What is known of a container: its record, its pod and, with [`identify`], its image.

use std::path::Path;

use portcullis_types::Kind;

use super::Starting;
use super::api;
use super::client::Client;
use super::cri::{self, Cri, Pod};
use super::identify::{Identified, identify};
use crate::Resolved;
use crate::grpc::GrpcError;
use crate::notes::Notes;

/// Everything that is known of the container by the deadline.
pub(super) async fn resolve(address: &Path, start: &Starting<'_>) -> Resolved {
    let mut resolved = Resolved::unknown("");
    let mut notes = Notes::default();
    match record(address, start, &mut notes).await {
        None => {}
        Some((client, record)) => learn(&client, start, &record, &mut resolved, &mut notes).await,
    }
    resolved.deadline_hit = notes.deadline_hit;
    resolved.identity.note = notes.into_line();
    resolved
}

/// A connection and the container's record.
async fn record(
    address: &Path,
    start: &Starting<'_>,
    notes: &mut Notes,
) -> Option<(Client, api::Container)> {
    let client = Client::connect(address, start.namespace, start.deadline)
        .await
        .map_err(|error| notes.trouble("containerd does not answer", &error))
        .ok()?;
    let mut record = client
        .container(start.container_id)
        .await
        .map_err(|error| notes.trouble("containerd's record of the container", &error))
        .ok()?;
    if let Some(docker) = start.docker
        && record.snapshot_key.is_empty()
    {
        record.snapshotter.clone_from(&docker.snapshotter);
        start.container_id.clone_into(&mut record.snapshot_key);
    }
    Some((client, record))
}

/// Fills in all that the container's record leads to.
pub(super) async fn learn(
    client: &Client,
    start: &Starting<'_>,
    record: &api::Container,
    resolved: &mut Resolved,
    notes: &mut Notes,
) {
    if start.docker.is_some() {
        return take(identify(client, start, record, None).await, resolved, notes);
    }
    let cri = match cri::read(record) {
        Ok(cri) => cri,
        Err(error) => {
            notes.trouble("the CRI plug-in's record of the container", &error);
            // It is in a pod of which nothing is known: `pod_known` stays false.
            let found = identify(client, start, record, None).await;
            return take(found, resolved, notes);
        }
    };
    match cri {
        Cri::Not => {
            resolved.pod_known = true;
            take(identify(client, start, record, None).await, resolved, notes);
        }
        Cri::Sandbox(pod) => {
            resolved.kind = Kind::Sandbox;
            resolved.pod_known = true;
            set_pod(resolved, pod);
            take(identify(client, start, record, None).await, resolved, notes);
        }
        Cri::Container(metadata) => {
            resolved.container.clone_from(&metadata.name);
            let (found, (pod, trouble)) = tokio::join!(
                identify(client, start, record, Some(&metadata)),
                pod_of(client, &metadata.sandbox_id)
            );
            resolved.pod_known = pod.is_some();
            set_pod(resolved, pod.or(metadata.pod).unwrap_or_default());
            take(found, resolved, notes);
            notes.append(trouble);
        }
    }
}

fn take(found: Identified, resolved: &mut Resolved, notes: &mut Notes) {
    resolved.identity = found.identity;
    resolved.image = found.image;
    notes.append(found.notes);
}

fn set_pod(resolved: &mut Resolved, pod: Pod) {
    resolved.namespace = pod.namespace;
    resolved.pod = pod.name;
    resolved.pod_uid = pod.uid;
    resolved.pod_labels = pod.labels;
}

/// The pod of a sandbox: from the sandbox container's record or, where the sandbox is no container
/// of containerd (a sandboxer other than `podsandbox`, since 2.0), from the sandbox store.
async fn pod_of(client: &Client, sandbox_id: &str) -> (Option<Pod>, Notes) {
    let mut notes = Notes::default();
    let step = "the record of the pod's sandbox";
    let pod = match client.container(sandbox_id).await {
        Ok(record) => cri::pod_of_record(&record, sandbox_id),
        Err(GrpcError::NotFound) => Ok(None),
        Err(error) => {
            notes.trouble(step, &error);
            return (None, notes);
        }
    };
    match pod {
        Ok(Some(pod)) => return (Some(pod), notes),
        Ok(None) => {}
        Err(error) => notes.trouble(step, &error),
    }
    let pod = match client.sandbox(sandbox_id).await {
        Ok(Some(record)) => cri::pod_of_store(&record, sandbox_id),
        Ok(None) => Ok(None),
        Err(error) => {
            notes.trouble(step, &error);
            return (None, notes);
        }
    };
    match pod {
        Ok(Some(pod)) => return (Some(pod), notes),
        Ok(None) => notes.say("the pod's sandbox has no record, so the pod's labels are not known"),
        Err(error) => notes.trouble(step, &error),
    }
    (None, notes)
}
