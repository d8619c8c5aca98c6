//! Entry points for fuzzers: what must hold for each file of a verdict, where types are private.

use crate::frame::{self, Part};
use crate::record::{self, Entry};
use crate::{Damage, Detail};

/// Reads the file of a verdict, and what was accepted once more from what is written of it.
///
/// # Errors
/// What is wrong with the file.
pub fn file(bytes: &[u8]) -> Result<(), Damage> {
    let decision = read(bytes, Detail::Decision);
    let full = read(bytes, Detail::Full)?;
    let decision = decision?;
    let sections = record::encode(&full).and_then(|sections| frame::seal(&sections));
    let written = sections.expect("what was read can be written");
    assert_eq!(read(&written, Detail::Full).as_ref(), Ok(&full));
    assert_eq!(read(&written, Detail::Decision).as_ref(), Ok(&decision));
    assert_eq!(untitled(full), untitled(decision), "a start reads something else");
    Ok(())
}

/// The same for three sections, each but the last behind its length in two bytes (little endian),
/// in a frame that has the right checksums.
///
/// # Errors
/// What is wrong with the sections.
pub fn sections(bytes: &[u8]) -> Result<(), Damage> {
    let mut rest = bytes;
    let mut next = || {
        let (length, behind) = rest.split_first_chunk().unwrap_or((&[0; 2], &[]));
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (section, behind) = behind.split_at(length);
        rest = behind;
        section.to_vec()
    };
    let sections = [next(), next(), rest.to_vec()];
    file(&frame::seal(&sections).expect("sections of an input are small"))
}

/// The sections of a file in the form that [`sections`] takes, for seeds; `None` if they are too
/// long for it, or it is no file of the current format.
pub fn unframed(file: &[u8]) -> Option<Vec<u8>> {
    let frame::Body::Second(parts) = frame::open(file, file.len() as u64, Part::Rest).ok()? else {
        return None;
    };
    let [head, findings, rest] = parts;
    let mut out = Vec::new();
    for section in [head, findings] {
        out.extend(u16::try_from(section.len()).ok()?.to_le_bytes());
        out.extend(section);
    }
    out.extend(rest);
    Some(out)
}

/// As a store reads it.
fn read(bytes: &[u8], detail: Detail) -> Result<Entry, Damage> {
    let part = record::part(detail);
    let wanted = frame::wanted(&bytes[..bytes.len().min(frame::HEADER)], part);
    let start = bytes.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
    let body = frame::open(&bytes[..start], bytes.len() as u64, part)?;
    record::decode(body, detail)
}

fn untitled(entry: Entry) -> portcullis_types::Verdict {
    let mut entry = entry;
    entry.annotate(&|finding| finding.title.take().is_some());
    entry.verdict
}
