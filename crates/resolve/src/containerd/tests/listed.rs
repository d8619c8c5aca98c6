//! The list of all images, and word of those that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::fake::Fault;
use super::*;
use crate::containerd::api::{CONTENT_READ, EVENTS_SUBSCRIBE, IMAGES_LIST};
use crate::{ImageHad, Patience, StoredError};

const EACH: Duration = Duration::from_secs(5);
/// What is asked for is wanted to its end.
const WANTED: &dyn Fn() -> bool = &|| true;

fn list(
    world: &World,
    known: &BTreeMap<Digest, Digest>,
    each: Duration,
    goes_on: &dyn Fn() -> bool,
) -> (Result<Vec<ImageHad>, StoredError>, Vec<String>) {
    world.clone().serve_seen(|socket| {
        let patience = Patience { each, goes_on };
        ContainerdResolver::new(socket).images(&|_| true, "linux/amd64", known, patience)
    })
}

/// A manifest of an image for an architecture.
fn of(world: &mut World, architecture: &str) -> ImageHad {
    let config = world.add(&json!({
        "os": "linux",
        "architecture": architecture,
        "rootfs": { "type": "layers", "diff_ids": [] },
    }));
    let asked = world.add(&json!({ "config": { "digest": config }, "layers": [] }));
    ImageHad { config, asked }
}

#[test]
fn images_of_this_platform_that_are_there() {
    let mut world = World::default();
    let [ours, theirs] = ["amd64", "arm64"].map(|name| of(&mut world, name));
    let index = world.index(&[&theirs.asked, &Digest::of(b"not pulled"), &ours.asked]);
    let silent = world.image(&["base"], "0");
    let not_there = world.index(&[&Digest::of(b"not pulled")]);
    for (name, kind, target) in [
        ("registry.example.com/both:1", INDEX, &index),
        ("registry.example.com/both:2", INDEX, &index),
        ("registry.example.com/theirs:1", MANIFEST, &theirs.asked),
        ("registry.example.com/silent:1", MANIFEST, &silent.manifest),
        ("registry.example.com/elsewhere:1", INDEX, &not_there),
        ("registry.example.com/chart:1", "application/vnd.cncf.helm.config.v1+json", &ours.asked),
    ] {
        world.record(name, kind, target);
    }
    let (found, calls) = list(&world, &BTreeMap::new(), EACH, WANTED);
    let found = found.unwrap();
    let wanted = [
        ImageHad { config: ours.config.clone(), asked: index.clone() },
        ImageHad { config: silent.config.clone(), asked: silent.manifest.clone() },
    ];
    assert_eq!(found.iter().collect::<BTreeSet<_>>(), wanted.iter().collect());
    assert!(calls.iter().any(|call| call.ends_with("Read")), "{calls:?}");

    // What was found is not read again.
    world.faults.insert(CONTENT_READ, Fault::Hang);
    world.images.retain(|_, (_, target)| *target == index);
    let known = found.into_iter().map(|had| (had.asked, had.config)).collect();
    assert_eq!(list(&world, &known, EACH, WANTED).0.unwrap(), wanted[..1]);
}

#[test]
fn namespaces_that_are_not_wanted_are_not_looked_into() {
    let mut world = World::default();
    let image = of(&mut world, "amd64");
    world.record("registry.example.com/a:1", MANIFEST, &image.asked);
    let (found, calls) = world.serve_seen(|socket| {
        let patience = Patience { each: EACH, goes_on: WANTED };
        let wanted = |namespace: &str| namespace != "k8s.io";
        ContainerdResolver::new(socket).images(&wanted, "linux/amd64", &BTreeMap::new(), patience)
    });
    assert_eq!((found.unwrap(), calls.len()), (Vec::new(), 1));
}

#[test]
fn a_containerd_that_hangs_is_given_up_and_nothing_is_listed() {
    let mut world = World::default();
    let image = of(&mut world, "amd64");
    world.record("registry.example.com/a:1", MANIFEST, &image.asked);
    for hanging in [IMAGES_LIST, CONTENT_READ] {
        let mut world = world.clone();
        world.faults.insert(hanging, Fault::Hang);
        let (found, _) = list(&world, &BTreeMap::new(), Duration::from_millis(50), WANTED);
        assert!(matches!(found, Err(StoredError::Call { .. })), "{hanging}: {found:?}");
    }
    let (found, calls) = list(&world, &BTreeMap::new(), EACH, &|| false);
    assert!(matches!(found, Err(StoredError::Stopped)), "{found:?}");
    assert!(calls.is_empty(), "{calls:?}");
}

fn changes(world: World, goes_on: &dyn Fn() -> bool) -> (Result<(), StoredError>, Vec<String>) {
    let mut told = Vec::new();
    let ended = world.serve(|socket| {
        let patience = Patience { each: EACH, goes_on };
        ContainerdResolver::new(socket).image_changes(patience, |name| told.push(name.to_owned()))
    });
    (ended, told)
}

#[test]
fn each_change_is_told_until_the_end() {
    let events = vec![
        ("k8s.io", "/images/create"),
        ("k8s.io", "/tasks/start"),
        ("default", "/images/delete"),
    ];
    let world = World { events, ..World::default() };
    let (ended, told) = changes(world.clone(), WANTED);
    ended.unwrap();
    assert_eq!(told, ["k8s.io", "default"]);

    let mut broken = world.clone();
    broken.faults.insert(EVENTS_SUBSCRIBE, Fault::Close);
    assert!(matches!(changes(broken, WANTED).0, Err(StoredError::Call { .. })));
    let mut flood = world;
    flood.faults.insert(EVENTS_SUBSCRIBE, Fault::Flood);
    let error = changes(flood, WANTED).0.unwrap_err();
    let causes = portcullis_types::with_causes(&error);
    assert!(causes.contains("larger than 1048576 bytes"), "{causes}");
}

#[test]
fn a_server_that_tells_nothing_is_left_when_nobody_listens_any_more() {
    let mut world = World::default();
    world.faults.insert(EVENTS_SUBSCRIBE, Fault::Hang);
    let listens = AtomicBool::new(true);
    let looked = || listens.swap(false, Ordering::SeqCst) || listens.load(Ordering::SeqCst);
    let (ended, told) = changes(world, &looked);
    ended.unwrap();
    assert!(told.is_empty());
}
