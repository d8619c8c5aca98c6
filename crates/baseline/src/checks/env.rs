//! Credentials in the environment, by names and values together.
//!
//! A name alone says little: `ALLOW_EMPTY_PASSWORD=yes`, `TOKEN_FILE=/run/secrets/token` and
//! `GPG_KEY=…` hold none. Known from dockle#130, #154, #159, #180, #202, #239, #250.

use std::collections::BTreeSet;

use super::history::{Step, step};
use crate::Config;
use crate::issues::{Issues, shown};

pub(super) fn check(config: &Config, issues: &mut Issues) {
    let mut names = BTreeSet::new();
    for entry in &config.env {
        if let Some((name, value)) = entry.split_once('=')
            && is_credential(name, value)
            && names.insert(name.to_owned())
        {
            issues.add("env-credential", None, &shown(name));
        }
    }
    // What was given at build time, or set and unset again, stays in the history.
    for line in &config.history {
        let variables = match step(line) {
            Step::Run { arguments, .. } => arguments,
            Step::Other { word: "ARG" | "ENV", rest } => rest,
            Step::Other { .. } => continue,
        };
        for entry in variables.split_whitespace() {
            if let Some((name, value)) = entry.split_once('=')
                && is_credential(name, value)
                && names.insert(name.to_owned())
            {
                issues.add("build-argument-credential", None, &shown(name));
            }
        }
    }
}

/// Endings of words that mean a credential: `DB_PASSWORD`, `PGPASSWORD`, `authToken`.
const ENDINGS: &[&str] = &[
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PASSWORDS",
    "SECRET",
    "SECRETS",
    "TOKEN",
];

/// What comes before `KEY` if the key is one of those that must not be known.
const KEYS: &[&str] = &[
    "ACCESS",
    "ACCOUNT",
    "API",
    "APP",
    "AUTH",
    "ENCRYPTION",
    "JWT",
    "MASTER",
    "PRIVATE",
    "SECRET",
    "SHARED",
    "SIGNING",
    "STORAGE",
];

/// Words behind it that say that the value is something else.
const OTHER_THINGS: &[&str] = &[
    "AGE",
    "ALGORITHM",
    "ALLOWED",
    "ARN",
    "AUDIENCE",
    "BACKEND",
    "CLASS",
    "DIR",
    "DIRECTORY",
    "DISABLED",
    "DRIVER",
    "DURATION",
    "ENABLED",
    "ENDPOINT",
    "ENV",
    "EXPIRATION",
    "EXPIRES",
    "EXPIRY",
    "FIELD",
    "FILE",
    "FILES",
    "FOLDER",
    "FORMAT",
    "HASHER",
    "HEADER",
    "HELPER",
    "HOST",
    "ID",
    "INTERVAL",
    "ISSUER",
    "KEYRING",
    "LABEL",
    "LENGTH",
    "LIFETIME",
    "LIMIT",
    "LOCATION",
    "MANAGER",
    "MAX",
    "METHOD",
    "MIN",
    "MODE",
    "MOUNT",
    "NAME",
    "NAMES",
    "NAMESPACE",
    "PATH",
    "PATHS",
    "PATTERN",
    "POLICY",
    "PORT",
    "PREFIX",
    "PROVIDER",
    "REF",
    "REGEX",
    "REGION",
    "REQUIRED",
    "ROTATION",
    "SCOPE",
    "SERVICE",
    "SIZE",
    "SOURCE",
    "STORE",
    "SUFFIX",
    "TIMEOUT",
    "TTL",
    "TYPE",
    "URI",
    "URL",
    "USER",
    "USERNAME",
    "VALIDITY",
    "VERSION",
];

/// Values that stand for another one, in lower case.
const PLACEHOLDERS: &[&str] = &[
    "changeme",
    "change-me",
    "change_me",
    "change-it",
    "changethis",
    "default",
    "disabled",
    "dummy",
    "empty",
    "enabled",
    "example",
    "false",
    "fixme",
    "insert",
    "n/a",
    "na",
    "nil",
    "no",
    "none",
    "notset",
    "null",
    "off",
    "on",
    "optional",
    "placeholder",
    "redacted",
    "replaceme",
    "replace-me",
    "replace_me",
    "required",
    "set-me",
    "setme",
    "tbd",
    "todo",
    "true",
    "undefined",
    "unset",
    "yes",
];

/// Whether a variable holds something that must not be known.
pub(super) fn is_credential(name: &str, value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    has_password(value) || (is_name(name) && is_real(name, value))
}

fn is_name(name: &str) -> bool {
    // Longer names are no names.
    if name.len() > 256 {
        return false;
    }
    let words = words(name);
    let is_last = |index: usize| {
        let behind = words.get(index + 1..).unwrap_or_default();
        behind.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let is_word = |index: usize, word: &String| match word.as_str() {
        "PASS" => is_last(index),
        // Alone, it is the working folder.
        "PWD" => index > 0 && is_last(index),
        "KEY" => index
            .checked_sub(1)
            .and_then(|before| words.get(before))
            .is_some_and(|before| KEYS.contains(&before.as_str())),
        word => ENDINGS.iter().any(|ending| word.ends_with(ending)),
    };
    let Some(place) = words.iter().enumerate().position(|(index, word)| is_word(index, word))
    else {
        return false;
    };
    let behind = words.get(place + 1..).unwrap_or_default();
    !behind.iter().any(|word| OTHER_THINGS.contains(&word.as_str()))
        && !words.iter().any(|word| word == "PUBLIC")
}

/// `dbPassword_2` is `DB`, `PASSWORD`, `2`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars() {
        let is_break = !character.is_ascii_alphanumeric();
        if is_break || (was_lower && character.is_ascii_uppercase()) {
            words.push(String::new());
        }
        if !is_break && let Some(word) = words.last_mut() {
            word.push(character.to_ascii_uppercase());
        }
        was_lower = character.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a value can be a credential: not empty, no placeholder, no reference to another place.
fn is_real(name: &str, value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let upper = name.to_ascii_uppercase();
    let is_of_password = upper.contains("PASS") || upper.contains("PWD");
    if value.len() < 2 || (is_number && !is_of_password) {
        return false;
    }
    let is_placeholder = PLACEHOLDERS.contains(&lower.as_str())
        || lower.starts_with("your")
        || lower.starts_with("my-")
        || lower.starts_with("insert")
        || lower.starts_with("replace")
        || lower.starts_with("change")
        || lower.ends_with("here")
        || value.bytes().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.' | b'-' | b'_' | b'?'))
        || value.starts_with(['$', '<', '{', '[', '%'])
        || value.contains("${")
        || value.contains("{{");
    !is_placeholder && !is_place(value, &lower)
}

/// Whether the value says where the credential is.
fn is_place(value: &str, lower: &str) -> bool {
    let is_path = (value.starts_with('/') && !value.contains(['=', '+']))
        || value.starts_with("./")
        || value.starts_with("../")
        || value.starts_with("~/")
        || value.get(1..3) == Some(":\\");
    // `https://…`, `vault:…`, `arn:aws:…`, `op://…`: a word, a colon. Credentials with colons have
    // digits or upper case before them.
    let is_uri = lower.contains("://")
        || ["arn:", "vault:", "ssm:", "secret:", "secrets:", "file:", "env:", "ref+", "projects/"]
            .iter()
            .any(|scheme| lower.starts_with(scheme));
    is_path || is_uri || lower.contains("/run/secrets")
}

/// Whether the value is an address with a password: `postgres://user:password@host`.
fn has_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let is_scheme = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    let Some((_, password)) = user.split_once(':') else { return false };
    is_scheme && is_real("PASSWORD", password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_what_looks_like_them() {
        for (entry, wanted) in [
            ("MYSQL_ROOT_PASSWORD=s3cr3t", true),
            ("POSTGRES_PASSWORD=postgres", true),
            ("MYSQL_ROOT_PASSWORD=123456", true),
            ("PGPASSWORD=abc", true),
            ("DB_PASS=hunter2", true),
            ("DB_PWD=hunter2", true),
            ("PASS=hunter2", true),
            ("SECRET_KEY_BASE=4e1f", true),
            ("GITLAB_TOKEN=y5V1xiW5eTwq34jasRqFBD", true),
            ("GITHUB_TOKEN_PROD=ghp_abc", true),
            ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", true),
            ("AWS_SECRET_ACCESS_KEY=/K7MDENG+bPxRfiCYEXAMPLEKEY", true),
            ("STRIPE_API_KEY=sk_live_1", true),
            ("dbPassword=hunter2", true),
            ("APP_SECRET=4e1f", true),
            ("DATABASE_URL=postgres://app:hunter2@db/app", true),
            ("HTTP_PROXY=http://user:geheim@proxy:8080", true),
            // Empty and placeholders (dockle#180).
            ("POSTGRES_PASSWORD=", false),
            ("POSTGRES_PASSWORD=\"\"", false),
            ("POSTGRES_PASSWORD=changeme", false),
            ("API_TOKEN=<your token>", false),
            ("API_TOKEN=${TOKEN}", false),
            ("API_TOKEN=your-token-here", false),
            ("API_TOKEN=xxxxxxxx", false),
            ("API_TOKEN=********", false),
            ("DATABASE_URL=postgres://app:$PASSWORD@db/app", false),
            ("DATABASE_URL=postgres://db/app", false),
            ("DATABASE_URL=postgres://app@db/app", false),
            ("HOMEPAGE=https://example.org/@user:name", false),
            // Settings of credentials.
            ("ALLOW_EMPTY_PASSWORD=yes", false),
            ("DISABLE_PASSWORD=true", false),
            ("TOKEN_TTL=3600", false),
            ("MAX_TOKEN=4096", false),
            ("PASSWORD_MIN_LENGTH=12", false),
            ("PASSWORD_HASHER=argon2", false),
            ("SECRET_NAME=db-credentials", false),
            ("TOKEN_URL=https://idp/token", false),
            ("TOKENIZERS_PARALLELISM=abc", false),
            // Places.
            ("POSTGRES_PASSWORD_FILE=/run/secrets/pw", false),
            ("POSTGRES_PASSWORD=/run/secrets/pw", false),
            ("API_SECRET=vault:secret/data/app#key", false),
            ("API_SECRET=arn:aws:secretsmanager:eu-west-1:1:secret:x", false),
            ("SSH_ASKPASS=/usr/bin/askpass", false),
            // Names that contain such words (dockle#130, #202, #239, #250).
            ("GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D", false),
            ("WORDPRESS_CLI_GPG_KEY=63AF7AA15067C05616FDDD88A3A2E8F226F0BC06", false),
            ("KEYCLOAK_VERSION=24.0", false),
            ("libcrypto3=3.1.4-r1", false),
            ("access.log=/proc/self/fd/2", false),
            ("ACCESS_LOG=combined", false),
            ("PASSENGER_APP_ENV=production", false),
            ("COMPASS_HOME=abc", false),
            ("PUBLIC_API_KEY=pk_1", false),
            ("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", false),
            ("PWD=/app", false),
            ("OLDPWD=home", false),
            ("PASS_THROUGH=x1", false),
            ("PASS_MAX_DAYS=90", false),
            ("PATH=/usr/bin", false),
            ("KEY=abc", false),
            ("MONKEY=abc", false),
        ] {
            let (name, value) = entry.split_once('=').unwrap();
            assert_eq!(is_credential(name, value), wanted, "{entry}");
        }
    }
}
