//! A second try for a case that failed. Engines and a busy machine fail now and then by themselves;
//! what fails twice in a row does not. No second try is silent, and a run with many of them has failed.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result, anyhow};
use libtest_mimic::Conclusion;

/// How many cases of a run may be tried again. One more that fails has failed.
const MOST: usize = 3;

/// The cases of a run that were tried again.
#[derive(Debug)]
pub struct SecondTries {
    /// Their names, and whether the second try went well.
    tried: Mutex<Vec<(String, Option<bool>)>>,
    say: fn(&str),
}

impl Default for SecondTries {
    fn default() -> Self {
        Self::new()
    }
}

impl SecondTries {
    /// None yet.
    pub const fn new() -> Self {
        Self { tried: Mutex::new(Vec::new()), say }
    }

    /// Plays a case, and once more if it fails. `play` brings its own engine, and a fresh one after a
    /// failure.
    ///
    /// # Errors
    /// When it fails twice, with both failures, or when too many others have been tried again.
    pub fn play(&self, name: &str, mut play: impl FnMut() -> Result<()>) -> Result<()> {
        let Err(first) = play() else { return Ok(()) };
        let Some(at) = self.one_more(name) else {
            let why = format!("not tried again, as {MOST} other cases were");
            return Err(first.context(why));
        };
        let first = told(&first);
        (self.say)(&format!("{name} failed, and is tried again on a fresh engine:\n{first}"));
        let second = play();
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, went_well)) = tried.get_mut(at) {
            *went_well = Some(second.is_ok());
        }
        second.map_err(|second| {
            anyhow!("{first}\nand once more, on a fresh engine:\n{}", told(&second))
        })
    }

    fn one_more(&self, name: &str) -> Option<usize> {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.len() == MOST {
            return None;
        }
        tried.push((name.to_owned(), None));
        Some(tried.len() - 1)
    }

    /// The closing lines of a run: how many cases were tried again, and which.
    pub fn told(&self) -> String {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = format!("tried again: {} cases, of {MOST} that may be", tried.len());
        for (name, went_well) in tried.iter() {
            let how = match went_well {
                Some(true) => "went well the second time",
                Some(false) => "failed twice",
                None => "was not played to its end",
            };
            lines += &format!("\n  {name}: {how}");
        }
        lines
    }

    /// Says the closing lines, and how the run ended.
    pub fn conclude(&self, conclusion: &Conclusion) -> ExitCode {
        (self.say)(&self.told());
        conclusion.exit_code()
    }
}

/// Past the harness, which keeps the words of tests that pass to itself.
fn say(text: &str) {
    let _nobody_listens = writeln!(std::io::stdout(), "{text}");
}

/// An error with all its causes.
pub(crate) fn told(error: &Error) -> String {
    let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
    chain.join("\nbecause: ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

    use anyhow::bail;

    use super::*;

    fn silent() -> SecondTries {
        SecondTries { say: |_| {}, ..SecondTries::new() }
    }

    /// Fails so many times, each time with its number.
    fn failing(times: usize) -> impl FnMut() -> Result<()> {
        let mut played = 0;
        move || {
            played += 1;
            if played <= times { bail!("failure {played}") } else { Ok(()) }
        }
    }

    #[test]
    fn what_goes_well_is_not_tried_again() {
        let tries = silent();
        tries.play("case", failing(0)).unwrap();
        assert_eq!(tries.told(), "tried again: 0 cases, of 3 that may be");
    }

    #[test]
    fn one_failure_is_told_and_two_are_one() {
        let tries = silent();
        tries.play("once", failing(1)).unwrap();
        let twice = told(&tries.play("twice", failing(2)).unwrap_err());
        assert!(twice.contains("failure 1") && twice.contains("failure 2"), "{twice}");
        assert_eq!(
            tries.told(),
            "tried again: 2 cases, of 3 that may be\n  once: went well the second time\n  twice: failed twice"
        );
    }

    #[test]
    fn a_fourth_case_that_fails_has_failed() {
        let tries = silent();
        for name in ["one", "two", "three"] {
            tries.play(name, failing(1)).unwrap();
        }
        let fourth = told(&tries.play("four", failing(1)).unwrap_err());
        assert!(fourth.contains("failure 1") && fourth.contains("not tried again"), "{fourth}");
    }
}
