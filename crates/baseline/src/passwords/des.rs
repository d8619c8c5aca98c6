//! crypt(3) with DES (FIPS 46-3), traditional and as BSDi extended it (crypt(5)).
//!
//! The salt swaps bits of the expansion, so a plain DES does not do. Bits are numbered as in the
//! standard, from the highest.

use super::base64;

/// The eleven digits behind the salt: 25 times the block of zeros, under eight characters.
pub(super) fn traditional(word: &[u8], salt: u32) -> String {
    digits(encrypt(0, &schedule(key(word)), 25, salt))
}

/// The eleven digits behind count and salt, under as many characters as the word has.
pub(super) fn extended(word: &[u8], count: u32, salt: u32) -> String {
    let mut blocks = word.chunks(8);
    let mut key_bits = key(blocks.next().unwrap_or_default());
    for block in blocks {
        key_bits = encrypt(key_bits, &schedule(key_bits), 1, 0) ^ key(block);
    }
    digits(encrypt(0, &schedule(key_bits), count, salt))
}

/// Eight characters of seven bits; the eighth bit of each byte would be parity.
fn key(word: &[u8]) -> u64 {
    (0..8).fold(0, |key, place| key << 8 | u64::from(word.get(place).copied().unwrap_or(0) << 1))
}

fn digits(block: u64) -> String {
    let bits = u128::from(block) << 2;
    (0..11).map(|place| base64::digit((bits >> (60 - 6 * place)) as u32)).collect()
}

/// The bits of `input`, which has `width` of them, in the order of the table.
fn permuted(input: u64, width: u32, table: &[u8]) -> u64 {
    table.iter().fold(0, |out, bit| out << 1 | input >> (width - u32::from(*bit)) & 1)
}

/// The sixteen keys of 48 bits.
fn schedule(key: u64) -> [u64; 16] {
    let chosen = permuted(key, 64, &PC1);
    let (mut left, mut right) = (chosen >> 28, chosen & 0xfff_ffff);
    SHIFTS.map(|shift| {
        left = (left << shift | left >> (28 - shift)) & 0xfff_ffff;
        right = (right << shift | right >> (28 - shift)) & 0xfff_ffff;
        permuted(left << 28 | right, 56, &PC2)
    })
}

/// DES again and again, with the expansion salted.
fn encrypt(block: u64, keys: &[u64; 16], times: u32, salt: u32) -> u64 {
    // Bit 1 of the expansion is swapped with bit 25 if the lowest bit of the salt is set.
    let swap = (0..24).fold(0, |swap, bit| swap << 1 | u64::from(salt >> bit & 1));
    let block = permuted(block, 64, &IP);
    let (mut left, mut right) = ((block >> 32) as u32, block as u32);
    for _ in 0..times {
        for key in keys {
            let mut wide = 0_u64;
            for place in 0..8 {
                wide = wide << 6 | u64::from(right.rotate_left(5 + 4 * place) & 63);
            }
            let changed = (wide >> 24 ^ wide) & swap;
            let input = wide ^ (changed << 24 | changed) ^ key;
            let mut out = 0;
            for (place, boxed) in SUBSTITUTED.iter().enumerate() {
                out ^= boxed[(input >> (42 - 6 * place) & 63) as usize];
            }
            (left, right) = (right, left ^ out);
        }
        (left, right) = (right, left);
    }
    let block = u64::from(left) << 32 | u64::from(right);
    // The final permutation is the inverse of the first.
    IP.iter()
        .enumerate()
        .fold(0, |out, (place, bit)| out | (block >> (63 - place) & 1) << (64 - u32::from(*bit)))
}

/// What six bits become after the S-box at a place and the permutation P.
static SUBSTITUTED: [[u32; 64]; 8] = substituted();

const fn substituted() -> [[u32; 64]; 8] {
    let mut out = [[0; 64]; 8];
    let mut place = 0;
    while place < 8 {
        let mut input = 0;
        while input < 64 {
            let row = (input >> 4 & 2) | (input & 1);
            let column = input >> 1 & 15;
            let four = S[place][row * 16 + column] as u32;
            let before = four << (28 - 4 * place);
            let mut bit = 0;
            while bit < 32 {
                out[place][input] |= (before >> (32 - P[bit] as u32) & 1) << (31 - bit);
                bit += 1;
            }
            input += 1;
        }
        place += 1;
    }
    out
}

const SHIFTS: [u32; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];

#[rustfmt::skip]
const IP: [u8; 64] = [
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4,
    62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32, 24, 16, 8,
    57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3,
    61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
];

#[rustfmt::skip]
const PC1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18,
    10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
    63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22,
    14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];

#[rustfmt::skip]
const PC2: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10,
    23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
    41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48,
    44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];

#[rustfmt::skip]
const P: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10,
    2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
];

#[rustfmt::skip]
const S: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7,
        0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
        4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0,
        15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10,
        3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
        0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15,
        13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8,
        13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
        13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7,
        1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15,
        13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
        10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4,
        3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9,
        14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
        4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14,
        11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11,
        10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
        9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6,
        4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1,
        13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
        1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2,
        6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7,
        1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
        7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8,
        2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
    ],
];
