//! Text of any kind for the parsers, in this process: never a panic, an answer in bounded time, and schedules that are due when
//! they should be. By proptest: `PROPTEST_CASES` makes it longer.

use std::fs;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use duly::config::{self, LoadOptions};
use duly::job::{CatchUp, Schedule, Zone, duration, instant, parse_params};
use proptest::prelude::*;

/// Whether a plain field (`*`, numbers, ranges, steps, lists) names a number; independent of any library.
fn names(field: &str, number: u32, least: u32) -> bool {
    field.split(',').any(|part| {
        let (range, step) =
            part.split_once('/').map_or((part, 1), |(range, step)| (range, step.parse().unwrap()));
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, 99),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        (from..=to).contains(&number) && (number - from).is_multiple_of(step)
    })
}

/// Whether `M H D M W` is due in this minute: on either of the two days, where both are restricted.
fn is_due(expression: &str, at: DateTime<Utc>) -> bool {
    let fields: Vec<&str> = expression.split(' ').collect();
    let day = names(fields[2], at.day(), 1);
    let weekday = names(fields[4], at.weekday().num_days_from_sunday(), 0);
    let is_day = if fields[2].starts_with('*') || fields[4].starts_with('*') {
        day && weekday
    } else {
        day || weekday
    };
    names(fields[0], at.minute(), 0)
        && names(fields[1], at.hour(), 0)
        && names(fields[3], at.month(), 1)
        && is_day
}

fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (least..=most).prop_map(|n| n.to_string()),
        1 => (1u32..=15).prop_map(|n| format!("*/{n}")),
        1 => (least..most).prop_flat_map(move |from| (Just(from), from + 1..=most)).prop_map(|(from, to)| format!("{from}-{to}")),
        1 => (least..most).prop_flat_map(move |from| (Just(from), from + 1..=most, 1u32..9)).prop_map(|(from, to, step)| format!("{from}-{to}/{step}")),
        1 => proptest::collection::vec(least..=most, 2..5).prop_map(|all| all.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn all_of(expression: &str, zone: Zone) -> Schedule {
    let mut schedule = Schedule::parse(expression, zone).unwrap();
    schedule.catch_up = CatchUp::All;
    schedule
}

fn start() -> DateTime<Utc> {
    "2024-01-01T00:00:00Z".parse().unwrap()
}

const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "America/Santiago",
    "Europe/Dublin",
];

proptest! {
    /// Against a reading that is written here, minute by minute over three days.
    #[test]
    fn a_plain_expression_is_due_in_the_minutes_that_crontab_says(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 6),
        begin in 0i64..2_000_000,
    ) {
        // What a step from `*` means beside a restriction of the other day differs between crons.
        prop_assume!(day == "*" || weekday == "*" || !(day.starts_with('*') || weekday.starts_with('*')));
        let expression = format!("{minute} {hour} {day} {month} {weekday}");
        let schedule = all_of(&expression, Zone::UTC);
        let mark = start() + TimeDelta::minutes(begin);
        let expected: Vec<DateTime<Utc>> = (1..=3 * 1440).map(|n| mark + TimeDelta::minutes(n)).filter(|at| is_due(&expression, *at)).collect();
        let mut found = Vec::new();
        let (mut from, now) = (mark, mark + TimeDelta::days(3));
        loop {
            let pass = schedule.occurrences(from, now);
            found.extend(pass.due);
            if pass.mark >= now { break; }
            from = pass.mark;
        }
        prop_assert!(found == expected, "{}: {:?}", expression, found.iter().zip(&expected).find(|(a, b)| a != b));
    }

    /// Against croner itself, for all that it reads, in UTC.
    #[test]
    fn an_expression_of_any_form_is_due_when_croner_says_so(
        text in "[0-9*/,LW#?-]{1,6}( [0-9*/,LW#?-]{1,6}){3}( [0-9*/,L#A-Z-]{1,5})( [0-7*L#MONFRI-]{1,5})?", begin in 0i64..2_000_000,
    ) {
        let mark = start() + TimeDelta::minutes(begin);
        let began = Instant::now();
        if let Ok(schedule) = Schedule::parse(&text, Zone::UTC) {
            let reference = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional)
                .year(croner::parser::Year::Disallowed).build().parse(text.trim());
            let expected = reference.ok().and_then(|cron| cron.find_next_occurrence(&mark, false).ok());
            prop_assert_eq!(schedule.next_after(mark), expected, "{}", text);
        }
        prop_assert!(began.elapsed() < Duration::from_secs(60), "{} took {:?}", text, began.elapsed());
    }

    /// Also when the clocks change: in order, none before its mark, none twice, the same in one pass as in two.
    #[test]
    fn in_every_zone_occurrences_come_in_order_and_once(
        minute in field(0, 59), hour in field(0, 23), zone in 0usize..8, begin in 0i64..1_500_000, hours in 1i64..60, cut in 0i64..100,
    ) {
        let expression = format!("{minute} {hour} * * *");
        let schedule = all_of(&expression, Zone::named(ZONES[zone]).unwrap());
        let mark = start() + TimeDelta::minutes(begin);
        let (now, middle) = (mark + TimeDelta::hours(hours), mark + TimeDelta::minutes(hours * 60 * cut / 100));
        let whole = schedule.occurrences(mark, now);
        prop_assert!(whole.due.iter().all(|at| *at > mark && *at <= now), "{} {}", expression, ZONES[zone]);
        prop_assert!(whole.due.windows(2).all(|pair| pair[0] < pair[1]), "{} {}", expression, ZONES[zone]);
        if whole.due.len() < 1000 {
            let mut halves = schedule.occurrences(mark, middle).due;
            halves.extend(schedule.occurrences(middle, now).due);
            prop_assert_eq!(halves, whole.due, "{} {}", expression, ZONES[zone]);
        }
    }

    /// A fixed time of each day comes once on each day of the wall clock, whatever the clocks do. (Days that a zone leaves
    /// out have none.)
    #[test]
    fn a_daily_time_comes_once_a_day_in_every_zone(minute in 0u32..60, hour in 0u32..24, zone in 0usize..8, begin in 0i64..1_000) {
        let zone = Zone::named(ZONES[zone]).unwrap();
        let schedule = all_of(&format!("{minute} {hour} * * *"), zone.clone());
        let mark = start() + TimeDelta::days(begin);
        let found = schedule.occurrences(mark, mark + TimeDelta::days(40)).due;
        let days: Vec<_> = found.iter().map(|at| at.with_timezone(&zone).date_naive()).collect();
        prop_assert!(days.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::days(1)), "{}:{} {} {:?}", hour, minute, zone, found);
        prop_assert!((39..=41).contains(&days.len()));
    }

    #[test]
    fn any_text_is_a_length_a_time_or_params_or_is_refused(text in "\\PC{0,60}|[0-9a-z .:TZ+-]{0,40}|[\\[\\]\",{}0-9a-z\\\\u]{0,60}") {
        let began = Instant::now();
        for refused in [duration::parse(&text).err(), instant::parse(&text).err(), parse_params(&text).err(), Schedule::parse(&text, Zone::UTC).err().map(|err| err.to_string())].into_iter().flatten() {
            prop_assert!(!refused.is_empty());
        }
        prop_assert!(began.elapsed() < Duration::from_secs(60));
    }

    /// The documents are the shipped ones, with pieces left out, doubled, moved, or others put in.
    #[test]
    fn a_jobs_yaml_of_any_kind_is_read_or_refused_in_lines(
        which in 0usize..3, changes in proptest::collection::vec((0u8..7, any::<u32>(), any::<u32>(), "\\PC{0,8}"), 0..12),
    ) {
        let text = changed(DOCUMENTS[which], &changes);
        check_document(&text)?;
    }

    #[test]
    fn any_text_is_a_jobs_yaml_or_is_refused_in_lines(text in "(\\PC|\n|[\\[\\]{}:,&*!|>'\"%@`#? -]){0,300}") {
        check_document(&text)?;
    }
}

const DOCUMENTS: [&str; 3] =
    [include_str!("../jobs.yaml"), include_str!("../examples/shop/jobs.yaml"), WHOLE];

/// Every key there is.
const WHOLE: &str = "database: mysql://u:secretpw@h/db
runner: {concurrency: 4, max_runtime: 55s, lease: 60s, state_dir: /run/x}
queues: {default: {}, orders: {concurrency: 1}}
defaults: {timeout: 1h, grace: 10s, max_attempts: 10, backoff: {initial: 5s, factor: 5, max: 1h, jitter: 0.2}, output_limit: 1MiB}
command_prefix: [php, bin/console]
hooks: {on_failure: [a], on_stale: [b], on_success: [c]}
retention: {default: 30 days, success: 7 days, failed: 1 day, cancelled: 1h, stale: 1h, keep_last: 10}
base: &base {command: x, env: {A: b}}
jobs:
  a: {<<: *base, label: l, desc: d, params: [1, x], depending_jobs: {b: {command: y}, c: }}
  c:
    command: [php, \"--target={target_id}\"]
    schedule: \"0 2 * * 1-5\"
    timezone: Europe/Berlin
    catch_up: latest
    starting_deadline: 2h
    overlap: skip
    jitter: 30s
    queue: orders
    priority: -5
    timeout: none
    permanent_exit_codes: [65, 78]
    on_orphan: stale
    unique: args
    concurrency: 1
    time_before_stale: 30m
    targets: {type: T, command: [bin/list]}
    cwd: /var
    enabled: false
  d: {builtin: clean-up, schedule: '@daily'}
refresh_cache: {table: t, columns: {id: i}, batch: 10, processors: {n: {command: [x], timeout: 5m}}}
lost_orders: {table: t, columns: {order_id: o}, states: {lost: l, confirmed: c}, send: {command: [x]}, max_failed: 3, circuit_breaker: 5}
sessions: {table: s, columns: {time: t}}
";

fn changed(text: &str, changes: &[(u8, u32, u32, String)]) -> String {
    let pieces = [
        "&a ",
        "*a",
        "<<: ",
        "!!binary ",
        "- ",
        "? ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "\t",
        "null",
        "~",
        "1e999",
        "0x",
        ".nan",
        "\u{0}",
        "\u{85}",
        "'",
        "\"",
        "|\n",
        "---\n",
        "...\n",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    for (kind, at, to, other) in changes {
        if chars.is_empty() {
            break;
        }
        let (at, to) = (*at as usize % chars.len(), *to as usize);
        let end = (at + to % 40).min(chars.len());
        match kind {
            0 => drop(chars.drain(at..end)),
            1 => {
                let piece: Vec<char> = chars[at..end].to_vec();
                let place = to % chars.len();
                chars.splice(place..place, piece);
            }
            2 => drop(chars.splice(at..at, other.chars())),
            3 => drop(chars.splice(at..end, other.chars())),
            4 => drop(chars.splice(at..at, pieces[to % pieces.len()].chars())),
            5 => {
                let other = to % chars.len();
                chars.swap(at, other);
            }
            _ => drop(chars.splice(at..at, to.to_string().chars())),
        }
    }
    chars.into_iter().collect()
}

fn check_document(text: &str) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.yaml");
    fs::write(&path, text).unwrap();
    let began = Instant::now();
    let loaded = config::load(&LoadOptions { path: Some(path), database_url: None });
    prop_assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    match loaded {
        Ok(config) => {
            // What is taken has schedules that can be asked.
            for definition in &config.definitions {
                if let Some(schedule) = &definition.schedule {
                    let next = schedule.next_after(start());
                    prop_assert!(next.is_none_or(|next| next > start()));
                }
            }
            prop_assert!(config.definitions.all_names().count() >= config.definitions.len());
        }
        Err(err) => {
            let told = err.to_string();
            prop_assert!(!told.is_empty() && told.lines().all(|line| !line.trim().is_empty()), "{}", told);
            prop_assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{:?}", told);
            prop_assert!(!told.contains("secretpw"), "{}", told);
        }
    }
    Ok(())
}

/// A date that never comes is found out, and soon.
#[test]
fn an_expression_that_is_never_due_is_asked_in_bounded_time() {
    for text in
        ["0 0 31 2 *", "0 0 30 2 *", "0 0 29 2 1#5", "0 0 31 2,4,6,9,11 *", "59 59 23 31 2 *", "0 0 29 2 *"]
    {
        let began = Instant::now();
        if let Ok(schedule) = Schedule::parse(text, Zone::named("Europe/Berlin").unwrap()) {
            let found = schedule.occurrences(start(), start() + TimeDelta::days(366));
            assert!(found.due.len() <= 1, "{text}");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{text} took {:?}", began.elapsed());
    }
    assert!(croner::Cron::from_str("0 0 29 2 *").is_ok());
}
