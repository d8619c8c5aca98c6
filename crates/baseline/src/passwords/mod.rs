//! Weak passwords: the hashes of `/etc/shadow` against a list of words.
//!
//! The formats are those of crypt(5) of libxcrypt. Who makes an image chooses the hashes in it, so
//! the work for them is bounded: each try has a price that is known before ([`Budget`]), and what
//! was not tried is said to be ([`Outcome`]).

mod base64;
mod bcrypt;
mod des;
mod format;
mod md5;
mod scrypt;
mod sha;
mod words;

use crate::accounts::{Password, password};
pub use format::Format;
use format::Scheme;
pub use words::{MOST_WORDS, WordList};

/// How much work is left. The unit is about a microsecond of one core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    units: u64,
}

impl Budget {
    /// What [`Budget::default`] holds: some seconds. It is enough for all built-in words on one
    /// hash as Debian 12 makes them (yescrypt), and on forty as Debian 10 did (sha512crypt). Most
    /// images have no hash at all.
    pub const DEFAULT: u64 = 12_000_000;

    /// Most units of a single try, which cannot be broken off; what costs more is not tried.
    pub const MOST_PER_TRY: u64 = 500_000;

    /// Most bytes of memory of a single try.
    pub const MOST_MEMORY: u64 = 40 << 20;

    /// So many units.
    pub const fn new(units: u64) -> Self {
        Self { units }
    }

    /// How many are left.
    pub const fn left(&self) -> u64 {
        self.units
    }

    /// Takes the price of one try, or nothing if it is too much.
    fn take(&mut self, price: u64) -> bool {
        match self.units.checked_sub(price) {
            Some(left) => {
                self.units = left;
                true
            }
            None => false,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::DEFAULT)
    }
}

/// What trying words on a hash came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// One of the words is the password.
    Weak,
    /// None of the words is.
    Held,
    /// Not all words were tried, for want of budget; none of those that were is the password.
    Cut {
        /// How many were.
        tried: usize,
        /// How many there are.
        of: usize,
    },
    /// A single try takes too much time or memory, or has settings that nobody uses.
    TooCostly,
    /// A format that is not understood.
    Unknown,
}

/// How many hashes came to which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Hashes of one of the words.
    pub weak: usize,
    /// Hashes on which all words were tried in vain.
    pub held: usize,
    /// Hashes on which not all words were tried.
    pub cut: usize,
    /// Hashes that cost too much for a single try.
    pub too_costly: usize,
    /// Hashes of formats that are not understood.
    pub unknown: usize,
}

impl Summary {
    /// Counts outcomes.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut summary = Self::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Weak => summary.weak += 1,
                Outcome::Held => summary.held += 1,
                Outcome::Cut { .. } => summary.cut += 1,
                Outcome::TooCostly => summary.too_costly += 1,
                Outcome::Unknown => summary.unknown += 1,
            }
        }
        summary
    }
}

/// A hash to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The account's name, which makes words of its own.
    pub account: &'a str,
    /// The hash as crypt(5) has it, `$6$salt$…`.
    pub hash: &'a str,
}

/// The accounts of a shadow file that can log in with a password, in the order of the file.
pub fn accounts(shadow: &str) -> Vec<Entry<'_>> {
    crate::accounts::lines(shadow)
        .filter_map(|line| {
            let mut fields = line.split(':');
            let entry = Entry { account: fields.next()?, hash: fields.next()? };
            matches!(password(entry.hash), Password::Hash(_)).then_some(entry)
        })
        .collect()
}

/// Tries the words on one hash.
pub fn weak(hash: &str, account: &str, words: &WordList, budget: &mut Budget) -> Outcome {
    let outcomes = try_all(&[Entry { account, hash }], words, budget);
    outcomes.first().copied().unwrap_or(Outcome::Unknown)
}

/// Tries the words on several hashes; the outcomes are in the same order.
///
/// Each word is tried on all hashes before the next one, the cheap hashes first, so that a few dear
/// ones do not keep the commonest words from the others.
pub fn try_all(entries: &[Entry<'_>], words: &WordList, budget: &mut Budget) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Unknown; entries.len()];
    let mut open = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(scheme) = Scheme::parse(entry.hash) else { continue };
        let (price, memory) = (scheme.price(), scheme.memory());
        let outcome = outcomes.get_mut(index);
        if price > Budget::MOST_PER_TRY || memory > Budget::MOST_MEMORY {
            outcome.into_iter().for_each(|outcome| *outcome = Outcome::TooCostly);
        } else {
            open.push((price, index, entry, scheme));
        }
    }
    open.sort_by_key(|(price, index, ..)| (*price, *index));

    let count = words.count();
    for number in 0..count {
        let mut is_spent = false;
        open.retain(|(price, index, entry, scheme)| {
            let Some(word) = words.word(number, entry.account) else { return true };
            if is_spent || !budget.take(*price) {
                is_spent = true;
                return true;
            }
            let is_weak = scheme.is_hash_of(&word);
            if is_weak {
                outcomes.get_mut(*index).into_iter().for_each(|o| *o = Outcome::Weak);
            }
            !is_weak
        });
        if is_spent {
            // Some of the hashes may have had this word, too: the smaller number is the safe one.
            for (_, index, ..) in open {
                let cut = Outcome::Cut { tried: number, of: count };
                outcomes.get_mut(index).into_iter().for_each(|o| *o = cut);
            }
            return outcomes;
        }
    }
    for (_, index, ..) in open {
        outcomes.get_mut(index).into_iter().for_each(|o| *o = Outcome::Held);
    }
    outcomes
}

#[cfg(test)]
mod tests;
