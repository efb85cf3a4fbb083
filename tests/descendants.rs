//! What descends from an execution that is stopped, whose runner has died, or whose traces are gone: it is ended, wherever it
//! went, before the job is begun again beside it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Backend, Sandbox, as_stranger, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Notes down in `child` that it is there, in a session of its own, and stays; named so that the first attempt can wait for it.
const CHILD: &str = "echo $$ > child.new; mv child.new child; exec sleep 600";

/// A job whose first attempt starts a child in this way and stays, and whose second one says whether that is still there.
fn with_child(s: &Sandbox, start: &str, more: &str) {
    s.file("child-to-be", &format!("#!/bin/sh\n{CHILD}\n"));
    s.file(
        "job",
        &format!(
            "#!/bin/sh\nif [ $DULY_ATTEMPT -gt 1 ]; then\n  grep -qs ') [^ZX]' /proc/$(cat child)/stat && echo beside\n  \
             echo alone; exit 0\nfi\n{start}\nwhile [ ! -e child ]; do sleep 0.02; done\ntouch running\nsleep 600 & wait\nsleep 600\n"
        ),
    );
    s.set_jobs(&format!(
        "runner: {{state_dir: {}, lease: 3s, concurrency: 2}}\njobs:\n  job:\n    command: [./job]\n    max_attempts: 2\n    \
         backoff: {{initial: 0s, jitter: 0}}\n    {more}\n",
        s.state_dir().display()
    ));
    s.duly(["start", "job"]).stdout("1\n").status(0);
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

fn child(s: &Sandbox) -> String {
    s.read("child").trim().to_owned()
}

/// Runs ticks until the job has succeeded; its second attempt must have found nothing of the first.
#[track_caller]
fn is_run_again_alone(s: &Sandbox) {
    wait_until("it is run again", SOON, || {
        s.duly(["run"]).output();
        s.database().value("SELECT state FROM duly_job WHERE id = 1") == "success"
    });
    let job = s.json(["show", "1", "--json"]);
    assert_eq!((job["attempts"].as_i64(), job["output"].as_str()), (Some(2), Some("alone\n")), "{job:#}");
    assert!(!is_alive(&child(s)));
}

/// In a session of its own; deaf; with a parent that has ended; with an emptied environment; both, in the session of the command.
const WAYS: [&str; 5] = [
    "setsid ./child-to-be &",
    "(trap '' TERM; setsid ./child-to-be) &",
    "(setsid ./child-to-be &)",
    "setsid env -i PATH=$PATH ./child-to-be &",
    "(env -i PATH=$PATH ./child-to-be &)",
];

/// Seen failing with the group ended and nothing else, and with `Kin::tell_others` left out for the one that is told.
#[test]
fn at_the_timeout_everything_that_descends_from_the_command_is_ended_before_the_next_attempt() {
    for way in WAYS {
        let s = Sandbox::from(Backend::Sqlite);
        with_child(&s, way, "timeout: 1s\n    grace: 500ms");
        s.duly(["run"]).limit(SOON).output();
        is_run_again_alone(&s);
    }
    let s = Sandbox::from(Backend::Sqlite);
    with_child(&s, "setsid ./polite &", "timeout: 1s\n    grace: 20s");
    s.file(
        "polite",
        "#!/bin/sh\ntrap 'touch goodbye; exit' TERM\necho $$ > child\nwhile :; do sleep 0.1; done\n",
    );
    s.duly(["run"]).limit(Duration::from_secs(15)).output();
    assert!(s.path("goodbye").exists(), "what left the group has its time of grace as well");
    is_run_again_alone(&s);
}

/// Seen failing with the group ended and nothing else.
#[test]
fn a_cancelled_job_a_runner_that_is_told_to_stop_and_a_lost_lease_leave_no_descendant() {
    for end in ["cancel", "stop", "lose"] {
        let s = Sandbox::from(Backend::Sqlite);
        with_child(&s, "setsid ./child-to-be &", "grace: 500ms");
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        match end {
            "cancel" => drop(s.duly(["cancel", "1"]).output()),
            "stop" => runner.signal(Signal::TERM),
            _ => s.database().sql("UPDATE duly_job SET owner = 'another' WHERE id = 1"),
        }
        wait_until("its descendant is ended", SOON, || !is_alive(&child(&s)));
        runner.wait();
    }
}

/// Seen failing with descendants looked for at every end.
#[test]
fn what_a_command_leaves_behind_when_it_ends_by_itself_stays() {
    let s = Sandbox::from(Backend::Sqlite);
    s.set_jobs("jobs:\n  job: {command: [sh, -c, 'setsid sh -c \"echo \\$\\$ > child; exec sleep 600\" & until [ -s child ]; do sleep 0.02; done; exit 3'], max_attempts: 1}\n");
    s.duly(["start", "job"]).stdout("1\n").status(0);
    s.duly(["run"]).stderr_has("exited with 3").status(0);
    assert!(is_alive(&child(&s)));
}

on_every_database! {
    /// Seen failing with only the leader's group of a dead runner's ledger ended.
    fn what_left_the_group_is_ended_before_a_dead_runners_job_is_run_again(s: Sandbox) {
        with_child(&s, "setsid ./child-to-be &", "grace: 500ms");
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        runner.signal(Signal::KILL);
        runner.wait();
        is_run_again_alone(&s);
    }

    /// Seen failing with processes looked for by the ledger only.
    fn where_the_state_folder_was_wiped_and_the_runner_killed_its_processes_are_ended_first(s: Sandbox) {
        with_child(&s, "setsid ./child-to-be &", "grace: 500ms");
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        fs::remove_dir_all(s.state_dir()).unwrap();
        runner.signal(Signal::KILL);
        runner.wait();
        is_run_again_alone(&s);
    }
}

/// As root, with a runner of another user, who may not kill what root has started. Seen failing with the attempt ended when the
/// group was signalled.
#[test]
fn a_job_is_held_while_something_of_it_lives_that_its_user_may_not_end() {
    // Nobody else than root can start what its user may not end.
    let Some(_) = as_stranger("true") else { return };
    for is_killed in [false, true] {
        let s = Sandbox::from(Backend::Sqlite);
        with_child(
            &s,
            "./as-root --reuid=0 --regid=0 --clear-groups ./child-to-be &",
            "timeout: 4s\n    grace: 300ms",
        );
        let script = "cp $(command -v setpriv) as-root && chown -R nobody . && chown root as-root && chmod 4755 as-root";
        let made = Command::new("sh").args(["-c", script]).current_dir(s.path("")).status().unwrap();
        assert!(made.success());
        let tick =
            || s.duly(["run"]).under(&["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        let runner = tick().spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        let child = child(&s);
        assert_eq!(fs::metadata(format!("/proc/{child}")).unwrap().uid(), 0);
        let is_running =
            || s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job") == "running 1";
        if is_killed {
            runner.signal(Signal::KILL);
            runner.wait();
            let told = format!(
                "job 1 has no runner any more and is not begun again while this is left of it: process {child}"
            );
            wait_until("its lease has ended", SOON, || {
                let output = tick().output();
                assert!(output.stderr.contains(&told), "{output}");
                s.database().value(
                    "SELECT lease_until < strftime('%Y-%m-%d %H:%M:%f', 'now', '-11 seconds') FROM duly_job",
                ) == "1"
            });
            assert!(is_running() && is_alive(&child));
            kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        } else {
            let told = format!("job 1 was killed and does not end: process {child} (sleep, user 0)");
            wait_until("it is told", SOON, || runner.stderr_so_far().contains(&told));
            assert!(is_running() && is_alive(&child));
            kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
            assert!(runner.wait().status.success());
        }
        wait_until("it is run again", SOON, || {
            tick().output();
            s.database().value("SELECT state FROM duly_job") == "success"
        });
        assert_eq!(s.database().value("SELECT group_concat(body, '') FROM duly_output"), "alone\n");
    }
}

/// Where `pidfd_open` answers with this error to everybody below. Perl is on every Debian and can ask for a filter of system calls.
const REFUSED: &str = r#"
    my ($call, $error, @command) = @ARGV;
    my $prctl = { x86_64 => 157, aarch64 => 167 }->{(split " ", `uname -m`)[0]} // die "no number for prctl";
    # BPF: load the number of the call; is it this one; return an error; allow.
    my $filter = pack("SCCL SCCL SCCL SCCL", 0x20, 0, 0, 0, 0x15, 0, 1, $call, 6, 0, 0, 0x50000 | $error, 6, 0, 0, 0x7fff0000);
    my $program = pack("S x6 P", 4, $filter);
    syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
    syscall($prctl, 22, 2, $program, 0, 0) == 0 or die "seccomp: $!";
    exec @command or die "exec: $!";
"#;

/// Seen failing with the command killed and the runner's trouble told.
#[test]
fn where_the_system_refuses_pidfd_open_commands_are_waited_for_all_the_same() {
    // EPERM and ENOSYS.
    for error in ["1", "38"] {
        let s = Sandbox::from(Backend::Sqlite);
        s.set_jobs(
            "jobs:\n  ok: {command: [sh, -c, 'sleep 0.2; echo done']}\n  quick: {command: ['true']}\n  \
             late: {command: [sh, -c, 'setsid sleep 600 & echo $! > child; wait'], timeout: 1s, grace: 300ms, max_attempts: 1}\n  \
             bad: {command: [sh, -c, 'exit 3'], max_attempts: 1}\n",
        );
        for name in ["ok", "quick", "late", "bad"] {
            s.duly(["start", name]).stdout_has("").status(0);
        }
        s.duly(["run"]).under(&["perl", "-e", REFUSED, "434", error]).stderr_has("timed out").status(0);
        let outcome = |id: i64| s.database().value(&format!("SELECT outcome FROM duly_job WHERE id = {id}"));
        assert_eq!([1, 2, 3, 4].map(outcome), ["success", "success", "timed_out", "exited"]);
        assert_eq!(s.json(["show", "1", "--json"])["output"], "done\n");
        assert!(!is_alive(&child(&s)));
    }
}

const LIMITED: &str = "runner: {concurrency: 1}\njobs:\n  long: {command: [sh, -c, 'touch running; until [ -e go ]; do sleep 0.05; done']}\n  \
    other: {command: [touch, other]}\n";

/// Seen failing with slots held by their files alone: the other job ran beside the first.
#[test]
fn the_limit_of_a_host_holds_where_its_state_folder_is_wiped_or_another_by_the_environment() {
    for is_wiped in [true, false] {
        let s = Sandbox::from(Backend::Sqlite);
        s.set_jobs(LIMITED);
        s.duly(["start", "long"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("the job runs", SOON, || s.path("running").exists());
        s.duly(["start", "other"]).stdout("2\n").status(0);
        fs::create_dir(s.path("elsewhere")).unwrap();
        if is_wiped {
            fs::remove_dir_all(s.state_dir()).unwrap();
        }
        let folder = s.path(if is_wiped { "run" } else { "elsewhere" });
        s.duly(["run"]).env("XDG_RUNTIME_DIR", &folder).status(0);
        assert!(!s.path("other").exists(), "two jobs run where one may");
        s.file("go", "");
        runner.wait();
        s.duly(["run"]).env("XDG_RUNTIME_DIR", &folder).output();
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "2");
    }
}

/// In containers that share the state folder: the ids in a ledger name other processes in each. Seen failing with the ledger of a
/// dead runner believed: the job was run again at once beside its first attempt.
#[test]
fn a_runner_that_died_in_another_pid_namespace_is_left_to_its_lease() {
    let s = Sandbox::from(Backend::Sqlite);
    with_child(&s, "setsid ./child-to-be &", "grace: 500ms");
    let namespaces = if rustix::process::geteuid().is_root() { "-pf" } else { "-Urpf" };
    let inside =
        ["unshare", namespaces, "--mount-proc", "--kill-child", "sh", "-c", "\"$@\"; sleep 600", "sh"];
    let container = s.duly(["run"]).under(&inside).spawn();
    wait_until("the job runs", SOON, || s.path("running").exists());
    let is_called = |pid: &Pid, wanted: &str| {
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
            .is_ok_and(|name| name.trim() == wanted)
    };
    let is_runner = |pid: &Pid| is_called(pid, "duly");
    // By its environment: it has another number out here.
    let has_child = || {
        s.processes().iter().any(|pid| {
            let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|set| set == b"DULY_JOB_ID=1")
        })
    };
    kill_process(s.processes().into_iter().find(is_runner).unwrap(), Signal::KILL).unwrap();
    wait_until("it is dead", SOON, || !s.processes().iter().any(is_runner));
    s.duly(["run"]).under(&["unshare", namespaces, "--mount-proc"]).status(0);
    assert_eq!(s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job"), "running 1");
    assert!(has_child());
    // From outside its processes are seen, and ended.
    wait_until("it is run again", SOON, || {
        s.duly(["run"]).output();
        s.database().value("SELECT CONCAT(state, ' ', attempts) FROM duly_job WHERE id = 1") == "success 2"
    });
    assert!(!has_child());
    drop(container);
}
