//! What goes wrong is told in one line for each problem, with the exit code that fits, and never with a password.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};

use url::Url;

use crate::support::{Backend, Sandbox, Server, on_every_database};

/// Runs `duly`, which must end with `code`, answer nothing, and give as many lines of error as come back, without their
/// `duly: error: `.
#[track_caller]
fn refused(s: &Sandbox, arguments: &[&str], code: i32) -> Vec<String> {
    lines(&s.duly(arguments).stdout("").stderr_has("").status(code).stderr)
}

#[track_caller]
fn lines(stderr: &str) -> Vec<String> {
    let problems: Option<Vec<String>> =
        stderr.lines().map(|line| line.strip_prefix("duly: error: ").map(String::from)).collect();
    let problems =
        problems.unwrap_or_else(|| panic!("not every line begins with `duly: error: `:\n{stderr}"));
    assert!(!problems.is_empty(), "no line on standard error");
    for problem in &problems {
        let is_clear = problem.len() > 15 && !problem.contains("panicked") && !problem.contains("Error {");
        assert!(is_clear, "not clear: {problem}");
    }
    problems
}

/// The only line.
#[track_caller]
fn one(mut lines: Vec<String>) -> String {
    assert_eq!(lines.len(), 1, "expected one line: {lines:#?}");
    lines.remove(0)
}

/// What `check` says about a jobs.yaml, which `run` must say as well.
#[track_caller]
fn complaints(jobs: &str) -> Vec<String> {
    let s = Sandbox::new(Backend::Sqlite).jobs(jobs);
    let lines = refused(&s, &["check"], 2);
    assert_eq!(refused(&s, &["run"], 2), lines);
    lines
}

const IMPORT: &str = "jobs:\n  import: {command: [\"true\"]}\nqueues: {orders: {}}\n";

#[test]
fn an_unknown_key_is_named_with_its_place_and_what_may_be_meant() {
    let line = one(complaints("jobs:\n  import:\n    command: \"true\"\n    timout: 5m\n"));
    assert!(line.contains("jobs.yaml:4: jobs.import.timout: "), "{line}");
    assert!(line.contains("did you mean `timeout`?"), "{line}");
    insta::assert_snapshot!("unknown_key", line);
}

#[test]
fn an_expression_that_is_not_cron_is_explained() {
    let line = one(complaints("jobs:\n  nightly:\n    command: \"true\"\n    schedule: \"0 25 * * *\"\n"));
    assert!(line.contains("jobs.yaml:4: jobs.nightly.schedule: `0 25 * * *`"), "{line}");
    insta::assert_snapshot!("wrong_cron", line);
}

#[test]
fn a_cycle_of_depending_jobs_is_shown_whole() {
    let line = one(complaints(
        "jobs:\n  a: {command: \"true\", depending_jobs: {b: {}}}\n  b: {command: \"true\", depending_jobs: {c: {}}}\n  \
         c: {command: \"true\", depending_jobs: {a: {}}}\n",
    ));
    for name in ["a", "b", "c"] {
        assert!(line.contains(name), "{line}");
    }
    insta::assert_snapshot!("cycle", line);
}

#[test]
fn a_job_that_does_nothing_is_refused() {
    let line = one(complaints("jobs:\n  import:\n    label: Import\n"));
    assert!(line.contains("jobs.yaml:2: jobs.import: ") && line.contains("command"), "{line}");
    insta::assert_snapshot!("no_command", line);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let lines = complaints(
        "runner: {lease: 1ms, state_dir: run/duly}\nqueues: {orders: {}}\njobs:\n  import:\n    command: \"true\"\n    \
         queue: ordrs\n    timeout: soon\n    priority: 500\n  'no good':\n    command: \"true\"\n  other:\n    \
         schedule: \"@fortnightly\"\n    timezone: berlin\n    comand: x\nretention: {success: -1}\n",
    );
    let places = [
        "runner.lease",
        "queue",
        "timeout",
        "priority",
        "no good",
        "schedule",
        "timezone",
        "comand",
        "success",
    ];
    for place in places {
        assert!(lines.iter().any(|line| line.contains(place)), "{place} is not told: {lines:#?}");
    }
    let numbers = lines.iter().map(|line| line.split(':').nth(1).unwrap().parse::<u32>().unwrap());
    assert!(numbers.is_sorted(), "{lines:#?}");
    insta::assert_snapshot!("all_at_once", lines.join("\n"));
}

#[test]
fn what_is_not_yaml_is_told_with_its_line() {
    insta::assert_snapshot!("not_yaml", one(complaints("jobs:\n  import: {command: [\"true\"}\n")));
    insta::assert_snapshot!("not_a_mapping", one(complaints("jobs: 7\n")));
    insta::assert_snapshot!(
        "twice",
        one(complaints("jobs:\n  a: {command: \"true\"}\n  a: {command: \"true\"}\n"))
    );
}

#[test]
fn a_database_that_is_none_is_told_without_its_password() {
    for url in [
        "mysql://shop:geheim@localhost",
        "postgres://shop:geheim@localhost/shop",
        "mysql://shop:geh/eim@x/y/z",
    ] {
        let line = one(complaints(&format!("jobs: {{}}\ndatabase: {url}\n")));
        assert!(line.contains("jobs.yaml:2: database: ") && !line.contains("geh"), "{line}");
        let s = Sandbox::new(Backend::Sqlite);
        let given = one(refused(&s, &["--database-url", url, "list"], 2));
        assert!(given.contains("--database-url: ") && !given.contains("geh"), "{given}");
        let run = s.duly(["list"]).env("DATABASE_URL", url).stderr_has("$DATABASE_URL: ").status(2);
        assert!(!run.stderr.contains("geh"), "{}", one(lines(&run.stderr)));
    }
}

#[test]
fn a_name_that_is_not_declared_is_told_with_the_one_that_may_be_meant() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    for command in ["run-job", "enqueue", "start", "next"] {
        let line = one(refused(&s, &[command, "Improt"], 2));
        assert!(line.contains("`Improt`") && line.contains("did you mean `import`?"), "{command}: {line}");
    }
    insta::assert_snapshot!("unknown_name", one(refused(&s, &["run-job", "Improt"], 2)));
    insta::assert_snapshot!("unknown_name_far_off", one(refused(&s, &["run-job", "zebra"], 2)));
    assert_eq!(s.json(["list", "--json"]), serde_json::json!([]));
}

#[test]
fn a_queue_that_is_not_declared_is_told_with_those_that_are() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    for arguments in [
        &["run", "--queue", "ordrs"][..],
        &["enqueue", "import", "--queue", "ordrs"],
        &["run-job", "import", "--retry=ordrs"],
    ] {
        let line = one(refused(&s, arguments, 2));
        assert!(line.contains("`ordrs`") && line.contains("orders") && line.contains("default"), "{line}");
    }
    insta::assert_snapshot!("unknown_queue", one(refused(&s, &["run", "--queue", "ordrs"], 2)));
}

on_every_database! {
    fn an_id_that_no_job_has_is_told(s: Sandbox) {
        s.set_jobs(IMPORT);
        for arguments in [
            &["show", "77"][..],
            &["show", "77", "--json"],
            &["show", "77", "--follow"],
            &["cancel", "77"],
            &["retry", "77"],
        ] {
            let line = one(refused(&s, arguments, 2));
            assert!(line.contains("there is no job 77"), "{arguments:?}: {line}");
        }
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
    }

    fn an_id_to_wait_for_that_no_job_has_is_told(s: Sandbox) {
        s.set_jobs(IMPORT);
        let line = one(refused(&s, &["enqueue", "import", "--after", "77"], 2));
        assert!(line.contains("there is no job 77"), "{line}");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
    }

    fn a_schema_of_a_newer_version_is_refused(s: Sandbox) {
        s.set_jobs(IMPORT);
        s.json(["list", "--json"]);
        s.database().sql(
            "INSERT INTO duly_migration (version, name, run_at) VALUES \
             ('99990101000000', '9999-01-01-000000_later', '2026-01-01 00:00:00.000000')",
        );
        for arguments in
            [&["run"][..], &["list"], &["enqueue", "import"], &["run-job", "import"], &["clean-up"]]
        {
            let line = one(refused(&s, arguments, 1));
            assert!(line.contains("99990101000000") && line.contains("newer"), "{arguments:?}: {line}");
        }
        let line = one(refused(&s, &["migrate"], 4));
        assert!(line.contains("9999-01-01-000000_later") && line.contains("newer"), "{line}");
        one(refused(&s, &["migrate", "--dry-run"], 4));
        s.duly(["migrate", "--status"]).stdout_has("9999-01-01-000000_later").status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
    }

    fn a_database_that_was_never_one_of_dulys_is_no_panic(s: Sandbox) {
        s.set_jobs(IMPORT);
        s.json(["list", "--json"]);
        s.database().sql("DROP TABLE duly_job");
        for arguments in [&["run"][..], &["list"], &["enqueue", "import"]] {
            let line = one(refused(&s, arguments, 1));
            assert!(line.contains("duly_job"), "{line}");
        }
    }
}

#[test]
fn all_places_where_jobs_yaml_may_lie_are_named() {
    let s = Sandbox::new(Backend::Sqlite);
    fs::remove_file(s.path("jobs.yaml")).unwrap();
    let line = one(refused(&s, &["run"], 2));
    for place in ["[sandbox]/jobs.yaml", "/etc/duly/jobs.yaml", "--config", "$DULY_CONFIG"] {
        assert!(line.contains(place), "{line}");
    }
    insta::assert_snapshot!("no_jobs_yaml", line);
    let line = one(refused(&s, &["--config", "other.yaml", "run"], 2));
    assert!(line.contains("other.yaml") && line.contains("--config"), "{line}");
    let run =
        s.duly(["run"]).env("DULY_CONFIG", "/nowhere/jobs.yaml").stderr_has("/nowhere/jobs.yaml").status(2);
    assert!(one(lines(&run.stderr)).contains("$DULY_CONFIG"));
}

#[test]
fn a_database_that_nobody_listens_for_is_told() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let s = Sandbox::new(Backend::Sqlite)
        .jobs(&format!("{IMPORT}database: mysql://shop:geheim@127.0.0.1:{port}/shop\n"));
    for arguments in [
        &["run"][..],
        &["list"],
        &["enqueue", "import"],
        &["migrate"],
        &["run-job", "import"],
        &["-vv", "jobs"],
    ] {
        let run = s.duly(arguments).stdout("").stderr_has("duly: error: ").status(1);
        assert!(!run.stderr.contains("geheim"), "{}", run.stderr);
        let line = run.stderr.lines().find(|line| line.starts_with("duly: error: ")).unwrap();
        assert!(line.contains(&format!("mysql://shop@127.0.0.1:{port}/shop")), "{line}");
    }
    one(refused(&s, &["run"], 1));
}

#[test]
fn a_password_that_is_refused_is_told_and_shown_nowhere() {
    let s = Sandbox::new(Backend::MariaDb).jobs(IMPORT);
    let mut url = Url::parse(s.database().url()).unwrap();
    url.set_password(Some("ganz-geheim")).unwrap();
    for arguments in [&["run"][..], &["-vv", "run"], &["migrate"], &["list", "--json"]] {
        let run = s.duly(arguments).env("DATABASE_URL", url.as_str()).env("RUST_LOG", "trace");
        let run = run.stdout("").stderr_has("Access denied").status(1);
        assert!(!run.stderr.contains("geheim"), "{}", run.stderr);
    }
    let run = s.duly(["run"]).env("DATABASE_URL", url.as_str()).stderr_has("Access denied").status(1);
    assert!(one(lines(&run.stderr)).contains(url.host_str().unwrap()));
    // Nor is the right one, however much is told.
    let run = s.duly(["-vv", "run"]).env("RUST_LOG", "trace").output();
    assert!(!format!("{run}").contains(s.database().password()), "{run}");
    let run = s.duly(["-vv", "run-job", "import"]).env("DATABASE_URL", s.database().url()).output();
    assert!(run.status.success() && !format!("{run}").contains(s.database().password()), "{run}");
    let run = s.duly(["check"]).output();
    assert!(run.status.success() && !format!("{run}").contains(s.database().password()), "{run}");
}

#[test]
fn a_database_that_is_not_on_the_server_is_told() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    let mut url = Server::shared().admin().clone();
    url.set_path("duly_test_that_nobody_made");
    let run = s.duly(["run"]).env("DATABASE_URL", url.as_str()).stderr_has("nknown database").status(1);
    assert!(one(lines(&run.stderr)).contains("duly_test_that_nobody_made"));
}

#[test]
fn a_server_without_the_tables_is_told_with_the_command_that_makes_them() {
    let s = Sandbox::without_tables(Backend::MariaDb).jobs(IMPORT);
    for arguments in [
        &["run"][..],
        &["list"],
        &["jobs"],
        &["enqueue", "import"],
        &["start", "import"],
        &["run-job", "import"],
        &["show", "1"],
        &["cancel", "1"],
        &["retry", "1"],
        &["clean-up"],
    ] {
        let line = one(refused(&s, arguments, 1));
        assert!(line.contains("`duly migrate`"), "{arguments:?}: {line}");
    }
    assert_eq!(
        s.database().value("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"),
        "0"
    );
}

#[test]
fn a_file_that_is_no_sqlite_database_is_told() {
    let s = Sandbox::new(Backend::Sqlite).jobs(&format!("{IMPORT}database: notes.db\n"));
    s.file("notes.db", &"remember the milk\n".repeat(200));
    for arguments in [&["run"][..], &["list"], &["migrate"]] {
        let line = one(refused(&s, arguments, 1));
        assert!(line.contains("[sandbox]/notes.db"), "{line}");
    }
    assert!(s.read("notes.db").starts_with("remember"));
}

/// Seen failing with owner and mode not looked at in `src/config/source.rs`.
#[test]
fn a_jobs_yaml_that_others_can_write_is_refused_to_root() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    fs::set_permissions(s.path("jobs.yaml"), Permissions::from_mode(0o666)).unwrap();
    if !rustix::process::geteuid().is_root() {
        s.duly(["check"]).stdout_has("1 jobs").status(0);
        return;
    }
    let line = one(refused(&s, &["run"], 2));
    assert!(line.contains("0666") && line.contains("chmod go-w"), "{line}");
    fs::set_permissions(s.path("jobs.yaml"), Permissions::from_mode(0o644)).unwrap();
    chown(s.path("jobs.yaml"), Some(12345), None).unwrap();
    let line = one(refused(&s, &["run"], 2));
    assert!(line.contains("12345") && line.contains("chown root"), "{line}");
    chown(s.path("jobs.yaml"), Some(0), None).unwrap();
    s.duly(["check"]).stdout_has("jobs.yaml").status(0);
}

#[test]
fn a_state_folder_that_others_can_write_is_refused() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    fs::create_dir_all(s.state_dir()).unwrap();
    fs::set_permissions(s.state_dir(), Permissions::from_mode(0o777)).unwrap();
    for arguments in [&["run"][..], &["run-job", "import"], &["clean-up"]] {
        let line = one(refused(&s, arguments, 1));
        assert!(line.contains("[sandbox]/run/duly") && line.contains("0777"), "{line}");
    }
    fs::set_permissions(s.state_dir(), Permissions::from_mode(0o700)).unwrap();
    s.duly(["run"]).status(0);
}

#[test]
fn a_state_folder_of_somebody_else_is_refused() {
    let s = Sandbox::new(Backend::Sqlite);
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all(s.state_dir()).unwrap();
        chown(s.state_dir(), Some(12345), None).unwrap();
        s.set_jobs(IMPORT);
    } else {
        s.set_jobs(&format!("{IMPORT}runner: {{state_dir: /usr}}\n"));
    }
    let line = one(refused(&s, &["run"], 1));
    assert!(line.contains("belongs to user ") && line.contains("runner.state_dir"), "{line}");
}

#[test]
fn a_state_folder_that_is_a_link_or_a_file_is_refused() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    fs::create_dir(s.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(s.path("elsewhere"), s.state_dir()).unwrap();
    let line = one(refused(&s, &["run"], 1));
    assert!(line.contains("[sandbox]/run/duly"), "{line}");
    fs::remove_file(s.state_dir()).unwrap();
    s.file("run/duly", "a file");
    one(refused(&s, &["run"], 1));
}

/// Bad arguments, and a word that the complaint must have.
const BAD_ARGUMENTS: &[(&[&str], &str)] = &[
    (&["run", "--max-runtime", "forever"], "forever"),
    (&["run", "--limit", "0"], "--limit"),
    (&["run", "--concurrency", "0"], "--concurrency"),
    (&["enqueue", "import", "--in", "soon"], "soon"),
    (&["enqueue", "import", "--in", "200 years"], "hundred years"),
    (&["enqueue", "import", "--at", "tomorrow"], "tomorrow"),
    (&["enqueue", "import", "--at", "2026-02-30 00:00"], "2026-02-30"),
    (&["enqueue", "import", "--at", "2030-01-01 00:00", "--in", "1h"], "--in"),
    (&["enqueue", "import", "--priority", "101"], "101"),
    (&["enqueue", "import", "--priority", "-101"], "-101"),
    (&["enqueue", "import", "--priority", "high"], "high"),
    (&["enqueue", "import", "--after", "first"], "first"),
    (&["enqueue", "import", "--after", "1:never"], "never"),
    (&["enqueue"], "NAME"),
    (&["list", "--state", "done"], "done"),
    (&["list", "--since", "yesterday"], "yesterday"),
    (&["list", "--limit", "0"], "--limit"),
    (&["next", "--count", "0"], "--count"),
    (&["show", "abc"], "abc"),
    (&["clean-up", "--max-retention", "7 dogs"], "7 dogs"),
    (&["clean-up", "--keep-last", "-1"], "-1"),
    (&["completions", "cmd.exe"], "cmd.exe"),
    (&["lst"], "lst"),
    (&["--nonsense"], "--nonsense"),
];

#[test]
fn bad_arguments_are_refused_with_what_is_wrong() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    for (arguments, word) in BAD_ARGUMENTS {
        let run = s.duly(*arguments).stdout("").stderr_has(word).status(2);
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    }
    s.duly(["enqueue", "import", "--in", "soon"]).stderr_has("90s, 1 min, 7 days").status(2);
    s.duly(["enqueue", "import", "--at", "tomorrow"]).stderr_has("2026-03-01 02:00").status(2);
    assert_eq!(s.json(["list", "--json"]), serde_json::json!([]));
}

/// As every other error is; only a bare `duly` shows how it is used.
#[test]
fn bad_arguments_are_told_in_one_line_that_begins_like_every_other() {
    let s = Sandbox::new(Backend::Sqlite).jobs(IMPORT);
    for (arguments, word) in BAD_ARGUMENTS.iter().filter(|(arguments, _)| !arguments.is_empty()) {
        let line = one(refused(&s, arguments, 2));
        assert!(line.contains(word), "{arguments:?}: {line}");
    }
}
