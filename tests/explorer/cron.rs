//! A second reading of schedules, which knows nothing of the first: it writes down each local time that an expression names on
//! each day, and looks at which instants a clock of that zone shows it.

/// Milliseconds since 1970, or of a clock on the wall, as if it were UTC.
pub(super) type Ms = i64;

pub(super) const SECOND: Ms = 1000;
pub(super) const MINUTE: Ms = 60 * SECOND;
pub(super) const HOUR: Ms = 60 * MINUTE;
pub(super) const DAY: Ms = 24 * HOUR;

pub(super) const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "America/New_York"];

/// When the clocks of a zone change in 2026, in hours since 1970, and their offset in hours from then on.
const CHANGES: [&[(i64, i64)]; 3] = [
    &[(0, 0)],
    // 29 March and 25 October, 01:00 UTC.
    &[(0, 1), (hours(88, 1), 2), (hours(298, 1), 1)],
    // 8 March, 07:00 UTC, and 1 November, 06:00 UTC.
    &[(0, -5), (hours(67, 7), -4), (hours(305, 6), -5)],
];

/// The hour of a day of 2026, counted from 1.
const fn hours(day: i64, hour: i64) -> i64 {
    (20454 + day - 1) * 24 + hour
}

/// The start of a day of 2026, counted from 1.
pub(super) const fn day_of_2026(day: i64) -> Ms {
    hours(day, 0) * HOUR
}

/// What is set in a field.
fn bits(field: &str, least: u32, most: u32) -> u64 {
    let mut set = 0;
    for part in field.split(',') {
        let (range, step) =
            part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        (from..=to).step_by(step).for_each(|number| set |= 1 << number);
    }
    set
}

fn is_in(set: u64, number: i64) -> bool {
    set >> number & 1 == 1
}

/// An expression, and the zone whose clock it means.
pub(super) struct Read {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    needs_both: bool,
    is_of_the_wall_clock: bool,
    zone: usize,
}

impl Read {
    pub(super) fn new(expression: &str, zone: usize) -> Read {
        let whole = if expression.split(' ').count() == 5 {
            format!("0 {expression}")
        } else {
            expression.to_owned()
        };
        let fields: Vec<&str> = whole.split(' ').collect();
        Read {
            seconds: bits(fields[0], 0, 59),
            minutes: bits(fields[1], 0, 59),
            hours: bits(fields[2], 0, 23),
            days: bits(fields[3], 1, 31),
            months: bits(fields[4], 1, 12),
            weekdays: bits(fields[5], 0, 6),
            needs_both: fields[3].starts_with('*') || fields[5].starts_with('*'),
            is_of_the_wall_clock: !fields[2].starts_with('*'),
            zone,
        }
    }

    /// The occurrences after `mark` and up to `now`.
    pub(super) fn between(&self, mark: Ms, now: Ms) -> Vec<Ms> {
        let mut found = Vec::new();
        if now <= mark {
            return found;
        }
        // Further than any clock is changed.
        let (first, last) =
            (mark + offset(self.zone, mark) - 2 * HOUR, now + offset(self.zone, now) + 2 * HOUR);
        let mut hour = first.div_euclid(HOUR) * HOUR;
        while hour <= last {
            if is_in(self.hours, hour.rem_euclid(DAY) / HOUR) && self.names_day_of(hour) {
                self.within(hour, &mut found);
            }
            hour += HOUR;
        }
        found.retain(|at| *at > mark && *at <= now);
        found.sort_unstable();
        found.dedup();
        found
    }

    fn within(&self, hour: Ms, found: &mut Vec<Ms>) {
        for minute in (0..60).filter(|minute| is_in(self.minutes, *minute)) {
            for second in (0..60).filter(|second| is_in(self.seconds, *second)) {
                let shown = instants(self.zone, hour + minute * MINUTE + second * SECOND);
                match (self.is_of_the_wall_clock, shown) {
                    (true, [Some(at), _] | [None, Some(at)]) => found.push(at),
                    (true, [None, None]) => found.push(jump(self.zone, hour)),
                    (false, shown) => found.extend(shown.into_iter().flatten()),
                }
            }
        }
    }

    fn names_day_of(&self, local: Ms) -> bool {
        let number = local.div_euclid(DAY);
        let (month, day) = month_and_day(number);
        let weekday = is_in(self.weekdays, (number + 4).rem_euclid(7));
        let day = is_in(self.days, day);
        is_in(self.months, month) && if self.needs_both { day && weekday } else { day || weekday }
    }
}

/// How far the clock of a zone is ahead of UTC.
fn offset(zone: usize, at: Ms) -> Ms {
    let last = CHANGES[zone].iter().rev().find(|(since, _)| since * HOUR <= at);
    last.map_or(0, |(_, hours)| hours * HOUR)
}

/// The instants at which a clock shows a time: mostly one, in the order in which they come.
fn instants(zone: usize, local: Ms) -> [Option<Ms>; 2] {
    let near = [offset(zone, local - 12 * HOUR), offset(zone, local + 12 * HOUR)];
    let shown = near.map(|by| Some(local - by).filter(|at| offset(zone, *at) == by));
    if shown[0] == shown[1] { [shown[0], None] } else { shown }
}

/// The change of the clock that jumps over a time of this hour.
fn jump(zone: usize, local: Ms) -> Ms {
    let near = CHANGES[zone].iter().map(|(since, _)| since * HOUR);
    near.min_by_key(|since| (since - local).abs()).unwrap_or(0)
}

/// Of a day counted from 1970, in the years after 2000 and before 2100.
fn month_and_day(number: i64) -> (i64, i64) {
    // Counted from 1 March 2000, so that the day that a leap year has more comes last.
    let day = number - 11017;
    let day = (day % 1461).min(1460) % 365 + if day % 1461 == 1460 { 365 } else { 0 };
    let month = (5 * day + 2) / 153;
    (if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1)
}

#[test]
fn the_second_reading_knows_the_calendar() {
    use chrono::{DateTime, Datelike};
    for number in 10_957..22_000 {
        let date = DateTime::from_timestamp(number * 86400, 0).unwrap();
        if number > 11_017 {
            assert_eq!(month_and_day(number), (date.month().into(), date.day().into()), "{date}");
        }
    }
    for (zone, name) in ZONES.iter().enumerate() {
        let clock = duly::job::Zone::named(name).unwrap();
        for hour in hours(1, 0)..hours(365, 0) {
            let at = DateTime::from_timestamp(hour * 3600, 0).unwrap();
            let ahead = (clock.local(at) - at.naive_utc()).num_milliseconds();
            assert_eq!(offset(zone, hour * HOUR), ahead, "{name} {at}");
        }
    }
}
