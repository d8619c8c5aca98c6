//! Verdicts that are pulled from a registry.

use portcullis_registry::{Envelope, Statement, fuzzing};
use portcullis_types::{Digest, Timestamp};

use crate::text::told;

const MEDIA_TYPES: [&str; 3] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", ""];

/// An answer of a registry, an envelope, or a statement, about the image with the manifest
/// `sha256:0101…` and the configuration `sha256:0202…`.
///
/// An envelope is read as it is written, and opened by nobody without a key. An accepted statement is
/// about this image, from no day to come, and the same when it is written anew.
pub fn shared_verdict(data: &[u8]) -> bool {
    let [manifest, config] = [1, 2].map(|n| Digest::sha256([n; 32]));
    let documents = MEDIA_TYPES.map(|of| fuzzing::documents(data, of, &manifest));
    let mut accepted = documents.contains(&true);
    let mut payloads = vec![data.to_vec()];
    match Envelope::read(data) {
        Ok(envelope) => {
            assert_eq!(Envelope::read(&envelope.to_json()).ok().as_ref(), Some(&envelope));
            assert!(envelope.opened_by(&[]).is_err(), "nobody is trusted, and it is opened");
            payloads.push(envelope.unchecked().to_vec());
            accepted = true;
        }
        Err(error) => told(&error),
    }
    // A day of November 2026.
    let Ok(now) = Timestamp::from_second(1_794_000_000) else { return accepted };
    for payload in payloads {
        match Statement::read(&payload, &manifest, &config, now) {
            Ok(statement) => {
                assert_eq!((&statement.manifest, &statement.config), (&manifest, &config));
                for report in &statement.reports {
                    assert!(report.scanned_at <= now && report.imported_at == now);
                    assert!(report.findings.iter().all(|found| found.class.is_scanned()));
                    assert!(report.findings.is_sorted_by(|a, b| a.key() < b.key()));
                }
                let again = statement.to_json().map(|json| {
                    Statement::read(&json, &manifest, &config, now).map_err(|error| told(&error))
                });
                assert_eq!(again.ok(), Some(Ok(statement)));
                accepted = true;
            }
            Err(error) => told(&error),
        }
    }
    accepted
}
