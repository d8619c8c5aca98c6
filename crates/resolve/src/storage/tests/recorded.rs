//! What CRI-O 1.37 left in its storage for a pod and a container, shortened to their images.
//!
//! `recorded/` has the records and the kernel's lines as they were, with the graph root's path
//! replaced; the sandbox's specification is that of another pod of the same run, renamed. The
//! images' own files were not recorded, so that only the layers can be bound.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_types::{Kind, Surety};

use super::super::StorageEngine;
use super::super::resolve::resolve;
use crate::mounted::find;
use crate::{OciStart, Resolved};

const SANDBOX: &str = "86bebd45aef634077a6cc74c7c0b77c016312b4738b6e3f3120fc077d816c3f9";
const CONTAINER: &str = "4292350f42ea74b4d9320660514e4d57003f745d47cbf808e9a21b6cd4066c19";
/// The links below `overlay/l` and the layers to which they led.
const LINKS: [(&str, &str); 3] = [
    (
        "DMVI7XOZEV2YU7RQBEURMWRYPW",
        "7edc08ec55b09937b668d301c4cb8c7186859274b57d16688cf1cc079c1acdcb",
    ),
    (
        "LUZQPX2S54L5JM744D3CX3TNDT",
        "a0f0d4abc263c8a1e45ede423a7d9911aa2321db7a7ab4e09e34fb8c8790f925",
    ),
    (
        "AWEJCJFMX36NONLM4JKWEMB6OY",
        "ae97428db11788bab40d70576c5b8384139f320d8e8d445abdc9bfd1fcb44361",
    ),
];
const FILES: [(&str, &str); 4] = [
    (
        "overlay-containers/volatile-containers.json",
        include_str!("recorded/volatile-containers.json"),
    ),
    ("overlay-images/images.json", include_str!("recorded/images.json")),
    ("overlay-layers/layers.json", include_str!("recorded/layers.json")),
    ("overlay-layers/volatile-layers.json", include_str!("recorded/volatile-layers.json")),
];

fn start(id: &str, layer: &str) -> Resolved {
    let folder = tempfile::tempdir().unwrap();
    let graph = std::fs::canonicalize(folder.path()).unwrap();
    let write = |file: &Path, text: &str| {
        let file = graph.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    for (file, text) in FILES {
        write(Path::new(file), text);
    }
    let userdata = PathBuf::from("overlay-containers").join(SANDBOX).join("userdata");
    write(&userdata.join("config.json"), include_str!("recorded/sandbox-config.json"));
    std::fs::create_dir_all(graph.join("overlay/l")).unwrap();
    std::fs::create_dir_all(graph.join("overlay").join(layer).join("diff")).unwrap();
    for (link, layer) in LINKS {
        std::fs::create_dir_all(graph.join("overlay").join(layer).join("diff")).unwrap();
        let link = graph.join("overlay/l").join(link);
        std::os::unix::fs::symlink(format!("../{layer}/diff"), link).unwrap();
    }
    let mounts =
        include_str!("recorded/mountinfo").replace("GRAPH_ROOT", &graph.display().to_string());
    let start = OciStart {
        container_id: id,
        bundle: &Path::new("/run/engine/storage/overlay-containers").join(id).join("userdata"),
        root: &graph.join("overlay").join(layer).join("merged"),
        state: None,
        deadline: Instant::now() + Duration::from_secs(30),
    };
    let roots = std::slice::from_ref(&graph);
    resolve(StorageEngine::CriO, roots, &start, &|place| Ok(find(mounts.as_bytes(), place)))
}

/// The chain IDs are `printf '%s' sha256:…` of one layer and `printf '%s %s' … | sha256sum` of two.
#[test]
fn a_pod_and_its_container() {
    let sandbox =
        start(SANDBOX, "a6e24dee6a262f2889f0e227290436faf574d097437ed613b765e7b6af28dc1b");
    let container =
        start(CONTAINER, "0347d8ae63fd29d26416dc0af005ba548583d07167865cf930156fc985a65cea");
    for (resolved, kind, name, image, chain) in [
        (&sandbox, Kind::Sandbox, "", "registry.k8s.io/pause:3.10.1", CHAIN_OF_PAUSE),
        (
            &container,
            Kind::Container,
            "c1",
            "registry.k8s.io/e2e-test-images/busybox:1.29-2",
            "sha256:ae97428db11788bab40d70576c5b8384139f320d8e8d445abdc9bfd1fcb44361",
        ),
    ] {
        let identity = &resolved.identity;
        assert_eq!(identity.surety, Surety::Bound, "{:?}", identity.note);
        assert_eq!(identity.chain_id.as_ref().unwrap().to_string(), chain);
        let asked: Vec<_> = identity.names.iter().map(|n| n.reference.to_string()).collect();
        assert_eq!(asked, [image]);
        assert_eq!(resolved.kind, kind);
        let pod = [&*resolved.namespace, &*resolved.pod, &*resolved.pod_uid];
        assert_eq!(pod, ["default", "p15923", "u15923"]);
        assert_eq!(resolved.container, name);
        assert_eq!(resolved.pod_labels["app"], "x");
        assert!(resolved.pod_known);
    }
}

const CHAIN_OF_PAUSE: &str =
    "sha256:d036e6ed5927dcf93730f13c6f7905bae4c2efc187810c5d2f0800e3f756e5e1";
