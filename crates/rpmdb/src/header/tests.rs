use proptest::prelude::*;

use super::*;

/// A value of a header.
#[derive(Clone)]
enum Value {
    Text(&'static str),
    Translated(&'static [&'static str]),
    Texts(&'static [&'static str]),
    Numbers(&'static [u32]),
    /// Of any type and count, with the bytes as they are.
    Raw(u32, u32, &'static [u8]),
}
use Value::{Numbers, Raw, Text, Texts, Translated};

impl Value {
    fn bytes(&self) -> (u32, usize, Vec<u8>) {
        let zero_ended = |texts: &[&str]| texts.join("\0").into_bytes().into_iter().chain([0]);
        match self {
            Text(text) => (STRING, 1, zero_ended(&[*text]).collect()),
            Translated(texts) => (I18N_STRING, texts.len(), zero_ended(texts).collect()),
            Texts(texts) => (STRING_ARRAY, texts.len(), zero_ended(texts).collect()),
            Numbers(numbers) => {
                (INT32, numbers.len(), numbers.iter().flat_map(|n| n.to_be_bytes()).collect())
            }
            Raw(kind, count, bytes) => (*kind, *count as usize, bytes.to_vec()),
        }
    }
}

type Tags = Vec<(u32, Value)>;

/// A header with the tags of a package file in its region, and those that were added.
fn blob(region: &[(u32, Value)], added: &[(u32, Value)]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    let entry = |index: &mut Vec<u8>, tag: u32, kind: u32, offset: usize, count: usize| {
        let words = [tag, kind, offset as u32, count as u32];
        index.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    };
    for (at, (tag, value)) in region.iter().chain(added).enumerate() {
        if at == region.len() {
            data.extend_from_slice(&trailer(region.len()));
        }
        let (kind, count, bytes) = value.bytes();
        while kind == INT32 && data.len() % 4 != 0 {
            data.push(0);
        }
        entry(&mut index, *tag, kind, data.len(), count);
        data.extend_from_slice(&bytes);
    }
    if added.is_empty() {
        data.extend_from_slice(&trailer(region.len()));
    }
    let place = data.windows(16).position(|bytes| bytes == trailer(region.len())).unwrap();
    let mut all = Vec::new();
    entry(&mut all, 63, BIN, place, 16);
    all.extend_from_slice(&index);
    whole(&all, &data)
}

fn trailer(region: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    let back = ((region + 1) * 16) as u32;
    for (at, word) in [63, BIN, back.wrapping_neg(), 16].into_iter().enumerate() {
        bytes[4 * at..][..4].copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

fn whole(index: &[u8], data: &[u8]) -> Vec<u8> {
    let lengths = [(index.len() / 16) as u32, data.len() as u32];
    let lengths = lengths.iter().flat_map(|word| word.to_be_bytes());
    lengths.chain(index.iter().copied()).chain(data.iter().copied()).collect()
}

/// The tags that every package has.
fn needed() -> Tags {
    vec![(1000, Text("a")), (1001, Text("1")), (1002, Text("2"))]
}

fn with(tags: impl IntoIterator<Item = (u32, Value)>) -> Tags {
    needed().into_iter().chain(tags).collect()
}

fn package(blob: &[u8]) -> Result<Package, HeaderError> {
    match read(blob, 1000)? {
        Content::Package(package) => Ok(package),
        Content::Key => panic!("it is a key"),
    }
}

#[test]
fn files_are_names_and_folders_or_whole() {
    let check = |tags: Tags, expected: Result<&[&str], HeaderError>| {
        let files = package(&blob(&with(tags), &[])).map(|package| package.files);
        let expected = expected.map(|files| files.iter().map(|file| (*file).to_owned()).collect());
        assert_eq!(files, expected);
    };
    let names = || (1117, Texts(&["a", "b", ""]));
    let folders = || (1118, Texts(&["/x/", "/"]));
    check(vec![], Ok(&[]));
    let all = vec![(1116, Numbers(&[1, 0, 0])), names(), folders()];
    check(all.clone(), Ok(&["/a", "/x/b", "/x/"]));
    check(vec![(1027, Texts(&["/old/a", "/b"]))], Ok(&["/old/a", "/b"]));
    // Of both, rpm takes the newer one.
    let old = (1027, Texts(&["/old/a", "/b"]));
    check([vec![old], all].concat(), Ok(&["/a", "/x/b", "/x/"]));
    check(vec![(1116, Numbers(&[0])), (1117, Text("one")), (1118, Text("/"))], Ok(&["/one"]));
    // Damaged ones.
    let files = || Err(HeaderError::Files);
    check(vec![names(), folders()], files());
    check(vec![(1116, Numbers(&[1, 0, 0])), names()], files());
    check(vec![(1116, Numbers(&[1, 0])), names(), folders()], files());
    check(vec![(1116, Numbers(&[1, 0, 2])), names(), folders()], files());
    check(vec![(1116, Numbers(&[1, 0, u32::MAX])), names(), folders()], files());
    check(vec![(1116, Texts(&["1", "0", "0"])), names(), folders()], Err(HeaderError::Tag(1116)));
    check(vec![(1027, Raw(STRING_ARRAY, 1 << 20, &[0]))], Err(HeaderError::Tag(1027)));
    check(vec![(1027, Raw(STRING_ARRAY, 0, &[0]))], Err(HeaderError::Tag(1027)));
    // A list that has no end, as the last of all values.
    let open = [(1027, Raw(STRING_ARRAY, 2, b"/a\0/b"))];
    assert_eq!(package(&blob(&needed(), &open)), Err(HeaderError::Tag(1027)));
}

#[test]
fn the_names_of_files_are_not_multiplied_without_end() {
    const NAMES: &str = "abcdefghijklmnopqrstuvwxyz";
    let check = |max, expected: Result<usize, HeaderError>| {
        let tags = vec![
            (1116, Numbers(&[0, 0, 0])),
            (1117, Texts(&[NAMES, NAMES, NAMES])),
            (1118, Texts(&["/a-folder/"])),
        ];
        let files = read(&blob(&with(tags), &[]), max).map(|content| match content {
            Content::Package(package) => package.files.len(),
            Content::Key => 0,
        });
        assert_eq!(files, expected);
    };
    check(3 * 36, Ok(3));
    check(3 * 36 - 1, Err(HeaderError::Paths(3 * 36 - 1)));
    check(0, Err(HeaderError::Paths(0)));
}

#[test]
fn texts_and_numbers_have_their_types() {
    let check = |value: Value, expected: Result<&str, HeaderError>| {
        let vendor = package(&blob(&with([(1011, value)]), &[])).map(|package| package.vendor);
        assert_eq!(vendor, expected.map(|vendor| Some(vendor.to_owned())));
    };
    check(Text("x"), Ok("x"));
    check(Text(""), Ok(""));
    check(Translated(&["x", "y"]), Ok("x"));
    check(Texts(&["x"]), Ok("x"));
    check(Raw(STRING, 1, b"caf\xe9\0"), Ok("caf\u{fffd}"));
    check(Texts(&["x", "y"]), Err(HeaderError::Tag(1011)));
    check(Raw(STRING, 2, b"x\0y\0"), Err(HeaderError::Tag(1011)));
    check(Raw(BIN, 2, b"x\0"), Err(HeaderError::Tag(1011)));
    check(Raw(STRING, 0, b"x\0"), Err(HeaderError::Tag(1011)));

    let check = |value: Value, expected: Result<u32, HeaderError>| {
        let epoch = package(&blob(&with([(1003, value)]), &[])).map(|package| package.epoch);
        assert_eq!(epoch, expected.map(Some));
    };
    check(Numbers(&[0]), Ok(0));
    check(Numbers(&[u32::MAX]), Ok(u32::MAX));
    check(Numbers(&[1, 2]), Err(HeaderError::Tag(1003)));
    check(Text("1"), Err(HeaderError::Tag(1003)));
}

#[test]
fn what_was_added_replaces_what_was_in_the_package() {
    let check = |region: Tags, added: Tags, expected: Result<&str, HeaderError>| {
        let name = package(&blob(&region, &added)).map(|package| package.name);
        assert_eq!(name, expected.map(str::to_owned));
    };
    check(needed(), vec![], Ok("a"));
    check(needed(), vec![(1000, Text("b"))], Ok("b"));
    check(needed(), vec![(9999, Text("b"))], Ok("a"));
    check(vec![], needed(), Ok("a"));
    check(with([(1000, Text("b"))]), vec![], Err(HeaderError::Twice(1000)));
    check(needed(), vec![(1000, Text("b")), (1000, Text("c"))], Err(HeaderError::Twice(1000)));
    // Tags that are not read may be there twice.
    check(with([(9999, Text("b")), (9999, Text("c"))]), vec![], Ok("a"));
}

#[test]
fn each_package_has_a_name_and_a_version() {
    for missing in [1000, 1001, 1002] {
        let tags: Tags = needed().into_iter().filter(|(tag, _)| *tag != missing).collect();
        assert_eq!(package(&blob(&tags, &[])), Err(HeaderError::Missing(missing)));
    }
    let key = blob(&[(1000, Text("gpg-pubkey"))], &[]);
    assert!(matches!(read(&key, 0), Ok(Content::Key)));
}

#[test]
fn a_header_of_rpm_3_has_no_region() {
    let tags = with([(1027, Texts(&["/old"]))]);
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, value) in tags {
        let (kind, count, bytes) = value.bytes();
        for word in [tag, kind, data.len() as u32, count as u32] {
            index.extend_from_slice(&word.to_be_bytes());
        }
        data.extend_from_slice(&bytes);
    }
    let package = package(&whole(&index, &data)).unwrap();
    assert_eq!((package.name.as_str(), package.files), ("a", vec!["/old".to_owned()]));
}

#[test]
fn damage_is_told() {
    let sound = blob(&needed(), &[(1008, Numbers(&[7]))]);
    assert_eq!(package(&sound).map(|package| package.install_time), Ok(Some(7)));
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: HeaderError| {
        let mut damaged = sound.clone();
        change(&mut damaged);
        assert_eq!(package(&damaged), Err(expected));
    };
    let set = |at: usize, word: u32| {
        move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&word.to_be_bytes())
    };
    check(&|bytes| bytes.truncate(7), HeaderError::Length);
    check(&|bytes| bytes.clear(), HeaderError::Length);
    check(&|bytes| bytes.push(0), HeaderError::Length);
    check(&|bytes| _ = bytes.pop(), HeaderError::Length);
    check(&set(0, 0), HeaderError::Length);
    check(&set(0, u32::MAX), HeaderError::Length);
    check(&set(4, u32::MAX), HeaderError::Length);
    // The region's own entry: its type, place and count.
    for at in [12, 16, 20] {
        check(&set(at, 1_000_000), HeaderError::Region);
    }
    let trailer = sound.windows(16).position(|bytes| bytes == trailer(3)).unwrap();
    for (at, word) in [(0, 61), (4, 1), (8, 16), (8, 0), (8, 1 << 31), (8, u32::MAX), (12, 15)] {
        check(&set(trailer + at, word), HeaderError::Region);
    }
    // The region has more entries than there are.
    check(&set(trailer + 8, (6_u32 * 16).wrapping_neg()), HeaderError::Region);
    // The entry of the name: its type, place and count.
    for (at, word) in [(4, 0), (4, 99), (8, 1_000_000), (8, u32::MAX), (12, 0), (12, u32::MAX)] {
        check(&set(24 + at, word), HeaderError::Tag(1000));
    }
    // The last value is cut off by its place.
    check(&set(72 + 8, sound.len() as u32 - 88 - 3), HeaderError::Tag(1008));
}

proptest! {
    #[test]
    fn nothing_panics_on_changed_headers(
        changes in prop::collection::vec((0..4096_usize, any::<u8>()), 1..8),
        cut in prop::option::of(0..4096_usize),
    ) {
        let tags = vec![
            (1116, Numbers(&[1, 0, 0])),
            (1117, Texts(&["a", "b", "c"])),
            (1118, Texts(&["/x/", "/"])),
            (1011, Translated(&["x", "y"])),
            (1003, Numbers(&[1])),
        ];
        let mut bytes = blob(&with(tags), &[(1008, Numbers(&[7]))]);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        if let Ok(Content::Package(package)) = read(&bytes, 1000) {
            prop_assert!(package.files.iter().map(String::len).sum::<usize>() <= 3000);
        }
    }

    #[test]
    fn nothing_panics_on_random_headers(data in prop::collection::vec(any::<u8>(), 0..400)) {
        // With lengths that are right, so that more of it is read.
        let count = (data.len() / 16).min(8);
        let (index, data) = data.split_at(count * 16);
        prop_assert!(!matches!(read(&whole(index, data), 1000), Ok(Content::Key)));
    }
}
