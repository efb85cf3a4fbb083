//! Trouble stays where it is: what the database refuses of one job, or does not do for a while, harms no other.

use std::time::Duration;

use crate::support::{Backend, CommitFault, Database, Proxy, Sandbox, Server, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// A trigger that refuses what `when` says of a table, as the error `number` of a server; SQLite knows no numbers.
fn refuse(s: &Sandbox, on: &str, when: &str, number: u32) {
    s.database().sql(&match s.database().backend() {
        Backend::MariaDb => format!(
            "CREATE TRIGGER refusing BEFORE {on} FOR EACH ROW BEGIN IF {when} THEN \
             SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'not with me'; END IF; END"
        ),
        Backend::Sqlite => {
            format!("CREATE TRIGGER refusing BEFORE {on} WHEN {when} BEGIN SELECT RAISE(ABORT, 'not with me'); END")
        }
    });
}

fn allow(s: &Sandbox) {
    s.database().sql("DROP TRIGGER refusing");
}

/// A job that says that it runs, and ends when it is let.
const LONG: &str = "  long: {command: [sh, -c, 'touch long-runs; while [ ! -e go ]; do sleep 0.05; done; echo long was done']}\n";

fn with(s: &Sandbox, lease: &str, jobs: &str) {
    s.set_jobs(&format!(
        "runner: {{state_dir: {}, lease: {lease}, concurrency: 4}}\njobs:\n{LONG}{jobs}",
        s.state_dir().display()
    ));
    // SQLite gets its tables by the first command.
    s.json(["list", "--json"]);
}

fn state(s: &Sandbox, id: i64) -> String {
    s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))
}

fn outcome(s: &Sandbox, id: i64) -> (String, Option<i64>) {
    let job = s.json(["show", &id.to_string(), "--json"]);
    (job["state"].as_str().unwrap().to_owned(), job["attempts"].as_i64())
}

fn put_aside(s: &Sandbox) -> usize {
    let folders = std::fs::read_dir(s.state_dir()).unwrap().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
    files.filter(|file| file.file_name().to_string_lossy().starts_with("refused-")).count()
}

/// Lets what was put aside be due: it is tried again a minute after it was tried last.
fn a_minute_later(s: &Sandbox) {
    for folder in std::fs::read_dir(s.state_dir()).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let long_ago = std::time::SystemTime::now() - Duration::from_secs(90);
            std::fs::File::open(file.path()).unwrap().set_modified(long_ago).unwrap();
        }
    }
}

on_every_database! {
    /// Seen failing: the running job was interrupted, and the tick ended at once.
    fn a_claim_that_the_database_refuses_stops_nothing_that_runs(s: Sandbox) {
        with(&s, "60s", "  short: {command: ['true']}\n");
        s.duly(["start", "long"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("long-runs").exists());
        refuse(&s, "UPDATE ON duly_job", "NEW.name = 'short' AND NEW.state = 'running'", 1114);
        s.duly(["start", "short"]).stdout("2\n").status(0);
        wait_until("the refusal is told", SOON, || runner.stderr_so_far().contains("not with me"));
        allow(&s);
        wait_until("the other one is begun as soon as it may", SOON, || state(&s, 2) == "success");
        s.file("go", "");
        let output = runner.wait();
        assert!(output.status.success(), "{output}");
        assert_eq!(output.stderr.matches("not with me").count(), 1, "told once:\n{output}");
        assert_eq!((outcome(&s, 1), outcome(&s, 2)), (("success".into(), Some(1)), ("success".into(), Some(1))));
    }

    /// Seen failing: the running job was interrupted, no other result was written, and each later tick said so and exited with 1.
    fn a_result_that_the_database_refuses_is_put_aside_and_harms_nothing_else(s: Sandbox) {
        with(&s, "60s", "  poison: {command: [sh, -c, 'echo all was well']}\n  short: {command: ['true']}\n");
        s.duly(["start", "long"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("long-runs").exists());
        refuse(&s, "INSERT ON duly_attempt", "NEW.job_id = 2", 1644);
        s.duly(["start", "poison"]).stdout("2\n").status(0);
        s.duly(["start", "short"]).stdout("3\n").status(0);
        wait_until("it is told", SOON, || runner.stderr_so_far().contains("put aside"));
        wait_until("another result is written", SOON, || state(&s, 3) == "success");
        s.file("go", "");
        let output = runner.wait();
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(output.stderr.contains("job 2 succeeded, which the database refuses to record"), "{output}");
        assert_eq!(outcome(&s, 1), ("success".into(), Some(1)));
        assert_eq!((state(&s, 2).as_str(), put_aside(&s)), ("running", 1));

        s.duly(["start", "short"]).stdout("4\n").status(0);
        a_minute_later(&s);
        s.duly(["run"]).status(0);
        assert_eq!((state(&s, 4).as_str(), put_aside(&s)), ("success", 1), "a later tick works, and says nothing");
        s.duly(["status"]).stdout_has("the result of job 2 is put aside on this host").status(3);

        allow(&s);
        a_minute_later(&s);
        s.duly(["run"]).stderr_has("had been put aside").status(0);
        let job = s.json(["show", "2", "--json"]);
        assert_eq!((job["state"].as_str(), job["output"].as_str(), put_aside(&s)), (Some("success"), Some("all was well\n"), 0));
    }

    /// Seen failing: the tick held all results back, and each later one too.
    fn a_result_without_room_is_waited_for_as_long_as_it_is_leased(s: Sandbox) {
        with(&s, "60s", "  big: {command: ['true']}\n  short: {command: ['true']}\n");
        refuse(&s, "INSERT ON duly_attempt", "NEW.job_id = 1", 1114);
        s.duly(["start", "big"]).stdout("1\n").status(0);
        s.duly(["start", "short"]).stdout("2\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the other result is written", SOON, || state(&s, 2) == "success");
        allow(&s);
        let output = runner.wait();
        assert!(output.status.success(), "{output}");
        assert_eq!(outcome(&s, 1), ("success".into(), Some(1)));
    }

    /// Seen failing: `Duplicate entry '2-1'` in each tick, its jobs running for ever.
    fn ids_that_begin_again_hold_nothing_up(s: Sandbox) {
        with(&s, "60s", "  first: {command: [echo, first]}\n  second: {command: [echo, second]}\n");
        for id in 1..=3 {
            s.duly(["start", "first"]).stdout(&format!("{id}\n")).status(0);
        }
        s.duly(["run"]).status(0);
        s.database().sql(match s.database().backend() {
            Backend::MariaDb => "TRUNCATE TABLE duly_job",
            Backend::Sqlite => "DELETE FROM duly_job; DELETE FROM sqlite_sequence WHERE name = 'duly_job'",
        });
        for id in 1..=3 {
            s.duly(["start", "second"]).stdout(&format!("{id}\n")).status(0);
        }
        s.duly(["run"]).status(0);
        for id in ["1", "2", "3"] {
            let job = s.json(["show", id, "--json"]);
            assert_eq!((job["state"].as_str(), job["output"].as_str()), (Some("success"), Some("second\n")), "{job:#}");
            assert_eq!(job["attempt_log"].as_array().unwrap().len(), 1, "{job:#}");
        }
        s.duly(["run"]).status(0);
    }

    /// Seen failing: the names after it in the alphabet made nothing.
    fn a_schedule_whose_job_is_refused_holds_no_other_up(s: Sandbox) {
        with(&s, "60s", "  a: {command: ['true'], schedule: '@tick'}\n  b: {command: ['true'], schedule: '@tick'}\n");
        refuse(&s, "INSERT ON duly_job", "NEW.name = 'a'", 1644);
        s.duly(["run"]).stderr_has("cannot schedule `a`").status(1);
        let made = |name: &str| s.database().value(&format!("SELECT COUNT(*) FROM duly_job WHERE name = '{name}' AND state = 'success'"));
        assert_eq!((made("a"), made("b")), ("0".to_owned(), "1".to_owned()));
    }

    /// Seen failing: the healthy job was interrupted (`cannot take a slot of this host`).
    fn a_state_folder_that_is_removed_stops_nothing_that_runs(s: Sandbox) {
        with(&s, "60s", "  short: {command: [echo, short]}\n");
        s.duly(["start", "long"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("long-runs").exists());
        std::fs::remove_dir_all(s.state_dir()).unwrap();
        s.duly(["start", "short"]).stdout("2\n").status(0);
        wait_until("another one is executed", SOON, || state(&s, 2) == "success");
        s.file("go", "");
        let output = runner.wait();
        assert!(output.status.success() && output.stderr.is_empty(), "{output}");
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["state"].as_str(), job["output"].as_str()), (Some("success"), Some("long was done\n")));
    }

    /// Seen failing: the file told each tick that it was not readable.
    fn a_kept_result_that_was_cut_off_is_told_once(s: Sandbox) {
        with(&s, "60s", "");
        s.duly(["run"]).status(0);
        let folder = std::fs::read_dir(s.state_dir()).unwrap().flatten().next().unwrap().path();
        std::fs::write(folder.join("results-gone-1-1.json"), "").unwrap();
        s.duly(["run"]).stderr_has("is not readable and is left alone").status(0);
        s.duly(["run"]).status(0);
    }

    /// Seen failing: it went round for ever.
    fn work_that_is_undone_as_soon_as_it_is_done_comes_to_an_end(s: Sandbox) {
        with(&s, "60s", "  short: {command: ['true']}\n");
        s.database().sql("INSERT INTO duly_job (name) VALUES ('short')");
        s.database().sql(match s.database().backend() {
            Backend::MariaDb => "CREATE TRIGGER undoing BEFORE UPDATE ON duly_job FOR EACH ROW SET NEW.state = OLD.state",
            Backend::Sqlite => {
                "CREATE TRIGGER undoing AFTER UPDATE OF state ON duly_job BEGIN UPDATE duly_job SET state = OLD.state WHERE id = OLD.id; END"
            }
        });
        s.duly(["run"]).stderr_has("again and again, however often it is changed").limit(Duration::from_secs(120)).status(1);
    }
}

/// A server, a proxy in front of it, and a sandbox that goes through that.
fn behind_a_proxy() -> (Proxy, Sandbox) {
    let server = Server::shared();
    let proxy = Proxy::to(server.port());
    let s = Sandbox::on(Database::on(server).through([&proxy]));
    s.duly(["migrate"]).stdout_has("ran").status(0);
    (proxy, s)
}

/// Seen failing: the tick ended with 1 and the running job was interrupted, while the hook stayed `running` without having begun.
#[test]
fn a_cut_while_the_job_of_a_hook_is_read_stops_nothing() {
    let (proxy, s) = behind_a_proxy();
    with(&s, "60s", "  short: {command: ['true']}\nhooks: {on_success: [sh, -c, 'cat >> told']}\n");
    s.duly(["start", "long"]).stdout("1\n").status(0);
    let runner = s.duly(["run"]).spawn();
    wait_until("the job runs", SOON, || s.path("long-runs").exists());
    proxy.at("SELECT id, name, state, queue, priority,", 0, CommitFault::Unsent);
    s.duly(["start", "short"]).stdout("2\n").status(0);
    wait_until("the statement was cut", SOON, || proxy.has_struck());
    wait_until("the hook is told", SOON, || s.read("told").contains("short"));
    s.file("go", "");
    let output = runner.wait();
    assert!(output.status.success(), "{output}");
    assert_eq!(outcome(&s, 1), ("success".into(), Some(1)));
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state <> 'success'"), "0");
}

/// Seen failing: the tick exited with 1, and did nothing.
#[test]
fn a_tick_whose_connection_goes_while_it_prepares_connects_again() {
    for passed in 0..2 {
        let (proxy, s) = behind_a_proxy();
        with(&s, "60s", "  short: {command: ['true']}\n");
        s.database().sql("INSERT INTO duly_job (name) VALUES ('short')");
        proxy.at("COMMIT", passed, CommitFault::Unsent);
        let output = s.duly(["run"]).output();
        assert!(output.status.success(), "{passed}: {output}");
        assert_eq!(
            s.database().value("SELECT COUNT(*) FROM duly_job WHERE state <> 'success'"),
            "0",
            "{passed}"
        );
    }
}

/// Seen failing: a dead runner had left it failed and orphaned, and nobody was told.
#[test]
fn a_hook_whose_runner_dies_before_it_begins_is_told() {
    let s = Sandbox::from(Backend::Sqlite);
    with(&s, "60s", "  short: {command: ['true']}\nhooks: {on_success: [sh, -c, 'cat >> told']}\n");
    s.duly(["start", "short"]).stdout("1\n").status(0);
    s.duly(["run", "--limit", "1"]).status(0);
    let end = "UPDATE duly_job SET state = 'running', attempts = 1, fence = 1, owner = 'gone', host = 'gone', \
               started_at = '2026-01-01 00:00:00.000000', lease_until = '2026-01-01 00:00:00.000000' WHERE id = 2";
    s.database().sql(end);
    s.duly(["run"]).stderr_has("was orphaned").status(0);
    assert!(s.read("told").contains("short"), "nobody was told");
}

/// Seen failing: the leases ran out while output was copied, and the jobs were stopped.
#[test]
fn renewals_do_not_wait_behind_output_on_a_slow_line() {
    let (proxy, s) = behind_a_proxy();
    let jobs: String = (0..12)
        .map(|n| format!("  loud{n}: {{command: [sh, -c, 'touch loud{n}-runs; while [ ! -e go ]; do head -c 20000 /dev/zero | tr \"\\\\0\" x; echo; sleep 1; done']}}\n"))
        .collect();
    s.set_jobs(&format!(
        "runner: {{state_dir: {}, lease: 12s, concurrency: 12}}\njobs:\n{jobs}",
        s.state_dir().display()
    ));
    for n in 0..12 {
        s.duly(["start", &format!("loud{n}")]).stdout(&format!("{}\n", n + 1)).status(0);
    }
    let mut runner = s.duly(["run"]).spawn();
    wait_until("all run", SOON, || (0..12).all(|n| s.path(format!("loud{n}-runs")).exists()));
    let has_all = || s.database().value("SELECT COUNT(*) FROM duly_output") == "12";
    wait_until("the output of all is looked after", SOON, has_all);
    proxy.delay(Duration::from_millis(150));
    let began = std::time::Instant::now();
    wait_until("two leases have gone by", 2 * SOON, || {
        runner.has_ended() || began.elapsed() > Duration::from_secs(26)
    });
    assert!(!runner.has_ended(), "{}", runner.stderr_so_far());
    proxy.calm();
    s.file("go", "");
    let output = runner.wait();
    assert!(!output.stderr.contains("lease"), "{output}");
    assert_eq!(
        s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success' AND attempts = 1"),
        "12",
        "{output}"
    );
}
