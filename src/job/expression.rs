//! Cron expressions, which are taken apart only when an occurrence is asked for.
//!
//! That takes some 50 µs each, and a tick with a thousand schedules of which none is due asks for none. An expression of plain
//! numbers, ranges, steps and lists is seen to be right without it; any other is taken apart at once, to know that it can be.

use std::sync::OnceLock;

use chrono::NaiveDateTime;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};

use super::field::FIELDS;

/// A cron expression that can be read.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    cron: OnceLock<Box<Cron>>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    /// Reads an expression of five fields, or six with seconds first, or a word such as `@daily`.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub(super) fn parse(text: &str) -> Result<Self, CronError> {
        let text = if text.eq_ignore_ascii_case("@midnight") { "@daily" } else { text };
        let expression = Self { text: text.to_owned(), cron: OnceLock::new() };
        if !is_plain(text) {
            let cron = take_apart(text)?;
            expression.cron.get_or_init(|| Box::new(cron));
        }
        Ok(expression)
    }

    /// Whether it means times that a clock on the wall shows, and not every so many hours, minutes or seconds.
    pub(super) fn is_of_the_wall_clock(&self) -> bool {
        let text = match self.text.to_ascii_lowercase().as_str() {
            "@hourly" => "0 * * * *",
            name if name.starts_with('@') => return true,
            _ => &self.text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        fields.len().checked_sub(4).is_some_and(|hour| !fields[hour].starts_with('*'))
    }

    /// The first time after `local` that it names, whatever the clocks do in between.
    pub(super) fn next_local(&self, local: NaiveDateTime, is_inclusive: bool) -> Option<NaiveDateTime> {
        self.cron()?.find_next_occurrence(&local.and_utc(), is_inclusive).ok().map(|at| at.naive_utc())
    }

    /// The last time up to `local` that it names.
    pub(super) fn last_local(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        self.cron()?.find_previous_occurrence(&local.and_utc(), true).ok().map(|at| at.naive_utc())
    }

    fn cron(&self) -> Option<&Cron> {
        if self.cron.get().is_none() {
            // It is plain, so it can be taken apart.
            let cron = take_apart(&self.text).ok()?;
            return Some(self.cron.get_or_init(|| Box::new(cron)));
        }
        self.cron.get().map(Box::as_ref)
    }
}

/// As in cron, day and weekday must both fit where one of them begins with `*`; else either will do.
fn take_apart(text: &str) -> Result<Cron, CronError> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let has_star = |from_the_end: usize| {
        fields.len().checked_sub(from_the_end).is_some_and(|at| fields[at].starts_with('*'))
    };
    CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed)
        .dom_and_dow(has_star(3) || has_star(1))
        .build()
        .parse(text)
}

/// Whether each field is `*`, or numbers, ranges and steps within its bounds.
fn is_plain(text: &str) -> bool {
    let fields: Vec<&str> = text.split(' ').collect();
    let bounds = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        _ => return false,
    };
    fields.iter().zip(bounds).all(|(field, bounds)| {
        let is_list = field.contains(',');
        field.split(',').all(|part| {
            is_plain_part(part, (bounds.least, bounds.most)) && !(is_list && part.starts_with('*'))
        })
    })
}

fn is_plain_part(part: &str, (least, most): (u8, u8)) -> bool {
    let number = |digits: &str| {
        let is_short = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u8>().ok().filter(|number| is_short && (least..=most).contains(number))
    };
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if step.is_some_and(|step| number(step).is_none_or(|step| step == 0)) {
        return false;
    }
    match range.split_once('-') {
        _ if range == "*" => true,
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(from, to)| from < to),
        // A step from a single number means different things to different crons.
        None => step.is_none() && number(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_mostly_write_is_plain() {
        for text in ["0 2 * * *", "*/5 * * * *", "0 9-17 * * 1-5", "15,45 * 1 1,7 *", "*/15 * * * * *"] {
            assert!(is_plain(text), "{text}");
        }
        for text in [
            "0 2 L * *",
            "@daily",
            "0 2 * * MON",
            "60 * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "5/10 * * * *",
            "",
        ] {
            assert!(!is_plain(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_can_be_taken_apart(
            fields in prop::collection::vec("([0-9]|[1-5][0-9]|\\*|\\*/[1-9][0-9]?|[0-5]?[0-9]-[0-5]?[0-9](/[1-9][0-9]?)?)(,[0-9]{1,2}|,[0-9]-[0-9]{1,2})?", 5..=6),
            bounded in prop::collection::vec("[1-6]|\\*|\\*/[1-6]|[1-3]-[4-6](/[1-3])?|[1-6],[1-6]|[1-2],[3-4]-[5-6]", 5..=6),
        ) {
            for text in [fields.join(" "), bounded.join(" ")] {
                prop_assert!(!is_plain(&text) || take_apart(&text).is_ok(), "{}", text);
            }
            prop_assert!(is_plain(&bounded.join(" ")), "{}", bounded.join(" "));
        }
    }
}
