//! `duly run`: one tick.

use anyhow::Result;

use super::{Context, require_queue};
use crate::cli::RunArgs;
use crate::exit_code::ExitCode;
use crate::runner::tick::{self, TickOptions};

pub(super) fn run(context: &Context, args: RunArgs) -> Result<ExitCode> {
    let config = context.config()?;
    for queue in &args.queue {
        require_queue(&config, queue)?;
    }
    let options = TickOptions {
        queues: args.queue,
        limit: args.limit,
        max_runtime: args.max_runtime.or(config.runner.max_runtime),
        concurrency: args.concurrency.and_then(|jobs| usize::try_from(jobs).ok()),
    };
    let report = tick::run(config, options)?;
    Ok(match report.signal {
        Some(signal) => ExitCode::Signal(signal),
        None if args.fail_on_error && report.failed > 0 => ExitCode::JobFailed,
        None => ExitCode::Success,
    })
}
