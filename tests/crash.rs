//! What is left when a runner dies, is stopped, is frozen, or loses its database: nothing lost, nothing done twice.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Backend, Database, Sandbox, Server, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn with_short_lease(s: &Sandbox, jobs: &str) {
    s.set_jobs(&format!(
        "runner: {{state_dir: {}, lease: 3s, concurrency: 4}}\njobs:\n{jobs}",
        s.state_dir().display()
    ));
}

/// Prints, tells that it runs, and stays until it is ended, with a child that stays as well; at its second attempt it succeeds.
const STUBBORN: &str = "  stubborn:\n    command: [sh, -c, 'echo attempt $DULY_ATTEMPT; if [ $DULY_ATTEMPT -gt 1 ]; then exit 0; fi; sleep 600 & echo $! > child; touch running; wait']\n    backoff: {initial: 0s}\n";

/// What is in the state folder besides the slots.
fn files_left(s: &Sandbox) -> Vec<String> {
    let folders = std::fs::read_dir(s.state_dir()).unwrap().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with("slot-")).collect()
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

on_every_database! {
    /// Seen failing with the ledger's dead runners not looked for (the job is then run again only after its lease).
    fn after_kill_9_of_a_runner_the_next_tick_ends_its_processes_and_runs_the_job_again(s: Sandbox) {
        with_short_lease(&s, STUBBORN);
        s.duly(["start", "stubborn"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        wait_until("its output is in the database", SOON, || s.database().value("SELECT COUNT(*) FROM duly_output") == "1");
        runner.signal(Signal::KILL);
        runner.wait();
        let child = s.read("child").trim().to_owned();
        assert!(is_alive(&child), "the job's own process outlives its runner");

        s.duly(["run"]).stderr_has("was orphaned").status(0);
        assert!(!is_alive(&child), "the old process group is ended first");
        let job = s.json(["show", "1", "--json"]);
        assert_eq!(job["state"], "success");
        let log = job["attempt_log"].as_array().unwrap();
        assert_eq!(log.len(), 2, "{job:#}");
        assert_eq!((log[0]["outcome"].as_str(), log[0]["output"].as_str()), (Some("orphaned"), Some("attempt 1\n")));
        assert_eq!((log[1]["outcome"].as_str(), log[1]["output"].as_str()), (Some("success"), Some("attempt 2\n")));
        assert_eq!(files_left(&s), Vec::<String>::new(), "traces are left on the host");
    }

    /// Seen failing with a renewal that renews nothing, and with expired leases not looked for.
    fn a_job_of_a_machine_that_is_gone_is_taken_back_by_another_after_its_lease(s: Sandbox) {
        let gone = s.beside();
        for host in [&gone, &s] {
            with_short_lease(host, STUBBORN);
        }
        gone.duly(["start", "stubborn"]).stdout("1\n").status(0);
        let runner = gone.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || gone.path("running").exists());
        // Another tick does not touch what a living runner holds, also after the lease it began with.
        let renewed = match s.database().backend() {
            Backend::Sqlite => "SELECT (julianday(lease_until) - julianday(started_at)) * 86400 > 3.5 FROM duly_job",
            Backend::MariaDb => "SELECT TIMESTAMPDIFF(MICROSECOND, started_at, lease_until) > 3500000 FROM duly_job",
        };
        wait_until("the lease is renewed", SOON, || {
            s.duly(["run"]).status(0);
            s.database().value(renewed) == "1"
        });
        runner.signal(Signal::KILL);
        runner.wait();
        wait_until("another host has run it again", SOON, || {
            s.duly(["run"]).output();
            s.database().value("SELECT state FROM duly_job WHERE id = 1") == "success"
        });
        assert_eq!(s.database().value("SELECT attempts FROM duly_job WHERE id = 1"), "2");
        assert_eq!(s.database().value("SELECT outcome FROM duly_attempt WHERE job_id = 1 AND attempt = 1"), "orphaned");
        // The machine comes back: what was printed there is nobody's any more. Seen failing without `rescue::sweep`.
        let unfinished = gone.state_dir().read_dir().unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap().path().join("making-it");
        let old = std::time::SystemTime::now() - Duration::from_secs(100);
        std::fs::File::create(&unfinished).unwrap().set_modified(old).unwrap();
        gone.duly(["run"]).output();
        assert_eq!(files_left(&gone), Vec::<String>::new());
        // Also where nothing tells of a runner that died.
        std::fs::write(unfinished.with_file_name("1-1.out"), "left").unwrap();
        gone.duly(["run"]).output();
        assert_eq!(files_left(&gone), Vec::<String>::new());
    }

    /// Seen failing with processes told apart by job and fence only.
    fn processes_of_another_database_on_this_host_are_left_alone(s: Sandbox) {
        let other = Sandbox::new(s.database().backend());
        for one in [&s, &other] {
            with_short_lease(one, "  job: {command: [sh, -c, 'touch running; while [ ! -e go-$DULY_ATTEMPT ]; do sleep 0.05; done']}\n  quick: {command: ['true']}\n");
            one.duly(["start", "job"]).stdout("1\n").status(0);
        }
        let runner = s.duly(["run"]).spawn();
        let innocent = other.duly(["run"]).spawn();
        wait_until("both run job 1 under claim 1", SOON, || s.path("running").exists() && other.path("running").exists());
        runner.signal(Signal::KILL);
        runner.wait();
        // As if it had died before it could note down which group it started: that has to be found by its environment.
        let ledger = std::fs::read_dir(s.state_dir()).unwrap().flatten().flat_map(|folder| std::fs::read_dir(folder.path()).unwrap())
            .flatten().find(|file| file.file_name().to_string_lossy().starts_with("runner-")).unwrap().path();
        let text = std::fs::read_to_string(&ledger).unwrap();
        let line: Vec<&str> = text[96..192].split_whitespace().collect();
        let forgotten = format!("{:<96}", format!("{} {} 0 {}", line[0], line[1], line[3]));
        std::fs::write(&ledger, format!("{}{forgotten}{}", &text[..96], &text[192..])).unwrap();
        // The attempt that was left running goes on until it is ended, the next one ends by itself.
        s.file("go-2", "");
        s.duly(["run"]).stderr_has("ending process group").status(0);
        other.file("go-1", "");
        let output = innocent.wait();
        assert!(output.status.success() && output.stderr.is_empty(), "{output}");
        assert_eq!(other.database().value("SELECT state FROM duly_job"), "success");
    }

    fn an_orphan_that_may_not_be_run_again_becomes_stale(s: Sandbox) {
        with_short_lease(&s, "  once: {command: [sh, -c, 'touch running; sleep 600'], on_orphan: stale, depending_jobs: {later: {command: ['true']}}}\n");
        s.duly(["start", "once"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        runner.signal(Signal::KILL);
        runner.wait();
        s.duly(["run"]).stderr_has("orphaned").status(0);
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "stale");
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 2"), "cancelled");
    }

    /// Seen failing with the attempt not counted by the claim.
    fn attempts_are_counted_at_the_claim_so_that_a_job_that_kills_its_runner_ends(s: Sandbox) {
        with_short_lease(&s, "  killer: {command: [sh, -c, 'kill -9 $PPID; sleep 600'], max_attempts: 3, backoff: {initial: 0s}}\n");
        s.duly(["start", "killer"]).stdout("1\n").status(0);
        for _ in 0..4 {
            s.duly(["run"]).output();
        }
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "failed");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt WHERE outcome = 'orphaned'"), "3");
    }

    /// Seen failing with the attempt counted for an interruption.
    fn sigterm_stops_the_jobs_and_puts_them_back_without_using_an_attempt_up(s: Sandbox) {
        with_short_lease(&s, "  long: {command: [sh, -c, 'sleep 600 & echo $! > child; touch running; wait'], grace: 5s, max_attempts: 1}\n  queued: {command: [sleep, '600']}\n");
        s.duly(["start", "long"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        let began = std::time::Instant::now();
        runner.signal(Signal::TERM);
        let output = runner.wait();
        assert_eq!(output.status.code(), Some(143), "{output}");
        assert!(began.elapsed() < Duration::from_secs(5), "stopped within its grace");
        assert!(!is_alive(s.read("child").trim()));
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["state"].as_str(), job["attempts"].as_i64()), (Some("pending"), Some(0)), "{job:#}");
        assert_eq!(job["attempt_log"][0]["outcome"], "interrupted");
    }

    /// Seen failing with no SIGKILL sent.
    fn a_command_that_ignores_sigterm_is_killed_after_its_grace(s: Sandbox) {
        with_short_lease(&s, "  deaf: {command: [sh, -c, 'trap \"\" TERM; touch running; while :; do sleep 1; done'], grace: 1s}\n");
        s.duly(["start", "deaf"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        runner.signal(Signal::INT);
        assert_eq!(runner.wait().status.code(), Some(130));
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "pending");
        wait_until("nothing is left", SOON, || s.processes().is_empty());
    }

    /// Seen failing with neither `trusted_until` nor the heartbeat stopping a job that is lost: either is enough.
    fn a_runner_that_was_frozen_past_its_lease_stops_its_job(s: Sandbox) {
        let frozen = s.beside();
        for host in [&frozen, &s] {
            with_short_lease(host, "  job: {command: [sh, -c, 'echo by $WHO; touch running; while [ $WHO = frozen ]; do sleep 0.1; done'], backoff: {initial: 0s}}\n");
        }
        frozen.duly(["start", "job"]).stdout("1\n").status(0);
        let runner = frozen.duly(["run"]).env("WHO", "frozen").spawn();
        wait_until("the job runs", SOON, || frozen.path("running").exists());
        runner.signal(Signal::STOP);
        wait_until("another runner has done it", SOON, || {
            s.duly(["run"]).env("WHO", "other").output();
            s.database().value("SELECT state FROM duly_job WHERE id = 1") == "success"
        });
        runner.signal(Signal::CONT);
        let output = runner.wait();
        assert!(output.stderr.contains("lease") || output.stderr.contains("no longer held"), "{output}");
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["state"].as_str(), job["attempts"].as_i64(), job["output"].as_str()), (Some("success"), Some(2), Some("by other\n")));
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt"), "2");
        wait_until("the frozen runner's job is gone", SOON, || frozen.processes().is_empty());
    }

    /// Seen failing with owner and fence not compared in `still_held`.
    fn a_result_that_is_ready_when_a_frozen_runner_wakes_up_is_dropped(s: Sandbox) {
        let frozen = s.beside();
        for host in [&frozen, &s] {
            with_short_lease(host, "  job: {command: [sh, -c, 'echo by $WHO; touch running; while [ ! -e go ]; do sleep 0.1; done'], backoff: {initial: 0s}}\n");
        }
        frozen.duly(["start", "job"]).stdout("1\n").status(0);
        let runner = frozen.duly(["run"]).env("WHO", "frozen").spawn();
        wait_until("the job runs", SOON, || frozen.path("running").exists());
        runner.signal(Signal::STOP);
        frozen.file("go", "");
        wait_until("its command has ended, and the runner does not know it", SOON, || frozen.processes().len() == 1);
        let other = std::cell::RefCell::new(None);
        wait_until("another runner does it", SOON, || {
            if s.database().value("SELECT state FROM duly_job WHERE id = 1 AND fence = 2 UNION SELECT 'no' ORDER BY 1 DESC LIMIT 1") == "running" {
                return true;
            }
            let mut tick = s.duly(["run"]).env("WHO", "other").spawn();
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_secs(2) && !tick.has_ended() && !s.path("running").exists() {
                std::thread::sleep(Duration::from_millis(50));
            }
            if !tick.has_ended() {
                other.replace(Some(tick));
            }
            s.path("running").exists()
        });
        runner.signal(Signal::CONT);
        let output = runner.wait();
        assert!(output.stderr.contains("came too late"), "{output}");
        assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 1"), "running");
        s.file("go", "");
        assert!(other.into_inner().unwrap().wait().status.success());
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["state"].as_str(), job["attempts"].as_i64(), job["output"].as_str()), (Some("success"), Some(2), Some("by other\n")));
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt"), "2");
    }
}

/// Seen failing with a database that is away not waited for.
#[test]
fn while_the_database_is_away_jobs_go_on_and_their_results_are_written_when_it_is_back() {
    let mut server = Server::start();
    let s = Sandbox::on(Database::on(&server));
    s.set_jobs(
        "jobs:\n  job: {command: [sh, -c, 'echo $DULY_JOB_ID >> ran; touch running; sleep 1; echo done']}\n",
    );
    s.duly(["migrate"]).stdout_has("ran").status(0);
    for _ in 0..6 {
        s.duly(["start", "job"]).output();
    }
    let runner = s.duly(["run", "--concurrency", "2"]).limit(Duration::from_secs(120)).spawn();
    wait_until("a job runs", SOON, || s.path("running").exists());
    server.stop();
    wait_until("the runner has noticed", SOON, || {
        runner.stderr_so_far().contains("waiting for the database")
    });
    server.start_again();
    let output = runner.wait_for(Duration::from_secs(120));
    assert!(output.status.success(), "{output}");
    assert!(output.stderr.contains("the database is back"), "{output}");
    let mut ran: Vec<String> = s.read("ran").lines().map(str::to_owned).collect();
    ran.sort();
    assert_eq!(ran, ["1", "2", "3", "4", "5", "6"], "each ran once");
    assert_eq!(
        s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success' AND attempts = 1"),
        "6"
    );
}

/// Its runner ends it, since somebody else may have the job; that is no failure of the command. Seen failing with nothing kept of it:
/// the job was `failed`, since its runner was said to have vanished.
#[test]
fn a_command_that_its_runner_stops_since_the_database_is_away_for_too_long_has_had_no_attempt() {
    let mut server = Server::start();
    let s = Sandbox::on(Database::on(&server));
    with_short_lease(
        &s,
        "  job: {command: [sh, -c, 'echo $DULY_ATTEMPT >> ran; touch running; test -e go || sleep 600'], max_attempts: 1}\n",
    );
    s.duly(["migrate"]).stdout_has("ran").status(0);
    s.duly(["start", "job"]).stdout("1\n").status(0);
    let runner = s.duly(["run"]).spawn();
    wait_until("the job runs", SOON, || s.path("running").exists());
    server.kill();
    let output = runner.wait();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("the database was not there to renew its lease"), "{output}");
    server.start_again();
    s.file("go", "");
    s.duly(["run"]).status(0);
    let job = s.json(["show", "1", "--json"]);
    assert_eq!((job["state"].as_str(), job["attempts"].as_i64()), (Some("success"), Some(1)), "{job:#}");
    assert_eq!(job["attempt_log"][0]["outcome"], "interrupted");
    assert_eq!(s.read("ran"), "1\n1\n");
}

/// Seen failing with nothing kept.
#[test]
fn results_that_cannot_be_written_before_the_lease_ends_are_kept_for_the_next_tick() {
    let mut server = Server::start();
    let s = Sandbox::on(Database::on(&server));
    with_short_lease(
        &s,
        "  job: {command: [sh, -c, 'echo $DULY_JOB_ID >> ran; touch running; sleep 1; echo done']}\n",
    );
    s.duly(["migrate"]).stdout_has("ran").status(0);
    s.duly(["start", "job"]).stdout("1\n").status(0);
    let runner = s.duly(["run"]).spawn();
    wait_until("the job runs", SOON, || s.path("running").exists());
    server.kill();
    let output = runner.wait();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("kept in the state folder"), "{output}");
    server.start_again();
    s.duly(["run"]).status(0);
    let job = s.json(["show", "1", "--json"]);
    assert_eq!(
        (job["state"].as_str(), job["attempts"].as_i64(), job["output"].as_str()),
        (Some("success"), Some(1), Some("done\n")),
        "{job:#}"
    );
    assert_eq!(s.read("ran"), "1\n");
}

#[test]
fn a_connection_that_the_server_kills_is_made_again() {
    let s = Sandbox::from(Backend::MariaDb);
    s.set_jobs(
        "jobs:\n  job: {command: [sh, -c, 'touch running; while [ ! -e go ]; do sleep 0.05; done']}\n",
    );
    s.duly(["start", "job"]).stdout("1\n").status(0);
    let runner = s.duly(["run"]).spawn();
    wait_until("the job runs", SOON, || s.path("running").exists());
    let kill_all = |database: &Database| {
        for row in database.rows(
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        ) {
            database.sql(&format!("KILL {}", row[0].as_deref().unwrap_or("0")));
        }
    };
    kill_all(s.database());
    s.file("go", "");
    let output = runner.wait();
    assert!(output.status.success(), "{output}");
    assert_eq!(
        s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job WHERE id = 1"),
        "success 1"
    );
}

/// Seen failing with `trusted_until` ignored.
#[test]
fn a_job_stops_by_itself_when_its_lease_ends_while_its_runner_waits_for_the_database() {
    let s = Sandbox::from(Backend::Sqlite);
    with_short_lease(
        &s,
        "  job: {command: [sh, -c, 'test -e go && exit; sleep 600 & echo $! > child; touch running; wait']}\n",
    );
    s.duly(["start", "job"]).stdout("1\n").status(0);
    let runner = s.duly(["run"]).spawn();
    wait_until("the job runs", SOON, || s.path("running").exists());
    let mut lock = s.database().connect();
    lock.sql("BEGIN IMMEDIATE");
    wait_until("it is stopped", Duration::from_secs(6), || !is_alive(s.read("child").trim()));
    s.file("go", "");
    lock.sql("ROLLBACK");
    let output = runner.wait();
    assert_eq!(output.status.code(), Some(0), "{output}");
    // It is begun again by the same runner, as one that was interrupted.
    assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "success 1");
}
