//! `{target_id}` and `{target_type}`: no command is ever run with an empty word in their place, and what depends on a job is
//! about the same target.

use std::time::Duration;

use crate::support::{Sandbox, on_every_database, wait_until};

/// `ran` notes down the word, and the variables, that a job got.
const JOBS: &str = r#"
defaults: {max_attempts: 10, backoff: {initial: 0s}}
jobs:
  wipe: {command: [./ran, "/srv/tenants/{target_id}"]}
  typed: {command: [./ran, "{target_type}:x"]}
  import:
    command: [./ran, import]
    depending_jobs:
      index: {command: [./ran, "index-{target_id}"], depending_jobs: {report: {command: [./ran, report]}}}
  plain: {command: [./ran, plain]}
  root: {command: [sh, -c, './duly dependent report >/dev/null && ./ran root']}
"#;

fn arrange(s: &Sandbox) {
    s.file("duly", &format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_duly")));
    s.file("ran", "#!/bin/sh\necho \"$1|$DULY_TARGET_TYPE|$DULY_TARGET_ID\" >> ran-with\n");
    s.set_jobs(JOBS);
}

/// What ran, each with its word, type and id.
fn ran(s: &Sandbox) -> Vec<String> {
    let mut lines: Vec<String> = s.read("ran-with").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn jobs(s: &Sandbox) -> String {
    s.database().value("SELECT COUNT(*) FROM duly_job")
}

on_every_database! {
    /// Seen failing: each was put in, and ran with `/srv/tenants/`.
    fn a_job_whose_command_needs_a_target_is_not_put_in_without_one(s: Sandbox) {
        arrange(&s);
        let lacks = "the command of `wipe` has `{target_id}`, and the job has no target id; give it one";
        for arguments in [
            &["enqueue", "wipe"][..],
            &["enqueue", "wipe", "--target-id", ""],
            &["enqueue", "wipe", "--target-id", " ", "--target-type", "Tenant"],
            &["enqueue", "wipe", "--target-type", "Tenant"],
            &["start", "wipe"],
            &["run-job", "wipe"],
            &["run-job", "wipe", "--force"],
        ] {
            let refused = s.duly(arguments).stderr_has(lacks).status(2);
            assert_eq!(refused.stderr.lines().count(), 1, "{arguments:?}: {refused}");
        }
        s.duly(["enqueue", "typed", "--target-id", "7"]).stderr_has("no target type").status(2);
        s.duly(["enqueue", "import"]).stderr_has("the command of `index` has `{target_id}`").status(2);
        s.duly(["enqueue", "--batch", "-"])
            .stdin("{\"name\": \"plain\"}\n{\"name\": \"wipe\", \"target_id\": \"\"}\n")
            .stderr_has("line 2: the command of `wipe`")
            .status(2);
        assert_eq!((jobs(&s).as_str(), ran(&s).len()), ("0", 0));
        s.duly(["enqueue", "wipe", "--target-id", "7"]).stdout_has("1").status(0);
        s.duly(["run"]).status(0);
        assert_eq!(ran(&s), ["/srv/tenants/7||7"]);
    }

    /// Seen failing: they ran with `/srv/tenants/`.
    fn a_row_without_the_target_that_its_command_needs_fails_and_says_so(s: Sandbox) {
        arrange(&s);
        s.json(["list", "--json"]);
        for values in ["'wipe', NULL, NULL", "'wipe', 'Tenant', ''", "'typed', NULL, '7'", "'import', 'Tenant', '  '", "'plain', NULL, NULL"] {
            s.database().sql(&format!("INSERT INTO duly_job (name, target_type, target_id) VALUES ({values})"));
        }
        let tick = s.duly(["run"]).stderr_has("the command of `wipe` has `{target_id}`").status(0);
        assert_eq!(tick.stderr.lines().count(), 4, "{tick}");
        let rows = s.database().rows("SELECT state, attempts, CASE WHEN reason LIKE 'the command of%' THEN 1 ELSE 0 END FROM duly_job ORDER BY id");
        let expected = |words: [&str; 3]| words.map(|word| Some(word.to_owned())).to_vec();
        let refused = expected(["failed", "0", "1"]);
        assert_eq!(rows[..4], [refused.clone(), refused.clone(), refused.clone(), refused]);
        assert_eq!((rows.len(), rows[4][0].as_deref()), (5, Some("success")));
        assert_eq!(ran(&s), ["plain||"]);
    }

    /// It was put in when its command did not need one. Seen failing: it ran with `/srv/tenants/`.
    fn a_job_that_lacks_its_target_when_it_is_to_start_fails_at_once_and_for_good(s: Sandbox) {
        arrange(&s);
        s.duly(["enqueue", "plain"]).stdout_has("1").status(0);
        s.set_jobs(&JOBS.replace("[./ran, plain]", "[./ran, '/srv/tenants/{target_id}']"));
        let tick = s.duly(["run"]).stderr_has("the command of `plain` has `{target_id}`").status(0);
        assert_eq!(tick.stderr.lines().count(), 1, "{tick}");
        let job = s.json(["show", "1", "--json"]);
        assert_eq!((job["state"].as_str(), job["attempts"].as_u64(), job["outcome"].as_str()), (Some("failed"), Some(1), Some("not_started")), "{job}");
        assert!(ran(&s).is_empty());
        s.duly(["retry", "1"]).stderr_has("no target id").status(2);
    }

    /// Seen failing: they had none.
    fn what_depends_on_a_job_is_about_the_same_target(s: Sandbox) {
        arrange(&s);
        s.duly(["enqueue", "import", "--target-type", "Shop", "--target-id", "7"]).stdout_has("1").status(0);
        s.database().sql("INSERT INTO duly_job (name, target_type, target_id) VALUES ('import', 'Shop', '8')");
        s.duly(["run"]).status(0);
        s.duly(["run-job", "import", "--target-id", "9"]).status(0);
        s.duly(["enqueue", "root", "--target-type", "Shop", "--target-id", "10"]).stdout_has("").status(0);
        wait_until("all have ended", Duration::from_secs(30), || {
            s.duly(["run"]).status(0);
            s.database().value("SELECT COUNT(*) FROM duly_job WHERE state <> 'success'") == "0"
        });
        let mut expected: Vec<String> = ["Shop|7", "Shop|8", "|9"]
            .iter()
            .flat_map(|target| {
                let id = target.split_once('|').unwrap().1;
                [format!("import|{target}"), format!("index-{id}|{target}"), format!("report|{target}")]
            })
            .chain(["report|Shop|10".to_owned(), "root|Shop|10".to_owned()])
            .collect();
        expected.sort();
        assert_eq!(ran(&s), expected);
    }
}
