//! Images that were scanned before, judged by what is known now. No layer is read.

use portcullis_osv::database::DatabaseError;
use portcullis_types::{ImageFacts, ScanReport, Timestamp};

use crate::{Kept, KeptImage, Node, ScanError, again};

/// Why an image cannot be judged anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RematchError {
    /// What is kept of it.
    #[error(transparent)]
    Kept(#[from] ScanError),
    /// The advisories cannot be asked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a node that knows this says of a kept image; `None` if one of its layers is not kept any
/// more, or it never had a configuration: then it has to be scanned.
///
/// # Errors
/// [`RematchError`].
pub fn rematch(
    kept: &Kept,
    image: &KeptImage,
    node: &Node,
    now: Timestamp,
) -> Result<Option<(ImageFacts, ScanReport)>, RematchError> {
    let Some(facts) = image.image.facts() else { return Ok(None) };
    let Some(scanned) = again(kept, image)? else { return Ok(None) };
    Ok(Some((facts, node.report(&scanned, image.wishes, now)?)))
}
