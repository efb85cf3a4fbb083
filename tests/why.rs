//! `duly why`: every state a job can be in, and every reason for being there, each with what would start it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Backend, Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// A job that goes on until the file `go` is there.
const HOLD: &str = "[sh, -c, 'touch running; while [ ! -e go ]; do sleep 0.05; done']";

/// The kinds of the reasons, in their order.
#[track_caller]
fn kinds(s: &Sandbox, id: &str) -> Vec<String> {
    let told = s.json(["why", id, "--json"]);
    told["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// The reason of this kind.
#[track_caller]
fn reason(s: &Sandbox, id: &str, kind: &str) -> Value {
    let told = s.json(["why", id, "--json"]);
    let found = told["reasons"].as_array().unwrap().iter().find(|reason| reason["kind"] == kind);
    found.unwrap_or_else(|| panic!("no `{kind}` in {told:#}")).clone()
}

/// The database's time so many seconds from now, as SQL.
fn in_seconds(s: &Sandbox, seconds: i64) -> String {
    match s.database().backend() {
        Backend::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '{seconds} seconds')"),
        Backend::MariaDb => format!("(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)"),
    }
}

on_every_database! {
    /// Seen failing with `held_back` left out of `pending`.
    fn a_startable_job_says_that_nothing_holds_it_back_and_then_what_does(s: Sandbox) {
        s.set_jobs("queues: {orders: {}}\njobs:\n  a: {command: ['true'], queue: orders}\n  first: {command: ['true'], queue: orders, priority: 9}\n");
        s.duly(["run"]).status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["why", "1"]).stdout_has("job 1 (a) is pending, in queue orders\n- nothing holds it back").stdout_has("→ the next tick").status(0);
        assert_eq!(kinds(&s, "1"), ["startable"]);
        s.duly(["start", "first"]).stdout("2\n").status(0);
        assert_eq!(kinds(&s, "1"), ["ahead"]);
        assert_eq!(kinds(&s, "2"), ["startable"]);
        s.duly(["pause", "--queue", "orders", "--until", "2099-01-01 00:00", "--reason", "the ERP is down"]).stdout_has("paused").status(0);
        s.duly(["pause", "a"]).stdout_has("paused").status(0);
        assert_eq!(kinds(&s, "1"), ["paused", "paused", "ahead"]);
        s.duly(["why", "1"]).stdout_has("queue `orders` is paused since 20").stdout_has(" by user ").stdout_has(": the ERP is down\n")
            .stdout_has("by itself at 2099-01-01 00:00:00 UTC, or now by `duly resume --queue orders`").stdout_has("`duly resume a` ends it").status(0);
        assert_eq!(reason(&s, "2", "paused")["until"], "2099-01-01T00:00:00.000000Z");
    }

    fn a_row_of_an_application_says_that_it_was_not_taken_in(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).status(0);
        s.database().sql("INSERT INTO duly_job (name) VALUES ('a')");
        assert_eq!(kinds(&s, "1"), ["not_adopted"]);
        s.database().sql(&format!("INSERT INTO duly_job (name, run_at) VALUES ('a', {})", in_seconds(&s, 600)));
        assert_eq!(kinds(&s, "2"), ["not_adopted", "not_before"]);
        s.duly(["run"]).status(0);
        assert_eq!(kinds(&s, "1"), ["ended"]);
        assert_eq!(kinds(&s, "2"), ["not_before"]);
    }

    /// Seen failing with a prerequisite that has ended otherwise taken for one that is met.
    fn a_waiting_job_names_what_it_waits_for(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], depending_jobs: {b: {command: ['true']}}}\n  bad: {command: ['false'], max_attempts: 1}\n");
        s.duly(["run"]).status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        assert_eq!((kinds(&s, "2"), reason(&s, "2", "prerequisite")["jobs"].clone()), (vec!["prerequisite".to_owned()], serde_json::json!([1])));
        s.duly(["why", "2"]).stdout_has("it waits for job 1 (a) to succeed, which is pending").stdout_has("`duly why 1`").status(0);
        s.duly(["enqueue", "bad", "--after", "1:failure", "--after", "2:always", "--in", "1 hour"]).stdout("3\n").status(0);
        assert_eq!(kinds(&s, "3"), ["prerequisite", "prerequisite", "not_before"]);
        s.duly(["why", "3"]).stdout_has("job 1 (a) to fail, which is pending").stdout_has("job 2 (b) to end, which is waiting").status(0);
        s.database().sql("UPDATE duly_job SET state = 'success', finished_at = created_at WHERE id IN (1, 2)");
        s.database().sql(&format!("UPDATE duly_job SET lease_until = {} WHERE id = 3", in_seconds(&s, 60)));
        s.duly(["why", "3"]).stdout_has("nothing starts it any more: the first tick after 20").status(0);
        s.database().sql(&format!("UPDATE duly_job SET lease_until = {} WHERE id = 3", in_seconds(&s, -1)));
        assert_eq!(kinds(&s, "3"), ["unsettled"]);
        s.duly(["why", "3"]).stdout_has("was to start when job 1 (a) would fail, and that is success").stdout_has("the next tick cancels it").status(0);
        s.duly(["run"]).status(0);
        s.duly(["why", "3"]).stdout_has("it was cancelled").stdout_has("`duly retry 3`").status(0);
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 3"), "cancelled");
    }

    fn a_delayed_job_says_whether_it_was_asked_for_spread_or_failed(s: Sandbox) {
        s.set_jobs("jobs:\n  bad: {command: [sh, -c, 'exit 7'], backoff: {initial: 10m, jitter: 0}}\n  a: {command: ['true']}\n  spread: {command: ['true'], schedule: '0 0 1 1 *', jitter: 12h}\n");
        s.duly(["start", "bad"]).stdout("1\n").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(kinds(&s, "1"), ["back_off"]);
        s.duly(["why", "1"]).stdout_has("its attempt 1 of 10 exited with 7; the next one is not before 20").stdout_has("`duly show 1` has its output").status(0);
        s.duly(["enqueue", "a", "--in", "1 hour"]).stdout("2\n").status(0);
        assert_eq!(kinds(&s, "2"), ["not_before"]);
        s.database().sql(&format!("UPDATE duly_job SET run_at = {} WHERE id = 1", in_seconds(&s, -5)));
        assert_eq!(kinds(&s, "1"), ["due"]);
        s.database().sql(&format!("UPDATE duly_job SET name = 'spread', scheduled_for = {} WHERE id = 2", in_seconds(&s, -60)));
        assert_eq!(kinds(&s, "2"), ["jitter"]);
    }

    /// Seen failing with the holders of the other column read.
    fn a_job_beyond_a_limit_names_who_holds_the_places(s: Sandbox) {
        s.set_jobs(&format!("queues: {{orders: {{concurrency: 1}}}}\njobs:\n  a: {{command: {HOLD}, queue: orders}}\n  one: {{command: ['true'], concurrency: 1}}\n"));
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["start", "a"]).stdout("2\n").status(0);
        let tick = s.duly(["run"]).spawn();
        wait_until("the first runs", SOON, || s.path("running").exists());
        assert_eq!(kinds(&s, "2"), ["queue_limit"]);
        assert_eq!(reason(&s, "2", "queue_limit")["jobs"], serde_json::json!([1]));
        s.duly(["why", "2"]).stdout_has("queue `orders` runs at most 1 at once over all hosts").stdout_has("job 1 (a) on ").status(0);
        assert_eq!(kinds(&s, "1"), ["running"]);
        s.duly(["why", "1"]).stdout_has("it is running: attempt 1 of 10 on ").stdout_has("whose runner is alive").stdout_has("lease until").status(0);
        s.file("go", "");
        assert!(tick.wait().status.success());
        s.duly(["start", "one"]).stdout("3\n").status(0);
        s.duly(["start", "one"]).stdout("4\n").status(0);
        s.database().sql("UPDATE duly_job SET state = 'running', name_slot_key = 'job:one#0', owner = 'x', host = 'web7' WHERE id = 3");
        s.duly(["why", "4"]).stdout_has("`one` runs at most 1 at once").stdout_has("job 3 (one) on web7").status(0);
        assert_eq!(kinds(&s, "4"), ["name_limit"]);
    }

    fn without_a_free_slot_on_this_host_that_is_said(s: Sandbox) {
        s.set_jobs(&format!("runner: {{state_dir: {}, concurrency: 1}}\njobs:\n  hold: {{command: {HOLD}}}\n  a: {{command: ['true']}}\n", s.state_dir().display()));
        s.duly(["start", "hold"]).stdout("1\n").status(0);
        s.duly(["start", "a"]).stdout("2\n").status(0);
        let tick = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        assert_eq!(kinds(&s, "2"), ["no_slot"]);
        s.duly(["why", "2"]).stdout_has("executes 1 at once (runner.concurrency), and all of its slots are taken").status(0);
        s.file("go", "");
        assert!(tick.wait().status.success());
        assert_eq!(kinds(&s, "2"), ["ended"]);
    }

    /// Seen failing with what hosts declare not recorded.
    fn a_name_and_a_queue_that_no_host_has_are_told_apart(s: Sandbox) {
        s.set_jobs("queues: {orders: {}}\njobs:\n  a: {command: ['true'], queue: orders}\n  b: {command: ['true']}\n");
        s.duly(["run", "--queue", "default"]).status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        assert_eq!(kinds(&s, "1"), ["queue_not_served"]);
        s.duly(["why", "1"]).stdout_has("no host that ticks serves queue `orders`").status(0);
        s.database().sql("INSERT INTO duly_job (name) VALUES ('gone')");
        assert_eq!(kinds(&s, "2"), ["undeclared", "not_adopted"]);
        s.duly(["why", "2"]).stdout_has(" (queue default)) declares `gone`, and neither does [sandbox]/jobs.yaml").stdout_has("`duly cancel 2`").status(0);
        // Another host has it, with a queue of its own.
        let other = s.beside();
        other.set_jobs("jobs:\n  gone: {command: ['true']}\n");
        other.duly(["run", "--limit", "1"]).status(0);
        assert_eq!(kinds(&s, "2"), ["ended"], "it was taken in and run there");
        assert_eq!(kinds(&s, "1"), ["queue_not_served"]);
    }

    fn without_ticks_that_is_the_reason(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["why", "1"]).stdout_has("no host has ever ticked").stdout_has("crontab").status(0);
        s.duly(["run", "--limit", "1"]).status(0);
        s.duly(["start", "a"]).stdout("2\n").status(0);
        assert_eq!(kinds(&s, "2"), ["startable"]);
        s.database().sql(&format!("UPDATE duly_runner SET last_tick_at = {}", in_seconds(&s, -720)));
        assert_eq!(kinds(&s, "2"), ["no_tick"]);
        s.duly(["why", "2"]).stdout_has("no host has ticked for 12m ").status(0);
    }

    /// Seen failing with the ledger not looked at.
    fn a_dead_runner_is_told_from_one_whose_lease_has_ended(s: Sandbox) {
        s.set_jobs(&format!("runner: {{state_dir: {}, lease: 3s}}\njobs:\n  a: {{command: {HOLD}}}\n", s.state_dir().display()));
        s.duly(["start", "a"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        runner.signal(Signal::KILL);
        runner.wait();
        assert_eq!(kinds(&s, "1"), ["runner_dead"]);
        s.duly(["why", "1"]).stdout_has("its runner on this host").stdout_has("is dead").status(0);
        s.database().sql(&format!("UPDATE duly_job SET owner = 'another', host = 'web7', lease_until = {}", in_seconds(&s, -4)));
        assert_eq!(kinds(&s, "1"), ["lease_ended"]);
        s.duly(["why", "1"]).stdout_has("its runner on web7 has given no sign of life").stdout_has("takes it back and records the attempt as orphaned").status(0);
    }

    fn a_job_that_is_being_cancelled_says_by_whom(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'trap \"\" TERM; touch running; while [ ! -e go ]; do sleep 0.05; done'], grace: 3s}\n");
        s.duly(["start", "a"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        s.duly(["cancel", "1"]).stdout_has("").status(0);
        assert_eq!(kinds(&s, "1"), ["cancelling", "running"]);
        s.duly(["why", "1"]).stdout_has("it is being cancelled since 20").stdout_has("cancelled by user").status(0);
        runner.wait();
        s.duly(["why", "1"]).stdout_has("it was cancelled at 20").stdout_has("by user").status(0);
        s.duly(["start", "a"]).stdout("2\n").status(0);
        s.duly(["cancel", "2"]).stdout_has("").status(0);
        s.duly(["why", "2"]).stdout_has("it was cancelled at 20").stdout_has("by user").stdout_has("`duly retry 2`").status(0);
    }

    /// Seen failing with the open children not read.
    fn a_root_names_the_children_that_it_waits_for(s: Sandbox) {
        s.set_jobs(&format!("jobs:\n  root: {{command: [sh, -c, '{} child part && {} child part -- x'], time_before_stale: 30m}}\n  part: {{command: [sh, -c, 'exit 9'], backoff: {{initial: 1h}}}}\n",
            env!("CARGO_BIN_EXE_duly"), env!("CARGO_BIN_EXE_duly")));
        s.duly(["start", "root"]).stdout("1\n").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(kinds(&s, "1"), ["children"]);
        s.duly(["why", "1"]).stdout_has("its own command has ended (success), and it waits for 2 of its 2 children: job 2 (part), delayed, job 3 (part), delayed")
            .stdout_has("no sign of life for 30m").stdout_has("`duly why 2`").status(0);
        assert_eq!(kinds(&s, "2"), ["back_off"]);
        s.database().sql("UPDATE duly_job SET state = 'pending', attempts = 0 WHERE id = 2; UPDATE duly_job SET cancel_requested_at = created_at WHERE id = 1");
        assert_eq!(kinds(&s, "2"), ["root_cancelled"]);
    }

    fn what_has_ended_says_how_and_what_would_repeat_it(s: Sandbox) {
        s.set_jobs("jobs:\n  good: {command: ['true']}\n  bad: {command: [sh, -c, 'exit 7'], max_attempts: 1}\n  off: {command: ['true'], schedule: '0 0 1 1 *', enabled: false}\n");
        for (name, id) in [("good", "1\n"), ("bad", "2\n")] {
            s.duly(["start", name]).stdout(id).status(0);
        }
        s.duly(["run"]).stderr_has("failed").status(0);
        s.duly(["why", "1"]).stdout_has("it has succeeded at 20").stdout_has("`duly start good`").status(0);
        s.duly(["why", "2"]).stdout_has("with its attempt 1 of 1: it exited with 7").stdout_has("`duly retry 2`").status(0);
        s.database().sql("UPDATE duly_job SET state = 'stale', reason = 'it showed no sign of life' WHERE id = 1");
        s.duly(["why", "1"]).stdout_has("was given up at 20").stdout_has("it showed no sign of life").status(0);
        s.database().sql("UPDATE duly_job SET name = 'gone' WHERE id = 1");
        s.duly(["why", "1"]).stdout_has("`gone` is not declared in [sandbox]/jobs.yaml").status(0);
        s.duly(["start", "off"]).stdout("3\n").status(0);
        assert_eq!(kinds(&s, "3"), ["startable", "disabled"]);
        s.duly(["why", "99"]).stderr_has("there is no job 99").status(2);
    }

    fn what_a_row_holds_cannot_command_a_terminal(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).status(0);
        s.duly(["pause", "--all", "--reason", "\u{1b}[2Jgone"]).stdout_has("paused").status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        let told = s.duly(["why", "1"]).stdout_has("␛[2Jgone").status(0).stdout;
        assert!(!told.contains('\u{1b}'));
        assert!(!s.duly(["status"]).stdout_has("␛[2Jgone").status(0).stdout.contains('\u{1b}'));
    }
}
