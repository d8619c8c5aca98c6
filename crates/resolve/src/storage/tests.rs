//! Stores as CRI-O and Podman leave them, and every way in which they can fail to tell.

mod recorded;
mod store;
mod stored;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_types::{Digest, Kind, Surety};
use serde_json::json;

use super::StorageEngine;
use super::conf::Host;
use super::resolve::resolve;
use super::running::{StorageRunningError, list_where};
use crate::mounted::find;
use crate::{OciStart, Resolved};
use store::{APP, Image, Store, hex};

/// A container that is about to start on a machine with a store.
struct Scene {
    store: Store,
    image: Image,
    engine: StorageEngine,
    container: String,
    /// Its own layer.
    layer: String,
    bundle: PathBuf,
    root: PathBuf,
    /// Graph roots below the store's folder.
    roots: Vec<&'static str>,
    /// Text of the table of mounts.
    mounts: String,
    time: Duration,
}

impl Scene {
    /// A container of Podman from an image with three layers, as it is when nothing is wrong.
    fn new() -> Self {
        let mut store = Store::new();
        let image = store.image("graph", APP, &["one", "two", "three"]);
        let container = hex("container");
        let layer = store.container("graph", &container, &image.id, image.top(), APP);
        let mut scene = Self {
            engine: StorageEngine::Podman,
            bundle: store.path("graph").join(format!("overlay-containers/{container}/userdata")),
            root: store.path("graph").join(format!("overlay/{layer}/merged")),
            roots: vec!["graph"],
            mounts: String::new(),
            time: Duration::from_secs(30),
            store,
            image,
            container,
            layer,
        };
        let lower = scene.lower("l/");
        scene.mount(&lower.join(":"), &scene.upper());
        scene
    }

    fn home(&self) -> String {
        self.store.path("graph/overlay").display().to_string()
    }

    fn upper(&self) -> String {
        format!(",upperdir={}/{}/diff", self.home(), self.layer)
    }

    /// The image's layers by their links, the uppermost first, behind a prefix below the home.
    fn lower(&self, prefix: &str) -> Vec<String> {
        let layers = self.image.layers.iter().rev();
        layers.map(|layer| format!("{}/{prefix}{}", self.home(), Store::link(layer))).collect()
    }

    fn mount(&mut self, lower: &str, upper: &str) {
        let root = self.root.display();
        self.mounts = format!("9 1 0:1 / {root} rw - overlay overlay rw,lowerdir={lower}{upper}\n");
    }

    fn resolve(&mut self) -> Resolved {
        self.store.write();
        let roots: Vec<PathBuf> = self.roots.iter().map(|root| self.store.path(root)).collect();
        let start = OciStart {
            container_id: &self.container,
            bundle: &self.bundle,
            root: &self.root,
            state: None,
            deadline: Instant::now() + self.time,
        };
        resolve(self.engine, &roots, &start, &|place| Ok(find(self.mounts.as_bytes(), place)))
    }
}

/// What of the image is wanted to be known.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    All(Surety),
    /// Not the configuration.
    Layers,
    /// Not the layers.
    Config,
    Nothing,
}

fn known(scene: &Scene, resolved: &Resolved) -> Known {
    let identity = &resolved.identity;
    let image = &scene.image;
    if let Some(chain) = &identity.chain_id {
        assert_eq!(Some(chain), image.chain.as_ref());
    }
    if let Some(config) = &identity.config {
        assert_eq!(config, &image.config);
        assert_eq!(resolved.image.as_ref().unwrap().user, "1000");
    }
    match (identity.surety, &identity.chain_id, &identity.config) {
        (surety, Some(_), Some(_)) if surety != Surety::Unknown => Known::All(surety),
        (Surety::Bound, Some(_), None) => Known::Layers,
        (Surety::Bound, None, Some(_)) => Known::Config,
        (Surety::Unknown, None, None) => Known::Nothing,
        other => panic!("{other:?}: {:?}", identity.note),
    }
}

/// One change of the scene, and what is known then. The note has to hold the text; an empty one
/// means that there is no note.
fn check(name: &str, change: impl FnOnce(&mut Scene), wanted: Known, note: &str) -> Resolved {
    let mut scene = Scene::new();
    change(&mut scene);
    let resolved = scene.resolve();
    let said = resolved.identity.note.clone().unwrap_or_default();
    assert_eq!(known(&scene, &resolved), wanted, "{name}: {said}");
    match note {
        "" => assert_eq!(said, "", "{name}"),
        note => assert!(said.contains(note), "{name}: {said}"),
    }
    resolved
}

const BOUND: Known = Known::All(Surety::Bound);
const CLAIMED: Known = Known::All(Surety::Claimed);

#[test]
fn an_ordinary_container_is_bound_with_all_that_leads_to_it() {
    let resolved = check("ordinary", |_| {}, BOUND, "");
    let scene = Scene::new();
    assert_eq!(resolved.identity.manifests, scene.image.manifests);
    assert_eq!(scene.image.manifests.len(), 2);
    let names: Vec<_> = resolved.identity.names.iter().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].reference.to_string(), APP);
    assert!(names[0].held && names[0].asked);
    assert_eq!(resolved.image.unwrap().labels["made"], "here");
    assert!(resolved.pod_known && !resolved.deadline_hit);
    assert_eq!((resolved.kind, &*resolved.namespace), (Kind::Container, ""));
}

#[test]
fn mounts_that_drivers_make() {
    check(
        "relative folders, for many layers",
        |s| {
            let lower: Vec<_> =
                s.image.layers.iter().rev().map(|l| format!("l/{}", Store::link(l))).collect();
            let upper = format!(",upperdir={}/diff", s.layer);
            s.mount(&lower.join(":"), &upper);
        },
        BOUND,
        "",
    );
    check(
        "folders without links",
        |s| {
            let home = s.home();
            let lower: Vec<_> =
                s.image.layers.iter().rev().map(|l| format!("{home}/{l}/diff")).collect();
            s.mount(&lower.join(":"), &s.upper());
        },
        BOUND,
        "",
    );
    check(
        "numbers of open files",
        |s| {
            s.store.lower_file("graph", &s.layer, &s.image.layers);
            s.mount("7:8:9", &s.upper());
        },
        CLAIMED,
        "by number",
    );
    check(
        "other owners",
        |s| {
            let lower = s.lower(&format!("{}/mapped/0/l/", s.layer));
            s.mount(&lower.join(":"), &s.upper());
        },
        BOUND,
        "",
    );
    check(
        "copies with other owners on top of what was there before",
        |s| {
            let mut lower = s.lower("l/");
            lower.insert(1, format!("{}/../diff1", lower[0]));
            lower.insert(2, format!("{}/../diff2", lower[0]));
            lower.insert(0, format!("{}/{}/diff1", s.home(), s.layer));
            s.mount(&lower.join(":"), &s.upper());
        },
        BOUND,
        "",
    );
    check(
        "read-only, the container's layer first",
        |s| {
            let lower = s.lower("l/").join(":");
            s.mount(&format!("{}/{}/diff:{lower}", s.home(), s.layer), "");
        },
        BOUND,
        "",
    );
    check(
        "a label, and options of the store",
        |s| {
            let more = format!("{},userxattr,metacopy=on,fsync=volatile", s.upper());
            s.mount(&s.lower("l/").join(":"), &more);
        },
        BOUND,
        "",
    );
    check(
        "composefs for the two upper layers",
        |s| {
            let (home, layer) = (s.home(), s.layer.clone());
            let mut lower = vec![
                format!("{home}/{layer}/composefs-layers/1"),
                format!("{home}/{layer}/composefs-layers/2"),
            ];
            let layers: Vec<_> = s.image.layers.iter().rev().cloned().collect();
            lower.push(format!("{home}/l/{}", Store::link(&layers[2])));
            let files = format!("::{home}/{}/diff::{home}/{}/diff", layers[0], layers[1]);
            s.mount(&(lower.join(":") + &files), &s.upper());
        },
        BOUND,
        "",
    );
    check(
        "a step of a build, under an id and at a place of Buildah's",
        |s| {
            s.container = "buildah-buildah12345".into();
            s.root = "/var/tmp/buildah12345/mnt/rootfs".into();
            s.bundle = "/var/tmp/buildah12345".into();
            s.store.last_container("graph")["metadata"] = json!("");
            s.mount(&s.lower("l/").join(":"), &s.upper());
        },
        BOUND,
        "",
    );
}

#[test]
fn many_layers() {
    let names: Vec<String> = (0..200).map(|n| format!("layer {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for layers in [&names[..1], &names[..]] {
        check(
            "a number of layers",
            |s| {
                s.image = s.store.image("graph", "docker.io/library/big:1", layers);
                let top = s.image.top().to_owned();
                let record = s.store.last_container("graph");
                record["image"] = json!(s.image.id);
                s.store.layer("graph", &s.layer)["parent"] = json!(top);
                s.mount(&s.lower("l/").join(":"), &s.upper());
            },
            BOUND,
            "no image record shows that",
        );
    }
}

#[test]
fn an_image_without_layers_has_a_configuration_alone() {
    check(
        "no layers",
        |s| {
            s.image = s.store.image("graph", APP, &[]);
            let (image, layer) = (s.image.id.clone(), s.layer.clone());
            s.store.last_container("graph")["image"] = json!(image);
            s.store.layer("graph", &layer)["parent"] = json!("");
            let empty = format!("{}/{layer}/empty", s.home());
            s.mount(&empty, &s.upper());
        },
        Known::Config,
        "",
    );
}

#[test]
fn what_is_mounted_is_not_what_is_recorded() {
    let not = "say nothing of what it will run";
    check("no mount", |s| s.mounts.clear(), Known::Nothing, not);
    check("a bind mount", |s| s.mounts = s.mounts.replace(" / ", " /usr "), Known::Nothing, not);
    check("ext4", |s| s.mounts = s.mounts.replace("- overlay", "- ext4"), Known::Nothing, not);
    check(
        "one more below",
        |s| s.mounts = s.mounts.replace("lowerdir=", "lowerdir=/srv/evil:"),
        Known::Nothing,
        "/srv/evil lies below",
    );
    check(
        "one less below",
        |s| {
            let lower = s.lower("l/");
            s.mount(&lower[..2].join(":"), &s.upper());
        },
        Known::Nothing,
        "more layers than are mounted",
    );
    check(
        "another order",
        |s| {
            let mut lower = s.lower("l/");
            lower.swap(0, 1);
            s.mount(&lower.join(":"), &s.upper());
        },
        Known::Nothing,
        "is mounted where the records have",
    );
    check(
        "a former folder of another layer",
        |s| {
            let mut lower = s.lower("l/");
            lower.insert(1, format!("{}/../diff1", lower[1]));
            s.mount(&lower.join(":"), &s.upper());
        },
        Known::Nothing,
        "/../diff1 lies below",
    );
    check(
        "another upper folder",
        |s| {
            let upper = s.upper().replace(&s.layer, s.image.top());
            s.mount(&s.lower("l/").join(":"), &upper);
        },
        Known::Nothing,
        "upper folder",
    );
    check(
        "data-only layers without composefs",
        |s| {
            let lower = s.lower("l/");
            let (last, others) = lower.split_last().unwrap();
            s.mount(&format!("{}::{last}", others.join(":")), &s.upper());
        },
        Known::Nothing,
        "data-only",
    );
    check(
        "numbers, and too few of them",
        |s| {
            s.store.lower_file("graph", &s.layer, &s.image.layers);
            s.mount("7:8", &s.upper());
        },
        Known::Nothing,
        "told by number",
    );
    check(
        "numbers alone",
        |s| s.mount("7:8:9", &s.upper()),
        Known::Nothing,
        "lower does not exist",
    );
    check(
        "composefs of another place",
        |s| {
            let (home, layer) = (s.home(), s.layer.clone());
            let files = format!("{home}/{}/diff", s.image.top());
            s.mount(&format!("{home}/{layer}/composefs-layers/2::{files}"), &s.upper());
        },
        Known::Nothing,
        "composefs-layers/2 lies below",
    );
    check(
        "a root filesystem of its own",
        |s| {
            s.root = "/srv/rootfs".into();
            s.mounts.clear();
            s.store.last_container("graph")["image"] = json!("");
        },
        Known::Nothing,
        "without an image",
    );
}

#[test]
fn fuse_overlayfs_is_claimed() {
    let serve = |s: &mut Scene| {
        let root = s.root.display();
        s.mounts =
            format!("9 1 0:1 / {root} rw - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0\n");
    };
    check("served", serve, CLAIMED, "fuse-overlayfs serves");
    check(
        "served elsewhere",
        |s| {
            s.root = "/srv/merged".into();
            serve(s);
        },
        Known::Nothing,
        "is not the folder of its layer",
    );
}

#[test]
fn the_vfs_driver_copies() {
    let copied = |s: &mut Scene| {
        s.store.driver = "vfs";
        s.root = s.store.path("graph").join("vfs/dir").join(&s.layer);
        s.mounts.clear();
    };
    check("copied", copied, CLAIMED, "the driver vfs copies layers");
    let bound = |s: &mut Scene, place: &str, at: &str| {
        copied(s);
        let layer = s.root.clone();
        s.container = "buildah-buildah12345".into();
        s.root = s.store.path(place);
        // A link is as good as a bind mount here: it leads to the same folder.
        symlink(s.store.path("graph").join(at).join(&s.layer), &s.root).unwrap();
        let (root, layer) = (s.root.display(), layer.display());
        s.mounts = format!("9 1 0:1 {layer} {root} rw - ext4 /dev/vda rw\n");
    };
    check("a step of a build", |s| bound(s, "rootfs", "vfs/dir"), CLAIMED, "vfs copies");
    check(
        "a step of a build that is elsewhere",
        |s| bound(s, "rootfs", "vfs/other"),
        Known::Nothing,
        "is mounted at the container's root",
    );
    check(
        "another layer's folder",
        |s| {
            copied(s);
            s.root = s.store.path("graph").join("vfs/dir").join(s.image.top());
        },
        Known::Nothing,
        "is not the folder of its layer",
    );
    check(
        "something mounted there",
        |s| {
            copied(s);
            let lower = s.lower("l/").join(":");
            s.mount(&lower, &s.upper());
        },
        Known::Nothing,
        "is mounted at the container's root",
    );
}

#[test]
fn records_of_layers() {
    let top = |s: &mut Scene| {
        let top = s.image.top().to_owned();
        s.store.layer("graph", &top).clone()
    };
    check(
        "pulled in part",
        |s| {
            let id = s.image.top().to_owned();
            let layer = s.store.layer("graph", &id);
            let digest = layer.as_object_mut().unwrap().remove("diff-digest").unwrap();
            layer["toc-digest"] = digest;
        },
        CLAIMED,
        "pulled in part",
    );
    check(
        "other content than the image's",
        |s| {
            let id = s.image.layers[1].clone();
            s.store.layer("graph", &id)["diff-digest"] = json!(Digest::of(b"other"));
            s.image.chain = portcullis_types::chain_id(&[
                Digest::of(b"one"),
                Digest::of(b"other"),
                Digest::of(b"three"),
            ]);
        },
        Known::Layers,
        "other layers than the container",
    );
    let copied = |s: &mut Scene| {
        let mut copy = top(s);
        copy["id"] = json!(hex("copy"));
        s.store.add_layer("graph", copy);
        s.store.layer("graph", &s.layer.clone())["parent"] = json!(hex("copy"));
        let mut lower = s.lower("l/");
        lower[0] = format!("{}/l/{}", s.home(), Store::link(&hex("copy")));
        lower
    };
    check(
        "a copy with other owners in place of the top layer",
        |s| {
            let lower = copied(s);
            s.mount(&lower.join(":"), &s.upper());
        },
        BOUND,
        "",
    );
    check(
        "a copy with other owners on the top layer, as Podman's rootless --userns=keep-id makes it",
        |s| {
            let mut lower = copied(s);
            lower.insert(1, format!("{}/../diff1", lower[0]));
            lower.insert(2, s.lower("l/").remove(0));
            s.mount(&lower.join(":"), &s.upper());
        },
        BOUND,
        "",
    );
    check(
        "a copy of another layer than the one below",
        |s| {
            let mut lower = copied(s);
            lower.insert(1, s.lower("l/").remove(0));
            s.store.layer("graph", &hex("copy"))["diff-digest"] = json!(Digest::of(b"other"));
            s.mount(&lower.join(":"), &s.upper());
        },
        Known::Nothing,
        "is mounted where the records have",
    );
    check(
        "none of the container's",
        |s| {
            s.store.layers("graph").retain(|layer| layer["id"] != *s.layer);
            let folder = format!("overlay/{}/diff/file", s.layer);
            s.store.instead("graph", &folder, "");
        },
        Known::Nothing,
        "has no record",
    );
    check(
        "two of one",
        |s| {
            let again = top(s);
            s.store.layers("graph").push(again);
        },
        Known::Nothing,
        "two records of",
    );
    check(
        "a digest that is none",
        |s| {
            let id = s.image.top().to_owned();
            s.store.layer("graph", &id)["diff-digest"] = json!("../../etc/passwd");
        },
        Known::Nothing,
        "are not known",
    );
    check(
        "a circle",
        |s| {
            s.store.driver = "vfs";
            s.root = s.store.path("graph").join("vfs/dir").join(&s.layer);
            s.mounts.clear();
            let (lowest, top) = (s.image.layers[0].clone(), s.image.top().to_owned());
            s.store.layer("graph", &lowest)["parent"] = json!(top);
        },
        Known::Nothing,
        "more than 1024",
    );
}

#[test]
fn records_of_images() {
    let resolved = check(
        "no longer there",
        |s| s.store.images("graph").clear(),
        Known::Layers,
        "has no record any more",
    );
    assert!(resolved.identity.names.iter().all(|name| !name.held && name.asked));

    let resolved = check(
        "the name has moved",
        |s| s.store.images("graph")[0]["names"] = json!([]),
        BOUND,
        "no image record shows that docker.io/library/app:1 is this image",
    );
    assert_eq!(resolved.identity.held_names().count(), 0);

    let resolved = check(
        "names that are none, and a digest that is another's",
        |s| {
            let other = Digest::of(b"other");
            let proven = s.image.manifests.first().unwrap().clone();
            s.store.images("graph")[0]["names"] = json!([
                APP,
                "app",
                "A.io/X:1",
                format!("a.io/x@{other}"),
                format!("a.io/x@{proven}"),
            ]);
        },
        BOUND,
        "",
    );
    assert_eq!(resolved.identity.held_names().count(), 2);

    check(
        "no configuration, as of schema 1",
        |s| s.store.images("graph")[0]["big-data-names"] = json!(["manifest"]),
        Known::Layers,
        "schema 1",
    );
    check(
        "a configuration that was changed",
        |s| {
            let (id, config) = (s.image.id.clone(), s.image.config.to_string());
            s.store.change_data(&id, &config, |json| json.replace("1000", "0"));
        },
        Known::Layers,
        "another digest than its name",
    );
    let resolved = check(
        "manifests that were changed",
        |s| {
            let id = s.image.id.clone();
            for manifest in s.image.manifests.clone() {
                s.store.change_data(&id, &format!("manifest-{manifest}"), |_| "{}".into());
            }
            let both = r#"{"config":{},"manifests":[]}"#;
            s.store.change_data(&id, "manifest", |_| both.into());
        },
        BOUND,
        "another digest than its name",
    );
    assert!(resolved.identity.manifests.is_empty());
    let resolved = check(
        "started by an id",
        |s| {
            let id = s.image.id.clone();
            s.store.last_container("graph")["metadata"] =
                json!(json!({ "image-name": id }).to_string());
        },
        BOUND,
        "",
    );
    assert!(resolved.identity.names.iter().all(|name| name.held && !name.asked));
}

#[test]
fn stores_beside_the_engines_own() {
    for (name, mapped) in [("links", false), ("other owners", true)] {
        check(
            name,
            |s| {
                s.image = s.store.image("shared", APP, &["one", "two"]);
                s.roots = vec!["absent", "graph", "shared", "graph"];
                let (image, top) = (s.image.id.clone(), s.image.top().to_owned());
                s.store.last_container("graph")["image"] = json!(image);
                s.store.layer("graph", &s.layer.clone())["parent"] = json!(top);
                let home = match mapped {
                    true => format!("{}/{}/mapped/1", s.home(), s.layer),
                    false => s.store.path("shared/overlay").display().to_string(),
                };
                let lower: Vec<_> = s.image.layers.iter().rev().collect();
                let lower: Vec<_> =
                    lower.iter().map(|l| format!("{home}/l/{}", Store::link(l))).collect();
                s.mount(&lower.join(":"), &s.upper());
            },
            BOUND,
            "",
        );
    }
    check("the store is not known", |s| s.roots = vec!["absent"], Known::Nothing, "no folder of");
    check(
        "a store that forgets its containers at boot",
        |s| {
            s.bundle =
                s.store.path("run").join(format!("overlay-containers/{}/userdata", s.container));
            s.store.move_volatile("graph", "run");
        },
        BOUND,
        "",
    );
}

#[test]
fn hostile_records() {
    let id = hex("container");
    for (file, note) in [
        ("overlay-containers/volatile-containers.json", "has no record of the container"),
        ("overlay-layers/layers.json", "are not known"),
        ("overlay-images/images.json", "only the layers are bound"),
    ] {
        let wanted = || match file.contains("images") {
            true => Known::Layers,
            false => Known::Nothing,
        };
        for text in [
            "".to_owned(),
            "{}".into(),
            "[1]".into(),
            "[".repeat(200_000),
            r#"[{"id":"#.into(),
            format!(r#"[{{"id":{{}},"x":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000)),
            format!(r#"[{{"id":"{id}","ID":"{id}"}}]"#),
            format!(r#"[{{"id":"{id}","id":"{id}"}}]"#),
            format!(r#"[{{"id":7,"layer":[],"image":{{}},"names":1}},{{"id":"{id}"}}]"#),
            format!(r#"[{{"id":"{id}","layer":"../../etc","image":"../x"}}]"#),
        ] {
            check(
                &format!("{file}: {text:.40}"),
                |s| s.store.instead("graph", file, &text),
                wanted(),
                note,
            );
        }
    }
}

#[test]
fn files_that_others_could_have_written() {
    for (file, note) in [
        ("overlay-containers/volatile-containers.json", "the records of containers"),
        ("overlay-layers/layers.json", "the records of layers"),
        ("overlay-images/images.json", "the records of images"),
    ] {
        let wanted = || match file.contains("images") {
            true => Known::Layers,
            false => Known::Nothing,
        };
        let change = |name: &str, because: &str, how: &dyn Fn(&std::path::Path)| {
            let change = |s: &mut Scene| {
                s.store.write();
                s.store.is_written = true;
                how(&s.store.path("graph").join(file));
            };
            let said = check(name, change, wanted(), note).identity.note.unwrap();
            assert!(said.contains(because), "{name}: {said}");
        };
        change("writable", "others could have written it", &|file| {
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o666)).unwrap();
        });
        change("in a writable folder", "others could have written it", &|file| {
            let folder = file.parent().unwrap();
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
        });
        change("a link", "neither a regular file", &|file| {
            std::fs::rename(file, file.with_extension("real")).unwrap();
            symlink(file.with_extension("real"), file).unwrap();
        });
        change("a pipe", "neither a regular file", &|file| {
            use rustix::fs::{CWD, FileType, Mode, mknodat};
            std::fs::remove_file(file).unwrap();
            mknodat(CWD, file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        });
        change("a folder", "neither a regular file", &|file| {
            std::fs::remove_file(file).unwrap();
            std::fs::create_dir(file).unwrap();
        });
        change("huge", "is larger than", &|file| {
            std::fs::File::options().write(true).open(file).unwrap().set_len(33 << 20).unwrap();
        });
    }
}

#[test]
fn ids_that_are_no_ids() {
    for id in ["", "../x", "c1", &"A".repeat(64), &"a".repeat(63), &"a".repeat(129), "a/../b"] {
        check(
            id,
            |s| {
                s.container = id.to_owned();
                s.mounts.clear();
            },
            Known::Nothing,
            "has no record of the container",
        );
    }
}

#[test]
fn the_deadline_ends_the_steps() {
    let resolved = check("no time", |s| s.time = Duration::ZERO, Known::Nothing, "the time was up");
    assert!(resolved.deadline_hit);
}

#[test]
fn records_that_contradict_each_other_are_read_once_more() {
    for (times, wanted) in [(1, Surety::Bound), (2, Surety::Unknown)] {
        let scene = Scene::new();
        scene.store.write();
        let file = scene.store.path("graph/overlay-layers/layers.json");
        let whole = std::fs::read(&file).unwrap();
        let read = std::cell::Cell::new(0);
        let start = OciStart {
            container_id: &scene.container,
            bundle: &scene.bundle,
            root: &scene.root,
            state: None,
            deadline: Instant::now() + scene.time,
        };
        // The table of mounts is read once for each attempt, before the records of layers.
        let mounts = |place: &std::path::Path| {
            read.set(read.get() + 1);
            let text = if read.get() <= times { b"[]".as_slice() } else { &whole };
            std::fs::write(&file, text)?;
            Ok(find(scene.mounts.as_bytes(), place))
        };
        let roots = [scene.store.path("graph")];
        let resolved = resolve(scene.engine, &roots, &start, &mounts);
        assert_eq!((resolved.identity.surety, read.get()), (wanted, 2));
    }
}

#[test]
fn pods_are_cri_os_to_tell() {
    struct Wanted {
        kind: Kind,
        pod: [&'static str; 3],
        label: Option<&'static str>,
        known: bool,
    }
    let sandbox = hex("sandbox");
    let of_pod = |more: serde_json::Value| {
        let mut metadata = json!({
            "pod-name": "k8s_shop_prod_u1_0", "pod-id": sandbox, "image-name": APP,
            "image-id": "", "name": "k8s_web_shop_prod_u1_0", "metadata-name": "web",
        });
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        metadata.to_string()
    };
    let with_pod = |s: &mut Scene, container: String| {
        s.engine = StorageEngine::CriO;
        s.store.last_container("graph")["metadata"] = json!(container);
        let pod = of_pod(json!({ "metadata-name": "shop", "namespace": "prod", "pod": true }));
        let (image, top) = (s.image.id.clone(), s.image.top().to_owned());
        s.store.container("graph", &sandbox, &image, &top, APP);
        s.store.last_container("graph")["metadata"] = json!(pod);
        let spec = json!({ "annotations": {
            "io.kubernetes.cri-o.SandboxID": sandbox,
            "io.kubernetes.cri-o.Labels": r#"{"tier":"web"}"#,
            "IO.kubernetes.cri-o.labels": "the user's",
        }});
        s.store.spec("graph", &sandbox, &spec.to_string());
    };
    let check = |name, change: &dyn Fn(&mut Scene), wanted: Wanted, note| {
        let change = |s: &mut Scene| {
            with_pod(s, of_pod(json!({})));
            change(s);
        };
        let found = check(name, change, BOUND, note);
        assert_eq!(found.kind, wanted.kind, "{name}");
        assert_eq!([&*found.namespace, &*found.pod, &*found.container], wanted.pod, "{name}");
        let label = found.pod_labels.get("tier").map(String::as_str);
        assert_eq!((label, found.pod_known), (wanted.label, wanted.known), "{name}");
    };
    let web = ["prod", "shop", "web"];
    let known = |pod| Wanted { kind: Kind::Container, pod, label: Some("web"), known: true };
    let lost = |pod| Wanted { kind: Kind::Container, pod, label: None, known: false };
    check("a container", &|_| {}, known(web), "");
    check(
        "a sandbox",
        &|s| {
            let pod = of_pod(json!({ "metadata-name": "shop", "namespace": "prod", "pod": true }));
            let own = s.container.clone();
            s.store.containers("graph").pop();
            s.store.last_container("graph")["metadata"] = json!(pod.replace(&sandbox, &own));
            let spec = json!({ "annotations": {
                "io.kubernetes.cri-o.SandboxID": own,
                "io.kubernetes.cri-o.Labels": r#"{"tier":"web"}"#,
            }});
            s.store.spec("graph", &own, &spec.to_string());
        },
        Wanted { kind: Kind::Sandbox, ..known(["prod", "shop", ""]) },
        "",
    );
    check(
        "a container that says it is the sandbox",
        &|s| {
            let claims = of_pod(json!({ "pod": true, "namespace": "kube-system" }));
            s.store.containers("graph")[0]["metadata"] = json!(claims);
        },
        lost(["", "", ""]),
        "not CRI-O's record",
    );
    check(
        "no sandbox",
        &|s| drop(s.store.containers("graph").pop()),
        lost(["", "", "web"]),
        "the pod's sandbox has no record",
    );
    check(
        "no labels",
        &|s| s.store.spec("graph", &sandbox, r#"{"annotations":{}}"#),
        lost(web),
        "the labels of the pod are not known",
    );
    check(
        "another sandbox's specification",
        &|s| {
            let spec = json!({ "annotations": { "io.kubernetes.cri-o.SandboxID": hex("other") }});
            s.store.spec("graph", &sandbox, &spec.to_string());
        },
        lost(web),
        "it is not the sandbox's",
    );
    check(
        "Podman's metadata",
        &|s| s.store.containers("graph")[0]["metadata"] = json!(r#"{"image-name":"x"}"#),
        lost(["", "", ""]),
        "not CRI-O's record",
    );
    check(
        "hostile metadata",
        &|s| s.store.containers("graph")[0]["metadata"] = json!(r#"{"pod":true,"Pod":false}"#),
        lost(["", "", ""]),
        "written twice or in another case",
    );
    check(
        "CRI-O's metadata, asked for Podman",
        &|s| s.engine = StorageEngine::Podman,
        Wanted { label: None, ..known(["", "", ""]) },
        "",
    );
}

#[test]
fn default_roots() {
    const ROOT: &str = "         0          0 4294967295\n";
    const USER: &str = "0 1000 1\n1 100000 65536\n";
    let check = |name: &str, engine, uid_map: &str, files: &[(&str, &str)], wanted: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let host = Host { root: folder.path().to_owned(), uid_map: uid_map.to_owned() };
        let roots = host.roots(engine);
        let roots: Vec<_> = roots
            .iter()
            .map(|path| format!("/{}", path.strip_prefix(folder.path()).unwrap_or(path).display()))
            .map(|path| path.replace("//", "/"))
            .collect();
        assert_eq!(roots, wanted, "{name}");
    };
    let (podman, crio) = (StorageEngine::Podman, StorageEngine::CriO);
    let passwd =
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n");
    let full = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/srv/graph\"\n\
        imagestore = \"/srv/images\"\nrootless_storage_path = \"/users/$UID/${USER}\"\n\
        [storage.options]\nadditionalimagestores = [\"/srv/a\", \"$ELSEWHERE/b\", \"/srv/a\"]\n";
    check("nothing", podman, ROOT, &[], &["/var/lib/containers/storage"]);
    check("no map", podman, "", &[], &["/var/lib/containers/storage"]);
    let etc = ("etc/containers/storage.conf", full);
    let usr = ("usr/share/containers/storage.conf", "[storage]\ngraphroot = \"/usr/graph\"");
    check("etc", podman, ROOT, &[etc, usr], &["/srv/graph", "/srv/images", "/srv/a"]);
    check("usr", podman, ROOT, &[usr], &["/usr/graph"]);
    let broken = ("etc/containers/storage.conf", "[storage");
    check("broken", podman, ROOT, &[broken, usr], &["/var/lib/containers/storage"]);
    let home = "/home/ann/.local/share/containers/storage";
    check("a user", podman, USER, &[passwd, usr], &[home]);
    check("a place for users", podman, USER, &[passwd, etc], &["/users/1000/ann"]);
    let own = ("home/ann/.config/containers/storage.conf", "[storage]\ngraphroot=\"$HOME/g\"");
    check("a user's own", podman, USER, &[passwd, etc, own], &["/home/ann/g"]);
    check("nobody", podman, "0 100000 65536\n", &[passwd, usr], &["/usr/graph"]);
    check(
        "crio",
        crio,
        ROOT,
        &[
            etc,
            ("etc/crio/crio.conf", "[crio]\nroot = \"/srv/crio\""),
            ("etc/crio/crio.conf.d/10-a.conf", "[crio]\nroot = \"/srv/ten\""),
            ("etc/crio/crio.conf.d/09-b.conf", "[crio]\nroot = \"/srv/nine\"\n[crio.runtime]"),
            (
                "etc/crio/crio.conf.d/20-c.conf",
                "[crio]\nstorage_option = [\"overlay.imagestore=/srv/i\", \"overlay.size=1\"]",
            ),
        ],
        &["/srv/ten", "/srv/images", "/srv/i"],
    );
}

/// A bundle that a runtime was given, whose root filesystem is a folder of the store.
fn bundle_of(s: &mut Scene, id: &str, layer: &str) -> PathBuf {
    let root = s.store.path("graph").join(format!("overlay/{layer}/merged"));
    std::fs::create_dir_all(&root).unwrap();
    s.store.spec("graph", id, &json!({ "root": { "path": root } }).to_string());
    std::fs::canonicalize(root).unwrap()
}

#[test]
fn what_runs_is_listed_for_its_own_engine() {
    let mut s = Scene::new();
    let (podman, layer, image) = (s.container.clone(), s.layer.clone(), s.image.id.clone());
    let runs = bundle_of(&mut s, &podman, &layer);
    let top = s.image.top().to_owned();
    let mut more = |word: &str, metadata: &str| {
        let id = hex(word);
        let layer = s.store.container("graph", &id, &image, &top, APP);
        s.store.last_container("graph")["metadata"] = json!(metadata);
        let root = bundle_of(&mut s, &id, &layer);
        (id, root)
    };
    let of_pod = json!({ "pod-name": "p", "pod-id": hex("pod"), "image-name": APP }).to_string();
    let (in_pod, runs_in_pod) = more("in a pod", &of_pod);
    more("ended", "{}");
    let (odd, runs_odd) = more("odd", "no metadata of any engine");
    // Without a record: on a folder of the user's own.
    let folder = hex("folder");
    let spec = json!({ "root": { "path": s.store.path("graph") } }).to_string();
    s.store.spec("graph", &folder, &spec);
    let wrong = hex("wrong");
    s.store.spec("graph", &wrong, "{");
    s.store.write();
    let graph = std::fs::canonicalize(s.store.path("graph")).unwrap();
    let running = [runs, runs_in_pod, runs_odd, graph];
    let listed = |engine| {
        let roots = [s.store.path("graph"), s.store.path("none"), s.store.path("graph")];
        let deadline = Instant::now() + s.time;
        let found =
            list_where(engine, &roots, deadline, &|root| running.contains(&root.to_owned()));
        found.unwrap().into_iter().map(|found| found.container_id).collect::<Vec<_>>()
    };
    let mut of_podman = [podman, odd, folder];
    of_podman.sort();
    assert_eq!(listed(StorageEngine::Podman), of_podman);
    assert_eq!(listed(StorageEngine::CriO), [in_pod]);
}

#[test]
fn storage_that_cannot_be_listed_is_an_error() {
    let mut s = Scene::new();
    s.store.instead("graph", "overlay-containers/containers.json", "[{");
    s.store.write();
    let listed = |root: &str, time: Duration| {
        let deadline = Instant::now() + time;
        list_where(StorageEngine::Podman, &[s.store.path(root)], deadline, &|_| true).unwrap_err()
    };
    let none = listed("none", s.time);
    assert!(matches!(none, StorageRunningError::NoRoot(_)), "{none}");
    assert!(none.to_string().contains("/none"), "{none}");
    for (time, wanted) in [(s.time, "EOF"), (Duration::ZERO, "time was up")] {
        let error = listed("graph", time);
        let causes: Vec<_> =
            std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .map(ToString::to_string)
                .collect();
        assert!(causes.join(": ").contains(wanted), "{causes:?}");
    }
}
