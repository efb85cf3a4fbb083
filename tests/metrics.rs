//! `duly metrics`: read by a parser of Prometheus' text format, counters that never fall, a file that is never half written.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use openmetrics_parser::prometheus::parse_prometheus;

use crate::support::{Backend, Sandbox, on_every_database};

/// Every family that there always is, also where there is nothing to tell.
const FAMILIES: [&str; 25] = [
    "duly_up",
    "duly_info",
    "duly_schema_version",
    "duly_database_latency_seconds",
    "duly_database_clock_difference_seconds",
    "duly_queue_jobs",
    "duly_jobs_running",
    "duly_queue_oldest_age_seconds",
    "duly_jobs_ended_total",
    "duly_attempts_total",
    "duly_orphans_total",
    "duly_attempt_duration_seconds",
    "duly_last_success_timestamp_seconds",
    "duly_last_end_timestamp_seconds",
    "duly_next_occurrence_timestamp_seconds",
    "duly_schedule_late_seconds",
    "duly_runner_last_tick_timestamp_seconds",
    "duly_runner_trouble",
    "duly_tick_duration_seconds",
    "duly_lease_renewals_total",
    "duly_expired_leases",
    "duly_paused",
    "duly_lost_orders",
    "duly_sessions",
    "duly_nothing_of_this_name",
];

/// The samples by name and labels as they are written, after a parser has accepted the whole.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, f64> {
    parse_prometheus(text).unwrap_or_else(|err| panic!("{err:?}:\n{text}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| line.rsplit_once(' ').unwrap());
    parts.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[track_caller]
fn measured(s: &Sandbox) -> BTreeMap<String, f64> {
    samples(&s.duly(["metrics"]).stdout_has("duly_up 1\n").status(0).stdout)
}

/// The families that a text has.
fn families(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// The counters and the histogram: what must never fall.
fn counters(all: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let is_counter =
        |name: &&String| name.contains("_total{") || name.starts_with("duly_attempt_duration_seconds");
    all.iter().filter(|(name, _)| is_counter(name)).map(|(name, value)| (name.clone(), *value)).collect()
}

fn ago(s: &Sandbox, seconds: u32) -> String {
    match s.database().backend() {
        Backend::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{seconds} seconds')"),
        Backend::MariaDb => format!("(UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND)"),
    }
}

const JOBS: &str = "queues: {orders: {}}\nlost_orders: {send: {command: ['true']}}\njobs:\n  good: {command: ['true']}\n  bad: {command: [sh, -c, 'exit 7'], max_attempts: 2, backoff: {initial: 0s}}\n  \
     slow: {command: [sleep, '1.2']}\n  often: {command: ['true'], schedule: '0 3 * * *'}\n";

on_every_database! {
    fn a_parser_accepts_them_and_they_say_what_happened(s: Sandbox) {
        s.set_jobs(JOBS);
        for name in ["good", "good", "bad", "slow"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run"]).stderr_has("failed").status(0);
        s.duly(["enqueue", "good", "--queue", "orders"]).stdout_has("").status(0);
        s.duly(["pause", "--queue", "orders"]).stdout_has("paused").status(0);
        s.duly(["sessions", "write-stat"]).output();
        s.duly(["lost-orders", "add", "4711", "--payload", "-"]).stdin("<order/>").output();
        let text = s.duly(["metrics"]).stdout_has("duly_up 1\n").status(0).stdout;
        let all = samples(&text);
        for (name, value) in [
            ("duly_jobs_ended_total{name=\"good\",state=\"success\"}", 2.0),
            ("duly_jobs_ended_total{name=\"bad\",state=\"failed\"}", 1.0),
            ("duly_attempts_total{name=\"bad\",outcome=\"exited\"}", 2.0),
            ("duly_attempt_duration_seconds_bucket{name=\"slow\",le=\"1\"}", 0.0),
            ("duly_attempt_duration_seconds_bucket{name=\"slow\",le=\"5\"}", 1.0),
            ("duly_attempt_duration_seconds_bucket{name=\"bad\",le=\"+Inf\"}", 2.0),
            ("duly_attempt_duration_seconds_count{name=\"bad\"}", 2.0),
            ("duly_queue_jobs{queue=\"orders\",state=\"pending\"}", 1.0),
            ("duly_queue_jobs{queue=\"default\",state=\"pending\"}", 0.0),
            ("duly_jobs_running{queue=\"default\"}", 0.0),
            ("duly_paused{scope=\"queue:orders\"}", 1.0),
            ("duly_expired_leases", 0.0),
            ("duly_schedule_late_seconds{name=\"often\"}", 0.0),
        ] {
            assert_eq!(all.get(name), Some(&value), "{name}:\n{text}");
        }
        let took = all["duly_attempt_duration_seconds_sum{name=\"slow\"}"];
        assert!((1.2..10.0).contains(&took), "{took}");
        let host = all.keys().find(|name| name.starts_with("duly_tick_duration_seconds{host=")).expect("a tick of over a second");
        assert!(all[host] > 1.2, "{}", all[host]);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        for name in ["duly_last_success_timestamp_seconds{name=\"good\"}", "duly_last_end_timestamp_seconds{name=\"bad\"}"] {
            assert!((now - all[name]).abs() < 60.0, "{name} is {}", all[name]);
        }
        assert!(all["duly_next_occurrence_timestamp_seconds{name=\"often\"}"] > now);
        assert!(!all.contains_key("duly_last_success_timestamp_seconds{name=\"bad\"}"));
        let expected: BTreeSet<&str> = FAMILIES.into_iter().filter(|name| !["duly_nothing_of_this_name", "duly_sessions"].contains(name)).collect();
        let found = families(&text);
        assert!(found.is_superset(&expected), "missing: {:?}", expected.difference(&found));
        assert!(found.iter().all(|name| FAMILIES.contains(name)), "not documented: {found:?}");
    }

    /// Seen failing without what is added before anything is deleted, and without what is added with what is deleted.
    fn counters_do_not_fall_when_clean_up_deletes_what_they_counted(s: Sandbox) {
        s.set_jobs(JOBS);
        for round in 0..3 {
            for name in ["good", "bad"] {
                s.duly(["start", name]).stdout_has("").status(0);
            }
            s.duly(["run"]).stderr_has("failed").status(0);
            let before = counters(&measured(&s));
            assert_eq!(before["duly_attempts_total{name=\"bad\",outcome=\"exited\"}"], f64::from(2 * (round + 1)));
            let mut age = "0s";
            if round == 1 {
                // Long ago, and nobody has asked since.
                s.database().sql(&format!(
                    "UPDATE duly_metric SET at = {} WHERE metric = 'mark'; UPDATE duly_job SET finished_at = {}",
                    ago(&s, 90_000),
                    ago(&s, 80_000)
                ));
                age = "1h";
            }
            s.duly(["clean-up", "--max-retention", age]).status(0);
            assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
            assert_eq!(counters(&measured(&s)), before, "round {round}");
        }
    }

    fn counters_do_not_fall_while_jobs_end_and_clean_up_deletes(s: Sandbox) {
        s.set_jobs(JOBS);
        let batch = "{\"name\": \"good\"}\n".repeat(400);
        s.duly(["enqueue", "--batch", "-"]).stdin(&batch).stdout_has("1").status(0);
        let mut runner = s.duly(["run"]).spawn();
        let (mut last, mut rounds) = (0.0, 0);
        let began = Instant::now();
        while !runner.has_ended() || rounds < 5 {
            let cleaner = s.duly(["clean-up", "--max-retention", "0s"]).spawn();
            let now = measured(&s).get("duly_jobs_ended_total{name=\"good\",state=\"success\"}").copied().unwrap_or(0.0);
            assert!(now >= last, "{last}, then {now}");
            (last, rounds) = (now, rounds + 1);
            cleaner.wait();
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        assert_eq!(measured(&s)["duly_jobs_ended_total{name=\"good\",state=\"success\"}"], 400.0);
    }

    fn names_that_an_application_made_up_break_nothing(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["run"]).status(0);
        s.database().sql("INSERT INTO duly_job (name, queue) VALUES ('a\"b\nc{d}', 'q\"\n')");
        s.duly(["cancel", "1"]).stdout_has("").status(0);
        s.database().sql("INSERT INTO duly_job (name, queue) VALUES ('x', 'q\"\n')");
        let all = measured(&s);
        assert_eq!(all.get("duly_jobs_ended_total{name=\"a\\\"b\\nc{d}\",state=\"cancelled\"}"), Some(&1.0), "{all:#?}");
        assert_eq!(all.get("duly_queue_jobs{queue=\"q\\\"\\n\",state=\"new\"}"), Some(&1.0));
    }

    /// Seen failing with the file written in place.
    fn a_textfile_is_whole_whenever_it_is_read(s: Sandbox) {
        s.set_jobs(JOBS);
        let path = s.path("duly.prom");
        s.duly(["metrics", "--textfile", "duly.prom"]).status(0);
        let whole = std::fs::read_to_string(&path).unwrap().lines().count();
        let mut writers: Vec<_> = (0..3).map(|_| s.duly(["metrics", "--textfile", "duly.prom"]).spawn()).collect();
        let (mut reads, mut writes) = (0, 3);
        while !writers.is_empty() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# HELP duly_up") && text.lines().count() >= whole, "{text}");
            reads += 1;
            let ended: Vec<bool> = writers.iter_mut().map(|writer| writer.has_ended()).collect();
            let mut ended = ended.into_iter();
            writers.retain(|_| !ended.next().unwrap());
            if writes < 20 && writers.len() < 3 {
                writers.push(s.duly(["metrics", "--textfile", "duly.prom"]).spawn());
                writes += 1;
            }
        }
        assert!(reads > 20, "{reads} reads");
        samples(&s.read("duly.prom"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "node_exporter is another user");
        let left: Vec<_> = std::fs::read_dir(s.path("")).unwrap().flatten().filter(|file| file.file_name().to_string_lossy().ends_with(".tmp")).collect();
        assert!(left.is_empty(), "{left:?}");
        s.duly(["metrics", "--textfile", "gone/duly.prom"]).stderr_has("cannot write the metrics to `gone/duly.prom`").status(1);
    }
}

/// Between reading the totals and counting what is younger nobody may move anything from one to the other. Seen failing with the
/// mark read without its lock.
#[test]
fn counters_are_read_and_moved_by_one_at_a_time() {
    let s = Sandbox::new(Backend::MariaDb).jobs(JOBS);
    s.duly(["start", "good"]).stdout("1\n").status(0);
    s.duly(["run"]).status(0);
    let mut mover = s.database().connect();
    mover.sql("SET autocommit = 0");
    mover.rows("SELECT metric FROM duly_metric WHERE metric = 'mark' FOR UPDATE");
    let mut waiting: Vec<_> =
        [&["metrics"][..], &["clean-up", "--max-retention", "0s"]].map(|words| s.duly(words).spawn()).into();
    std::thread::sleep(Duration::from_secs(2));
    assert!(waiting.iter_mut().all(|running| !running.has_ended()), "both wait for the mark");
    mover.sql("COMMIT");
    for running in waiting {
        let output = running.wait();
        assert!(output.status.success(), "{output}");
    }
    assert_eq!(measured(&s)["duly_jobs_ended_total{name=\"good\",state=\"success\"}"], 1.0);
}

/// A database that cannot be used is a figure, not a gap.
#[test]
fn a_database_that_is_away_is_told_as_down() {
    let s = Sandbox::new(Backend::Sqlite)
        .jobs("database: \"mysql://shop@127.0.0.1:1/shop\"\njobs:\n  a: {command: ['true']}\n");
    let down = "# HELP duly_up Whether the database answers and has the schema that this version needs\n# TYPE duly_up gauge\nduly_up 0\n";
    s.duly(["metrics"]).stdout(down).stderr_has("cannot open the database").status(1);
    s.duly(["metrics", "--textfile", "duly.prom"]).status(0);
    assert_eq!(s.read("duly.prom"), down);
}
