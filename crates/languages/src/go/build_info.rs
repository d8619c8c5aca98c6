//! What the linker of Go writes into binaries (golang/go `src/debug/buildinfo`).
//!
//! In the section `.go.buildinfo` stand 16 bytes: a mark, the size of a pointer, and flags. Since Go
//! 1.18 two texts with their lengths follow at byte 32: the version of Go and the modules. Before,
//! two pointers follow, each to a text's own pointer and length.
//!
//! A binary without a table of sections is searched in its writable segments, as Go's own tool does;
//! one with a table and without the section was not made by Go.

use super::{modules, stdlib_version};
use crate::elf::{Elf, Numbers, Place};
use crate::input::Input;
use crate::{Found, Kind, LanguageError};

const SECTION: &str = ".go.buildinfo";
const MARK: &[u8] = b"\xff Go buildinf:";
/// Where the mark may begin: at addresses that are divisible by this.
const ALIGNMENT: usize = 16;
/// Where the texts begin.
const TEXTS: usize = 32;
/// Most bytes of build information; the largest that are known have some 100 kB.
const MAX_INFO: u64 = 4 << 20;
/// Most bytes of segments that are searched.
const MAX_SEARCH: u64 = 64 << 20;
const CHUNK: u64 = 1 << 20;
/// Set if numbers are big-endian.
const BIG: u8 = 1;
/// Set if the texts follow.
const INLINE: u8 = 2;

const DAMAGED: LanguageError = LanguageError::Damaged("its build information of Go");

/// Reads the modules of a binary of Go; of others nothing.
pub(crate) fn binary(elf: &Elf, input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let Some(place) = find(elf, input)? else { return Ok(()) };
    let (version, modules) = texts(elf, input, place)?;
    if let Some(version) = stdlib_version(&text(version)?) {
        found.add_if_valid(Kind::Go, "stdlib", &version, false)?;
    }
    modules::read(&text(without_sentinels(modules))?, found)
}

/// Where the build information is.
fn find(elf: &Elf, input: &mut Input) -> Result<Option<Place>, LanguageError> {
    if let Some(section) = elf.section(SECTION) {
        return search(input, section, 0, &mut MAX_INFO.clone());
    }
    if elf.has_sections() {
        return Ok(None);
    }
    let mut budget = MAX_SEARCH;
    for segment in elf.segments.iter().filter(|segment| segment.is_writable) {
        if let Some(place) = search(input, segment.place, segment.address, &mut budget)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Looks for the mark in a part of the file that begins at an address.
fn search(
    input: &mut Input,
    part: Place,
    address: u64,
    budget: &mut u64,
) -> Result<Option<Place>, LanguageError> {
    let alignment = ALIGNMENT as u64;
    let skipped = (alignment - address % alignment) % alignment;
    let (mut offset, mut left) =
        (part.offset.saturating_add(skipped), part.size.saturating_sub(skipped));
    while left > 0 && *budget > 0 {
        let bytes = input.at(offset, CHUNK.min(left))?;
        let is_mark = |candidate: &[u8]| candidate.starts_with(MARK);
        if let Some(index) = bytes.chunks(ALIGNMENT).position(is_mark) {
            let from = (index as u64).saturating_mul(alignment);
            let (offset, size) = (offset.saturating_add(from), left.saturating_sub(from));
            return Ok(Some(Place { offset, size: size.min(MAX_INFO) }));
        }
        let length = bytes.len() as u64;
        if length < CHUNK {
            break;
        }
        offset = offset.saturating_add(length);
        left = left.saturating_sub(length);
        *budget = budget.saturating_sub(length);
    }
    Ok(None)
}

/// The version of Go and the modules.
fn texts(elf: &Elf, input: &mut Input, place: Place) -> Result<(Vec<u8>, Vec<u8>), LanguageError> {
    let info = input.at(place.offset, place.size)?;
    let (Some(width), Some(flags)) = (info.get(14), info.get(15)) else { return Err(DAMAGED) };
    if flags & INLINE != 0 {
        let (version, rest) = info.get(TEXTS..).and_then(counted).ok_or(DAMAGED)?;
        let (modules, _) = counted(rest).ok_or(DAMAGED)?;
        return Ok((version.to_vec(), modules.to_vec()));
    }
    let is_64 = match width {
        4 => false,
        8 => true,
        _ => return Err(DAMAGED),
    };
    let numbers = Numbers { is_big: flags & BIG != 0, is_64 };
    let mut pointed = |index: usize| {
        let address = numbers.word(&info, ALIGNMENT + index * numbers.width()).ok_or(DAMAGED)?;
        pointed_text(elf, input, numbers, address)
    };
    Ok((pointed(0)?, pointed(1)?))
}

/// The text whose pointer and length stand at an address. Binaries without modules have none.
fn pointed_text(
    elf: &Elf,
    input: &mut Input,
    numbers: Numbers,
    address: u64,
) -> Result<Vec<u8>, LanguageError> {
    let Some(header) = elf.place_of(address) else { return Ok(Vec::new()) };
    let header = input.at(header.offset, header.size.min(16))?;
    let address = numbers.word(&header, 0).ok_or(DAMAGED)?;
    let length = numbers.word(&header, numbers.width()).ok_or(DAMAGED)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let place = elf.place_of(address).ok_or(DAMAGED)?;
    if length > place.size || length > MAX_INFO {
        return Err(DAMAGED);
    }
    input.at(place.offset, length)
}

/// A text with its length before it (as `encoding/binary.Uvarint` has it), and what follows.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f).checked_shl(u32::try_from(index).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return bytes.get(index + 1..)?.split_at_checked(length);
        }
    }
    None
}

/// The modules stand between two marks of 16 bytes each.
fn without_sentinels(modules: Vec<u8>) -> Vec<u8> {
    match modules.len().checked_sub(17).and_then(|end| modules.get(end)) {
        Some(b'\n') => modules.get(16..modules.len() - 16).unwrap_or_default().to_vec(),
        _ => Vec::new(),
    }
}

fn text(bytes: Vec<u8>) -> Result<String, LanguageError> {
    String::from_utf8(bytes).map_err(|_| DAMAGED)
}
