//! Shows what is known of a container of CRI-O or Podman that is about to start, as an OCI runtime
//! would be told of it: `storage (cri-o|podman) ID BUNDLE ROOT [GRAPH_ROOT…]`.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_resolve::{OciStart, StorageEngine, StorageResolver};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, container_id, bundle, root, roots @ ..] = arguments.as_slice() else {
        return Err("usage: storage (cri-o|podman) ID BUNDLE ROOT [GRAPH_ROOT…]".into());
    };
    let engine = match engine.as_str() {
        "cri-o" => StorageEngine::CriO,
        "podman" => StorageEngine::Podman,
        other => return Err(format!("the engine {other} is not known").into()),
    };
    let roots = match roots {
        [] => StorageResolver::default_roots(engine),
        given => given.iter().map(PathBuf::from).collect(),
    };
    println!("roots: {roots:?}");
    let bundle = std::fs::canonicalize(bundle)?;
    let root = std::fs::canonicalize(Path::new(root))?;
    let began = Instant::now();
    let resolved = StorageResolver::new(engine, roots).resolve(&OciStart {
        container_id,
        bundle: &bundle,
        root: &root,
        state: None,
        deadline: began + Duration::from_millis(1500),
    });
    println!("{resolved:#?}");
    println!("took {:?}", began.elapsed());
    Ok(())
}
