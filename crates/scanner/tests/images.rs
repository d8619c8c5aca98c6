//! The scanner's own process, started as `portcullis` starts it, on images made here: as layouts,
//! archives and folders, and hostile ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use common::{items, scan, scan_with};
use portcullis_inventory::protocol::{Limits, Source, StoredLayer};
use portcullis_inventory::{Item, Kind};
use portcullis_scan::{Kept, Scanner};
use portcullis_testkit::image::{Builder, Entry, binary, bomb, file, folder, gzip, link, zstd};

const STATUS: &str = "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\n\n\
                      Package: zlib1g\nStatus: install ok installed\nSource: zlib\nVersion: 1:1.2-3\n";

/// Two layers: Debian with two packages, and one of the packages gone.
fn debian() -> Builder {
    Builder::new()
        .layer(vec![
            folder("var"),
            file("var/lib/dpkg/status", STATUS),
            file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
            file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ])
        .layer(vec![
            file("var/lib/dpkg/status", &STATUS[..STATUS.find("\n\n").unwrap()]),
            file("app/key.pem", "nothing"),
            file("app/.wh.gone", ""),
        ])
}

fn packages(scanned: &portcullis_scan::Scanned) -> Vec<String> {
    let mut names = Vec::new();
    for (_, item) in scanned.merged.items() {
        if let Item::Packages(packages) = item {
            names.extend(packages.iter().map(|p| format!("{} {}", p.name, p.version)));
        }
    }
    names
}

#[test]
fn every_form_of_an_image_is_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let image = debian();
    let config = image.config_digest();
    image.write_layout(&place("layout"), |layer| layer.to_vec());
    image.write_layout(&place("gzip"), gzip);
    image.write_layout(&place("zstd"), zstd);
    fs::write(place("oci.tar"), image.oci_archive(gzip)).unwrap();
    fs::write(place("docker.tar"), image.docker_archive()).unwrap();
    fs::write(place("docker.tar.gz"), gzip(&image.docker_archive())).unwrap();
    fs::write(place("docker.tar.zst"), zstd(&image.docker_archive())).unwrap();
    let sources = [
        Source::Layout(place("layout")),
        Source::Layout(place("gzip")),
        Source::Layout(place("zstd")),
        Source::Archive(place("oci.tar")),
        Source::Archive(place("docker.tar")),
        Source::Archive(place("docker.tar.gz")),
        Source::Archive(place("docker.tar.zst")),
    ];
    for source in sources {
        let scanned = scan(source.clone()).unwrap();
        assert_eq!(scanned.image.config.as_ref(), Some(&config), "{source:?}");
        assert_eq!(packages(&scanned), ["bash 5.2-1"], "{source:?}");
        assert_eq!(scanned.layers_read, 2);
        for confined in ["rlimits", "seccomp"] {
            assert!(scanned.confined.iter().any(|c| c == confined), "{:?}", scanned.confined);
        }
    }
}

#[test]
fn a_root_filesystem_is_read_without_leaving_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "not of the image").unwrap();
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("var/lib/dpkg")).unwrap();
    fs::create_dir_all(at("etc")).unwrap();
    fs::write(at("var/lib/dpkg/status"), STATUS).unwrap();
    symlink(outside.path(), at("way-out")).unwrap();
    symlink(outside.path().join("secret"), at("etc/passwd")).unwrap();
    fs::hard_link(at("var/lib/dpkg/status"), at("var/lib/dpkg/status-old")).unwrap();
    let scanned = scan(Source::Root(root.path().to_owned())).unwrap();
    assert_eq!(packages(&scanned), ["bash 5.2-1", "zlib1g 1:1.2-3"]);
    assert!(matches!(scanned.merged.get("way-out"), Some(Kind::Link(_))));
    assert_eq!(scanned.merged.get("way-out/secret"), None);
    assert_eq!(scanned.merged.text("etc/passwd"), None);
    let both =
        ["var/lib/dpkg/status", "var/lib/dpkg/status-old"].map(|path| scanned.merged.get(path));
    assert!(matches!(both[0], Some(Kind::File(_))));
    assert_eq!(both[0], both[1]);
}

#[test]
fn a_layer_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let layout = |name: &str| folder.path().join(name);
    let (first, second) = (debian(), debian().layer(vec![file("more", "more")]));
    first.write_layout(&layout("first"), gzip);
    second.write_layout(&layout("second"), gzip);
    let scanner =
        Scanner { kept: Some(Kept::new(folder.path().join("kept"))), ..common::scanner() };
    let read = |name: &str| {
        let scanned = scan_with(&scanner, Source::Layout(layout(name))).unwrap();
        (scanned.layers_read, scanned.layers_known, packages(&scanned))
    };
    let bash = vec!["bash 5.2-1".to_owned()];
    assert_eq!(read("first"), (2, 0, bash.clone()));
    assert_eq!(read("second"), (1, 2, bash.clone()), "the layers of the first are known");
    assert_eq!(read("second"), (0, 3, bash.clone()));
    // What is kept is all there is: no layer is needed for another look.
    fs::remove_dir_all(layout("first")).unwrap();
    let kept = scanner.kept.as_ref().unwrap();
    let images = kept.images().unwrap();
    assert_eq!(images.len(), 2);
    for image in &images {
        let again = portcullis_scan::again(kept, image).unwrap().unwrap();
        assert_eq!((again.layers_read, packages(&again)), (0, bash.clone()));
    }
    // A layer that is damaged on disk is read again.
    let layers = folder.path().join("kept/layers");
    let damaged = walk(&layers);
    damaged.iter().for_each(|file| fs::write(file, b"damaged").unwrap());
    assert_eq!(damaged.len(), 3);
    assert_eq!(read("second"), (3, 0, bash));
    assert!(kept.forget(&second.config_digest()).unwrap());
    assert_eq!(walk(&layers).len(), 2, "the other image's layers stay");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|e| e.unwrap().path())).collect()
}

#[test]
fn what_is_behind_links_is_seen_or_told() {
    let unread = |scanned: &portcullis_scan::Scanned| -> Vec<String> {
        let items = items(scanned);
        items.iter().filter(|(_, i)| matches!(i, Item::Unread(_))).map(|(p, _)| p.clone()).collect()
    };
    for (layers, wanted, told) in [
        // A link in the same layer, through which the database comes.
        (vec![vec![link("x", "var/lib/dpkg"), file("x/status", STATUS)]], 2, &[][..]),
        // Another name of the database's file.
        (vec![vec![file("x", STATUS), Entry::hard_link("var/lib/dpkg/status", "x")]], 2, &[]),
        // The database is a link to somewhere else.
        (
            vec![vec![file("x", STATUS), link("var/lib/dpkg/status", "/x")]],
            0,
            &["var/lib/dpkg/status"],
        ),
        (
            vec![vec![file("x/status", STATUS), link("var/lib/dpkg", "../../x")]],
            0,
            &["var/lib/dpkg/status"],
        ),
        // A link of a lower layer.
        (
            vec![vec![link("x", "var/lib/dpkg")], vec![file("x/status", STATUS)]],
            0,
            &["var/lib/dpkg/status"],
        ),
        (
            vec![vec![Entry::hard_link("var/lib/dpkg/status", "nothing")]],
            0,
            &["var/lib/dpkg/status"],
        ),
    ] {
        let image = layers.into_iter().fold(Builder::new(), Builder::layer);
        let folder = tempfile::tempdir().unwrap();
        image.write_layout(folder.path(), gzip);
        let scanned = scan(Source::Layout(folder.path().to_owned())).unwrap();
        assert_eq!(packages(&scanned).len(), wanted, "{:?}", items(&scanned));
        assert_eq!(unread(&scanned), told);
    }
}

#[test]
fn hostile_images_end_in_an_error_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let deep: Vec<u8> = "d/".repeat(600).into_bytes();
    let small = Limits { layer_bytes: 50 << 20, entries: 1000, ..Limits::default() };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a bomb", gzip(&bomb(200 << 20)), "more than any layer may"),
        (
            "many entries",
            gzip(&Builder::tar(&(0..2000).map(|n| file(&n.to_string(), "")).collect::<Vec<_>>())),
            "more than 1000 entries",
        ),
        (
            "cut off",
            gzip(&Builder::tar(&[file("a", &"x".repeat(2000))])[..1500]),
            "unexpected end of file",
        ),
        ("no archive", b"this is no archive at all".repeat(100), "no archive"),
        (
            "a path that is too deep",
            gzip(&Builder::tar(&[Entry::named(&deep, "x")])),
            "leads out of the image or is too long",
        ),
    ];
    for (name, layer, wanted) in cases {
        let layout = folder.path().join(name.replace(' ', "-"));
        Builder::new().raw_layer(layer).write_layout(&layout, |layer| layer.to_vec());
        let scanner = Scanner { limits: small, ..common::scanner() };
        let error = scan_with(&scanner, Source::Layout(layout)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn an_image_that_is_not_what_it_says_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A layer with other content than the configuration's diff ID.
    let image = debian();
    image.write_layout(&at("layer"), |layer| {
        let mut other = layer.to_vec();
        let length = other.len();
        other.truncate(length - 512);
        other
    });
    // A manifest with other bytes than its digest.
    image.write_layout(&at("manifest"), gzip);
    for blob in walk(&at("manifest/blobs")) {
        let text = fs::read(&blob).unwrap();
        if text.starts_with(b"{\"config\"") {
            fs::write(&blob, [text.as_slice(), b" "].concat()).unwrap();
        }
    }
    image.write_layout(&at("gone"), gzip);
    let layers =
        walk(&at("gone/blobs")).into_iter().filter(|blob| fs::read(blob).unwrap()[0] == 0x1f);
    layers.for_each(|blob| fs::remove_file(blob).unwrap());
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("empty/index.json"), "{\"manifests\": []}").unwrap();
    fs::create_dir(at("link")).unwrap();
    fs::write(at("link/real"), "{\"manifests\": []}").unwrap();
    symlink("/etc/passwd", at("link/index.json")).unwrap();
    for (name, wanted) in [
        ("layer", "and the configuration says"),
        ("manifest", "another content than its digest says"),
        ("gone", "cannot be read"),
        ("empty", "there is no image here"),
        ("link", "index.json cannot be read"),
    ] {
        let error = scan(Source::Layout(at(name))).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn giants_are_told_and_cost_nothing() {
    let root = tempfile::tempdir().unwrap();
    let giant = fs::File::create(root.path().join("giant")).unwrap();
    rustix::fs::ftruncate(&giant, 10 << 40).unwrap();
    fs::write(root.path().join("small"), "small").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let scanned = scan(Source::Root(root.path().to_owned())).unwrap();
    assert_eq!(scanned.merged.get("giant"), Some(Kind::Unread));
    assert_eq!(scanned.merged.get("fifo"), Some(Kind::Other));
    assert!(matches!(scanned.merged.get("small"), Some(Kind::File(_))));
    let told: Vec<String> = items(&scanned).into_iter().map(|(path, _)| path).collect();
    assert_eq!(told, ["giant"]);
}

#[test]
fn a_scan_that_takes_too_long_or_too_much_ends() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let large = fs::File::create(root.path().join(name)).unwrap();
        rustix::fs::ftruncate(&large, 3 << 30).unwrap();
    }
    let source = || Source::Root(root.path().to_owned());
    let hasty = Scanner { limits: Limits { seconds: 1, ..Limits::default() }, ..common::scanner() };
    let error = scan_with(&hasty, source()).unwrap_err().to_string();
    assert!(error.contains("within 1 seconds") || error.contains("signal"), "{error}");
    let poor =
        Scanner { limits: Limits { memory: 6 << 20, ..Limits::default() }, ..common::scanner() };
    let error = scan_with(&poor, source()).unwrap_err().to_string();
    assert!(error.contains("without an answer"), "{error}");
    let none = Scanner { program: root.path().join("nothing"), ..common::scanner() };
    assert!(scan_with(&none, source()).unwrap_err().to_string().contains("cannot be started"));
}

/// What is read of an image with this layer, sorted.
fn packages_of(layer: Vec<Entry>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    Builder::new().layer(layer).write_layout(folder.path(), gzip);
    let scanned = scan(Source::Layout(folder.path().to_owned())).unwrap();
    let unread = items(&scanned).into_iter().filter(|(_, item)| matches!(item, Item::Unread(_)));
    assert_eq!(unread.collect::<Vec<_>>(), []);
    let mut packages = packages(&scanned);
    packages.sort();
    packages
}

/// Databases that rpm and its libraries wrote, and what rpm says is in them
/// (`crates/rpmdb/tests/fixtures/make.sh`).
#[test]
fn each_form_of_rpms_database_is_read() {
    let fixture = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../rpmdb/tests/fixtures");
        let packed = fs::read(format!("{path}/{name}.gz")).unwrap();
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut content).unwrap();
        content
    };
    let list = String::from_utf8(fixture("packages.txt")).unwrap();
    let mut wanted: Vec<String> = Vec::new();
    // Public keys stand among the packages, and are none.
    let is_package = |line: &&str| !line.starts_with(' ') && !line.starts_with("gpg-pubkey");
    for line in list.lines().filter(is_package) {
        let fields: Vec<&str> = line.split('|').collect();
        let epoch = match fields[1] {
            "(none)" | "0" => String::new(),
            epoch => format!("{epoch}:"),
        };
        wanted.push(format!("{} {epoch}{}-{}", fields[0], fields[2], fields[3]));
    }
    wanted.sort();
    assert!(wanted.len() >= 3, "{list}");
    for (path, name) in [
        ("var/lib/rpm/rpmdb.sqlite", "sqlite"),
        ("usr/lib/sysimage/rpm/rpmdb.sqlite", "sqlite-65536"),
        ("usr/lib/sysimage/rpm/Packages.db", "ndb"),
        ("var/lib/rpm/Packages", "bdb-4096-4321"),
        ("var/lib/rpm/Packages", "bdb-65536-1234"),
    ] {
        assert_eq!(packages_of(vec![binary(path, &fixture(name))]), wanted, "{name}");
    }
    // A write-ahead log counts, whether it comes before its database or behind it.
    let database = || binary("var/lib/rpm/rpmdb.sqlite", &fixture("wal-database"));
    let log = || binary("var/lib/rpm/rpmdb.sqlite-wal", &fixture("wal-log"));
    let without = packages_of(vec![database()]);
    let with = packages_of(vec![database(), log()]);
    assert_eq!(with.len(), without.len() + 1, "{with:?} {without:?}");
    assert_eq!(packages_of(vec![log(), database()]), with);
}

#[test]
fn apks_database_is_read() {
    let installed = "C:Q1a\nP:musl\nV:1.2.4-r2\nA:x86_64\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\n\n\
                     C:Q1b\nP:libcrypto3\nV:3.1.4-r5\nA:x86_64\no:openssl\nF:lib\nR:libcrypto.so.3\n\n";
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let packages = packages_of(vec![file(path, installed)]);
        assert_eq!(packages, ["libcrypto3 3.1.4-r5", "musl 1.2.4-r2"], "{path}");
    }
}

/// This machine's own database of dpkg, against what dpkg-query says of it.
#[test]
fn dpkgs_database_is_read_as_dpkg_reads_it() {
    let status = fs::read("/var/lib/dpkg/status").unwrap();
    let query = std::process::Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}|${Package} ${Version}\n"])
        .output()
        .unwrap();
    let query = String::from_utf8(query.stdout).unwrap();
    let installed = query.lines().filter_map(|line| line.split_once('|'));
    let installed =
        installed.filter(|(state, _)| !matches!(*state, "config-files" | "not-installed"));
    let mut wanted: Vec<String> = installed.map(|(_, package)| package.to_owned()).collect();
    wanted.sort();
    assert!(wanted.len() > 50);
    assert_eq!(packages_of(vec![binary("var/lib/dpkg/status", &status)]), wanted);
}

/// What overlayfs marks is taken as it means it. What it has in another layer cannot be read from a folder alone, and must not be taken for
/// what the folder shows.
#[test]
fn marks_of_overlayfs_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    debian().write_layout(folder.path(), |layer| layer.to_vec());
    let config = folder.path().join("blobs/sha256").join(debian().config_digest().hex());
    let config = fs::read(config).unwrap();
    let layers: Vec<_> = ["lower", "upper"].map(|name| folder.path().join(name)).into();
    fs::create_dir_all(layers[0].join("srv/data")).unwrap();
    fs::create_dir_all(layers[1].join("srv")).unwrap();
    fs::write(layers[1].join("srv/file"), "").unwrap();
    let source = || Source::Stored {
        config: config.clone(),
        layers: layers.iter().cloned().map(StoredLayer::Folder).collect(),
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    let has_data = || scan(source()).unwrap().merged.get("srv/data").is_some();
    assert!(has_data());
    for (path, mark, value) in [
        ("srv", "trusted.overlay.redirect", &b"/elsewhere"[..]),
        ("srv/file", "trusted.overlay.metacopy", b""),
        ("srv/file", "user.overlay.metacopy", b"\0\x05\0\0"),
    ] {
        let path = layers[1].join(path);
        rustix::fs::setxattr(&path, mark, value, rustix::fs::XattrFlags::empty()).unwrap();
        let why = scan(source()).unwrap_err().to_string();
        assert!(why.contains("overlayfs keeps what is at srv"), "{mark}: {why}");
        rustix::fs::removexattr(&path, mark).unwrap();
    }
    let upper = layers[1].join("srv");
    let set = rustix::fs::XattrFlags::empty();
    // What an image may bring itself, and the kernel does not look at.
    rustix::fs::setxattr(&upper, "user.overlay.opaque", b"y", set).unwrap();
    fs::create_dir(layers[1].join(".wh.srv")).unwrap();
    fs::write(layers[1].join("srv/.wh.data"), "not empty").unwrap();
    assert!(has_data(), "it was hidden");
    rustix::fs::setxattr(&upper, "trusted.overlay.opaque", b"y", set).unwrap();
    assert!(!has_data(), "what an opaque folder takes away is there");
}

/// overlayfs merges the root whatever a layer says of it, and nothing may hide behind that.
#[test]
fn a_layer_that_takes_away_everything_takes_away_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let image =
        Builder::new().layer(vec![file("srv/below", "x"), file("etc/below", "x")]).layer(vec![
            file(".wh..wh..opq", ""),
            file("srv/.wh..wh..opq", ""),
            file("srv/above", "x"),
        ]);
    image.write_layout(folder.path(), |layer| layer.to_vec());
    let scanned = scan(Source::Layout(folder.path().to_owned())).unwrap();
    let has = |path: &str| scanned.merged.get(path).is_some();
    assert!(has("etc/below") && has("srv/above") && !has("srv/below"));
}

/// An image that is removed while it is read is no image without files.
#[test]
fn a_layer_that_changes_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    debian().write_layout(folder.path(), |layer| layer.to_vec());
    let config = folder.path().join("blobs/sha256").join(debian().config_digest().hex());
    let layers: Vec<_> = ["lower", "upper"].map(|name| folder.path().join(name)).into();
    layers.iter().for_each(|layer| fs::create_dir_all(layer.join("a/b")).unwrap());
    for at in 0..20_000 {
        fs::write(layers[0].join(format!("a/{at}")), "x").unwrap();
    }
    let source = Source::Stored {
        config: fs::read(config).unwrap(),
        layers: layers.iter().cloned().map(StoredLayer::Folder).collect(),
        manifests: BTreeSet::new(),
        references: BTreeSet::new(),
    };
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let upper = layers[1].join("a");
    // Each scan begins before one of these.
    let changes = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            fs::write(upper.join("c"), "x").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
            fs::remove_file(upper.join("c")).unwrap();
        }
    });
    let why = scan(source).unwrap_err().to_string();
    stop.send(()).unwrap();
    changes.join().unwrap();
    assert!(why.contains("changed or removed while it was read"), "{why}");
}
