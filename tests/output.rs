//! What commands print: kept whatever they do with their streams, whatever the disk and the server take, told where it is not all.

use std::process::Command;
use std::time::Duration;

use crate::support::{Backend, Database, Sandbox, Server, on_every_database, program, wait_until};

const SOON: Duration = Duration::from_secs(30);

fn output(s: &Sandbox, id: i64) -> String {
    s.json(["show", &id.to_string(), "--json"])["output"].as_str().unwrap_or_default().to_owned()
}

on_every_database! {
    /// Seen failing with a file in the place of the pipe: `one` was written over.
    fn what_a_command_writes_to_dev_stdout_and_dev_stderr_stands_in_its_place(s: Sandbox) {
        s.set_jobs("jobs:\n  job: {command: [bash, -c, 'echo one; echo two | tee /dev/stderr; echo three > /dev/stdout; echo four > /proc/self/fd/2; echo five >&2']}\n");
        s.duly(["start", "job"]).stdout("1\n").status(0);
        s.duly(["run"]).status(0);
        let printed = output(&s, 1);
        assert_eq!(printed, "one\ntwo\ntwo\nthree\nfour\nfive\n");
        s.duly(["run-job", "job"]).stdout("one\ntwo\ntwo\nthree\nfour\nfive\n").status(0);
    }

    fn all_that_is_printed_is_shown_by_run_job_however_much_it_is(s: Sandbox) {
        s.set_jobs("jobs:\n  job: {command: [seq, '3000000'], output_limit: 1KiB}\n");
        let shown = s.duly(["run-job", "job"]).output();
        assert!(shown.status.success() && shown.stdout.len() == 22_888_896 && shown.stdout.ends_with("\n2999999\n3000000\n"), "{}", shown.stdout.len());
        assert!(output(&s, 1).starts_with("1\n2\n") && output(&s, 1).ends_with("3000000\n"));
    }

    /// Seen failing with the reading end closed at the end of the command: what it had left was ended by SIGPIPE.
    fn what_is_left_in_the_background_is_told_and_goes_on_printing(s: Sandbox) {
        s.set_jobs("jobs:\n  job: {command: [./job]}\n  quiet: {command: [sh, -c, 'setsid sleep 600 >/dev/null 2>&1 & sleep 600 >/dev/null 2>&1 & exit 3'], max_attempts: 1}\n");
        s.file("job", "#!/bin/sh\nprintf begun\n(while [ ! -e go ]; do sleep 0.1; done; seq 100000 && echo done > went-on; sleep 600) &\n");
        s.duly(["start", "job"]).stdout("1\n").status(0);
        s.duly(["start", "quiet"]).stdout("2\n").status(0);
        s.duly(["run"]).limit(Duration::from_secs(20)).stderr_has("job 2 (quiet) failed").status(0);
        let told = "… its command has ended and has left processes running in the background; what they print is dropped …\n";
        assert_eq!(output(&s, 1), format!("begun\n{told}"));
        assert_eq!(output(&s, 2), told);
        s.file("go", "");
        wait_until("what was left has printed more than a pipe holds", SOON, || s.path("went-on").exists());
    }

    /// Seen failing with nothing waited for after the end of the command.
    fn what_ends_a_moment_after_its_command_is_not_left_behind(s: Sandbox) {
        s.set_jobs("jobs:\n  job: {command: [bash, -c, 'exec > >(while read -r line; do echo \"got $line\"; done); echo one; echo two']}\n");
        for _ in 0..5 {
            s.duly(["start", "job"]).stdout_has("").status(0);
        }
        s.duly(["run"]).status(0);
        for id in 1..=5 {
            assert_eq!(output(&s, id), "got one\ngot two\n");
        }
    }

    fn what_prints_for_ever_in_the_background_holds_nobody_up(s: Sandbox) {
        s.set_jobs("jobs:\n  job: {command: [sh, -c, 'yes & sleep 0.2; echo $! > child'], output_limit: 1KiB}\n");
        s.duly(["start", "job"]).stdout("1\n").status(0);
        s.duly(["run"]).limit(Duration::from_secs(20)).status(0);
        assert!(output(&s, 1).contains("has left processes running"), "{}", output(&s, 1));
        s.duly(["list", "--state", "success", "--json"]).stdout_has("\"id\": 1").status(0);
    }
}

/// A small file system in memory is the state folder, in a mount namespace of its own. Seen failing with the command writing to the
/// file itself: `No space left on device`.
#[test]
fn much_output_at_once_and_a_full_state_folder_are_no_trouble_of_the_command() {
    let s = Sandbox::new(Backend::Sqlite);
    std::fs::create_dir(s.path("small")).unwrap();
    s.set_jobs(&format!(
        "runner: {{state_dir: {}/state}}\njobs:\n  much: {{command: [sh, -c, 'echo head; head -c 50000000 /dev/zero && echo tail'], output_limit: 64KiB}}\n  \
         full: {{command: [sh, -c, 'echo head; dd if=/dev/zero of=small/full bs=1k; seq 20000 && rm small/full && echo tail']}}\n",
        s.path("small").display()
    ));
    s.duly(["start", "much"]).stdout("1\n").status(0);
    s.duly(["start", "full"]).stdout("2\n").status(0);
    let script =
        "mount -t tmpfs -o size=8m,mode=0700 none small || exit 99; $DULY run --concurrency 1 > tick 2>&1";
    let mut command = Command::new("unshare");
    // Who is not root becomes it in a namespace of users.
    command.args(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" }.split(' '));
    command.args(["sh", "-c", script]).current_dir(s.path("")).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", s.path("")).env("DULY", program());
    let done =
        command.env("XDG_RUNTIME_DIR", s.path("run")).output().expect("unshare (util-linux) is needed");
    assert!(done.status.success(), "no file system can be mounted here, which this test needs: {done:?}");
    assert_eq!(s.read("tick"), "");
    for id in ["1", "2"] {
        let job = s.json(["show", id, "--json"]);
        let text = job["output"].as_str().unwrap();
        assert!(
            job["state"] == "success" && text.starts_with("head\n") && text.ends_with("tail\n"),
            "{job:#}"
        );
    }
    assert!(output(&s, 2).contains("\n19999\n20000\n"));
}

/// Seen failing with what does not fit cut off at the end, and with a packet smaller than was sure to fit: never recorded.
#[test]
fn of_an_output_that_the_server_takes_no_packet_for_head_and_tail_are_kept() {
    let server = Server::start();
    let s = Sandbox::on(Database::on(&server));
    s.duly(["migrate"]).output();
    s.set_jobs("jobs:\n  job: {command: [sh, -c, 'echo head; seq 100000; echo tail']}\n");
    for (id, packet) in [(1, 256 << 10), (2, 32 << 10)] {
        server.administrator().sql(&format!("SET GLOBAL max_allowed_packet = {packet}"));
        s.duly(["start", "job"]).stdout(&format!("{id}\n")).status(0);
        s.duly(["run"]).status(0);
        let job = s.json(["show", &id.to_string(), "--json"]);
        let text = job["output"].as_str().unwrap();
        assert!(
            job["state"] == "success" && text.starts_with("head\n1\n") && text.ends_with("100000\ntail\n"),
            "{job:#}"
        );
        let lost = job["output_truncated"].as_i64().unwrap();
        assert!(
            text.contains(&format!("… {lost} bytes left out: max_allowed_packet is {packet} …"))
                && text.len() > packet * 9 / 10
        );
    }
}
