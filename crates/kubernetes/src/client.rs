//! The way to the API server.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long a connection may take, and how long an answer may keep silent. Watches have bookmarks
/// more often than that.
const CONNECT: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(295);

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
    /// A part of the work ended by itself.
    #[error("a bug in portcullis: a part of the work in the cluster has ended")]
    Ended(#[source] Option<tokio::task::JoinError>),
    /// What they say makes no client.
    #[error("there is no way to the API server")]
    Client(#[source] kube::Error),
}

/// A client.
pub(crate) async fn connect(access: &Access) -> Result<Client, ClientError> {
    let mut config = match access {
        Access::InCluster => Config::incluster().map_err(ClientError::InCluster)?,
        Access::File(path) => {
            let wrong = |error| ClientError::Kubeconfig(path.clone(), error);
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
    };
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    // Retries are ours, with the pace of a cluster.
    config.default_retry = false;
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_static(concat!("portcullisd/", env!("CARGO_PKG_VERSION"))),
    ));
    Client::try_from(config).map_err(ClientError::Client)
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
