//! deb-version(7): `[epoch:]upstream[-revision]`.

use std::cmp::Ordering;

use crate::number::{self, digits, is_number, prefix};
use crate::{VersionError, shown};

pub(crate) fn compare(a: &str, b: &str) -> Result<Ordering, VersionError> {
    let (a, b) = (Version::read(a)?, Version::read(b)?);
    Ok(number::compare(a.epoch, b.epoch)
        .then_with(|| part(a.upstream, b.upstream))
        .then_with(|| part(a.revision, b.revision)))
}

struct Version<'a> {
    epoch: &'a str,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Version<'a> {
    fn read(text: &'a str) -> Result<Self, VersionError> {
        let text = text.trim();
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        if !is_number(epoch) {
            return Err(VersionError::Epoch(shown(text), "Debian"));
        }
        // A missing revision is the same as 0.
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        Ok(Self { epoch, upstream, revision })
    }
}

/// Compares what is no digit by characters and what is digits by value, in turn.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = prefix(a, |byte| !byte.is_ascii_digit());
        let (b_text, b_rest) = prefix(b, |byte| !byte.is_ascii_digit());
        let (a_number, a_left) = digits(a_rest);
        let (b_number, b_left) = digits(b_rest);
        let order = texts(a_text, b_text).then_with(|| number::compare(a_number, b_number));
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_left, b_left);
    }
    Ordering::Equal
}

/// A tilde is before the end, the end before letters, and letters before all else.
fn texts(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<u8>| match byte {
        Some(b'~') => 0,
        None => 1,
        Some(letter) if letter.is_ascii_alphabetic() => 2 + u16::from(letter),
        Some(other) => 0x200 + u16::from(other),
    };
    let (mut a, mut b) = (a.bytes(), b.bytes());
    loop {
        let (left, right) = (a.next(), b.next());
        let order = weight(left).cmp(&weight(right));
        if order.is_ne() || (left.is_none() && right.is_none()) {
            return order;
        }
    }
}
