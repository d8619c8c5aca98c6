//! Ruby: the specifications that RubyGems keeps of installed gems, and `Gemfile.lock`.
//!
//! A specification is Ruby, but RubyGems writes it and reads its first line without running it:
//! `# stub: name version platform paths` (ruby/rubygems `lib/rubygems/stub_specification.rb`). Only
//! what RubyGems wrote is read: the `.gemspec` in a gem's own folder may compute its version.

use crate::input::{Input, text};
use crate::{Found, Kind, LanguageError, Package};

/// How much of a specification is read: some have long lists of files, at the end.
const MAX_SPECIFICATION: u64 = 256 << 10;
const STUB: &str = "# stub: ";

/// Reads the specification of an installed gem.
pub(crate) fn gemspec(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.beginning(MAX_SPECIFICATION)?;
    let text = text(&bytes);
    let mut specification = Specification::default();
    for line in text.lines().map(str::trim) {
        if let Some(stub) = line.strip_prefix(STUB) {
            // A second such line names extensions to build.
            if specification.name.is_none() {
                let mut words = stub.split(' ');
                (specification.name, specification.version) = (words.next(), words.next());
            }
        } else if let Some((member, value)) = line.split_once('=') {
            specification.take(member.trim(), value.trim());
        }
    }
    let (Some(name), Some(version)) = (specification.name, specification.version) else {
        return Err(LanguageError::Damaged("it has no name or no version"));
    };
    match Package::new(Kind::RubyGems, name, version) {
        Some(package) => found.add(package.with_license(specification.license)),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Specification<'a> {
    name: Option<&'a str>,
    version: Option<&'a str>,
    license: Option<&'a str>,
}

impl<'a> Specification<'a> {
    /// Takes `s.name = "a".freeze`, `s.version = "1.0"` or `s.licenses = ["MIT".freeze]`; what is
    /// there already counts.
    fn take(&mut self, member: &str, value: &'a str) {
        let place = match member.split_once('.') {
            Some((_, "name")) => &mut self.name,
            Some((_, "version")) => &mut self.version,
            Some((_, "license" | "licenses")) => &mut self.license,
            _ => return,
        };
        if place.is_none() {
            *place = only_text(value);
        }
    }
}

/// The one text in quotes that a value has, `None` if it has several or none.
fn only_text(value: &str) -> Option<&str> {
    let quote = value.find(['"', '\''])?;
    let mark = value.get(quote..)?.chars().next()?;
    let mut parts = value.get(quote + 1..)?.split(mark);
    let text = parts.next()?;
    let rest = parts.next()?;
    (parts.next().is_none() && !rest.contains("#{")).then_some(text)
}

/// Reads a lock file of Bundler: the gems of the sections `GEM`, behind four spaces.
///
/// What is in sections `PATH` and `GIT` comes from a folder or a repository.
pub(crate) fn gemfile_lock(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.bytes(u64::MAX)?;
    let mut is_in_gems = false;
    for line in text(&bytes).lines() {
        let content = line.trim_start_matches(' ');
        match line.len() - content.len() {
            0 => is_in_gems = content.trim_end() == "GEM",
            4 if is_in_gems => {
                if let Some((name, version)) = locked(content) {
                    found.add_if_valid(Kind::RubyGems, name, version, false)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Name and version of `name (1.2.3-x86_64-linux)`. No version of a gem has a dash: what stands
/// behind it is the platform.
fn locked(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(" (")?;
    let (version, _) = rest.split_once(')')?;
    Some((name, version.split('-').next()?))
}
