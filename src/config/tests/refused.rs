//! What is said about files that are not accepted.

use proptest::prelude::*;

use super::*;

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    assert_problems(
        "database: mysql://u:secret@h\nrunner: {lease: 1s, concurency: 2}\nqueues: [a]\njobs:\n  import:\n    \
         command: x\n    timout: 5\n    priority: 101\n    queue: mail\n  bad name: {command: [x]}\n  none: {}\n\
         command_prefix: php\nretention: {success: soon, keep_last: -1}\nnonsense: 1\n",
        &[
            "jobs.yaml:1: database: names no database; expected mysql://user:password@host:port/name",
            "jobs.yaml:2: runner.concurency: unknown key; did you mean `concurrency`?",
            "jobs.yaml:2: runner.lease: found 1s, expected 3s to 1h",
            "jobs.yaml:3: queues: found a list, expected a mapping (key: value)",
            "jobs.yaml:7: jobs.import.timout: unknown key; did you mean `timeout`?",
            "jobs.yaml:8: jobs.import.priority: found 101, expected a whole number from -100 to 100",
            "jobs.yaml:9: jobs.import.queue: no queue `mail` is declared under `queues`; expected one of default",
            "jobs.yaml:10: jobs.bad name: `bad name` cannot name a job; expected 1 to 100 of A-Z a-z 0-9 _ - . :",
            "jobs.yaml:11: jobs.none: does nothing; expected a `command` or a `builtin`",
            "jobs.yaml:12: command_prefix: found text, expected a list",
            "jobs.yaml:13: retention.success: `soon` is not a length of time; expected one such as 90s, 1 min, 7 days \
             or 1 day 2 hours",
            "jobs.yaml:13: retention.keep_last: found -1, expected a whole number from 0 to 1000000",
            "jobs.yaml:14: nonsense: unknown key; expected one of database, runner, queues, defaults, jobs, \
             command_prefix, retention, hooks, refresh_cache, lost_orders, sessions, web",
        ],
    );
}

#[test]
fn keys_that_contradict_each_other_are_told() {
    for (keys, expected) in [
        (
            "schedule: '* * * * *', unique: true, overlap: queue",
            "overlap: `queue` puts a job in while another has not ended, and `unique` refuses it; remove one of the two",
        ),
        (
            "schedule: '* * * * *', unique: args, overlap: replace",
            "overlap: `replace` puts a job in while another has not ended, and `unique` refuses it; remove one of the two",
        ),
        (
            "permanent_exit_codes: [65, 75], later_exit_codes: [75]",
            "later_exit_codes: 75 is among permanent_exit_codes too; keep it in one of them",
        ),
    ] {
        let yaml = format!("jobs:\n  a: {{command: x, {keys}}}\n");
        assert_problems(&yaml, &[&format!("jobs.yaml:2: jobs.a.{expected}")]);
    }
    // Nothing is said about overlap, so `unique` decides.
    valid("jobs:\n  a: {command: x, schedule: '* * * * *', unique: true, catch_up: all}\n");
}

#[test]
fn a_wrong_value_is_named_with_what_is_expected() {
    for (key, expected) in [
        ("schedule: 61 * * * *", ": `61 * * * *` is not a cron expression: "),
        ("catch_up: latest", ": has no effect without a `schedule`; add one, or remove it"),
        ("timeout: 0s", ": must be longer than zero; `none` is without a limit"),
        ("timeout: 90", ": `90` is not a length of time; expected one such as 90s, "),
        ("max_attempts: 0", ": found 0, expected a whole number from 1 to 1000000"),
        ("max_attempts: many", ": found text, expected a whole number from 1 to 1000000"),
        ("backoff: {factor: 0.5}", ".factor: found 0.5, expected a number of at least 1"),
        ("backoff: {factor: .inf}", ".factor: found inf, expected a number of at least 1"),
        ("backoff: {jitter: 2}", ".jitter: found 2, expected a number from 0 to 1"),
        ("output_limit: 1KB", ": `1KB` is out of bounds; expected 1KiB to 64MiB"),
        ("output_limit: 65MiB", ": `65MiB` is out of bounds; expected 1KiB to 64MiB"),
        ("permanent_exit_codes: [1, 0]", "[1]: found 0, expected a whole number from 1 to 255"),
        ("on_orphan: ignore", ": `ignore` is not one of retry, stale"),
        ("params: tmp", ": found text, expected a list"),
        ("params: [a, {b: c}]", "[1]: found a mapping, expected text"),
        ("params: [\"a\\0\"]", "[0]: holds a NUL byte, which no program can be given; remove it"),
        ("env: {DULY_X: 1}", ".DULY_X: names that start with DULY_ are set by Duly itself; choose another"),
        ("env: {A=B: 1}", ".A=B: cannot name a variable; expected a name without = and NUL"),
        ("env: {A: }", ".A: found nothing, expected text"),
        ("cwd: ''", ": is empty; expected a folder"),
        ("enabled: maybe", ": found text, expected true or false"),
        ("unique: always", ": `always` is not one of true, false, args"),
        ("on_failure: []", ": "),
        ("depending_jobs: {a: }", ".a: each of these waits for the one before: a → a"),
        ("<<: 5", ": only a mapping can be merged; expected an alias such as *name"),
    ] {
        let name = key.split(':').next().unwrap();
        let problems = read(&format!("jobs:\n  a:\n    command: [x]\n    {key}\n")).unwrap_err();
        assert_eq!(problems.len(), 1, "{key}: {problems:?}");
        let start = format!("jobs.yaml:4: jobs.a.{name}{expected}");
        assert!(problems[0].starts_with(&start), "{key}: {}", problems[0]);
    }
    let lines =
        read("jobs:\n  a:\n    command: [x]\n    schedule: '@daily'\n    targets: {tipe: x}\n").unwrap_err();
    assert!(lines[0].ends_with("jobs.a.targets.tipe: unknown key; did you mean `type`?"), "{lines:?}");
    assert!(lines[1].contains("lacks a `type` or a `command`"), "{lines:?}");
    assert_job_problem("enabled: 1", ": found a number, expected true or false");
    valid("jobs: {a: {command: x, unique: false, timeout: none, backoff: {initial: 0s}}}");
}

#[test]
fn a_command_whose_jobs_can_never_have_a_target_is_told() {
    assert_problems(
        "hooks: {on_failure: [mail, '{target_id}']}\njobs:\n  a:\n    command: [rm, '/srv/{target_id}']\n    schedule: '@daily'\n  \
         b:\n    command: x\n    schedule: '@daily'\n    on_stale: [mail, '{target_type}']\n    depending_jobs:\n      \
         c: {command: y, depending_jobs: {d: }}\n  d:\n    command: 'z {target_type}'\n",
        &[
            "jobs.yaml:1: hooks.on_failure: has `{target_id}`, but a hook has no target; what its job has is on its standard input",
            "jobs.yaml:4: jobs.a.command: has `{target_id}`, and its schedule makes jobs without a target; \
             add `targets` there, or take it out of the command",
            "jobs.yaml:9: jobs.b.on_stale: has `{target_type}`, but a hook has no target; what its job has is on its standard input",
            "jobs.yaml:13: jobs.d.command: has `{target_type}`, and the schedule of `b`, which it depends on, makes jobs without a \
             target; add `targets` there, or take it out of the command",
        ],
    );
    assert_problems(
        "jobs:\n  a:\n    command: x\n    schedule: '@daily'\n    targets: {type: '', command: [x]}\n",
        &["jobs.yaml:5: jobs.a.targets.type: is empty; expected one such as Account"],
    );
    for keys in [
        "params: [x]",
        "schedule: '@daily', enabled: false",
        "schedule: '@daily', targets: {type: T, command: [x]}",
    ] {
        valid(&format!(
            "jobs:\n  a: {{command: 'x {{target_id}}', {keys}, depending_jobs: {{b: {{command: 'y {{target_id}}'}}}}}}\n"
        ));
    }
}

#[test]
fn a_cycle_is_named_where_it_closes() {
    assert_problems(
        "jobs:\n  z: {command: x, depending_jobs: {b: }}\n  a:\n    command: x\n    depending_jobs:\n      b:\n        \
         command: y\n        depending_jobs:\n          a:\n",
        &[
            "jobs.yaml:9: jobs.a.depending_jobs.b.depending_jobs.a: each of these waits for the one before: b → a → b",
        ],
    );
    let chain: String =
        (0..5000).map(|n| format!("  j{n}: {{command: x, depending_jobs: {{j{}: }}}}\n", n + 1)).collect();
    valid(&format!("jobs:\n{chain}  j5000: {{command: x}}\n"));
}

#[test]
fn what_is_no_yaml_is_one_line_with_its_place() {
    for (yaml, expected) in [
        ("jobs:\n  a: {command: x\n", "jobs.yaml:"),
        ("jobs:\n\ta: 1\n", "jobs.yaml:2: is not valid YAML: "),
        ("jobs:\n  a:\n    schedule: @hourly\n", "jobs.yaml:3: is not valid YAML: "),
        ("jobs:\n  a:\n    schedule: * * * * *\n", "jobs.yaml:3: is not valid YAML: "),
        ("jobs: !tag x\n", "jobs.yaml:1: is not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "jobs.yaml: is not valid YAML: "),
    ] {
        let problems = read(yaml).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{yaml}: {problems:?}");
        assert!(!problems[0].contains('\n'));
    }
    assert!(read("a: @x\n").unwrap_err()[0].ends_with("text that begins with *, &, @ or % goes in quotes"));
    assert_problems("- a\n", &["jobs.yaml:1: found a list, expected a mapping (key: value)"]);
}

#[test]
fn a_key_given_twice_is_a_problem_beside_the_others() {
    assert_problems(
        "jobs:\n  a:\n    command: x\n    priority: 200\n    command: y\n  a: {command: z}\n",
        &[
            "jobs.yaml:4: jobs.a.priority: found 200, expected a whole number from -100 to 100",
            "jobs.yaml:5: jobs.a.command: is given twice; keep one of them",
            "jobs.yaml:6: jobs.a: is given twice; keep one of them",
        ],
    );
}

#[test]
fn no_message_shows_a_secret() {
    for yaml in [
        "database: mysql://u:secret@h/a/b",
        "database: [mysql://u:secret@h/a]",
        "database: {mysql://u:secret@h/a: 1}",
        "mysql://u:secret@h/a: 1",
        "database: mysql://u:secret@h/a: b",
        "database: !x mysql://u:secret@h/a",
        "database: \"mysql://u:secret@h/a",
        "jobs: {a: {command: x, env: {PASSWORD: [secret]}}}",
        "jobs: {a: {command: x, env: secret}}",
        "jobs: {a: {command: x, env: {PASSWORD: \"secret\\0\"}}}",
    ] {
        let problems = read(yaml).unwrap_err().join("\n");
        assert!(!problems.contains("secret"), "{problems}");
    }
    let shown = format!("{:?}", valid("database: mysql://u:secret@h/a").database);
    assert!(!shown.contains("secret"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_plain_lines_without_a_panic(
        yaml in "(jobs:|depending_jobs:|command: x|schedule: |timeout: |<<: |\\*a|&a |!t |[-{}\\[\\],:#|>'\"?%@ \n\t]|[a-z0-9.]{1,4}|\\PC|  ){0,60}"
    ) {
        if let Err(problems) = read(&yaml) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|line| line.starts_with("jobs.yaml") && !line.contains('\n')));
        }
    }

    #[test]
    fn any_value_of_any_key_is_accepted_or_is_a_problem(
        key in prop::sample::select(vec![
            "label", "command", "builtin", "params", "depending_jobs", "schedule", "timezone", "queue", "priority",
            "timeout", "backoff", "output_limit", "permanent_exit_codes", "env", "cwd", "enabled", "unique", "targets",
        ]),
        value in "[ -~é]{0,20}|[0-9.e+-]{1,12}|\\[[a-z0-9, ]{0,9}\\]|\\{[a-z]{1,7}: [0-9a-z]{0,4}\\}",
    ) {
        if let Err(problems) = read(&format!("jobs:\n  a:\n    command: [x]\n    {key}: {value}\n")) {
            prop_assert!(!problems.is_empty());
        }
    }
}
