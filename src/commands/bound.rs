//! `duly bound`: what commands of the shop are started through, so that they end with what started them.

use anyhow::{Context as _, Result};

use crate::cli::BoundArgs;
use crate::exit_code::ExitCode;
use crate::process::command::become_bound;

pub(super) fn run(args: &BoundArgs) -> Result<ExitCode> {
    Err(become_bound(args.parent, &args.argv)).with_context(|| {
        let program = args.argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        format!("cannot execute `{program}`")
    })
}
