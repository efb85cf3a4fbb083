//! Looking after jobs that take long: renewing their leases, passing cancellations on, copying their output.
//!
//! A thread with a connection of its own, which it opens when the first job is a second old. Safety does not depend
//! on it: an execution whose lease is not renewed stops by itself (see [`crate::process::stop::Switch`]).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::under_way::{Held, UnderWay, trusted_until};
use super::worker::stored;
use crate::config::Config;
use crate::process::capture::{punch_out_middle, salvage};
use crate::process::clock::since_boot;
use crate::process::ledger::output_path;
use crate::process::stop::StopReason;
use crate::store::{Location, Store, StoreError};

/// How old a job must be before anything but its lease is looked after.
const YOUNG: Duration = Duration::from_secs(1);

/// How often cancellations are asked for.
const LOOK: Duration = Duration::from_secs(1);

/// How often output is copied while it grows.
const COPY: Duration = Duration::from_secs(2);

/// The thread's view of the runner.
pub(super) struct Heartbeat {
    pub(super) config: Arc<Config>,
    pub(super) location: Location,
    pub(super) owner: String,
    pub(super) folder: PathBuf,
    pub(super) under_way: Arc<UnderWay>,
}

#[derive(Default)]
struct Progress {
    store: Option<Store>,
    renewed_at: Option<Instant>,
    looked_at: Option<Instant>,
    copied_at: Option<Instant>,
    /// Bytes of output copied so far, per job and fence.
    copied: HashMap<(i64, i64), u64>,
}

fn is_over(at: Option<Instant>, interval: Duration) -> bool {
    at.is_none_or(|at| at.elapsed() >= interval)
}

impl Heartbeat {
    /// Works until the sender of `until` is dropped.
    pub(super) fn run(self, until: &Receiver<()>) {
        let lease = self.config.runner.lease;
        let interval = Duration::from_millis(250).min(lease / 12);
        let mut is_told = false;
        let mut progress = Progress { renewed_at: Some(Instant::now()), ..Progress::default() };
        loop {
            match until.recv_timeout(interval) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            match self.beat(&mut progress, lease) {
                Ok(()) => is_told = false,
                Err(err) => {
                    if !std::mem::replace(&mut is_told, true) {
                        log::warn!("cannot look after running jobs, will go on trying: {err}");
                    }
                    progress.store = None;
                }
            }
        }
    }

    fn beat(&self, progress: &mut Progress, lease: Duration) -> Result<(), StoreError> {
        let all = self.under_way.all();
        let old: Vec<&Arc<Held>> = all.iter().filter(|held| held.claimed_at.elapsed() >= YOUNG).collect();
        if old.is_empty() {
            return Ok(());
        }
        let store = match &mut progress.store {
            Some(store) => store,
            none => {
                // An answer that comes too late to renew anything is not waited for: a new connection may be quicker.
                let limit = (lease / 4).clamp(Duration::from_secs(1), Duration::from_secs(20));
                none.insert(Store::connect_within(&self.location, Some(limit))?)
            }
        };
        let ids: Vec<i64> = all.iter().map(|held| held.job.id).collect();
        if is_over(progress.renewed_at, lease / 3) {
            let asked = since_boot();
            store.renew(&self.owner, &ids, lease)?;
            progress.renewed_at = Some(Instant::now());
            self.under_way.note_renewal();
            self.look(store, &all, Some(trusted_until(asked, lease)))?;
        } else if is_over(progress.looked_at, LOOK) {
            progress.looked_at = Some(Instant::now());
            self.look(store, &all, None)?;
        }
        if is_over(progress.copied_at, COPY) {
            progress.copied_at = Some(Instant::now());
            progress.copied.retain(|(id, fence), _| self.under_way.has(*id, *fence));
            for held in old {
                self.copy_output(store, held, &mut progress.copied)?;
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
        copied: &mut HashMap<(i64, i64), u64>,
    ) -> Result<(), StoreError> {
        let job = &held.job;
        let path = output_path(&self.folder, job.id, job.fence);
        let length = path.metadata().map_or(0, |found| found.len());
        let key = (job.id, job.fence);
        if length == copied.get(&key).copied().unwrap_or(0) {
            return Ok(());
        }
        let limit = self.config.definition(&job.name).map_or(1 << 20, |definition| definition.output_limit);
        if let Some(captured) = salvage(&path, limit) {
            // Not for one that ended meanwhile: its whole output is on its way.
            if self.under_way.has(job.id, job.fence) {
                store.save_output(&self.owner, job.id, job.fence, &stored(captured))?;
            }
        }
        punch_out_middle(&path, limit);
        copied.insert(key, length);
        Ok(())
    }
}
