//! The words that are tried: what accounts are called, and the commonest passwords.

use std::borrow::Cow;
use std::collections::HashSet;

/// Most words that can be added.
pub const MOST_WORDS: usize = 100_000;

/// Most bytes of a word.
const MOST_OF_A_WORD: usize = 128;

/// How many words an account's name gives.
const VARIANTS: usize = 12;

/// The commonest passwords of public lists, and those that images, appliances and tutorials come
/// with; the likeliest of an image first.
const COMMON: &[&str] = &[
    "password",
    "root",
    "toor",
    "admin",
    "123456",
    "changeme",
    "12345678",
    "1234",
    "12345",
    "123456789",
    "qwerty",
    "password1",
    "Password1",
    "P@ssw0rd",
    "passw0rd",
    "secret",
    "test",
    "docker",
    "pass",
    "letmein",
    "welcome",
    "default",
    "111111",
    "123123",
    "1234567",
    "1234567890",
    "000000",
    "abc123",
    "qwerty123",
    "1q2w3e4r",
    "1qaz2wsx",
    "admin123",
    "root123",
    "user",
    "guest",
    "toor123",
    "rootroot",
    "adminadmin",
    "administrator",
    "vagrant",
    "ubuntu",
    "debian",
    "alpine",
    "centos",
    "fedora",
    "raspberry",
    "kali",
    "linux",
    "oracle",
    "postgres",
    "mysql",
    "redis",
    "tomcat",
    "jenkins",
    "deploy",
    "ansible",
    "service",
    "system",
    "server",
    "demo",
    "dev",
    "temp",
    "temp123",
    "test123",
    "testing",
    "login",
    "master",
    "super",
    "manager",
    "Passw0rd",
    "P@ssword",
    "p@ssw0rd",
    "P@ssw0rd1",
    "Password123",
    "password123",
    "Welcome1",
    "Welcome123",
    "Admin123",
    "Admin@123",
    "Root@123",
    "Passw0rd!",
    "Password!",
    "Huawei@123",
    "changeit",
    "change_me",
    "iloveyou",
    "monkey",
    "dragon",
    "sunshine",
    "princess",
    "football",
    "1q2w3e",
    "zaq12wsx",
    "qwertyuiop",
    "asdfgh",
    "asdf",
    "666666",
    "888888",
    "123321",
    "654321",
    "a123456",
    "q1w2e3r4",
    "nimda",
    "ssh",
    "sshd",
    "screencast",
    "hunter2",
    "trustno1",
];

/// The words to try on a hash.
#[derive(Debug, Clone, Default)]
pub struct WordList {
    added: Vec<Box<[u8]>>,
    known: HashSet<Box<[u8]>>,
    left_out: usize,
}

impl WordList {
    /// The built-in list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the words of a file, one a line; they are tried after the built-in ones. Empty lines
    /// and words that are there already are left out, and so are words longer than 128 bytes and
    /// those above [`MOST_WORDS`], which [`Self::left_out`] counts.
    pub fn add(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            let word = line.strip_suffix(b"\r").unwrap_or(line);
            if word.is_empty() || COMMON.iter().any(|common| common.as_bytes() == word) {
                continue;
            }
            if word.len() > MOST_OF_A_WORD || self.added.len() >= MOST_WORDS {
                self.left_out += 1;
            } else if self.known.insert(word.into()) {
                self.added.push(word.into());
            }
        }
    }

    /// How many words were too long or too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// How many words there are for an account at most.
    pub fn count(&self) -> usize {
        VARIANTS + COMMON.len() + self.added.len()
    }

    /// The word with this number, if the account has one.
    pub(super) fn word(&self, number: usize, account: &str) -> Option<Cow<'_, [u8]>> {
        if let Some(number) = number.checked_sub(VARIANTS) {
            let common = COMMON.get(number).map(|word| word.as_bytes());
            let added =
                || number.checked_sub(COMMON.len()).and_then(|number| self.added.get(number));
            return common.or_else(|| added().map(|word| &word[..])).map(Cow::Borrowed);
        }
        if account.is_empty() || account.len() > 64 {
            // The empty word needs no name.
            return (number == 1).then_some(Cow::Borrowed(&[]));
        }
        let word = match number {
            0 => account.to_owned(),
            1 => String::new(),
            2 => format!("{account}123"),
            3 => format!("{account}1"),
            4 => capitalised(account),
            5 => format!("{account}{account}"),
            6 => account.chars().rev().collect(),
            7 => format!("{account}1234"),
            8 => format!("{account}@123"),
            9 => format!("{}123", capitalised(account)),
            10 => format!("{}@123", capitalised(account)),
            _ => format!("{account}!"),
        };
        Some(Cow::Owned(word.into_bytes()))
    }
}

fn capitalised(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_tried_once() {
        let mut words = WordList::new();
        words.add(b"Sommer2024\r\n\npassword\nSommer2024\nletzte");
        assert_eq!(words.left_out(), 0);
        let all: Vec<_> = (0..words.count()).filter_map(|n| words.word(n, "db")).collect();
        assert_eq!(all.len(), VARIANTS + COMMON.len() + 2);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "some word comes twice");
        assert_eq!(&all[0][..], b"db");
        assert_eq!(&all[all.len() - 1][..], b"letzte");
    }

    #[test]
    fn lists_are_bounded() {
        let mut words = WordList::new();
        words.add("x".repeat(129).as_bytes());
        let many: String = (0..=MOST_WORDS).map(|n| format!("w{n}\n")).collect();
        words.add(many.as_bytes());
        assert_eq!(words.left_out(), 2);
        assert_eq!(words.count(), VARIANTS + COMMON.len() + MOST_WORDS);
    }
}
