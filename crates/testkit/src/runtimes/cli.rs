//! runc with urfave/cli v1 (its `command.go`, `parse.go`), which reads flags with Go's `flag`.

use super::Creates;
use super::flags::{self, Flag, Takes};

/// runc 1.1 as it is released.
pub fn runc_1_1(line: &[&str]) -> Option<Creates> {
    let global = [flags::RUNC, flags::RUNC_1_1_ONLY, &[flags::HELP, flags::VERSION]].concat();
    read(line, &global, false, |_, arguments| all_flags_first(arguments))
}

/// runc 1.2 to 1.5. Debian's 1.1 reads so too, with fewer flags.
pub fn runc_1_2(line: &[&str]) -> Option<Creates> {
    let global = [flags::RUNC, &[flags::HELP, flags::VERSION]].concat();
    read(line, &global, true, known_flags_first)
}

/// runc 1.1 of Debian 12: the flags of 1.1, read as 1.2 does.
pub fn runc_1_1_debian(line: &[&str]) -> Option<Creates> {
    let global = [flags::RUNC, flags::RUNC_1_1_ONLY, &[flags::HELP, flags::VERSION]].concat();
    read(line, &global, false, known_flags_first)
}

fn read(
    line: &[&str],
    global: &[Flag],
    has_pidfd: bool,
    in_order: for<'a> fn(&[Flag], &[&'a str]) -> Vec<&'a str>,
) -> Option<Creates> {
    let before = parse(global, line)?;
    if before.is_on("help") || before.is_on("version") {
        return None;
    }
    let (command, arguments) = before.arguments.split_first()?;
    let own = flags::of_runc(command, has_pidfd)?;
    let read = parse(&own, &in_order(&own, arguments))?;
    if read.is_on("help") || before.has_two_forms(global) || read.has_two_forms(&own) {
        return None;
    }
    let [id] = read.arguments[..] else { return None };
    let bundle = read.set.iter().rev().find(|(name, _)| matches!(*name, "bundle" | "b"));
    Some(Creates {
        command: (*command).to_owned(),
        bundle: bundle.map_or(String::new(), |(_, value)| (*value).to_owned()),
        id: id.to_owned(),
        config: None,
    })
}

struct Parsed<'a> {
    /// Flags by the name that was used, in order, with their values.
    set: Vec<(&'a str, &'a str)>,
    arguments: Vec<&'a str>,
}

impl Parsed<'_> {
    /// Two names of one flag in one line are refused.
    fn has_two_forms(&self, flags: &[Flag]) -> bool {
        flags.iter().any(|flag| {
            let mut names: Vec<_> = self.set.iter().map(|s| s.0).filter(|n| flag.has(n)).collect();
            names.dedup();
            names.len() > 1
        })
    }

    fn is_on(&self, long: &str) -> bool {
        let is = |name: &str| name == long || (name.len() == 1 && long.starts_with(name));
        // Each name has a value of its own, and any that is on is enough.
        let mut names: Vec<&str> =
            self.set.iter().map(|(name, _)| *name).filter(|n| is(n)).collect();
        names.dedup();
        names.iter().any(|wanted| {
            let last = self.set.iter().rev().find(|(name, _)| name == wanted);
            last.is_some_and(|(_, value)| truth(value) == Some(true))
        })
    }
}

/// Go's `flag.FlagSet.Parse`; `None` where it ends with an error.
fn parse<'a>(flags: &[Flag], line: &[&'a str]) -> Option<Parsed<'a>> {
    let mut parsed = Parsed { set: Vec::new(), arguments: Vec::new() };
    let mut rest = line.iter().copied();
    while let Some(argument) = rest.clone().next() {
        let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else { break };
        rest.next();
        if name == "-" {
            break;
        }
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.starts_with(['-', '=']) {
            return None;
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let flag = flags.iter().find(|flag| flag.has(name))?;
        let value = match (flag.takes, value) {
            (Takes::Switch, value) => {
                let value = value.unwrap_or("true");
                truth(value)?;
                value
            }
            (_, Some(value)) => value,
            (_, None) => rest.next()?,
        };
        parsed.set.push((name, value));
    }
    parsed.arguments = rest.collect();
    Some(parsed)
}

/// Go's `strconv.ParseBool`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// How 1.22.1 puts flags first: whatever begins with a dash, and what may be its value.
fn all_flags_first<'a>(line: &[&'a str]) -> Vec<&'a str> {
    let (mut first, mut behind) = (Vec::new(), Vec::new());
    let mut may_be_value = false;
    for (place, argument) in line.iter().copied().enumerate() {
        if argument == "--" {
            behind.extend(&line[place..]);
            break;
        }
        if argument.starts_with('-') && argument != "-" {
            first.push(argument);
            may_be_value = !argument.contains('=');
            continue;
        }
        // A lone dash is never taken for a value.
        let is_value = std::mem::take(&mut may_be_value) && argument != "-";
        if is_value { &mut first } else { &mut behind }.push(argument);
    }
    first.extend(behind);
    first
}

/// How later versions do: only flags that the command has, whatever stands behind one of them that
/// has no value yet, and a `--` before all other arguments.
fn known_flags_first<'a>(flags: &[Flag], line: &[&'a str]) -> Vec<&'a str> {
    let is_flag = |argument: &str| {
        // Up to three dashes are taken away, which is more than the parser then allows.
        let dashes = argument.bytes().take_while(|byte| *byte == b'-').count().min(3);
        let name = argument[dashes..].split('=').next().unwrap_or_default();
        dashes > 0 && argument != "-" && argument != "--" && flags.iter().any(|f| f.has(name))
    };
    let (mut first, mut behind) = (Vec::new(), Vec::new());
    let mut may_be_value = false;
    for (place, argument) in line.iter().copied().enumerate() {
        if is_flag(argument) {
            first.push(argument);
            may_be_value = !argument.contains('=');
        } else if std::mem::take(&mut may_be_value) {
            first.push(argument);
        } else if argument == "--" {
            behind.insert(0, argument);
            behind.extend(&line[place + 1..]);
            break;
        } else {
            behind.push(argument);
        }
    }
    first.extend(behind);
    first
}
