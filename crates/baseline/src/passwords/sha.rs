//! sha256crypt (`$5$`) and sha512crypt (`$6$`), as "Unix crypt using SHA-256 and SHA-512"
//! (version 0.6, 2016) specifies them.

use sha2::{Digest, Sha256, Sha512};

use super::base64;

/// The digits behind the salt, for `$5$`.
pub(super) fn crypt256(word: &[u8], rounds: u32, salt: &[u8]) -> String {
    let hash = rounds_of::<Sha256>(word, rounds, salt);
    digits(&hash, [0, 10, 20], |[a, b, c]| [c + 1, a + 1, b + 1])
}

/// The digits behind the salt, for `$6$`.
pub(super) fn crypt512(word: &[u8], rounds: u32, salt: &[u8]) -> String {
    let hash = rounds_of::<Sha512>(word, rounds, salt);
    digits(&hash, [0, 21, 42], |[a, b, c]| [b + 1, c + 1, a + 1])
}

/// Step by step as in the specification, whose names these are.
fn rounds_of<D: Digest>(word: &[u8], rounds: u32, salt: &[u8]) -> Vec<u8> {
    let b = D::new().chain_update(word).chain_update(salt).chain_update(word).finalize();
    let mut a = D::new();
    a.update(word);
    a.update(salt);
    a.update(repeated(&b, word.len()));
    let mut length = word.len();
    while length != 0 {
        a.update(if length & 1 != 0 { &b[..] } else { word });
        length >>= 1;
    }
    let a = a.finalize();

    let mut dp = D::new();
    (0..word.len()).for_each(|_| dp.update(word));
    let p = repeated(&dp.finalize(), word.len());

    let mut ds = D::new();
    let times = 16 + a.first().copied().map_or(0, usize::from);
    (0..times).for_each(|_| ds.update(salt));
    let s = repeated(&ds.finalize(), salt.len());

    let mut hash = a;
    for round in 0..rounds {
        let mut c = D::new();
        let is_odd = round % 2 != 0;
        c.update(if is_odd { &p[..] } else { &hash[..] });
        if round % 3 != 0 {
            c.update(&s);
        }
        if round % 7 != 0 {
            c.update(&p);
        }
        c.update(if is_odd { &hash[..] } else { &p[..] });
        hash = c.finalize();
    }
    hash.to_vec()
}

/// The bytes again and again, so many in all.
fn repeated(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(length).collect()
}

/// The bytes in the order of the specification, three to four digits; the last one or two are left.
fn digits(hash: &[u8], mut triple: [usize; 3], next: fn([usize; 3]) -> [usize; 3]) -> String {
    let at = |index: usize| hash.get(index).copied().map_or(0, u32::from);
    let mut out = String::new();
    for _ in 0..hash.len() / 3 {
        let [a, b, c] = triple;
        base64::push(&mut out, at(a) << 16 | at(b) << 8 | at(c), 4);
        triple = next(triple);
    }
    match hash.len() % 3 {
        1 => base64::push(&mut out, at(hash.len() - 1), 2),
        2 => base64::push(&mut out, at(hash.len() - 1) << 8 | at(hash.len() - 2), 3),
        _ => {}
    }
    out
}
