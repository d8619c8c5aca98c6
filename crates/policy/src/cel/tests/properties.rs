//! What holds for every text.

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::super::time::{Instant, Part, duration_text, parse_duration};
use super::generated::{Typing, expression};
use super::*;

/// Texts that get far into the parser: pieces of the language in any order.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: [&str; 48] = [
        "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "!", "-", "+", "*", "/", "%", "&&", "||",
        "==", "!=", "<", ">=", "in", "true", "null", "1", "2u", "1.5", "'a'", "b'b'", "\"", "'''",
        "\\", "finding", "image", "request", "now", "id", "labels", "x", "has(", "all(x,",
        "map(x,", "size(", "matches(", "//", "\n", " ",
    ];
    prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..60).prop_map(|p| p.concat())
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "\\PC{0,60}",
        pieces(),
        expression(Typing::Loose),
        // A right one with something in it that is not.
        (expression(Typing::Right), any::<prop::sample::Index>(), any::<char>()).prop_map(
            |(text, at, c)| {
                let mut chars: Vec<char> = text.chars().collect();
                chars.insert(at.index(chars.len() + 1), c);
                chars.into_iter().collect()
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic_and_every_refusal_has_a_place(text in any_text()) {
        let start = Start::sample();
        match text.parse::<Expression>() {
            Err(error) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
                prop_assert!(error.message.len() < 1000 && !error.message.contains('\n'));
            }
            Ok(expression) => {
                let mut cost = Cost::of_start();
                let before = cost.left();
                let answer = expression.evaluate(&start.input(), &mut cost);
                prop_assert!(before - cost.left() <= COST_LIMIT);
                for asked in [Asked::PerFinding, Asked::PerStart] {
                    match expression.check(asked) {
                        Ok(()) => if let Err(error) = &answer {
                            prop_assert!(is_of_data(error), "{error}");
                        },
                        Err(error) => {
                            prop_assert!((1..=text.chars().count() + 1).contains(&error.column));
                        }
                    }
                }
                let again: Expression = expression.to_string().parse().unwrap();
                prop_assert_eq!(&again, &expression);
                prop_assert_eq!(again.to_string(), text);
                prop_assert_eq!(again.evaluate(&start.input(), &mut Cost::of_start()), answer);
            }
        }
    }

    /// `value` compares what comes out with the static type.
    #[test]
    fn values_are_of_the_type_that_the_check_finds(text in expression(Typing::Loose)) {
        let _ = value(&text, &Start::sample());
    }

    #[test]
    fn scores_keep_their_order(a in 0_u16..=1000, b in 0_u16..=1000) {
        let score = |n: u16| {
            let mut start = Start::sample();
            start.finding.cvss = Some(f32::from(n) / 100.0);
            value("finding.cvss", &start).unwrap().parse::<f64>().unwrap()
        };
        prop_assert_eq!(score(a).total_cmp(&score(b)), a.cmp(&b));
        prop_assert_eq!(score(a), f64::from(a) / 100.0);
    }

    /// The calendar beside that of another crate, as far as its years go.
    #[test]
    fn the_calendar_is_right(
        seconds in -62_135_596_800_i64..=253_370_764_799,
        nanos in 0_i32..1_000_000_000,
    ) {
        let time = Timestamp::new(seconds, nanos).unwrap();
        let own = Instant::from(time);
        prop_assert_eq!(own.to_string(), time.to_string());
        prop_assert_eq!(Instant::parse(&time.to_string()), Ok(own));
        let civil: DateTime = jiff::tz::Offset::UTC.to_datetime(time);
        let part = |part| own.part(part, None).unwrap();
        prop_assert_eq!(part(Part::FullYear), i64::from(civil.year()));
        prop_assert_eq!(part(Part::Month), i64::from(civil.month()) - 1);
        prop_assert_eq!(part(Part::Date), i64::from(civil.day()));
        prop_assert_eq!(part(Part::DayOfMonth), i64::from(civil.day()) - 1);
        prop_assert_eq!(part(Part::DayOfYear), i64::from(civil.date().day_of_year()) - 1);
        let weekday = civil.weekday().to_sunday_zero_offset();
        prop_assert_eq!(part(Part::DayOfWeek), i64::from(weekday));
        prop_assert_eq!(part(Part::Hours), i64::from(civil.hour()));
        prop_assert_eq!(part(Part::Minutes), i64::from(civil.minute()));
        prop_assert_eq!(part(Part::Seconds), i64::from(civil.second()));
        prop_assert_eq!(part(Part::Milliseconds), i64::from(nanos / 1_000_000));
    }

    #[test]
    fn durations_are_read_as_they_are_written(nanos in any::<i64>()) {
        prop_assert_eq!(parse_duration(&duration_text(nanos)), Ok(nanos));
    }
}
