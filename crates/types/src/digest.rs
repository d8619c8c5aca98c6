//! Content digests as the OCI image specification writes them (`descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// The hash functions that the OCI image specification registers and engines use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: 64 hexadecimal digits.
    Sha256,
    /// SHA-512: 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A well-formed digest, `sha256:<64 lower-case hexadecimal digits>` (or `sha512:` with 128).
///
/// Ordering and equality are those of the text. An unknown algorithm, upper case or a wrong length
/// is an error, so that one content has one spelling.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("\"{0}\" is not a digest: write sha256: and 64 hexadecimal digits")]
    NoAlgorithm(String),
    /// The algorithm is none that is supported.
    #[error("the digest algorithm \"{0}\" is not supported: use sha256 or sha512")]
    UnknownAlgorithm(String),
    /// The part behind the colon has a wrong length or a character that is not `0-9a-f`.
    #[error("\"{0}\" is not a digest: {1} takes {2} lower-case hexadecimal digits")]
    BadHex(String, &'static str, usize),
}

impl Digest {
    /// A SHA-256 digest from its 32 bytes.
    pub fn sha256(bytes: [u8; 32]) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in bytes {
            hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        Self { algorithm: Algorithm::Sha256, hex: hex.into() }
    }

    /// The SHA-256 digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::sha256(Sha256::digest(bytes).into())
    }

    /// Whether it is the digest of these bytes.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let is_hex_of = |hash: &[u8]| {
            let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            nibbles
                .map(|nibble| char::from_digit(u32::from(nibble), 16))
                .eq(self.hex.chars().map(Some))
        };
        match self.algorithm {
            Algorithm::Sha256 => is_hex_of(&Sha256::digest(bytes)),
            Algorithm::Sha512 => is_hex_of(&Sha512::digest(bytes)),
        }
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits behind the colon: only `0-9a-f`, so safe as a file name.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, for lines that people read.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

/// At most this much of a wrong text goes into an error message.
const SHOWN: usize = 80;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) =
            text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm(shown(text)))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => return Err(DigestError::UnknownAlgorithm(shown(other))),
        };
        let well_formed = hex.len() == algorithm.hex_len()
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(DigestError::BadHex(shown(text), algorithm.as_str(), algorithm.hex_len()));
        }
        Ok(Self { algorithm, hex: hex.into() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_content_has_one_spelling() {
        let hex = "0123456789abcdef".repeat(4);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(digest.to_string(), format!("sha256:{hex}"));
        assert_eq!(digest.short(), "0123456789ab");
        for wrong in [
            "",
            "sha256",
            "sha256:",
            &hex,
            &format!("sha256:{}", hex.to_uppercase()),
            &format!("sha256:{hex}0"),
            &format!("md5:{hex}"),
            &format!("sha512:{hex}"),
            &format!("sha256:../{}", &hex[3..]),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong} was taken for a digest");
        }
    }

    #[test]
    fn bytes_and_text_agree() {
        let digest = Digest::sha256([0xab; 32]);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }

    #[test]
    fn content_is_what_its_digest_says() {
        let sha256: Digest =
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
                .parse()
                .unwrap();
        let sha512: Digest =
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
                .parse()
                .unwrap();
        for digest in [sha256, sha512] {
            assert!(digest.is_of(b"abc"));
            assert!(!digest.is_of(b"abd"));
        }
    }
}
