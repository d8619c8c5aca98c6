//! bcrypt (`$2b$`), from Provos and Mazières, "A Future-Adaptable Password Scheme" (1999). The
//! letters `a`, `b` and `y` name implementations with and without bugs that short ASCII words do
//! not meet.

use blowfish::Blowfish;

const DIGITS: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Reads the 22 digits of the salt.
pub(super) fn salt(digits: &str) -> Option<[u8; 16]> {
    let mut bits = 0_u128;
    for (place, digit) in digits.bytes().take(22).enumerate() {
        let value = DIGITS.iter().position(|known| *known == digit)? as u128;
        // The last digit has four bits too many.
        bits = if place == 21 { bits << 2 | value >> 4 } else { bits << 6 | value };
    }
    Some(bits.to_be_bytes())
}

/// The digits behind the salt. The cost is the binary logarithm of the number of rounds.
pub(super) fn crypt(word: &[u8], cost: u32, salt: &[u8; 16]) -> String {
    let mut key = word.to_vec();
    key.push(0);
    key.truncate(72);
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(salt, &key);
    for _ in 0..1_u64.checked_shl(cost).unwrap_or(0) {
        state.bc_expand_key(&key);
        state.bc_expand_key(salt);
    }
    let mut hash = Vec::with_capacity(24);
    for block in b"OrpheanBeholderScryDoubt".chunks_exact(8) {
        let (left, right) = block.split_at(4);
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        let mut block = [word(left), word(right)];
        for _ in 0..64 {
            block = state.bc_encrypt(block);
        }
        hash.extend(block.into_iter().flat_map(u32::to_be_bytes));
    }
    // Only 23 of the 24 bytes are kept.
    let mut out = String::new();
    for group in hash.get(..23).unwrap_or_default().chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..(group.len() * 8).div_ceil(6) {
            out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    out
}
