//! The traps of a crontab, one by one.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::crontab::{Form, parse, parse_as};

fn problems(text: &str) -> Vec<(usize, String)> {
    parse(text).problems.into_iter().map(|problem| (problem.line, problem.message)).collect()
}

/// The only problem of a crontab.
fn problem(text: &str) -> String {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{text}: {found:?}");
    found[0].1.clone()
}

#[test]
fn a_line_is_taken_apart() {
    let text = "# every 15 s\nMAILTO=ops@example.com\nPATH = /usr/bin:/bin\n\n\
                */5 * * * * cd '/var/www/my project' && /usr/local/bin/duly run --queue mail >/dev/null\n\
                * * * * * sleep 15; duly run\n@hourly php bin/console x --at=\\%H\n";
    let crontab = parse(text);
    assert_eq!(crontab.problems, []);
    let [first, second, third] = &crontab.entries[..] else { panic!("{:?}", crontab.entries) };
    assert_eq!((first.line, &*first.schedule, first.sleep), (5, "*/5 * * * *", None));
    assert_eq!(first.duly_args.as_deref().unwrap(), ["run", "--queue", "mail"]);
    assert_eq!((second.line, second.sleep), (6, Some(Duration::from_secs(15))));
    assert_eq!(second.duly_args.as_deref().unwrap(), ["run"]);
    assert_eq!((&*third.schedule, &*third.command), ("@hourly", "php bin/console x --at=%H"));
    assert_eq!(third.duly_args, None);
}

#[test]
fn a_user_before_the_command_is_told_from_a_program() {
    let system = parse("* * * * * root duly run\n@reboot www-data /usr/bin/duly run\n");
    assert_eq!(system.problems, []);
    let users: Vec<_> = system.entries.iter().map(|entry| entry.user.as_deref()).collect();
    assert_eq!(users, [Some("root"), Some("www-data")]);
    assert_eq!(system.entries[0].duly_args.as_deref().unwrap(), ["run"]);
    for own in ["* * * * * duly run\n", "* * * * * cd /srv && duly run\n", "* * * * * nice -n 5 duly run\n"] {
        let crontab = parse(own);
        assert_eq!((crontab.entries[0].user.as_deref(), &crontab.problems[..]), (None, &[][..]), "{own}");
    }
    let known = parse_as("* * * * * backup backup-it\n", Form::System);
    assert_eq!(known.entries[0].command, "backup-it");
}

#[test]
fn duly_is_found_behind_other_programs_and_not_in_paths() {
    for (command, expected) in [
        ("flock -n /run/duly duly run", Some("run")),
        ("A=b nice duly run", Some("run")),
        ("cd /opt/duly && ./other", None),
        ("php --config=/etc/duly", None),
    ] {
        let crontab = parse_as(&format!("* * * * * {command}\n"), Form::User);
        let args = crontab.entries[0].duly_args.as_ref().map(|args| args.join(" "));
        assert_eq!(args.as_deref(), expected, "{command}");
    }
}

#[test]
fn a_bad_field_is_a_problem_even_where_duly_itself_would_know_it() {
    for (schedule, expected) in [
        ("61 * * * *", "`61 * * * *` is not a cron expression"),
        ("* * L * *", "`L` in `* * L * *` is no field that cron knows"),
        ("* * ? * *", "is no field that cron knows"),
        ("* * * * 5L", "is no field that cron knows"),
        ("@tick", "expected five fields or one of @reboot"),
        ("@dayly", "expected five fields or one of @reboot"),
    ] {
        let message = problem(&format!("{schedule} duly run\n"));
        assert!(message.contains(expected), "{schedule}: {message}");
    }
    for fine in ["@reboot", "@midnight", "0 2 * jan MON-FRI", "*/5,7 0-6 1 1 7"] {
        assert_eq!(problems(&format!("{fine} duly run\n")), [], "{fine}");
    }
    assert!(problem("0 */5 * * * * duly run\n").contains("`*` would be the command"));
}

#[test]
fn an_unescaped_percent_ends_the_command() {
    let crontab = parse("* * * * * duly enqueue report -- $(date +%F)\n");
    assert_eq!(crontab.entries[0].command, "duly enqueue report -- $(date +");
    assert!(crontab.problems[0].message.contains("write \\%"));
    assert_eq!(problems("* * * * * duly enqueue report -- $(date +\\%F)\n"), []);
}

#[test]
fn the_other_traps_are_found() {
    for (text, expected) in [
        ("* * * * * sleep 60 && duly run\n", "sleeps for a minute or longer"),
        ("*/1 * * * * sleep 2m; duly run\n", "sleeps for a minute or longer"),
        ("* * * * * duly run", "does not end with a newline"),
        ("* * * * * duly run >/dev/null 2>&1\n", "nobody would see a failure"),
        ("* * * * * php x\n", "no line starts duly"),
        ("", "no line starts duly"),
        ("* * * * * duly run\n* * * * *  duly  run\n", "the same at the same time as line 1"),
    ] {
        assert!(problem(text).contains(expected), "{text}: {}", problem(text));
    }
    assert!(problems("* * * * *\n")[0].1.contains("no command"));
    assert!(problems("* * * *\n")[0].1.contains("is not a schedule"));
    assert_eq!(problems("0 * * * * sleep 90; duly run\n"), []);
    assert_eq!(problems("* * * * * duly run\n* * * * * sleep 30; duly run\n* * * * * cd /b; duly run\n"), []);
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "([@*0-9a-z/,='\"\\\\%&>|;() #\n-]|duly |\\* \\* \\* \\* \\* |é){0,40}") {
        let crontab = parse(&text);
        prop_assert!(parse_as(&text, Form::System).entries.len() <= text.len());
        prop_assert!(crontab.problems.iter().all(|problem| problem.line >= 1));
    }
}

/// Seen failing with a user who must not be called as a program, and with `install` taken for what starts duly.
#[test]
fn the_crontab_of_the_package_is_read_as_one_with_users() {
    let crontab = parse(include_str!("../../../contrib/debian/cron.d"));
    assert_eq!(crontab.problems, []);
    let [tick, folder] = &crontab.entries[..] else { panic!("{:?}", crontab.entries) };
    assert_eq!((tick.user.as_deref(), folder.user.as_deref()), (Some("duly"), Some("root")));
    assert_eq!(tick.duly_args.as_deref().unwrap(), ["run", "--config", "/etc/duly/jobs.yaml"]);
    assert_eq!(folder.duly_args, None);
    assert_eq!(parse("* * * * * duly duly run\n").entries[0].user.as_deref(), Some("duly"));
    assert_eq!(parse("* * * * * duly run\n").entries[0].user, None);
}
