//! runc with urfave/cli v3 (3.10.1, its `command_parse.go`, `command_run.go`).

use super::Creates;
use super::cli::truth;
use super::flags::{self, Flag, Takes};

/// What runc calls its commands, those of the library included.
const COMMANDS: &[&str] = &[
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "h",
    "help",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];
/// Each command has these below it.
const BELOW: &[&str] = &["h", "help"];

/// runc after 1.5.
pub fn runc_main(line: &[&str]) -> Option<Creates> {
    let global = [flags::RUNC, &[flags::HELP, flags::VERSION]].concat();
    let before = parse(&global, COMMANDS, line)?;
    if before.is_on("help") || before.is_on("version") {
        return None;
    }
    let (command, arguments) = before.arguments.split_first()?;
    let mut own = flags::of_runc(command, true)?;
    // Flags before the command may stand behind it too.
    own.extend(flags::RUNC);
    let read = parse(&own, BELOW, arguments)?;
    if read.is_on("help") || read.arguments.first().is_some_and(|first| BELOW.contains(first)) {
        return None;
    }
    let [id] = read.arguments[..] else { return None };
    let bundle = read.set.iter().rev().find(|(name, _)| *name == "bundle");
    Some(Creates {
        command: (*command).to_owned(),
        bundle: bundle.map_or(String::new(), |(_, value)| (*value).to_owned()),
        id: id.to_owned(),
        config: None,
    })
}

struct Parsed<'a> {
    /// Flags by their long name, in order, with their values.
    set: Vec<(&'static str, &'a str)>,
    arguments: Vec<&'a str>,
}

impl Parsed<'_> {
    fn is_on(&self, long: &str) -> bool {
        let last = self.set.iter().rev().find(|(name, _)| *name == long);
        last.is_some_and(|(_, value)| truth(value) == Some(true))
    }
}

/// `Command.parseFlags`; `None` where it ends with an error.
fn parse<'a>(flags: &[Flag], commands: &[&str], line: &[&'a str]) -> Option<Parsed<'a>> {
    let mut parsed = Parsed { set: Vec::new(), arguments: Vec::new() };
    let mut rest = line;
    while let Some((whole, behind)) = rest.split_first() {
        let argument = whole.trim();
        let mut characters = argument.chars();
        match (characters.next(), characters.next()) {
            (None, _) => parsed.arguments.push(whole),
            (Some('-'), Some('-')) if argument == "--" => {
                parsed.arguments.extend(behind);
                return Some(parsed);
            }
            // What stands behind a lone dash is dropped.
            (Some('-'), None) => {
                parsed.arguments.push(argument);
                return Some(parsed);
            }
            (Some('-'), Some(second)) if second != '-' && !is_letter(argument) => {
                parsed.arguments.extend(rest);
                return Some(parsed);
            }
            (Some('-'), _) => {
                let name = argument.strip_prefix("--").unwrap_or(&argument[1..]);
                let (name, value) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (name, None),
                };
                let flag = flags.iter().find(|flag| flag.has(name))?;
                let value = match (flag.takes, value) {
                    (Takes::Switch, None | Some("")) => "true",
                    (Takes::Switch, Some(value)) => truth(value).map(|_| value)?,
                    (_, Some(value)) => value,
                    (_, None) => {
                        let (value, behind) = behind.split_first()?;
                        parsed.set.push((flag.long, value));
                        rest = behind;
                        continue;
                    }
                };
                parsed.set.push((flag.long, value));
            }
            (Some(_), _) if commands.contains(&argument) => {
                // With the blanks around it, by which it is no command any more.
                parsed.arguments.extend(rest);
                return Some(parsed);
            }
            (Some(_), _) => parsed.arguments.push(argument),
        }
        rest = behind;
    }
    Some(parsed)
}

/// The library looks at one byte where a letter could take more.
fn is_letter(argument: &str) -> bool {
    char::from(argument.as_bytes()[1]).is_alphabetic()
}
