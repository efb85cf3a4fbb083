//! `duly retry`: a new job like one that has ended.

use anyhow::{Context as _, Result};

use super::{Context, Refused, definition, no_such_job};
use crate::cli::IdArgs;
use crate::exit_code::ExitCode;
use crate::render;
use crate::store::NewJob;

pub(super) fn run(context: &Context, args: &IdArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let id = args.id;
    let old =
        store.job(id).with_context(|| format!("cannot read job {id}"))?.ok_or_else(|| no_such_job(id))?;
    if !old.state.is_ended() {
        return Err(Refused(format!("job {id} has not ended: it is {}", old.state)).into());
    }
    let job = NewJob::again(&old, definition(&config, &old.name)?);
    let ids = store
        .enqueue(&[job], &|name| config.definition(name))
        .with_context(|| format!("cannot retry job {id}"))?;
    render::answer(&format!("{}\n", ids[0]))?;
    Ok(ExitCode::Success)
}
