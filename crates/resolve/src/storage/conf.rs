//! Where an engine's storage is on this machine, by the engine's own configuration.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::StorageEngine;
use super::files::{Folder, Owners, ReadError};

/// Where storage is if nothing says otherwise (containers/storage, `types/options_linux.go`).
const DEFAULT_ROOT: &str = "var/lib/containers/storage";
/// Where a user's storage is, below the home folder, if nothing says otherwise.
const DEFAULT_USER_ROOT: &str = ".local/share/containers/storage";
/// In the order in which the first one that exists counts.
const STORAGE_CONFS: [&str; 2] =
    ["etc/containers/storage.conf", "usr/share/containers/storage.conf"];
const CRIO_CONF: &str = "etc/crio/crio.conf";
const CRIO_DROP_INS: &str = "etc/crio/crio.conf.d";
/// Most bytes of a configuration file, and most drop-ins.
const MAX_FILE: u64 = 1 << 20;
const MAX_DROP_INS: usize = 256;
/// How long the files may take.
const TIME: Duration = Duration::from_secs(1);

/// A machine, as far as it matters here; in tests a folder stands for it.
#[derive(Debug)]
pub(super) struct Host {
    /// Its root folder.
    pub(super) root: PathBuf,
    /// The text of `/proc/self/uid_map` (user_namespaces(7)).
    pub(super) uid_map: String,
}

/// A user without root's rights, outside the user namespace.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    name: String,
    home: PathBuf,
}

/// What a file says of one storage.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Storage {
    graphroot: String,
    rootless_storage_path: String,
    imagestore: String,
    options: Options,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    additionalimagestores: Vec<String>,
    imagestore: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StorageConf {
    storage: Storage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CrioConf {
    crio: Crio,
}

#[derive(Debug, Default, Deserialize)]
struct Crio {
    root: Option<String>,
    imagestore: Option<String>,
    storage_option: Option<Vec<String>>,
}

impl Host {
    /// The machine on which this process runs.
    pub(super) fn this() -> Self {
        let uid_map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self { root: PathBuf::from("/"), uid_map }
    }

    /// The graph roots of an engine, its own first.
    pub(super) fn roots(&self, engine: StorageEngine) -> Vec<PathBuf> {
        let user = self.user();
        let system: Storage = self.storage_conf();
        let mut storage = match &user {
            Some(user) => self.of_user(user, &system),
            None => system,
        };
        if engine == StorageEngine::CriO {
            self.add_crio(&mut storage);
        }
        if storage.graphroot.is_empty() {
            storage.graphroot = self.root.join(DEFAULT_ROOT).display().to_string();
        }
        let Options { additionalimagestores, imagestore } = storage.options;
        let all = [storage.graphroot, storage.imagestore, imagestore].into_iter();
        let mut roots: Vec<PathBuf> = Vec::new();
        for path in all.chain(additionalimagestores).filter_map(|path| expanded(&path, &user)) {
            if !roots.contains(&path) {
                roots.push(path);
            }
        }
        roots
    }

    fn storage_conf(&self) -> Storage {
        let found = STORAGE_CONFS.iter().find(|file| self.root.join(file).exists());
        found.map(|file| self.toml::<StorageConf>(Path::new(file)).storage).unwrap_or_default()
    }

    /// A user's own file stands for the system's, of which only the place for users' storage counts
    /// beside it.
    fn of_user(&self, user: &User, system: &Storage) -> Storage {
        let own = user.home.join(".config/containers/storage.conf");
        let own = own.strip_prefix("/").unwrap_or(&own);
        let mut storage = self.toml::<StorageConf>(own).storage;
        let places = [
            storage.graphroot.clone(),
            storage.rootless_storage_path.clone(),
            system.rootless_storage_path.clone(),
            user.home.join(DEFAULT_USER_ROOT).display().to_string(),
        ];
        storage.graphroot = places.into_iter().find(|p| !p.is_empty()).unwrap_or_default();
        storage
    }

    /// CRI-O's own settings, where they differ from the storage's; a later drop-in counts more.
    fn add_crio(&self, storage: &mut Storage) {
        let mut files = vec![PathBuf::from(CRIO_CONF)];
        if let Ok(folder) = std::fs::read_dir(self.root.join(CRIO_DROP_INS)) {
            let names = folder.filter_map(|entry| Some(entry.ok()?.file_name()));
            let mut names: Vec<_> = names.take(MAX_DROP_INS).collect();
            names.sort();
            files.extend(names.into_iter().map(|name| Path::new(CRIO_DROP_INS).join(name)));
        }
        for file in files {
            let Crio { root, imagestore, storage_option } = self.toml::<CrioConf>(&file).crio;
            for (told, own) in
                [(root, &mut storage.graphroot), (imagestore, &mut storage.imagestore)]
            {
                if let Some(told) = told.filter(|told| !told.is_empty()) {
                    *own = told;
                }
            }
            // `overlay.imagestore=/path`; a list that is not empty stands for the storage's own.
            let options = storage_option.filter(|options| !options.is_empty());
            if let Some(options) = options {
                let stores = options.iter().filter_map(|option| {
                    let (key, path) = option.split_once('=')?;
                    let key = key.rsplit('.').next()?;
                    matches!(key, "imagestore" | "additionalimagestore").then(|| path.to_owned())
                });
                storage.options.additionalimagestores = stores.collect();
            }
        }
    }

    /// The user who runs the engine in a user namespace; `None` for root.
    ///
    /// In the namespace of a container that only looks like root's, the outer id belongs to nobody
    /// in `/etc/passwd`, and the engine uses the system's storage.
    fn user(&self) -> Option<User> {
        let line = self.uid_map.lines().find(|l| l.split_whitespace().next() == Some("0"))?;
        let uid: u32 = line.split_whitespace().nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let passwd = self.read(Path::new("etc/passwd")).ok()?;
        String::from_utf8_lossy(&passwd).lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let found: u32 = fields.get(2)?.parse().ok()?;
            let home = PathBuf::from(*fields.get(5)?);
            let name = fields.first()?.to_string();
            (found == uid && home.is_absolute()).then_some(User { uid, name, home })
        })
    }

    fn toml<T: DeserializeOwned + Default>(&self, file: &Path) -> T {
        let text = self.read(file).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
    }

    fn read(&self, file: &Path) -> Result<Vec<u8>, ReadError> {
        let path = self.root.join(file);
        let wrong = |error| ReadError::Read(path.clone(), error);
        // Configuration is often a link, into `/usr` or another store.
        let path = std::fs::canonicalize(&path).map_err(wrong)?;
        match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(folder), Some(name)) => {
                let deadline = Instant::now() + TIME;
                // They only say where to look; what is found there is checked again.
                Folder::open(folder, deadline, Owners::OursOrOutside)?.read(name, MAX_FILE)
            }
            _ => Err(ReadError::Missing(path)),
        }
    }
}

/// Fills in what a configuration may leave to the user's account. Any other variable would be the
/// environment's, which is not asked: such a path is passed over.
fn expanded(path: &str, user: &Option<User>) -> Option<PathBuf> {
    let mut path = path.to_owned();
    if let Some(User { uid, name, home }) = user {
        let home = home.to_str()?;
        for (variable, value) in [("UID", uid.to_string().as_str()), ("HOME", home), ("USER", name)]
        {
            path = path.replace(&format!("${{{variable}}}"), value);
            path = path.replace(&format!("${variable}"), value);
        }
    }
    (path.starts_with('/') && !path.contains('$')).then(|| PathBuf::from(path))
}
