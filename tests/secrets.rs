//! A password of the database reaches nobody but the database: not the log at any level, not `ps`, not a job that was not
//! given it, not the state folder, not a table. And what a job printed reaches no terminal as it is.

use std::fs;
use std::time::Duration;

use crate::support::{Backend, Sandbox, on_every_database, wait_until};

const JOBS: &str = r#"
jobs:
  tell: {command: [sh, -c, 'env | sort']}
  bad: {command: [no-such-program], max_attempts: 1}
  wait: {command: [sh, -c, 'until [ -e go ]; do sleep 0.05; done']}
  tidy: {builtin: clean-up}
"#;

/// Every value of every text column of every table.
fn all_texts(s: &Sandbox) -> String {
    let columns = s.database().rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()",
    );
    let mut all = String::new();
    for row in columns {
        let [table, column] = [0, 1].map(|at| row[at].clone().unwrap());
        for value in s.database().rows(&format!("SELECT CAST(`{column}` AS CHAR) FROM {table}")) {
            all.push_str(&format!("{table}.{column}: {}\n", value[0].as_deref().unwrap_or_default()));
        }
    }
    all
}

/// What other users can see of a process of the sandbox.
fn command_lines(s: &Sandbox) -> String {
    let of = |pid: &rustix::process::Pid| {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\0', " ")
    };
    s.processes().iter().map(of).collect::<Vec<_>>().join("\n")
}

/// Seen failing with the URL among the arguments of a builtin, in `command_line` of `src/runner/worker.rs`.
#[test]
fn the_password_is_in_no_log_no_table_no_state_folder_and_no_command_line() {
    let s = Sandbox::new(Backend::MariaDb);
    s.set_jobs(JOBS);
    let password = s.database().password().to_owned();
    assert!(!password.is_empty() && s.read("jobs.yaml").contains(&password));
    let check = |what: &str, text: &str| {
        assert!(!text.contains(&password), "the password is in {what}: {text}");
    };
    for name in ["tell", "bad", "tidy"] {
        s.duly(["enqueue", name]).stdout_has("\n").status(0);
    }
    let file = s.file("url", s.database().url());
    // As jobs.yaml names it, and as a file does: no job is told.
    let run = s.duly(["-vv", "run"]).env("RUST_LOG", "trace").env("DATABASE_URL_FILE", &file).output();
    assert!(run.status.success(), "{run}");
    check("the log", &run.to_string());
    for arguments in [
        &["show", "1"][..],
        &["show", "1", "--json"],
        &["list", "--json"],
        &["jobs"],
        &["check"],
        &["migrate", "--status"],
        &["-vv", "show", "2"],
        &["-vv", "enqueue", "nothing"],
        &["-vv", "run-job", "tell"],
    ] {
        check(&format!("{arguments:?}"), &s.duly(arguments).env("RUST_LOG", "trace").output().to_string());
    }
    assert!(s.json(["show", "1", "--json"])["output"].as_str().unwrap().contains("DULY_JOB_ID=1\n"));
    check("the tables", &all_texts(&s));

    // Given on the command line it reaches builtins, by their environment, and no other command.
    for name in ["tell", "wait", "tidy"] {
        s.duly(["enqueue", name]).stdout_has("\n").status(0);
    }
    let url = s.database().url().to_owned();
    s.set_jobs(&format!("{JOBS}database: unused.db\n"));
    let mut run = s.duly(["run", "--database-url", &url]).spawn();
    let mut seen = String::new();
    let waits = "SELECT COUNT(*) FROM duly_job WHERE id IN (5, 7) AND state = 'success'";
    wait_until("the others have ended", Duration::from_secs(60), || {
        assert!(!run.has_ended(), "it did not wait");
        let own = format!("run --database-url {url}");
        seen.push_str(&command_lines(&s).replace(&own, ""));
        let mut left = String::new();
        for folder in fs::read_dir(s.state_dir()).into_iter().flatten().flatten() {
            for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                left.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).unwrap_or_default()));
            }
        }
        check("the state folder", &left);
        s.database().value(waits) == "2"
    });
    s.file("go", "");
    assert!(run.wait().status.success());
    check("the command lines of other processes", &seen);
    check("the tables", &all_texts(&s));
}

/// It is decided so: whoever executes commands by a variable of cron's gives it to them, as every other one. An `env` of the
/// job takes it away.
#[test]
fn a_database_url_in_the_environment_is_inherited_unless_the_job_says_otherwise() {
    let s = Sandbox::new(Backend::MariaDb);
    s.set_jobs(&format!(
        "{JOBS}  silent: {{command: [sh, -c, 'env | sort'], env: {{DATABASE_URL: \"\"}}}}\n"
    ));
    let url = s.database().url().to_owned();
    for name in ["tell", "silent"] {
        s.duly(["enqueue", name]).stdout_has("\n").status(0);
    }
    s.duly(["run"]).env("DATABASE_URL", &url).status(0);
    let output = |id| s.json(["show", id, "--json"])["output"].as_str().unwrap().to_owned();
    assert!(output("1").contains(&format!("DATABASE_URL={url}\n")));
    assert!(output("2").contains("DATABASE_URL=\n") && !output("2").contains(s.database().password()));
}

const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}\u{8}\u{7f}";

on_every_database! {
    /// A terminal shows these and does not obey. Seen failing with `harmless` taken out of `explain` in `src/commands/mod.rs`,
    /// and with `text` in `src/render/json.rs` writing what `serde_json` writes.
    fn nothing_that_a_row_or_a_job_holds_reaches_a_terminal_as_it_is(s: Sandbox) {
        s.set_jobs("jobs:\n  evil: {command: [sh, -c, 'printf \"%s\\n\" \"$1\"; exit 9', sh], max_attempts: 1}\n");
        s.json(["list", "--json"]);
        let json = serde_json::to_string(&[EVIL]).unwrap();
        let hex: String = json.bytes().map(|byte| format!("{byte:02x}")).collect();
        let evil: String = EVIL.bytes().map(|byte| format!("{byte:02x}")).collect();
        let as_text = |hex: &str| match s.database().backend() {
            Backend::Sqlite => format!("CAST(x'{hex}' AS TEXT)"),
            Backend::MariaDb => format!("CONVERT(x'{hex}' USING utf8mb4)"),
        };
        s.database().sql(&format!(
            "INSERT INTO duly_job (name, params, target_type, target_id, unique_key) VALUES ('evil', {}, {1}, {1}, 'a')", as_text(&hex), as_text(&evil)
        ));
        s.duly(["run"]).stderr_has("exited with 9").status(0);
        s.database().sql(&format!("INSERT INTO duly_job (name, unique_key, queue) VALUES ({0}, 'b', {0})", as_text(&evil)));
        s.database().sql(&format!("INSERT INTO duly_job (name, unique_key) VALUES ({0}, 'c')", as_text(&evil)));
        s.database().sql(&format!("UPDATE duly_job SET reason = {0}, progress_text = {0}, progress = 5, host = {0} WHERE id = 1", as_text(&evil)));
        s.database().sql(&format!("UPDATE duly_attempt SET reason = {0}, host = {0}, exit_code = NULL", as_text(&evil)));
        s.database().sql(&format!("UPDATE duly_pause SET paused_by = {0}, reason = {0}, scope = 'all' WHERE scope = 'gate'", as_text(&evil)));
        s.database().sql("INSERT INTO duly_pause (scope, paused_at) VALUES ('gate', '2026-01-01 00:00:00')");
        for arguments in [
            &["list"][..], &["list", "--json"], &["show", "1"], &["show", "1", "--json"], &["show", "1", "--follow"],
            &["show", "2"], &["jobs"], &["jobs", "--json"], &["-vv", "run"], &["enqueue", "evil", "--unique-key", "b"],
            &["run-job", "evil"], &["run-job", EVIL], &["enqueue", EVIL], &["enqueue", "evil", "--queue", EVIL],
            &["list", "--state", EVIL], &["--config", EVIL, "list"], &["--database-url", EVIL, "list"], &["resume", EVIL],
        ] {
            let output = s.duly(arguments).output();
            for stream in [&output.stdout, &output.stderr] {
                assert!(!stream.contains(['\u{1b}', '\u{7}', '\u{9b}', '\r', '\u{202e}', '\u{8}', '\u{7f}']), "{arguments:?}: {output}");
            }
        }
        // The value itself is whole for programs.
        assert_eq!(s.json(["show", "1", "--json"])["params"][0], EVIL);
    }
}
