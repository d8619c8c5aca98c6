//! Runtime options: which runc, with what state folder and cgroup driver.
//!
//! By `type_url`, never blindly: field 3 of `runtimeoptions.v1.Options` is TOML text and field 3
//! of runc's own options is a cgroup, so that reading one as the other joins a cgroup by the name
//! of a text. Where the engine sends nothing, the settings say (containerd 1.6 with our type name).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, CodedInputStream, Message, UnknownValueRef};
use containerd_shim_protos::shim::oci::{
    CheckpointOptions as SentCheckpoint, Options as RuncOptions,
};
use portcullis_settings::{RuntimeSettings, SystemdCgroup};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::io::Owner;

/// The name of containerd's own options for runc (`api/types/runc/options/oci.proto`).
const RUNC: &str = "containerd.runc.v1.Options";
/// Options of CRI for a runtime it does not know: `{type_url=1, config_path=2, config_body=3}`.
const GENERIC: &str = "runtimeoptions.v1.Options";
/// What clients of 1.6 and 1.7 send with a task to a runtime that is not called runc's, to tell the
/// owner of its streams (`runtime/linux/runctypes/runc.proto`).
const OLD: &str = "containerd.linux.runc.CreateOptions";

/// How to make a checkpoint, of the same file.
const CHECKPOINT: &str = "containerd.runc.v1.CheckpointOptions";
/// The same from clients of 1.6 and 1.7 that do not know the runtime; its fields have the numbers
/// of the first seven of [`CHECKPOINT`].
const OLD_CHECKPOINT: &str = "containerd.linux.runc.CheckpointOptions";
/// Most bytes of a file of options, which has some lines.
const MAX_CONFIG: u64 = 64 << 10;

/// Where the options of a container are kept for the `delete` verb.
pub(crate) const FILE: &str = "portcullis-runtime.json";

/// Why options cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionsError {
    #[error(
        "runtime options of type \"{0}\" are not understood: use containerd.runc.v1.Options \
         (runtime_type = \"io.containerd.runc.v2\" with runtime_path) or none"
    )]
    Type(String),
    #[error("the runtime options of type {0} cannot be decoded")]
    Decode(&'static str, #[source] protobuf::Error),
    #[error("the runtime options are not the TOML of runc's options")]
    Toml(#[source] toml::de::Error),
    #[error("cannot read the runtime options' file {path}")]
    ConfigPath { path: PathBuf, source: io::Error },
}

/// How to run the OCI runtime for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuntimeOptions {
    pub(crate) binary: PathBuf,
    /// State folder, namespace included.
    pub(crate) root: PathBuf,
    pub(crate) systemd_cgroup: bool,
    #[serde(default)]
    pub(crate) no_pivot_root: bool,
    #[serde(default)]
    pub(crate) no_new_keyring: bool,
    #[serde(skip)]
    pub(crate) owner: Owner,
    /// Where CRIU works on a restore; empty for a folder of the bundle.
    #[serde(skip)]
    pub(crate) criu_work_path: PathBuf,
}

/// How a checkpoint is made.
#[derive(Debug, Default)]
pub(crate) struct CheckpointOptions {
    pub(crate) sent: SentCheckpoint,
    /// The folder of an earlier checkpoint to build on; empty for none.
    pub(crate) parent: String,
}

/// The TOML that CRI 1.7 and later passes for a runtime type it does not know: the keys of the
/// handler's `options` table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct TomlOptions {
    no_pivot_root: bool,
    no_new_keyring: bool,
    shim_cgroup: String,
    io_uid: u32,
    io_gid: u32,
    binary_name: String,
    root: String,
    systemd_cgroup: bool,
    criu_work_path: String,
}

impl From<TomlOptions> for RuncOptions {
    fn from(toml: TomlOptions) -> Self {
        let mut options = Self::new();
        options.no_pivot_root = toml.no_pivot_root;
        options.no_new_keyring = toml.no_new_keyring;
        options.shim_cgroup = toml.shim_cgroup;
        options.io_uid = toml.io_uid;
        options.io_gid = toml.io_gid;
        options.binary_name = toml.binary_name;
        options.root = toml.root;
        options.systemd_cgroup = toml.systemd_cgroup;
        options.criu_work_path = toml.criu_work_path;
        options
    }
}

/// Whether an `Any` holds runtime options of a kind that [`decode`] reads.
pub(crate) fn is_known(any: &Any) -> bool {
    matches!(any.type_url.rsplit('/').next(), Some(RUNC | GENERIC | OLD))
}

/// Decodes what the engine sent; `None` if it sent nothing.
///
/// # Errors
/// [`OptionsError`] for a type that is not known or a text that is not its type's.
pub(crate) fn decode(any: Option<&Any>) -> Result<Option<RuncOptions>, OptionsError> {
    let Some(any) = any.filter(|a| !a.type_url.is_empty()) else {
        return Ok(None);
    };
    // containerd writes bare names, protobuf's own packing puts a host in front.
    match any.type_url.rsplit('/').next().unwrap_or_default() {
        RUNC => RuncOptions::parse_from_bytes(&any.value)
            .map(Some)
            .map_err(|e| OptionsError::Decode(RUNC, e)),
        GENERIC => generic(&any.value).map(Some),
        OLD => old(&any.value).map(Some).map_err(|e| OptionsError::Decode(OLD, e)),
        other => Err(OptionsError::Type(other.chars().take(120).collect())),
    }
}

/// Decodes how a checkpoint is to be made; nothing sent means the defaults.
///
/// # Errors
/// [`OptionsError`] for a type that is not known or bytes that are not its type's.
pub(crate) fn decode_checkpoint(any: Option<&Any>) -> Result<CheckpointOptions, OptionsError> {
    /// `parent_path`, which containerd 2.4 has added.
    const PARENT: u32 = 10;
    let Some(any) = any.filter(|a| !a.type_url.is_empty()) else {
        return Ok(CheckpointOptions::default());
    };
    match any.type_url.rsplit('/').next().unwrap_or_default() {
        CHECKPOINT | OLD_CHECKPOINT => {
            let sent = SentCheckpoint::parse_from_bytes(&any.value)
                .map_err(|e| OptionsError::Decode(CHECKPOINT, e))?;
            let parent = match sent.special_fields.unknown_fields().get(PARENT) {
                Some(UnknownValueRef::LengthDelimited(text)) => {
                    String::from_utf8_lossy(text).into_owned()
                }
                _ => String::new(),
            };
            Ok(CheckpointOptions { sent, parent })
        }
        other => Err(OptionsError::Type(other.chars().take(120).collect())),
    }
}

/// The fields of [`OLD`] that mean something to runc's own options.
fn old(bytes: &[u8]) -> protobuf::Result<RuncOptions> {
    let mut options = RuncOptions::new();
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        // A tag is the field's number and, in three bits, its kind: 0 a number, 2 bytes.
        match (tag >> 3, tag & 7) {
            (1, 0) => options.no_pivot_root = input.read_bool()?,
            (8, 0) => options.no_new_keyring = input.read_bool()?,
            (9, 2) => options.shim_cgroup = input.read_string()?,
            (10, 0) => options.io_uid = input.read_uint32()?,
            (11, 0) => options.io_gid = input.read_uint32()?,
            _ => protobuf::rt::skip_field_for_tag(tag, &mut input)?,
        }
    }
    Ok(options)
}

fn generic(bytes: &[u8]) -> Result<RuncOptions, OptionsError> {
    // `TypeUrl`, `ConfigPath` and `ConfigBody` are the string fields 1, 2 and 3, the numbers of
    // `Mount`'s type, source and target: a message we already have reads them.
    let message = containerd_shim_protos::types::mount::Mount::parse_from_bytes(bytes)
        .map_err(|e| OptionsError::Decode(GENERIC, e))?;
    let text = match (message.target.is_empty(), message.source.as_str()) {
        (false, _) => message.target,
        (true, "") => String::new(),
        (true, path) => {
            config(path).map_err(|source| OptionsError::ConfigPath { path: path.into(), source })?
        }
    };
    let options: TomlOptions = toml::from_str(&text).map_err(OptionsError::Toml)?;
    Ok(options.into())
}

/// The text of a file of options; a device or a pipe in its place is not waited for.
fn config(path: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_CONFIG + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(text)
}

impl RuntimeOptions {
    /// Options for a container of a containerd namespace: what the engine sent, else settings.
    pub(crate) fn resolve(
        sent: Option<RuncOptions>,
        settings: &RuntimeSettings,
        namespace: &str,
        cgroups_path: &str,
    ) -> Self {
        Self::on_host(sent, settings, namespace, cgroups_path, Path::new(SYSTEMD).is_dir())
    }

    /// [`RuntimeOptions::resolve`] on a host that systemd runs, or does not.
    fn on_host(
        sent: Option<RuncOptions>,
        settings: &RuntimeSettings,
        namespace: &str,
        cgroups_path: &str,
        systemd: bool,
    ) -> Self {
        let detect = settings.systemd_cgroup == SystemdCgroup::Detect;
        // Only the systemd driver means this form, so what an engine leaves open is told by it. A
        // parent named `*.slice` makes it as well; without systemd such a path is a plain folder.
        let detected = detect && systemd && is_systemd_form(cgroups_path);
        match sent {
            Some(sent) => Self {
                binary: match sent.binary_name.as_str() {
                    "" => settings.binary.clone(),
                    name => name.into(),
                },
                root: match sent.root.as_str() {
                    "" => settings.root.join(namespace),
                    root => Path::new(root).join(namespace),
                },
                systemd_cgroup: sent.systemd_cgroup || detected,
                no_pivot_root: sent.no_pivot_root,
                no_new_keyring: sent.no_new_keyring,
                owner: Owner { uid: sent.io_uid, gid: sent.io_gid },
                criu_work_path: sent.criu_work_path.into(),
            },
            None => Self {
                binary: settings.binary.clone(),
                root: settings.root.join(namespace),
                systemd_cgroup: detected || settings.systemd_cgroup == SystemdCgroup::On,
                no_pivot_root: false,
                no_new_keyring: false,
                owner: Owner::default(),
                criu_work_path: PathBuf::new(),
            },
        }
    }
}

/// The folder by which runc tells that systemd runs (runc, `libcontainer/cgroups/systemd`).
const SYSTEMD: &str = "/run/systemd/system";

/// `slice:prefix:name`, the form that only the systemd driver takes (runc, `docs/systemd.md`).
fn is_systemd_form(cgroups_path: &str) -> bool {
    !cgroups_path.starts_with('/') && cgroups_path.split(':').count() == 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::types::mount::Mount;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.into(), value, ..Any::default() }
    }

    fn settings() -> RuntimeSettings {
        portcullis_settings::Settings::default().runtime
    }

    #[test]
    fn runc_options_are_used_and_nothing_means_the_settings() {
        let mut sent = RuncOptions::new();
        sent.binary_name = "/opt/runc".into();
        sent.systemd_cgroup = true;
        let bytes = sent.write_to_bytes().unwrap();
        let decoded = decode(Some(&any(RUNC, bytes))).unwrap();
        let options = RuntimeOptions::resolve(decoded, &settings(), "k8s.io", "/x");
        assert_eq!(options.binary, Path::new("/opt/runc"));
        assert!(options.systemd_cgroup);
        assert_eq!(options.root, Path::new("/run/containerd/runc/k8s.io"));

        let none = RuntimeOptions::resolve(decode(None).unwrap(), &settings(), "a", "/kubepods/x");
        assert_eq!(none.binary, Path::new("runc"));
        assert!(!none.systemd_cgroup);
    }

    #[test]
    fn the_form_of_a_cgroup_shows_the_driver_where_systemd_runs() {
        let check = |path, systemd, expected| {
            for sent in [None, Some(RuncOptions::new())] {
                let options = RuntimeOptions::on_host(sent, &settings(), "a", path, systemd);
                assert_eq!(options.systemd_cgroup, expected, "{path} systemd: {systemd}");
            }
        };
        check("x.slice:cri:id", true, true);
        check("x.slice:cri:id", false, false);
        check("/kubepods/x", true, false);
    }

    #[test]
    fn cri_options_of_an_unknown_runtime_are_toml_and_never_a_cgroup() {
        let mut message = Mount::new();
        message.target = "BinaryName = '/opt/gate'\nSystemdCgroup = true\n".into();
        let decoded =
            decode(Some(&any(GENERIC, message.write_to_bytes().unwrap()))).unwrap().unwrap();
        assert_eq!(decoded.binary_name, "/opt/gate");
        assert!(decoded.systemd_cgroup);
        assert_eq!(decoded.shim_cgroup, "");
    }

    #[test]
    fn a_file_of_options_is_bounded_and_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("options.toml");
        let decoded = |path: &Path| {
            let mut message = Mount::new();
            message.source = path.to_str().unwrap().into();
            decode(Some(&any(GENERIC, message.write_to_bytes().unwrap())))
        };
        std::fs::write(&file, "BinaryName = '/opt/gate'").unwrap();
        assert_eq!(decoded(&file).unwrap().unwrap().binary_name, "/opt/gate");
        std::fs::write(&file, " ".repeat(MAX_CONFIG as usize + 1)).unwrap();
        for wrong in [&file, folder.path(), Path::new("/dev/zero"), Path::new("/none")] {
            let error = decoded(wrong).unwrap_err();
            assert!(matches!(error, OptionsError::ConfigPath { .. }), "{error}");
        }
    }

    #[test]
    fn the_options_of_older_clients_are_read_by_their_own_numbers() {
        // no_pivot_root, a field we do not use, io_uid and io_gid.
        let bytes = [0x08, 1, 0x32, 1, b'x', 0x50, 0xa0, 0x8d, 0x06, 0x58, 7];
        let decoded = decode(Some(&any(OLD, bytes.to_vec()))).unwrap().unwrap();
        assert!(decoded.no_pivot_root);
        assert_eq!((decoded.io_uid, decoded.io_gid), (100_000, 7));
        assert!(decode(Some(&any(OLD, vec![0x50, 0xff]))).is_err());
    }

    #[test]
    fn checkpoint_options_are_read_under_both_names() {
        let sent = SentCheckpoint { exit: true, work_path: "/w".into(), ..Default::default() };
        let mut bytes = sent.write_to_bytes().unwrap();
        bytes.extend([0x52, 2, b'/', b'p']);
        for name in [CHECKPOINT, OLD_CHECKPOINT] {
            let read = decode_checkpoint(Some(&any(name, bytes.clone()))).unwrap();
            assert!(read.sent.exit);
            assert_eq!((read.sent.work_path.as_str(), read.parent.as_str()), ("/w", "/p"));
        }
        assert!(!decode_checkpoint(None).unwrap().sent.exit);
        assert!(decode_checkpoint(Some(&any(RUNC, Vec::new()))).is_err());
        assert!(decode_checkpoint(Some(&any(CHECKPOINT, vec![0xff]))).is_err());
    }

    /// `criu_path`, `criu_image_path`, `task_api_address` and `task_api_version` are the engine's.
    #[test]
    fn fields_for_others_are_taken_and_mean_nothing() {
        let mut bytes = vec![0x42, 1, b'c', 0x52, 1, b'i', 0x5a, 2, b'/', b'w'];
        bytes.extend([0x62, 1, b'a', 0x68, 3]);
        let decoded = decode(Some(&any(RUNC, bytes))).unwrap();
        let options = RuntimeOptions::resolve(decoded, &settings(), "a", "/x");
        assert_eq!(options.criu_work_path, Path::new("/w"));
        assert_eq!(options.binary, Path::new("runc"));
    }

    #[test]
    fn an_unknown_type_is_an_error_that_names_it() {
        let error = decode(Some(&any("acme.v1.Options", vec![]))).unwrap_err().to_string();
        assert!(error.contains("acme.v1.Options"), "{error}");
        assert!(decode(Some(&any(RUNC, vec![0xff, 0xff]))).is_err());
    }
}
