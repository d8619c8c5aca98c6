//! Tar archives, read once from front to end, as the engines' own reader does it.
//!
//! Follows Go's `archive/tar` (`reader.go`, `strconv.go`), with which containerd, CRI-O, Podman and
//! Docker unpack layers: a file that they see and we do not would be a way past the scanner. So the
//! same header wins where several say something, folders and links have no content whatever their
//! size says, and what they refuse is an error here. POSIX `pax`, `ustar`, GNU and the old format;
//! sparse files are read with their holes.

use std::collections::BTreeMap;
use std::io::{self, Read};

/// Bytes of a block.
const BLOCK: usize = 512;
/// Most bytes of an extended header (Go's `maxSpecialFileSize`).
const MAX_SPECIAL: u64 = 1 << 20;
/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 16;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// It cannot be read.
    #[error("the archive cannot be read")]
    Read(#[from] io::Error),
    /// A header is none.
    #[error("the archive has a header that is none: {0}")]
    Header(&'static str),
    /// It ends within an entry.
    #[error("the archive is cut off")]
    CutOff,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file.
    File,
    /// Another name of a file of this archive.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// A folder.
    Folder,
    /// A device, given by major and minor number.
    Device(u64, u64),
    /// A fifo.
    Fifo,
    /// Something that no engine unpacks.
    Unknown(u8),
}

/// An entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Its name as it stands there.
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of its content, with holes.
    pub size: u64,
    /// It has file capabilities.
    pub capabilities: bool,
}

/// An archive that is read. Between two entries, reading gives the content of the first.
pub(crate) struct Tar<R> {
    reader: R,
    /// Bytes of the entry that are still to come, and those that fill its last block.
    left: u64,
    padding: u64,
    /// Holes of the entry.
    sparse: Option<Sparse>,
    is_done: bool,
}

/// Where the pieces of a sparse file lie.
struct Sparse {
    /// Offset and length of the pieces, in order, last one first.
    pieces: Vec<(u64, u64)>,
    at: u64,
    size: u64,
}

impl<R: Read> Tar<R> {
    /// Begins to read.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0, sparse: None, is_done: false }
    }

    /// What is left of the reader, behind the archive.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    /// The next entry; what is left of the last one's content is passed over.
    ///
    /// # Errors
    /// [`TarError`]: the archive is damaged or cut off.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.is_done {
            return Ok(None);
        }
        let mut pax: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                self.is_done = true;
                return Ok(None);
            };
            let size = number(&header[124..136])?;
            match header[156] {
                // Each begins anew.
                b'x' => pax = records(&self.special(size)?)?,
                // The engines take no notice of what it says of the files behind it.
                b'g' => {
                    records(&self.special(size)?)?;
                    pax.clear();
                    (long_name, long_link) = (None, None);
                }
                b'L' => long_name = Some(until_zero(&self.special(size)?).to_vec()),
                b'K' => long_link = Some(until_zero(&self.special(size)?).to_vec()),
                _ => {
                    let mut entry = plain(&header, size)?;
                    merge(&mut entry, &pax)?;
                    let is_some = |text: &Vec<u8>| !text.is_empty();
                    if let Some(name) = long_name.filter(is_some) {
                        entry.path = name;
                    }
                    if let Some(link) = long_link.filter(is_some) {
                        entry.link = link;
                    }
                    if header[156] == 0 && entry.path.ends_with(b"/") {
                        entry.kind = EntryKind::Folder;
                    }
                    self.begin(&header, &mut entry, &pax)?;
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Sets up the content of an entry.
    fn begin(
        &mut self,
        header: &[u8; BLOCK],
        entry: &mut Entry,
        pax: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), TarError> {
        let has_content = matches!(entry.kind, EntryKind::File | EntryKind::Unknown(_));
        if !has_content {
            entry.size = 0;
        }
        self.left = entry.size;
        self.padding = (BLOCK as u64 - entry.size % BLOCK as u64) % BLOCK as u64;
        self.sparse = None;
        let (pieces, size) = if header[156] == b'S' {
            if !is_gnu(header) {
                return Err(TarError::Header("a sparse file of GNU's in another format"));
            }
            (self.old_sparse(header)?, number(&header[483..495])?)
        } else {
            let text = |key: &str| pax.get(key).map(Vec::as_slice).unwrap_or_default();
            let is_1_0 = match (text("GNU.sparse.major"), text("GNU.sparse.minor")) {
                (b"1", b"0") => true,
                (b"0", b"0" | b"1") => false,
                (b"", b"") if !text("GNU.sparse.map").is_empty() => false,
                _ => return Ok(()),
            };
            if !has_content {
                return Err(TarError::Header("a sparse file that is none"));
            }
            if !text("GNU.sparse.name").is_empty() {
                entry.path = text("GNU.sparse.name").to_vec();
            }
            let size = [text("GNU.sparse.size"), text("GNU.sparse.realsize")];
            let size = size.into_iter().find(|size| !size.is_empty());
            let size = size.map_or(Ok(entry.size), decimal)?;
            let pieces = match is_1_0 {
                true => self.sparse_map()?,
                false => pairs(text("GNU.sparse.map").split(|byte| *byte == b','))?,
            };
            (pieces, size)
        };
        let mut behind = 0;
        for (offset, length) in &pieces {
            let end = offset.checked_add(*length);
            let end = end.filter(|end| *offset >= behind && *end <= size);
            behind = end.ok_or(TarError::Header("the pieces of a sparse file do not fit"))?;
        }
        let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
        if stored > self.left {
            return Err(TarError::Header("a sparse file has less content than its pieces"));
        }
        entry.size = size;
        self.sparse = Some(Sparse { pieces: pieces.into_iter().rev().collect(), at: 0, size });
        Ok(())
    }

    /// GNU's old form: four pieces in the header, more in blocks behind it.
    fn old_sparse(&mut self, header: &[u8; BLOCK]) -> Result<Vec<(u64, u64)>, TarError> {
        let mut pieces = Vec::new();
        let mut take = |block: &[u8]| -> Result<(), TarError> {
            for piece in block.chunks_exact(24) {
                // The first empty one ends the list.
                if piece[0] == 0 {
                    return Ok(());
                }
                if pieces.len() >= MAX_PIECES {
                    return Err(TarError::Header("a sparse file has too many pieces"));
                }
                pieces.push((number(&piece[..12])?, number(&piece[12..])?));
            }
            Ok(())
        };
        take(&header[386..482])?;
        let mut has_more = header[482] != 0;
        while has_more {
            let mut block = [0; BLOCK];
            self.reader.read_exact(&mut block).map_err(cut_off)?;
            take(&block[..504])?;
            has_more = block[504] != 0;
        }
        Ok(pieces)
    }

    /// The list at the beginning of the content: numbers, one a line, in whole blocks.
    fn sparse_map(&mut self) -> Result<Vec<(u64, u64)>, TarError> {
        let mut text = Vec::new();
        let mut wanted: Option<usize> = None;
        loop {
            if self.left < BLOCK as u64 || text.len() > MAX_PIECES * 48 {
                return Err(TarError::Header("the list of a sparse file's pieces is cut off"));
            }
            let mut block = [0; BLOCK];
            self.reader.read_exact(&mut block).map_err(cut_off)?;
            self.left -= BLOCK as u64;
            text.extend_from_slice(&block);
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            if wanted.is_none() && lines > 0 {
                let count = decimal(text.split(|b| *b == b'\n').next().unwrap_or_default())?;
                let count = usize::try_from(count).ok().filter(|count| *count <= MAX_PIECES);
                let count = count.ok_or(TarError::Header("a sparse file has too many pieces"))?;
                wanted = Some(1 + 2 * count);
            }
            if let Some(wanted) = wanted
                && lines >= wanted
            {
                return pairs(text.split(|b| *b == b'\n').skip(1).take(wanted - 1));
            }
        }
    }

    /// The next header that is one; `None` at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        self.skip()?;
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            // Two of them end an archive; one at the very end does too.
            return match self.block(&mut block)? {
                true if block != [0; BLOCK] => Err(TarError::Header("an empty block before it")),
                _ => Ok(None),
            };
        }
        let wanted = number(&block[148..156])?;
        let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
        let unsigned: u64 = block.iter().enumerate().map(byte).map(u64::from).sum();
        let signed: i64 =
            block.iter().enumerate().map(byte).map(|byte| i64::from(byte.cast_signed())).sum();
        if wanted != unsigned && i64::try_from(wanted) != Ok(signed) {
            return Err(TarError::Header("its checksum is wrong"));
        }
        Ok(Some(block))
    }

    /// Reads a block; `false` if there is none.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::CutOff),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The content of an extended header.
    fn special(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_SPECIAL {
            return Err(TarError::Header("an extended header is larger than a megabyte"));
        }
        let mut content = Vec::new();
        (&mut self.reader).take(size).read_to_end(&mut content)?;
        if content.len() as u64 != size {
            return Err(TarError::CutOff);
        }
        self.left = 0;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        Ok(content)
    }

    /// Passes over what is left of an entry.
    fn skip(&mut self) -> Result<(), TarError> {
        self.sparse = None;
        let left = std::mem::take(&mut self.left);
        if io::copy(&mut (&mut self.reader).take(left), &mut io::sink())? != left {
            return Err(TarError::CutOff);
        }
        // An archive may end without what fills its last block.
        let padding = std::mem::take(&mut self.padding);
        io::copy(&mut (&mut self.reader).take(padding), &mut io::sink())?;
        Ok(())
    }
}

impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(sparse) = &mut self.sparse else {
            let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let count = self.reader.read(&mut buffer[..most])?;
            if count == 0 && most > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.left -= count as u64;
            return Ok(count);
        };
        // Past the pieces that are read, and the empty ones.
        while sparse.pieces.last().is_some_and(|(offset, length)| offset + length <= sparse.at) {
            sparse.pieces.pop();
        }
        let (is_hole, until) = match sparse.pieces.last() {
            Some((offset, _)) if *offset > sparse.at => (true, *offset),
            Some((offset, length)) => (false, offset + length),
            None => (true, sparse.size),
        };
        let most = usize::try_from(until - sparse.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = match is_hole {
            true => {
                buffer[..most].fill(0);
                most
            }
            false => {
                let count = self.reader.read(&mut buffer[..most])?;
                if count == 0 && most > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.left -= count as u64;
                count
            }
        };
        sparse.at += count as u64;
        Ok(count)
    }
}

fn cut_off(error: io::Error) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarError::CutOff,
        _ => TarError::Read(error),
    }
}

/// What a header says without the extended ones before it.
fn plain(header: &[u8; BLOCK], size: u64) -> Result<Entry, TarError> {
    let field = |from: usize, to: usize| until_zero(&header[from..to]);
    let mut path = field(0, 100).to_vec();
    let prefix = if &header[257..263] == b"ustar\0" {
        // Joerg Schilling's star has times behind a shorter prefix.
        field(345, if &header[508..512] == b"tar\0" { 476 } else { 500 })
    } else if is_gnu(header) {
        // GNU has times there. Go's writer had once a prefix there too, and its reader takes what is
        // no time for one.
        let is_time = |time: &[u8]| time[0] == 0 || signed(time).is_some();
        let is_prefix = !(is_time(&header[345..357]) && is_time(&header[357..369]));
        let prefix = field(345, 500);
        if is_prefix && prefix.is_ascii() { prefix } else { &[] }
    } else {
        &[]
    };
    if !prefix.is_empty() {
        path = [prefix, b"/", &path].concat();
    }
    let is_old = &header[257..262] != b"ustar";
    let device = |from: usize| match is_old {
        true => Ok(0),
        false => number(&header[from..from + 8]),
    };
    let kind = match header[156] {
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::SymbolicLink,
        b'3' | b'4' => EntryKind::Device(device(329)?, device(337)?),
        b'5' => EntryKind::Folder,
        b'6' => EntryKind::Fifo,
        other => EntryKind::Unknown(other),
    };
    let small = |from: usize, to: usize| -> Result<u32, TarError> {
        // An owner of more than 32 bits is nobody's; its file is still there.
        Ok(u32::try_from(number(&header[from..to])?).unwrap_or(u32::MAX))
    };
    Ok(Entry {
        kind,
        path,
        link: field(157, 257).to_vec(),
        mode: small(100, 108)? & 0o7777,
        uid: small(108, 116)?,
        gid: small(116, 124)?,
        size,
        capabilities: false,
    })
}

/// What extended headers say instead. An empty value says nothing.
fn merge(entry: &mut Entry, pax: &BTreeMap<String, Vec<u8>>) -> Result<(), TarError> {
    for (key, value) in pax.iter().filter(|(_, value)| !value.is_empty()) {
        let owner = || Ok::<_, TarError>(u32::try_from(decimal(value)?).unwrap_or(u32::MAX));
        match key.as_str() {
            "path" => entry.path = value.clone(),
            "linkpath" => entry.link = value.clone(),
            "size" => entry.size = decimal(value)?,
            "uid" => entry.uid = owner()?,
            "gid" => entry.gid = owner()?,
            "SCHILY.xattr.security.capability" => entry.capabilities = true,
            _ => {}
        }
    }
    Ok(())
}

/// `<length> <key>=<value>\n`, again and again (POSIX, pax, "pax Extended Header").
fn records(mut text: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, TarError> {
    let mut into = BTreeMap::new();
    const WRONG: TarError = TarError::Header("an extended header is wrong");
    // The pieces of sparse files in format 0.0 come one by one.
    let mut map: Vec<Vec<u8>> = Vec::new();
    while !text.is_empty() {
        let space = text.iter().take(12).position(|byte| *byte == b' ').ok_or(WRONG)?;
        let length = usize::try_from(decimal(&text[..space])?).map_err(|_| WRONG)?;
        if length <= space + 1 || length > text.len() || text[length - 1] != b'\n' {
            return Err(WRONG);
        }
        let record = &text[space + 1..length - 1];
        text = &text[length..];
        let sign = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
        let (key, value) = (&record[..sign], &record[sign + 1..]);
        let key = std::str::from_utf8(key).map_err(|_| WRONG)?;
        let is_name = matches!(key, "path" | "linkpath" | "uname" | "gname");
        if key.is_empty() || key.contains('\0') || (is_name && value.contains(&0)) {
            return Err(WRONG);
        }
        match key {
            "GNU.sparse.offset" | "GNU.sparse.numbytes" => {
                let is_offset = key.ends_with("offset");
                if map.len().is_multiple_of(2) != is_offset || value.contains(&b',') {
                    return Err(WRONG);
                }
                map.push(value.to_vec());
            }
            _ => {
                into.insert(key.to_owned(), value.to_vec());
            }
        }
    }
    if !map.is_empty() {
        into.insert("GNU.sparse.map".to_owned(), map.join(&b','));
    }
    Ok(into)
}

fn pairs<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> Result<Vec<(u64, u64)>, TarError> {
    let numbers: Vec<u64> = numbers
        .filter(|text| !text.is_empty())
        .take(2 * MAX_PIECES + 1)
        .map(decimal)
        .collect::<Result<_, _>>()?;
    if numbers.len() % 2 == 1 || numbers.len() > 2 * MAX_PIECES {
        return Err(TarError::Header("the pieces of a sparse file are no pairs"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn decimal(text: &[u8]) -> Result<u64, TarError> {
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    // Nothing is as large as half of what can be counted, so that sums stay within.
    let number = text.and_then(|text| text.parse().ok()).filter(|number| *number < u64::MAX / 4);
    number.ok_or(TarError::Header("a number is none"))
}

/// A number of a header that may not be negative.
fn number(field: &[u8]) -> Result<u64, TarError> {
    let number = signed(field).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number < u64::MAX / 4).ok_or(TarError::Header("a number is none"))
}

/// Octal, or GNU's base 256, which is a two's complement.
fn signed(field: &[u8]) -> Option<i64> {
    if field.first()? & 0x80 != 0 {
        let flip = if field[0] & 0x40 != 0 { 0xff } else { 0 };
        let mut value = 0_u64;
        for (at, byte) in field.iter().enumerate() {
            let byte = (byte ^ flip) & if at == 0 { 0x7f } else { 0xff };
            value = value.checked_mul(256)? | u64::from(byte);
        }
        let value = i64::try_from(value).ok()?;
        return Some(if flip == 0 { value } else { !value });
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let from = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let to = field.iter().rposition(|byte| !is_blank(byte)).map_or(from, |at| at + 1);
    let digits = until_zero(&field[from..to]);
    let value = digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => Some(value.checked_mul(8)? | u64::from(digit - b'0')),
        _ => None,
    })?;
    Some(value.cast_signed())
}

fn is_gnu(header: &[u8; BLOCK]) -> bool {
    &header[257..265] == b"ustar  \0"
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
