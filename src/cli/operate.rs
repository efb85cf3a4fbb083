//! The arguments of the commands that an administrator sees to a running system with; no behaviour.

use std::time::Duration;

use clap::Args;

use crate::job::duration;

/// Arguments of commands that tell something about one job.
#[derive(Debug, Args)]
pub struct JobJsonArgs {
    /// The job's id
    pub id: i64,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON
    #[arg(long, conflicts_with = "nagios")]
    pub json: bool,
    /// As a monitoring plugin: one line with figures, then the findings; exits with 0, 1, 2 or 3
    #[arg(long)]
    pub nagios: bool,
    /// How long a job may be startable before that is a warning
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    pub max_wait: Duration,
}
