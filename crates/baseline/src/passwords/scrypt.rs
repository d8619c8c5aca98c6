//! yescrypt (`$y$`) and scrypt (`$7$`) as libxcrypt writes them (crypt(5)).
//!
//! Time and memory are what a hash asks for, so settings are read here, before anything is
//! allocated, and only those that tools write are taken: no parallel lanes, no longer time.

use yescrypt::{Mode, Params};

use super::base64;

/// What a hash costs: `N` and `r` of scrypt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    log_n: u32,
    r: u32,
}

impl Cost {
    /// Reads the eleven digits of `$7$`: one of N, five of r, five of p. `Some(None)` for settings
    /// that nobody uses.
    pub(super) fn of_scrypt(digits: &[u8]) -> Option<Option<Self>> {
        let log_n = base64::number(digits.get(..1)?)?;
        let r = base64::number(digits.get(1..6)?)?;
        let p = base64::number(digits.get(6..11)?)?;
        Some(Self::checked(log_n, r).filter(|_| p == 1))
    }

    /// Reads the digits of `$y$`: the flavour, N, r and whatever else. Each takes one digit as long
    /// as it is small. `Some(None)` for settings that nobody uses.
    pub(super) fn of_yescrypt(digits: &[u8]) -> Option<Option<Self>> {
        let [b'j', log_n, r] = digits else {
            let are_digits = digits.iter().all(|digit| base64::value(*digit).is_some());
            return are_digits.then_some(None);
        };
        let (log_n, r) = (base64::value(*log_n)?, base64::value(*r)?);
        let is_short = log_n < 48 && r < 48;
        Some(Self::checked(log_n + 1, r + 1).filter(|_| is_short))
    }

    fn checked(log_n: u32, r: u32) -> Option<Self> {
        ((4..=48).contains(&log_n) && (1..=1024).contains(&r)).then_some(Self { log_n, r })
    }

    /// Bytes of memory.
    pub(super) fn memory(self) -> u64 {
        // No more than 2^17 * 2^46.
        (128 * u64::from(self.r)) << self.log_n.min(46)
    }

    /// Units of [`super::Budget`]: the memory is written once and read at least once.
    pub(super) fn units(self) -> u64 {
        200 + self.memory() / 200
    }
}

/// The digits behind the salt, for `$y$`.
pub(super) fn yescrypt(word: &[u8], cost: Cost, salt: &[u8]) -> Option<String> {
    hash(word, Mode::Rw, cost, salt)
}

/// The digits behind the salt, for `$7$`.
pub(super) fn scrypt(word: &[u8], cost: Cost, salt: &[u8]) -> Option<String> {
    hash(word, Mode::Classic, cost, salt)
}

fn hash(word: &[u8], mode: Mode, cost: Cost, salt: &[u8]) -> Option<String> {
    if cost.memory() > super::Budget::MOST_MEMORY {
        return None;
    }
    let params = Params::new(mode, 1 << cost.log_n, cost.r, 1).ok()?;
    let mut out = [0; 32];
    yescrypt::yescrypt(word, salt, &params, &mut out).ok()?;
    Some(base64::encode(&out))
}
