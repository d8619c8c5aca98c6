//! VEX documents: OpenVEX, CSAF and CycloneDX, told apart by their content.
//!
//! A statement that is lost in silence is the worst that can happen here, so there are two ways
//! out: a file that is damaged, or that is none of these, is an error; a statement or product that
//! can be read but not used is passed over with a warning that names it.

mod csaf;
mod cyclonedx;
mod error;
mod file;
mod json;
mod openvex;
mod product;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_types::{Text, Timestamp, VexStatement};

pub use self::error::VexError;
use self::json::Probe;
use crate::text::shortened;

/// Most products of one statement, and most packages of one product.
const MAX_PRODUCTS: usize = 10_000;

/// Most ids of one vulnerability.
const MAX_IDS: usize = 128;

/// Most files of a folder.
const MAX_FILES: usize = 10_000;

/// Most warnings that are kept of one document.
const MAX_WARNINGS: usize = 1_000;

/// Longest name, reason or text of a warning that is kept, in bytes.
const MAX_NOTE: usize = 256;

/// What VEX documents may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VexLimits {
    /// Bytes of one file.
    pub bytes: u64,
    /// Statements, of a folder in all.
    pub statements: usize,
    /// Products and packages of these, of a folder in all.
    pub products: usize,
}

impl Default for VexLimits {
    /// 32 MiB, 100,000 statements, 500,000 products.
    fn default() -> Self {
        Self { bytes: 32 << 20, statements: 100_000, products: 500_000 }
    }
}

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VexFormat {
    /// OpenVEX up to 0.2 (openvex/spec).
    OpenVex,
    /// CSAF 2.0 and 2.1, profile VEX (OASIS CSAF, section 4.5).
    Csaf,
    /// CycloneDX with analysed vulnerabilities (CycloneDX 1.4 and later).
    CycloneDx,
}

impl fmt::Display for VexFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenVex => "OpenVEX",
            Self::Csaf => "CSAF",
            Self::CycloneDx => "CycloneDX",
        })
    }
}

/// What a VEX document says.
#[derive(Debug, Clone, PartialEq)]
pub struct VexDocument {
    /// Where it was read from.
    pub file: PathBuf,
    /// How it is written.
    pub format: VexFormat,
    /// Its statements, in its order, with products that nothing can be held against; see
    /// [`VexStatement::checkable`].
    pub statements: Vec<VexStatement>,
    /// What was passed over or cannot be used, each a sentence that names the statement. At most
    /// 1,000, and then one that says how many more.
    pub warnings: Vec<String>,
}

/// Reads several documents whose statements and products are bounded together.
pub struct VexReader(Room);

impl VexReader {
    /// A reader that has read nothing yet.
    pub fn new(limits: &VexLimits) -> Self {
        let (statements, products) = (limits.statements, limits.products);
        Self(Room { limits: *limits, statements, products })
    }

    /// Reads a document from the bytes of its file, for a caller who has his own way to read it.
    ///
    /// # Errors
    /// See [`VexError`].
    pub fn read(&mut self, bytes: &[u8], file: &Path) -> Result<VexDocument, VexError> {
        let bytes = file::json(bytes, file)?;
        let probe: Probe<'_> = json::parse(bytes, file)?;
        let format = probe
            .format()
            .map_err(|what| VexError::UnknownFormat { file: file.to_owned(), what })?;
        let mut draft = Draft::new(file, &mut self.0);
        match format {
            VexFormat::OpenVex => openvex::read(json::parse(bytes, file)?, &mut draft)?,
            VexFormat::Csaf => csaf::read(json::parse(bytes, file)?, &mut draft)?,
            VexFormat::CycloneDx => cyclonedx::read(json::parse(bytes, file)?, &mut draft)?,
        }
        Ok(draft.finish(format))
    }

    fn read_file(&mut self, file: &Path) -> Result<VexDocument, VexError> {
        let bytes = file::read(file, self.0.limits.bytes)?;
        self.read(&bytes, file)
    }
}

/// Reads a VEX document.
///
/// # Errors
/// See [`VexError`].
pub fn read_vex(path: &Path, limits: &VexLimits) -> Result<VexDocument, VexError> {
    VexReader::new(limits).read_file(path)
}

/// Reads the [VEX documents](vex_files) of a folder.
///
/// # Errors
/// See [`VexError`]: one file that cannot be read spoils the whole, since its statements would
/// otherwise be missed by nobody.
pub fn read_vex_folder(folder: &Path, limits: &VexLimits) -> Result<Vec<VexDocument>, VexError> {
    let mut reader = VexReader::new(limits);
    vex_files(folder)?.iter().map(|file| reader.read_file(file)).collect()
}

/// The VEX documents of a folder: its `*.json` files, in the order of their names. Hidden files
/// and folders below it are left alone. A folder that is missing is empty.
///
/// # Errors
/// The folder cannot be read, or holds more than 10,000 of them.
pub fn vex_files(folder: &Path) -> Result<Vec<PathBuf>, VexError> {
    let unreadable = |source| VexError::Unreadable { file: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            let (file, limit) = (folder.to_owned(), MAX_FILES);
            return Err(VexError::TooMany { file, what: "files", limit });
        }
    }
    files.sort();
    Ok(files)
}

/// How much may still be read.
struct Room {
    limits: VexLimits,
    statements: usize,
    products: usize,
}

/// A document on its way.
struct Draft<'a> {
    file: &'a Path,
    /// The file's name, for people.
    name: String,
    room: &'a mut Room,
    statements: Vec<VexStatement>,
    warnings: Vec<String>,
    /// Warnings that were not kept.
    unkept: usize,
}

impl<'a> Draft<'a> {
    fn new(file: &'a Path, room: &'a mut Room) -> Self {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let (statements, warnings) = (Vec::new(), Vec::new());
        Self { file, name: shortened(&name, MAX_NOTE), room, statements, warnings, unkept: 0 }
    }

    /// Where a statement stands, for people.
    fn source(&self, place: &str) -> Text {
        format!("{} {place}", self.name).into()
    }

    /// Notes what was passed over at a place.
    fn warn(&mut self, place: &str, what: impl fmt::Display) {
        match self.warnings.len() < MAX_WARNINGS {
            true => self.warnings.push(format!("{} {place}: {what}", self.name)),
            false => self.unkept += 1,
        }
    }

    fn too_many(&self, what: &'static str, limit: usize) -> VexError {
        VexError::TooMany { file: self.file.to_owned(), what, limit }
    }

    /// Draws on the room for products, packages, and what names them, before they are looked at:
    /// what a small file repeats by reference must not become much work.
    fn spend(&mut self, count: usize) -> Result<(), VexError> {
        match self.room.products.checked_sub(count) {
            Some(left) => self.room.products = left,
            None => return Err(self.too_many("products", self.room.limits.products)),
        }
        Ok(())
    }

    /// Refuses a list of products, packages or ids that is too long.
    fn check_length(&self, what: &'static str, length: usize) -> Result<(), VexError> {
        match length > MAX_PRODUCTS {
            true => Err(self.too_many(what, MAX_PRODUCTS)),
            false => Ok(()),
        }
    }

    /// Keeps a statement, unless it has no product.
    fn push(&mut self, place: &str, statement: VexStatement) -> Result<(), VexError> {
        if statement.products.is_empty() {
            self.warn(place, "it names no product that is read: passed over");
            return Ok(());
        }
        match self.room.statements.checked_sub(1) {
            Some(left) => self.room.statements = left,
            None => return Err(self.too_many("statements", self.room.limits.statements)),
        }
        self.statements.push(statement);
        Ok(())
    }

    /// The ids of a vulnerability as we keep them, each once.
    fn ids<'w>(&self, ids: impl Iterator<Item = &'w str>) -> Result<Vec<Text>, VexError> {
        let mut kept: Vec<Text> = Vec::new();
        for id in ids {
            let id = shortened(id, MAX_NOTE);
            if !id.is_empty() && !kept.iter().any(|known| known.eq_ignore_ascii_case(&id)) {
                kept.push(id.into());
            }
            if kept.len() > MAX_IDS {
                return Err(self.too_many("ids of one vulnerability", MAX_IDS));
            }
        }
        Ok(kept)
    }

    /// A time; one that cannot be read is none, so that the statement overrules nothing.
    fn time(&mut self, place: &str, text: Option<&str>) -> Option<Timestamp> {
        let text = text.filter(|text| !text.is_empty())?;
        let time = text.parse().ok();
        if time.is_none() {
            let text = shortened(text, 40);
            self.warn(place, format_args!("its time \"{text}\" cannot be read: taken as none"));
        }
        time
    }

    fn finish(mut self, format: VexFormat) -> VexDocument {
        if self.unkept > 0 {
            self.warnings.push(format!("{}: and {} more of these", self.name, self.unkept));
        }
        VexDocument {
            file: self.file.to_owned(),
            format,
            statements: self.statements,
            warnings: self.warnings,
        }
    }
}
