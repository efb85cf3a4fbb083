//! Monotonic time that goes on while the machine sleeps.

use std::time::Duration;

use chrono::{DateTime, Utc};

use rustix::time::{ClockId, clock_gettime};

/// Time since boot, suspension included.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The host's wall clock as seconds since 1970: for log lines and files, never for a decision about jobs.
#[must_use]
pub fn wall_seconds() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// This host's clock, to be shown beside the database's: nothing is decided by it.
#[must_use]
pub fn host_time() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "only shown")]
    Utc::now()
}
