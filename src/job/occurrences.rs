//! What a pass over a schedule makes up for: the occurrences since its mark, and which of them were missed.

use chrono::{DateTime, DurationRound, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::schedule::{CatchUp, Schedule, Trigger};

/// Occurrences that one pass makes jobs of, at most.
pub const MAX_OCCURRENCES: usize = 1000;

/// How late an occurrence may be before `catch_up: none` calls it missed, where no `starting_deadline` says so: two intervals of a
/// crontab line, or of the ticks, where they are rarer.
const ON_TIME: TimeDelta = TimeDelta::minutes(2);

/// What one pass over a schedule found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Occurrences {
    /// Instants that each become a job, oldest first.
    pub due: Vec<DateTime<Utc>>,
    /// How many were passed over, and the first and last of them.
    pub missed: Option<(usize, DateTime<Utc>, DateTime<Utc>)>,
    /// Up to where occurrences are made, once those are inserted.
    pub mark: DateTime<Utc>,
}

impl Schedule {
    /// The occurrences in (`mark`, `now`], cut by `catch_up` and `starting_deadline`, where ticks are a minute apart.
    #[must_use]
    pub fn occurrences(&self, mark: DateTime<Utc>, now: DateTime<Utc>) -> Occurrences {
        self.occurrences_by_ticks(mark, now, TimeDelta::zero())
    }

    /// The same where they are usually `distance` apart.
    #[must_use]
    pub fn occurrences_by_ticks(
        &self,
        mark: DateTime<Utc>,
        now: DateTime<Utc>,
        distance: TimeDelta,
    ) -> Occurrences {
        let Trigger::Cron(_) = self.trigger else { return tick(mark, now) };
        // What is older than this is missed.
        let just_before =
            self.earliest_start(now, distance).map(|earliest| earliest - TimeDelta::nanoseconds(1));
        let from = just_before.map_or(mark, |before| before.clamp(mark, now.max(mark)));
        if self.catch_up != CatchUp::All {
            let due: Vec<DateTime<Utc>> =
                self.latest_up_to(now).filter(|at| *at > from).into_iter().collect();
            let until = due.first().map_or(now, |latest| *latest - TimeDelta::nanoseconds(1));
            return Occurrences { missed: self.count(mark, until), mark: now.max(mark), due };
        }
        let following = |at: &DateTime<Utc>| self.next_after(*at).filter(|next| *next <= now);
        let due: Vec<DateTime<Utc>> =
            std::iter::successors(following(&from), following).take(MAX_OCCURRENCES).collect();
        let is_whole = due.len() < MAX_OCCURRENCES;
        let made = if is_whole { now.max(mark) } else { due.last().map_or(now, |last| *last) };
        Occurrences { missed: self.count(mark, from), mark: made, due }
    }

    /// The oldest instant that may still start at `now`.
    fn earliest_start(&self, now: DateTime<Utc>, distance: TimeDelta) -> Option<DateTime<Utc>> {
        let deadline = self.starting_deadline.and_then(|d| TimeDelta::from_std(d).ok());
        match self.catch_up {
            CatchUp::None => now.checked_sub_signed(deadline.unwrap_or(ON_TIME.max(distance * 2))),
            CatchUp::Latest | CatchUp::All => deadline.and_then(|d| now.checked_sub_signed(d)),
        }
    }

    /// How many occurrences there are in (`after`, `until`], with the first and the last.
    ///
    /// Days on which the clocks do not change have as many as one another, or none: so months of seconds are counted by their days.
    fn count(
        &self,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<(usize, DateTime<Utc>, DateTime<Utc>)> {
        let first = self.next_after(after).filter(|first| *first <= until)?;
        let (mut count, mut last, mut on_a_day) = (0, first, None);
        let mut next = Some(first);
        while let Some(at) = next.filter(|at| *at <= until) {
            let day = self.day_of(at);
            let is_whole = day.is_some_and(|(start, end)| start > after && end <= until);
            match (on_a_day, day) {
                (Some((on_a_day, length)), Some((_, end))) if is_whole => {
                    count += on_a_day;
                    last = at + length;
                    next = self.next_after(end - TimeDelta::nanoseconds(1));
                }
                _ => {
                    let end = day.map_or(at, |(_, end)| end - TimeDelta::nanoseconds(1)).min(until).max(at);
                    let following = |at: &DateTime<Utc>| self.next_after(*at).filter(|next| *next <= end);
                    let (of_day, latest) = std::iter::successors(Some(at), following)
                        .fold((0, at), |(count, _), at| (count + 1, at));
                    (count, last) = (count + of_day, latest);
                    if is_whole {
                        on_a_day = Some((of_day, latest - at));
                    }
                    next = self.next_after(latest);
                }
            }
        }
        Some((count, first, last))
    }

    /// From when to when the local day of an instant lasts, if the clocks do not change on it.
    fn day_of(&self, at: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let zone = &self.timezone;
        let date = zone.local(at).date();
        let midnight = |date: NaiveDate| zone.first_instant(date.and_time(NaiveTime::MIN));
        let (start, end) = (midnight(date)?, midnight(date.succ_opt()?)?);
        let change = zone.next_change(start - TimeDelta::seconds(1));
        change.is_none_or(|change| change > end).then_some((start, end))
    }
}

/// `@tick` is due once in a second.
fn tick(mark: DateTime<Utc>, now: DateTime<Utc>) -> Occurrences {
    let second = now.duration_trunc(TimeDelta::seconds(1)).unwrap_or(now);
    let due = if second > mark { vec![second] } else { Vec::new() };
    Occurrences { due, missed: None, mark: second.max(mark) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Zone;
    use std::time::Duration;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn schedule(expression: &str, catch_up: CatchUp) -> Schedule {
        Schedule { catch_up, ..Schedule::parse(expression, Zone::UTC).unwrap() }
    }

    #[test]
    fn what_was_skipped_is_counted_whole_however_much_it_is() {
        let now = at("2026-11-20T10:00:30Z");
        for (expression, mark, expected) in [
            ("* * * * *", "2026-11-17T02:00:30Z", 4799),
            ("* * * * * *", "2026-10-20T10:00:30Z", 31 * 86_400 - 1),
            ("*/7 3 * * MON", "2020-01-01T00:00:00Z", 359 * 9 - 1),
        ] {
            for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe"] {
                let zone = Zone::named(zone).unwrap();
                let schedule = Schedule { timezone: zone, ..schedule(expression, CatchUp::Latest) };
                let found = schedule.occurrences(at(mark), now);
                let (count, first, last) = found.missed.unwrap();
                // Those of the wall clock are as many in each zone; the others follow elapsed time, also in UTC.
                assert_eq!(count, expected, "{expression} {}", schedule.timezone);
                assert_eq!(schedule.next_after(at(mark)), Some(first));
                assert_eq!(schedule.next_after(last).as_ref(), found.due.first());
            }
        }
    }

    #[test]
    fn those_within_the_deadline_are_made_up_for_after_however_long() {
        let deadline = Some(Duration::from_secs(180));
        let schedule = Schedule { starting_deadline: deadline, ..schedule("* * * * *", CatchUp::All) };
        let found = schedule.occurrences(at("2026-01-01T00:00:00Z"), at("2026-01-11T00:00:30Z"));
        let due = ["2026-01-10T23:58:00Z", "2026-01-10T23:59:00Z", "2026-01-11T00:00:00Z"].map(at);
        assert_eq!(found.due, due);
        assert_eq!(found.missed.map(|missed| missed.0), Some(14_397));
        assert_eq!(found.mark, at("2026-01-11T00:00:30Z"));
    }

    #[test]
    fn on_time_is_what_came_since_two_ticks_ago_where_ticks_are_rare() {
        let schedule = schedule("7 2 * * *", CatchUp::None);
        let pass = |minutes| {
            schedule.occurrences_by_ticks(
                at("2026-01-01T02:05:00Z"),
                at("2026-01-01T02:10:00Z"),
                TimeDelta::minutes(minutes),
            )
        };
        assert_eq!((pass(1).due.len(), pass(5).due.len()), (0, 1));
        assert_eq!(pass(1).missed.map(|missed| missed.0), Some(1));
    }
}
