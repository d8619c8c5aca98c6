//! crun with glibc's argp in order (`ARGP_IN_ORDER`), which reads flags with `getopt_long`.

use super::Creates;
use super::flags::{self, Flag, Takes};

/// crun 1.8.1, that of Debian 12.
pub fn crun_1_8(line: &[&str]) -> Option<Creates> {
    read(line, false)
}

/// crun 1.29.
pub fn crun_1_29(line: &[&str]) -> Option<Creates> {
    read(line, true)
}

fn read(line: &[&str], is_1_29: bool) -> Option<Creates> {
    let newer = if is_1_29 { flags::CRUN_1_29_ONLY } else { &[] };
    let global = [flags::CRUN, newer, flags::ARGP].concat();
    let before = parse(&global, line)?;
    let (command, behind) = before.arguments.split_first()?;
    let read = parse(&flags::of_crun(command, is_1_29)?, behind)?;
    // `restore` takes a second argument and does nothing with it.
    let most = if *command == "restore" { 2 } else { 1 };
    if !(1..=most).contains(&read.arguments.len()) {
        return None;
    }
    let last = |long| read.set.iter().rev().find(|(name, _)| *name == long).map(|(_, v)| *v);
    Some(Creates {
        command: (*command).to_owned(),
        bundle: last("bundle").unwrap_or_default().to_owned(),
        id: read.arguments[0].to_owned(),
        config: last("config").filter(|file| *file != "config.json").map(str::to_owned),
    })
}

struct Parsed<'a> {
    /// Flags by their long name, in order, with their values.
    set: Vec<(&'static str, &'a str)>,
    /// From the first argument that is no flag on.
    arguments: &'a [&'a str],
}

/// `None` where argp ends the program, as by `--help`.
fn parse<'a>(flags: &[Flag], line: &'a [&'a str]) -> Option<Parsed<'a>> {
    let mut parsed = Parsed { set: Vec::new(), arguments: line };
    while let Some((argument, behind)) = parsed.arguments.split_first() {
        match argument.strip_prefix('-') {
            None | Some("") => break,
            Some("-") => {
                parsed.arguments = behind;
                break;
            }
            Some(name) => {
                parsed.arguments = behind;
                match name.strip_prefix('-') {
                    Some(long) => read_long(flags, long, &mut parsed)?,
                    None => read_short(flags, name, &mut parsed)?,
                }
            }
        }
        let ends = |(name, _): &(&str, &str)| matches!(*name, "help" | "usage" | "version");
        if parsed.set.last().is_some_and(ends) {
            return None;
        }
    }
    Some(parsed)
}

fn read_long<'a>(flags: &[Flag], text: &'a str, parsed: &mut Parsed<'a>) -> Option<()> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let flag = long(flags, name)?;
    let value = match (flag.takes, value) {
        (Takes::Value, None) => {
            let (value, behind) = parsed.arguments.split_first()?;
            parsed.arguments = behind;
            value
        }
        (Takes::Value | Takes::Maybe, value) => value.unwrap_or_default(),
        (_, None) => "",
        (_, Some(_)) => return None,
    };
    parsed.set.push((flag.long, value));
    Some(())
}

/// The flag of this name, or the only one whose name begins so. crun 1.8.1 has one flag by the
/// names `root` and `rootless`, so that what both begin with is not ambiguous there.
fn long(flags: &[Flag], name: &str) -> Option<Flag> {
    if let Some(flag) = flags.iter().find(|flag| flag.long == name) {
        return Some(*flag);
    }
    let mut begin_so: Vec<&Flag> =
        flags.iter().filter(|flag| flag.long.starts_with(name)).collect();
    begin_so.dedup_by_key(|flag| match flag.long {
        "rootless" => "root",
        other => other,
    });
    match begin_so[..] {
        [flag] => Some(*flag),
        _ => None,
    }
}

fn read_short<'a>(flags: &[Flag], text: &'a str, parsed: &mut Parsed<'a>) -> Option<()> {
    let mut rest = text.chars();
    while let Some(short) = rest.next() {
        let flag = flags.iter().find(|flag| flag.short == Some(short))?;
        let mut value = "";
        if flag.takes == Takes::Value {
            value = rest.as_str();
            if value.is_empty() {
                let (next, behind) = parsed.arguments.split_first()?;
                (value, parsed.arguments) = (next, behind);
            }
            rest = "".chars();
        }
        parsed.set.push((flag.long, value));
        if matches!(flag.long, "help" | "version") {
            return None;
        }
    }
    Some(())
}
