//! Where an image is kept, from trees and from an image store in containerd.

use super::*;
use crate::containerd::api::IMAGES_GET;
use crate::containerd::tests::fake::Fault;
use crate::{DockerImage, DockerImageError, DockerStored, StoredError};

fn ask(tree: &Tree, socket: &str, image: &str) -> Result<DockerStored, DockerImageError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    DockerResolver::new(tree.folder.path().join("docker"), socket).stored(image, deadline)
}

fn alone(tree: &Tree, image: &str) -> Result<DockerStored, DockerImageError> {
    ask(tree, "/no/such/socket", image)
}

#[track_caller]
fn in_graph(found: Result<DockerStored, DockerImageError>) -> DockerImage {
    match found {
        Ok(DockerStored::Graph(image)) => image,
        other => panic!("{other:?}"),
    }
}

/// The error and its causes.
#[track_caller]
fn failure(found: Result<DockerStored, DockerImageError>) -> String {
    portcullis_types::with_causes(&found.unwrap_err())
}

/// A tree with the folders of the layers.
fn tree() -> Tree {
    with_folders(Tree::new())
}

fn with_folders(tree: Tree) -> Tree {
    for layer in ["1111", "2222"] {
        fs::create_dir_all(tree.data.join("overlay2").join(layer).join("diff")).unwrap();
    }
    tree
}

fn layers(tree: &Tree) -> Vec<PathBuf> {
    ["1111", "2222"].map(|layer| tree.data.join("overlay2").join(layer).join("diff")).into()
}

#[test]
fn all_images_of_the_graph_driver_are_listed() {
    let tree = tree();
    let resolver = DockerResolver::new(tree.folder.path().join("docker"), "/no/such/socket");
    let list = |platform: &str, deadline| resolver.images(platform, deadline);
    let deadline = Instant::now() + Duration::from_secs(5);
    let found = list("linux/amd64", deadline).unwrap();
    assert_eq!(found.iter().map(|had| &had.config).collect::<Vec<_>>(), [&tree.image()]);
    assert_eq!(found[0].asked, tree.image());
    assert!(list("linux/amd64", Instant::now()).is_err());
    let folders = resolver.image_folders();
    assert!(folders.iter().any(|folder| folder.join(tree.image().hex()).is_file()), "{folders:?}");
    fs::write(folders[0].join(Digest::of(b"other").hex()), "{}").unwrap();
    assert_eq!(list("linux/amd64", deadline).unwrap(), found);
    let gone = DockerResolver::new(tree.folder.path().join("gone"), "/no/such/socket");
    assert_eq!(gone.images("linux/amd64", deadline).unwrap(), []);
}

#[test]
fn by_names_and_ids() {
    let tree = tree();
    let (id, pulled) = (tree.image(), Digest::of(b"pulled"));
    tree.names(json!({
        "alpine": { "alpine:3.19": id, "alpine:latest": id, format!("alpine@{pulled}"): id },
        "registry.example.com/team/app": { APP: id, "not a name": id },
        "other": { "other:1": Digest::of(b"other") },
    }));
    for image in [
        APP,
        "alpine",
        "alpine:3.19",
        "library/alpine",
        "docker.io/alpine:3.19",
        "docker.io/library/alpine:3.19",
        &format!("alpine@{pulled}"),
        // As Docker reads it, the digest counts and the tag does not.
        &format!("docker.io/library/alpine:1@{pulled}"),
        &id.to_string(),
        id.hex(),
    ] {
        let found = in_graph(alone(&tree, image));
        assert_eq!(Digest::of(&found.config), id, "{image}");
        assert_eq!(found.layers, layers(&tree), "{image}");
        assert_eq!(found.manifests, [pulled.clone()].into(), "{image}");
        let mut names = found.names;
        names.sort();
        let wanted = [
            "docker.io/library/alpine:3.19".to_owned(),
            "docker.io/library/alpine:latest".to_owned(),
            format!("docker.io/library/alpine@{pulled}"),
            APP.to_owned(),
        ];
        assert_eq!(names, wanted, "{image}");
    }
    for image in [
        "alpine:3.20",
        "app:1",
        "",
        "a b",
        "..",
        &id.hex()[..12],
        &Digest::of(b"other").to_string(),
        &format!("alpine@{id}"),
        "registry.example.com/alpine",
    ] {
        let error = alone(&tree, image).unwrap_err();
        let is_call =
            matches!(&error, DockerImageError::Unknown { source: StoredError::Call { .. }, .. });
        assert!(is_call, "{image}: {error:?}");
    }
    let said = failure(alone(&tree, "other:1"));
    assert!(said.contains("imagedb") && said.contains("cannot be read"), "{said}");
}

#[test]
fn a_daemon_that_remaps_its_users() {
    let tree = with_folders(Tree::below("docker/165536.165536", "overlay2"));
    for image in [APP, &tree.image().to_string()] {
        assert_eq!(in_graph(alone(&tree, image)).layers, layers(&tree));
    }
}

#[test]
fn an_image_without_layers() {
    let tree = tree();
    let id = tree.config(&json!({ "rootfs": { "type": "layers" } }));
    assert_eq!(in_graph(alone(&tree, &id.to_string())).layers, Vec::<PathBuf>::new());
}

#[test]
fn no_data_folder() {
    let tree = tree();
    fs::remove_dir_all(&tree.data).unwrap();
    assert!(matches!(alone(&tree, APP), Err(DockerImageError::Unknown { .. })));
}

#[test]
fn layers_that_do_not_fit() {
    let layer = format!("image/overlay2/layerdb/sha256/{}", chain().hex());
    let base = format!("image/overlay2/layerdb/sha256/{}", Digest::of(b"base").hex());
    let other = Digest::of(b"other").to_string();
    for (file, content, part) in [
        (format!("{layer}/diff"), other.as_str(), "says that it is another one"),
        (format!("{layer}/parent"), other.as_str(), "says that it is another one"),
        (format!("{base}/parent"), other.as_str(), "says that it is another one"),
        (format!("{base}/diff"), "sha256:x", "is not a digest"),
        (format!("{layer}/cache-id"), "../1111", "is not a name"),
        (format!("{layer}/cache-id"), "3333", "overlay2/3333/diff is not there"),
        (format!("{base}/cache-id"), &"1".repeat(1000), "is larger than"),
    ] {
        let tree = tree();
        tree.write(&file, content);
        let said = failure(alone(&tree, APP));
        assert!(said.contains(part) && said.contains("do not fit"), "{said}");
    }
}

#[test]
fn layers_that_are_gone() {
    let tree = tree();
    fs::remove_dir(tree.data.join("overlay2/1111/diff")).unwrap();
    let said = failure(alone(&tree, APP));
    assert!(said.contains("overlay2/1111/diff is not there"), "{said}");
    let record = format!("image/overlay2/layerdb/sha256/{}", Digest::of(b"base").hex());
    fs::remove_dir_all(tree.data.join(record)).unwrap();
    let said = failure(alone(&tree, APP));
    assert!(said.contains("layerdb") && said.contains("No such file"), "{said}");
}

#[test]
fn links_are_no_layers() {
    for (link, target) in [("overlay2/2222/diff", "../1111/diff"), ("overlay2/2222", "1111")] {
        let tree = tree();
        let link = tree.data.join(link);
        fs::remove_dir_all(&link).unwrap();
        symlink(target, &link).unwrap();
        let said = failure(alone(&tree, APP));
        assert!(said.contains("overlay2/2222/diff is not there"), "{said}");
    }
}

#[test]
fn records_that_cannot_be_used() {
    for (file, content, part) in [
        ("image/overlay2/repositories.json", "[]", "not well-formed"),
        ("image/overlay2/repositories.json", r#"{"Repositories":{"a":1}}"#, "not well-formed"),
        (
            "image/overlay2/repositories.json",
            r#"{"Repositories":{"app":{"registry.example.com/team/app:1":"../x"}}}"#,
            "is not an id",
        ),
    ] {
        let tree = tree();
        tree.write(file, content);
        let said = failure(alone(&tree, APP));
        assert!(said.contains("records in") && said.contains(part), "{said}");
    }
    let tree = tree();
    let path = format!("image/overlay2/imagedb/content/sha256/{}", tree.image().hex());
    tree.write(&path, "{}");
    let said = failure(alone(&tree, APP));
    assert!(said.contains("another digest"), "{said}");
}

#[test]
fn other_drivers_are_told() {
    let tree = Tree::below("docker", "vfs");
    for image in [APP, &tree.image().to_string()] {
        let said = failure(alone(&tree, image));
        assert!(said.contains("driver vfs") && said.contains("docker save"), "{said}");
    }
    // The same image with both.
    let both = tree;
    let source = self::tree();
    let image = format!("imagedb/content/sha256/{}", both.image().hex());
    for path in ["repositories.json", &image] {
        let content = fs::read_to_string(source.data.join("image/overlay2").join(path)).unwrap();
        both.write(&format!("image/overlay2/{path}"), &content);
    }
    let said = failure(alone(&both, APP));
    assert!(said.contains("layerdb"), "{said}");
}

#[test]
fn time_is_up() {
    let tree = tree();
    let resolver = DockerResolver::new(tree.folder.path().join("docker"), "/no/such/socket");
    let said = failure(resolver.stored(APP, Instant::now()));
    assert!(said.contains("the time was up"), "{said}");
}

/// A data folder without images, and a containerd that has one.
fn image_store() -> (Tree, World, Image) {
    let mut world =
        World { namespace: Some("moby"), folder: Some("/c".into()), ..World::default() };
    let image = world.image(&["base", "app"], "0");
    let index = world.index(&[&image.manifest]);
    world.record(APP, INDEX, &index);
    let tree = tree();
    fs::remove_dir_all(tree.data.join("image")).unwrap();
    (tree, world, image)
}

#[test]
fn in_containerds_image_store() {
    let (tree, world, image) = image_store();
    let index = world.images[APP].1.clone();
    for (asked, target) in [
        (APP, &index),
        (&index.to_string(), &index),
        (index.hex(), &index),
        (&image.manifest.to_string(), &image.manifest),
        (&image.config.to_string(), &image.manifest),
    ] {
        let found = world.clone().serve(|socket| ask(&tree, socket, asked)).unwrap();
        let DockerStored::Containerd(stored) = found else { panic!("{found:?}") };
        assert_eq!((&stored.target, &*stored.namespace), (target, "moby"), "{asked}");
        assert_eq!(stored.manifests[0].config, image.config);
    }
    let said = world.serve(|socket| failure(ask(&tree, socket, "other")));
    assert!(said.contains("nor has its containerd: containerd has no image"), "{said}");
}

#[test]
fn a_daemon_that_was_switched() {
    let (_, mut world, _) = image_store();
    let tree = tree();
    let id = tree.image();
    // What containerd has of the name is another image.
    let said = world.clone().serve(|socket| failure(ask(&tree, socket, APP)));
    assert!(said.contains(&format!("{id} (overlay2)")), "{said}");
    assert!(said.contains(&format!("{} (containerd)", world.images[APP].1)), "{said}");
    // An id is one image.
    let by_id = world.clone().serve(|socket| ask(&tree, socket, &id.to_string()));
    assert_eq!(in_graph(by_id).layers, layers(&tree));
    // The same image.
    let path = format!("image/overlay2/imagedb/content/sha256/{}", id.hex());
    let config = fs::read(tree.data.join(path)).unwrap();
    world.content.insert(id.clone(), config);
    let manifest = world.add(&json!({ "config": { "digest": id }, "layers": [] }));
    world.record(APP, MANIFEST, &manifest);
    let by_name = world.clone().serve(|socket| ask(&tree, socket, APP));
    assert_eq!(in_graph(by_name).layers, layers(&tree));
    // A containerd that does not answer has no other.
    world.faults.insert(IMAGES_GET, Fault::Status(14));
    let by_name = world.serve(|socket| ask(&tree, socket, APP));
    assert_eq!(in_graph(by_name).layers, layers(&tree));
}
