//! A containerd that answers from tables, or misbehaves as told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use portcullis_types::{Digest, chain_id};
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::containerd::api::*;
use crate::{ContainerdResolver, OciStart, Resolved, RootfsMount, Running, RunningError, Start};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NOT_FOUND: u32 = 5;
const UNIMPLEMENTED: u32 = 12;

/// What the fake does in place of answering.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing, for ever.
    Hang,
    /// Another status.
    Status(u32),
    /// These bytes as body, then status OK.
    Body(Vec<u8>),
    /// A body without end.
    Flood,
    /// No status behind the answer.
    NoStatus,
    /// Not gRPC at all.
    Http(u16),
    /// The connection ends.
    Close,
}

/// The tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) containers: BTreeMap<String, Container>,
    /// By key: parent and labels.
    pub(crate) snapshots: BTreeMap<String, SnapshotInfo>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) active: Vec<ActiveMount>,
    /// By name: media type and digest.
    pub(crate) images: BTreeMap<String, (String, Digest)>,
    pub(crate) content: BTreeMap<Digest, Vec<u8>>,
    pub(crate) sandboxes: BTreeMap<String, Sandbox>,
    pub(crate) faults: BTreeMap<&'static str, Fault>,
    /// Which namespace is asked for, if not `k8s.io`.
    pub(crate) namespace: Option<&'static str>,
    /// Ids and statuses of the tasks.
    pub(crate) tasks: Vec<(String, i32)>,
    /// Namespaces and topics of events.
    pub(crate) events: Vec<(&'static str, &'static str)>,
    /// The folder of the content store, if it has one.
    pub(crate) folder: Option<PathBuf>,
    /// The mounts of a view.
    pub(crate) views: Vec<Mount>,
    /// What the start hands over, if not the mounts of the table.
    pub(crate) given: Option<Vec<RootfsMount>>,
}

/// A running container by namespace and id, as it is resolved, and its specification.
pub(super) type Found = (String, Resolved, Option<Vec<u8>>);

/// The documents of one image in the world.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) config: Digest,
    pub(crate) manifest: Digest,
    pub(crate) chain: Digest,
}

impl World {
    /// A blob.
    pub(crate) fn add(&mut self, json: &Value) -> Digest {
        let bytes = json.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        self.content.insert(digest.clone(), bytes);
        digest
    }

    /// An image whose layers are these; `user` makes configurations differ.
    pub(crate) fn image(&mut self, layers: &[&str], user: &str) -> Image {
        let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::of(l.as_bytes())).collect();
        let config = self.add(&json!({
            "config": { "User": user },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }));
        let manifest = self.add(&json!({
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config },
            "layers": [],
        }));
        Image { config, manifest, chain: chain_id(&diff_ids).unwrap() }
    }

    /// An index of manifests.
    pub(crate) fn index(&mut self, manifests: &[&Digest]) -> Digest {
        let manifests: Vec<Value> = manifests
            .iter()
            .map(|digest| json!({ "mediaType": MANIFEST, "digest": digest }))
            .collect();
        self.add(&json!({ "manifests": manifests }))
    }

    /// An image record.
    pub(crate) fn record(&mut self, name: &str, media_type: &str, target: &Digest) {
        let target = (media_type.to_owned(), target.clone());
        self.images.insert(name.to_owned(), target);
    }

    /// A container with a snapshot on this parent.
    pub(crate) fn container(&mut self, id: &str, image: &str, parent: &str) {
        let container = Container {
            id: id.to_owned(),
            image: image.to_owned(),
            spec: Some(any(&json!({ "root": { "path": "rootfs" } }))),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: id.to_owned(),
            extensions: BTreeMap::new(),
        };
        self.containers.insert(id.to_owned(), container);
        self.snapshot(id, parent);
        self.mounts = vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: vec!["upperdir=/s/2/fs".to_owned(), "lowerdir=/s/1/fs".to_owned()],
        }];
    }

    /// A snapshot.
    pub(crate) fn snapshot(&mut self, key: &str, parent: &str) {
        let info = SnapshotInfo {
            name: key.to_owned(),
            parent: parent.to_owned(),
            labels: BTreeMap::new(),
        };
        self.snapshots.insert(key.to_owned(), info);
    }

    /// Makes a container one of the CRI plug-in's.
    pub(crate) fn extend(&mut self, id: &str, extension: &str, metadata: Value) {
        let json = json!({ "Version": "v1", "Metadata": metadata });
        let container = self.containers.get_mut(id).unwrap();
        container.extensions.insert(extension.to_owned(), any(&json));
    }

    /// Resolves the container `c1` at a fake with these tables.
    pub(crate) fn resolve(self) -> Resolved {
        self.resolve_within(Duration::from_secs(5)).0
    }

    /// Resolves it as an OCI runtime's command line names it, with this table of mounts.
    pub(crate) fn resolve_oci(self, start: &OciStart<'_>, table: &str) -> Resolved {
        let mounted = crate::mounted::find(table.as_bytes(), start.root);
        self.serve(|socket| {
            ContainerdResolver::new(socket).resolve_mounted(start, Ok(mounted.as_ref()))
        })
    }

    /// Runs what asks a fake with these tables, given its socket.
    pub(crate) fn serve<T>(self, ask: impl FnOnce(&str) -> T) -> T {
        self.serve_seen(ask).0
    }

    /// The same; also which calls were made.
    pub(crate) fn serve_seen<T>(self, ask: impl FnOnce(&str) -> T) -> (T, Vec<String>) {
        let fake = Fake::start(self);
        let answer = ask(fake.socket().to_str().unwrap());
        let calls = fake.calls.lock().unwrap().clone();
        (answer, calls)
    }

    /// What runs at a fake with these tables, each as it would start again.
    pub(super) fn running(self, time: Duration) -> Result<Vec<Found>, RunningError> {
        let fake = Fake::start(self);
        let resolver = ContainerdResolver::new(fake.socket().to_str().unwrap());
        let deadline = Instant::now() + time;
        let found = resolver.running(deadline)?;
        let resolve = |running: Running| {
            let (resolved, spec) = resolver.resolve_running(&running, deadline);
            (format!("{}/{}", running.namespace, running.container_id), resolved, spec)
        };
        Ok(found.into_iter().map(resolve).collect())
    }

    /// The same with less time; also which calls were made.
    pub(crate) fn resolve_within(self, time: Duration) -> (Resolved, Vec<String>) {
        let given = self.given.clone().unwrap_or_else(|| {
            self.mounts
                .iter()
                .map(|mount| RootfsMount {
                    kind: mount.kind.clone(),
                    source: mount.source.clone(),
                    options: mount.options.clone(),
                })
                .collect()
        });
        let fake = Fake::start(self);
        let resolved = ContainerdResolver::new(fake.socket().to_str().unwrap()).resolve(&Start {
            namespace: "k8s.io",
            container_id: "c1",
            rootfs: &given,
            deadline: Instant::now() + time,
        });
        let calls = fake.calls.lock().unwrap().clone();
        (resolved, calls)
    }
}

pub(crate) fn any(json: &Value) -> Any {
    Any { type_url: String::new(), value: json.to_string().into_bytes() }
}

/// The running fake.
struct Fake {
    folder: TempDir,
    calls: Arc<Mutex<Vec<String>>>,
    /// Ends the thread when it is dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Fake {
    fn start(world: World) -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("socket");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let seen = Arc::clone(&calls);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, Arc::new(world), seen) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { folder, calls, _stop: stop }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

async fn serve(listener: UnixListener, world: Arc<World>, calls: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = h2::server::handshake(stream).await.unwrap();
        tokio::spawn(serve_one(connection, Arc::clone(&world), Arc::clone(&calls)));
    }
}

async fn serve_one(
    mut connection: h2::server::Connection<tokio::net::UnixStream, Bytes>,
    world: Arc<World>,
    calls: Arc<Mutex<Vec<String>>>,
) {
    while let Some(Ok((request, respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let namespace = world.namespace.unwrap_or("k8s.io");
        let about_all = [NAMESPACES_LIST, PLUGINS, EVENTS_SUBSCRIBE].contains(&path.as_str());
        assert!(about_all || request.headers()["containerd-namespace"] == namespace);
        let method = path.rsplit('.').next().unwrap_or_default().to_owned();
        calls.lock().unwrap().push(method);
        if let Some(Fault::Close) = world.faults.get(path.as_str()) {
            return;
        }
        let world = Arc::clone(&world);
        tokio::spawn(async move { respond_to(&world, &path, request.into_body(), respond).await });
    }
}

async fn respond_to(
    world: &World,
    path: &str,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let mut request = BytesMut::new();
    while let Some(chunk) = body.data().await {
        request.extend_from_slice(&chunk.unwrap());
    }
    let (status, answer) = match answer(world, path, &request[5..]) {
        Ok(messages) => (0, messages.concat()),
        Err(status) => (status, Vec::new()),
    };
    let fault = world.faults.get(path);
    if let Some(Fault::Hang) = fault {
        return std::future::pending().await;
    }
    let http = match fault {
        Some(Fault::Http(code)) => *code,
        _ => 200,
    };
    let head = Response::builder().status(http).body(()).unwrap();
    let mut send = respond.send_response(head, false).unwrap();
    let (status, answer) = match fault {
        Some(Fault::Status(code)) => (*code, Vec::new()),
        Some(Fault::Body(bytes)) => (0, bytes.clone()),
        Some(Fault::Flood) => {
            // Larger than any message may be, and never finished.
            let _ = send.send_data(Bytes::from_static(&[0, 0, 0xff, 0xff, 0xff]), false);
            loop {
                send.reserve_capacity(1 << 16);
                match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                    Some(Ok(room)) => {
                        let _ = send.send_data(vec![0; room].into(), false);
                    }
                    _ => return,
                }
            }
        }
        _ => (status, answer),
    };
    let last = matches!(fault, Some(Fault::NoStatus));
    let _ = send.send_data(answer.into(), last);
    if !last {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.into());
        trailers.insert("grpc-message", "as%20told".parse().unwrap());
        let _ = send.send_trailers(trailers);
    }
}

/// The framed messages of the true answer, or a status.
fn answer(world: &World, path: &str, request: &[u8]) -> Result<Vec<Vec<u8>>, u32> {
    let one = |message: Vec<u8>| vec![framed(message)];
    match path {
        CONTAINERS_GET => {
            let request = GetContainerRequest::decode(request).unwrap();
            let container = world.containers.get(&request.id).ok_or(NOT_FOUND)?;
            let container = Some(container.clone());
            Ok(one(GetContainerResponse { container }.encode_to_vec()))
        }
        SNAPSHOTS_STAT => {
            let request = SnapshotRequest::decode(request).unwrap();
            let info = world.snapshots.get(&request.key).ok_or(NOT_FOUND)?;
            let info = Some(info.clone());
            Ok(one(StatSnapshotResponse { info }.encode_to_vec()))
        }
        SNAPSHOTS_MOUNTS => {
            let mounts = world.mounts.clone();
            Ok(one(MountsResponse { mounts }.encode_to_vec()))
        }
        SNAPSHOTS_VIEW => {
            let request = ViewSnapshotRequest::decode(request).unwrap();
            assert!(request.key.starts_with("portcullis-view-"), "{request:?}");
            assert!(world.snapshots.contains_key(&request.parent), "{request:?}");
            let mounts = world.views.clone();
            Ok(one(MountsResponse { mounts }.encode_to_vec()))
        }
        SNAPSHOTS_REMOVE => {
            let request = SnapshotRequest::decode(request).unwrap();
            assert!(request.key.starts_with("portcullis-view-"), "{request:?}");
            Ok(one(Empty {}.encode_to_vec()))
        }
        PLUGINS => {
            let exports = world.folder.iter().map(|f| ("root".into(), f.display().to_string()));
            let kind = "io.containerd.content.v1".to_owned();
            let plugins = vec![Plugin { kind, exports: exports.collect() }];
            Ok(one(PluginsResponse { plugins }.encode_to_vec()))
        }
        MOUNTS_INFO if world.active.is_empty() => Err(UNIMPLEMENTED),
        MOUNTS_INFO => {
            let active = world.active.clone();
            let info = Some(Activation { active });
            Ok(one(ActivationResponse { info }.encode_to_vec()))
        }
        IMAGES_GET => {
            let request = GetImageRequest::decode(request).unwrap();
            let target = world.images.get(&request.name).ok_or(NOT_FOUND)?;
            let image = Some(image(&request.name, target));
            Ok(one(GetImageResponse { image }.encode_to_vec()))
        }
        IMAGES_LIST => {
            let request = ListImagesRequest::decode(request).unwrap();
            let wanted = |digest: &Digest| {
                let filter = format!("target.digest==\"{digest}\"");
                request.filters.is_empty() || request.filters.contains(&filter)
            };
            let images = world.images.iter();
            let images = images.filter(|(_, (_, digest))| wanted(digest));
            let images = images.map(|(name, target)| image(name, target)).collect();
            Ok(one(ListImagesResponse { images }.encode_to_vec()))
        }
        CONTENT_READ => {
            let request = ReadContentRequest::decode(request).unwrap();
            let digest: Digest = request.digest.parse().unwrap();
            let content = world.content.get(&digest).ok_or(NOT_FOUND)?;
            let chunks = content.chunks(64).map(|chunk| {
                let data = Bytes::copy_from_slice(chunk);
                framed(ReadContentResponse { data }.encode_to_vec())
            });
            Ok(chunks.collect())
        }
        SANDBOXES_GET if world.sandboxes.is_empty() => Err(UNIMPLEMENTED),
        SANDBOXES_GET => {
            let request = StoreGetRequest::decode(request).unwrap();
            let sandbox = world.sandboxes.get(&request.sandbox_id).ok_or(NOT_FOUND)?;
            let sandbox = Some(sandbox.clone());
            Ok(one(StoreGetResponse { sandbox }.encode_to_vec()))
        }
        NAMESPACES_LIST => {
            let namespaces = vec![Namespace { name: "k8s.io".to_owned() }];
            Ok(one(ListNamespacesResponse { namespaces }.encode_to_vec()))
        }
        TASKS_LIST => {
            let task = |(id, status): &(String, i32)| Task { id: id.clone(), status: *status };
            let tasks = world.tasks.iter().map(task).collect();
            Ok(one(ListTasksResponse { tasks }.encode_to_vec()))
        }
        EVENTS_SUBSCRIBE => Ok(world
            .events
            .iter()
            .map(|(namespace, topic)| {
                let [namespace, topic] = [namespace, topic].map(|text| (*text).to_owned());
                framed(Envelope { namespace, topic }.encode_to_vec())
            })
            .collect()),
        other => panic!("{other} is not asked for"),
    }
}

fn image(name: &str, (media_type, digest): &(String, Digest)) -> super::super::api::Image {
    super::super::api::Image {
        name: name.to_owned(),
        target: Some(TargetDescriptor {
            media_type: media_type.clone(),
            digest: digest.to_string(),
        }),
    }
}

fn framed(message: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u8(0);
    out.put_u32(message.len().try_into().unwrap());
    out.extend(message);
    out
}
