//! jobs.yaml and the environment: what was declared, checked whole and with its defaults filled in.
//!
//! `raw` mirrors the file, `validate` turns it into the types of [`crate::job`]. Every problem is reported at
//! once, each on a line with its file, line and key path; nothing is ever silently ignored. Nothing in here
//! knows of the database behind a URL or of processes; whether a program exists is found out when it starts.

pub mod crontab;
mod database_url;
mod definitions;
mod error;
pub mod installed;
mod lines;
mod nearest;
mod node;
mod placeholders;
mod raw;
mod read;
mod settings;
mod shell;
mod shop;
mod source;
mod stamp;
mod tzdata;
mod validate;
mod validate_jobs;
mod values;
mod web;
mod zone_hint;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use database_url::DatabaseUrl;
pub use definitions::Definitions;
pub use error::ConfigError;
pub use shop::{LostOrders, RefreshCache, Step};
pub use stamp::Stamp;
pub use web::{Network, Role, TrustedProxy, WebConfig, WebUser};

use crate::job::shop::{OrderTable, SessionTable};
use crate::job::why::Here;
use crate::job::{Builtin, Definition, State};
use settings::Environment;
use source::Source;

/// What the command line says about the configuration.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// `--config`.
    pub path: Option<PathBuf>,
    /// `--database-url`.
    pub database_url: Option<String>,
}

/// A whole, valid configuration.
#[derive(Debug)]
pub struct Config {
    /// jobs.yaml, absolute.
    pub path: PathBuf,
    /// Which one it is, of those that have been there.
    pub stamp: Stamp,
    /// Where jobs are kept.
    pub database: DatabaseUrl,
    /// Whether the command line named the database, and not the environment or the file.
    pub is_database_given: bool,
    /// This host's share of the work.
    pub runner: RunnerConfig,
    /// Names of the queues in the order of the file; `default` is always one of them.
    pub queues: Vec<String>,
    /// How many jobs of a queue run at once over all hosts, where that is limited.
    pub queue_limits: BTreeMap<String, u32>,
    /// What was declared.
    pub definitions: Definitions,
    /// How long ended jobs are kept.
    pub retention: Retention,
    /// What `refresh-cache` works on, if anything.
    pub refresh_cache: Option<RefreshCache>,
    /// What `process-lost-orders` works on, if anything.
    pub lost_orders: Option<LostOrders>,
    /// What `sessions` looks at.
    pub sessions: SessionTable,
    /// Where the web page listens, and who may use it.
    pub web: WebConfig,
}

/// `runner` in jobs.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerConfig {
    /// Jobs at once on this host, at least 1.
    pub concurrency: usize,
    /// After this a tick claims nothing new.
    pub max_runtime: Option<Duration>,
    /// How long a claim holds without being renewed, 3 seconds to an hour.
    pub lease: Duration,
    /// Where host slots and output under way are kept, absolute.
    pub state_dir: PathBuf,
    /// Whether jobs.yaml names it; else it hangs on the environment, and may be another for another tick of this host.
    pub is_state_dir_given: bool,
}

/// `retention` in jobs.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// For states that do not say otherwise.
    pub default: Duration,
    /// For jobs that succeeded.
    pub success: Option<Duration>,
    /// For jobs that failed.
    pub failed: Option<Duration>,
    /// For jobs that were cancelled.
    pub cancelled: Option<Duration>,
    /// For jobs that were given up.
    pub stale: Option<Duration>,
    /// The newest of each name are kept whatever their age.
    pub keep_last: u32,
}

/// Where jobs.yaml lies: `explicit`, `$DULY_CONFIG`, `./jobs.yaml` or `/etc/duly/jobs.yaml`; absolute.
///
/// # Errors
///
/// When it is in none of these places; one that is named is not looked at yet.
pub fn locate(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    Source::locate(explicit, &Environment::read()).map(|source| source.path)
}

/// Reads and checks jobs.yaml and the environment.
///
/// # Errors
///
/// Every problem there is, for people to read.
pub fn load(options: &LoadOptions) -> Result<Config, ConfigError> {
    load_in(options, &Environment::read())
}

fn load_in(options: &LoadOptions, environment: &Environment) -> Result<Config, ConfigError> {
    let source = Source::locate(options.path.as_deref(), environment)?;
    let yaml = source.read()?;
    validate::config(&yaml, &source, options.database_url.as_deref(), environment)
        .map_err(ConfigError::Invalid)
}

/// The job whose command this process belongs to, and the fence of its claim (`$DULY_JOB_ID`, `$DULY_FENCE`).
#[must_use]
pub fn calling_job() -> Option<(i64, i64)> {
    settings::calling_job()
}

/// The variable that a runner gives a builtin: its own process id.
pub const STARTER: &str = "DULY_STARTER";

/// The name of the job whose command this very process is, where it is a builtin that a runner has started.
#[must_use]
pub fn own_job_name() -> Option<String> {
    settings::own_job_name()
}

/// The database that time zones are read from, such as `tzdata 2026a (system)`.
#[must_use]
pub fn tzdata() -> String {
    tzdata::shown()
}

/// Whether the person asked for no colours (`$NO_COLOR`).
#[must_use]
pub fn is_without_colour() -> bool {
    settings::is_without_colour()
}

impl Config {
    /// The definition called `name`.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)
    }

    /// What this configuration has to do with whether a job of `name` in `queue` runs; what is to be found out from this host's
    /// processes is left open.
    #[must_use]
    pub fn here(&self, name: &str, queue: Option<&str>) -> Here {
        let definition = self.definition(name);
        let queue = queue.or(definition.map(|definition| definition.queue.as_str()));
        Here {
            config: self.path.display().to_string(),
            declared_queue: definition.map(|definition| definition.queue.clone()),
            is_enabled: definition.is_some_and(|definition| definition.enabled),
            queues: self.queues.clone(),
            limits: (
                queue.and_then(|queue| self.queue_limits.get(queue).copied()),
                definition.and_then(|definition| definition.concurrency),
            ),
            ..Here::default()
        }
    }

    /// The folder of jobs.yaml, where commands are started that say no other.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The definition as whose job a command of the shop is recorded.
    #[must_use]
    pub fn builtin(&self, builtin: Builtin) -> Option<&Definition> {
        self.definitions.builtin(builtin)
    }

    /// Where lost orders are: Duly's own table, unless another is configured.
    #[must_use]
    pub fn order_table(&self) -> OrderTable {
        self.lost_orders.as_ref().map_or_else(OrderTable::own, |settings| settings.table.clone())
    }

    /// Says that no definition is called `name`, and which one may be meant.
    #[must_use]
    pub fn unknown_definition(&self, name: &str) -> String {
        let hint = self.definitions.hint(name);
        format!("no job is called `{}` in {}; {hint}", error::one_line(name), self.path.display())
    }

    /// Every name whose jobs this configuration can execute, hooks left out, in order.
    #[must_use]
    pub fn declared_names(&self) -> BTreeSet<&str> {
        self.definitions.names()
    }

    /// Changes when, and only when, the set of schedules that make jobs changes; the same on every host.
    #[must_use]
    pub fn schedules_digest(&self) -> String {
        self.definitions.schedules_digest()
    }
}

impl Retention {
    /// How long jobs that ended in `state` are kept.
    #[must_use]
    pub fn of(&self, state: State) -> Duration {
        let own = match state {
            State::Success => self.success,
            State::Failed => self.failed,
            State::Cancelled => self.cancelled,
            State::Stale => self.stale,
            State::New | State::Waiting | State::Delayed | State::Pending | State::Running => None,
        };
        own.unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests;
