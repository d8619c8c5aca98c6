//! Writes the seeds of the formats that no editor writes: our own (verdicts, ledgers, tables of paths,
//! messages of the scanner), and package databases, programs and archives. Run it after such a format
//! has changed: `cargo run -p portcullis-fuzzing --example seeds -- fuzz/corpus`.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use portcullis_audit::Ledger;
use portcullis_fuzzing::encode::{self, Frame, PAGE};
use portcullis_inventory::protocol::{Asked, Job, Limits, Said, Source, send};
use portcullis_inventory::{Image, Item, Kind, Layer, PackageKind, TableBuilder};
use portcullis_rpmdb::Package;
use portcullis_store::{FileStore, VerdictStore, fuzzing, suite};
use portcullis_types::{Digest, Event};
use serde::Serialize;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let corpus: PathBuf = std::env::args_os().nth(1).ok_or("name the folder of corpora")?.into();
    verdicts(&corpus.join("verdict"))?;
    ledgers(&corpus.join("ledger"))?;
    rpm(&corpus)?;
    binaries(&corpus.join("binary"))?;
    jars(&corpus.join("jar"))?;
    layers(&corpus)?;
    inventories(&corpus)
}

fn verdicts(to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for findings in [0, 1, 7] {
        let folder = tempfile::tempdir()?;
        let store = FileStore::open(folder.path());
        let image = suite::image('a');
        store.absorb(&image, suite::report("trivy", 10, findings + 1))?;
        store.absorb(&image, suite::report("trivy", 20, findings))?;
        store.absorb(&image, suite::report("grype", 11, findings / 2))?;
        let hex = image.config.hex();
        let file = fs::read(folder.path().join("sha256").join(&hex[..2]).join(hex))?;
        fs::write(to.join(format!("file-{findings}")), &file)?;
        let sections = fuzzing::unframed(&file).ok_or("a small verdict has short sections")?;
        fs::write(to.join(format!("sections-{findings}")), sections)?;
    }
    Ok(())
}

/// Files one behind the other, as `portcullis_fuzzing::ledger` takes them.
fn ledgers(to: &Path) -> Result<(), Box<dyn Error>> {
    const BETWEEN: &[u8] = &[0x1e];
    fs::create_dir_all(to)?;
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::new(folder.path().to_owned(), 1 << 20);
    let read = |name: &str| fs::read(folder.path().join(name));
    ledger.append(&event("1", "2026-11-24T12:00:00Z")?)?;
    ledger.append(&event("2", "2026-11-24T12:00:01Z")?)?;
    let (older, older_head) = (read("events.jsonl")?, read("head")?);
    fs::write(to.join("two"), [&*older, BETWEEN, BETWEEN, &older_head].concat())?;
    fs::write(to.join("cut"), [&older[..older.len() - 9], BETWEEN, BETWEEN, &older_head].concat())?;
    fs::rename(ledger.path(), folder.path().join("events-1.jsonl"))?;
    // A clock that was set back.
    ledger.append(&event("3", "2026-11-20T12:00:00Z")?)?;
    fs::write(
        to.join("moved"),
        [&*read("events.jsonl")?, BETWEEN, &older, BETWEEN, &read("head")?].concat(),
    )?;
    fs::write(to.join("torn"), [&older[..], b"{\"torn", BETWEEN, BETWEEN].concat())?;
    let unchained = serde_json::to_vec(&event("0", "2026-11-24T12:00:00Z")?)?;
    fs::write(to.join("unchained"), [&*unchained, b"\nnothing\n\n"].concat())?;
    Ok(())
}

fn event(id: &str, time: &str) -> Result<Event, serde_json::Error> {
    serde_json::from_value(serde_json::json!({
        "id": id, "time": time, "kind": "decision", "action": "block", "message": "blocked",
        "image": { "surety": "unknown" },
        "request": { "engine": "containerd", "node": "n", "containerId": id, "kind": "container" },
    }))
}

/// Writes a seed.
fn seed(to: &Path, name: &str, bytes: impl AsRef<[u8]>) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    Ok(fs::write(to.join(name), bytes)?)
}

fn package(name: &str, files: &[&str]) -> Package {
    Package {
        name: name.to_owned(),
        epoch: Some(1),
        version: "5.1.8".to_owned(),
        release: "6.el9".to_owned(),
        arch: Some("x86_64".to_owned()),
        source_rpm: Some(format!("{name}-5.1.8-6.el9.src.rpm")),
        modularity: None,
        vendor: None,
        license: Some("MIT".to_owned()),
        install_time: Some(1_700_000_000),
        files: files.iter().map(|file| (*file).to_owned()).collect(),
    }
}

/// A header whose tags are in the region of the package file.
fn with_region(header: &[u8]) -> Vec<u8> {
    let [count, length] =
        [0, 4].map(|at| u32::from_be_bytes(std::array::from_fn(|byte| header[at + byte])));
    let (index, data) = header[8..].split_at(16 * count as usize);
    let words = |words: [u32; 4]| words.map(u32::to_be_bytes).concat();
    let back = ((count + 1) * 16).wrapping_neg();
    [
        &(count + 1).to_be_bytes()[..],
        &(length + 16).to_be_bytes(),
        &words([63, 7, length, 16]),
        index,
        data,
        &words([63, 7, back, 16]),
    ]
    .concat()
}

fn rpm(corpus: &Path) -> Result<(), Box<dyn Error>> {
    let bash = encode::header(&package("bash", &["/usr/bin/bash", "/usr/share/doc/bash"]));
    let zlib = with_region(&encode::header(&package("zlib", &[])));
    let key = encode::header(&package("gpg-pubkey", &[]));
    let to = corpus.join("rpm_header");
    for (name, header) in [("old", &bash), ("region", &zlib), ("key", &key)] {
        seed(&to, name, header)?;
    }
    seed(&to, "cut", &bash[..bash.len() - 9])?;

    let to = corpus.join("rpmdb");
    let blobs = [(1, &*bash), (2, &*zlib), (5, &*key)];
    let sqlite = encode::sqlite(&blobs[..2]);
    seed(&to, "sqlite", [b"0", &*sqlite].concat())?;
    seed(&to, "bdb", [b"0", &*encode::bdb(&blobs)].concat())?;
    seed(&to, "unknown", b"0no database")?;
    // Another package in the place of the last one, and a change that never was committed.
    let other = encode::sqlite(&[(1, &bash), (2, &key)]);
    let pages = (sqlite.len() / PAGE) as u8;
    let frame = |page: u8, commit: u8| {
        let from = usize::from(page - 1) * PAGE;
        [&[page, commit], &other[from..from + PAGE]].concat()
    };
    let frames = [frame(2, pages), frame(1, 0)].concat();
    seed(&to, "log", [&[b'1', pages], &*sqlite, &frames].concat())?;
    // The same as whole files, as they lie in an image.
    let log = encode::log(&[Frame { page: 1, commit: 1, content: &other[..PAGE] }]);
    seed(&to, "log-alone", [b"0", &*log].concat())?;
    let (first, second) = (encode::ndb_blob(1, &bash), encode::ndb_blob(7, &zlib));
    let blocks = [&first, &second].map(|blob| (blob.len() / 16) as u8);
    let slots = [2, 1, 0, blocks[0], 7, blocks[0], blocks[1]];
    seed(&to, "ndb", [b"2", &slots[..], &first, &second].concat())?;
    seed(&to, "ndb-overlap", [b"2", &[2, 1, 0, blocks[0], 7, 1, blocks[1]][..], &first].concat())
}

fn binaries(to: &Path) -> Result<(), Box<dyn Error>> {
    let info = encode::go_build_info(
        "go1.22.1",
        "path\texample.com/a\nmod\texample.com/a\tv1.2.3\th1:x=\ndep\texample.com/b\tv2.0.0\th1:y=\n\
         =>\texample.com/c\tv3.0.0\th1:z=\ndep\texample.com/d\tv4.0.0\n\
         build\t-ldflags=\"-X main.version=1.2.3\"\n",
    );
    let mut audit = ZlibEncoder::new(Vec::new(), Compression::default());
    audit.write_all(
        br#"{"packages":[{"name":"app","version":"0.5.0","source":"local","root":true},
        {"name":"a","version":"1.0.0","source":"crates.io","dependencies":[0]},
        {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"}],"format":1}"#,
    )?;
    let audit = audit.finish()?;
    seed(to, "go", encode::elf(&[(".go.buildinfo", &info)]))?;
    seed(to, "rust", encode::elf(&[(".dep-v0", &audit)]))?;
    seed(to, "both", encode::elf(&[(".dep-v0", &audit), (".go.buildinfo", &info)]))?;
    seed(to, "neither", encode::elf(&[(".text", b"code")]))?;
    // Before Go 1.18: places of texts, and no table of sections.
    let mut old = b"\xff Go buildinf:\x08\x00".to_vec();
    old.extend([0x40_0020_u64, 0x40_0030].map(u64::to_le_bytes).concat());
    let modules = "0123456789abcdefpath\tx.y/a\nmod\tx.y/a\tv1.0.0\n0123456789abcdef";
    let texts = [(0x40_0040_u64, 6), (0x40_0046, modules.len() as u64)];
    old.extend(texts.map(|(at, length)| [at, length].map(u64::to_le_bytes).concat()).concat());
    old.extend([b"go1.16", modules.as_bytes()].concat());
    let mut file = encode::elf(&[(".go.buildinfo", &old)]);
    seed(to, "go-old", &file)?;
    file[40..48].fill(0);
    file[60..64].fill(0);
    seed(to, "go-no-sections", file)
}

fn zip(entries: &[(&str, &[u8])]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, content)) in entries.iter().enumerate() {
        let method = [CompressionMethod::Stored, CompressionMethod::Deflated][index % 2];
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options.large_file(index == 3))?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

fn jars(to: &Path) -> Result<(), Box<dyn Error>> {
    let pom = b"#x\nversion=1.0\ngroupId=org.a\nartifactId=one\n";
    let path = "META-INF/maven/org.a/one/pom.properties";
    let manifest = b"Manifest-Version: 1.0\r\nImplementation-Title: a\r\nImplementation-Version: 5.3.24\r\n\r\n";
    let one = zip(&[("a/B.class", b"class"), (path, pom)])?;
    let bundle =
        zip(&[("META-INF/MANIFEST.MF", b"Bundle-SymbolicName: org.a.b;x\nBundle-Version: 1.0\n")])?;
    let shaded =
        zip(&[("META-INF/MANIFEST.MF", manifest), (path, pom), (&format!("private/{path}"), pom)])?;
    let war = zip(&[
        ("x", b""),
        ("WEB-INF/lib/b-2.0.jar", &bundle),
        ("WEB-INF/lib/one.jar", &one),
        ("c.war", &shaded),
        ("broken.jar", b"PK"),
    ])?;
    for (name, archive) in [("one", &one), ("bundle", &bundle), ("shaded", &shaded), ("war", &war)]
    {
        seed(to, name, archive)?;
    }
    seed(to, "script", [b"#!/bin/sh\n", &*one].concat())?;
    seed(to, "empty", zip(&[])?)
}

/// An entry of an archive, whose link is written as a name is.
fn entry(kind: u8, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    [header(path, kind, content.len(), &[(157, link.as_bytes())]), padded(content)].concat()
}

fn gzip(content: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::best());
    writer.write_all(content)?;
    Ok(writer.finish()?)
}

/// A frame of zstd (RFC 8878) of one block, as it is or of one byte again and again.
fn zstd(content: &[u8], times: Option<u32>) -> Vec<u8> {
    let length = times.unwrap_or(content.len() as u32);
    let block = 1 | u32::from(times.is_some()) << 1 | length << 3;
    let head = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &length.to_le_bytes()].concat();
    [&*head, &block.to_le_bytes()[..3], content].concat()
}

fn layers(corpus: &Path) -> Result<(), Box<dyn Error>> {
    let plain = [
        entry(b'5', "etc/", "", b""),
        entry(b'0', "./etc/os-release", "", b"ID=debian\nVERSION_ID=12\n"),
        entry(b'2', "lib", "usr/lib", b""),
    ]
    .concat();
    let status = b"Package: a\nVersion: 1\nStatus: install ok installed\n";
    let files = [
        entry(b'0', "var/lib/dpkg/status", "", status),
        entry(b'1', "app/node_modules/a/package.json", "x", b""),
        entry(b'0', "x", "", br#"{"name":"a","version":"1.0.0"}"#),
    ]
    .concat();
    let marks = [
        entry(b'2', "lib", "usr/lib", b""),
        entry(b'0', "lib/.wh.a", "", b""),
        entry(b'0', "../srv/../opt/.wh..wh..opq", "", b""),
        entry(b'6', "fifo", "", b""),
    ]
    .concat();
    for (name, archive) in [("plain", &plain), ("files", &files), ("marks", &marks)] {
        seed(&corpus.join("layer"), name, archive)?;
        seed(&corpus.join("tar"), name, archive)?;
    }
    seed(&corpus.join("layer"), "packed", gzip(&files)?)?;
    for (name, packed) in [
        ("plain", b"plain".to_vec()),
        ("gzip", gzip(b"content")?),
        ("gzip-two", [gzip(b"two ")?, gzip(b"members")?].concat()),
        ("zstd", zstd(b"content", None)),
        (
            "zstd-frames",
            [
                &[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..],
                b"toc",
                &zstd(b"a", Some(9)),
                &zstd(b"b", None),
            ]
            .concat(),
        ),
        ("gzip-cut", gzip(&[7; 4000])?[..20].to_vec()),
        ("xz", b"\xfd7zXZ\0".to_vec()),
    ] {
        seed(&corpus.join("decompression"), name, packed)?;
    }
    tars(&corpus.join("tar"))
}

/// A header in the old form or GNU's, by what stands at some places of it.
fn header(name: &str, kind: u8, size: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    for (at, bytes) in fields {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.to_vec()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

fn tars(to: &Path) -> Result<(), Box<dyn Error>> {
    const GNU: (usize, &[u8]) = (257, b"ustar  \0");
    let long = [
        header("././@LongLink", b'L', 6, &[GNU]),
        padded(b"long/\0"),
        header("a", b'0', 2, &[GNU]),
        padded(b"xy"),
        header("d/", 0, 0, &[]),
        header("tty", b'3', 0, &[(257, b"ustar\x0000"), (329, b"0000005\0")]),
    ];
    seed(to, "gnu", long.concat())?;
    let sparse = header(
        "s",
        b'S',
        512,
        &[GNU, (386, b"00000001000\x0000000001000\0"), (483, b"00000003000")],
    );
    seed(to, "sparse", [sparse, padded(&[b's'; 512])].concat())?;
    let records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.name=s/file\n\
        28 GNU.sparse.realsize=4096\n";
    let map = padded(b"1\n1024\n3\n");
    let sparse = [
        header("pax", b'x', records.len(), &[]),
        padded(records),
        header("s", b'0', 515, &[]),
        map,
        padded(b"xyz"),
    ];
    seed(to, "sparse-pax", sparse.concat())?;
    let global = [
        header("pax", b'g', 10, &[]),
        padded(b"10 path=b\n"),
        header("a", b'0', 1, &[(257, b"ustar\x0000"), (345, b"prefix")]),
        padded(b"x"),
        vec![0; 1024],
    ];
    seed(to, "global", global.concat())
}

fn inventories(corpus: &Path) -> Result<(), Box<dyn Error>> {
    let table = |paths: &[(&str, Kind)]| -> Result<_, Box<dyn Error>> {
        let mut builder = TableBuilder::default();
        for (path, kind) in paths {
            builder.add(path, kind.clone())?;
        }
        Ok(builder.finish())
    };
    let few = table(&[
        ("etc", Kind::Folder),
        ("etc/os-release", Kind::File([7; 16])),
        ("étc/a", Kind::Unread),
        ("étc/ä", Kind::Other),
        ("lib", Kind::Link("usr/lib".to_owned())),
    ])?;
    let names: Vec<String> = (0..70).map(|n| format!("usr/share/{n}/file")).collect();
    let many: Vec<(&str, Kind)> = names.iter().map(|name| (&**name, Kind::Unread)).collect();
    let many = table(&many)?;
    for (name, table) in [("few", &few), ("many", &many), ("empty", &table(&[])?)] {
        // Behind the lengths of the message and of the table.
        let message = message(table)?;
        let length = message.iter().position(|byte| *byte < 0x80).ok_or("it has a length")?;
        seed(&corpus.join("file_table"), name, &message[length + 1..])?;
    }
    let digest = Digest::sha256([7; 32]);
    let json = format!(r#"{{"config":{{"User":"app"}},"rootfs":{{"diff_ids":["{digest}"]}}}}"#);
    let image = Image::of_config(json.into_bytes())?;
    let text = Item::Text(b"ID=debian\nVERSION_ID=12\n".to_vec());
    let package = portcullis_inventory::Package::new(PackageKind::Deb, "a", "1");
    let layer = Layer {
        table: few,
        items: [
            ("etc/os-release".to_owned(), vec![text]),
            ("var/lib/dpkg/status".to_owned(), vec![Item::Packages(vec![package])]),
        ]
        .into(),
        removed: BTreeSet::from(["a/b".to_owned()]),
        opaque: BTreeSet::from(["srv".to_owned()]),
        bytes: 24,
    };
    let job = Job {
        source: Source::Layout("/a".into()),
        image: Some("a:1".to_owned()),
        platform: "linux/amd64".to_owned(),
        rules: vec![("a.yar".to_owned(), b"rule a { condition: true }".to_vec())],
        clamd: true,
        scratch: "/tmp".into(),
        limits: Limits::default(),
    };
    let to = corpus.join("scanner_messages");
    let said = |said: &Said| Ok::<_, Box<dyn Error>>([b"0", &*message(said)?].concat());
    let confined = vec!["landlock".to_owned(), "seccomp".to_owned()];
    seed(&to, "image", said(&Said::Image { image, confined, engines: Vec::new() })?)?;
    seed(&to, "layer", said(&Said::Layer { diff_id: Some(digest.clone()), layer })?)?;
    seed(&to, "progress", said(&Said::Progress { layer: 1, bytes: 500 })?)?;
    seed(&to, "failed", said(&Said::Failed("why".to_owned()))?)?;
    seed(&to, "job", [b"1", &*message(&job)?].concat())?;
    seed(&to, "asked", [b"2", &*message(&Asked { layers: BTreeSet::from([digest]) })?].concat())
}

/// A message without its length.
fn message(message: &impl Serialize) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut pipe = Vec::new();
    send(&mut pipe, message)?;
    Ok(pipe.split_off(4))
}
