//! Where an image and its layers are kept, for those who read them.

use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_resolve::{ContainerdResolver, StoredImage};
use portcullis_types::{Digest, with_causes};
use serde_json::{Value, json};

use crate::engine::{ASKED, Engine, FOLDER_OF_ENGINE, NAMESPACE};
use crate::image::Image;
use crate::{APP, OTHER};

/// What is told of an image, and what its unpacked layers have.
fn ask(engine: &Engine, image: &str, snapshotter: &str) -> Value {
    let asked = format!("{image} {snapshotter}");
    let answer = serde_json::from_str(&engine.inside("stored::answers", &asked)).unwrap();
    for snapshotter in ["overlayfs", "native"] {
        let snapshots = engine.ctr(&["snapshots", "--snapshotter", snapshotter, "ls"]);
        assert!(!snapshots.contains("portcullis"), "{snapshots}");
    }
    answer
}

#[test]
#[ignore = "the others run it, where the engine's folders are"]
fn answers() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let folder = std::env::var(FOLDER_OF_ENGINE).unwrap();
    let (image, snapshotter) = asked.split_once(' ').unwrap();
    let resolver = ContainerdResolver::new(&format!("{folder}/containerd.sock"));
    let deadline = Instant::now() + Duration::from_secs(5);
    let stored = resolver.stored(image, Some(NAMESPACE), deadline);
    let answer = match &stored {
        Ok(stored) => told(&resolver, stored, snapshotter),
        Err(error) => json!({ "error": with_causes(error) }),
    };
    std::fs::write(Path::new(&folder).join("answer"), answer.to_string()).unwrap();
}

fn told(resolver: &ContainerdResolver, stored: &StoredImage, snapshotter: &str) -> Value {
    let manifest = stored.manifest("linux").unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let layers = match resolver.unpacked(&manifest.config, NAMESPACE, snapshotter, deadline) {
        Err(error) => json!(with_causes(&error)),
        Ok(unpacked) => {
            assert_eq!(Digest::of(&unpacked.config), manifest.config);
            let content = |layer: &Path| std::fs::read_to_string(layer.join("file")).unwrap();
            unpacked.layers.iter().map(|layer| content(layer)).collect()
        }
    };
    json!({
        "name": stored.name, "target": stored.target, "manifest": manifest.through.last(),
        "config": manifest.config, "missing": manifest.missing, "layers": layers,
    })
}

/// Has containerd collect what nobody holds.
fn collect(engine: &Engine, image: &str) {
    engine.ctr(&["images", "tag", image, "collected"]);
    engine.ctr(&["images", "rm", "--sync", "collected"]);
}

#[test]
fn an_image_by_each_of_its_digests() {
    let engine = Engine::start();
    let image = Image::new(&["base", "app"], json!({})).behind_index();
    image.import(&engine, APP);
    Image::new(&["base", "else"], json!({})).import(&engine, OTHER);
    let Image { target: index, manifest, config, .. } = &image;
    for (asked, target) in [
        (APP, index),
        (&index.to_string(), index),
        (&manifest.to_string(), manifest),
        (&config.to_string(), manifest),
        (config.hex(), manifest),
    ] {
        let wanted = json!({
            "name": APP, "target": target, "manifest": manifest, "config": config, "missing": [],
            "layers": ["base", "app"],
        });
        assert_eq!(ask(&engine, asked, ContainerdResolver::SNAPSHOTTER), wanted, "{asked}");
    }
    let absent = ask(&engine, &Digest::of(b"absent").to_string(), "overlayfs");
    assert!(absent["error"].as_str().unwrap().contains("has no image"), "{absent}");
}

#[test]
fn layers_whose_blobs_were_discarded() {
    let engine = Engine::start();
    let images = [
        (APP, Image::new(&["base", "middle", "app"], json!({})), json!(["base", "middle", "app"])),
        (OTHER, Image::new(&["only"], json!({})), json!(["only"])),
    ];
    for (name, image, layers) in &images {
        image.import(&engine, name);
        let before = ask(&engine, name, "overlayfs");
        assert_eq!((&before["missing"], &before["layers"]), (&json!([]), layers));
        for layer in &image.layers {
            engine.ctr(&["content", "rm", &layer.to_string()]);
        }
        collect(&engine, name);
        for asked in [*name, &image.config.to_string()] {
            let after = ask(&engine, asked, "overlayfs");
            assert_eq!((&after["missing"], &after["layers"]), (&json!(image.layers), layers));
        }
    }
}

#[test]
fn layers_that_no_snapshotter_has_in_folders() {
    let engine = Engine::start();
    let image = Image::new(&["base", "app"], json!({}));
    image.import_with(&engine, APP, &["--no-unpack"]);
    let packed = ask(&engine, APP, "overlayfs");
    let wanted = format!("the snapshotter overlayfs has no layer {}", image.layers[0]);
    assert!(packed["layers"].as_str().unwrap().starts_with(&wanted), "{packed}");
    // One that copies what is below a layer.
    image.import_with(&engine, APP, &["--snapshotter", "native"]);
    let copied = ask(&engine, APP, "native");
    assert!(copied["layers"].as_str().unwrap().contains("1 folders for 2 layers"), "{copied}");
    let none = ask(&engine, APP, "none");
    assert!(none["layers"].as_str().unwrap().contains("does not answer"), "{none}");
}
