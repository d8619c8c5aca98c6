//! What everything that speaks HTTP shares: addresses that tell no secret, the proxies of the
//! environment, the authorities that are trusted.

#![forbid(unsafe_code)]

pub mod proxy;
mod tls;
mod url;

pub use tls::{TlsError, tls};
pub use url::{Url, UrlError};
