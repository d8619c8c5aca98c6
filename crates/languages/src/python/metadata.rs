//! `*.dist-info/METADATA` and `*.egg-info`
//! (<https://packaging.python.org/specifications/core-metadata/>).
//!
//! Headers as those of mails: a name, a colon, a value, and lines with a space before them that go on
//! with the value. They end at the first empty line; what follows is the description, in which
//! `Version:` means nothing.

use crate::input::{Input, text};
use crate::{Found, Kind, LanguageError, Package};

/// How much of the headers is read: old ones have the description among them, behind name and version.
const MAX_HEADERS: u64 = 1 << 20;

/// Reads the metadata of a distribution.
pub(crate) fn metadata(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.beginning(MAX_HEADERS)?;
    let text = text(&bytes);
    let mut headers = Headers::default();
    // A line with a space before it goes on with a value. None of those that are wanted has several.
    for line in text.lines().take_while(|line| !line.trim_end().is_empty()) {
        if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t']))
        {
            headers.take(name, value.trim());
        }
    }
    match (headers.name, headers.version) {
        (Some(name), Some(version)) => match Package::new(Kind::PyPi, name, version) {
            Some(package) => {
                found.add(package.with_license(headers.expression.or(headers.license)))
            }
            None => Ok(()),
        },
        // setuptools makes empty files for what is being developed.
        _ if text.trim().is_empty() => Ok(()),
        _ => Err(LanguageError::Damaged("it has no name or no version")),
    }
}

#[derive(Default)]
struct Headers<'a> {
    name: Option<&'a str>,
    version: Option<&'a str>,
    license: Option<&'a str>,
    expression: Option<&'a str>,
}

impl<'a> Headers<'a> {
    /// Takes a header; the first of a name counts.
    fn take(&mut self, name: &str, value: &'a str) {
        let place = match name.trim_end().to_ascii_lowercase().as_str() {
            "name" => &mut self.name,
            "version" => &mut self.version,
            "license" => &mut self.license,
            "license-expression" => &mut self.expression,
            _ => return,
        };
        place.get_or_insert(value);
    }
}
