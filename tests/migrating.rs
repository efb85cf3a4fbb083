//! The one-off scripts of `docs/migrating.md`, each on tables as the other system makes them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use url::Url;

use crate::support::{Backend, Sandbox};

const JMS: &str = "
CREATE TABLE jms_jobs (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, state VARCHAR(15) NOT NULL, queue VARCHAR(50) NOT NULL,
  priority SMALLINT NOT NULL, createdAt DATETIME NOT NULL, startedAt DATETIME, checkedAt DATETIME, workerName VARCHAR(50),
  executeAfter DATETIME, closedAt DATETIME, command VARCHAR(255) NOT NULL, args LONGTEXT NOT NULL COMMENT '(DC2Type:json_array)',
  output LONGTEXT, errorOutput LONGTEXT, exitCode SMALLINT UNSIGNED, maxRuntime SMALLINT UNSIGNED NOT NULL,
  maxRetries SMALLINT UNSIGNED NOT NULL, stackTrace LONGBLOB, runtime SMALLINT UNSIGNED, memoryUsage INT UNSIGNED,
  memoryUsageReal INT UNSIGNED, originalJob_id BIGINT UNSIGNED, KEY cmd_search_index (command), KEY sorting_index (state, priority, id),
  FOREIGN KEY (originalJob_id) REFERENCES jms_jobs (id));
CREATE TABLE jms_job_dependencies (source_job_id BIGINT UNSIGNED NOT NULL, dest_job_id BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (source_job_id, dest_job_id), FOREIGN KEY (source_job_id) REFERENCES jms_jobs (id), FOREIGN KEY (dest_job_id) REFERENCES jms_jobs (id));
INSERT INTO jms_jobs (id, state, queue, priority, createdAt, workerName, executeAfter, command, args, maxRuntime, maxRetries, originalJob_id) VALUES
  (10, 'finished', 'default', 0, NOW(), 'a-1', NOW(), 'silver:import', '[]', 0, 0, NULL),
  (11, 'pending', 'default', -5, NOW(), NULL, '2026-01-01 12:00:00', 'silver:import', '[\"tmp\", \"--full\"]', 3600, 0, NULL),
  (12, 'pending', 'default', 0, NOW(), NULL, '2026-01-01 12:00:00', 'shop:index', '[]', 3600, 0, NULL),
  (13, 'running', 'default', 0, NOW(), 'a-1', NOW(), 'silver:import', '[]', 0, 0, NULL),
  (14, 'pending', 'default', 0, NOW(), NULL, NOW(), 'nobody:knows', '[]', 0, 0, NULL),
  (15, 'pending', 'default', 0, NOW(), NULL, NOW(), 'shop:index', '[]', 0, 0, NULL),
  (16, 'finished', 'default', 0, NOW(), 'a-1', NOW(), 'silver:import', '[]', 0, 1, NULL);
INSERT INTO jms_job_dependencies VALUES (12, 11), (12, 10), (15, 14);
";

const ESPO: &str = "
CREATE TABLE scheduled_job (id VARCHAR(17) PRIMARY KEY, name VARCHAR(255), deleted TINYINT(1) DEFAULT 0, job VARCHAR(255),
  status VARCHAR(255), scheduling VARCHAR(255), last_run DATETIME, is_internal TINYINT(1) DEFAULT 0);
INSERT INTO scheduled_job (id, name, deleted, job, status, scheduling) VALUES
  ('1', 'Clean-up: \"all\"', 0, 'Cleanup', 'Active', '1 1 * * 0'), ('2', 'Webhooks', 0, 'ProcessWebhookQueue', 'Active', '* * * * *'),
  ('3', 'Reminders', 0, 'SendEmailReminders', 'Inactive', '*/2 * * * *'), ('4', 'Old', 1, 'Gone', 'Active', '* * * * *'),
  ('5', 'Queue', 0, 'ProcessJobQueueQ0', 'Active', '* * * * *');
CREATE TABLE job (id VARCHAR(17) PRIMARY KEY, name VARCHAR(255), deleted TINYINT(1) DEFAULT 0, status VARCHAR(255) DEFAULT 'Pending',
  execute_time DATETIME, number BIGINT UNSIGNED AUTO_INCREMENT UNIQUE, class_name VARCHAR(255), job VARCHAR(255), data MEDIUMTEXT,
  queue VARCHAR(36), `group` VARCHAR(128), target_type VARCHAR(64), target_id VARCHAR(48), attempts INT, failed_attempts INT DEFAULT 0,
  scheduled_job_id VARCHAR(17), started_at DATETIME, executed_at DATETIME, pid INT);
INSERT INTO job (id, status, execute_time, class_name, job, data, target_type, target_id, scheduled_job_id) VALUES
  ('a', 'Pending', '2026-01-01 12:00:00', NULL, 'CheckInbox', '{}', 'EmailAccount', 'acc1', NULL),
  ('b', 'Pending', '2026-01-01 12:00:00', NULL, 'Cleanup', NULL, NULL, NULL, '1'),
  ('c', 'Pending', '2026-01-01 12:00:00', 'Espo\\\\Jobs\\\\Mass', NULL, '{\"id\":1}', NULL, NULL, NULL),
  ('d', 'Running', '2026-01-01 12:00:00', NULL, 'CheckInbox', NULL, NULL, NULL, NULL);
";

const ORO: &str = "
CREATE TABLE oro_cron_schedule (id INT AUTO_INCREMENT PRIMARY KEY, command VARCHAR(255) NOT NULL, args JSON NOT NULL,
  args_hash VARCHAR(32) NOT NULL, definition VARCHAR(100), UNIQUE (command, args_hash, definition));
INSERT INTO oro_cron_schedule (command, args, args_hash, definition) VALUES
  ('oro:cron:cleanup-old-records', '[]', MD5('[]'), '0 1 * * *'),
  ('oro:cron:integration:sync', '[\"--integration=3\", \"--force\"]', MD5('x'), '*/5 * * * *');
";

const DJJOB: &str = "
CREATE TABLE jobs (id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, handler BLOB NOT NULL, queue VARCHAR(255) NOT NULL DEFAULT 'default',
  attempts INT UNSIGNED NOT NULL DEFAULT 0, run_at DATETIME NULL, locked_at DATETIME NULL, locked_by VARCHAR(255) NULL, failed_at DATETIME NULL,
  error TEXT NULL, created_at DATETIME NOT NULL) ENGINE=INNODB;
INSERT INTO jobs (id, handler, run_at, locked_at, failed_at, created_at) VALUES
  (1, 'O:5:\"Hello\":1:{s:4:\"name\";s:5:\"World\";}', NULL, NULL, NULL, NOW()),
  (2, 'O:5:\"Hello\":1:{s:4:\"name\";s:5:\"Later\";}', NOW() + INTERVAL 1 HOUR, NULL, NULL, NOW()),
  (3, 'O:5:\"Hello\":1:{s:4:\"name\";s:4:\"Busy\";}', NULL, NOW(), NULL, NOW()),
  (4, 'O:5:\"Hello\":1:{s:4:\"name\";s:4:\"Dead\";}', NULL, NULL, NOW(), NOW()),
  (5, 'no object', NULL, NULL, NULL, NOW());
";

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/import").join(name)).unwrap()
}

fn old_system(tables: &str) -> Sandbox {
    let s = Sandbox::new(Backend::MariaDb);
    s.database().sql(tables);
    s
}

/// The environment that the scripts sign in with.
fn sign_in(s: &Sandbox) -> Vec<(&'static str, String)> {
    let url = Url::parse(s.database().url()).unwrap();
    vec![
        ("DB_HOST", url.host_str().unwrap().to_owned()),
        ("DB_PORT", url.port().unwrap().to_string()),
        ("DB_USER", url.username().to_owned()),
        ("DB_PASSWORD", s.database().password().to_owned()),
        ("DB_NAME", url.path().trim_start_matches('/').to_owned()),
    ]
}

/// What a script prints with `mariadb -N -r`, as the pages say to run it.
#[track_caller]
fn printed(s: &Sandbox, script: &str) -> String {
    let sign_in = sign_in(s);
    let of = |wanted: &str| sign_in.iter().find(|(name, _)| *name == wanted).unwrap().1.clone();
    let mut command = Command::new("mariadb");
    command.args([
        "--no-defaults",
        "-N",
        "-r",
        "-h",
        &of("DB_HOST"),
        "-P",
        &of("DB_PORT"),
        "-u",
        &of("DB_USER"),
    ]);
    command.arg(format!("-p{}", of("DB_PASSWORD"))).arg(of("DB_NAME"));
    command.stdin(
        fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/import").join(script)).unwrap(),
    );
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn import_jms(s: &Sandbox, arguments: &[&str]) -> Output {
    let script = s.file("jms.py", &shipped("jms.py"));
    let duly = s.file("duly", &format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_duly")));
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).args(arguments).current_dir(s.path("")).envs(sign_in(s)).env("DULY", duly);
    command.env("XDG_RUNTIME_DIR", s.path("run")).output().unwrap()
}

/// Seen failing with `executeAfter` taken as UTC, with the priority as JMS stores it, and with rows that are not marked.
#[test]
fn pending_jobs_of_jms_are_carried_over_with_what_waits_for_what() {
    let s = old_system(JMS);
    s.set_jobs(
        "jobs:\n  'silver:import': {command: [sh, -c, 'echo \"$@\"', x]}\n  index: {command: ['true']}\n",
    );
    let map = ["--map", "shop:index=index", "--timezone", "Europe/Berlin"];
    let dry = import_jms(&s, &[&map[..], &["--dry-run"]].concat());
    assert!(
        String::from_utf8_lossy(&dry.stdout).contains("--priority 5 --at 2026-01-01T11:00:00Z -- tmp --full"),
        "{dry:?}"
    );
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");

    let output = import_jms(&s, &map);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        said.contains("job 14 (nobody:knows): duly: error: ")
            && said.contains("job 15 (shop:index) waits for 14"),
        "{said}"
    );
    let jobs = s.json(["list", "--json"]);
    let (index, import) = (&jobs[0], &jobs[1]);
    assert_eq!((jobs.as_array().unwrap().len(), import["name"].as_str()), (2, Some("silver:import")));
    assert_eq!(
        (import["priority"].as_i64(), import["run_at"].as_str()),
        (Some(5), Some("2026-01-01T11:00:00.000000Z"))
    );
    assert_eq!(import["params"], serde_json::json!(["tmp", "--full"]));
    assert_eq!((index["name"].as_str(), index["state"].as_str()), (Some("index"), Some("waiting")));
    let expected = format!(
        "11canceledduly:{},12canceledduly:{},13runninga-1,14pending-,15pending-,16finisheda-1",
        import["id"], index["id"]
    );
    assert_eq!(rows_of_jms(&s), expected);

    s.duly(["run"]).status(0);
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "2");
    assert_eq!(s.json(["show", &import["id"].to_string(), "--json"])["output"], "tmp --full\n");
    // A second run carries over what the first could not, and nothing twice.
    s.set_jobs("jobs:\n  'silver:import': {command: ['true']}\n  index: {command: ['true']}\n  known: {command: ['true']}\n");
    let again = import_jms(&s, &[&map[..], &["--map", "nobody:knows=known"]].concat());
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        said.starts_with("job 13 (silver:import) is running, by a-1; let it end")
            && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "4");
    assert_eq!(
        s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'waiting' AND name = 'index'"),
        "1"
    );
}

fn rows_of_jms(s: &Sandbox) -> String {
    s.database().value(
        "SELECT GROUP_CONCAT(CONCAT(id, state, COALESCE(workerName, '-')) ORDER BY id) FROM jms_jobs WHERE id > 10",
    )
}

/// Seen failing with retries passed over, though what waits for their job waits for them.
#[test]
fn a_retry_that_waits_takes_the_place_of_the_job_that_it_is_of() {
    let s = old_system(JMS);
    s.database().sql(
        "DELETE FROM jms_job_dependencies;
         UPDATE jms_jobs SET state = 'finished' WHERE id IN (11, 12, 14, 15);
         INSERT INTO jms_jobs (id, state, queue, priority, createdAt, workerName, executeAfter, command, args, maxRuntime, maxRetries, originalJob_id) VALUES
           (17, 'failed', 'default', 0, NOW(), 'a-1', NOW(), 'silver:import', '[]', 0, 0, 13),
           (18, 'pending', 'default', 0, NOW(), NULL, '2026-01-01 12:00:00', 'silver:import', '[\"again\"]', 0, 0, 13),
           (19, 'pending', 'default', 0, NOW(), NULL, NULL, 'index', '[]', 0, 0, NULL);
         INSERT INTO jms_job_dependencies VALUES (19, 13);",
    );
    s.set_jobs("jobs:\n  'silver:import': {command: ['true']}\n  index: {command: ['true']}\n");
    let dry = import_jms(&s, &["--dry-run"]);
    assert!(dry.status.success() && String::from_utf8_lossy(&dry.stdout).contains("jms:18 "), "{dry:?}");
    for _ in 0..2 {
        let output = import_jms(&s, &[]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    let jobs = s.json(["list", "--json"]);
    let (index, import) = (&jobs[0], &jobs[1]);
    assert_eq!((jobs.as_array().unwrap().len(), &import["params"]), (2, &serde_json::json!(["again"])));
    assert_eq!((index["name"].as_str(), index["state"].as_str()), (Some("index"), Some("waiting")));
    let (import, index) = (&import["id"], &index["id"]);
    assert!(
        rows_of_jms(&s)
            .ends_with(&format!("16finisheda-1,17faileda-1,18canceledduly:{import},19canceledduly:{index}")),
        "{}",
        rows_of_jms(&s)
    );
    assert!(rows_of_jms(&s).contains(&format!("13canceledduly:{import}")), "{}", rows_of_jms(&s));
}

/// Seen failing with locked rows passed over without a word.
#[test]
fn what_a_dead_worker_of_jms_has_locked_is_named_and_carried_over_on_request() {
    let s = old_system(JMS);
    s.database().sql(
        "DELETE FROM jms_job_dependencies;
         UPDATE jms_jobs SET state = 'finished';
         UPDATE jms_jobs SET state = 'pending', workerName = 'dead-7' WHERE id = 11;
         UPDATE jms_jobs SET state = 'pending', workerName = NULL WHERE id IN (12, 15);
         INSERT INTO jms_job_dependencies VALUES (12, 15);",
    );
    s.set_jobs("jobs:\n  'silver:import': {command: ['true']}\n  index: {command: ['true']}\n");
    let map = ["--map", "shop:index=index"];
    let output = import_jms(&s, &map);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("job 11 (silver:import) is locked by dead-7, which has not begun it; "),
        "{said}"
    );
    // What waits for a younger job is carried over after it.
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1));
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE name = 'index'"), "2");
    assert!(rows_of_jms(&s).contains("11pendingdead-7"), "{}", rows_of_jms(&s));
    // A job that cannot be put in keeps its lock.
    s.set_jobs("jobs:\n  index: {command: ['true']}\n");
    assert_eq!(import_jms(&s, &[&map[..], &["--locked"]].concat()).status.code(), Some(1));
    assert!(rows_of_jms(&s).contains("11pendingdead-7"), "{}", rows_of_jms(&s));
    s.set_jobs("jobs:\n  'silver:import': {command: ['true']}\n  index: {command: ['true']}\n");
    let locked = import_jms(&s, &[&map[..], &["--locked"]].concat());
    assert!(locked.status.success(), "{locked:?}");
    assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE name = 'silver:import'"), "1");
}

/// Seen failing with `True`, `None` and `['x', 'y']` put in.
#[test]
fn parameters_of_jms_are_handed_on_as_php_hands_them_to_a_command() {
    let s = old_system(JMS);
    s.set_jobs("jobs:\n  'silver:import': {command: ['true']}\n");
    let carried = [
        (
            r#"["a b", 5, true, false, null, 1.0, 0.5]"#,
            serde_json::json!(["a b", "5", "1", "", "", "1", "0.5"]),
        ),
        (r#"{"1": "x", "--env": "prod"}"#, serde_json::json!(["x", "prod"])),
        ("[]", serde_json::json!([])),
    ];
    let named = [
        (r#"[["x", "y"]]"#, r#"its args have ["x", "y"], which is no word for a command"#),
        (r#"[{"a": 1}]"#, "its args have {\"a\": 1}, which is no word"),
        ("null", "its args are null; expected a list of words"),
        ("true", "its args are true; expected a list of words"),
        ("[1e300]", "its args have 1e+300, which is no word"),
        ("no json", "its args are no JSON"),
    ];
    for (args, expected) in carried {
        s.database().sql(&format!("DELETE FROM duly_job; DELETE FROM jms_job_dependencies; UPDATE jms_jobs SET state = 'finished'; UPDATE jms_jobs SET state = 'pending', workerName = NULL, args = '{args}' WHERE id = 11"));
        let output = import_jms(&s, &[]);
        assert!(output.status.success(), "{args}: {output:?}");
        assert_eq!(s.json(["list", "--json"])[0]["params"], expected, "{args}");
    }
    for (args, expected) in named {
        s.database().sql(&format!("DELETE FROM duly_job; UPDATE jms_jobs SET state = 'pending', workerName = NULL, args = '{args}' WHERE id = 11"));
        let output = import_jms(&s, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("job 11 (silver:import): ") && said.contains(expected), "{args}: {said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(rows_of_jms(&s).contains("11pending-"), "{}", rows_of_jms(&s));
    }
}

/// Seen failing with one name for both, and with a line that is `NULL`.
#[test]
fn schedules_of_espocrm_of_one_job_have_names_of_their_own_and_what_is_empty_is_left_out() {
    let s = old_system(ESPO);
    s.database().sql(
        "UPDATE scheduled_job SET name = NULL, job = 'Cleanup', scheduling = '0 3 * * *' WHERE id = '3';
         UPDATE scheduled_job SET scheduling = NULL WHERE id = '2';
         INSERT INTO scheduled_job (id, name, job, status, scheduling) VALUES ('6', 'No job', NULL, 'Active', '* * * * *'), ('7', 'Empty', '', 'Active', '* * * * *');",
    );
    let printed = printed(&s, "espocrm-schedules.sql");
    assert!(!printed.contains("NULL"), "{printed}");
    s.set_jobs(&format!("jobs:\n{printed}"));
    s.duly(["check"]).stdout_has("3 jobs, 2 of them scheduled").status(0);
    let jobs = s.json(["jobs", "--json"]);
    let names: Vec<&str> = jobs.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Cleanup", "Cleanup.3", "ProcessWebhookQueue"], "{printed}");
    assert_eq!(jobs[1]["schedule"], "0 3 * * *");
    assert!(
        printed.contains("  Cleanup.3:\n    command: [php, command.php, run-job, Cleanup]\n"),
        "{printed}"
    );
}

/// Seen failing with one name for both, and with a line that is `NULL`.
#[test]
fn schedules_of_oro_of_one_command_have_names_of_their_own_and_what_is_empty_is_left_out() {
    let s = old_system(ORO);
    s.database().sql(
        "INSERT INTO oro_cron_schedule (command, args, args_hash, definition) VALUES
           ('oro:cron:cleanup-old-records', '[]', MD5('[]'), '0 13 * * *'), ('oro:cron:later', '[]', MD5('[]'), NULL);",
    );
    let printed = printed(&s, "oro-schedules.sql");
    assert!(!printed.contains("NULL"), "{printed}");
    s.set_jobs(&format!("jobs:\n{printed}"));
    s.duly(["check"]).stdout_has("4 jobs, 3 of them scheduled").status(0);
    assert!(
        printed.contains("  oro:cron:cleanup-old-records:\n")
            && printed.contains("  oro:cron:cleanup-old-records.3:\n"),
        "{printed}"
    );
}

/// Seen failing with names that are not quoted, and with deleted rows taken along.
#[test]
fn the_schedules_of_espocrm_become_definitions() {
    let s = old_system(ESPO);
    let printed = printed(&s, "espocrm-schedules.sql");
    s.set_jobs(&format!("jobs:\n{printed}"));
    s.duly(["check"]).stdout_has("3 jobs, 3 of them scheduled").status(0);
    let jobs = s.json(["jobs", "--json"]);
    let of = |name: &str| jobs.as_array().unwrap().iter().find(|job| job["name"] == name).unwrap().clone();
    assert_eq!(
        (of("Cleanup")["label"].as_str(), of("Cleanup")["schedule"].as_str()),
        (Some("Clean-up: \"all\""), Some("1 1 * * 0"))
    );
    assert_eq!(of("ProcessWebhookQueue")["schedule"], "@tick");
    assert!(printed.contains("  SendEmailReminders:") && printed.contains("    enabled: false"), "{printed}");
}

#[test]
fn pending_jobs_of_espocrm_that_name_a_job_and_a_target_are_carried_over() {
    let s = old_system(ESPO);
    s.set_jobs("jobs:\n  CheckInbox: {command: [echo, CheckInbox, \"--target-id={target_id}\"]}\n");
    let stays = "1 pending jobs stay with EspoCRM: they have data or a class, or no job\njob d is Running since 2026-01-01 12:00:00; let it end\n";
    assert_eq!(printed(&s, "espocrm-pending.sql"), format!("1 jobs carried over\n{stays}"));
    assert_eq!(printed(&s, "espocrm-pending.sql"), format!("0 jobs carried over\n{stays}"));
    assert_eq!(s.database().value("SELECT GROUP_CONCAT(id ORDER BY id) FROM job WHERE deleted = 0"), "b,c,d");
    s.duly(["run"]).status(0);
    let job = s.json(["show", "1", "--json"]);
    assert_eq!(
        (job["state"].as_str(), job["output"].as_str()),
        (Some("success"), Some("CheckInbox --target-id=acc1\n"))
    );
    assert_eq!(job["run_at"], "2026-01-01T12:00:00.000000Z");
}

/// Seen failing with the arguments left out, and with one name for two rows of a command.
#[test]
fn the_schedule_of_oro_becomes_definitions() {
    let s = old_system(ORO);
    s.set_jobs(&format!("jobs:\n{}", printed(&s, "oro-schedules.sql")));
    s.duly(["check"]).stdout_has("2 jobs, 2 of them scheduled").status(0);
    let jobs = s.json(["jobs", "--json"]);
    let names: Vec<&str> = jobs.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap()).collect();
    assert_eq!(names[0], "oro:cron:cleanup-old-records");
    assert!(names[1].starts_with("oro:cron:integration:sync."), "{names:?}");
    // What would be started, as it is started: `php` is a script here that prints its words.
    s.file("php", "#!/bin/sh\nprintf '<%s>' \"$@\"\n");
    s.duly(["start", names[1]]).stdout("1\n").status(0);
    s.duly(["run"]).env("PATH", format!("{}:/usr/bin:/bin", s.path("").display())).status(0);
    assert_eq!(
        s.json(["show", "1", "--json"])["output"],
        "<bin/console><oro:cron:integration:sync><--integration=3><--force>"
    );
}

/// Seen failing with locked rows taken along, and with rows that are not locked for the old workers.
#[test]
fn jobs_of_djjob_are_run_as_the_objects_that_they_are() {
    let s = old_system(DJJOB);
    s.file("run-djjob.php", &shipped("run-djjob.php"));
    s.file(
        "autoload.php",
        "<?php class Hello { public $name; function perform() { echo \"Hello {$this->name}\\n\"; } }\n",
    );
    let environment: String =
        sign_in(&s).iter().map(|(name, value)| format!("{name}: '{value}', ")).collect();
    s.set_jobs(&format!(
        "jobs:\n  djjob: {{command: [php, run-djjob.php, \"{{target_id}}\"], permanent_exit_codes: [65], env: {{{environment} SHOP_AUTOLOAD: ./autoload.php}}}}\n"
    ));
    for count in [3, 0] {
        let said = printed(&s, "djjob.sql");
        assert!(
            said.starts_with(&format!("{count} jobs carried over\njob 3 is locked by nobody since ")),
            "{said}"
        );
        assert!(
            said.contains("UPDATE jobs SET locked_at = NULL, locked_by = NULL WHERE id = 3")
                && said.lines().count() == 2,
            "{said}"
        );
    }
    s.duly(["run"]).stderr_has("failed: its attempt 1 of 10 exited with 65").status(0);
    let done = s.json(["list", "--json", "--state", "success"]);
    assert_eq!((done.as_array().unwrap().len(), done[0]["target_id"].as_str()), (1, Some("1")));
    assert_eq!(s.json(["show", &done[0]["id"].to_string(), "--json"])["output"], "Hello World\n");
    let later = s.json(["list", "--json", "--state", "delayed"]);
    assert_eq!((later.as_array().unwrap().len(), later[0]["target_id"].as_str()), (1, Some("2")));
    assert_eq!(
        s.database().value("SELECT GROUP_CONCAT(id, COALESCE(locked_by, '-') ORDER BY id) FROM jobs"),
        "2duly,3-,4-,5duly"
    );
}
