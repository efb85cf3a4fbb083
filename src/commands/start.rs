//! `duly start`: the button of the back office, as a command.

use anyhow::{Context as _, Result};

use super::{Context, definition};
use crate::cli::StartArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::render;
use crate::store::{NewJob, Store};

pub(super) fn run(context: &Context, args: &StartArgs) -> Result<ExitCode> {
    let config = context.config()?;
    // Whether there is such a job is known without a database.
    definition(&config, &args.name)?;
    let mut store = crate::runner::open(&config)?;
    let id = start(&config, &mut store, &args.name)?;
    render::answer(&id.to_string())?;
    Ok(ExitCode::Success)
}

/// Puts the job called `name` in, with its dependents; returns its id.
pub(super) fn start(config: &Config, store: &mut Store, name: &str) -> Result<i64> {
    let job = NewJob::of(definition(config, name)?);
    let ids = store
        .enqueue(&[job], &|name| config.definition(name))
        .with_context(|| format!("cannot start `{name}`"))?;
    Ok(ids[0])
}
