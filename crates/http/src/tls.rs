//! The authorities by which servers are believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates cannot be read.
    #[error("cannot use the certificates in {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is no PEM.
    #[error("cannot use the certificates in {}", .0.display())]
    Pem(PathBuf, #[source] ureq::Error),
    /// It has none.
    #[error("there is no certificate in {}: it must be PEM", .0.display())]
    Empty(PathBuf),
    /// Nobody is trusted.
    #[error("this node trusts no authority: install ca-certificates{0}")]
    NoAuthority(&'static str),
}

/// TLS with the authorities of this node and those of a PEM file. `remedy` follows what is said of a
/// node that trusts none.
///
/// # Errors
/// [`TlsError`].
pub fn tls(ca: Option<&Path>, remedy: &'static str) -> Result<TlsConfig, TlsError> {
    let mut trusted: Vec<Certificate<'static>> = Vec::new();
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|e| TlsError::Read(path.to_owned(), e))?;
        for item in ureq::tls::parse_pem(&pem) {
            if let PemItem::Certificate(certificate) =
                item.map_err(|e| TlsError::Pem(path.to_owned(), e))?
            {
                trusted.push(certificate);
            }
        }
        if trusted.is_empty() {
            return Err(TlsError::Empty(path.to_owned()));
        }
    }
    let of_node = rustls_native_certs::load_native_certs().certs;
    trusted.extend(of_node.iter().map(|c| Certificate::from_der(c).to_owned()));
    if trusted.is_empty() {
        return Err(TlsError::NoAuthority(remedy));
    }
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(crypto)
        .root_certs(RootCerts::Specific(Arc::new(trusted)))
        .build())
}
