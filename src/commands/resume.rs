//! `duly resume`: ends a pause.

use anyhow::{Context as _, Result};

use super::{Context, Refused, pause};
use crate::cli::ResumeArgs;
use crate::exit_code::ExitCode;
use crate::render;

pub(super) fn run(context: &Context, args: ResumeArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let (scope, what) = pause::scope(&config, args.scope)?;
    if !store.resume(&scope).with_context(|| format!("cannot resume {what}"))? {
        return Err(Refused(format!("{what} is not paused; `duly status` shows what is")).into());
    }
    render::answer(&format!("{what} goes on"))?;
    Ok(ExitCode::Success)
}
