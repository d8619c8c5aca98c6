//! Files that are made to hold passwords, by name: `.netrc`, `.pgpass`, git's credential store, the
//! login in a URL of a package manager's configuration, and `.env`. And variables, whose names say it.

use crate::context::url;
use crate::finder::{Found, Text};
use crate::rules::Id;
use crate::text::{Set, entropy, is_password, is_random, printable};

/// How many lines or words are read of such a file.
const MAX_LINES: usize = 10_000;

/// Reads a file by what its name says.
pub(crate) fn read(text: &Text<'_>, found: &mut Found) {
    let name = text.path.rsplit('/').next().unwrap_or_default();
    match name {
        ".netrc" | "_netrc" => netrc(text, found),
        ".pgpass" | "pgpass.conf" => pgpass(text, found),
        ".git-credentials" => urls(text, Id::GitCredentials, found),
        ".gitconfig" | ".pypirc" | "pip.conf" | "pip.ini" | ".npmrc" | ".yarnrc"
        | ".yarnrc.yml" | "sources.list" | ".condarc" | ".gemrc" | ".curlrc" | ".wgetrc"
        | "apt.conf" => {
            urls(text, Id::UrlPassword, found);
        }
        "config" if text.path.ends_with(".git/config") => urls(text, Id::UrlPassword, found),
        "auth.conf" if text.path.ends_with("etc/apt/auth.conf") => netrc(text, found),
        _ if text.path.contains("etc/apt/auth.conf.d/") => netrc(text, found),
        _ if text.path.contains("etc/apt/sources.list.d/") => urls(text, Id::UrlPassword, found),
        _ if is_env_file(name) => env_file(text, found),
        _ => {}
    }
}

/// `.env` and `.env.production`, but not `.env.example`.
fn is_env_file(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(".env") else { return false };
    let samples = ["example", "sample", "template", "dist", "test", "defaults", "schema"];
    rest.is_empty() || rest.starts_with('.') && !samples.iter().any(|word| rest.contains(word))
}

/// The lines of a text, each with the offset of its first byte that is no space.
fn lines<'a>(text: &Text<'a>) -> impl Iterator<Item = (usize, &'a [u8])> {
    let mut at = 0;
    text.bytes.split(|b| *b == b'\n').take(MAX_LINES).map(move |line| {
        let start = at + (line.len() - line.trim_ascii_start().len());
        at += line.len() + 1;
        (start, line.trim_ascii())
    })
}

/// Words in pairs, in any order of lines (GNU inetutils' manual, "The .netrc file"). Macros are skipped
/// as words, which does no harm: a password counts behind a machine only.
fn netrc(text: &Text<'_>, found: &mut Found) {
    let mut words =
        lines(text).filter(|(_, line)| !line.starts_with(b"#")).flat_map(|(at, line)| {
            line.split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .map(move |word| (at, word))
        });
    let mut next = move || words.next();
    let (mut machine, mut login): (&[u8], &[u8]) = (b"", b"");
    while let Some((_, word)) = next() {
        match word {
            b"machine" => (machine, login) = (next().unwrap_or_default().1, b""),
            b"default" => (machine, login) = (b"default", b""),
            b"login" => login = next().unwrap_or_default().1,
            b"password" => {
                let Some((at, password)) = next() else { return };
                if !machine.is_empty() && login != b"anonymous" && is_password(login, password) {
                    let shown = format!("{}@{}:…", printable(login), printable(machine));
                    found.push(at, Id::Netrc, shown);
                }
            }
            _ => {}
        }
    }
}

/// `host:port:database:user:password`, with `\` before a colon that is meant
/// (PostgreSQL's manual, "The Password File").
fn pgpass(text: &Text<'_>, found: &mut Found) {
    for (at, line) in lines(text).filter(|(_, line)| !line.starts_with(b"#")) {
        let mut fields: [Vec<u8>; 5] = Default::default();
        let mut field = 0;
        let mut bytes = line.iter().take(1024);
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => fields[field].extend(bytes.next()),
                b':' if field < 4 => field += 1,
                _ => fields[field].push(*byte),
            }
        }
        let [host, _, _, user, password] = &fields;
        if is_password(user, password) {
            let shown = format!("{}@{}:…", printable(user), printable(host));
            found.push(at, Id::Pgpass, shown);
        }
    }
}

/// Web addresses with a login.
fn urls(text: &Text<'_>, id: Id, found: &mut Found) {
    for at in memchr::memmem::find_iter(text.bytes, b"://").take(MAX_LINES) {
        let start = [&b"https"[..], b"http"]
            .iter()
            .find_map(|scheme| text.bytes[..at].ends_with(scheme).then(|| at - scheme.len()));
        if let Some(start) = start {
            url(text, start, id, found);
        }
    }
}

fn env_file(text: &Text<'_>, found: &mut Found) {
    for (at, line) in lines(text).filter(|(_, line)| !line.starts_with(b"#")) {
        let line = line.strip_prefix(b"export ").unwrap_or(line);
        if let Some(sign) = line.iter().position(|b| *b == b'=') {
            variable(line[..sign].trim_ascii(), line[sign + 1..].trim_ascii(), at, found);
        }
    }
}

/// What the last words of a name call a password: any text may be one.
const PASSWORDS: &[&str] = &["PASSWORD", "PASSWD", "PASSPHRASE"];
/// What they call a token or key: those are drawn at random.
const TOKENS: &[&str] = &["TOKEN", "SECRET", "APIKEY", "SECRETKEY", "ACCESSKEY"];
/// `KEY` alone is often public; behind one of these it is not.
const KEYS: &[&str] = &[
    "API",
    "SECRET",
    "ACCESS",
    "PRIVATE",
    "AUTH",
    "ENCRYPTION",
    "SIGNING",
    "MASTER",
    "ACCOUNT",
    "APP",
];

/// Whether a variable holds a password or key, by its name and value.
pub(crate) fn variable(name: &[u8], value: &[u8], at: usize, found: &mut Found) {
    let value = match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    };
    let Ok(name) = str::from_utf8(&name[..name.len().min(200)]) else { return };
    let upper = name.to_ascii_uppercase();
    let mut words = upper.rsplit(['_', '-', '.']);
    let (last, before) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_public = upper.contains("PUBLIC") || upper.contains("PUBLISHABLE");
    let is_key = last == "KEY" && KEYS.contains(&before) || TOKENS.contains(&last);
    let is_secret = if is_public || is_reference(value) {
        false
    } else if PASSWORDS.contains(&last) {
        is_password(b"", value)
    } else {
        // A key may be hex, base64 or words with dashes; some keys in use are short.
        is_key
            && (16..=512).contains(&value.len())
            && value.iter().all(|b| Set::Wide.has(*b) || matches!(b, b'+' | b'/' | b':' | b'~'))
            && entropy(value) >= 3.3
            && is_random(value, Set::Hex)
    };
    if is_secret {
        found.push(at, Id::NamedPassword, printable(name.as_bytes()) + "=…");
    }
}

/// Where a secret is, instead of the secret: a file, an address, an item of a vault.
fn is_reference(value: &[u8]) -> bool {
    value.starts_with(b"/")
        || value.starts_with(b"./")
        || value.starts_with(b"~")
        || value.starts_with(b"arn:")
        || value.starts_with(b"vault:")
        || value.starts_with(b"file:")
        || value.starts_with(b"projects/")
        || memchr::memmem::find(value, b"://").is_some()
        || value.contains(&b' ')
}
