//! `duly run-job`: one job now, in the foreground.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::Result;

use super::{Context, definition, note, require_queue};
use crate::cli::RunJobArgs;
use crate::exit_code::ExitCode;
use crate::job::{Outcome, State, Unique};
use crate::render;
use crate::runner::by_hand::{self, ByHand};
use crate::store::NewJob;

pub(super) fn run(context: &Context, args: RunJobArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let definition = definition(&config, &args.name)?;
    let mut job = NewJob::of(definition);
    if !args.params.is_empty() {
        job.params = args.params;
    }
    if args.force {
        job.unique = Unique::No;
    }
    job.target = (args.target.target_type, args.target.target_id);
    match args.retry {
        None => job.max_attempts = 1,
        Some(None) => {}
        Some(Some(queue)) => {
            require_queue(&config, &queue)?;
            job.queue = queue;
        }
    }
    let mut store = crate::runner::open(&config)?;
    if std::io::stdin().is_terminal() {
        note(&mut store, "run-job", &format!("definition {}", args.name), None);
    }
    let done = by_hand::run(&Arc::new(config), store, &job, args.force, &mut *render::raw_output())?;
    Ok(exit_code(&done, &args.name))
}

/// Says how a job that was run by hand ended if that was not well.
pub(super) fn exit_code(done: &ByHand, name: &str) -> ExitCode {
    match (done.state, done.signal) {
        (State::Success, _) => return ExitCode::Success,
        (State::Running, None) if done.outcome == Outcome::Success => {
            log::info!("job {} ({name}) ends when its children have ended", done.id);
            return ExitCode::Success;
        }
        (state, Some(signal)) => {
            log::warn!("job {} ({name}) was stopped and is {state}", done.id);
            return ExitCode::Signal(signal);
        }
        (State::Delayed | State::Pending, None) => {
            log::error!("job {} ({name}) {}; it is queued for retry", done.id, done.outcome);
        }
        (state, None) if done.outcome == Outcome::Cancelled => {
            log::error!("job {} ({name}) was cancelled and is {state}", done.id);
        }
        (_, None) => log::error!("job {} ({name}) {}", done.id, done.outcome),
    }
    ExitCode::JobFailed
}
