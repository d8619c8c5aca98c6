//! Names of packages and ecosystems, as advisories and package managers write them.

use std::borrow::Cow;

/// The one form of a package's name, where an ecosystem takes several for the same.
///
/// PyPI takes case, and runs of `-`, `_` and `.`, for the same (PEP 503); NuGet and Packagist take
/// case for the same. Everywhere else a name is as it is written.
pub fn normal_name<'a>(ecosystem: &str, name: &'a str) -> Cow<'a, str> {
    match base(ecosystem) {
        "PyPI" => {
            let mut normal = String::with_capacity(name.len());
            for c in name.chars() {
                match c {
                    '-' | '_' | '.' if normal.ends_with('-') => {}
                    '-' | '_' | '.' => normal.push('-'),
                    c => normal.push(c.to_ascii_lowercase()),
                }
            }
            match normal == name {
                true => Cow::Borrowed(name),
                false => Cow::Owned(normal),
            }
        }
        "NuGet" | "Packagist" if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Cow::Owned(name.to_ascii_lowercase())
        }
        _ => Cow::Borrowed(name),
    }
}

/// Whether what is said of an ecosystem concerns another one: the same, or its release (`Debian` and
/// `Debian:12`) if one of the two names none.
pub fn is_in_ecosystem(said: &str, asked: &str) -> bool {
    let has_release = |text: &str| text.contains(':');
    base(said) == base(asked) && (said == asked || !has_release(said) || !has_release(asked))
}

/// The ecosystem without its release.
pub(crate) fn base(ecosystem: &str) -> &str {
    ecosystem.split_once(':').map_or(ecosystem, |(base, _)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (ecosystem, name, normal) in [
            ("PyPI", "Flask", "flask"),
            ("PyPI", "zope.interface", "zope-interface"),
            ("PyPI", "a-_.b__c", "a-b-c"),
            ("PyPI", "plain", "plain"),
            ("NuGet", "Newtonsoft.Json", "newtonsoft.json"),
            ("npm", "@Scope/Name_x", "@Scope/Name_x"),
            ("Debian:12", "libA", "libA"),
            ("Go", "github.com/Azure/x", "github.com/Azure/x"),
        ] {
            assert_eq!(normal_name(ecosystem, name), normal, "{ecosystem} {name}");
        }
    }

    #[test]
    fn a_release_is_of_its_ecosystem() {
        for (said, asked, wanted) in [
            ("AlmaLinux:8", "AlmaLinux:8", true),
            ("AlmaLinux:8", "AlmaLinux:9", false),
            ("AlmaLinux:8", "AlmaLinux", true),
            ("AlmaLinux", "AlmaLinux:8", true),
            ("Go", "Go", true),
            ("Go", "Go:x", true),
            ("Debian:12", "Ubuntu:12", false),
            ("Alma", "AlmaLinux", false),
        ] {
            assert_eq!(is_in_ecosystem(said, asked), wanted, "{said} {asked}");
        }
    }
}
