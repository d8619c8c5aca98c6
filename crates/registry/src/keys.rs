//! Keys: private ones that sign what is pushed, public ones of those who are believed.
//!
//! Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256, in the forms that `openssl genpkey` and
//! `openssl pkey -pubout` write: PKCS#8 (RFC 5958) and SubjectPublicKeyInfo (RFC 5280, RFC 8410), in
//! PEM. A key goes by the SHA-256 of its SubjectPublicKeyInfo in DER.

use std::fmt;
use std::path::{Path, PathBuf};

use portcullis_settings::trusted::{self, TrustError};
use portcullis_types::Digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, UnparsedPublicKey,
};
use rustls::pki_types::pem::{PemObject as _, SectionKind};

/// Most bytes of a file with a key.
const MAX_FILE: u64 = 64 << 10;
/// What stands before the 32 bytes of an Ed25519 key (RFC 8410, section 4).
const ED25519_SPKI: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// What stands before the point of a P-256 key (RFC 5480, section 2).
const P256_SPKI: [u8; 26] = *b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\
    \x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// A point that is written whole: 4, and twice 32 bytes.
const P256_POINT: usize = 65;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Its file is not to be trusted, or cannot be read.
    #[error("a key cannot be used")]
    Trust(#[from] TrustError),
    /// It is none that is known.
    #[error("{} cannot be used as a {what}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// The key does not sign.
    #[error("the key does not sign: the system has no random numbers")]
    Sign,
}

/// A private key.
pub struct SigningKey {
    pair: Pair,
    public: TrustedKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ed25519,
    P256,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    kind: Kind,
    point: Vec<u8>,
    id: String,
}

impl SigningKey {
    /// Reads the private key of a file that root, or who runs this, owns, and that nobody else may
    /// read.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what to do.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let pem = trusted::read_secret(path, MAX_FILE)?;
        Self::of_pem(&pem).map_err(|why| KeyError::Wrong {
            path: path.to_owned(),
            what: "signing key",
            why,
        })
    }

    fn of_pem(pem: &[u8]) -> Result<Self, &'static str> {
        let (section, der) = only_section(pem)?;
        match section {
            SectionKind::PrivateKey => {}
            SectionKind::EcPrivateKey => {
                return Err("it is in the older form of EC keys: convert it with \
                            openssl pkcs8 -topk8 -nocrypt");
            }
            SectionKind::PublicKey => return Err("it is a public key: the private one signs"),
            _ => return Err(NO_PRIVATE_KEY),
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            let public = TrustedKey::new(Kind::Ed25519, pair.public_key().as_ref());
            return Ok(Self { pair: Pair::Ed25519(pair), public });
        }
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der, &random) {
            let public = TrustedKey::new(Kind::P256, pair.public_key().as_ref());
            return Ok(Self { pair: Pair::P256(pair), public });
        }
        Err(NO_PRIVATE_KEY)
    }

    /// Its public half.
    pub fn public(&self) -> &TrustedKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                Ok(signature.map_err(|_| KeyError::Sign)?.as_ref().to_vec())
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

const NO_PRIVATE_KEY: &str = "it must be an Ed25519 or ECDSA P-256 key in PKCS#8 without a password, \
     as openssl genpkey -algorithm ed25519 writes it";
const NO_PUBLIC_KEY: &str = "it must be an Ed25519 or ECDSA P-256 key in PEM, as \
     openssl pkey -in PRIVATE -pubout writes it";

impl TrustedKey {
    /// Reads the public key of a file that root, or who runs this, owns, and that nobody else may
    /// write.
    ///
    /// # Errors
    /// [`KeyError`] names the file and what to do.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let pem = trusted::read(path, MAX_FILE)?;
        Self::of_pem(&pem).map_err(|why| KeyError::Wrong {
            path: path.to_owned(),
            what: "trusted key",
            why,
        })
    }

    fn of_pem(pem: &[u8]) -> Result<Self, &'static str> {
        let (section, der) = only_section(pem)?;
        match section {
            SectionKind::PublicKey => Self::of_spki(&der).ok_or(NO_PUBLIC_KEY),
            SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                Err("it is a private key, which belongs to nobody but who signs: take its public \
                     half, openssl pkey -in PRIVATE -pubout")
            }
            _ => Err(NO_PUBLIC_KEY),
        }
    }

    /// A key from its SubjectPublicKeyInfo. Each has one spelling: the point of P-256 whole.
    fn of_spki(der: &[u8]) -> Option<Self> {
        if let Some(point) = der.strip_prefix(&ED25519_SPKI) {
            return (point.len() == 32).then(|| Self::new(Kind::Ed25519, point));
        }
        let point = der.strip_prefix(&P256_SPKI)?;
        (point.len() == P256_POINT && point[0] == 4).then(|| Self::new(Kind::P256, point))
    }

    fn new(kind: Kind, point: &[u8]) -> Self {
        let before: &[u8] = match kind {
            Kind::Ed25519 => &ED25519_SPKI,
            Kind::P256 => &P256_SPKI,
        };
        let id = Digest::of(&[before, point].concat()).hex().to_owned();
        Self { kind, point: point.to_vec(), id }
    }

    /// The SHA-256 of its SubjectPublicKeyInfo in DER, 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.kind {
            Kind::Ed25519 => {
                UnparsedPublicKey::new(&ED25519, &self.point).verify(message, signature)
            }
            Kind::P256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
                .verify(message, signature),
        }
        .is_ok()
    }
}

/// What a PEM file has, if it is one thing: of two keys it would not be clear which is meant.
fn only_section(pem: &[u8]) -> Result<(SectionKind, Vec<u8>), &'static str> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
    let Some(Ok(first)) = sections.next() else { return Err("there is no key in it, or no PEM") };
    match sections.next() {
        None => Ok(first),
        Some(_) => Err("there is more in it than a key: give one key only"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    /// A key pair that comes of a number.
    pub(crate) fn ed25519(seed: u8) -> SigningKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = TrustedKey::new(Kind::Ed25519, pair.public_key().as_ref());
        SigningKey { pair: Pair::Ed25519(pair), public }
    }

    pub(crate) fn p256() -> SigningKey {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        SigningKey::of_pem(pem("PRIVATE KEY", der.as_ref()).as_bytes()).unwrap()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    }

    /// RFC 8410, section 10.3, and its public key in section 10.1.
    const RFC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const RFC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn a_pair_of_the_rfc_belongs_together() {
        let private = SigningKey::of_pem(RFC_PRIVATE.as_bytes()).unwrap();
        let public = TrustedKey::of_pem(RFC_PUBLIC.as_bytes()).unwrap();
        assert_eq!(private.public(), &public);
        let signature = private.sign(b"m").unwrap();
        assert!(public.has_signed(b"m", &signature));
        assert!(!public.has_signed(b"n", &signature));
        assert!(!ed25519(1).public().has_signed(b"m", &signature));
        assert_eq!(format!("{private:?}"), format!("SigningKey({})", public.id()));
    }

    #[test]
    fn both_kinds_sign_and_neither_takes_the_others() {
        let (a, b) = (ed25519(1), p256());
        for (key, other) in [(&a, &b), (&b, &a)] {
            let signature = key.sign(b"m").unwrap();
            assert!(key.public().has_signed(b"m", &signature));
            assert!(!other.public().has_signed(b"m", &signature));
            assert!(!key.public().has_signed(b"m", &signature[1..]));
            assert!(!key.public().has_signed(b"m", b""));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        let rfc = |text: &str| text.to_owned();
        let public = [&P256_SPKI[..], &[4; 64]].concat();
        for (text, private, public) in [
            (rfc(""), "no PEM", "no PEM"),
            (rfc("garbage"), "no PEM", "no PEM"),
            (rfc("-----BEGIN PRIVATE KEY-----\nMC4CAQ"), "no PEM", "no PEM"),
            (rfc(RFC_PRIVATE), "", "is a private key"),
            (rfc(RFC_PUBLIC), "is a public key", ""),
            (rfc(RFC_PUBLIC).repeat(2), "one key only", "one key only"),
            (pem("EC PRIVATE KEY", b"x"), "pkcs8 -topk8", "is a private key"),
            (pem("PRIVATE KEY", b"x"), "Ed25519 or ECDSA", "is a private key"),
            (pem("PUBLIC KEY", b"x"), "is a public key", "Ed25519 or ECDSA"),
            (pem("PUBLIC KEY", &public), "is a public key", "Ed25519 or ECDSA"),
            (pem("CERTIFICATE", b"x"), "Ed25519 or ECDSA", "Ed25519 or ECDSA"),
        ] {
            let as_private = SigningKey::of_pem(text.as_bytes()).map(drop);
            let as_public = TrustedKey::of_pem(text.as_bytes()).map(drop);
            for (found, wanted) in [(as_private, private), (as_public, public)] {
                match found {
                    Ok(()) => assert_eq!(wanted, "", "{text}"),
                    Err(why) => {
                        assert!(!wanted.is_empty() && why.contains(wanted), "{text}: {why}")
                    }
                }
            }
        }
    }
}
