//! `duly retry`: a new job like one that has ended.

use anyhow::{Context as _, Result};

use super::{Context, Refused, definition, no_such_job, note};
use crate::cli::IdArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
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
    let job = NewJob::again(&old, definition(config, &old.name)?);
    let ids = store
        .enqueue(&[job], &|name| config.definition(name))
        .with_context(|| format!("cannot retry job {id}"))?;
    note(store, "retry", &format!("job {id}"), Some(&format!("as job {}", ids[0])));
    Ok(ids[0])
}
