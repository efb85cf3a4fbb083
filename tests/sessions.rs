//! `sessions`: counted by one query whatever the time is kept as, shown, and trimmed.

use crate::support::{Backend, Sandbox, on_every_database};

/// Sessions used 1 minute, 10 minutes, 2 hours and 3 days ago, with their time as a number and as a date.
fn shop(s: &Sandbox) {
    s.json(["list", "--json"]);
    s.database()
        .sql("CREATE TABLE sessions (sess_id VARCHAR(50) PRIMARY KEY, sess_time INTEGER, used_at DATETIME)");
    for (id, minutes) in [("a", 1), ("b", 10), ("c", 120), ("d", 3 * 1440)] {
        let (unix, date) = match s.database().backend() {
            Backend::Sqlite => {
                ("CAST(strftime('%s', 'now') AS INTEGER)", format!("datetime('now', '-{minutes} minutes')"))
            }
            Backend::MariaDb => ("UNIX_TIMESTAMP()", format!("UTC_TIMESTAMP() - INTERVAL {minutes} MINUTE")),
        };
        s.database().sql(&format!("INSERT INTO sessions VALUES ('{id}', {unix} - {minutes} * 60, {date})"));
    }
}

fn measured(s: &Sandbox) -> Vec<Vec<Option<String>>> {
    s.database().rows("SELECT active_5m, active_30m, active_24h, total FROM duly_session_stat ORDER BY id")
}

on_every_database! {
    fn sessions_are_counted_as_symfony_keeps_them(s: Sandbox) {
        shop(&s);
        s.duly(["sessions", "write-stat"]).status(0);
        assert_eq!(measured(&s), [["1", "2", "3", "4"].map(|n| Some(n.to_owned()))]);
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["name"].as_str(), job["output"].as_str()), (Some("sessions-write-stat"), Some("4 sessions, used within 5 minutes: 1, 30 minutes: 2, a day: 3\n")));
        let shown = s.json(["sessions", "show", "--json"]);
        assert_eq!((shown[0]["active_30m"].as_i64(), shown[0]["total"].as_i64()), (Some(2), Some(4)));
        s.duly(["sessions", "show"]).stdout_has("4 sessions at").stdout_has("█ 1\n").status(0);
    }

    fn a_time_may_be_a_date_and_the_word_of_the_seeds_is_understood(s: Sandbox) {
        shop(&s);
        s.set_jobs("sessions: {table: sessions, columns: {time: used_at}}");
        s.duly(["sessions", "write_stat"]).status(0);
        assert_eq!(measured(&s), [["1", "2", "3", "4"].map(|n| Some(n.to_owned()))]);
    }

    fn an_empty_table_counts_as_none_and_a_missing_one_is_named(s: Sandbox) {
        s.duly(["sessions", "show"]).stdout_has("`duly sessions write-stat` measures once").status(0);
        s.duly(["sessions", "write-stat"]).stderr_has("sessions.table: the database has no table `sessions`").status(2);
        s.database().sql("CREATE TABLE sessions (sess_time INTEGER, name VARCHAR(10))");
        s.duly(["sessions", "write-stat"]).status(0);
        assert_eq!(measured(&s), [["0", "0", "0", "0"].map(|n| Some(n.to_owned()))]);
        s.set_jobs("sessions: {columns: {time: used}}");
        s.duly(["sessions", "write-stat"]).stderr_has("has no column `used`; it has sess_time, name").status(2);
    }

    fn a_schedule_counts_them_and_clean_up_forgets_what_is_old(s: Sandbox) {
        shop(&s);
        s.set_jobs("retention: {default: 2 days}\njobs: {count: {builtin: sessions-write-stat, schedule: '@tick'}}");
        s.duly(["run"]).status(0);
        assert_eq!(measured(&s).len(), 1);
        let old = match s.database().backend() {
            Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-3 days')",
            Backend::MariaDb => "UTC_TIMESTAMP(6) - INTERVAL 3 DAY",
        };
        s.database().sql(&format!("INSERT INTO duly_session_stat (measured_at, active_5m, active_30m, active_24h, total) VALUES ({old}, 9, 9, 9, 9)"));
        s.duly(["clean-up", "--dry-run"]).stdout_has("0 jobs").status(0);
        assert_eq!(measured(&s).len(), 2);
        s.duly(["clean-up"]).status(0);
        assert_eq!(measured(&s).len(), 1);
    }
}

#[test]
fn a_time_that_is_neither_number_nor_date_is_refused() {
    let s = Sandbox::new(Backend::MariaDb);
    s.database().sql("CREATE TABLE sessions (sess_time VARCHAR(10)); INSERT INTO sessions VALUES ('noon')");
    s.duly(["sessions", "write-stat"])
        .stdout_has("is of type varchar; expected a number of seconds")
        .stderr_has("exited with 2")
        .status(3);
}
