//! Resolving from trees as Docker 20.10.24 and 28.5.2 write them, and from wrong ones.

mod stored;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_types::{Digest, Kind, Surety, chain_id};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::DockerResolver;
use crate::containerd::tests::fake::{INDEX, Image, MANIFEST, World};
use crate::containerd::tests::names;
use crate::mounted::find;
use crate::{OciStart, Resolved};

const ID: &str = "50f6585d88bcb5a1fdb0962ae1a84496f6e7bedb7a07e71139405a73ec896555";
const OWN: &str = "b78ee2b33ab086db19f7b231093af35dbbcdfcedbf319834a7242ded4e01da98";
const APP: &str = "registry.example.com/team/app:1";

/// A data folder with one container, its image and what is mounted.
struct Tree {
    folder: TempDir,
    /// Below the folder: `docker`, or deeper for a daemon that remaps its users.
    data: PathBuf,
    record: Value,
    root: PathBuf,
    /// The line of the mount table behind the dash.
    mounted: String,
}

impl Tree {
    /// With the graph driver `overlay2`.
    fn new() -> Self {
        Self::below("docker", "overlay2")
    }

    fn below(data: &str, driver: &str) -> Self {
        let folder = TempDir::new().unwrap();
        // The folder for temporary files may be a link.
        let data = fs::canonicalize(folder.path()).unwrap().join(data);
        let mut tree = Self {
            folder,
            root: data.join("overlay2").join(OWN).join("merged"),
            data,
            record: json!({
                "StreamConfig": {}, "State": { "Running": false }, "ID": ID,
                "Config": { "Hostname": &ID[..12], "Image": APP, "Labels": { "a": "b" } },
                "Name": "/app", "Driver": driver, "OS": "linux", "ImageManifest": null,
            }),
            mounted: String::new(),
        };
        let layers: [&[u8]; 2] = [b"base", b"app"];
        let diff_ids = layers.map(Digest::of);
        tree.record["Image"] = json!(tree.config(&json!({
            "created": "2026-01-02T03:04:05Z",
            "config": { "User": "1000" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })));
        let chains = [chain_id(&diff_ids[..1]).unwrap(), chain_id(&diff_ids).unwrap()];
        tree.layer(&chains[0], &diff_ids[0], None, "1111");
        tree.layer(&chains[1], &diff_ids[1], Some(&chains[0]), "2222");
        tree.write(&format!("{}/parent", tree.mounts()), &chains[1].to_string());
        tree.write(&format!("{}/mount-id", tree.mounts()), OWN);
        tree.write(&format!("{}/init-id", tree.mounts()), &format!("{OWN}-init"));
        fs::create_dir_all(tree.data.join("overlay2/l")).unwrap();
        for (short, layer) in
            [("LINI", &*format!("{OWN}-init")), ("LAPP", "2222"), ("LBAS", "1111")]
        {
            let target = Path::new("..").join(layer).join("diff");
            symlink(target, tree.data.join("overlay2/l").join(short)).unwrap();
        }
        tree.mount("HOME/l/LINI:HOME/l/LAPP:HOME/l/LBAS", "HOME/");
        tree.names(json!({ "registry.example.com/team/app": { APP: tree.record["Image"] } }));
        tree
    }

    fn driver(&self) -> String {
        self.record["Driver"].as_str().unwrap().to_owned()
    }

    fn mounts(&self) -> String {
        format!("image/{}/layerdb/mounts/{ID}", self.driver())
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn config(&self, json: &Value) -> Digest {
        let digest = Digest::of(json.to_string().as_bytes());
        let path = format!("image/{}/imagedb/content/sha256/{}", self.driver(), digest.hex());
        self.write(&path, &json.to_string());
        digest
    }

    fn layer(&self, chain: &Digest, diff: &Digest, parent: Option<&Digest>, folder: &str) {
        let place = format!("image/{}/layerdb/sha256/{}", self.driver(), chain.hex());
        self.write(&format!("{place}/diff"), &diff.to_string());
        self.write(&format!("{place}/cache-id"), folder);
        if let Some(parent) = parent {
            self.write(&format!("{place}/parent"), &parent.to_string());
        }
    }

    fn names(&self, repositories: Value) {
        let json = json!({ "Repositories": repositories }).to_string();
        self.write(&format!("image/{}/repositories.json", self.driver()), &json);
    }

    /// What is mounted: the lower directories and what stands before the others, with `HOME` for
    /// the driver's folder.
    fn mount(&mut self, lower: &str, before: &str) {
        let home = self.data.join("overlay2").display().to_string();
        let options =
            format!("rw,lowerdir={lower},upperdir={before}{OWN}/diff,workdir={before}{OWN}/work");
        self.mounted = format!("overlay overlay {}", options.replace("HOME", &home));
    }

    fn image(&self) -> Digest {
        self.record["Image"].as_str().unwrap().parse().unwrap()
    }

    fn resolve(&self) -> Resolved {
        self.resolve_by("/no/such/socket", Duration::from_secs(5))
    }

    fn resolve_by(&self, socket: &str, time: Duration) -> Resolved {
        self.write(&format!("containers/{ID}/config.v2.json"), &self.record.to_string());
        let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/moby/{ID}");
        let start = OciStart {
            container_id: ID,
            bundle: Path::new(&bundle),
            root: &self.root,
            state: Some(Path::new("/run/docker/runtime-runc/moby")),
            deadline: Instant::now() + time,
        };
        let line = format!("40 21 0:49 / {} rw - {}\n", self.root.display(), self.mounted);
        let mounted = find(line.as_bytes(), &self.root);
        DockerResolver::new(self.folder.path().join("docker"), socket)
            .resolve_mounted(&start, Ok(mounted.as_ref()))
    }
}

fn chain() -> Digest {
    chain_id(&[Digest::of(b"base"), Digest::of(b"app")]).unwrap()
}

#[track_caller]
fn check(resolved: &Resolved, surety: Surety, config: Option<&Digest>, note: &str) {
    assert_eq!(resolved.identity.surety, surety, "{resolved:#?}");
    assert_eq!(resolved.identity.config.as_ref(), config);
    let chain = chain();
    let wanted = (surety == Surety::Bound).then_some(&chain);
    if surety != Surety::Claimed {
        assert_eq!(resolved.identity.chain_id.as_ref(), wanted);
    }
    let said = resolved.identity.note.as_deref().unwrap_or_default();
    assert!(said.contains(note) && said.is_empty() == note.is_empty(), "the note is {said:?}");
    assert_eq!(resolved.kind, Kind::Container);
    assert_eq!((&*resolved.namespace, &*resolved.pod), ("", ""));
}

#[test]
fn a_container_and_its_image() {
    let tree = Tree::new();
    let resolved = tree.resolve();
    check(&resolved, Surety::Bound, Some(&tree.image()), "");
    assert_eq!(names(&resolved), [format!("{APP}+?")]);
    assert_eq!(resolved.image.as_ref().unwrap().user, "1000");
    assert!(resolved.pod_known && !resolved.deadline_hit);
}

#[test]
fn a_daemon_that_remaps_its_users() {
    let tree = Tree::below("docker/165536.165536", "overlay2");
    check(&tree.resolve(), Surety::Bound, Some(&tree.image()), "");
}

#[test]
fn what_is_mounted_has_to_be_the_layers() {
    let init = format!("HOME/{OWN}-init/diff");
    for (lower, before, same) in [
        // More layers than fit into one call of mount(2).
        ("l/LINI:l/LAPP:l/LBAS".to_owned(), "", true),
        (format!("{init}:HOME/2222/diff:HOME/1111/diff"), "HOME/", true),
        ("HOME/l/LINI:HOME/l/LBAS:HOME/l/LAPP".to_owned(), "HOME/", false),
        ("HOME/l/LAPP:HOME/l/LINI:HOME/l/LBAS".to_owned(), "HOME/", false),
        ("HOME/l/LAPP:HOME/l/LBAS".to_owned(), "HOME/", false),
        ("HOME/l/LINI:HOME/l/LAPP".to_owned(), "HOME/", false),
        ("HOME/l/LINI:HOME/l/LAPP:HOME/l/LAPP".to_owned(), "HOME/", false),
        ("/evil:HOME/l/LINI:HOME/l/LAPP:HOME/l/LBAS".to_owned(), "HOME/", false),
        ("HOME/l/LINI:HOME/l/LAPP:HOME/l/LBAS::/evil".to_owned(), "HOME/", false),
        ("HOME/l/LINI:/l/LAPP:HOME/l/LBAS".to_owned(), "HOME/", false),
        ("HOME/l/LINI:HOME/l/../l/LAPP:HOME/l/LBAS".to_owned(), "HOME/", false),
        ("HOME/l/LINI:HOME/l/LAPP:HOME/l/LBAS".to_owned(), "/other/", false),
        ("HOME/l/LINI:HOME/l/LAPP:HOME/l/LBAS".to_owned(), "HOME/x/", false),
    ] {
        let mut tree = Tree::new();
        tree.mount(&lower, before);
        let resolved = tree.resolve();
        match same {
            true => check(&resolved, Surety::Bound, Some(&tree.image()), ""),
            false => check(&resolved, Surety::Unknown, None, "what is mounted is not"),
        }
    }
}

#[test]
fn a_link_to_another_layer() {
    let tree = Tree::new();
    let link = tree.data.join("overlay2/l/LAPP");
    fs::remove_file(&link).unwrap();
    symlink("../3333/diff", &link).unwrap();
    check(&tree.resolve(), Surety::Unknown, None, "what is mounted is not");
}

#[test]
fn no_mount_or_another_root() {
    let mut tree = Tree::new();
    tree.mounted = "tmpfs tmpfs rw".to_owned();
    check(&tree.resolve(), Surety::Unknown, None, "what is mounted is not");
    tree.mounted = String::new();
    check(&tree.resolve(), Surety::Unknown, None, "what is mounted is not");
    tree.root = PathBuf::from("/srv/root");
    check(&tree.resolve(), Surety::Unknown, None, "the container's root is /srv/root");
}

#[test]
fn records_that_do_not_agree() {
    let layer = format!("image/overlay2/layerdb/sha256/{}", chain().hex());
    let other = Digest::of(b"other").to_string();
    for (file, content, note) in [
        (format!("{layer}/diff"), other.as_str(), "says that it is another one"),
        (format!("{layer}/parent"), other.as_str(), "says that it is another one"),
        (format!("{layer}/cache-id"), "../1111", "is not a name"),
        (format!("{layer}/cache-id"), "", "is not a name"),
        (format!("{layer}/diff"), "sha256:1", "is not a digest"),
        (format!("{layer}/diff"), &"a".repeat(1000), "is larger than"),
        (format!("image/overlay2/layerdb/mounts/{ID}/parent"), other.as_str(), "cannot be read"),
        (format!("image/overlay2/layerdb/mounts/{ID}/mount-id"), "a/b", "is not a name"),
    ] {
        let tree = Tree::new();
        tree.write(&file, content);
        check(&tree.resolve(), Surety::Claimed, Some(&tree.image()), note);
    }
}

#[test]
fn another_layers_folder_is_another_container() {
    let tree = Tree::new();
    tree.write(&format!("image/overlay2/layerdb/sha256/{}/cache-id", chain().hex()), "3333");
    check(&tree.resolve(), Surety::Unknown, None, "what is mounted is not");
}

#[test]
fn an_image_from_nothing() {
    let tree = Tree::new();
    fs::remove_file(tree.data.join(tree.mounts()).join("parent")).unwrap();
    check(&tree.resolve(), Surety::Claimed, Some(&tree.image()), "no layers below it");
}

#[test]
fn the_configuration_is_not_the_layers() {
    let mut tree = Tree::new();
    let other = tree.config(&json!({ "rootfs": { "diff_ids": [Digest::of(b"other")] } }));
    tree.record["Image"] = json!(other);
    check(&tree.resolve(), Surety::Bound, None, "has other layers than the container");

    let tree = Tree::new();
    let path = format!("image/overlay2/imagedb/content/sha256/{}", tree.image().hex());
    tree.write(&path, "{}");
    let resolved = tree.resolve();
    check(&resolved, Surety::Bound, Some(&tree.image()), "its content has another digest");
    assert_eq!(resolved.image, None);
    fs::remove_file(tree.data.join(path)).unwrap();
    check(&tree.resolve(), Surety::Bound, Some(&tree.image()), "Docker's record alone");
}

#[test]
fn names_are_held_by_dockers_list() {
    let tree = Tree::new();
    let (image, other) = (tree.image(), Digest::of(b"other"));
    let pulled = Digest::of(b"pulled");
    let by_digest = format!("registry.example.com/team/app@{pulled}");
    tree.names(json!({
        "registry.example.com/team/app": { APP: other, &by_digest: image },
        "short": { "short:2": image, "not a name": image },
    }));
    let resolved = tree.resolve();
    check(&resolved, Surety::Bound, Some(&image), "does not show that");
    let wanted =
        ["docker.io/library/short:2+".to_owned(), format!("{APP}?"), format!("{by_digest}+")];
    assert_eq!(names(&resolved), wanted);
    assert_eq!(resolved.identity.manifests, [pulled].into());
    tree.write("image/overlay2/repositories.json", "[]");
    check(&tree.resolve(), Surety::Bound, Some(&image), "the image's names");
}

#[test]
fn other_drivers_only_claim() {
    let mut tree = Tree::below("docker", "vfs");
    tree.root = tree.data.join("vfs/dir").join(OWN);
    tree.mounted = String::new();
    let resolved = tree.resolve();
    check(&resolved, Surety::Claimed, Some(&tree.image()), "Docker's driver vfs");
    assert_eq!(resolved.identity.chain_id, Some(chain()));
    tree.root = tree.data.join("vfs/dir/other");
    check(&tree.resolve(), Surety::Unknown, None, "not the folder that Docker gives it");
}

#[test]
fn labels_of_a_pod_are_no_evidence() {
    let mut tree = Tree::new();
    tree.record["Config"]["Labels"] = json!({ "io.kubernetes.pod.namespace": "kube-system" });
    let resolved = tree.resolve();
    check(&resolved, Surety::Bound, Some(&tree.image()), "anybody can set them");
    assert!(!resolved.pod_known);
}

#[test]
fn what_is_no_container_of_dockers() {
    let tree = Tree::new();
    let start = OciStart {
        container_id: "../x",
        bundle: Path::new("/run/x"),
        root: &tree.root,
        state: None,
        deadline: Instant::now() + Duration::from_secs(5),
    };
    let resolver = DockerResolver::new(tree.folder.path().join("docker"), "/no/such/socket");
    let resolved = resolver.resolve_mounted(&start, Ok(None));
    check(&resolved, Surety::Unknown, None, "none that Docker gives");
    let start = OciStart { container_id: OWN, ..start };
    let resolved = resolver.resolve_mounted(&start, Ok(None));
    check(&resolved, Surety::Unknown, None, "config.v2.json cannot be read");
    assert!(!resolved.pod_known);
}

#[test]
fn the_deadline_holds() {
    let resolved = Tree::new().resolve_by("/no/such/socket", Duration::ZERO);
    check(&resolved, Surety::Unknown, None, "the time was up");
    assert!(resolved.deadline_hit);
}

/// With images in containerd (28.5.2).
mod image_store {
    use super::*;

    fn world() -> (Tree, World, Image) {
        let mut world = World { namespace: Some("moby"), ..World::default() };
        let image = world.image(&["base", "app"], "1000");
        let index = world.index(&[&Digest::of(b"another platform's"), &image.manifest]);
        world.record(APP, INDEX, &index);
        world.container(ID, APP, &format!("{ID}-init"));
        world.snapshot(&format!("{ID}-init"), &image.chain.to_string());
        let mut tree = Tree::below("docker", "overlayfs");
        tree.root = tree.data.join("rootfs/overlayfs").join(ID);
        tree.mounted = "overlay overlay rw,lowerdir=/s/1/fs,upperdir=/s/2/fs".to_owned();
        tree.record["Image"] = json!(index);
        tree.record["ImageManifest"] = json!({ "mediaType": MANIFEST, "digest": image.manifest });
        let container = world.containers.get_mut(ID).unwrap();
        container.snapshotter.clear();
        container.snapshot_key.clear();
        root(&mut world, &tree.root);
        (tree, world, image)
    }

    fn root(world: &mut World, root: &Path) {
        let spec = json!({ "root": { "path": root } });
        let spec = crate::containerd::tests::fake::any(&spec);
        world.containers.get_mut(ID).unwrap().spec = Some(spec);
    }

    fn resolve(tree: &Tree, world: &World) -> Resolved {
        world.clone().serve(|socket| tree.resolve_by(socket, Duration::from_secs(5)))
    }

    #[test]
    fn a_container_and_its_image() {
        let (tree, world, image) = world();
        let resolved = resolve(&tree, &world);
        check(&resolved, Surety::Bound, Some(&image.config), "");
        assert_eq!(resolved.identity.manifests, [tree.image(), image.manifest].into());
        assert_eq!(names(&resolved), [format!("{APP}+?")]);
        assert!(resolved.pod_known);
    }

    #[test]
    fn another_mount_or_root() {
        let (mut tree, mut world, _) = world();
        let right = tree.mounted.clone();
        tree.mounted = right.replace("/s/1/fs", "/s/9/fs");
        check(&resolve(&tree, &world), Surety::Unknown, None, "what is mounted is not");
        tree.mounted = right;
        root(&mut world, Path::new("/srv/root"));
        check(&resolve(&tree, &world), Surety::Unknown, None, "the container's root is /srv/root");
    }

    #[test]
    fn the_recorded_manifest_decides_between_two() {
        let (mut tree, mut world, one) = world();
        let two = world.image(&["base", "app"], "0");
        let index = world.index(&[&one.manifest, &two.manifest]);
        world.record(APP, INDEX, &index);
        tree.record["Image"] = json!(index);
        check(&resolve(&tree, &world), Surety::Bound, Some(&one.config), "");
        // Nothing else says which of the two it was.
        tree.record["ImageManifest"] = json!(null);
        check(&resolve(&tree, &world), Surety::Bound, None, "several configurations");
    }

    #[test]
    fn the_name_is_gone_or_moved() {
        let (tree, mut world, image) = world();
        let other = world.image(&["other"], "0");
        world.record(APP, MANIFEST, &other.manifest);
        let resolved = resolve(&tree, &world);
        check(&resolved, Surety::Bound, Some(&image.config), "no image record shows");
        assert_eq!(names(&resolved), [format!("{APP}?")]);
        world.content.clear();
        check(&resolve(&tree, &world), Surety::Bound, None, "only the layers are bound");
    }

    #[test]
    fn containerd_does_not_answer() {
        let (tree, _, _) = world();
        check(&tree.resolve(), Surety::Unknown, None, "containerd does not answer");
    }
}
