//! Guarantees that no other file tests, and that `docs/guarantees.md` names tests that there are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use duly::config::DatabaseUrl;
use duly::job::{Outcome, State, Verdict};
use duly::store::{AttemptEnd, ClaimRequest, Limits, Output, StartedAt, Store};

use crate::support::{Backend, Database, Sandbox, Server, on_every_database, wait_until};

const JOBS: &str = "jobs:\n  ok: {command: [\"true\"], backoff: {initial: 0s}}\n";
const LEASE: Duration = Duration::from_secs(60);

fn store(s: &Sandbox) -> Store {
    let database = DatabaseUrl::parse(s.database().url(), Path::new("/")).unwrap();
    Store::connect(&duly::runner::location(&database)).unwrap()
}

fn claim(store: &mut Store, owner: &str) -> Vec<(i64, i64)> {
    let request = ClaimRequest { queue: "default", limit: 9, owner, host: "h", lease: LEASE };
    let claims = store.claim(request, Limits { queue: None, name: &|_| None }, &|_| true).unwrap();
    claims.jobs.iter().map(|job| (job.id, job.fence)).collect()
}

fn success((id, fence): (i64, i64), owner: &str) -> AttemptEnd {
    AttemptEnd {
        id,
        fence,
        owner: owner.to_owned(),
        host: "h".to_owned(),
        attempt: 1,
        outcome: Outcome::Success,
        verdict: Verdict::End(State::Success),
        started: StartedAt::Ago(Duration::ZERO),
        ran: Some(Duration::ZERO),
        ended_ago: Duration::ZERO,
        output: Some(Output { body: format!("by {owner}"), truncated: 0 }),
    }
}

on_every_database! {
    /// As when the answer to the first commit was lost. Seen failing with `is_written` of `src/store/finish.rs` always false:
    /// what had been written was then told as lost.
    fn a_result_that_is_given_twice_is_written_once_and_is_no_late_one(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
        let mut store = store(&s);
        let claimed = claim(&mut store, "me");
        assert_eq!(claimed, [(1, 1)]);
        for _ in 0..2 {
            let finished = store.finish(&[success((1, 1), "me")]).unwrap();
            assert_eq!((finished.refused, finished.moved), (vec![], vec![(1, State::Success)]));
        }
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt"), "1");
    }

    /// As a runner does whose claim got no answer. Seen failing with `held_by` of `src/store/claim.rs` finding nothing.
    fn what_a_claim_without_an_answer_has_taken_can_be_asked_for(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
        let mut store = store(&s);
        claim(&mut store, "me");
        let held: Vec<(i64, i64)> = store.held_by("me").unwrap().iter().map(|job| (job.id, job.fence)).collect();
        assert_eq!((held, store.held_by("another").unwrap().len()), (vec![(1, 1)], 0));
    }

    /// Seen failing with `fence = fence` in the claim of `src/store/claim.rs`, and with the fence, and with the owner, not
    /// compared in `still_held` of `src/store/finish.rs`.
    fn a_result_under_an_older_fence_or_of_another_owner_changes_nothing(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
        let mut store = store(&s);
        assert_eq!(claim(&mut store, "first"), [(1, 1)]);
        store.hand_back("first", &[(1, 1)]).unwrap();
        assert_eq!(claim(&mut store, "second"), [(1, 2)]);
        for late in [success((1, 1), "first"), success((1, 1), "second"), success((1, 2), "first")] {
            assert_eq!(store.finish(std::slice::from_ref(&late)).unwrap().refused, [(1, late.fence)]);
        }
        let row = "SELECT CONCAT(state, ' ', owner, ' ', fence, ' ', attempts) FROM duly_job";
        assert_eq!(s.database().value(row), "running second 2 1");
        assert_eq!(s.database().value("SELECT (SELECT COUNT(*) FROM duly_attempt) + (SELECT COUNT(*) FROM duly_output)"), "0");
        assert!(store.finish(&[success((1, 2), "second")]).unwrap().refused.is_empty());
    }

    /// Seen failing with such a job left to the end of its lease, and handed back to be claimed again.
    fn what_is_handed_back_and_was_to_be_cancelled_is_cancelled(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
        s.duly(["enqueue", "ok", "--after", "1:always"]).stdout("2\n").status(0);
        let mut store = store(&s);
        assert_eq!(claim(&mut store, "me"), [(1, 1)]);
        s.duly(["cancel", "1"]).stdout("job 1 is running; its runner stops it\n").status(0);
        store.hand_back("another", &[(1, 1)]).unwrap();
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "running");
        store.hand_back("me", &[(1, 1)]).unwrap();
        store.hand_back("me", &[(1, 1)]).unwrap();
        let row = "SELECT CONCAT(state, ' ', outcome, ' ', attempts, ' ', owner IS NULL, ' ', finished_at IS NULL, ' ', reason LIKE 'cancelled by %') FROM duly_job WHERE id = 1";
        assert_eq!(s.database().value(row), "cancelled cancelled 0 1 0 1");
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 2"), "success");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt WHERE job_id = 1"), "0");
    }

    /// Before the first copy of it, which comes after a second. Seen failing with `salvage` of `src/process/capture.rs` giving
    /// nothing.
    fn what_a_job_had_printed_when_its_runner_died_is_saved_from_the_host(s: Sandbox) {
        s.set_jobs("jobs:\n  say: {command: [sh, -c, 'echo early; touch running; [ $DULY_ATTEMPT = 2 ] || sleep 600'], backoff: {initial: 0s}}\n");
        s.duly(["enqueue", "say"]).stdout("1\n").status(0);
        let run = s.duly(["run"]).spawn();
        wait_until("it runs", Duration::from_secs(30), || s.path("running").exists());
        run.signal_if_alive(rustix::process::Signal::KILL);
        let was_copied = s.database().value("SELECT COUNT(*) FROM duly_output") != "0";
        s.duly(["run"]).stderr_has("was orphaned").status(0);
        let job = s.json(["show", "1", "--json"]);
        let first = &job["attempt_log"][0];
        assert_eq!((&first["outcome"], &first["output"]), (&"orphaned".into(), &"early\n".into()), "copied: {was_copied}, {job}");
    }

    /// Seen failing with `SLACK` of `src/store/rescue.rs` and the probe's 10 seconds both at zero.
    fn a_lease_that_has_just_ended_is_taken_for_over_only_after_ten_seconds(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
        claim(&mut store(&s), "gone");
        let set_back = |seconds: u32| s.database().sql(&match s.database().backend() {
            Backend::Sqlite => format!("UPDATE duly_job SET lease_until = strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{seconds} seconds')"),
            Backend::MariaDb => format!("UPDATE duly_job SET lease_until = UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND"),
        });
        set_back(4);
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT state FROM duly_job"), "running");
        set_back(12);
        s.duly(["run"]).stderr_has("was orphaned").status(0);
        assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "success 2");
    }
}

/// What another transaction is in the way of is done when that is over. Seen failing with `TRIES` of
/// `src/db/transaction.rs` at 1.
#[test]
fn a_unit_that_meets_a_lock_is_run_again_whole_until_it_succeeds() {
    let s = Sandbox::new(Backend::MariaDb).jobs(JOBS);
    s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
    let mut session = s.database().connect();
    session.sql("BEGIN; UPDATE duly_pause SET paused_at = paused_at WHERE scope = 'gate'; SELECT 1 FROM duly_pause FOR UPDATE");
    let run = s.duly(["-vv", "run"]).spawn();
    // The session's own limit is 5 seconds.
    wait_until("it was refused once", Duration::from_secs(30), || {
        run.stderr_so_far().contains("conflict, try 1")
            || s.database().value("SELECT state FROM duly_job") != "pending"
    });
    session.sql("COMMIT");
    let output = run.wait();
    assert!(output.status.success() && output.stderr.contains("conflict, try 1"), "{output}");
    assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "success 1");
}

/// Seen failing with a second query in `first_probe` of `src/runner/duties.rs`; with `set_up` of `src/db/connection.rs`
/// taken out.
#[test]
fn an_idle_tick_asks_one_question_and_a_busy_one_keeps_the_rules_of_a_session() {
    let server = Server::start();
    let s = Sandbox::on(Database::on(&server));
    s.set_jobs(JOBS);
    let migrated = s.duly(["migrate"]).output();
    assert!(migrated.status.success(), "{migrated}");
    // The host is known and its tick recorded.
    s.duly(["run"]).status(0);
    let mut admin = server.administrator();
    admin.sql("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = 1");
    let statements = |admin: &mut crate::support::Session, run: &dyn Fn()| -> Vec<String> {
        admin.sql("TRUNCATE mysql.general_log");
        run();
        let query = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
                     WHERE command_type IN ('Query', 'Execute') AND user_host LIKE '%duly_test%'";
        admin.rows(query).into_iter().map(|mut row| row.remove(0).unwrap_or_default()).collect()
    };
    let idle = statements(&mut admin, &|| drop(s.duly(["run"]).status(0)));
    let (probes, others): (Vec<&String>, Vec<&String>) = idle.iter().partition(|text| text.contains("duly_"));
    assert!(probes.len() == 1 && others.iter().all(|text| text.starts_with("SET ")), "{idle:#?}");
    assert!(others.len() <= 5, "{others:#?}");
    s.duly(["enqueue", "ok"]).stdout("1\n").status(0);
    let busy = statements(&mut admin, &|| drop(s.duly(["run"]).status(0)));
    for rule in
        ["READ-COMMITTED", "innodb_lock_wait_timeout = 5", "STRICT_ALL_TABLES", "time_zone = '+00:00'"]
    {
        let is_kept = busy.iter().any(|text| text.contains(rule));
        assert!(is_kept, "{rule}: {busy:#?}");
    }
}

/// A table of guarantees that names a test that is gone would be a promise that nobody keeps.
#[test]
fn every_test_that_the_guarantees_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = ["docs/guarantees.md", "SECURITY.md"];
    let text = documents.map(|path| fs::read_to_string(root.join(path)).unwrap()).join("\n");
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| {
            code.contains("::")
                && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
        })
        .collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        let (file, test) = name.split_once("::").unwrap();
        let paths = [format!("tests/{file}.rs"), format!("src/{}.rs", file.replace("__", "/"))];
        let is_there = paths.iter().any(|path| {
            fs::read_to_string(root.join(path)).is_ok_and(|source| source.contains(&format!("fn {test}(")))
        });
        assert!(is_there, "a document names `{name}`, which is not there");
    }
}
