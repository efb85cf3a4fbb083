//! `duly progress`: called by a running job's command, for those who watch it.

use anyhow::{Context as _, Result};

use super::{Context, calling_job};
use crate::cli::ProgressArgs;
use crate::exit_code::ExitCode;

pub(super) fn run(context: &Context, args: &ProgressArgs) -> Result<ExitCode> {
    let calling = calling_job()?;
    let (_, mut store) = context.open()?;
    store.set_progress(calling, args.percent, args.text.as_deref()).context("cannot note the progress")?;
    Ok(ExitCode::Success)
}
