//! From our errors to the ttrpc status that containerd understands (contracts: refusing cleanly).
//!
//! A refusal is FAILED_PRECONDITION: UNIMPLEMENTED would make containerd 2 call again by the older
//! API, UNAVAILABLE and DEADLINE look like a broken node, and UNKNOWN gets a suffix in 1.6.

use containerd_shim_protos::ttrpc;
use portcullis_types::with_causes;
use ttrpc::Code;

/// An answer that is not the one asked for.
pub(crate) fn status(code: Code, message: impl Into<String>) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, message.into()))
}

/// There is no such container or process here.
pub(crate) fn not_found(what: &str, id: &str) -> ttrpc::Error {
    status(Code::NOT_FOUND, format!("{what} {id} not found"))
}

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    with_causes(error).replace('\n', " ")
}

/// An error of ours as an answer with the code given.
pub(crate) fn failed(code: Code, error: &(dyn std::error::Error + 'static)) -> ttrpc::Error {
    status(code, chain(error))
}

impl From<crate::io::IoError> for Failed {
    fn from(error: crate::io::IoError) -> Self {
        let code = match error {
            crate::io::IoError::Scheme { .. } | crate::io::IoError::Uri { .. } => {
                Code::INVALID_ARGUMENT
            }
            _ => Code::UNKNOWN,
        };
        Self(failed(code, &error))
    }
}

impl From<crate::mounts::MountError> for Failed {
    fn from(error: crate::mounts::MountError) -> Self {
        Self(failed(Code::UNKNOWN, &error))
    }
}

impl From<crate::bundle::BundleError> for Failed {
    fn from(error: crate::bundle::BundleError) -> Self {
        Self(failed(Code::INVALID_ARGUMENT, &error))
    }
}

impl From<crate::options::OptionsError> for Failed {
    fn from(error: crate::options::OptionsError) -> Self {
        Self(failed(Code::INVALID_ARGUMENT, &error))
    }
}

impl From<crate::runc::RuncError> for Failed {
    fn from(error: crate::runc::RuncError) -> Self {
        let code = if error.is_gone() { Code::NOT_FOUND } else { Code::UNKNOWN };
        Self(failed(code, &error))
    }
}

/// A status on its way to the caller; exists so that `?` can convert our errors.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) ttrpc::Error);

impl From<ttrpc::Error> for Failed {
    fn from(error: ttrpc::Error) -> Self {
        Self(error)
    }
}

impl From<Failed> for ttrpc::Error {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            ttrpc::Error::RpcStatus(status) => f.write_str(&status.message),
            other => write!(f, "{other}"),
        }
    }
}
