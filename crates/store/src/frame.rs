//! The frame around a verdict's sections, by which damage is noticed before anything is decoded.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | `PCVR` |
//! | 4 | version of the format: 2 |
//! | 5..17 | length of each of three sections, little endian |
//! | 17..29 | of each section, CRC-32 (IEEE 802.3) of bytes 0..17 and the section, little endian |
//! | 29.. | the sections |
//!
//! Each section has its own checksum, so that a reader that needs the first ones reads no more.
//! Format 1 had one section: its length in 5..9, its checksum (with bytes 0..9) in 9..13.
//!
//! The checksum is for accidents; whoever may write the folder may write the checksum as well. A
//! CRC finds each single flipped bit and each burst of up to 32 for certain, and takes a few
//! microseconds for 2,000 findings; a cryptographic hash would take many times that and add no
//! safety here.

use crate::Damage;

/// Version of the format that is written. The one before is read too.
pub(crate) const VERSION: u8 = 2;
/// Version of the oldest format that is read.
pub(crate) const OLDEST: u8 = 1;

/// Largest file, in bytes, that is written or read.
pub(crate) const MAX_FILE: u64 = 64 << 20;

/// Size of the header, from which [`wanted`] tells how much to read.
pub(crate) const HEADER: usize = LENGTHS_END + 12;

const MAGIC: [u8; 4] = *b"PCVR";
const PREFIX: usize = 5;
const LENGTHS_END: usize = PREFIX + 12;
/// Size of the header of format 1.
const OLD_HEADER: usize = 13;
const OLD_LENGTH_END: usize = 9;

/// A part of a file. Whoever reads one reads those before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// What a list shows.
    Head,
    /// What a decision needs.
    Findings,
    /// All else.
    Rest,
}

impl Part {
    const ALL: [Self; 3] = [Self::Head, Self::Findings, Self::Rest];
}

/// What stands in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// Format 1.
    First(&'a [u8]),
    /// Format 2; sections that were not read are empty.
    Second([&'a [u8]; 3]),
}

fn checksum(prefix: &[u8], section: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(prefix);
    crc.update(section);
    crc.finalize().to_le_bytes()
}

/// Puts the frame around sections. `None` if the file would be larger than [`MAX_FILE`].
pub(crate) fn seal(sections: &[Vec<u8>; 3]) -> Option<Vec<u8>> {
    let size = HEADER + sections.iter().map(Vec::len).sum::<usize>();
    if size as u64 > MAX_FILE {
        return None;
    }
    let mut file = Vec::with_capacity(size);
    file.extend(MAGIC);
    file.push(VERSION);
    for section in sections {
        file.extend(u32::try_from(section.len()).ok()?.to_le_bytes());
    }
    for section in sections {
        file.extend(checksum(&file[..LENGTHS_END], section));
    }
    sections.iter().for_each(|section| file.extend(section));
    Some(file)
}

/// How many bytes of a file hold it up to this part, as its first [`HEADER`] bytes say. What they
/// say is not checked here, and may be more than the file has.
pub(crate) fn wanted(start: &[u8], last: Part) -> u64 {
    match start.first_chunk() {
        Some(header) if header[4] == VERSION && last < Part::Rest => {
            let lengths = Part::ALL.into_iter().zip(lengths(header));
            let lengths = lengths.filter(|(part, _)| *part <= last).map(|(_, length)| length);
            HEADER as u64 + lengths.sum::<u64>()
        }
        _ => u64::MAX,
    }
}

/// The sections up to `last` of a file that has `size` bytes, of which `start` holds as many as
/// [`wanted`] says, if not a bit of these is wrong.
pub(crate) fn open(start: &[u8], size: u64, last: Part) -> Result<Body<'_>, Damage> {
    let (prefix, _) = start.split_first_chunk::<PREFIX>().ok_or(Damage::Short(start.len()))?;
    let [magic @ .., version] = *prefix;
    if magic != MAGIC {
        return Err(Damage::Foreign);
    }
    match version {
        OLDEST => open_old(start),
        VERSION => open_new(start, size, last),
        found => Err(Damage::Version { found }),
    }
}

fn open_new(start: &[u8], size: u64, last: Part) -> Result<Body<'_>, Damage> {
    let (header, mut body) =
        start.split_first_chunk::<HEADER>().ok_or(Damage::Short(start.len()))?;
    let lengths = lengths(header);
    let (wanted, found) = (lengths.iter().sum(), size - HEADER as u64);
    if wanted != found {
        return Err(Damage::Length { wanted, found });
    }
    let (sums, _) = header[LENGTHS_END..].as_chunks::<4>();
    let mut sections = [&[][..]; 3];
    for (place, part) in Part::ALL.into_iter().enumerate().filter(|(_, part)| *part <= last) {
        let (section, rest) = body
            .split_at_checked(lengths[place] as usize)
            .ok_or(Damage::Length { wanted, found: body.len() as u64 })?;
        if sums[place] != checksum(&header[..LENGTHS_END], section) {
            return Err(Damage::Checksum);
        }
        sections[part as usize] = section;
        body = rest;
    }
    Ok(Body::Second(sections))
}

fn lengths(header: &[u8; HEADER]) -> [u64; 3] {
    let (lengths, _) = header[PREFIX..LENGTHS_END].as_chunks::<4>();
    std::array::from_fn(|place| u64::from(u32::from_le_bytes(lengths[place])))
}

fn open_old(file: &[u8]) -> Result<Body<'_>, Damage> {
    let (header, body) = file.split_first_chunk::<OLD_HEADER>().ok_or(Damage::Short(file.len()))?;
    let [.., l0, l1, l2, l3, s0, s1, s2, s3] = *header;
    let wanted = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    let found = body.len() as u64;
    if wanted != found {
        return Err(Damage::Length { wanted, found });
    }
    if [s0, s1, s2, s3] != checksum(&header[..OLD_LENGTH_END], body) {
        return Err(Damage::Checksum);
    }
    Ok(Body::First(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections() -> [Vec<u8>; 3] {
        ["head", "findings", "all else"].map(|text| text.as_bytes().to_vec())
    }

    fn whole(file: &[u8]) -> Result<Body<'_>, Damage> {
        open(file, file.len() as u64, Part::Rest)
    }

    #[test]
    fn what_was_sealed_opens() {
        let file = seal(&sections()).unwrap();
        let read = [&b"head"[..], b"findings", b"all else"];
        for (last, wanted_size) in [(Part::Head, 33), (Part::Findings, 41), (Part::Rest, 49)] {
            let size = wanted(&file[..HEADER], last).min(file.len() as u64);
            assert_eq!(size, wanted_size, "{last:?}");
            let mut sections = [&[][..]; 3];
            sections[..=last as usize].copy_from_slice(&read[..=last as usize]);
            let opened = open(&file[..size as usize], file.len() as u64, last);
            assert_eq!(opened, Ok(Body::Second(sections)), "{last:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_sealed() {
        assert!(seal(&[vec![0; 64 << 20], Vec::new(), Vec::new()]).is_none());
    }

    #[test]
    fn a_frame_says_what_is_wrong() {
        let file = seal(&sections()).unwrap();
        assert_eq!(whole(&file[..3]), Err(Damage::Short(3)));
        assert_eq!(whole(&file[..7]), Err(Damage::Short(7)));
        let damage = |at: usize| {
            let mut file = file.clone();
            file[at] ^= 4;
            whole(&file).unwrap_err()
        };
        assert_eq!(damage(0), Damage::Foreign);
        assert_eq!(damage(4), Damage::Version { found: 6 });
        assert_eq!(damage(9), Damage::Length { wanted: 24, found: 20 });
        for at in [17, 21, 25, 30, 34, 45] {
            assert_eq!(damage(at), Damage::Checksum, "byte {at}");
        }
    }
}
