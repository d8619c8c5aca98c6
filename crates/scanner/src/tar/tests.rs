//! Tests of the reader: against archives of the `tar` crate and of GNU tar, and by hand.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

type Files = Vec<(String, EntryKind, u64, Vec<u8>)>;

fn read(archive: &[u8]) -> Result<Files, TarError> {
    let mut tar = Tar::new(archive);
    let mut files = Vec::new();
    while let Some(entry) = tar.next_entry()? {
        let mut content = Vec::new();
        (&mut tar).take(1 << 20).read_to_end(&mut content)?;
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        files.push((path, entry.kind, entry.size, content));
    }
    Ok(files)
}

/// A header of POSIX' form, with its checksum.
fn header(name: &str, kind: u8, size: &[u8], change: impl Fn(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

fn blocks(content: &[u8]) -> Vec<u8> {
    let mut blocks = content.to_vec();
    blocks.resize(content.len().div_ceil(BLOCK) * BLOCK, 0);
    blocks
}

fn octal(size: usize) -> Vec<u8> {
    format!("{size:011o}").into_bytes()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    [header(name, b'0', &octal(content.len()), |_| {}), blocks(content)].concat()
}

fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..).map(|digits| rest + digits).find(|l| l.to_string().len() + rest == *l);
        text.extend(format!("{} {key}={value}\n", length.unwrap()).bytes());
    }
    [header("pax", kind, &octal(text.len()), |_| {}), blocks(&text)].concat()
}

fn names(archive: &[Vec<u8>]) -> Result<String, String> {
    let files = read(&archive.concat()).map_err(|error| error.to_string())?;
    let files = files.iter().map(|(name, _, size, _)| format!("{name}:{size}"));
    Ok(files.collect::<Vec<_>>().join(" "))
}

#[test]
fn the_header_that_engines_follow_wins() {
    let long = |kind, name: &str| {
        [
            header("././@LongLink", kind, &octal(name.len() + 1), |_| {}),
            blocks(format!("{name}\0").as_bytes()),
        ]
        .concat()
    };
    for (archive, wanted) in [
        (vec![file("a", b"x")], "a:1"),
        (vec![pax(b'x', &[("path", "b")]), file("a", b"x"), file("c", b"")], "b:1 c:0"),
        // An empty value says nothing.
        (vec![pax(b'x', &[("path", "")]), file("a", b"x")], "a:1"),
        // The last of several extended headers is the only one.
        (vec![pax(b'x', &[("path", "b")]), pax(b'x', &[("uid", "1")]), file("a", b"x")], "a:1"),
        (vec![pax(b'x', &[("path", "b"), ("path", "c")]), file("a", b"x")], "c:1"),
        // A long name of GNU's before one of pax, in any order.
        (vec![long(b'L', "l"), pax(b'x', &[("path", "b")]), file("a", b"x")], "l:1"),
        (vec![pax(b'x', &[("path", "b")]), long(b'L', "l"), file("a", b"x")], "l:1"),
        // Nothing of a global header counts.
        (vec![pax(b'g', &[("path", "b"), ("size", "5")]), file("a", b"x")], "a:1"),
        (vec![pax(b'x', &[("size", "3")]), file("a", b"xyz")], "a:3"),
        (vec![header("a", b'0', &octal(1), |b| b[345] = b'p'), blocks(b"x")], "p/a:1"),
        // A folder and a link have no content, whatever their size.
        (vec![header("d", b'5', &octal(512), |_| {}), file("a", b"x")], "d:0 a:1"),
        (vec![header("l", b'2', &octal(512), |_| {}), file("a", b"x")], "l:0 a:1"),
        // In base 256.
        (
            vec![
                header("a", b'0', &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], |_| {}),
                blocks(b"xy"),
            ],
            "a:2",
        ),
        // GNU's form, whose times are no prefix, unless they are no times.
        (
            vec![
                header("a", b'0', &octal(1), |b| {
                    b[257..265].copy_from_slice(b"ustar  \0");
                    b[345..350].copy_from_slice(b"00012");
                }),
                blocks(b"x"),
            ],
            "a:1",
        ),
        (
            vec![
                header("a", b'0', &octal(1), |b| {
                    b[257..265].copy_from_slice(b"ustar  \0");
                    b[345..350].copy_from_slice(b"dir/x");
                }),
                blocks(b"x"),
            ],
            "dir/x/a:1",
        ),
        // One block of zeros at the end, and none.
        (vec![file("a", b"x"), vec![0; BLOCK]], "a:1"),
        (vec![], ""),
        // What is behind the end is nothing.
        (vec![file("a", b"x"), vec![0; 2 * BLOCK], file("b", b"x")], "a:1"),
        // Its last block is not filled.
        (vec![header("a", b'0', &octal(1), |_| {}), b"x".to_vec()], "a:1"),
        // Sparse, in the three forms of pax.
        (
            vec![
                pax(
                    b'x',
                    &[
                        ("GNU.sparse.major", "1"),
                        ("GNU.sparse.minor", "0"),
                        ("GNU.sparse.name", "s"),
                        ("GNU.sparse.realsize", "600"),
                    ],
                ),
                header("a", b'0', &octal(512 + 2), |_| {}),
                blocks(b"1\n10\n2\n"),
                blocks(b"xy"),
            ],
            "s:600",
        ),
        (
            vec![
                pax(b'x', &[("GNU.sparse.map", "1,2"), ("GNU.sparse.size", "5")]),
                file("a", b"xy"),
            ],
            "a:5",
        ),
        (
            vec![
                pax(
                    b'x',
                    &[
                        ("GNU.sparse.offset", "0"),
                        ("GNU.sparse.numbytes", "2"),
                        ("GNU.sparse.size", "9"),
                    ],
                ),
                file("a", b"xy"),
            ],
            "a:9",
        ),
    ] {
        assert_eq!(names(&archive).as_deref(), Ok(wanted));
    }
}

#[test]
fn what_engines_refuse_is_an_error() {
    let bad_sum = {
        let mut block = file("a", b"x");
        block[0] = b'b';
        block
    };
    for archive in [
        vec![bad_sum],
        vec![header("a", b'0', b"9", |_| {})],
        vec![header("a", b'0', &octal(600), |_| {}), blocks(b"x")],
        vec![header("a", b'0', &[0xff; 12], |_| {})],
        vec![file("a", b"x"), vec![1; 100]],
        vec![file("a", b"x"), vec![0; BLOCK], file("b", b"x")],
        vec![header("a", b'x', &octal(2 << 20), |_| {})],
        vec![header("a", b'x', &octal(5), |_| {}), blocks(b"9 a=\n"), file("a", b"")],
        vec![header("a", b'x', &octal(4), |_| {}), blocks(b"abc="), file("a", b"")],
        vec![pax(b'x', &[("size", "-1")]), file("a", b"")],
        vec![pax(b'x', &[("GNU.sparse.map", "1,9"), ("GNU.sparse.size", "5")]), file("a", b"xy")],
        vec![
            pax(b'x', &[("GNU.sparse.map", "3,1,1,1"), ("GNU.sparse.size", "5")]),
            file("a", b"xy"),
        ],
        vec![pax(b'x', &[("GNU.sparse.map", "1,2,3"), ("GNU.sparse.size", "5")]), file("a", b"xy")],
        vec![pax(b'x', &[("GNU.sparse.map", "0,4"), ("GNU.sparse.size", "5")]), file("a", b"xy")],
    ] {
        assert!(read(&archive.concat()).is_err(), "{:?}", names(&archive));
    }
}

#[test]
fn holes_are_read_as_zeros() {
    let archive = [
        pax(b'x', &[("GNU.sparse.map", "1,2,6,1"), ("GNU.sparse.size", "9")]),
        file("a", b"xyz"),
        file("b", b"q"),
    ];
    let files = read(&archive.concat()).unwrap();
    assert_eq!(files[0].3, b"\0xy\0\0\0z\0\0");
    assert_eq!(files[1].3, b"q");
}

/// Debian's tar, in each of its formats, with long names and holes.
#[test]
fn what_gnu_tar_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(150);
    let mut sparse = std::fs::File::create(folder.path().join("sparse")).unwrap();
    rustix::fs::ftruncate(&sparse, 300_000).unwrap();
    io::Seek::seek(&mut sparse, io::SeekFrom::Start(100_000)).unwrap();
    sparse.write_all(b"middle").unwrap();
    std::fs::write(folder.path().join(&long), b"long").unwrap();
    std::os::unix::fs::symlink("sparse", folder.path().join("link")).unwrap();
    for format in [
        "--format=gnu",
        "--format=pax",
        "--format=oldgnu",
        "--format=posix --sparse-version=0.0",
        "--format=posix --sparse-version=0.1",
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--sparse", "--sort=name", "-C"]).arg(folder.path()).args(format.split(' '));
        let output = tar.args(["-cf", "-", "."]).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success());
        let files = read(&output.stdout).unwrap();
        let found: Vec<_> =
            files.iter().map(|(name, kind, size, _)| (name.as_str(), *kind, *size)).collect();
        let (long, file) = (format!("./{long}"), EntryKind::File);
        assert_eq!(
            found,
            [
                ("./", EntryKind::Folder, 0),
                ("./link", EntryKind::SymbolicLink, 0),
                (long.as_str(), file, 4),
                ("./sparse", file, 300_000)
            ],
            "{format}"
        );
        let content = &files[3].3;
        assert_eq!(&content[100_000..100_006], b"middle", "{format}");
        assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 6, "{format}");
    }
}

prop_compose! {
    fn archive()(entries in prop::collection::vec(("[a-z]{1,120}", prop::collection::vec(any::<u8>(), 0..1500)), 0..6)) -> (Files, Vec<u8>) {
        let mut builder = tar::Builder::new(Vec::new());
        let mut files = Vec::new();
        for (name, content) in entries {
            let mut head = tar::Header::new_gnu();
            head.set_size(content.len() as u64);
            head.set_mode(0o644);
            builder.append_data(&mut head, &name, &content[..]).unwrap();
            files.push((name, EntryKind::File, content.len() as u64, content));
        }
        (files, builder.into_inner().unwrap())
    }
}

proptest! {
    #[test]
    fn what_another_writer_writes_is_read((files, archive) in archive()) {
        prop_assert_eq!(read(&archive).unwrap(), files);
    }

    #[test]
    fn damage_never_panics((_, mut archive) in archive(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), cut in any::<prop::sample::Index>()) {
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        archive.truncate(cut.index(archive.len() + 1));
        let _any = read(&archive);
    }
}
