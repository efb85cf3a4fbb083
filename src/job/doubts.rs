//! What a schedule says that may not be meant: cron takes it, and does something else than it seems to say.

use chrono::{DateTime, Utc};

use super::field::{Field, fields};
use super::schedule::{Schedule, Trigger};

impl Schedule {
    /// What may not be meant, a sentence for each field, and that it never comes.
    #[must_use]
    pub fn doubts(&self, now: DateTime<Utc>) -> Vec<String> {
        let fields = fields(&self.expression);
        let mut doubts: Vec<String> = fields
            .iter()
            .enumerate()
            .flat_map(|(at, (field, text))| {
                let above = fields.get(at + 1).copied();
                text.split(',').filter_map(move |part| doubt(field, part, text, above))
            })
            .collect();
        doubts.extend(turned_round(self.timezone.name()));
        if self.never_comes(now) {
            doubts.push(format!(
                "`{}` never comes, since no month that it names has such a day; write another day or month",
                self.expression
            ));
        }
        doubts
    }

    /// Whether it is no `@tick` and has no occurrence after `now` all the same.
    #[must_use]
    pub fn never_comes(&self, now: DateTime<Utc>) -> bool {
        matches!(self.trigger, Trigger::Cron(_)) && self.next_after(now).is_none()
    }
}

/// That a zone such as `Etc/GMT+2` is not what its sign seems to say.
fn turned_round(zone: &str) -> Option<String> {
    let signed = zone.strip_prefix("Etc/GMT")?;
    let (way, hours) = match signed.strip_prefix('+') {
        Some(hours) => ("behind", hours),
        None => ("ahead of", signed.strip_prefix('-')?),
    };
    (hours != "0").then(|| {
        format!("`{zone}` is {hours} h {way} UTC, since the sign is turned round in these names, and knows no summer time")
    })
}

/// A step that reaches beyond its field, or so far that it comes in uneven turns.
fn doubt(field: &Field, part: &str, text: &str, above: Option<(&Field, &str)>) -> Option<String> {
    let (range, step) = part.split_once('/')?;
    let step: u16 = step.parse().ok().filter(|step| *step > 1)?;
    let (from, to) = match range.split_once('-') {
        Some((from, to)) => (field.value(from)?, field.value(to)?),
        None if range == "*" => (field.least, field.most),
        None => return None,
    };
    let is_whole = (from, to) == (field.least, field.most);
    let size = u16::from(to.checked_sub(from)?) + 1;
    let (place, all, whole) = (field.place, field.all, field.whole);
    if size > 1 && step >= size {
        let first = show(field, from);
        let another = another_field(field, text, step, above).unwrap_or_default();
        return Some(if is_whole {
            format!(
                "`{part}` in {all} is {place} {first} of each {whole}, since steps start anew with each {whole}; write \
                 `{from}` if that is meant{another}"
            )
        } else {
            format!(
                "`{part}` in {all} is {place} {first} alone, since its range has {size} {all}; write `{from}` if that is meant"
            )
        });
    }
    let second = u8::try_from(u16::from(from) + step).ok()?;
    (is_whole && step * 2 > size && !size.is_multiple_of(step)).then(|| {
        format!(
            "`{part}` in {all} is {place} {} and {} of each {whole} and not every {step} {all}, since steps start anew with each \
             {whole}; write `{from},{second}` if that is meant",
            show(field, from),
            show(field, second)
        )
    })
}

/// The step in the field above that comes as often as it says: `*/120` in minutes is `0 */2`.
fn another_field(field: &Field, text: &str, step: u16, above: Option<(&Field, &str)>) -> Option<String> {
    let (above, found) = above.filter(|(above, found)| *found == "*" && above.least == 0)?;
    let size = u16::from(field.most) + 1;
    let turns = step / size;
    let is_even = step.is_multiple_of(size) && turns > 1 && (u16::from(above.most) + 1).is_multiple_of(turns);
    (is_even && !text.contains(',')).then(|| {
        let all = above.all;
        format!(", or `{}` here and `{found}/{turns}` in {all} for every {turns} {all}", field.least)
    })
}

fn show(field: &Field, value: u8) -> String {
    match field.names.get(usize::from(value.saturating_sub(field.least))) {
        Some(name) => format!("{value} ({name})"),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Zone;

    fn doubts(expression: &str) -> Vec<String> {
        let now = "2026-03-02T10:07:00Z".parse().unwrap();
        Schedule::parse(expression, Zone::UTC).unwrap().doubts(now)
    }

    #[test]
    fn a_step_that_reaches_beyond_its_field_is_told_as_what_it_means() {
        for (expression, said) in [
            ("*/90 * * * *", "`*/90` in minutes is minute 0 of each hour"),
            ("*/60 * * * *", "write `0` if that is meant"),
            ("0 */24 * * *", "`*/24` in hours is hour 0 of each day"),
            ("0 0-23/24 * * *", "`0-23/24` in hours is hour 0 of each day"),
            ("0 0 */31 * *", "`*/31` in days is day of the month 1 of each month"),
            ("0 0 1 */12 *", "`*/12` in months is month 1 (JAN) of each year"),
            ("0 0 * * */7", "`*/7` in weekdays is weekday 0 (SUN) of each week"),
            ("*/60 * * * * *", "`*/60` in seconds is second 0 of each minute"),
            ("10-20/15 * * * *", "`10-20/15` in minutes is minute 10 alone"),
            ("*/120 * * * *", "or `0` here and `*/2` in hours for every 2 hours"),
            ("*/45 * * * *", "`*/45` in minutes is minute 0 and 45 of each hour and not every 45 minutes"),
            ("0 */16 * * *", "write `0,16` if that is meant"),
        ] {
            let told = doubts(expression);
            assert!(told.len() == 1 && told[0].contains(said), "{expression}: {told:?}");
        }
        assert_eq!(doubts("*/90 */24 * * *").len(), 2);
    }

    #[test]
    fn a_zone_whose_sign_is_turned_round_is_told() {
        for (zone, said) in [
            ("Etc/GMT+2", "is 2 h behind UTC"),
            ("Etc/GMT-12", "is 12 h ahead of UTC"),
            ("Etc/GMT+0", ""),
            ("Etc/GMT", ""),
        ] {
            let told = turned_round(zone).unwrap_or_default();
            assert!(told.contains(said) && told.is_empty() == said.is_empty(), "{zone}: {told}");
        }
    }

    #[test]
    fn what_means_what_it_says_is_left_alone() {
        for expression in [
            "*/30 * * * *",
            "*/7 * * * *",
            "0 */12 * * *",
            "5 * * * *",
            "0 0 1 */6 *",
            "@daily",
            "@tick",
            "5-5/3 * * * *",
            "0 0 29 2 *",
            "0 0 30 2 1",
            "0 0 L 2 *",
        ] {
            assert!(doubts(expression).is_empty(), "{expression}: {:?}", doubts(expression));
        }
    }

    #[test]
    fn a_date_that_never_comes_is_told() {
        for expression in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4 *", "0 0 31 APR,jun,9,11 *", "0 0 30 2 */2"]
        {
            let told = doubts(expression);
            assert!(told.iter().any(|told| told.contains("never comes")), "{expression}: {told:?}");
        }
    }
}
