//! `duly check`: jobs.yaml, and a crontab, without a database.

use anyhow::Result;

use super::Context;
use super::check_crontab::check_crontab;
use crate::cli::CheckArgs;
use crate::config;
use crate::exit_code::ExitCode;
use crate::job::{Action, Definition};
use crate::process::clock::host_time;
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
    render::answer(&config::tzdata())?;
    let now = host_time();
    for definition in config.definitions.iter() {
        let of_schedule = definition.schedule.iter().flat_map(|schedule| schedule.doubts(now));
        for doubt in of_schedule.chain(doubt(definition)) {
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
