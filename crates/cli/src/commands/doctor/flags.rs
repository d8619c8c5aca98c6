//! Flags of services, as systemd's units and the files of variables beside them give them.

use super::files::{Host, Text};

/// The flags, in the order of their files and lines, each with its file.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(String, String, String)>);

/// All flags with a value that are written in these files. Comments are left out; what a unit
/// overrides is still there, so the last one counts.
pub(super) fn of(host: &Host, patterns: &[&str]) -> Flags {
    let mut flags = Vec::new();
    for file in patterns.iter().flat_map(|pattern| host.glob(pattern)) {
        let Text::Read(text) = host.read(&file) else { continue };
        for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
            let mut words = line
                .split(|c: char| c.is_whitespace() || c == '"' || c == '\'')
                .filter(|word| !word.is_empty())
                .peekable();
            while let Some(word) = words.next() {
                // `NAME="--flag=…"` of a file of variables.
                let Some(at) = word.find("--").filter(|at| *at == 0 || word[..*at].ends_with('='))
                else {
                    continue;
                };
                let flag = word[at..].trim_start_matches('-');
                let (name, value) = match flag.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (flag, words.peek().copied().filter(|next| !next.starts_with('-'))),
                };
                if let Some(value) = value {
                    flags.push((name.to_owned(), value.to_owned(), file.clone()));
                }
            }
        }
    }
    Flags(flags)
}

impl Flags {
    /// The values of a flag, each with its file.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let found = self.0.iter().filter(move |(flag, ..)| flag == name);
        found.map(|(_, value, file)| (value.as_str(), file.as_str()))
    }

    /// The last value of a flag, with its file.
    pub(super) fn last(&self, name: &str) -> Option<(&str, &str)> {
        self.all(name).last()
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::testing::Node;
    use super::*;

    #[test]
    fn flags_of_units_and_of_files_of_variables() {
        let node = Node::of(&[
            (
                "/lib/systemd/system/k.service",
                "[Service]\n# --a=no\nExecStart=/usr/bin/k --a=1 --b 2 --c --d $ARGS\n",
            ),
            ("/etc/systemd/system/k.service.d/10.conf", "ExecStart=/usr/bin/k --a 3\n"),
            ("/etc/default/k", "ARGS=\"--e=4 --f 5\"\nX='--g=6'\n"),
        ]);
        let flags = of(
            &node.host,
            &[
                "/lib/systemd/system/k.service",
                "/etc/systemd/system/k.service.d/*.conf",
                "/etc/default/k",
            ],
        );
        for (name, wanted) in [
            ("a", Some("3")),
            ("b", Some("2")),
            ("c", None),
            ("d", Some("$ARGS")),
            ("e", Some("4")),
            ("f", Some("5")),
            ("g", Some("6")),
        ] {
            assert_eq!(flags.last(name).map(|(value, _)| value), wanted, "{name}");
        }
    }
}
