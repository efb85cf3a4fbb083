//! Running jobs: the layer that knows both the database and processes.
//!
//! [`tick::run`] is one `duly run`. It asks the database what there is to do, does only that, and when something is
//! startable a [`drain`] executes it: one thread talks to the database, one per slot starts and waits for commands,
//! one renews leases for those that take long. [`by_hand`] is `duly run-job`.

pub mod by_hand;
mod claiming;
pub mod daemon;
mod declaring;
mod distance;
mod drain;
mod duties;
mod heartbeat;
mod kept;
mod listers;
mod pace;
mod queue;
mod recording;
pub mod rehearsal;
mod rescue;
mod schedule;
mod setback;
mod steady;
pub mod tick;
mod under_way;
mod worker;

pub use kept::aside as refused;
use percent_encoding::percent_decode_str;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::config::{Config, DatabaseUrl};
use crate::db::{Endpoint, Location, Server, Tls, TlsMode};
use crate::process;
use crate::store::Store;

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

/// Where a server's socket is that listens on this host, on Debian and on Fedora.
const SOCKETS: [&str; 2] = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock"];

/// Where the configured database is.
#[must_use]
pub fn location(database: &DatabaseUrl) -> Location {
    let DatabaseUrl::Mysql { url, .. } = database else {
        return Location::Sqlite(database.expose().to_owned());
    };
    let path = |option: &str| database.option(option).map(PathBuf::from);
    let endpoint = |(host, port): (&str, Option<u16>)| match (host, port) {
        ("localhost", None) => SOCKETS
            .iter()
            .find(|socket| Path::new(socket).exists())
            .map_or_else(|| Endpoint::Tcp(host.to_owned(), 3306), |socket| Endpoint::Socket(socket.into())),
        _ => Endpoint::Tcp(host.trim_matches(['[', ']']).to_owned(), port.unwrap_or(3306)),
    };
    let endpoints = match path("unix_socket") {
        Some(socket) => vec![Endpoint::Socket(socket)],
        None => database.hosts().map(endpoint).collect(),
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mode = match database.option("ssl_mode").map(|mode| mode.to_lowercase()).as_deref() {
        Some("disabled") => TlsMode::Disabled,
        Some("required" | "verify_ca") => TlsMode::Verified,
        Some("verify_identity") => TlsMode::Identity,
        // Who names an authority wants it to have signed.
        None if path("ssl_ca").is_some() => TlsMode::Verified,
        _ => TlsMode::Preferred,
    };
    let tls = Tls::new(mode, path("ssl_ca"), path("ssl_cert").zip(path("ssl_key")));
    Location::Server(Server {
        endpoints,
        user: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
        database: url.path().trim_start_matches('/').to_owned(),
        tls,
        public_key: path("server_public_key"),
    })
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

/// What to look at, by what this side and the server say.
fn hint(error: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if has(&["Access denied"]) {
        " (check user and password in $DATABASE_URL, --database-url or `database` in jobs.yaml)"
    } else if has(&["cannot connect"]) {
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
