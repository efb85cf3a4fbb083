//! `duly dependent`: called by a running job's command, for what is to follow when all of it is done.

use anyhow::{Context as _, Result};

use super::{Context, calling_job, definition};
use crate::cli::DependentArgs;
use crate::exit_code::ExitCode;
use crate::render;
use crate::store::NewJob;

pub(super) fn run(context: &Context, args: DependentArgs) -> Result<ExitCode> {
    let calling = calling_job()?;
    let config = context.config()?;
    let mut job = NewJob::of(definition(&config, &args.name)?);
    if !args.params.is_empty() {
        job.params = args.params;
    }
    let mut store = crate::runner::open(&config)?;
    let id = store
        .add_dependent(calling, args.on, &job, &|name| config.definition(name))
        .with_context(|| format!("cannot put dependent `{}` in", args.name))?;
    render::answer(&id.to_string())?;
    Ok(ExitCode::Success)
}
