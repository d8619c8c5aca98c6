//! Verdicts at Debian's registry, which has no referrers API: pushed and pulled by tag, with and
//! without a login, by several at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::time::Duration;

use common::{Node, Pair, assert_says, facts_fit, ids, report, said, verdict};
use portcullis_registry::{Belief, Logins, PullError, Wanted, take_in};
use portcullis_store::{Change, Detail, FileStore, VerdictStore};
use portcullis_testkit::registry::{
    Access, DebianRegistry, ask, push_image, push_index, write_login,
};
use portcullis_types::{Binding, Verdict};
use serde_json::Value;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn a_verdict_comes_back_as_it_was_signed() {
    let (registry, folder) = (DebianRegistry::start(Access::Open), tempfile::tempdir().unwrap());
    let host = &registry.address;
    let node = Node::new(Logins::none());
    for (name, pair) in
        [("ed25519", Pair::ed25519(folder.path(), "a")), ("p256", Pair::p256(folder.path(), "b"))]
    {
        let image = push_image(host, &format!("team/{name}"), "1.4", "amd64", name);
        let known = verdict(&image.config, vec![report(10, &["CVE-2024-0001", "CVE-2024-0002"])]);
        let reference = format!("{host}/team/{name}:1.4");
        let trusted = [pair.trusted()];
        assert_eq!(trusted[0].id(), pair.id_by_openssl());
        let belief = Belief::SignedBy(&trusted);
        let none = node.pull(&reference, belief).unwrap_err();
        assert!(matches!(none, PullError::None { .. }), "{none}");
        let pushed = node.push(&reference, &known, Some(&pair.signs())).unwrap();
        assert_eq!((pushed.manifest, pushed.reports), (image.manifest.clone(), 1));
        assert!(!pushed.by_api);
        let pulled = node.pull(&reference, belief).unwrap();
        facts_fit(&pulled, &image);
        let [told] = pulled.told.as_slice() else { panic!("{pulled:?}") };
        assert_eq!(told.key.as_deref(), Some(trusted[0].id()));
        assert_eq!(told.artifact, pushed.artifact);
        assert_eq!(told.reports[0].findings, known.reports[0].findings);
        assert_eq!(told.reports[0].scanned_at, known.reports[0].scanned_at);
        assert_eq!(told.reports[0].binding, Binding::ByScan);
        // By digest, and by the digest of its configuration, whatever the tag is called.
        let by_digest = format!("{host}/team/{name}@{}", image.manifest);
        node.pull_wanted(&by_digest, Wanted::Config(&image.config), belief).unwrap();
    }
}

#[test]
fn pushing_again_changes_nothing_and_pushing_more_adds() {
    let (registry, folder) = (DebianRegistry::start(Access::Open), tempfile::tempdir().unwrap());
    let host = &registry.address;
    let node = Node::new(Logins::none());
    let pair = Pair::ed25519(folder.path(), "a");
    let image = push_image(host, "web", "1", "amd64", "x");
    let reference = format!("{host}/web:1");
    let push = |day, ids: &[&str]| {
        let known = verdict(&image.config, vec![report(day, ids)]);
        node.push(&reference, &known, Some(&pair.signs())).unwrap().artifact
    };
    let first = push(10, &["A"]);
    assert_eq!(push(10, &["A"]), first);
    assert_ne!(push(11, &["B"]), first);
    let target = format!("/v2/web/manifests/sha256-{}", image.manifest.hex());
    let index = ask(host, "GET", &target, &[("Accept", INDEX)], b"").unwrap();
    let index: Value = serde_json::from_slice(&index.body).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{index}");
    for entry in entries {
        assert_eq!(entry["artifactType"], portcullis_registry::ARTIFACT);
    }
    let trusted = [pair.trusted()];
    let pulled = node.pull(&reference, Belief::SignedBy(&trusted)).unwrap();
    assert_eq!(ids(&pulled), ["A", "B"]);
    // The newest comes first.
    assert_eq!(pulled.told[1].artifact, first);
}

#[test]
fn those_who_push_at_once_lose_nothing() {
    let (registry, folder) = (DebianRegistry::start(Access::Open), tempfile::tempdir().unwrap());
    let host = registry.address.as_str();
    let pair = Pair::ed25519(folder.path(), "a");
    let trusted = [pair.trusted()];
    let node = || Node { patience: Duration::from_secs(300), ..Node::new(Logins::none()) };
    let mut lost_of_rounds = 0;
    // Two, several times over, and then more than a fleet has luck for.
    for (round, pushers) in [2, 2, 2, 2, 4].into_iter().enumerate() {
        let name = format!("web{round}");
        let image = push_image(host, &name, "1", "amd64", &name);
        let reference = format!("{host}/{name}:1");
        let wanted: Vec<String> = (0..pushers).map(|pusher| format!("CVE-{pusher}")).collect();
        let push = |id: &String| {
            let known = verdict(&image.config, vec![report(10, &[id])]);
            node().push(&reference, &known, Some(&pair.signs())).unwrap();
        };
        let pull = || ids(&node().pull(&reference, Belief::SignedBy(&trusted)).unwrap());
        let together = std::sync::Barrier::new(pushers);
        std::thread::scope(|scope| {
            for id in &wanted {
                scope.spawn(|| {
                    together.wait();
                    push(id);
                });
            }
        });
        // Who writes for longer than another waits before he looks again takes his entry away.
        let found = pull();
        let lost: Vec<_> = wanted.iter().filter(|id| !found.contains(id)).collect();
        lost_of_rounds += usize::from(!lost.is_empty());
        lost.into_iter().for_each(push);
        assert_eq!(pull(), wanted, "round {round}");
    }
    // That takes a machine that stalls, and hardly happens twice.
    assert!(lost_of_rounds <= 1, "in {lost_of_rounds} rounds of 5 something was lost");
}

#[test]
fn only_who_is_trusted_is_believed() {
    let (registry, folder) = (DebianRegistry::start(Access::Open), tempfile::tempdir().unwrap());
    let host = &registry.address;
    let node = Node::new(Logins::none());
    let (own, other) = (Pair::ed25519(folder.path(), "a"), Pair::p256(folder.path(), "b"));
    let image = push_image(host, "web", "1", "amd64", "x");
    let reference = format!("{host}/web:1");
    let push = |day, id: &str, pair: Option<&Pair>| {
        let known = verdict(&image.config, vec![report(day, &[id])]);
        let key = pair.map(Pair::signs);
        node.push(&reference, &known, key.as_ref()).unwrap().artifact
    };
    let unsigned = push(10, "UNSIGNED", None);
    let trusted = [own.trusted()];
    let refused = said(node.pull(&reference, Belief::SignedBy(&trusted)));
    assert_says(&refused, &[&unsigned.to_string(), "is refused", "nobody signed it"]);
    let foreign = push(11, "FOREIGN", Some(&other));
    let refused = said(node.pull(&reference, Belief::SignedBy(&trusted)));
    assert_says(&refused, &["nobody signed it", other.trusted().id(), "not trusted here"]);
    push(9, "OWN", Some(&own));
    // One that is believed is enough, and what is not is told.
    let pulled = node.pull(&reference, Belief::SignedBy(&trusted)).unwrap();
    assert_eq!(ids(&pulled), ["OWN"]);
    let refused: Vec<_> = pulled.refused.iter().map(|(artifact, _)| artifact.clone()).collect();
    assert_eq!(refused, [foreign, unsigned]);
    let both = [own.trusted(), other.trusted()];
    assert_eq!(ids(&node.pull(&reference, Belief::SignedBy(&both)).unwrap()), ["FOREIGN", "OWN"]);
    // Whoever wants all of them has it without the word of a key.
    let all = node.pull(&reference, Belief::Anybody).unwrap();
    assert_eq!(ids(&all), ["FOREIGN", "OWN", "UNSIGNED"]);
    assert!(all.told.iter().all(|told| told.key.is_none()));
}

#[test]
fn an_image_of_several_platforms_has_a_verdict_for_each() {
    let (registry, folder) = (DebianRegistry::start(Access::Open), tempfile::tempdir().unwrap());
    let host = &registry.address;
    let node = Node::new(Logins::none());
    let pair = Pair::ed25519(folder.path(), "a");
    let amd = push_image(host, "web", "amd", "amd64", "x");
    let arm = push_image(host, "web", "arm", "arm64", "y");
    let index = push_index(host, "web", "1", &[("amd64", &amd), ("arm64", &arm)]);
    let reference = format!("{host}/web:1");
    for (image, id) in [(&amd, "AMD"), (&arm, "ARM")] {
        let known = verdict(&image.config, vec![report(10, &[id])]);
        let pushed = node.push(&reference, &known, Some(&pair.signs())).unwrap();
        assert_eq!(pushed.manifest, image.manifest);
    }
    let trusted = [pair.trusted()];
    let belief = Belief::SignedBy(&trusted);
    for (platform, image, id) in [("linux/amd64", &amd, "AMD"), ("linux/arm64", &arm, "ARM")] {
        for wanted in [Wanted::Platform(platform), Wanted::Config(&image.config)] {
            let pulled = node.pull_wanted(&reference, wanted, belief).unwrap();
            assert_eq!(ids(&pulled), [id]);
            facts_fit(&pulled, image);
            assert!(pulled.image.manifests.contains(&index));
        }
    }
    let said_of = |wanted| said(node.pull_wanted(&reference, wanted, belief));
    assert_says(&said_of(Wanted::Platform("linux/s390x")), &["linux/s390x", "is not there"]);
    let none = portcullis_types::Digest::of(b"another");
    assert_says(&said_of(Wanted::Config(&none)), &[&none.to_string(), "another one"]);
    // A tag that has moved on is no image to push a verdict to.
    let moved = node.push(&reference, &verdict(&none, vec![report(10, &["A"])]), None);
    assert_says(&said(moved), &[&none.to_string(), "another one"]);
    assert_says(&said(node.pull(&format!("{host}/web:2"), belief)), &["web:2", "is not there"]);
}

#[test]
fn a_registry_that_wants_a_login_gets_it_from_a_file() {
    let (registry, folder) = (DebianRegistry::start(Access::Login), tempfile::tempdir().unwrap());
    let host = &registry.address;
    let image = push_image(host, "team/web", "1", "amd64", "x");
    let reference = format!("{host}/team/web:1");
    let known = verdict(&image.config, vec![report(10, &["A"])]);
    let stranger = Node::new(Logins::none());
    let login = format!("podman login {host}");
    assert_says(&said(stranger.push(&reference, &known, None)), &["read from", "401", &login]);
    let file = write_login(&folder.path().join("auth.json"), host);
    let node = Node::new(Logins::of_file(&file));
    node.push(&reference, &known, None).unwrap();
    assert_eq!(ids(&node.pull(&reference, Belief::Anybody).unwrap()), ["A"]);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("dXNlcjpzZWNyZXQ=", "dXNlcjp3cm9uZw==")).unwrap();
    let wrong = Node::new(Logins::of_file(&file));
    let told = said(wrong.pull(&reference, Belief::Anybody));
    assert_says(&told, &["401", "wants another"]);
    assert!(!told.contains("wrong\""), "{told}");
}

/// A registry that holds back what is new, or repeats what is old, makes nothing clean.
#[test]
fn what_is_pulled_takes_the_place_of_nothing_better() {
    let (registry, folder) = (DebianRegistry::start(Access::Open), tempfile::tempdir().unwrap());
    let host = &registry.address;
    let node = Node::new(Logins::none());
    let pair = Pair::ed25519(folder.path(), "a");
    let trusted = [pair.trusted()];
    let store = FileStore::open(folder.path().join("verdicts"));
    let standing = |image: &_| -> Vec<String> {
        let verdict = store.by_config(image, Detail::Full).unwrap().unwrap();
        Verdict::merged([&verdict]).iter().map(|f| f.id.to_string()).collect()
    };
    let mut number = 0;
    let mut pulled_of =
        |image: &portcullis_testkit::registry::PushedImage, day, database, ids: &[&str]| {
            // Each in a repository of its own: it alone is what the registry tells.
            number += 1;
            let name = format!("web{number}");
            let copy = push_image(host, &name, "1", "amd64", "x");
            assert_eq!(copy.config, image.config);
            let mut said = report(day, ids);
            said.database_at = report(database, &[]).database_at;
            let reference = format!("{host}/{name}:1");
            let known = verdict(&image.config, vec![said]);
            node.push(&reference, &known, Some(&pair.signs())).unwrap();
            let pulled = node.pull(&reference, Belief::SignedBy(&trusted)).unwrap();
            take_in(&store, &pulled, [reference], &|finding| finding.kev = true).unwrap()
        };
    let image = push_image(host, "web", "1", "amd64", "x");
    let taken = pulled_of(&image, 10, 10, &["A"]);
    assert_eq!((taken.change, taken.known), (Change::Created, 1));
    let stored = store.by_config(&image.config, Detail::Full).unwrap().unwrap();
    assert_eq!(stored.reports[0].binding, Binding::BySignature);
    assert_eq!(stored.image.chain_id, portcullis_types::chain_id(&image.diff_ids));
    assert!(stored.image.manifests.contains(&image.manifest));
    assert_eq!(stored.image.references.first(), Some(&format!("{host}/web1:1")));
    assert!(stored.reports[0].findings[0].kev);
    // How old the knowledge is stays as it was signed, whenever it was pulled.
    assert_eq!(stored.reports[0].as_of(), report(10, &[]).scanned_at);
    // The day before, and a later scan by older advisories.
    pulled_of(&image, 9, 9, &[]);
    assert_eq!(standing(&image.config), ["A"]);
    pulled_of(&image, 11, 9, &[]);
    assert_eq!(standing(&image.config), ["A"]);
    // What is newer in both.
    pulled_of(&image, 12, 12, &["B"]);
    assert_eq!(standing(&image.config), ["B"]);
    // What is read here takes the place of all of it, and keeps it.
    let facts = &verdict(&image.config, Vec::new()).image;
    store.absorb(facts, report(13, &["C"])).unwrap();
    assert_eq!(standing(&image.config), ["C"]);
    pulled_of(&image, 12, 12, &[]);
    pulled_of(&image, 14, 14, &[]);
    assert_eq!(standing(&image.config), ["C"]);
}
