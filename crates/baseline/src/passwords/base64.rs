//! The digits of crypt(3): `./0-9A-Za-z`, six bits each, the lowest first.

const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Appends the lowest `6 * digits` bits.
pub(super) fn push(out: &mut String, mut bits: u32, digits: usize) {
    for _ in 0..digits {
        out.push(char::from(DIGITS[(bits & 63) as usize]));
        bits >>= 6;
    }
}

/// Six bits, highest first, as DES has them.
pub(super) fn digit(bits: u32) -> char {
    char::from(DIGITS[(bits & 63) as usize])
}

/// The value of a digit.
pub(super) fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'.' => 0,
        b'/' => 1,
        b'0'..=b'9' => digit - b'0' + 2,
        b'A'..=b'Z' => digit - b'A' + 12,
        b'a'..=b'z' => digit - b'a' + 38,
        _ => return None,
    };
    Some(u32::from(value))
}

/// The number of some digits, at most five.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    let mut number = 0;
    for (place, digit) in digits.iter().take(5).enumerate() {
        number |= value(*digit)? << (6 * place);
    }
    Some(number)
}

/// Writes bytes, three to four digits, as yescrypt and scrypt do.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        push(&mut out, bits, (group.len() * 8).div_ceil(6));
    }
    out
}

/// Reads what [`encode`] writes; bits that make no whole byte must be zero.
pub(super) fn decode(digits: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for group in digits.chunks(4) {
        let bits = number(group)?;
        let bytes = group.len() * 6 / 8;
        if bytes == 0 || bits >> (8 * bytes) != 0 {
            return None;
        }
        out.extend(bits.to_le_bytes().iter().take(bytes));
    }
    Some(out)
}
