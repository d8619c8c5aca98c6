//! JSON Web Tokens (RFC 7519) in compact form: three parts in base64url, the first two of them JSON.

use serde_json::{Map, Value};

use crate::finder::{Found, Text};
use crate::rules::Id;
use crate::text::{Set, base64url, is_random, shown};

const MAX_HEADER: usize = 4 << 10;
const MAX_PAYLOAD: usize = 16 << 10;
const MAX_SIGNATURE: usize = 2 << 10;

/// A token that was read.
pub(crate) struct Token {
    /// Bytes.
    pub(crate) length: usize,
    is_kubernetes: bool,
}

/// Reads what begins with `eyJ` at `at`.
pub(crate) fn find(text: &Text<'_>, at: usize, found: &mut Found) {
    // Within a longer word, or the second part of a token.
    if at.checked_sub(1).is_some_and(|before| {
        let byte = text.bytes[before];
        (byte == b'.' || Set::Base64Url.has(byte)) && !text.is_escape_before(at)
    }) {
        return;
    }
    let Some(token) = read(&text.bytes[at..]) else { return };
    let id = if token.is_kubernetes { Id::KubernetesToken } else { Id::Jwt };
    found.push(at, id, shown(&text.bytes[at..at + token.length], 3));
}

/// Reads the token with which `rest` begins: signed, of JSON objects, and no sample.
pub(crate) fn read(rest: &[u8]) -> Option<Token> {
    let header = part(rest, 0, MAX_HEADER)?;
    let payload = part(rest, header + 1, MAX_PAYLOAD)?;
    let start = header + payload + 2;
    let signature = Set::Base64Url.run(rest.get(start..)?, MAX_SIGNATURE);
    // The shortest signature in use is HMAC with SHA-256: 32 bytes.
    if signature < 43 || !is_random(&rest[start..start + signature], Set::Base64Url) {
        return None;
    }
    let head = object(&rest[..header])?;
    let algorithm = head.get("alg")?.as_str()?;
    let body = object(&rest[header + 1..header + 1 + payload])?;
    if algorithm.eq_ignore_ascii_case("none") || is_sample(&body) {
        return None;
    }
    let issuer = body.get("iss").and_then(Value::as_str).unwrap_or_default();
    let is_kubernetes = issuer == "kubernetes/serviceaccount" || body.contains_key("kubernetes.io");
    Some(Token { length: start + signature, is_kubernetes })
}

/// The length of a part that a dot follows.
fn part(rest: &[u8], start: usize, max: usize) -> Option<usize> {
    let length = Set::Base64Url.run(rest.get(start..)?, max);
    (length > 8 && rest.get(start + length) == Some(&b'.')).then_some(length)
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(&base64url(part)?).ok()
}

/// The tokens of jwt.io and of manuals.
fn is_sample(body: &Map<String, Value>) -> bool {
    let is = |key: &str, words: &[&str]| {
        body.get(key).and_then(Value::as_str).is_some_and(|value| words.contains(&value))
    };
    is("sub", &["1234567890", "test", "subject", "user", "foo"])
        || is("name", &["John Doe"])
        || is("iss", &["joe", "issuer", "test", "https://example.com", "example.com"])
        || body.keys().all(|key| matches!(key.as_str(), "foo" | "some" | "test" | "hello" | "iat"))
}
