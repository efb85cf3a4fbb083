//! Input of any kind: never a panic, never a job that is lost or stuck, no bad row that harms another, an answer in bounded time.
//!
//! Parsers are fuzzed in this process by proptest (`PROPTEST_CASES` makes it longer), rows, batches and output through `duly`
//! itself (`DULY_TEST_FUZZ`: so many times as long; `DULY_TEST_SEED` repeats a failure).

use std::fs;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use duly::config::{self, LoadOptions};
use duly::job::{CatchUp, Schedule, Zone, duration, instant, parse_params};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Backend, Sandbox, on_every_database};
use crate::torture::Dice;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// For so many rounds, each with dice of its own; says with which seed one failed.
fn rounds(count: u64, round: impl Fn(&mut Dice)) {
    let first = setting("DULY_TEST_SEED", u64::from(std::process::id()) << 20);
    for seed in first..first + count * setting("DULY_TEST_FUZZ", 1) {
        let told = scopeguard(seed);
        round(&mut Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        std::mem::forget(told);
    }
}

/// Prints the seed when it is dropped, which happens only where a round panics.
fn scopeguard(seed: u64) -> impl Drop {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            eprintln!("repeat with DULY_TEST_SEED={}", self.0);
        }
    }
    Told(seed)
}

fn one_of<'a>(dice: &mut Dice, all: &[&'a str]) -> &'a str {
    all[usize::try_from(dice.roll(all.len() as u64)).unwrap()]
}

/// Bytes with a liking for what breaks programs.
fn bytes(dice: &mut Dice, most: u64) -> Vec<u8> {
    let parts: [&[u8]; 16] = [
        b"\0",
        b"\xff\xfe",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"\x1b[2J",
        b"\x1b]0;x\x07",
        b"\r\n",
        b"\n",
        b"'",
        b"\"",
        b"\\",
        b"%s%n",
        b"{target_id}",
        "\u{202e}\u{9b}".as_bytes(),
        b"../",
    ];
    let mut made = Vec::new();
    for _ in 0..dice.roll(most) {
        match dice.roll(4) {
            0 => made.extend_from_slice(parts[usize::try_from(dice.roll(16)).unwrap()]),
            1 => made.push(u8::try_from(dice.roll(256)).unwrap()),
            2 => made.extend(b"abc def "),
            _ => made.push(b'a' + u8::try_from(dice.roll(26)).unwrap()),
        }
    }
    made
}

// ---- cron expressions ----

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
        (from..=to).contains(&number) && (number - from) % step == 0
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
        prop_assert!(began.elapsed() < Duration::from_secs(5), "{} took {:?}", text, began.elapsed());
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
        prop_assert!(began.elapsed() < Duration::from_secs(1));
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
    prop_assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    match loaded {
        Ok(config) => {
            // What is taken has schedules that can be asked.
            for definition in &config.definitions {
                if let Some(schedule) = &definition.schedule {
                    let next = schedule.next_after(start());
                    prop_assert!(next.is_none_or(|next| next > start()));
                }
            }
            prop_assert!(config.definitions.names().count() >= config.definitions.len());
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

// ---- batches ----

const BATCH_JOBS: &str = "queues: {orders: {}}\njobs:\n  a: {command: ['true']}\n  u: {command: ['true'], unique: true}\n  \
                          tidy: {builtin: clean-up}\n  p: {command: ['true'], depending_jobs: {a: }}\n";

/// One line of a batch, mostly nearly right.
fn line(dice: &mut Dice) -> Vec<u8> {
    let any = |dice: &mut Dice| -> Value {
        match dice.roll(12) {
            0 => Value::Null,
            1 => json!(dice.roll(300)),
            2 => json!(-1),
            3 => json!(1e300),
            4 => json!(String::from_utf8_lossy(&bytes(dice, 40))),
            5 => json!([]),
            6 => json!({"a": 1}),
            7 => json!("x".repeat(usize::try_from(dice.roll(400)).unwrap())),
            8 => json!(["a", String::from_utf8_lossy(&bytes(dice, 20))]),
            9 => json!(u64::MAX),
            10 => json!("2026-01-01 00:00"),
            _ => json!("5 min"),
        }
    };
    let mut object = json!({"name": one_of(dice, &["a", "a", "a", "u", "p", "tidy", "nobody"])});
    for _ in 0..dice.roll(3) {
        let key = one_of(
            dice,
            &[
                "params",
                "queue",
                "priority",
                "at",
                "in",
                "after",
                "unique_key",
                "target_type",
                "target_id",
                "name",
                "x",
            ],
        );
        object[key] = any(dice);
    }
    let mut text = object.to_string().into_bytes();
    if dice.roll(6) == 0 && !text.is_empty() {
        let at = usize::try_from(dice.roll(text.len() as u64)).unwrap();
        let noise = bytes(dice, 3);
        text.splice(at..at, noise.into_iter().filter(|byte| *byte != b'\n'));
    }
    text
}

#[test]
fn a_batch_of_any_lines_is_put_in_whole_or_not_at_all() {
    let s = Sandbox::new(Backend::Sqlite).jobs(BATCH_JOBS);
    s.json(["list", "--json"]);
    let count = || -> u64 {
        s.database().value("SELECT COUNT(*) FROM duly_job WHERE retry_of IS NULL").parse().unwrap()
    };
    rounds(40, |dice| {
        let lines: Vec<Vec<u8>> = (0..1 + dice.roll(4)).map(|_| line(dice)).collect();
        let path = s.path("batch");
        fs::write(&path, lines.join(&b'\n')).unwrap();
        let before = count();
        let output =
            s.duly(["enqueue", "--batch", path.to_str().unwrap()]).limit(Duration::from_secs(20)).output();
        let ids = output.stdout.lines().count();
        match output.status.code() {
            Some(0) => assert!(
                ids == lines.iter().filter(|line| !line.trim_ascii().is_empty()).count()
                    && output.stderr.is_empty(),
                "{output}"
            ),
            // A unique key that is taken: its job's id, and nothing put in.
            Some(1 | 2 | 4) => {
                assert!(ids <= 1 && output.stderr.lines().count() == 1 && count() == before, "{output}")
            }
            _ => panic!("{output}"),
        }
        let bad = |c: char| c.is_control() && c != '\n';
        assert!(!output.stderr.contains("panicked") && !output.stderr.contains(bad), "{output}");
        if dice.roll(8) == 0 {
            s.database().sql("DELETE FROM duly_dependency; DELETE FROM duly_job");
        }
    });
}

// ---- rows ----

const ROW_JOBS: &str = "queues: {orders: {concurrency: 1}}\ndefaults: {max_attempts: 1}\njobs:\n  \
    a: {command: ['true']}\n  t: {command: ['true', '{target_type}', '--x={target_id}']}\n  u: {command: ['true'], unique: args}\n  \
    p: {command: ['true'], depending_jobs: {a: }}\n  good: {command: [sh, -c, 'echo \"$1\" >> done', sh]}\n  tidy: {builtin: clean-up}\n";

/// A value as SQL: of the right kind, of the wrong one, or bytes.
fn value(dice: &mut Dice, backend: Backend) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = |bytes: &[u8]| match backend {
        Backend::Sqlite => format!("CAST(x'{}' AS TEXT)", hex(bytes)),
        Backend::MariaDb => format!("x'{}'", hex(bytes)),
    };
    match dice.roll(18) {
        0 => "NULL".to_owned(),
        1 => text(&bytes(dice, 60)),
        2 => format!("x'{}'", hex(&bytes(dice, 60))),
        3 => "''".to_owned(),
        4 => one_of(
            dice,
            &[
                "0",
                "-1",
                "1",
                "99999999999",
                "9223372036854775807",
                "-9223372036854775808",
                "1.5",
                "1e300",
                "-1e300",
                "9e999",
            ],
        )
        .to_owned(),
        5 => "'2026-01-01 00:00:00'".to_owned(),
        6 => format!(
            "'{}'",
            one_of(
                dice,
                &[
                    "0000-00-00",
                    "9999-12-31 23:59:59.999999",
                    "2026-02-30",
                    "now",
                    "-4713-11-24",
                    "10000-01-01",
                    "24:00",
                    "2026-01-01T00:00:00+25:00",
                    "1e9",
                    "2460000.5",
                    "1969-12-31"
                ]
            )
        ),
        7 => "'[\"x\"]'".to_owned(),
        8 => format!(
            "'{}'",
            one_of(
                dice,
                &[
                    "[",
                    "[1e999]",
                    "[[[]]]",
                    "{}",
                    "null",
                    "[null]",
                    "[\"\\\\ud800\"]",
                    "[true, 1, 2.5]",
                    "\"x\"",
                    "[\"-rf\",\"--\"]"
                ]
            )
        ),
        9 => text(format!("[\"{}\"]", "x".repeat(usize::try_from(dice.roll(200_000)).unwrap())).as_bytes()),
        10 => text(
            format!("[{}]", vec!["\"x\""; usize::try_from(dice.roll(5_000)).unwrap()].join(",")).as_bytes(),
        ),
        11 => text("[".repeat(usize::try_from(dice.roll(20_000)).unwrap()).as_bytes()),
        12 => text("ä".repeat(usize::try_from(dice.roll(190)).unwrap()).as_bytes()),
        13 => "'orders'".to_owned(),
        14 => "'default '".to_owned(),
        15 => format!("'{}'", dice.roll(200)),
        16 => format!("'k{}'", dice.roll(3)),
        _ => text(&serde_json::to_vec(&[String::from_utf8_lossy(&bytes(dice, 50))]).unwrap()),
    }
}

on_every_database! {
    /// Whatever an application inserts through the SQL contract, alone or with columns that are not its own.
    fn rows_of_any_kind_harm_no_other_and_all_come_to_an_end(s: Sandbox) {
        s.set_jobs(ROW_JOBS);
        s.json(["list", "--json"]);
        let backend = s.database().backend();
        let (mut taken, mut number) = (0_u64, 0_u64);
        let counts = std::cell::RefCell::new((&mut taken, &mut number));
        rounds(6, |dice| {
            let mut counts = counts.borrow_mut();
            let mut session = s.database().connect();
            for _ in 0..40 {
                let name = match dice.roll(10) {
                    0 => value(dice, backend),
                    1 => "'a '".to_owned(),
                    _ => format!("'{}'", one_of(dice, &["a", "t", "u", "p", "tidy", "on_failure@a", "A"])),
                };
                let mut columns = vec!["name"];
                let mut values = vec![name];
                for _ in 0..1 + dice.roll(4) {
                    let column = if dice.roll(5) == 0 && backend == Backend::Sqlite {
                        one_of(dice, &["attempts", "max_attempts", "fence", "owner", "lease_until", "root_id", "retry_of", "children", "children_ended", "own_end", "hooks", "time_before_stale_ms", "scheduled_for", "occurrence_key", "created_at", "started_at", "finished_at", "reason", "progress", "progress_text", "outcome", "exit_code", "noted_at", "cancel_requested_at", "host", "duration_ms", "priority_order", "slot_key", "name_slot_key"])
                    } else {
                        one_of(dice, &["params", "params", "queue", "priority", "run_at", "target_type", "target_id", "unique_key"])
                    };
                    if !columns.contains(&column) {
                        columns.push(column);
                        values.push(value(dice, backend));
                    }
                }
                let statement = format!("INSERT INTO duly_job ({}) VALUES ({})", columns.join(", "), values.join(", "));
                // Many an application's session lets MariaDB take anything.
                let lax = if backend == Backend::MariaDb && dice.roll(2) == 0 { "SET sql_mode = ''; " } else { "" };
                *counts.0 += u64::from(session.try_sql(&format!("{lax}{statement}")).is_ok());
            }
            *counts.1 += 1;
            let good = counts.1.to_string();
            session.sql(&format!("INSERT INTO duly_job (name, params) VALUES ('good', '[\"{good}\"]')"));
            let output = s.duly(["run"]).limit(Duration::from_secs(60)).output();
            assert!(output.status.success() && !output.stderr.contains("panicked"), "{output}");
            assert_eq!(s.read("done").lines().filter(|line| *line == good).count(), 1, "{output}");
            // What is left waits for another host that knows its name or queue, for its time, or for its prerequisite.
            let names = "('a', 't', 'u', 'p', 'good', 'tidy')";
            let stuck = match backend {
                Backend::Sqlite => format!("state IN ('pending', 'running') OR (state = 'new' AND name IN {names} AND (queue IS NULL OR queue IN ('default', 'orders')))"),
                Backend::MariaDb => format!("state IN ('pending', 'running') OR (state = 'new' AND CAST(name AS BINARY) IN {names} AND (queue IS NULL OR queue IN ('default', 'orders')))"),
            };
            let stuck = s.database().rows(&format!("SELECT id, state, name, queue FROM duly_job WHERE {stuck}"));
            assert!(stuck.is_empty(), "{stuck:?}: {output}");
            let list = s.json(["list", "--json", "--limit", "500"]);
            assert!(list.as_array().is_some_and(|list| list.len() > 1));
            let shown = s.duly(["list", "--limit", "500"]).output();
            let bad = |c: char| c.is_control() && c != '\n';
            assert!(shown.status.success() && !shown.stdout.contains(bad) && !output.stderr.contains(bad));
            for job in list.as_array().unwrap().iter().take(3) {
                let shown = s.duly(["show", &job["id"].to_string()]).output();
                let bad = |c: char| bad(c) && c != '\t';
                assert!(shown.status.success() && !shown.stdout.contains(bad), "{shown}");
            }
            s.database().sql("DELETE FROM duly_dependency; DELETE FROM duly_output; DELETE FROM duly_attempt; DELETE FROM duly_job");
        });
        eprintln!("{taken} rows were taken by {backend:?}");
        assert!(taken > 50, "{taken} rows");
    }

    /// What is printed comes back byte for byte, escaped where it is no text, up to its limit.
    fn output_of_any_bytes_is_kept_and_shown(s: Sandbox) {
        s.set_jobs("defaults: {output_limit: 64KiB, max_attempts: 1}\njobs:\n  say: {command: [cat, bytes]}\n");
        rounds(6, |dice| {
            let most = if dice.roll(4) == 0 { 60_000 } else { 800 };
            let said = bytes(dice, most);
            fs::write(s.path("bytes"), &said).unwrap();
            let id = s.duly(["enqueue", "say"]).output().stdout.trim().to_owned();
            let run = s.duly(["run"]).limit(Duration::from_secs(30)).output();
            assert!(run.status.success() && run.stderr.is_empty(), "{run}");
            let job = s.json(["show", &id, "--json"]);
            assert_eq!(job["state"], "success", "{job}");
            let mut expected = String::new();
            for chunk in said.utf8_chunks() {
                expected.push_str(&chunk.valid().replace('\0', "\\x00"));
                chunk.invalid().iter().for_each(|byte| expected.push_str(&format!("\\x{byte:02X}")));
            }
            let output = job["output"].as_str().unwrap_or_default();
            if expected.len() <= 64 * 1024 && said.len() <= 64 * 1024 {
                assert_eq!((output, job["output_truncated"].as_u64()), (expected.as_str(), Some(0)));
            } else {
                assert!(output.len() <= 64 * 1024 + 64 && output.contains("bytes left out"), "{}", output.len());
            }
            for arguments in [&["show", &id][..], &["show", &id, "--follow"]] {
                let shown = s.duly(arguments).output();
                assert!(shown.status.success(), "{shown}");
                assert!(!shown.stdout.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{shown}");
            }
        });
    }
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
