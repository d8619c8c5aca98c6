//! The checks of class `baseline`: what an image's accounts, permissions and build should not be
//! like.
//!
//! Pure functions over what a scanner gathered of an image. A scanner asks [`wants_text`],
//! [`wants_mode`] and [`wants_presence`] while it walks the layers, gives the answers as an
//! [`Image`], and [`check`] returns what is wrong. All that is checked stands in [`ITEMS`], with
//! why it matters and how to mend it.
//!
//! Which checks there are follows the 18 items of Huawei HSS ("Viewing Private Image Security
//! Baseline", check items), section 4 of the CIS Docker benchmark and the checkpoints of Dockle;
//! what a check looks at and what it lets pass is ours. The distributions' own images give no
//! issue of high or critical severity.

#![forbid(unsafe_code)]

mod accounts;
mod checks;
mod image;
mod issues;
mod items;
pub mod passwords;
mod wants;

pub use checks::{Options, Report, check};
pub use image::{Config, Image, Mode};
pub use issues::Issue;
pub use items::{Group, ITEMS, Item, item};
pub use wants::{wants_mode, wants_presence, wants_text};
