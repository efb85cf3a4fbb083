//! `duly daemon`: ticks without cron, for containers and service managers.

use anyhow::Result;

use super::{Context, require_queue};
use crate::cli::DaemonArgs;
use crate::exit_code::ExitCode;
use crate::process::program::own_program;
use crate::runner::daemon::{self, Orders};

pub(super) fn run(context: &Context, args: &DaemonArgs) -> Result<ExitCode> {
    let config = context.config()?;
    for queue in &args.queue {
        require_queue(&config, queue)?;
    }
    let orders = Orders {
        interval: args.interval,
        program: own_program().map_err(anyhow::Error::msg)?,
        arguments: arguments(context, args),
        // Others can read command lines, and not the environment.
        variables: context
            .options
            .database_url
            .iter()
            .map(|url| ("DATABASE_URL".to_owned(), url.clone()))
            .collect(),
        options: context.options.clone(),
    };
    daemon::run(orders).map(ExitCode::Signal)
}

/// The command line of a tick.
fn arguments(context: &Context, args: &DaemonArgs) -> Vec<String> {
    let mut words = context.log_options.clone();
    if let Some(path) = &context.options.path {
        words.extend(["--config".to_owned(), path.to_string_lossy().into_owned()]);
    }
    words.push("run".to_owned());
    for queue in &args.queue {
        words.extend(["--queue".to_owned(), queue.clone()]);
    }
    if let Some(jobs) = args.concurrency {
        words.extend(["--concurrency".to_owned(), jobs.to_string()]);
    }
    if let Some(length) = args.max_runtime {
        words.extend(["--max-runtime".to_owned(), format!("{}ms", length.as_millis())]);
    }
    words
}
