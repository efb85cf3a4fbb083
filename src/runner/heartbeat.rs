//! Looking after jobs that take long: renewing their leases, passing cancellations on, copying their output.
//!
//! A thread with a connection of its own, which it opens when the first job is a second old. Where it gets none, since a user may
//! have only one, say, the thread that claims does its work meanwhile, on its own. Safety does not depend on either: an
//! execution whose lease is not renewed stops by itself (see [`crate::process::stop::Switch`]).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::under_way::{Held, UnderWay, trusted_until};
use super::worker::{Bench, stored};
use crate::config::Config;
use crate::process::clock::since_boot;
use crate::process::stop::StopReason;
use crate::store::{Store, StoreError};

/// How old a job must be before anything but its lease is looked after.
const YOUNG: Duration = Duration::from_secs(1);

/// How often cancellations are asked for.
const LOOK: Duration = Duration::from_secs(1);

/// How often output is copied while it grows.
const COPY: Duration = Duration::from_secs(2);

/// Bytes that are copied so often: a copy replaces the one before, and the server writes all of it anew. More wait in proportion.
const OFTEN: u64 = 128 << 10;

/// How long no connection is asked for once there was none.
const RECONNECT: Duration = Duration::from_secs(5);

/// What it takes to look after what runs.
pub(super) struct Heartbeat {
    config: Arc<Config>,
    owner: String,
    under_way: Arc<UnderWay>,
    progress: Mutex<Progress>,
    /// Whether the thread that claims is to do it.
    is_without_connection: AtomicBool,
}

#[derive(Default)]
struct Progress {
    renewed_at: Option<Instant>,
    looked_at: Option<Instant>,
    copied_at: Option<Instant>,
    copied: HashMap<(i64, i64), Copy>,
}

/// The latest copy of an output.
struct Copy {
    at: Instant,
    /// Bytes that had been printed by then.
    printed: u64,
    /// Bytes that it took.
    size: u64,
}

impl Copy {
    fn is_due_again(&self, printed: u64) -> bool {
        let factor = u32::try_from(self.size / OFTEN).unwrap_or(u32::MAX);
        printed != self.printed && self.at.elapsed() >= COPY.saturating_mul(factor)
    }
}

fn is_over(at: Option<Instant>, interval: Duration) -> bool {
    at.is_none_or(|at| at.elapsed() >= interval)
}

impl Heartbeat {
    /// Does not hold `bench` itself: its thread may outlast the ledger, which ends with that.
    pub(super) fn new(bench: &Bench, under_way: Arc<UnderWay>) -> Self {
        let progress = Progress { renewed_at: Some(Instant::now()), ..Progress::default() };
        Self {
            config: Arc::clone(&bench.config),
            owner: bench.owner.clone(),
            under_way,
            progress: Mutex::new(progress),
            is_without_connection: AtomicBool::new(false),
        }
    }

    /// As [`Self::run`]; should that fail, the thread that claims does its work.
    pub(super) fn run_guarded(&self, until: &Receiver<()>) {
        if catch_unwind(AssertUnwindSafe(|| self.run(until))).is_err() {
            self.is_without_connection.store(true, Ordering::Release);
        }
    }

    /// Works until the sender of `until` is dropped.
    fn run(&self, until: &Receiver<()>) {
        let interval = Duration::from_millis(250).min(self.config.runner.lease / 12);
        let (mut own, mut refused_at, mut is_told) = (None, None, false);
        loop {
            match until.recv_timeout(interval) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.has_old() || own.is_none() && !is_over(refused_at, RECONNECT) {
                continue;
            }
            let store = match own.take().map_or_else(|| self.connect(), Ok) {
                Ok(store) => own.insert(store),
                Err(err) => {
                    log::info!("no connection to look after what runs: {err}");
                    refused_at = Some(Instant::now());
                    self.is_without_connection.store(true, Ordering::Release);
                    continue;
                }
            };
            self.is_without_connection.store(false, Ordering::Release);
            match self.beat(store) {
                Ok(()) => is_told = false,
                Err(err) => {
                    if !std::mem::replace(&mut is_told, true) {
                        log::warn!("cannot look after running jobs, will go on trying: {err}");
                    }
                    own = None;
                }
            }
        }
    }

    /// Does on `store` what the thread would do, if that has no connection.
    pub(super) fn stand_in(&self, store: &mut Store) {
        if self.is_without_connection.load(Ordering::Acquire)
            && self.has_old()
            && let Err(err) = self.beat(store)
        {
            log::info!("cannot look after running jobs, will go on trying: {err}");
        }
    }

    fn has_old(&self) -> bool {
        self.under_way.all().iter().any(|held| held.claimed_at.elapsed() >= YOUNG)
    }

    /// An answer that comes too late to renew anything is not waited for: a new connection may be quicker.
    fn connect(&self) -> Result<Store, StoreError> {
        let limit = (self.config.runner.lease / 4).clamp(Duration::from_secs(1), Duration::from_secs(20));
        Store::connect_within(&super::location(&self.config.database), Some(limit))
    }

    fn beat(&self, store: &mut Store) -> Result<(), StoreError> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew_and_look(store, &mut progress)?;
        if !is_over(progress.copied_at, COPY) {
            return Ok(());
        }
        progress.copied_at = Some(Instant::now());
        progress.copied.retain(|(id, fence), _| self.under_way.has(*id, *fence));
        let all = self.under_way.all();
        for held in all.iter().filter(|held| held.claimed_at.elapsed() >= YOUNG) {
            self.copy_output(store, held, &mut progress.copied)?;
            // A slow line takes long over much output: no lease waits for all of it.
            self.renew_and_look(store, &mut progress)?;
        }
        Ok(())
    }

    /// Renews the leases and passes cancellations on, where it is time for that.
    fn renew_and_look(&self, store: &mut Store, progress: &mut Progress) -> Result<(), StoreError> {
        let lease = self.config.runner.lease;
        if is_over(progress.renewed_at, lease / 3) {
            let all = self.under_way.all();
            if all.is_empty() {
                return Ok(());
            }
            let ids: Vec<i64> = all.iter().map(|held| held.job.id).collect();
            let asked = since_boot();
            store.renew(&self.owner, &ids, lease)?;
            progress.renewed_at = Some(Instant::now());
            self.under_way.note_renewal();
            self.look(store, &all, Some(trusted_until(asked, lease)))?;
        } else if is_over(progress.looked_at, LOOK) {
            progress.looked_at = Some(Instant::now());
            let all = self.under_way.all();
            if !all.is_empty() {
                self.look(store, &all, None)?;
            }
        }
        Ok(())
    }

    /// Learns which jobs are still ours; only those are trusted for longer.
    fn look(
        &self,
        store: &mut Store,
        all: &[Arc<Held>],
        trusted: Option<Duration>,
    ) -> Result<(), StoreError> {
        let ids: Vec<i64> = all.iter().map(|held| held.job.id).collect();
        let ours = store.held(&self.owner, &ids)?;
        for held in all {
            let job = &held.job;
            match ours.iter().find(|row| row.id == job.id && row.fence == job.fence) {
                Some(row) => {
                    if let Some(trusted) = trusted {
                        held.switch.trust_until(trusted);
                    }
                    if row.cancel != 0 {
                        held.switch.press(StopReason::Cancelled, false);
                    }
                }
                // Its result may have been written since the list was made.
                None if self.under_way.has(job.id, job.fence) && !held.has_ended() => {
                    log::warn!(
                        "job {} ({}) is no longer held by this runner and is stopped",
                        job.id,
                        job.name
                    );
                    held.switch.press(StopReason::LeaseLost, true);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn copy_output(
        &self,
        store: &mut Store,
        held: &Held,
        copied: &mut HashMap<(i64, i64), Copy>,
    ) -> Result<(), StoreError> {
        let job = &held.job;
        let Some(printed) = held.printed() else { return Ok(()) };
        let (length, key) = (printed.total(), (job.id, job.fence));
        if copied.get(&key).is_some_and(|copy| !copy.is_due_again(length)) {
            return Ok(());
        }
        let Some(captured) = printed.captured() else { return Ok(()) };
        // Not for one that ended meanwhile: its whole output is on its way.
        if self.under_way.has(job.id, job.fence) {
            let size = captured.text.len() as u64;
            // What does not go through in time is not tried again before there is more: other outputs want their turn.
            copied.insert(key, Copy { at: Instant::now(), printed: length, size });
            store.save_output(&self.owner, job.id, job.fence, &stored(captured))?;
        }
        Ok(())
    }
}
