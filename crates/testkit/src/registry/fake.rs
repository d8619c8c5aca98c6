//! A registry in memory with the referrers API of the distribution specification 1.1, which can be
//! told to misbehave.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use portcullis_types::Digest;
use serde_json::{Value, json};

use super::{BASIC, OCI_INDEX, header};

/// An answer that is prepared for an address.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status with more headers, `Name: value\r\n` each, and a body.
    Full(u16, String, Vec<u8>),
    /// These bytes, and silence.
    Silent(Vec<u8>),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By repository and tag or digest: the media type and the bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// What refers to something, by repository and what it refers to.
    referrers: BTreeMap<(String, String), Vec<Value>>,
    /// By address without its query, one after the other; the last one stays.
    replies: BTreeMap<String, VecDeque<Reply>>,
    /// The heads of all requests.
    seen: Vec<String>,
    /// Who one is must be said with a token.
    wants_token: bool,
    /// How many entries a page of referrers has.
    page: usize,
}

/// The registry; its thread ends with the test.
#[derive(Clone)]
pub struct Fake {
    /// Host and port.
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { page: 2, ..State::default() }));
        let fake = Self { address, state };
        let own = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let fake = own.clone();
                // A client that goes away in the middle is no fault of the test.
                std::thread::spawn(move || fake.serve(stream).unwrap_or_default());
            }
        });
        fake
    }

    /// From now on a token is wanted, which `/token` gives for a login.
    pub fn want_token(&self) {
        self.state.lock().unwrap().wants_token = true;
    }

    /// Prepares answers for an address.
    pub fn set(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.state.lock().unwrap().replies.insert(path.to_owned(), replies);
    }

    /// Answers again as a registry does.
    pub fn unset(&self, path: &str) {
        self.state.lock().unwrap().replies.remove(path);
    }

    /// Puts other bytes in the place of what has a digest.
    pub fn replace(&self, digest: &Digest, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let name = digest.to_string();
        for (_, (_, stored)) in state.manifests.iter_mut().filter(|((_, n), _)| *n == name) {
            *stored = bytes.to_vec();
        }
        if let Some(stored) = state.blobs.get_mut(&name) {
            *stored = bytes.to_vec();
        }
    }

    /// What has a digest.
    pub fn content(&self, digest: &Digest) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let name = digest.to_string();
        let manifest = state.manifests.iter().find(|((_, n), _)| *n == name);
        let blob = || state.blobs.get(&name).cloned();
        manifest.map(|(_, (_, bytes))| bytes.clone()).or_else(blob).unwrap()
    }

    /// The heads of the requests since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        while let Some((head, body)) = request(&mut stream)? {
            let reply = self.reply(&head, body);
            match reply {
                Reply::Raw(bytes) => return stream.write_all(&bytes),
                Reply::Silent(bytes) => {
                    stream.write_all(&bytes)?;
                    // Until the client has had enough.
                    return stream.read_to_end(&mut Vec::new()).map(drop);
                }
                Reply::Full(status, headers, body) => {
                    let length = match headers.to_ascii_lowercase().contains("content-length") {
                        true => String::new(),
                        false => format!("Content-Length: {}\r\n", body.len()),
                    };
                    let head = format!("HTTP/1.1 {status} X\r\n{headers}{length}\r\n");
                    stream.write_all(head.as_bytes())?;
                    stream.write_all(&body)?;
                }
            }
            if header(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
            {
                break;
            }
        }
        Ok(())
    }

    fn reply(&self, head: &str, body: Vec<u8>) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.seen.push(head.to_owned());
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Some(replies) = state.replies.get_mut(path) {
            return match replies.len() {
                0 => empty(404),
                1 => replies[0].clone(),
                _ => replies.pop_front().unwrap(),
            };
        }
        let said = header(head, "authorization").unwrap_or_default();
        if path == "/token" {
            return match said == BASIC {
                true => full(200, "", json!({ "token": "a.token" }).to_string().into()),
                false => empty(401),
            };
        }
        if state.wants_token && said != "Bearer a.token" {
            let realm = format!(
                "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"fake\"\r\n",
                self.address
            );
            return full(401, &realm, Vec::new());
        }
        state.answer(method, path, query, head, body)
    }
}

impl State {
    fn answer(
        &mut self,
        method: &str,
        path: &str,
        query: &str,
        head: &str,
        body: Vec<u8>,
    ) -> Reply {
        let Some(rest) = path.strip_prefix("/v2/") else { return empty(404) };
        let split =
            |by: &str| rest.split_once(by).map(|(name, rest)| (name.to_owned(), rest.to_owned()));
        if let Some((_, upload)) = split("/blobs/uploads/") {
            return match (method, upload.as_str()) {
                ("POST", "") => full(202, &format!("Location: {path}1?state=x\r\n"), Vec::new()),
                ("PUT", "1") => {
                    let digest = query.rsplit_once("digest=").unwrap().1.replace("%3A", ":");
                    assert_eq!(digest, Digest::of(&body).to_string());
                    self.blobs.insert(digest, body);
                    empty(201)
                }
                _ => empty(405),
            };
        }
        if let Some((_, digest)) = split("/blobs/") {
            return match self.blobs.get(&digest) {
                None => empty(404),
                Some(_) if method == "HEAD" => empty(200),
                Some(bytes) => full(200, "", bytes.clone()),
            };
        }
        if let Some((repository, name)) = split("/manifests/") {
            if method == "PUT" {
                let media_type = header(head, "content-type").unwrap().to_owned();
                let document: Value = serde_json::from_slice(&body).unwrap();
                let digest = Digest::of(&body).to_string();
                let subject = document["subject"]["digest"].as_str().map(ToOwned::to_owned);
                let told = subject.as_ref().map(|digest| format!("OCI-Subject: {digest}\r\n"));
                if let Some(subject) = subject {
                    let entry = json!({
                        "mediaType": media_type, "digest": digest, "size": body.len(),
                        "artifactType": document["artifactType"],
                        "annotations": document["annotations"],
                    });
                    self.referrers.entry((repository.clone(), subject)).or_default().push(entry);
                }
                for name in [name, digest] {
                    let stored = (media_type.clone(), body.clone());
                    self.manifests.insert((repository.clone(), name), stored);
                }
                return full(201, &told.unwrap_or_default(), Vec::new());
            }
            return match self.manifests.get(&(repository, name)) {
                None => empty(404),
                Some((media_type, bytes)) => {
                    full(200, &format!("Content-Type: {media_type}\r\n"), bytes.clone())
                }
            };
        }
        if let Some((repository, subject)) = split("/referrers/") {
            return self.referrers(path, query, &repository, &subject);
        }
        empty(404)
    }

    /// A page of what refers to something. It does not filter, which the specification allows.
    fn referrers(&self, path: &str, query: &str, repository: &str, subject: &str) -> Reply {
        let of = (repository.to_owned(), subject.to_owned());
        let found = self.referrers.get(&of).cloned().unwrap_or_default();
        let from = query.rsplit_once("from=").map_or(0, |(_, n)| n.parse::<usize>().unwrap());
        let total = found.len();
        let page: Vec<Value> = found.into_iter().skip(from).take(self.page).collect();
        let mut headers = format!("Content-Type: {OCI_INDEX}\r\n");
        let next = from + page.len();
        if next < total {
            headers.push_str(&format!("Link: <{path}?from={next}>; rel=\"next\"\r\n"));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page });
        full(200, &headers, index.to_string().into())
    }
}

fn full(status: u16, headers: &str, body: Vec<u8>) -> Reply {
    Reply::Full(status, headers.to_owned(), body)
}

fn empty(status: u16) -> Reply {
    full(status, "", Vec::new())
}

/// A request's head and body; `None` at the end of the connection.
fn request(stream: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = header(&head, "content-length").map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
