//! From an identity to what the store knows about it.

use std::collections::BTreeMap;

use portcullis_store::{Detail, StoreError, VerdictStore};
use portcullis_types::{Digest, Evidence, Failure, Identity, Lookup, Verdict, with_causes};

/// Looks an image up by its config, and by its chain ID where the config says nothing.
///
/// With a config that is known, its own verdict counts; if there is none, what is known of other
/// images with the same layers counts, since those are the same bytes. With a chain ID alone the
/// findings of all images that share it are united. A damaged verdict is a failure and hides none
/// of the others.
pub(crate) fn lookup(store: &dyn VerdictStore, identity: &Identity) -> Evidence {
    let mut found: BTreeMap<Digest, Verdict> = BTreeMap::new();
    let mut failures = Vec::new();
    if let Some(config) = &identity.config {
        match store.by_config(config, Detail::Decision) {
            Ok(Some(verdict)) => {
                found.insert(config.clone(), verdict);
            }
            Ok(None) => {}
            Err(error) => failures.push(failure(&error)),
        }
    }
    if found.is_empty()
        && failures.is_empty()
        && let Some(chain) = &identity.chain_id
    {
        match store.by_chain(chain, Detail::Decision) {
            Ok(verdicts) => {
                for verdict in verdicts {
                    match verdict {
                        Ok(verdict) => {
                            found.insert(verdict.image.config.clone(), verdict);
                        }
                        Err(error) => failures.push(failure(&error)),
                    }
                }
            }
            Err(error) => failures.push(failure(&error)),
        }
    }
    let nothing_to_ask = identity.config.is_none() && identity.chain_id.is_none();
    let lookup = match nothing_to_ask {
        true => Lookup::NotRead,
        false => Lookup::Read(found.into_values().collect()),
    };
    Evidence { failures, ..Evidence::of(lookup) }
}

fn failure(error: &StoreError) -> Failure {
    Failure::new(error.cause(), with_causes(error))
}
