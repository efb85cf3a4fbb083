//! `duly` alone says where it stands; every error says what to do next; terminals of any kind are served.

use std::process::Command;

use crate::support::{Backend, Database, Sandbox, on_every_database};

on_every_database! {
    fn alone_it_says_where_it_stands_and_what_is_next(backend: Backend) {
        let s = Sandbox::without_tables(backend).jobs("jobs:\n  a: {command: ['true'], schedule: '0 3 * * *'}\n");
        let none: [&str; 0] = [];
        let first = s.duly(none).stdout_has("configuration [sandbox]/jobs.yaml: 1 job, 1 of them scheduled\n").stdout_has("help          duly --help").status(0).stdout;
        match backend {
            Backend::Sqlite => {
                assert!(first.contains("which the first command that needs it makes\nnext          `duly run`"), "{first}");
                assert!(!s.path("jobs.db").exists(), "looking makes no file");
            }
            Backend::MariaDb => {
                assert!(first.contains(", reachable, without Duly's tables\nnext          `duly migrate`\n"), "{first}");
                assert!(!first.contains(s.database().password()), "{first}");
                s.duly(["migrate"]).stdout_has("ran").status(0);
                s.duly(none).stdout_has("ticks         none yet\n").stdout_has("next          let it tick: `duly crontab`").status(0);
            }
        }
        s.duly(["run"]).status(0);
        s.duly(none).stdout_has(", reachable, schema 20").stdout_has("ticks         ").stdout_has(" ago\nnext          `duly status`").status(0);
        s.database().sql("UPDATE duly_migration SET version = '99990101000000' WHERE version = (SELECT * FROM (SELECT MAX(version) FROM duly_migration) AS newest)");
        s.duly(none).stdout_has("schema 99990101000000 where 20").stdout_has("next          install the newer version").status(0);
    }
}

#[test]
fn alone_without_a_configuration_or_with_a_broken_one_it_says_how_to_begin() {
    let s = Sandbox::new(Backend::Sqlite);
    let none: [&str; 0] = [];
    s.set_jobs("jobs:\n  a: {comand: x}\n  b: {command: ['true'], queue: gone}\n");
    s.duly(none)
        .stdout_has("configuration cannot be used: jobs.yaml:2: jobs.a.comand: ")
        .stdout_has("\n              jobs.yaml:3: jobs.b.queue: ")
        .stdout_has("next          mend that; `duly check`")
        .status(0);
    std::fs::remove_file(s.path("jobs.yaml")).unwrap();
    if !std::path::Path::new("/etc/duly/jobs.yaml").exists() {
        let told =
            s.duly(none).stdout_has("configuration none: there is no [sandbox]/jobs.yaml").status(0).stdout;
        // What it proposes works.
        let yaml: Vec<&str> = told
            .lines()
            .filter_map(|line| line.get(16..))
            .filter(|line| line.starts_with("jobs:") || line.starts_with("  "))
            .collect();
        s.set_jobs(&yaml.join("\n"));
        s.duly(["check"]).stdout_has("1 job, 1 of them scheduled").status(0);
    }
    s.set_jobs("database: \"mysql://shop:geheim@127.0.0.1:1/shop\"\njobs: {}\n");
    let told = s
        .duly(none)
        .stdout_has("database      cannot be reached: ")
        .stdout_has("declare jobs under `jobs`")
        .status(0)
        .stdout;
    assert!(!told.contains("geheim"), "{told}");
}

/// Each error says what was expected, or what to do. Seen failing with the hint of `unknown_definition` taken out.
#[test]
fn every_error_has_a_next_step() {
    let s = Sandbox::new(Backend::Sqlite).jobs("queues: {orders: {concurrency: 1}}\njobs:\n  import: {command: ['true'], unique: true}\n  wait: {command: ['true']}\n");
    s.duly(["start", "import"]).stdout("1\n").status(0);
    s.duly(["pause", "wait"]).stdout_has("paused").status(0);
    let steps = [
        "tip:",
        "expected",
        "did you mean",
        "`duly ",
        "declare",
        "write ",
        "try",
        "use ",
        "check",
        "correct",
        "has not ended",
        "--help",
        "possible values",
        "is paused",
        "not paused",
        "goes up to",
        "run as",
        "environment",
    ];
    for arguments in [
        &["run-job", "improt"][..],
        &["start", "x"],
        &["enqueue", "import", "--queue", "ordres"],
        &["show", "99"],
        &["why", "99"],
        &["cancel", "99"],
        &["retry", "99"],
        &["retry", "1"],
        &["start", "import"],
        &["run-job", "wait"],
        &["resume", "import"],
        &["next", "nightly"],
        &["list", "--state", "done"],
        &["list", "--since", "yesterday"],
        &["enqueue", "import", "--at", "noon"],
        &["enqueue", "wait", "--after", "99"],
        &["enqueue", "wait", "--after", "1:never"],
        &["child", "import"],
        &["progress", "50"],
        &["run", "--queue", "x"],
        &["run", "--limit", "0"],
        &["frobnicate"],
        &["show"],
        &["daemon", "--interval", "1ms"],
        &["crontab", "--every", "7s"],
        &["systemd", "--user", ""],
        &["--config", "/nowhere.yaml", "run"],
        &["--database-url", "postgres://x/y", "run"],
        &["lost-orders", "show", "4711"],
        &["status", "--max-wait", "long"],
        &["check", "--crontab", "/nowhere"],
    ] {
        let output = s.duly(arguments).output();
        assert!(!output.status.success(), "{arguments:?} worked:\n{output}");
        let has_step = steps.iter().any(|step| output.stderr.contains(step));
        assert!(
            has_step || output.stderr.contains("No such file"),
            "{arguments:?} leaves one alone:\n{output}"
        );
    }
}

/// Seen failing with croner's own words for the field.
#[test]
fn parts_of_a_database_and_a_field_out_of_bounds_have_an_answer() {
    let s = Sandbox::new(Backend::Sqlite)
        .jobs("database: {host: localhost}\njobs:\n  a: {command: ['true'], schedule: '0 25 * * *'}\n");
    s.duly(["check"])
        .stderr_has("jobs.yaml:1: database: found a mapping, expected one URL, such as mysql://user:password@host:3306/shop")
        .stderr_has("its hour `25` is none; expected 0 to 23")
        .status(2);
}

/// A terminal of 40 columns, made by `script`; wide characters count two. Seen failing with the table's width left to its content.
#[test]
fn tables_fit_narrow_terminals_and_are_whole_elsewhere() {
    let s = Sandbox::new(Backend::Sqlite).jobs(
        "jobs:\n  a: {label: \"出荷指示を倉庫に送り、結果を待ってから在庫を更新する\", command: ['true'], schedule: '0 3 * * *'}\n  \
         b: {label: \"Sends the orders to the warehouse and waits for its answer\", command: ['true']}\n",
    );
    s.duly(["run"]).status(0);
    let width = |line: &str| line.chars().map(|c| if u32::from(c) > 0x2e80 { 2 } else { 1 }).sum::<usize>();
    let whole =
        s.duly(["jobs"]).stdout_has("出荷指示を倉庫に送り、結果を待ってから在庫を更新する").status(0).stdout;
    let columns: Vec<usize> = whole
        .lines()
        .map(|line| {
            width(&line[..line.find("SCHEDULE").or(line.find("0 3 *")).or(line.find("  -  ")).unwrap_or(0)])
        })
        .collect();
    assert!(columns[0] > 40 && columns[0] == columns[1], "columns stand below each other:\n{whole}");
    let on_terminal = |command: &str, colour: bool| {
        let duly = env!("CARGO_BIN_EXE_duly");
        let mut script = Command::new("script");
        script.args(["-qec", &format!("stty cols 40 rows 24; {duly} {command}"), "/dev/null"]);
        script
            .current_dir(s.path(""))
            .env("TERM", "xterm-256color")
            .env("XDG_RUNTIME_DIR", s.path("run"))
            .env_remove("NO_COLOR");
        if !colour {
            script.env("NO_COLOR", "1");
        }
        let output = script.stdin(std::process::Stdio::null()).output().expect("script, of util-linux");
        String::from_utf8_lossy(&output.stdout).replace('\r', "")
    };
    for command in ["jobs", "list", "status"] {
        let text = on_terminal(command, false);
        assert!(!text.contains('\u{1b}'), "no colours with NO_COLOR: {text}");
        if command != "status" {
            assert!(
                text.lines().all(|line| width(line) <= 40),
                "{command} is wider than the terminal:\n{text}"
            );
        }
        assert!(text.lines().count() > 1, "{text}");
    }
    assert!(on_terminal("jobs", true).contains('\u{1b}'), "colours on a terminal");
}

#[test]
fn the_errors_of_a_database_that_is_away_name_it_without_its_password() {
    let s = Sandbox::on(Database::create(Backend::MariaDb));
    s.set_jobs("database: \"mysql://shop:geheim@127.0.0.1:1/shop\"\njobs: {}\n");
    for arguments in [&["status"][..], &["why", "1"], &["metrics"]] {
        let output = s.duly(arguments).output();
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(
            output.stderr.contains("is the server running there?") && !output.stderr.contains("geheim"),
            "{output}"
        );
    }
    s.duly(["status", "--nagios"]).stdout_has("DULY CRITICAL - cannot open the database").status(2);
}
