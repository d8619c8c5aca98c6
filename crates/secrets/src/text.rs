//! Alphabets, randomness, placeholders: what tells a secret from a word.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The characters a part of a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    Digit,
    /// `0-9a-f`.
    Hex,
    /// `0-9A-Z`.
    Upper,
    /// `0-9a-z`.
    Lower,
    /// `A-Z2-7`, RFC 4648 section 6.
    Base32,
    /// `0-9A-Za-z`.
    Base62,
    /// `0-9A-Za-z+/`.
    Base64,
    /// `0-9A-Za-z_-`.
    Base64Url,
    /// `0-9A-Za-z_.=-`.
    Wide,
}

impl Set {
    pub(crate) const fn has(self, byte: u8) -> bool {
        match self {
            Self::Digit => byte.is_ascii_digit(),
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Upper => matches!(byte, b'0'..=b'9' | b'A'..=b'Z'),
            Self::Lower => matches!(byte, b'0'..=b'9' | b'a'..=b'z'),
            Self::Base32 => matches!(byte, b'2'..=b'7' | b'A'..=b'Z'),
            Self::Base62 => byte.is_ascii_alphanumeric(),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'),
            Self::Base64Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Wide => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'='),
        }
    }

    const fn size(self) -> u32 {
        match self {
            Self::Digit => 10,
            Self::Hex => 16,
            Self::Upper | Self::Lower => 36,
            Self::Base32 => 32,
            Self::Base62 => 62,
            Self::Base64 | Self::Base64Url => 64,
            Self::Wide => 66,
        }
    }

    /// How many bytes at the start of `text` are of this set, up to `max`.
    pub(crate) fn run(self, text: &[u8], max: usize) -> usize {
        text.iter().take(max).take_while(|b| self.has(**b)).count()
    }
}

/// Bits per byte, after Shannon.
pub(crate) fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let all = text.len() as f64;
    counts.iter().filter(|c| **c > 0).map(|c| f64::from(*c) / all).map(|p| -p * p.log2()).sum()
}

/// Whether a text looks drawn from an alphabet, and not typed.
///
/// A text of n characters has at most log2 of n bits, or of the alphabet's size if that is less;
/// random ones have nine tenths of that or more. Words and counting have less than three quarters,
/// or are of one kind of character, or count, or repeat themselves.
pub(crate) fn is_random(text: &[u8], set: Set) -> bool {
    let symbols = (text.len() as f64).min(f64::from(set.size()));
    if text.len() < 8 || entropy(text) < symbols.log2() * 0.75 {
        return false;
    }
    let kinds = [u8::is_ascii_digit, u8::is_ascii_lowercase, u8::is_ascii_uppercase]
        .iter()
        .filter(|is| text.iter().any(is))
        .count();
    // One in thirty keys of 16 base-32 characters has no digit.
    (kinds > 1 || matches!(set, Set::Digit | Set::Base32))
        && !counts_or_repeats(text)
        && !has_placeholder(text)
}

/// Five equal bytes in a row, or seven that each follow the one before.
fn counts_or_repeats(text: &[u8]) -> bool {
    let (mut equal, mut rising) = (1, 1);
    for pair in text.windows(2) {
        equal = if pair[0] == pair[1] { equal + 1 } else { 1 };
        rising = if pair[0].checked_add(1) == Some(pair[1]) { rising + 1 } else { 1 };
        if equal >= 5 || rising >= 7 {
            return true;
        }
    }
    false
}

/// What people write where a secret would be.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "xxxx",
    "changeme",
    "change_me",
    "change-me",
    "changethis",
    "placeholder",
    "replace",
    "your_",
    "your-",
    "yourp",
    "yours",
    "yourt",
    "yourk",
    "dummy",
    "redacted",
    "insert",
    "fake",
    "sample",
    "todo",
    "not-a-real",
    "notreal",
    "invalid",
    "mysecret",
    "my_secret",
    "my-secret",
];

/// Whether a placeholder is in the text, in any case of letters.
pub(crate) fn has_placeholder(text: &[u8]) -> bool {
    PLACEHOLDERS.iter().any(|word| contains_ignore_case(text, word.as_bytes()))
        || [&b"${"[..], b"{{", b"***", b"...", b"$(", b"%("]
            .iter()
            .any(|mark| memchr::memmem::find(text, mark).is_some())
        || text.iter().any(|b| matches!(b, b'<' | b'>'))
}

/// What people take as password in manuals, tests and first steps.
const COMMON: &[&str] = &[
    "1234",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789",
    "abc123",
    "admin",
    "bar",
    "baz",
    "default",
    "disabled",
    "db_pass",
    "db_password",
    "dbpass",
    "dbpassword",
    "empty",
    "false",
    "foo",
    "foobar",
    "guest",
    "hunter2",
    "letmein",
    "mongo",
    "mypass",
    "mypassword",
    "mysql",
    "no",
    "none",
    "null",
    "off",
    "on",
    "p@ssw0rd",
    "p4ssw0rd",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "passw0rd",
    "password1",
    "password123",
    "postgres",
    "prompt",
    "pw",
    "pwd",
    "qwerty",
    "rabbitmq",
    "redis",
    "required",
    "root",
    "s3cr3t",
    "s3cret",
    "s3kr3t",
    "secret",
    "tbd",
    "test",
    "test123",
    "testing",
    "testpass",
    "testpassword",
    "tiger",
    "token",
    "true",
    "undefined",
    "unset",
    "user",
    "username",
    "yes",
    "0",
    "1",
];

/// Whether a password may be real: none of the usual words, no template, not the user's name.
pub(crate) fn is_password(user: &[u8], password: &[u8]) -> bool {
    (4..=256).contains(&password.len())
        && !password.eq_ignore_ascii_case(user)
        && password.iter().all(|b| b.is_ascii_graphic() || *b >= 0x80)
        && !COMMON.iter().any(|word| password.eq_ignore_ascii_case(word.as_bytes()))
        && !has_placeholder(password)
        && !counts_or_repeats(password)
        && !matches!(password[0], b'$' | b'%' | b'{' | b'[' | b'@')
        && password.iter().any(|b| *b != password[0])
        && !password.windows(2).any(|w| w[0] == b'%' && !w[1].is_ascii_hexdigit())
}

fn contains_ignore_case(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word))
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// RFC 4648 section 4, with or without padding.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// RFC 4648 section 5, with or without padding.
pub(crate) fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL.decode(text).ok()
}

/// CRC-32 as in zip. Only candidates are summed, so it needs no table.
pub(crate) fn crc32(text: &[u8]) -> u32 {
    !text.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}

/// The number that base-62 digits `0-9A-Za-z` write.
pub(crate) fn base62(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(u64::from(digit))
    })
}

/// The start of a secret as it may be shown: `known` bytes that every such secret has, and four more,
/// at most a third of the whole.
pub(crate) fn shown(secret: &[u8], known: usize) -> String {
    let length = known.min(24).saturating_add(4).min(secret.len() / 3);
    printable(&secret[..length]) + "…"
}

/// At most 60 characters; what is not printable ASCII is `?`.
pub(crate) fn printable(text: &[u8]) -> String {
    text.iter().take(60).map(|b| if (b' '..=b'~').contains(b) { *b as char } else { '?' }).collect()
}
