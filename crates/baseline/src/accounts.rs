//! The account files as the C libraries read them: passwd(5), shadow(5), group(5), gshadow(5).
//!
//! Readers here are as lenient as glibc's and musl's together: what either of them takes for an
//! account is one.

use crate::passwords::Format;

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: &'a str,
    pub(crate) shell: &'a str,
}

impl Account<'_> {
    /// Whether its shell lets a person work. An empty one means `/bin/sh`.
    pub(crate) fn has_shell(&self) -> bool {
        let name = self.shell.trim().rsplit('/').next().unwrap_or_default();
        !matches!(
            name,
            "nologin" | "false" | "true" | "sync" | "shutdown" | "halt" | "null" | "noshell"
        )
    }
}

/// A line of `/etc/shadow`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shadow<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    /// Days since 1970 of the last change.
    pub(crate) changed: Option<i64>,
    /// Days until the password must be changed.
    pub(crate) most_days: Option<i64>,
}

/// A line of `/etc/group`, or of `/etc/gshadow` (then without a number).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    pub(crate) gid: Option<u32>,
    members: &'a str,
}

impl<'a> Group<'a> {
    pub(crate) fn members(&self) -> impl Iterator<Item = &'a str> {
        self.members.split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// What a password field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Password<'a> {
    /// No password is asked for.
    Empty,
    /// It is in the shadow file.
    Shadowed,
    /// Nothing hashes to this, so nobody logs in with a password.
    Locked,
    /// A hash, known or not.
    Hash(&'a str),
    /// Neither a hash nor one of the usual marks.
    Text(&'a str),
}

/// Reads a password field.
pub(crate) fn password(field: &str) -> Password<'_> {
    match field {
        "" => Password::Empty,
        "x" => Password::Shadowed,
        "NP" | "LK" | "X" => Password::Locked,
        _ if field.starts_with(['!', '*']) => Password::Locked,
        _ if field.starts_with('$') && field.len() > 4 => Password::Hash(field),
        _ if Format::of(field) != Format::Unknown => Password::Hash(field),
        _ => Password::Text(field),
    }
}

/// The lines that mean something. C strings end at a zero byte.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\0'])
        .map(|line| line.trim_start().trim_end_matches('\r'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a line switches on entries of NIS (nsswitch.conf(5), "compat mode").
pub(crate) fn is_nis(line: &str) -> bool {
    line.starts_with(['+', '-'])
}

/// The accounts of `/etc/passwd`. Four fields suffice.
pub(crate) fn passwd(text: &str) -> Vec<Account<'_>> {
    lines(text)
        .filter(|line| !is_nis(line))
        .filter_map(|line| {
            let mut fields = line.splitn(7, ':');
            Some(Account {
                name: fields.next()?,
                password: fields.next()?,
                uid: id(fields.next()?)?,
                gid: id(fields.next()?)?,
                home: fields.nth(1).unwrap_or_default(),
                shell: fields.next().unwrap_or_default(),
            })
        })
        .collect()
}

/// The entries of `/etc/shadow`.
pub(crate) fn shadow(text: &str) -> Vec<Shadow<'_>> {
    lines(text)
        .filter(|line| !is_nis(line))
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, password) = (fields.next()?, fields.next()?);
            let changed = fields.next().and_then(|field| field.trim().parse().ok());
            let most_days = fields.nth(1).and_then(|field| field.trim().parse().ok());
            Some(Shadow { name, password, changed, most_days })
        })
        .collect()
}

/// The groups of `/etc/group`.
pub(crate) fn groups(text: &str) -> Vec<Group<'_>> {
    lines(text)
        .filter(|line| !is_nis(line))
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (name, password) = (fields.next()?, fields.next()?);
            let gid = Some(id(fields.next()?)?);
            Some(Group { name, password, gid, members: fields.next().unwrap_or_default() })
        })
        .collect()
}

/// The groups of `/etc/gshadow`, without their administrators.
pub(crate) fn shadow_groups(text: &str) -> Vec<Group<'_>> {
    lines(text)
        .filter(|line| !is_nis(line))
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (name, password) = (fields.next()?, fields.next()?);
            let members = fields.next().unwrap_or_default();
            let members = members.split_once(':').map_or(members, |(_, members)| members);
            Some(Group { name, password, gid: None, members })
        })
        .collect()
}

/// Reads a UID or GID. What is above 32 bits is the highest for glibc and starts again at zero for
/// musl; the worse of the two is taken.
pub(crate) fn id(field: &str) -> Option<u32> {
    let digits = field.trim();
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let wrapped = digits
        .bytes()
        .fold(0_u32, |id, digit| id.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
    match digits.parse() {
        Ok(id) => Some(id),
        Err(_) if wrapped == 0 => Some(0),
        Err(_) => Some(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_by_the_worst_library() {
        for (field, wanted) in [
            ("0", Some(0)),
            ("00", Some(0)),
            (" 0 ", Some(0)),
            ("+0", Some(0)),
            ("65534", Some(65534)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", Some(0)),
            ("4294967297", Some(u32::MAX)),
            ("99999999999999999999999", Some(u32::MAX)),
            ("-1", None),
            ("0x0", None),
            ("", None),
        ] {
            assert_eq!(id(field), wanted, "{field}");
        }
    }

    #[test]
    fn password_fields() {
        for (field, wanted) in [
            ("", Password::Empty),
            ("x", Password::Shadowed),
            ("*", Password::Locked),
            ("!", Password::Locked),
            ("!!", Password::Locked),
            ("!*", Password::Locked),
            ("*LK*", Password::Locked),
            ("!$6$a$b", Password::Locked),
            ("$6$a$b", Password::Hash("$6$a$b")),
            ("abJnggxhB/yWI", Password::Hash("abJnggxhB/yWI")),
            ("hunter2", Password::Text("hunter2")),
        ] {
            assert_eq!(password(field), wanted, "{field}");
        }
    }

    #[test]
    fn lines_are_read_leniently() {
        let accounts = passwd("# c\n\n  a:x:1:2\nb:x:0\n+::::::\nc:x:3:4:G:/home/c:/bin/sh\r\n");
        let names: Vec<_> = accounts.iter().map(|a| (a.name, a.uid, a.gid, a.shell)).collect();
        assert_eq!(names, [("a", 1, 2, ""), ("c", 3, 4, "/bin/sh")]);
        assert!(accounts[0].has_shell());
        let groups = shadow_groups("shadow:*:admin:a, b,\nx:!\n");
        assert_eq!(groups[0].members().collect::<Vec<_>>(), ["a", "b"]);
    }
}
