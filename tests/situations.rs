//! What an administrator meets with, made for real: `duly status` and `duly why` name each rightly.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use url::Url;

use crate::support::{Backend, Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// The finding of this kind, and its level; `status` must exit with 3 where that is no note.
#[track_caller]
fn finding(s: &Sandbox, kind: &str) -> (String, String) {
    let output = s.duly(["status", "--json"]).output();
    let told: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|err| panic!("{err}:\n{output}"));
    let found = told["findings"].as_array().unwrap().iter().find(|finding| finding["kind"] == kind);
    let found = found.unwrap_or_else(|| panic!("no `{kind}` in {told:#}"));
    let code = if told["level"] == "fine" || told["level"] == "note" { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code), "{output}");
    (found["level"].as_str().unwrap().to_owned(), found["text"].as_str().unwrap().to_owned())
}

/// The kinds of the reasons of a job, in their order.
#[track_caller]
fn why(s: &Sandbox, id: &str) -> Vec<String> {
    let told = s.json(["why", id, "--json"]);
    told["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// A moment of the database's past, as SQL.
fn ago(s: &Sandbox, seconds: u32) -> String {
    match s.database().backend() {
        Backend::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{seconds} seconds')"),
        Backend::MariaDb => format!("(UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND)"),
    }
}

/// That all is well, before something goes wrong.
#[track_caller]
fn fine(s: &Sandbox) {
    s.duly(["status"]).stdout_has("fine: 1 host ticks (").status(0);
}

on_every_database! {
    /// Seen failing with a host that ticked 12 minutes ago taken for one that ticks.
    fn cron_has_stopped(s: Sandbox) {
        s.set_jobs("jobs:\n  often: {command: ['true'], schedule: '* * * * *'}\n");
        s.duly(["run"]).status(0);
        fine(&s);
        s.duly(["start", "often"]).stdout("1\n").status(0);
        s.database().sql(&format!("UPDATE duly_runner SET last_tick_at = {0}; UPDATE duly_schedule SET mark_at = {0}, next_at = {0}", ago(&s, 720)));
        let (level, text) = finding(&s, "no_tick");
        assert!(level == "critical" && text.starts_with("no host has ticked for 12m "), "{level}: {text}");
        assert_eq!(finding(&s, "late").0, "warning");
        s.duly(["status"]).stdout_has("critical: no host has ticked for 12m ").status(3);
        assert_eq!(why(&s, "1"), ["no_tick"]);
    }

    fn a_queue_is_paused(s: Sandbox) {
        s.set_jobs("queues: {orders: {}}\njobs:\n  a: {command: ['true'], queue: orders}\n");
        s.duly(["run"]).status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["pause", "--queue", "orders", "--reason", "the ERP is down"]).stdout_has("paused").status(0);
        s.duly(["run"]).status(0);
        let (level, text) = finding(&s, "paused");
        assert!(level == "note" && text.contains("queue `orders` is paused") && text.ends_with(": the ERP is down"), "{text}");
        assert_eq!(why(&s, "1"), ["paused"]);
        s.database().sql(&format!("UPDATE duly_pause SET paused_at = {} WHERE scope = 'queue:orders'", ago(&s, 100_000)));
        assert_eq!(finding(&s, "paused").0, "warning", "it may have been forgotten");
    }

    fn a_limit_is_reached(s: Sandbox) {
        s.set_jobs("queues: {orders: {concurrency: 1}}\njobs:\n  a: {command: [sh, -c, 'touch running; while [ ! -e go ]; do sleep 0.05; done'], queue: orders}\n");
        for id in ["1\n", "2\n", "3\n"] {
            s.duly(["start", "a"]).stdout(id).status(0);
        }
        let tick = s.duly(["run"]).spawn();
        wait_until("one runs", SOON, || s.path("running").exists());
        let (level, text) = finding(&s, "limit");
        assert_eq!((level.as_str(), text.as_str()), ("note", "queue `orders` is at its limit of 1, and 2 jobs wait for a place"));
        assert_eq!(why(&s, "2"), ["queue_limit"]);
        s.file("go", "");
        assert!(tick.wait().status.success());
        fine(&s);
    }

    /// Seen failing with what hosts declare not recorded.
    fn a_name_is_declared_nowhere(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).status(0);
        s.database().sql(&format!("INSERT INTO duly_job (name, created_at) VALUES ('imporrt', {})", ago(&s, 600)));
        s.duly(["run"]).stderr_has("no job is called `imporrt`").status(0);
        let (level, text) = finding(&s, "undeclared");
        assert!(level == "warning" && text.contains("no host that ticks declares `imporrt`"), "{text}");
        assert_eq!(why(&s, "1"), ["undeclared", "not_adopted"]);
    }

    fn a_job_waits_for_its_next_attempt(s: Sandbox) {
        s.set_jobs("jobs:\n  bad: {command: [sh, -c, 'exit 7'], backoff: {initial: 10m}}\n");
        s.duly(["start", "bad"]).stdout("1\n").status(0);
        s.duly(["run"]).status(0);
        let (level, text) = finding(&s, "back_off");
        assert!(level == "note" && text.starts_with("`bad`: 1 job waits for another attempt, the first is due in "), "{text}");
        assert_eq!(why(&s, "1"), ["back_off"]);
        s.duly(["status"]).stdout_has("QUEUE").stdout_has("default").status(0);
    }

    fn a_job_waits_for_another(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true'], depending_jobs: {b: {command: ['true']}}}\n");
        s.duly(["run"]).status(0);
        s.duly(["enqueue", "a", "--in", "1 hour"]).stdout("1\n").status(0);
        let told = s.json(["status", "--json"]);
        let queue = &told["queues"][0];
        assert_eq!((&queue["queue"], &queue["waiting"], &queue["delayed"]), (&"default".into(), &1.into(), &1.into()), "{told:#}");
        fine(&s);
        assert_eq!(why(&s, "2"), ["prerequisite"]);
    }

    /// Seen failing with the lease of running jobs not looked at.
    fn a_runner_is_dead(s: Sandbox) {
        s.set_jobs(&format!("runner: {{state_dir: {}, lease: 3s}}\njobs:\n  a: {{command: [sh, -c, 'touch running; sleep 600']}}\n", s.state_dir().display()));
        s.duly(["start", "a"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        runner.signal(Signal::KILL);
        runner.wait();
        assert_eq!(why(&s, "1"), ["runner_dead"]);
        wait_until("its lease ends", SOON, || s.duly(["status"]).output().stdout.contains("runners have vanished"));
        let (level, text) = finding(&s, "runner_dead");
        assert!(level == "warning" && text.contains("the first is job 1 (a) on "), "{text}");
    }

    /// Seen failing with what hosts declare compared by their schedules alone.
    fn one_host_has_another_configuration(s: Sandbox) {
        let other = s.beside();
        s.set_jobs("jobs:\n  a: {command: ['true']}\n  b: {command: ['true']}\n");
        other.set_jobs("jobs:\n  a: {command: ['true']}\n");
        other.duly(["run"]).status(0);
        // Both sandboxes are on this machine: one of them gets another name.
        s.database().sql("UPDATE duly_runner SET host = 'web2'; UPDATE duly_host SET host = 'web2'");
        s.duly(["run"]).status(0);
        let (level, text) = finding(&s, "other_config");
        assert!(level == "warning" && text.contains("web2 does not declare `b`"), "{text}");
        s.duly(["start", "b"]).stdout("1\n").status(0);
        assert_eq!(why(&other, "1"), ["undeclared_here"]);
        // One that cannot even be read: its host falls silent, and there it is told by name and line.
        other.set_jobs("jobs:\n  a: {comand: ['true']}\n");
        for arguments in [&["run"][..], &["status"], &["why", "1"]] {
            other.duly(arguments).stderr_has("jobs.yaml:2: jobs.a.comand: ").status(2);
        }
        other.duly(["status", "--nagios"]).stdout_has("DULY UNKNOWN - ").stdout_has("comand").status(3);
        s.database().sql(&format!("UPDATE duly_runner SET last_tick_at = {} WHERE host = 'web2'", ago(&s, 400)));
        let (level, text) = finding(&s, "host_silent");
        assert!(level == "warning" && text.starts_with("web2 has not ticked for 6m "), "{text}");
    }

    /// A small file system in memory is the state folder, in a mount namespace of its own, so that it goes with its processes.
    /// Seen failing with neither the state folder tried nor the trouble recorded.
    fn the_disk_is_full(s: Sandbox) {
        let folder = s.path("small");
        std::fs::create_dir(&folder).unwrap();
        s.set_jobs(&format!("runner: {{state_dir: {}/state}}\njobs:\n  a: {{command: ['true']}}\n", folder.display()));
        s.duly(["start", "a"]).stdout("1\n").status(0);
        let script = "mount -t tmpfs -o size=64k,mode=0700 none small || exit 99\n\
            $DULY run > first 2>&1; $DULY start a > second; \
            dd if=/dev/zero of=small/full bs=1k count=1000 2> filled; \
            $DULY run > tick 2>&1; echo $? > code; $DULY why 2 --json > why; $DULY status --json > status; echo $? > status-code";
        let mut command = Command::new("unshare");
        // Who is not root becomes it in a namespace of users.
        command.args(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" }.split(' '));
        command.args(["sh", "-c", script]).current_dir(s.path("")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", s.path("").parent().unwrap().join(s.path("").file_name().unwrap()));
        command.env("XDG_RUNTIME_DIR", s.path("run")).env("DULY", env!("CARGO_BIN_EXE_duly"));
        let output = command.output().expect("unshare (util-linux) is needed");
        assert!(output.status.success(), "no file system can be mounted here, which this test needs (root, or namespaces of users): {output:?}");
        assert_eq!((s.read("first").as_str(), s.read("second").as_str()), ("", "2\n"), "all is well before");
        assert!(s.read("filled").contains("No space left"), "{}", s.read("filled"));
        assert_eq!(s.read("code").trim(), "1", "{}", s.read("tick"));
        assert!(s.read("tick").contains("cannot write in the state folder") && s.read("tick").contains("No space left"), "{}", s.read("tick"));
        let reasons: Value = serde_json::from_str(&s.read("why")).unwrap();
        let texts: Vec<&str> = reasons["reasons"].as_array().unwrap().iter().map(|reason| reason["reason"].as_str().unwrap()).collect();
        assert!(texts.iter().any(|text| text.starts_with("this host (") && text.contains("No space left")), "{texts:?}");
        assert!(texts.iter().any(|text| text.starts_with("ticks of ") && text.contains("No space left")), "{texts:?}");
        let status: Value = serde_json::from_str(&s.read("status")).unwrap();
        assert!(s.read("status-code").trim() == "3" && status["verdict"].as_str().unwrap().starts_with("critical: "), "{status:#}");
        // From any other host too, which has a disk of its own.
        let (level, text) = finding(&s, "host_trouble");
        assert!(level == "critical" && text.contains("cannot write in the state folder"), "{text}");
    }
}

/// A writer that holds SQLite's lock. Seen failing with the turn not waited for.
#[test]
fn an_sqlite_database_that_somebody_else_writes_for_long_is_slow() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs:\n  a: {command: ['true']}\n");
    s.duly(["run"]).status(0);
    s.duly(["start", "a"]).stdout("1\n").status(0);
    let mut holder = s.database().connect();
    holder.sql("BEGIN IMMEDIATE");
    let (level, text) = finding(&s, "database_slow");
    assert!(level == "critical" && text.starts_with("the database cannot be written: "), "{level}: {text}");
    assert_eq!(why(&s, "1"), ["database_slow"]);
    holder.sql("COMMIT");
    fine(&s);
}

/// A server behind a slow network: each answer takes a while. Seen failing with the time of an answer not looked at.
#[test]
fn a_server_whose_answers_take_long_is_slow() {
    let s = Sandbox::new(Backend::MariaDb).jobs("jobs:\n  a: {command: ['true']}\n");
    s.duly(["run"]).status(0);
    s.duly(["start", "a"]).stdout("1\n").status(0);
    fine(&s);
    let far = s.beside();
    let url = slow_way(s.database().url(), Duration::from_millis(600));
    far.set_jobs(&format!("database: {url}\njobs:\n  a: {{command: ['true']}}\n"));
    let (level, text) = finding(&far, "database_slow");
    assert!(
        level == "warning" && text.starts_with("the database is slow: an answer took 0.6s"),
        "{level}: {text}"
    );
    assert_eq!(why(&far, "1"), ["database_slow"]);
}

/// A URL that leads to the same server, each of its answers so much later.
fn slow_way(url: &str, delay: Duration) -> String {
    let mut url = Url::parse(url).unwrap();
    let server = (url.host_str().unwrap().to_owned(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let (ready, wait) = channel();
    thread::spawn(move || {
        ready.send(()).unwrap();
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect((server.0.as_str(), server.1)) else { continue };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass(from, to, Duration::ZERO));
            thread::spawn(move || pass(server, client, delay));
        }
    });
    wait.recv().unwrap();
    url.into()
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        thread::sleep(delay);
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
    // Whoever is at the other end learns that this one is gone.
    to.shutdown(std::net::Shutdown::Write).unwrap_or_default();
}
