//! The shop's own commands: what `refresh-cache`, `process-lost-orders` and `sessions write-stat` do, as the command of
//! the job that each is recorded as.
//!
//! The runner of that job looks after its lease, its timeout and its output; what is done in here must bear being
//! killed at any instant and being done again. Each says what it did through `tell`, line by line.

pub mod lost_orders;
mod order_news;
pub mod refresh_cache;
mod sending;
pub mod session_stats;
mod step;

use std::time::{Duration, Instant};

pub use step::Stop;

use crate::config::Config;
use crate::store::{Store, StoreError};

/// How long a database that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command of the shop works with.
#[derive(Debug)]
pub struct Shop<'a> {
    /// What was declared.
    pub config: &'a Config,
    /// The database.
    pub store: Store,
    /// A value that no other process ever had.
    pub owner: String,
    /// This host.
    pub host: String,
    /// The job that this is the command of.
    pub job_id: Option<i64>,
    /// Whether it was told to stop.
    pub stop: Stop,
}

/// What somebody is to see of the work, a line or a command's output at a time.
pub type Tell<'a> = &'a mut dyn FnMut(&str);

/// Whether all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nobody needs to look.
    Well,
    /// Somebody should: what was told says why.
    Badly,
}

impl Shop<'_> {
    /// Does something in the database that may be done twice; waits for one that is away.
    fn patiently<T>(
        &mut self,
        mut work: impl FnMut(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        loop {
            match work(&mut self.store) {
                Err(StoreError::Away(why)) if begun.elapsed() < PATIENCE => {
                    log::warn!("{why}; waiting for the database");
                    std::thread::sleep(Duration::from_secs(1));
                    if let Err(err) = self.store.reconnect() {
                        log::debug!("{err}");
                    }
                }
                other => return other,
            }
        }
    }
}
