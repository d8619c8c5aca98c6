//! Where an image is kept: by names, and by what a digest leads to.

use std::fs;
use std::path::Path;

use super::*;
use crate::{StoredError, StoredImage};

const DEADLINE: Duration = Duration::from_secs(5);

fn ask(world: &World, image: &str) -> Result<StoredImage, StoredError> {
    world.clone().serve(|socket| {
        ContainerdResolver::new(socket).stored(image, None, Instant::now() + DEADLINE)
    })
}

fn world(folder: &Path) -> World {
    World { folder: Some(folder.to_owned()), ..World::default() }
}

/// A manifest with these blobs for layers.
fn manifest(world: &mut World, config: &Digest, layers: &[&Digest]) -> Digest {
    let layers: Vec<Value> = layers.iter().map(|digest| json!({ "digest": digest })).collect();
    world.add(&json!({ "config": { "digest": config }, "layers": layers }))
}

fn put(folder: &Path, blob: &Digest) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(blob.hex()), "").unwrap();
}

#[test]
fn a_digest_leads_to_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(folder.path());
    let [one, two] = ["1", "2"].map(|user| world.image(&["base"], user));
    let other = world.image(&["other"], "0");
    world.record("registry.example.com/other:1", MANIFEST, &other.manifest);
    let inner = world.index(&[&two.manifest]);
    let index = world.add(&json!({ "manifests": [
        { "mediaType": MANIFEST, "digest": Digest::of(b"not pulled"),
          "platform": { "os": "linux", "architecture": "s390x" } },
        { "mediaType": MANIFEST, "digest": one.manifest,
          "platform": { "os": "linux", "architecture": "arm64", "variant": "v8" } },
        { "mediaType": INDEX, "digest": inner },
    ]}));
    world.record("sha256:0000", INDEX, &index);
    world.record(APP, INDEX, &index);

    let whole = ask(&world, APP).unwrap();
    assert_eq!((&*whole.name, &*whole.namespace, &whole.target), (APP, "k8s.io", &index));
    assert_eq!(whole.folder, folder.path());
    let told: Vec<_> =
        whole.manifests.iter().map(|m| (&m.through, m.platform.as_deref())).collect();
    let [first, second] = [
        vec![index.clone(), one.manifest.clone()],
        vec![index.clone(), inner.clone(), two.manifest.clone()],
    ];
    assert_eq!(told, [(&first, Some("linux/arm64/v8")), (&second, None)]);
    for (platform, config) in [
        ("linux/arm64", &one.config),
        ("linux/arm64/v8", &one.config),
        ("linux", &one.config),
        // Nothing says that it is for another one.
        ("linux/arm64/v7", &two.config),
        ("linux/amd64", &two.config),
    ] {
        assert_eq!(&whole.manifest(platform).unwrap().config, config, "{platform}");
    }

    for (asked, target, manifest, config) in [
        (&index, &index, &one.manifest, &one.config),
        (&inner, &inner, &two.manifest, &two.config),
        (&one.manifest, &one.manifest, &one.manifest, &one.config),
        (&one.config, &one.manifest, &one.manifest, &one.config),
        (&two.config, &two.manifest, &two.manifest, &two.config),
    ] {
        for asked in [asked.to_string(), asked.hex().to_owned()] {
            let found = ask(&world, &asked).unwrap();
            assert_eq!((&*found.name, &found.target), (APP, target), "{asked}");
            let first = &found.manifests[0];
            assert_eq!(first.through.first(), Some(target));
            assert_eq!((first.through.last(), &first.config), (Some(manifest), config));
            // What was asked for is for each platform.
            if target == manifest {
                assert_eq!(found.manifest("plan9/mips"), Some(first));
            }
        }
    }
    for absent in [Digest::of(b"not pulled"), Digest::of(b"base")] {
        let error = ask(&world, &absent.to_string()).unwrap_err().to_string();
        assert!(error.ends_with("in the namespaces k8s.io"), "{error}");
    }
}

#[test]
fn layers_that_are_not_there_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(folder.path());
    let config = world.image(&["base", "app"], "0").config;
    let [base, app, zipped] = ["base", "app", "zipped"].map(|text| Digest::of(text.as_bytes()));
    let discarded = manifest(&mut world, &config, &[&zipped, &app, &zipped]);
    let kept = manifest(&mut world, &config, &[&base, &app]);
    put(folder.path(), &base);
    put(folder.path(), &app);
    world.record(APP, MANIFEST, &discarded);
    let found = ask(&world, APP).unwrap();
    assert_eq!(found.manifests[0].missing, [zipped]);
    let by_config = ask(&world, &config.to_string()).unwrap();
    assert_eq!((&by_config.target, &by_config.manifests), (&discarded, &found.manifests));
    // Of two manifests with the configuration, the one with all layers.
    let index = world.index(&[&discarded, &kept]);
    for name in ["registry.example.com/a:1", "registry.example.com/z:1"] {
        world.images.remove(name);
        world.record(name, INDEX, &index);
        let found = ask(&world, &config.to_string()).unwrap();
        assert_eq!((&*found.name, &found.target), (name, &kept));
        assert_eq!((found.manifests.len(), &*found.manifests[0].missing), (1, &[][..]));
        world.images.remove(name);
    }
    fs::remove_file(folder.path().join("blobs/sha256").join(base.hex())).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("blobs/sha256").join(base.hex()))
        .unwrap();
    let found = ask(&world, &kept.to_string());
    assert!(found.is_err(), "no record leads to it any more: {found:?}");
    world.record(APP, MANIFEST, &kept);
    assert_eq!(ask(&world, APP).unwrap().manifests[0].missing, [base]);
}

#[test]
fn a_name_with_a_tag_and_a_digest() {
    let mut world = world(Path::new("/c"));
    let image = world.image(&["base"], "0");
    let name = format!("docker.io/library/alpine@{}", image.manifest);
    world.record(&name, MANIFEST, &image.manifest);
    for asked in [name.clone(), format!("alpine:3.19@{}", image.manifest)] {
        assert_eq!(ask(&world, &asked).unwrap().name, name);
    }
}

#[test]
fn documents_that_cannot_be_read() {
    let mut world = world(Path::new("/c"));
    let image = world.image(&["base"], "0");
    world.content.insert(image.manifest.clone(), b"{}".to_vec());
    world.record(APP, MANIFEST, &image.manifest);
    // Whoever reads the layers tells what is wrong.
    for asked in [APP, &image.manifest.to_string()] {
        let found = ask(&world, asked).unwrap();
        assert_eq!((found.target, found.manifests), (image.manifest.clone(), Vec::new()));
    }
    let error = ask(&world, &image.config.to_string()).unwrap_err().to_string();
    assert!(error.ends_with("as far as their images could be read"), "{error}");
    let wrong = world.add(&json!({ "config": { "digest": image.config }, "layers": 1 }));
    world.record(APP, MANIFEST, &wrong);
    let found = ask(&world, &image.config.to_string()).unwrap();
    assert_eq!((found.target, found.manifests), (wrong, Vec::new()));
}

#[test]
fn calls_that_fail() {
    let mut world = world(Path::new("/c"));
    let image = world.image(&["base"], "0");
    let index = world.index(&[&image.manifest]);
    world.record(APP, INDEX, &index);
    for call in [NAMESPACES_LIST, PLUGINS, IMAGES_LIST, CONTENT_READ] {
        let mut world = world.clone();
        world.faults.insert(call, Fault::Hang);
        let asked = image.config.to_string();
        let time = Duration::from_millis(200);
        let found = world.serve(|socket| {
            ContainerdResolver::new(socket).stored(&asked, None, Instant::now() + time)
        });
        let error = portcullis_types::with_causes(&found.unwrap_err());
        assert!(error.contains("the time was up"), "{call}: {error}");
    }
    world.folder = None;
    assert!(matches!(ask(&world, APP), Err(StoredError::Folder)));
}
