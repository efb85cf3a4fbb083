//! From one version of the tables to the next: nothing of what is there is lost, whoever is too old or too new says so in one
//! line, and a runner at work meanwhile ends what it has.
//!
//! The versions are the folders of `migrations/`, whichever there are: each is a database that an older Duly left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Backend, Sandbox, User, on_every_database, wait_until};

const JOBS: &str = "jobs:\n  echo: {command: [sh, -c, 'echo said']}\n  \
                    wait: {command: [sh, -c, 'until [ -e go ]; do sleep 0.05; done; echo went']}\nrunner: {concurrency: 1, lease: 5s}\n";

const SOON: Duration = Duration::from_secs(60);

/// The names of the migrations of one dialect, oldest first.
fn versions(backend: Backend) -> Vec<String> {
    let folder = match backend {
        Backend::Sqlite => "migrations/sqlite",
        Backend::MariaDb => "migrations/mysql",
    };
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text_of(backend: Backend, version: &str) -> String {
    let dialect = if backend == Backend::Sqlite { "sqlite" } else { "mysql" };
    let path = format!("{}/migrations/{dialect}/{version}/up.sql", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

fn number_of(version: &str) -> String {
    version.split('_').next().unwrap().replace('-', "")
}

/// Brings an empty database to a version as a Duly of that version would have.
fn make_as_of(s: &Sandbox, version: &str) {
    let backend = s.database().backend();
    s.database().sql(
        "CREATE TABLE IF NOT EXISTS duly_migration (version VARCHAR(50) NOT NULL PRIMARY KEY, name VARCHAR(190) NOT NULL, \
         run_at VARCHAR(26) NOT NULL)",
    );
    for name in versions(backend).iter().filter(|name| name.as_str() <= version) {
        s.database().sql(&text_of(backend, name));
        s.database().sql(&format!(
            "INSERT INTO duly_migration (version, name, run_at) VALUES ('{}', '{name}', '2026-01-01 00:00:00.000000')",
            number_of(name)
        ));
    }
}

/// What the Dulys of each version wrote: jobs in every state and all that belongs to them.
const ROWS: &[(&str, &str)] = &[
    (
        "duly_job",
        "(id, name, params, state, queue, priority, priority_order, run_at, target_type, target_id, unique_key, \
      occurrence_key, scheduled_for, attempts, max_attempts, fence, owner, host, lease_until, created_at, started_at, finished_at, \
      duration_ms, outcome, exit_code, reason) VALUES \
      (1, 'echo', '[\"a\"]', 'success', 'default', 5, -5, '2026-01-01 00:00:00.123456', 'T', 'ä', NULL, 'echo|1', '2026-01-01 00:00:00', 2, 10, 2, NULL, 'web1', NULL, '2026-01-01 00:00:00.123456', '2026-01-01 00:00:01', '2026-01-01 00:00:02', 1000, 'success', 0, NULL), \
      (2, 'echo', '[]', 'failed', 'default', 0, 0, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, 3, 3, 3, NULL, 'web1', NULL, '2026-01-01 00:00:00', '2026-01-01 00:00:01', '2026-01-01 00:00:02', 1000, 'exited', 7, 'why'), \
      (3, 'echo', '[]', 'cancelled', 'default', 0, 0, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, 0, 3, 0, NULL, NULL, NULL, '2026-01-01 00:00:00', NULL, '2026-01-01 00:00:02', NULL, 'cancelled', NULL, 'by user 0 on web1'), \
      (4, 'echo', '[]', 'stale', 'default', 0, 0, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, 1, 3, 1, NULL, 'web1', NULL, '2026-01-01 00:00:00', '2026-01-01 00:00:01', '2026-01-01 00:00:02', NULL, 'orphaned', NULL, NULL), \
      (5, 'echo', '[\"b\"]', 'pending', 'default', 0, 0, '2026-01-01 00:00:00', NULL, NULL, 'key', NULL, NULL, 0, 10, 0, NULL, NULL, NULL, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, NULL), \
      (6, 'echo', '[]', 'delayed', 'default', 0, 0, '2999-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, 1, 10, 1, NULL, 'web1', NULL, '2026-01-01 00:00:00', '2026-01-01 00:00:01', NULL, 5, 'exited', 1, NULL), \
      (7, 'echo', '[]', 'waiting', 'default', 0, 0, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, 0, 10, 0, NULL, NULL, NULL, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, NULL), \
      (8, 'echo', '[]', 'running', 'default', 0, 0, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, 1, 10, 4, '0123456789abcdef', 'web9', '2026-01-01 00:01:00', '2026-01-01 00:00:00', '2026-01-01 00:00:01', NULL, NULL, NULL, NULL, NULL), \
      (9, 'echo', NULL, 'new', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0, NULL, NULL, NULL, '2026-01-01 00:00:00', NULL, NULL, NULL, NULL, NULL, NULL)",
    ),
    (
        "duly_attempt",
        "(job_id, fence, attempt, owner, host, started_at, finished_at, duration_ms, outcome, exit_code) VALUES \
      (1, 1, 1, 'o', 'web1', '2026-01-01 00:00:01', '2026-01-01 00:00:02', 1000, 'exited', 1), \
      (1, 2, 2, 'o', 'web1', '2026-01-01 00:00:01', '2026-01-01 00:00:02', 1000, 'success', 0)",
    ),
    (
        "duly_output",
        "(job_id, fence, body, truncated, updated_at) VALUES (1, 1, 'grüße\n', 0, '2026-01-01 00:00:02'), (1, 2, 'old output\n', 7, '2026-01-01 00:00:02')",
    ),
    ("duly_dependency", "(job_id, prerequisite_id, `on`) VALUES (7, 6, 'always')"),
    (
        "duly_schedule",
        "(name, signature, mark_at, next_at, last_job_id) VALUES ('nightly', '0 2 * * *', '2026-01-01 00:00:00', '2999-01-01 02:00:00', 1)",
    ),
    (
        "duly_runner",
        "(host, last_tick_at, schedules_digest, version) VALUES ('web1', '2026-01-01 00:00:00', 'x', '0.0.1')",
    ),
    (
        "duly_pause",
        "(scope, paused_at, until_at, paused_by, reason) VALUES ('job:other', '2026-01-01 00:00:00', NULL, 'user 0', 'because')",
    ),
    ("duly_content_change", "(content_id, action) VALUES ('1', 'publish'), ('2', 'delete')"),
    (
        "duly_content_change_given",
        "(source, change_id, processor, digest) VALUES ('duly_content_change', 1, 'p', -5)",
    ),
    ("duly_lost_order", "(order_id, payload, state) VALUES ('A1', 'x', 'lost'), ('A2', '', 'confirmed')"),
    (
        "duly_lost_order_attempt",
        "(source, order_id, attempt, owner, started_at, failures) VALUES ('duly_lost_order', 'A1', 1, 'o', '2026-01-01 00:00:00', 1)",
    ),
    (
        "duly_session_stat",
        "(measured_at, active_5m, active_30m, active_24h, total) VALUES ('2026-01-01 00:00:00', 1, 2, 3, 4)",
    ),
];

/// The columns of each table.
fn columns(s: &Sandbox) -> BTreeMap<String, Vec<String>> {
    let query = match s.database().backend() {
        Backend::Sqlite => {
            "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' \
             AND m.name LIKE 'duly%' ORDER BY m.name, p.cid"
        }
        Backend::MariaDb => {
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE() \
             ORDER BY table_name, ordinal_position"
        }
    };
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mut row in s.database().rows(query) {
        let (column, table) = (row.pop().unwrap().unwrap(), row.pop().unwrap().unwrap());
        columns.entry(table).or_default().push(column);
    }
    columns
}

/// The indexes, each as its table and columns, whatever they are called.
fn indexes(s: &Sandbox) -> Vec<Vec<Option<String>>> {
    s.database().rows(match s.database().backend() {
        Backend::Sqlite => {
            "SELECT m.tbl_name, l.name, l.\"unique\", x.seqno, x.name FROM (SELECT DISTINCT tbl_name FROM sqlite_master \
             WHERE tbl_name LIKE 'duly%') m JOIN pragma_index_list(m.tbl_name) l JOIN pragma_index_info(l.name) x ORDER BY 1, 2, 4"
        }
        Backend::MariaDb => {
            "SELECT table_name, index_name, non_unique, seq_in_index, column_name FROM information_schema.statistics \
             WHERE table_schema = DATABASE() ORDER BY 1, 2, 4"
        }
    })
}

/// Every value of these columns; each table's rows in the order of their texts.
fn contents(
    s: &Sandbox,
    columns: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Vec<Vec<Option<String>>>> {
    let tables = columns.iter().filter(|(table, _)| *table != "duly_migration");
    tables
        .map(|(table, columns)| {
            let list: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
            let mut rows = s.database().rows(&format!("SELECT {} FROM {table}", list.join(", ")));
            rows.sort();
            (table.clone(), rows)
        })
        .collect()
}

/// Puts rows into every table that is there; where [`ROWS`] has none, one with what the table demands.
fn fill(s: &Sandbox) {
    let tables = columns(s);
    for (table, rows) in ROWS.iter().filter(|(table, _)| tables.contains_key(*table)) {
        s.database().sql(&format!("INSERT INTO {table} {rows}"));
    }
    for table in tables.keys().filter(|table| *table != "duly_migration") {
        if s.database().value(&format!("SELECT COUNT(*) FROM {table}")) == "0" {
            let demanded = demanded(s, table);
            let (names, values): (Vec<String>, Vec<&str>) = demanded.into_iter().unzip();
            s.database().sql(&format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                names.join(", "),
                values.join(", ")
            ));
        }
    }
}

/// The columns that a row of a table must name, each with a value of its kind.
fn demanded(s: &Sandbox, table: &str) -> Vec<(String, &'static str)> {
    let query = match s.database().backend() {
        Backend::Sqlite => format!(
            "SELECT name, CASE WHEN name = 'at' OR name LIKE '%\\_at' ESCAPE '\\' THEN 'datetime' ELSE lower(type) END \
             FROM pragma_table_info('{table}') WHERE \"notnull\" = 1 AND dflt_value IS NULL AND NOT (pk = 1 AND type = 'INTEGER')"
        ),
        Backend::MariaDb => format!(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name = '{table}' AND is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%'"
        ),
    };
    let value = |kind: &str| match kind {
        kind if kind.contains("int") => "7",
        "datetime" => "'2026-01-01 00:00:00.000000'",
        _ => "'x'",
    };
    let row = |row: Vec<Option<String>>| {
        (format!("`{}`", row[0].clone().unwrap()), value(row[1].as_deref().unwrap()))
    };
    s.database().rows(&query).into_iter().map(row).collect()
}

on_every_database! {
    /// Seen failing with a later migration that sets `reason` of all jobs to NULL.
    fn a_database_of_each_version_is_migrated_with_its_rows_intact(backend: Backend) {
        let fresh = Sandbox::new(backend);
        fresh.json(["list", "--json"]);
        for version in versions(backend) {
            let s = Sandbox::without_tables(backend).jobs(JOBS);
            make_as_of(&s, &version);
            fill(&s);
            let (old_columns, is_newest) = (columns(&s), Some(&version) == versions(backend).last());
            let before = contents(&s, &old_columns);
            if backend == Backend::MariaDb && !is_newest {
                for arguments in [&["run"][..], &["list"], &["enqueue", "echo"], &["run-job", "echo"], &["show", "1"]] {
                    let run = s.duly(arguments).stdout("").stderr_has("run `duly migrate`").status(1);
                    assert_eq!(run.stderr.lines().count(), 1, "{arguments:?}: {}", run.stderr);
                }
                assert_eq!(contents(&s, &old_columns), before);
            }
            let migrated = s.duly(["migrate"]).output();
            assert!(migrated.status.success() && migrated.stderr.is_empty(), "{version}: {migrated}");
            for later in versions(backend).iter().filter(|name| **name > version) {
                assert!(migrated.stdout.contains(&format!("ran {later}\n")), "{version}: {migrated}");
            }
            assert_eq!(contents(&s, &old_columns), before, "{version}");
            assert_eq!((columns(&s), indexes(&s)), (columns(&fresh), indexes(&fresh)), "{version}");

            // And it all goes on from there.
            let shown = s.json(["show", "1", "--json"]);
            assert_eq!((&shown["output"], &shown["attempts"]), (&"old output\n".into(), &2.into()), "{shown}");
            let output = s.duly(["run"]).output();
            assert!(output.status.success(), "{version}: {output}");
            let states = s.database().rows("SELECT state FROM duly_job ORDER BY id");
            let states: Vec<&str> = states.iter().map(|row| row[0].as_deref().unwrap()).collect();
            // The machine of the running one is gone: its attempt is an orphan, and it is tried again.
            let expected = ["success", "failed", "cancelled", "stale", "success", "delayed", "waiting", "success", "success"];
            assert_eq!(states, expected, "{version}: {output}");
        }
    }

    /// An older runner is this program to a database that has got a version it does not know, and what a migration may do: add.
    /// Seen failing without `make_way` in `src/runner/drain.rs`: it then went on with the second job.
    fn a_runner_at_work_while_a_newer_duly_migrates_ends_what_it_has_and_starts_nothing_more(s: Sandbox) {
        s.set_jobs(JOBS);
        s.duly(["enqueue", "wait"]).stdout("1\n").status(0);
        s.duly(["enqueue", "echo"]).stdout("2\n").status(0);
        let run = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.database().value("SELECT state FROM duly_job WHERE id = 1") == "running");
        s.database().sql(
            "ALTER TABLE duly_job ADD COLUMN of_a_newer_duly INT NULL; CREATE TABLE duly_of_a_newer_duly (id INT); \
             INSERT INTO duly_migration (version, name, run_at) VALUES ('99990101000000', '9999-01-01-000000_later', '2026-01-01 00:00:00.000000')",
        );
        // It looks each second; meanwhile its lease is renewed as ever.
        std::thread::sleep(Duration::from_secs(3));
        s.file("go", "");
        let output = run.wait();
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(1), 1), "{output}");
        assert!(output.stderr.contains("99990101000000 of a newer Duly"), "{output}");
        let job = "SELECT CONCAT(state, ' ', outcome, ' ', attempts) FROM duly_job WHERE id = ";
        assert_eq!(s.database().value(&format!("{job}1")), "success success 1");
        assert_eq!(s.database().value("SELECT body FROM duly_output"), "went\n");
        assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job WHERE id = 2"), "pending 0");
        for arguments in [&["run"][..], &["list"], &["enqueue", "echo"], &["run-job", "echo"], &["show", "1"], &["jobs"]] {
            let run = s.duly(arguments).stdout("").stderr_has("install the newer version").status(1);
            assert_eq!(run.stderr.lines().count(), 1, "{arguments:?}: {}", run.stderr);
        }
    }

    /// The newest migration is run again, under a runner that has a job and makes new ones meanwhile.
    fn migrate_while_a_runner_works_disturbs_nothing(s: Sandbox) {
        if s.database().backend() == Backend::Sqlite {
            // There, any command of the newer Duly migrates, within one transaction, which the runner waits for like for
            // any other: a database of the version before, and a runner of the newer Duly that comes first.
            let newest = versions(Backend::Sqlite);
            let s = Sandbox::without_tables(Backend::Sqlite).jobs(JOBS);
            make_as_of(&s, &newest[newest.len() - 2]);
            fill(&s);
            let runs = [(); 4].map(|()| s.duly(["run"]).spawn());
            for run in runs {
                let output = run.wait();
                assert!(output.status.success(), "{output}");
            }
            assert_eq!(s.database().value("SELECT state FROM duly_job WHERE id = 5"), "success");
            return;
        }
        s.set_jobs(JOBS);
        s.duly(["enqueue", "wait"]).stdout("1\n").status(0);
        let run = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.database().value("SELECT state FROM duly_job WHERE id = 1") == "running");
        let newest = versions(s.database().backend()).pop().unwrap();
        s.database().sql(&format!("DELETE FROM duly_migration WHERE name = '{newest}'"));
        let admin = User::as_documented(&s, "duly_admin");
        s.duly(["migrate"]).env("DATABASE_URL", admin.url.as_str()).stdout(&format!("ran {newest}\n")).status(0);
        for id in 2..6 {
            s.duly(["enqueue", "echo"]).stdout(&format!("{id}\n")).status(0);
        }
        s.file("go", "");
        let output = run.wait();
        assert!(output.status.success() && output.stderr.is_empty(), "{output}");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success' AND attempts = 1"), "5");
    }
}

/// Behind a change of a table that waits, everybody waits. Seen failing without `lock_wait_timeout` in `src/db/schema.rs`: the
/// server's own limit is a day.
#[test]
fn a_migration_gives_up_where_it_would_hold_everybody_up() {
    let s = Sandbox::new(Backend::MariaDb).jobs(JOBS);
    let newest = versions(Backend::MariaDb).pop().unwrap();
    let text = text_of(Backend::MariaDb, &newest);
    let changes =
        text.lines().filter(|line| line.starts_with("CREATE TABLE") || line.starts_with("ALTER TABLE"));
    let mut words = changes.flat_map(str::split_whitespace);
    let table = words.find(|word| word.starts_with("duly_")).unwrap().to_owned();
    s.database().sql(&format!("DELETE FROM duly_migration WHERE name = '{newest}'"));
    let mut session = s.database().connect();
    session.sql(&format!("LOCK TABLES {table} WRITE"));
    let began = Instant::now();
    if s.database().value("SELECT VERSION()").contains("MariaDB") {
        let run = s.duly(["migrate"]).stdout("").stderr_has("run `duly migrate` again").status(1);
        assert!(run.stderr.lines().count() == 1, "{}", run.stderr);
    } else {
        // MySQL need not wait to see that a table is there.
        s.duly(["migrate"]).stdout(&format!("ran {newest}\n")).status(0);
        s.database().sql(&format!("DELETE FROM duly_migration WHERE name = '{newest}'"));
    }
    assert!(began.elapsed() < Duration::from_secs(40));
    session.sql("UNLOCK TABLES");
    s.duly(["migrate"]).stdout(&format!("ran {newest}\n")).status(0);
}

/// A migration that was killed half-way is run again whole.
#[test]
fn a_migration_that_was_killed_can_be_run_again() {
    for version in versions(Backend::MariaDb) {
        let statements = text_of(Backend::MariaDb, &version).matches(";\n").count();
        for done in 1..=statements {
            let s = Sandbox::without_tables(Backend::MariaDb).jobs(JOBS);
            let before = versions(Backend::MariaDb).into_iter().rfind(|name| *name < version);
            if let Some(before) = before {
                make_as_of(&s, &before);
            }
            let text = text_of(Backend::MariaDb, &version);
            let part: Vec<&str> = text.split_inclusive(";\n").take(done).collect();
            s.database().sql(&part.concat());
            let output = s.duly(["migrate"]).output();
            assert!(output.status.success(), "{version} after {done} statements: {output}");
            s.duly(["enqueue", "echo"]).stdout("1\n").status(0);
        }
    }
    let s = Sandbox::without_tables(Backend::MariaDb).jobs(JOBS);
    let mut run = s.duly(["migrate"]).spawn();
    wait_until("the first table is there", SOON, || {
        run.has_ended()
            || s.database()
                .value("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()")
                != "0"
    });
    run.signal_if_alive(Signal::KILL);
    s.duly(["migrate"]).output();
    s.duly(["enqueue", "echo"]).stdout("1\n").status(0);
}

/// What an older runner is still at work with when a newer Duly migrates must stay as it is.
#[test]
fn migrations_only_add() {
    for backend in [Backend::Sqlite, Backend::MariaDb] {
        for version in &versions(backend)[1..] {
            let text = text_of(backend, version).to_uppercase();
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
            let code = code.join(" ");
            let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for word in ["DROP", "RENAME", "CHANGE", "DELETE", "TRUNCATE", "REPLACE"] {
                assert!(
                    !words.contains(&word),
                    "{version} of {backend:?} has {word}: an older runner may be at work while it is run"
                );
            }
        }
    }
}
