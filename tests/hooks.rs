//! Commands that are told how jobs ended: once per end, with the job on their standard input, and harming nothing.

use crate::support::{Sandbox, on_every_database};

fn told(s: &Sandbox, file: &str) -> Vec<serde_json::Value> {
    s.read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

on_every_database! {
    fn a_hook_is_told_the_end_of_a_job_and_not_of_each_attempt(s: Sandbox) {
        s.set_jobs("hooks: {on_success: [sh, -c, 'cat >> good'], on_failure: [sh, -c, 'cat >> bad']}\njobs:\n  flaky: {command: [sh, -c, 'test $DULY_ATTEMPT -ge 3'], max_attempts: 5, backoff: {initial: 0s}}\n  broken: {command: [sh, -c, 'exit 9'], max_attempts: 2, backoff: {initial: 0s}}\n  own: {command: ['false'], max_attempts: 1, on_failure: [sh, -c, 'cat >> own']}\n");
        for name in ["flaky", "broken", "own"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run"]).stderr_has("failed").status(0);
        let (good, bad, own) = (told(&s, "good"), told(&s, "bad"), told(&s, "own"));
        assert_eq!((good.len(), bad.len(), own.len()), (1, 1, 1), "{good:?} {bad:?} {own:?}");
        assert_eq!((good[0]["name"].as_str(), good[0]["attempts"].as_i64()), (Some("flaky"), Some(3)));
        assert_eq!((bad[0]["name"].as_str(), bad[0]["exit_code"].as_i64(), bad[0]["state"].as_str()), (Some("broken"), Some(9), Some("failed")));
        assert_eq!(own[0]["id"], 3);
        s.duly(["run"]).status(0);
        assert_eq!(told(&s, "bad").len(), 1);
    }

    fn a_hook_that_fails_harms_nothing_and_is_recorded(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], on_success: [sh, -c, 'echo oh; exit 1'], depending_jobs: {b: {command: ['true']}}}\n");
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["run"]).stderr_has("(on_success@a) failed").status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE name IN ('a', 'b') AND state = 'success'"), "2");
        let hooks = s.json(["list", "--name", "on_success@a", "--json"]);
        assert_eq!((hooks[0]["state"].as_str(), hooks[0]["attempts"].as_i64()), (Some("failed"), Some(1)));
        assert_eq!(s.json(["show", &hooks[0]["id"].to_string(), "--json"])["output"], "oh\n");
    }

    fn a_root_that_ends_and_one_that_is_given_up_are_told(s: Sandbox) {
        s.file("duly", &format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_duly")));
        s.set_jobs("jobs:\n  root: {command: [sh, -c, './duly child part'], time_before_stale: 1s, on_success: [sh, -c, 'cat >> good'], on_stale: [sh, -c, 'cat >> stale']}\n  part: {command: ['true']}\n");
        s.duly(["start", "root"]).stdout("1\n").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(told(&s, "good")[0]["id"], 1);
        s.duly(["pause", "part"]).stdout_has("paused").status(0);
        s.duly(["start", "root"]).stdout_has("").status(0);
        crate::support::wait_until("it is given up", std::time::Duration::from_secs(20), || {
            s.duly(["run"]).status(0);
            !s.read("stale").is_empty()
        });
        assert_eq!(told(&s, "stale")[0]["state"], "stale");
    }

    /// Seen failing with a row with the name of a hook adopted.
    fn a_hook_is_started_by_the_end_of_a_job_only(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], on_success: [touch, told]}\n");
        s.duly(["start", "on_success@a"]).stderr_has("no job is called").status(2);
        s.duly(["run"]).status(0);
        s.database().sql("INSERT INTO duly_job (name, params) VALUES ('on_success@a', '[\"1\"]')");
        s.duly(["run"]).stderr_has("only the end of a job starts").status(0);
        assert!(!s.path("told").exists());
        assert_eq!(s.database().value("SELECT state FROM duly_job"), "failed");
    }

    fn a_cancelled_job_is_told_to_no_hook(s: Sandbox) {
        s.set_jobs("hooks: {on_success: [touch, told], on_failure: [touch, told], on_stale: [touch, told]}\njobs:\n  a: {command: ['true']}\n");
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["cancel", "1"]).stdout_has("cancelled").status(0);
        s.duly(["run"]).status(0);
        assert!(!s.path("told").exists());
    }
}
