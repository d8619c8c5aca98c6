//! What an image is made of, as far as the checks ask.

use serde::{Deserialize, Serialize};

/// Facts about a file or folder from its inode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// `st_mode` with the type of file, as in inode(7): `0o104755` is a regular file with the
    /// set-user-ID bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether it has the extended attribute `security.capability`.
    pub capabilities: bool,
}

impl Mode {
    /// Whether it is a regular file.
    pub const fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    /// Whether it is a folder.
    pub const fn is_folder(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Whether everybody may change it: a folder with the sticky bit is safe, since only owners
    /// remove what is in it.
    pub const fn is_open(&self) -> bool {
        self.mode & 0o002 != 0 && !(self.is_folder() && self.mode & 0o1000 != 0)
    }
}

/// An image's configuration (OCI image-spec `config.md`), and the names it goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `config.User`.
    pub user: String,
    /// `config.Env`: `NAME=value`.
    pub env: Vec<String>,
    /// `config.Healthcheck.Test`, Docker's extension.
    pub healthcheck: Option<Vec<String>>,
    /// The keys of `config.Volumes`.
    pub volumes: Vec<String>,
    /// The keys of `config.ExposedPorts`: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `created_by` of each entry of `history`, oldest first, empty layers included.
    pub history: Vec<String>,
    /// The references that the image goes by: `docker.io/library/nginx:latest`. None if it is
    /// not known.
    pub tags: Vec<String>,
}

/// What the scanner gathered of an image. Paths are those of the merged image, without a leading
/// slash and without `.` or `..`; the methods give each path once.
pub trait Image {
    /// The files that [`crate::wants_text`] asked for: at most as many bytes of their beginning as
    /// were asked for. A symbolic link has the content of the file that it leads to, below the
    /// root, and its own path.
    fn texts(&self) -> Box<dyn Iterator<Item = (&str, &[u8])> + '_>;

    /// What [`crate::wants_mode`] asked for. Names of one file with several (hard links) each
    /// count.
    fn modes(&self) -> Box<dyn Iterator<Item = (&str, Mode)> + '_>;

    /// The paths that [`crate::wants_presence`] asked for: regular files and symbolic links.
    fn present(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The configuration.
    fn config(&self) -> &Config;
}
