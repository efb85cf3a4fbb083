//! `duly retry`: a new job like one that has ended.

use anyhow::{Context as _, Result};

use super::{Context, Refused, definition, no_such_job};
use crate::cli::IdArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::job::parse_params;
use crate::render;
use crate::store::{NewJob, Store};

pub(super) fn run(context: &Context, args: &IdArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let new = retry(&config, &mut store, args.id)?;
    render::answer(&new.to_string())?;
    Ok(ExitCode::Success)
}

/// Puts in a job like `id`, which has ended; returns the new one's id.
pub(super) fn retry(config: &Config, store: &mut Store, id: i64) -> Result<i64> {
    let old =
        store.job(id).with_context(|| format!("cannot read job {id}"))?.ok_or_else(|| no_such_job(id))?;
    if !old.state.is_ended() {
        return Err(Refused(format!(
            "job {id} has not ended: it is {}; `duly why {id}` says why",
            old.state
        ))
        .into());
    }
    let mut job = NewJob::of(definition(config, &old.name)?);
    job.queue = old.queue.unwrap_or(job.queue);
    job.priority = old.priority.unwrap_or(job.priority);
    if let Some(params) = old.params.as_deref().and_then(|params| parse_params(params).ok()) {
        job.params = params;
    }
    job.target = (old.target_type, old.target_id);
    job.scheduled_for = old.scheduled_for;
    job.retry_of = Some(id);
    let ids = store
        .enqueue(&[job], &|name| config.definition(name))
        .with_context(|| format!("cannot retry job {id}"))?;
    Ok(ids[0])
}
