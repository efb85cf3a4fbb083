//! `duly cancel`: at once, or by its runner within a second or two.

use anyhow::{Context as _, Result};

use super::{Context, Refused, no_such_job, note};
use crate::cli::CancelArgs;
use crate::exit_code::ExitCode;
use crate::process;
use crate::render;
use crate::store::{Cancelled, Store};

pub(super) fn run(context: &Context, args: &CancelArgs) -> Result<ExitCode> {
    let (_, mut store) = context.open()?;
    render::answer(&cancel(&mut store, args.id, args.kill)?)?;
    Ok(ExitCode::Success)
}

/// Cancels job `id`, with `kill` its running children too; says what became of it.
pub(super) fn cancel(store: &mut Store, id: i64, kill: bool) -> Result<String> {
    let why = format!("cancelled by {}", process::who());
    let done =
        store.cancel_with_children(id, &why, kill).with_context(|| format!("cannot cancel job {id}"))?;
    if matches!(done, Cancelled::Now | Cancelled::Requested) {
        note(store, "cancel", &format!("job {id}"), kill.then_some("with the children that run"));
    }
    match done {
        Cancelled::Now => Ok(format!("job {id} is cancelled")),
        Cancelled::Requested => Ok(format!("job {id} is running; its runner stops it")),
        Cancelled::Ended(state) => Err(Refused(format!("job {id} has ended before: it is {state}")).into()),
        Cancelled::Unknown => Err(no_such_job(id)),
    }
}
