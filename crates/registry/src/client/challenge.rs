//! What a registry asks for that wants to know who we are (RFC 9110, section 11.6.1; RFC 6750).

use serde::Deserialize;

/// Most bytes of one.
const MAX_CHALLENGE: usize = 4 << 10;
/// Most bytes of a token.
const MAX_TOKEN: usize = 32 << 10;

/// How we are to say who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a login.
    Basic,
    /// With a token that is got elsewhere.
    Bearer {
        /// Where.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first that is understood, a token before a login.
    pub(super) fn of<'a>(said: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for text in said.filter(|text| text.len() <= MAX_CHALLENGE) {
            let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
            if scheme.eq_ignore_ascii_case("bearer") {
                let parameters = parameters(rest)?;
                let of = |name: &str| {
                    let found = parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
                };
                let (service, scope) = (of("service"), of("scope"));
                return Some(Self::Bearer { realm: of("realm")?, service, scope });
            }
        }
        basic
    }
}

/// `name="value", name=value`; `None` if it is not of this form.
fn parameters(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            rest = loop {
                match chars.next()? {
                    (at, '"') => break &quoted[at + 1..],
                    (_, '\\') => value.push(chars.next()?.1),
                    (_, other) => value.push(other),
                }
            };
        } else {
            let end = after.find(',').unwrap_or(after.len());
            value.push_str(after[..end].trim());
            rest = &after[end..];
        }
        found.push((name.trim().to_owned(), value));
        rest = rest.trim_start_matches([' ', ',']);
    }
    Some(found)
}

/// The token in an answer (`token` or, as OAuth has it, `access_token`), if it can stand in a header.
pub(super) fn token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Raw {
        token: Option<String>,
        access_token: Option<String>,
    }
    let Raw { token, access_token } = serde_json::from_slice(body).ok()?;
    let token = token.filter(|token| !token.is_empty()).or(access_token)?;
    let is_plain = token.bytes().all(|b| b.is_ascii_graphic());
    (is_plain && !token.is_empty() && token.len() <= MAX_TOKEN).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(ToOwned::to_owned),
                scope: scope.map(ToOwned::to_owned),
            })
        };
        for (said, wanted) in [
            (&["Basic realm=\"x\""][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &[
                    "Bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:a/b:pull,push\"",
                ],
                bearer("https://a/token", Some("s"), Some("repository:a/b:pull,push")),
            ),
            (
                &["Basic realm=\"x\"", "bearer Realm=https://a, scope=\"\""],
                bearer("https://a", None, None),
            ),
            (&["Bearer realm=\"a\\\"b\""], bearer("a\"b", None, None)),
            (&["Bearer service=\"s\""], None),
            (&["Bearer realm=\"open"], None),
            (&["Bearer realm"], None),
            (&["Negotiate"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(Challenge::of(said.iter().copied()), wanted, "{said:?}");
        }
    }

    #[test]
    fn a_token_fits_in_a_header_or_is_none() {
        for (body, wanted) in [
            (r#"{"token": "a.b-c"}"#, Some("a.b-c")),
            (r#"{"access_token": "a"}"#, Some("a")),
            (r#"{"token": "", "access_token": "a"}"#, Some("a")),
            (r#"{"token": "a\r\nX: y"}"#, None),
            (r#"{"token": ""}"#, None),
            (r#"{}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(token(body.as_bytes()).as_deref(), wanted, "{body}");
        }
    }
}
