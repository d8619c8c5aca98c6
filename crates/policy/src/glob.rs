//! Texts in which `*` stands for any run of characters.

/// The pieces of a glob between its stars, in order. One piece: the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Box<[Box<str>]>);

impl Glob {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.split('*').map(Into::into).collect())
    }

    /// Takes time linear in the text: each piece is searched for once, from the left. The leftmost
    /// place is always good enough, since what follows it only gets longer.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = &*self.0 else {
            return self.0.first().is_some_and(|only| **only == *text);
        };
        let Some(mut rest) =
            text.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last))
        else {
            return false;
        };
        for piece in middle {
            match rest.find(&**piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

#[cfg(feature = "lint")]
impl Glob {
    /// Whether this matches every text that `other` matches. What stands for a star there can only
    /// be taken by a star here: stars are no characters of the texts themselves.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        match &*other.0 {
            [only] => self.matches(only),
            _ => self.matches(&other.text()),
        }
    }

    /// As written.
    pub(crate) fn text(&self) -> String {
        self.0.join("*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(glob: &str, text: &str, wanted: bool) {
        assert_eq!(Glob::new(glob).matches(text), wanted, "{glob} on {text}");
    }

    #[test]
    fn a_star_is_any_run() {
        check("prod-*", "prod-web", true);
        check("prod-*", "prod-", true);
        check("prod-*", "production", false);
        check("*", "", true);
        check("*a*", "bab", true);
        check("a*a", "a", false);
        check("a*b*c", "abbc", true);
        check("", "", true);
        check("", "a", false);
    }

    #[test]
    fn a_hostile_text_takes_no_longer() {
        let glob = Glob::new(&"a*".repeat(250));
        assert!(!glob.matches(&format!("{}b", "c".repeat(1_000_000))));
        assert!(glob.matches(&"a".repeat(1_000_000)));
    }

    fn by_definition(glob: &[u8], text: &[u8]) -> bool {
        match glob.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| by_definition(rest, &text[n..])),
            Some((byte, rest)) => text.first() == Some(byte) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(glob in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(
                Glob::new(&glob).matches(&text),
                by_definition(glob.as_bytes(), text.as_bytes())
            );
        }
    }

    #[cfg(feature = "lint")]
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_included_is_matched(
            wide in "[ab*]{0,5}",
            narrow in "[ab*]{0,5}",
            text in "[ab]{0,6}",
        ) {
            let (wide, narrow) = (Glob::new(&wide), Glob::new(&narrow));
            if wide.includes(&narrow) && narrow.matches(&text) {
                prop_assert!(wide.matches(&text));
            }
            prop_assert!(narrow.includes(&narrow));
        }
    }
}
