//! Claimed jobs on their way to a worker: as many are executed at once as slots are held.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::under_way::Held;

#[derive(Debug, Default)]
struct Inner {
    jobs: VecDeque<Arc<Held>>,
    active: usize,
    permits: usize,
    is_closed: bool,
}

/// The queue between the thread that claims and those that execute.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, job: Arc<Held>) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// How many may be executed at once.
    pub(super) fn permit(&self, permits: usize) {
        self.lock().permits = permits;
        self.changed.notify_all();
    }

    /// How many are being executed, and how many wait for it.
    pub(super) fn load(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.active, inner.jobs.len())
    }

    /// The next job for a worker; `None` when there will be no more.
    pub(super) fn next(&self) -> Option<Arc<Held>> {
        let mut inner = self.lock();
        loop {
            if inner.active < inner.permits
                && let Some(job) = inner.jobs.pop_front()
            {
                inner.active += 1;
                return Some(job);
            }
            if inner.is_closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A worker has done with its job.
    pub(super) fn done(&self) {
        self.lock().active -= 1;
        self.changed.notify_one();
    }

    /// Takes back what no worker has begun and has waited for longer than `age`.
    pub(super) fn take_back(&self, age: Duration) -> Vec<Arc<Held>> {
        let mut inner = self.lock();
        let (old, young): (Vec<_>, Vec<_>) =
            inner.jobs.drain(..).partition(|held| held.claimed_at.elapsed() >= age);
        inner.jobs = young.into();
        old
    }

    /// Lets workers end once nothing is left.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}
