//! Putting jobs in: when, in which order, after which others, with which words, and many at once.

use std::time::Duration;

use serde_json::json;

use crate::support::{Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// `write` writes its words to the file that its first word names, each ended by NUL.
const JOBS: &str = r#"
queues: {orders: {}}
defaults: {max_attempts: 1}
jobs:
  good: {command: ["true"]}
  bad: {command: ["false"]}
  append: {command: [sh, -c, 'echo "$1" >> order', sh]}
  write: {command: [sh, -c, 'printf "%s\0" "$@" > words', sh], params: [tmp, "--full"]}
  target:
    command: [sh, -c, 'printf "%s\0" "$@" "$DULY_TARGET_TYPE" "$DULY_TARGET_ID" > words', sh, "--id={target_id}", "{target_type}/{target_id}"]
  untargeted: {command: [sh, -c, 'printf "%s\0" "$DULY_TARGET_TYPE" "$DULY_TARGET_ID" > words']}
"#;

/// Enqueues; gives the id, which must be all that is printed.
#[track_caller]
fn enqueue(s: &Sandbox, arguments: &[&str]) -> String {
    let output = s.duly(["enqueue"].iter().chain(arguments)).stdout_has("\n").status(0).stdout;
    let id = output.trim_end_matches('\n').to_owned();
    assert_eq!((id.parse::<u64>().is_ok(), output), (true, format!("{id}\n")));
    id
}

/// Runs a tick; jobs of these tests may fail, so what it says is not looked at.
#[track_caller]
fn tick(s: &Sandbox) {
    let output = s.duly(["run"]).output();
    assert!(output.status.success(), "{output}");
}

fn state(s: &Sandbox, id: &str) -> String {
    s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))
}

/// Makes a job's time come.
fn let_its_time_come(s: &Sandbox, id: &str) {
    s.database().sql(&format!("UPDATE duly_job SET run_at = '2026-01-01 00:00:00.000000' WHERE id = {id}"));
}

/// The words that a command was started with.
fn words(s: &Sandbox) -> Vec<String> {
    let text = s.read("words");
    text.strip_suffix('\0').expect("a file of words").split('\0').map(String::from).collect()
}

on_every_database! {
    fn a_job_is_put_in_and_its_id_printed(s: Sandbox) {
        s.set_jobs(JOBS);
        let first = enqueue(&s, &["good"]);
        let second = enqueue(&s, &["good"]);
        assert!(second.parse::<u64>().unwrap() > first.parse::<u64>().unwrap());
        assert_eq!((state(&s, &first), state(&s, &second)), ("pending".into(), "pending".into()));
        s.duly(["run"]).status(0);
        assert_eq!((state(&s, &first), state(&s, &second)), ("success".into(), "success".into()));
    }

    fn a_job_for_a_later_time_is_delayed_and_run_when_it_has_come(s: Sandbox) {
        s.set_jobs(JOBS);
        for arguments in [
            &["append", "--at", "2999-01-01 00:00", "--", "x"][..],
            &["append", "--at", "2999-01-01T00:00:00+02:00", "--", "x"],
            &["append", "--in", "1 day 2 hours", "--", "x"],
        ] {
            let id = enqueue(&s, arguments);
            assert_eq!(state(&s, &id), "delayed");
            s.duly(["run"]).status(0);
            assert_eq!((state(&s, &id), s.read("order")), ("delayed".into(), String::new()), "{arguments:?}");
            let_its_time_come(&s, &id);
            s.duly(["run"]).status(0);
            assert_eq!((state(&s, &id), s.read("order")), ("success".into(), "x\n".into()), "{arguments:?}");
            std::fs::remove_file(s.path("order")).unwrap();
        }
    }

    fn the_time_asked_for_is_kept_in_utc(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = enqueue(&s, &["good", "--at", "2999-01-01T01:30:00+02:00"]);
        assert_eq!(s.json(["show", &id, "--json"])["run_at"], "2998-12-31T23:30:00.000000Z");
        let id = enqueue(&s, &["good", "--at", "2999-01-01 01:30"]);
        assert_eq!(s.json(["show", &id, "--json"])["run_at"], "2999-01-01T01:30:00.000000Z");
        let id = enqueue(&s, &["good", "--in", "1 day"]);
        let shown = s.json(["show", &id, "--json"]);
        let at = |key: &str| shown[key].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let ahead = at("run_at") - at("created_at") - chrono::TimeDelta::days(1);
        assert!(ahead.abs() < chrono::TimeDelta::seconds(30), "{ahead}");
    }

    fn a_job_never_starts_before_its_time(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = enqueue(&s, &["good", "--in", "2s"]);
        assert_eq!(state(&s, &id), "delayed");
        wait_until("its time comes and a tick runs it", SOON, || {
            tick(&s);
            state(&s, &id) == "success"
        });
        let early = s
            .database()
            .value(&format!("SELECT COUNT(*) FROM duly_job WHERE id = {id} AND started_at < run_at"));
        assert_eq!(early, "0");
    }

    fn a_time_that_is_over_is_now(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = enqueue(&s, &["good", "--at", "2001-01-01 00:00"]);
        s.duly(["run"]).status(0);
        assert_eq!(state(&s, &id), "success");
    }

    fn a_higher_priority_goes_first_and_among_equals_the_older(s: Sandbox) {
        s.set_jobs(JOBS);
        for (priority, word) in
            [("-100", "last"), ("0", "third"), ("7", "second"), ("100", "first"), ("0", "fourth")]
        {
            enqueue(&s, &["append", "--priority", priority, "--", word]);
        }
        s.duly(["run", "--concurrency", "1"]).status(0);
        assert_eq!(s.read("order"), "first\nsecond\nthird\nfourth\nlast\n");
    }

    fn only_the_queues_asked_for_are_run(s: Sandbox) {
        s.set_jobs(JOBS);
        let (orders, default) = (enqueue(&s, &["good", "--queue", "orders"]), enqueue(&s, &["good"]));
        s.duly(["run", "--queue", "orders"]).status(0);
        assert_eq!((state(&s, &orders), state(&s, &default)), ("success".into(), "pending".into()));
        s.duly(["run"]).status(0);
        assert_eq!(state(&s, &default), "success");
    }

    /// Seen failing with dependents not marked by the end of their prerequisite.
    fn a_job_that_is_after_another_waits_for_its_end(s: Sandbox) {
        s.set_jobs(JOBS);
        let cases = [
            ("good", "", "success"),
            ("good", ":success", "success"),
            ("good", ":failure", "cancelled"),
            ("good", ":always", "success"),
            ("bad", "", "cancelled"),
            ("bad", ":success", "cancelled"),
            ("bad", ":failure", "success"),
            ("bad", ":always", "success"),
        ];
        let jobs: Vec<(String, String)> = cases
            .iter()
            .map(|(name, on, _)| {
                let first = enqueue(&s, &[name, "--in", "1 day"]);
                let then = enqueue(&s, &["good", "--after", &format!("{first}{on}")]);
                (first, then)
            })
            .collect();
        tick(&s);
        for (first, then) in &jobs {
            assert_eq!((state(&s, first), state(&s, then)), ("delayed".into(), "waiting".into()));
            let_its_time_come(&s, first);
        }
        tick(&s);
        for ((name, on, expected), (first, then)) in cases.iter().zip(&jobs) {
            assert_eq!(state(&s, then), *expected, "after {name}{on}");
            let reason =
                s.database().value(&format!("SELECT COALESCE(reason, '') FROM duly_job WHERE id = {then}"));
            assert_eq!(
                reason.contains(&format!("job {first}")),
                *expected == "cancelled",
                "after {name}{on}: {reason}"
            );
        }
    }

    fn a_job_that_is_after_one_that_has_ended_is_settled_at_once(s: Sandbox) {
        s.set_jobs(JOBS);
        let (good, bad) = (enqueue(&s, &["good"]), enqueue(&s, &["bad"]));
        tick(&s);
        assert_eq!((state(&s, &good), state(&s, &bad)), ("success".into(), "failed".into()));
        for (before, on, expected) in [
            (&good, "", "pending"),
            (&good, ":failure", "cancelled"),
            (&good, ":always", "pending"),
            (&bad, "", "cancelled"),
            (&bad, ":failure", "pending"),
            (&bad, ":always", "pending"),
        ] {
            let id = enqueue(&s, &["good", "--after", &format!("{before}{on}")]);
            assert_eq!(state(&s, &id), expected, "{before}{on}");
        }
    }

    fn a_job_that_is_after_several_waits_for_all_of_them(s: Sandbox) {
        s.set_jobs(JOBS);
        let (now, later) = (enqueue(&s, &["good"]), enqueue(&s, &["bad", "--in", "1 day"]));
        let id = enqueue(&s, &["good", "--after", &now, "--after", &format!("{later}:always")]);
        tick(&s);
        assert_eq!((state(&s, &now), state(&s, &id)), ("success".into(), "waiting".into()));
        let_its_time_come(&s, &later);
        tick(&s);
        assert_eq!(state(&s, &id), "success");
    }

    fn a_job_with_prerequisites_still_keeps_its_own_time(s: Sandbox) {
        s.set_jobs(JOBS);
        let first = enqueue(&s, &["good"]);
        let id = enqueue(&s, &["good", "--after", &first, "--in", "1 day"]);
        tick(&s);
        assert_eq!((state(&s, &first), state(&s, &id)), ("success".into(), "delayed".into()));
    }

    fn params_reach_the_command_as_single_words(s: Sandbox) {
        s.set_jobs(JOBS);
        enqueue(&s, &["write"]);
        s.duly(["run"]).status(0);
        assert_eq!(words(&s), ["tmp", "--full"]);
        let given = [
            "two words",
            "it's",
            "\"quoted\"",
            "-x",
            "--",
            "--full=1",
            "grüße ☃ 日本",
            "",
            "a\nb\tc",
            "$HOME `id` $(id) ; & | > <",
            "\\",
            "*",
            "{target_id",
            "[\"json\"]",
            "null",
            "\u{1}\u{7f}",
            " ",
        ];
        enqueue(&s, &[&["write", "--"], &given[..]].concat());
        s.duly(["run"]).status(0);
        assert_eq!(words(&s), given);
    }

    fn params_are_the_same_through_run_job(s: Sandbox) {
        s.set_jobs(JOBS);
        let given = ["two words", "-x", "", "ä\nb"];
        s.duly([&["run-job", "write", "--"], &given[..]].concat()).status(0);
        assert_eq!(words(&s), given);
        s.duly(["run-job", "write"]).status(0);
        assert_eq!(words(&s), ["tmp", "--full"]);
    }

    fn a_target_reaches_the_command_and_its_environment(s: Sandbox) {
        s.set_jobs(JOBS);
        enqueue(&s, &["target", "--target-type", "Email Account", "--target-id", "it's 7; $(id)"]);
        s.duly(["run"]).status(0);
        let expected =
            ["--id=it's 7; $(id)", "Email Account/it's 7; $(id)", "Email Account", "it's 7; $(id)"];
        assert_eq!(words(&s), expected);
        enqueue(&s, &["untargeted"]);
        s.duly(["run"]).status(0);
        assert_eq!(words(&s), ["", ""]);
    }

    /// What stands for something in a command does not in a value.
    fn a_target_is_put_in_as_it_is(s: Sandbox) {
        s.set_jobs(JOBS);
        enqueue(&s, &["target", "--target-type", "{target_id}", "--target-id", "{target_type}"]);
        s.duly(["run"]).status(0);
        assert_eq!(
            words(&s),
            ["--id={target_type}", "{target_id}/{target_type}", "{target_id}", "{target_type}"]
        );
    }

    fn a_batch_of_a_thousand_is_put_in_with_ids_in_order(s: Sandbox) {
        s.set_jobs(JOBS);
        let lines: String =
            (0..1000).map(|n| format!("{{\"name\": \"good\", \"params\": [\"{n}\"]}}\n")).collect();
        let run = s.duly(["enqueue", "--batch", "-"]).stdin(&lines).stdout_has("\n").status(0);
        let ids: Vec<u64> = run.stdout.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.is_sorted_by(|a, b| a < b));
        let rows = s.database().rows("SELECT id, params, state FROM duly_job ORDER BY id");
        let expected: Vec<Vec<Option<String>>> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| [id.to_string(), format!("[\"{n}\"]"), "pending".to_owned()].map(Some).to_vec())
            .collect();
        assert_eq!(rows, expected);
    }

    fn a_batch_with_a_bad_line_puts_nothing_in(s: Sandbox) {
        s.set_jobs(JOBS);
        s.json(["list", "--json"]);
        for (bad, why) in [
            ("{\"name\": \"goood\"}", "did you mean `good`?"),
            ("{\"name\": \"good\", \"parms\": []}", "parms"),
            ("{\"name\": \"good\", \"priority\": 101}", "101"),
            ("{\"name\": \"good\", \"in\": \"soon\"}", "soon"),
            ("{\"name\": \"good\", \"at\": \"soon\"}", "soon"),
            ("{\"name\": \"good\", \"at\": \"2030-01-01 00:00\", \"in\": \"1h\"}", "exclude"),
            ("{\"name\": \"good\", \"queue\": \"ordrs\"}", "ordrs"),
            ("{\"name\": \"good\", \"params\": [\"\\u0000\"]}", "NUL"),
            ("{\"params\": []}", "name"),
            ("good", "line 3"),
        ] {
            let lines = format!("{{\"name\": \"good\"}}\n\n{bad}\n{{\"name\": \"good\"}}\n");
            let run = s
                .duly(["enqueue", "--batch", "-"])
                .stdin(&lines)
                .stderr_has("line 3: ")
                .stderr_has(why)
                .status(2);
            assert_eq!(
                (run.stderr.lines().count(), run.stderr.starts_with("duly: error: ")),
                (1, true),
                "{}",
                run.stderr
            );
            assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0", "{bad}");
        }
    }

    /// Also where only the database finds out what is wrong.
    fn a_batch_that_waits_for_a_job_that_is_not_there_puts_nothing_in(s: Sandbox) {
        s.set_jobs(JOBS);
        let lines = "{\"name\": \"good\"}\n{\"name\": \"good\", \"after\": [999]}\n";
        s.duly(["enqueue", "--batch", "-"]).stdin(lines).stderr_has("there is no job 999").status(2);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
    }

    /// The line is that of the batch, not that of the JSON in it.
    fn a_value_of_the_wrong_kind_in_a_batch_is_told_with_its_key(s: Sandbox) {
        s.set_jobs(JOBS);
        for (key, value) in
            [("params", "\"x\""), ("priority", "\"high\""), ("after", "7"), ("target_id", "7")]
        {
            let line = format!("{{\"name\": \"good\"}}\n{{\"name\": \"good\", \"{key}\": {value}}}\n");
            let run = s.duly(["enqueue", "--batch", "-"]).stdin(&line).stderr_has("line 2: ").status(2);
            assert!(
                run.stderr.contains(&format!("`{key}`")) && !run.stderr.contains("line 1"),
                "{key}: {}",
                run.stderr
            );
        }
    }

    fn a_batch_of_nothing_is_fine(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "--batch", "-"]).stdin("\n\n").status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
    }

    fn a_line_of_a_batch_may_say_all_that_the_arguments_can(s: Sandbox) {
        s.set_jobs(JOBS);
        let first = enqueue(&s, &["good", "--in", "1 day"]);
        let line = json!({
            "name": "target", "params": ["a b", ""], "queue": "orders", "priority": -5, "at": "2999-01-01 00:00",
            "target_type": "T", "target_id": "7",
        });
        let after = json!({"name": "good", "after": [first.parse::<u64>().unwrap()]});
        let file = s.file("batch.jsonl", &format!("{line}\n{after}"));
        let run = s.duly(["enqueue", "--batch", file.to_str().unwrap()]).stdout_has("\n").status(0);
        let ids: Vec<&str> = run.stdout.lines().collect();
        let shown = s.json(["show", ids[0], "--json"]);
        for (key, value) in [
            ("params", json!(["a b", ""])),
            ("queue", json!("orders")),
            ("priority", json!(-5)),
            ("state", json!("delayed")),
            ("run_at", json!("2999-01-01T00:00:00.000000Z")),
            ("target_type", json!("T")),
            ("target_id", json!("7")),
        ] {
            assert_eq!(shown[key], value, "{key}");
        }
        let waiting = s.json(["show", ids[1], "--json"]);
        assert_eq!(waiting["state"], "waiting");
        assert_eq!(waiting["prerequisites"], json!([{"id": first.parse::<u64>().unwrap(), "on": "success"}]));
    }

    fn a_batch_that_is_not_there_is_told(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "--batch", "nowhere.jsonl"])
            .stderr_has("duly: error: cannot read the batch `nowhere.jsonl`")
            .status(1);
    }

    fn what_no_column_holds_is_refused_before_the_database_sees_it(s: Sandbox) {
        s.set_jobs(JOBS);
        let long = "x".repeat(191);
        s.duly(["enqueue", "good", "--target-id", &long]).stderr_has("duly: error: ").status(2);
        let fits = "ä".repeat(190);
        let id = enqueue(&s, &["good", "--target-id", &fits]);
        assert_eq!(s.json(["show", &id, "--json"])["target_id"], fits);
    }
}
