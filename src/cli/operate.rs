//! The arguments of the commands that an administrator sees to a running system with; no behaviour.

use std::path::PathBuf;
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

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Write to FILE, in one piece, for the textfile collector of `node_exporter`; its name must end in .prom
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<PathBuf>,
}

/// Arguments of `daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// From one tick to the next, 1s at least
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = interval)]
    pub interval: Duration,
    /// Only this queue; may be given several times
    #[arg(long, value_name = "QUEUE")]
    pub queue: Vec<String>,
    /// A tick starts nothing new after this long, such as 55s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub max_runtime: Option<Duration>,
    /// Jobs at once by one tick, at most what runner.concurrency allows for the host
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub concurrency: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < Duration::from_secs(1) {
        return Err(format!("`{text}` is too short; expected 1s or longer, such as 10s"));
    }
    Ok(interval)
}

/// Arguments of `crontab`.
#[derive(Debug, Args)]
pub struct CrontabArgs {
    /// From one tick to the next, such as 15s, 1 min or 5 min
    #[arg(long, value_name = "DURATION", default_value = "1 min", value_parser = duration::parse)]
    pub every: Duration,
    /// As this user, in the form of /etc/cron.d
    #[arg(long)]
    pub user: Option<String>,
}

/// Arguments of `systemd`.
#[derive(Debug, Args)]
pub struct SystemdArgs {
    /// The unit of the daemon, in place of a service with a timer
    #[arg(long)]
    pub daemon: bool,
    /// As this user, and its group of the same name [default: duly]
    #[arg(long)]
    pub user: Option<String>,
    /// Write them into this folder rather than to standard output
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<PathBuf>,
}
