//! Patterns of images, namespaces and nodes.

#[cfg(feature = "lint")]
mod inclusion;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use portcullis_types::{Digest, Identity, ImageRef};
use serde::{Deserialize, Serialize};

use crate::fault::shown;
use crate::glob::Glob;

#[cfg(feature = "lint")]
pub(crate) use inclusion::Reach;

/// Longest pattern that is read, in bytes: as long as the longest image reference.
const MAX_LENGTH: usize = 512;
const MAX_TAG_LENGTH: usize = 128;

/// Which images: matched on parsed references, component by component.
///
/// - Without a wildcard the pattern is a reference and is normalised as one: `nginx` is
///   `docker.io/library/nginx:latest`, and matches that tag only.
/// - `*` stands for any run of characters within one component: the host with its port, a path
///   component, or the tag. It never crosses a `/`.
/// - `**` stands alone between slashes, for one or more components. At the beginning it spans the
///   host too, so `**` is every image and `**/debug` every repository named so.
/// - Host and `library/` are added as for references: `team/*` is `docker.io/team/*`. A single
///   `*` in the place of the host is refused, since it could mean either.
/// - With a wildcard in host or path and without a tag, any tag matches, and none. A tag in the
///   pattern, `web:1.*`, needs a tag in the reference.
/// - With `@sha256:…` it takes no wildcard, only the digest counts, and the name is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImagePattern {
    text: Box<str>,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Digest(Digest),
    Name { components: Box<[Component]>, tag: Option<Glob> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    One(Glob),
    OneOrMore,
}

/// Which namespaces or nodes: one word, in which `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WordPattern {
    text: Box<str>,
    glob: Glob,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {what}: {why}")]
pub struct PatternError {
    text: String,
    what: &'static str,
    why: Cow<'static, str>,
    remedy: &'static str,
}

impl PatternError {
    /// What to write instead.
    pub fn remedy(&self) -> &str {
        self.remedy
    }
}

impl ImagePattern {
    /// The digest, if the pattern names one; then it alone counts.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.form {
            Form::Digest(digest) => Some(digest),
            Form::Name { .. } => None,
        }
    }

    /// Whether the pattern's name and tag match this reference. A pattern with a digest matches no
    /// name, since names prove nothing.
    pub fn matches_name(&self, reference: &ImageRef) -> bool {
        let Form::Name { components, tag } = &self.form else {
            return false;
        };
        let tag_matches = match tag {
            None => true,
            Some(glob) => reference.tag().is_some_and(|tag| glob.matches(tag)),
        };
        let names: Vec<&str> = std::iter::once(reference.host()).chain(reference.path()).collect();
        tag_matches && components_match(components, &names, |glob, name| glob.matches(name))
    }

    /// Whether this identity is one of these images for sure: the digest is proven, or the
    /// engine's own record holds a name that matches.
    pub fn covers(&self, identity: &Identity) -> bool {
        match self.digest() {
            Some(digest) => identity.proves(digest),
            None => identity.held_names().any(|name| self.matches_name(name)),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Each run between two `**` is searched for once, from the left, with at least one component
/// before it; a reference has at most 256 components, so this is short.
fn components_match<N>(
    pattern: &[Component],
    names: &[N],
    one: impl Fn(&Glob, &N) -> bool,
) -> bool {
    let runs: Vec<&[Component]> = pattern.split(|c| *c == Component::OneOrMore).collect();
    let run_matches = |run: &[Component], names: &[N]| {
        run.len() == names.len()
            && run.iter().zip(names).all(|(component, name)| match component {
                Component::One(glob) => one(glob, name),
                Component::OneOrMore => false,
            })
    };
    let [first, middle @ .., last] = runs.as_slice() else {
        return run_matches(pattern, names);
    };
    if names.len() < first.len() + last.len() {
        return false;
    }
    let (head, rest) = names.split_at(first.len());
    let (mut rest, tail) = rest.split_at(rest.len() - last.len());
    if !run_matches(first, head) || !run_matches(last, tail) {
        return false;
    }
    for run in middle {
        let found = (1..rest.len())
            .find(|at| rest.get(*at..at + run.len()).is_some_and(|names| run_matches(run, names)));
        match found {
            Some(at) => rest = &rest[at + run.len()..],
            None => return false,
        }
    }
    !rest.is_empty()
}

impl WordPattern {
    /// Whether the word matches. Only a pattern of stars matches the empty word.
    pub fn matches(&self, word: &str) -> bool {
        self.glob.matches(word)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for ImagePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let form = form(text).map_err(|(why, remedy)| PatternError {
            text: shown(text),
            what: "an image pattern",
            why,
            remedy,
        })?;
        Ok(Self { text: text.into(), form })
    }
}

/// Why not, and what to write instead.
type Refused = (Cow<'static, str>, &'static str);

const EXAMPLES: &str = "write for example registry.example.com/**, nginx:1.* or name@sha256:...";

fn form(text: &str) -> Result<Form, Refused> {
    let refuse = |why: &'static str, remedy| Err((Cow::Borrowed(why), remedy));
    if text.is_empty() {
        return refuse("it is empty", EXAMPLES);
    }
    if text.len() > MAX_LENGTH {
        return refuse("it is longer than 512 bytes", EXAMPLES);
    }
    if text.parse::<Digest>().is_ok() {
        return refuse("a digest needs a name before it", "write name@sha256:...");
    }
    if text.contains('@') && text.contains('*') {
        return refuse(
            "a digest names one image, so a wildcard beside it says nothing",
            "write the name in full, or leave the digest out",
        );
    }
    let (name, tag) = split_tag(text.split('@').next().unwrap_or(text));
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return refuse("hosts and paths have no upper case", "write it in lower case");
    }
    if text.contains('*') {
        return wildcard_form(name, tag);
    }
    let reference: ImageRef = text.parse().map_err(|e: portcullis_types::ReferenceError| {
        use std::error::Error;
        let why = e.source().map_or_else(|| e.to_string(), ToString::to_string);
        (Cow::Owned(why), EXAMPLES)
    })?;
    if let Some(digest) = reference.digest() {
        return Ok(Form::Digest(digest.clone()));
    }
    let components = std::iter::once(reference.host())
        .chain(reference.path())
        .map(|c| Component::One(Glob::new(c)))
        .collect();
    Ok(Form::Name { components, tag: reference.tag().map(Glob::new) })
}

/// As references are cut: the tag follows the last colon behind the last slash.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(colon) if !text[colon..].contains('/') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    }
}

fn wildcard_form(name: &str, tag: Option<&str>) -> Result<Form, Refused> {
    let refuse = |why: &'static str, remedy| Err((Cow::Borrowed(why), remedy));
    let tag_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*');
    if tag.is_some_and(|t| t.is_empty() || t.len() > MAX_TAG_LENGTH || !t.bytes().all(tag_byte)) {
        return refuse(
            "the tag takes letters, digits, '_', '.', '-' and '*', at most 128",
            EXAMPLES,
        );
    }
    let mut components: Vec<&str> = name.split('/').collect();
    let first = components.first().copied().unwrap_or_default();
    if first == "*" {
        return refuse(
            "its first component could be the host or a path",
            "write **, docker.io/** or registry.example.com/**",
        );
    }
    let is_host = first == "**"
        || components.len() > 1 && (first.contains(['.', ':']) || first == "localhost");
    if !is_host {
        components.insert(0, "docker.io");
    }
    if let Some(host) = components.first_mut()
        && *host == "index.docker.io"
    {
        *host = "docker.io";
    }
    if let ["docker.io", only] = components.as_slice()
        && *only != "**"
    {
        components.insert(1, "library");
    }
    let mut parsed = Vec::with_capacity(components.len());
    for (index, component) in components.iter().enumerate() {
        let byte = |b: u8| match b {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'*' => true,
            b'_' => index > 0,
            b':' | b'[' | b']' => index == 0,
            _ => false,
        };
        parsed.push(match *component {
            "" => return refuse("a component between slashes is empty", EXAMPLES),
            "**" => Component::OneOrMore,
            c if c.contains("**") => {
                return refuse("** stands alone between slashes", "write * within a component");
            }
            c if !c.bytes().all(byte) => {
                return refuse(
                    "components take lower-case letters, digits, '.', '_', '-' and '*'",
                    EXAMPLES,
                );
            }
            c => Component::One(Glob::new(c)),
        });
    }
    Ok(Form::Name { components: parsed.into(), tag: tag.map(Glob::new) })
}

impl FromStr for WordPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |why: &'static str| {
            Err(PatternError {
                text: shown(text),
                what: "a pattern of a name",
                why: why.into(),
                remedy: "write a name, in which * stands for any characters, for example prod-*",
            })
        };
        let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*');
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_LENGTH {
            return refuse("it is longer than 512 bytes");
        }
        if text.contains("**") {
            return refuse("** is for image paths");
        }
        if !text.bytes().all(byte) {
            return refuse("it takes letters, digits, '.', '_', '-' and '*'");
        }
        Ok(Self { text: text.into(), glob: Glob::new(text) })
    }
}

/// Text in, text out, for both kinds alike.
macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = PatternError;

            fn try_from(text: String) -> Result<Self, PatternError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(pattern: $name) -> Self {
                pattern.text.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text)
            }
        }
    )+};
}

as_text!(ImagePattern, WordPattern);

#[cfg(test)]
mod tests;
