//! Prints what is known of a container that an OCI runtime is told to create: for trying a resolver
//! on a real engine, from a script in the runtime's place.
//!
//! `resolve_oci ENGINE SOCKET DATA STATE BUNDLE ID`, where ENGINE is `containerd` or `docker` and
//! DATA is Docker's data folder (anything for containerd).

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_resolve::{ContainerdResolver, DockerResolver, OciStart};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, socket, data, state, bundle, id] = arguments.as_slice() else {
        return Err("usage: resolve_oci ENGINE SOCKET DATA STATE BUNDLE ID".into());
    };
    let bundle = std::fs::canonicalize(bundle)?;
    let spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    let root = spec["root"]["path"].as_str().ok_or("the specification names no root")?;
    let start = OciStart {
        container_id: id,
        bundle: &bundle,
        root: &std::fs::canonicalize(bundle.join(root))?,
        state: Some(Path::new(state)),
        deadline: Instant::now() + Duration::from_secs(5),
    };
    let before = Instant::now();
    let resolved = match engine.as_str() {
        "containerd" => ContainerdResolver::new(socket).resolve_oci(&start),
        "docker" => DockerResolver::new(PathBuf::from(data), socket).resolve(&start),
        _ => return Err("ENGINE is containerd or docker".into()),
    };
    println!("{resolved:#?}\nin {:?}", before.elapsed());
    Ok(())
}
