//! What a tick takes on: slots, queues, limits, and nothing when there is nothing.

use std::time::Duration;

use crate::support::{Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

on_every_database! {
    /// Seen failing: each of two such lines in a crontab wrote the row, as the digest of the other was not its own.
    fn the_order_in_which_queues_are_named_is_no_news(s: Sandbox) {
        s.set_jobs("queues: {a: {}, b: {}}\njobs: {x: {command: ['true'], queue: a}}");
        s.duly(["run", "--queue", "a", "--queue", "b"]).status(0);
        let row = || s.database().rows("SELECT * FROM duly_runner");
        let before = row();
        s.duly(["run", "--queue", "b", "--queue", "a", "--queue", "b"]).status(0);
        assert_eq!(row(), before);
    }

    fn a_tick_with_nothing_to_do_says_nothing(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '0 0 1 1 *'}\n");
        for _ in 0..3 {
            s.duly(["run"]).status(0);
        }
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_runner"), "1");
    }

    /// Seen failing with the slots not locked.
    fn overlapping_ticks_share_the_slots_of_the_host_and_exit_when_none_is_free(s: Sandbox) {
        s.set_jobs(&format!("runner: {{state_dir: {}, concurrency: 2}}\njobs:\n  job: {{command: [sh, -c, 'touch running-$DULY_JOB_ID; while [ ! -e go ]; do sleep 0.05; done']}}\n", s.state_dir().display()));
        for _ in 0..4 {
            s.duly(["start", "job"]).stdout_has("").status(0);
        }
        let first = s.duly(["run"]).spawn();
        let running = || (1..=4).filter(|id| s.path(format!("running-{id}")).exists()).count();
        wait_until("two jobs run", SOON, || running() == 2);
        for _ in 0..3 {
            s.duly(["run"]).limit(Duration::from_secs(10)).status(0);
        }
        assert_eq!(running(), 2, "no third job while both slots are taken");
        s.file("go", "");
        assert!(first.wait().status.success());
        assert_eq!(running(), 4);
    }

    fn two_ticks_with_a_share_each_run_side_by_side(s: Sandbox) {
        s.set_jobs(&format!("runner: {{state_dir: {}, concurrency: 4}}\njobs:\n  job: {{command: [sh, -c, 'touch running-$DULY_JOB_ID; while [ ! -e go ]; do sleep 0.05; done']}}\n", s.state_dir().display()));
        for _ in 0..6 {
            s.duly(["start", "job"]).stdout_has("").status(0);
        }
        let running = || (1..=6).filter(|id| s.path(format!("running-{id}")).exists()).count();
        let first = s.duly(["run", "--concurrency", "3"]).spawn();
        wait_until("three jobs run", SOON, || running() == 3);
        let second = s.duly(["run", "--concurrency", "3"]).spawn();
        wait_until("the last slot is used", SOON, || running() == 4);
        s.file("go", "");
        assert!(first.wait().status.success() && second.wait().status.success());
        assert_eq!(running(), 6);
    }

    fn only_the_queues_asked_for_are_served(s: Sandbox) {
        s.set_jobs("queues: {default: {}, orders: {}, mail: {}}\njobs:\n  a: {command: ['true']}\n  b: {command: ['true'], queue: orders}\n  c: {command: ['true'], queue: mail}\n");
        for name in ["a", "b", "c"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run", "--queue", "orders", "--queue", "mail"]).status(0);
        let states: Vec<String> = (1..=3).map(|id| s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))).collect();
        assert_eq!(states, ["pending", "success", "success"]);
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "success");
    }

    /// Seen failing with `--limit` not heeded.
    fn a_tick_starts_no_more_than_it_is_asked_to(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sleep, '0.02']}\n");
        let batch = "{\"name\": \"a\"}\n".repeat(60);
        s.duly(["enqueue", "--batch", "-"]).stdin(&batch).stdout_has("60").status(0);
        s.duly(["run", "--limit", "7", "--concurrency", "2"]).status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE attempts = 1 AND state = 'success'"), "7");
        s.duly(["run", "--max-runtime", "300ms", "--concurrency", "1"]).status(0);
        let done: u32 = s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'").parse().unwrap();
        assert!((8..50).contains(&done), "{done}");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'running' OR (state = 'pending' AND attempts > 0)"), "0");
    }

    fn jobs_of_a_higher_priority_go_first_then_the_older(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'echo $DULY_JOB_ID >> order']}\n");
        for priority in ["0", "-5", "10", "0", "10"] {
            s.duly(["enqueue", "a", "--priority", priority]).stdout_has("").status(0);
        }
        s.duly(["run", "--concurrency", "1"]).status(0);
        assert_eq!(s.read("order").split_whitespace().collect::<Vec<_>>(), ["3", "5", "1", "4", "2"]);
    }

    fn a_job_of_a_low_priority_that_has_waited_for_long_goes_before_new_ones_of_a_higher(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'echo $DULY_JOB_ID >> order']}\n");
        for priority in ["-5", "0", "0"] {
            s.duly(["enqueue", "a", "--priority", priority]).stdout_has("").status(0);
        }
        s.database().sql("UPDATE duly_job SET run_at = '2020-01-01 00:00:00.000000' WHERE id = 1");
        s.duly(["run", "--concurrency", "1"]).status(0);
        assert_eq!(s.read("order").split_whitespace().collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(s.json(["show", "1", "--json"])["priority"], -5);
    }

    /// Seen failing with its duties done each hour, and not each second.
    fn what_becomes_due_while_a_tick_lives_is_taken_on(s: Sandbox) {
        s.set_jobs("jobs:\n  long: {command: [sh, -c, 'touch running; while [ ! -e go ]; do sleep 0.05; done']}\n  quick: {command: [touch, quick]}\n  soon: {command: [touch, soon]}\n  each: {command: [sh, -c, 'echo x >> each'], schedule: '* * * * * *'}\n");
        s.duly(["start", "long"]).stdout("1\n").status(0);
        s.duly(["enqueue", "soon", "--in", "1s"]).stdout("2\n").status(0);
        let tick = s.duly(["run", "--concurrency", "2"]).spawn();
        wait_until("the long job runs", SOON, || s.path("running").exists());
        s.database().sql("INSERT INTO duly_job (name) VALUES ('quick')");
        wait_until("what an application inserted has run", SOON, || s.path("quick").exists());
        wait_until("what was delayed has run", SOON, || s.path("soon").exists());
        wait_until("what is scheduled has run", SOON, || s.read("each").lines().count() >= 2);
        s.file("go", "");
        // A schedule of each second keeps the tick busy: end it as an administrator would.
        s.set_jobs("jobs: {}");
        let mut tick = tick;
        tick.signal_if_running(rustix::process::Signal::TERM);
        let output = tick.wait();
        assert!(matches!(output.status.code(), Some(0 | 143)), "{output}");
    }

    fn a_state_folder_that_cannot_be_written_stops_the_tick_and_loses_nothing(s: Sandbox) {
        s.set_jobs("runner: {state_dir: /dev/null/duly}\njobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).stderr_has("state folder").status(1);
        s.file("full", "");
        s.set_jobs(&format!("runner: {{state_dir: {}}}\njobs:\n  a: {{command: ['true']}}\n", s.path("full/x").display()));
        s.duly(["enqueue", "a"]).stdout("1\n").status(0);
        s.duly(["run"]).stderr_has("set runner.state_dir").status(1);
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE attempts = 0"), "pending");
    }
}
