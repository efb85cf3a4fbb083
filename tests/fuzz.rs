//! Input of any kind for `duly` itself, as batches, rows and output: never a panic, never a job that is lost or stuck, no bad row
//! that harms another, an answer in bounded time.
//!
//! `DULY_TEST_FUZZ` makes it so many times as long, `DULY_TEST_SEED` repeats a failure.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

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
            drop(writeln!(std::io::stderr(), "repeat with DULY_TEST_SEED={}", self.0));
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
                assert!(ids <= 1 && output.stderr.lines().count() == 1 && count() == before, "{output}");
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

const NUMBERS: [&str; 10] = [
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
];

const TIMES: [&str; 12] = [
    "2026-01-01 00:00:00",
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
    "1969-12-31",
];

const PARAMS: [&str; 11] = [
    "[\"x\"]",
    "[",
    "[1e999]",
    "[[[]]]",
    "{}",
    "null",
    "[null]",
    "[\"\\\\ud800\"]",
    "[true, 1, 2.5]",
    "\"x\"",
    "[\"-rf\",\"--\"]",
];

/// A value as SQL: of the right kind, of the wrong one, or bytes.
fn value(dice: &mut Dice, backend: Backend) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let text = |bytes: &[u8]| match backend {
        Backend::Sqlite => format!("CAST(x'{}' AS TEXT)", hex(bytes)),
        Backend::MariaDb => format!("x'{}'", hex(bytes)),
    };
    match dice.roll(16) {
        0 => "NULL".to_owned(),
        1 | 2 => text(&bytes(dice, 60)),
        3 => format!("x'{}'", hex(&bytes(dice, 60))),
        4 => "''".to_owned(),
        5 => one_of(dice, &NUMBERS).to_owned(),
        6 | 7 => format!("'{}'", one_of(dice, &TIMES)),
        8 | 9 => format!("'{}'", one_of(dice, &PARAMS)),
        10 | 11 => text(&long(dice)),
        12 => format!("'{}'", one_of(dice, &["orders", "default ", "default", "nobody"])),
        13 => format!("'{}'", dice.roll(200)),
        14 => format!("'k{}'", dice.roll(3)),
        _ => text(&serde_json::to_vec(&[String::from_utf8_lossy(&bytes(dice, 50))]).unwrap()),
    }
}

/// A text that is long, or deep.
fn long(dice: &mut Dice) -> Vec<u8> {
    let mut size = |most| usize::try_from(dice.roll(most)).unwrap();
    match size(4) {
        0 => format!("[\"{}\"]", "x".repeat(size(200_000))).into_bytes(),
        1 => format!("[{}]", vec!["\"x\""; size(5_000)].join(",")).into_bytes(),
        2 => "[".repeat(size(20_000)).into_bytes(),
        _ => "ä".repeat(size(190)).into_bytes(),
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
        drop(writeln!(std::io::stderr(), "{taken} rows were taken by {backend:?}"));
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
