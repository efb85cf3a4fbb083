//! When a definition is due: cron expressions in a time zone, and what to do about missed occurrences.
//!
//! Two answers are defined for a change of the clocks. An expression whose hours do not begin with `*` means times on a
//! clock on the wall: each of them happens once on its day. Those that the change jumps over happen right after the jump,
//! together, as one; those that come twice happen the first time. An expression whose hours begin with `*` follows elapsed time:
//! it happens whenever the clock shows a time that it names, also twice. The expression itself is asked about local times only,
//! which have no changes; what a change makes of them is decided here.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::expression::Expression;
use super::field::fields;
use super::{Zone, duration, fnv1a};

/// Bytes of a signature at most, as the column has them.
const SIGNATURE: usize = 300;

/// What makes an occurrence.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// `@tick`: every tick, at most once a second over all hosts.
    Tick,
    /// A cron expression.
    Cron(Expression),
}

/// Which missed occurrences are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CatchUp {
    /// The latest one.
    #[default]
    Latest,
    /// Every one.
    All,
    /// None: only what is on time.
    None,
}

/// What happens to an occurrence while the job of the previous one has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is skipped, and recorded as cancelled.
    #[default]
    Skip,
    /// Its job waits for the previous one to end.
    Queue,
    /// Its job starts beside the previous one.
    Allow,
    /// The previous one is cancelled, and its job starts when that has ended.
    Replace,
}

/// An expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{expression}` is not a cron expression: {problem}; expected 5 fields (minute hour day month weekday), 6 with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly, @tick"
)]
pub struct ScheduleError {
    expression: String,
    problem: String,
}

/// When a definition is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// As it was written.
    pub expression: String,
    /// As it was understood.
    pub trigger: Trigger,
    /// The zone whose wall clock the expression means.
    pub timezone: Zone,
    /// Which missed occurrences are made up for.
    pub catch_up: CatchUp,
    /// How late an occurrence may still start.
    pub starting_deadline: Option<Duration>,
    /// What happens while the previous job has not ended.
    pub overlap: Overlap,
    /// Starts are spread over this long, by a hash of the name.
    pub jitter: Duration,
}

impl Schedule {
    /// A schedule with the default policies.
    ///
    /// # Errors
    ///
    /// When the expression cannot be read.
    pub fn parse(expression: &str, timezone: Zone) -> Result<Self, ScheduleError> {
        let trimmed = expression.trim();
        let fail =
            |problem: &str| ScheduleError { expression: expression.to_owned(), problem: problem.to_owned() };
        let trigger = if trimmed.eq_ignore_ascii_case("@tick") {
            Trigger::Tick
        } else {
            let read = Expression::parse(trimmed);
            Trigger::Cron(read.map_err(|err| fail(&problem(trimmed, &err.to_string())))?)
        };
        Ok(Self {
            expression: trimmed.to_owned(),
            trigger,
            timezone,
            catch_up: CatchUp::default(),
            starting_deadline: None,
            overlap: Overlap::default(),
            jitter: Duration::ZERO,
        })
    }

    /// What identifies the instants of this schedule: when it changes, the schedule starts anew.
    #[must_use]
    pub fn signature(&self) -> String {
        let whole = format!("{} {}", self.expression, self.timezone);
        if whole.len() <= SIGNATURE {
            return whole;
        }
        let hash = format!("{:016x}", fnv1a(whole.as_bytes()));
        whole.chars().take(SIGNATURE / 4).chain(hash.chars()).collect()
    }

    /// The first occurrence after `instant`; `None` for `@tick` and for a date that never comes.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Trigger::Cron(expression) = &self.trigger else { return None };
        let zone = &self.timezone;
        let mut local = zone.local(instant);
        if expression.is_of_the_wall_clock() {
            // Times that come a second time were due the first time.
            loop {
                local = expression.next_local(local, false)?;
                let at = zone.first_instant(local)?;
                if at > instant {
                    return Some(at);
                }
            }
        }
        // From one change of the clocks to the next, elapsed time and the wall clock go alike.
        let (mut from, mut is_inclusive) = (instant, false);
        loop {
            let offset = local - from.naive_utc();
            let at = expression.next_local(local, is_inclusive).map(|next| (next - offset).and_utc());
            match zone.next_change(from) {
                Some(change) if at.is_none_or(|at| at >= change) => {
                    // A date that never comes does not come after any change either.
                    at?;
                    (from, local, is_inclusive) = (change, zone.local(change), true);
                }
                _ => return at,
            }
        }
    }

    /// When a tick should look at this schedule again, having made what was due up to `mark`.
    #[must_use]
    pub fn look_again_at(&self, mark: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.trigger {
            Trigger::Tick => Some(mark),
            Trigger::Cron(_) => self.next_after(mark),
        }
    }

    /// The mark that a schedule which is new at `now` begins with: `@tick` is due at once, all else from then on.
    #[must_use]
    pub fn first_mark(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.trigger {
            Trigger::Tick => now - TimeDelta::seconds(1),
            Trigger::Cron(_) => now,
        }
    }

    /// How much later than its occurrence a job of the definition `name` starts.
    #[must_use]
    pub fn delay_of(&self, name: &str) -> Duration {
        let span = self.jitter.as_millis();
        if span == 0 {
            return Duration::ZERO;
        }
        let spread = u128::from(fnv1a(name.as_bytes())) % span;
        Duration::from_millis(u64::try_from(spread).unwrap_or(0))
    }

    /// How long starts are spread over, if they are: as [`duration::parse`] reads it.
    #[must_use]
    pub fn shown_jitter(&self) -> Option<String> {
        (!self.jitter.is_zero()).then(|| duration::exact(self.jitter))
    }

    /// The first start after `instant` of a job of the definition `name`, and the occurrence that it is of.
    #[must_use]
    pub fn next_start(&self, name: &str, instant: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let delay = self.delay_of(name);
        let occurrence = self.next_after(instant - delay)?;
        Some((occurrence + delay, occurrence))
    }

    /// The latest occurrence at or before `now`.
    pub(super) fn latest_up_to(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Trigger::Cron(expression) = &self.trigger else { return None };
        let zone = &self.timezone;
        let mut local = zone.local(now);
        if expression.is_of_the_wall_clock() {
            // The clock may go through a part of its day for the second time: then what is still ahead of it was due, too.
            let mut latest = expression.last_local(local).and_then(|last| zone.first_instant(last));
            loop {
                let Some(next) = expression.next_local(local, false) else { return latest };
                match zone.first_instant(next) {
                    Some(at) if at <= now => (latest, local) = (Some(at), next),
                    _ => return latest,
                }
            }
        }
        let mut until = now;
        loop {
            let offset = local - until.naive_utc();
            let at = expression.last_local(local).map(|last| (last - offset).and_utc())?;
            match zone.last_change(until) {
                Some(change) if at < change => {
                    until = change - TimeDelta::nanoseconds(1);
                    local = zone.local(until);
                }
                _ => return Some(at),
            }
        }
    }
}

/// What is wrong with an expression, in fewer words than the parser's.
fn problem(expression: &str, told: &str) -> String {
    let fields = expression.split_whitespace().count();
    if expression.starts_with('@') {
        return "no such name".to_owned();
    }
    if !(5..=6).contains(&fields) {
        return format!("it has {fields} field{}", if fields == 1 { "" } else { "s" });
    }
    if let Some(wrong) = wrong_field(expression) {
        return wrong;
    }
    let own = told.rsplit_once("error: ").map_or(told, |(_, own)| own).trim_end_matches('.');
    let mut letters = own.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// What is wrong with the first field that would not do either if all others were `*`.
fn wrong_field(expression: &str) -> Option<String> {
    let all = fields(expression);
    let does = |at: usize, text: &str| {
        let mut alone = vec!["*"; all.len()];
        alone[at] = text;
        Expression::parse(&alone.join(" ")).is_ok()
    };
    let (at, (field, found)) = all.iter().enumerate().find(|(at, (_, found))| !does(*at, found))?;
    let expected = match field.meant_by(found).filter(|meant| does(at, meant)) {
        Some(meant) => format!("write `{meant}` if that is meant"),
        None => format!("expected {}", field.expected),
    };
    Some(format!("its {} `{found}` is none; {expected}", field.place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::MAX_OCCURRENCES;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn utc(expression: &str) -> Schedule {
        Schedule::parse(expression, Zone::UTC).unwrap()
    }

    fn next(expression: &str, zone: &Zone, after: &str) -> String {
        let schedule = Schedule::parse(expression, zone.clone()).unwrap();
        schedule.next_after(at(after)).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn every_form_of_an_expression_is_read() {
        for (expression, expected) in [
            ("*/15 * * * *", "2026-03-02T10:15:00Z"),
            ("30 * * * * *", "2026-03-02T10:07:30Z"),
            ("0 2 * * 1-5", "2026-03-03T02:00:00Z"),
            ("0 2 * * MON-FRI", "2026-03-03T02:00:00Z"),
            ("0 0 1 JAN,jul *", "2026-07-01T00:00:00Z"),
            ("0 0 L * *", "2026-03-31T00:00:00Z"),
            ("0 0 15W * *", "2026-03-16T00:00:00Z"),
            ("0 0 * * 5#2", "2026-03-13T00:00:00Z"),
            ("0 0 * * 7", "2026-03-08T00:00:00Z"),
            ("@hourly", "2026-03-02T11:00:00Z"),
            ("@midnight", "2026-03-03T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(next(expression, &Zone::UTC, "2026-03-02T10:07:00Z"), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_what_was_expected() {
        for bad in ["", "* * * *", "61 * * * *", "* * * * * * *", "@dayly", "a b c d e", "*/0 * * * *"] {
            let message = Schedule::parse(bad, Zone::UTC).unwrap_err().to_string();
            assert!(message.contains("5 fields"), "{bad}: {message}");
        }
    }

    #[test]
    fn a_field_that_is_refused_is_told_in_the_form_that_may_be_meant() {
        for (bad, meant) in [
            ("3/10 * * * *", "`3/10` is none; write `3-59/10` if that is meant"),
            ("3/10 * * * * *", "its second `3/10` is none; write `3-59/10`"),
            ("0 2/6 * * *", "its hour `2/6` is none; write `2-23/6`"),
            ("0 0 2/7 * *", "write `2-31/7`"),
            ("0 0 1 2/3 *", "write `2-12/3`"),
            ("0 0 1 feb/3 *", "write `feb-DEC/3`"),
            ("0 0 * * 1/2", "write `1-6/2`"),
            ("0 0 * * MON/2", "write `MON-SAT/2`"),
            ("0,3/10 * * * *", "write `0,3-59/10`"),
            ("/10 * * * *", "write `*/10`"),
            ("0 22-2 * * *", "write `22-23,0-2`"),
            ("0 0 * * FRI-MON", "write `FRI-SAT,SUN-MON`"),
            ("0 22-0 * * *", "write `22-23,0`"),
            ("70/10 * * * *", "`70/10` is none; expected 0 to 59"),
            ("3/0 * * * *", "`3/0` is none; expected 0 to 59"),
        ] {
            let message = Schedule::parse(bad, Zone::UTC).unwrap_err().to_string();
            assert!(message.contains(meant), "{bad}: {message}");
        }
    }

    #[test]
    fn a_time_that_the_clocks_jump_over_happens_once_right_after() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // 2026-03-29: 02:00 becomes 03:00 (01:00 UTC).
        assert_eq!(next("30 2 * * *", &berlin, "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next("30 2 * * *", &berlin, "2026-03-29T01:00:00Z"), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn a_time_that_the_clocks_repeat_happens_once_the_first_time() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // 2026-10-25: 03:00 becomes 02:00 (01:00 UTC).
        assert_eq!(next("30 2 * * *", &berlin, "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", &berlin, "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn an_hourly_expression_follows_elapsed_time_over_both_changes() {
        let mut hourly = utc("0 * * * *");
        hourly.timezone = Zone::named("Europe/Berlin").unwrap();
        hourly.catch_up = CatchUp::All;
        for (mark, now) in [
            ("2026-03-28T22:30:00Z", "2026-03-29T04:30:00Z"),
            ("2026-10-24T22:30:00Z", "2026-10-25T04:30:00Z"),
        ] {
            assert_eq!(hourly.occurrences(at(mark), at(now)).due.len(), 6, "{mark}");
        }
    }

    #[test]
    fn of_missed_occurrences_only_the_latest_is_made_up_for() {
        let found = utc("*/10 * * * *").occurrences(at("2026-01-01T00:00:00Z"), at("2026-01-01T01:05:00Z"));
        assert_eq!(found.due, [at("2026-01-01T01:00:00Z")]);
        assert_eq!(found.missed, Some((5, at("2026-01-01T00:10:00Z"), at("2026-01-01T00:50:00Z"))));
        assert_eq!(found.mark, at("2026-01-01T01:05:00Z"));
    }

    #[test]
    fn without_catching_up_only_what_is_on_time_starts() {
        let mut schedule = utc("0 * * * *");
        schedule.catch_up = CatchUp::None;
        let late = schedule.occurrences(at("2026-01-01T00:30:00Z"), at("2026-01-01T01:05:00Z"));
        assert_eq!((late.due.len(), late.missed.map(|m| m.0)), (0, Some(1)));
        let punctual = schedule.occurrences(at("2026-01-01T00:30:00Z"), at("2026-01-01T01:00:59Z"));
        assert_eq!(punctual.due, [at("2026-01-01T01:00:00Z")]);
    }

    #[test]
    fn a_starting_deadline_cuts_what_is_too_late() {
        let mut schedule = utc("0 * * * *");
        schedule.catch_up = CatchUp::All;
        schedule.starting_deadline = Some(Duration::from_secs(2 * 3600));
        let found = schedule.occurrences(at("2026-01-01T00:30:00Z"), at("2026-01-01T10:30:00Z"));
        assert_eq!(found.due, [at("2026-01-01T09:00:00Z"), at("2026-01-01T10:00:00Z")]);
        assert_eq!(found.missed.map(|m| m.0), Some(8));
    }

    #[test]
    fn after_a_long_outage_the_latest_is_still_the_latest() {
        let found = utc("* * * * *").occurrences(at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:30Z"));
        assert_eq!(found.due, [at("2026-02-01T00:00:00Z")]);
        assert_eq!(found.mark, at("2026-02-01T00:00:30Z"));
    }

    #[test]
    fn catching_up_with_everything_goes_on_where_a_pass_stopped() {
        let mut schedule = utc("* * * * *");
        schedule.catch_up = CatchUp::All;
        let (mut mark, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T10:00:00Z"));
        let mut made = Vec::new();
        loop {
            let found = schedule.occurrences(mark, now);
            if found.due.is_empty() {
                break;
            }
            assert!(found.due.len() <= MAX_OCCURRENCES);
            made.extend(found.due);
            mark = found.mark;
        }
        assert_eq!(made.len(), 34 * 60);
        assert!(made.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(1)));
    }

    #[test]
    fn another_zone_or_expression_has_another_signature_whatever_they_begin_with() {
        let signature = |expression: &str, zone: &str| {
            Schedule::parse(expression, Zone::named(zone).unwrap()).unwrap().signature()
        };
        assert_ne!(signature("0 2 * * *", "Etc/GMT"), signature("0 2 * * *", "Etc/GMT-5"));
        let minutes: Vec<String> = (0..60).map(|minute| minute.to_string()).collect();
        let long = |last: &str| format!("{0},{0},{last} * * * *", minutes.join(","));
        assert_ne!(signature(&long("0"), "UTC"), signature(&long("1"), "UTC"));
        assert_ne!(signature(&long("0"), "UTC"), signature(&long("0"), "Europe/Berlin"));
        assert!(signature(&long("0"), "America/Argentina/ComodRivadavia").len() <= SIGNATURE);
    }

    #[test]
    fn a_tick_schedule_is_due_once_a_second() {
        let schedule = utc("@tick");
        let first = schedule.occurrences(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:05.7Z"));
        assert_eq!(first.due, [at("2026-01-01T00:00:05Z")]);
        let again = schedule.occurrences(first.mark, at("2026-01-01T00:00:05.9Z"));
        assert!(again.due.is_empty());
    }

    #[test]
    fn the_spread_is_the_same_everywhere_and_below_the_jitter() {
        let mut schedule = utc("@daily");
        schedule.jitter = Duration::from_secs(30);
        assert_eq!(schedule.delay_of("nightly"), schedule.delay_of("nightly"));
        assert_ne!(schedule.delay_of("nightly"), schedule.delay_of("weekly"));
        assert!(schedule.delay_of("nightly") < schedule.jitter);
    }

    #[test]
    fn a_start_is_as_much_later_than_its_occurrence_as_the_jitter_says() {
        let mut schedule = utc("0 * * * *");
        assert_eq!(
            schedule.next_start("a", at("2026-01-01T00:00:00Z")),
            Some((at("2026-01-01T01:00:00Z"), at("2026-01-01T01:00:00Z")))
        );
        schedule.jitter = Duration::from_secs(1800);
        let delay = schedule.delay_of("a");
        assert!(delay > Duration::from_secs(1));
        // Between an occurrence and its start, that start is what comes next.
        let due = at("2026-01-01T01:00:00Z");
        for now in [due - TimeDelta::minutes(1), due, due + TimeDelta::seconds(1)] {
            assert_eq!(schedule.next_start("a", now), Some((due + delay, due)), "{now}");
        }
        let later = due + TimeDelta::hours(1);
        assert_eq!(schedule.next_start("a", due + delay), Some((later + delay, later)));
    }

    proptest! {
        #[test]
        fn a_pass_makes_exactly_what_lies_between_mark_and_now(
            minutes in 1i64..59, start in 0i64..100_000_000, length in 0i64..200_000,
        ) {
            let mut schedule = utc(&format!("*/{minutes} * * * *"));
            schedule.catch_up = CatchUp::All;
            let mark = at("2024-01-01T00:00:00Z") + TimeDelta::seconds(start);
            let now = mark + TimeDelta::seconds(length);
            let found = schedule.occurrences(mark, now);
            prop_assert!(found.due.iter().all(|due| *due > mark && *due <= now));
            prop_assert!(found.due.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(found.due.len() <= MAX_OCCURRENCES);
            // Split anywhere, two passes make what one made.
            let middle = mark + TimeDelta::seconds(length / 2);
            if found.due.len() < MAX_OCCURRENCES {
                let mut halves = schedule.occurrences(mark, middle).due;
                halves.extend(schedule.occurrences(middle, now).due);
                prop_assert_eq!(halves, found.due);
            }
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[0-9*/,#LW@?a-zA-Z -]{0,30}") {
            if let Ok(schedule) = Schedule::parse(&text, Zone::UTC) {
                let found = schedule.occurrences(at("2026-01-01T00:00:00Z"), at("2026-01-01T02:00:00Z"));
                prop_assert!(found.due.len() <= 1);
            }
        }
    }
}
