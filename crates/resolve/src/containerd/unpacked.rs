//! Where a snapshotter has the layers of an image, for those who read them.

use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portcullis_types::{Digest, chain_id};

use super::api::Mount;
use super::client::Client;
use crate::documents::diff_ids;
use crate::grpc::GrpcError;

/// How long the view's removal may take, whenever the deadline is.
const REMOVAL_TIME: Duration = Duration::from_secs(5);
/// gRPC's status `ALREADY_EXISTS`.
const ALREADY_EXISTS: u32 = 6;

/// An image, and its layers as a snapshotter has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackedImage {
    /// Its configuration.
    pub config: Vec<u8>,
    /// The folders of its layers, lowest first, as many as the configuration has.
    pub layers: Vec<PathBuf>,
}

/// Why the layers are not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackedError {
    /// The socket cannot be connected to, or a call fails.
    #[error("containerd at {address} does not answer")]
    Call {
        /// The socket's path.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration.
    #[error("the configuration {0} cannot be used")]
    Config(Digest, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no such snapshot.
    #[error(
        "the snapshotter {snapshotter} has no layer {chain}: the image is not unpacked there as a \
         whole"
    )]
    Missing {
        /// The snapshotter.
        snapshotter: String,
        /// The layer's chain ID.
        chain: Digest,
    },
    /// A snapshot is not what it is named by.
    #[error("the layer {chain} lies on \"{parent}\", which is not the one below it")]
    Parent {
        /// The layer's chain ID.
        chain: Digest,
        /// What lies below it.
        parent: String,
    },
    /// What the snapshotter mounts are no layers in folders.
    #[error(
        "the snapshotter {snapshotter} does not have the layers in folders of their own: {why}"
    )]
    Mounts {
        /// The snapshotter.
        snapshotter: String,
        /// What it mounts.
        why: String,
    },
    /// The view could not be removed. It goes with containerd's next collection.
    #[error("the view {key} of the snapshotter {snapshotter} could not be removed")]
    Removal {
        /// The view.
        key: String,
        /// The snapshotter.
        snapshotter: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No call could be made.
    #[error("containerd could not be asked")]
    Runtime(#[source] std::io::Error),
}

/// The layers of the image with this configuration.
pub(super) async fn find(
    address: &Path,
    config: &Digest,
    namespace: &str,
    snapshotter: &str,
    deadline: Instant,
) -> Result<UnpackedImage, UnpackedError> {
    let failed = |source: GrpcError| UnpackedError::Call {
        address: address.display().to_string(),
        source: source.into(),
    };
    let wrong = |source| UnpackedError::Config(config.clone(), source);
    let client = Client::connect(address, namespace, deadline).await.map_err(failed)?;
    let json = client.content(config).await.map_err(|error| wrong(error.into()))?;
    let chains = chains(&diff_ids(&json).map_err(|error| wrong(error.into()))?);

    let mut below = None;
    for chain in &chains {
        let parent = match client.snapshot(snapshotter, &chain.to_string()).await {
            Ok(info) => info.parent,
            Err(GrpcError::NotFound) => {
                let (snapshotter, chain) = (snapshotter.to_owned(), chain.clone());
                return Err(UnpackedError::Missing { snapshotter, chain });
            }
            Err(error) => return Err(failed(error)),
        };
        if parent != below.map(Digest::to_string).unwrap_or_default() {
            let parent = parent.chars().take(200).flat_map(char::escape_debug).collect();
            return Err(UnpackedError::Parent { chain: chain.clone(), parent });
        }
        below = Some(chain);
    }
    let Some(top) = below else {
        return Ok(UnpackedImage { config: json, layers: Vec::new() });
    };

    let key = unique();
    let mounts = client.view(snapshotter, &key, &top.to_string()).await;
    // A view that exists is somebody else's. Of all other failures it is not certain that none was
    // made.
    let is_others = matches!(mounts, Err(GrpcError::Status { code: ALREADY_EXISTS, .. }));
    let removed = match is_others {
        true => Ok(()),
        false => remove(address, namespace, snapshotter, &key).await,
    };
    let mounts = mounts.map_err(failed)?;
    removed.map_err(|source| UnpackedError::Removal {
        key,
        snapshotter: snapshotter.to_owned(),
        source: source.into(),
    })?;
    let layers = layers(&mounts, chains.len())
        .map_err(|why| UnpackedError::Mounts { snapshotter: snapshotter.to_owned(), why })?;
    Ok(UnpackedImage { config: json, layers })
}

/// The chain ID of each layer with those below it.
fn chains(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = match chains.last() {
            Some(below) => chain_id(&[below.clone(), diff_id.clone()]),
            None => Some(diff_id.clone()),
        };
        chains.extend(chain);
    }
    chains
}

/// A name that no other snapshot has.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("portcullis-view-{}-{}-{count}", std::process::id(), since.as_nanos())
}

/// Removes the view on a connection of its own: the deadline may have passed, and the other
/// connection may be what failed.
async fn remove(
    address: &Path,
    namespace: &str,
    snapshotter: &str,
    key: &str,
) -> Result<(), GrpcError> {
    let client = Client::connect(address, namespace, Instant::now() + REMOVAL_TIME).await?;
    match client.remove(snapshotter, key).await {
        // It was never made, or containerd has collected it.
        Err(GrpcError::NotFound) => Ok(()),
        removed => removed,
    }
}

/// The folders that these mounts of a view lay on each other, lowest first.
fn layers(mounts: &[Mount], wanted: usize) -> Result<Vec<PathBuf>, String> {
    let [mount] = mounts else {
        return Err(format!("it mounts {} file systems", mounts.len()));
    };
    if !matches!(mount.target.as_str(), "" | "/") {
        return Err("it mounts below the root".to_owned());
    }
    let mut folders: Vec<&str> = match mount.kind.as_str() {
        "bind" => vec![&mount.source],
        "overlay" => lower(&mount.options)?,
        other => {
            let other: String = other.chars().take(100).flat_map(char::escape_debug).collect();
            return Err(format!("it mounts a file system of the type \"{other}\""));
        }
    };
    if folders.len() != wanted {
        return Err(format!("it gives {} folders for {wanted} layers", folders.len()));
    }
    folders.reverse();
    folders.into_iter().map(folder).collect()
}

/// The lower directories, the uppermost first.
fn lower(options: &[String]) -> Result<Vec<&str>, String> {
    let mut folders = Vec::new();
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "lowerdir" | "lowerdir+" => folders.extend(value.split(':')),
            // A view has no layer of its own; of data-only layers only parts are to be seen.
            "upperdir" | "datadir+" => {
                return Err(format!("it mounts an overlay with the option {name}"));
            }
            _ => {}
        }
    }
    Ok(folders)
}

/// A folder that is there, named without detours.
fn folder(path: &str) -> Result<PathBuf, String> {
    let shown = || path.chars().take(200).flat_map(char::escape_debug).collect::<String>();
    let path = Path::new(path);
    let is_plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain {
        return Err(format!("\"{}\" is not the path of a folder", shown()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path.to_owned()),
        Ok(_) => Err(format!("{} is not a folder", shown())),
        Err(error) => Err(format!("{} cannot be looked at: {error}", shown())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mounts: &[Mount], wanted: usize, found: Result<&[&Path], &str>) {
        match (layers(mounts, wanted), found) {
            (Ok(layers), Ok(wanted)) => assert_eq!(layers, wanted),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (other, _) => panic!("{mounts:?}: {other:?}"),
        }
    }

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.to_owned(),
            source: source.to_owned(),
            target: String::new(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        }
    }

    #[test]
    fn views_of_plain_folders() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["1", "2"].map(|name| {
            let path = folder.path().join(name).join("fs");
            std::fs::create_dir_all(&path).unwrap();
            path
        });
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let bind = |path: &Path| [mount("bind", path.to_str().unwrap(), &["ro", "rbind"])];
        check(&bind(&one), 1, Ok(&[&one]));
        check(&bind(&one), 2, Err("1 folders for 2 layers"));
        check(&bind(&link), 1, Err("is not a folder"));
        check(&bind(&folder.path().join("3")), 1, Err("No such file"));
        check(&bind(&one.join("../fs")), 1, Err("is not the path of a folder"));

        let (above, below) = (two.display(), one.display());
        let overlay = |options: &[&str]| [mount("overlay", "overlay", options)];
        let lower = format!("lowerdir={above}:{below}");
        check(&overlay(&["index=off", &lower, "userxattr"]), 2, Ok(&[&one, &two]));
        let [upper, lowest] = [format!("lowerdir+={above}"), format!("lowerdir+={below}")];
        check(&overlay(&[&upper, &lowest]), 2, Ok(&[&one, &two]));
        check(&overlay(&[&lower]), 3, Err("2 folders for 3 layers"));
        check(&overlay(&[]), 2, Err("0 folders"));
        check(&overlay(&[&lower, "upperdir=/x"]), 2, Err("upperdir"));
        check(&overlay(&[&format!("lowerdir={above}::{below}")]), 3, Err("not the path"));
        check(&overlay(&["lowerdir=a:b"]), 2, Err("not the path"));
    }

    #[test]
    fn other_views() {
        for kind in ["erofs", "format/overlay", "fuse3.fuse-overlayfs", "ext4", ""] {
            check(&[mount(kind, "/dev/loop0", &["ro"])], 1, Err("of the type"));
        }
        check(&[], 1, Err("0 file systems"));
        let bind = mount("bind", "/", &["ro"]);
        check(&[bind.clone(), bind.clone()], 1, Err("2 file systems"));
        check(&[Mount { target: "/usr".to_owned(), ..bind }], 1, Err("below the root"));
    }

    #[test]
    fn chains_are_those_of_the_specification() {
        let diff_ids = [b"a", b"b", b"c"].map(|text| Digest::of(text));
        let wanted: Vec<Digest> = (1..=3).filter_map(|n| chain_id(&diff_ids[..n])).collect();
        assert_eq!(chains(&diff_ids), wanted);
        assert_eq!(chains(&[]), []);
    }
}
