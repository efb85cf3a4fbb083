//! `refresh-cache`: every processor gets every change, none is lost, and with nothing to do nothing is done.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Backend, Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Two processors: each appends what it gets to a file of its name, but fails on its own terms first.
const JOBS: &str = "
refresh_cache:
  batch: 1000
  processors:
    navigation: {command: [./processor, navigation]}
    translations: {command: [./processor, translations]}
";

/// Fails while `NAME.broken` is there; kills what called it when `NAME.kill` is.
const PROCESSOR: &str = r#"#!/bin/sh
cat > "$1.got"
[ -e "$1.broken" ] && { echo "$1 is broken"; exit 7; }
[ -e "$1.kill-before" ] && { rm "$1.kill-before"; kill -9 $PPID; sleep 60; }
cat "$1.got" >> "$1.log"
echo x >> "$1.calls"
[ -e "$1.kill-after" ] && { rm "$1.kill-after"; kill -9 $PPID; sleep 60; }
exit 0
"#;

fn shop(s: &Sandbox) {
    s.set_jobs(JOBS);
    s.file("processor", PROCESSOR);
    s.json(["list", "--json"]);
}

fn insert(s: &Sandbox, count: u32) {
    let rows: Vec<String> = (1..=count).map(|n| format!("('c{n}', 'publish')")).collect();
    for rows in rows.chunks(1000) {
        s.database()
            .sql(&format!("INSERT INTO duly_content_change (content_id, action) VALUES {}", rows.join(", ")));
    }
}

/// The contents that a processor got, in order.
fn got(s: &Sandbox, name: &str) -> Vec<String> {
    let content =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["content_id"].as_str().unwrap().to_owned();
    s.read(&format!("{name}.log")).lines().map(content).collect()
}

fn left(s: &Sandbox) -> String {
    s.database().value("SELECT COUNT(*) FROM duly_content_change")
}

fn remembered(s: &Sandbox) -> String {
    s.database().value("SELECT COUNT(*) FROM duly_content_change_given")
}

fn touch(s: &Sandbox, name: &str) {
    s.file(name, "");
}

fn remove(s: &Sandbox, name: &str) {
    std::fs::remove_file(s.path(name)).unwrap();
}

on_every_database! {
    fn five_thousand_changes_reach_both_though_one_fails_and_the_process_is_killed_in_between(s: Sandbox) {
        shop(&s);
        insert(&s, 5000);
        let all: Vec<String> = (1..=5000).map(|n| format!("c{n}")).collect();
        // The second fails from its third batch on.
        s.file("processor", &PROCESSOR.replace("cat > \"$1.got\"", "cat > \"$1.got\"\n[ $1 = translations ] && [ \"$(wc -l < translations.calls)\" = 2 ] && touch translations.broken"));
        s.file("translations.calls", "");
        s.duly(["refresh-cache"]).stdout_has("translations is broken").stderr_has("exited with 3").status(3);
        assert_eq!((got(&s, "navigation"), got(&s, "translations")), (all.clone(), all[..2000].to_vec()));
        assert_eq!((left(&s).as_str(), remembered(&s).as_str()), ("3000", "3000"));
        // It works again, and dies with the whole run before its next batch is done, then after one is done.
        s.file("processor", PROCESSOR);
        remove(&s, "translations.broken");
        touch(&s, "translations.kill-before");
        s.duly(["refresh-cache"]).stdout_has("").stderr_has("was ended by signal 9").status(3);
        assert_eq!(left(&s), "3000");
        s.duly(["refresh-cache"]).status(0);
        assert_eq!((left(&s).as_str(), remembered(&s).as_str()), ("0", "0"));
        assert_eq!((got(&s, "navigation"), got(&s, "translations")), (all.clone(), all));
    }

    fn what_a_processor_had_before_the_process_was_killed_is_not_lost_to_the_other(s: Sandbox) {
        shop(&s);
        insert(&s, 10);
        // It has done its work, but nobody could write that down: it gets the batch again, as said.
        touch(&s, "navigation.kill-after");
        s.duly(["refresh-cache"]).stdout_has("").stderr_has("was ended by signal 9").status(3);
        assert_eq!((got(&s, "navigation").len(), got(&s, "translations").len(), left(&s).as_str()), (10, 0, "10"));
        s.duly(["refresh-cache"]).status(0);
        assert_eq!((got(&s, "navigation").len(), got(&s, "translations").len(), left(&s).as_str()), (20, 10, "0"));
        // After the first was written down only the second gets it again.
        insert(&s, 10);
        touch(&s, "translations.kill-after");
        s.duly(["refresh-cache"]).stdout_has("").stderr_has("was ended by signal 9").status(3);
        assert_eq!(remembered(&s), "10");
        s.duly(["refresh-cache"]).status(0);
        assert_eq!((got(&s, "navigation").len(), got(&s, "translations").len(), left(&s).as_str()), (30, 30, "0"));
    }

    fn nothing_to_do_records_nothing_and_starts_nothing(s: Sandbox) {
        shop(&s);
        s.duly(["refresh-cache"]).status(0);
        assert!(!s.path("navigation.got").exists());
        assert_eq!(s.json(["list", "--json"]).as_array().unwrap().len(), 0);
    }

    fn what_was_done_is_recorded_as_a_job_and_printed_only_where_asked_for(s: Sandbox) {
        shop(&s);
        insert(&s, 3);
        s.duly(["refresh-cache"]).status(0);
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["name"].as_str(), job["state"].as_str(), job["attempts"].as_i64()), (Some("refresh-cache"), Some("success"), Some(1)));
        let output = job["output"].as_str().unwrap();
        assert!(output.contains("navigation: 3 changes, succeeded"), "{output}");
        insert(&s, 1);
        s.duly(["refresh-cache", "-v"]).stdout_has("navigation: 1 change, succeeded").stderr_has("").status(0);
    }

    fn it_is_a_builtin_on_a_schedule_too_and_another_one_is_refused_meanwhile(s: Sandbox) {
        s.set_jobs(&format!("{JOBS}jobs: {{caches: {{builtin: refresh-cache, schedule: '@tick'}}}}\n"));
        s.file("processor", &PROCESSOR.replace("cat > ", "while [ -e wait ]; do sleep 0.05; done; cat > "));
        s.json(["list", "--json"]);
        insert(&s, 3);
        touch(&s, "wait");
        let tick = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'running'") == "1");
        s.duly(["refresh-cache"]).stderr_has("`caches`").status(4);
        remove(&s, "wait");
        assert!(tick.wait().status.success());
        assert_eq!((left(&s).as_str(), s.json(["show", "1", "--json"])["name"].as_str()), ("0", Some("caches")));
        s.duly(["run-job", "caches", "--", "x"]).stderr_has("no params").status(3);
    }

    fn what_comes_in_meanwhile_is_for_the_next_run(s: Sandbox) {
        shop(&s);
        insert(&s, 3);
        s.file("processor", &PROCESSOR.replace("cat > ", "while [ -e wait ]; do sleep 0.05; done; cat > "));
        touch(&s, "wait");
        let run = s.duly(["refresh-cache"]).spawn();
        wait_until("it runs", SOON, || s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'running'") == "1");
        // The processor waits, so the batch has been read.
        wait_until("a processor waits", SOON, || s.processes().len() >= 3);
        s.database().sql("INSERT INTO duly_content_change (content_id, action) VALUES ('late', 'publish')");
        remove(&s, "wait");
        assert!(run.wait().status.success());
        assert_eq!((got(&s, "navigation").len(), left(&s).as_str()), (3, "1"));
        s.duly(["refresh-cache"]).status(0);
        assert_eq!((got(&s, "translations").last().map(String::as_str), left(&s).as_str()), (Some("late"), "0"));
    }

    fn equal_changes_are_given_once_with_all_that_is_known(s: Sandbox) {
        shop(&s);
        s.database().sql(
            "INSERT INTO duly_content_change (content_id, action, triggered_by, content_type, language, attributes) VALUES \
             ('7', 'publish', 'a', 'article', 'de', '{\"path\": [1, 2]}'), ('7', 'publish', 'b', 'article', 'de', '{\"path\": [1, 2]}'), \
             ('7', 'publish', 'b', 'article', 'en', 'no JSON'), ('grüße \"8\"', 'delete', NULL, NULL, NULL, NULL)",
        );
        s.duly(["refresh-cache"]).status(0);
        let lines: Vec<Value> = s.read("navigation.log").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], serde_json::json!({"id": 2, "content_id": "7", "action": "publish", "triggered_by": "b", "content_type": "article", "language": "de", "attributes": {"path": [1, 2]}}));
        assert_eq!((&lines[1]["attributes"], lines[2]["content_id"].as_str()), (&Value::from("no JSON"), Some("grüße \"8\"")));
        assert_eq!(left(&s), "0");
    }

    fn ids_that_come_again_after_the_queue_was_emptied_are_new_changes(s: Sandbox) {
        shop(&s);
        insert(&s, 3);
        touch(&s, "translations.broken");
        s.duly(["refresh-cache"]).stdout_has("broken").stderr_has("exited with 3").status(3);
        assert_eq!(remembered(&s), "3");
        s.database().sql(match s.database().backend() {
            Backend::Sqlite => "DELETE FROM duly_content_change; DELETE FROM sqlite_sequence WHERE name = 'duly_content_change'",
            Backend::MariaDb => "TRUNCATE duly_content_change",
        });
        // Ids 1 to 4, of which the first processor has had the first three under these very ids.
        s.database().sql("INSERT INTO duly_content_change (content_id, action) VALUES ('new1', 'publish'), ('c2', 'delete'), ('new3', 'publish'), ('new4', 'publish')");
        assert_eq!(s.database().value("SELECT MAX(id) FROM duly_content_change"), "4");
        remove(&s, "translations.broken");
        s.duly(["refresh-cache"]).status(0);
        assert_eq!((remembered(&s).as_str(), got(&s, "navigation")[3..].join(" ").as_str()), ("0", "new1 c2 new3 new4"));
        assert_eq!(got(&s, "translations").join(" "), "new1 c2 new3 new4");
    }

    fn a_processor_that_is_stopped_with_the_run_goes_on_next_time(s: Sandbox) {
        shop(&s);
        insert(&s, 3);
        s.file("processor", "#!/bin/sh\necho $$ > pid\nsleep 60\n");
        let run = s.duly(["refresh-cache"]).spawn();
        wait_until("a processor runs", SOON, || !s.read("pid").is_empty());
        run.signal(rustix::process::Signal::TERM);
        let output = run.wait();
        assert_eq!(output.status.code(), Some(143), "{output}");
        wait_until("nothing is left running", SOON, || s.processes().is_empty());
        s.file("processor", PROCESSOR);
        s.duly(["refresh-cache"]).status(0);
        assert_eq!((got(&s, "navigation").len(), left(&s).as_str()), (3, "0"));
    }

    /// Seen failing without the tidying up before the claim: nothing but a tick would ever have freed its place.
    fn a_run_that_was_killed_holds_up_no_other_and_leaves_nothing_running(s: Sandbox) {
        shop(&s);
        insert(&s, 3);
        s.file("processor", "#!/bin/sh\necho $$ >> pids\nexec sleep 60\n");
        let mut run = s.duly(["refresh-cache"]).spawn();
        wait_until("a processor runs", SOON, || !s.read("pids").is_empty());
        run.signal_if_running(rustix::process::Signal::KILL);
        run.wait();
        wait_until("nothing is left running", SOON, || s.processes().is_empty());
        s.file("processor", PROCESSOR);
        s.duly(["refresh-cache"]).stderr_has("was orphaned").status(0);
        assert_eq!((got(&s, "navigation").len(), got(&s, "translations").len(), left(&s).as_str()), (3, 3, "0"));
    }

    fn a_processor_that_calls_it_is_refused_and_so_is_whoever_pretends(s: Sandbox) {
        shop(&s);
        insert(&s, 3);
        s.file("processor", &format!("#!/bin/sh\ncat > \"$1.log\"\n{} refresh-cache 2>> refused\necho $? >> codes\nwhile [ -e wait ]; do sleep 0.05; done\n", env!("CARGO_BIN_EXE_duly")));
        touch(&s, "wait");
        let run = s.duly(["refresh-cache"]).spawn();
        wait_until("it was refused", SOON, || !s.read("codes").is_empty());
        s.duly(["refresh-cache"]).env("DULY_JOB_NAME", "refresh-cache").env("DULY_STARTER", "1").stderr_has("`refresh-cache`").status(4);
        remove(&s, "wait");
        assert!(run.wait().status.success());
        assert_eq!((s.read("codes").as_str(), got(&s, "translations").len(), left(&s).as_str()), ("4\n4\n", 3, "0"));
    }

    fn a_wrong_name_says_what_there_is(s: Sandbox) {
        s.json(["list", "--json"]);
        s.database().sql("CREATE TABLE queue (id INTEGER PRIMARY KEY, content INTEGER, action VARCHAR(10))");
        let with = |columns: &str, table: &str| {
            s.set_jobs(&format!("refresh_cache: {{table: {table}, columns: {{{columns}}}, processors: {{a: {{command: ['true']}}}}}}"));
        };
        with("content_id: contnt", "queue");
        s.duly(["refresh-cache"]).stderr("duly: error: cannot start `refresh-cache`: refresh_cache.columns.content_id: the table `queue` has no column `contnt`; it has id, content, action\n").status(2);
        with("content_id: content", "queu");
        s.duly(["refresh-cache"]).stderr_has("refresh_cache.table: the database has no table `queu`").status(2);
        with("content_id: content", "queue");
        s.duly(["refresh-cache"]).status(0);
        s.database().sql("INSERT INTO queue VALUES (1, 5, 'publish')");
        with("id: action, content_id: content", "queue");
        s.duly(["refresh-cache"]).stdout_has("expected a whole number that grows").stderr_has("exited with 1").status(3);
        with("content_id: content", "queue");
        s.duly(["refresh-cache"]).status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM queue"), "0");
    }
}

#[test]
fn without_a_section_it_says_what_to_write() {
    let s = Sandbox::new(Backend::Sqlite);
    s.duly(["refresh-cache"]).stderr_has("add refresh_cache: {processors:").status(2);
    s.set_jobs(&format!("{JOBS}jobs: {{refresh-cache: {{command: ['true']}}}}\n"));
    s.json(["list", "--json"]);
    insert(&s, 1);
    s.duly(["refresh-cache"]).stderr_has("declares a job `refresh-cache` that is something else").status(2);
}
