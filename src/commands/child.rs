//! `duly child`: called by a running job's command, which becomes a root.

use anyhow::{Context as _, Result};

use super::{Context, calling_job, definition};
use crate::cli::ChildArgs;
use crate::exit_code::ExitCode;
use crate::render;
use crate::store::NewJob;

pub(super) fn run(context: &Context, args: ChildArgs) -> Result<ExitCode> {
    let calling = calling_job()?;
    let config = context.config()?;
    let mut job = NewJob::of(definition(&config, &args.name)?);
    if !args.params.is_empty() {
        job.params = args.params;
    }
    job.target = (args.target.target_type, args.target.target_id);
    let mut store = crate::runner::open(&config)?;
    let id = store
        .add_child(calling, &job, &|name| config.definition(name))
        .with_context(|| format!("cannot put child `{}` in", args.name))?;
    render::answer(&id.to_string())?;
    Ok(ExitCode::Success)
}
