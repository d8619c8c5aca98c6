//! Files of the verdict store.

use crate::text::told;

/// The file of a verdict.
///
/// The bytes are read as a file, and as the sections of one that has the right checksums.
/// Accepted: what is written anew is read as the same verdict, and a start reads the same of it as
/// a person, but for the titles.
pub fn verdict(data: &[u8]) -> bool {
    let read = [portcullis_store::fuzzing::file(data), portcullis_store::fuzzing::sections(data)];
    read.into_iter().fold(false, |accepted, read| match read {
        Ok(()) => true,
        Err(damage) => {
            told(&damage);
            accepted
        }
    })
}
