//! A schedule that makes one job for each target that a command lists.

use crate::support::{Backend, Sandbox, on_every_database};

const JOBS: &str = "jobs:\n  check:\n    command: [sh, -c, 'echo $1 $DULY_TARGET_TYPE >> seen; test ! -e fail', check, '{target_id}']\n    schedule: '* * * * *'\n    targets: {type: EmailAccount, command: [./accounts]}\n    max_attempts: 2\n    backoff: {initial: 1h}\n";

fn set_back(s: &Sandbox) {
    let mark = match s.database().backend() {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-1 minutes')",
        Backend::MariaDb => "(UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE)",
    };
    s.database().sql(&format!(
        "UPDATE duly_schedule SET mark_at = {mark}, next_at = {mark}; UPDATE duly_job SET occurrence_key = NULL"
    ));
}

on_every_database! {
    fn each_line_that_the_command_prints_becomes_a_job(s: Sandbox) {
        s.set_jobs(JOBS);
        s.file("accounts", "#!/bin/sh\necho 12\necho\necho '  a b  '\necho warning >&2\n");
        s.duly(["run"]).status(0);
        set_back(&s);
        s.duly(["run"]).status(0);
        let mut seen: Vec<String> = s.read("seen").lines().map(str::to_owned).collect();
        seen.sort();
        assert_eq!(seen, ["12 EmailAccount", "a b EmailAccount"]);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE target_type = 'EmailAccount' AND state = 'success'"), "2");
    }

    fn overlap_is_judged_per_target(s: Sandbox) {
        s.set_jobs(JOBS);
        s.file("accounts", "#!/bin/sh\necho slow\necho quick\n");
        s.file("fail", "");
        s.duly(["run"]).status(0);
        set_back(&s);
        s.duly(["run"]).status(0);
        s.database().sql("UPDATE duly_job SET state = 'success' WHERE target_id = 'quick'");
        set_back(&s);
        s.duly(["run"]).status(0);
        let of = |id: &str| s.database().value(&format!("SELECT COUNT(*) FROM duly_job WHERE target_id = '{id}' AND state = 'delayed'"));
        assert_eq!((of("slow"), of("quick")), ("1".into(), "1".into()));
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'cancelled' AND target_id = 'slow'"), "1", "and the skipped one says for which");
    }

    fn while_the_list_cannot_be_had_nothing_is_made_and_nothing_is_lost(s: Sandbox) {
        s.set_jobs(JOBS);
        s.file("accounts", "#!/bin/sh\necho 1\necho 'no connection' >&2\nexit 3\n");
        s.duly(["run"]).status(0);
        set_back(&s);
        s.duly(["run"]).stderr_has("exited with 3: no connection").status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "0");
        s.file("accounts", "#!/bin/sh\necho 1\n");
        // As if a minute had passed.
        s.database().sql("UPDATE duly_schedule SET next_at = mark_at");
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "1");
    }
}
