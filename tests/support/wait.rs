//! Polling in place of sleeping: a test waits for what it asserts, never for a length of time.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// Returns as soon as `condition` holds; panics, naming `what` was awaited and for how long, when `limit` is over first.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    loop {
        if condition() {
            return;
        }
        let waited = started.elapsed();
        assert!(waited < limit, "waited for this in vain: {what} ({waited:.1?}, the limit is {limit:?})");
        thread::sleep(EVERY);
    }
}
