//! Digests, image references and package URLs.

use portcullis_types::{Digest, ImageRef, Purl};

use crate::text::{printable, told};

/// One text, read as each of the three.
///
/// A digest is written as it was read. A reference's normal form is read as the same reference. A
/// package URL, written anew with every byte escaped, is read as the same one.
pub fn names(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    // Each must have its turn, so none may cut the others short.
    [digest(text), reference(text), purl(text)].contains(&true)
}

fn digest(text: &str) -> bool {
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert_eq!(digest.to_string(), text);
            assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit()));
            true
        }
        Err(error) => {
            told(&error);
            false
        }
    }
}

fn reference(text: &str) -> bool {
    match text.parse::<ImageRef>() {
        Ok(reference) => {
            let normal = reference.to_string();
            printable("a reference", &normal, text.len() + "docker.io/library/:latest".len());
            assert!(normal.is_ascii() && !reference.path().any(|part| matches!(part, "" | "..")));
            assert_eq!(normal.parse(), Ok(reference));
            true
        }
        Err(error) => {
            told(&error);
            false
        }
    }
}

fn purl(text: &str) -> bool {
    match Purl::parse(text) {
        Ok(purl) => {
            let written = written(&purl);
            // Escaping makes it up to three times as long, and length is bounded.
            if written.len() <= 4096 {
                assert_eq!(Purl::parse(&written), Ok(purl), "written as {written}");
            }
            true
        }
        Err(error) => {
            told(&error);
            false
        }
    }
}

fn written(purl: &Purl<'_>) -> String {
    for text in [Some(purl.name()), purl.version(), purl.namespace()].into_iter().flatten() {
        printable("a part of a package URL", text, 4096);
    }
    let mut out = format!("pkg:{}/", purl.kind());
    if let Some(namespace) = purl.namespace() {
        out += &escaped(namespace);
        out.push('/');
    }
    out += &escaped(purl.name());
    if let Some(version) = purl.version() {
        out.push('@');
        out += &escaped(version);
    }
    for (place, (key, value)) in purl.qualifiers().enumerate() {
        out.push(if place == 0 { '?' } else { '&' });
        out += &format!("{key}={}", escaped(value));
    }
    out
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
