//! The settings of sshd (sshd_config(5)): of a keyword, the first value counts.

use std::collections::HashMap;

use super::Texts;
use crate::issues::Issues;

const MAIN: &str = "etc/ssh/sshd_config";
const FOLDER: &str = "etc/ssh/sshd_config.d/";

/// The keywords, with the value that lets too many in.
const BAD: &[(&str, &str, &str)] = &[
    ("permitrootlogin", "yes", "sshd-root-login"),
    ("permitemptypasswords", "yes", "sshd-empty-passwords"),
    ("ignorerhosts", "no", "trust-hosts"),
    ("hostbasedauthentication", "yes", "trust-hosts"),
];

pub(super) fn check(texts: &Texts<'_>, issues: &mut Issues) {
    let Some(main) = texts.get(MAIN) else { return };
    let mut seen = HashMap::new();
    let mut is_matched = false;
    let mut is_included = false;
    for line in main.lines() {
        let Some((keyword, value)) = setting(line) else { continue };
        match keyword.as_str() {
            // A second one reads the same files again, whose values no longer count.
            "include" if !is_included && !is_matched && value.contains("sshd_config.d") => {
                is_included = true;
                for (path, text) in texts.all() {
                    let name = path.strip_prefix(FOLDER);
                    if name.is_some_and(|name| name.ends_with(".conf") && !name.starts_with('.')) {
                        included(path, text, &mut seen, issues);
                    }
                }
            }
            "match" => is_matched = true,
            _ => judge(MAIN, &keyword, value, is_matched, &mut seen, issues),
        }
    }
}

/// A file of the folder: a `Match` in it ends with it.
fn included(path: &str, text: &str, seen: &mut HashMap<String, ()>, issues: &mut Issues) {
    let mut is_matched = false;
    for (keyword, value) in text.lines().filter_map(setting) {
        match keyword.as_str() {
            "match" => is_matched = true,
            _ => judge(path, &keyword, value, is_matched, seen, issues),
        }
    }
}

fn judge(
    path: &str,
    keyword: &str,
    value: &str,
    is_matched: bool,
    seen: &mut HashMap<String, ()>,
    issues: &mut Issues,
) {
    let Some((keyword, bad, id)) = BAD.iter().find(|(known, ..)| *known == keyword) else {
        return;
    };
    // What a `Match` says counts for those whom it matches, whatever stands elsewhere.
    let counts = is_matched || seen.insert((*keyword).to_owned(), ()).is_none();
    if counts && value.eq_ignore_ascii_case(bad) {
        let place = if is_matched { " in a Match block" } else { "" };
        issues.add(id, Some(path), &format!("{keyword} {bad}{place}"));
    }
}

/// `Keyword value` or `Keyword=value`, with or without quotation marks.
fn setting(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (keyword, rest) = line.split_once(|c: char| c.is_whitespace() || c == '=')?;
    let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
    let value = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None if keyword.eq_ignore_ascii_case("include") => rest,
        None => rest.split_whitespace().next().unwrap_or_default(),
    };
    Some((keyword.to_ascii_lowercase(), value))
}
