//! What whoever may insert rows can do, and cannot: with the grants that the README documents, with more than these, and in
//! SQLite, which knows no users. Whatever a row holds starts only what is declared, and harms no other row.

use std::time::Duration;

use crate::support::{Backend, Sandbox, User, on_every_database};

const JOBS: &str = r#"
queues: {orders: {}}
hooks: {on_failure: [sh, -c, 'echo hook >> started']}
jobs:
  append: {command: [sh, -c, 'echo "$1" >> started', sh], params: [declared]}
  fail: {command: ["false"], max_attempts: 1}
  guarded: {command: [touch, --], max_attempts: 1}
  about: {command: [sh, -c, 'printf "%s|" "$1" "$DULY_TARGET_ID" > words', sh, '--id={target_id}'], max_attempts: 1}
"#;

#[track_caller]
fn prepare(s: &Sandbox) {
    s.set_jobs(JOBS);
    s.json(["list", "--json"]);
}

/// A text as SQL, whatever it holds.
fn quoted(s: &Sandbox, text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    match s.database().backend() {
        Backend::Sqlite => format!("CAST(x'{hex}' AS TEXT)"),
        Backend::MariaDb => format!("CONVERT(x'{hex}' USING utf8mb4)"),
    }
}

#[track_caller]
fn insert(s: &Sandbox, columns: &str, values: &str) -> String {
    s.database().sql(&format!("INSERT INTO duly_job ({columns}) VALUES ({values})"));
    s.database().value("SELECT MAX(id) FROM duly_job")
}

/// The columns that the README says are open to applications.
const OPEN: [&str; 8] =
    ["name", "params", "queue", "priority", "run_at", "target_type", "target_id", "unique_key"];

/// Seen failing with `state` among the columns of the README's grant, and with `SELECT` beside `INSERT` in it.
#[test]
fn a_producer_with_the_documented_grants_can_insert_its_columns_and_nothing_else() {
    let s = Sandbox::new(Backend::MariaDb);
    prepare(&s);
    s.duly(["enqueue", "append", "--", "the secret of another"]).stdout("1\n").status(0);
    s.duly(["run"]).status(0);
    let shop = User::as_documented(&s, "shop_app");
    shop.try_sql(
        "START TRANSACTION; INSERT INTO duly_job (name, params, queue, priority, run_at, target_type, target_id, unique_key) \
         VALUES ('append', '[\"all\"]', 'orders', 5, '2026-01-01 00:00:00', 'T', '7', 'k'); COMMIT",
    )
    .unwrap();
    shop.try_sql("INSERT INTO duly_job (name, params) VALUES ('append', '[\"two\"]')").unwrap();

    let columns = s.database().rows(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'duly_job'",
    );
    let columns: Vec<String> = columns.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
    assert!(columns.len() > 20 && OPEN.iter().all(|open| columns.iter().any(|column| column == open)));
    let mut refused: Vec<String> = Vec::new();
    for column in columns.iter().filter(|column| !OPEN.contains(&column.as_str())) {
        refused.push(format!("INSERT INTO duly_job (name, {column}) VALUES ('append', 1)"));
        refused.push(format!("INSERT INTO duly_job SET name = 'append', {column} = DEFAULT"));
    }
    let tables =
        s.database().rows("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()");
    for table in tables.into_iter().map(|mut row| row.remove(0).unwrap()) {
        refused.extend([
            format!("SELECT * FROM {table}"),
            format!("SELECT COUNT(*) FROM {table}"),
            format!("DELETE FROM {table}"),
            format!("DROP TABLE {table}"),
            format!("TRUNCATE TABLE {table}"),
            format!("ALTER TABLE {table} ADD COLUMN x INT"),
            format!("LOCK TABLES {table} WRITE"),
            format!("INSERT INTO duly_job (name, params) SELECT 'append', 'x' FROM {table} LIMIT 1"),
        ]);
        if !["duly_job", "duly_content_change", "duly_lost_order"].contains(&table.as_str()) {
            refused.push(format!("INSERT INTO {table} VALUES ()"));
        }
    }
    for statement in [
        "UPDATE duly_job SET priority = 1",
        "REPLACE INTO duly_job (name) VALUES ('append')",
        "INSERT INTO duly_job (name) VALUES ('append') ON DUPLICATE KEY UPDATE priority = 1",
        "INSERT INTO duly_job (name, params) VALUES ('append', (SELECT body FROM duly_output LIMIT 1))",
        "INSERT INTO duly_lost_order (order_id, payload, state) VALUES ('1', '', 'confirmed')",
        "CREATE TRIGGER t BEFORE INSERT ON duly_job FOR EACH ROW SET NEW.state = 'pending'",
        "CREATE TABLE duly_x (a INT)",
        "CREATE VIEW duly_v AS SELECT 1",
    ] {
        refused.push(statement.to_owned());
    }
    for statement in &refused {
        let err = shop.try_sql(statement).expect_err(statement);
        assert!(err.contains("denied"), "{statement}: {err}");
    }
    // RETURNING, where the server knows it, gives nothing back that could be read.
    let returning = shop.try_sql("INSERT INTO duly_job (name) VALUES ('append') RETURNING state");
    assert!(returning.is_err(), "what a row holds was given back");

    s.duly(["run"]).status(0);
    let started = s.read("started");
    let mut started: Vec<&str> = started.lines().collect();
    // The two queues have no order among them.
    started.sort_unstable();
    assert_eq!(started, ["all", "the secret of another", "two"]);
}

/// A table that the README forgets would leave `duly` unable to work as the user that it tells people to make.
#[test]
fn every_table_has_its_grant_in_the_readme() {
    let s = Sandbox::new(Backend::MariaDb);
    let readme = include_str!("../README.md");
    let tables =
        s.database().rows("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()");
    for table in tables.into_iter().map(|mut row| row.remove(0).unwrap()) {
        let is_granted = readme.lines().any(|line| {
            line.starts_with("GRANT ")
                && line.contains("TO 'duly'@'%'")
                && line.split_whitespace().any(|word| word == format!("shop.{table}"))
        });
        assert!(is_granted, "README.md has no grant on {table} for the user of `duly run`");
    }
}

on_every_database! {
    /// Seen failing with the name looked up without blanks at its end, as MySQL compares it, in `Store::adopt`.
    fn a_row_starts_what_is_declared_and_nothing_else(s: Sandbox) {
        prepare(&s);
        let names = [
            "sh", "/bin/sh", "../bin/sh", "append;touch evil", "$(touch evil)", "`touch evil`", "append ", " append",
            "APPEND", "append\u{301}", "append\n", "append\t", "on_failure@append", "on_failure@fail", "@", "", "%", "?",
            "' OR '1'='1", "append'--", "name:append", "duly", "bound", "\u{1b}[2J", "\u{202e}dneppa", "clean-up",
        ];
        for name in names {
            // Many, and of one that MySQL takes for `append` more than a batch, which would hide all that comes after them.
            let count = if name == "append " { 520 } else { 30 };
            let row = format!("({}, '[\"evil\"]')", quoted(&s, name));
            s.database().sql(&format!("INSERT INTO duly_job (name, params) VALUES {}", vec![row; count].join(", ")));
        }
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).output();
        assert!(output.status.success(), "{output}");
        assert!(output.stderr.lines().filter(|line| line.contains("left alone")).count() <= 5, "{output}");
        assert!(!output.stderr.contains(['\u{1b}', '\u{202e}']), "{output}");
        assert_eq!((s.read("started").as_str(), s.path("evil").exists()), ("fine\n", false));
        let others = "SELECT COUNT(*) FROM duly_job WHERE state <> 'new' AND started_at IS NOT NULL";
        assert_eq!(s.database().value(others), "1");
        // Rows with the name of a hook have failed, all others wait for a host that knows the name.
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'failed'"), "60");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'new'"), "1210");
    }

    /// More than there may be question marks in a statement. Seen failing with names that are not declared left out one by
    /// one: from 65,536 of them on MariaDB and 32,767 on SQLite, nothing was adopted any more.
    fn however_many_names_are_not_declared_the_others_are_taken_in(s: Sandbox) {
        prepare(&s);
        let digit = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 \
                     UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
        s.database().sql(&format!(
            "INSERT INTO duly_job (name) SELECT CONCAT('nobody-', a.d, b.d, c.d, d.d, e.d) \
             FROM {digit} a, {digit} b, {digit} c, {digit} d, {digit} e WHERE a.d < 7"
        ));
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).limit(Duration::from_secs(120)).output();
        assert!(output.status.success() && output.stderr.lines().count() <= 5, "{output}");
        assert_eq!(s.read("started"), "fine\n");
    }

    /// As SQLite lets anybody, and a grant on the whole table.
    /// Seen failing without `RESET` in `Store::adopt`.
    fn what_a_row_says_that_is_not_an_applications_to_say_is_set_back(s: Sandbox) {
        prepare(&s);
        s.duly(["enqueue", "append", "--in", "1 day"]).stdout("1\n").status(0);
        let forged = "attempts, max_attempts, fence, owner, host, lease_until, slot_key, name_slot_key, occurrence_key, \
                      scheduled_for, started_at, finished_at, duration_ms, outcome, exit_code, signal_number, reason, \
                      cancel_requested_at, root_id, retry_of, progress, progress_text, own_end, children, children_ended, \
                      time_before_stale_ms, hooks, noted_at, priority_order";
        let values = "77, 99, 5, 'me', 'h', '2000-01-01 00:00:00', 'queue:default#0', 'job:append#0', 'o', \
                      '2000-01-01 00:00:00', '2000-01-01 00:00:00', '2000-01-01 00:00:00', 7, 'success', 3, 4, 'r', \
                      '2000-01-01 00:00:00', 1, 1, 7, 't', 'success', 5, 2, 1, 'stale', '2000-01-01 00:00:00', -3000";
        let id = insert(&s, &format!("name, {forged}"), &format!("'append', {values}"));
        s.duly(["run"]).status(0);
        let job = s.json(["show", &id, "--json"]);
        for (field, expected) in [
            ("state", "\"success\""), ("attempts", "1"), ("max_attempts", "10"), ("root_id", "null"), ("retry_of", "null"),
            ("progress", "null"), ("scheduled_for", "null"), ("exit_code", "0"), ("signal", "null"), ("reason", "null"),
        ] {
            assert_eq!(job[field].to_string(), expected, "{field}: {job}");
        }
        let left = "SELECT COUNT(*) FROM duly_job WHERE fence > 1 OR children > 0 OR occurrence_key IS NOT NULL OR hooks = 'stale'";
        assert_eq!((s.database().value(left).as_str(), s.read("started").as_str()), ("0", "declared\n"));
        assert_eq!(s.database().value("SELECT children + children_ended FROM duly_job WHERE id = 1"), "0");
    }

    /// Rows in other states than `new`, which the documented grants do not let in: nothing undeclared starts, and nobody
    /// else is held up.
    fn rows_that_pretend_to_be_further_on_start_nothing_undeclared(s: Sandbox) {
        prepare(&s);
        let late = "'2000-01-01 00:00:00'";
        insert(&s, "name, params, state, queue, run_at", &format!("'sh', '[\"-c\", \"touch evil\"]', 'pending', 'default', {late}"));
        insert(&s, "name, params, state, queue, run_at", &format!("'append', 'no json', 'pending', 'default', {late}"));
        let orphan = insert(&s, "name, state, queue, owner, fence, attempts, lease_until", &format!("'append', 'running', 'default', 'me', 3, 1, {late}"));
        insert(&s, "name, state, queue, owner, lease_until", &format!("'sh', 'running', 'default', 'me', {late}"));
        let done = insert(&s, "name, state, queue, finished_at", &format!("'sh', 'success', 'default', {late}"));
        let waiting = insert(&s, "name, state, queue, lease_until", &format!("'append', 'waiting', 'default', {late}"));
        s.database().sql(&format!("INSERT INTO duly_dependency (job_id, prerequisite_id) VALUES ({waiting}, {done})"));
        insert(&s, "name, state, queue, priority, priority_order, run_at", &format!("'append', 'pending', 'default', 32000, -32000, {late}"));
        let output = s.duly(["run"]).output();
        assert!(output.status.success(), "{output}");
        assert!(!s.path("evil").exists());
        // Of a name that is declared all of these may start it: that is what inserting is for.
        assert!(s.read("started").lines().all(|line| line == "declared" || line.is_empty()), "{}", s.read("started"));
        let open = "SELECT COUNT(*) FROM duly_job WHERE name = 'append' AND state NOT IN ('success', 'failed', 'delayed')";
        assert_eq!(s.database().value(open), "0", "{output}");
        let attempts = "SELECT outcome FROM duly_attempt WHERE job_id = ";
        assert_eq!(s.database().value(&format!("{attempts}{orphan}")), "orphaned");
    }

    /// A command that takes options reads a param that begins with `-` as one; after `--`, which its definition ends with,
    /// it does not. Duly itself never takes one for its own.
    fn a_param_that_begins_with_a_dash_is_a_word_for_the_command_alone(s: Sandbox) {
        prepare(&s);
        let params = ["--reference=jobs.yaml", "-v", "--", "-rf", "--database-url=x"];
        let json = serde_json::to_string(&params).unwrap();
        insert(&s, "name, params", &format!("'guarded', '{json}'"));
        s.duly(["run"]).status(0);
        assert!(params.iter().all(|param| s.path(param).exists()), "{}", s.json(["list", "--json"]));
        let id = insert(&s, "name, target_id", "'about', '--evil {target_type} $(touch evil)'");
        s.duly(["run"]).status(0);
        let job = s.json(["show", &id, "--json"]);
        assert_eq!(job["state"], "success", "{job}");
        assert_eq!(s.read("words"), "--id=--evil {target_type} $(touch evil)|--evil {target_type} $(touch evil)|");
        assert!(!s.path("evil").exists());
    }

    /// MariaDB's utf8mb4 takes an encoded surrogate, and SQLite any bytes. Seen failing with texts read as diesel reads them: one
    /// such row, and nothing was adopted or listed any more.
    fn bytes_that_are_no_text_are_escaped_and_hold_nobody_up(s: Sandbox) {
        prepare(&s);
        let bad = if s.database().backend() == Backend::Sqlite { "CAST(x'ff4100eda080' AS TEXT)" } else { "x'4142eda080'" };
        let mut taken = 0;
        for values in ["target_id", "target_type", "params", "unique_key"] {
            let statement = format!("INSERT INTO duly_job (name, {values}) VALUES ('append', {bad})");
            taken += u32::from(s.database().try_sql(&statement));
        }
        taken += u32::from(s.database().try_sql(&format!("INSERT INTO duly_job (name) VALUES ({bad})")));
        // MySQL itself refuses them.
        let is_mysql = s.database().backend() == Backend::MariaDb && !s.database().value("SELECT VERSION()").contains("MariaDB");
        assert_eq!(taken, if is_mysql { 0 } else { 5 });
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).output();
        assert!(output.status.success(), "{output}");
        assert!(s.read("started").contains("fine\n"), "{output}");
        if is_mysql {
            return;
        }
        let list = s.json(["list", "--json"]);
        let job = &list.as_array().unwrap()[5];
        assert!(job["target_id"].as_str().unwrap().ends_with("\\xED\\xA0\\x80"), "{job}");
        s.duly(["list"]).stdout_has("append").status(0);
        s.duly(["show", "1"]).stdout_has("\\xED").status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'failed' AND reason LIKE '%params%'"), "1");
    }

    /// Seen failing without the `'+0 seconds'` in `readable` of `src/db/dialect.rs`: such a row was adopted on SQLite,
    /// and nothing could be listed any more.
    fn a_time_that_no_clock_shows_hides_no_other_job(s: Sandbox) {
        prepare(&s);
        for time in ["2000-01-02 24:00:00", "2026-02-30 00:00:00", "-4713-11-24 12:00:00", "9999-12-31 23:59:59.999999", "0000-01-01", "now", "1e9"] {
            // A server may refuse it.
            s.database().try_sql(&format!("INSERT INTO duly_job (name, run_at) VALUES ('append', '{time}')"));
        }
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).output();
        assert!(output.status.success() && s.read("started").contains("fine\n"), "{output}");
        s.json(["list", "--json"]);
    }

    /// Who may write the column may write anything. Seen failing with it taken for milliseconds that there are: each tick panics.
    fn a_length_that_no_clock_can_reckon_with_stops_no_tick(s: Sandbox) {
        prepare(&s);
        for length in ["-9223372036854775808", "9000000000000000", "9223372036854775807"] {
            let root = insert(
                &s,
                "name, state, queue, priority, fence, lease_until, time_before_stale_ms, children",
                &format!("'append', 'running', 'default', 0, 1, '2020-01-01 00:00:00', {length}, 1"),
            );
            insert(&s, "name, state, queue, priority, run_at, root_id", &format!("'append', 'delayed', 'default', 0, '2999-01-01 00:00:00', {root}"));
        }
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).output();
        assert!(output.status.success() && s.read("started").contains("fine\n"), "{output}");
        s.duly(["run"]).output();
        assert!(s.duly(["list"]).output().status.success());
    }

    /// Megabytes are refused by their length, without being read, and neither run nor listed.
    /// Seen failing without the limit in `Store::adopt`, which then read them, and with params of any length in `Store::list`.
    fn params_of_any_size_are_refused_and_hold_nothing_up(s: Sandbox) {
        prepare(&s);
        let times = if s.database().backend() == Backend::Sqlite { "REPLACE(HEX(ZEROBLOB(4000000)), '00', 'ab')" } else { "REPEAT('ab', 4000000)" };
        for _ in 0..20 {
            s.database().sql(&format!("INSERT INTO duly_job (name, params) VALUES ('append', CONCAT('[\"', {times}, '\"]'))"));
        }
        // Too long for one word of a command line, though not for Duly.
        let long = insert(&s, "name, params", &format!("'append', CONCAT('[\"', SUBSTR({times}, 1, 900000), '\"]')"));
        insert(&s, "name, params", "'append', '[\"fine\"]'");
        let output = s.duly(["run"]).output();
        assert!(output.status.success() && output.stderr.len() < 20_000, "{output}");
        assert_eq!(s.read("started"), "fine\n");
        let list = s.json(["list", "--json"]);
        let why = list.as_array().unwrap().iter().filter(|job| job["reason"].as_str().is_some_and(|why| why.contains("1 MiB")));
        assert_eq!(why.count(), 20);
        let job = s.json(["show", &long, "--json"]);
        assert_eq!(job["outcome"], "not_started", "{}", job["reason"]);
    }
}
