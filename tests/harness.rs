//! The tests' own ground: that what `support` promises holds, and that a check that should fail does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, thread};

use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::{Backend, Database, Sandbox, Server, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(20);

on_every_database! {
    fn a_database_holds_what_was_put_in_and_shows_it_as_text(database: Database) {
        database.sql("CREATE TABLE t (a BIGINT PRIMARY KEY, b VARCHAR(9), c DATETIME); INSERT INTO t VALUES (-1, 'ä', NULL)");
        assert_eq!(database.rows("SELECT a, b, c FROM t"), [[Some("-1".into()), Some("ä".into()), None]]);
        assert_eq!(database.value("SELECT COUNT(*) FROM t"), "1");
        assert_eq!(database.value("SELECT c FROM t"), "NULL");
        assert!(database.rows("SELECT a FROM t WHERE a > 0").is_empty());
    }

    fn a_database_is_empty_whatever_another_test_did(database: Database) {
        let other = Database::create(database.backend());
        other.sql("CREATE TABLE t (a BIGINT PRIMARY KEY)");
        database.sql("CREATE TABLE t (a BIGINT PRIMARY KEY)");
        assert_ne!(database.url(), other.url());
        assert!(database.url().contains(database.password()));
    }

    fn a_connection_may_hold_a_transaction(database: Database) {
        database.sql("CREATE TABLE t (a BIGINT PRIMARY KEY)");
        let mut session = database.connect();
        session.sql("BEGIN; INSERT INTO t VALUES (1)");
        assert_eq!(session.value("SELECT COUNT(*) FROM t"), "1");
        assert!(session.rows("SELECT a FROM t WHERE a > 1").is_empty());
        assert_eq!(database.value("SELECT COUNT(*) FROM t"), "0");
    }

    fn a_run_is_checked_whole(s: Sandbox) {
        let version = format!("duly {}\n", env!("CARGO_PKG_VERSION"));
        s.duly(["--version"]).stdout(&version).status(0);
        s.duly(["--version"]).stdout_has("duly").stderr("").limit(SOON).status(0);
        let mut running = s.duly(["--version"]).spawn();
        wait_until("it ends", SOON, || running.has_ended());
        assert_eq!((running.stdout_so_far(), running.stderr_so_far()), (version, String::new()));
        s.duly(["no-such-command"]).env("NO_COLOR", "1").stdin("").stderr_has("no-such-command").status(2);
    }
}

#[test]
fn values_of_every_type_are_shown_by_a_server_as_by_its_client() {
    let database = Database::create(Backend::MariaDb);
    let query = "SELECT CAST(18446744073709551615 AS UNSIGNED), CAST(-7 AS SIGNED), 1.50, CAST(0.25 AS DOUBLE), \
                 CAST('2026-01-31' AS DATE), CAST('2026-01-31 14:05:00.5' AS DATETIME(6)), 'é'";
    let expected =
        ["18446744073709551615", "-7", "1.50", "0.25", "2026-01-31", "2026-01-31 14:05:00.500000", "é"];
    assert_eq!(database.rows(query), [expected.map(|text| Some(text.to_owned()))]);
}

#[test]
fn the_server_is_in_a_zone_where_local_time_shows() {
    if env::var_os("DULY_TEST_MYSQL_URL").is_none() {
        assert_eq!(Database::create(Backend::MariaDb).value("SELECT @@global.time_zone"), "-08:00");
    }
}

#[test]
#[should_panic(expected = "expected nothing on standard output")]
fn an_output_nobody_expected_fails() {
    Sandbox::new(Backend::Sqlite).duly(["--version"]).status(0);
}

#[test]
#[should_panic(expected = "expected on standard output:\n    | duly 9\nand expected in standard error: x")]
fn an_output_that_is_not_as_expected_fails() {
    Sandbox::new(Backend::Sqlite).duly(["--version"]).stdout("duly 9\n").stderr_has("x").status(0);
}

#[test]
#[should_panic(expected = "expected the exit code 1")]
fn an_exit_code_that_is_not_as_expected_fails() {
    Sandbox::new(Backend::Sqlite).duly(["--version"]).stdout_has("duly").status(1);
}

#[test]
#[should_panic(expected = "waited for this in vain: the end of time")]
fn waiting_has_an_end() {
    wait_until("the end of time", Duration::from_millis(50), || false);
}

#[test]
fn the_jobs_of_a_sandbox_keep_their_line_numbers() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs:\n  a: {command: [\"true\"]}\n");
    assert!(s.read("jobs.yaml").starts_with("jobs:\n  a: {command: [\"true\"]}\ndatabase: "));
    assert!(s.read("jobs.yaml").contains(s.state_dir().to_str().unwrap()));
    s.set_jobs("jobs: {}\nrunner: {concurrency: 1}\n");
    assert!(!s.read("jobs.yaml").contains("state_dir"));
    assert_ne!(s.beside().path("."), s.path("."));
    assert_eq!(s.beside().database().url(), s.database().url());
}

#[test]
fn a_running_duly_can_be_watched_and_signalled() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs:\n  stay: {command: [sleep, \"1000\"]}\n");
    assert_eq!(s.json(["list", "--json"]), serde_json::json!([]));
    let running = s.duly(["run-job", "stay"]).spawn();
    wait_until("the job runs", SOON, || s.processes().len() == 2);
    assert!(s.processes().contains(&running.pid()));
    running.signal(Signal::TERM);
    assert_eq!(running.wait().status.code(), Some(143));
    assert_eq!(s.processes(), []);
}

#[test]
fn nothing_that_a_sandbox_started_outlives_it() {
    let s = Sandbox::new(Backend::Sqlite);
    let script = s.file("bin/stay", "#!/bin/sh\nsleep 1000\n");
    let mut child = Command::new(script).env("HOME", s.path("jobs.yaml").parent().unwrap()).spawn().unwrap();
    wait_until("the script and its sleep are seen", SOON, || s.processes().len() == 2);
    drop(s);
    assert_eq!(Some(9), std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()));
}

#[test]
fn a_server_of_ones_own_keeps_its_data_over_a_stop_and_a_kill() {
    let mut server = Server::start();
    let database = Database::on(&server);
    database.sql("CREATE TABLE t (a BIGINT PRIMARY KEY); INSERT INTO t VALUES (1)");
    server.stop();
    assert!(!server.socket().exists());
    server.start_again();
    database.sql("INSERT INTO t VALUES (2)");
    server.kill();
    server.start_again();
    assert_eq!(database.value("SELECT SUM(a) FROM t"), "3");
}

/// Runs itself a second time as the process that is killed.
#[test]
fn a_server_dies_with_the_test_process_even_if_that_is_killed() {
    if let Some(note) = env::var_os("DULY_TEST_NOTE") {
        let server = Server::start();
        fs::write(note, server.socket().to_str().unwrap()).unwrap();
        thread::sleep(Duration::from_secs(600));
    }
    let s = Sandbox::new(Backend::Sqlite);
    let mut child = Killed(
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "harness::a_server_dies_with_the_test_process_even_if_that_is_killed"])
            .env("DULY_TEST_NOTE", s.path("note"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_until("the server is up", Duration::from_secs(60), || {
        assert!(child.0.try_wait().unwrap().is_none(), "the process that should be killed ended by itself");
        !s.read("note").is_empty()
    });
    let folder = Path::new(&s.read("note")).parent().unwrap().to_owned();
    let pid = server_pid(&folder);
    test_kill_process(pid).expect("the server runs");
    child.0.kill().unwrap();
    wait_until("the server is gone", SOON, || test_kill_process(pid).is_err());
    wait_until("its data are gone", SOON, || !folder.exists());
}

/// A server whose guardian is killed has nobody left to end it: the kernel does.
#[test]
fn a_server_dies_with_its_guardian() {
    let server = Server::start();
    let folder = server.socket().parent().unwrap().to_owned();
    let pid = server_pid(&folder);
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let guardian = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(guardian).unwrap(), Signal::KILL).unwrap();
    wait_until("the server is gone", SOON, || test_kill_process(pid).is_err());
    drop(server);
    fs::remove_dir_all(folder).unwrap();
}

/// The process of the server whose files are in a folder.
fn server_pid(folder: &Path) -> Pid {
    let file: PathBuf = folder.join("data/pid");
    Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap()).unwrap()
}

/// A child that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
