//! `duly status`: the verdict, the codes of a monitoring plugin, the fields of its JSON, and what counts as wrong.
//!
//! The situations that it is for are in `tests/situations.rs`.

use serde_json::Value;

use crate::support::{Backend, Sandbox, on_every_database};

fn ago(s: &Sandbox, seconds: u32) -> String {
    match s.database().backend() {
        Backend::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '-{seconds} seconds')"),
        Backend::MariaDb => format!("(UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND)"),
    }
}

/// The level and text of each finding of a kind.
#[track_caller]
fn findings(s: &Sandbox, kind: &str) -> Vec<(String, String)> {
    let output = s.duly(["status", "--json"]).output();
    let told: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|err| panic!("{err}:\n{output}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = told["findings"].as_array().unwrap().iter().filter(|finding| finding["kind"] == kind);
    all.map(|finding| (text(finding, "level"), text(finding, "text"))).collect()
}

on_every_database! {
    fn the_verdict_is_the_first_line_and_the_tables_follow(s: Sandbox) {
        s.set_jobs("queues: {mail: {}}\njobs:\n  a: {command: ['true']}\n  b: {command: ['true'], queue: mail}\n");
        s.duly(["run"]).status(0);
        for name in ["a", "b", "b"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        let text = s.duly(["status"]).stdout_has("fine: 1 host ticks (").status(0).stdout;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(" ago), 0 running, 3 startable, 0 waiting for later or for others"), "{text}");
        let row = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(row("mail ")[1..6], ["0", "0", "0", "2", "0"]);
        assert_eq!(row("default ")[1..6], ["0", "0", "0", "1", "0"]);
        assert!(text.contains("\nHOST ") && text.contains(", schema 20") && text.contains("its clock is that of this host"), "{text}");
    }

    /// Seen failing with a failure that was made good taken for one that lasts.
    fn a_name_that_fails_is_wrong_until_it_succeeds(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'test -e fixed'], max_attempts: 1}\n");
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["run"]).stderr_has("failed").status(0);
        s.duly(["status"]).stdout_has("warning: `a` fails: 1x in 24 hours, the last ").status(3);
        let table = s.duly(["status"]).stdout_has("failed within 24 hours\nNAME  FAILED  STALE").status(3).stdout;
        assert!(table.contains("\na     1       0 "), "{table}");
        s.file("fixed", "");
        s.duly(["start", "a"]).stdout("2\n").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(findings(&s, "failing")[0].0, "note");
        s.duly(["status"]).stdout_has("fine: ").stdout_has("has succeeded since").status(0);
        s.database().sql(&format!("UPDATE duly_job SET finished_at = {} WHERE state = 'failed'", ago(&s, 90_000)));
        assert_eq!(findings(&s, "failing"), [], "it is over a day ago");
    }

    fn a_plugin_says_it_in_one_line_with_figures_and_exits_with_its_codes(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: [sh, -c, 'exit 1'], max_attempts: 1}\n");
        let output = s.duly(["status", "--nagios"]).stdout_has("DULY CRITICAL - no host has ever ticked | ").status(2);
        assert!(output.stdout.lines().next().unwrap().contains(" tick_age=0s;;180;0 latency=0."), "{output}");
        s.duly(["run"]).status(0);
        s.duly(["status", "--nagios"]).stdout_has("DULY OK - 1 host ticks (").stdout_has(" | pending=0;;;0 running=0;;;0 delayed=0;;;0 waiting=0;;;0 failed_24h=0;;;0 oldest=0s;3600;;0 tick_age=").status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["run"]).stderr_has("failed").status(0);
        s.duly(["pause", "--all", "--reason", "a | b\nc"]).stdout_has("paused").status(0);
        let output = s.duly(["status", "--nagios"]).stdout_has("DULY WARNING - `a` fails: 1x").stdout_has("failed_24h=1;;;0").stdout_has("\nnote: everything is paused").status(1);
        assert_eq!(output.stdout.matches('|').count(), 1, "a bar begins the figures, and only there: {output}");
    }

    fn what_has_been_startable_for_long_is_wrong_unless_it_is_paused(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.database().sql(&format!("UPDATE duly_job SET run_at = {}", ago(&s, 600)));
        assert_eq!(findings(&s, "waits_long"), []);
        s.duly(["status", "--max-wait", "5 min"]).stdout_has("warning: job 1 (a) has been startable for 10m ").stdout_has("`duly why 1`").status(3);
        s.duly(["pause", "a"]).stdout_has("paused").status(0);
        s.duly(["status", "--max-wait", "5 min"]).stdout_has("fine: ").status(0);
    }

    fn a_schedule_that_nobody_made_jobs_of_is_late_unless_it_is_paused_or_disabled(s: Sandbox) {
        let jobs = |more: &str| format!("jobs:\n  a: {{command: ['true'], schedule: '* * * * *'{more}}}\n");
        s.set_jobs(&jobs(""));
        s.duly(["run"]).status(0);
        s.database().sql(&format!("UPDATE duly_schedule SET next_at = {}", ago(&s, 300)));
        assert_eq!(findings(&s, "late")[0].0, "warning");
        s.duly(["pause", "a"]).stdout_has("paused").status(0);
        assert_eq!(findings(&s, "late"), []);
        s.duly(["resume", "a"]).stdout_has("goes on").status(0);
        s.set_jobs(&jobs(", enabled: false"));
        assert_eq!(findings(&s, "late"), []);
    }

    /// Seen failing with ticks for some queues recorded under the host's own name.
    fn a_host_that_ticks_for_some_queues_has_a_line_of_its_own(s: Sandbox) {
        s.set_jobs("queues: {mail: {}, orders: {}}\njobs:\n  a: {command: ['true']}\n");
        s.duly(["run", "--queue", "orders", "--queue", "mail"]).status(0);
        s.duly(["run"]).status(0);
        s.duly(["run", "--queue", "mail", "--queue", "orders"]).status(0);
        let told = s.json(["status", "--json"]);
        let hosts = told["hosts"].as_array().unwrap();
        let queues: Vec<&Value> = hosts.iter().map(|host| &host["queues"]).collect();
        assert_eq!(queues, [&Value::Null, &serde_json::json!(["mail", "orders"])], "{told:#}");
        assert_eq!(hosts[0]["host"], hosts[1]["host"]);
        s.duly(["status"]).stdout_has("(queue mail, orders)").status(0);
    }

    /// Seen failing: all were listed, and none ever forgotten.
    fn of_very_many_hosts_the_latest_are_told_and_clean_up_forgets_the_rest(s: Sandbox) {
        s.set_jobs("jobs: {a: {command: ['true']}}");
        s.duly(["run"]).status(0);
        let old = ago(&s, 2 * 86_400);
        let rows: Vec<String> = (0..700).map(|n| format!("('box{n}', {old}, '1')")).collect();
        s.database().sql(&format!("INSERT INTO duly_runner (host, last_tick_at, version) VALUES {}", rows.join(", ")));
        let text = s.duly(["status"]).output().stdout;
        assert!(text.contains("and 201 more that ticked longer ago"), "{text}");
        assert!(text.lines().filter(|line| line.starts_with("box")).count() == 499, "{text}");
        s.duly(["clean-up"]).status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_runner"), "1");
    }

    /// Seen failing: only the oldest five hundred were looked at, all of them paused.
    fn many_paused_jobs_hide_none_that_nobody_starts(s: Sandbox) {
        s.set_jobs("jobs: {a: {command: ['true']}}");
        s.duly(["run"]).status(0);
        s.duly(["pause", "a"]).stdout_has("is paused").status(0);
        let (old, late) = (ago(&s, 7200), ago(&s, 3600));
        let mut rows = vec![format!("('a', 'pending', 'default', 0, {old})"); 700];
        rows.push(format!("('nobodys', 'pending', 'default', 0, {late})"));
        s.database().sql(&format!("INSERT INTO duly_job (name, state, queue, priority, run_at) VALUES {}", rows.join(", ")));
        let text = s.duly(["status"]).output().stdout;
        assert!(text.contains("`nobodys`"), "{text}");
    }

    fn its_json_has_the_documented_fields(s: Sandbox) {
        s.set_jobs("jobs:\n  a: {command: ['true']}\n");
        s.duly(["run"]).status(0);
        s.duly(["start", "a"]).stdout("1\n").status(0);
        s.duly(["pause", "a"]).stdout_has("paused").status(0);
        let told = s.json(["status", "--json"]);
        let mut keys: Vec<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected = ["clock_difference_seconds", "crontab", "failing", "findings", "hosts", "late", "latency_seconds", "level", "now", "pauses", "queues", "running", "schema", "tzdata", "verdict"];
        assert_eq!(keys, expected);
        assert_eq!((&told["level"], &told["pauses"][0]["scope"], &told["queues"][0]["pending"]), (&"note".into(), &"job:a".into(), &1.into()));
    }
}
