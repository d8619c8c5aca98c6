//! Private keys, by content: PEM (RFC 7468) with the structures of RFC 8017 (RSA), RFC 5915 (EC),
//! RFC 5958 (PKCS#8), OpenSSL's DSA form, OpenSSH `PROTOCOL.key`, OpenPGP armour (RFC 9580), and
//! PuTTY's format (its manual, appendix C).
//!
//! A header alone is no key: programs and manuals are full of them. The body has to decode to the
//! beginning of the structure that the header names, and to random bytes.

use memchr::memmem;

use crate::finder::{Call, Found, Text};
use crate::pgp;
use crate::rules::Id;
use crate::text::{Set, base64, entropy, has_placeholder, shown};

/// Keywords, and what reads them.
pub(crate) const KEYWORDS: &[(&str, Call)] =
    &[("-----BEGIN ", pem), (BASE64_PEM, base64_pem), ("PuTTY-User-Key-File-", putty)];

/// `-----BEGIN ` in base64, without the last character, which the next one shares.
const BASE64_PEM: &str = "LS0tLS1CRUdJTi";

/// The largest body: RSA with 16,384 bits takes 13 KiB, an OpenPGP key with many subkeys more.
const MAX_BODY: usize = 64 << 10;

const BEGIN: &str = "-----BEGIN ";

fn pem(text: &Text<'_>, at: usize, found: &mut Found) {
    let Some((mut id, label)) = pem_key(&text.bytes[at..]) else { return };
    // The `private_key` of a service account stands behind its `private_key_id`.
    let before = &text.bytes[at.saturating_sub(512)..at];
    if id == Id::PrivateKeyPkcs8 && memmem::find(before, b"private_key_id").is_some() {
        id = Id::GcpServiceAccount;
    }
    found.push(at, id, format!("{BEGIN}{label}-----…"));
}

/// What kind of key the PEM text at the start of `rest` holds, and its label.
fn pem_key(rest: &[u8]) -> Option<(Id, &str)> {
    let rest = rest.strip_prefix(BEGIN.as_bytes())?;
    let label = &rest[..memmem::find(&rest[..rest.len().min(48)], b"-----")?];
    let label = str::from_utf8(label).ok()?;
    if !label.contains("PRIVATE KEY") {
        return None;
    }
    let rest = &rest[label.len() + 5..];
    // Each byte is looked at for one header only: the next header ends the search, too.
    let end = memmem::find(&rest[..rest.len().min(MAX_BODY)], b"-----")?;
    let tail = rest[end + 5..].strip_prefix(b"END ")?.strip_prefix(label.as_bytes())?;
    if !tail.starts_with(b"-----") {
        return None;
    }
    let (locked, body) = pem_body(&rest[..end])?;
    Some((key_kind(label, locked, &body)?, label))
}

/// Whether PEM headers say that the body is encrypted, and the decoded body. `None` if it is no base64.
fn pem_body(text: &[u8]) -> Option<(bool, Vec<u8>)> {
    let mut locked = false;
    let mut body = Vec::with_capacity(text.len());
    for line in unescape(text)?.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        if line.contains(&b':') {
            // A header of RFC 1421 or of OpenPGP armour: before the body.
            if !body.is_empty() {
                return None;
            }
            locked |= memmem::find(line, b"ENCRYPTED").is_some() || line.starts_with(b"DEK-Info");
        } else if line.starts_with(b"=") && line.len() == 5 {
            // The checksum of OpenPGP armour ends the body.
            break;
        } else {
            body.extend_from_slice(line);
        }
    }
    Some((locked, base64(&body)?))
}

/// A body within a JSON or shell string has its line breaks written out.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        // Strings within strings double the backslash.
        match bytes.by_ref().find(|b| *b != b'\\') {
            Some(b'n') => plain.push(b'\n'),
            Some(b'r' | b't') => plain.push(b' '),
            Some(byte @ (b'/' | b'\n')) => plain.push(byte),
            None => {}
            Some(_) => return None,
        }
    }
    Some(plain)
}

/// The kind of key, if the body is one.
fn key_kind(label: &str, locked: bool, body: &[u8]) -> Option<Id> {
    // Ed25519 in PKCS#8 is the shortest: 48 bytes, 32 of them random.
    if body.len() < 40 || entropy(body) < 4.0 {
        return None;
    }
    if label == "PGP PRIVATE KEY BLOCK" {
        return match pgp::protection(body)? {
            pgp::Protection::None => Some(Id::PrivateKeyPgp),
            pgp::Protection::Passphrase => Some(Id::PrivateKeyEncrypted),
        };
    }
    if label == "OPENSSH PRIVATE KEY" {
        let cipher = body.strip_prefix(b"openssh-key-v1\0")?;
        let length = u32::from_be_bytes(*cipher.first_chunk()?) as usize;
        return match cipher.get(4..4usize.checked_add(length)?)? {
            b"none" => Some(Id::PrivateKeyOpenssh),
            _ => Some(Id::PrivateKeyEncrypted),
        };
    }
    if locked {
        // Ciphertext: whole blocks of a cipher.
        return (body.len().is_multiple_of(8) && entropy(body) > 4.5)
            .then_some(Id::PrivateKeyEncrypted);
    }
    let inner = sequence(body)?;
    match label {
        // Version, then a modulus, whose length takes a byte of its own from 512 bits on.
        "RSA PRIVATE KEY" => {
            (inner.starts_with(&[2, 1, 0, 2]) && body.len() > 250).then_some(Id::PrivateKeyRsa)
        }
        "DSA PRIVATE KEY" => {
            (inner.starts_with(&[2, 1, 0, 2]) && body.len() > 200).then_some(Id::PrivateKeyDsa)
        }
        "EC PRIVATE KEY" => inner.starts_with(&[2, 1, 1, 4]).then_some(Id::PrivateKeyEc),
        "PRIVATE KEY" => {
            let algorithm =
                inner.starts_with(&[2, 1, 0, 0x30]) || inner.starts_with(&[2, 1, 1, 0x30]);
            algorithm.then_some(Id::PrivateKeyPkcs8)
        }
        "ENCRYPTED PRIVATE KEY" => inner.starts_with(&[0x30]).then_some(Id::PrivateKeyEncrypted),
        _ => None,
    }
}

/// The content of a DER sequence that fills `body`.
fn sequence(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(&[0x30])?;
    let (length, content) = match *rest {
        [length @ ..=0x7f, ref content @ ..] => (usize::from(length), content),
        [0x81, length, ref content @ ..] => (usize::from(length), content),
        [0x82, high, low, ref content @ ..] => {
            (usize::from(u16::from_be_bytes([high, low])), content)
        }
        _ => return None,
    };
    (content.len() == length).then_some(content)
}

/// A PEM text as a whole in base64: how Kubernetes writes keys.
fn base64_pem(text: &Text<'_>, at: usize, found: &mut Found) {
    // Within a longer run of base64 it does not begin at a group of four.
    if at.checked_sub(1).is_some_and(|before| Set::Base64.has(text.bytes[before]))
        && !text.is_escape_before(at)
    {
        return;
    }
    let run = &text.bytes[at..];
    let run = &run[..Set::Base64.run(run, MAX_BODY * 4 / 3)];
    let Some(decoded) = base64(run) else { return };
    let Some((mut id, _)) = pem_key(&decoded) else { return };
    let before = &text.bytes[at.saturating_sub(32)..at];
    if id != Id::PrivateKeyEncrypted && memmem::find(before, b"client-key-data").is_some() {
        id = Id::KubeconfigClientKey;
    }
    found.push(at, id, shown(run, BASE64_PEM.len()));
}

fn putty(text: &Text<'_>, at: usize, found: &mut Found) {
    // At the start of a line only: then the next header ends this one, and no byte is read twice.
    if text.bytes[..at].last().is_some_and(|b| *b != b'\n') {
        return;
    }
    let rest = &text.bytes[at..];
    let rest = &rest[..rest.len().min(MAX_BODY)];
    let mut locked = false;
    let mut body: Option<Vec<u8>> = None;
    let mut lines = rest.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let Some(first) = lines.next() else { return };
    for line in lines {
        if line.starts_with(b"PuTTY-User-Key-File-") {
            return;
        } else if line.starts_with(b"Private-MAC: ") {
            break;
        } else if let Some(cipher) = line.strip_prefix(b"Encryption: ") {
            locked = cipher != b"none";
        } else if line.starts_with(b"Private-Lines: ") {
            body = Some(Vec::new());
        } else if line.contains(&b':') {
            // Comments and the key derivation.
        } else if let Some(body) = &mut body {
            body.extend_from_slice(line);
        }
    }
    let Some(decoded) = body.filter(|b| !has_placeholder(b)).and_then(|b| base64(&b)) else {
        return;
    };
    // Ed25519: a length and 32 bytes.
    if decoded.len() >= 32 && entropy(&decoded) >= 3.8 {
        let id = if locked { Id::PrivateKeyEncrypted } else { Id::PrivateKeyPutty };
        found.push(at, id, crate::text::printable(&first[..first.len().min(40)]) + "…");
    }
}
