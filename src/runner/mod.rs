//! Running jobs: the layer that knows both the database and processes.
//!
//! [`tick::run`] is one `duly run`. It asks the database what there is to do, does only that, and when something is
//! startable a [`drain`] executes it: one thread talks to the database, one per slot starts and waits for commands,
//! one renews leases for those that take long. [`by_hand`] is `duly run-job`.

pub mod by_hand;
mod claiming;
pub mod daemon;
mod drain;
mod duties;
mod heartbeat;
mod kept;
mod pace;
mod queue;
mod recording;
mod rescue;
mod schedule;
pub mod tick;
mod under_way;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::{Config, DatabaseUrl};
use crate::process;
use crate::store::{Location, Store};

/// Who this process is, for the whole of its life.
#[derive(Debug, Clone)]
pub struct Identity {
    /// A value that no other process ever had.
    pub owner: String,
    /// The host's name.
    pub host: String,
}

impl Identity {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self { owner: process::new_owner(), host: process::host() }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the configured database is.
#[must_use]
pub fn location(database: &DatabaseUrl) -> Location {
    if database.is_mysql() {
        Location::Mysql(database.expose().to_owned())
    } else {
        Location::Sqlite(database.expose().to_owned())
    }
}

/// Connects to the configured database, whatever its schema.
///
/// # Errors
///
/// When it is away or refuses the user; the message names it without its password.
pub fn connect(config: &Config) -> Result<Store> {
    Store::connect(&location(&config.database)).map_err(|err| {
        let hint = hint(&err.to_string());
        anyhow::Error::new(err).context(format!("cannot open the database {}{hint}", config.database))
    })
}

/// How long a runner lets the server take over one statement: longer than a wait for a lock, and not so long that what
/// it holds is over before it has connected again.
pub(super) fn patience(config: &Config) -> Duration {
    (config.runner.lease / 2).clamp(Duration::from_secs(10), Duration::from_secs(60))
}

/// What to look at, for the client libraries' own words (which are in English) and the server's.
fn hint(error: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["Access denied"]) {
        " (check user and password in $DATABASE_URL, --database-url or `database` in jobs.yaml)"
    } else if has(&["Can't connect", "Unknown server host", "Connection refused"]) {
        " (is the server running there? host and port are in $DATABASE_URL, --database-url or `database` in jobs.yaml)"
    } else if has(&["Unknown database"]) {
        " (create it, or check the name in the URL)"
    } else {
        ""
    }
}

/// Opens the configured database and makes sure of its schema.
///
/// # Errors
///
/// As [`connect`], and when the schema is not the one this program needs.
pub fn open(config: &Config) -> Result<Store> {
    let mut store = connect(config)?;
    store.require_schema().with_context(|| format!("cannot use the database {}", config.database))?;
    Ok(store)
}

/// The folder on this host where the traces of running jobs of this database are kept.
///
/// # Errors
///
/// One line that says what is wrong with it.
pub fn state_folder(config: &Config) -> Result<PathBuf> {
    process::state_dir::prepare(&config.runner.state_dir, &config.database.identity())
        .map_err(anyhow::Error::msg)
}
