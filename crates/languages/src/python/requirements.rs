//! `requirements.txt` (<https://pip.pypa.io/en/stable/reference/requirements-file-format/>).
//!
//! Only what is pinned to one version is a package; a range says nothing about what was installed.

use crate::input::{Input, text};
use crate::{Found, Kind, LanguageError};

/// Reads a file of requirements.
pub(crate) fn requirements(input: &mut Input, found: &mut Found) -> Result<(), LanguageError> {
    let bytes = input.bytes(u64::MAX)?;
    for line in text(&bytes).lines() {
        if let Some((name, version)) = pinned(line) {
            found.add_if_valid(Kind::PyPi, name, version, false)?;
        }
    }
    Ok(())
}

/// The name and version of `name[extra] == 1.2.3 ; marker --hash=… # comment`.
fn pinned(line: &str) -> Option<(&str, &str)> {
    // Options (`-r`, `--index-url`) begin with a dash, which no name does.
    let requirement = line.split(['#', ';', '\\']).next()?;
    let requirement = requirement.split(" --").next()?;
    let (name, version) = requirement.split_once("==")?;
    let name = name.split('[').next()?;
    // `===` is equal by letter. `==1.0,<2` has more to it than one version.
    let version = version.strip_prefix('=').unwrap_or(version);
    Some((name.trim(), version.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Package;

    #[test]
    fn only_one_version_is_a_pin() {
        for (line, wanted) in [
            ("a==1.2.3", Some(("a", "1.2.3"))),
            ("  A.b[x,y] == 1!2.0.post1 ; python_version < '3' # c", Some(("A.b", "1!2.0.post1"))),
            ("a==1.0 --hash=sha256:00", Some(("a", "1.0"))),
            ("a==1.0 \\", Some(("a", "1.0"))),
            ("a===1.0", Some(("a", "1.0"))),
            ("a==1.*", None),
            ("a==1.0,<2", None),
            ("a>=1,==1.5", None),
            ("a>=1.0", None),
            ("a", None),
            ("# a==1.0", None),
            ("-r other==1.txt", None),
            ("--find-links=x==1", None),
            ("a @ https://host/a==1", None),
            ("==1", None),
            ("a==", None),
            ("a==${VERSION}1", None),
        ] {
            let package =
                pinned(line).and_then(|(name, version)| Package::new(Kind::PyPi, name, version));
            let read = package.as_ref().map(|p| (p.name.as_str(), p.version.as_str()));
            assert_eq!(read, wanted, "{line}");
        }
    }
}
