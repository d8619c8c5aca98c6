//! Exceptions that end, that do not, that nobody explains, or that are about everything.

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Span, ToSpan};
use portcullis_types::Timestamp;

use super::{Level, Report};
use crate::document::Exception;
use crate::pattern::Reach;

/// How many days before its end an exception is reported: two weeks to mend or to renew.
const SOON_DAYS: i64 = 14;
/// Longer than this, a year with its leap day, is as good as for ever.
const LONG_DAYS: i64 = 366;

pub(super) fn exceptions(exceptions: &[Exception], now: Timestamp, report: &mut Report<'_>) {
    for (index, exception) in exceptions.iter().enumerate() {
        let path = format!("spec.exceptions[{index}]");
        ends(exception, &path, now, report);
        explained(exception, &path, report);
    }
}

/// The day that is so many days after this time; the last there is, if there is none.
fn day_after(now: Timestamp, days: i64) -> Date {
    let span: Span = days.days();
    Offset::UTC.to_datetime(now).date().saturating_add(span)
}

fn ends(exception: &Exception, path: &str, now: Timestamp, report: &mut Report<'_>) {
    let Exception { expires, id, owner, .. } = exception;
    let mut add = |level, code, message, remedy: String| {
        report.add(level, code, format!("{path}.expires"), message, remedy);
    };
    if exception.has_expired(now) {
        add(
            Level::Warning,
            "exception-ended",
            format!("the exception for {id} ended on {expires} and changes nothing"),
            format!("leave it out, or agree on a new end with {owner}"),
        );
    } else if *expires <= day_after(now, SOON_DAYS) {
        add(
            Level::Warning,
            "exception-ends-soon",
            format!("the exception for {id} ends on {expires}"),
            format!("mend what it excuses, or agree on a new end with {owner}"),
        );
    } else if *expires > day_after(now, LONG_DAYS) {
        add(
            Level::Warning,
            "exception-long",
            format!("the exception for {id} runs until {expires}, for more than a year"),
            "name a day within a year, when somebody looks at it again".to_owned(),
        );
    }
}

fn explained(exception: &Exception, path: &str, report: &mut Report<'_>) {
    let Exception { id, package, image, sha256, reason, ticket, .. } = exception;
    if reason.is_none() && ticket.is_none() {
        report.add(
            Level::Warning,
            "exception-unexplained",
            path,
            format!("nothing says why {id} is excused"),
            "give a reason or a ticket",
        );
    }
    let any_image = image.as_ref().is_none_or(|image| image.reach() == Reach::Everything);
    if any_image && package.is_none() && sha256.is_none() {
        report.add(
            Level::Warning,
            "broad-exception",
            path,
            format!("it excuses {id} in every package of every image"),
            "name the package or the image for which somebody has looked at it",
        );
    }
}
