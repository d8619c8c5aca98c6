//! Against a real containerd: what a container runs, told from the engine's own records.
//!
//! Each test has a containerd of its own (see [`engine`]) and fails where there is none. It takes
//! root, `unshare`, `mount` and `tar`, and no network.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod engine;
mod image;
mod stored;

use std::collections::BTreeSet;

use engine::Engine;
use image::Image;
use portcullis_resolve::Resolved;
use portcullis_types::{Digest, Kind, Surety};
use serde_json::json;

const APP: &str = "registry.example.com/team/app:1";
const OTHER: &str = "registry.example.com/team/other:1";

fn app() -> Image {
    Image::new(&["base", "app"], json!({ "Cmd": ["/app"] }))
}

fn create(engine: &Engine, options: &[&str], image: &str, id: &str) {
    let mut arguments = vec!["containers", "create"];
    arguments.extend(options);
    arguments.extend([image, id, "/app"]);
    engine.ctr(&arguments);
}

fn set<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> BTreeSet<Digest> {
    digests.into_iter().cloned().collect()
}

/// Names as `reference`, with `+` if held and `?` if asked for.
fn names(resolved: &Resolved) -> Vec<String> {
    let names = resolved.identity.names.iter();
    let mut names: Vec<String> = names
        .map(|name| {
            let held = if name.held { "+" } else { "" };
            let asked = if name.asked { "?" } else { "" };
            format!("{}{held}{asked}", name.reference)
        })
        .collect();
    names.sort();
    names
}

/// Resolves it with all images searched: the search has a short time of its own, which a busy machine
/// can use up.
fn resolve_searched(engine: &Engine, id: &str) -> Resolved {
    let mut resolved = engine.resolve(id);
    for _ in 1..5 {
        let note = resolved.identity.note.as_deref().unwrap_or_default();
        if !note.contains("not all images were searched") {
            break;
        }
        resolved = engine.resolve(id);
    }
    resolved
}

#[track_caller]
fn assert_bound(resolved: &Resolved, image: &Image) {
    assert_eq!(resolved.identity.surety, Surety::Bound, "{resolved:#?}");
    assert_eq!(resolved.identity.chain_id.as_ref(), Some(&image.chain));
    assert_eq!(resolved.identity.config.as_ref(), Some(&image.config));
    assert_eq!(resolved.identity.note, None);
    assert!(!resolved.deadline_hit);
}

/// The layers are bound and nothing else is.
#[track_caller]
fn assert_layers_only(resolved: &Resolved, image: &Image, note: &str) {
    assert_eq!(resolved.identity.surety, Surety::Bound, "{resolved:#?}");
    assert_eq!(resolved.identity.chain_id.as_ref(), Some(&image.chain));
    assert_eq!(resolved.identity.config, None);
    assert_eq!(resolved.identity.manifests, BTreeSet::new());
    assert_note(resolved, note);
}

#[track_caller]
fn assert_unknown(resolved: &Resolved, note: &str) {
    assert_eq!(resolved.identity.surety, Surety::Unknown, "{resolved:#?}");
    assert_eq!(resolved.identity.chain_id, None);
    assert_note(resolved, note);
}

#[track_caller]
fn assert_note(resolved: &Resolved, part: &str) {
    let note = resolved.identity.note.as_deref().unwrap_or_default();
    assert!(note.contains(part), "the note is {note:?}");
}

#[test]
fn a_container_and_its_image() {
    let engine = Engine::start();
    let image = app();
    image.import(&engine, APP);
    create(&engine, &[], APP, "c1");
    let resolved = engine.resolve("c1");
    assert_bound(&resolved, &image);
    assert_eq!(resolved.identity.manifests, set([&image.manifest]));
    assert_eq!(names(&resolved), [format!("{APP}+?")]);
    assert_eq!(resolved.kind, Kind::Container);
    assert_eq!((&*resolved.namespace, &*resolved.pod), ("", ""));
    assert!(resolved.pod_known);
}

#[test]
fn an_image_of_one_layer() {
    let engine = Engine::start();
    let image = Image::new(&["only"], json!({}));
    image.import(&engine, APP);
    create(&engine, &[], APP, "c1");
    assert_bound(&engine.resolve("c1"), &image);
}

#[test]
fn all_names_of_the_image_are_held_and_no_others() {
    let engine = Engine::start();
    let image = app();
    image.import(&engine, APP);
    let by_digest = format!("registry.example.com/team/app@{}", image.manifest);
    let wrong_digest = format!("registry.example.com/team/app@{}", image.config);
    let by_id = image.config.to_string();
    for name in [OTHER, &by_digest, &wrong_digest, &by_id, "short"] {
        engine.ctr(&["images", "tag", APP, name]);
    }
    Image::new(&["base", "else"], json!({})).import(&engine, "registry.example.com/team/else:1");
    create(&engine, &[], OTHER, "c1");
    let resolved = engine.resolve("c1");
    assert_bound(&resolved, &image);
    let mut wanted = [format!("{APP}+"), format!("{by_digest}+"), format!("{OTHER}+?")];
    wanted.sort();
    assert_eq!(names(&resolved), wanted);
}

#[test]
fn an_index_beside_the_digest_of_a_platform() {
    let engine = Engine::start();
    let image = app();
    let indexed = image.clone().behind_index();
    indexed.import(&engine, APP);
    image.import(&engine, OTHER);
    create(&engine, &[], APP, "c1");
    create(&engine, &[], OTHER, "c2");

    let by_index = engine.resolve("c1");
    assert_bound(&by_index, &image);
    let wanted = set([&indexed.target, &image.manifest]);
    assert_eq!(by_index.identity.manifests, wanted);
    assert_eq!(names(&by_index), [format!("{APP}+?"), format!("{OTHER}+")]);

    // The platform's manifest leads to no index, so its index is not proven.
    let by_platform = engine.resolve("c2");
    assert_bound(&by_platform, &image);
    assert_eq!(by_platform.identity.manifests, set([&image.manifest]));
    assert_eq!(names(&by_platform), [format!("{OTHER}+?")]);
}

#[test]
fn the_tag_moved_between_create_and_start() {
    let engine = Engine::start();
    let image = app();
    image.import(&engine, APP);
    create(&engine, &[], APP, "c1");
    image.import(&engine, OTHER);
    Image::new(&["base", "harmless"], json!({})).import(&engine, APP);
    let resolved = resolve_searched(&engine, "c1");
    assert_layers_only(&resolved, &image, "has moved to another image");
    // The other name is seen, and proves nothing.
    assert_eq!(names(&resolved), [format!("{APP}?"), OTHER.to_owned()]);
}

#[test]
fn the_tag_moved_to_the_image_below() {
    let engine = Engine::start();
    let image = app();
    image.import(&engine, APP);
    create(&engine, &[], APP, "c1");
    // The parent of the container's layers is a snapshot of this image: it must not be taken.
    Image::new(&["base"], json!({})).import(&engine, APP);
    let resolved = engine.resolve("c1");
    assert_layers_only(&resolved, &image, "has moved to another image");
}

#[test]
fn the_image_was_deleted() {
    let engine = Engine::start();
    let image = app();
    image.import(&engine, APP);
    create(&engine, &[], APP, "c1");
    engine.ctr(&["images", "rm", "--sync", APP]);
    let resolved = engine.resolve("c1");
    assert_layers_only(&resolved, &image, "no image is named");
    assert_eq!(names(&resolved), [format!("{APP}?")]);
}

#[test]
fn annotations_and_labels_are_no_evidence() {
    let engine = Engine::start();
    let labels = json!({ "Labels": {
        "io.cri-containerd.kind": "sandbox",
        "io.cri-containerd.sandbox.metadata": "{\"Version\":\"v1\",\"Metadata\":{\"ID\":\"c1\"}}",
        "io.kubernetes.cri.image-name": "registry.example.com/trusted/app:1",
        "io.kubernetes.pod.namespace": "kube-system",
    }});
    let image = Image::new(&["base", "app"], labels);
    image.import(&engine, APP);
    let forged = [
        "--annotation",
        "io.kubernetes.cri.image-name=registry.example.com/trusted/app:1",
        "--annotation",
        "io.kubernetes.cri.container-type=sandbox",
        "--annotation",
        "io.kubernetes.cri.sandbox-namespace=kube-system",
    ];
    create(&engine, &forged, APP, "c1");
    // Labels of the image do reach the record (2.1 keeps only `io.cri-containerd` out).
    let info = engine.ctr(&["containers", "info", "c1"]);
    assert!(info.contains("\"io.kubernetes.pod.namespace\""), "{info}");
    let resolved = engine.resolve("c1");
    assert_bound(&resolved, &image);
    assert_eq!(names(&resolved), [format!("{APP}+?")]);
    assert_eq!(resolved.kind, Kind::Container);
    assert_eq!((&*resolved.namespace, &*resolved.pod), ("", ""));
}

#[test]
fn two_configurations_with_the_same_layers() {
    let engine = Engine::start();
    let one = Image::new(&["base", "app"], json!({ "User": "1000" }));
    let two = Image::new(&["base", "app"], json!({ "User": "0" }));
    assert_eq!(one.chain, two.chain);
    one.import(&engine, APP);
    two.import(&engine, OTHER);
    create(&engine, &[], APP, "c1");
    create(&engine, &[], OTHER, "c2");
    for (id, image, name) in [("c1", &one, APP), ("c2", &two, OTHER)] {
        let resolved = engine.resolve(id);
        assert_bound(&resolved, image);
        assert_eq!(names(&resolved), [format!("{name}+?")]);
    }
    engine.ctr(&["images", "rm", "--sync", APP]);
    let resolved = resolve_searched(&engine, "c1");
    assert_layers_only(&resolved, &one, "no image is named");
    assert_eq!(names(&resolved), [format!("{APP}?"), OTHER.to_owned()]);
}

#[test]
fn a_root_filesystem_of_the_clients_own() {
    let engine = Engine::start();
    let root = engine.folder().to_str().unwrap();
    create(&engine, &["--rootfs"], root, "c1");
    let resolved = engine.resolve_with("c1", &[]);
    assert_unknown(&resolved, "the container has no snapshot");
}

#[test]
fn other_mounts_than_the_snapshots() {
    let engine = Engine::start();
    app().import(&engine, APP);
    Image::new(&["base", "evil"], json!({})).import(&engine, OTHER);
    create(&engine, &[], APP, "c1");
    create(&engine, &[], OTHER, "c2");
    let others = engine.mounts("c2");
    let resolved = engine.resolve_with("c1", &others);
    assert_unknown(&resolved, "is not the container's snapshot");
    assert_unknown(&engine.resolve_with("c1", &[]), "mounts no root filesystem");
    let twice = [engine.mounts("c1"), others].concat();
    assert_unknown(&engine.resolve_with("c1", &twice), "is not the container's snapshot");
}

#[test]
fn a_container_that_is_not_there() {
    let engine = Engine::start();
    assert_unknown(&engine.resolve_with("c1", &[]), "not found");
}
