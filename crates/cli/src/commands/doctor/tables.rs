//! TOML files of engines, read with what is wrong with them as a finding.

use toml::{Table, Value};

use super::containerd::line_at;
use super::files::{Host, Text};
use super::finding::{Finding, Severity};

/// The table of a file; `None` if there is none, or if it is told in `out` why it cannot be used.
pub(super) fn read(
    host: &Host,
    file: &str,
    check: &'static str,
    engine: &str,
    out: &mut Vec<Finding>,
) -> Option<Table> {
    let (line, what) = match host.read(file) {
        Text::Absent => return None,
        Text::Unusable(what) => (None, what),
        Text::Read(text) => match toml::from_str(&text) {
            Ok(table) => return Some(table),
            Err(error) => {
                let line = error.span().map(|span| line_at(&text, span.start));
                (line, error.message().replace('\n', " "))
            }
        },
    };
    out.push(unusable(check, file, line, &what, engine));
    None
}

/// A configuration that cannot be used.
pub(super) fn unusable(
    check: &'static str,
    file: &str,
    line: Option<usize>,
    what: &str,
    engine: &str,
) -> Finding {
    Finding::new(Severity::Error, check, format!("it cannot be read: {what}"))
        .file(file)
        .line(line)
        .why(format!("{engine} cannot read it either; what it would say is not known here"))
        .remedy(format!("mend {file}, then run portcullis doctor again"))
}

/// The value at a path of keys.
pub(super) fn at<'t>(table: &'t Table, path: &[&str]) -> Option<&'t Value> {
    let (last, tables) = path.split_last()?;
    let mut table = table;
    for key in tables {
        table = table.get(*key)?.as_table()?;
    }
    table.get(*last)
}
