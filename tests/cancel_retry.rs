//! Cancelling jobs wherever they are in their lives, repeating those that have ended, starting them with their dependents.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Sandbox, on_every_database, wait_until};

const SOON: Duration = Duration::from_secs(30);

const JOBS: &str = r#"
queues: {orders: {}}
defaults: {max_attempts: 1}
jobs:
  good: {command: ["true"], params: [tmp]}
  bad: {command: ["false"]}
  long: {command: [sh, -c, 'sleep 1000 & touch running; wait']}
  deaf: {command: [sh, -c, 'trap "" TERM; touch running; while :; do sleep 0.1; done'], grace: 1s}
  import_solr:
    label: "Import from eZ"
    command: [sh, -c, 'echo import >> order']
    depending_jobs:
      index_solr:
        command: [sh, -c, 'echo index >> order']
        depending_jobs: {warm_up: {command: [sh, -c, 'echo warm >> order']}}
"#;

#[track_caller]
fn put_in(s: &Sandbox, arguments: &[&str]) -> String {
    s.duly(arguments).stdout_has("\n").status(0).stdout.trim_end().to_owned()
}

fn show(s: &Sandbox, id: &str) -> Value {
    s.json(["show", id, "--json"])
}

fn state(s: &Sandbox, id: &str) -> String {
    s.database().value(&format!("SELECT state FROM duly_job WHERE id = {id}"))
}

#[track_caller]
fn tick(s: &Sandbox) {
    let output = s.duly(["run"]).output();
    assert!(output.status.success(), "{output}");
}

/// A job that runs writes the file `running`.
#[track_caller]
fn wait_until_it_runs(s: &Sandbox) {
    wait_until("the job runs", SOON, || s.path("running").exists());
}

on_every_database! {
    fn a_job_that_has_not_started_is_cancelled_at_once(s: Sandbox) {
        s.set_jobs(JOBS);
        let pending = put_in(&s, &["enqueue", "good"]);
        let delayed = put_in(&s, &["enqueue", "good", "--in", "1 day"]);
        let waiting = put_in(&s, &["enqueue", "good", "--after", &delayed]);
        for (id, before) in [(&pending, "pending"), (&waiting, "waiting"), (&delayed, "delayed")] {
            assert_eq!(state(&s, id), before);
            s.duly(["cancel", id]).stdout(&format!("job {id} is cancelled\n")).status(0);
            let job = show(&s, id);
            assert_eq!(
                (&job["state"], &job["outcome"], &job["exit_code"]),
                (&json!("cancelled"), &json!("cancelled"), &Value::Null)
            );
            assert!(job["reason"].as_str().unwrap().starts_with("cancelled by "), "{job}");
            assert!(job["finished_at"].is_string() && job["started_at"].is_null(), "{job}");
        }
        s.duly(["run"]).status(0);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'cancelled'"), "3");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_attempt"), "0");
    }

    fn what_waits_for_a_cancelled_job_is_cancelled_with_a_reason_all_the_way_down(s: Sandbox) {
        s.set_jobs(JOBS);
        let first = put_in(&s, &["enqueue", "good"]);
        let second = put_in(&s, &["enqueue", "good", "--after", &first]);
        let third = put_in(&s, &["enqueue", "good", "--after", &second]);
        let always = put_in(&s, &["enqueue", "good", "--after", &format!("{first}:always")]);
        s.duly(["cancel", &first]).stdout_has("cancelled").status(0);
        for (id, because) in [(&second, &first), (&third, &second)] {
            let job = show(&s, id);
            assert_eq!(job["state"], "cancelled");
            assert!(job["reason"].as_str().unwrap().contains(&format!("job {because}")), "{job}");
        }
        assert_eq!(state(&s, &always), "pending");
    }

    /// Seen failing with the cancellation not read by the heartbeat, and with no process group of its own.
    fn a_running_job_is_stopped_with_its_process_group(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = put_in(&s, &["enqueue", "long"]);
        let mut run = s.duly(["run"]).spawn();
        wait_until_it_runs(&s);
        let dependent = put_in(&s, &["enqueue", "good", "--after", &id]);
        s.duly(["cancel", &id]).stdout(&format!("job {id} is running; its runner stops it\n")).status(0);
        wait_until("it is cancelled", Duration::from_secs(10), || state(&s, &id) == "cancelled");
        wait_until("the tick ends", Duration::from_secs(10), || run.has_ended());
        assert!(s.processes().is_empty(), "left running: {:?}", s.processes());
        let job = show(&s, &id);
        assert_eq!((&job["outcome"], &job["attempts"]), (&json!("cancelled"), &json!(1)));
        assert_eq!(job["attempt_log"][0]["outcome"], "cancelled");
        assert!(job["finished_at"].is_string() && job["duration_ms"].is_number(), "{job}");
        assert_eq!(state(&s, &dependent), "cancelled");
    }

    fn who_cancelled_a_running_job_stays_known(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = put_in(&s, &["enqueue", "long"]);
        let run = s.duly(["run"]).spawn();
        wait_until_it_runs(&s);
        s.duly(["cancel", &id]).stdout_has("running").status(0);
        run.wait();
        let job = show(&s, &id);
        assert!(job["reason"].as_str().is_some_and(|reason| reason.starts_with("cancelled by ")), "{job}");
    }

    fn a_job_that_ignores_the_first_signal_is_killed_after_its_grace(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = put_in(&s, &["enqueue", "deaf"]);
        let mut run = s.duly(["run"]).spawn();
        wait_until_it_runs(&s);
        s.duly(["cancel", &id]).stdout_has("running").status(0);
        wait_until("the tick ends", Duration::from_secs(15), || run.has_ended());
        assert_eq!(state(&s, &id), "cancelled");
        assert!(s.processes().is_empty(), "left running: {:?}", s.processes());
    }

    fn a_job_run_by_hand_can_be_cancelled_too(s: Sandbox) {
        s.set_jobs(JOBS);
        let run = s.duly(["run-job", "long"]).spawn();
        wait_until_it_runs(&s);
        let id = s.database().value("SELECT id FROM duly_job");
        s.duly(["cancel", &id]).stdout_has("running").status(0);
        let output = run.wait_for(Duration::from_secs(15));
        assert_eq!(output.status.code(), Some(3), "{output}");
        assert!(output.stderr.contains("cancelled"), "{output}");
        assert_eq!(state(&s, &id), "cancelled");
    }

    fn a_job_that_has_ended_is_not_cancelled(s: Sandbox) {
        s.set_jobs(JOBS);
        let (good, bad) = (put_in(&s, &["enqueue", "good"]), put_in(&s, &["enqueue", "bad"]));
        tick(&s);
        for (id, state_before) in [(&good, "success"), (&bad, "failed")] {
            let line = format!("duly: error: job {id} has ended before: it is {state_before}\n");
            s.duly(["cancel", id]).stderr(&line).status(4);
            assert_eq!(state(&s, id), state_before);
        }
        let gone = put_in(&s, &["enqueue", "good"]);
        s.duly(["cancel", &gone]).stdout_has("cancelled").status(0);
        s.duly(["cancel", &gone]).stderr_has("it is cancelled").status(4);
    }

    fn a_job_inserted_by_an_application_can_be_cancelled_before_any_tick(s: Sandbox) {
        s.set_jobs(JOBS);
        s.json(["list", "--json"]);
        s.database().sql("INSERT INTO duly_job (name) VALUES ('good')");
        let id = s.database().value("SELECT id FROM duly_job");
        s.duly(["cancel", &id]).stdout_has("cancelled").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(state(&s, &id), "cancelled");
    }

    fn a_retry_is_a_new_job_that_names_the_old_one(s: Sandbox) {
        s.set_jobs(JOBS);
        let arguments = [
            "enqueue",
            "bad",
            "--queue",
            "orders",
            "--priority",
            "9",
            "--target-type",
            "T",
            "--target-id",
            "7",
        ];
        let old = put_in(&s, &[&arguments[..], &["--", "a b", ""]].concat());
        tick(&s);
        let before = show(&s, &old);
        assert_eq!(before["state"], "failed");
        let new = put_in(&s, &["retry", &old]);
        assert_ne!(new, old);
        let job = show(&s, &new);
        assert_eq!(job["retry_of"], json!(old.parse::<u64>().unwrap()));
        assert_eq!(
            (&job["state"], &job["attempts"], &job["outcome"]),
            (&json!("pending"), &json!(0), &Value::Null)
        );
        for key in ["name", "queue", "priority", "params", "target_type", "target_id", "max_attempts"] {
            assert_eq!(job[key], before[key], "{key}");
        }
        assert_eq!(job["params"], json!(["a b", ""]));
        assert_eq!(show(&s, &old), before);
        tick(&s);
        assert_eq!(state(&s, &new), "failed");
    }

    fn every_job_that_has_ended_can_be_repeated(s: Sandbox) {
        s.set_jobs(JOBS);
        let (good, cancelled) =
            (put_in(&s, &["enqueue", "good"]), put_in(&s, &["enqueue", "good", "--in", "1 day"]));
        tick(&s);
        s.duly(["cancel", &cancelled]).stdout_has("cancelled").status(0);
        for id in [&good, &cancelled] {
            let new = put_in(&s, &["retry", id]);
            assert_eq!(show(&s, &new)["params"], json!(["tmp"]));
            s.duly(["run"]).status(0);
            assert_eq!(state(&s, &new), "success");
        }
    }

    /// Seen failing without `uncounted` where a job ends, in `src/store/finish.rs`.
    fn an_attempt_that_its_runner_stops_does_not_count_though_the_job_is_cancelled_meanwhile(s: Sandbox) {
        s.set_jobs("jobs:\n  stubborn: {grace: 60s, command: [sh, -c, \"trap '' TERM; touch running; while [ ! -e go ]; do sleep 0.05; done; exit 1\"]}\n");
        put_in(&s, &["enqueue", "stubborn"]);
        let runner = s.duly(["run"]).spawn();
        wait_until("it runs", SOON, || s.path("running").exists());
        runner.signal(rustix::process::Signal::TERM);
        s.duly(["cancel", "1"]).stdout_has("its runner stops it").status(0);
        s.file("go", "");
        assert_eq!(runner.wait().status.code(), Some(143));
        let row = s.database().rows("SELECT j.state, j.attempts, a.outcome FROM duly_job j JOIN duly_attempt a ON a.job_id = j.id");
        assert_eq!(row, [["cancelled", "0", "interrupted"].map(|cell| Some(cell.to_owned())).to_vec()]);
    }

    fn a_job_that_has_not_ended_is_not_repeated(s: Sandbox) {
        s.set_jobs(JOBS);
        let pending = put_in(&s, &["enqueue", "good"]);
        s.duly(["retry", &pending])
            .stderr(&format!("duly: error: job {pending} has not ended: it is pending; `duly why {pending}` says why\n"))
            .status(4);
        s.duly(["cancel", &pending]).stdout_has("cancelled").status(0);
        let running = put_in(&s, &["enqueue", "long"]);
        let _run = s.duly(["run"]).spawn();
        wait_until_it_runs(&s);
        s.duly(["retry", &running]).stderr_has("it is running").status(4);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "2");
    }

    fn a_job_whose_definition_is_gone_is_not_repeated(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = put_in(&s, &["enqueue", "good"]);
        tick(&s);
        s.set_jobs("jobs: {goood: {command: [\"true\"]}}");
        s.duly(["retry", &id])
            .stderr_has("duly: error: no job is called `good`")
            .stderr_has("`goood`")
            .status(2);
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job"), "1");
    }

    fn a_start_puts_the_dependents_in_with_the_job(s: Sandbox) {
        s.set_jobs(JOBS);
        let id = put_in(&s, &["start", "import_solr"]);
        let jobs = s.json(["list", "--json"]);
        let mut found: Vec<(&str, &str)> = jobs
            .as_array()
            .unwrap()
            .iter()
            .map(|job| (job["name"].as_str().unwrap(), job["state"].as_str().unwrap()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, [("import_solr", "pending"), ("index_solr", "waiting"), ("warm_up", "waiting")]);
        assert_eq!(show(&s, &id)["name"], "import_solr");
        assert_eq!(show(&s, &id)["dependents"].as_array().unwrap().len(), 1);
        s.duly(["run"]).status(0);
        assert_eq!(s.read("order"), "import\nindex\nwarm\n");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'success'"), "3");
    }

    fn a_failed_start_cancels_its_dependents_and_a_retry_puts_them_in_anew(s: Sandbox) {
        s.set_jobs(&JOBS.replace("echo import >> order", "test -e fixed"));
        let id = put_in(&s, &["start", "import_solr"]);
        tick(&s);
        assert_eq!(state(&s, &id), "failed");
        assert_eq!(s.database().value("SELECT COUNT(*) FROM duly_job WHERE state = 'cancelled'"), "2");
        fs::write(s.path("fixed"), "").unwrap();
        put_in(&s, &["retry", &id]);
        s.duly(["run"]).status(0);
        assert_eq!(s.read("order"), "index\nwarm\n");
    }
}
