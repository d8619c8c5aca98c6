//! `rpmdb.sqlite-wal`: pages that were committed but not yet written into the database. Section 4 ("The
//! Write-Ahead Log") of SQLite's file format.

use std::collections::HashMap;

use crate::error::RpmDbError;
use crate::source::{Source, be32};

/// Bytes of the log's header, and of a frame's.
const HEADER: usize = 32;
const FRAME: usize = 24;
/// How the log begins; the last bit says that checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// The only version.
const VERSION: u32 = 3_007_000;
/// Different pages of a log at most: 4 GB of the usual size. The places of all have some 20 MB.
const MAX_PAGES: usize = 1 << 20;

pub(super) struct Log<'a> {
    source: Source<'a>,
    /// Frames up to the last commit.
    pub(super) frames: u64,
    /// Whole frames behind it.
    pub(super) frames_uncommitted: u64,
    /// Pages of the database after the last commit.
    pages: u32,
    /// Where the newest of each page stands.
    places: HashMap<u32, u64>,
}

impl<'a> Log<'a> {
    /// The log, or nothing if it is shorter than its header, as it is when it was folded in.
    pub(super) fn open(
        mut source: Source<'a>,
        page_size: usize,
    ) -> Result<Option<Log<'a>>, RpmDbError> {
        if source.length() < HEADER as u64 {
            return Ok(None);
        }
        let header = source.bytes(0, HEADER)?;
        let [magic, version, size, _, _, _, sum_a, sum_b] = words(&header);
        if magic | 1 != MAGIC | 1 || version != VERSION {
            return Err(RpmDbError::Log("it has the beginning of no log"));
        }
        let mut sum = Checksum { big_endian: magic & 1 == 1, a: 0, b: 0 };
        sum.add(&header[..24]);
        if (sum.a, sum.b) != (sum_a, sum_b) {
            return Err(RpmDbError::Log("the checksum of its header is wrong"));
        }
        if size as usize != page_size {
            return Err(RpmDbError::Log("its pages have another size than those of the database"));
        }
        let (frames, frames_uncommitted, pages) = committed(&mut source, page_size, &header, sum)?;
        let mut log = Log { source, frames, frames_uncommitted, pages, places: HashMap::new() };
        for frame in 0..frames {
            let place = place(frame, page_size);
            let mut number = [0; 4];
            log.source.fill(place, &mut number)?;
            log.places.insert(u32::from_be_bytes(number), place + FRAME as u64);
            if log.places.len() > MAX_PAGES {
                return Err(RpmDbError::Limit {
                    what: "pages in its log",
                    limit: MAX_PAGES as u64,
                });
            }
        }
        Ok(Some(log))
    }

    /// Pages of the database, if the log says so.
    pub(super) fn pages(&self) -> Option<u32> {
        (self.frames > 0).then_some(self.pages)
    }

    pub(super) fn has(&self, page: u32) -> bool {
        self.places.contains_key(&page)
    }

    /// The beginning of a page.
    pub(super) fn fill(&mut self, page: u32, bytes: &mut [u8]) -> Result<(), RpmDbError> {
        let place = self.places.get(&page).ok_or(RpmDbError::Log("a page is not in it"))?;
        self.source.fill(*place, bytes)
    }
}

/// How many frames count, how many more are whole, and how many pages the database then has.
///
/// A frame counts if its salts are those of the header and its checksum is right, which goes over all
/// frames before too; the first one that does not is where the log ends, since older frames and halves
/// of them may follow. What is not committed by a later frame does not count.
fn committed(
    source: &mut Source<'_>,
    page_size: usize,
    header: &[u8],
    mut sum: Checksum,
) -> Result<(u64, u64, u32), RpmDbError> {
    let mut frame = vec![0; FRAME + page_size];
    let (mut whole, mut frames, mut pages) = (0, 0, 0);
    while place(whole + 1, page_size) <= source.length() {
        source.fill(place(whole, page_size), &mut frame)?;
        let (head, content) = frame.split_at(FRAME);
        let [number, size, _, _, sum_a, sum_b] = words(head);
        if number == 0 || head[8..16] != header[16..24] {
            break;
        }
        sum.add(&head[..8]);
        sum.add(content);
        if (sum.a, sum.b) != (sum_a, sum_b) {
            break;
        }
        whole += 1;
        if size > 0 {
            (frames, pages) = (whole, size);
        }
    }
    Ok((frames, whole - frames, pages))
}

fn place(frame: u64, page_size: usize) -> u64 {
    HEADER as u64 + frame.saturating_mul((FRAME + page_size) as u64)
}

/// Big-endian words, which there must be.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    std::array::from_fn(|at| be32(bytes, 4 * at).unwrap_or(0))
}

/// Section 4.2 ("Checksum Algorithm").
struct Checksum {
    big_endian: bool,
    a: u32,
    b: u32,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        for words in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *words;
            let word = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
            self.a = self.a.wrapping_add(word([a, b, c, d])).wrapping_add(self.b);
            self.b = self.b.wrapping_add(word([e, f, g, h])).wrapping_add(self.a);
        }
    }
}
