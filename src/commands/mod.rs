//! One file per subcommand: arguments, work, answer. Here they are told apart, and errors become exit codes.

mod bound;
mod cancel;
mod check;
mod check_crontab;
mod child;
mod clean_up;
mod completions;
mod crontab;
mod daemon;
mod dependent;
mod drop_input;
mod enqueue;
mod graph;
mod jobs;
mod list;
mod lost_orders;
mod man;
mod metrics;
mod migrate;
mod next;
mod pause;
mod process_lost_orders;
mod progress;
mod refresh_cache;
mod resume;
mod retry;
mod run;
mod run_job;
mod sessions;
mod shop_job;
mod show;
mod stand;
mod start;
mod status;
mod status_answer;
mod systemd;
mod watch;
mod web;
mod why;

use std::io::Write as _;

use anyhow::{Result, anyhow};
use clap::Parser as _;
use clap::error::ErrorKind;
use log::{Level, LevelFilter};

use crate::cli::{Cli, Command};
use crate::config::{self, Config, ConfigError, LoadOptions};
use crate::exit_code::ExitCode;
use crate::job::discreet;
use crate::job::{Definition, is_hook};
use crate::runner;
use crate::store::{Calling, Deed, Store, StoreError};

/// A mistake in the arguments or in what they name; it will not go away by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Refused, because one is already there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// What every command starts from.
struct Context {
    options: LoadOptions,
    /// What was said about the log, for a process that is started with the same.
    log_options: Vec<String>,
}

impl Context {
    fn config(&self) -> Result<Config> {
        Ok(config::load(&self.options)?)
    }

    fn open(&self) -> Result<(Config, Store)> {
        let config = self.config()?;
        let store = runner::open(&config)?;
        Ok((config, store))
    }
}

/// Reads the command line of this process.
///
/// # Errors
///
/// With the code to exit with, after help, a version or a line about what is wrong has been written.
pub fn parse() -> std::result::Result<Cli, ExitCode> {
    let err = match Cli::try_parse() {
        Ok(cli) => return Ok(cli),
        Err(err) => err,
    };
    if !err.use_stderr() || err.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let is_asked_for = !err.use_stderr();
        let is_written = err.print().is_ok();
        return Err(if is_asked_for && is_written { ExitCode::Success } else { ExitCode::Usage });
    }
    Err(explain(&Usage(one_line(&err)).into()))
}

/// What is wrong with a command line, without the usage that clap adds.
fn one_line(err: &clap::Error) -> String {
    let text = err.render().to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty());
    let joined: Vec<&str> = lines.collect();
    let text = joined.join(" ").trim_start_matches("error: ").to_owned();
    // Most say what is expected; one that does not is left with a place to look.
    let has_step = ["expected", "tip:", "possible values"].iter().any(|step| text.contains(step));
    if has_step { text } else { format!("{text}; `duly --help` and `duly COMMAND --help` have examples") }
}

/// Carries out one command.
///
/// # Errors
///
/// Whatever stopped it; [`explain`] turns that into a line and an exit code.
pub fn dispatch(cli: Cli) -> Result<ExitCode> {
    let mut log_options = vec!["--verbose".to_owned(); usize::from(cli.verbose)];
    log_options.extend(cli.quiet.then(|| "--quiet".to_owned()));
    let context =
        Context { options: LoadOptions { path: cli.config, database_url: cli.database_url }, log_options };
    let Some(command) = cli.command else { return stand::run(&context) };
    match command {
        Command::Run(args) => run::run(&context, args),
        Command::RunJob(args) => run_job::run(&context, args),
        Command::Enqueue(args) => enqueue::run(&context, args),
        Command::Start(args) => start::run(&context, &args),
        Command::Jobs(args) => jobs::run(&context, &args),
        Command::Next(args) => next::run(&context, &args),
        Command::List(args) => list::run(&context, args),
        Command::Show(args) => show::run(&context, &args),
        Command::Status(args) => status::run(&context, &args),
        Command::Why(args) => why::run(&context, &args),
        Command::Cancel(args) => cancel::run(&context, &args),
        Command::Retry(args) => retry::run(&context, &args),
        Command::Child(args) => child::run(&context, args),
        Command::Dependent(args) => dependent::run(&context, args),
        Command::Progress(args) => progress::run(&context, &args),
        Command::Pause(args) => pause::run(&context, args),
        Command::Resume(args) => resume::run(&context, args),
        Command::CleanUp(args) => clean_up::run(&context, &args),
        Command::RefreshCache => refresh_cache::run(&context),
        Command::ProcessLostOrders(args) => process_lost_orders::run(&context, &args),
        Command::LostOrders(args) => lost_orders::run(&context, args),
        Command::Sessions(args) => sessions::run(&context, &args),
        Command::Web(args) => web::run(&context, &args),
        Command::Metrics(args) => metrics::run(&context, &args),
        Command::Migrate(args) => migrate::run(&context, &args),
        Command::Daemon(args) => daemon::run(&context, &args),
        Command::Check(args) => check::run(&context, &args),
        Command::Crontab(args) => crontab::run(&context, &args),
        Command::Systemd(args) => systemd::run(&context, &args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Bound(args) => bound::run(&args),
        Command::Drop => drop_input::run(),
    }
}

/// Prints one line about an error; returns the code to exit with.
#[must_use]
pub fn explain(err: &anyhow::Error) -> ExitCode {
    // Whoever asked for a job that is there already gets its id, as if it had been put in.
    let taken = err.chain().find_map(|cause| match cause.downcast_ref() {
        Some(StoreError::Taken { id, .. }) => Some(*id),
        _ => None,
    });
    if let Some(id) = taken
        && let Err(unwritten) = crate::render::answer(&id.to_string())
    {
        log::debug!("{unwritten}");
    }
    let mut stderr = std::io::stderr().lock();
    if let Some(problems) = err.downcast_ref::<ConfigError>() {
        // One line for each problem.
        let lines = problems.to_string();
        let harmless = |line| crate::render::harmless(&discreet(line));
        let written = lines.lines().try_for_each(|line| writeln!(stderr, "duly: error: {}", harmless(line)));
        return if written.is_ok() { ExitCode::Usage } else { ExitCode::Failure };
    }
    // A database's message may have several lines, and what it quotes of a row may hold anything.
    let line = crate::render::harmless(&discreet(&format!("{err:#}"))).replace('\n', " ");
    if writeln!(stderr, "duly: error: {line}").is_err() {
        return ExitCode::Failure;
    }
    let is_unknown = |err: &anyhow::Error| {
        err.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Unknown(_))))
    };
    let is_refused = err.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(StoreError::Taken { .. } | StoreError::HeldBack(_)))
    });
    match err {
        err if err.is::<Usage>() || is_unknown(err) => ExitCode::Usage,
        err if err.is::<Refused>() || is_refused => ExitCode::Refused,
        _ => ExitCode::Failure,
    }
}

/// Sends the log to standard error: warnings, unless `-v`, `-q` or `RUST_LOG` say otherwise.
pub fn start_log(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::Error,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, _) => LevelFilter::Debug,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    if !cli.quiet && cli.verbose == 0 {
        builder.parse_default_env();
    }
    let has_times = cli.verbose > 0;
    builder.format(move |out, record| {
        let word = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let text = crate::render::harmless(&record.args().to_string()).replace('\n', " ");
        let time = if has_times { format!("{} ", out.timestamp_millis()) } else { String::new() };
        writeln!(out, "{time}duly: {word}: {text}")
    });
    builder.init();
}

/// The definition called `name`, or what else may be meant.
fn definition<'a>(config: &'a Config, name: &str) -> Result<&'a Definition> {
    let found = config.definition(name).filter(|definition| !is_hook(&definition.name));
    found.ok_or_else(|| Usage(config.unknown_definition(name)).into())
}

/// The queue called `name`, if it is declared.
fn require_queue(config: &Config, name: &str) -> Result<()> {
    if config.queues.iter().any(|queue| queue == name) {
        return Ok(());
    }
    let known = config.queues.join(", ");
    Err(Usage(format!("no queue is called `{name}` in {}; it declares {known}", config.path.display()))
        .into())
}

/// Records what a person did; what the command of a job does is that job's own. That it was done is more than that it is
/// written down.
fn note(store: &mut Store, did: &str, subject: &str, detail: Option<&str>) {
    if config::calling_job().is_some() {
        return;
    }
    let who = crate::process::who();
    if let Err(err) = store.note(&Deed { who: &who, via: "command line", did, subject, detail }) {
        log::warn!("who did this is not recorded: {err}");
    }
}

/// The job whose command calls.
fn calling_job() -> Result<Calling> {
    config::calling_job().ok_or_else(|| {
        let text = "this is for the command of a running job, which has $DULY_JOB_ID and $DULY_FENCE in its environment";
        Usage(text.to_owned()).into()
    })
}

fn no_such_job(id: i64) -> anyhow::Error {
    anyhow!(Usage(format!("there is no job {id}; `duly list` shows the last ones")))
}
