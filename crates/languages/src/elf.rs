//! The tables of an ELF file (gABI 4.2), as far as finding a section and an address needs.
//!
//! Files may be huge: only the headers, the two tables and the names of the sections are read. A file
//! whose section table is missing or broken still runs, since the kernel looks at segments alone; so
//! it is read without sections then.

use crate::LanguageError;
use crate::input::Input;

/// Most entries of a table that are read.
const MAX_ENTRIES: u64 = 16_384;
/// Most bytes of the names of sections.
const MAX_NAMES: u64 = 1 << 20;
/// A segment that is loaded.
const PT_LOAD: u32 = 1;
/// A section without bytes in the file.
const SHT_NOBITS: u32 = 8;
/// A section whose bytes are compressed.
const SHF_COMPRESSED: u64 = 1 << 11;

/// The tables of a file.
pub(crate) struct Elf {
    sections: Vec<Section>,
    /// Segments that are loaded.
    pub(crate) segments: Vec<Segment>,
}

struct Section {
    name: Vec<u8>,
    place: Place,
}

/// Bytes of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// A part of the file that is loaded.
pub(crate) struct Segment {
    pub(crate) place: Place,
    pub(crate) address: u64,
    pub(crate) is_writable: bool,
}

impl Elf {
    /// Reads the tables; `None` if it is no ELF file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn open(input: &mut Input) -> Result<Option<Self>, LanguageError> {
        let head = input.at(0, 64)?;
        let Some(header) = Header::read(&head) else { return Ok(None) };
        let segments = header.segments(input)?;
        let sections = header.sections(input)?;
        Ok(Some(Self { sections, segments }))
    }

    /// Whether there is a table of sections.
    pub(crate) fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// The first section of a name.
    pub(crate) fn section(&self, name: &str) -> Option<Place> {
        let is_wanted = |section: &&Section| section.name == name.as_bytes();
        self.sections.iter().find(is_wanted).map(|section| section.place)
    }

    /// Where in the file an address is loaded from, and how many bytes of the file follow there.
    pub(crate) fn place_of(&self, address: u64) -> Option<Place> {
        self.segments.iter().find_map(|segment| {
            let from = address.checked_sub(segment.address)?;
            let size = segment.place.size.checked_sub(from).filter(|size| *size > 0)?;
            Some(Place { offset: segment.place.offset.checked_add(from)?, size })
        })
    }
}

/// Numbers of a byte order and a width.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) is_big: bool,
    pub(crate) is_64: bool,
}

impl Numbers {
    /// A number of `width` bytes at an offset.
    fn number(self, bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
        let bytes = bytes.get(offset..offset.checked_add(width)?)?;
        let push = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.is_big {
            bytes.iter().fold(0, push)
        } else {
            bytes.iter().rev().fold(0, push)
        })
    }

    /// Bytes of an address.
    pub(crate) fn width(self) -> usize {
        if self.is_64 { 8 } else { 4 }
    }

    /// An address, or an offset in the file.
    pub(crate) fn word(self, bytes: &[u8], offset: usize) -> Option<u64> {
        self.number(bytes, offset, self.width())
    }

    fn half(self, bytes: &[u8], offset: usize) -> Option<u64> {
        self.number(bytes, offset, 2)
    }

    fn int(self, bytes: &[u8], offset: usize) -> Option<u32> {
        self.number(bytes, offset, 4).and_then(|number| u32::try_from(number).ok())
    }

    /// One of two offsets, by the width.
    fn pick(self, of_64: usize, of_32: usize) -> usize {
        if self.is_64 { of_64 } else { of_32 }
    }
}

struct Header {
    numbers: Numbers,
    segments: Table,
    sections: Table,
    names: u64,
}

struct Table {
    offset: u64,
    entry: u64,
    count: u64,
}

impl Header {
    fn read(head: &[u8]) -> Option<Self> {
        let (ident, _) = head.split_first_chunk::<16>()?;
        if !ident.starts_with(b"\x7fELF") {
            return None;
        }
        let is_64 = match ident[4] {
            1 => false,
            2 => true,
            _ => return None,
        };
        let is_big = match ident[5] {
            1 => false,
            2 => true,
            _ => return None,
        };
        let numbers = Numbers { is_big, is_64 };
        let at = |of_64, of_32| numbers.pick(of_64, of_32);
        Some(Self {
            numbers,
            segments: Table {
                offset: numbers.word(head, at(32, 28))?,
                entry: numbers.half(head, at(54, 42))?,
                count: numbers.half(head, at(56, 44))?,
            },
            sections: Table {
                offset: numbers.word(head, at(40, 32))?,
                entry: numbers.half(head, at(58, 46))?,
                count: numbers.half(head, at(60, 48))?,
            },
            names: numbers.half(head, at(62, 50))?,
        })
    }

    fn segments(&self, input: &mut Input) -> Result<Vec<Segment>, LanguageError> {
        let numbers = self.numbers;
        let at = |of_64, of_32| numbers.pick(of_64, of_32);
        let entries = self.segments.read(input)?;
        let segment = |entry: &[u8]| {
            let is_loaded = numbers.int(entry, 0)? == PT_LOAD;
            is_loaded.then_some(Segment {
                is_writable: numbers.int(entry, at(4, 24))? & 2 != 0,
                address: numbers.word(entry, at(16, 8))?,
                place: Place {
                    offset: numbers.word(entry, at(8, 4))?,
                    size: numbers.word(entry, at(32, 16))?,
                },
            })
        };
        Ok(self.segments.parts(&entries).filter_map(segment).collect())
    }

    fn sections(&self, input: &mut Input) -> Result<Vec<Section>, LanguageError> {
        let numbers = self.numbers;
        let at = |of_64, of_32| numbers.pick(of_64, of_32);
        let entries = self.sections.read(input)?;
        let place = |entry: &[u8]| {
            let size = numbers.word(entry, at(32, 20))?;
            Some(Place { offset: numbers.word(entry, at(24, 16))?, size })
        };
        let named = usize::try_from(self.names).ok();
        let names = named.and_then(|index| self.sections.parts(&entries).nth(index));
        let Some(names) = names.and_then(place) else { return Ok(Vec::new()) };
        let names = input.at(names.offset, names.size.min(MAX_NAMES))?;
        let section = |entry: &[u8]| {
            let kind = numbers.int(entry, 4)?;
            let flags = numbers.word(entry, 8)?;
            if kind == SHT_NOBITS || flags & SHF_COMPRESSED != 0 {
                return None;
            }
            let name = names.get(usize::try_from(numbers.int(entry, 0)?).ok()?..)?;
            // No name that is looked for is longer.
            let name = name.split(|byte| *byte == 0).next()?;
            let name = name.get(..name.len().min(64))?.to_vec();
            Some(Section { name, place: place(entry)? })
        };
        Ok(self.sections.parts(&entries).filter_map(section).collect())
    }
}

impl Table {
    fn read(&self, input: &mut Input) -> Result<Vec<u8>, LanguageError> {
        // The largest product is some 64 kB times 16,384; `at` reads no more than there is.
        let size = self.entry.saturating_mul(self.count.min(MAX_ENTRIES)).min(4 << 20);
        if self.offset == 0 { Ok(Vec::new()) } else { input.at(self.offset, size) }
    }

    fn parts<'a>(&self, entries: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let entry = usize::try_from(self.entry).unwrap_or_default().max(1);
        entries.chunks_exact(entry)
    }
}
