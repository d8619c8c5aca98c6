//! Which patterns lie within others, and how far they reach. For lint; no decision asks this.

use super::{Component, Form, ImagePattern, WordPattern, components_match};

/// How much a pattern takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Every image that has a name.
    Everything,
    /// All of one registry.
    Host,
    /// Less than that.
    Part,
}

impl ImagePattern {
    /// Whether this covers every image that `other` covers. Never claimed wrongly: patterns that
    /// cannot be compared piece by piece are taken to differ.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        match (&self.form, &other.form) {
            (Form::Digest(one), Form::Digest(two)) => one == two,
            (
                Form::Name { components, tag },
                Form::Name { components: other_components, tag: other_tag },
            ) => {
                let tags = match (tag, other_tag) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(tag), Some(other)) => tag.includes(other),
                };
                // Only a `**` here takes in a `**` there.
                tags && components_match(components, other_components, |glob, other| match other {
                    Component::One(other) => glob.includes(other),
                    Component::OneOrMore => false,
                })
            }
            _ => false,
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        let Form::Name { components, tag: None } = &self.form else {
            return Reach::Part;
        };
        let is_star = |component: &Component| match component {
            Component::One(glob) => glob.text() == "*",
            Component::OneOrMore => true,
        };
        match &**components {
            [Component::OneOrMore] => Reach::Everything,
            // Every reference has a host and a path.
            [one, two] if is_star(one) && is_star(two) => Reach::Everything,
            [Component::One(host), Component::OneOrMore] if !host.text().contains('*') => {
                Reach::Host
            }
            _ => Reach::Part,
        }
    }

    /// Host, path and tag as they are matched; the digest, if that alone counts, is left out.
    pub(crate) fn normal(&self) -> String {
        match &self.form {
            Form::Digest(_) => {
                let reference: Result<portcullis_types::ImageRef, _> = self.text.parse();
                reference.map_or_else(|_| self.text.to_string(), |r| r.repository())
            }
            Form::Name { components, tag } => {
                let parts: Vec<String> = components
                    .iter()
                    .map(|component| match component {
                        Component::One(glob) => glob.text(),
                        Component::OneOrMore => "**".to_owned(),
                    })
                    .collect();
                let tag = tag.as_ref().map(|tag| format!(":{}", tag.text())).unwrap_or_default();
                parts.join("/") + &tag
            }
        }
    }

    /// The registry, if the pattern names one without a wildcard.
    pub(crate) fn host(&self) -> Option<String> {
        let normal = self.normal();
        let host = normal.split('/').next().unwrap_or_default();
        (!host.contains('*')).then(|| host.to_owned())
    }
}

impl WordPattern {
    /// Whether this matches every word that `other` matches.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        self.glob.includes(&other.glob)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_types::ImageRef;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn pattern(text: &str) -> ImagePattern {
        text.parse().unwrap()
    }

    fn check(wide: &str, narrow: &str, wanted: bool) {
        assert_eq!(pattern(wide).includes(&pattern(narrow)), wanted, "{wide} of {narrow}");
    }

    #[test]
    fn patterns_lie_within_others() {
        let digest = format!("@sha256:{}", "0".repeat(64));
        check("**", "registry.example.com/**", true);
        check("registry.example.com/**", "registry.example.com/team/web:1.4", true);
        check("registry.example.com/**", "**", false);
        check("registry.example.com/*", "registry.example.com/**", false);
        check("registry.example.com/**", "registry.example.com/*", true);
        check("registry.example.com/*/web", "registry.example.com/**/web", false);
        check("registry.example.com/**/web", "registry.example.com/*/web", true);
        check("**", &format!("registry.example.com/web{digest}"), false);
        check(&format!("a/b{digest}"), &format!("c/d{digest}"), true);
        check("web:*", "web", true);
        check("web", "web:*", false);
        check("registry.example.com/web:1.*", "registry.example.com/**", false);
        check("nginx", "docker.io/library/nginx:latest", true);
    }

    #[test]
    fn patterns_reach_so_far() {
        for (text, wanted) in [
            ("**", Reach::Everything),
            ("**/*", Reach::Everything),
            ("**/**", Reach::Everything),
            ("registry.example.com/**", Reach::Host),
            ("docker.io/**", Reach::Host),
            ("registry.example.com/*", Reach::Part),
            ("registry.example.com/**:1", Reach::Part),
            ("**/debug", Reach::Part),
            ("nginx", Reach::Part),
        ] {
            assert_eq!(pattern(text).reach(), wanted, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_included_is_covered(
            parts in prop::collection::vec(select(vec!["**", "*", "a", "a*", "ab", "b"]), 2..5),
            others in prop::collection::vec(select(vec!["**", "*", "a", "a*", "ab", "b"]), 2..5),
            names in prop::collection::vec(select(vec!["a", "ab", "b", "aab"]), 1..4),
            tags in (select(vec!["", ":1", ":*"]), select(vec!["", ":1", ":*"]), select(vec!["", ":1", ":2"])),
        ) {
            let wide = format!("h.io/{}{}", parts.join("/"), tags.0).parse::<ImagePattern>();
            let narrow = format!("h.io/{}{}", others.join("/"), tags.1).parse::<ImagePattern>();
            let name = format!("h.io/{}{}", names.join("/"), tags.2).parse::<ImageRef>();
            if let (Ok(wide), Ok(narrow), Ok(name)) = (wide, narrow, name)
                && wide.includes(&narrow)
                && narrow.matches_name(&name)
            {
                prop_assert!(wide.matches_name(&name));
            }
        }
    }
}
