//! What the database would not do, though it answers: tried again, later and later, while everything else goes on.
//!
//! Nobody who runs is stopped for it: what runs has a lease, which is renewed by another thread, and may end. Only a tick
//! that has nothing under way any more ends by it.

use std::time::{Duration, Instant};

use anyhow::Error;

use super::drain::Drain;

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// How long to wait after so many tries.
pub(super) fn wait_after(tries: u32) -> Duration {
    (FIRST * 2_u32.pow(tries.saturating_sub(1).min(16))).min(LONGEST)
}

/// Something that has failed and will be tried again.
#[derive(Debug)]
pub(super) struct Setback {
    pub(super) why: Error,
    tries: u32,
    again_at: Instant,
}

impl Drain {
    /// Takes in that jobs cannot be claimed, or work cannot be looked for. Told when it begins.
    pub(super) fn set_back(&mut self, why: Error) {
        let tries = self.setback.as_ref().map_or(0, |before| before.tries) + 1;
        if tries == 1 && self.under_way.len() > 0 {
            log::warn!("{why:#}; what runs goes on, and this is tried again");
        }
        self.setback = Some(Setback { why, tries, again_at: Instant::now() + wait_after(tries) });
    }

    /// It has gone well again.
    pub(super) fn get_over(&mut self) {
        if self.setback.take().is_some_and(|before| before.tries > 1 || self.under_way.len() > 0) {
            log::info!("the database does again what it is asked for");
        }
    }

    /// Whether it is too early to try again what has failed.
    pub(super) fn is_set_back(&self) -> bool {
        self.setback.as_ref().is_some_and(|setback| Instant::now() < setback.again_at)
    }
}
