//! `duly cancel`: at once, or by its runner within a second or two.

use anyhow::{Context as _, Result};

use super::{Context, Refused, no_such_job};
use crate::cli::CancelArgs;
use crate::exit_code::ExitCode;
use crate::job::State;
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
    let cannot = || format!("cannot cancel job {id}");
    let done = store.cancel(id, &why).with_context(cannot)?;
    // The root is marked by now, so it gets no more children.
    for (child, state) in store.open_children(id).with_context(cannot)? {
        if state != State::Running || kill {
            store.cancel(child, &format!("its root, job {id}, was {why}")).with_context(cannot)?;
        }
    }
    store.settle().with_context(cannot)?;
    match done {
        Cancelled::Now => Ok(format!("job {id} is cancelled")),
        Cancelled::Requested => Ok(format!("job {id} is running; its runner stops it")),
        Cancelled::Ended(state) => Err(Refused(format!("job {id} has ended before: it is {state}")).into()),
        Cancelled::Unknown => Err(no_such_job(id)),
    }
}
