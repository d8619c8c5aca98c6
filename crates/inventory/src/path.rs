//! Paths within an image: relative to its root, without `.` and `..`, as text.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

/// Most bytes of a path (Linux, `PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Most parts of a path.
const MAX_PARTS: usize = 512;

/// The normal form of a path: `etc/passwd` for `./etc//passwd` and `/etc/passwd`, empty for the
/// root. `None` for one that leads out of the root, or is longer than any.
pub fn normal(path: &[u8]) -> Option<String> {
    if path.len() > MAX_PATH {
        return None;
    }
    let path = escaped(path);
    let mut normal = String::with_capacity(path.len());
    for (at, part) in path.split('/').filter(|part| !matches!(*part, "" | ".")).enumerate() {
        if part == ".." || at >= MAX_PARTS {
            return None;
        }
        if !normal.is_empty() {
            normal.push('/');
        }
        normal.push_str(part);
    }
    Some(normal)
}

/// Bytes as text, so that no two names become one: what is no UTF-8 is written `\xNN`, and a
/// backslash twice.
pub fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\\') => return Cow::Borrowed(text),
        _ => {}
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    Cow::Owned(text)
}

/// The parts above a path: `a`, `a/b` for `a/b/c`.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// The folder that a path is in, and its last part.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Eight bytes that stand for a path among those that packages own.
pub fn path_hash(path: &str) -> u64 {
    let digest = Sha256::digest(path.as_bytes());
    u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, wanted) in [
            (&b"./etc//passwd"[..], Some("etc/passwd")),
            (b"/etc/passwd/", Some("etc/passwd")),
            (b"./", Some("")),
            (b"a/./b", Some("a/b")),
            (b"a/../b", None),
            (b"../b", None),
            (b"a\\b", Some("a\\\\b")),
            (b"a\xffb", Some("a\\xffb")),
            (b"a\\xffb", Some("a\\\\xffb")),
            (b"..a/b..", Some("..a/b..")),
        ] {
            assert_eq!(normal(path).as_deref(), wanted, "{path:?}");
        }
        assert_eq!(normal(&[b'a'; MAX_PATH + 1]), None);
        assert_eq!(normal("a/".repeat(MAX_PARTS + 1).as_bytes()), None);
    }

    #[test]
    fn a_path_has_parts_above_it() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(ancestors("a").count(), 0);
        assert_eq!(split("a/b/c"), ("a/b", "c"));
        assert_eq!(split("a"), ("", "a"));
    }
}
