//! Texts of a report: short, and safe to print.
//!
//! A report repeats names that whoever made the image chose, so they may hold what drives a
//! terminal, forges a line in a log, or shows one text while another is meant.

use std::fmt::Write as _;

/// The text with control, direction and invisible characters written as `\u{..}`.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unsafe(character) {
            // Writing to a String cannot fail.
            let _ = write!(printable, "\\u{{{:x}}}", u32::from(character));
        } else {
            printable.push(character);
        }
    }
    printable
}

/// The first line's beginning, at most `max` bytes, with dots for what is left out.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    let line = printable(text.lines().next().unwrap_or_default().trim());
    if line.len() <= max {
        return line;
    }
    let room = max.saturating_sub(3);
    let kept = line.char_indices().take_while(|(at, c)| at + c.len_utf8() <= room);
    kept.map(|(_, c)| c).chain("...".chars()).collect()
}

/// A title with the line where the problem stands, if one is known.
pub(crate) fn at_line(title: String, line: Option<f64>) -> String {
    match line.filter(|line| *line >= 1.0) {
        Some(line) => format!("{title} (line {line})"),
        None => title,
    }
}

/// Unicode categories Cc, Zl, Zp, and those of Cf that reorder or hide text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_written_out() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("x\nportcullis: allowed"), "x\\u{a}portcullis: allowed");
        assert_eq!(printable("user\u{202e}gnp"), "user\\u{202e}gnp");
        assert_eq!(printable("häßlich ≤ 漢字"), "häßlich ≤ 漢字");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(shortened(" one \ntwo", 10), "one");
        assert_eq!(shortened("ääääää", 10), "äää...");
        assert_eq!(shortened("ääääää", 12), "ääääää");
    }
}
