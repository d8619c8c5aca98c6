//! Enough of the shell's grammar (POSIX.1-2024, XCU 2) to see which commands a line runs, and what
//! is piped into what. What is not understood is passed over: this reads histories, it runs
//! nothing.

/// Commands joined by `|`.
pub(super) type Pipeline = Vec<Command>;

/// A simple command: its words, without quotation marks, assignments and leading keywords.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<String>,
}

impl Command {
    /// The program's name, without its folder.
    pub(super) fn name(&self) -> &str {
        let word = self.words.first().map(String::as_str).unwrap_or_default();
        word.rsplit('/').next().unwrap_or_default()
    }

    /// The words behind the program.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }

    /// Whether it is a shell.
    pub(super) fn is_shell(&self) -> bool {
        matches!(self.name(), "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh")
    }
}

/// How deep `sh -c '…'` is followed.
const MOST_DEPTH: usize = 3;

/// The pipelines of a text, those of `sh -c '…'` included, in a time that is linear in its length.
pub(super) fn pipelines(text: &str) -> Vec<Pipeline> {
    let mut all = Vec::new();
    let mut todo = vec![(text.to_owned(), 0)];
    while let Some((text, depth)) = todo.pop() {
        for pipeline in parse(&text) {
            for command in &pipeline {
                if depth < MOST_DEPTH
                    && command.is_shell()
                    && let Some(text) = argument_of_c(command)
                {
                    todo.push((text.to_owned(), depth + 1));
                }
            }
            all.push(pipeline);
        }
    }
    all
}

/// What stands behind `-c`, or behind options like `-ec`.
fn argument_of_c(command: &Command) -> Option<&str> {
    let mut words = command.arguments();
    words.find(|word| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c'))?;
    words.next()
}

fn parse(text: &str) -> Vec<Pipeline> {
    let mut parser = Parser { rest: text, ..Parser::default() };
    while parser.step() {}
    parser.end_pipeline();
    parser.done
}

#[derive(Default)]
struct Parser<'a> {
    rest: &'a str,
    word: Option<String>,
    command: Command,
    pipeline: Pipeline,
    done: Vec<Pipeline>,
}

impl<'a> Parser<'a> {
    /// Reads one character or one quotation; false at the end.
    fn step(&mut self) -> bool {
        let mut characters = self.rest.chars();
        let Some(character) = characters.next() else { return false };
        let rest = characters.as_str();
        self.rest = rest;
        match character {
            '\\' => {
                self.rest = characters.as_str();
                if let Some(next) = characters.next() {
                    self.rest = characters.as_str();
                    // A line goes on behind `\`; a word ends only if a blank comes.
                    if next != '\n' {
                        self.push(next);
                    }
                }
            }
            '\'' => {
                let (quoted, rest) = rest.split_once('\'').unwrap_or((rest, ""));
                self.word().push_str(quoted);
                self.rest = rest;
            }
            '"' => self.quoted(),
            '$' if rest.starts_with('(') => self.substitution("$("),
            '<' if rest.starts_with('(') => self.substitution("<("),
            '`' => {
                let (inner, rest) = rest.split_once('`').unwrap_or((rest, ""));
                let word = self.word();
                word.push('`');
                word.push_str(inner);
                word.push('`');
                self.rest = rest;
            }
            '#' if self.word.is_none() => {
                self.rest = rest.find('\n').and_then(|end| rest.get(end..)).unwrap_or_default();
            }
            '|' if rest.starts_with('|') => {
                self.rest = rest.get(1..).unwrap_or_default();
                self.end_pipeline();
            }
            '|' => {
                self.rest = rest.strip_prefix('&').unwrap_or(rest);
                self.end_command();
            }
            // `2>&1` and `&>file` are no ends.
            '&' if self.word.as_deref().is_some_and(|word| word.ends_with(['>', '<']))
                || rest.starts_with('>') =>
            {
                self.push('&');
            }
            ';' | '&' | '\n' | '(' | ')' => self.end_pipeline(),
            blank if blank.is_whitespace() => self.end_word(),
            other => self.push(other),
        }
        true
    }

    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn push(&mut self, character: char) {
        self.word().push(character);
    }

    /// The rest of a text in double quotation marks.
    fn quoted(&mut self) {
        self.word();
        let mut characters = self.rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => {
                    if let Some(next) = characters.next() {
                        self.push(next);
                    }
                }
                other => self.push(other),
            }
        }
        self.rest = characters.as_str();
    }

    /// `$(…)` or `<(…)`, up to its parenthesis, as a part of the word.
    fn substitution(&mut self, opening: &str) {
        self.word().push_str(opening);
        let mut depth = 0_usize;
        let mut end = self.rest.len();
        for (index, character) in self.rest.char_indices() {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                end = index + character.len_utf8();
                break;
            }
        }
        let (inner, rest) = self.rest.split_at(end);
        self.word().push_str(inner.strip_prefix('(').unwrap_or(inner));
        self.rest = rest;
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        let is_first = self.command.words.is_empty();
        let is_keyword = matches!(
            word.as_str(),
            "{" | "}"
                | "!"
                | "if"
                | "then"
                | "else"
                | "elif"
                | "fi"
                | "do"
                | "done"
                | "while"
                | "until"
                | "exec"
                | "time"
                | "command"
                | "nohup"
                | "env"
        );
        if !(is_first && (is_keyword || is_assignment(&word))) {
            self.command.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let command = std::mem::take(&mut self.command);
        if !command.words.is_empty() {
            self.pipeline.push(without_sudo(command));
        }
    }

    fn end_pipeline(&mut self) {
        self.end_command();
        let pipeline = std::mem::take(&mut self.pipeline);
        if !pipeline.is_empty() {
            self.done.push(pipeline);
        }
    }
}

/// `NAME=value`.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// What `sudo` and `doas` run.
fn without_sudo(command: Command) -> Command {
    if !matches!(command.name(), "sudo" | "doas") {
        return command;
    }
    let mut words = command.words.into_iter().skip(1).peekable();
    while let Some(word) = words.next_if(|word| word.starts_with('-') || is_assignment(word)) {
        if matches!(word.as_str(), "-u" | "-g" | "-C" | "-h" | "-p" | "-r" | "-t") {
            words.next();
        }
    }
    Command { words: words.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        for (line, wanted) in [
            ("apt-get update && apt-get -y upgrade", "apt-get update; apt-get -y upgrade"),
            ("curl -fsSL x | sudo -E bash -", "curl -fsSL x | bash -"),
            ("set -ex; (cd /a; make) || exit 1", "set -ex; cd /a; make; exit 1"),
            ("echo 'a | b; c' \"d && e\" f\\ g", "echo a | b; c d && e f g"),
            ("A=b C=d env E=f make # no && yes", "make"),
            ("a 2>&1 | b &> c & d", "a 2>&1 | b &> c; d"),
            ("a \\\n  b", "a b"),
            ("bash -c \"$(curl x)\"", "bash -c $(curl x); $(curl x)"),
            ("bash <(curl x (y)) z", "bash <(curl x (y)) z"),
            ("sh -ec 'a | b'", "sh -ec a | b; a | b"),
            ("if ! a; then b; fi", "a; b"),
            ("'unclosed", "unclosed"),
            ("$(", "$("),
            ("", ""),
        ] {
            let shown: Vec<_> = pipelines(line)
                .iter()
                .map(|pipeline| {
                    let commands: Vec<_> = pipeline.iter().map(|c| c.words.join(" ")).collect();
                    commands.join(" | ")
                })
                .filter(|commands| !commands.is_empty())
                .collect();
            assert_eq!(shown.join("; "), wanted, "{line}");
        }
    }
}
