//! Writers of what is only read elsewhere: for seeds, and to read again what was read. They are plain,
//! and trust what they are given.

use portcullis_rpmdb::Package;
use portcullis_scanner::fuzzing::Entry;

/// Bytes of the pages of databases.
pub const PAGE: usize = 512;
/// Bytes of a page of slots of ndb, and of its blocks.
const SLOTS: usize = 4096;
const BLOCK: usize = 16;

/// A database of SQLite with the table that RPM has, of a few entries.
pub fn sqlite(blobs: &[(u32, &[u8])]) -> Vec<u8> {
    let sql =
        b"CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)";
    let mut row = vec![6, 23, 29, 29, 1];
    varint(sql.len() as u64 * 2 + 13, &mut row);
    row[0] = row.len() as u8;
    row.extend(b"tablePackagesPackages\x02");
    row.extend(sql);
    let mut overflow = Vec::new();
    let schema = leaf(100, &[(1, row)], 3, &mut overflow);
    let rows: Vec<(u32, Vec<u8>)> = blobs
        .iter()
        .map(|(number, blob)| {
            let mut row = vec![0, 0];
            varint(blob.len() as u64 * 2 + 12, &mut row);
            row[0] = row.len() as u8;
            row.extend(*blob);
            (*number, row)
        })
        .collect();
    let table = leaf(0, &rows, 3, &mut overflow);
    let mut file = [schema, table, overflow.concat()].concat();
    let pages = (file.len() / PAGE) as u32;
    file[..16].copy_from_slice(b"SQLite format 3\0");
    file[16..24].copy_from_slice(&[2, 0, 1, 1, 0, 64, 32, 32]);
    file[24..32].copy_from_slice(&[[0, 0, 0, 1], pages.to_be_bytes()].concat());
    file[44..48].copy_from_slice(&[0, 0, 0, 4]);
    file[56..60].copy_from_slice(&[0, 0, 0, 1]);
    file[92..96].copy_from_slice(&[0, 0, 0, 1]);
    file
}

/// A page of rows; what does not fit goes to pages behind `overflow`, which begin at `first`.
fn leaf(at: usize, rows: &[(u32, Vec<u8>)], first: u32, overflow: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let mut end = PAGE;
    page[at] = 13;
    page[at + 3..at + 5].copy_from_slice(&(rows.len() as u16).to_be_bytes());
    for (place, (number, row)) in rows.iter().enumerate() {
        let mut cell = Vec::new();
        varint(row.len() as u64, &mut cell);
        varint(u64::from(*number), &mut cell);
        // Section 1.6 of SQLite's file format.
        let (most, least) = (PAGE - 35, (PAGE - 12) * 32 / 255 - 23);
        let local = match row.len() {
            length if length <= most => length,
            length => {
                let fitting = least + (length - least) % (PAGE - 4);
                if fitting <= most { fitting } else { least }
            }
        };
        cell.extend(&row[..local]);
        if local < row.len() {
            cell.extend((first + overflow.len() as u32).to_be_bytes());
            let mut parts = row[local..].chunks(PAGE - 4).peekable();
            while let Some(part) = parts.next() {
                let behind = first + overflow.len() as u32 + 1;
                let next = if parts.peek().is_some() { behind } else { 0 };
                let mut more = [&next.to_be_bytes(), part].concat();
                more.resize(PAGE, 0);
                overflow.push(more);
            }
        }
        end -= cell.len();
        page[end..end + cell.len()].copy_from_slice(&cell);
        let pointer = at + 8 + 2 * place;
        page[pointer..pointer + 2].copy_from_slice(&(end as u16).to_be_bytes());
    }
    page[at + 5..at + 7].copy_from_slice(&(end as u16).to_be_bytes());
    page
}

fn varint(number: u64, bytes: &mut Vec<u8>) {
    let groups = (1..9).find(|groups| number >> (7 * groups) == 0).unwrap_or(9);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        bytes.push((number >> (7 * group)) as u8 & 0x7f | more);
    }
}

/// A frame of a log of SQLite.
pub struct Frame<'a> {
    /// The page.
    pub page: u32,
    /// How many pages there are after it, if it ends a change; else 0.
    pub commit: u32,
    /// What is in the page.
    pub content: &'a [u8],
}

/// A log of SQLite, with its checksums.
pub fn log(frames: &[Frame<'_>]) -> Vec<u8> {
    let words = [0x377f_0682, 3_007_000, PAGE as u32, 0, 0x1234_5678, 0x9abc_def0_u32];
    let mut log: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let salts = log[16..24].to_vec();
    let mut sum = (0_u32, 0_u32);
    let add = |sum: &mut (u32, u32), bytes: &[u8]| {
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            sum.0 = sum.0.wrapping_add(u32::from_le_bytes([a, b, c, d])).wrapping_add(sum.1);
            sum.1 = sum.1.wrapping_add(u32::from_le_bytes([e, f, g, h])).wrapping_add(sum.0);
        }
    };
    add(&mut sum, &log);
    log.extend([sum.0.to_be_bytes(), sum.1.to_be_bytes()].concat());
    for Frame { page, commit, content } in frames {
        let head = [page.to_be_bytes(), commit.to_be_bytes()].concat();
        add(&mut sum, &head);
        add(&mut sum, content);
        let sums = [sum.0.to_be_bytes(), sum.1.to_be_bytes()].concat();
        log.extend([&*head, &salts, &sums, content].concat());
    }
    log
}

/// A database of ndb.
pub fn ndb(blobs: &[(u32, &[u8])]) -> Vec<u8> {
    let (mut slots, mut blocks) = (Vec::new(), Vec::new());
    for (number, blob) in blobs {
        let from = blocks.len() / BLOCK;
        blocks.extend(ndb_blob(*number, blob));
        slots.push([*number, from as u32, (blocks.len() / BLOCK - from) as u32]);
    }
    ndb_of_slots(&slots, &blocks)
}

/// A blob of ndb, without its checksum.
pub fn ndb_blob(number: u32, blob: &[u8]) -> Vec<u8> {
    let length = (blob.len() as u32).to_le_bytes();
    let mut bytes = [&b"BlbS"[..], &number.to_le_bytes(), &[1, 0, 0, 0], &length, blob].concat();
    bytes.resize((bytes.len() + 12).next_multiple_of(BLOCK) - 12, 0);
    bytes.extend([&[0; 4], &length, &b"BlbE"[..]].concat());
    bytes
}

/// A database of ndb by its slots (number of the blob, block behind the page of slots, how many) and
/// its blocks. Checksums are made right where the blocks are there.
pub fn ndb_of_slots(slots: &[[u32; 3]], blocks: &[u8]) -> Vec<u8> {
    let first = SLOTS / BLOCK;
    let mut file = b"RpmP".to_vec();
    for word in [0_u32, 1, 1, 99, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    for [number, block, count] in slots {
        let block = first as u32 + block;
        file.extend(
            [&b"Slot"[..], &number.to_le_bytes(), &block.to_le_bytes(), &count.to_le_bytes()]
                .concat(),
        );
    }
    while file.len() < SLOTS {
        file.extend([&b"Slot"[..], &[0; 12]].concat());
    }
    file.extend(blocks);
    file.resize(file.len().next_multiple_of(BLOCK), 0);
    for [_, block, count] in slots {
        let begin = (first + *block as usize) * BLOCK;
        let end = begin + *count as usize * BLOCK;
        if *count > 0 && end <= file.len() {
            let sum = file[begin..end - 12].iter().fold((1_u32, 0_u32), |(a, b), byte| {
                let a = (a + u32::from(*byte)) % 65521;
                (a, (b + a) % 65521)
            });
            file[end - 12..end - 8].copy_from_slice(&(sum.1 << 16 | sum.0).to_le_bytes());
        }
    }
    file
}

/// A database of Berkeley DB, with each value in pages of its own.
pub fn bdb(blobs: &[(u32, &[u8])]) -> Vec<u8> {
    const HEADER: usize = 26;
    let page = |number: u32, kind: u8| {
        let mut page = vec![0; PAGE];
        page[8..12].copy_from_slice(&number.to_le_bytes());
        page[25] = kind;
        page
    };
    let mut hash = page(1, 13);
    let mut pages = Vec::new();
    let mut end = PAGE;
    for (at, (number, blob)) in blobs.iter().enumerate() {
        let first = 2 + pages.len() as u32;
        let mut parts = blob.chunks(PAGE - HEADER).peekable();
        let first = if parts.peek().is_some() { first } else { 0 };
        while let Some(part) = parts.next() {
            let number = 2 + pages.len() as u32;
            let mut more = page(number, 7);
            let next = if parts.peek().is_some() { number + 1 } else { 0 };
            more[16..20].copy_from_slice(&next.to_le_bytes());
            more[22..24].copy_from_slice(&(part.len() as u16).to_le_bytes());
            more[HEADER..HEADER + part.len()].copy_from_slice(part);
            pages.push(more);
        }
        let length = (blob.len() as u32).to_le_bytes();
        let items = [
            [&[1], &number.to_le_bytes()[..]].concat(),
            [&[3, 0, 0, 0], &first.to_le_bytes()[..], &length].concat(),
        ];
        for (place, item) in items.iter().enumerate() {
            end -= item.len();
            hash[end..end + item.len()].copy_from_slice(item);
            let pointer = HEADER + 2 * (2 * at + place);
            hash[pointer..pointer + 2].copy_from_slice(&(end as u16).to_le_bytes());
        }
    }
    hash[20..22].copy_from_slice(&(2 * blobs.len() as u16).to_le_bytes());
    let mut meta = page(0, 8);
    for (at, word) in [(12, 0x0006_1561), (16, 9), (20, PAGE as u32), (32, 1 + pages.len() as u32)]
    {
        meta[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    [meta, hash, pages.concat()].concat()
}

/// A header of RPM, as it was before regions.
pub fn header(package: &Package) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    let mut add = |tag: u32, kind: u32, count: usize, bytes: &[u8]| {
        let words = [tag, kind, data.len() as u32, count as u32];
        index.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        data.extend_from_slice(bytes);
    };
    let zero_ended = |text: &str| [text.as_bytes(), &[0]].concat();
    let texts = [
        (1000, Some(&package.name)),
        (1001, Some(&package.version)),
        (1002, Some(&package.release)),
        (1011, package.vendor.as_ref()),
        (1014, package.license.as_ref()),
        (1022, package.arch.as_ref()),
        (1044, package.source_rpm.as_ref()),
        (5096, package.modularity.as_ref()),
    ];
    for (tag, text) in texts {
        if let Some(text) = text {
            add(tag, 6, 1, &zero_ended(text));
        }
    }
    for (tag, number) in [(1003, package.epoch), (1008, package.install_time)] {
        if let Some(number) = number {
            add(tag, 4, 1, &number.to_be_bytes());
        }
    }
    if !package.files.is_empty() {
        let files: Vec<u8> = package.files.iter().flat_map(|file| zero_ended(file)).collect();
        add(1027, 8, package.files.len(), &files);
    }
    let lengths = [(index.len() / 16) as u32, data.len() as u32];
    let lengths: Vec<u8> = lengths.iter().flat_map(|word| word.to_be_bytes()).collect();
    [lengths, index, data].concat()
}

/// A tar archive with an extended header before each entry.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut records = Vec::new();
        let mut record = |key: &str, value: &[u8]| {
            if value.is_empty() {
                return;
            }
            let rest = key.len() + value.len() + 3;
            let length =
                (1..9).map(|digits| rest + digits).find(|l| l.to_string().len() + rest == *l);
            let length = length.expect("a number has a length");
            records.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
        };
        let [mode, uid, gid] = entry.mode;
        record("path", &entry.path);
        record("linkpath", &entry.link);
        record("size", entry.size.to_string().as_bytes());
        record("uid", uid.to_string().as_bytes());
        record("gid", gid.to_string().as_bytes());
        if entry.capabilities {
            record("SCHILY.xattr.security.capability", b"x");
        }
        block((b'x', 0, 0), 0o644, records.len() as u64, &mut archive);
        content(&records, &mut archive);
        block(entry.kind, mode, 0, &mut archive);
        content(&entry.content, &mut archive);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A header of an archive, without a name.
fn block((kind, major, minor): (u8, u64, u64), mode: u32, size: u64, archive: &mut Vec<u8>) {
    let mut block = [0; 512];
    block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    for (at, number) in [(329, major), (337, minor)] {
        block[at..at + 8].copy_from_slice(&number.to_be_bytes());
        block[at] |= 0x80;
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.extend(block);
}

fn content(content: &[u8], archive: &mut Vec<u8>) {
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// A program of 64 bits with these sections, and a segment with all of them.
pub fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEAD: usize = 64 + 56;
    const ADDRESS: u64 = 0x40_0000;
    let (mut names, mut data) = (b"\0.shstrtab\0".to_vec(), Vec::new());
    let mut table = vec![0; 64];
    let mut entry = |name: usize, at: usize, size: usize| {
        table.extend([name as u32, 1].iter().flat_map(|word| word.to_le_bytes()));
        let words = [0, 0, at as u64, size as u64, 0, 1, 0];
        table.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    for (name, content) in sections {
        entry(names.len(), HEAD + data.len(), content.len());
        names.extend([name.as_bytes(), &[0]].concat());
        data.extend(*content);
        data.resize(data.len().next_multiple_of(16), 0);
    }
    entry(1, HEAD + data.len(), names.len());
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, halves: &[u16]| {
        file.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
    };
    let word = |file: &mut Vec<u8>, words: &[u64]| {
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    let count = sections.len() as u16 + 2;
    half(&mut file, &[2, 62, 1, 0]);
    word(&mut file, &[ADDRESS, 64, (HEAD + data.len() + names.len()) as u64]);
    half(&mut file, &[0, 0, 64, 56, 1, 64, count, count - 1]);
    half(&mut file, &[1, 0, 6, 0]);
    let size = data.len() as u64;
    word(&mut file, &[HEAD as u64, ADDRESS, ADDRESS, size, size, 4096]);
    [file, data, names, table].concat()
}

/// Build information as Go writes it since 1.18.
pub fn go_build_info(version: &str, modules: &str) -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    let modules = format!("0123456789abcdef{modules}0123456789abcdef");
    for text in [version, &modules] {
        let mut length = text.len();
        while length >= 0x80 {
            info.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        info.push(length as u8);
        info.extend(text.as_bytes());
    }
    info
}
