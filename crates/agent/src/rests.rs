//! What is left alone for a while after it failed, and what is said of that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Most places that are left alone for a while.
const MAX_PLACES: usize = 1000;

/// A fault that is said once, as long as it lasts.
#[derive(Debug, Default)]
pub(crate) struct Said(String);

impl Said {
    /// Whether it is to be said: it is another than before.
    pub(crate) fn is_new(&mut self, what: &str) -> bool {
        let is_new = self.0 != what;
        what.clone_into(&mut self.0);
        is_new
    }

    pub(crate) fn passed(&mut self) {
        self.0.clear();
    }
}

/// Places that are left alone for a while, longer after each failure.
#[derive(Debug, Default)]
pub(crate) struct Rests(BTreeMap<String, Rest>);

#[derive(Debug)]
struct Rest {
    until: Instant,
    backoff: Backoff,
    said: Said,
}

impl Rests {
    /// Until when a place is left alone, if it is now.
    pub(crate) fn of(&self, place: &str) -> Option<Instant> {
        self.0.get(place).map(|rest| rest.until).filter(|until| *until > Instant::now())
    }

    /// A place is left alone from now on, for so long at least: until when, and whether the reason is
    /// to be said.
    pub(crate) fn failed(&mut self, place: &str, why: &str, least: Duration) -> (Instant, bool) {
        if self.0.len() >= MAX_PLACES && !self.0.contains_key(place) {
            self.0.clear();
        }
        let rest = self.0.entry(place.to_owned()).or_insert_with(|| Rest {
            until: Instant::now(),
            backoff: Backoff::default(),
            said: Said::default(),
        });
        rest.until = Instant::now() + rest.backoff.failed().max(least);
        (rest.until, rest.said.is_new(why))
    }

    /// A place is well.
    pub(crate) fn answered(&mut self, place: &str) {
        self.0.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_and_again_after_it_had_passed() {
        let mut rests = Rests::default();
        assert_eq!(rests.of("a"), None);
        let (first, is_new) = rests.failed("a", "away", Duration::ZERO);
        assert!(is_new && rests.of("a") == Some(first) && rests.of("b").is_none());
        let (second, is_new) = rests.failed("a", "away", Duration::ZERO);
        assert!(!is_new && second > first);
        assert!(rests.failed("a", "refused", Duration::ZERO).1);
        let (third, _) = rests.failed("a", "refused", Duration::from_secs(3600));
        assert!(third > Instant::now() + Duration::from_secs(3000));
        rests.answered("a");
        assert_eq!(rests.of("a"), None);
        assert!(rests.failed("a", "refused", Duration::ZERO).1);
    }

    #[test]
    fn it_remembers_a_bounded_number() {
        let mut rests = Rests::default();
        for at in 0..MAX_PLACES * 2 + 1 {
            rests.failed(&at.to_string(), "away", Duration::ZERO);
        }
        assert!(rests.0.len() <= MAX_PLACES);
    }
}
