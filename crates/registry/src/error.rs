//! Why a registry did not do what it was asked.

use portcullis_http::{TlsError, UrlError, proxy::ProxyError};
use portcullis_types::Digest;

use crate::login::LoginError;

/// Why a registry did not do what it was asked. What a registry says of itself is escaped and cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No authority to believe a registry by.
    #[error("registries cannot be asked")]
    Tls(#[from] TlsError),
    /// A proxy of the environment is none.
    #[error("registries cannot be asked")]
    Proxy(#[from] ProxyError),
    /// It sends us somewhere that is no address.
    #[error("{host} says where to go on, and it cannot be asked")]
    Address {
        /// The registry.
        host: String,
        /// What is wrong.
        #[source]
        source: UrlError,
    },
    /// It sends us where anybody on the way could listen, or round and round.
    #[error("{host} sends us on {why}")]
    Redirect {
        /// The registry.
        host: String,
        /// Where.
        why: &'static str,
    },
    /// Logins of this node cannot be used.
    #[error("the login to {host} cannot be used")]
    Login {
        /// The registry.
        host: String,
        /// What is wrong.
        #[source]
        source: LoginError,
    },
    /// It wants to know who we are, or wants somebody else.
    #[error("{host} does not let us {what} {repository}: {why}")]
    Denied {
        /// The registry.
        host: String,
        /// `read from` or `write to`.
        what: &'static str,
        /// The repository in it.
        repository: String,
        /// What it said, and what to do.
        why: String,
    },
    /// The time is up.
    #[error("{0} did not answer in time: try again later, or give it more time")]
    Deadline(String),
    /// There is no connection, or it broke.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The registry.
        host: String,
        /// Why, and what to do.
        why: String,
    },
    /// It answers something that it should not.
    #[error("{host} answers {status} for {what}{told}")]
    Status {
        /// The registry.
        host: String,
        /// What it was asked for.
        what: String,
        /// The status.
        status: u16,
        /// What it says of it.
        told: String,
    },
    /// What it has is larger than such a thing may be.
    #[error("{what} is larger than {most} bytes, and is not read")]
    TooLarge {
        /// What.
        what: String,
        /// The bound.
        most: usize,
    },
    /// What it sent is not what it should be.
    #[error("{host} sent something else than {digest}: it is damaged, or lies")]
    OtherContent {
        /// The registry.
        host: String,
        /// What was asked for.
        digest: Digest,
    },
    /// What it sent cannot be understood.
    #[error("{what} cannot be understood: {why}")]
    Malformed {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// It has not what should be there.
    #[error("{0} is not there")]
    Missing(String),
    /// Others changed the list of what refers to an image again and again.
    #[error("too many write to the tag {0} at once: try again later")]
    Contended(String),
}

impl RegistryError {
    /// Whether the registry itself is out of reach, so that asking it again soon is of no use.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Deadline(_) | Self::Unreachable { .. })
    }

    /// Whether the same may be taken later without anybody's doing.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            // The authorities of this node may not be there yet.
            Self::Contended(_) | Self::Tls(_) => true,
            _ => self.is_out_of_reach(),
        }
    }

    /// Whether somebody has to let us in: a login is wrong, run out or may too little.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Login { .. })
    }
}

/// A stranger's text in a line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
