//! Right in time: clocks that are or were wrong, what was missed, retries against the schedule, and overlap.

use std::time::Duration;

use crate::support::{Backend, Database, Sandbox, Server, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn count(s: &Sandbox, condition: &str) -> usize {
    s.database().value(&format!("SELECT COUNT(*) FROM duly_job WHERE {condition}")).parse().unwrap()
}

/// In the database's SQL: so many seconds from now.
fn from_now(s: &Sandbox, seconds: i64) -> String {
    match s.database().backend() {
        Backend::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '{seconds} seconds')"),
        Backend::MariaDb => format!("(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)"),
    }
}

/// Lets the schedules have been looked at last so long ago.
fn set_back(s: &Sandbox, seconds: i64) {
    let at = from_now(s, -seconds);
    s.database().sql(&format!("UPDATE duly_schedule SET mark_at = {at}, next_at = {at}"));
}

/// Lets schedules of each new year have been looked at last years ago, and what they made be of the year before the last.
fn a_year_later(s: &Sandbox) {
    s.database().sql(
        "UPDATE duly_job SET occurrence_key = NULL, scheduled_for = '2025-01-01 00:00:00' WHERE scheduled_for IS NOT NULL; \
         UPDATE duly_schedule SET mark_at = '2025-06-01 00:00:00', next_at = '2026-01-01 00:00:00'",
    );
}

/// How the jobs of a name stand, in order.
fn states(s: &Sandbox, name: &str) -> String {
    let rows = s.database().rows(&format!("SELECT state FROM duly_job WHERE name = '{name}' ORDER BY id"));
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>().join(" ")
}

on_every_database! {
    /// Seen failing with marks that only ever move forward: nothing runs for two hours, and `status` is fine.
    fn a_clock_that_was_ahead_holds_no_schedule_up_and_is_told(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '* * * * * *'}\n  b: {command: ['true'], schedule: '0 0 1 1 *'}\n");
        s.duly(["run"]).status(0);
        let ahead = from_now(&s, 7200);
        s.database().sql(&format!(
            "UPDATE duly_schedule SET mark_at = {ahead}, next_at = {ahead}; UPDATE duly_runner SET last_tick_at = {ahead}; \
             INSERT INTO duly_job (name, state, scheduled_for, occurrence_key) SELECT 'b', 'cancelled', '2099-01-01 00:00:00', 'b@2099-01-01T00:00:00Z'"
        ));
        let status = s.duly(["status"]).output();
        assert_eq!(status.status.code(), Some(3), "{status}");
        for words in ["ahead of the database's clock", "`a` and 1 more stands still", "no host is known to have ticked lately"] {
            assert!(status.stdout.contains(words), "{words}: {status}");
        }
        let output = s.duly(["run"]).output();
        assert!(output.status.success() && output.stderr.contains("starts anew from now"), "{output}");
        wait_until("the schedule goes on", SOON, || {
            s.duly(["run"]).status(0);
            count(&s, "name = 'a' AND state = 'success'") > 1
        });
        assert_eq!(count(&s, "name = 'b' AND occurrence_key IS NOT NULL"), 0, "what is still to come was not skipped");
        s.duly(["status"]).stdout_has("fine").status(0);
    }

    /// Seen failing with leases that are left as they are: it is taken back in a year.
    fn what_a_runner_held_that_died_while_a_clock_was_ahead_is_taken_back(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).status(0);
        let ahead = from_now(&s, 31_536_000);
        s.database().sql(&format!(
            "INSERT INTO duly_job (name, state, owner, host, fence, attempts, max_attempts, lease_until, started_at) \
             VALUES ('a', 'running', 'gone', 'elsewhere', 1, 1, 3, {ahead}, {ahead}); UPDATE duly_runner SET last_tick_at = {ahead}"
        ));
        s.duly(["run"]).status(0);
        let hour = from_now(&s, 3660);
        assert_eq!(count(&s, &format!("state = 'running' AND lease_until < {hour}")), 1);
    }

    /// Seen failing with the oldest thousand looked at: none is made for a quarter of an hour.
    fn of_ten_days_those_within_the_deadline_run_and_the_rest_is_counted_whole(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '* * * * *', catch_up: all, starting_deadline: 3m}\n  b: {command: ['true'], schedule: '* * * * *'}\n");
        s.duly(["run"]).status(0);
        set_back(&s, 864_000);
        s.duly(["run"]).status(0);
        assert!((3..=4).contains(&count(&s, "name = 'a' AND state = 'success'")), "{}", states(&s, "a"));
        assert_eq!(count(&s, "name = 'b' AND state = 'success'"), 1);
        for name in ["a", "b"] {
            let reason = s.database().value(&format!("SELECT reason FROM duly_job WHERE name = '{name}' AND state = 'cancelled'"));
            let number: usize = reason.split(' ').nth(1).unwrap().parse().unwrap();
            assert!((14_390..=14_400).contains(&number), "{reason}");
        }
    }

    /// Seen failing with `skip` for all: the oldest runs, and the rest is skipped.
    fn all_that_was_missed_queues_up(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'echo $DULY_SCHEDULED_FOR >> ran'], schedule: '* * * * *', catch_up: all}\n");
        s.duly(["run"]).status(0);
        set_back(&s, 300);
        s.duly(["run"]).status(0);
        let ran = s.read("ran");
        assert!(ran.lines().count() >= 5 && ran.lines().is_sorted(), "{ran}");
        assert_eq!(count(&s, "state <> 'success'"), 0);
    }

    /// Seen failing with one transaction for all: the pause waits for seconds.
    fn many_occurrences_of_many_targets_are_made_in_short_transactions(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '* * * * *', catch_up: all, targets: {type: T, command: [seq, '300']}}\n");
        s.duly(["run"]).status(0);
        set_back(&s, 3600);
        let tick = s.duly(["run", "--max-runtime", "0s"]).spawn();
        wait_until("the first of them are there", SOON, || count(&s, "1 = 1") > 0);
        let made = count(&s, "1 = 1");
        assert!(made < 1000, "{made} in the first transactions");
        s.duly(["pause", "--queue", "default"]).output();
        let until = s.database().value("SELECT mark_at FROM duly_schedule");
        assert!(tick.wait().status.success());
        let whole = s.database().value(&format!("SELECT COUNT(*) % 300 FROM duly_job WHERE scheduled_for < '{until}'"));
        assert_eq!(whole, "0", "up to the mark each target has its job");
        s.duly(["resume", "--queue", "default"]).output();
        wait_until("all are made", SOON * 4, || {
            s.duly(["run", "--max-runtime", "0s"]).status(0);
            count(&s, "1 = 1") >= 59 * 300
        });
        assert_eq!(s.database().value("SELECT COUNT(*) - COUNT(DISTINCT occurrence_key) FROM duly_job"), "0");
    }

    /// Seen failing with a job between two attempts taken for one that runs: five occurrences are skipped, until its attempts are used up.
    fn a_job_between_two_attempts_gives_way_to_the_next_occurrence(s: Sandbox) {
        s.set_jobs("hooks: {on_failure: [sh, -c, 'echo told >> told']}\njobs:\n  a: {command: [sh, -c, 'test -e mended'], schedule: '* * * * *', backoff: {initial: 1h}, unique: true, depending_jobs: {after: {command: ['true']}}}\n");
        s.duly(["run"]).status(0);
        for failed in 1..=3 {
            set_back(&s, 60);
            s.database().sql("UPDATE duly_job SET occurrence_key = NULL, scheduled_for = '2026-01-01 00:00:00' WHERE scheduled_for IS NOT NULL");
            s.duly(["run"]).output();
            assert_eq!(states(&s, "a"), format!("{}delayed", "failed ".repeat(failed - 1)));
        }
        s.file("mended", "");
        set_back(&s, 60);
        s.database().sql("UPDATE duly_job SET occurrence_key = NULL, scheduled_for = '2026-01-01 00:00:00' WHERE scheduled_for IS NOT NULL");
        s.duly(["run"]).status(0);
        assert_eq!((states(&s, "a"), states(&s, "after")), ("failed failed failed success".to_owned(), "cancelled cancelled cancelled success".to_owned()));
        let reason = s.database().value("SELECT reason FROM duly_job WHERE id = 1");
        assert!(reason.starts_with("gave way between two attempts to the occurrence of"), "{reason}");
        assert_eq!(s.read("told").lines().count(), 3, "each failure is told");
    }

    /// Seen failing before `close_the_gap`: the third one starts beside the first.
    fn a_queue_that_loses_one_in_the_middle_stays_a_queue(s: Sandbox) {
        s.set_jobs("runner: {lease: 10s, concurrency: 4}\njobs:\n  a: {command: [sh, -c, 'echo begin >> ran; while [ ! -e go ]; do sleep 0.05; done; echo end >> ran'], schedule: '0 0 1 1 *', overlap: queue}\n");
        s.duly(["run"]).status(0);
        let mut tick = None;
        for waiting in 0..4 {
            a_year_later(&s);
            match &tick {
                None => {
                    tick = Some(s.duly(["run"]).spawn());
                    wait_until("the first one runs", SOON, || !s.read("ran").is_empty());
                }
                Some(_) => wait_until("another one waits", SOON, || count(&s, "state = 'waiting'") == waiting),
            }
        }
        // One in the middle, and the last.
        let ids = s.database().rows("SELECT id FROM duly_job WHERE state = 'waiting' ORDER BY id");
        for at in [0, 2] {
            s.duly(["cancel", ids[at][0].as_ref().unwrap()]).stdout_has("cancelled").status(0);
        }
        a_year_later(&s);
        wait_until("another one waits", SOON, || count(&s, "state = 'waiting'") == 2);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(s.read("ran"), "begin\n");
        s.file("go", "");
        assert!(tick.unwrap().wait().status.success());
        assert_eq!(s.read("ran"), "begin\nend\n".repeat(3));
    }

    /// Seen failing with `replace` as `allow`.
    fn an_occurrence_that_replaces_the_previous_one_begins_when_that_has_ended(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'trap \"sleep 1; echo end >> ran; exit 1\" TERM; echo begin >> ran; while [ ! -e go ]; do sleep 0.05; done; echo end >> ran'], schedule: '0 0 1 1 *', overlap: replace}\n");
        s.duly(["run"]).status(0);
        a_year_later(&s);
        let tick = s.duly(["run"]).spawn();
        wait_until("the first one runs", SOON, || !s.read("ran").is_empty());
        a_year_later(&s);
        wait_until("the second one runs", SOON, || s.read("ran") == "begin\nend\nbegin\n");
        assert_eq!(states(&s, "a"), "cancelled running");
        assert!(s.database().value("SELECT reason FROM duly_job WHERE id = 1").starts_with("replaced by the occurrence of"));
        s.file("go", "");
        assert!(tick.wait().status.success());
        assert_eq!(states(&s, "a"), "cancelled success");
    }

    /// Seen failing with a set mark of one job per name: all but the first target are skipped.
    fn unique_counts_by_target_where_a_schedule_makes_one_job_for_each(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '* * * * *', unique: true, targets: {type: T, command: [seq, '3']}}\n");
        s.duly(["run"]).status(0);
        set_back(&s, 60);
        s.duly(["run"]).status(0);
        assert_eq!(states(&s, "a"), "success success success");
    }

    /// Seen failing with the back-off of a failure: the second attempt comes an hour later.
    fn an_orphan_is_tried_again_at_once(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, '[ $DULY_ATTEMPT -gt 1 ] || kill -9 $PPID; sleep 0.1'], backoff: {initial: 1h}}\n");
        s.duly(["start", "a"]).output();
        s.duly(["run"]).output();
        s.duly(["run"]).output();
        assert_eq!(states(&s, "a"), "success");
    }

    /// Seen failing with exit codes compared with exit codes only: it is tried again.
    fn a_permanent_exit_code_is_also_that_of_the_signal_it_tells_of(s: Sandbox) {
        s.set_jobs("defaults: {backoff: {initial: 1h}}\njobs:\n  killed: {command: [sh, -c, 'kill -9 $$'], permanent_exit_codes: [137]}\n  told: {command: [sh, -c, 'sh -c \"kill -9 \\$\\$\"; exit $?'], permanent_exit_codes: [137]}\n  other: {command: [sh, -c, 'kill -15 $$'], permanent_exit_codes: [137]}\n");
        for name in ["killed", "told", "other"] {
            s.duly(["start", name]).output();
        }
        s.duly(["run"]).output();
        assert_eq!(["killed", "told", "other"].map(|name| states(&s, name)), ["failed", "failed", "delayed"]);
    }

    /// Seen failing with a stop that always puts back: it begins a second time.
    fn a_job_that_may_be_begun_once_is_given_up_when_its_runner_is_told_to_stop(s: Sandbox) {
        s.set_jobs("jobs:\n  once: {command: [sh, -c, 'echo began >> ran; touch running; sleep 60'], max_attempts: 1, on_orphan: stale}\n");
        s.duly(["start", "once"]).output();
        let tick = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        tick.signal(rustix::process::Signal::TERM);
        assert_eq!(tick.wait().status.code(), Some(143));
        s.duly(["run"]).status(0);
        assert_eq!((states(&s, "once").as_str(), s.read("ran").as_str()), ("stale", "began\n"));
        assert_eq!(s.database().value("SELECT attempts FROM duly_job"), "1");
    }

    /// Seen failing with such an exit code counted as an attempt.
    fn an_exit_code_may_say_not_now(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'test -e go || exit 75'], later_exit_codes: [75], max_attempts: 1, backoff: {initial: 1s, jitter: 0}}\n");
        // Whoever asks for one attempt gets one.
        assert!(!s.duly(["run-job", "a"]).output().status.success());
        assert_eq!(s.database().value("SELECT state FROM duly_job"), "failed");
        s.database().sql("DELETE FROM duly_attempt; DELETE FROM duly_job");
        s.duly(["start", "a"]).output();
        for _ in 0..3 {
            s.duly(["run"]).status(0);
            assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "delayed 0");
            s.database().sql("UPDATE duly_job SET run_at = '2026-01-01 00:00:00'");
        }
        s.file("go", "");
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "success 1");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt"), "4");
    }
}

/// Seen failing with marks that only ever move forward.
#[test]
fn one_tick_of_a_host_whose_clock_is_two_hours_ahead_costs_no_occurrence() {
    let s = Sandbox::new(Backend::Sqlite);
    s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '* * * * * *'}\n");
    s.duly(["run"]).status(0);
    s.duly(["run"]).by_clock("+2h").status(0);
    assert_eq!(s.duly(["status"]).output().status.code(), Some(3));
    wait_until("the schedule goes on", SOON, || {
        s.duly(["run"]).output();
        count(&s, &format!("state = 'success' AND scheduled_for < {}", from_now(&s, 60))) > 1
    });
}

/// Seen failing with two minutes for all: it never runs.
#[test]
fn under_a_crontab_line_of_each_five_minutes_what_is_on_time_runs_without_catching_up() {
    let s = Sandbox::new(Backend::Sqlite);
    s.set_jobs("jobs:\n  a: {command: ['true'], schedule: '7 2 * * *', catch_up: none}\n  late: {command: ['true'], schedule: '50 1 * * *', catch_up: none}\n");
    for minute in ["01:30", "01:35", "01:40", "02:00", "02:05", "02:10", "02:15"] {
        s.duly(["run"]).by_clock(&format!("@2027-01-05 {minute}:01")).env("TZ", "UTC").output();
    }
    assert_eq!((states(&s, "a"), states(&s, "late")), ("success".to_owned(), "cancelled".to_owned()));
    // After an outage it is not made up for.
    for minute in ["01:50", "01:55", "02:40"] {
        s.duly(["run"]).by_clock(&format!("@2027-01-06 {minute}:01")).env("TZ", "UTC").output();
    }
    assert_eq!(states(&s, "a"), "success cancelled");
}

/// A server whose clock is ahead by an hour for some seconds. Seen failing before steps were noticed: the living runner takes its
/// own job for an orphan, and records 719 as missed.
#[test]
fn a_step_of_the_servers_clock_costs_a_living_tick_nothing() {
    let server = Server::start_with_clock();
    let s = Sandbox::on(Database::on(&server));
    assert!(s.duly(["migrate"]).output().status.success());
    s.set_jobs(&format!(
        "runner: {{state_dir: {}, lease: 10s, concurrency: 3}}\njobs:\n  long: {{command: [sh, -c, 'touch running; while [ ! -e go ]; do sleep 0.05; done']}}\n  each: {{command: ['true'], schedule: '*/5 * * * * *'}}\n",
        s.state_dir().display()
    ));
    s.duly(["start", "long"]).output();
    let tick = s.duly(["run"]).spawn();
    wait_until("it runs", SOON, || s.path("running").exists());
    wait_until("its schedule runs", SOON, || count(&s, "name = 'each' AND state = 'success'") > 0);
    server.set_clock("+1h");
    std::thread::sleep(Duration::from_secs(3));
    server.set_clock("+0");
    let before = count(&s, "name = 'each' AND state = 'success'");
    wait_until("its schedule goes on", SOON, || {
        count(&s, "name = 'each' AND state = 'success'") > before + 1
    });
    s.file("go", "");
    let output = tick.wait();
    assert!(output.status.success(), "{output}");
    assert!(output.stderr.contains("nothing is scheduled or taken back by it"), "{output}");
    assert_eq!(states(&s, "long"), "success", "{output}");
    assert_eq!(count(&s, "name = 'each' AND state = 'cancelled'"), 0, "nothing was missed: {output}");
}
