//! Which version a binary's own module has.
//!
//! `go install path@version` writes it down. Otherwise it is `(devel)`, or since Go 1.24 what the
//! repository says: a tag, or a pseudo-version behind the last tag that was there. A shallow clone has
//! no tags, and its `v0.0.0-…` would be older than every fix (trivy#10036), so that it is not believed.
//! Many projects give their version to the linker, `-X main.version=1.2.3`; that is believed if it is
//! set in the module's own packages and if there is one only.

use super::modules::Module;

/// What a variable with the program's version is called.
const VARIABLES: [&str; 5] = ["version", "ver", "appversion", "buildversion", "gitversion"];

/// The version of a binary's own module, if it can be told. `flags` are those of the linker.
pub(super) fn main_version(main: Module, flags: Option<&str>) -> Option<String> {
    // `+dirty` says that something was changed, but not what.
    let version = main.version.strip_suffix("+dirty").unwrap_or(main.version);
    let is_release = version.starts_with('v') && !is_pseudo(version);
    if is_release {
        return Some(version.to_owned());
    }
    let is_tagged = version.starts_with('v') && !version.starts_with("v0.0.0-");
    flags
        .and_then(|flags| of_flags(main.path, &unquoted(flags)))
        .or_else(|| is_tagged.then(|| version.to_owned()))
}

/// Whether a version is made from a commit: it ends in `20060102150405-0123456789ab`.
fn is_pseudo(version: &str) -> bool {
    let version = version.split('+').next().unwrap_or_default();
    let Some((rest, commit)) = version.rsplit_once('-') else { return false };
    let time = rest.rsplit(['-', '.']).next().unwrap_or_default();
    commit.len() == 12
        && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
        && time.len() == 14
        && time.bytes().all(|byte| byte.is_ascii_digit())
}

/// The one version that the linker's flags give to a variable of the module.
fn of_flags(path: &str, flags: &str) -> Option<String> {
    let words = words(flags);
    let mut versions = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let Some(rest) = word.trim_start_matches('-').strip_prefix('X') else { continue };
        let setting = match rest.strip_prefix('=') {
            Some(setting) => setting,
            None if rest.is_empty() && word.starts_with('-') => words.next()?,
            None => continue,
        };
        let Some((variable, value)) = setting.split_once('=') else { continue };
        let Some((package, variable)) = variable.rsplit_once('.') else { continue };
        let below = package.strip_prefix(path);
        let is_own = package == "main" || below.is_some_and(|b| b.is_empty() || b.starts_with('/'));
        if is_own && VARIABLES.contains(&variable.to_ascii_lowercase().as_str()) {
            versions.extend(semantic(value));
        }
    }
    versions.sort();
    versions.dedup();
    match versions.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// A version of three numbers, with `v`, without what was added to it.
fn semantic(text: &str) -> Option<String> {
    let version = text.strip_prefix('v').unwrap_or(text);
    let version = version.split('+').next()?;
    let numbers = version.split('-').next()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = numbers.split('.').count() == 3 && numbers.split('.').all(is_number);
    is_version.then(|| format!("v{version}"))
}

/// Words between spaces, where quotes keep spaces together.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(mark), c) if mark == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (_, c) => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A value as Go quotes it when it has spaces.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut is_escaped = false;
    for c in inner.chars() {
        match c {
            '\\' if !is_escaped => is_escaped = true,
            // Line ends and tabs only part words here.
            'n' | 't' if is_escaped => {
                plain.push(' ');
                is_escaped = false;
            }
            c => {
                plain.push(c);
                is_escaped = false;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_only_when_it_is_sure() {
        let path = "github.com/a/b";
        for (version, flags, wanted) in [
            ("v1.2.3", "", Some("v1.2.3")),
            ("v1.2.3", "-X main.version=9.9.9", Some("v1.2.3")),
            ("v1.2.3+dirty", "", Some("v1.2.3")),
            ("v2.0.0+incompatible", "", Some("v2.0.0+incompatible")),
            ("(devel)", "", None),
            ("(devel)", "-X main.version=1.2.3 -s -w", Some("v1.2.3")),
            ("(devel)", r#""-s -w -X main.version=1.2.3""#, Some("v1.2.3")),
            ("(devel)", r#""-X 'main.Version=v1.2.3' -X \"main.commit=a b\"""#, Some("v1.2.3")),
            ("(devel)", r#""-X=main.version=v1.2.3-rc.1+x""#, Some("v1.2.3-rc.1")),
            ("(devel)", "-X github.com/a/b/internal/v.Version=1.2.3", Some("v1.2.3")),
            ("(devel)", "-X github.com/a/bc/v.Version=1.2.3", None),
            ("(devel)", "-X k8s.io/component-base/version.gitVersion=v1.2.3", None),
            ("(devel)", "-X main.version=1.2.3 -X github.com/a/b.ver=1.2.3", Some("v1.2.3")),
            ("(devel)", "-X main.version=1.2.3 -X github.com/a/b.ver=1.2.4", None),
            ("(devel)", "-X main.version=dev", None),
            ("(devel)", "-X main.version=1.2", None),
            ("(devel)", "-X main.goversion=1.2.3", None),
            ("(devel)", "-X", None),
            ("", "", None),
            ("v0.0.0-20240102030405-0123456789ab+dirty", "", None),
            ("v0.0.0-20240102030405-0123456789ab", "-X main.version=1.2.3", Some("v1.2.3")),
            (
                "v1.2.4-0.20240102030405-0123456789ab",
                "",
                Some("v1.2.4-0.20240102030405-0123456789ab"),
            ),
            ("v1.2.4-0.20240102030405-0123456789ab", "-X main.version=1.2.4", Some("v1.2.4")),
        ] {
            let flags = (!flags.is_empty()).then_some(flags);
            let read = main_version(Module { path, version }, flags);
            assert_eq!(read.as_deref(), wanted, "{version} {flags:?}");
        }
    }
}
