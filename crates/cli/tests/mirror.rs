//! `portcullis db update` and `feed update` with URLs, against a server on the loopback interface.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::{HashMap, VecDeque};
use std::io::{Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{FEEDS, Node, assert_narrow, assert_says, contents};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

/// What the server does about a request.
#[derive(Clone)]
enum Reply {
    /// A file, known by its tag.
    File { etag: &'static str, body: Vec<u8> },
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and silence.
    Silent(Vec<u8>),
}

fn raw(head: &str, body: &[u8]) -> Reply {
    Reply::Raw([head.replace('\n', "\r\n").as_bytes(), b"\r\n\r\n", body].concat())
}

fn status(status: &str) -> Reply {
    raw(&format!("HTTP/1.1 {status}\nContent-Length: 0\nConnection: close"), b"")
}

fn redirect(to: &str) -> Reply {
    status(&format!("302 Found\nLocation: {to}"))
}

#[derive(Default)]
struct State {
    /// By path, one after the other; the last one stays.
    replies: HashMap<String, VecDeque<Reply>>,
    /// The heads of the requests.
    seen: Vec<String>,
}

/// A server with files.
struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn new() -> Self {
        Self::with(None)
    }

    fn with_tls() -> Self {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
        let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::with(Some(Arc::new(config)))
    }

    fn with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let own = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (state, tls) = (Arc::clone(&own), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    // A client that goes away in the middle is no fault of the test.
                    let _ends = match tls {
                        None => serve(stream, &state),
                        Some(tls) => {
                            let connection = rustls::ServerConnection::new(tls).unwrap();
                            serve(rustls::StreamOwned::new(connection, stream), &state)
                        }
                    };
                });
            }
        });
        Self { address, state }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn set(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.state.lock().unwrap().replies.insert(path.to_owned(), replies);
    }

    fn file(&self, path: &str, etag: &'static str, body: impl Into<Vec<u8>>) {
        self.set(path, [Reply::File { etag, body: body.into() }]);
    }

    /// The archive of an ecosystem, below `/osv`, with one record for each of the releases.
    fn archive(&self, ecosystem: &str, etag: &'static str, id: &str, said: &[&str]) {
        let escaped = ecosystem.replace(':', "%3A").replace(' ', "%20");
        self.file(&format!("/osv/{escaped}/all.zip"), etag, archive(id, said));
    }

    /// The paths that were asked for since the last time, with the tag of what is there already.
    fn asked(&self) -> Vec<String> {
        let seen = std::mem::take(&mut self.state.lock().unwrap().seen);
        let line = |head: String| {
            let tag = header(&head, "if-none-match").map(|tag| format!(" {tag}"));
            let path = head.split(' ').nth(1).unwrap().to_owned();
            path + &tag.unwrap_or_default()
        };
        seen.into_iter().map(line).collect()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn head(stream: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn serve(mut stream: impl Read + Write, state: &Mutex<State>) -> std::io::Result<()> {
    let head = head(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
    let reply = {
        let mut state = state.lock().unwrap();
        state.seen.push(head.clone());
        match state.replies.get_mut(path) {
            Some(replies) if replies.len() > 1 => replies.pop_front().unwrap(),
            Some(replies) => replies[0].clone(),
            None => status("404 Not Found"),
        }
    };
    match reply {
        Reply::File { etag, .. } if header(&head, "if-none-match") == Some(etag) => {
            let Reply::Raw(bytes) = status("304 Not Modified") else { unreachable!() };
            stream.write_all(&bytes)?;
        }
        Reply::File { etag, body } => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nETag: {etag}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
        }
        Reply::Raw(bytes) => stream.write_all(&bytes)?,
        Reply::Silent(bytes) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            // Until the client has enough of it.
            let _ends = stream.read(&mut [0]);
        }
    }
    stream.flush()
}

fn record(id: &str, ecosystem: &str) -> String {
    let events = json!([{ "introduced": "0" }, { "fixed": "2" }]);
    let affected = json!([{
        "package": { "ecosystem": ecosystem, "name": "a" },
        "ranges": [{ "type": "ECOSYSTEM", "events": events }],
    }]);
    json!({ "id": id, "modified": "2026-01-01T00:00:00Z", "summary": "Why", "affected": affected })
        .to_string()
}

fn archive(id: &str, said: &[&str]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (at, ecosystem) in said.iter().enumerate() {
        archive.start_file(format!("{at}.json"), options).unwrap();
        archive.write_all(record(id, ecosystem).as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The advisory of a package in an ecosystem.
#[track_caller]
fn says(node: &Node, ecosystem: &str, id: &str) {
    let said = node.run(&["db", "query", ecosystem, "a", "1"], 0);
    assert_eq!(said, format!("{id}  fixed in 2  Why\n"));
}

/// Nothing is in the folder but the lock, the link and the database.
#[track_caller]
fn is_tidy(node: &Node) {
    let folder = node.path("var/lib/portcullis/advisories");
    let names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn a_mirror_is_taken_in_and_asked_again_for_what_is_new() {
    let (node, server) = (Node::new(), Server::new());
    let url = server.url("/osv");
    server.archive("PyPI", "\"p1\"", "PYSEC-1", &["PyPI"]);
    server.archive("Red Hat", "\"r1\"", "RHSA-1", &["Red Hat"]);
    server.archive("Debian:12", "\"d1\"", "DSA-1", &["Debian:11", "Debian:12"]);
    let names = ["--ecosystem", "PyPI", "--ecosystem=Red Hat", "--ecosystem=Debian:12"];
    let said = node.run(&[&["db", "update", &url], &names[..]].concat(), 0);
    assert_says(&said, &["PyPI", "Red Hat", "Debian:12"]);
    assert_narrow(&said);
    let paths = ["/osv/Debian%3A12/all.zip", "/osv/PyPI/all.zip", "/osv/Red%20Hat/all.zip"];
    assert_eq!(server.asked(), paths);
    says(&node, "PyPI", "PYSEC-1");
    says(&node, "Red Hat", "RHSA-1");
    says(&node, "Debian:12", "DSA-1");
    node.refuses(&["db", "query", "Debian:11", "a", "1"], &["no advisories", "Debian:11"]);
    is_tidy(&node);
    let before = node.json(&["db", "status"], 0);
    assert_eq!(before["ecosystems"][0]["releases"], json!(["Debian:12"]));
    assert_eq!(before["ecosystems"][1]["source"], json!(server.url("/osv/PyPI/all.zip")));

    // Nothing is new: nothing is lost.
    let said = node.json(&["db", "update", &url], 0);
    assert_eq!(said["unchanged"], json!(["Debian:12", "PyPI", "Red Hat"]));
    let with_tags =
        [0, 1, 2].map(|at| format!("{} {}", paths[at], ["\"d1\"", "\"p1\"", "\"r1\""][at]));
    assert_eq!(server.asked(), with_tags);
    for at in 0..3 {
        assert_eq!(said["ecosystems"][at]["digest"], before["ecosystems"][at]["digest"]);
        assert!(
            said["ecosystems"][at]["read"].as_str() >= before["ecosystems"][at]["read"].as_str()
        );
    }
    node.run(&["db", "verify"], 0);
    says(&node, "PyPI", "PYSEC-1");
    is_tidy(&node);

    // One is new.
    server.archive("PyPI", "\"p2\"", "PYSEC-2", &["PyPI"]);
    let said = node.run(&["db", "update", &format!("{url}/")], 0);
    assert_says(&said, &["nothing is new: Debian:12, Red Hat"]);
    says(&node, "PyPI", "PYSEC-2");
    says(&node, "Debian:12", "DSA-1");
    server.asked();
    // One alone, by its own address: it is known.
    let said = node.json(&["db", "update", &server.url(paths[1])], 0);
    assert_eq!(said["unchanged"], json!(["PyPI"]));
    assert_eq!(server.asked(), [format!("{} \"p2\"", paths[1])]);
    assert_eq!(said["ecosystems"].as_array().unwrap().len(), 3);
    // All of Debian takes the place of a release.
    server.archive("Debian", "\"d\"", "DSA-2", &["Debian:11", "Debian:12"]);
    let all = ["db", "update", &url, "--ecosystem=Debian", "--ecosystem=Debian:12"];
    node.run(&all, 0);
    assert_eq!(server.asked(), ["/osv/Debian/all.zip"]);
    says(&node, "Debian:11", "DSA-2");
}

#[test]
fn a_part_that_is_new_does_not_lose_the_others() {
    let (node, server) = (Node::new(), Server::new());
    let url = server.url("/osv");
    server.archive("Debian:11", "\"a1\"", "DSA-11", &["Debian:11"]);
    server.archive("Debian:12", "\"b1\"", "DSA-12", &["Debian:12"]);
    node.run(&["db", "update", &url, "--ecosystem=Debian:11", "--ecosystem=Debian:12"], 0);
    server.asked();
    server.archive("Debian:12", "\"b2\"", "DSA-13", &["Debian:12"]);
    let said = node.json(&["db", "update", &url], 0);
    assert_eq!(said["unchanged"], json!([]));
    let (a, b) = ("/osv/Debian%3A11/all.zip", "/osv/Debian%3A12/all.zip");
    assert_eq!(server.asked(), [&format!("{a} \"a1\""), &format!("{b} \"b1\""), a]);
    says(&node, "Debian:11", "DSA-11");
    says(&node, "Debian:12", "DSA-13");
    // A part that another mirror has not leaves all of it as it is.
    let other = Server::new();
    other.archive("Debian:12", "\"b3\"", "DSA-14", &["Debian:12"]);
    other.archive("PyPI", "\"p\"", "PYSEC-1", &["PyPI"]);
    let pypi = node.file("pypi.json", record("PYSEC-0", "PyPI"));
    node.run(&["db", "update", &pypi], 0);
    let said = node.json(&["db", "update", &other.url("/osv")], 0);
    assert_eq!(said["absent"], json!(["Debian:11", "Debian:12"]));
    says(&node, "Debian:12", "DSA-13");
    says(&node, "PyPI", "PYSEC-1");
}

#[test]
fn what_was_not_fetched_there_is_fetched_whole() {
    let (node, server) = (Node::new(), Server::new());
    let url = server.url("/osv");
    server.archive("PyPI", "\"p1\"", "PYSEC-1", &["PyPI"]);
    let update = ["db", "update", &url, "--ecosystem", "PyPI"];
    node.run(&update, 0);
    let other = node.file("other.json", record("PYSEC-9", "PyPI"));
    node.run(&["db", "update", &other], 0);
    says(&node, "PyPI", "PYSEC-9");
    server.asked();
    node.run(&["db", "update", &url], 0);
    assert_eq!(server.asked(), ["/osv/PyPI/all.zip"]);
    says(&node, "PyPI", "PYSEC-1");
    // With something else of the same ecosystem beside it.
    let other = node.file("other.json", record("PYSEC-9", "PyPI"));
    node.run(&[&update[..], &[&other]].concat(), 0);
    assert_eq!(server.asked(), ["/osv/PyPI/all.zip"]);
    let said = node.run(&["db", "query", "PyPI", "a", "1"], 0);
    assert_says(&said, &["PYSEC-1", "PYSEC-9"]);
    node.run(&update, 0);
    assert_eq!(server.asked(), ["/osv/PyPI/all.zip"]);
    says(&node, "PyPI", "PYSEC-1");
    // What is damaged is mended.
    let shard = node.path("var/lib/portcullis/advisories/current/pypi.shard");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    node.run(&["db", "verify"], 1);
    node.run(&update, 0);
    assert_eq!(server.asked(), ["/osv/PyPI/all.zip"]);
    node.run(&["db", "verify"], 0);
    // What an address with a query has may be another thing each time.
    let query = server.url("/osv/PyPI/all.zip?key=secret");
    for _ in 0..2 {
        let said = node.run(&["db", "update", &query, "--output", "json"], 0);
        assert!(!said.contains("secret"), "{said}");
        assert_eq!(server.asked(), ["/osv/PyPI/all.zip?key=secret"]);
    }
}

#[test]
fn single_files_are_fetched() {
    let (node, server) = (Node::new(), Server::new());
    server.file("/a/PYSEC-1.json", "\"1\"", record("PYSEC-1", "PyPI"));
    server.file("/a/both.ZIP", "\"2\"", archive("GHSA-1", &["npm", "Go"]));
    let urls = [server.url("/a/PYSEC-1.json"), server.url("/a/both.ZIP")];
    node.run(&["db", "update", &urls[0], &urls[1]], 0);
    for (ecosystem, id) in [("PyPI", "PYSEC-1"), ("npm", "GHSA-1"), ("Go", "GHSA-1")] {
        says(&node, ecosystem, id);
    }
    server.asked();
    node.run(&["db", "update", &urls[0]], 0);
    assert_eq!(server.asked(), ["/a/PYSEC-1.json"], "nobody knows what else was in it");
    server.file("/a/x.json", "\"3\"", "<html>please log in</html>");
    node.refuses(&["db", "update", &server.url("/a/x.json")], &["as it was before", "/a/x.json"]);
    server.file("/osv/Go/all.zip", "\"4\"", archive("GHSA-2", &["npm"]));
    let url = server.url("/osv");
    node.refuses(
        &["db", "update", &url, "--ecosystem=Go"],
        &["as it was before", "no advisory in", "/osv/Go/all.zip"],
    );
}

#[test]
fn a_node_without_a_database_is_asked_what_it_needs() {
    let (node, server) = (Node::new(), Server::new());
    let url = server.url("/osv");
    node.refuses(&["db", "update", &url], &["ecosystems.txt", "--ecosystem"]);
    server.file("/osv/ecosystems.txt", "\"l\"", "GIT\n[EMPTY]\n");
    node.refuses(&["db", "update", &url], &["ecosystems.txt", "lists no ecosystem"]);
    // Few are taken: a release is in its ecosystem, and what has no order of versions is of no use.
    let list = "Alpine\r\nAlpine:v3.20\r\nGIT\r\n[EMPTY]\r\nDebian:12\r\n\r\n";
    server.file("/osv/ecosystems.txt", "\"l\"", list);
    server.archive("Alpine", "\"a\"", "ALPINE-1", &["Alpine:v3.20"]);
    server.archive("Debian:12", "\"d\"", "DSA-1", &["Debian:12"]);
    server.asked();
    node.run(&["db", "update", &url], 0);
    let paths = ["/osv/Alpine/all.zip", "/osv/Debian%3A12/all.zip"];
    assert_eq!(server.asked(), [&["/osv/ecosystems.txt"], &paths[..]].concat());
    says(&node, "Alpine:v3.20", "ALPINE-1");

    let node = Node::new();
    let many = ["npm", "Go", "PyPI", "Maven", "NuGet", "Hex", "RubyGems", "Packagist", "GHC"];
    server.file("/osv/ecosystems.txt", "\"m\"", format!("{list}{}", many.join("\n")));
    node.refuses(
        &["db", "update", &url],
        &["has 11 ecosystems", "--all-ecosystems", "Alpine, Debian:12, GHC, Go, Hex, Maven"],
    );
    // Those that are listed and not there are told.
    let said = node.run(&["db", "update", &url, "--all-ecosystems"], 0);
    assert_says(&said, &["does not have it: GHC, Go, Hex"]);
    says(&node, "Debian:12", "DSA-1");
    // What the node has is what is asked for from then on.
    server.asked();
    node.run(&["db", "update", &url], 0);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let (node, server) = (Node::new(), Server::new());
    let url = server.url("/osv");
    let file = node.file("a.json", record("PYSEC-1", "PyPI"));
    for (args, parts) in [
        (&[&file, "--ecosystem", "PyPI"][..], &["for a mirror"][..]),
        (&[&file, "--all-ecosystems"], &["for a mirror"]),
        (&[&url, "--ecosystem", "pypi"], &["\"pypi\" is no ecosystem", "PyPI"]),
        (&[&url, &server.url("/b"), "--ecosystem", "PyPI"], &["/osv is a mirror too"]),
        (&[&server.url("/b?c"), "--ecosystem", "PyPI"], &["is no URL of a mirror"]),
        (&["ftp://a.example/all.zip"], &["only http:// and https://"]),
        (&["http://"], &["is no URL"]),
        (&["https://127.0.0.1:1/all.zip", "--ca", &file], &["no certificate in"]),
    ] {
        node.refuses(&[&["db", "update"], args].concat(), parts);
    }
    for args in [
        &[&url, "--ecosystem", "Go", "--all-ecosystems"][..],
        &[&url, "--max-size", "4T"],
        &[&url, "--max-size", "0"],
        &[&url, "--max-size", "99999999999G"],
        &[&url, "--timeout", "0"],
    ] {
        node.run(&[&["db", "update"], args].concat(), 2);
    }
    assert!(server.asked().is_empty());
}

/// A node that has PyPI of a server, of which `/osv/PyPI/all.zip` can be replaced by something bad.
fn with_database() -> (Node, Server) {
    let (node, server) = (Node::new(), Server::new());
    server.archive("PyPI", "\"p1\"", "PYSEC-1", &["PyPI"]);
    node.run(&["db", "update", &server.url("/osv"), "--ecosystem", "PyPI"], 0);
    server.asked();
    (node, server)
}

const PYPI: &str = "/osv/PyPI/all.zip";

/// Replies are tried; all of them fail, and the database serves on.
#[track_caller]
fn fails(replies: &[Reply], more: &[&str], parts: &[&str], tries: usize) {
    let (node, server) = with_database();
    server.set(PYPI, replies.iter().cloned());
    let url = server.url("/osv");
    let parts = [&["as it was before", PYPI], parts].concat();
    node.refuses(&[&["db", "update", &url], more].concat(), &parts);
    assert_eq!(server.asked().len(), tries);
    says(&node, "PyPI", "PYSEC-1");
    is_tidy(&node);
}

/// Replies are tried; the last is good.
#[track_caller]
fn mends(replies: impl IntoIterator<Item = Reply>) {
    let (node, server) = with_database();
    let good = Reply::File { etag: "\"p2\"", body: archive("PYSEC-2", &["PyPI"]) };
    server.set(PYPI, replies.into_iter().chain([good]));
    node.run(&["db", "update", &server.url("/osv")], 0);
    says(&node, "PyPI", "PYSEC-2");
    is_tidy(&node);
}

fn cut() -> Reply {
    let body = archive("PYSEC-2", &["PyPI"]);
    let head = format!("HTTP/1.1 200 OK\nContent-Length: {}", body.len());
    raw(&head, &body[..body.len() - 10])
}

#[test]
fn what_passes_is_tried_again() {
    mends([status("500 Internal Server Error"), status("503 Busy\nRetry-After: 0")]);
    mends([cut(), Reply::Raw(Vec::new())]);
}

#[test]
fn what_stays_is_told_with_a_remedy() {
    fails(&[status("500 No")], &[], &["3 tries failed", "500 Internal", "try again later"], 3);
    fails(&[cut()], &[], &["3 tries failed", "broke off after", " of "], 3);
    fails(&[status("404 No")], &[], &["404", "<ecosystem>/all.zip"], 1);
    fails(&[status("403 No")], &[], &["403 Forbidden", "USER:PASSWORD@"], 1);
    fails(&[status("418 No")], &[], &["418", "check the URL"], 1);
    fails(&[raw("what?", b"")], &[], &["cannot be asked"], 1);
}

#[test]
fn nothing_is_listened_to() {
    let (node, server) = with_database();
    // No server of another test is given this port.
    let url = "http://127.0.0.1:1/osv";
    node.refuses(&["db", "update", url], &["nothing listens at 127.0.0.1", "HTTPS_PROXY"]);
    let none = "http://no-such-host.invalid/osv";
    node.refuses(&["db", "update", none], &["no-such-host.invalid", "DNS"]);
    drop(server);
}

#[test]
fn a_body_is_bounded() {
    let large = vec![b'x'; 3000];
    let with_length = raw("HTTP/1.1 200 OK\nContent-Length: 3000", &large);
    let most = ["--max-size", "2K"];
    fails(&[with_length], &most, &["larger than 2.00 KiB", "--max-size"], 1);
    let without = raw("HTTP/1.1 200 OK\nConnection: close", &large);
    fails(&[without], &most, &["larger than 2.00 KiB", "--max-size"], 1);
    let chunked = raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"fffffff\r\n");
    let Reply::Raw(chunked) = chunked else { unreachable!() };
    fails(&[Reply::Raw([chunked, large].concat())], &most, &["larger than 2.00 KiB"], 1);
}

#[test]
fn redirects_are_followed_and_end() {
    let (node, server) = with_database();
    server.set(PYPI, [redirect("../other/x?y")]);
    server.file("/osv/PyPI/../other/x", "\"x\"", archive("PYSEC-2", &["PyPI"]));
    node.run(&["db", "update", &server.url("/osv")], 0);
    says(&node, "PyPI", "PYSEC-2");
    server.asked();
    // By the address that was given, and the tag of where it led.
    let said = node.json(&["db", "update", &server.url("/osv")], 0);
    assert_eq!(said["unchanged"], json!(["PyPI"]));
    assert_eq!(server.asked()[1], "/osv/PyPI/../other/x?y \"x\"");
    fails(&[redirect(PYPI)], &[], &["redirects more than 5 times"], 6);
    fails(&[redirect("ftp://x/")], &[], &["it redirects to ftp://x/"], 1);
    fails(&[status("302 Found")], &[], &["redirects to nowhere"], 1);
}

#[test]
fn silence_has_an_end() {
    let begun = Instant::now();
    let half = raw("HTTP/1.1 200 OK\nContent-Length: 3000", b"half");
    let Reply::Raw(half) = half else { unreachable!() };
    let parts = ["3 tries failed", "nothing came from", "for 1 s", "--timeout"];
    fails(&[Reply::Silent(Vec::new()), Reply::Silent(half)], &["--timeout", "1"], &parts, 3);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_login_is_sent_and_not_told() {
    let (node, server) = (Node::new(), Server::new());
    let other = Server::new();
    server.archive("PyPI", "\"p1\"", "PYSEC-1", &["PyPI"]);
    let url = format!("http://user:secret@{}/osv", server.address);
    let args = ["db", "update", &url, "--ecosystem", "PyPI"];
    let said = node.json(&args, 0);
    assert!(!said.to_string().contains("secret"), "{said}");
    let sent = || {
        let seen = std::mem::take(&mut server.state.lock().unwrap().seen);
        header(&seen[0], "authorization").map(ToOwned::to_owned)
    };
    assert_eq!(sent().as_deref(), Some("Basic dXNlcjpzZWNyZXQ="));
    let kept = contents(&node.path("var"));
    assert!(kept.iter().all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains("secret")));
    // Another server has no business with it.
    server.set(PYPI, [redirect(&other.url("/x"))]);
    other.file("/x", "\"x\"", archive("PYSEC-2", &["PyPI"]));
    node.run(&args, 0);
    assert!(sent().is_some());
    assert_eq!(header(&other.state.lock().unwrap().seen[0], "authorization"), None);
    server.set(PYPI, [status("500 No")]);
    let said = node.run(&args, 1);
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn a_proxy_is_asked_for_the_way() {
    let (node, server) = (Node::new(), Server::new());
    // It says what it was asked for, and refuses.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = proxy.accept().unwrap();
        let head = head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
        head
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("--root").arg(node.path("")).args(["db", "update"]).arg(server.url("/osv/x.zip"));
    command.env("http_proxy", format!("http://user:secret@{address}"));
    for name in ["no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert_says(&said, &["/osv/x.zip", "the proxy 127.0.0.1:", "does not lead there", "NO_PROXY"]);
    assert!(!said.contains("secret"), "{said}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with(&format!("CONNECT {}", server.address)), "{asked}");
    assert_eq!(header(&asked, "proxy-authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    assert!(server.asked().is_empty());
}

#[test]
fn https_needs_an_authority_and_stays_https() {
    let (node, server) = (Node::new(), Server::with_tls());
    let plain = Server::new();
    server.archive("PyPI", "\"p1\"", "PYSEC-1", &["PyPI"]);
    let url = server.url("/osv").replace("http:", "https:");
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/ca.pem");
    let args = ["db", "update", &url, "--ecosystem", "PyPI"];
    node.refuses(&args, &["/osv/PyPI/all.zip", "certificate", "--ca FILE"]);
    let args = [&args[..], &["--ca", ca]].concat();
    node.run(&args, 0);
    says(&node, "PyPI", "PYSEC-1");
    plain.file("/x", "\"x\"", archive("PYSEC-2", &["PyPI"]));
    server.set(PYPI, [redirect(&plain.url("/x"))]);
    node.refuses(&args, &["redirects to http://", "anybody on the way"]);
    assert!(plain.asked().is_empty());
}

#[test]
fn feeds_are_fetched() {
    let (node, server) = (Node::new(), Server::new());
    let kev = json!({
        "catalogVersion": "2026.01.01", "dateReleased": "2026-01-01T00:00:00Z", "count": 1,
        "vulnerabilities": [{ "cveID": "CVE-2024-0001", "dateAdded": "2024-01-02" }],
    });
    server.file("/kev.json", "\"k\"", kev.to_string());
    let said: Value = node.json(&["feed", "update", &server.url("/kev.json")], 0);
    assert_eq!(said["feeds"][0]["name"], "KEV");
    assert_eq!(contents(&node.path(FEEDS)).len(), 1, "nothing is left behind");
    server.file("/html", "\"h\"", "<html>");
    let url = server.url("/html");
    node.refuses(&["feed", "update", &url], &["nothing is changed", &url, "is neither EPSS"]);
    let url = server.url("/none");
    node.refuses(&["feed", "update", &url], &["nothing is changed", &url, "404"]);
}
