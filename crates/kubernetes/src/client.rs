//! The way to the API server.
//!
//! No request takes longer than [`PATIENCE`] to be answered, and a connection that nobody answers on is
//! given up, so that whoever waits for an answer may rely on being told. What the way is made of (a
//! kubeconfig, a token, a certificate) is read again when it may be the reason why requests fail.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::api::GetParams;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use portcullis_types::with_causes;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_http::timeout::TimeoutBody;

use crate::pace::{Waits, ended};
use crate::policies::WATCH;
use crate::shared::Shared;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take to begin, the connection and a plugin that logs in included, and how
/// long it may keep silent then.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a watch may keep silent, that has nothing to tell: it ends before.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 25);
/// A connection at rest is asked after so long whether somebody is there. A load balancer that has
/// forgotten it says nothing by itself; and one is kept from forgetting it.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// And is given up when that was not answered so often, at this interval.
const KEEPALIVE_RETRIES: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the way is made anew, at most.
const ANEW: Duration = Duration::from_secs(60);
/// The way, in what is told of troubles.
const PART: &str = "the way to the API server";

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a pod: by the service account and the environment that Kubernetes gives it.
    InCluster,
    /// By a kubeconfig file.
    File(PathBuf),
}

/// Why the API server cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The file.
    #[error("the kubeconfig {0} cannot be used")]
    Kubeconfig(PathBuf, #[source] kube::config::KubeconfigError),
    /// The pod's service account.
    #[error(
        "this is no pod of Kubernetes with a service account: name a kubeconfig with --kubeconfig"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// What the kubeconfig or the environment names.
    #[error("proxies are not used: take {0} out of proxy-url or HTTPS_PROXY")]
    Proxy(http::Uri),
    /// A part of the work ended by itself.
    #[error("a bug in portcullis: a part of the work in the cluster has ended")]
    Ended(#[source] Option<tokio::task::JoinError>),
    /// What they say makes no client.
    #[error("there is no way to the API server")]
    Client(#[source] kube::Error),
}

/// A client, as soon as there can be one: at the boot of a node, its kubeconfig may come later. `None`
/// if the end comes first.
pub(crate) async fn connect(
    access: &Access,
    shared: &Arc<Shared>,
    stop: &mut watch::Receiver<bool>,
) -> Option<Client> {
    let access = access.clone();
    let way = Way::to(shared.clone(), move || Box::pin(opened(access.clone())));
    let mut waits = Waits::default();
    while !way.open().await {
        tokio::select! {
            biased;
            () = ended(stop) => return None,
            () = tokio::time::sleep(waits.after_failure()) => {}
        }
    }
    Some(way.client())
}

/// On a thread of its own, since a plugin of the kubeconfig may be run.
async fn opened(access: Access) -> Result<Client, ClientError> {
    let config = match &access {
        Access::InCluster => Config::incluster().map_err(ClientError::InCluster)?,
        Access::File(path) => {
            let wrong = |error| ClientError::Kubeconfig(path.clone(), error);
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            // The proxy of the environment is for mirrors and registries.
            let names_proxy = kubeconfig.clusters.iter().any(|named| {
                named.cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.is_some())
            });
            let options = KubeConfigOptions::default();
            let mut config =
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?;
            config.proxy_url = config.proxy_url.filter(|_| names_proxy);
            config
        }
    };
    let made = tokio::task::spawn_blocking(move || direct(config)).await;
    made.map_err(|error| ClientError::Ended(Some(error)))?
}

/// As kube makes a client by itself, but for how connections are made, and without retries: those are
/// ours, with the pace of a cluster.
fn direct(mut config: Config) -> Result<Client, ClientError> {
    if let Some(proxy) = config.proxy_url {
        return Err(ClientError::Proxy(proxy));
    }
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_static(concat!("portcullisd/", env!("CARGO_PKG_VERSION"))),
    ));
    let connector = config.rustls_https_connector_with_connector(connector());
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(ClientError::Client)?)
        .layer(config.extra_headers_layer().map_err(ClientError::Client)?)
        .map_err(BoxError::from)
        .service(
            HttpClient::builder(TokioExecutor::new())
                .build::<_, Body>(connector.map_err(ClientError::Client)?),
        );
    Ok(Client::new(service, config.default_namespace))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector
}

/// The API server did not answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", PATIENCE.as_secs())]
struct NoAnswer;

/// Makes a client of what there is now.
type Open = dyn Fn() -> BoxFuture<'static, Result<Client, ClientError>> + Send + Sync;

/// A client within bounds, that is made anew when what it was made of may be of yesterday.
struct Way {
    shared: Arc<Shared>,
    open: Box<Open>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    client: Option<Client>,
    /// When it was made, unless that is going on.
    opened: Option<Instant>,
}

impl Way {
    fn to(
        shared: Arc<Shared>,
        open: impl Fn() -> BoxFuture<'static, Result<Client, ClientError>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { shared, open: Box::new(open), inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the client of what there is now, and keeps the one there was if that makes none.
    async fn open(&self) -> bool {
        let opened = (self.open)().await;
        let mut inner = self.lock();
        inner.opened = Some(Instant::now());
        match opened {
            Ok(client) => {
                inner.client = Some(client);
                drop(inner);
                self.shared.works_locally(PART);
                true
            }
            Err(error) => {
                drop(inner);
                self.shared.trouble(PART, &with_causes(&error));
                false
            }
        }
    }

    /// Makes it anew beside what goes on, unless that is going on or was done a moment ago.
    fn open_again(self: &Arc<Self>) {
        let is_due = |opened: &mut Instant| opened.elapsed() >= ANEW;
        if self.lock().opened.take_if(is_due).is_some() {
            let way = self.clone();
            tokio::spawn(async move { way.open().await });
        }
    }

    /// A client that goes this way, whatever it is made of meanwhile.
    fn client(self: Arc<Self>) -> Client {
        let send = move |request| {
            let way = self.clone();
            async move { way.send(request).await }
        };
        Client::new(service_fn(send), "default")
    }

    async fn send(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<TimeoutBody<Body>>, BoxError> {
        let silence = if is_watch(&request) { SILENCE } else { PATIENCE };
        let client = self.lock().client.clone().ok_or("there is no client yet")?;
        let answer = match timeout(PATIENCE, client.send(request)).await {
            Ok(answer) => answer.map_err(BoxError::from),
            Err(_) => return Err(NoAnswer.into()),
        };
        // A token or a certificate that has expired, or another address.
        match &answer {
            Ok(answer) if answer.status() != StatusCode::UNAUTHORIZED => {
                self.shared.works_locally(PART);
            }
            _ => self.open_again(),
        }
        Ok(answer?.map(|body| TimeoutBody::new(silence, body)))
    }
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair == "watch=true")
}

/// What the API server has of an object in its cache, which may be behind: for whoever writes it with
/// the version that it has, so that a write of what is behind is a conflict, or looks at it again.
pub(crate) async fn cached<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.get_with(name, &GetParams::any()).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a failed request means for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// There is no such object, or no such resource.
    Absent,
    /// Somebody was quicker.
    Conflict,
    /// The namespace is not there that it was to be put into.
    NoNamespace,
    /// It will never be taken.
    Refused,
    /// The server answers, and does not take this now.
    NotNow,
    /// The server takes nothing now.
    Later,
}

pub(crate) fn meaning(error: &kube::Error) -> Meaning {
    let status = match error {
        kube::Error::Api(status) => status,
        // A name that makes no address.
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => return Meaning::Refused,
        _ => return Meaning::Later,
    };
    match status.code {
        404 if status.message.starts_with("namespaces ") => Meaning::NoNamespace,
        404 | 405 => Meaning::Absent,
        409 => Meaning::Conflict,
        400 | 413 | 422 => Meaning::Refused,
        // A namespace that is being removed takes nothing new.
        403 if status.message.contains("being terminated") => Meaning::Refused,
        401 | 429 | 500.. => Meaning::Later,
        _ => Meaning::NotNow,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tower::Service as _;

    use super::*;

    /// A client whose API server answers so, and then with a body that comes after a while.
    fn answering(status: u16, head: Duration, body: Duration) -> Client {
        let answer = move |_: Request<Body>| async move {
            tokio::time::sleep(head).await;
            let data = async move {
                tokio::time::sleep(body).await;
                Ok::<_, BoxError>(Frame::data("told".into()))
            };
            Response::builder().status(status).body(StreamBody::new(data.into_stream()))
        };
        Client::new(service_fn(answer), "default")
    }

    async fn ask(client: &Client, path: &str) -> Result<String, kube::Error> {
        client.request_text(Request::get(path).body(Vec::new()).unwrap()).await
    }

    async fn way(
        open: impl Fn() -> Result<Client, ClientError> + Send + Sync + 'static,
    ) -> Arc<Way> {
        let way = Way::to(Arc::default(), move || Box::pin(std::future::ready(open())));
        assert!(way.open().await);
        way
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_fails_that_is_not_answered_and_a_watch_may_keep_silent() {
        const LONG: Duration = Duration::from_secs(200);
        let (at_once, watch) = (Duration::ZERO, "/pods?&watch=true&timeoutSeconds=270");
        let check = async |head, body, path: &str, after: Option<Duration>| {
            let client = way(move || Ok(answering(200, head, body))).await.client();
            let begun = Instant::now();
            let told = ask(&client, path).await;
            assert_eq!(told.is_ok(), after.is_none(), "{path}: {told:?}");
            if let Some(after) = after {
                let words = told.map_err(|error| with_causes(&error)).unwrap_err();
                assert!((after..after * 2).contains(&begun.elapsed()), "{path}: {words}");
            }
        };
        check(PATIENCE / 2, PATIENCE / 2, "/pods", None).await;
        check(LONG, at_once, "/pods", Some(PATIENCE)).await;
        check(at_once, LONG, "/pods", Some(PATIENCE)).await;
        check(LONG, at_once, watch, Some(PATIENCE)).await;
        check(at_once, LONG, watch, None).await;
        check(at_once, 2 * SILENCE, watch, Some(SILENCE)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_is_made_anew_when_it_may_be_of_yesterday() {
        let opened = Arc::new(AtomicUsize::new(0));
        let times = opened.clone();
        let way = way(move || match times.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(answering(401, Duration::ZERO, Duration::ZERO)),
            1 => Err(ClientError::Proxy(http::Uri::from_static("http://proxy.example.com"))),
            _ => Ok(answering(200, Duration::ZERO, Duration::ZERO)),
        })
        .await;
        let client = way.clone().client();
        for expected in [1, 2] {
            for _ in 0..5 {
                assert!(ask(&client, "/pods").await.is_err());
                tokio::time::sleep(ANEW / 100).await;
            }
            // Not more often, whatever is asked; and one that cannot be made changes nothing.
            assert_eq!(opened.load(Ordering::SeqCst), expected);
            let troubles = way.shared.counts().troubles;
            assert_eq!(troubles.contains_key(PART), expected == 2);
            tokio::time::advance(ANEW).await;
        }
        assert!(ask(&client, "/pods").await.is_err());
        tokio::task::yield_now().await;
        assert!(way.shared.counts().troubles.is_empty());
        assert_eq!(ask(&client, "/pods").await.unwrap(), "told");
        tokio::time::advance(ANEW).await;
        assert_eq!(ask(&client, "/pods").await.unwrap(), "told");
        assert_eq!(opened.load(Ordering::SeqCst), 3);
    }

    /// A kubeconfig with a token in a file.
    fn kubeconfig(server: &str, token: &Path) -> String {
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
            "users": [{ "name": "u", "user": { "tokenFile": token } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        kubeconfig.to_string()
    }

    #[tokio::test]
    async fn a_request_says_who_asks() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/behind", server.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let mut connection = server.accept().unwrap().0;
            let lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let lines = lines.map(Result::unwrap).take_while(|line| !line.is_empty());
            let head: Vec<String> = lines.collect();
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntold").unwrap();
            head
        });
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("kubeconfig"), folder.path().join("token"));
        std::fs::write(&file, kubeconfig(&address, &token)).unwrap();
        std::fs::write(token, "secret").unwrap();
        let client = opened(Access::File(file)).await.unwrap();
        assert_eq!(ask(&client, "/version").await.unwrap(), "told");
        let head = asked.join().unwrap();
        assert_eq!(head[0], "GET /behind/version HTTP/1.1");
        assert!(head.contains(&"authorization: Bearer secret".to_owned()), "{head:?}");
        assert!(head.iter().any(|line| line.starts_with("user-agent: portcullisd/")), "{head:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubeconfig_may_come_later() {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("kubeconfig"), folder.path().join("token"));
        let access = Access::File(file.clone());
        let shared: Arc<Shared> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let begun = |mut stopped: watch::Receiver<bool>| {
            let (access, shared) = (access.clone(), shared.clone());
            tokio::spawn(async move { connect(&access, &shared, &mut stopped).await.is_some() })
        };
        let connecting = begun(stopped.clone());
        tokio::time::sleep(Duration::from_secs(600)).await;
        let why = || shared.counts().troubles.into_values().collect::<Vec<_>>().join("");
        assert!(why().contains("kubeconfig cannot be used"), "{}", why());
        // Nor need what it names be there.
        std::fs::write(&file, kubeconfig("http://127.0.0.1:1", &token)).unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(why().contains("there is no way to the API server"), "{}", why());
        std::fs::write(token, "secret").unwrap();
        assert!(connecting.await.unwrap());
        assert_eq!(why(), "");

        std::fs::remove_file(file).unwrap();
        let connecting = begun(stopped);
        tokio::time::sleep(Duration::from_secs(600)).await;
        stop.send(true).unwrap();
        assert!(!connecting.await.unwrap());
    }

    #[tokio::test]
    async fn a_connection_at_rest_is_asked_whether_somebody_is_there() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("http://{}", server.local_addr().unwrap()).parse().unwrap();
        let connected = connector().call(to).await.unwrap();
        let socket = socket2::SockRef::from(connected.inner());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
    }
}
