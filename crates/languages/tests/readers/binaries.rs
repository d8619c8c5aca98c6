//! Binaries of Go and Rust.
//!
//! `hello.buildinfo` is the section `.go.buildinfo` of a program that Go 1.19.8 built (`go build
//! -ldflags "-s -w -X main.version=1.2.3"`, 64 bits), of a module that requires four others, one of
//! them replaced by a folder and one by another version. It stands here in ELF files that
//! [`Builder`] makes, since a whole program of Go has a megabyte. What cargo-auditable writes is
//! written by the test itself.

use std::io::Write as _;

use crate::support::{found, lines, packages};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use portcullis_languages::{LanguageError, Reader, reader_of};

const HELLO: &[u8] = include_bytes!("hello.buildinfo");
const HELLO_PACKAGES: [&str; 5] = [
    "example.com/dep v1.4.0",
    "example.com/new v0.2.0",
    "example.com/portcullis/hello v1.2.3",
    "example.com/pseudo v0.0.0-20240102030405-0123456789ab",
    "stdlib v1.19.8",
];
/// Where the data of [`Builder`] is loaded.
const ADDRESS: u64 = 0x40_0000;

/// Writes ELF files with one writable segment, and sections that are parts of it.
#[derive(Clone, Copy)]
struct Builder {
    is_64: bool,
    is_big: bool,
    has_sections: bool,
}

impl Builder {
    fn number(self, number: u64, width: usize, file: &mut Vec<u8>) {
        let bytes = number.to_be_bytes();
        match self.is_big {
            true => file.extend(&bytes[8 - width..]),
            false => file.extend(bytes[8 - width..].iter().rev()),
        }
    }

    fn word(self, number: u64, file: &mut Vec<u8>) {
        self.number(number, if self.is_64 { 8 } else { 4 }, file);
    }

    /// Sections are named and begin at offsets of the data.
    fn build(self, data: &[u8], sections: &[(&str, usize, usize)]) -> Vec<u8> {
        let (header, segment, section) = if self.is_64 { (64, 56, 64) } else { (52, 32, 40) };
        let start = 256;
        let mut names = b"\0.shstrtab\0".to_vec();
        let mut offsets = Vec::new();
        for (name, ..) in sections {
            offsets.push(names.len());
            names.extend(name.as_bytes());
            names.push(0);
        }
        let names_at = start + data.len();
        let table = names_at + names.len();
        let (table, count) = if self.has_sections { (table, sections.len() + 2) } else { (0, 0) };
        let mut file = b"\x7fELF".to_vec();
        file.extend([1 + u8::from(self.is_64), 1 + u8::from(self.is_big), 1]);
        file.resize(16, 0);
        for (number, width) in [(2, 2), (62, 2), (1, 4)] {
            self.number(number, width, &mut file);
        }
        for number in [ADDRESS, header, table as u64] {
            self.word(number, &mut file);
        }
        let names_index = u64::from(count != 0);
        self.number(0, 4, &mut file);
        for number in [header, segment, 1, section, count as u64, names_index] {
            self.number(number, 2, &mut file);
        }
        assert_eq!(file.len() as u64, header);
        self.number(1, 4, &mut file);
        if self.is_64 {
            self.number(6, 4, &mut file);
        }
        for number in [start as u64, ADDRESS, ADDRESS, data.len() as u64, data.len() as u64] {
            self.word(number, &mut file);
        }
        if !self.is_64 {
            self.number(6, 4, &mut file);
        }
        self.word(4096, &mut file);
        file.resize(start, 0);
        file.extend(data);
        if !self.has_sections {
            return file;
        }
        file.extend(&names);
        file.resize(file.len() + section as usize, 0);
        let all = [(1, names_at, names.len())].into_iter().chain(
            sections.iter().zip(&offsets).map(|((_, at, size), name)| (*name, start + at, *size)),
        );
        for (name, at, size) in all {
            self.number(name as u64, 4, &mut file);
            self.number(1, 4, &mut file);
            for number in [0, 0, at as u64, size as u64] {
                self.word(number, &mut file);
            }
            self.number(0, 8, &mut file);
            self.word(1, &mut file);
            self.word(0, &mut file);
        }
        file
    }

    /// Build information as before Go 1.18: pointers to texts.
    fn pointers(self, version: &str, modules: &str) -> Vec<u8> {
        let width = if self.is_64 { 8 } else { 4 };
        let modules = format!("{0}{modules}{0}", "0123456789abcdef");
        let (headers, texts) = (64, 96);
        let mut data = b"\xff Go buildinf:".to_vec();
        data.extend([width as u8, u8::from(self.is_big)]);
        self.word(ADDRESS + headers, &mut data);
        self.word(ADDRESS + headers + 2 * width, &mut data);
        data.resize(64, 0);
        for (at, length) in [(texts, version.len()), (texts + version.len() as u64, modules.len())]
        {
            self.word(ADDRESS + at, &mut data);
            self.word(length as u64, &mut data);
        }
        data.resize(96, 0);
        data.extend(version.as_bytes());
        data.extend(modules.as_bytes());
        data
    }
}

fn builders() -> impl Iterator<Item = Builder> {
    let kinds = [(true, false), (true, true), (false, false), (false, true)];
    let builder = |(is_64, is_big), has_sections| Builder { is_64, is_big, has_sections };
    kinds.into_iter().flat_map(move |kind| [true, false].map(|has| builder(kind, has)))
}

fn auditable(json: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const PLAIN: Builder = Builder { is_64: true, is_big: false, has_sections: true };

#[test]
fn modules_of_go_are_read_whatever_the_machine() {
    for builder in builders() {
        let mut data = vec![0; 32];
        data.extend(HELLO);
        let file = builder.build(&data, &[(".data", 0, 32), (".go.buildinfo", 32, HELLO.len())]);
        assert_eq!(reader_of("bin/hello", &file[..20]), Some(Reader::Binary));
        assert_eq!(packages(Reader::Binary, "hello", &file), HELLO_PACKAGES);

        let modules = "path\texample.com/a\nmod\texample.com/a\tv1.2.3\th1:x=\ndep\texample.com/b\t\
            v2.0.0\th1:y=\n=>\texample.com/c\tv3.0.0\th1:z=\ndep\texample.com/d\tv4.0.0\n";
        let data = builder.pointers("go1.16", modules);
        let file = builder.build(&data, &[(".go.buildinfo", 0, 64)]);
        let wanted = [
            "example.com/a v1.2.3",
            "example.com/c v3.0.0",
            "example.com/d v4.0.0",
            "stdlib v1.16.0",
        ];
        assert_eq!(packages(Reader::Binary, "old", &file), wanted);
    }
}

#[test]
fn what_go_did_not_make_is_nothing() {
    let nothing: [&[u8]; 5] =
        [b"", b"\x7fELF", b"#!/bin/sh", &[0; 200], &PLAIN.build(b"x", &[])[..70]];
    for file in nothing {
        assert_eq!(packages(Reader::Binary, "file", file), [""; 0]);
    }
    // A table of sections without the one of Go: what looks like it in the data is not it.
    let file = PLAIN.build(HELLO, &[(".data", 0, HELLO.len())]);
    assert_eq!(packages(Reader::Binary, "file", &file), [""; 0]);
}

#[test]
fn damaged_build_information_is_told() {
    let cut = &HELLO[..HELLO.len() / 2];
    let file = PLAIN.build(cut, &[(".go.buildinfo", 0, cut.len())]);
    let error = found(Reader::Binary, "file", &file).unwrap_err();
    assert!(matches!(error, LanguageError::Damaged(_)), "{error:?}");
    let mut data = PLAIN.pointers("go1.16", "");
    data[64 + 8..64 + 16].fill(0xff);
    let file = PLAIN.build(&data, &[(".go.buildinfo", 0, 64)]);
    let error = found(Reader::Binary, "file", &file).unwrap_err();
    assert!(matches!(error, LanguageError::Damaged(_)), "{error:?}");
}

#[test]
fn crates_of_auditable_binaries_are_read() {
    let json = r#"{"packages":[{"name":"app","version":"0.5.0","source":"local","root":true},
        {"name":"own","version":"1.0.0","source":"local"},
        {"name":"a","version":"1.0.0","source":"crates.io","dependencies":[0]},
        {"name":"a","version":"2.0.0","source":"crates.io"},
        {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
        {"name":"g","version":"1.0.0","source":"git"}],"format":1}"#;
    let data = auditable(json);
    for builder in builders().filter(|builder| builder.has_sections) {
        let file = builder.build(&data, &[(".dep-v0", 0, data.len())]);
        assert_eq!(packages(Reader::Binary, "app", &file), ["a 1.0.0", "a 2.0.0", "app 0.5.0"]);
    }
    let bomb = auditable(&" ".repeat(9 << 20));
    assert!(bomb.len() < 20_000);
    for (data, wanted) in [(bomb.as_slice(), "TooLarge"), (&data[..20], "Read"), (b"x", "Read")] {
        let file = PLAIN.build(data, &[(".dep-v0", 0, data.len())]);
        let error = found(Reader::Binary, "app", &file).unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{error:?}");
    }
}

#[test]
fn a_binary_may_be_of_both() {
    let audit = auditable(r#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io"}]}"#);
    let mut data = HELLO.to_vec();
    data.extend(&audit);
    let sections = [(".go.buildinfo", 0, HELLO.len()), (".dep-v0", HELLO.len(), audit.len())];
    let file = PLAIN.build(&data, &sections);
    let found = found(Reader::Binary, "both", &file).unwrap();
    assert_eq!(lines(&found).len(), HELLO_PACKAGES.len() + 1);
}
