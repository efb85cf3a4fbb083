//! What the reading commands answer: exactly the documented fields as JSON, tables for people, output as it comes.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveTime, Utc};
use serde_json::{Value, json};

use crate::support::{Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// The fields of a job. `retry_of` is the one that design.md does not list.
const JOB: [&str; 25] = [
    "id",
    "name",
    "state",
    "queue",
    "priority",
    "params",
    "target_type",
    "target_id",
    "attempts",
    "max_attempts",
    "run_at",
    "created_at",
    "started_at",
    "finished_at",
    "duration_ms",
    "outcome",
    "exit_code",
    "signal",
    "reason",
    "root_id",
    "retry_of",
    "scheduled_for",
    "progress",
    "progress_text",
    "host",
];

/// What `show` has besides.
const SHOW: [&str; 6] =
    ["output", "output_truncated", "attempt_log", "prerequisites", "dependents", "children"];

/// The fields of an attempt. `reason` and `output` are the ones that design.md does not list.
const ATTEMPT: [&str; 10] = [
    "attempt",
    "outcome",
    "exit_code",
    "signal",
    "host",
    "started_at",
    "finished_at",
    "duration_ms",
    "reason",
    "output",
];

const JOBS: &str = r#"
queues: {orders: {}}
defaults: {max_attempts: 1}
jobs:
  good: {label: "A label", desc: "Says hello", command: [echo, hello]}
  bad: {command: [sh, -c, "echo oops >&2; exit 7"]}
  killed: {command: [sh, -c, 'kill -9 $$']}
  missing: {command: [./no-such-program]}
  nightly: {command: ["true"], schedule: "30 2 * * *", timezone: Europe/Berlin}
  resting: {command: ["true"], schedule: "@hourly", enabled: false}
  escapes: {command: [printf, 'a\033[2Jb\r\377\376\n\033]0;title\007grüße\n']}
  slow: {command: [sh, -c, 'echo one; until [ -e go ]; do sleep 0.05; done; echo two; exit "$(cat go)"']}
  long: {command: [seq, '1', '100000'], output_limit: 4KiB}
"#;

#[track_caller]
fn enqueue(s: &Sandbox, arguments: &[&str]) -> String {
    s.duly(["enqueue"].iter().chain(arguments)).stdout_has("\n").status(0).stdout.trim_end().to_owned()
}

#[track_caller]
fn tick(s: &Sandbox) {
    let output = s.duly(["run"]).output();
    assert!(output.status.success(), "{output}");
}

fn show(s: &Sandbox, id: &str) -> Value {
    s.json(["show", id, "--json"])
}

#[track_caller]
fn assert_fields(value: &Value, expected: &[&str]) {
    let fields: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, expected.iter().copied().collect());
}

/// Whether it is null, or a time in UTC as RFC 3339 with `Z`.
#[track_caller]
fn assert_times(value: &Value) {
    for (key, value) in
        value.as_object().unwrap().iter().filter(|(key, _)| key.ends_with("_at") || *key == "scheduled_for")
    {
        if let Some(text) = value.as_str() {
            let at = DateTime::parse_from_rfc3339(text).unwrap_or_else(|err| panic!("{key}: {text}: {err}"));
            assert!(text.ends_with('Z') && at.offset().local_minus_utc() == 0, "{key}: {text}");
        } else {
            assert!(value.is_null(), "{key}: {value}");
        }
    }
}

/// The ids of a list.
#[track_caller]
fn ids(s: &Sandbox, arguments: &[&str]) -> Vec<String> {
    let list = s.json(["list", "--json"].iter().chain(arguments));
    list.as_array().unwrap().iter().map(|job| job["id"].to_string()).collect()
}

/// A snapshot of a text for people, the same on both databases: without times, lengths, ids of processes, and the host.
fn assert_text(name: &str, text: &str) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[time]");
    settings.add_filter(r"\b\d+(\.\d+)?(ms|s|m)\b", "[length]");
    settings.add_filter(&format!(r"\b{}\b", host.replace('.', r"\.")), "[host]");
    settings.add_filter(" {2,}", "  ");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

on_every_database! {
    fn a_job_in_a_list_has_exactly_the_documented_fields(s: Sandbox) {
        s.set_jobs(JOBS);
        enqueue(&s, &["good", "--target-type", "T", "--target-id", "7", "--priority", "-3", "--", "a b"]);
        for name in ["bad", "killed", "missing"] {
            enqueue(&s, &[name]);
        }
        tick(&s);
        enqueue(&s, &["good", "--in", "1 day"]);
        let list = s.json(["list", "--json"]);
        let jobs = list.as_array().unwrap();
        assert_eq!(jobs.len(), 5);
        for job in jobs {
            assert_fields(job, &JOB);
            assert_times(job);
            assert!(job["id"].is_u64() && job["attempts"].is_u64() && job["max_attempts"].is_u64(), "{job}");
            assert!(
                job["priority"].is_i64() && job["params"].is_array() && job["queue"] == "default",
                "{job}"
            );
            assert!(job["created_at"].is_string() && job["run_at"].is_string(), "{job}");
            for key in ["root_id", "retry_of", "scheduled_for", "progress"] {
                assert!(job[key].is_null(), "{key}: {job}");
            }
        }
        let delayed = &jobs[0];
        assert_eq!((&delayed["state"], &delayed["attempts"]), (&json!("delayed"), &json!(0)));
        for key in [
            "started_at",
            "finished_at",
            "duration_ms",
            "outcome",
            "exit_code",
            "signal",
            "reason",
            "host",
            "target_id",
            "target_type",
        ] {
            assert!(delayed[key].is_null(), "{key}: {delayed}");
        }
    }

    fn how_a_job_ended_is_told(s: Sandbox) {
        s.set_jobs(JOBS);
        let target = ["--target-type", "T", "--target-id", "7", "--priority", "-3", "--", "a b"];
        enqueue(&s, &[&["good"], &target[..]].concat());
        for name in ["bad", "killed", "missing"] {
            enqueue(&s, &[name]);
        }
        tick(&s);
        let list = s.json(["list", "--json"]);
        let jobs = list.as_array().unwrap();
        let of = |name: &str| jobs.iter().find(|job| job["name"] == name).unwrap();
        let good = of("good");
        let some = |keys: [&str; 8]| keys.map(|key| good[key].clone());
        assert_eq!(
            some([
                "state",
                "outcome",
                "exit_code",
                "signal",
                "priority",
                "params",
                "target_type",
                "target_id"
            ]),
            [
                json!("success"),
                json!("success"),
                json!(0),
                json!(null),
                json!(-3),
                json!(["a b"]),
                json!("T"),
                json!("7")
            ]
        );
        assert!(
            good["duration_ms"].is_u64() && good["started_at"].is_string() && good["finished_at"].is_string()
        );
        assert!(good["host"].is_string());
        let ends: Vec<[&Value; 4]> = ["bad", "killed", "missing"]
            .map(|name| ["state", "outcome", "exit_code", "signal"].map(|key| &of(name)[key]))
            .to_vec();
        assert_eq!(
            json!(ends),
            json!([
                ["failed", "exited", 7, null],
                ["failed", "signalled", null, 9],
                ["failed", "not_started", null, null],
            ])
        );
        assert!(of("missing")["reason"].as_str().unwrap().contains("no-such-program"));
    }

    fn a_job_shown_has_exactly_the_documented_fields(s: Sandbox) {
        s.set_jobs(JOBS);
        let first = enqueue(&s, &["bad"]);
        let second = enqueue(&s, &["good", "--after", &format!("{first}:failure")]);
        let number = |id: &str| id.parse::<u64>().unwrap();
        let waiting = show(&s, &second);
        assert_fields(&waiting, &[&JOB[..], &SHOW].concat());
        assert_eq!(
            [&waiting["output"], &waiting["attempt_log"], &waiting["children"]],
            [&json!(null), &json!([]), &json!([])]
        );
        tick(&s);
        let shown = show(&s, &first);
        assert_fields(&shown, &[&JOB[..], &SHOW].concat());
        assert_times(&shown);
        assert_eq!((&shown["output"], &shown["output_truncated"]), (&json!("oops\n"), &json!(0)));
        assert_eq!(shown["dependents"], json!([{"id": number(&second), "on": "failure"}]));
        let attempts = shown["attempt_log"].as_array().unwrap();
        assert_eq!(attempts.len(), 1);
        assert_fields(&attempts[0], &ATTEMPT);
        assert_times(&attempts[0]);
        assert_eq!(
            (&attempts[0]["attempt"], &attempts[0]["exit_code"], &attempts[0]["outcome"]),
            (&json!(1), &json!(7), &json!("exited"))
        );
        assert_eq!(show(&s, &second)["prerequisites"], json!([{"id": number(&first), "on": "failure"}]));
        assert_eq!(show(&s, &second)["output"], "hello\n");
    }

    fn a_job_that_is_not_adopted_yet_is_listed_and_shown(s: Sandbox) {
        s.set_jobs(JOBS);
        s.json(["list", "--json"]);
        s.database().sql("INSERT INTO duly_job (name, params) VALUES ('good', 'not json')");
        let id = s.database().value("SELECT id FROM duly_job");
        let job = show(&s, &id);
        assert_fields(&job, &[&JOB[..], &SHOW].concat());
        assert_eq!(
            (&job["state"], &job["queue"], &job["params"]),
            (&json!("new"), &json!(null), &json!(null))
        );
        assert_eq!(ids(&s, &["--state", "new"]), [id.as_str()]);
        s.duly(["show", &id]).stdout_has("not json").status(0);
        s.duly(["list"]).stdout_has("new").status(0);
    }

    fn all_attempts_are_shown_oldest_first(s: Sandbox) {
        s.set_jobs(&JOBS.replace(
            "defaults: {max_attempts: 1}",
            "defaults: {max_attempts: 3, backoff: {initial: 0s, jitter: 0}}",
        ));
        let id = enqueue(&s, &["bad"]);
        wait_until("it has failed for good", SOON, || {
            tick(&s);
            show(&s, &id)["state"] == "failed"
        });
        let shown = show(&s, &id);
        let numbers: Vec<&Value> =
            shown["attempt_log"].as_array().unwrap().iter().map(|attempt| &attempt["attempt"]).collect();
        assert_eq!(json!(numbers), json!([1, 2, 3]));
        assert_eq!(
            s.duly(["show", &id]).stdout_has("attempt 3 exited 7").status(0).stdout.matches("| oops").count(),
            3
        );
    }

    fn a_job_that_succeeds_at_last_has_no_reason_left_of_earlier_attempts(s: Sandbox) {
        s.set_jobs(&JOBS.replace(
            "defaults: {max_attempts: 1}",
            "defaults: {max_attempts: 9, backoff: {initial: 0s, jitter: 0}}",
        ));
        let id = enqueue(&s, &["missing"]);
        s.duly(["run", "--limit", "1"]).output();
        let first = show(&s, &id);
        assert!(first["reason"].as_str().unwrap().contains("no-such-program"), "{first}");
        s.file("no-such-program", "#!/bin/sh\n");
        wait_until("it has succeeded", SOON, || {
            tick(&s);
            show(&s, &id)["state"] == "success"
        });
        let job = show(&s, &id);
        assert_eq!((&job["reason"], &job["outcome"]), (&Value::Null, &json!("success")));
        assert!(job["attempt_log"][0]["reason"].as_str().unwrap().contains("no-such-program"), "{job}");
    }

    fn a_list_can_be_narrowed(s: Sandbox) {
        s.set_jobs(JOBS);
        let old = enqueue(&s, &["good"]);
        let bad = enqueue(&s, &["bad", "--queue", "orders"]);
        tick(&s);
        let delayed = enqueue(&s, &["good", "--in", "1 day", "--queue", "orders"]);
        assert_eq!(ids(&s, &[]), [&delayed, &bad, &old].map(String::clone));
        assert_eq!(ids(&s, &["--state", "failed"]), [bad.as_str()]);
        assert_eq!(ids(&s, &["--state", "delayed"]), [delayed.as_str()]);
        assert_eq!(ids(&s, &["--state", "running"]), [""; 0]);
        assert_eq!(ids(&s, &["--queue", "orders"]), [&delayed, &bad].map(String::clone));
        assert_eq!(ids(&s, &["--name", "good"]), [&delayed, &old].map(String::clone));
        assert_eq!(ids(&s, &["--name", "good", "--queue", "default", "--state", "success"]), [old.as_str()]);
        assert_eq!(ids(&s, &["--limit", "2"]), [&delayed, &bad].map(String::clone));
        s.database()
            .sql(&format!("UPDATE duly_job SET created_at = '2026-01-01 00:00:00.000000' WHERE id = {old}"));
        assert_eq!(ids(&s, &["--since", "1 day"]), [&delayed, &bad].map(String::clone));
        assert_eq!(ids(&s, &["--since", "99 years"]).len(), 3);
        assert_eq!(ids(&s, &["--name", "it's", "--queue", "' OR 1=1"]), [""; 0]);
    }

    fn a_list_shows_fifty_jobs_unless_told_otherwise(s: Sandbox) {
        s.set_jobs(JOBS);
        let lines = "{\"name\": \"good\"}\n".repeat(60);
        s.duly(["enqueue", "--batch", "-"]).stdin(&lines).stdout_has("\n").status(0);
        assert_eq!(ids(&s, &[]).len(), 50);
        assert_eq!(ids(&s, &["--limit", "60"]).len(), 60);
        assert_eq!(s.duly(["list"]).stdout_has("good").status(0).stdout.lines().count(), 51);
    }

    /// Seen failing with `id < ?` left out of the second half of the condition in `Store::list`, and with `<=` there.
    fn a_long_list_is_read_in_parts_that_lack_nothing_and_repeat_nothing(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "--batch", "-"]).stdin(&"{\"name\": \"good\"}\n".repeat(2500)).stdout_has("\n").status(0);
        assert_eq!(ids(&s, &["--limit", "1000000"]), (1..=2500).rev().map(|id| id.to_string()).collect::<Vec<_>>());
        assert_eq!(ids(&s, &["--limit", "1001"]), (1500..=2500).rev().map(|id| id.to_string()).collect::<Vec<_>>());
        // All of them may start from the same second on, and some later.
        s.database().sql("UPDATE duly_job SET run_at = CASE WHEN id % 3 = 0 THEN '2026-01-02 00:00:00.000000' ELSE '2026-01-01 00:00:00.000000' END");
        let by_start: Vec<String> = (1..=2500).rev().filter(|id| id % 3 == 0).chain((1..=2500).rev().filter(|id| id % 3 != 0)).map(|id| id.to_string()).collect();
        assert_eq!(ids(&s, &["--limit", "1000000", "--state", "pending"]), by_start);
        let table = s.duly(["list", "--limit", "1000000"]).stdout_has("\n").status(0).stdout;
        assert_eq!((table.lines().count(), table.matches("NAME").count()), (2501, 1));
        // Ended ones are listed by when they ended: here 1,250 at one instant, then 1,250 at another.
        for (at, which) in [("2026-01-01 00:00:00", "id % 2 = 0"), ("2026-01-02 00:00:00", "id % 2 = 1")] {
            s.database().sql(&format!("UPDATE duly_job SET state = 'failed', finished_at = '{at}.000000' WHERE {which}"));
        }
        let by_end: Vec<String> = (1..=2500).rev().filter(|id| id % 2 == 1).chain((1..=2500).rev().filter(|id| id % 2 == 0)).map(|id| id.to_string()).collect();
        assert_eq!(ids(&s, &["--limit", "1000000", "--state", "failed"]), by_end);
    }

    fn a_list_for_people_is_a_table(s: Sandbox) {
        s.set_jobs(JOBS);
        for name in ["good", "bad", "killed", "missing"] {
            enqueue(&s, &[name]);
            tick(&s);
        }
        let delayed = enqueue(&s, &["good", "--in", "1 day", "--queue", "orders"]);
        enqueue(&s, &["good", "--after", &delayed]);
        let table = s.duly(["list"]).stdout_has("\n").status(0).stdout;
        assert!(!table.contains('\u{1b}') && table.lines().all(|line| line == line.trim_end()), "{table}");
        assert_text("list", &table);
        assert_text("list_empty", &s.duly(["list", "--state", "stale"]).stdout_has("NAME").status(0).stdout);
    }

    fn a_job_shown_for_people_tells_all_there_is(s: Sandbox) {
        s.set_jobs(JOBS);
        let first = enqueue(&s, &["good"]);
        let arguments = ["bad", "--after", &first, "--target-type", "T", "--target-id", "7", "--", "a b"];
        let second = enqueue(&s, &arguments);
        enqueue(&s, &["good", "--after", &second]);
        tick(&s);
        assert_text("show", &s.duly(["show", &second]).stdout_has("\n").status(0).stdout);
        assert_text(
            "show_cancelled",
            &s.duly(["show", &(second.parse::<u64>().unwrap() + 1).to_string()])
                .stdout_has("\n")
                .status(0)
                .stdout,
        );
    }

    fn the_declared_jobs_are_listed(s: Sandbox) {
        s.set_jobs(JOBS);
        enqueue(&s, &["bad"]);
        tick(&s);
        assert_text("jobs", &s.duly(["jobs"]).stdout_has("\n").status(0).stdout);
        let jobs = s.json(["jobs", "--json"]);
        let names: Vec<&str> =
            jobs.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            ["good", "bad", "killed", "missing", "nightly", "resting", "escapes", "slow", "long"]
        );
        let fields = [
            "name",
            "label",
            "description",
            "schedule",
            "timezone",
            "enabled",
            "next_at",
            "queue",
            "dependents",
            "last",
        ];
        for job in jobs.as_array().unwrap() {
            for field in fields {
                assert!(job.get(field).is_some(), "no {field} in {job}");
            }
            assert_times(job);
        }
        assert_eq!((&jobs[0]["label"], &jobs[0]["description"]), (&json!("A label"), &json!("Says hello")));
        assert_eq!(
            (&jobs[0]["schedule"], &jobs[0]["next_at"], &jobs[0]["last"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert_eq!((&jobs[1]["last"]["state"], &jobs[1]["last"]["exit_code"]), (&json!("failed"), &json!(7)));
        assert_fields(&jobs[1]["last"], &JOB);
        assert_eq!(
            (&jobs[4]["schedule"], &jobs[4]["timezone"]),
            (&json!("30 2 * * *"), &json!("Europe/Berlin"))
        );
        assert_eq!(
            (&jobs[4]["enabled"], &jobs[5]["enabled"], &jobs[5]["next_at"]),
            (&json!(true), &json!(false), &Value::Null)
        );
        assert_eq!(jobs[4]["next_at"], s.json(["next", "nightly", "--count", "1", "--json"])[0]["at"]);
    }

    fn coming_occurrences_are_told_in_utc_and_in_the_zone_of_the_schedule(s: Sandbox) {
        s.set_jobs(JOBS);
        let coming = s.json(["next", "nightly", "--json"]);
        let coming = coming.as_array().unwrap();
        assert_eq!(coming.len(), 5);
        let mut before: DateTime<Utc> = s
            .database()
            .value("SELECT CURRENT_TIMESTAMP")
            .split('.')
            .next()
            .and_then(|text| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok())
            .unwrap()
            .and_utc();
        // The session of the test is in the server's zone, at most half a day off.
        before -= chrono::TimeDelta::hours(12);
        for occurrence in coming {
            let at: DateTime<Utc> = occurrence["at"].as_str().unwrap().parse().unwrap();
            let local: DateTime<FixedOffset> =
                DateTime::parse_from_rfc3339(occurrence["local"].as_str().unwrap()).unwrap();
            assert!(occurrence["at"].as_str().unwrap().ends_with('Z') && at > before, "{occurrence}");
            assert_eq!(
                (local.with_timezone(&Utc), local.time()),
                (at, NaiveTime::from_hms_opt(2, 30, 0).unwrap())
            );
            assert!([3600, 7200].contains(&local.offset().local_minus_utc()), "{occurrence}");
            assert_eq!(
                (&occurrence["name"], &occurrence["timezone"]),
                (&json!("nightly"), &json!("Europe/Berlin"))
            );
            before = at;
        }
        assert_eq!(s.json(["next", "nightly", "--count", "12", "--json"]).as_array().unwrap().len(), 12);
        assert_eq!(
            s.json(["next", "--count", "2", "--json"]).as_array().unwrap().len(),
            2,
            "only `nightly` is on"
        );
        let table = s
            .duly(["next", "--count", "2"])
            .stdout_has("AT (UTC)")
            .stdout_has("02:30:00 CE")
            .status(0)
            .stdout;
        assert_eq!(table.lines().count(), 3, "{table}");
        s.duly(["next", "good"]).stderr_has("duly: error: `good` has no schedule in ").status(2);
    }

    /// No terminal obeys what a job printed, and nothing of it is lost.
    fn output_is_shown_harmlessly(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = enqueue(&s, &["escapes"]);
        s.duly(["run"]).status(0);
        for arguments in [&["show", &id][..], &["show", &id, "--follow"]] {
            let text = s.duly(arguments).stdout_has("[2Jb").stdout_has("grüße").status(0).stdout;
            let bad = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{fffd}');
            assert_eq!(bad, None, "{text:?}");
            assert!(text.contains("\\xFF\\xFE"), "{text}");
        }
        let output = show(&s, &id)["output"].as_str().unwrap().to_owned();
        assert!(output.starts_with("a\u{1b}[2Jb\r\\x"), "{output:?}");
    }

    /// Nor what an application has inserted.
    fn what_was_inserted_is_shown_harmlessly(s: Sandbox) {
        s.set_jobs(JOBS);
        s.json(["list", "--json"]);
        s.database().sql(
            "INSERT INTO duly_job (name, params, target_type, target_id) VALUES \
             ('x\u{1b}[2Jy\nz', '[\"\u{1b}]0;t\u{7}\"]', '\u{1b}[31m', 'a\nb')",
        );
        let id = s.database().value("SELECT id FROM duly_job");
        for arguments in [&["list"][..], &["show", &id], &["-v", "run"]] {
            let run = s.duly(arguments).output();
            let text = format!("{}{}", run.stdout, run.stderr);
            assert!(
                run.status.success() && !text.contains(|c: char| c.is_control() && c != '\n'),
                "{text:?}"
            );
        }
        assert_eq!(s.duly(["list"]).stdout_has("␛[2J").status(0).stdout.lines().count(), 2);
    }

    /// Seen failing with no line between head and tail.
    fn a_long_output_keeps_its_head_and_tail_and_tells_what_is_missing(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = enqueue(&s, &["long"]);
        s.duly(["run"]).status(0);
        let shown = show(&s, &id);
        let output = shown["output"].as_str().unwrap();
        assert!(
            output.starts_with("1\n2\n") && output.ends_with("\n100000\n") && output.len() < 6000,
            "{output}"
        );
        let missing = shown["output_truncated"].as_u64().unwrap();
        assert!((580_000..588_895).contains(&missing), "{missing}");
        assert!(output.lines().any(|line| line.contains(&missing.to_string())), "{output}");
    }

    fn following_a_job_shows_its_output_as_it_comes_until_it_ends(s: Sandbox) {
        s.set_jobs(JOBS);
        for (code, expected) in [("0", 0), ("7", 3)] {
            drop(fs::remove_file(s.path("go")));
            let id = enqueue(&s, &["slow"]);
            let run = s.duly(["run"]).spawn();
            let mut follow = s.duly(["show", &id, "--follow"]).spawn();
            wait_until("the first line is shown", SOON, || follow.stdout_so_far() == "one\n");
            assert!(!follow.has_ended());
            s.file("go", code);
            let output = follow.wait();
            assert_eq!(
                (output.status.code(), output.stdout.as_str()),
                (Some(expected), "one\ntwo\n"),
                "{output}"
            );
            assert_eq!(output.stderr.is_empty(), expected == 0, "{output}");
            assert!(run.wait().status.success());
        }
    }

    fn following_a_job_that_has_ended_shows_its_output_and_ends(s: Sandbox) {
        s.set_jobs(JOBS);
        let (good, bad) = (enqueue(&s, &["good"]), enqueue(&s, &["bad"]));
        tick(&s);
        s.duly(["show", &good, "--follow"]).stdout("hello\n").status(0);
        s.duly(["show", &bad, "--follow"]).stdout("oops\n").stderr_has("is failed").status(3);
    }

    fn a_reader_that_goes_away_is_no_error(s: Sandbox) {
        s.set_jobs(JOBS);
        let lines = "{\"name\": \"good\"}\n".repeat(3000);
        s.duly(["enqueue", "--batch", "-"]).stdin(&lines).stdout_has("\n").status(0);
        let script = format!(
            "{} list --limit 3000 --json 2>errors | head -n 1; echo ${{PIPESTATUS[0]}}",
            env!("CARGO_BIN_EXE_duly")
        );
        let mut bash = std::process::Command::new("bash");
        let output =
            bash.args(["-c", &script]).current_dir(s.path(".")).env("HOME", s.path(".")).output().unwrap();
        assert_eq!(
            (String::from_utf8_lossy(&output.stdout).as_ref(), s.read("errors").as_str()),
            ("[\n0\n", "")
        );
    }
}
