//! What it costs to tell the image of a container on a node with 500 images, 2,000 layers and 300
//! containers: prints the time of a whole answer beside the time in which the same three files are
//! read into `serde_json::Value`. Build it with `--release`.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_resolve::{OciStart, Resolved, StorageEngine, StorageResolver};
use portcullis_types::Digest;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

const IMAGES: usize = 500;
const LAYERS_OF_IMAGE: usize = 4;
const CONTAINERS: usize = 300;
const ROUNDS: u32 = 50;

fn hex(text: String) -> String {
    Digest::of(text.as_bytes()).hex().to_owned()
}

fn write(root: &Path, file: &str, text: &str) -> Result<(), Failure> {
    let file = root.join(file);
    std::fs::create_dir_all(file.parent().ok_or("a file has a folder")?)?;
    Ok(std::fs::write(file, text)?)
}

/// A store of the driver that copies, for which no mount is needed. The last container's id and
/// layer.
fn store(root: &Path) -> Result<(String, String), Failure> {
    let (mut images, mut layers, mut containers) = (Vec::new(), Vec::new(), Vec::new());
    let mut tops = Vec::new();
    for image in 0..IMAGES {
        let mut parent = String::new();
        let mut diff_ids = Vec::new();
        for layer in 0..LAYERS_OF_IMAGE {
            let diff_id = Digest::of(format!("{image} {layer}").as_bytes());
            let id = hex(format!("layer {image} {layer}"));
            layers.push(json!({
                "id": id, "parent": parent, "created": "2026-01-01T00:00:00.123456789Z",
                "compressed-diff-digest": diff_id, "compressed-size": 12_345_678,
                "diff-digest": diff_id, "diff-size": 34_567_890, "compression": 2,
                "uidset": [0, 1, 33, 101, 1000], "gidset": [0, 5, 8, 12, 15, 42, 43, 50, 101, 1000],
            }));
            parent = id;
            diff_ids.push(diff_id);
        }
        let config = json!({ "rootfs": { "diff_ids": diff_ids }, "config": { "User": "1" } });
        let config = config.to_string();
        let digest = Digest::of(config.as_bytes());
        let key = digest.to_string();
        let manifest = format!("manifest-{digest}");
        images.push(json!({
            "id": digest.hex(), "digest": digest, "layer": parent, "metadata": "{}",
            "names": [format!("registry.example.com/team/app-{image}:1.2.3")],
            "names-history": [format!("registry.example.com/team/app-{image}:1.2.3")],
            "big-data-names": [key], "created": "2026-01-01T00:00:00Z",
            "big-data-sizes": { &key: 4321, &manifest: 1234, "manifest": 1234 },
            "big-data-digests": { &key: digest, &manifest: digest, "manifest": digest },
        }));
        tops.push((digest, parent, config));
    }
    let mut last = (String::new(), String::new());
    for container in 0..CONTAINERS {
        let (digest, top, _) = &tops[container % tops.len()];
        let id = hex(format!("container {container}"));
        let layer = hex(format!("layer of {container}"));
        let metadata = json!({ "image-name": "registry.example.com/x:1", "image-id": "",
            "pod-name": "k8s_shop_prod_u1_0", "name": "k8s_web_shop_prod_u1_0" });
        containers.push(json!({ "id": id, "names": ["k8s_web_shop_prod_u1_0"],
            "image": digest.hex(), "layer": layer, "metadata": metadata.to_string(),
            "created": "2026-01-01T00:00:00Z", "flags": { "Volatile": true } }));
        layers.push(json!({ "id": layer, "parent": top, "created": "2026-01-01T00:00:00Z" }));
        last = (id, layer);
    }
    let (digest, _, config) = &tops[(CONTAINERS - 1) % tops.len()];
    write(root, "vfs-images/images.json", &Value::from(images).to_string())?;
    write(root, "vfs-layers/layers.json", &Value::from(layers).to_string())?;
    write(root, "vfs-containers/containers.json", &Value::from(containers).to_string())?;
    let name = base64(&digest.to_string())?;
    write(root, &format!("vfs-images/{}/={name}", digest.hex()), config)?;
    std::fs::create_dir_all(root.join("vfs/dir").join(&last.1))?;
    Ok(last)
}

/// As base64(1) writes it, which every machine with a shell has.
fn base64(text: &str) -> Result<String, Failure> {
    let mut input = tempfile::tempfile()?;
    input.write_all(text.as_bytes())?;
    input.rewind()?;
    let output = Command::new("base64").arg("-w0").stdin(input).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let root = std::fs::canonicalize(folder.path())?;
    let (id, layer) = store(&root)?;
    let files =
        ["vfs-containers/containers.json", "vfs-images/images.json", "vfs-layers/layers.json"];
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::metadata(root.join(file))?.len();
    }
    let resolver = StorageResolver::new(StorageEngine::Podman, vec![root.clone()]);
    let answer = || -> Resolved {
        resolver.resolve(&OciStart {
            container_id: &id,
            bundle: Path::new("/run/bundle"),
            root: &root.join("vfs/dir").join(&layer),
            state: None,
            deadline: Instant::now() + Duration::from_secs(10),
        })
    };
    let identity = answer().identity;
    assert!(identity.is_bound() && identity.config.is_some(), "{:?}", identity.note);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        answer();
    }
    let whole = began.elapsed() / ROUNDS;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        for file in files {
            let _: Value = serde_json::from_slice(&std::fs::read(root.join(file))?)?;
        }
    }
    let values = began.elapsed() / ROUNDS;
    println!("{bytes} bytes of records: the answer {whole:?}, serde_json::Value {values:?}");
    Ok(())
}
