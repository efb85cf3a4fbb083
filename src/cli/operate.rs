//! The arguments of the commands that an administrator sees to a running system with; no behaviour.

use clap::Args;

/// Arguments of commands that tell something about one job.
#[derive(Debug, Args)]
pub struct JobJsonArgs {
    /// The job's id
    pub id: i64,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
