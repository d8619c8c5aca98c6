//! Real advisories, where they are at hand: what the database answers is what a plain reading of the
//! records says.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use portcullis_osv::database::{Database, Progress, update};
use portcullis_osv::normal_name;
use portcullis_testkit::samples;
use portcullis_types::Timestamp;
use portcullis_versions::compare;
use serde_json::Value;

/// Names the folder with `<ecosystem>/all.zip`, where it is not beside the project.
const FOLDER: &str = "PORTCULLIS_OSV";

struct Silent;

impl Progress for Silent {
    fn file(&mut self, _: &str, _: usize, _: usize) {}
    fn records(&mut self, _: u64) {}
    fn unreadable(&mut self, name: &str, why: &str) {
        panic!("{name}: {why}");
    }
}

/// All records of an archive, as JSON and no more.
fn records(archive: &Path) -> Vec<Value> {
    let mut archive = zip::ZipArchive::new(File::open(archive).unwrap()).unwrap();
    let count = archive.len();
    let record = |at| {
        let mut json = Vec::new();
        archive.by_index(at).unwrap().read_to_end(&mut json).unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    (0..count).map(record).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// One statement of a record about a package.
struct Statement<'a> {
    id: &'a str,
    ecosystem: &'a str,
    ranges: Vec<Vec<(&'a str, &'a str)>>,
    versions: BTreeSet<&'a str>,
}

impl Statement<'_> {
    /// The last event at or before the version says it; with pairs of texts and no sorting.
    fn affects(&self, version: &str) -> bool {
        let at_or_before =
            |event: &str| event == "0" || compare(self.ecosystem, event, version).unwrap().is_le();
        let in_range = |events: &Vec<(&str, &str)>| {
            let passed = events.iter().filter(|(_, at)| at_or_before(at));
            let last = passed.max_by(|(_, a), (_, b)| match (*a, *b) {
                ("0", "0") => std::cmp::Ordering::Equal,
                ("0", _) => std::cmp::Ordering::Less,
                (_, "0") => std::cmp::Ordering::Greater,
                (a, b) => compare(self.ecosystem, a, b).unwrap(),
            });
            last.is_some_and(|(kind, at)| match *kind {
                "introduced" => true,
                "last_affected" => compare(self.ecosystem, at, version).unwrap().is_eq(),
                _ => false,
            })
        };
        self.versions.contains(version) || self.ranges.iter().any(in_range)
    }
}

#[test]
fn real_advisories_are_found_and_no_others() {
    let Some(folder) = samples::folder(FOLDER, "osv") else { return };
    let home = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let database =
        update(home.path(), vec![folder.clone().into()], Timestamp::now(), &mut Silent).unwrap();
    println!("built in {:?}", begun.elapsed());
    database.verify().unwrap();
    for ecosystem in ["AlmaLinux", "Go", "PyPI"] {
        let records = records(&folder.join(ecosystem).join("all.zip"));
        let (questions, answers) = compared(&database, ecosystem, &records);
        println!("{ecosystem}: {} records, {questions} questions, {answers} ids", records.len());
        assert!(questions > 1000 && answers > 1000, "{ecosystem}");
    }
}

fn compared(database: &Database, ecosystem: &str, records: &[Value]) -> (usize, usize) {
    let mut packages: BTreeMap<String, Vec<Statement<'_>>> = BTreeMap::new();
    let mut standing = BTreeSet::new();
    for record in records.iter().filter(|record| record["withdrawn"].is_null()) {
        standing.insert(text(&record["id"]));
        for affected in list(&record["affected"]) {
            let ranges = list(&affected["ranges"]).iter().filter(|range| range["type"] != "GIT");
            let ranges = ranges.map(|range| {
                let events = list(&range["events"]).iter();
                let events = events.flat_map(|event| event.as_object().unwrap());
                events.map(|(kind, at)| (kind.as_str(), text(at))).collect()
            });
            let name = normal_name(ecosystem, text(&affected["package"]["name"])).into_owned();
            packages.entry(name).or_default().push(Statement {
                id: text(&record["id"]),
                ecosystem: text(&affected["package"]["ecosystem"]),
                ranges: ranges.collect(),
                versions: list(&affected["versions"]).iter().map(text).collect(),
            });
        }
    }
    let contents = &database.manifest().ecosystems[ecosystem];
    assert_eq!(contents.advisories, standing.len() as u64, "{ecosystem}");
    assert_eq!(contents.packages, packages.len() as u64, "{ecosystem}");
    assert_eq!(contents.unreadable, 0, "{ecosystem}");

    let (mut questions, mut answers) = (0, 0);
    // Of many packages some.
    for (name, statements) in packages.iter().step_by(packages.len().div_ceil(1400)) {
        let releases: BTreeSet<&str> = statements.iter().map(|s| s.ecosystem).collect();
        // The versions at which something changes, those that are listed, and two far away. Of many
        // some.
        let events = statements.iter().flat_map(|s| s.ranges.iter().flatten());
        let listed = statements.iter().flat_map(|s| s.versions.iter().copied().step_by(7));
        let mut versions: BTreeSet<&str> = events.map(|(_, at)| *at).chain(listed).collect();
        versions.extend(["0.0.1", "9999.1"]);
        let step = versions.len().div_ceil(16);
        for version in versions.into_iter().step_by(step) {
            for release in &releases {
                let of_release = statements.iter().filter(|s| s.ecosystem == *release);
                let wanted: BTreeSet<&str> =
                    of_release.filter(|s| s.affects(version)).map(|s| s.id).collect();
                let found = database.query(release, name, version).unwrap();
                let found: BTreeSet<&str> = found.iter().map(|f| f.advisory.id.as_str()).collect();
                assert_eq!(found, wanted, "{release} {name} {version}");
                questions += 1;
                answers += found.len();
            }
        }
    }
    (questions, answers)
}
