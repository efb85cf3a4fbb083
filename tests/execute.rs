//! How commands are executed: limits, output, environment, and telling ends apart.

use std::time::Duration;

use crate::support::{Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn outcome(s: &Sandbox, id: i64) -> String {
    let columns =
        "COALESCE(outcome, '-') AS o, COALESCE(exit_code, '-') AS e, COALESCE(signal_number, '-') AS g";
    let rows = s.database().rows(&format!("SELECT {columns} FROM duly_job WHERE id = {id}"));
    rows[0].iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" ")
}

on_every_database! {
    fn ends_are_told_apart(s: Sandbox) {
        s.set_jobs("defaults: {max_attempts: 1}\njobs:\n  \
            a: {command: ['true']}\n  \
            b: {command: [sh, -c, 'exit 7']}\n  \
            c: {command: [sh, -c, 'kill -11 $$']}\n  \
            d: {command: [sleep, '60'], timeout: 300ms}\n  \
            e: {command: [no-such-program]}\n  \
            f: {command: [./not-executable]}\n  \
            g: {command: ['true'], cwd: no/such/folder}\n  \
            h: {command: [./no-interpreter]}\n");
        std::fs::write(s.path("not-executable"), "x").unwrap();
        s.file("no-interpreter", "\u{1}\u{2}");
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run"]).stderr_has("failed").status(0);
        let ends: Vec<String> = (1..=8).map(|id| outcome(&s, id)).collect();
        assert_eq!(ends, ["success 0 -", "exited 7 -", "signalled - 11", "timed_out - -", "not_started - -", "not_started - -", "not_started - -", "not_started - -"]);
        let reason = |id: i64| s.database().value(&format!("SELECT reason FROM duly_job WHERE id = {id}"));
        for (id, said) in [(5, "no program `no-such-program` in its PATH"), (6, "chmod +x"), (7, "no/such/folder"), (8, "#!")] {
            assert!(reason(id).contains(said), "{}", reason(id));
        }
    }

    fn fail_on_error_tells_by_its_exit_code(s: Sandbox) {
        s.set_jobs("jobs:\n  bad: {command: ['false'], max_attempts: 1}\n");
        s.duly(["run", "--fail-on-error"]).status(0);
        s.duly(["start", "bad"]).stdout("1\n").status(0);
        s.duly(["run", "--fail-on-error"]).stderr("duly: warning: job 1 (bad) failed: its attempt 1 of 1 exited with 1; `duly show 1` has its output\n").status(3);
    }

    /// Seen failing with no process group of its own, and with no SIGKILL sent.
    fn at_the_timeout_the_whole_group_gets_sigterm_grace_and_sigkill(s: Sandbox) {
        s.set_jobs("jobs:\n  polite: {command: [./polite], timeout: 1s, grace: 20s, max_attempts: 1}\n  deaf: {command: [./deaf], timeout: 500ms, grace: 500ms, max_attempts: 1}\n");
        s.file("polite", "#!/bin/sh\n(trap 'sleep 0.5; echo child said goodbye; exit' TERM; while :; do sleep 0.1 2>/dev/null; done) 2>&1 &\ntrap 'exit 0' TERM\nwait\nwait\n");
        s.file("deaf", "#!/bin/sh\ntrap '' TERM\n(trap '' TERM; exec sleep 600) &\necho $! > child\nexec sleep 600\n");
        s.duly(["start", "polite"]).stdout("1\n").status(0);
        s.duly(["start", "deaf"]).stdout("2\n").status(0);
        s.duly(["run"]).stderr_has("timed out").limit(Duration::from_secs(15)).status(0);
        assert_eq!((outcome(&s, 1), outcome(&s, 2)), ("timed_out - -".into(), "timed_out - -".into()));
        let output = s.json(["show", "1", "--json"])["output"].as_str().unwrap_or_default().to_owned();
        assert!(output.contains("child said goodbye\n"), "the child had its time of grace: {output}");
        wait_until("nothing is left of either", SOON, || s.processes().is_empty());
    }

    fn a_grandchild_that_keeps_the_output_open_holds_nobody_up(s: Sandbox) {
        s.set_jobs("jobs:\n  daemon: {command: [sh, -c, 'echo begun; sleep 600 & echo $! > child']}\n");
        s.duly(["start", "daemon"]).stdout("1\n").status(0);
        s.duly(["run"]).limit(Duration::from_secs(20)).status(0);
        assert_eq!((outcome(&s, 1).as_str(), s.json(["show", "1", "--json"])["output"].as_str()), ("success 0 -", Some("begun\n… its command has ended and has left processes running in the background; what they print is dropped …\n")));
        assert!(std::path::Path::new("/proc").join(s.read("child").trim()).exists(), "what a job leaves behind on purpose stays");
    }

    fn output_is_kept_in_order_capped_and_escaped(s: Sandbox) {
        s.set_jobs("jobs:\n  \
            order: {command: [sh, -c, 'echo 1; echo 2 >&2; echo 3; echo 4 >&2']}\n  \
            binary: {command: [printf, 'a\\000b\\377c\\n']}\n  \
            much: {command: [sh, -c, 'echo head; seq 1 2000000; echo tail'], output_limit: 4KiB}\n  \
            silent: {command: ['true']}\n");
        for name in ["order", "binary", "much", "silent"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run"]).status(0);
        let output = |id: &str| s.json(["show", id, "--json"])["output"].clone();
        assert_eq!(output("1"), "1\n2\n3\n4\n");
        assert_eq!(output("2"), "a\\x00b\\xFFc\n");
        let much = s.json(["show", "3", "--json"]);
        let text = much["output"].as_str().unwrap();
        assert!(text.starts_with("head\n1\n") && text.ends_with("2000000\ntail\n") && text.len() < 5000, "{}", text.len());
        assert!(much["output_truncated"].as_i64().unwrap() > 14_000_000 && text.contains("bytes left out"));
        assert_eq!(output("4"), serde_json::Value::Null);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_output"), "3");
    }

    /// Seen failing with the heartbeat copying nothing.
    fn output_is_in_the_database_while_the_command_runs(s: Sandbox) {
        s.set_jobs("jobs:\n  long: {command: [sh, -c, 'echo so far; while [ ! -e go ]; do sleep 0.1; done; echo the rest']}\n");
        s.duly(["start", "long"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the first line is there", SOON, || s.json(["show", "1", "--json"])["output"] == "so far\n");
        assert_eq!(s.json(["show", "1", "--json"])["state"], "running");
        s.file("go", "");
        assert!(runner.wait().status.success());
        assert_eq!(s.json(["show", "1", "--json"])["output"], "so far\nthe rest\n");
    }

    /// Seen failing with standard input inherited from the runner.
    /// Seen failing without `set_fds_cloexec`: it has what `duly` itself inherited and, on MariaDB, the socket to the database.
    fn a_command_inherits_its_standard_streams_and_nothing_else(s: Sandbox) {
        s.set_jobs("jobs:\n  job: {command: [sh, -c, 'ls /proc/$$/fd; true']}\n");
        s.duly(["start", "job"]).stdout("1\n").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT body FROM duly_output"), "0\n1\n2\n");
        s.duly(["run-job", "job"]).stdout("0\n1\n2\n").status(0);
    }

    fn a_command_gets_its_environment_folder_and_no_input(s: Sandbox) {
        s.set_jobs("command_prefix: [./prefix, --]\njobs:\n  \
            env: {command: [sh, -c, 'cat; pwd; echo $DULY_JOB_NAME $DULY_ATTEMPT $DULY_FENCE $DULY_CONFIG $OWN; env | grep -c ^DULY_'], env: {OWN: 'a b'}, cwd: sub}\n  \
            prefixed: {command: 'app:import \"two words\"', params: [1]}\n");
        s.file("sub/x", "");
        s.file("prefix", "#!/bin/sh\nfor word; do echo \"[$word]\"; done\n");
        s.duly(["start", "env"]).stdout("1\n").status(0);
        s.duly(["start", "prefixed"]).stdout("2\n").status(0);
        s.duly(["run"]).stdin("what the runner is given\n").env("DULY_TARGET_ID", "inherited").status(0);
        let expected = "[sandbox]/sub\nenv 1 1 [sandbox]/jobs.yaml a b\n10\n";
        assert_eq!(s.json(["show", "1", "--json"])["output"], expected);
        assert_eq!(s.json(["show", "2", "--json"])["output"], "[--]\n[app:import]\n[two words]\n[1]\n");
    }

    fn a_failed_job_is_tried_again_with_a_growing_wait_until_its_attempts_are_used_up(s: Sandbox) {
        s.set_jobs("jobs:\n  bad: {command: ['false'], max_attempts: 3, backoff: {initial: 100s, factor: 3, jitter: 0}}\n  perm: {command: [sh, -c, 'exit 65'], permanent_exit_codes: [65]}\n");
        s.duly(["start", "bad"]).stdout("1\n").status(0);
        s.duly(["start", "perm"]).stdout("2\n").status(0);
        s.duly(["run"]).stderr_has("job 2 (perm) failed").status(0);
        let wait = || {
            let job = s.json(["show", "1", "--json"]);
            assert_eq!(job["state"], "delayed");
            let time = |field: &str| job[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
            let ended = job["attempt_log"].as_array().unwrap().last().unwrap()["finished_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
            (time("run_at") - ended).num_milliseconds()
        };
        let near = |wait: i64, seconds: i64| (wait - seconds * 1000).abs() < 2000;
        assert!(near(wait(), 100), "{}", wait());
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT attempts FROM duly_job WHERE id = 1"), "1", "not before its time");
        for (attempt, seconds) in [(2, Some(300)), (3, None)] {
            s.database().sql("UPDATE duly_job SET run_at = '2020-01-01 00:00:00.000000' WHERE id = 1");
            s.duly(["run"]).output();
            assert_eq!(s.database().value("SELECT attempts FROM duly_job WHERE id = 1"), attempt.to_string());
            if let Some(seconds) = seconds {
                assert!(near(wait(), seconds), "{}", wait());
            }
        }
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "failed");
        assert_eq!(s.database().value("SELECT attempts FROM duly_job WHERE id = 2"), "1");
    }

    fn a_job_run_by_hand_shows_its_output_and_is_recorded(s: Sandbox) {
        s.set_jobs("jobs:\n  ok: {command: [sh, -c, 'echo hello $1; echo err >&2', x]}\n  bad: {command: [sh, -c, 'echo oh; exit 4']}\n");
        s.duly(["run-job", "ok", "--", "world"]).stdout("hello world\nerr\n").status(0);
        s.duly(["run-job", "bad"]).stdout("oh\n").stderr("duly: error: job 2 (bad) exited with 4\n").status(3);
        s.duly(["run-job", "bad", "--retry"]).stdout("oh\n").stderr_has("queued for retry").status(3);
        let states: Vec<String> = (1..=3).map(|id| s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))).collect();
        assert_eq!(states, ["success", "failed", "delayed"]);
        s.set_jobs("queues: {default: {}, later: {}}\njobs:\n  bad: {command: [sh, -c, 'echo oh; exit 4']}\n");
        s.duly(["run-job", "bad", "--retry=later"]).stdout("oh\n").stderr_has("queued for retry").status(3);
        assert_eq!(s.database().value("SELECT queue FROM duly_job WHERE id = 4"), "later");
        assert_eq!(s.json(["show", "1", "--json"])["output"], "hello world\nerr\n");
    }
}
