//! A tick without processes, for tests that go through many of them: what it does and in which order, one step at a time.
//!
//! Each step is the one of [`super::tick`] and its drain; between two of them whoever calls decides what happens, such as how a
//! command has ended, which no command has.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::Identity;
use super::duties::{Tick, TickOptions};
use super::worker::Ended;
use crate::config::Config;
use crate::job::Outcome;
use crate::process::clock::since_boot;
use crate::store::{ClaimRequest, Claimed, Finished, Limits, Store};

/// A tick that executes nothing.
pub struct Rehearsal {
    tick: Tick,
}

impl std::fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// A tick on a host of that name, with what it has of its own in `folder`.
    #[must_use]
    pub fn new(config: Arc<Config>, store: Store, host: &str, folder: PathBuf) -> Self {
        let options =
            TickOptions { queues: config.queues.clone(), limit: None, max_runtime: None, concurrency: None };
        let me = Identity { host: host.to_owned(), ..Identity::new() };
        let tick = Tick {
            config,
            options,
            store,
            me,
            key: host.to_owned(),
            folder,
            began: Instant::now(),
            undeclared: BTreeSet::new(),
            trouble: None,
            is_outdated: false,
            under_way: Arc::default(),
            distance: chrono::TimeDelta::zero(),
            to_ask: VecDeque::new(),
        };
        Self { tick }
    }

    /// Who claims.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.tick.me.owner
    }

    /// The database as this tick has it.
    pub fn store(&mut self) -> &mut Store {
        &mut self.tick.store
    }

    /// Ends the tick, whatever it holds; gives its connection back.
    #[must_use]
    pub fn into_store(self) -> Store {
        self.tick.store
    }

    /// Asks what there is to do and does it, but for executing; returns whether any job may be startable.
    ///
    /// # Errors
    ///
    /// The first step that failed; what else there was to do has been done.
    pub fn duties(&mut self, is_beginning: bool) -> Result<bool> {
        let probe = self.tick.first_probe()?;
        let is_startable = self.tick.prepare(&probe, is_beginning);
        match self.tick.trouble.take() {
            Some(trouble) => Err(trouble),
            None => Ok(is_startable),
        }
    }

    /// Claims up to `wanted` jobs.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn claim(&mut self, wanted: usize) -> Result<Vec<Claimed>> {
        let mut claimed: Vec<Claimed> = Vec::new();
        if self.tick.is_outdated() {
            return Ok(claimed);
        }
        let config = Arc::clone(&self.tick.config);
        for queue in &self.tick.options.queues {
            if claimed.len() >= wanted {
                break;
            }
            let request = ClaimRequest {
                queue,
                limit: wanted - claimed.len(),
                owner: &self.tick.me.owner,
                host: &self.tick.me.host,
                lease: config.runner.lease,
            };
            let limit_of = |name: &str| config.definition(name).and_then(|definition| definition.concurrency);
            let limits = Limits { queue: config.queue_limits.get(queue).copied(), name: &limit_of };
            let is_declared = |name: &str| config.definition(name).is_some();
            claimed.extend(self.tick.store.claim(request, limits, &is_declared)?.jobs);
        }
        for job in &claimed {
            self.tick.under_way.add(job.clone(), None, since_boot(), config.runner.lease)?;
        }
        Ok(claimed)
    }

    /// Forgets a job that is not this runner's any more.
    pub fn lose(&mut self, job: &Claimed) {
        self.tick.under_way.remove(job.id, job.fence);
    }

    /// Records how the command of a claimed job ended.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn end(&mut self, job: &Claimed, outcome: Outcome) -> Result<Finished> {
        let end = Ended::without_process(outcome).record(job, &self.tick.config, &self.tick.me);
        let finished = self.tick.store.finish(&[end])?;
        self.lose(job);
        Ok(finished)
    }
}
