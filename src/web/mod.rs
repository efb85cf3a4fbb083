//! The web page: an overview of the jobs that keeps itself up to date, and the buttons of the back office.
//!
//! A request goes through `listen` (connections, limits of time), `guard` (host name, who it is, where a form comes from,
//! headers) and `routes`; a page reads through `pool`, which lends a few connections to threads that may block, and is
//! put together on the server. Everything works without the one script, which only fetches the same page again.
//!
//! Nothing is kept but who is signed in and, for some seconds, the statistics. Whatever is shown goes through maud,
//! which escapes it; what a command printed goes through `harmless` as well.

mod act;
mod assets;
mod chart;
mod definition;
mod definitions;
mod graph;
mod guard;
mod icon;
mod job;
mod layout;
mod listen;
mod lost_orders;
mod overview;
mod parts;
mod pool;
mod problem;
mod queues;
mod routes;
mod secrets;
mod session;
mod sessions;
mod sign_in;
mod site;
mod statistics;
mod throttle;
mod trail;
mod visit;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use secrets::hash_password;

use crate::config::{Config, LoadOptions};
use crate::db::Location;
use crate::process::signals;
use site::Site;

/// Threads that may block: those with a connection, and one that looks at a password.
const BLOCKING: usize = 8;

/// What the page is started with.
pub struct Setup {
    /// How jobs.yaml was found, so that it can be read again when it changes.
    pub options: LoadOptions,
    /// jobs.yaml.
    pub config: Config,
    /// Where the database is.
    pub location: Location,
    /// Where to listen.
    pub listen: SocketAddr,
}

/// Serves the page until SIGTERM or SIGINT; returns the signal's number. `tell` is told where it listens.
///
/// # Errors
///
/// When it cannot listen there, or the process lacks what it needs (threads, random bytes).
pub fn serve(setup: Setup, tell: impl FnOnce(SocketAddr) -> Result<()>) -> Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING)
        .build()
        .context("cannot start the web page")?;
    let (stop, stopped) = watch::channel(None);
    signals::on_stop_signal(move |number| {
        stop.send_replace(Some(number));
    })
    .context("cannot catch signals")?;
    let number = runtime.block_on(async {
        let listener = TcpListener::bind(setup.listen)
            .await
            .with_context(|| format!("cannot listen on {}", setup.listen))?;
        let listen = listener.local_addr().context("cannot tell where it listens")?;
        let site = Site::new(setup.options, setup.config, setup.location, listen)
            .context("cannot start the web page")?;
        tell(listen)?;
        listen::run(listener, routes::router(Arc::new(site)), stopped.clone()).await;
        anyhow::Ok(stopped.borrow().unwrap_or_default())
    })?;
    // A statement that still waits for its database is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(number)
}
