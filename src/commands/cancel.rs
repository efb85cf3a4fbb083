//! `duly cancel`: at once, or by its runner within a second or two.

use anyhow::{Context as _, Result};

use super::{Context, Refused, no_such_job, note};
use crate::cli::CancelArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::job::why::{Facts, Here, cancelling};
use crate::process::{self, ledger, state_dir};
use crate::render::{self, harmless};
use crate::store::{Cancelled, Store};

pub(super) fn run(context: &Context, args: &CancelArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    render::answer(&cancel(&config, &mut store, args.id, args.kill)?)?;
    Ok(ExitCode::Success)
}

/// Cancels job `id`, with `kill` its running children too; says what became of it.
pub(super) fn cancel(config: &Config, store: &mut Store, id: i64, kill: bool) -> Result<String> {
    let why = format!("cancelled by {}", process::who());
    let done =
        store.cancel_with_children(id, &why, kill).with_context(|| format!("cannot cancel job {id}"))?;
    if matches!(done, Cancelled::Now | Cancelled::Requested) {
        note(store, "cancel", &format!("job {id}"), kill.then_some("with the children that run"));
    }
    match done {
        Cancelled::Now => Ok(format!("job {id} is cancelled")),
        Cancelled::Requested => {
            let facts = store.facts(id, &|_| None).with_context(|| format!("cannot read job {id}"))?;
            let facts = facts.ok_or_else(|| no_such_job(id))?;
            Ok(harmless(&cancelling(&facts, &holder(config, &facts))))
        }
        Cancelled::Ended(state) => Err(Refused(format!("job {id} has ended before: it is {state}")).into()),
        Cancelled::Unknown => Err(no_such_job(id)),
    }
}

/// What this host knows of the runner that holds a job.
fn holder(config: &Config, facts: &Facts) -> Here {
    let folder = state_dir::locate(&config.runner.state_dir, &config.database.identity());
    Here {
        host: process::host(),
        is_runner_alive: facts.owner.as_ref().and_then(|owner| ledger::is_alive(&folder, owner)),
        ..Here::default()
    }
}
