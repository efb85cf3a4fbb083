//! A host that has run out of something, and callers that have set up something odd: neither is charged to a job.

use std::time::Duration;

use crate::support::{Backend, Sandbox};

const JOBS: &str = "runner: {concurrency: 40}\njobs:\n  work: {command: [sleep, '0.3'], max_attempts: 1}\n";

fn with_jobs(count: usize) -> Sandbox {
    let s = Sandbox::new(Backend::Sqlite).jobs(JOBS);
    let rows: String = (0..count).map(|_| "{\"name\": \"work\"}\n").collect();
    s.duly(["enqueue", "--batch", "-"]).stdin(&rows).stdout_has("").status(0);
    s
}

/// Seen failing with the program before: jobs `failed` that had not begun.
#[test]
fn a_host_that_lets_no_more_files_be_open_charges_no_job() {
    let s = with_jobs(80);
    for limit in [9, 10, 11, 12, 13, 14, 18, 24, 40, 70, 100] {
        let command = format!("ulimit -n {limit}; exec \"$@\"");
        let output =
            s.duly(["run"]).under(&["sh", "-c", &command, "sh"]).limit(Duration::from_secs(60)).output();
        let told = output.stderr.contains("os error 24") || output.status.code() == Some(0);
        let other =
            s.database().value("SELECT COUNT(*) FROM duly_job WHERE state NOT IN ('pending', 'success')");
        let charged =
            s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'pending' AND attempts > 0");
        assert!(told && other == "0" && charged == "0", "{limit}: {other} {charged} {output}");
    }
    s.duly(["run"]).limit(Duration::from_secs(60)).status(0);
    assert_eq!(
        s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success' AND attempts = 1"),
        "80"
    );
}

/// Seen failing with the program before, whose soft limit stayed as it was.
#[test]
fn files_may_be_open_as_far_as_the_hard_limit_lets_them() {
    let s = with_jobs(60);
    let limited = ["sh", "-c", "ulimit -Sn 100; exec \"$@\"", "sh"];
    s.duly(["run"]).under(&limited).limit(Duration::from_secs(60)).status(0);
    assert_eq!(
        s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success' AND attempts = 1"),
        "60"
    );
}

/// Seen failing with the program before: `not_started`, and run again.
#[test]
fn how_a_command_ended_is_heard_of_though_the_caller_ignores_the_ends_of_children() {
    let s = Sandbox::new(Backend::Sqlite)
        .jobs("jobs:\n  once: {command: [sh, -c, 'echo x >> done'], max_attempts: 3}\n");
    s.duly(["start", "once"]).stdout("1\n").status(0);
    let ignoring = ["perl", "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"];
    s.duly(["run"]).under(&ignoring).status(0);
    assert_eq!(s.database().value("SELECT CONCAT(state, ' ', outcome) FROM duly_job"), "success success");
    s.duly(["run"]).under(&ignoring).status(0);
    assert_eq!(s.read("done"), "x\n");
}

/// Seen failing with the program before, whose commands could not be told to stop.
#[test]
fn signals_that_the_caller_holds_back_are_not_held_back_from_commands() {
    let s =
        Sandbox::new(Backend::Sqlite).jobs("jobs:\n  look: {command: [grep, SigBlk, /proc/self/status]}\n");
    s.duly(["start", "look"]).stdout("1\n").status(0);
    let blocking = [
        "perl",
        "-MPOSIX",
        "-e",
        "sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGUSR1, SIGCHLD)); exec @ARGV",
    ];
    s.duly(["run"]).under(&blocking).status(0);
    let output = s.json(["show", "1", "--json"])["output"].clone();
    assert_eq!(output, "SigBlk:\t0000000000000000\n");
}

/// Seen failing with the program before, which told of a file that was not there.
#[test]
fn a_script_whose_interpreter_is_not_there_is_told_with_what_is_wrong_with_it() {
    let s = Sandbox::new(Backend::Sqlite);
    for (name, head) in
        [("windows", "#!/bin/sh\r\n"), ("gone", "#!/no/such/php\n"), ("env", "#!/usr/bin/env no-such-php\n")]
    {
        s.file(name, &format!("{head}echo x\n"));
    }
    s.set_jobs(
        "jobs:\n  windows: {command: [./windows]}\n  gone: {command: [./gone]}\n  env: {command: [./env]}\n",
    );
    let check = s.duly(["check"]).output();
    for (name, said) in [
        ("windows", "has the line ends of Windows"),
        ("gone", "is a script whose interpreter `/no/such/php` does not exist"),
        ("env", "is a script whose interpreter `no-such-php` is not in its PATH"),
    ] {
        assert!(check.stdout.contains(said) || check.stderr.contains(said), "{check}");
        s.duly(["run-job", name]).stderr_has(said).output();
    }
}
