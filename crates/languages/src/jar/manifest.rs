//! `META-INF/MANIFEST.MF` (<https://docs.oracle.com/en/java/javase/21/docs/specs/jar/jar.html>), and
//! files of properties.

use std::collections::HashMap;

/// How much of a manifest is read: behind its main section, signed jars have one for each file.
pub(super) const MAX_MANIFEST: u64 = 64 << 10;

/// The main section of a manifest. Names are in lower case.
#[derive(Default)]
pub(super) struct Manifest(HashMap<String, String>);

impl Manifest {
    /// Reads the main section. Lines end in CR, LF or both; a line with a space before it goes on with
    /// the line before.
    pub(super) fn read(text: &str) -> Self {
        let mut lines: Vec<String> = Vec::new();
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        for line in text.split('\n').take_while(|line| !line.is_empty()) {
            match (line.strip_prefix(' '), lines.last_mut()) {
                (Some(rest), Some(last)) => last.push_str(rest),
                _ => lines.push(line.to_owned()),
            }
        }
        let member = |line: &String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Self(lines.iter().filter_map(member).collect())
    }

    /// A member, unless it is empty or a variable that was never replaced (`%bundleName`).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(&name.to_ascii_lowercase())?.as_str();
        (!value.is_empty() && !value.starts_with('%')).then_some(value)
    }
}

/// The value of a property (`java.util.Properties`), without escapes: names and versions have none.
pub(super) fn property<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(['=', ':'])?;
        (key.trim() == name).then_some(value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_section_is_read() {
        let manifest = Manifest::read(
            "Manifest-Version: 1.0\r\nBundle-Symbol\r\n icName: a.b\r\n .c\r\nEmpty:\r\nName2: %x\r\n\
             \r\nName: other/\r\nImplementation-Version: 9\r\n",
        );
        assert_eq!(manifest.get("bundle-symbolicname"), Some("a.b.c"));
        assert_eq!(manifest.get("Manifest-Version"), Some("1.0"));
        for name in ["Implementation-Version", "Empty", "Name2"] {
            assert_eq!(manifest.get(name), None, "{name}");
        }
        assert_eq!(Manifest::read("A: 1\rB: 2").get("b"), Some("2"));
        assert_eq!(Manifest::read(" A: 1\nB: 2").get("b"), Some("2"));
        assert_eq!(Manifest::read("").get("a"), None);
    }

    #[test]
    fn properties_are_read() {
        let text = "#Created\nversion=1.0\ngroupId = org.a\nartifactId:b\n";
        assert_eq!(property(text, "version"), Some("1.0"));
        assert_eq!(property(text, "groupId"), Some("org.a"));
        assert_eq!(property(text, "artifactId"), Some("b"));
        assert_eq!(property(text, "Created"), None);
    }
}
