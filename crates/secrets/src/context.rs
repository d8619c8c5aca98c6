//! Secrets without a prefix of their own: what stands around them gives them away.

use memchr::memmem;

use crate::finder::{Call, Found, Text};
use crate::jwt;
use crate::rules::Id;
use crate::text::{Set, base64, base64url, is_password, is_random, printable, shown};

/// Keywords, and what reads them.
pub(crate) const KEYWORDS: &[(&str, Call)] = &[
    ("eyJ", jwt::find),
    ("AKIA", aws_key_id),
    ("ASIA", aws_key_id),
    ("secret_access_key", aws_secret),
    ("SECRET_ACCESS_KEY", aws_secret),
    ("ecretAccessKey", aws_secret),
    ("AccountKey=", azure_account),
    ("AccountKey\":", azure_account),
    ("SharedAccessKey=", azure_shared),
    ("7Q~", azure_client),
    ("8Q~", azure_client),
    ("HEROKU_API_KEY", heroku),
    ("twilio_auth_token", twilio),
    ("TWILIO_AUTH_TOKEN", twilio),
    ("T3BlbkFJ", openai),
    (":AA", telegram),
    ("discord", discord),
    ("Discord", discord),
    ("DISCORD", discord),
    (".atlasv1.", terraform),
    ("\"auth\"", docker),
    ("_authToken", npmrc),
    (":_password", npmrc),
    (":_auth", npmrc),
    ("postgres://", database_url),
    ("postgresql://", database_url),
    ("mysql://", database_url),
    ("mysql2://", database_url),
    ("mariadb://", database_url),
    ("mongodb://", database_url),
    ("mongodb+srv://", database_url),
    ("redis://", database_url),
    ("rediss://", database_url),
    ("amqp://", database_url),
    ("amqps://", database_url),
    ("sqlserver://", database_url),
    ("mssql://", database_url),
    ("clickhouse://", database_url),
    ("cockroachdb://", database_url),
    ("postgresql+psycopg2://", database_url),
    ("postgresql+asyncpg://", database_url),
    ("mysql+pymysql://", database_url),
];

/// How far a secret may be from the id of its key, in bytes.
const NEAR: usize = 300;

fn aws_key_id(text: &Text<'_>, at: usize, found: &mut Found) {
    if found.is_full(Id::AwsAccessKey) || found.is_full(Id::AwsKeyName) {
        return;
    }
    let Some(key) = word(text, at, Set::Base62, 20, 20) else { return };
    if !key[4..].iter().all(|b| Set::Base32.has(*b)) || !is_random(&key[4..], Set::Base32) {
        return;
    }
    let start = at.saturating_sub(NEAR);
    let end = (at + NEAR).min(text.bytes.len());
    let mut near = start;
    while near < end {
        let run = Set::Base64.run(&text.bytes[near..], 64);
        if run == 40 && is_aws_secret(text, near) {
            found.push(near, Id::AwsAccessKey, shown(&text.bytes[near..near + run], 0));
            return;
        }
        near += run + 1;
    }
    found.push(at, Id::AwsKeyName, shown(key, 4));
}

fn aws_secret(text: &Text<'_>, at: usize, found: &mut Found) {
    if found.is_full(Id::AwsAccessKey) {
        return;
    }
    let Some(start) = value(text, at) else { return };
    if Set::Base64.run(&text.bytes[start..], 64) == 40 && is_aws_secret(text, start) {
        found.push(start, Id::AwsAccessKey, shown(&text.bytes[start..start + 40], 0));
    }
}

/// Forty characters of base64, of all three kinds: digests in hex have no capitals.
fn is_aws_secret(text: &Text<'_>, start: usize) -> bool {
    let secret = &text.bytes[start..start + 40];
    let before = start.checked_sub(1).map(|before| text.bytes[before]);
    !before.is_some_and(|b| Set::Base64Url.has(b) || b == b'.')
        && !text.bytes.get(start + 40).is_some_and(|b| matches!(b, b'=' | b'-' | b'_' | b'.'))
        && secret.iter().any(u8::is_ascii_uppercase)
        && secret.iter().any(u8::is_ascii_lowercase)
        && secret.iter().any(u8::is_ascii_digit)
        && is_random(secret, Set::Base64)
}

/// A storage or Cosmos DB key: 64 bytes in base64. The two keys of the emulators are known to all.
fn azure_account(text: &Text<'_>, at: usize, found: &mut Found) {
    const EMULATORS: [&[u8]; 2] = [b"Eby8vdM02x", b"C2y6yDjf5/"];
    let Some(start) = value(text, at) else { return };
    let rest = &text.bytes[start..];
    if Set::Base64.run(rest, 90) == 86
        && rest[86..].starts_with(b"==")
        && !EMULATORS.iter().any(|known| rest.starts_with(known))
        && is_random(&rest[..86], Set::Base64)
    {
        found.push(start, Id::AzureStorageKey, shown(&rest[..86], 0));
    }
}

/// Service Bus, Event Hubs, IoT Hub: 32 bytes in base64.
fn azure_shared(text: &Text<'_>, at: usize, found: &mut Found) {
    let Some(start) = value(text, at) else { return };
    let rest = &text.bytes[start..];
    if Set::Base64.run(rest, 50) == 43
        && rest[43..].starts_with(b"=")
        && is_random(&rest[..43], Set::Base64)
    {
        found.push(start, Id::AzureSharedAccessKey, shown(&rest[..43], 0));
    }
}

/// `xxx8Q~` and 31 to 34 more characters.
fn azure_client(text: &Text<'_>, at: usize, found: &mut Found) {
    let is = |b: u8| Set::Base64Url.has(b) || matches!(b, b'~' | b'.');
    let Some(start) = at.checked_sub(3) else { return };
    let rest = &text.bytes[start..];
    let length = rest.iter().take(64).take_while(|b| is(**b)).count();
    if (37..=40).contains(&length)
        && rest[3].is_ascii_digit()
        && !start.checked_sub(1).is_some_and(|before| is(text.bytes[before]))
        && is_random(&rest[6..length], Set::Base64Url)
    {
        found.push(start, Id::AzureClientSecret, shown(&rest[..length], 0));
    }
}

/// The older form is a plain UUID.
fn heroku(text: &Text<'_>, at: usize, found: &mut Found) {
    let Some(start) = value(text, at) else { return };
    let rest = &text.bytes[start..];
    if is_uuid(rest) {
        found.push(start, Id::HerokuKey, shown(&rest[..36], 0));
    }
}

fn twilio(text: &Text<'_>, at: usize, found: &mut Found) {
    let Some(start) = value(text, at) else { return };
    if let Some(token) = word(text, start, Set::Hex, 32, 32).filter(|t| is_random(t, Set::Hex)) {
        found.push(start, Id::TwilioToken, shown(token, 0));
    }
}

/// `OpenAI` in base64 stands in the middle of each of its keys.
fn openai(text: &Text<'_>, at: usize, found: &mut Found) {
    let before = text.bytes[..at].iter().rev().take(100);
    let start = at - before.take_while(|b| Set::Base64Url.has(**b)).count();
    let rest = &text.bytes[start..];
    let length = Set::Base64Url.run(rest, 220);
    if rest.starts_with(b"sk-") && (48..=200).contains(&length) && at - start >= 20 {
        let random = &rest[3..at - start];
        let tail = &text.bytes[at + 8..start + length];
        if is_random(random, Set::Base64Url) && is_random(tail, Set::Base64Url) {
            found.push(start, Id::OpenaiKey, shown(&rest[..length], 3));
        }
    }
}

/// The number of a bot, a colon, and 35 characters that begin with `AA`.
fn telegram(text: &Text<'_>, at: usize, found: &mut Found) {
    let digits = text.bytes[..at].iter().rev().take(12).take_while(|b| b.is_ascii_digit()).count();
    let start = at - digits;
    let token = &text.bytes[at + 1..];
    // `bot` stands before it in the addresses of the API.
    if (8..=10).contains(&digits)
        && (text.begins_at(start) || text.bytes[..start].ends_with(b"/bot"))
        && Set::Base64Url.run(token, 40) == 35
        && is_random(&token[2..35], Set::Base64Url)
    {
        found.push(start, Id::TelegramToken, shown(&text.bytes[start..at + 36], digits));
    }
}

/// A bot's number in base64, a time, a signature; on a line that names Discord.
fn discord(text: &Text<'_>, at: usize, found: &mut Found) {
    if found.is_full(Id::DiscordToken) {
        return;
    }
    let line = &text.bytes[at..];
    let line = &line[..line.len().min(160)];
    let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
    let mut start = 0;
    while start < line.len() {
        let id = Set::Base64Url.run(&line[start..], 40);
        let rest = &line[start + id..];
        if (24..=28).contains(&id)
            && rest.first() == Some(&b'.')
            && Set::Base64Url.run(&rest[1..], 8) == 6
            && rest.get(7) == Some(&b'.')
            && (27..=38).contains(&Set::Base64Url.run(&rest[8..], 40))
            && base64url(&line[start..start + id]).is_some_and(|n| n.iter().all(u8::is_ascii_digit))
        {
            let end = id + 8 + Set::Base64Url.run(&rest[8..], 40);
            if is_random(&rest[8..end - id], Set::Base64Url) {
                found.push(at + start, Id::DiscordToken, shown(&line[start..start + end], 0));
                return;
            }
        }
        start += id + 1;
    }
}

/// Fourteen characters, `.atlasv1.`, and 60 to 70 more.
fn terraform(text: &Text<'_>, at: usize, found: &mut Found) {
    let Some(start) = at.checked_sub(14) else { return };
    let tail = &text.bytes[at + 9..];
    let length = Set::Base64Url.run(tail, 80);
    if text.bytes[start..at].iter().all(u8::is_ascii_alphanumeric)
        && text.begins_at(start)
        && (60..=70).contains(&length)
        && is_random(&tail[..length], Set::Base64Url)
    {
        found.push(start, Id::TerraformToken, shown(&text.bytes[start..at + 9 + length], 0));
    }
}

/// `"auth": "<base64 of user:password>"`, in a file that has `"auths"` or is named for it.
fn docker(text: &Text<'_>, at: usize, found: &mut Found) {
    let Some(start) = value(text, at) else { return };
    let rest = &text.bytes[start..];
    let length = rest.iter().take(8192).take_while(|b| Set::Base64.has(**b)).count();
    let Some(login) = (length >= 8).then(|| base64(&rest[..length])).flatten() else { return };
    let Some(colon) = memchr::memchr(b':', &login) else { return };
    let (user, password) = (&login[..colon], &login[colon + 1..]);
    let named = [".docker/config.json", ".dockercfg", ".dockerconfigjson", "containers/auth.json"]
        .iter()
        .any(|name| text.path.ends_with(name));
    let before = &text.bytes[at.saturating_sub(1024)..at];
    if (named || memmem::find(before, b"\"auths\"").is_some())
        && !user.is_empty()
        && user.iter().all(u8::is_ascii_graphic)
        && (is_password(user, password) || password.len() > 256)
    {
        found.push(start, Id::DockerAuth, printable(user) + ":…");
    }
}

/// `//registry/:_authToken=…`, `:_auth=…`, `:_password=…`. npm's own tokens have a rule of their own.
fn npmrc(text: &Text<'_>, at: usize, found: &mut Found) {
    let end =
        at + text.bytes[at..].iter().take(16).take_while(|b| !matches!(b, b'=' | b' ')).count();
    if text.bytes.get(end) != Some(&b'=') {
        return;
    }
    let rest = &text.bytes[end + 1..];
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    let length = rest
        .iter()
        .take(200)
        .take_while(|b| Set::Wide.has(**b) || matches!(b, b'/' | b'+'))
        .count();
    let token = &rest[..length];
    if !token.starts_with(b"npm_")
        && (is_uuid(token) || (length >= 16 && is_random(token, Set::Wide)))
    {
        found.push(text.bytes.len() - rest.len(), Id::NpmrcAuth, shown(token, 0));
    }
}

fn database_url(text: &Text<'_>, at: usize, found: &mut Found) {
    if text.begins_at(at) && !text.bytes[..at].ends_with(b"+") {
        url(text, at, Id::DatabaseUrl, found);
    }
}

/// Reads `scheme://user:password@host` at `at`.
pub(crate) fn url(text: &Text<'_>, at: usize, id: Id, found: &mut Found) -> Option<()> {
    let rest = &text.bytes[at..];
    let scheme = memmem::find(&rest[..rest.len().min(40)], b"://")?;
    let rest = &rest[scheme + 3..];
    let is = |b: &u8| !b.is_ascii_whitespace() && !b"/\"'`<>\\()?#,;|".contains(b);
    let authority: usize = rest.iter().take(400).take_while(|b| is(b)).count();
    let authority = &rest[..authority];
    let at_sign = memchr::memchr(b'@', authority)?;
    let (login, host) = (&authority[..at_sign], &authority[at_sign + 1..]);
    let colon = memchr::memchr(b':', login)?;
    let (user, password) = (&login[..colon], &login[colon + 1..]);
    if is_real_host(host) && is_password(user, password) && !is_template(user) {
        let scheme = printable(&text.bytes[at..at + scheme]);
        let shown = format!("{scheme}://{}:…@{}", printable(user), printable(host));
        found.push(at, id, shown);
    }
    Some(())
}

/// Not this machine, and none of the names of manuals.
fn is_real_host(host: &[u8]) -> bool {
    let name = host.split(|b| *b == b':').next().unwrap_or_default().to_ascii_lowercase();
    let name = String::from_utf8_lossy(&name).into_owned();
    let is_sample = matches!(
        name.as_str(),
        "" | "localhost"
            | "host"
            | "hostname"
            | "server"
            | "servername"
            | "somehost"
            | "myhost"
            | "hostspec"
            | "ip"
            | "address"
            | "domain"
            | "domain.com"
            | "myserver"
            | "0.0.0.0"
            | "proxy"
    ) || name.starts_with("127.")
        || ["example.com", "example.org", "example.net", ".example", ".test", ".invalid", ".local"]
            .iter()
            .any(|end| name.ends_with(end));
    !is_sample && !is_template(host) && name.bytes().all(|b| Set::Wide.has(b) || b == b'[')
}

fn is_template(text: &[u8]) -> bool {
    text.iter().any(|b| b"${}<>%*[".contains(b))
}

/// Where the value begins that is set behind the name at `at`: behind `=`, `:` or `=>`, spaces and a
/// quotation mark.
pub(crate) fn value(text: &Text<'_>, at: usize) -> Option<usize> {
    let rest = &text.bytes[at..];
    let name = rest
        .iter()
        .skip(1)
        .take(40)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        .count();
    let mut signs = 0;
    let mut behind = rest[1 + name..].iter().take(16).enumerate();
    behind
        .find_map(|(index, byte)| match byte {
            b'=' | b':' | b'>' => {
                signs += 1;
                None
            }
            b' ' | b'\t' | b'"' | b'\'' => None,
            _ => Some((index, signs)),
        })
        .filter(|(_, signs)| *signs > 0)
        .map(|(index, _)| at + 1 + name + index)
}

/// The word of a set at `at`, if it has a length of `min` to `max` and nothing follows.
fn word<'a>(text: &Text<'a>, at: usize, set: Set, min: usize, max: usize) -> Option<&'a [u8]> {
    let rest = &text.bytes[at..];
    let length = set.run(rest, max + 1);
    let ends =
        !rest.get(length).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'/'));
    ((min..=max).contains(&length) && ends && text.begins_at(at)).then(|| &rest[..length])
}

/// Eight, four, four, four and twelve hex digits; random ones.
fn is_uuid(text: &[u8]) -> bool {
    text.len() >= 36
        && text[..36].iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
        && !text.get(36).is_some_and(|b| Set::Base64Url.has(*b))
        && is_random(&text[..36], Set::Hex)
}
