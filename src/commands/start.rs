//! `duly start`: the button of the back office, as a command.

use anyhow::{Context as _, Result};

use super::{Context, definition, note};
use crate::cli::StartArgs;
use crate::exit_code::ExitCode;
use crate::render;
use crate::store::NewJob;

pub(super) fn run(context: &Context, args: &StartArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let job = NewJob::of(definition(&config, &args.name)?);
    let mut store = crate::runner::open(&config)?;
    let ids = store
        .enqueue(&[job], &|name| config.definition(name))
        .with_context(|| format!("cannot start `{}`", args.name))?;
    note(&mut store, "start", &format!("definition {}", args.name), Some(&format!("as job {}", ids[0])));
    render::answer(&format!("{}\n", ids[0]))?;
    Ok(ExitCode::Success)
}
