//! The part of a drain that records: results in batches, what is handed back, and patience with a database that is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::drain::{BATCH, Drain};
use super::kept::{self, put_aside, without_output};
use super::setback::wait_after;
use super::under_way::Held;
use super::worker::Ended;
use crate::job::{Outcome, State};
use crate::store::{AttemptEnd, Finished, Store, StoreError};

/// How long a runner that was told to stop waits for the database.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a result is tried again that the database refuses, for whatever it may have been.
const REFUSED: Duration = Duration::from_secs(2);

/// A result that is to be written.
type Unwritten = (Arc<Held>, Box<Ended>);

/// A result that the database would not take. Its job stays under way, so that its lease is renewed meanwhile.
pub(super) struct Stalled {
    held: Arc<Held>,
    ended: Box<Ended>,
    since: Instant,
    tries: u32,
    again_at: Instant,
    why: String,
}

/// Whether the database is to be waited for, whatever it was asked.
const fn is_for_later(err: &StoreError) -> bool {
    matches!(err, StoreError::Away(_) | StoreError::Conflict(_))
}

impl Drain {
    /// Writes all results there are, and gives back what was not begun.
    pub(super) fn write_results(&mut self) {
        if !self.hand_back.is_empty() {
            let claims: Vec<(i64, i64)> =
                self.hand_back.drain(..).map(|held| (held.job.id, held.job.fence)).collect();
            self.hand_back_claims(&claims);
            for (id, fence) in claims {
                self.under_way.remove(id, fence);
            }
        }
        while !self.results.is_empty() {
            let rest = self.results.split_off(self.results.len().min(BATCH));
            let batch = std::mem::replace(&mut self.results, rest);
            self.write_batch(batch);
        }
        let (due, rest): (Vec<Stalled>, Vec<Stalled>) = std::mem::take(&mut self.stalled)
            .into_iter()
            .partition(|stalled| stalled.again_at <= Instant::now());
        self.stalled = rest;
        due.into_iter().for_each(|stalled| self.write_again(stalled));
    }

    /// One that the database refuses holds none of the others up.
    pub(super) fn hand_back_claims(&mut self, claims: &[(i64, i64)]) {
        let owner = self.tick.me.owner.clone();
        let mut handed = self.tick.store.hand_back(&owner, claims);
        if let Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) = &handed {
            let first = StoreError::Away(err.to_string());
            handed = self.patiently("handing jobs back", &first, |store| store.hand_back(&owner, claims));
        }
        match handed {
            Ok(()) => {}
            Err(err) if claims.len() > 1 && !is_for_later(&err) => {
                claims.iter().for_each(|claim| self.hand_back_claims(std::slice::from_ref(claim)));
            }
            Err(err) => {
                log::warn!(
                    "{} claimed jobs could not be handed back and will be rescued: {err}",
                    claims.len()
                );
            }
        }
    }

    /// A batch that is refused is written one by one, so that it is held up by the one that it is refused for only.
    fn write_batch(&mut self, batch: Vec<Unwritten>) {
        match self.finish(&batch) {
            Ok(()) => {}
            Err(err) if is_for_later(&err) => self.keep(&batch, &err),
            Err(_) if batch.len() > 1 => batch.into_iter().for_each(|one| self.write_batch(vec![one])),
            Err(why) => {
                let since = Instant::now();
                self.stalled.extend(batch.into_iter().map(|(held, ended)| Stalled {
                    held,
                    ended,
                    since,
                    tries: 1,
                    again_at: since + wait_after(1),
                    why: why.to_string(),
                }));
            }
        }
    }

    /// Tries a result again that was refused, for a while; then it is put aside.
    fn write_again(&mut self, mut stalled: Stalled) {
        // What is wrong may be of the session, too.
        if let Err(err) = self.tick.store.reconnect() {
            log::debug!("{err}");
        }
        let one = [(Arc::clone(&stalled.held), stalled.ended)];
        let done = self.finish(&one);
        let [(held, ended)] = one;
        stalled.ended = ended;
        let patience = match &done {
            Ok(()) => return,
            Err(err) if is_for_later(err) => return self.keep(&[(held, stalled.ended)], err),
            Err(StoreError::Full(_)) => self.tick.config.runner.lease,
            Err(_) => REFUSED,
        };
        stalled.why = done.map_or_else(|err| err.to_string(), |()| String::new());
        let is_over = self.asked_to_stop_at.is_some_and(|at| at.elapsed() > REFUSED);
        if stalled.since.elapsed() < patience && !is_over {
            stalled.tries += 1;
            stalled.again_at = Instant::now() + wait_after(stalled.tries);
            self.stalled.push(stalled);
            return;
        }
        let one = [(held, stalled.ended)];
        let [(held, ended)] = &one;
        let end = ended.record(&held.job, &self.tick.config, &self.tick.me);
        match self.tick.store.finish(&[without_output(&end, &stalled.why)]) {
            Ok(finished) => self.conclude(&one, finished),
            Err(_) => {
                self.put_aside += 1;
                put_aside(&self.tick.folder, end, &stalled.why);
                self.under_way.remove(held.job.id, held.job.fence);
            }
        }
    }

    /// Writes results, with patience where the database is away.
    fn finish(&mut self, batch: &[Unwritten]) -> Result<(), StoreError> {
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
            finished = self.patiently("recording results", &first, |store| store.finish(&records()));
        }
        self.conclude(batch, finished?);
        Ok(())
    }

    fn conclude(&mut self, batch: &[Unwritten], finished: Finished) {
        for (id, fence) in &finished.refused {
            log::warn!(
                "job {id}: the result of claim {fence} came too late and is dropped: its lease had ended"
            );
        }
        let moved: HashMap<i64, State> = finished.moved.into_iter().collect();
        for (held, ended) in batch {
            self.tell(held, &ended.outcome, moved.get(&held.job.id).copied());
            self.under_way.remove(held.job.id, held.job.fence);
        }
    }

    /// Keeps what a database that is away cannot take for the next tick.
    fn keep(&mut self, batch: &[Unwritten], why: &StoreError) {
        let (config, me) = (&self.tick.config, &self.tick.me);
        let records = batch.iter().map(|(held, ended)| ended.record(&held.job, config, me)).collect();
        let count = batch.len();
        match kept::keep(&self.tick.folder, &me.owner, records) {
            Ok(()) => log::warn!("{count} results are kept in the state folder for the next tick"),
            Err(lost) => log::error!("{count} results are lost, their jobs will be rescued: {lost:#}"),
        }
        self.trouble = self.trouble.take().or_else(|| Some(anyhow!("cannot record results: {why}")));
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

    /// Tries again, on a new connection each time, until the database answers or no claim can hold any more: then the error
    /// is [`StoreError::Away`].
    pub(super) fn patiently<T>(
        &mut self,
        what: &str,
        first: &StoreError,
        mut attempt: impl FnMut(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        log::warn!("{what}: {first}; waiting for the database");
        let mut wait = Duration::from_millis(100);
        let away_since = *self.away_since.get_or_insert_with(Instant::now);
        loop {
            // Ends and signals are taken in meanwhile.
            match self.events.recv_timeout(wait) {
                Ok(event) => self.take_in(event),
                Err(_) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
            let last = match self.tick.store.reconnect().and_then(|()| attempt(&mut self.tick.store)) {
                Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) => err.to_string(),
                done => {
                    log::warn!("{what}: the database is back");
                    self.away_since = None;
                    return done;
                }
            };
            let is_hopeless = self.under_way.is_all_lost()
                || away_since.elapsed() > self.tick.config.runner.lease
                || self.asked_to_stop_at.is_some_and(|at| at.elapsed() > PATIENCE);
            if is_hopeless {
                return Err(StoreError::Away(format!("{what}: {last}")));
            }
        }
    }
}
