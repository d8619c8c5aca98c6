//! Which format a hash has, what it costs to try a word, and whether a word is the password.

use super::{base64, bcrypt, des, md5, scrypt, sha};

/// A format of crypt(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Traditional, 13 characters: at most 8 characters of 7 bits.
    Des,
    /// `_`: BSDi's extension of it.
    BsdDes,
    /// `$1$`.
    Md5,
    /// `$3$`.
    Nt,
    /// `$md5`, of SunOS.
    SunMd5,
    /// `$sha1$`, of NetBSD.
    Sha1,
    /// `$2a$`, `$2b$`, `$2y$`, and `$2x$` with its bug.
    Bcrypt,
    /// `$5$`.
    Sha256,
    /// `$6$`.
    Sha512,
    /// `$7$`.
    Scrypt,
    /// `$y$`, and `$gy$` with GOST.
    Yescrypt,
    /// None of these.
    Unknown,
}

impl Format {
    /// The format of a hash, from how it begins.
    pub fn of(hash: &str) -> Self {
        const PREFIXES: &[(&str, Format)] = &[
            ("$1$", Format::Md5),
            ("$2a$", Format::Bcrypt),
            ("$2b$", Format::Bcrypt),
            ("$2x$", Format::Bcrypt),
            ("$2y$", Format::Bcrypt),
            ("$3$", Format::Nt),
            ("$5$", Format::Sha256),
            ("$6$", Format::Sha512),
            ("$7$", Format::Scrypt),
            ("$gy$", Format::Yescrypt),
            ("$md5", Format::SunMd5),
            ("$sha1$", Format::Sha1),
            ("$y$", Format::Yescrypt),
        ];
        if let Some((_, format)) = PREFIXES.iter().find(|(prefix, _)| hash.starts_with(prefix)) {
            return *format;
        }
        let are_digits = |text: &str| text.bytes().all(|byte| base64::value(byte).is_some());
        match hash.strip_prefix('_') {
            Some(rest) if hash.len() == 20 && are_digits(rest) => Self::BsdDes,
            None if hash.len() == 13 && are_digits(hash) => Self::Des,
            _ => Self::Unknown,
        }
    }

    /// Whether its hashes are broken by trying, even those of good passwords (crypt(5): "not be
    /// used for new hashes").
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Des | Self::BsdDes | Self::Md5 | Self::Nt | Self::SunMd5 | Self::Sha1)
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Des => "DES",
            Self::BsdDes => "BSDi DES",
            Self::Md5 => "MD5",
            Self::Nt => "NT",
            Self::SunMd5 => "SunMD5",
            Self::Sha1 => "SHA-1",
            Self::Bcrypt => "bcrypt",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
            Self::Scrypt => "scrypt",
            Self::Yescrypt => "yescrypt",
            Self::Unknown => "unknown",
        }
    }
}

/// A hash taken apart: how words are hashed, and what must come out.
#[derive(Debug)]
pub(super) struct Scheme<'a> {
    settings: Settings<'a>,
    wanted: &'a str,
}

#[derive(Debug)]
enum Settings<'a> {
    Des {
        salt: u32,
    },
    BsdDes {
        count: u32,
        salt: u32,
    },
    Md5 {
        salt: &'a str,
    },
    Nt,
    Bcrypt {
        cost: u32,
        salt: [u8; 16],
    },
    Sha256 {
        rounds: u32,
        salt: &'a str,
    },
    Sha512 {
        rounds: u32,
        salt: &'a str,
    },
    Scrypt(scrypt::Cost, Vec<u8>),
    Yescrypt(scrypt::Cost, Vec<u8>),
    /// Of a known format, with settings that nobody uses: as if it cost too much.
    Unusual,
}

/// Most characters of a hash: 64 bytes of salt and of hash, with settings.
const MOST_OF_A_HASH: usize = 384;

impl<'a> Scheme<'a> {
    /// `None` if the format or the hash is not understood.
    pub(super) fn parse(hash: &'a str) -> Option<Self> {
        if hash.len() > MOST_OF_A_HASH || !hash.is_ascii() {
            return None;
        }
        let (settings, wanted) = match Format::of(hash) {
            Format::Des => {
                let salt = base64::number(hash.as_bytes().get(..2)?)?;
                (Settings::Des { salt }, hash.get(2..)?)
            }
            Format::BsdDes => {
                let count = base64::number(hash.as_bytes().get(1..5)?)?;
                let salt = base64::number(hash.as_bytes().get(5..9)?)?;
                (Settings::BsdDes { count, salt }, hash.get(9..)?)
            }
            Format::Md5 => {
                let (salt, wanted) = hash.strip_prefix("$1$")?.split_once('$')?;
                (Settings::Md5 { salt: cut(salt, 8) }, wanted)
            }
            Format::Nt => (Settings::Nt, hash.rsplit_once('$')?.1),
            Format::Bcrypt if hash.starts_with("$2x$") => return None,
            Format::Bcrypt => {
                let (cost, rest) = hash.get(4..)?.split_once('$')?;
                if cost.len() != 2 || rest.len() != 53 {
                    return None;
                }
                let salt = bcrypt::salt(rest.get(..22)?)?;
                (Settings::Bcrypt { cost: cost.parse().ok()?, salt }, rest.get(22..)?)
            }
            Format::Sha256 => {
                let (rounds, salt, wanted) = sha_fields(hash.strip_prefix("$5$")?)?;
                (Settings::Sha256 { rounds, salt }, wanted)
            }
            Format::Sha512 => {
                let (rounds, salt, wanted) = sha_fields(hash.strip_prefix("$6$")?)?;
                (Settings::Sha512 { rounds, salt }, wanted)
            }
            Format::Scrypt => {
                let (settings, wanted) = hash.strip_prefix("$7$")?.split_once('$')?;
                let settings = settings.as_bytes();
                let salt = settings.get(11..)?.to_vec();
                match scrypt::Cost::of_scrypt(settings.get(..11)?)? {
                    Some(cost) => (Settings::Scrypt(cost, salt), wanted),
                    None => (Settings::Unusual, wanted),
                }
            }
            Format::Yescrypt => {
                let (settings, rest) = hash.strip_prefix("$y$")?.split_once('$')?;
                let (salt, wanted) = rest.split_once('$')?;
                let salt = base64::decode(salt.as_bytes())?;
                match scrypt::Cost::of_yescrypt(settings.as_bytes())? {
                    Some(cost) => (Settings::Yescrypt(cost, salt), wanted),
                    None => (Settings::Unusual, wanted),
                }
            }
            Format::SunMd5 | Format::Sha1 | Format::Unknown => return None,
        };
        Some(Self { settings, wanted })
    }

    /// Units of [`super::Budget`] for one word, as measured with optimisation for size; the dear
    /// ones are the exact ones. Optimisation for speed halves scrypt, yescrypt and DES.
    pub(super) fn price(&self) -> u64 {
        match &self.settings {
            Settings::Des { .. } => 10,
            Settings::BsdDes { count, .. } => 10 + u64::from(*count) / 3,
            Settings::Md5 { .. } => 200,
            Settings::Nt => 2,
            // No more than two digits, and above 31 there are no such hashes.
            Settings::Bcrypt { cost, .. } => 80 << (*cost).min(32),
            Settings::Sha256 { rounds, .. } => u64::from(*rounds) / 4,
            Settings::Sha512 { rounds, .. } => u64::from(*rounds) / 2,
            Settings::Scrypt(cost, _) => cost.units(),
            Settings::Yescrypt(cost, _) => cost.units(),
            Settings::Unusual => u64::MAX,
        }
    }

    /// Bytes of memory for one word.
    pub(super) fn memory(&self) -> u64 {
        match &self.settings {
            Settings::Scrypt(cost, _) | Settings::Yescrypt(cost, _) => cost.memory(),
            _ => 0,
        }
    }

    /// Whether this is the password. Takes what [`Self::price`] and [`Self::memory`] say.
    pub(super) fn is_hash_of(&self, word: &[u8]) -> bool {
        let hash = match &self.settings {
            Settings::Des { salt } => des::traditional(word, *salt),
            Settings::BsdDes { count, salt } => des::extended(word, *count, *salt),
            Settings::Md5 { salt } => md5::crypt(word, salt.as_bytes()),
            Settings::Nt => md5::nt(word),
            Settings::Bcrypt { cost, salt } => bcrypt::crypt(word, *cost, salt),
            Settings::Sha256 { rounds, salt } => sha::crypt256(word, *rounds, salt.as_bytes()),
            Settings::Sha512 { rounds, salt } => sha::crypt512(word, *rounds, salt.as_bytes()),
            Settings::Scrypt(cost, salt) => match scrypt::scrypt(word, *cost, salt) {
                Some(hash) => hash,
                None => return false,
            },
            Settings::Yescrypt(cost, salt) => match scrypt::yescrypt(word, *cost, salt) {
                Some(hash) => hash,
                None => return false,
            },
            Settings::Unusual => return false,
        };
        hash == self.wanted
    }
}

/// `rounds=5000$salt$hash`, with or without the rounds.
fn sha_fields(text: &str) -> Option<(u32, &str, &str)> {
    let (rounds, rest) = match text.strip_prefix("rounds=") {
        Some(text) => {
            let (rounds, rest) = text.split_once('$')?;
            // More digits than a number of rounds has: as many as may be.
            (rounds.parse().unwrap_or(u32::MAX), rest)
        }
        None => (5000, text),
    };
    let (salt, wanted) = rest.split_once('$')?;
    Some((rounds.clamp(1000, 999_999_999), cut(salt, 16), wanted))
}

/// At most so many characters of an ASCII text.
fn cut(text: &str, most: usize) -> &str {
    text.get(..most).unwrap_or(text)
}
