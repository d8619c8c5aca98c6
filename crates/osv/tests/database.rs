//! A database from folders and archives: what is asked of it, and what can go wrong.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use portcullis_osv::database::{
    Database, DatabaseError, Fetched, Origin, Progress, Source, update,
};
use portcullis_types::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

#[derive(Default)]
struct Told {
    unreadable: Vec<String>,
    records: u64,
}

impl Progress for Told {
    fn file(&mut self, _: &str, at: usize, of: usize) {
        assert!(at < of);
    }

    fn records(&mut self, count: u64) {
        self.records = count;
    }

    fn unreadable(&mut self, name: &str, why: &str) {
        self.unreadable.push(format!("{name}: {why}"));
    }
}

struct Scene {
    folder: TempDir,
    told: Told,
}

impl Scene {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), told: Told::default() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("database")
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn archive(&self, file: &str, records: &[Value]) -> PathBuf {
        let path = self.write(file, "");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        for (at, record) in records.iter().enumerate() {
            archive.start_file(format!("{at}.json"), SimpleFileOptions::default()).unwrap();
            archive.write_all(record.to_string().as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        path
    }

    fn update(&mut self, sources: &[&Path]) -> Result<Database, DatabaseError> {
        let sources = sources.iter().map(|path| path.to_path_buf().into());
        self.take(sources.collect())
    }

    fn take(&mut self, sources: Vec<Source>) -> Result<Database, DatabaseError> {
        update(&self.root(), sources, Timestamp::now(), &mut self.told)
    }
}

fn record(id: &str, ecosystem: &str, name: &str, introduced: &str, fixed: &str) -> Value {
    let events = json!([{ "introduced": introduced }, { "fixed": fixed }]);
    json!({
        "id": id, "modified": "2026-01-01T00:00:00Z", "summary": format!("About {name}"),
        "details": "long", "aliases": [format!("CVE-{}", id.len())],
        "affected": [{
            "package": { "ecosystem": ecosystem, "name": name },
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
    })
}

fn ids(database: &Database, ecosystem: &str, name: &str, version: &str) -> Vec<String> {
    let found = database.query(ecosystem, name, version).unwrap();
    found.into_iter().map(|found| found.advisory.id).collect()
}

#[test]
fn what_is_in_the_sources_can_be_asked_for() {
    let mut scene = Scene::new();
    scene.archive(
        "osv/AlmaLinux/all.zip",
        &[
            record("ALSA-8", "AlmaLinux:8", "kernel", "0", "4.18.0-80.1.el8"),
            record("ALSA-9", "AlmaLinux:9", "kernel", "0", "5.14.0-10.el9"),
        ],
    );
    let mut both = record("GHSA-1", "PyPI", "Some.Package", "1.0", "2.0");
    let of_npm = record("", "npm", "some-package", "0", "3.0.0")["affected"][0].clone();
    both["affected"].as_array_mut().unwrap().push(of_npm);
    let other = record("PYSEC-1", "PyPI", "other", "0", "1");
    scene.archive("osv/PyPI/all.zip", &[both.clone(), other]);
    scene.archive("osv/npm/all.zip", &[both]);
    let osv = scene.folder.path().join("osv");
    let database = scene.update(&[&osv]).unwrap();
    assert_eq!(scene.told.records, 5);

    for (ecosystem, name, version, wanted) in [
        ("AlmaLinux:8", "kernel", "4.18.0-80.el8", &["ALSA-8"][..]),
        ("AlmaLinux:8", "kernel", "4.18.0-80.1.el8", &[]),
        ("AlmaLinux:9", "kernel", "4.18.0-80.el8", &["ALSA-9"]),
        ("AlmaLinux", "kernel", "4.18.0-80.el8", &["ALSA-8", "ALSA-9"]),
        ("AlmaLinux:10", "kernel", "4.18.0-80.el8", &[]),
        ("PyPI", "some_package", "1.5", &["GHSA-1"]),
        ("PyPI", "some-package", "2.0", &[]),
        ("npm", "some-package", "2.9.9", &["GHSA-1"]),
        ("npm", "no-package", "2.9.9", &[]),
    ] {
        let found = ids(&database, ecosystem, name, version);
        assert_eq!(found, wanted, "{ecosystem} {name} {version}");
    }
    let found = &database.query("PyPI", "SOME-package", "1.0").unwrap()[0];
    assert_eq!(found.fixed.as_deref(), Some("2.0"));
    assert_eq!(found.advisory.summary, "About Some.Package");
    assert_eq!(found.advisory.affected.len(), 1);

    let contents = &database.manifest().ecosystems["AlmaLinux"];
    assert_eq!((contents.advisories, contents.packages, contents.unreadable), (2, 1, 0));
    assert_eq!(contents.modified.unwrap().to_string(), "2026-01-01T00:00:00Z");
    database.verify().unwrap();
    // No data is not the same as no advisory.
    assert!(matches!(database.query("Debian:12", "a", "1"), Err(DatabaseError::NoData(_))));
    assert!(matches!(database.query("Atari", "a", "1"), Err(DatabaseError::Version(_))));
}

#[test]
fn an_update_replaces_what_it_brings_and_keeps_the_rest() {
    let mut scene = Scene::new();
    let of_alma = [record("ALSA-1", "AlmaLinux:8", "a", "0", "2-1")];
    let alma = scene.archive("a/AlmaLinux/all.zip", &of_alma);
    let python = scene.archive("a/PyPI/all.zip", &[record("PYSEC-1", "PyPI", "b", "0", "2")]);
    let first = scene.update(&[&alma, &python]).unwrap();
    let python = scene.archive("b/PyPI/all.zip", &[record("PYSEC-2", "PyPI", "b", "0", "3")]);
    let second = scene.update(&[&python]).unwrap();
    assert_eq!(ids(&second, "PyPI", "b", "1"), ["PYSEC-2"]);
    assert_eq!(ids(&second, "AlmaLinux:8", "a", "1-1"), ["ALSA-1"]);
    let kept = |database: &Database| database.manifest().ecosystems["AlmaLinux"].clone();
    assert_eq!(kept(&first), kept(&second));
    second.verify().unwrap();
    let entries = fs::read_dir(scene.root()).unwrap().count();
    assert_eq!(entries, 3, "the lock, the link and one generation");
}

#[test]
fn the_newest_of_a_record_counts_and_what_is_withdrawn_does_not() {
    let mut scene = Scene::new();
    let later = |mut record: Value, member: &str| {
        record["modified"] = json!("2026-06-01T00:00:00Z");
        record[member] = json!("2026-06-01T00:00:00Z");
        record
    };
    let old = record("A-1", "PyPI", "a", "0", "1");
    let new = later(record("A-1", "PyPI", "a", "0", "5"), "modified");
    let mut gone = record("A-2", "PyPI", "a", "0", "9");
    gone["withdrawn"] = json!("2026-02-01T00:00:00Z");
    let standing = record("A-3", "PyPI", "a", "0", "9");
    let later_gone = later(standing.clone(), "withdrawn");
    let archive = scene.archive("all.zip", &[new, old, gone, standing, later_gone]);
    // AlmaLinux has records of one id for each release.
    let releases =
        ["AlmaLinux:8", "AlmaLinux:9"].map(|release| record("A-4", release, "a", "0", "9"));
    let alma = scene.archive("alma.zip", &releases);
    let database = scene.update(&[&archive, &alma]).unwrap();
    assert_eq!(ids(&database, "PyPI", "a", "3"), ["A-1"]);
    assert_eq!(ids(&database, "AlmaLinux:8", "a", "3"), ["A-4"]);
    assert_eq!(ids(&database, "AlmaLinux:9", "a", "3"), ["A-4"]);
    let contents = &database.manifest().ecosystems["PyPI"];
    assert_eq!((contents.advisories, contents.withdrawn), (1, 2));
}

#[test]
fn what_fails_leaves_what_was_there() {
    let mut scene = Scene::new();
    let good = scene.archive("PyPI/all.zip", &[record("A-1", "PyPI", "a", "0", "2")]);
    scene.update(&[&good]).unwrap();
    let whole = fs::read(&good).unwrap();
    let cut = scene.write("cut/PyPI/all.zip", &whole[..whole.len() - 10]);
    let mut flipped = whole.clone();
    flipped[60] ^= 0x55;
    let flipped = scene.write("flipped/PyPI/all.zip", flipped);
    let empty = scene.folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let nothing = scene.write("nothing.json", "{}");
    let none = scene.folder.path().join("none");
    for (source, part) in [
        (&cut, "cannot be read"),
        (&flipped, "cannot be read"),
        (&empty, "no advisory"),
        (&nothing, "no advisory"),
        (&none, "cannot use"),
    ] {
        let error = scene.update(&[&good, source]).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(source.to_str().unwrap()), "{error}");
        let database = Database::open(&scene.root()).unwrap().unwrap();
        assert_eq!(ids(&database, "PyPI", "a", "1"), ["A-1"]);
    }
    assert!(!scene.root().join("building").exists());
}

#[test]
fn a_record_that_cannot_be_understood_is_told_and_passed_over() {
    let mut scene = Scene::new();
    let odd = record("A-2", "Debian:12", "a", "0", "x:1");
    let good = record("A-1", "Debian:12", "a", "0", "2");
    let archive = scene.archive("Debian/all.zip", &[good, json!({ "id": 5 }), odd]);
    let database = scene.update(&[&archive]).unwrap();
    assert_eq!(ids(&database, "Debian:12", "a", "1"), ["A-1"]);
    assert_eq!(scene.told.unreadable.len(), 1, "{:?}", scene.told.unreadable);
    assert_eq!(database.manifest().ecosystems["Debian"].unreadable, 2);
    assert!(database.query("Debian:12", "a", "y:1").is_err());
    assert!(database.query("Debian:12", "nothing", "y:1").is_err());
}

#[test]
fn damage_is_seen() {
    let mut scene = Scene::new();
    assert!(Database::open(&scene.root()).unwrap().is_none());
    let names = (0..20).map(|at| record(&format!("A-{at}"), "PyPI", &format!("p{at}"), "0", "2"));
    let archive = scene.archive("all.zip", &names.collect::<Vec<_>>());
    let database = scene.update(&[&archive]).unwrap();
    let shard = scene.root().join("current/pypi.shard");
    let whole = fs::read(&shard).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&shard, &bytes).unwrap();
        assert!(database.verify().is_err(), "byte {at}");
        // No panic, and nothing that was never written.
        for name in ["p0", "p10", "p19"] {
            if let Ok(found) = database.query("PyPI", name, "1") {
                assert!(found.len() <= 1, "byte {at}");
            }
        }
    }
    for length in (0..whole.len()).step_by(7) {
        fs::write(&shard, &whole[..length]).unwrap();
        let database = Database::open(&scene.root()).unwrap().unwrap();
        assert!(database.query("PyPI", "p0", "1").is_err(), "{length} bytes");
    }
    fs::write(&shard, &whole).unwrap();
    database.verify().unwrap();
    let manifest = scene.root().join("current/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for (from, to) in
        [("\"format\": 2", "\"format\": 1"), ("pypi.shard", "../pypi.shard"), ("{", "[")]
    {
        fs::write(&manifest, text.replace(from, to)).unwrap();
        let error = Database::open(&scene.root()).unwrap_err().to_string();
        assert!(error.contains("db update"), "{error}");
    }
}

/// An archive as if it was fetched.
fn fetched(path: &Path, ecosystem: Option<&str>) -> Source {
    Source::Fetched(Fetched {
        file: File::open(path).unwrap(),
        origin: origin(ecosystem.unwrap_or("all")),
        ecosystem: ecosystem.map(ToOwned::to_owned),
    })
}

fn origin(name: &str) -> Origin {
    let url = format!("https://mirror.example/{name}/all.zip");
    Origin { url, etag: Some(format!("\"{name}\"")), last_modified: None }
}

#[test]
fn what_was_fetched_is_known_by_its_origin() {
    let mut scene = Scene::new();
    let python = scene.archive("1.zip", &[record("PYSEC-1", "PyPI", "b", "0", "2")]);
    let of_npm = [record("GHSA-1", "npm", "b", "0", "2"), record("GHSA-1", "PyPI", "b", "0", "9")];
    let npm = scene.archive("2.zip", &of_npm);
    let database =
        scene.take(vec![fetched(&python, Some("PyPI")), fetched(&npm, Some("npm"))]).unwrap();
    let of = |database: &Database, name: &str| database.manifest().ecosystems[name].clone();
    assert_eq!(of(&database, "PyPI").origins, [origin("PyPI")]);
    assert_eq!(of(&database, "PyPI").source, "https://mirror.example/PyPI/all.zip");
    assert_eq!(ids(&database, "PyPI", "b", "1"), ["PYSEC-1"], "npm's archive speaks of npm alone");
    let whole = database;

    // What is unchanged stays, and counts as read.
    let database = scene.take(vec![Source::Unchanged("PyPI".to_owned())]).unwrap();
    let expected = portcullis_osv::database::Contents {
        read: database.manifest().built,
        ..of(&whole, "PyPI")
    };
    assert_eq!(of(&database, "PyPI"), expected);
    assert_eq!(of(&database, "npm"), of(&whole, "npm"));
    database.verify().unwrap();
    assert!(database.is_whole("PyPI") && !database.is_whole("Go"));
    let error = scene.take(vec![Source::Unchanged("Go".to_owned())]).unwrap_err();
    assert!(matches!(error, DatabaseError::NoData(name) if name == "Go"));

    // With anything else in it, it is not what was fetched any more.
    let database = scene.take(vec![fetched(&python, Some("PyPI")), python.into()]).unwrap();
    assert_eq!(of(&database, "PyPI").origins, []);
    let database = scene.take(vec![fetched(&npm, None)]).unwrap();
    assert_eq!((of(&database, "PyPI").origins, of(&database, "npm").origins), (vec![], vec![]));

    // What has nothing to say of the ecosystem is not taken for an ecosystem without advisories.
    let error = scene.take(vec![fetched(&npm, Some("Go"))]).unwrap_err();
    assert!(matches!(&error, DatabaseError::Empty(url) if url.contains("/Go/")), "{error}");
}

#[test]
fn an_ecosystem_may_be_taken_by_its_releases() {
    let mut scene = Scene::new();
    let of = |release: u8| record("DSA-1", &format!("Debian:{release}"), "a", "0", "2");
    let both = scene.archive("osv/Debian:12/all.zip", &[of(11), of(12)]);
    let of_others = scene.archive("osv/Debian:13/all.zip", &[of(13)]);
    let releases = |database: &Database| -> Vec<String> {
        database.manifest().ecosystems["Debian"].releases.iter().cloned().collect()
    };
    for source in [both.clone().into(), fetched(&both, Some("Debian:12"))] {
        let database = scene.take(vec![source]).unwrap();
        assert_eq!(releases(&database), ["Debian:12"]);
        assert_eq!(ids(&database, "Debian:12", "a", "1"), ["DSA-1"]);
        assert_eq!(ids(&database, "Debian", "a", "1"), ["DSA-1"]);
        // It speaks of 11 where that has a part in 12's advisories, which is not all there is of 11.
        let error = database.query("Debian:11", "a", "1").unwrap_err();
        assert!(matches!(error, DatabaseError::NoData(name) if name == "Debian:11"));
        let covered = ["Debian:12", "Debian:11", "Debian"].map(|name| database.covers(name));
        assert_eq!(covered, [true, false, false]);
    }
    let two = vec![fetched(&both, Some("Debian:12")), fetched(&of_others, Some("Debian:13"))];
    let database = scene.take(two).unwrap();
    assert_eq!(releases(&database), ["Debian:12", "Debian:13"]);
    let origins = &database.manifest().ecosystems["Debian"].origins;
    assert_eq!(origins, &[origin("Debian:12"), origin("Debian:13")]);
    let all = vec![fetched(&both, Some("Debian:12")), fetched(&both, Some("Debian"))];
    let database = scene.take(all).unwrap();
    assert!(releases(&database).is_empty() && database.covers("Debian:11"));
    assert_eq!(ids(&database, "Debian:11", "a", "1"), ["DSA-1"]);
}
