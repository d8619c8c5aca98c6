//! The proxy for an address, by the variables of the environment that other programs know too.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

/// A variable of the environment is no address of a proxy. It may have a password, and is not told.
#[derive(Debug, thiserror::Error)]
#[error("{name} is no address of a proxy")]
pub struct ProxyError {
    /// The variable.
    name: &'static str,
    #[source]
    source: ureq::Error,
}

/// Those for an address, in the order in which they count.
fn names(scheme: Option<&str>) -> [&'static str; 4] {
    match scheme {
        Some("https") => ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    }
}

/// The proxy by which an address is asked, if there is one.
///
/// # Errors
/// [`ProxyError`].
pub fn of(
    uri: &Uri,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ProxyError> {
    let first = |names: &[&'static str]| {
        names.iter().find_map(|name| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some((*name, value))
        })
    };
    let host = uri.host().unwrap_or_default();
    let exceptions = first(&["no_proxy", "NO_PROXY"]);
    if exceptions.is_some_and(|(_, list)| list.split([',', ' ']).any(|one| is_in(host, one))) {
        return Ok(None);
    }
    let Some((name, value)) = first(&names(uri.scheme_str())) else { return Ok(None) };
    Proxy::new(&value).map(Some).map_err(|source| ProxyError { name, source })
}

/// Whether a host is what an entry of NO_PROXY names: all, a domain with what is below it, an
/// address, or a network.
fn is_in(host: &str, entry: &str) -> bool {
    let entry = entry.trim();
    let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        let (network, bits) = match entry.split_once('/') {
            Some((network, bits)) => (network, bits.parse().ok()),
            None => (entry, Some(128)),
        };
        let network = network.trim_start_matches('[').trim_end_matches(']').parse();
        return entry == "*"
            || matches!((network, bits), (Ok(network), Some(bits)) if shares(address, network, bits));
    }
    let domain = entry.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
    let domain = domain.to_ascii_lowercase();
    let below = host.strip_suffix(&domain);
    entry == "*"
        || (!domain.is_empty() && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Whether two addresses are the same in their first bits.
fn shares(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    let (a, b, width) = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let rest = width - bits.min(width);
    (a ^ b).checked_shr(rest).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = of(&url.parse().unwrap(), &variable).unwrap();
        proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn the_proxy_is_that_of_the_scheme() {
        let both =
            [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2"), ("ALL_PROXY", "http://a:3")];
        assert_eq!(chosen("https://h/", &both).unwrap(), "s:1");
        assert_eq!(chosen("http://h/", &both).unwrap(), "p:2");
        assert_eq!(chosen("http://h/", &both[..1]), None);
        assert_eq!(chosen("http://h/", &both[2..]).unwrap(), "a:3");
        let empty = [("https_proxy", ""), ("HTTPS_PROXY", "http://s:1")];
        assert_eq!(chosen("https://h/", &empty).unwrap(), "s:1");
        let wrong = |_: &str| Some("http://user:secret@".to_owned());
        let error = of(&Uri::from_static("http://h/"), &wrong).unwrap_err();
        let said = format!("{error}: {}", error.source);
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn hosts_that_are_excepted_are_asked_directly() {
        for (host, entry, wanted) in [
            ("a.example", "*", true),
            ("10.0.0.1", "*", true),
            ("a.example", "a.example", true),
            ("A.Example.", "a.example", true),
            ("b.a.example", "a.example", true),
            ("b.a.example", ".a.example", true),
            ("b.a.example", "*.a.example", true),
            ("ba.example", "a.example", false),
            ("example", "a.example", false),
            ("a.example", "", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3", "2.3", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.0.0.0/x", false),
            ("[::1]", "::1", true),
            ("[fd00::1]", "fd00::/8", true),
            ("[fd00::1]", "10.0.0.0/8", false),
        ] {
            assert_eq!(is_in(host, entry), wanted, "{host} {entry}");
        }
        let variables = [("HTTP_PROXY", "http://p:2"), ("NO_PROXY", "x, 10.0.0.0/8")];
        assert_eq!(chosen("http://10.0.0.1/", &variables), None);
        assert_eq!(chosen("http://y/", &variables).unwrap(), "p:2");
    }
}
