//! `duly next` and `duly jobs`: the times that they show are those at which jobs start.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::support::{Backend, Sandbox, on_every_database};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

on_every_database! {
    /// Seen failing with the occurrence shown.
    fn the_time_that_is_shown_is_when_the_job_starts_and_not_its_occurrence(s: Sandbox) {
        s.set_jobs("jobs:\n  spread: {command: ['true'], schedule: '* * * * *', jitter: 40 min, catch_up: all, overlap: allow}\n");
        s.duly(["run"]).status(0);
        let coming = s.json(["next", "spread", "--json"]);
        let first = &coming[0];
        let late = time(&first["at"]) - time(&first["scheduled_for"]);
        assert!(late.num_seconds() > 0 && late.num_minutes() < 40, "{first}");
        assert_eq!(first["jitter"], "40m");
        assert_eq!(time(&s.json(["jobs", "--json"])[0]["next_at"]).timestamp() % 60, time(&first["at"]).timestamp() % 60);
        // What a tick makes of an occurrence starts just as much later.
        let back = match s.database().backend() {
            Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:30.000000', 'now', '-2 minutes')",
            Backend::MariaDb => "DATE_FORMAT(UTC_TIMESTAMP(6) - INTERVAL 2 MINUTE, '%Y-%m-%d %H:%i:30')",
        };
        s.database().sql(&format!("UPDATE duly_schedule SET mark_at = {back}, next_at = '2000-01-01 00:00:00.000000'"));
        s.duly(["run"]).status(0);
        let jobs = s.json(["list", "--json"]);
        let job = jobs.as_array().unwrap().iter().find(|job| job["state"] == "delayed").unwrap();
        assert_eq!(time(&job["run_at"]) - time(&job["scheduled_for"]), late, "{job}");
    }
}

#[test]
fn a_jitter_is_told_beside_the_times_that_it_changes() {
    let s = Sandbox::new(Backend::Sqlite)
        .jobs("jobs:\n  a: {command: ['true'], schedule: '0 2 * * *', jitter: 30 min}\n  b: {command: ['true'], schedule: '0 2 * * *'}\n");
    s.duly(["next", "a"]).stdout_has(" of the jitter 30m)").status(0);
    let plain = s.duly(["next", "b"]).stdout_has("02:00:00 UTC").status(0);
    assert!(!plain.stdout.contains("jitter"), "{plain}");
    s.duly(["jobs"]).stdout_has("0 2 * * * (jitter 30m)").status(0);
}

/// Seen failing with an empty table and a dash.
#[test]
fn a_schedule_without_a_next_time_says_why() {
    let s = Sandbox::new(Backend::Sqlite).jobs(
        "jobs:\n  leap: {command: ['true'], schedule: '0 0 30 2 *'}\n  poll: {command: ['true'], schedule: '@tick'}\n  \
         off: {command: ['true'], schedule: '@daily', enabled: false}\n",
    );
    for (name, why) in [("leap", "never"), ("poll", "each tick"), ("off", "disabled")] {
        s.duly(["next", name]).stdout_has(why).status(0);
    }
    let all = s.duly(["next"]).stdout_has("never").stdout_has("each tick").status(0);
    assert!(!all.stdout.contains("disabled"), "{all}");
    let jobs = s.duly(["jobs"]).stdout_has("never").stdout_has("each tick").status(0);
    let leap = jobs.stdout.lines().find(|line| line.starts_with("leap")).unwrap();
    assert!(leap.contains("0 0 30 2 *") && leap.contains("never"), "{jobs}");
}
