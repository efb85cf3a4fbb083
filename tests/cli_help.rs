//! The help: every command is in it, every command has an example, and the shells' completions are there.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::{Backend, Sandbox};

#[test]
fn the_help_names_every_command() {
    let s = Sandbox::new(Backend::Sqlite);
    let help = s.duly(["--help"]).stdout_has("Usage: duly [OPTIONS] [COMMAND]").status(0).stdout;
    insta::assert_snapshot!("help", help);
    let commands = commands(&s);
    for expected in ["run", "run-job", "enqueue", "list", "show", "cancel", "retry", "clean-up", "migrate"] {
        assert!(commands.contains(expected), "no `{expected}` in {commands:?}");
    }
}

#[test]
fn every_command_has_a_help_with_an_example_that_names_it() {
    let s = Sandbox::new(Backend::Sqlite);
    for command in commands(&s) {
        let help = s.duly([command.as_str(), "--help"]).stdout_has("Usage: duly ").status(0).stdout;
        insta::assert_snapshot!(format!("help_{command}"), help);
        let example = help.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("duly {command}")), "no example of `{command}`:\n{help}");
    }
}

/// Also the commands within commands. Seen failing with the example of `sessions show` taken out.
#[test]
fn every_command_within_a_command_has_an_example_too() {
    let s = Sandbox::new(Backend::Sqlite);
    let mut walked = 0;
    for command in commands(&s) {
        let help = s.duly([command.as_str(), "--help"]).stdout_has("Usage: duly ").status(0).stdout;
        for inner in listed(&help) {
            let help = s
                .duly([command.as_str(), inner.as_str(), "--help"])
                .stdout_has("Usage: duly ")
                .status(0)
                .stdout;
            let example = help.split("Example").nth(1).unwrap_or_default();
            assert!(
                example.contains(&format!("duly {command} {inner}")),
                "no example of `{command} {inner}`:\n{help}"
            );
            walked += 1;
        }
    }
    assert!(walked >= 6, "only {walked}");
}

/// What an example shows is a command line that is understood. Seen failing with an option in an example that there is not.
#[test]
fn every_example_is_understood() {
    let s = Sandbox::new(Backend::Sqlite);
    let mut tried = 0;
    for command in commands(&s) {
        let help = s.duly([command.as_str(), "--help"]).stdout_has("Usage: duly ").status(0).stdout;
        let examples = help.split("Example").nth(1).unwrap_or_default().lines().skip(1);
        for line in examples.filter_map(|line| line.split_once("duly ")) {
            // What comes after a comment, a pipe or a redirection is not duly's.
            let own = line.1.split("      (").next().unwrap();
            let end = own.find([';', '|', '>', ')', '&']).unwrap_or(own.len());
            let words = shell_words::split(&own[..end]).unwrap();
            // Asking for help too, so that nothing is done: what is not understood is refused before.
            let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
            let (options, params) = words.split_at(at);
            let asked =
                options.iter().map(String::as_str).chain(["--help"]).chain(params.iter().map(String::as_str));
            let output = s.duly(asked).output();
            assert!(
                output.status.success() && output.stdout.contains("Usage: duly "),
                "{}:\n{output}",
                line.1
            );
            tried += 1;
        }
    }
    assert!(tried >= 30, "only {tried}");
}

#[test]
fn the_short_help_and_the_subcommand_help_work_too() {
    let s = Sandbox::new(Backend::Sqlite);
    s.duly(["-h"]).stdout_has("Usage: duly ").status(0);
    s.duly(["help", "run-job"]).stdout_has("Usage: duly run-job ").status(0);
    s.duly(["--version"]).stdout(&format!("duly {}\n", env!("CARGO_PKG_VERSION"))).status(0);
}

#[test]
fn completions_of_each_shell_know_every_command() {
    let s = Sandbox::new(Backend::Sqlite);
    for (shell, mark) in
        [("bash", "complete -F _duly"), ("zsh", "#compdef duly"), ("fish", "complete -c duly")]
    {
        let script = s.duly(["completions", shell]).stdout_has(mark).status(0).stdout;
        for command in commands(&s) {
            assert!(script.contains(&command), "{shell} does not complete `{command}`");
        }
    }
}

#[test]
fn the_completions_of_bash_are_bash() {
    let s = Sandbox::new(Backend::Sqlite);
    let script = s.duly(["completions", "bash"]).stdout_has("duly").status(0).stdout;
    let script = s.file("completions", &script);
    assert!(Command::new("bash").arg("-n").arg(script).status().unwrap().success());
}

/// Neither needs a jobs.yaml, since they are asked for before there is one.
#[test]
fn help_and_completions_need_no_configuration() {
    let s = Sandbox::new(Backend::Sqlite).jobs("jobs: [broken");
    s.duly(["run", "--help"]).stdout_has("Usage: duly run").status(0);
    s.duly(["completions", "fish"]).stdout_has("complete").status(0);
}

/// The commands that the help lists, but for `help` itself.
fn commands(s: &Sandbox) -> BTreeSet<String> {
    listed(&s.duly(["--help"]).stdout_has("Commands:").status(0).stdout)
}

/// The commands that a help lists, but for `help` itself.
fn listed(help: &str) -> BTreeSet<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(String::from)
        .collect()
}
