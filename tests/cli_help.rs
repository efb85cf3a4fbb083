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
    let help = s.duly(["--help"]).stdout_has("Commands:").status(0).stdout;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(String::from)
        .collect()
}
