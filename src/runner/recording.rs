//! The part of a drain that records: results in batches, what is handed back, and patience with a database that is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::drain::{BATCH, Drain};
use super::kept;
use super::under_way::Held;
use super::worker::Ended;
use crate::job::{Outcome, State};
use crate::store::{AttemptEnd, Store, StoreError};

/// How long a runner that was told to stop waits for the database.
const PATIENCE: Duration = Duration::from_secs(20);

impl Drain {
    /// Writes all results there are, and gives back what was not begun.
    pub(super) fn write_results(&mut self) {
        if !self.hand_back.is_empty() {
            let claims: Vec<(i64, i64)> =
                self.hand_back.drain(..).map(|held| (held.job.id, held.job.fence)).collect();
            let owner = self.tick.me.owner.clone();
            let mut handed = self.tick.store.hand_back(&owner, &claims);
            if let Err(err) = &handed {
                let first = StoreError::Away(err.to_string());
                if self
                    .patiently("handing jobs back", &first, |store| store.hand_back(&owner, &claims))
                    .is_ok()
                {
                    handed = Ok(());
                }
            }
            if let Err(err) = handed {
                log::warn!(
                    "{} claimed jobs could not be handed back and will be rescued: {err}",
                    claims.len()
                );
            }
            for (id, fence) in claims {
                self.under_way.remove(id, fence);
            }
        }
        while !self.results.is_empty() {
            let rest = self.results.split_off(self.results.len().min(BATCH));
            let batch = std::mem::replace(&mut self.results, rest);
            self.write_batch(&batch);
        }
    }

    fn write_batch(&mut self, batch: &[(Arc<Held>, Box<Ended>)]) {
        let config = Arc::clone(&self.tick.config);
        let me = self.tick.me.clone();
        let records = || -> Vec<AttemptEnd> {
            batch.iter().map(|(held, ended)| ended.record(&held.job, &config, &me)).collect()
        };
        let begun = Instant::now();
        let mut finished = self.tick.store.finish(&records());
        self.pace.finish_took(begun.elapsed());
        if let Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) = &finished {
            let first = StoreError::Away(err.to_string());
            finished = self
                .patiently("recording results", &first, |store| store.finish(&records()))
                .map_err(|err| StoreError::Away(err.to_string()));
        }
        match finished {
            Ok(finished) => {
                for (id, fence) in &finished.refused {
                    log::warn!(
                        "job {id}: the result of claim {fence} came too late and is dropped: its lease had ended"
                    );
                }
                let moved: HashMap<i64, State> = finished.moved.into_iter().collect();
                for (held, ended) in batch {
                    self.tell(held, &ended.outcome, moved.get(&held.job.id).copied());
                }
            }
            Err(err) => {
                let count = batch.len();
                match kept::keep(&self.tick.folder, &me.owner, records()) {
                    Ok(()) => log::warn!("{count} results are kept in the state folder for the next tick"),
                    Err(lost) => {
                        log::error!("{count} results are lost, their jobs will be rescued: {lost:#}");
                    }
                }
                self.give_up(anyhow!(err).context("cannot record results"));
            }
        }
        for (held, _) in batch {
            self.under_way.remove(held.job.id, held.job.fence);
        }
    }

    fn tell(&mut self, held: &Held, outcome: &Outcome, state: Option<State>) {
        let job = &held.job;
        match state {
            Some(State::Failed) => {
                self.report.failed += 1;
                log::warn!(
                    "job {} ({}) failed: its attempt {} of {} {outcome}; `duly show {}` has its output",
                    job.id,
                    job.name,
                    job.attempt,
                    job.max_attempts,
                    job.id
                );
            }
            Some(state) => log::info!("job {} ({}) {outcome} and is {state}", job.id, job.name),
            None => {}
        }
    }

    /// Tries again, on a new connection each time, until the database answers or no claim can hold any more.
    pub(super) fn patiently<T>(
        &mut self,
        what: &str,
        first: &StoreError,
        mut attempt: impl FnMut(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T> {
        log::warn!("{what}: {first}; waiting for the database");
        let (mut wait, began) = (Duration::from_millis(100), Instant::now());
        let mut last = first.to_string();
        loop {
            let is_hopeless = self.under_way.is_all_lost()
                || began.elapsed() > self.tick.config.runner.lease
                || self.asked_to_stop_at.is_some_and(|at| at.elapsed() > PATIENCE);
            if is_hopeless {
                return Err(anyhow!("{what}: {last}"));
            }
            // Ends and signals are taken in meanwhile.
            match self.events.recv_timeout(wait) {
                Ok(event) => self.take_in(event),
                Err(_) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
            match self.tick.store.reconnect().and_then(|()| attempt(&mut self.tick.store)) {
                Ok(value) => {
                    log::warn!("{what}: the database is back");
                    return Ok(value);
                }
                Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) => last = err.to_string(),
                Err(err) => return Err(err).context(what.to_owned()),
            }
        }
    }
}
