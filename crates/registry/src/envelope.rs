//! Signed envelopes: DSSE 1.0 (secure-systems-lab/dsse, `envelope.md` and `protocol.md`).
//!
//! What is signed is the payload with its type, byte by byte, so that nothing is parsed before it is
//! believed. `keyid` must be there, and chooses the key: with it each signature costs one look.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::document::told;
use crate::keys::{KeyError, SigningKey, TrustedKey};

/// The type of the payload: an in-toto statement.
pub const PAYLOAD: &str = "application/vnd.in-toto+json";

/// Most signatures that are looked at.
const MAX_SIGNATURES: usize = 8;

/// Why some bytes are no envelope.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not JSON of the right form.
    #[error("it is no DSSE envelope: {0}")]
    Json(String),
    /// What should be base64 is none.
    #[error("its {0} is not base64")]
    Base64(&'static str, #[source] base64::DecodeError),
    /// It holds something else.
    #[error("its payload is of another type than {PAYLOAD}")]
    Type,
    /// More signatures than anybody needs.
    #[error("it has more than {MAX_SIGNATURES} signatures")]
    Signatures,
}

/// Why what an envelope holds is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotBelieved {
    /// Nobody signed it.
    #[error("nobody signed it")]
    Unsigned,
    /// Others signed it.
    #[error("it is signed by keys that are not trusted here ({0})")]
    Unknown(String),
    /// A key that is trusted did not sign this.
    #[error("the signature of the key {0} does not fit: it was changed after it was signed")]
    Changed(String),
}

/// An envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    /// Each with the id of its key.
    signatures: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    payload_type: String,
    payload: String,
    signatures: Vec<RawSignature>,
}

#[derive(Serialize, Deserialize)]
struct RawSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Puts a payload into an envelope, and signs it if there is a key.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn seal(payload: Vec<u8>, key: Option<&SigningKey>) -> Result<Self, KeyError> {
        let mut signatures = Vec::new();
        if let Some(key) = key {
            signatures.push((key.public().id().to_owned(), key.sign(&signed(&payload))?));
        }
        Ok(Self { payload, signatures })
    }

    /// The bytes of it.
    pub fn to_json(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(|(keyid, sig)| RawSignature {
            keyid: keyid.clone(),
            sig: BASE64_STANDARD.encode(sig),
        });
        let raw = Raw {
            payload_type: PAYLOAD.to_owned(),
            payload: BASE64_STANDARD.encode(&self.payload),
            signatures: signatures.collect(),
        };
        // Texts alone, which are always JSON.
        serde_json::to_vec(&raw).unwrap_or_default()
    }

    /// Reads one. Nothing of it is believed yet.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn read(json: &[u8]) -> Result<Self, EnvelopeError> {
        let raw: Raw = serde_json::from_slice(json).map_err(|e| EnvelopeError::Json(told(&e)))?;
        if raw.payload_type != PAYLOAD {
            return Err(EnvelopeError::Type);
        }
        if raw.signatures.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::Signatures);
        }
        let decoded = |what, text: &str| {
            BASE64_STANDARD.decode(text).map_err(|error| EnvelopeError::Base64(what, error))
        };
        let signatures = raw.signatures.into_iter();
        let signatures: Result<_, EnvelopeError> =
            signatures.map(|s| Ok((s.keyid, decoded("signature", &s.sig)?))).collect();
        Ok(Self { payload: decoded("payload", &raw.payload)?, signatures: signatures? })
    }

    /// The payload, and which of these keys signed it.
    ///
    /// # Errors
    /// [`NotBelieved`]: none of them did.
    pub fn opened_by<'k>(
        &self,
        trusted: &'k [TrustedKey],
    ) -> Result<(&[u8], &'k TrustedKey), NotBelieved> {
        if self.signatures.is_empty() {
            return Err(NotBelieved::Unsigned);
        }
        let message = signed(&self.payload);
        let mut changed = None;
        for (id, signature) in &self.signatures {
            let Some(key) = trusted.iter().find(|key| key.id() == id) else { continue };
            if key.has_signed(&message, signature) {
                return Ok((&self.payload, key));
            }
            changed = Some(key.id().to_owned());
        }
        Err(match changed {
            Some(key) => NotBelieved::Changed(key),
            None => {
                let ids = self.signatures.iter().map(|(id, _)| match id.as_str() {
                    "" => "one without a name".to_owned(),
                    id => id.chars().take(64).flat_map(char::escape_default).collect(),
                });
                NotBelieved::Unknown(ids.collect::<Vec<_>>().join(", "))
            }
        })
    }

    /// The payload, whoever wrote it.
    pub fn unchecked(&self) -> &[u8] {
        &self.payload
    }
}

/// `PAE(type, body) = "DSSEv1" + SP + LEN(type) + SP + type + SP + LEN(body) + SP + body`.
fn signed(payload: &[u8]) -> Vec<u8> {
    let before = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
    [before.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::{ed25519, p256};

    fn trusted(key: &SigningKey) -> Vec<TrustedKey> {
        vec![ed25519(200).public().clone(), key.public().clone()]
    }

    #[test]
    fn what_is_signed_is_what_the_specification_says() {
        let wanted = b"DSSEv1 28 application/vnd.in-toto+json 11 hello world";
        assert_eq!(signed(b"hello world"), wanted);
    }

    #[test]
    fn a_signed_envelope_is_opened_by_its_key_alone() {
        for key in [ed25519(1), p256()] {
            let envelope = Envelope::seal(b"payload".to_vec(), Some(&key)).unwrap();
            let read = Envelope::read(&envelope.to_json()).unwrap();
            assert_eq!(read, envelope);
            let keys = trusted(&key);
            let (payload, by) = read.opened_by(&keys).unwrap();
            assert_eq!((payload, by.id()), (&b"payload"[..], key.public().id()));
            let other = ed25519(2);
            let refused = read.opened_by(std::slice::from_ref(other.public())).unwrap_err();
            assert_eq!(refused, NotBelieved::Unknown(key.public().id().to_owned()));
            assert!(matches!(read.opened_by(&[]), Err(NotBelieved::Unknown(_))));
        }
    }

    #[test]
    fn what_was_changed_or_never_signed_is_not_opened() {
        let key = ed25519(1);
        let keys = trusted(&key);
        let good = Envelope::seal(b"payload".to_vec(), Some(&key)).unwrap();
        let changed = |change: &dyn Fn(&mut Envelope)| {
            let mut envelope = good.clone();
            change(&mut envelope);
            Envelope::read(&envelope.to_json()).unwrap().opened_by(&keys).map(drop).unwrap_err()
        };
        let is_changed = NotBelieved::Changed(key.public().id().to_owned());
        assert_eq!(changed(&|e| e.payload[0] ^= 1), is_changed);
        assert_eq!(changed(&|e| e.payload.push(b' ')), is_changed);
        assert_eq!(changed(&|e| e.signatures[0].1[5] ^= 1), is_changed);
        assert_eq!(changed(&|e| e.signatures[0].1.clear()), is_changed);
        assert_eq!(changed(&|e| e.signatures.clear()), NotBelieved::Unsigned);
        // A signature without the id of its key would have to be tried with each.
        let nameless = changed(&|e| e.signatures[0].0.clear());
        assert_eq!(nameless, NotBelieved::Unknown("one without a name".to_owned()));
        // Another's id on one's own signature.
        let other = ed25519(200);
        assert_eq!(
            changed(&|e| e.signatures[0].0 = other.public().id().to_owned()),
            NotBelieved::Changed(other.public().id().to_owned())
        );
        // One good signature among others is enough.
        let mut more = good.clone();
        more.signatures.insert(0, ("unknown".to_owned(), vec![1; 64]));
        more.signatures.insert(0, (key.public().id().to_owned(), vec![1; 64]));
        more.opened_by(&keys).unwrap();
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let of = |text: &str| Envelope::read(text.as_bytes()).unwrap_err();
        let many = r#"{"keyid":"a","sig":""},"#.repeat(9);
        for (text, wanted) in [
            ("", "no DSSE"),
            ("[]", "no DSSE"),
            (r#"{"payload":"","signatures":[]}"#, "no DSSE"),
            (r#"{"payloadType":"text/plain","payload":"","signatures":[]}"#, "another type"),
            (
                r#"{"payloadType":"application/vnd.in-toto+json","payload":"*","signatures":[]}"#,
                "payload is not base64",
            ),
            (
                r#"{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[{"sig":"*"}]}"#,
                "signature is not base64",
            ),
            (
                &format!(
                    r#"{{"payloadType":"{PAYLOAD}","payload":"","signatures":[{}]}}"#,
                    many.trim_end_matches(',')
                ),
                "more than 8",
            ),
        ] {
            let error = of(text).to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
