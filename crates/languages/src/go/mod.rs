//! Go: the build information of binaries, and `go.mod`.

mod build_info;
mod main_version;
mod module_file;
mod modules;

pub(crate) use build_info::binary;
pub(crate) use module_file::module_file;

/// The version of the standard library in the form of Semantic Versioning, as the advisories of Go
/// write it (golang/vuln `internal/semver`): `go1.22rc1` is `v1.22.0-rc.1`.
///
/// What follows is what was changed in it (`go1.22.1 X:boringcrypto`, since 1.26 `go1.26.0-X:…`, `(Red
/// Hat 1.26.5-1)`) and says nothing of the version. A tool that is no release (`devel go1.23-…`) has
/// none.
fn stdlib_version(text: &str) -> Option<String> {
    let text = text.strip_prefix("go")?;
    let end = text.find([' ', '-', '+']).unwrap_or(text.len());
    let release = text.get(..end)?;
    let (numbers, pre) = ["rc", "beta"]
        .iter()
        .find_map(|word| {
            release.split_once(word).map(|(numbers, number)| (numbers, Some((word, number))))
        })
        .unwrap_or((release, None));
    let mut parts = numbers.split('.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    let is_number = |part: &str| {
        (1..=6).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if parts.next().is_some() || ![major, minor, patch].into_iter().all(is_number) {
        return None;
    }
    match pre {
        Some((word, number)) if is_number(number) => {
            Some(format!("v{major}.{minor}.{patch}-{word}.{number}"))
        }
        Some(_) => None,
        None => Some(format!("v{major}.{minor}.{patch}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_in_the_form_of_advisories() {
        for (text, wanted) in [
            ("go1.22.1", Some("v1.22.1")),
            ("go1.19", Some("v1.19.0")),
            ("go1.22rc1", Some("v1.22.0-rc.1")),
            ("go1.9beta2", Some("v1.9.0-beta.2")),
            ("go1.21.5 X:boringcrypto,loopvar", Some("v1.21.5")),
            ("go1.26.0-X:nodwarf5", Some("v1.26.0")),
            ("go1.20.12 (Red Hat 1.20.12-1.el9)", Some("v1.20.12")),
            ("go1.22.1-fips+x", Some("v1.22.1")),
            ("devel go1.23-abcdef Mon", None),
            ("devel +abcdef", None),
            ("go", None),
            ("go1", None),
            ("go1.2.3.4", None),
            ("go1.x", None),
            ("go1.22rc", None),
            ("", None),
        ] {
            assert_eq!(stdlib_version(text).as_deref(), wanted, "{text}");
        }
    }
}
