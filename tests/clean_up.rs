//! Clean-up: what is old enough goes with all that belongs to it, what is needed stays.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::support::{Backend, Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

const ENDED: [&str; 4] = ["success", "failed", "cancelled", "stale"];

const JOBS: &str = "
defaults: {max_attempts: 1}
jobs:
  good: {command: [echo, hello]}
  bad: {command: ['false']}
  clean: {builtin: clean-up}
";

/// So many days ago, as SQL.
fn ago(s: &Sandbox, days: u32) -> String {
    match s.database().backend() {
        Backend::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{days} days')"),
        Backend::MariaDb => format!("UTC_TIMESTAMP(6) - INTERVAL {days} DAY"),
    }
}

/// Puts a job in that ended so many days ago; gives its id.
#[track_caller]
fn ended(s: &Sandbox, name: &str, state: &str, days: u32) -> String {
    let at = ago(s, days);
    s.database().sql(&format!(
        "INSERT INTO duly_job (name, state, queue, priority, run_at, created_at, started_at, finished_at, outcome, attempts) \
         VALUES ('{name}', '{state}', 'default', 0, {at}, {at}, {at}, {at}, 'success', 1)"
    ));
    s.database().value("SELECT MAX(id) FROM duly_job")
}

/// Lets a job have ended so many days ago.
#[track_caller]
fn age(s: &Sandbox, id: &str, days: u32) {
    let at = ago(s, days);
    s.database()
        .sql(&format!("UPDATE duly_job SET finished_at = {at} WHERE id = {id} AND finished_at IS NOT NULL"));
}

/// The ids of the jobs that are there.
fn ids(s: &Sandbox) -> Vec<String> {
    s.database()
        .rows("SELECT id FROM duly_job ORDER BY id")
        .into_iter()
        .map(|mut row| row.remove(0).unwrap())
        .collect()
}

#[track_caller]
fn assert_left(s: &Sandbox, expected: &[&String]) {
    assert_eq!(ids(s).iter().collect::<Vec<_>>(), expected);
}

#[track_caller]
fn put_in(s: &Sandbox, arguments: &[&str]) -> String {
    s.duly(arguments).stdout_has("\n").status(0).stdout.trim_end().to_owned()
}

/// With tables, also on SQLite, which gets them from the first command.
#[track_caller]
fn prepare(s: &Sandbox, jobs: &str) {
    s.set_jobs(jobs);
    s.duly(["clean-up"]).status(0);
}

/// The file that a clean-up of this sandbox locks.
fn lock_file(s: &Sandbox) -> PathBuf {
    let folders =
        fs::read_dir(s.state_dir()).unwrap().map(|entry| entry.unwrap().path().join("clean-up.lock"));
    folders.into_iter().find(|path| path.exists()).expect("a clean-up.lock")
}

on_every_database! {
    fn the_greatest_age_is_for_every_end_state(s: Sandbox) {
        prepare(&s, JOBS);
        let kept: Vec<String> = ENDED
            .iter()
            .flat_map(|state| {
                ended(&s, "good", state, 8);
                [ended(&s, "good", state, 6)]
            })
            .collect();
        s.duly(["clean-up", "--max-retention", "7 days"]).status(0);
        assert_left(&s, &kept.iter().collect::<Vec<_>>());
        s.duly(["clean-up", "--max-retention", "5 days"]).status(0);
        assert_left(&s, &[]);
    }

    fn what_has_not_ended_stays_however_old(s: Sandbox) {
        prepare(&s, JOBS);
        for state in ["new", "waiting", "delayed", "pending", "running"] {
            let id = ended(&s, "good", state, 900);
            s.database().sql(&format!("UPDATE duly_job SET finished_at = NULL WHERE id = {id}"));
        }
        s.duly(["clean-up", "--max-retention", "1s"]).status(0);
        assert_eq!(ids(&s).len(), 5);
    }

    fn successes_may_have_an_age_of_their_own(s: Sandbox) {
        prepare(&s, JOBS);
        let jobs = ENDED.map(|state| ended(&s, "good", state, 2));
        s.duly(["clean-up", "--max-retention-succeeded", "1 day"]).status(0);
        assert_left(&s, &[&jobs[1], &jobs[2], &jobs[3]]);
        let fresh = ended(&s, "good", "success", 2);
        s.duly(["clean-up", "--max-retention", "1 day", "--max-retention-succeeded", "3 days"]).status(0);
        assert_left(&s, &[&fresh]);
    }

    fn what_nothing_says_is_thirty_days(s: Sandbox) {
        prepare(&s, JOBS);
        ended(&s, "good", "success", 31);
        let kept = ended(&s, "good", "failed", 29);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&kept]);
    }

    fn the_retention_of_jobs_yaml_holds_unless_an_option_says_otherwise(s: Sandbox) {
        let retention = "retention: {default: 20 days, success: 5 days, stale: 10 days, keep_last: 1}\n";
        prepare(&s, &format!("{JOBS}{retention}"));
        for (state, gone, kept) in
            [("success", 6, 4), ("failed", 21, 19), ("cancelled", 21, 19), ("stale", 11, 9)]
        {
            ended(&s, "good", state, gone);
            ended(&s, "good", state, kept);
        }
        ended(&s, "bad", "failed", 99);
        s.duly(["clean-up"]).status(0);
        let left = "SELECT COUNT(*) FROM duly_job WHERE state = ";
        for state in ["success", "cancelled", "stale"] {
            assert_eq!(s.database().value(&format!("{left}'{state}'")), "1", "{state}");
        }
        assert_eq!(s.database().value(&format!("{left}'failed'")), "2", "the newest of `bad` is kept");
        s.duly(["clean-up", "--max-retention", "1 day"]).status(0);
        assert_eq!(ids(&s).len(), 2, "one of each name");
        s.duly(["clean-up", "--max-retention", "1 day", "--keep-last", "0"]).status(0);
        assert_left(&s, &[]);
    }

    fn a_call_deletes_no_more_than_it_may(s: Sandbox) {
        prepare(&s, JOBS);
        for state in ["success", "success", "failed", "failed", "stale"] {
            ended(&s, "good", state, 90);
        }
        for left in [3, 1, 0, 0] {
            s.duly(["clean-up", "--per-call", "2"]).status(0);
            assert_eq!(ids(&s).len(), left);
        }
    }

    fn the_newest_of_each_name_are_kept(s: Sandbox) {
        prepare(&s, JOBS);
        let good: Vec<String> = [95, 94, 93, 92].map(|days| ended(&s, "good", "success", days)).into();
        let bad = ended(&s, "bad", "failed", 99);
        let retired = ended(&s, "no-longer-declared", "failed", 98);
        s.duly(["clean-up", "--keep-last", "2"]).status(0);
        assert_left(&s, &[&good[2], &good[3], &bad, &retired]);
        s.duly(["clean-up", "--keep-last", "1"]).status(0);
        assert_left(&s, &[&good[3], &bad, &retired]);
    }

    /// A failure that is kept must not push out what is newest of all, whatever its state.
    fn the_newest_are_counted_over_all_end_states(s: Sandbox) {
        prepare(&s, JOBS);
        ended(&s, "good", "success", 99);
        let failed = ended(&s, "good", "failed", 98);
        let success = ended(&s, "good", "success", 97);
        s.duly(["clean-up", "--keep-last", "2"]).status(0);
        assert_left(&s, &[&failed, &success]);
    }

    fn a_dry_run_counts_what_would_go_and_deletes_nothing(s: Sandbox) {
        prepare(&s, JOBS);
        s.duly(["clean-up", "--dry-run"]).stdout("0 jobs would be deleted\n").status(0);
        ended(&s, "good", "success", 90);
        s.duly(["clean-up", "--dry-run"]).stdout("1 job would be deleted\n").status(0);
        for state in ENDED {
            ended(&s, "good", state, 90);
            ended(&s, "good", state, 9);
        }
        s.duly(["clean-up", "--dry-run"]).stdout("5 jobs would be deleted\n").status(0);
        s.duly(["clean-up", "--dry-run", "--per-call", "3"]).stdout("3 jobs would be deleted\n").status(0);
        s.duly(["clean-up", "--dry-run", "--keep-last", "2"]).stdout("4 jobs would be deleted\n").status(0);
        s.duly(["clean-up", "--dry-run", "--max-retention", "1 day"])
            .stdout("9 jobs would be deleted\n")
            .status(0);
        assert_eq!(ids(&s).len(), 9);
        s.duly(["clean-up", "--max-retention", "1 day"]).status(0);
        assert_left(&s, &[]);
    }

    fn attempts_output_and_edges_go_with_the_job(s: Sandbox) {
        prepare(&s, JOBS);
        let first = put_in(&s, &["enqueue", "good"]);
        let second = put_in(&s, &["enqueue", "good", "--after", &first]);
        let other = put_in(&s, &["enqueue", "good"]);
        s.duly(["run"]).status(0);
        let counts = |job: &str| {
            ["duly_attempt WHERE job_id", "duly_output WHERE job_id", "duly_dependency WHERE prerequisite_id"]
                .map(|rows| s.database().value(&format!("SELECT COUNT(*) FROM {rows} = {job}")))
        };
        assert_eq!(counts(&first), ["1", "1", "1"]);
        age(&s, &first, 90);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&second, &other]);
        assert_eq!(
            (counts(&first), counts(&other)),
            (["0"; 3].map(String::from), ["1", "1", "0"].map(String::from))
        );
        age(&s, &second, 90);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&other]);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_dependency"), "0");
    }

    fn a_job_that_another_one_waits_for_stays(s: Sandbox) {
        prepare(&s, JOBS);
        let done = put_in(&s, &["enqueue", "good"]);
        s.duly(["run"]).status(0);
        let later = put_in(&s, &["enqueue", "good", "--in", "1 day"]);
        let waiting = put_in(&s, &["enqueue", "good", "--after", &done, "--after", &later]);
        let unneeded = ended(&s, "good", "success", 90);
        age(&s, &done, 90);
        assert!(ids(&s).contains(&unneeded));
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&done, &later, &waiting]);
        s.duly(["cancel", &later]).stdout_has("cancelled").status(0);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&later, &waiting]);
    }

    fn a_root_stays_as_long_as_its_children(s: Sandbox) {
        prepare(&s, JOBS);
        let root = ended(&s, "good", "success", 90);
        let child = ended(&s, "bad", "success", 3);
        s.database().sql(&format!("UPDATE duly_job SET root_id = {root} WHERE id = {child}"));
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&root, &child]);
        age(&s, &child, 91);
        s.duly(["clean-up"]).status(0);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[]);
    }

    fn thousands_go_in_one_call(s: Sandbox) {
        prepare(&s, JOBS);
        let at = ago(&s, 90);
        for state in ["success", "failed"] {
            s.database().sql(&format!(
                "INSERT INTO duly_job (name, state, queue, finished_at) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 \
                 FROM n WHERE i < 900) SELECT 'good', '{state}', 'default', {at} FROM n"
            ));
        }
        let kept = ended(&s, "good", "success", 1);
        s.duly(["clean-up", "--dry-run", "--per-call", "1700"])
            .stdout("1700 jobs would be deleted\n")
            .status(0);
        s.duly(["clean-up", "--per-call", "700"]).status(0);
        assert_eq!(ids(&s).len(), 1101);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[&kept]);
    }

    fn a_second_clean_up_is_refused_while_one_is_going_on(s: Sandbox) {
        prepare(&s, JOBS);
        let id = ended(&s, "good", "success", 90);
        let held = File::open(lock_file(&s)).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        s.duly(["clean-up"]).stderr("duly: error: another clean-up is going on on this host\n").status(4);
        assert_left(&s, &[&id]);
        drop(held);
        s.duly(["clean-up"]).status(0);
        assert_left(&s, &[]);
    }

    fn it_can_be_a_job_itself(s: Sandbox) {
        prepare(&s, JOBS);
        let old = ended(&s, "good", "success", 90);
        let id = put_in(&s, &["enqueue", "clean"]);
        s.duly(["run"]).status(0);
        assert!(!ids(&s).contains(&old));
        assert_eq!(s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}")), "success");
        assert_eq!(s.json(["show", &id, "--json"])["output"], serde_json::Value::Null);
    }

    fn it_can_be_scheduled_and_heeds_the_retention_of_jobs_yaml(s: Sandbox) {
        prepare(&s, "retention: {default: 5 days}\njobs: {clean: {builtin: clean-up, schedule: '@tick'}}\n");
        ended(&s, "good", "failed", 6);
        let kept = ended(&s, "good", "failed", 4);
        // The schedule begins with the first tick.
        wait_until("a tick makes and runs it", SOON, || {
            s.duly(["run"]).status(0);
            s.database().value("SELECT COUNT(*) FROM duly_job WHERE name = 'clean' AND state = 'success'")
                != "0"
        });
        assert_eq!(s.database().value("SELECT GROUP_CONCAT(id) FROM duly_job WHERE name = 'good'"), kept);
    }

    fn it_works_as_a_job_on_the_database_that_the_command_line_names(s: Sandbox) {
        s.set_jobs(&format!("{JOBS}database: other.db\n"));
        s.duly(["--database-url", s.database().url(), "clean-up"]).status(0);
        let old = ended(&s, "good", "success", 90);
        put_in(&s, &["--database-url", s.database().url(), "enqueue", "clean"]);
        s.duly(["--database-url", s.database().url(), "run"]).status(0);
        assert!(!ids(&s).contains(&old));
        assert!(!s.path("other.db").exists());
    }

    /// Whoever may insert rows may start what is declared, and not say how it works: jobs.yaml refuses `params` here too.
    fn params_do_not_reach_it_as_a_job(s: Sandbox) {
        prepare(&s, JOBS);
        let old = ended(&s, "good", "success", 9);
        s.database()
            .sql(r#"INSERT INTO duly_job (name, params) VALUES ('clean', '["--max-retention", "1s"]')"#);
        s.duly(["run"]).output();
        assert!(ids(&s).contains(&old), "deleted by an option that a row gave");
    }
}

/// Seen failing: the edge, put in between its look and its deletion, was deleted with the job.
#[test]
fn clean_up_deletes_no_job_that_another_begins_to_wait_for_meanwhile() {
    let s = Sandbox::new(Backend::MariaDb);
    prepare(&s, JOBS);
    let old = ended(&s, "good", "success", 90);
    s.database().sql("INSERT INTO duly_job (name, state, queue, priority, run_at) VALUES ('bad', 'waiting', 'default', 0, UTC_TIMESTAMP(6))");
    let waiting = s.database().value("SELECT MAX(id) FROM duly_job");
    let mut putting_in = s.database().connect();
    putting_in.sql(&format!("START TRANSACTION; SELECT id FROM duly_job WHERE id = {old} FOR UPDATE"));
    putting_in
        .sql(&format!("INSERT INTO duly_dependency (job_id, prerequisite_id) VALUES ({waiting}, {old})"));
    let cleaning = s.duly(["clean-up"]).spawn();
    wait_until("clean-up waits for the row", SOON, || {
        s.database().value("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'DELETE FROM duly_%' OR info LIKE 'SELECT id FROM duly_job WHERE id IN %'") == "1"
    });
    putting_in.sql("COMMIT");
    assert!(cleaning.wait().status.success());
    assert!(ids(&s).contains(&old));
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_dependency"), "1");
}
