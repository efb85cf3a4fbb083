//! `duly cancel`: at once, or by its runner within a second or two.

use anyhow::{Context as _, Result};

use super::{Context, Refused, no_such_job, note};
use crate::cli::CancelArgs;
use crate::exit_code::ExitCode;
use crate::process;
use crate::render;
use crate::store::Cancelled;

pub(super) fn run(context: &Context, args: &CancelArgs) -> Result<ExitCode> {
    let (_, mut store) = context.open()?;
    let id = args.id;
    let why = format!("cancelled by {}", process::who());
    let done =
        store.cancel_with_children(id, &why, args.kill).with_context(|| format!("cannot cancel job {id}"))?;
    if matches!(done, Cancelled::Now | Cancelled::Requested) {
        note(&mut store, "cancel", &format!("job {id}"), args.kill.then_some("with the children that run"));
    }
    match done {
        Cancelled::Now => render::answer(&format!("job {id} is cancelled"))?,
        Cancelled::Requested => render::answer(&format!("job {id} is running; its runner stops it"))?,
        Cancelled::Ended(state) => {
            return Err(Refused(format!("job {id} has ended before: it is {state}")).into());
        }
        Cancelled::Unknown => return Err(no_such_job(id)),
    }
    Ok(ExitCode::Success)
}
