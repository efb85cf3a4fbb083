//! Stops and cancellations mean what they say: whoever is told to stop, with whom, and by which signal; whose job ends how.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Backend, Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Tells its process, and that it runs, and stays; what it does at SIGTERM comes before.
fn waiting(trap: &str) -> String {
    format!(
        "[sh, -c, '{trap} sleep 600 & echo $! > child; echo $$ > leader; mv leader running; wait $!; exit $?']"
    )
}

fn state(s: &Sandbox, id: u32) -> String {
    s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))
}

fn latest(s: &Sandbox) -> Vec<String> {
    let row = s.database().rows("SELECT j.state, j.attempts, a.outcome FROM duly_job j JOIN duly_attempt a ON a.job_id = j.id WHERE j.id = 1");
    row.concat().into_iter().map(Option::unwrap_or_default).collect()
}

#[track_caller]
fn pid_in(s: &Sandbox, file: &str) -> Pid {
    wait_until(file, SOON, || !s.read(file).trim().is_empty());
    Pid::from_raw(s.read(file).trim().parse().unwrap()).unwrap()
}

on_every_database! {
    /// Seen failing with the end of a command by a signal taken for its own: `failed`, signal 15.
    fn a_command_that_is_stopped_together_with_its_runner_is_interrupted(s: Sandbox) {
        for (trap, whom) in [("", "running"), ("", "child"), ("trap \"exit 0\" TERM;", "running")] {
            let name = format!("jobs:\n  job: {{command: {}, max_attempts: 1}}\n", waiting(trap));
            let s = Sandbox::new(s.database().backend());
            s.set_jobs(&name);
            s.duly(["start", "job"]).stdout("1\n").status(0);
            let runner = s.duly(["run"]).spawn();
            wait_until("it runs", SOON, || s.path("running").exists());
            // As at the end of a session, a service or the machine; a command of a shell may be quicker than its runner.
            if trap.is_empty() {
                kill_process(pid_in(&s, whom), Signal::TERM).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                runner.signal(Signal::TERM);
            } else {
                runner.signal(Signal::TERM);
                kill_process(pid_in(&s, whom), Signal::TERM).unwrap();
            }
            let output = runner.wait();
            assert_eq!((output.status.code(), output.stderr.as_str()), (Some(143), ""), "{output}");
            assert_eq!(latest(&s), ["pending", "0", "interrupted"], "{trap} {whom}");
        }
    }

    fn a_command_that_somebody_ends_by_a_signal_has_failed(s: Sandbox) {
        s.set_jobs(&format!("jobs:\n  job: {{command: {}, max_attempts: 1}}\n", waiting("")));
        s.duly(["start", "job"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        kill_process(pid_in(&s, "running"), Signal::TERM).unwrap();
        runner.wait();
        assert_eq!(latest(&s), ["failed", "1", "signalled"]);
    }

    /// Seen failing with an exit code of 0 taken for a success, whatever the command was told.
    fn a_command_that_is_cancelled_and_exits_with_0_is_cancelled(s: Sandbox) {
        s.set_jobs(&format!(
            "hooks: {{on_success: [touch, told]}}\njobs:\n  job: {{command: {}, depending_jobs: {{after: {{command: [touch, after]}}}}}}\n",
            waiting("trap \"exit 0\" TERM;")
        ));
        s.duly(["start", "job"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        s.duly(["cancel", "1"]).stdout("job 1 is running; its runner stops it\n").status(0);
        let output = runner.wait();
        assert_eq!((output.status.code(), output.stderr.as_str()), (Some(0), ""), "{output}");
        assert_eq!(latest(&s), ["cancelled", "1", "cancelled"]);
        assert_eq!(state(&s, 2), "cancelled");
        assert!(!s.path("told").exists() && !s.path("after").exists());
    }

    /// Before its runner has noticed: whoever cancelled it was told that it is. Seen failing with its own end kept, as `success`.
    fn a_command_that_comes_to_its_end_after_it_was_cancelled_starts_nothing_more(s: Sandbox) {
        s.set_jobs(
            "hooks: {on_success: [touch, told]}\njobs:\n  job: {command: [sh, -c, 'touch running; until test -e go; do sleep 0.01; done'], \
             depending_jobs: {after: {command: [touch, after]}}}\n",
        );
        s.duly(["start", "job"]).stdout("1\n").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        s.duly(["cancel", "1"]).stdout("job 1 is running; its runner stops it\n").status(0);
        s.file("go", "");
        runner.wait();
        assert_eq!(latest(&s)[..2], ["cancelled", "1"]);
        assert_eq!(state(&s, 2), "cancelled");
        s.duly(["list"]).stdout_has("cancelled by").status(0);
        s.duly(["run"]).status(0);
        assert!(!s.path("told").exists() && !s.path("after").exists());
    }

    /// Seen failing with an exit code of 0 taken for a success: half an import fed the index.
    fn a_command_that_exits_with_0_since_its_runner_was_told_to_stop_is_interrupted(s: Sandbox) {
        for (on_orphan, wanted) in [("retry", ["pending", "0", "interrupted"]), ("stale", ["stale", "1", "interrupted"])] {
            let s = Sandbox::new(s.database().backend());
            s.set_jobs(&format!(
                "jobs:\n  job: {{command: {}, on_orphan: {on_orphan}, depending_jobs: {{after: {{command: [touch, after]}}}}}}\n",
                waiting("trap \"exit 0\" TERM;")
            ));
            s.duly(["start", "job"]).stdout("1\n").status(0);
            let runner = s.duly(["run"]).spawn();
            wait_until("it runs", SOON, || s.path("running").exists());
            runner.signal(Signal::TERM);
            assert_eq!(runner.wait().status.code(), Some(143));
            assert_eq!(latest(&s), wanted);
            assert!(!s.path("after").exists());
        }
    }

    /// Seen failing with `run-job` refused, since where the job is to be retried was paused.
    fn run_job_attempts_at_once_though_the_queue_of_its_retry_is_paused(s: Sandbox) {
        s.set_jobs("queues: {default: {}, later: {concurrency: 1}}\njobs:\n  job: {command: [sh, -c, 'echo ran >> ran; exit 1'], backoff: {initial: 0s}}\n");
        s.duly(["pause", "--queue", "later"]).stdout_has("paused").status(0);
        s.duly(["run-job", "job", "--retry=later"]).stderr_has("queued for retry").status(3);
        assert_eq!(s.read("ran"), "ran\n");
        assert_eq!(s.database().rows("SELECT state, queue FROM duly_job"), [["pending", "later"].map(|cell| Some(cell.to_owned())).to_vec()]);
        s.duly(["run"]).status(0);
        assert_eq!(s.read("ran"), "ran\n", "what is retried is held back");
        // Its own queue holds it back, wherever it is retried.
        s.duly(["pause", "--queue", "default"]).stdout_has("paused").status(0);
        s.duly(["run-job", "job", "--retry=later"]).stderr_has("is paused (queue:default)").status(4);
        assert_eq!(s.read("ran"), "ran\n");
    }

    /// Seen failing with such a job left until its lease was over, and an attempt counted then.
    fn a_job_that_is_cancelled_before_it_begins_has_had_no_attempt(s: Sandbox) {
        s.set_jobs(&format!("jobs:\n  job: {{command: {}}}\n  next: {{command: ['true'], unique: true, depending_jobs: {{after: {{command: ['true']}}}}}}\n", waiting("")));
        s.duly(["start", "job"]).stdout("1\n").status(0);
        s.duly(["start", "next"]).stdout("2\n").status(0);
        s.duly(["pause", "next"]).stdout_has("paused").status(0);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        // As if it were claimed and waited for a worker.
        s.database().sql("UPDATE duly_job SET state = 'running', attempts = 1, fence = 1, owner = (SELECT o FROM (SELECT owner AS o FROM duly_job WHERE id = 1) AS x), host = (SELECT o FROM (SELECT host AS o FROM duly_job WHERE id = 1) AS y), lease_until = (SELECT o FROM (SELECT lease_until AS o FROM duly_job WHERE id = 1) AS z), started_at = (SELECT o FROM (SELECT started_at AS o FROM duly_job WHERE id = 1) AS w) WHERE id = 2");
        s.duly(["cancel", "2"]).stdout("job 2 is running; its runner stops it\n").status(0);
        runner.signal(Signal::KILL);
        runner.wait();
        s.duly(["cancel", "2"]).stdout_has("is dead; the next tick on this host cancels it").status(0);
        s.duly(["pause", "job"]).stdout_has("paused").status(0);
        let output = s.duly(["run"]).output();
        assert!(!output.stderr.contains("job 2"), "{output}");
        let row = s.database().rows("SELECT state, attempts, outcome, unique_key, owner, reason LIKE 'cancelled by %' FROM duly_job WHERE id = 2");
        let wanted = [Some("cancelled"), Some("0"), Some("cancelled"), None, None, Some("1")];
        assert_eq!(row, [wanted.map(|cell| cell.map(str::to_owned)).to_vec()]);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt WHERE job_id = 2"), "0");
        assert_eq!(state(&s, 3), "cancelled");
    }

    /// Seen failing with names that are not declared left alone: `running` for ever.
    fn a_job_that_nobody_declares_any_more_is_given_up_and_holds_nothing(s: Sandbox) {
        let gone = vanished(&s, "retry");
        s.set_jobs("queues: {default: {}, narrow: {concurrency: 1}}\njobs:\n  own: {command: [touch, own], queue: narrow}\n");
        s.duly(["enqueue", "own", "--after", "1:always"]).stdout("3\n").status(0);
        let output = s.duly(["run"]).stderr_has("no host that is known declares `old`").status(0);
        // And what it had begun on this machine was ended.
        assert_eq!(output.stderr.lines().filter(|line| !line.contains("left behind")).count(), 1, "{output}");
        assert_eq!(latest(&s), ["stale", "1", "orphaned"]);
        assert!(s.path("own").exists(), "it holds its queue's place");
        let row = s.database().rows("SELECT unique_key, slot_key, name_slot_key, owner FROM duly_job WHERE id = 1");
        assert_eq!(row, [vec![None; 4]]);
        assert!(s.database().value("SELECT reason FROM duly_job WHERE id = 1").contains("declares `old`"));
        assert_eq!(state(&s, 2), "cancelled", "what was to run after its success");
        s.duly(["run"]).status(0);
        drop(gone);
    }

    /// Seen failing as the above, also with all of them given up, and with all of them begun again.
    fn a_job_that_a_vanished_host_still_declares_goes_by_what_that_has_told(s: Sandbox) {
        for (on_orphan, wanted) in [("retry", "pending"), ("stale", "stale")] {
            let s = Sandbox::new(s.database().backend());
            let gone = vanished(&s, on_orphan);
            s.set_jobs("jobs:\n  own: {command: ['true']}\n");
            // It had another name.
            for table in ["duly_runner", "duly_host"] {
                s.database().sql(&format!("UPDATE {table} SET host = 'web9'"));
            }
            s.duly(["run"]).stderr_has("job 1 (old) was orphaned").status(0);
            assert_eq!(state(&s, 1), wanted, "on_orphan: {on_orphan}");
            assert_eq!(s.database().value("SELECT slot_key IS NULL AND owner IS NULL FROM duly_job WHERE id = 1"), "1");
            if wanted == "pending" {
                s.duly(["cancel", "1"]).stdout("job 1 is cancelled\n").status(0);
            }
            drop(gone);
        }
    }

    /// Seen failing with `cancel` promising that a runner that had vanished stops it, and such a job left alone.
    fn a_job_that_is_cancelled_though_its_runner_vanished_ends_as_cancelled_at_any_tick(s: Sandbox) {
        for on_orphan in ["retry", "stale"] {
            let s = Sandbox::new(s.database().backend());
            let gone = vanished(&s, on_orphan);
            s.set_jobs("jobs:\n  own: {command: ['true']}\n");
            s.duly(["cancel", "1"]).stdout_has("ago; the next tick of any host cancels it").status(0);
            s.duly(["why", "1"]).stdout_has("the next tick of any host cancels it").status(0);
            // What it had begun on this machine is found and ended.
            s.duly(["run"]).stderr_has("left behind").status(0);
            assert_eq!(state(&s, 1), "cancelled");
            assert!(s.database().value("SELECT reason FROM duly_job WHERE id = 1").starts_with("cancelled by "));
            assert_eq!(state(&s, 2), "cancelled");
            drop(gone);
        }
    }

    /// Seen failing with all but SIGTERM and SIGINT ending the runner, whose job was orphaned.
    fn what_would_end_a_runner_asks_it_to_stop_or_means_nothing(s: Sandbox) {
        s.set_jobs(&format!("jobs:\n  job: {{command: {}}}\n", waiting("")));
        s.duly(["start", "job"]).stdout("1\n").status(0);
        for (turn, stop) in [Signal::HUP, Signal::QUIT, Signal::XCPU, Signal::POWER].into_iter().enumerate() {
            let mut runner = s.duly(["run"]).spawn();
            wait_until("it runs", SOON, || s.path("running").exists());
            let nothing =
                [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::IO, Signal::XFSZ];
            for signal in nothing {
                runner.signal(signal);
                let told = format!("signal {} means nothing here", signal.as_raw());
                wait_until("it is told", SOON, || runner.has_ended() || runner.stderr_so_far().contains(&told));
                assert!(!runner.has_ended(), "ended by {signal:?}");
            }
            runner.signal(stop);
            assert_eq!(runner.wait().status.code(), Some(128 + stop.as_raw()));
            let row = s.database().rows("SELECT state, attempts, (SELECT COUNT(*) FROM duly_attempt WHERE outcome = 'interrupted') FROM duly_job");
            assert_eq!(row.concat(), ["pending", "0", &(turn + 1).to_string()].map(|cell| Some(cell.to_owned())));
            fs::remove_file(s.path("running")).unwrap();
        }
        // Whoever started it so wants it to outlive the terminal.
        let mut runner = s.duly(["run"]).under(&["nohup"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        runner.signal(Signal::HUP);
        runner.signal(Signal::USR1);
        wait_until("it is told", SOON, || runner.has_ended() || runner.stderr_so_far().contains("signal 10 means nothing"));
        assert!(!runner.has_ended() && state(&s, 1) == "running");
        runner.signal(Signal::TERM);
        assert_eq!(runner.wait().status.code(), Some(143));
    }

    /// Seen failing with the daemon's signal, passed on to a tick that had got its own, taken for a second one: killed at once.
    fn a_service_that_is_stopped_whole_gives_its_commands_their_grace(s: Sandbox) {
        s.set_jobs(&format!("jobs:\n  job: {{command: {}, grace: 20s}}\n", waiting("trap \"sleep 1; touch bye; exit 0\" TERM;")));
        s.duly(["start", "job"]).stdout("1\n").status(0);
        let daemon = s.duly(["daemon", "--interval", "1s"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        for pid in s.processes() {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            if line.split(|byte| *byte == 0).any(|word| word == b"run" || word == b"daemon") {
                kill_process(pid, Signal::TERM).unwrap_or_default();
            }
        }
        assert_eq!(daemon.wait().status.code(), Some(143));
        assert!(s.path("bye").exists(), "killed before its grace was over");
        assert_eq!(latest(&s), ["pending", "0", "interrupted"]);
    }
}

/// A job in the only place of its queue, begun on a host that has vanished long ago, and one that waits for it. Its names are
/// those of a host of this name, as far as the database knows.
fn vanished(s: &Sandbox, on_orphan: &str) -> Sandbox {
    let gone = s.beside();
    gone.set_jobs(&format!(
        "queues: {{default: {{}}, narrow: {{concurrency: 1}}}}\njobs:\n  old: {{command: {}, unique: true, queue: narrow, \
         concurrency: 1, on_orphan: {on_orphan}, depending_jobs: {{after: {{command: ['true']}}}}}}\n",
        waiting("")
    ));
    gone.duly(["start", "old"]).stdout("1\n").status(0);
    let runner = gone.duly(["run"]).spawn();
    wait_until("it runs", SOON, || gone.path("running").exists());
    runner.signal(Signal::KILL);
    runner.wait();
    gone.database()
        .sql("UPDATE duly_job SET host = 'web9', lease_until = '2020-01-01 00:00:00.000000' WHERE id = 1");
    gone
}

/// Seen failing with zombies left: 20 of them after 20 jobs.
#[test]
fn a_daemon_that_is_process_1_lets_go_what_has_lost_its_parents() {
    let s = Sandbox::new(Backend::Sqlite)
        .jobs("jobs:\n  job: {command: [sh, -c, '(sleep 0.3; echo gone >> gone) > /dev/null 2>&1 &']}\n");
    for _ in 0..20 {
        s.duly(["enqueue", "job"]).stdout_has("\n").status(0);
    }
    let container =
        s.duly(["daemon", "--interval", "1s"]).under(&["unshare", "--pid", "--fork", "--kill-child"]).spawn();
    wait_until("all have ended", SOON, || s.read("gone").lines().count() == 20);
    let above = container.pid().as_raw_nonzero();
    let children =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let daemon = children(&above.to_string()).trim().to_owned();
    assert!(!daemon.is_empty(), "the daemon runs");
    let zombies = || {
        let is_zombie = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
        };
        children(&daemon).split_whitespace().filter(is_zombie).count()
    };
    // The last of them may not have been given to it yet.
    std::thread::sleep(Duration::from_secs(1));
    wait_until("nothing is left of them", Duration::from_secs(10), || zombies() == 0);
    drop(container);
}
