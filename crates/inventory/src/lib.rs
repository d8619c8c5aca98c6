//! What is in an image, layer by layer, and what follows from it.
//!
//! A scanner reads each layer once and leaves a [`Layer`]: every path, the packages, the few small
//! files and the suspicious places. What an [`Image`] has is what its layers say together, upper
//! ones hiding lower ones. Findings are worked out from that, so that new advisories need no layer
//! again.

#![forbid(unsafe_code)]

mod advisories;
mod assess;
mod databases;
mod distribution;
mod image;
mod layer;
mod merge;
mod package;
mod path;
pub mod protocol;
mod table;

pub use advisories::{Wishes, ecosystems_of};
pub use assess::{Assessment, Hashes, Knowledge, SCANNER, assess};
pub use databases::{Database, database_of};
pub use distribution::Distribution;
pub use image::{Image, ImageConfigError, MAX_LAYERS};
pub use layer::{Item, Layer, Signature};
pub use merge::{Merged, real_place};
pub use package::{Package, PackageKind};
pub use path::{escaped, normal, path_hash};
pub use table::{FileTable, Kind, TableBuilder, TableError};
