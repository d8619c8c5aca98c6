//! A client of the OCI distribution specification 1.1, as much of it as verdicts need.
//!
//! Every answer is bounded in bytes and in time, held against its digest, and tried again where that
//! may help. TLS is left out for loopback and for hosts that the settings name, and for no other.

mod challenge;
mod refer;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portcullis_http::{Url, proxy};
use portcullis_settings::RegistrySettings;
use portcullis_types::{Digest, ImageRef};
use ureq::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Error, Timeout};

use self::challenge::Challenge;
use crate::document::{ACCEPTED, Descriptor, MAX_DOCUMENT};
use crate::error::{RegistryError, shown};
use crate::login::Logins;

/// Most redirects from one to the next.
const REDIRECTS: usize = 5;
/// How long is waited before the second try and the third, at least.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// Most bytes of an answer that only says what went wrong, or who we are now.
const MAX_TALK: usize = 64 << 10;
/// Where Docker's own registry is.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// How registries are asked on this node.
pub struct Registry {
    agent: Agent,
    tls: OnceLock<TlsConfig>,
    ca: Option<PathBuf>,
    insecure: std::collections::BTreeSet<String>,
    logins: Logins,
    /// What to send instead of a login, by repository and what is done there.
    tokens: Mutex<BTreeMap<String, String>>,
}

/// A repository of a registry, asked until a time.
pub struct Repository<'r> {
    registry: &'r Registry,
    /// As references have it.
    host: String,
    /// `library/nginx`.
    path: String,
    until: Instant,
}

/// What is done at a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Pull,
    Push,
}

/// What is asked.
struct Ask<'a> {
    method: Method,
    url: Url,
    access: Access,
    headers: &'a [(HeaderName, &'a str)],
    body: &'a [u8],
    /// Most bytes of the answer.
    most: usize,
    /// What it is about, for errors.
    what: &'a str,
}

/// What a registry answers.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Where it came from in the end.
    url: Url,
}

impl Answer {
    fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers.get(name.as_ref())?.to_str().ok()
    }
}

/// Why a try failed.
enum Failure {
    Final(RegistryError),
    /// Another try may do, after so long if the registry says so.
    Again(RegistryError, Option<Duration>),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Final(error)
    }
}

impl Registry {
    /// By these settings, with these logins.
    pub fn new(settings: &RegistrySettings, logins: Logins) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // They are followed here, by stricter rules.
            .max_redirects(0)
            .max_response_header_size(64 << 10)
            // It is chosen for each request.
            .proxy(None)
            .build();
        Self {
            agent: config.new_agent(),
            tls: OnceLock::new(),
            ca: settings.ca.clone(),
            insecure: settings.insecure.clone(),
            logins,
            tokens: Mutex::default(),
        }
    }

    /// The repository of a reference. Nothing is asked later than `until`.
    pub fn repository(&self, reference: &ImageRef, until: Instant) -> Repository<'_> {
        let path = reference.path().collect::<Vec<_>>().join("/");
        Repository { registry: self, host: reference.host().to_owned(), path, until }
    }

    /// Whether a host, with its port, is asked without TLS.
    fn is_plain(&self, host: &str) -> bool {
        is_loopback(host) || self.insecure.contains(host) || self.insecure.contains(name_of(host))
    }

    fn tls(&self) -> Result<&TlsConfig, RegistryError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let remedy = ", or name one as [registry] ca in portcullis.toml";
        let tls = portcullis_http::tls(self.ca.as_deref(), remedy)?;
        Ok(self.tls.get_or_init(|| tls))
    }
}

/// A host without its port: `[::1]` of `[::1]:5000`.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = name_of(host);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Repository<'_> {
    /// Host and path.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// A manifest or an index by tag or digest, with what it is; `None` if it is not there. Its
    /// digest is that of its bytes.
    pub(crate) fn manifest(
        &self,
        name: &str,
    ) -> Result<Option<(Vec<u8>, Descriptor)>, RegistryError> {
        let what = format!("{}:{name}", self.path);
        let headers = [(ACCEPT, ACCEPTED)];
        let answer = self.get(&["manifests", name], &headers, MAX_DOCUMENT, &what)?;
        let answer = match answer.status {
            StatusCode::OK => answer,
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.status(&answer, &what)),
        };
        let digest = match name.parse::<Digest>() {
            Ok(digest) if digest.is_of(&answer.body) => digest,
            Ok(digest) => {
                return Err(RegistryError::OtherContent { host: self.host.clone(), digest });
            }
            Err(_) => Digest::of(&answer.body),
        };
        let descriptor = Descriptor {
            media_type: media_type(&answer),
            digest,
            size: answer.body.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        };
        Ok(Some((answer.body, descriptor)))
    }

    /// The bytes of a blob, of which there may be so many.
    pub(crate) fn blob(&self, blob: &Descriptor, most: usize) -> Result<Vec<u8>, RegistryError> {
        let what = format!("{}@{}", self.path, blob.digest);
        let size = usize::try_from(blob.size).ok().filter(|size| *size <= most);
        let Some(size) = size else { return Err(RegistryError::TooLarge { what, most }) };
        let answer = self.get(&["blobs", &blob.digest.to_string()], &[], size, &what)?;
        match answer.status {
            StatusCode::OK if answer.body.len() == size && blob.digest.is_of(&answer.body) => {
                Ok(answer.body)
            }
            StatusCode::OK => Err(RegistryError::OtherContent {
                host: self.host.clone(),
                digest: blob.digest.clone(),
            }),
            StatusCode::NOT_FOUND => Err(RegistryError::Missing(what)),
            _ => Err(self.status(&answer, &what)),
        }
    }

    /// Puts bytes into the repository, if they are not there.
    pub(crate) fn upload(&self, bytes: &[u8]) -> Result<(), RegistryError> {
        let digest = Digest::of(bytes).to_string();
        let what = format!("{}@{digest}", self.path);
        let there = self.send(Ask {
            method: Method::HEAD,
            url: self.url(&["blobs", &digest])?,
            access: Access::Push,
            headers: &[],
            body: &[],
            most: 0,
            what: &what,
        })?;
        if there.status == StatusCode::OK {
            return Ok(());
        }
        let begun = self.send(Ask {
            method: Method::POST,
            // The slash at the end is the specification's.
            url: self.url(&["blobs", "uploads", ""])?,
            access: Access::Push,
            headers: &[],
            body: &[],
            most: MAX_TALK,
            what: &what,
        })?;
        if begun.status != StatusCode::ACCEPTED {
            return Err(self.status(&begun, &what));
        }
        let place = self.place(&begun, &begun.url)?;
        // Our login and what is uploaded are for the registry that was named.
        if !place.is_at_the_same_host(&begun.url) {
            return Err(self.redirect(
                "to another host to upload something: its own address is not \
                 configured well",
            ));
        }
        let put = self.send(Ask {
            method: Method::PUT,
            url: place.with_query(&[("digest", &digest)]).map_err(|source| self.address(source))?,
            access: Access::Push,
            headers: &[(CONTENT_TYPE, "application/octet-stream")],
            body: bytes,
            most: MAX_TALK,
            what: &what,
        })?;
        match put.status {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.status(&put, &what)),
        }
    }

    /// Puts a manifest or an index by tag or digest, and says whether the registry knows what it
    /// refers to (`OCI-Subject`).
    pub(crate) fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let what = format!("{}:{name}", self.path);
        let answer = self.send(Ask {
            method: Method::PUT,
            url: self.url(&["manifests", name])?,
            access: Access::Push,
            headers: &[(CONTENT_TYPE, media_type)],
            body: bytes,
            most: MAX_TALK,
            what: &what,
        })?;
        match answer.status {
            StatusCode::CREATED => Ok(answer.headers.contains_key("oci-subject")),
            _ => Err(self.status(&answer, &what)),
        }
    }

    fn get(
        &self,
        below: &[&str],
        headers: &[(HeaderName, &str)],
        most: usize,
        what: &str,
    ) -> Result<Answer, RegistryError> {
        self.get_at(self.url(below)?, headers, most, what)
    }

    fn get_at(
        &self,
        url: Url,
        headers: &[(HeaderName, &str)],
        most: usize,
        what: &str,
    ) -> Result<Answer, RegistryError> {
        let (method, access) = (Method::GET, Access::Pull);
        self.send(Ask { method, url, access, headers, body: &[], most, what })
    }

    /// The address of something of the repository.
    fn url(&self, below: &[&str]) -> Result<Url, RegistryError> {
        let scheme = if self.registry.is_plain(&self.host) { "http" } else { "https" };
        let host = if self.host == DOCKER.0 { DOCKER.1 } else { &self.host };
        // What is in a path and in a tag needs no escape.
        let text = format!("{scheme}://{host}/v2/{}/{}", self.path, below.join("/"));
        Url::parse(&text).map_err(|source| self.address(source))
    }

    /// Asks until there is an answer that another try would not change.
    fn send(&self, ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let mut waits = WAITS.iter();
        loop {
            let (error, asked) = match self.attempt(&ask) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error, asked)) => (error, asked),
            };
            let Some(wait) = waits.next() else { return Err(error) };
            let wait = asked.unwrap_or_default().max(*wait);
            if wait >= self.until.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            sleep(wait);
        }
    }

    fn attempt(&self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let mut url = ask.url.clone();
        let mut has_logged_in = false;
        for _ in 0..=REDIRECTS + 1 {
            // What is secret is told to the host that it is for, over TLS or on this machine.
            let own = url.is_at_the_same_host(&ask.url);
            let token = if own { self.token(ask.access) } else { None };
            let answer = self.exchange(ask, &url, token.as_deref())?;
            match answer.status.as_u16() {
                401 if own && !has_logged_in => {
                    has_logged_in = true;
                    self.log_in(ask, &answer)?;
                }
                401 | 403 => return Err(self.denied(ask, &answer).into()),
                301 | 302 | 303 | 307 | 308 if matches!(ask.method, Method::GET | Method::HEAD) => {
                    url = self.redirected(&url, &answer)?;
                }
                429 | 500 | 502 | 503 | 504 => {
                    let asked = answer.header(RETRY_AFTER).and_then(|text| text.parse().ok());
                    let error = self.status(&answer, ask.what);
                    return Err(Failure::Again(error, asked.map(Duration::from_secs)));
                }
                _ => return Ok(answer),
            }
        }
        Err(self.redirect("again and again").into())
    }

    /// The address in an answer's `Location`.
    fn place(&self, answer: &Answer, from: &Url) -> Result<Url, RegistryError> {
        match answer.header(LOCATION) {
            None | Some("") => Err(self.redirect("to nowhere")),
            Some(place) => from.join(place).map_err(|source| self.address(source)),
        }
    }

    /// Where a registry sends us for something.
    fn redirected(&self, from: &Url, answer: &Answer) -> Result<Url, RegistryError> {
        let to = self.place(answer, from)?;
        if !to.is_https() && (from.is_https() || !self.registry.is_plain(to.host())) {
            return Err(self.redirect("without TLS, where anybody on the way could listen"));
        }
        Ok(to)
    }

    /// One request, and its whole answer.
    fn exchange(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url.uri());
        for (name, value) in ask.headers {
            request = request.header(name, *value);
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let malformed =
            |_| RegistryError::Malformed { what: "a request".to_owned(), why: "it is none".into() };
        let response = match ask.method {
            Method::GET | Method::HEAD => self.run(request.body(()).map_err(malformed)?, url)?,
            _ => self.run(request.body(ask.body).map_err(malformed)?, url)?,
        };
        let (parts, body) = response.into_parts();
        let most = if parts.status.is_success() { ask.most } else { MAX_TALK };
        let body = match ask.method {
            Method::HEAD => Vec::new(),
            _ => self.whole(body, parts.status, most, ask.what, url)?,
        };
        Ok(Answer { status: parts.status, headers: parts.headers, body, url: url.clone() })
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Request<S>,
        url: &Url,
    ) -> Result<Response<Body>, Failure> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RegistryError::Deadline(url.host().to_owned()).into());
        }
        let proxy = match is_loopback(url.host()) {
            true => None,
            false => proxy::of(url.uri(), &|name| std::env::var(name).ok())
                .map_err(RegistryError::Proxy)?,
        };
        let agent = &self.registry.agent;
        let mut config = agent.configure_request(request).timeout_global(Some(left)).proxy(proxy);
        if url.is_https() {
            config = config.tls_config(self.registry.tls()?.clone());
        }
        agent.run(config.build()).map_err(|error| failure(error, url.host()))
    }

    /// The bytes of an answer; of one that is no success as many as are read.
    fn whole(
        &self,
        mut body: Body,
        status: StatusCode,
        most: usize,
        what: &str,
        url: &Url,
    ) -> Result<Vec<u8>, Failure> {
        let too_large = || RegistryError::TooLarge { what: what.to_owned(), most };
        let length = body.content_length();
        if status.is_success() && length.is_some_and(|length| length > most as u64) {
            return Err(too_large().into());
        }
        let mut bytes = Vec::new();
        let read = body.as_reader().take(most as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failure(error.into(), url.host()))?;
        if bytes.len() > most {
            if status.is_success() {
                return Err(too_large().into());
            }
            bytes.truncate(most);
        }
        Ok(bytes)
    }

    /// By what tokens are known.
    fn key(&self, access: Access) -> String {
        format!("{access:?} {}", self.name())
    }

    fn token(&self, access: Access) -> Option<String> {
        let tokens = self.registry.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&self.key(access)).cloned()
    }

    /// Does what a registry asks for that wants to know who we are: a login, or a token that another
    /// server gives for one (distribution/distribution, `spec/auth/token.md`).
    fn log_in(&self, ask: &Ask<'_>, answer: &Answer) -> Result<(), Failure> {
        let said = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let Some(challenge) = Challenge::of(said) else {
            return Err(self.denied(ask, answer).into());
        };
        let login = self.registry.logins.of(&self.host, &self.path);
        let login = login
            .map_err(|source| RegistryError::Login { host: self.host.clone(), source })?
            .map(|login| login.header());
        let authorization = match challenge {
            Challenge::Basic => login.ok_or_else(|| self.denied(ask, answer))?,
            Challenge::Bearer { realm, service, scope } => {
                let actions = match ask.access {
                    Access::Pull => "pull",
                    Access::Push => "pull,push",
                };
                // A registry may call it by another name than we do.
                let scope = scope.unwrap_or_else(|| format!("repository:{}:{actions}", self.path));
                let mut query = vec![("scope", scope.as_str())];
                if let Some(service) = &service {
                    query.push(("service", service));
                }
                let url = Url::parse(&realm).and_then(|url| url.with_query(&query));
                let url = url.map_err(|source| self.address(source))?;
                if !url.is_https() && !self.registry.is_plain(url.host()) {
                    let why = "to log in without TLS, where anybody on the way could listen";
                    return Err(self.redirect(why).into());
                }
                self.bearer(ask, &url, login.as_deref())?
            }
        };
        let mut tokens = self.registry.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(self.key(ask.access), authorization);
        Ok(())
    }

    fn bearer(&self, ask: &Ask<'_>, url: &Url, login: Option<&str>) -> Result<String, Failure> {
        let about = Ask {
            method: Method::GET,
            url: url.clone(),
            access: ask.access,
            headers: &[],
            body: &[],
            most: MAX_TALK,
            what: "a token",
        };
        let answer = self.exchange(&about, url, login)?;
        match answer.status.as_u16() {
            200 => {}
            401 | 403 => return Err(self.denied(ask, &answer).into()),
            429 | 500 | 502 | 503 | 504 => {
                return Err(Failure::Again(self.status(&answer, "a token"), None));
            }
            _ => return Err(self.status(&answer, "a token").into()),
        }
        challenge::token(&answer.body).map(|token| format!("Bearer {token}")).ok_or_else(|| {
            let what = format!("the token of {}", url.host());
            RegistryError::Malformed { what, why: "it is none".to_owned() }.into()
        })
    }

    fn denied(&self, ask: &Ask<'_>, answer: &Answer) -> RegistryError {
        let what = match ask.access {
            Access::Pull => "read from",
            Access::Push => "write to",
        };
        let login = match self.registry.logins.of(&self.host, &self.path) {
            Ok(Some(_)) => "; it knows the login of this node, and wants another".to_owned(),
            _ => format!("; log in: podman login {}", self.host),
        };
        let why = format!("{}{}{login}", answer.status.as_u16(), told(&answer.body));
        let repository = self.path.clone();
        RegistryError::Denied { host: self.host.clone(), what, repository, why }
    }

    fn status(&self, answer: &Answer, what: &str) -> RegistryError {
        RegistryError::Status {
            host: self.host.clone(),
            what: what.to_owned(),
            status: answer.status.as_u16(),
            told: told(&answer.body),
        }
    }

    fn address(&self, source: portcullis_http::UrlError) -> RegistryError {
        RegistryError::Address { host: self.host.clone(), source }
    }

    fn redirect(&self, why: &'static str) -> RegistryError {
        RegistryError::Redirect { host: self.host.clone(), why }
    }
}

fn media_type(answer: &Answer) -> String {
    let told = answer.header(CONTENT_TYPE).unwrap_or_default();
    told.split(';').next().unwrap_or_default().trim().to_owned()
}

/// What a registry says of its refusal (distribution specification, "Error Codes").
fn told(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors = serde_json::from_slice::<Errors>(body).map(|told| told.errors);
    match errors.unwrap_or_default().first() {
        Some(One { code, message }) if message.is_empty() => format!(" ({})", shown(code)),
        Some(One { message, .. }) => format!(" ({})", shown(message)),
        None => String::new(),
    }
}

/// What went wrong on the way to a host.
fn failure(error: Error, host: &str) -> Failure {
    let unreachable = |why: String| RegistryError::Unreachable { host: host.to_owned(), why };
    let proxies = "HTTPS_PROXY, HTTP_PROXY and NO_PROXY";
    let unknown = || {
        unreachable(format!("its name is not known: check the reference, the DNS and {proxies}"))
    };
    match error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            unreachable(format!("there is no connection in time: check the network and {proxies}"))
                .into()
        }
        Error::Timeout(_) => RegistryError::Deadline(host.to_owned()).into(),
        Error::HostNotFound => unknown().into(),
        Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => {
                Failure::Again(unreachable("the connection broke off".to_owned()), None)
            }
            io::ErrorKind::TimedOut => RegistryError::Deadline(host.to_owned()).into(),
            io::ErrorKind::ConnectionRefused => {
                unreachable(format!("nothing listens there: check the reference and {proxies}"))
                    .into()
            }
            // The resolver's errors have no kind.
            _ if error.to_string().starts_with("failed to lookup address") => unknown().into(),
            _ => {
                let is_of_tls = error.get_ref().is_some_and(|source| source.is::<rustls::Error>());
                let remedy = match is_of_tls {
                    true => {
                        "; if it is one of your own, name its authority as [registry] ca, or the \
                         host as [registry] insecure if it has no TLS"
                    }
                    false => "",
                };
                unreachable(format!("{}{remedy}", shown(&error.to_string()))).into()
            }
        },
        other => unreachable(shown(&other.to_string())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_what_is_named_goes_without_tls() {
        let settings = RegistrySettings {
            insecure: ["a.example".to_owned(), "b.example:5000".to_owned()].into(),
            ..RegistrySettings::default()
        };
        let registry = Registry::new(&settings, Logins::none());
        for (host, wanted) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.0.1", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("a.example", true),
            ("a.example:5000", true),
            ("b.example:5000", true),
            ("b.example", false),
            ("b.example:5001", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1:5000", false),
            ("[fe80::1]:5000", false),
        ] {
            assert_eq!(registry.is_plain(host), wanted, "{host}");
        }
    }
}
