//! What all requests share: the configuration as the file has it now, the database, who is signed in, the key.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::pool::Pool;
use super::secrets::Key;
use super::session::Sessions;
use super::statistics::Figures;
use super::throttle::Throttle;
use crate::config::{self, Config, LoadOptions};
use crate::db::Location;

/// How often at most the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Site {
    options: LoadOptions,
    loaded: Mutex<Loaded>,
    pub(super) listen: SocketAddr,
    pub(super) database: Arc<Pool>,
    pub(super) key: Key,
    pub(super) sessions: Sessions,
    pub(super) throttle: Throttle,
    /// Passwords looked at at once: each takes a processor and some memory.
    pub(super) verifying: Semaphore,
    pub(super) figures: Figures,
}

struct Loaded {
    config: Arc<Config>,
    /// What is wrong with the file as it is now, where that is not what `config` is from.
    problem: Option<Arc<str>>,
    looked_at: Instant,
}

impl Site {
    pub(super) fn new(
        options: LoadOptions,
        config: Config,
        location: Location,
        listen: SocketAddr,
    ) -> std::io::Result<Self> {
        let loaded = Loaded { config: Arc::new(config), problem: None, looked_at: Instant::now() };
        Ok(Self {
            options,
            loaded: Mutex::new(loaded),
            listen,
            database: Pool::new(location),
            key: Key::new()?,
            sessions: Sessions::default(),
            throttle: Throttle::default(),
            verifying: Semaphore::new(1),
            figures: Figures::default(),
        })
    }

    /// jobs.yaml as it is now, or as it last was without a mistake, and what is wrong with it now.
    pub(super) fn config(&self) -> (Arc<Config>, Option<Arc<str>>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked_at.elapsed() >= LOOK {
            loaded.looked_at = Instant::now();
            let read = (!loaded.config.stamp.is_current()).then(|| config::load(&self.options));
            let problem = match read {
                None => None,
                Some(Ok(config)) => {
                    loaded.config = Arc::new(config);
                    None
                }
                Some(Err(err)) => Some(Arc::<str>::from(err.to_string())),
            };
            if let Some(problem) = problem.as_ref().filter(|problem| loaded.problem.as_ref() != Some(problem))
            {
                log::warn!("{problem}");
            }
            loaded.problem = problem;
        }
        (Arc::clone(&loaded.config), loaded.problem.clone())
    }
}
