//! One line that says what was decided and what to do about it.
//!
//! Ids, package names, references and details come from images, reports and annotations: none may
//! forge a part of the line, move a terminal's cursor, or contain words that engines take for an
//! error of their own.

mod phrases;
mod plain;

use portcullis_types::{Action, Decision, Identity, Surety};

use phrases::Speaking;
use plain::{plain, printable, shortened, without_engine_errors};

/// Longest line, in bytes: kubelet and `kubectl` cut from the right, and less than 512 survives.
const MAX_LENGTH: usize = 511;
const MAX_IMAGE: usize = 150;
const MAX_POLICIES: usize = 90;
const MAX_EVENT_ID: usize = 40;
/// An id of an engine's has 64 digits.
const MAX_CONTAINER: usize = 64;

/// The line of a refusal, and of the record of any other decision: reason first, then image,
/// policies, and how to learn more. ASCII, under 512 bytes, without a line break.
pub fn refusal(decision: &Decision, identity: &Identity, event_id: &str) -> String {
    let verb = match decision.action {
        Action::Block => "blocked",
        Action::Alarm if decision.would_block() => "alarm (would block)",
        Action::Alarm => "alarm",
        Action::Allow => "allowed",
    };
    let head = format!("portcullis: {verb}: ");
    let speaking = phrases::speaking(decision);
    let id: String = plain(event_id).chars().take(MAX_EVENT_ID).collect();
    let tail = format!(
        "; image {}{}; see: portcullis explain {id}",
        image(identity),
        policies(&speaking),
    );
    let room = MAX_LENGTH.saturating_sub(head.len() + tail.len());
    without_engine_errors(format!("{head}{}{tail}", fitting(&speaking.phrases, room)))
}

/// The line of a container that runs and would be decided so if it were started again now: reason
/// first, then container, image, policies, and how to learn more. ASCII, under 512 bytes, without a
/// line break.
pub fn violation(
    decision: &Decision,
    identity: &Identity,
    container: &str,
    event_id: &str,
) -> String {
    let head = "portcullis: now violating: ";
    let speaking = phrases::speaking(decision);
    let id: String = plain(event_id).chars().take(MAX_EVENT_ID).collect();
    let tail = format!(
        "; container {}; image {}{}; see: portcullis explain {id}",
        shortened(&plain(container), MAX_CONTAINER),
        image(identity),
        policies(&speaking),
    );
    let room = MAX_LENGTH.saturating_sub(head.len() + tail.len());
    without_engine_errors(format!("{head}{}{tail}", fitting(&speaking.phrases, room)))
}

/// Any text as one line of ASCII under 512 bytes, cut in the middle if it is longer. For records
/// beside a refusal: nothing in it is taken for a part of another line.
pub fn one_line(text: &str) -> String {
    without_engine_errors(shortened(&printable(text), MAX_LENGTH))
}

fn image(identity: &Identity) -> String {
    let sure = match identity.surety {
        Surety::Bound => "",
        Surety::Claimed => " (claimed)",
        Surety::Unknown => " (not proven)",
    };
    let image = shortened(&plain(&identity.to_string()), MAX_IMAGE);
    if image == "unknown" { image } else { format!("{image}{sure}") }
}

fn policies(speaking: &Speaking<'_>) -> String {
    let said = |word: &str, names: &[&str]| match names {
        [] => String::new(),
        names => format!("; {word} {}", shortened(&plain(&names.join(", ")), MAX_POLICIES)),
    };
    // Where policies speak, what the settings add stands among the reasons.
    match speaking.policies.as_slice() {
        [] => said("setting", &speaking.settings),
        names => said("policy", names),
    }
}

/// As many phrases as there is room for, the first at any rate, and how many are left out.
fn fitting(phrases: &[String], room: usize) -> String {
    let mut line = String::new();
    for (index, phrase) in phrases.iter().enumerate() {
        let rest = match phrases.len() - index - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        if index == 0 {
            line = shortened(phrase, room.saturating_sub(rest.len()));
        } else if line.len() + 2 + phrase.len() + rest.len() <= room {
            line.push_str(", ");
            line.push_str(phrase);
        } else {
            line.push_str(&format!(", and {} more", phrases.len() - index));
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests;
