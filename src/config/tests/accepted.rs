//! Files that are accepted, and what becomes of them.

use crate::job::{Builtin, Unique};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn an_empty_file_declares_nothing_and_has_every_default() {
    for yaml in ["", "# nothing yet\n", "---\n", "jobs:\n", "jobs: {}\nhooks:\nsessions: {}\n"] {
        let config = valid(yaml);
        assert!(config.definitions.is_empty());
        assert_eq!(config.database.expose(), "/srv/shop/jobs.db");
        assert_eq!(config.queues, ["default"]);
        assert_eq!((config.runner.lease, config.runner.max_runtime), (Duration::from_secs(60), None));
        assert!(config.runner.concurrency >= 1 && config.runner.state_dir.is_absolute());
        assert_eq!(config.retention.of(State::Success), Duration::from_secs(30 * 86_400));
        assert_eq!(config.retention.keep_last, 0);
    }
}

#[test]
fn the_seeds_blocks_are_valid_as_they_stand() {
    for dependent in ["silversolutions:indexecontent-job", "ibexa:commerce:index-econtent-job"] {
        let config = valid(&format!(
            "jobs:
        import_solr:
            label: \"Import from eZ\"
            desc: \"Starts import from a remote system\"
            command: \"silver:import\"
            params:
                - tmp
            depending_jobs:
                index_solr:
                    label: \"Index econtent tmp cores\"
                    command: \"{dependent}\"
"
        ));
        let import = config.definition("import_solr").unwrap();
        assert_eq!(import.label.as_deref(), Some("Import from eZ"));
        assert_eq!(import.description.as_deref(), Some("Starts import from a remote system"));
        assert_eq!(
            (&import.action, &import.params[..]),
            (&command(&["silver:import"]), &["tmp".to_owned()][..])
        );
        assert_eq!(import.dependents, ["index_solr"]);
        assert_eq!(config.definition("index_solr").unwrap().action, command(&[dependent]));
        assert_eq!(
            (import.timeout, import.grace),
            (Some(Duration::from_secs(3600)), Duration::from_secs(10))
        );
        assert_eq!(
            (import.max_attempts, import.output_limit, import.backoff),
            (10, 1 << 20, Backoff::default())
        );
        assert_eq!((import.queue.as_str(), import.priority, import.enabled), ("default", 0, true));
        assert_eq!(import.cwd, Path::new("/srv/shop"));
    }
}

/// The example of design.md, section 3.
const EXAMPLE: &str = include_str!("example.yaml");

#[test]
fn the_whole_example_is_accepted() {
    let config = valid(EXAMPLE);
    assert_eq!(config.database.to_string(), "mysql://shop@localhost/shop");
    assert_eq!((config.runner.concurrency, config.runner.max_runtime), (4, Some(Duration::from_secs(55))));
    assert_eq!(config.runner.state_dir, Path::new("/run/duly"));
    assert_eq!(config.queues, ["default", "orders"]);
    assert_eq!(config.queue_limits, [("orders".to_owned(), 1)].into());
    let names: Vec<&str> = config.definitions.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["import_solr", "index_solr", "nightly_export"]);
    assert_eq!(
        config.definition("import_solr").unwrap().action,
        command(&["php", "bin/console", "silver:import"])
    );
    let export = config.definition("nightly_export").unwrap();
    assert_eq!(export.action, command(&["php", "bin/console", "app:export", "--target={target_id}"]));
    assert_eq!((export.unique, export.concurrency), (Unique::Target, Some(1)));
    let schedule = export.schedule.as_ref().unwrap();
    assert_eq!(schedule.signature(), "0 2 * * 1-5 Europe/Berlin");
    assert_eq!((schedule.catch_up, schedule.overlap), (CatchUp::Latest, Overlap::Skip));
    assert_eq!(schedule.jitter, Duration::from_secs(30));
    assert_eq!((export.permanent_exit_codes.as_slice(), export.on_orphan), (&[65, 78][..], OnOrphan::Retry));
    assert_eq!((export.env["APP_ENV"].as_str(), &*export.cwd), ("prod", Path::new("/var/www/shop")));
    assert_eq!(
        (config.retention.of(State::Success), config.retention.keep_last),
        (Duration::from_secs(7 * 86_400), 10)
    );
}

#[test]
fn the_commands_of_the_shop_are_as_the_example_says() {
    let config = valid(EXAMPLE);
    let refresh = config.refresh_cache.as_ref().unwrap();
    assert_eq!(refresh.table.triggered_by.as_deref(), Some("trigger"));
    assert_eq!((refresh.table.language.as_ref(), refresh.batch), (None, 1000));
    let processors: Vec<(&str, Option<Duration>)> =
        refresh.processors.iter().map(|(name, step)| (name.as_str(), step.timeout)).collect();
    let minutes = |count: u64| Some(Duration::from_secs(count * 60));
    assert_eq!(processors, [("navigation", minutes(5)), ("translations", minutes(60))]);
    let orders = config.lost_orders.as_ref().unwrap();
    let table = &orders.table;
    assert_eq!((table.table.as_str(), table.payload.as_str(), table.is_own), ("ses_basket", "xml", false));
    assert_eq!((table.lost.as_str(), table.given_up.as_deref()), ("ordered_failed", Some("erp_given_up")));
    assert_eq!((orders.max_failed, orders.circuit_breaker, orders.concurrency), (3, 5, 1));
    assert_eq!(orders.on_failed.as_ref().unwrap().argv, ["bin/mail-admin"]);
    assert_eq!((config.sessions.table.as_str(), config.sessions.time.as_str()), ("session", "session_time"));
}

#[test]
fn a_command_of_the_shop_is_one_at_a_time_tried_once_and_recorded_though_nothing_declares_it() {
    let config = valid("lost_orders: {send: {command: [x]}}\nhooks: {on_failure: [tell]}\njobs: {}\n");
    let sending = config.builtin(Builtin::ProcessLostOrders).unwrap();
    assert_eq!(
        (sending.name.as_str(), sending.concurrency, sending.max_attempts),
        ("process-lost-orders", Some(1), 1)
    );
    assert!(sending.hooks.failure && config.definition("on_failure@process-lost-orders").is_some());
    assert!(config.definitions.is_empty() && config.builtin(Builtin::RefreshCache).is_none());
    let config = valid("sessions: {}\njobs: {count: {builtin: sessions-write-stat, max_attempts: 4}}\n");
    let count = config.builtin(Builtin::SessionsWriteStat).unwrap();
    assert_eq!((count.name.as_str(), count.max_attempts), ("count", 4));
    assert!(config.definition("sessions-write-stat").is_none());
}

#[test]
fn what_is_wrong_with_a_command_of_the_shop_is_told_by_its_key() {
    assert_problems(
        "refresh_cache:\n  table: a.b.c\n  columns: {id: 'x`y', contentid: z}\n  processors: {}\nlost_orders:\n  \
         columns: {state: s}\n  send: {timeout: none, command: [x]}\n  on_failed: {timeout: 1s}\n  \
         permanent_exit_codes: [65]\n  unavailable_exit_codes: [65]\njobs:\n  a: {builtin: sessions-write-stat}\n  \
         b: {builtin: sessions-write-stat}\n",
        &[
            "jobs.yaml:2: refresh_cache.table: `a.b.c` cannot name a table; expected 1 to 64 letters, digits, _ $ -, as \
             in orders or shop.orders",
            "jobs.yaml:3: refresh_cache.columns.id: `x`y` cannot name a column; expected 1 to 64 letters, digits, _ $ -",
            "jobs.yaml:3: refresh_cache.columns.contentid: unknown key; did you mean `content_id`?",
            "jobs.yaml:4: refresh_cache.processors: names nobody to give changes to; expected navigation: {command: \
             [bin/refresh]}",
            "jobs.yaml:6: lost_orders.columns: has no effect without a `table`; add one, or remove it",
            "jobs.yaml:7: lost_orders.send.timeout: `none` would hold an order for ever; expected a length of time",
            "jobs.yaml:8: lost_orders.on_failed: lacks a `command`; expected lost_orders.on_failed: {command: [bin/program]}",
            "jobs.yaml:10: lost_orders.unavailable_exit_codes: 65 is among permanent_exit_codes too; keep it in one of them",
            "jobs.yaml:13: jobs.b.builtin: `sessions-write-stat` is already declared at jobs.a; keep one of them",
        ],
    );
    assert_problems(
        "refresh_cache:\n  columns: {id: id}\n  processors: {a: {command: [x]}}\n",
        &["jobs.yaml:2: refresh_cache.columns: has no effect without a `table`; add one, or remove it"],
    );
    assert_problems(
        "lost_orders:\n  table: ses_basket\n  send: {command: [x]}\n",
        &[
            "jobs.yaml:1: lost_orders.states: lacks `lost` or `confirmed`; expected {lost: ordered_failed, confirmed: confirmed}",
        ],
    );
}

#[test]
fn a_command_is_split_or_taken_as_it_is_and_never_empty() {
    let config = valid(
        "command_prefix: [php, bin/console]\njobs:\n  a: {command: \"app:x 'two words' --n=1\"}\n  \
         b: {command: [sleep, 1.50, 0x1F, true]}\n  c: {builtin: clean-up}\n",
    );
    let action = |name| config.definition(name).unwrap().action.clone();
    assert_eq!(action("a"), command(&["php", "bin/console", "app:x", "two words", "--n=1"]));
    assert_eq!(action("b"), command(&["sleep", "1.50", "0x1F", "true"]));
    assert_eq!(action("c"), Action::Builtin(Builtin::CleanUp));
    let empty = "names no program; expected one such as [php, bin/console, app:import]";
    for (job, expected) in [
        ("{command: ''}", format!("a.command: {empty}")),
        ("{command: []}", format!("a.command: {empty}")),
        ("{command: ['']}", format!("a.command: {empty}")),
        ("{command: \"x 'y\"}", "a.command: cannot be split into words: missing closing quote".to_owned()),
        ("{command: x, builtin: clean-up}", "a: has both `command` and `builtin`; keep one of them".to_owned()),
        ("{builtin: cleanup}", "a.builtin: `cleanup` is not one of clean-up, refresh-cache, process-lost-orders, sessions-write-stat".to_owned()),
("{builtin: refresh-cache}", "a.builtin: `refresh-cache` needs a section `refresh_cache`; add one".to_owned()),
        ("{builtin: clean-up, params: [x]}", "a.params: has no effect on a `builtin`, which starts no program; remove it".to_owned()),
    ] {
        assert_problems(&format!("jobs: {{a: {job}}}"), &[&format!("jobs.yaml:1: jobs.{expected}")]);
    }
}

#[test]
fn depending_jobs_are_definitions_or_names_of_some() {
    let config = valid(
        "jobs:\n  a: {command: x, depending_jobs: {b: {command: y, depending_jobs: {c: , d: {}}}}}\n  \
         c: {command: z}\n  d: {command: z, depending_jobs: {c: {}}}\n",
    );
    let dependents = |name| config.definition(name).unwrap().dependents.join(" ");
    assert_eq!((dependents("a"), dependents("b"), dependents("d")), ("b".into(), "c d".into(), "c".into()));
    assert_problems(
        "jobs:\n  import: {command: x, depending_jobs: {indx: {}, other: {label: l}}}\n  index: {command: y}\n  \
         again:\n    command: x\n    depending_jobs:\n      index: {command: z}\n",
        &[
            "jobs.yaml:2: jobs.import.depending_jobs.other: has no `command`, so it stands for a job declared \
             elsewhere and can have no other keys; give it a `command`, or remove them",
            "jobs.yaml:2: jobs.import.depending_jobs.indx: has no `command`, and no job declared elsewhere is called \
             `indx`; did you mean `index`?",
            "jobs.yaml:7: jobs.again.depending_jobs.index: a job of this name is already declared at jobs.index; \
             rename one of them",
        ],
    );
}

#[test]
fn anchors_and_merge_keys_work_and_problems_lead_to_where_they_were_written() {
    let config = valid(
        "jobs:\n  a: &a {command: x, timeout: 5s, params: [1.10]}\n  b: {<<: *a, timeout: 6s}\n  \
         c: {<<: [{params: [c]}, *a], command: [y]}\n",
    );
    let timeout = |name| config.definition(name).unwrap().timeout.unwrap().as_secs();
    assert_eq!((timeout("a"), timeout("b"), timeout("c")), (5, 6, 5));
    assert_eq!(config.definition("b").unwrap().params, ["1.10"]);
    assert_eq!(config.definition("c").unwrap().params, ["c"]);
    let found = read("jobs:\n  a: &a\n    command: x\n    priority: high\n  b:\n    <<: *a\n").unwrap_err();
    assert_eq!(
        found.iter().map(|p| &p[..24]).collect::<Vec<_>>(),
        ["jobs.yaml:4: jobs.a.prio", "jobs.yaml:4: jobs.b.prio"]
    );
}

#[test]
fn defaults_are_inherited_and_a_backoff_is_merged() {
    let config = valid(
        "defaults: {timeout: none, grace: 1s, max_attempts: 2, output_limit: 64 KiB, backoff: {initial: 1s, factor: 2}}\n\
         queues: {orders: }\njobs:\n  a: {command: x}\n  b: {command: x, timeout: 1m, backoff: {max: 9s}, queue: orders, cwd: sub}\n",
    );
    let (a, b) = (config.definition("a").unwrap(), config.definition("b").unwrap());
    assert_eq!((a.timeout, a.max_attempts, a.output_limit), (None, 2, 65_536));
    assert_eq!((b.timeout, b.grace), (Some(Duration::from_secs(60)), Duration::from_secs(1)));
    let merged =
        Backoff { initial: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(9), jitter: 0.2 };
    assert_eq!(b.backoff, merged);
    assert_eq!((config.queues.join(" ").as_str(), &*b.cwd), ("default orders", Path::new("/srv/shop/sub")));
}

#[test]
fn an_unknown_name_is_guessed_or_the_names_are_listed() {
    let config = valid("jobs: {import: {command: x}, export: {command: x}}");
    assert_eq!(
        config.unknown_definition("Improt"),
        "no job is called `Improt` in /srv/shop/jobs.yaml; did you mean `import`?"
    );
    assert!(config.unknown_definition("q").ends_with("; declared are import, export"));
    let many: String = (0..12).map(|n| format!("  j{n}: {{command: x}}\n")).collect();
    assert!(valid(&format!("jobs:\n{many}")).unknown_definition("?").ends_with("j8, j9 and 2 more"));
}

#[test]
fn the_digest_changes_with_the_schedules_and_with_nothing_else() {
    let digest = |yaml: &str| valid(&format!("jobs: {{{yaml}}}")).schedules_digest();
    let base = digest("a: {command: x, schedule: '@hourly'}, b: {command: x, schedule: '@daily'}");
    assert_eq!(base.len(), 16);
    assert_eq!(
        base,
        digest("b: {command: y, schedule: '@daily'}, a: {command: x, schedule: '@hourly'}, c: {command: x}")
    );
    assert_eq!(
        base,
        digest(
            "b: {command: y, schedule: '@daily'}, a: {command: x, schedule: '@hourly'}, c: {command: x, schedule: '@daily', enabled: false}"
        )
    );
    for other in [
        "schedule: '@weekly'",
        "schedule: '@hourly', timezone: Asia/Tokyo",
        "schedule: '@hourly', jitter: 1s",
    ] {
        assert_ne!(
            base,
            digest(&format!("a: {{command: x, {other}}}, b: {{command: x, schedule: '@daily'}}")),
            "{other}"
        );
    }
}

#[test]
fn a_file_on_disk_is_loaded_with_what_the_command_line_and_environment_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.yaml");
    std::fs::write(&path, "database: mysql://u@h/file\njobs: {a: {command: x}}\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let options =
        LoadOptions { path: Some(path.clone()), database_url: Some("mysql://u@h/argument".to_owned()) };
    let config = load_in(&options, &Environment::default()).unwrap();
    assert_eq!((config.path, config.database.expose()), (path.clone(), "mysql://u@h/argument"));
    let environment =
        Environment { database_url: Some("mysql://u:secret@h".into()), ..Environment::default() };
    let error = load_in(&LoadOptions { path: Some(path), database_url: None }, &environment).unwrap_err();
    assert_eq!(
        error.to_string(),
        "$DATABASE_URL: names no database; expected mysql://user:password@host:port/name"
    );
}
