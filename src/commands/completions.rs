//! `duly completions`: what a shell needs to complete commands and options.

use anyhow::Result;
use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs};
use crate::exit_code::ExitCode;
use crate::render;

pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "duly", &mut text);
    render::answer(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::Success)
}
