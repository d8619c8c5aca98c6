//! What is scanned and what is forgotten, with an engine whose records are files.

use std::fs;

use portcullis_inventory::SCANNER;
use portcullis_settings::Settings;
use portcullis_types::{Class, Coverage, ImageFacts, ScanReport, Scanner};

use super::*;
use crate::shared::tests::advise;

/// A node with one storage of Podman's.
struct Node {
    root: tempfile::TempDir,
    scans: Scans,
    queue: Queue,
    bell: Bell,
    in_use: InUse,
}

impl Node {
    fn new(agent: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name).display().to_string();
        let settings = format!(
            "[agent]\n{agent}\n[wrapper.portcullis-runc]\nsocket = \"{none}\"\n\
             [wrapper.portcullis-runc-docker]\ndata = \"{none}\"\n\
             [wrapper.portcullis-runc-crio]\nstorage = [\"{none}\"]\n\
             [wrapper.portcullis-runc-podman]\nstorage = [\"{}\"]\n",
            at("storage"),
            none = at("none"),
        );
        let settings: Settings = settings.parse().unwrap();
        let settings = settings.below(root.path());
        fs::create_dir_all(settings.paths().verdicts()).unwrap();
        fs::create_dir_all(root.path().join("storage/overlay-images")).unwrap();
        let node = Self {
            scans: Scans::new(settings, "/no/such/scanner".into()),
            queue: Queue::new(8),
            bell: Bell::new().unwrap(),
            in_use: InUse::default(),
            root,
        };
        node.has(&[]);
        node
    }

    fn images(&self) -> PathBuf {
        self.root.path().join("storage/overlay-images")
    }

    /// Podman has these images, and no others.
    fn has(&self, names: &[&str]) {
        let mut records = Vec::new();
        for name in names {
            let config = config(name);
            let id = Digest::of(config.as_bytes());
            let folder = self.images().join(id.hex());
            fs::create_dir_all(&folder).unwrap();
            // `=` and the Base64 of the key, as containers/storage names it.
            let key = base64(id.to_string().as_bytes());
            fs::write(folder.join(format!("={key}")), &config).unwrap();
            records.push(format!("{{\"id\":\"{}\",\"names\":[]}}", id.hex()));
        }
        fs::write(self.images().join("images.json"), format!("[{}]", records.join(","))).unwrap();
    }

    fn follower(&self) -> Follower<'_> {
        Follower::new(&self.scans, &self.queue, &self.bell, &self.in_use)
    }

    /// A verdict of an image.
    fn knows(&self, name: &str, binding: Binding, imported_at: Timestamp) {
        let image = ImageFacts {
            config: digest(name),
            chain_id: None,
            manifests: BTreeSet::new(),
            references: BTreeSet::new(),
        };
        // All that a node without advisories looks for.
        let report = ScanReport {
            scanner: Scanner { name: SCANNER.to_owned(), version: None },
            scanned_at: imported_at,
            database_at: None,
            imported_at,
            binding,
            coverage: Coverage {
                classes: [Class::Malware, Class::Baseline, Class::Secret].into(),
                ..Coverage::default()
            },
            findings: Vec::new(),
        };
        FileStore::open(self.scans.settings().paths().verdicts()).absorb(&image, report).unwrap();
    }

    fn is_known(&self, name: &str) -> bool {
        let store = FileStore::open(self.scans.settings().paths().verdicts());
        store.by_config(&digest(name), Detail::Decision).unwrap().is_some()
    }

    fn runs(&self, names: &[&str]) {
        let images = names.iter().map(|name| digest(name)).collect();
        self.in_use.tell(images);
    }
}

fn config(name: &str) -> String {
    format!("{{\"author\":\"{name}\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[]}}}}")
}

fn digest(name: &str) -> Digest {
    Digest::of(config(name).as_bytes())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// All that is remembered was so long ago.
fn long_ago(follower: &mut Follower<'_>) {
    let then = Timestamp::now() - Duration::from_secs(30 * 24 * 3600);
    for image in follower.remembered.images.values_mut() {
        image.since = then;
    }
}

fn waiting(node: &Node) -> Vec<Digest> {
    let mut waiting = Vec::new();
    while node.queue.counts().unscanned > waiting.len() {
        waiting.push(node.queue.next().unwrap().image.clone());
        // The one that is being scanned counts, too.
        if waiting.len() == node.queue.counts().unscanned {
            break;
        }
    }
    waiting
}

#[test]
fn images_that_nobody_has_scanned_are_scanned() {
    let node = Node::new("");
    node.has(&["new", "known", "newer"]);
    node.knows("known", Binding::ByScan, Timestamp::now());
    let mut follower = node.follower();
    let sources = follower.here();
    assert_eq!(sources.len(), 1, "{sources:?}");
    follower.list(&sources);
    let counts = node.queue.counts();
    assert_eq!((counts.images, counts.unscanned, counts.waiting), (3, 2, 0));
    // Each once, and one that has gone is let go.
    follower.list(&sources);
    assert_eq!(node.queue.counts().unscanned, 2);
    node.has(&["new"]);
    follower.list(&sources);
    assert_eq!(waiting(&node), [digest("new")]);
}

#[test]
fn other_rules_have_images_read_again_that_we_have_read() {
    let node = Node::new("");
    node.has(&["ours", "imported"]);
    node.knows("ours", Binding::ByScan, Timestamp::now());
    node.knows("imported", Binding::ByReport, Timestamp::now());
    let mut follower = node.follower();
    let sources = follower.here();
    assert!(follower.has_other_rules() && !follower.has_other_rules());
    follower.list(&sources);
    assert_eq!(node.queue.counts().unscanned, 0, "they are by the rules that there are");

    let malware = node.scans.settings().paths().malware();
    fs::create_dir_all(&malware).unwrap();
    fs::write(malware.join("list.txt"), "").unwrap();
    assert!(!follower.has_other_rules(), "that is no rule");
    fs::write(malware.join("new.yar"), "rule new { condition: false }").unwrap();
    assert!(follower.has_other_rules());
    follower.list(&sources);
    // An agent that begins again does not forget it.
    follower.memory.keep(&follower.remembered);
    assert_eq!(node.queue.counts().unscanned, 1);
    let scan = node.queue.next().unwrap();
    assert_eq!((&scan.image, scan.is_again), (&digest("ours"), true));
    follower.list(&sources);
    assert_ne!(follower.remembered.rules, follower.rules);
    assert_eq!(node.follower().remembered.rules, follower.remembered.rules);
    node.queue.done(&scan, Ok(()), Duration::ZERO);
    follower.list(&sources);
    assert_eq!(follower.remembered.rules, follower.rules);
    follower.list(&sources);
    assert_eq!(node.queue.counts().unscanned, 0);
}

/// What was taken over is of the time at which it was scanned, and nothing here judges it anew.
#[test]
fn what_other_nodes_have_said_is_asked_for_again_when_it_is_outdone() {
    let node = Node::new("[registry]\ntrustedKeys = [\"/own.pub\"]");
    node.has(&["young", "old", "ours"]);
    let (now, then) = (Timestamp::now(), Timestamp::now() - Duration::from_secs(48 * 3600));
    node.knows("young", Binding::BySignature, now);
    node.knows("old", Binding::BySignature, then);
    node.knows("ours", Binding::BySignature, then);
    node.knows("ours", Binding::ByScan, then);
    let mut follower = node.follower();
    let sources = follower.here();
    follower.list(&sources);
    assert_eq!(node.queue.counts().unscanned, 1);
    let scan = node.queue.next().unwrap();
    assert_eq!((&scan.image, scan.is_again), (&digest("old"), true));
    node.knows("old", Binding::BySignature, now);
    node.queue.done(&scan, Ok(()), Duration::ZERO);
    follower.list(&sources);
    assert_eq!(node.queue.counts().unscanned, 0);

    // The node comes to look for vulnerabilities, which the others did not.
    advise(&node.scans.settings().paths(), "2026-01-01T00:00:00Z");
    follower.looked_up.clear();
    follower.list(&sources);
    assert_eq!(BTreeSet::from_iter(waiting(&node)), [digest("young"), digest("old")].into());
}

/// Whoever is trusted no more is not relied on for longer.
#[test]
fn what_other_nodes_have_said_counts_for_nothing_without_their_keys() {
    let node = Node::new("");
    node.has(&["theirs"]);
    node.knows("theirs", Binding::BySignature, Timestamp::now());
    let mut follower = node.follower();
    let sources = follower.here();
    follower.list(&sources);
    assert_eq!(waiting(&node), [digest("theirs")]);
}

#[test]
fn engines_that_are_not_to_be_followed_are_left_alone() {
    for (agent, followed) in
        [("follow = [\"podman\"]", 1), ("follow = [\"docker\"]", 0), ("follow = []", 0)]
    {
        let node = Node::new(agent);
        assert_eq!(node.follower().here().len(), followed, "{agent}");
    }
}

#[test]
fn what_is_gone_for_long_is_forgotten_and_nothing_else() {
    let node = Node::new("");
    let now = Timestamp::now();
    let long = now - Duration::from_secs(30 * 24 * 3600);
    for name in ["here", "gone", "runs", "scanned elsewhere", "of another engine"] {
        node.knows(name, Binding::ByScan, now);
    }
    node.knows("imported long ago", Binding::ByReport, long);
    node.knows("imported", Binding::ByReport, now);
    node.has(&["here", "gone", "runs"]);
    let mut follower = node.follower();
    let sources = follower.here();
    follower.list(&sources);
    // Whoever has never listed what runs forgets nothing.
    node.has(&["here"]);
    follower.list(&sources);
    long_ago(&mut follower);
    follower.forget();
    assert!(node.is_known("gone"));

    node.runs(&["runs"]);
    follower.forget();
    assert!(node.in_use.is_wanted(), "what runs may have ended");
    // What was met just now is fresh.
    assert!(!node.is_known("gone") && node.is_known("scanned elsewhere"));
    let other = state::Image { since: now, engines: ["docker /elsewhere".to_owned()].into() };
    follower.remembered.images.insert(digest("of another engine"), other);
    long_ago(&mut follower);
    follower.forget();
    for (name, is_known) in [
        ("here", true),
        ("runs", true),
        ("imported", true),
        ("imported long ago", false),
        ("scanned elsewhere", false),
        ("of another engine", true),
    ] {
        assert_eq!(node.is_known(name), is_known, "{name}");
    }
}

#[test]
fn an_engine_that_does_not_tell_has_all_its_images() {
    let node = Node::new("");
    node.knows("here", Binding::ByScan, Timestamp::now());
    node.has(&["here"]);
    node.runs(&[]);
    let mut follower = node.follower();
    let sources = follower.here();
    follower.list(&sources);
    fs::write(node.images().join("images.json"), "[{").unwrap();
    follower.list(&sources);
    long_ago(&mut follower);
    follower.forget();
    assert!(node.is_known("here"));
    assert_eq!(node.queue.counts().images, 1);
    // It is left alone for a while, here for long enough, and is no less silent for that.
    node.has(&[]);
    let later = Instant::now() + Duration::from_secs(600);
    follower.listed.values_mut().for_each(|listed| listed.asked_at = Some(later));
    follower.list(&sources);
    follower.forget();
    assert!(node.is_known("here"));
    follower.listed.values_mut().for_each(|listed| listed.asked_at = None);
    follower.list(&sources);
    follower.forget();
    assert!(!node.is_known("here"));
}

#[test]
fn a_node_that_never_forgets() {
    let node = Node::new("forgetAfter = \"never\"");
    node.knows("gone", Binding::ByScan, Timestamp::now());
    node.has(&["gone"]);
    node.runs(&[]);
    let mut follower = node.follower();
    let sources = follower.here();
    follower.list(&sources);
    node.has(&[]);
    follower.list(&sources);
    long_ago(&mut follower);
    follower.forget();
    assert!(node.is_known("gone"));
}

#[test]
fn what_is_remembered_outlives_the_agent_and_is_begun_anew_when_it_is_damaged() {
    let node = Node::new("");
    node.knows("gone", Binding::ByScan, Timestamp::now());
    node.has(&["gone"]);
    node.runs(&[]);
    let mut follower = node.follower();
    let sources = follower.here();
    follower.list(&sources);
    long_ago(&mut follower);
    follower.write();
    let remembered = follower.remembered.clone();
    assert_eq!(node.follower().remembered, remembered);
    node.has(&[]);

    let memory = node.scans.settings().paths().followed().join("images.json");
    let whole = fs::read(&memory).unwrap();
    fs::write(&memory, &whole[..whole.len() / 2]).unwrap();
    let mut follower = node.follower();
    follower.list(&sources);
    follower.forget();
    assert!(node.is_known("gone"), "it was met a moment ago");
    fs::write(&memory, whole).unwrap();
    let mut follower = node.follower();
    follower.list(&sources);
    follower.forget();
    assert!(!node.is_known("gone"));
}
