//! The tables: how they come to be, that both dialects have the same, and what applications may do with them in SQL.

use std::collections::BTreeMap;

use crate::support::{Backend, Sandbox, User, on_every_database, wait_until};

const JOBS: &str = r#"
queues: {orders: {}}
defaults: {max_attempts: 4}
jobs:
  write:
    command: [sh, -c, 'printf "%s\0" "$@" "$DULY_TARGET_TYPE" "$DULY_TARGET_ID" > words', sh]
    params: [tmp]
    queue: orders
    priority: 7
  append: {command: [sh, -c, 'echo "$1" >> order', sh]}
  import: {command: [sh, -c, 'echo import >> order'], depending_jobs: {index: {command: [sh, -c, 'echo index >> order']}}}
"#;

const MIGRATION: &str = "2026-11-21-000000_jobs";
const SHOP: &str = "2026-11-22-000000_shop";
const OPERATE: &str = "2026-11-25-000000_operate";
const LATEST: &str = "2026-11-25-010000_audit";

/// The names of all tables that are there.
fn tables(s: &Sandbox) -> Vec<String> {
    let query = match s.database().backend() {
        Backend::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
        }
        Backend::MariaDb => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name"
        }
    };
    s.database().rows(query).into_iter().map(|mut row| row.remove(0).unwrap()).collect()
}

/// The columns of each table in order, each with whether it may be null.
fn columns(s: &Sandbox) -> BTreeMap<String, Vec<(String, bool)>> {
    let of = |table: &String| {
        let query = match s.database().backend() {
            // A primary key of one column is never null, whatever SQLite says of it.
            Backend::Sqlite => format!(
                "SELECT name, CASE WHEN \"notnull\" = 1 OR pk > 0 THEN 'NO' ELSE 'YES' END \
                 FROM pragma_table_info('{table}') ORDER BY cid"
            ),
            Backend::MariaDb => format!(
                "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_schema = DATABASE() \
                 AND table_name = '{table}' ORDER BY ordinal_position"
            ),
        };
        let rows = s.database().rows(&query).into_iter();
        let text = |cell: &Option<String>| cell.clone().unwrap();
        (table.clone(), rows.map(|row| (text(&row[0]), text(&row[1]) == "YES")).collect())
    };
    tables(s).iter().map(of).collect()
}

fn state_of(s: &Sandbox, id: &str) -> String {
    s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))
}

/// Inserts as an application does; gives the id.
#[track_caller]
fn insert(s: &Sandbox, columns: &str, values: &str) -> String {
    s.database().sql(&format!("INSERT INTO duly_job ({columns}) VALUES ({values})"));
    s.database().value("SELECT MAX(id) FROM duly_job")
}

/// With tables, also on SQLite.
#[track_caller]
fn prepare(s: &Sandbox) {
    s.set_jobs(JOBS);
    s.json(["list", "--json"]);
}

on_every_database! {
    fn the_tables_come_once_and_a_second_time_does_nothing(backend: Backend) {
        let s = Sandbox::without_tables(backend);
        s.duly(["migrate"]).stdout(&format!("ran {MIGRATION}\nran {SHOP}\nran {OPERATE}\nran {LATEST}\n")).status(0);
        let before = columns(&s);
        assert!(before.contains_key("duly_job"), "{before:?}");
        s.duly(["migrate"]).status(0);
        assert_eq!(columns(&s), before);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_migration"), "4");
    }

    fn all_tables_are_called_duly(s: Sandbox) {
        prepare(&s);
        let tables = tables(&s);
        for expected in
            ["duly_job", "duly_attempt", "duly_output", "duly_dependency", "duly_schedule", "duly_runner"]
        {
            assert!(tables.iter().any(|table| table == expected), "no {expected} in {tables:?}");
        }
        let others: Vec<&String> = tables.iter().filter(|table| !table.starts_with("duly_")).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    fn the_status_tells_what_has_been_run(backend: Backend) {
        let s = Sandbox::without_tables(backend);
        let before =
            s.duly(["migrate", "--status"]).stdout_has(MIGRATION).stdout_has("not yet").status(0).stdout;
        assert_eq!(tables(&s), [""; 0], "{before}");
        s.duly(["migrate"]).stdout_has("ran").status(0);
        let after = s.duly(["migrate", "--status"]).stdout_has(MIGRATION).status(0).stdout;
        assert!(!after.contains("not yet"), "{after}");
        let year = s.database().value("SELECT SUBSTR(MAX(run_at), 1, 5) FROM duly_migration");
        assert!(after.contains(&year) && year.ends_with('-'), "{after}");
    }

    fn a_dry_run_prints_sql_that_makes_the_same_tables_and_changes_nothing(backend: Backend) {
        let s = Sandbox::without_tables(backend);
        let sql = s
            .duly(["migrate", "--dry-run"])
            .stdout_has(&format!("-- {MIGRATION}\n"))
            .stdout_has("CREATE TABLE")
            .status(0)
            .stdout;
        assert_eq!(tables(&s), [""; 0]);
        let by_hand = Sandbox::without_tables(backend);
        by_hand.database().sql(&sql);
        s.duly(["migrate"]).stdout_has("ran").status(0);
        let mut migrated = columns(&s);
        assert!(migrated.remove("duly_migration").is_some());
        assert_eq!(columns(&by_hand), migrated);
        s.duly(["migrate", "--dry-run"]).stdout("-- nothing to do\n").status(0);
    }

    fn the_shops_own_tables_are_left_alone(backend: Backend) {
        let s = Sandbox::without_tables(backend);
        s.database().sql(
            "CREATE TABLE job (id INTEGER PRIMARY KEY); INSERT INTO job VALUES (7); \
             CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY); \
             INSERT INTO __diesel_schema_migrations VALUES ('20990101')",
        );
        s.duly(["migrate"]).stdout_has("ran").status(0);
        assert_eq!(s.database().value("SELECT id FROM job"), "7");
        assert_eq!(s.database().value("SELECT version FROM __diesel_schema_migrations"), "20990101");
    }

    /// Also while another one does the same: both end well, and it is done once.
    fn two_migrations_at_once_are_fine(backend: Backend) {
        let s = Sandbox::without_tables(backend);
        let runs = [(); 8].map(|()| s.duly(["migrate"]).spawn());
        for run in runs {
            let output = run.wait();
            assert!(output.status.success() && output.stderr.is_empty(), "{output}");
        }
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_migration"), "4");
    }

    fn a_name_alone_is_enough_and_the_rest_is_as_configured(s: Sandbox) {
        prepare(&s);
        let id = insert(&s, "name", "'write'");
        let row = "SELECT state, created_at IS NOT NULL, attempts FROM duly_job";
        assert_eq!(s.database().rows(row), [["new", "1", "0"].map(|text| Some(text.to_owned()))]);
        s.duly(["run"]).status(0);
        assert_eq!(s.read("words"), "tmp\0\0\0");
        let job = s.json(["show", &id, "--json"]);
        let found = ["state", "queue", "priority", "params", "max_attempts", "attempts"]
            .map(|key| job[key].to_string());
        assert_eq!(found, ["\"success\"", "\"orders\"", "7", "[\"tmp\"]", "4", "1"]);
    }

    fn what_the_application_says_wins(s: Sandbox) {
        prepare(&s);
        let values =
            r#"'write', '["a b", "", "it''s"]', 'default', -9, '2026-01-01 00:00:00', 'T', '7', 'k'"#;
        let id =
            insert(&s, "name, params, queue, priority, run_at, target_type, target_id, unique_key", values);
        s.duly(["run"]).status(0);
        assert_eq!(s.read("words"), "a b\0\0it's\0T\x007\0");
        let job = s.json(["show", &id, "--json"]);
        let found = ["state", "queue", "priority", "run_at", "target_type"].map(|key| job[key].to_string());
        assert_eq!(found, ["\"success\"", "\"default\"", "-9", "\"2026-01-01T00:00:00.000000Z\"", "\"T\""]);
    }

    fn a_row_for_later_waits_for_its_time(s: Sandbox) {
        prepare(&s);
        let id = insert(&s, "name, run_at", "'append', '2999-01-01 00:00:00'");
        s.duly(["run"]).status(0);
        assert_eq!((state_of(&s, &id), s.read("order")), ("delayed".into(), String::new()));
    }

    fn priorities_of_rows_are_heeded(s: Sandbox) {
        prepare(&s);
        for (priority, word) in [(-3, "last"), (5, "second"), (100, "first")] {
            insert(&s, "name, params, priority", &format!("'append', '[\"{word}\"]', {priority}"));
        }
        s.duly(["run", "--concurrency", "1"]).status(0);
        assert_eq!(s.read("order"), "first\nsecond\nlast\n");
    }

    fn dependents_are_put_in_for_a_row_too(s: Sandbox) {
        prepare(&s);
        insert(&s, "name", "'import'");
        s.duly(["run"]).status(0);
        assert_eq!(s.read("order"), "import\nindex\n");
    }

    fn a_row_is_taken_in_only_with_its_transaction(s: Sandbox) {
        prepare(&s);
        s.duly(["run"]).status(0);
        let mut session = s.database().connect();
        session.sql("BEGIN; INSERT INTO duly_job (name, params) VALUES ('append', '[\"undone\"]'); ROLLBACK");
        s.duly(["run"]).status(0);
        session.sql("BEGIN; INSERT INTO duly_job (name, params) VALUES ('append', '[\"done\"]')");
        if s.database().backend() == Backend::MariaDb {
            // Nor does the tick wait for it.
            s.duly(["run"]).limit(std::time::Duration::from_secs(20)).status(0);
        }
        assert_eq!(s.read("order"), "");
        session.sql("COMMIT");
        s.duly(["run"]).status(0);
        assert_eq!(s.read("order"), "done\n");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "1");
    }

    fn a_row_that_can_never_run_ends_as_failed_and_says_why(s: Sandbox) {
        prepare(&s);
        let bad = [
            ("name, params", "'append', 'not json'", "expected a JSON array"),
            ("name, params", "'append', '{\"a\": 1}'", "expected a JSON array"),
            ("name, params", "'append', '[[1]]'", "expected a JSON array"),
            ("name, params", "'append', ''", "expected a JSON array"),
            ("name, params", "'append', '[\"\\\\u0000\"]'", "NUL"),
            ("name, priority", "'append', 999", "priority 999"),
            ("name, priority", "'append', -101", "priority -101"),
        ];
        // The two dialects differ in what a backslash is in a string.
        let values = |values: &str| match s.database().backend() {
            Backend::Sqlite => values.replace("\\\\", "\\"),
            Backend::MariaDb => values.to_owned(),
        };
        let ids = bad.map(|(columns, row, _)| insert(&s, columns, &values(row)));
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).output();
        assert!(output.status.success(), "{output}");
        for ((_, row, why), id) in bad.iter().zip(&ids) {
            let job = s.json(["show", id, "--json"]);
            assert_eq!((&job["state"], &job["outcome"]), (&"failed".into(), &"not_started".into()), "{row}");
            assert!(job["reason"].as_str().unwrap().contains(why) && job["finished_at"].is_string(), "{job}");
        }
        assert_eq!(s.read("order"), "fine\n");
    }

    fn a_row_of_a_name_that_is_not_declared_is_left_alone_and_told(s: Sandbox) {
        prepare(&s);
        let (bad, good) =
            (insert(&s, "name", "'appendd'"), insert(&s, "name, params", "'append', '[\"x\"]'"));
        let run = s
            .duly(["run"])
            .stderr_has("no job is called `appendd`")
            .stderr_has("did you mean `append`?")
            .status(0);
        assert_eq!(
            (run.stderr.lines().count(), run.stderr.starts_with("duly: warning: ")),
            (1, true),
            "{}",
            run.stderr
        );
        assert_eq!((state_of(&s, &bad), state_of(&s, &good)), ("new".into(), "success".into()));
        s.set_jobs(&JOBS.replace("append:", "appendd:"));
        s.duly(["run"]).status(0);
        assert_eq!(state_of(&s, &bad), "success");
    }

    /// Else it would wait for ever, and nobody would know.
    fn a_row_of_a_queue_that_is_not_declared_is_told_or_failed(s: Sandbox) {
        prepare(&s);
        let id = insert(&s, "name, queue", "'append', 'ordrs'");
        let output = s.duly(["run"]).output();
        let job = s.json(["show", &id, "--json"]);
        let is_told = output.stderr.contains("ordrs")
            || job["reason"].as_str().is_some_and(|reason| reason.contains("ordrs"));
        assert!(is_told, "job: {job}\n{output}");
    }

    fn a_unique_key_is_taken_until_its_job_has_ended(s: Sandbox) {
        prepare(&s);
        let ignore = if s.database().backend() == Backend::Sqlite { "OR IGNORE" } else { "IGNORE" };
        let insert_again = || {
            s.database()
                .sql(&format!("INSERT {ignore} INTO duly_job (name, unique_key) VALUES ('append', 'one')"));
            s.database().value("SELECT COUNT(*) FROM duly_job")
        };
        assert_eq!([insert_again(), insert_again()], ["1", "1"]);
        s.duly(["run"]).status(0);
        assert_eq!([insert_again(), insert_again()], ["2", "2"]);
    }
}

#[test]
fn both_dialects_have_the_same_tables_and_columns() {
    let [sqlite, mariadb] = [Backend::Sqlite, Backend::MariaDb].map(Sandbox::new);
    prepare(&sqlite);
    assert!(columns(&sqlite)["duly_job"].len() > 20);
    assert_eq!(columns(&sqlite), columns(&mariadb));
}

#[test]
fn sqlite_migrates_by_itself() {
    for arguments in
        [&["run"][..], &["list"], &["enqueue", "append"], &["run-job", "append"], &["jobs"], &["clean-up"]]
    {
        let s = Sandbox::without_tables(Backend::Sqlite).jobs(JOBS);
        let output = s.duly(arguments).output();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output}");
        assert_eq!(s.database().value("SELECT MAX(name) FROM duly_migration"), LATEST);
    }
}

/// Many first ticks at once are what a fresh crontab on a container gives.
#[test]
fn sqlite_migrates_once_however_many_start() {
    let s = Sandbox::without_tables(Backend::Sqlite).jobs(JOBS);
    for run in [(); 8].map(|()| s.duly(["enqueue", "append"]).spawn()) {
        let output = run.wait();
        assert!(output.status.success() && output.stderr.is_empty(), "{output}");
    }
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "8");
}

/// SQLite holds any text in any column: one row must not stop everything.
#[test]
fn a_row_with_a_time_that_is_none_does_not_stop_the_others_on_sqlite() {
    let s = Sandbox::new(Backend::Sqlite);
    prepare(&s);
    insert(&s, "name, run_at", "'append', 'tomorrow'");
    insert(&s, "name, run_at", "'append', ''");
    insert(&s, "name, params, run_at", "'append', '[\"fine\"]', '2026-01-01T00:00:00Z'");
    let output = s.duly(["run"]).output();
    assert!(output.status.success(), "{output}");
    assert!(s.read("order").contains("fine\n"), "{output}");
    s.duly(["list"]).stdout_has("append").status(0);
}

/// What most programs write as a time; compared as text it would be later than any other time of its day.
#[test]
fn a_time_as_rfc_3339_is_understood_on_sqlite() {
    let s = Sandbox::new(Backend::Sqlite);
    prepare(&s);
    s.database().sql(
        "INSERT INTO duly_job (name, params, run_at) VALUES \
         ('append', '[\"x\"]', strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-2 seconds'))",
    );
    s.duly(["run"]).status(0);
    assert_eq!(s.read("order"), "x\n", "{}", s.json(["list", "--json"]));
}

/// Nor one of an application whose session lets MariaDB take what is no time, as many a PHP application's does.
#[test]
fn a_row_with_a_time_that_is_none_does_not_stop_the_others_on_mariadb() {
    let s = Sandbox::new(Backend::MariaDb);
    prepare(&s);
    s.database().sql("SET sql_mode = ''; INSERT INTO duly_job (name, run_at) VALUES ('append', '')");
    insert(&s, "name, params", "'append', '[\"fine\"]'");
    let output = s.duly(["run"]).output();
    assert!(output.status.success(), "{output}");
    assert!(s.read("order").contains("fine\n"), "{output}");
    s.duly(["list"]).stdout_has("append").status(0);
}

#[test]
fn a_runner_needs_no_more_than_the_documented_grants() {
    let s = Sandbox::new(Backend::MariaDb);
    prepare(&s);
    let user = User::as_documented(&s, "duly");
    let duly = |arguments: &[&str]| s.duly(arguments).env("DATABASE_URL", user.url.as_str());
    insert(&s, "name, params", "'append', '[\"x\"]'");
    duly(&["enqueue", "import"]).stdout_has("\n").status(0);
    duly(&["run"]).status(0);
    duly(&["run-job", "append", "--", "y"]).status(0);
    duly(&["clean-up"]).status(0);
    duly(&["migrate", "--status"]).stdout_has(MIGRATION).status(0);
    let mut order: Vec<String> = s.read("order").lines().map(String::from).collect();
    order.sort();
    assert_eq!(order, ["import", "index", "x", "y"]);
}

/// Whatever zone and modes the application's session has: what the database fills in is UTC.
#[test]
fn the_time_of_a_row_is_utc_in_every_zone() {
    let s = Sandbox::new(Backend::MariaDb);
    prepare(&s);
    for zone in ["+05:30", "-11:00"] {
        let mut session = s.database().connect();
        session.sql(&format!(
            "SET time_zone = '{zone}', sql_mode = ''; INSERT INTO duly_job (name) VALUES ('append')"
        ));
    }
    let off =
        "SELECT COUNT(*) FROM duly_job WHERE ABS(TIMESTAMPDIFF(SECOND, created_at, UTC_TIMESTAMP())) > 120";
    assert_eq!(s.database().value(off), "0");
    s.duly(["run"]).status(0);
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "2");
}

/// A tick that is already running takes rows in as they come.
#[test]
fn a_row_inserted_while_a_tick_runs_is_taken_in_by_it() {
    let s = Sandbox::new(Backend::MariaDb);
    s.set_jobs(&format!(
        "{JOBS}  hold: {{command: [sh, -c, 'until [ -e order ]; do sleep 0.05; done']}}\n\
         runner: {{concurrency: 2}}\n"
    ));
    s.duly(["enqueue", "hold"]).stdout_has("\n").status(0);
    let run = s.duly(["run"]).spawn();
    wait_until("it runs", std::time::Duration::from_secs(30), || {
        s.database().value("SELECT state FROM duly_job") == "running"
    });
    insert(&s, "name, params", "'append', '[\"x\"]'");
    let output = run.wait();
    assert!(output.status.success() && output.stderr.is_empty(), "{output}");
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "2");
}
