//! `duly check`: jobs.yaml, and a crontab, without a database.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use super::{Context, Usage, one_line};
use crate::cli::{CheckArgs, Cli, Command};
use crate::config::{Config, crontab};
use crate::exit_code::ExitCode;
use crate::job::{Action, Definition};
use crate::process::command::CommandLine;
use crate::render;

pub(super) fn run(context: &Context, args: &CheckArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let scheduled = config.definitions.iter().filter(|definition| definition.schedule.is_some()).count();
    render::answer(&format!(
        "{}: {} {}, {scheduled} of them scheduled, database {}",
        config.path.display(),
        config.definitions.len(),
        if config.definitions.len() == 1 { "job" } else { "jobs" },
        config.database
    ))?;
    for definition in config.definitions.iter() {
        if let Some(doubt) = doubt(definition) {
            render::answer(&format!("note: job `{}`: {doubt}", definition.name))?;
        }
    }
    match &args.crontab {
        Some(path) => check_crontab(path, &config),
        None => Ok(ExitCode::Success),
    }
}

/// What may be meant so, and will not work here.
fn doubt(definition: &Definition) -> Option<String> {
    let Action::Command(argv) = &definition.action else { return None };
    let command = CommandLine {
        argv: argv.clone(),
        cwd: definition.cwd.clone(),
        env: definition.env.clone(),
        input: None,
    };
    command.check().err().map(|why| format!("on this host {why}"))
}

fn check_crontab(path: &Path, config: &Config) -> Result<ExitCode> {
    let what = || format!("cannot read the crontab `{}`", path.display());
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).with_context(what)?;
        text
    } else {
        fs::read_to_string(path).with_context(what)?
    };
    let parsed = crontab::parse(&text);
    let mut problems: Vec<(usize, String)> =
        parsed.problems.iter().map(|problem| (problem.line, problem.message.clone())).collect();
    for entry in &parsed.entries {
        if let Some(args) = &entry.duly_args
            && let Err(problem) = check_arguments(args, config)
        {
            problems.push((entry.line, problem));
        }
    }
    problems.sort();
    if problems.is_empty() {
        render::answer(&format!("{}: fine", path.display()))?;
        return Ok(ExitCode::Success);
    }
    let lines: Vec<String> =
        problems.iter().map(|(line, problem)| format!("{}:{line}: {problem}", path.display())).collect();
    Err(Usage(lines.join("; ")).into())
}

/// Whether this program would take the arguments.
fn check_arguments(args: &[String], config: &Config) -> Result<(), String> {
    let words = std::iter::once("duly".to_owned()).chain(args.iter().cloned());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(err) => return Err(one_line(&err)),
    };
    let name = match &cli.command {
        Command::RunJob(args) => Some(&args.name),
        Command::Start(args) => Some(&args.name),
        Command::Enqueue(args) => args.name.as_ref(),
        _ => None,
    };
    match name {
        Some(name) if cli.config.is_none() && config.definition(name).is_none() => {
            Err(config.unknown_definition(name))
        }
        _ => Ok(()),
    }
}
