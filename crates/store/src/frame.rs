//! The frame around a verdict's body, by which damage is noticed before anything is decoded.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | `PCVR` |
//! | 4 | version of the format |
//! | 5..9 | length of the body, little endian |
//! | 9..13 | CRC-32 (IEEE 802.3) of bytes 0..9 and the body, little endian |
//! | 13.. | the body |
//!
//! The checksum is for accidents; whoever may write the folder may write the checksum as well. A
//! CRC finds each single flipped bit and each burst of up to 32 for certain, and takes a few
//! microseconds for 2,000 findings; a cryptographic hash would take many times that and add no
//! safety here.

use crate::Damage;

/// Version of the format that is written, and the only one that is read.
pub(crate) const VERSION: u8 = 1;

/// Largest file, in bytes, that is written or read.
pub(crate) const MAX_FILE: u64 = 64 << 20;

const MAGIC: [u8; 4] = *b"PCVR";
const HEADER: usize = 13;

fn checksum(prefix: &[u8], body: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(prefix);
    crc.update(body);
    crc.finalize().to_le_bytes()
}

/// Puts the frame around a body. `None` if the file would be larger than [`MAX_FILE`].
pub(crate) fn seal(body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok()?;
    if (HEADER + body.len()) as u64 > MAX_FILE {
        return None;
    }
    let mut file = Vec::with_capacity(HEADER + body.len());
    file.extend(MAGIC);
    file.push(VERSION);
    file.extend(length.to_le_bytes());
    file.extend(checksum(&file, body));
    file.extend(body);
    Some(file)
}

/// The body within a frame, if not a bit is wrong.
pub(crate) fn open(file: &[u8]) -> Result<&[u8], Damage> {
    let (header, body) = file.split_first_chunk::<HEADER>().ok_or(Damage::Short(file.len()))?;
    let [m0, m1, m2, m3, version, l0, l1, l2, l3, sum @ ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Damage::Foreign);
    }
    if version != VERSION {
        return Err(Damage::Version { found: version });
    }
    let wanted = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    let found = body.len() as u64;
    if wanted != found {
        return Err(Damage::Length { wanted, found });
    }
    if sum != checksum(&header[..9], body) {
        return Err(Damage::Checksum);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens() {
        let file = seal(b"body").unwrap();
        assert_eq!(open(&file).unwrap(), b"body");
    }

    #[test]
    fn what_is_too_large_is_not_sealed() {
        assert!(seal(&vec![0; 64 << 20]).is_none());
    }

    #[test]
    fn a_frame_says_what_is_wrong() {
        let file = seal(b"body").unwrap();
        assert_eq!(open(&file[..7]), Err(Damage::Short(7)));
        let damage = |at: usize| {
            let mut file = file.clone();
            file[at] ^= 2;
            open(&file).unwrap_err()
        };
        assert_eq!(damage(0), Damage::Foreign);
        assert_eq!(damage(4), Damage::Version { found: 3 });
        assert_eq!(damage(5), Damage::Length { wanted: 6, found: 4 });
        assert_eq!(damage(14), Damage::Checksum);
    }
}
