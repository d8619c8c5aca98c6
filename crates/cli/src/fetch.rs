//! Files over HTTP: bounded in bytes, redirects and silence, and stored in a file without a name, of
//! which nothing is left whatever happens.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use portcullis_http::proxy;
use ureq::http::header::{
    AUTHORIZATION, ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    RETRY_AFTER,
};
use ureq::http::{Response, StatusCode};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, Error, Timeout};

use crate::args;
use crate::render::plain;
pub(crate) use portcullis_http::Url;

/// Most redirects from one to the next.
const REDIRECTS: usize = 5;
/// How long is waited before the second try and the third.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// Most that a server may ask to be waited for.
const MOST_WAIT: u64 = 30;
/// Most bytes of an entity tag or of a date that is kept.
const MAX_TAG: usize = 256;

/// By what a server tells whether a file is still the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

/// What a server says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The file, from its beginning.
    File(File, Tags),
    /// It is what it was.
    Unchanged,
    /// There is none.
    Missing,
}

/// Fetches files.
pub(crate) struct Fetcher<'a> {
    options: &'a args::Fetch,
    /// Most bytes of a file, and what to do about a larger one.
    most: (u64, &'static str),
    agent: Agent,
    tls: OnceCell<TlsConfig>,
}

/// Why a try failed.
struct Failure {
    error: anyhow::Error,
    /// Whether another try may do, and how long to wait if the server says so.
    again: Option<Option<Duration>>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), again: None }
    }
}

fn again(error: anyhow::Error) -> Failure {
    Failure { error, again: Some(None) }
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(options: &'a args::Fetch, most: (u64, &'static str)) -> Self {
        let timeout = Some(Duration::from_secs(options.timeout));
        let config = Agent::config_builder()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // They are followed here, by stricter rules.
            .max_redirects(0)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            // It is chosen for each request.
            .proxy(None)
            .build();
        Self { options, most, agent: config.new_agent(), tls: OnceCell::new() }
    }

    /// Fetches a file into one without a name beside what is in a folder; `known` are the tags of the
    /// one that is there already.
    ///
    /// # Errors
    /// The last of three tries failed, or one in a way that another does not mend.
    pub(crate) fn get(&self, url: &Url, known: &Tags, folder: &Path, name: &str) -> Result<Answer> {
        let bar = bar(name);
        let mut waits = WAITS.iter();
        let answer = loop {
            let failure = match self.attempt(url, known, folder, &bar) {
                Ok(answer) => break Ok(answer),
                Err(failure) => failure,
            };
            let Some(asked) = failure.again else { break Err(failure.error) };
            match waits.next() {
                Some(wait) => std::thread::sleep(asked.unwrap_or_default().max(*wait)),
                None => {
                    let tries = format!("{} tries failed", WAITS.len() + 1);
                    break Err(failure.error.context(tries));
                }
            }
        };
        bar.finish_and_clear();
        answer.with_context(|| format!("cannot fetch {url}"))
    }

    fn attempt(
        &self,
        url: &Url,
        known: &Tags,
        folder: &Path,
        bar: &ProgressBar,
    ) -> Result<Answer, Failure> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.ask(&at, known)?;
            let status = response.status();
            if is_redirect(status) {
                at = redirected(&at, &response)?;
                continue;
            }
            return match status {
                StatusCode::OK => self.store(&at, response, folder, bar),
                StatusCode::NOT_MODIFIED if *known != Tags::default() => Ok(Answer::Unchanged),
                StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Answer::Missing),
                _ => Err(refused(status, &response)),
            };
        }
        Err(anyhow!("it redirects more than {REDIRECTS} times: give the URL where it is").into())
    }

    fn ask(&self, at: &Url, known: &Tags) -> Result<Response<Body>, Failure> {
        let proxy = proxy::of(at.uri(), &|name| std::env::var(name).ok())?;
        let peer = match &proxy {
            Some(proxy) => format!("the proxy {}:{}", proxy.host(), proxy.port()),
            None => at.host().to_owned(),
        };
        let mut config = self.agent.get(at.uri()).config().proxy(proxy);
        if at.is_https() {
            config = config.tls_config(self.tls()?.clone());
        }
        let mut request = config.build();
        let headers: [(HeaderName, Option<&str>); 3] = [
            (IF_NONE_MATCH, known.etag.as_deref()),
            (IF_MODIFIED_SINCE, known.last_modified.as_deref()),
            (AUTHORIZATION, at.login()),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.call().map_err(|error| self.failure(error, &peer, ""))
    }

    /// The authorities of this node and those that were given.
    fn tls(&self) -> Result<&TlsConfig> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls);
        }
        let tls = portcullis_http::tls(self.options.ca.as_deref(), ", or give --ca FILE")?;
        Ok(self.tls.get_or_init(|| tls))
    }

    fn store(
        &self,
        at: &Url,
        response: Response<Body>,
        folder: &Path,
        bar: &ProgressBar,
    ) -> Result<Answer, Failure> {
        let (most, remedy) = self.most;
        let too_large = || anyhow!("it is larger than {}{remedy}", HumanBytes(most));
        let header = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            (value.len() <= MAX_TAG).then(|| value.to_owned())
        };
        let tags = Tags { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        let length = response.body().content_length();
        if length.is_some_and(|length| length > most) {
            return Err(too_large().into());
        }
        bar.set_position(0);
        if let Some(length) = length {
            bar.set_length(length);
        }
        let unwritable = || format!("cannot write a file in {}", folder.display());
        let mut file = tempfile::tempfile_in(folder).with_context(unwritable)?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 64 << 10];
        let mut stored: u64 = 0;
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let mut after = format!(" after {}", HumanBytes(stored));
                    if let Some(length) = length {
                        let _never_fails = write!(after, " of {}", HumanBytes(length));
                    }
                    return Err(self.failure(error.into(), at.host(), &after));
                }
            };
            stored += read as u64;
            if stored > most {
                return Err(too_large().into());
            }
            file.write_all(&buffer[..read]).with_context(unwritable)?;
            bar.set_position(stored);
        }
        file.rewind().with_context(unwritable)?;
        Ok(Answer::File(file, tags))
    }

    /// What went wrong on the way to a host, or `after` so many bytes from it.
    fn failure(&self, error: Error, host: &str, after: &str) -> Failure {
        let seconds = self.options.timeout;
        let proxies = "HTTPS_PROXY, HTTP_PROXY and NO_PROXY";
        let unknown =
            || anyhow!("{host} is not known: check the address, the DNS and {proxies}").into();
        match error {
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => anyhow!(
                "no connection to {host} within {seconds} s: check the address, the network and \
                 {proxies}, or give it more time with --timeout"
            )
            .into(),
            Error::Timeout(_) => again(anyhow!(
                "nothing came from {host} for {seconds} s{after}: try again later, or give it more \
                 time with --timeout"
            )),
            Error::HostNotFound => unknown(),
            Error::ConnectProxyFailed(why) => {
                let why = plain(&why);
                anyhow!("{host} does not lead there ({why}): check {proxies}").into()
            }
            Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => {
                    again(anyhow!("the connection to {host} broke off{after}: try again later"))
                }
                io::ErrorKind::ConnectionRefused => {
                    anyhow!("nothing listens at {host}: check the address and {proxies}").into()
                }
                // The resolver's errors have no kind.
                _ if error.to_string().starts_with("failed to lookup address") => unknown(),
                _ => {
                    let is_of_tls =
                        error.get_ref().is_some_and(|source| source.is::<rustls::Error>());
                    let remedy = match is_of_tls {
                        true => "; if it is one of your own, give its authority with --ca FILE",
                        false => "",
                    };
                    let words = plain(&error.to_string());
                    anyhow!("{host} cannot be asked{after}: {words}{remedy}").into()
                }
            },
            other => {
                let words = plain(&other.to_string());
                anyhow!("{host} cannot be asked{after}: {words}").into()
            }
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a server sends us.
fn redirected(from: &Url, response: &Response<Body>) -> Result<Url> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.context("it redirects to nowhere: try again later")?;
    let to = from.join(location)?;
    if from.is_https() && !to.is_https() {
        bail!("it redirects to {to}, where anybody on the way could change it: give another URL");
    }
    Ok(to)
}

/// An answer that is no file.
fn refused(status: StatusCode, response: &Response<Body>) -> Failure {
    let reason = status.canonical_reason().unwrap_or_default();
    let words = format!("the server answers {} {reason}", status.as_u16());
    let words = words.trim_end();
    match status.as_u16() {
        401 | 403 => {
            let login = "if it wants a login, give it as https://USER:PASSWORD@HOST/";
            anyhow!("{words}: {login}").into()
        }
        407 => anyhow!("{words}: the proxy wants a login: http://USER:PASSWORD@PROXY/").into(),
        429 | 500 | 502 | 503 | 504 => {
            let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let asked = asked.and_then(|text| text.parse().ok());
            let asked = asked.map(|seconds: u64| Duration::from_secs(seconds.min(MOST_WAIT)));
            Failure { error: anyhow!("{words}: try again later"), again: Some(asked) }
        }
        _ => anyhow!("{words}: check the URL").into(),
    }
}

/// Bytes as they come, on a terminal only.
fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(plain(name))
}
