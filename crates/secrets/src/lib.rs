//! Keys, tokens and passwords that were left in an image: in its files and in its environment.
//!
//! Precision comes before count. A private key must have a body that decodes to a key's structure; a
//! token must have its issuer's alphabet, length and, where there is one, checksum, and look drawn at
//! random; placeholders of manuals are passed over, and so is what distributions and languages ship as
//! documentation and test data.
//!
//! What it does not see: secrets in binary files, in archives within the image, in UTF-16, and
//! passwords in source code that nothing but their name gives away.

#![forbid(unsafe_code)]

mod context;
mod files;
mod finder;
mod jwt;
mod keys;
mod keywords;
mod paths;
mod pgp;
mod rules;
#[cfg(test)]
mod tests;
mod text;
mod tokens;

pub use finder::{Finder, MAX_PER_RULE, Secret};
pub use paths::MAX_FILE;
pub use rules::{RULES, Rule};
