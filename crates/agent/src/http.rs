//! A small server of HTTP/1: one question and one answer on a connection, everything bounded.
//!
//! Whoever can reach the address may ask, so a connection costs a thread for a few seconds at most,
//! and there are few of them at a time: when one more comes, whoever has most of them loses the oldest
//! if that takes its time, so that nobody keeps the others out, a probe least of all. Requests are
//! parsed by httparse, which hyper uses.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most connections that are served at a time.
const MAX_CONNECTED: usize = 16;

/// How long a request may take to come, an answer to be taken, and the other side to close.
const ASKING: Duration = Duration::from_secs(2);
const ANSWERING: Duration = Duration::from_secs(5);
const CLOSING: Duration = Duration::from_millis(500);

/// How long one that has asked nothing lasts at least, however many others come. One that is being
/// answered is left to that.
const LASTS: Duration = Duration::from_millis(500);

/// Most bytes and fields of a request's head, and bytes behind it that are read to be dropped.
const MAX_HEAD: usize = 8 << 10;
const MAX_FIELDS: usize = 64;
const MAX_REST: usize = 64 << 10;

/// A request that is understood: GET or HEAD, without a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// Its path, without what follows a question mark.
    pub(crate) path: &'a str,
    /// What answers it takes: the field `Accept`.
    pub(crate) accept: &'a str,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status, such as 200.
    pub(crate) status: u16,
    /// The media type of the body.
    pub(crate) media: &'static str,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// A line of text.
    pub(crate) fn line(status: u16, line: &str) -> Self {
        Self { status, media: "text/plain; charset=utf-8", body: format!("{line}\n") }
    }
}

/// Answers whoever connects, for ever.
pub(crate) fn serve(
    listener: &TcpListener,
    answer: &Arc<dyn Fn(Asked<'_>) -> Answer + Send + Sync>,
) {
    let slots = Arc::new(Slots::default());
    loop {
        let (stream, peer) = match listener.accept() {
            Ok((stream, peer)) => (Arc::new(stream), peer.ip()),
            // Gone again, or no descriptor is left for now.
            Err(error) => {
                log::warn!("a connection for metrics was not accepted: {error}");
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let slot = slots.take(peer, &stream);
        let answer = answer.clone();
        let thread = std::thread::Builder::new().name("http".to_owned());
        let spawned = thread.spawn(move || {
            // Whoever went away needs no answer.
            let _gone = converse(&stream, &slot.1.has_asked, &*answer);
        });
        if let Err(error) = spawned {
            log::warn!("no thread for whoever asks for metrics: {error}");
        }
    }
}

/// The connections that there are.
#[derive(Debug, Default)]
struct Slots {
    taken: Mutex<Vec<Arc<Taken>>>,
    freed: Condvar,
}

#[derive(Debug)]
struct Taken {
    peer: IpAddr,
    since: Instant,
    has_asked: AtomicBool,
    stream: Arc<TcpStream>,
}

/// One of them.
struct Slot(Arc<Slots>, Arc<Taken>);

impl Slots {
    /// Takes one for a connection; if all are taken, the one is ended that hurts the fewest.
    fn take(self: &Arc<Self>, peer: IpAddr, stream: &Arc<TcpStream>) -> Slot {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while taken.len() >= MAX_CONNECTED {
            let silent = || taken.iter().filter(|taken| !taken.has_asked.load(Ordering::SeqCst));
            let most = greediest(silent().map(|taken| taken.peer));
            let oldest = silent().find(|taken| Some(taken.peer) == most).cloned();
            let left = oldest.as_ref().map_or(LASTS, |o| LASTS.saturating_sub(o.since.elapsed()));
            if let Some(oldest) = oldest.filter(|_| left.is_zero()) {
                // Its thread ends by this, if it has not already.
                let _gone = oldest.stream.shutdown(Shutdown::Both);
            }
            let left = left.max(LASTS / 10);
            let waited = self.freed.wait_timeout_while(taken, left, |t| t.len() >= MAX_CONNECTED);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let own = Arc::new(Taken {
            peer,
            since: Instant::now(),
            has_asked: AtomicBool::new(false),
            stream: stream.clone(),
        });
        taken.push(own.clone());
        Slot(self.clone(), own)
    }
}

/// Who has most of them; of several the one who has the oldest.
fn greediest(peers: impl DoubleEndedIterator<Item = IpAddr> + Clone) -> Option<IpAddr> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    peers.clone().for_each(|peer| *counts.entry(peer).or_default() += 1);
    // The last of equals is taken, and that is the first one here.
    peers.rev().max_by_key(|peer| counts.get(peer))
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|taken| !Arc::ptr_eq(taken, &self.1));
        self.0.freed.notify_one();
    }
}

fn converse(
    stream: &TcpStream,
    has_asked: &AtomicBool,
    answer: &dyn Fn(Asked<'_>) -> Answer,
) -> io::Result<()> {
    let mut head = Vec::new();
    let asked = read_head(stream, &mut head)?;
    has_asked.store(true, Ordering::SeqCst);
    let (answer, wants_body) = match asked {
        Head::Request(request) => (respond(&request, answer), request.method != "HEAD"),
        Head::Nothing => return Ok(()),
        Head::Wrong(status, why) => (Answer::line(status, why), true),
    };
    write_answer(stream, &answer, wants_body)?;
    // Closing with something unread would take the answer from whoever has yet to read it.
    stream.shutdown(Shutdown::Write)?;
    let mut closing = Until { stream, until: Instant::now() + CLOSING }.take(MAX_REST as u64);
    io::copy(&mut closing, &mut io::sink()).map(drop)
}

/// What came.
enum Head {
    Request(Request),
    /// The other side closed, or waited too long, before it said anything.
    Nothing,
    /// Something that is not understood: what is answered.
    Wrong(u16, &'static str),
}

struct Request {
    method: String,
    target: String,
    accept: String,
    has_body: bool,
}

fn read_head(stream: &TcpStream, head: &mut Vec<u8>) -> io::Result<Head> {
    let mut reader = Until { stream, until: Instant::now() + ASKING };
    let mut chunk = [0; 1024];
    loop {
        let room = chunk.len().min(MAX_HEAD - head.len());
        if room == 0 {
            return Ok(Head::Wrong(431, "the request's head is too long"));
        }
        match reader.read(&mut chunk[..room]) {
            Ok(0) if head.is_empty() => return Ok(Head::Nothing),
            Ok(0) => return Ok(Head::Wrong(400, "the request has no end")),
            Ok(read) => head.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_timeout(&error) && head.is_empty() => return Ok(Head::Nothing),
            Err(error) if is_timeout(&error) => {
                return Ok(Head::Wrong(408, "the request did not come in time"));
            }
            Err(error) => return Err(error),
        }
        if let Some(parsed) = parse(head) {
            return Ok(parsed);
        }
    }
}

/// The request, if its head is whole.
fn parse(head: &[u8]) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Head::Wrong(431, "the request has too many fields"));
        }
        Err(_) => return Some(Head::Wrong(400, "this is no request of HTTP/1")),
    }
    let field = |name: &str| {
        let mut fields = request.headers.iter();
        fields.find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let is_empty = |length: &[u8]| length == b"0";
    Some(Head::Request(Request {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        accept: String::from_utf8_lossy(field("accept").unwrap_or_default()).into_owned(),
        has_body: field("transfer-encoding").is_some()
            || field("content-length").is_some_and(|length| !is_empty(length)),
    }))
}

fn respond(request: &Request, answer: &dyn Fn(Asked<'_>) -> Answer) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::line(405, "only GET is answered");
    }
    if request.has_body {
        return Answer::line(400, "no body is taken");
    }
    let path = request.target.split('?').next().unwrap_or_default();
    answer(Asked { path, accept: &request.accept })
}

fn write_answer(stream: &TcpStream, answer: &Answer, with_body: bool) -> io::Result<()> {
    let Answer { status, media, body } = answer;
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    };
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if with_body {
        bytes.push_str(body);
    }
    Until { stream, until: Instant::now() + ANSWERING }.write_all(bytes.as_bytes())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A stream of which each read and write ends by then: a timeout of the socket alone begins anew
/// with each byte.
struct Until<'s> {
    stream: &'s TcpStream,
    until: Instant,
}

impl Until<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_is_told_from_who_has_the_oldest() {
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let of = |peers: &[u8]| greediest(peers.iter().map(|last| ip(*last)));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1, 2, 2, 3]), Some(ip(2)));
        assert_eq!(of(&[3, 1, 2, 1, 3]), Some(ip(3)));
        assert_eq!(of(&[2, 1]), Some(ip(2)));
    }

    /// However many connections are kept open, whoever asks is answered.
    #[test]
    fn nobody_keeps_the_others_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<dyn Fn(Asked<'_>) -> Answer + Send + Sync> =
            Arc::new(|_: Asked<'_>| Answer::line(200, "ok"));
        std::thread::spawn(move || serve(&listener, &answer));
        let silent: Vec<TcpStream> =
            (0..MAX_CONNECTED * 4).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut asking = TcpStream::connect(address).unwrap();
        asking.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        asking.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        drop(silent);
    }
}
