//! Schedules over every change of every clock, beside a second reading of the rule, which knows nothing of the first: it looks
//! at each minute there is.
//!
//! The rule: an expression whose hours do not begin with `*` means times of a clock on the wall. Each happens once on its day;
//! those that are jumped over right after the jump, together, as one; those that come twice the first time. Any other follows
//! elapsed time. Day and weekday must both fit where one of them begins with `*`, else either will do.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use duly::job::{Schedule, Zone};

const EXPRESSIONS: [&str; 42] = [
    "0 2 * * *",
    "30 2 * * *",
    "0 2,3 * * *",
    "15 1-3 * * *",
    "*/30 2 * * *",
    "0 1-23/2 * * *",
    "*/20 1 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "0 3 * * *",
    "30 1 * * *",
    "0 * * * *",
    "*/15 * * * *",
    "0 */2 * * *",
    "30 */3 * * *",
    "7 */6 * * *",
    "*/7 * * * *",
    "0 0-5 * * *",
    "*/10 0-4 * * *",
    "0 2 * * 0",
    "0 2 * * 1-5",
    "30 2 29 3 *",
    "30 2 25 10 *",
    "0 0 1 * *",
    "0 0 L * *",
    "0 0 */2 * 1",
    "0 9 */100,1-7 * 1",
    "0 0 1,15 * 1",
    "0 2 * 3,10 0",
    "45 23,0,1,2,3 * * *",
    "0 1,2,3,4 * * 6,0",
    "5,35 1,2 * * *",
    "0-10 3 * * *",
    "59 1,2 * * *",
    "0 12 * * *",
    "0 6-18/3 * * *",
    "*/45 2-3 * * *",
    "30 0 * * 1",
    "1 0 31 * *",
    "0 4 8-14 * 0",
    "*/5 * * * 0",
    "10 */12 * 10,11 *",
];

/// One field: which numbers it names.
fn numbers(field: &str, least: u32, most: u32) -> BTreeSet<u32> {
    let mut named = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) =
            part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        named.extend((from..=to).step_by(step));
    }
    named
}

/// An expression as its second reader has it.
struct Read {
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: Option<BTreeSet<u32>>,
    months: BTreeSet<u32>,
    weekdays: BTreeSet<u32>,
    needs_both: bool,
    is_of_the_wall_clock: bool,
}

impl Read {
    fn new(expression: &str) -> Read {
        let fields: Vec<&str> = expression.split(' ').collect();
        Read {
            minutes: numbers(fields[0], 0, 59),
            hours: numbers(fields[1], 0, 23),
            days: (fields[2] != "L").then(|| numbers(fields[2], 1, 31)),
            months: numbers(fields[3], 1, 12),
            weekdays: numbers(fields[4], 0, 6),
            needs_both: fields[2].starts_with('*') || fields[4].starts_with('*'),
            is_of_the_wall_clock: !fields[1].starts_with('*'),
        }
    }

    fn names(&self, local: NaiveDateTime) -> bool {
        let day = match &self.days {
            Some(days) => days.contains(&local.day()),
            None => (local + TimeDelta::days(1)).day() == 1,
        };
        let weekday = self.weekdays.contains(&local.weekday().num_days_from_sunday());
        self.minutes.contains(&local.minute())
            && self.hours.contains(&local.hour())
            && self.months.contains(&local.month())
            && if self.needs_both { day && weekday } else { day || weekday }
    }
}

/// What one clock shows at each minute of some hours around a change.
struct Window {
    minutes: Vec<(DateTime<Utc>, NaiveDateTime)>,
    /// Each local time of these hours, shown or not, with the first minute at which it, or a later one, is shown.
    locals: Vec<(NaiveDateTime, DateTime<Utc>)>,
}

const HOURS: i64 = 30;

impl Window {
    fn around(zone: &Zone, change: DateTime<Utc>) -> Window {
        let minutes: Vec<_> = (-HOURS * 60..HOURS * 60)
            .map(|minute| change + TimeDelta::minutes(minute))
            .map(|at| (at, at.with_timezone(zone).naive_local()))
            .collect();
        let (mut locals, mut shown) = (Vec::new(), minutes[0].1 - TimeDelta::minutes(1));
        for (at, local) in &minutes {
            while shown < *local {
                shown += TimeDelta::minutes(1);
                locals.push((shown, *at));
            }
        }
        Window { minutes, locals }
    }

    fn occurrences(&self, read: &Read) -> Vec<DateTime<Utc>> {
        let mut found: Vec<_> = if read.is_of_the_wall_clock {
            self.locals.iter().filter(|(local, _)| read.names(*local)).map(|(_, at)| *at).collect()
        } else {
            self.minutes.iter().filter(|(_, local)| read.names(*local)).map(|(at, _)| *at).collect()
        };
        found.dedup();
        found
    }
}

/// The changes of a zone's clocks from 2024 to 2030, by looking at every quarter of an hour.
fn changes(zone: &Zone) -> Vec<DateTime<Utc>> {
    let (mut at, end) = (
        Utc.with_ymd_and_hms(2024, 1, 1, 0, 0, 0).unwrap(),
        Utc.with_ymd_and_hms(2031, 1, 1, 0, 0, 0).unwrap(),
    );
    let offset = |at: DateTime<Utc>| at.with_timezone(zone).naive_local() - at.naive_utc();
    let mut found = Vec::new();
    while at < end {
        let day = at + TimeDelta::days(1);
        if offset(at) != offset(day) {
            let quarters = (1..=96).map(|quarter| at + TimeDelta::minutes(15 * quarter));
            found.extend(quarters.clone().find(|quarter| offset(*quarter) != offset(at)));
        }
        at = day;
    }
    found
}

#[test]
fn every_change_of_every_clock_is_passed_as_the_rule_says() {
    let reads: Vec<Read> = EXPRESSIONS.iter().map(|expression| Read::new(expression)).collect();
    let (mut seen, mut zones, mut wrong) = (BTreeSet::new(), 0, Vec::new());
    for name in Zone::names() {
        let zone = Zone::named(&name).unwrap();
        zones += 1;
        for change in changes(&zone) {
            let window = Window::around(&zone, change);
            let sides = [window.minutes[0], *window.minutes.last().unwrap()];
            // Many zones have the same clock under another name.
            if !seen.insert((change, sides[0].1, sides[1].1)) {
                continue;
            }
            for (expression, read) in EXPRESSIONS.iter().zip(&reads) {
                let schedule = Schedule::parse(expression, zone.clone()).unwrap();
                let expected = window.occurrences(read);
                let (first, last) = (sides[0].0 - TimeDelta::seconds(1), sides[1].0);
                let next = std::iter::successors(schedule.next_after(first), |at| schedule.next_after(*at));
                let found: Vec<_> = next.take_while(|at| *at <= last).collect();
                if found != expected {
                    wrong.push(format!("{name} {change} `{expression}`: {found:?}, expected {expected:?}"));
                }
            }
        }
    }
    assert!(zones > 590 && seen.len() > 300, "{zones} zones, {} changes", seen.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}

/// The last one of a long time is found from its other end.
#[test]
fn the_latest_of_many_is_the_last_that_came() {
    for name in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"] {
        let zone = Zone::named(name).unwrap();
        for change in changes(&zone) {
            for expression in EXPRESSIONS {
                let schedule = Schedule::parse(expression, zone.clone()).unwrap();
                let mark = change - TimeDelta::days(2);
                for minutes in [-90, -31, 0, 1, 29, 45, 61, 119, 200] {
                    let now = change + TimeDelta::minutes(minutes);
                    let all = std::iter::successors(schedule.next_after(mark), |at| schedule.next_after(*at));
                    let last = all.take_while(|at| *at <= now).last();
                    assert_eq!(
                        schedule.occurrences(mark, now).due.last().copied(),
                        last,
                        "{name} `{expression}` at {now}"
                    );
                }
            }
        }
    }
}
