//! What a scan is given: the image that a target names, and clamd.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portcullis_inventory::protocol::Source;
use portcullis_inventory::{Item, Package};
use portcullis_resolve::{StorageEngine, StorageResolver};
use portcullis_scan::{FindError, Scanned, find, source_at};
use portcullis_settings::{WRAPPER, WrapperSettings};
use portcullis_types::{Engine, Place};

use crate::args::{Scan, ScanEngine};
use crate::context::Context;

/// How long an engine may take to say where an image is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The source that a target names: a path if there is something, else an image of an engine.
pub(super) fn of(context: &Context, args: &Scan, target: &str, platform: &str) -> Result<Source> {
    let is_path = target.starts_with(['/', '.']) || Path::new(target).exists();
    if is_path {
        return Ok(source_at(Path::new(target))?);
    }
    let taken = || {
        format!("\"{target}\" is no file or folder here, and was taken for the name of an image")
    };
    let places = match args.engine {
        Some(engine) => vec![place(context, args, engine)],
        None => [ScanEngine::Containerd, ScanEngine::Storage, ScanEngine::Docker]
            .map(|engine| place(context, args, engine))
            .into(),
    };
    let mut refused: Option<anyhow::Error> = None;
    for place in &places {
        let found: Result<Source, FindError> =
            find(place, target, platform, Instant::now() + PATIENCE);
        match found {
            Ok(source) => return Ok(source),
            Err(error) => {
                let error = anyhow::Error::from(error);
                refused = Some(match refused {
                    None => error,
                    Some(first) => error.context(format!("{first:#}; and")),
                });
            }
        }
    }
    Err(refused.unwrap_or_else(|| anyhow::anyhow!("no engine was asked"))).with_context(taken)
}

/// Where an engine of this node has its images, by the arguments and the node's settings.
fn place(context: &Context, args: &Scan, engine: ScanEngine) -> Place {
    let of = |engine: Engine| {
        let mut wrappers = context.settings.wrappers();
        let found = wrappers.find(|(_, wrapper)| wrapper.engine == engine);
        found.map_or_else(|| WrapperSettings::by_name(WRAPPER), |(_, wrapper)| wrapper.clone())
    };
    let address = || {
        let address = args.address.as_deref()?;
        // With or without its scheme, as containerd's own tools take it.
        Some(PathBuf::from(address.strip_prefix("unix://").unwrap_or(address)))
    };
    match engine {
        ScanEngine::Containerd => Place::Containerd {
            socket: address().unwrap_or_else(|| of(Engine::Containerd).socket),
            namespace: args.namespace.clone(),
        },
        ScanEngine::Docker => {
            let wrapper = of(Engine::Docker);
            Place::Docker {
                data: args.docker.clone().unwrap_or(wrapper.data),
                socket: address().unwrap_or(wrapper.socket),
            }
        }
        ScanEngine::Storage => Place::Storage { roots: graph_roots(context, args) },
    }
}

/// The folders of containers/storage that are named, or those that this node's engines use.
fn graph_roots(context: &Context, args: &Scan) -> Vec<PathBuf> {
    if let Some(folder) = &args.storage {
        return vec![folder.clone()];
    }
    let mut roots: Vec<PathBuf> =
        context.settings.wrappers().flat_map(|(_, w)| w.storage.clone()).collect();
    for engine in [StorageEngine::CriO, StorageEngine::Podman] {
        roots.extend(StorageResolver::default_roots(engine));
    }
    roots
}

/// The packages of an image.
pub(super) fn packages(scanned: &Scanned) -> impl Iterator<Item = (&str, &Package)> {
    scanned.merged.items().into_iter().flat_map(|(path, item)| {
        let packages = match item {
            Item::Packages(packages) => packages.as_slice(),
            _ => &[],
        };
        packages.iter().map(move |package| (path, package))
    })
}

/// The socket of clamd: the one that is named, else one that is there.
pub(super) fn clamd(args: &Scan) -> Result<Option<PathBuf>> {
    if args.no_clamd {
        return Ok(None);
    }
    if let Some(socket) = &args.clamd {
        if !socket.exists() {
            bail!("{} is not there: name the LocalSocket of clamd.conf", socket.display());
        }
        return Ok(Some(socket.clone()));
    }
    Ok(portcullis_scan::clamd())
}
