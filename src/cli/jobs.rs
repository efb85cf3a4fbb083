//! The command line of what executes, puts in, shows and ends jobs: types, no behaviour.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;

use crate::job::{On, State, duration, instant};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Only this queue; may be given several times
    #[arg(long, value_name = "QUEUE")]
    pub queue: Vec<String>,
    /// Start at most N jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Start nothing new after this long, such as 55s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub max_runtime: Option<Duration>,
    /// Jobs at once by this tick, at most what runner.concurrency allows for the host
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub concurrency: Option<u64>,
    /// Exit with 3 when a job fails
    #[arg(long)]
    pub fail_on_error: bool,
}

/// What a job is about.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The id of what the job is about: `{target_id}` in its command, $DULY_TARGET_ID
    #[arg(long, value_name = "ID")]
    pub target_id: Option<String>,
    /// The type of what the job is about: `{target_type}` in its command, $DULY_TARGET_TYPE
    #[arg(long, value_name = "TYPE")]
    pub target_type: Option<String>,
}

/// Arguments of `run-job`.
#[derive(Debug, Args)]
pub struct RunJobArgs {
    /// The name of a declared job
    pub name: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its fields carry the help")]
    pub target: TargetArgs,
    /// If it fails, queue it for retry, in QUEUE or its own queue
    #[arg(long, value_name = "QUEUE", num_args = 0..=1, require_equals = true)]
    pub retry: Option<Option<String>>,
    /// Run it although it is paused, at its limit, or one that must be unique has not ended
    #[arg(long)]
    pub force: bool,
    /// Parameters in place of the configured ones
    #[arg(last = true, value_name = "PARAM")]
    pub params: Vec<String>,
}

/// Arguments of `enqueue`.
#[derive(Debug, Args)]
pub struct EnqueueArgs {
    /// The name of a declared job
    #[arg(required_unless_present = "batch")]
    pub name: Option<String>,
    /// The queue, in place of the configured one
    #[arg(long)]
    pub queue: Option<String>,
    /// Not before this time, such as '2026-03-01 02:00' (UTC)
    #[arg(long, value_name = "TIME", value_parser = instant::parse, conflicts_with = "wait")]
    pub at: Option<DateTime<Utc>>,
    /// Not before this long from now, such as '10 min'
    #[arg(long = "in", value_name = "DURATION", value_parser = duration::parse, id = "wait")]
    pub wait: Option<Duration>,
    /// -100 to 100, higher first
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub priority: Option<i32>,
    /// Refuse it while another job with this key has not ended
    #[arg(long, value_name = "KEY")]
    pub unique_key: Option<String>,
    /// After job ID has ended as asked: success (default), failure, always or finished (success or failed); may be given several times
    #[arg(long, value_name = "ID[:END]", value_parser = parse_after)]
    pub after: Vec<(i64, On)>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its fields carry the help")]
    pub target: TargetArgs,
    /// Read jobs from FILE, or - for standard input: one JSON object a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "queue", "at", "wait", "priority", "unique_key", "after", "target_id", "target_type", "params"])]
    pub batch: Option<PathBuf>,
    /// Parameters in place of the configured ones
    #[arg(last = true, value_name = "PARAM")]
    pub params: Vec<String>,
}

fn parse_after(text: &str) -> Result<(i64, On), String> {
    let (id, on) = text.split_once(':').unwrap_or((text, "success"));
    let id = id.parse().map_err(|_not_a_number| format!("`{id}` is not a job's id"))?;
    Ok((id, on.parse()?))
}

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The name of a declared job
    pub name: String,
}

/// Arguments of commands that only read.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `next`.
#[derive(Debug, Args)]
pub struct NextArgs {
    /// Only this job
    pub name: Option<String>,
    /// Occurrences per job
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs in this state
    #[arg(long)]
    pub state: Option<State>,
    /// Only jobs of this queue
    #[arg(long)]
    pub queue: Option<String>,
    /// Only jobs of this name
    #[arg(long)]
    pub name: Option<String>,
    /// Only jobs put in within this long, such as '1 day'
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// Jobs at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Stay on the terminal, look again every 10 seconds, and act by keys: ? tells which
    #[arg(long, short, conflicts_with = "json")]
    pub watch: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The job's id
    pub id: i64,
    /// As JSON
    #[arg(long, conflicts_with = "follow")]
    pub json: bool,
    /// Show its output as it comes, until it ends
    #[arg(long, short)]
    pub follow: bool,
}

/// Arguments of commands about one job.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The job's id
    pub id: i64,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The job's id
    pub id: i64,
    /// Stop its running children too, rather than let them finish
    #[arg(long)]
    pub kill: bool,
}

/// Arguments of `child`.
#[derive(Debug, Args)]
pub struct ChildArgs {
    /// The name of a declared job
    pub name: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its fields carry the help")]
    pub target: TargetArgs,
    /// Parameters in place of the configured ones
    #[arg(last = true, value_name = "PARAM")]
    pub params: Vec<String>,
}

/// Arguments of `dependent`.
#[derive(Debug, Args)]
pub struct DependentArgs {
    /// The name of a declared job
    pub name: String,
    /// After which end: finished (success or failed), success, failure or always
    #[arg(long, default_value = "finished", value_name = "END")]
    pub on: On,
    /// Parameters in place of the configured ones
    #[arg(last = true, value_name = "PARAM")]
    pub params: Vec<String>,
}

/// Arguments of `progress`.
#[derive(Debug, Args)]
pub struct ProgressArgs {
    /// Percent done
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub percent: u8,
    /// What is being done
    pub text: Option<String>,
}
