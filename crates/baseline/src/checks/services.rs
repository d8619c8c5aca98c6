//! Settings of sudo (sudoers(5)), PAM (pam.conf(5)), the loader (ld.so(8)) and login.defs(5).

use super::Texts;
use crate::accounts::lines;
use crate::issues::{Issues, shown};
use crate::wants::split;

pub(super) fn check(texts: &Texts<'_>, issues: &mut Issues) {
    for (path, text) in texts.all() {
        let (folder, name) = split(path);
        match (folder, name) {
            ("etc", "sudoers") => sudoers(path, text, issues),
            // sudo reads no files with a dot or a tilde at the end, as editors leave them.
            ("etc/sudoers.d", name) if !name.contains('.') && !name.ends_with('~') => {
                sudoers(path, text, issues);
            }
            ("etc/pam.d", _) => pam(path, text, issues),
            ("etc", "ld.so.preload") => preload(path, text, issues),
            ("etc", "login.defs") => login_defs(path, text, issues),
            _ => {}
        }
    }
}

fn sudoers(path: &str, text: &str, issues: &mut Issues) {
    let mut line = String::new();
    for part in text.lines() {
        if let Some(begun) = part.strip_suffix('\\') {
            line.push_str(begun);
            continue;
        }
        line.push_str(part);
        if let Some(who) = without_password(&line) {
            issues.add("sudo-without-password", Some(path), &format!("for {}", shown(who)));
        }
        line.clear();
    }
}

/// Whom a line of sudoers lets run every command without a password.
fn without_password(line: &str) -> Option<&str> {
    // A comment; `#1000` at the beginning is a user.
    let line = line.trim();
    let is_comment =
        line.starts_with('#') && !line[1..].starts_with(|digit: char| digit.is_ascii_digit());
    if is_comment {
        return None;
    }
    let (who, rest) = line.split_once(char::is_whitespace)?;
    if who.starts_with("Defaults") {
        let is_off = rest.split([',', ' ', '\t']).any(|option| option == "!authenticate");
        return is_off.then_some("everybody");
    }
    if who.ends_with("_Alias") || who == "root" || who == "#0" {
        return None;
    }
    let (_, commands) = rest.split_once('=')?;
    let mut is_asked = true;
    for command in commands.split(',') {
        let mut command = command.trim();
        // `(user : group)` before the tags.
        if let Some(after) = command.strip_prefix('(') {
            command = after.split_once(')').map_or("", |(_, after)| after).trim();
        }
        while let Some((tag, after)) = command.split_once(':') {
            match tag.trim() {
                "NOPASSWD" => is_asked = false,
                "PASSWD" => is_asked = true,
                tag if tag.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') => {}
                _ => break,
            }
            command = after.trim();
        }
        let command = command.split('#').next().unwrap_or_default().trim();
        if !is_asked && command == "ALL" {
            return Some(who);
        }
    }
    None
}

fn pam(path: &str, text: &str, issues: &mut Issues) {
    for line in lines(text) {
        let mut fields = line.split_whitespace();
        let kind = fields.next().unwrap_or_default().trim_start_matches('-');
        let control = fields.next().unwrap_or_default();
        let module = fields.next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        if kind == "auth" && control == "sufficient" && module == "pam_permit.so" {
            issues.add("pam-permits-anybody", Some(path), "auth sufficient pam_permit.so");
        }
        if kind == "auth" && matches!(module, "pam_rhosts.so" | "pam_rhosts_auth.so") {
            issues.add("trust-hosts", Some(path), &format!("auth with {module}"));
        }
        if kind == "password"
            && module == "pam_unix.so"
            && fields.any(|option| matches!(option, "md5" | "bigcrypt"))
        {
            issues.add("weak-hash-default", Some(path), "pam_unix.so hashes with MD5 or DES");
        }
    }
}

fn preload(path: &str, text: &str, issues: &mut Issues) {
    for line in lines(text) {
        let names = line.split('#').next().unwrap_or_default();
        for library in names.split([' ', '\t', ':']).filter(|name| !name.is_empty()) {
            issues.add("ld-so-preload", Some(path), &shown(library));
        }
    }
}

fn login_defs(path: &str, text: &str, issues: &mut Issues) {
    for line in lines(text) {
        let mut fields = line.split_whitespace();
        let (key, value) = (fields.next(), fields.next().unwrap_or_default());
        let is_weak = match key {
            Some("ENCRYPT_METHOD") => matches!(value, "DES" | "MD5"),
            Some("MD5_CRYPT_ENAB") => value == "yes",
            _ => false,
        };
        if is_weak {
            let part = format!("{} {value}", key.unwrap_or_default());
            issues.add("weak-hash-default", Some(path), &part);
        }
    }
}
