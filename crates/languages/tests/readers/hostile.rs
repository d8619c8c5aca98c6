//! Whatever the bytes are, nothing panics.

use std::io::{Cursor, Write as _};

use portcullis_languages::{Reader, reader_of};
use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Texts that have something of every format.
const SEEDS: [&str; 9] = [
    r#"{"name":"a","version":"1.0.0","license":{"type":"MIT"},"packages":{"node_modules/a":{"version":"1"}}}"#,
    r#"{"dependencies":{"a":{"version":"npm:b@1.0.0","dependencies":{"c":{"version":"1"}}}}}"#,
    r#"{"libraries":{"A/1.0":{"type":"package"}},"targets":{"":{"A/1.0":{"runtime":{"a":1}}}}}"#,
    "[[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = { git = \".\" }\n",
    "\"@s/a@npm:b@^1\", c@2:\n  version \"1.0\"\n  resolution: \"@s/a@npm:1.0\"\npackages:\n  /@s/a/1.0:\n",
    "Name: a\nVersion: 1.0\n\na[x]==1.0 ; x # y\n",
    "module a\nrequire (\n\ta.b/c v1.0.0 // x\n)\nreplace a.b/c => d.e/f v2.0.0\n",
    "# stub: a 1.0 ruby lib\ns.name = \"a\".freeze\ns.licenses = ['MIT']\n",
    "GEM\n  specs:\n    a (1.0-x)\n",
];

fn binary() -> Vec<u8> {
    let info = include_bytes!("hello.buildinfo");
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for number in [0x40_0000_u64, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 6, 0, 0, 0]);
    for number in [128, 0x40_0000, 0x40_0000, info.len() as u64, info.len() as u64, 4096] {
        file.extend(number.to_le_bytes());
    }
    file.resize(128, 0);
    file.extend(info);
    file
}

fn archive() -> Vec<u8> {
    let mut inner = ZipWriter::new(Cursor::new(Vec::new()));
    inner.start_file("META-INF/MANIFEST.MF", SimpleFileOptions::default()).unwrap();
    inner.write_all(b"Bundle-SymbolicName: org.a.b\nBundle-Version: 1.0\n").unwrap();
    let inner = inner.finish().unwrap().into_inner();
    let mut outer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in
        [("META-INF/maven/g/a/pom.properties", b"version=1\n".as_slice()), ("b.jar", &inner)]
    {
        outer.start_file(name, SimpleFileOptions::default().large_file(true)).unwrap();
        outer.write_all(content).unwrap();
    }
    outer.finish().unwrap().into_inner()
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = SEEDS.iter().map(|seed| seed.as_bytes().to_vec());
    texts.chain([binary(), archive()]).collect()
}

/// Reads bytes in every way; what is found can be told.
fn read_all(content: &[u8]) {
    for reader in Reader::ALL {
        for path in ["a-1.0.jar", "é.jar", ""] {
            if let Ok(found) = crate::support::found(reader, path, content) {
                for package in &found.packages {
                    assert!(package.purl().is_ascii());
                    assert!(package.name.len() <= 256 && package.version.len() <= 128);
                }
            }
        }
    }
}

#[test]
fn the_seeds_tell_of_packages() {
    for seed in seeds() {
        let found = |reader| crate::support::found(reader, "a.jar", &seed);
        let tells =
            Reader::ALL.iter().any(|reader| found(*reader).is_ok_and(|f| !f.packages.is_empty()));
        assert!(tells, "{:?}", String::from_utf8_lossy(&seed));
    }
}

proptest! {
    #[test]
    fn changed_files_do_no_harm(
        seed in 0..11_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut content = seeds().swap_remove(seed);
        for (index, byte) in changes {
            let index = index.index(content.len());
            content[index] = byte;
        }
        if is_cut {
            content.truncate(cut.index(content.len()));
        }
        read_all(&content);
    }

    #[test]
    fn random_bytes_do_no_harm(content in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&content);
    }

    #[test]
    fn random_words_do_no_harm(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", "\"", ":", ",", "\n", " ", "  ", "@", "/", "(", ")", "-", "=", "==",
                "name", "version", "packages", "dependencies", "node_modules/", "npm:", "=>", "require",
                "1.0", "a", "é", "\t", "\r\n", "# stub: ", "GEM", "|", ".", "'", "\\", "v1.0.0",
            ]),
            0..60,
        ),
    ) {
        read_all(words.concat().as_bytes());
    }

    #[test]
    fn any_path_has_a_reader_or_none(path in ".{0,60}", head in prop::collection::vec(any::<u8>(), 0..24)) {
        let _ = reader_of(&path, &head);
    }
}
