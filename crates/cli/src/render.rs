//! Printing: tables and sentences for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use portcullis_types::Action;
use serde::Serialize;

use crate::args::{Color, Global, Output};

/// Prints to stdout in the form asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    output: Output,
    color: ColorChoice,
}

impl Printer {
    pub(crate) fn new(global: &Global) -> Self {
        let color = match global.color {
            Color::Always => ColorChoice::AlwaysAnsi,
            Color::Auto if takes_color() => ColorChoice::AlwaysAnsi,
            Color::Auto | Color::Never => ColorChoice::Never,
        };
        Self { output: global.output, color }
    }

    /// Prints `value` as JSON, or what `text` writes.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        // Whoever reads us may have seen enough; what was found out is told by the exit code.
        match self.emit(|out| serde_json::to_writer_pretty(out, value), text) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => Ok(printed?),
        }
    }

    /// Prints a document of another standard.
    pub(crate) fn document(self, value: &impl Serialize) -> Result<()> {
        self.print(value, |_| Ok(()))
    }

    /// Prints one of many values: a JSON line each, or what `text` writes. A reader that is gone is
    /// an error here, since it ends the rest.
    pub(crate) fn line<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        Ok(self.emit(|out| serde_json::to_writer(out, value), text)?)
    }

    fn emit(
        self,
        json: impl FnOnce(&mut dyn Write) -> serde_json::Result<()>,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.output {
            Output::Json | Output::Sarif | Output::Cyclonedx => {
                json(&mut out).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            // Colours are always written, and taken out here where they are not wanted.
            Output::Text => text(&mut AutoStream::new(&mut out as &mut dyn Write, self.color))?,
        }
        out.flush()
    }
}

/// Whether stdout is a terminal whose user has nothing against colours (no-color.org).
fn takes_color() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// A word as wide as `width`, in the colour of the action that it is, if it is one.
pub(crate) fn action(word: &str, width: usize) -> String {
    let color = match word.parse() {
        Ok(Action::Block) => AnsiColor::Red,
        Ok(Action::Alarm) => AnsiColor::Yellow,
        Ok(Action::Allow) => AnsiColor::Green,
        Err(_) => return format!("{word:width$}"),
    };
    let style = Style::new().fg_color(Some(color.into()));
    // Only the word: spaces have no colour, and what follows stands where it would without.
    let space = " ".repeat(width.saturating_sub(word.chars().count()));
    format!("{style}{word}{style:#}{space}")
}

/// A table whose columns are as wide as their widest cell; where that is too much for a line, the
/// widest are cut.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// The first columns, which hold actions.
    actions: usize,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(ToString::to_string).collect()], actions: 0 }
    }

    /// Colours this many of the first columns, which hold actions.
    pub(crate) fn actions(mut self, columns: usize) -> Self {
        self.actions = columns;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max()
        };
        let mut widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let between = 2 * columns.saturating_sub(1);
        while widths.iter().sum::<usize>() + between > WIDTH {
            let Some(widest) = widths.iter_mut().max().filter(|width| **width > 3) else { break };
            *widest -= 1;
        }
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell = &cut(cell, *width);
                match column < self.actions {
                    true => line.push_str(&action(cell, *width)),
                    false => line.push_str(&format!("{cell:width$}")),
                }
                line.push_str("  ");
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// What came from outside must not move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                '?'
            } else {
                c
            }
        })
        .collect()
}

/// Cuts a text to a width, with dots where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}

/// How wide a line for people may be.
const WIDTH: usize = 100;

/// A text as lines of at most 100 columns, as far as its words allow, those after the first
/// indented; nothing in it moves a terminal's cursor.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let text = plain(text);
    let words = text.trim_start();
    let mut done = " ".repeat(text.len() - words.len());
    let mut width = done.len();
    for (number, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 && width + 1 + length > WIDTH {
            done.push('\n');
            done.push_str(&" ".repeat(indent));
            width = indent;
        } else if number > 0 {
            done.push(' ');
            width += 1;
        }
        done.push_str(word);
        width += length;
    }
    done
}

/// `3 findings`, `1 finding`.
pub(crate) fn count(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_nothing_moves_the_cursor() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(["a\u{1b}[2Jb".into(), "1".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME    N\na?[2Jb  1\n");
    }

    #[test]
    fn wide_tables_are_cut_where_they_are_widest() {
        for (cells, expected) in [
            (["a".repeat(40), "b".repeat(58)], [40, 58]),
            (["a".repeat(41), "b".repeat(90)], [41, 57]),
            (["a".repeat(4000), "b".repeat(90)], [49, 49]),
        ] {
            let mut table = Table::new(&["A", "B"]);
            table.row(cells);
            let mut out = Vec::new();
            table.write(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let row = text.lines().nth(1).unwrap();
            let widths: Vec<usize> = row.split_whitespace().map(str::len).collect();
            assert_eq!(widths, expected, "{row}");
        }
    }

    #[test]
    fn only_actions_are_coloured_and_columns_stay() {
        for (word, expected) in [
            ("block", "\u{1b}[31mblock\u{1b}[0m  "),
            ("alarm", "\u{1b}[33malarm\u{1b}[0m  "),
            ("allow", "\u{1b}[32mallow\u{1b}[0m  "),
            ("notice", "notice "),
        ] {
            assert_eq!(action(word, 7), expected);
        }
        let mut table = Table::new(&["WAS", "N"]).actions(1);
        table.row(["block".into(), "block".into()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "WAS    N\n\u{1b}[31mblock\u{1b}[0m  block\n");
    }

    #[test]
    fn long_lines_are_wrapped_between_words() {
        let word = "w".repeat(60);
        let text = wrapped(&format!("  {word} a {word} {word}{word}"), 4);
        assert_eq!(text, format!("  {word} a\n    {word}\n    {word}{word}"));
        assert_eq!(wrapped("a\nb", 2), "a?b");
        assert_eq!(wrapped("", 2), "");
    }

    #[test]
    fn texts_are_cut_to_a_width() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
    }
}
