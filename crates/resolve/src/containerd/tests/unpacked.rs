//! Where a snapshotter has the layers of an image.

use std::path::PathBuf;

use super::*;
use crate::{UnpackedError, UnpackedImage};

/// An image that is unpacked into folders.
fn world() -> (World, Image, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::default();
    let image = world.image(&["base", "app"], "0");
    let base = Digest::of(b"base").to_string();
    world.snapshot(&base, "");
    world.snapshot(&image.chain.to_string(), &base);
    let layers = layers(folder.path());
    layers.iter().for_each(|layer| std::fs::create_dir_all(layer).unwrap());
    world.views = vec![Mount {
        kind: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: vec![
            "index=off".to_owned(),
            format!("lowerdir={}:{}", layers[1].display(), layers[0].display()),
        ],
    }];
    (world, image, folder)
}

/// The lowest first.
fn layers(folder: &std::path::Path) -> [PathBuf; 2] {
    ["1", "2"].map(|id| folder.join(id).join("fs"))
}

fn ask(world: World, config: &Digest) -> (Result<UnpackedImage, UnpackedError>, Vec<String>) {
    // Only a call that hangs takes all of its time.
    let hangs = world.faults.values().any(|fault| matches!(fault, Fault::Hang));
    let time = if hangs { Duration::from_millis(500) } else { Duration::from_secs(10) };
    world.serve_seen(|socket| {
        let deadline = Instant::now() + time;
        let resolver = ContainerdResolver::new(socket);
        resolver.unpacked(config, "k8s.io", ContainerdResolver::SNAPSHOTTER, deadline)
    })
}

#[track_caller]
fn check(world: World, config: &Digest, part: &str, is_removed: bool) {
    let (found, calls) = ask(world, config);
    let error = portcullis_types::with_causes(&found.unwrap_err());
    assert!(error.contains(part), "{error}");
    assert_eq!(calls.iter().any(|call| call.ends_with("/Remove")), is_removed, "{calls:?}");
}

#[test]
fn the_folders_of_the_layers() {
    let (world, image, folder) = world();
    let (found, calls) = ask(world.clone(), &image.config);
    let found = found.unwrap();
    assert_eq!(found.config, world.content[&image.config]);
    assert_eq!(found.layers, layers(folder.path()));
    let calls: Vec<&str> = calls.iter().filter_map(|call| call.rsplit('/').next()).collect();
    assert_eq!(calls, ["Read", "Stat", "Stat", "View", "Remove"]);
}

#[test]
fn an_image_without_layers() {
    let (mut world, _, _folder) = world();
    let config = world.add(&json!({ "rootfs": { "diff_ids": [] } }));
    let (found, calls) = ask(world, &config);
    assert_eq!(found.unwrap().layers, Vec::<PathBuf>::new());
    assert_eq!(calls.len(), 1);
}

#[test]
fn snapshots_that_are_not_the_layers() {
    let (whole, image, _folder) = world();
    let base = Digest::of(b"base").to_string();
    for (key, parent, part) in [
        (&*base, "sha256:other", "lies on \"sha256:other\""),
        (&image.chain.to_string(), "", "lies on \"\""),
        (&image.chain.to_string(), "sha256:other", "lies on \"sha256:other\""),
    ] {
        let mut world = whole.clone();
        world.snapshot(key, parent);
        check(world, &image.config, part, false);
    }
    for key in [&base, &image.chain.to_string()] {
        let mut world = whole.clone();
        world.snapshots.remove(key);
        check(world, &image.config, &format!("overlayfs has no layer {key}"), false);
    }
    let mut gone = whole.clone();
    gone.content.clear();
    check(gone, &image.config, "cannot be read: not found", false);
    let mut other = whole;
    other.content.insert(image.config.clone(), b"{}".to_vec());
    check(other, &image.config, "another digest", false);
}

#[test]
fn a_view_is_removed_whatever_comes_of_it() {
    let (whole, image, folder) = world();
    let mut fewer = whole.clone();
    fewer.views[0].options = vec!["lowerdir=/s/1/fs".to_owned()];
    check(fewer, &image.config, "1 folders for 2 layers", true);
    let mut other = whole.clone();
    other.views[0].kind = "erofs".to_owned();
    check(other, &image.config, "of the type \"erofs\"", true);
    for (fault, part) in [
        (Fault::Status(2), "status 2"),
        (Fault::Status(12), "does not offer this call"),
        (Fault::Hang, "the time was up"),
        (Fault::Body(vec![0, 0, 0, 0, 9]), "cut off"),
        (Fault::Close, "the connection failed"),
    ] {
        let mut world = whole.clone();
        world.faults.insert(SNAPSHOTS_VIEW, fault);
        check(world, &image.config, part, true);
    }
    // Somebody else's is not.
    let mut taken = whole.clone();
    taken.faults.insert(SNAPSHOTS_VIEW, Fault::Status(6));
    check(taken, &image.config, "status 6", false);
    std::fs::remove_dir(&layers(folder.path())[0]).unwrap();
    check(whole, &image.config, "No such file", true);
}

#[test]
fn a_view_that_stays_is_told() {
    let (whole, image, _folder) = world();
    for fault in [Fault::Status(9), Fault::Close] {
        let mut world = whole.clone();
        world.faults.insert(SNAPSHOTS_REMOVE, fault);
        check(world, &image.config, "could not be removed", true);
    }
    // containerd has collected it before.
    let mut world = whole;
    world.faults.insert(SNAPSHOTS_REMOVE, Fault::Status(5));
    assert!(ask(world, &image.config).0.is_ok());
}
