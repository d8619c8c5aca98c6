//! md5crypt (`$1$`, from FreeBSD's `crypt-md5.c`) and the NT hash (`$3$`, crypt(5)).

use md4::Md4;
use md5::{Digest, Md5};

use super::base64;

/// The digits behind the salt.
pub(super) fn crypt(word: &[u8], salt: &[u8]) -> String {
    let mut first = Md5::new();
    first.update(word);
    first.update(b"$1$");
    first.update(salt);
    let other = Md5::new().chain_update(word).chain_update(salt).chain_update(word).finalize();
    for chunk in word.chunks(16) {
        first.update(other.get(..chunk.len()).unwrap_or_default());
    }
    let mut length = word.len();
    while length != 0 {
        let is_odd = length & 1 != 0;
        first.update(if is_odd { &[0] } else { word.get(..1).unwrap_or_default() });
        length >>= 1;
    }
    let mut hash = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let is_odd = round % 2 != 0;
        next.update(if is_odd { word } else { &hash[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(word);
        }
        next.update(if is_odd { &hash[..] } else { word });
        hash = next.finalize();
    }
    let at = |index: usize| hash.get(index).copied().map_or(0, u32::from);
    let mut out = String::new();
    for index in 0..5 {
        let last = if index == 4 { 5 } else { index + 12 };
        base64::push(&mut out, at(index) << 16 | at(index + 6) << 8 | at(last), 4);
    }
    base64::push(&mut out, at(11), 2);
    out
}

/// MD4 of the word in UTF-16, as hexadecimal digits.
pub(super) fn nt(word: &[u8]) -> String {
    let mut digest = Md4::new();
    for unit in String::from_utf8_lossy(word).encode_utf16() {
        digest.update(unit.to_le_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
