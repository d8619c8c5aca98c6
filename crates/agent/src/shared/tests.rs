use std::cell::Cell;
use std::process::Command;

use portcullis_osv::database::{Progress, update};
use portcullis_registry::SigningKey;
use portcullis_settings::Paths;
use portcullis_store::{Detail, VerdictStore as _};
use portcullis_testkit::registry::{Access, DebianRegistry, Fake, PushedImage, Reply, push_image};
use portcullis_types::{
    Class, Coverage, Finding, ImageFacts, ImageRef, Scanner, Severity, Verdict,
};
use serde_json::json;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A node with an agent, and keys that openssl made.
struct Scene {
    root: tempfile::TempDir,
    settings: RegistrySettings,
    engines: bool,
    asked_for_knowledge: Cell<bool>,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["own", "other"] {
            let file = |ending: &str| root.path().join(name).with_extension(ending);
            let openssl = |arguments: &[&str]| {
                let output = Command::new("openssl").args(arguments).output().unwrap();
                assert!(output.status.success(), "{output:?}");
            };
            let (private, public) = (file("key"), file("pub"));
            let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
            openssl(&["genpkey", "-algorithm", "ed25519", "-out", private]);
            openssl(&["pkey", "-in", private, "-pubout", "-out", public]);
        }
        std::fs::create_dir_all(Paths::below(root.path()).verdicts()).unwrap();
        let settings = RegistrySettings {
            signing_key: Some(root.path().join("own.key")),
            trusted_keys: vec![root.path().join("own.pub")],
            ..RegistrySettings::default()
        };
        Self { root, settings, engines: false, asked_for_knowledge: Cell::new(false) }
    }

    fn shared(&self) -> Shared {
        let mut settings = Settings::default().below(self.root.path());
        settings.registry = self.settings.clone();
        Shared::new(&settings)
    }

    fn paths(&self) -> Paths {
        Paths::below(self.root.path())
    }

    fn store(&self) -> FileStore {
        FileStore::open(self.paths().verdicts())
    }

    fn stands_in(&self, shared: &Shared, image: &PushedImage, name: &str) -> bool {
        let source = Source::Blobs {
            folder: "/nowhere".into(),
            target: image.manifest.clone(),
            references: [name.to_owned()].into(),
        };
        let node = || {
            self.asked_for_knowledge.set(true);
            Ok(Arc::new(Node::read(&self.paths())?))
        };
        shared.stands_in(&self.store(), &image.config, &source, self.engines, &node)
    }

    fn stored(&self, image: &PushedImage) -> Option<Verdict> {
        self.store().by_config(&image.config, Detail::Full).unwrap()
    }

    /// Pushes a report as another node would.
    fn push(&self, image: &PushedImage, name: &str, report: ScanReport, key: &str) {
        let key = SigningKey::read(&self.root.path().join(key)).unwrap();
        let facts = ImageFacts {
            config: image.config.clone(),
            chain_id: None,
            manifests: BTreeSet::new(),
            references: BTreeSet::new(),
        };
        let verdict = Verdict { image: facts, reports: vec![report] };
        let reference: ImageRef = name.parse().unwrap();
        let registry = Registry::new(&RegistrySettings::default(), Logins::none());
        let repository = registry.repository(&reference, Instant::now() + MINUTE);
        portcullis_registry::push(&repository, &reference, &verdict, Some(&key)).unwrap();
    }

    fn advise(&self, modified: &str) {
        advise(&self.paths(), modified);
    }
}

/// Gives a node advisories for Debian 12, the newest of this time.
pub(crate) fn advise(paths: &Paths, modified: &str) {
    let record = json!({
        "id": "DSA-1", "modified": modified,
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": "openssl" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }] }],
        }],
    });
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("DSA-1.json");
    std::fs::write(&file, record.to_string()).unwrap();
    let folder = paths.advisories();
    std::fs::create_dir_all(&folder).unwrap();
    update(&folder, vec![file.into()], Timestamp::now(), &mut Silent).unwrap();
}

struct Silent;

impl Progress for Silent {
    fn file(&mut self, _: &str, _: usize, _: usize) {}

    fn records(&mut self, _: u64) {}

    fn unreadable(&mut self, name: &str, why: &str) {
        panic!("{name}: {why}");
    }
}

fn ago(hours: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() - hours * 3600).unwrap()
}

/// A scan of another node, made so many hours ago.
fn report(hours: i64) -> ScanReport {
    ScanReport {
        scanner: Scanner { name: SCANNER.to_owned(), version: None },
        scanned_at: ago(hours),
        database_at: Some(ago(hours)),
        imported_at: ago(hours),
        binding: Binding::ByScan,
        coverage: Coverage {
            classes: [Class::Vulnerability, Class::Baseline, Class::Secret].into(),
            ecosystems: ["debian".to_owned()].into(),
            distribution: Some("debian 12".to_owned()),
            ..Coverage::default()
        },
        findings: vec![Arc::new(Finding::new(
            Class::Vulnerability,
            "CVE-2024-0001",
            Severity::High,
            SCANNER,
        ))],
    }
}

#[test]
fn a_young_scan_of_a_node_that_is_trusted_stands_in() {
    let (registry, mut scene) = (DebianRegistry::start(Access::Open), Scene::new());
    let host = &registry.address;
    let image = push_image(host, "web", "1", "amd64", "x");
    let name = format!("{host}/web:1");
    assert!(!scene.stands_in(&scene.shared(), &image, &name), "there is none yet");
    assert_eq!(scene.stored(&image), None);
    let said = report(2);
    scene.push(&image, &name, said.clone(), "own.key");
    assert!(scene.stands_in(&scene.shared(), &image, &name));
    let stored = scene.stored(&image).unwrap();
    assert_eq!(stored.reports[0].binding, Binding::BySignature);
    assert_eq!(stored.reports[0].scanned_at, said.scanned_at);
    assert_eq!(stored.reports[0].as_of(), said.scanned_at);
    assert!(stored.image.chain_id.is_some());
    // Also where its name has come to mean another image: the manifest is asked for.
    push_image(host, "web", "1", "amd64", "y");
    assert!(scene.stands_in(&scene.shared(), &image, &name));
    // Not for a node that wants it younger, or wants to scan whatever others say.
    for seconds in [3600, 0] {
        scene.settings.max_age = Duration::from_secs(seconds);
        assert!(!scene.stands_in(&scene.shared(), &image, &name), "{seconds}");
    }
    scene.settings.max_age = Duration::from_secs(3 * 3600);
    assert!(scene.stands_in(&scene.shared(), &image, &name));
    // Nor for one that searches files for malware.
    scene.engines = true;
    assert!(!scene.stands_in(&scene.shared(), &image, &name));
    scene.engines = false;
    // Nor for one whose advisories are newer.
    scene.advise(&ago(5).to_string());
    assert!(scene.stands_in(&scene.shared(), &image, &name));
    scene.advise(&ago(1).to_string());
    assert!(!scene.stands_in(&scene.shared(), &image, &name));
}

#[test]
fn what_a_scan_here_could_add_to_is_scanned() {
    let (registry, scene) = (DebianRegistry::start(Access::Open), Scene::new());
    let host = &registry.address;
    scene.advise(&ago(50).to_string());
    let check = |wanted: bool, change: &dyn Fn(&mut ScanReport)| {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let image = push_image(host, "web", "1", "amd64", &format!("layer {number}"));
        let name = format!("{host}/web:1");
        let mut report = report(1);
        change(&mut report);
        scene.push(&image, &name, report.clone(), "own.key");
        assert_eq!(scene.stands_in(&scene.shared(), &image, &name), wanted, "{report:?}");
        // What was pulled counts, whether or not the image is scanned too.
        assert!(scene.stored(&image).is_some());
    };
    check(true, &|_| {});
    check(false, &|r| r.coverage.classes.retain(|class| *class != Class::Secret));
    check(false, &|r| r.coverage.classes.retain(|class| *class != Class::Vulnerability));
    check(false, &|r| r.scanner.name = "trivy".to_owned());
    check(false, &|r| r.binding = Binding::ByImporter);
    check(false, &|r| r.database_at = None);
    check(false, &|r| r.database_at = Some(ago(60)));
    // Without advisories there, and with some here.
    check(false, &|r| r.coverage.uncovered = std::mem::take(&mut r.coverage.ecosystems));
    // Those that are not here either add nothing.
    check(true, &|r| r.coverage.uncovered.extend(["jar".to_owned()]));
}

#[test]
fn nobody_else_is_believed_and_without_keys_nobody_is_asked() {
    let (fake, mut scene) = (Fake::start(), Scene::new());
    let image = push_image(&fake.address, "web", "1", "amd64", "x");
    let name = format!("{}/web:1", fake.address);
    scene.push(&image, &name, report(1), "other.key");
    assert!(!scene.stands_in(&scene.shared(), &image, &name));
    assert_eq!(scene.stored(&image), None);
    assert!(!scene.asked_for_knowledge.get());
    fake.asked();
    // Names that are no registry's.
    for name in ["web:1", "localhost/web:1", "sha256:0123"] {
        assert!(!scene.stands_in(&scene.shared(), &image, name));
    }
    let keys = std::mem::take(&mut scene.settings.trusted_keys);
    assert!(!scene.stands_in(&scene.shared(), &image, &name));
    assert_eq!(fake.asked(), Vec::<String>::new());
    // A key that cannot be used is no key.
    scene.settings.trusted_keys = vec![keys[0].clone(), scene.root.path().join("none")];
    assert!(!scene.stands_in(&scene.shared(), &image, &name));
    assert_eq!(fake.asked(), Vec::<String>::new());
}

#[test]
fn a_registry_out_of_reach_is_left_alone_for_a_while() {
    let (fake, scene) = (Fake::start(), Scene::new());
    let image = push_image(&fake.address, "web", "1", "amd64", "x");
    let name = format!("{}/web:1", fake.address);
    let gone = [Reply::Raw(Vec::new())];
    fake.set(&format!("/v2/web/manifests/{}", image.manifest), gone.clone());
    fake.asked();
    let shared = scene.shared();
    assert!(!scene.stands_in(&shared, &image, &name));
    assert!(!fake.asked().is_empty());
    // For longer after each time.
    wait_until("a rest", || !scene.stands_in(&shared, &image, &name) && fake.asked().is_empty());
    assert_eq!(shared.rests().of("another.example.com"), None);
}

/// What a node knows of an image that it has scanned.
fn known(scene: &Scene, image: &PushedImage, references: &[&str]) {
    let facts = ImageFacts {
        config: image.config.clone(),
        chain_id: None,
        manifests: BTreeSet::new(),
        references: references.iter().map(|name| (*name).to_owned()).collect(),
    };
    scene.store().absorb(&facts, report(1)).unwrap();
}

/// A node that believes the first one.
fn other(scene: &Scene) -> Scene {
    let other = Scene::new();
    std::fs::copy(scene.root.path().join("own.pub"), other.root.path().join("own.pub")).unwrap();
    other
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < MINUTE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_was_scanned_here_is_pushed_for_others() {
    let (registry, mut scene) = (DebianRegistry::start(Access::Open), Scene::new());
    let host = &registry.address;
    let image = push_image(host, "web", "1", "amd64", "x");
    let nameless = push_image(host, "nameless", "1", "amd64", "y");
    let name = format!("{host}/web:1");
    known(&scene, &image, &[&name]);
    known(&scene, &nameless, &[]);
    let other = other(&scene);
    // Nothing, unless the settings say so.
    scene.shared().push(&image.config);
    assert!(scene.shared().pushes.is_none());
    scene.settings.push = true;
    let shared = scene.shared();
    // One that cannot be pushed keeps none from it.
    shared.push(&nameless.config);
    shared.push(&image.config);
    wait_until("a push", || other.stands_in(&other.shared(), &image, &name));
    assert_eq!(other.stored(&image).unwrap().reports[0].findings.len(), 1);
    // Nothing is left to do.
    let file = scene.root.path().join("var/lib/portcullis/agent/pushes.json");
    wait_until("the file", || std::fs::read_to_string(&file).unwrap().contains("[]"));
}

#[test]
fn what_could_not_be_pushed_is_pushed_later_and_after_a_restart() {
    let (fake, mut scene) = (Fake::start(), Scene::new());
    let image = push_image(&fake.address, "web", "1", "amd64", "x");
    let name = format!("{}/web:1", fake.address);
    known(&scene, &image, &[&name]);
    scene.settings.push = true;
    let manifest = format!("/v2/web/manifests/{}", image.manifest);
    let tag = "/v2/web/manifests/1";
    let gone = || [Reply::Raw(Vec::new())];
    fake.set(&manifest, gone());
    fake.set(tag, gone());
    fake.asked();
    let shared = scene.shared();
    shared.push(&image.config);
    wait_until("an attempt", || !fake.asked().is_empty());
    // It ends before it could be told.
    drop(shared);
    let file = scene.root.path().join("var/lib/portcullis/agent/pushes.json");
    assert!(std::fs::read_to_string(&file).unwrap().contains(&image.config.to_string()));
    fake.unset(&manifest);
    fake.unset(tag);
    let _shared = scene.shared();
    let other = other(&scene);
    wait_until("a push", || other.stands_in(&other.shared(), &image, &name));
    wait_until("the file", || std::fs::read_to_string(&file).unwrap().contains("[]"));
}
