//! What every engine does, each in its own words: put an image into its store, and start a container
//! of it through one door. The table of decisions and the endurance run are written against this.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::engine::own_binaries;
use crate::image::BuiltImage;
use crate::leak::Watched;
use crate::node::Node;
use crate::run::{Output, Run};

/// The file name under which the wrapper is built.
pub const WRAPPER: &str = "portcullis-runc";

/// What a container runs on.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// An image, by its full name.
    Image(&'a str),
    /// A folder of the node that belongs to no image.
    Folder(&'a Path),
}

/// One container that is to be started.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// What it runs on.
    pub root: Root<'a>,
    /// Its name, by which the engine is asked about it.
    pub id: &'a str,
    /// What whoever starts it may write on it as he likes: annotations and labels.
    pub notes: &'a [(&'a str, &'a str)],
    /// Options of the engine's own command; Kubernetes' way has none.
    pub options: &'a [&'a str],
    /// What it runs.
    pub command: &'a [&'a str],
}

impl<'a> Start<'a> {
    /// A plain one.
    pub fn new(image: &'a str, id: &'a str, command: &'a [&'a str]) -> Self {
        Self { root: Root::Image(image), id, notes: &[], options: &[], command }
    }
}

/// How an engine answered.
#[derive(Debug, Clone)]
pub struct Told {
    /// The exit code of the engine's command: the container's own, or how the engine says that there
    /// was none.
    pub code: i32,
    /// What it printed.
    pub text: String,
    /// What it complained about.
    pub errors: String,
}

impl Told {
    /// Itself, if it was a success.
    ///
    /// # Errors
    /// When its exit code is not 0.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "it ended with {}: {}{}", self.code, self.text, self.errors);
        Ok(self)
    }
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self { code: output.code(), text: output.text(), errors: output.errors() }
    }
}

/// An engine that runs in a node and starts containers through one door.
pub trait Starter: Watched {
    /// Puts an image into its store; a name that stood for another one moves.
    ///
    /// # Errors
    /// When the engine refuses it.
    fn import(&self, image: &BuiltImage) -> Result<()>;

    /// Pushes an image to the registry on the node's loopback that its name says.
    ///
    /// # Errors
    /// When the engine or the registry refuses it.
    fn push(&self, name: &str) -> Result<()>;

    /// Takes a name away from whatever image it stands for.
    ///
    /// # Errors
    /// When the engine does not have it.
    fn forget(&self, name: &str) -> Result<()>;

    /// Runs a container in the foreground to its end, and removes it.
    ///
    /// # Errors
    /// When the engine does not answer in time.
    fn run(&self, start: &Start) -> Result<Told>;

    /// Prepares a container, as far as the engine does before it calls a runtime.
    ///
    /// # Errors
    /// When the engine refuses.
    fn create(&self, start: &Start) -> Result<()>;

    /// Starts what was prepared, in the background.
    ///
    /// # Errors
    /// When the engine does not answer in time.
    fn start(&self, id: &str) -> Result<Told>;

    /// Runs a command in a running container.
    ///
    /// # Errors
    /// When the engine does not answer in time.
    fn exec(&self, id: &str, command: &[&str]) -> Result<Told>;

    /// Kills a container, if it runs, and removes it.
    ///
    /// # Errors
    /// When the engine does not have it, or cannot.
    fn remove(&self, id: &str) -> Result<()>;

    /// Lets go of the images that no name stands for any more, if the engine does not do it by
    /// itself.
    ///
    /// # Errors
    /// When the engine cannot.
    fn tidy(&self) -> Result<()>;

    /// The file that the door reads its settings from.
    fn settings(&self) -> &Settings;

    /// A program that looks at what the engine keeps, as whoever the engine serves.
    fn inspector(&self, program: &Path) -> Run {
        self.node().run(program)
    }

    /// The last that the engine complained about.
    fn complaints(&self) -> String;
}

/// The settings file of a door: what the door always needs, and what a case wants.
#[derive(Debug, Clone)]
pub struct Settings {
    file: PathBuf,
    tables: String,
}

impl Settings {
    /// The file of the doors that have none beside them.
    pub fn of_node(node: &Node) -> Self {
        Self { file: node.etc_portcullis().join("portcullis.toml"), tables: String::new() }
    }

    /// Writes what a case wants; keys first, tables last.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, wanted: &str) -> Result<()> {
        fs::write(&self.file, format!("{wanted}\n{}", self.tables))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// What the door always needs, for whoever has to find the same engine.
    pub fn tables(&self) -> &str {
        &self.tables
    }

    /// Leaves what the door always needs.
    ///
    /// # Errors
    /// When the file cannot be written or removed.
    pub fn reset(&self) -> Result<()> {
        if !self.tables.is_empty() {
            return self.write("");
        }
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Copies the wrapper into a node under the name that tells its engine, with its settings beside it.
///
/// `keys` are those of its own table. Returns its path and its settings.
///
/// # Errors
/// When it is not built, or the node's folder cannot be written.
pub fn install_wrapper(node: &Node, name: &str, keys: &str) -> Result<(PathBuf, Settings)> {
    let folder = node.folder().join("bin");
    fs::create_dir_all(&folder)?;
    let built = own_binaries().join(WRAPPER);
    ensure!(
        built.is_file(),
        "{} is not there: build the workspace first, or set PORTCULLIS_BIN_DIR",
        built.display()
    );
    let path = folder.join(name);
    fs::copy(&built, &path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let settings = Settings {
        file: folder.join(format!("{name}.toml")),
        tables: format!("[wrapper.{name}]\n{keys}"),
    };
    settings.reset()?;
    Ok((path, settings))
}
