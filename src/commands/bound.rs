//! `duly bound`: what commands of the shop are started through, so that they end with what started them.

use anyhow::Result;

use crate::cli::BoundArgs;
use crate::exit_code::ExitCode;
use crate::process::command::{become_bound, end_unexecuted};

pub(super) fn run(args: &BoundArgs) -> Result<ExitCode> {
    let err = become_bound(args.parent, &args.argv);
    let program = args.argv.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    log::error!("cannot execute `{program}`: {err}");
    end_unexecuted();
    Ok(ExitCode::Failure)
}
