//! Every type of the command line; no behaviour. The arguments of commands that belong together are in a file of their own.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::job::{duration, instant};

mod jobs;
mod man;
mod operate;
mod shop;
mod web;

pub use jobs::{
    CancelArgs, ChildArgs, DependentArgs, EnqueueArgs, IdArgs, JsonArgs, ListArgs, NextArgs, ProgressArgs,
    RunArgs, RunJobArgs, ShowArgs, StartArgs, TargetArgs,
};
pub use man::ManArgs;
pub use operate::{CrontabArgs, DaemonArgs, JobJsonArgs, MetricsArgs, StatusArgs, SystemdArgs};
pub use shop::{
    LostOrdersAddArgs, LostOrdersArgs, LostOrdersCommand, LostOrdersListArgs, LostOrdersRemoveArgs,
    LostOrdersShowArgs, ProcessLostOrdersArgs, SessionsArgs, SessionsCommand, SessionsShowArgs,
};

pub use web::WebArgs;

/// Where options that every command has stand in its help.
const GLOBAL: &str = "Options of every command";

/// Runs declared jobs when they are due.
#[derive(Debug, Parser)]
#[command(name = "duly", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// The file that declares the jobs [default: $DULY_CONFIG, ./jobs.yaml, /etc/duly/jobs.yaml]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
    /// The database; $DATABASE_URL is safer, since others can read command lines
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    pub database_url: Option<String>,
    /// Tell more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    /// Tell only errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub quiet: bool,
    /// What to do; where it stands, if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What Duly can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One tick: run what is due, then exit; this is what the crontab calls
    #[command(after_help = "Example, for a crontab:\n  * * * * * duly run")]
    Run(RunArgs),
    /// Run one job now, in the foreground, and record it
    #[command(after_help = "Example:\n  duly run-job import_feed -- --full")]
    RunJob(RunJobArgs),
    /// Put a job in the queue and print its id
    #[command(after_help = "Examples:\n  duly enqueue import_feed --in '10 min'\n  \
                            echo '{\"name\": \"import_feed\", \"params\": [\"a\"]}' | duly enqueue --batch -")]
    Enqueue(EnqueueArgs),
    /// Put a job in the queue as it is configured, with its dependents, and print its id
    #[command(after_help = "Example:\n  duly start import_feed")]
    Start(StartArgs),
    /// The declared jobs: schedule, next time, last result
    #[command(after_help = "Example:\n  duly jobs --json")]
    Jobs(JsonArgs),
    /// The coming occurrences of schedules
    #[command(after_help = "Example:\n  duly next nightly_export --count 10")]
    Next(NextArgs),
    /// The last jobs
    #[command(after_help = "Examples:\n  duly list --state failed --since '1 day'\n  duly list --watch")]
    List(ListArgs),
    /// One job whole: attempts, prerequisites, output
    #[command(after_help = "Example:\n  duly show 42 --follow")]
    Show(ShowArgs),
    /// Whether all is well: hosts, queues, failures, pauses; exits with 3 when something is wrong
    #[command(
        after_help = "Examples:\n  duly status\n  duly status --nagios      (as a monitoring plugin: one line, and 0, 1, 2 or 3)"
    )]
    Status(StatusArgs),
    /// Why a job is not running, and what would start it
    #[command(after_help = "Example:\n  duly why 42")]
    Why(JobJsonArgs),
    /// Cancel a job; one that runs is stopped, wherever it runs
    #[command(after_help = "Example:\n  duly cancel 42")]
    Cancel(CancelArgs),
    /// Put in a new job like one that has ended, and print its id
    #[command(after_help = "Example:\n  duly retry 42")]
    Retry(IdArgs),
    /// From a running job's command: put a child of that job in and print its id
    #[command(
        after_help = "Example, in a job's script:\n  for part in a b c; do duly child import_part -- $part; done"
    )]
    Child(ChildArgs),
    /// From a running job's command: put a job in that starts when that job and its children have ended
    #[command(after_help = "Example, in a job's script:\n  duly dependent index_feed")]
    Dependent(DependentArgs),
    /// From a running job's command: tell how far it has come
    #[command(after_help = "Example, in a job's script:\n  duly progress 40 'reading page 4 of 10'")]
    Progress(ProgressArgs),
    /// Start nothing new of a job, a queue or everything, until it is resumed
    #[command(
        after_help = "Example:\n  duly pause --queue orders --until '2026-03-01 06:00' --reason 'the ERP is down'"
    )]
    Pause(PauseArgs),
    /// End a pause
    #[command(after_help = "Example:\n  duly resume --queue orders")]
    Resume(ResumeArgs),
    /// Delete jobs that ended long enough ago
    #[command(after_help = "Example:\n  duly clean-up --max-retention '7 days' --per-call 1000")]
    CleanUp(CleanUpArgs),
    /// Give content changes to everybody who keeps copies of contents
    #[command(after_help = "Example, for a crontab:\n  */5 * * * * duly refresh-cache")]
    RefreshCache,
    /// Send orders again whose transfer to the ERP failed
    #[command(after_help = "Examples:\n  */5 * * * * duly process-lost-orders      (in a crontab)\n  \
                      duly process-lost-orders 4711")]
    ProcessLostOrders(ProcessLostOrdersArgs),
    /// Look at lost orders, put one in, take one out
    #[command(after_help = "Example:\n  duly lost-orders list --state given_up")]
    LostOrders(LostOrdersArgs),
    /// Count the sessions of the shop, and show what was counted
    #[command(after_help = "Examples:\n  */5 * * * * duly sessions write-stat      (in a crontab)\n  \
                            duly sessions show --since '1 day'")]
    Sessions(SessionsArgs),
    /// Serve the web page: jobs and what they print, definitions with a Start button, statistics
    #[command(after_help = "Examples:\n  duly web --listen 127.0.0.1:8080\n  \
                            duly web --hash-password      (reads a password, prints what web.users takes)")]
    Web(WebArgs),
    /// Figures for Prometheus: queues, ends, durations, hosts, the database
    #[command(after_help = "Examples:\n  duly metrics\n  \
                            * * * * * duly metrics --textfile /var/lib/prometheus/node-exporter/duly.prom      (in a crontab)")]
    Metrics(MetricsArgs),
    /// Create or update the tables
    #[command(after_help = "Example:\n  duly migrate --dry-run")]
    Migrate(MigrateArgs),
    /// Ticks without cron, until SIGTERM: for containers and service managers
    #[command(after_help = "Examples:\n  duly daemon\n  duly daemon --interval 5s --queue mail")]
    Daemon(DaemonArgs),
    /// Check jobs.yaml, and a crontab, without a database
    #[command(after_help = "Example:\n  crontab -l | duly check --crontab -")]
    Check(CheckArgs),
    /// Print the lines that let cron tick
    #[command(after_help = "Examples:\n  (crontab -l; duly crontab --every 15s) | crontab -\n  \
                            duly crontab --user www-data > /etc/cron.d/duly")]
    Crontab(CrontabArgs),
    /// Print the units that let systemd tick: a service with a timer, or a daemon
    #[command(
        after_help = "Examples:\n  duly systemd --user www-data --into /etc/systemd/system\n  duly systemd --daemon"
    )]
    Systemd(SystemdArgs),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  duly completions bash > /etc/bash_completion.d/duly")]
    Completions(CompletionsArgs),
    /// Print a page of the manual, or write all of them into a folder
    #[command(
        after_help = "Examples:\n  duly man run-job | man -l -\n  duly man --folder /usr/local/share/man/man1"
    )]
    Man(ManArgs),
    /// Become a command that ends with the process that started it; Duly calls this itself
    #[command(hide = true)]
    Bound(BoundArgs),
    /// Read standard input to its end and drop it; Duly calls this itself
    #[command(hide = true)]
    Drop,
}

/// What is paused or resumed.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// The name of a declared job
    pub name: Option<String>,
    /// A queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<String>,
    /// Everything
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its fields carry the help")]
    pub scope: ScopeArgs,
    /// Until this time, such as '2026-03-01 06:00' (UTC)
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    pub until: Option<DateTime<Utc>>,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened: its fields carry the help")]
    pub scope: ScopeArgs,
}

/// Arguments of `clean-up`.
#[derive(Debug, Args)]
pub struct CleanUpArgs {
    /// Delete what ended longer ago than this, such as '7 days' [default: retention in jobs.yaml]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub max_retention: Option<Duration>,
    /// The same, for jobs that succeeded
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub max_retention_succeeded: Option<Duration>,
    /// Delete at most N jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub per_call: Option<u64>,
    /// Keep the newest N ended jobs of each name
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Count, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `bound`.
#[derive(Debug, Args)]
pub struct BoundArgs {
    /// The process that started it
    pub parent: u32,
    /// The program, absolute, and its arguments
    #[arg(last = true, required = true)]
    pub argv: Vec<std::ffi::OsString>,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Show what has been run and what has not
    #[arg(long, conflicts_with = "dry_run")]
    pub status: bool,
    /// Print the SQL that would be run
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Check this crontab too, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub crontab: Option<PathBuf>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
