//! `Packages.db`: rpm's own database, as SUSE has it, by `lib/backend/ndb/rpmpkg.c`.
//!
//! Some pages of slots, then blobs in blocks of 16 bytes. A slot says where the blob of a number is; the
//! blob says it again before and behind its content, with a checksum. All numbers are little-endian. Other
//! than rpm when it reads, we check the checksum, and that blobs do not overlap.

use crate::Kind;
use crate::collect::Collector;
use crate::error::{HeaderError, RpmDbError};
use crate::source::{Source, le32};

/// How such a file begins.
pub(crate) const MAGIC: [u8; 4] = *b"RpmP";

/// The only version.
const VERSION: u32 = 0;
/// Bytes of a page of slots, of a slot, and of a block.
const PAGE: usize = 4096;
const SLOT: usize = 16;
const BLOCK: u64 = 16;
/// Bytes at the beginning of the first page that are the file's header instead of slots.
const HEADER: usize = 32;
/// How a slot begins.
const SLOT_MAGIC: &[u8] = b"Slot";
/// What is before a blob: how it begins, its number, the generation of the database, its length.
const HEAD: usize = 16;
const HEAD_MAGIC: &[u8] = b"BlbS";
/// What is behind it: its checksum, its length, how it ends.
const TAIL: usize = 12;
const TAIL_MAGIC: &[u8] = b"BlbE";

/// A slot that is in use.
struct Slot {
    number: u32,
    /// The first block of the blob, and how many it has.
    block: u64,
    blocks: u64,
}

pub(crate) fn read(
    mut source: Source<'_>,
    collector: &mut Collector<'_>,
) -> Result<(), RpmDbError> {
    let mut slots = slots(&mut source, collector.limits.max_packages)?;
    slots.sort_unstable_by_key(|slot| slot.number);
    if let Some(pair) = slots.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(damaged(pair[1].block * BLOCK, "two blobs have the same number"));
    }
    slots.sort_unstable_by_key(|slot| slot.block);
    if let Some(pair) = slots.windows(2).find(|pair| pair[0].block + pair[0].blocks > pair[1].block)
    {
        return Err(damaged(pair[1].block * BLOCK, "two blobs overlap"));
    }
    for slot in &slots {
        let number = Some(i64::from(slot.number));
        let length = slot.blocks * BLOCK;
        let most = (collector.limits.max_blob as u64).saturating_add((HEAD + TAIL) as u64 + BLOCK);
        if length > most {
            collector.damaged(number, HeaderError::TooLarge(length))?;
            continue;
        }
        let bytes = source.bytes(slot.block * BLOCK, length as usize)?;
        match blob(&bytes, slot)? {
            Some(blob) => collector.header(number, blob)?,
            None => collector.damaged(number, HeaderError::Checksum)?,
        }
    }
    Ok(())
}

fn damaged(offset: u64, what: &'static str) -> RpmDbError {
    RpmDbError::Damaged { kind: Kind::Ndb, offset, what }
}

/// The slots that are in use.
fn slots(source: &mut Source<'_>, max_packages: usize) -> Result<Vec<Slot>, RpmDbError> {
    let header = source.bytes(0, HEADER)?;
    if le32(&header, 4) != Some(VERSION) {
        return Err(RpmDbError::Unsupported { kind: Kind::Ndb, what: "another version" });
    }
    if !source.length().is_multiple_of(BLOCK) {
        return Err(damaged(source.length() / BLOCK * BLOCK, "its last block is not whole"));
    }
    let blocks = source.length() / BLOCK;
    let pages = u64::from(le32(&header, 12).unwrap_or(0));
    let first = pages * (PAGE as u64 / BLOCK);
    let mut slots = Vec::new();
    let mut bytes = [0; PAGE];
    for page in 0..pages {
        let offset = page * PAGE as u64;
        source.fill(offset, &mut bytes)?;
        let begin = if page == 0 { HEADER } else { 0 };
        for slot in bytes[begin..].chunks_exact(SLOT) {
            if !slot.starts_with(SLOT_MAGIC) {
                return Err(damaged(offset, "a slot has no beginning"));
            }
            let [number, block, count] = [4, 8, 12].map(|at| le32(slot, at).unwrap_or(0));
            if block == 0 {
                continue;
            }
            let slot = Slot { number, block: block.into(), blocks: count.into() };
            if number == 0 || count == 0 || slot.block < first {
                return Err(damaged(offset, "a slot is of no blob"));
            }
            if slot.block + slot.blocks > blocks {
                return Err(RpmDbError::Ends((slot.block + slot.blocks) * BLOCK));
            }
            slots.push(slot);
            if slots.len() > max_packages {
                return Err(RpmDbError::Limit { what: "entries", limit: max_packages as u64 });
            }
        }
    }
    Ok(slots)
}

/// The content of a blob, or nothing if its checksum is wrong.
fn blob<'a>(bytes: &'a [u8], slot: &Slot) -> Result<Option<&'a [u8]>, RpmDbError> {
    let wrong = damaged(slot.block * BLOCK, "a blob is not what its slot says");
    let Some((head, tail)) = bytes.len().checked_sub(TAIL).map(|at| bytes.split_at(at)) else {
        return Err(wrong);
    };
    let length = le32(head, 12).unwrap_or(0);
    let content = HEAD.checked_add(length as usize).and_then(|end| head.get(HEAD..end));
    // Between the content and the tail are zeros up to the end of a block, and never a whole one.
    let content = content.filter(|content| head.len() - HEAD - content.len() < BLOCK as usize);
    match content {
        Some(content)
            if head.starts_with(HEAD_MAGIC)
                && le32(head, 4) == Some(slot.number)
                && le32(tail, 4) == Some(length)
                && tail.ends_with(TAIL_MAGIC) =>
        {
            Ok((le32(tail, 0) == Some(adler32(head))).then_some(content))
        }
        _ => Err(wrong),
    }
}

/// Adler-32, by RFC 1950.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let (mut a, mut b) = (1, 0);
    // So many can be added before the sums could be too large.
    for bytes in bytes.chunks(5552) {
        for byte in bytes {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % MODULUS, b % MODULUS);
    }
    b << 16 | a
}
