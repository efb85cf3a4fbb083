//! The jobs that this runner holds, shared between the threads that claim, execute and renew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::process::capture::Capture;
use crate::process::clock::since_boot;
use crate::process::stop::{StopReason, Switch};
use crate::store::Claimed;

/// A job that this runner holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) job: Claimed,
    /// What its command is given on standard input.
    pub(super) input: Option<String>,
    pub(super) switch: Switch,
    pub(super) claimed_at: Instant,
    has_ended: AtomicBool,
    is_shown: AtomicBool,
    printed: OnceLock<Arc<Capture>>,
}

impl Held {
    /// What its command will print is going to be shown as it comes.
    pub(super) fn show(&self) {
        self.is_shown.store(true, Ordering::SeqCst);
    }

    /// Notes down what its command prints to.
    pub(super) fn print(&self, capture: Capture) -> Arc<Capture> {
        if self.is_shown.load(Ordering::SeqCst) {
            capture.show();
        }
        Arc::clone(self.printed.get_or_init(|| Arc::new(capture)))
    }

    /// What its command has printed, once it has begun.
    pub(super) fn printed(&self) -> Option<&Arc<Capture>> {
        self.printed.get()
    }

    /// Its execution is over; the result is on its way.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
    }

    /// Whether its lease is over, or somebody else's.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.switch.asked(), Some((StopReason::LeaseLost, _)))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }
}

/// Every job that this runner holds.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    held: Mutex<HashMap<i64, Arc<Held>>>,
    renewals: AtomicU64,
}

/// When an execution stops by itself, for a lease that was asked for at `asked` (since boot).
///
/// A margin before its end, so that the processes are gone before anybody else may start the job again.
pub(super) fn trusted_until(asked: Duration, lease: Duration) -> Duration {
    asked + lease - Duration::from_secs(5).min(lease / 6)
}

impl UnderWay {
    /// The leases were renewed.
    pub(super) fn note_renewal(&self) {
        self.renewals.fetch_add(1, Ordering::Relaxed);
    }

    /// How often they were.
    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job that was claimed with a lease asked for at `asked`.
    pub(super) fn add(
        &self,
        job: Claimed,
        input: Option<String>,
        asked: Duration,
        lease: Duration,
    ) -> std::io::Result<Arc<Held>> {
        let held = Arc::new(Held {
            job,
            input,
            switch: Switch::new()?,
            claimed_at: Instant::now(),
            has_ended: AtomicBool::new(false),
            is_shown: AtomicBool::new(false),
            printed: OnceLock::new(),
        });
        held.switch.trust_until(trusted_until(asked, lease));
        // The same job under an older fence was lost, whether or not anybody has noticed.
        if let Some(older) = self.lock().insert(held.job.id, Arc::clone(&held)) {
            older.switch.press(StopReason::LeaseLost, true);
        }
        Ok(held)
    }

    /// Forgets a claim.
    pub(super) fn remove(&self, id: i64, fence: i64) {
        let mut held = self.lock();
        if held.get(&id).is_some_and(|job| job.job.fence == fence) {
            held.remove(&id);
        }
    }

    pub(super) fn has(&self, id: i64, fence: i64) -> bool {
        self.lock().get(&id).is_some_and(|held| held.job.fence == fence)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        self.lock().values().cloned().collect()
    }

    pub(super) fn stop_all(&self, reason: StopReason, at_once: bool) {
        for held in self.all() {
            held.switch.press(reason, at_once);
        }
    }

    /// Whether there are jobs held, and the lease of every one of them has run out.
    pub(super) fn is_all_lost(&self) -> bool {
        let all = self.all();
        !all.is_empty() && all.iter().all(|held| held.is_lost())
    }
}

/// How long ago something was, that happened at `at` since boot.
pub(super) fn ago(at: Duration) -> Duration {
    since_boot().saturating_sub(at)
}
