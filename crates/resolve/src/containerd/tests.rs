//! Resolving against a fake containerd: what pods look like, and what goes wrong.

pub(crate) mod fake;
mod listed;
mod stored;
mod unpacked;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portcullis_types::{Digest, Kind, Surety};
use serde_json::{Value, json};

use super::ContainerdResolver;
use super::api::*;
use crate::{Resolved, RootfsMount, Start};
use fake::{Fault, INDEX, Image, MANIFEST, World, any};

const APP: &str = "registry.example.com/team/app:1";
const CONTAINER: &str = "io.cri-containerd.container.metadata";
const SANDBOX: &str = "io.cri-containerd.sandbox.metadata";

/// A container of another client than the CRI plug-in.
fn plain() -> (World, Image) {
    let mut world = World::default();
    let image = world.image(&["base", "app"], "0");
    world.record(APP, MANIFEST, &image.manifest);
    world.container("c1", APP, &image.chain.to_string());
    (world, image)
}

/// A container of a pod, pulled by an index as the CRI plug-in records it.
fn of_pod() -> (World, Image) {
    let mut world = World::default();
    let image = world.image(&["base", "app"], "0");
    let index = world.index(&[&Digest::of(b"another platform's"), &image.manifest]);
    for name in [APP, &format!("registry.example.com/team/app@{index}"), &image.config.to_string()]
    {
        world.record(name, INDEX, &index);
    }
    world.container("s1", "registry.example.com/pause:3", "");
    world.extend("s1", SANDBOX, sandbox("s1"));
    world.container("c1", &image.config.to_string(), &image.chain.to_string());
    let metadata = json!({
        "ID": "c1",
        "Name": "web_shop_prod_8f-1_0",
        "SandboxID": "s1",
        "Config": {
            "metadata": { "name": "web" },
            "image": { "image": image.config, "user_specified_image": APP },
        },
        "ImageRef": image.config,
    });
    world.extend("c1", CONTAINER, metadata);
    (world, image)
}

fn sandbox(id: &str) -> Value {
    json!({ "ID": id, "Config": {
        "metadata": { "name": "shop", "namespace": "prod", "uid": "8f-1" },
        "labels": { "tier": "web" },
    }})
}

/// Names as `reference`, with `+` if held and `?` if asked for.
pub(crate) fn names(resolved: &Resolved) -> Vec<String> {
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

#[track_caller]
fn assert_bound(resolved: &Resolved, image: &Image) {
    assert_eq!(resolved.identity.surety, Surety::Bound, "{resolved:#?}");
    assert_eq!(resolved.identity.chain_id.as_ref(), Some(&image.chain));
    assert_eq!(resolved.identity.config.as_ref(), Some(&image.config));
}

#[track_caller]
fn assert_unknown(resolved: &Resolved, note: &str) {
    assert_eq!(resolved.identity.surety, Surety::Unknown, "{resolved:#?}");
    assert_eq!(resolved.identity.chain_id, None);
    assert_eq!(resolved.identity.config, None);
    assert_note(resolved, note);
}

#[track_caller]
fn assert_note(resolved: &Resolved, part: &str) {
    let note = resolved.identity.note.as_deref().unwrap_or_default();
    assert!(note.contains(part), "the note is {note:?}");
}

mod pods {
    use super::*;

    #[test]
    fn a_container_of_a_pod() {
        let (world, image) = of_pod();
        let index = world.images[APP].1.clone();
        let (resolved, calls) = world.resolve_within(Duration::from_secs(5));
        assert_bound(&resolved, &image);
        assert_eq!(resolved.identity.note, None);
        assert_eq!(resolved.identity.manifests, BTreeSet::from([index.clone(), image.manifest]));
        let mut wanted = [format!("{APP}+?"), format!("registry.example.com/team/app@{index}+")];
        wanted.sort();
        assert_eq!(names(&resolved), wanted);
        assert_eq!(resolved.kind, Kind::Container);
        assert_eq!(resolved.namespace, "prod");
        assert_eq!(resolved.pod, "shop");
        assert_eq!(resolved.container, "web");
        assert_eq!(resolved.pod_labels["tier"], "web");
        assert!(resolved.pod_known && !resolved.deadline_hit);
        // A call more is a call in each start.
        assert_eq!(calls.len(), 11, "{calls:?}");
    }

    #[test]
    fn a_sandbox() {
        let (mut world, image) = plain();
        world.extend("c1", SANDBOX, sandbox("c1"));
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        assert_eq!(resolved.kind, Kind::Sandbox);
        assert_eq!((&*resolved.namespace, &*resolved.pod), ("prod", "shop"));
        assert_eq!(resolved.container, "");
    }

    #[test]
    fn another_containers_record_makes_no_sandbox() {
        let (mut world, image) = plain();
        world.extend("c1", SANDBOX, sandbox("s1"));
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        assert_eq!(resolved.kind, Kind::Container);
        assert!(!resolved.pod_known);
        assert_note(&resolved, "it is about another container");
    }

    #[test]
    fn the_sandbox_is_only_in_the_sandbox_store() {
        let (mut world, _) = of_pod();
        world.containers.remove("s1");
        let json = json!({ "Version": "v1", "Metadata": sandbox("s1") });
        let record = Sandbox { extensions: [("metadata".to_owned(), any(&json))].into() };
        world.sandboxes.insert("s1".to_owned(), record);
        let resolved = world.resolve();
        assert_eq!(resolved.namespace, "prod");
        assert_eq!(resolved.pod_labels["tier"], "web");
        assert!(resolved.pod_known);
    }

    #[test]
    fn the_sandbox_has_no_record() {
        let (mut world, image) = of_pod();
        world.containers.remove("s1");
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        assert_eq!((&*resolved.namespace, &*resolved.pod), ("prod", "shop"));
        assert!(resolved.pod_labels.is_empty());
        assert!(!resolved.pod_known);
        assert_note(&resolved, "labels are not known");
    }

    #[test]
    fn the_image_was_deleted() {
        let (mut world, image) = of_pod();
        world.images.clear();
        world.content.clear();
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        assert_eq!(resolved.identity.manifests, BTreeSet::new());
        assert_eq!(names(&resolved), [format!("{APP}?")]);
        assert_note(&resolved, "containerd's record alone binds it");
    }

    #[test]
    fn the_tag_moved() {
        let (mut world, image) = of_pod();
        let other = world.image(&["base", "other"], "0");
        world.record(APP, MANIFEST, &other.manifest);
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        assert_eq!(resolved.identity.manifests.len(), 2);
        assert!(names(&resolved).contains(&format!("{APP}?")));
        assert_note(&resolved, "no image record shows");
    }

    #[test]
    fn the_recorded_configuration_has_other_layers() {
        let (mut world, image) = of_pod();
        world.snapshot("c1", &Digest::of(b"other layers").to_string());
        let resolved = world.resolve();
        assert_eq!(resolved.identity.surety, Surety::Bound);
        assert_ne!(resolved.identity.chain_id, Some(image.chain));
        assert_eq!(resolved.identity.config, None);
        assert_eq!(resolved.identity.manifests, BTreeSet::new());
        assert_note(&resolved, "has other layers than the container");
    }

    #[test]
    fn a_manifest_that_containerd_recorded_is_followed() {
        let (mut world, image) = of_pod();
        world.images.clear();
        let config = image.config.clone();
        let metadata = json!({ "ID": "c1", "SandboxID": "s1", "Config": null,
            "ImageRef": config, "ImageDigest": image.manifest });
        // Documents say what they are where no record does.
        let manifest = json!({ "mediaType": MANIFEST, "config": { "digest": config } });
        let manifest = world.add(&manifest);
        world.extend("c1", CONTAINER, metadata.clone());
        assert_eq!(world.clone().resolve().identity.manifests.len(), 0);
        let mut typed = metadata;
        typed["ImageDigest"] = json!(manifest);
        world.extend("c1", CONTAINER, typed);
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        assert_eq!(resolved.identity.manifests, BTreeSet::from([manifest]));
    }
}

mod layers {
    use super::*;

    fn mapped(world: &mut World, image: &Image, name: &str) {
        world.snapshot("c1", name);
        world.snapshot(name, &image.chain.to_string());
        world.snapshot(&image.chain.to_string(), &Digest::of(b"base").to_string());
    }

    #[test]
    fn a_copy_with_shifted_owners_of_1_7() {
        let (mut world, image) = plain();
        let name = format!("{}-1000-2000", image.chain);
        mapped(&mut world, &image, &name);
        assert_bound(&world.resolve(), &image);
    }

    #[test]
    fn a_copy_with_shifted_owners_of_2_x() {
        let (mut world, image) = plain();
        let json = format!(
            r#"{{"Parent":"{}","IDMap":{{"UidMap":[{{"containerID":0,"hostID":7,"size":9}}],"GidMap":null}}}}"#,
            image.chain
        );
        let name = Digest::of(json.as_bytes()).to_string();
        mapped(&mut world, &image, &name);

        // Without the mapping the name cannot be told from an image's, and no image has it.
        let resolved = world.clone().resolve();
        assert_eq!(resolved.identity.config, None);
        assert_ne!(resolved.identity.chain_id.as_ref(), Some(&image.chain));

        let mut labelled = world.clone();
        let labels = &mut labelled.snapshots.get_mut("c1").unwrap().labels;
        labels.insert("containerd.io/snapshot/uidmapping".into(), "0:7:9".into());
        assert_bound(&labelled.resolve(), &image);

        let spec = json!({ "root": { "path": "rootfs" }, "linux": { "uidMappings":
            [{ "containerID": 0, "hostID": 7, "size": 9 }] } });
        world.containers.get_mut("c1").unwrap().spec = Some(any(&spec));
        assert_bound(&world.resolve(), &image);
    }

    #[test]
    fn a_user_namespace_without_a_copy() {
        let (mut world, image) = plain();
        world.snapshot(&image.chain.to_string(), &Digest::of(b"base").to_string());
        let labels = &mut world.snapshots.get_mut("c1").unwrap().labels;
        labels.insert("containerd.io/snapshot/uidmapping".into(), "0:7:9".into());
        assert_bound(&world.resolve(), &image);
    }

    #[test]
    fn dockers_layer_below_each_container() {
        let (mut world, image) = plain();
        mapped(&mut world, &image, "c1-init");
        assert_bound(&world.resolve(), &image);
    }

    #[test]
    fn a_layer_of_nobody() {
        let (mut world, image) = plain();
        mapped(&mut world, &image, "committed-by-hand");
        assert_unknown(&world.resolve(), "\"committed-by-hand\"");
    }

    #[test]
    fn layers_of_nobody_without_end() {
        let (mut world, _) = plain();
        world.snapshot("c1", "c1-init");
        world.snapshot("c1-init", "c1-init");
        assert_unknown(&world.resolve(), "is not an image's");
    }

    #[test]
    fn no_layers_at_all() {
        let (mut world, _) = plain();
        world.snapshot("c1", "");
        assert_unknown(&world.resolve(), "has no layers below it");
    }

    #[test]
    fn a_root_of_its_own() {
        let (mut world, _) = plain();
        let spec = any(&json!({ "root": { "path": "/srv/other" } }));
        world.containers.get_mut("c1").unwrap().spec = Some(spec);
        assert_unknown(&world.resolve(), "/srv/other");
    }

    #[test]
    fn mounts_of_the_mount_manager() {
        let (mut world, image) = plain();
        let mount = |kind: &str, options: &[&str]| Mount {
            kind: kind.to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: options.iter().map(|&o| o.to_owned()).collect(),
        };
        world.mounts = vec![
            mount("erofs", &["ro", "loop"]),
            mount("format/overlay", &["lowerdir={{ mount 0 }}"]),
        ];
        let given = |lower: &str| {
            Some(vec![RootfsMount {
                kind: "overlay".to_owned(),
                source: "overlay".to_owned(),
                options: vec![lower.to_owned()],
            }])
        };
        world.given = given("lowerdir=/t/1/1");
        assert_unknown(&world.clone().resolve(), "is not the container's snapshot");
        world.active = vec![ActiveMount {
            mount: Some(mount("erofs", &[])),
            mount_point: "/t/1/1".to_owned(),
        }];
        assert_bound(&world.clone().resolve(), &image);
        world.given = given("lowerdir=/t/2/1");
        assert_unknown(&world.resolve(), "is not the container's snapshot");
    }
}

/// As containerd's shim calls an OCI runtime.
mod command_line {
    use std::path::Path;

    use super::*;
    use crate::OciStart;

    const BUNDLE: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1";
    const STATE: &str = "/run/containerd/runc/k8s.io";

    fn resolve(world: World, root: &str, options: &str) -> Resolved {
        let table = format!("40 21 0:49 / {BUNDLE}/rootfs rw - overlay overlay {options}\n");
        let start = OciStart {
            container_id: "c1",
            bundle: Path::new(BUNDLE),
            root: Path::new(root),
            state: Some(Path::new(STATE)),
            deadline: Instant::now() + Duration::from_secs(5),
        };
        world.resolve_oci(&start, &table)
    }

    fn resolve_with(world: World, options: &str) -> Resolved {
        resolve(world, &format!("{BUNDLE}/rootfs"), options)
    }

    #[test]
    fn a_container_of_a_pod() {
        let (world, image) = of_pod();
        let resolved = resolve_with(world, "rw,lowerdir=/s/1/fs,upperdir=/s/2/fs,index=off");
        assert_bound(&resolved, &image);
        assert_eq!(resolved.identity.note, None);
        assert_eq!((&*resolved.namespace, &*resolved.container), ("prod", "web"));
        assert!(resolved.pod_known);
    }

    #[test]
    fn a_sandbox() {
        let (mut world, image) = plain();
        world.extend("c1", SANDBOX, sandbox("c1"));
        let resolved = resolve_with(world, "rw,lowerdir=/s/1/fs,upperdir=/s/2/fs");
        assert_bound(&resolved, &image);
        assert_eq!(resolved.kind, Kind::Sandbox);
    }

    #[test]
    fn another_root_is_not_the_snapshot() {
        let upper = "upperdir=/s/2/fs";
        for (root, options, note) in [
            ("rootfs", format!("lowerdir=/s/9/fs,{upper}"), "what is mounted is not"),
            ("rootfs", format!("lowerdir=/s/9/fs:/s/1/fs,{upper}"), "what is mounted is not"),
            ("other", format!("lowerdir=/s/1/fs,{upper}"), "the bundle's root is"),
            ("", format!("lowerdir=/s/1/fs,{upper}"), "the bundle's root is"),
        ] {
            let (world, _) = of_pod();
            let resolved = resolve(world, &format!("{BUNDLE}/{root}"), &options);
            assert_unknown(&resolved, note);
            // Which policies count is known all the same.
            assert_eq!(resolved.namespace, "prod");
        }
    }

    #[test]
    fn no_mount_is_no_snapshot() {
        let (world, _) = plain();
        let start = OciStart {
            container_id: "c1",
            bundle: Path::new(BUNDLE),
            root: &Path::new(BUNDLE).join("rootfs"),
            state: None,
            deadline: Instant::now() + Duration::from_secs(5),
        };
        assert_unknown(&world.resolve_oci(&start, ""), "nothing is mounted");
    }

    #[test]
    fn namespaces_that_differ_are_none() {
        let (world, _) = plain();
        let start = OciStart {
            container_id: "c1",
            bundle: Path::new(BUNDLE),
            root: &Path::new(BUNDLE).join("rootfs"),
            state: Some(Path::new("/run/containerd/runc/default")),
            deadline: Instant::now() + Duration::from_secs(5),
        };
        let resolved = world.resolve_oci(&start, "");
        assert_unknown(&resolved, "\"default\"");
        assert!(!resolved.pod_known);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_only_claimed() {
        let (mut world, image) = of_pod();
        let maps = ["uidmap=0:7:9", "gidmap=0:7:9"].map(str::to_owned);
        world.mounts[0].options.extend(maps);
        let lower = "lowerdir=/tmp/ovl-idmapped1/fs";
        let resolved = resolve_with(world, &format!("rw,{lower},upperdir=/s/2/fs"));
        assert_eq!(resolved.identity.surety, Surety::Claimed);
        assert_eq!(resolved.identity.chain_id, Some(image.chain));
        assert_eq!(resolved.identity.config, Some(image.config));
        assert_eq!(names(&resolved), [format!("{APP}?")]);
        assert_note(&resolved, "the kernel does not tell");
    }

    #[test]
    fn mounts_of_the_mount_manager() {
        let (mut world, image) = plain();
        let mount = |kind: &str, options: &[&str]| Mount {
            kind: kind.to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options: options.iter().map(|&o| o.to_owned()).collect(),
        };
        world.mounts = vec![
            mount("erofs", &["ro", "loop"]),
            mount("erofs", &["ro", "loop"]),
            mount("format/overlay", &["lowerdir={{ overlay 0 1 }}", "upperdir=/s/2/fs"]),
        ];
        world.active = ["/t/1/1", "/t/1/2"]
            .map(|point| ActiveMount {
                mount: Some(mount("erofs", &[])),
                mount_point: point.to_owned(),
            })
            .to_vec();
        let right = "rw,lowerdir=/t/1/1:/t/1/2,upperdir=/s/2/fs";
        assert_bound(&resolve_with(world.clone(), right), &image);
        let wrong = "rw,lowerdir=/t/1/2:/t/1/1,upperdir=/s/2/fs";
        assert_unknown(&resolve_with(world.clone(), wrong), "what is mounted is not");
        world.active.clear();
        assert_unknown(&resolve_with(world, right), "what is mounted is not");
    }
}

mod images {
    use super::*;

    #[test]
    fn several_configurations_behind_one_name() {
        let (mut world, one) = plain();
        let two = world.image(&["base", "app"], "1000");
        assert_eq!(one.chain, two.chain);
        let index = world.index(&[&one.manifest, &two.manifest]);
        world.record(APP, INDEX, &index);
        let resolved = world.resolve();
        assert_eq!(resolved.identity.surety, Surety::Bound);
        assert_eq!(resolved.identity.config, None);
        assert_eq!(resolved.identity.manifests, BTreeSet::new());
        assert_note(&resolved, "several configurations");
    }

    #[test]
    fn a_configuration_that_only_the_engine_can_read() {
        let (mut world, one) = plain();
        let mut huge = world.content[&one.config].clone();
        huge.resize(super::super::client::MAX_DOCUMENT + 1, b' ');
        let config = Digest::of(&huge);
        world.content.insert(config.clone(), huge);
        let other = world.add(&json!({ "config": { "digest": config } }));
        let index = world.index(&[&other, &one.manifest]);
        world.record(APP, INDEX, &index);
        let resolved = world.resolve();
        assert_eq!(resolved.identity.surety, Surety::Bound);
        assert_eq!(resolved.identity.config, None);
        assert_note(&resolved, "leads to documents that were not read");
    }

    #[test]
    fn more_manifests_than_are_read() {
        let (mut world, one) = plain();
        // Each inner index names the same manifest often; the documents add up.
        let inner = world.index(&[&one.manifest; 100]);
        let entry = json!({ "mediaType": INDEX, "digest": inner });
        let outer = world.add(&json!({ "manifests": [entry, entry, entry] }));
        world.record(APP, INDEX, &outer);
        let resolved = world.resolve();
        assert_eq!(resolved.identity.config, None);
        assert_note(&resolved, "there are too many");
    }

    #[test]
    fn an_index_of_indexes() {
        let (mut world, image) = plain();
        let inner = world.index(&[&image.manifest]);
        let outer = json!({ "manifests": [{ "mediaType": INDEX, "digest": inner }] });
        let outer = world.add(&outer);
        world.record(APP, INDEX, &outer);
        let resolved = world.resolve();
        assert_bound(&resolved, &image);
        let wanted = BTreeSet::from([outer, inner, image.manifest]);
        assert_eq!(resolved.identity.manifests, wanted);
    }

    #[test]
    fn an_index_that_is_too_deep() {
        let (mut world, image) = plain();
        let mut target = world.index(&[&image.manifest]);
        for _ in 0..5 {
            let outer = json!({ "manifests": [{ "mediaType": INDEX, "digest": target }] });
            target = world.add(&outer);
        }
        world.record(APP, INDEX, &target);
        let resolved = world.resolve();
        assert_eq!(resolved.identity.config, None);
        assert_note(&resolved, "too deep");
    }

    #[test]
    fn content_that_is_not_what_its_digest_says() {
        for document in ["manifest", "config"] {
            let (mut world, image) = plain();
            let digest = match document {
                "manifest" => &image.manifest,
                _ => &image.config,
            };
            world.content.get_mut(digest).unwrap().push(b' ');
            let resolved = world.resolve();
            assert_eq!(resolved.identity.surety, Surety::Bound);
            assert_eq!(resolved.identity.config, None, "{document}");
            assert_note(&resolved, "its content has another digest");
        }
    }

    #[test]
    fn a_manifest_that_could_be_an_index() {
        let (mut world, image) = plain();
        let both = json!({ "config": { "digest": image.config }, "manifests": [] });
        let both = world.add(&both);
        world.record(APP, MANIFEST, &both);
        let resolved = world.resolve();
        assert_eq!(resolved.identity.config, None);
        assert_note(&resolved, "an index and a manifest at once");
    }

    #[test]
    fn documents_without_end() {
        let (mut world, _) = plain();
        let huge = vec![b' '; super::super::client::MAX_DOCUMENT + 1];
        let digest = Digest::of(&huge);
        world.content.insert(digest.clone(), huge);
        world.record(APP, MANIFEST, &digest);
        let resolved = world.resolve();
        assert_eq!(resolved.identity.config, None);
        assert_note(&resolved, "it is larger than 8388608 bytes");
    }

    #[test]
    fn a_search_through_many_images_is_cut_short() {
        let (mut world, image) = plain();
        world.images.clear();
        for i in 0..400 {
            let other = world.image(&["base", &i.to_string()], "0");
            let index = world.index(&[&other.manifest; 100]);
            world.record(&format!("registry.example.com/{i}:1"), INDEX, &index);
        }
        let begin = Instant::now();
        let (resolved, _) = world.resolve_within(Duration::from_secs(5));
        assert!(begin.elapsed() < Duration::from_secs(2));
        assert_eq!(resolved.identity.surety, Surety::Bound);
        assert_eq!(resolved.identity.chain_id, Some(image.chain));
        assert!(!resolved.deadline_hit);
    }
}

mod faults {
    use super::*;

    /// All calls that the start of a pod's container makes.
    const CALLS: [&str; 6] =
        [CONTAINERS_GET, SNAPSHOTS_STAT, SNAPSHOTS_MOUNTS, IMAGES_GET, IMAGES_LIST, CONTENT_READ];
    /// Enough for the calls before the one that hangs.
    const TIME: Duration = Duration::from_secs(1);

    fn faulty(call: &'static str, fault: Fault) -> World {
        let (mut world, _) = of_pod();
        world.faults.insert(call, fault);
        world
    }

    #[test]
    fn a_call_that_never_ends_keeps_what_was_learnt() {
        for call in CALLS {
            let begin = Instant::now();
            let (resolved, _) = faulty(call, Fault::Hang).resolve_within(TIME);
            assert!(begin.elapsed() < Duration::from_secs(20), "{call}: {:?}", begin.elapsed());
            assert!(resolved.deadline_hit, "{call}");
            assert_note(&resolved, "the time was up");
            let identity = &resolved.identity;
            let known = (
                identity.surety,
                identity.chain_id.is_some(),
                identity.config.is_some(),
                !identity.manifests.is_empty(),
            );
            let wanted = match call {
                CONTAINERS_GET => (Surety::Unknown, false, false, false),
                SNAPSHOTS_STAT => (Surety::Claimed, false, true, false),
                SNAPSHOTS_MOUNTS => (Surety::Claimed, true, true, false),
                IMAGES_GET | CONTENT_READ => (Surety::Bound, true, true, false),
                _ => (Surety::Bound, true, true, true),
            };
            assert_eq!(known, wanted, "{call}");
        }
    }

    #[test]
    fn what_is_no_answer_is_a_note_and_never_a_panic() {
        let faults = [
            Fault::Status(2),
            Fault::Status(7),
            Fault::Status(14),
            Fault::Status(999),
            Fault::Body(Vec::new()),
            Fault::Body(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Fault::Body(vec![0, 0, 0, 0, 3, 0xff, 0xff, 0xff]),
            Fault::Body(vec![1, 0, 0, 0, 0]),
            Fault::Body(vec![0, 0, 0, 0, 9, 1]),
            Fault::Body(vec![0, 0xff, 0xff, 0xff, 0xff]),
            Fault::Body([0; 10].to_vec()),
            Fault::NoStatus,
            Fault::Flood,
            Fault::Http(502),
            Fault::Close,
        ];
        for call in CALLS {
            for fault in &faults {
                let resolved = faulty(call, fault.clone()).resolve();
                let case = format!("{call} {fault:?}: {resolved:#?}");
                assert!(!resolved.deadline_hit, "{case}");
                // An empty list or record can be well-formed; then nothing is proven by it.
                let bound = resolved.identity.is_bound();
                match call {
                    CONTAINERS_GET | SNAPSHOTS_STAT | SNAPSHOTS_MOUNTS => assert!(!bound, "{case}"),
                    _ if matches!(fault, Fault::Close) => {}
                    _ => assert!(bound, "{case}"),
                }
                if call == IMAGES_LIST {
                    assert!(names(&resolved).iter().all(|n| !n.contains('+')), "{case}");
                }
                if call == CONTENT_READ {
                    assert!(resolved.identity.manifests.is_empty(), "{case}");
                }
                if !bound {
                    assert!(resolved.identity.note.is_some(), "{case}");
                }
            }
        }
    }

    fn resolve_at(address: &str, time: Duration) -> Resolved {
        ContainerdResolver::new(address).resolve(&Start {
            namespace: "k8s.io",
            container_id: "c1",
            rootfs: &[],
            deadline: Instant::now() + time,
        })
    }

    #[test]
    fn nobody_at_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let address = format!("unix://{}", path.display());
        assert_unknown(&resolve_at(&address, TIME), "No such file or directory");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let resolved = resolve_at(&address, TIME);
        assert_unknown(&resolved, "Connection refused");
        assert!(!resolved.deadline_hit);
        assert!(!resolved.pod_known);
    }

    #[test]
    fn a_socket_that_nobody_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let begin = Instant::now();
        let resolved = resolve_at(path.to_str().unwrap(), TIME);
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert!(resolved.deadline_hit);
        assert_unknown(&resolved, "the time was up");
    }

    #[test]
    fn a_deadline_that_has_passed() {
        let (world, _) = of_pod();
        let (resolved, _) = world.resolve_within(Duration::ZERO);
        assert!(resolved.deadline_hit);
        assert_unknown(&resolved, "the time was up");
    }

    #[test]
    fn a_namespace_that_no_header_can_carry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let resolved = ContainerdResolver::new(path.to_str().unwrap()).resolve(&Start {
            namespace: "a\nb",
            container_id: "c1",
            rootfs: &[],
            deadline: Instant::now() + TIME,
        });
        assert_unknown(&resolved, "cannot be sent");
    }
}

#[test]
fn what_runs_is_resolved_as_it_would_start_again() {
    let (mut world, image) = of_pod();
    world.tasks =
        [("s1", 2), ("gone", 2), ("c1", 4), ("c2", 3)].map(|(id, s)| (id.into(), s)).into();
    let found = world.running(Duration::from_secs(5)).unwrap();
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["k8s.io/c1", "k8s.io/gone", "k8s.io/s1"]);
    let (_, resolved, spec) = &found[0];
    assert_eq!(resolved.identity.surety, Surety::Bound, "{resolved:?}");
    assert_eq!(resolved.identity.config, Some(image.config));
    assert_eq!((resolved.pod.as_str(), resolved.container.as_str()), ("shop", "web"));
    assert!(spec.as_ref().unwrap().starts_with(b"{"));
    let (_, resolved, spec) = &found[1];
    assert_eq!((resolved.identity.surety, spec), (Surety::Unknown, &None));
    assert_eq!(found[2].1.kind, Kind::Sandbox);
}

#[test]
fn what_runs_is_an_error_where_containerd_does_not_tell() {
    for (call, part) in [(NAMESPACES_LIST, "does not answer"), (TASKS_LIST, "namespace k8s.io")] {
        let (mut world, _) = plain();
        world.faults.insert(call, Fault::Hang);
        let error = world.running(Duration::from_secs(2)).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
