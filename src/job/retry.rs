//! What an attempt's outcome means for its job: over, again at once, or again later.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Definition, OnOrphan, Outcome, State};

/// How many attempts may follow one another without a wait, and the least one after that.
const AT_ONCE: u32 = 3;
const LEAST: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt: `initial × factor^(attempt − 1)`, at most `max`,
/// spread by `jitter`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Wait after the first attempt.
    pub initial: Duration,
    /// Growth from one attempt to the next; at least 1.
    pub factor: f64,
    /// The longest wait.
    pub max: Duration,
    /// Spread to both sides as a share of the wait, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(5), factor: 5.0, max: Duration::from_secs(3600), jitter: 0.2 }
    }
}

impl Backoff {
    /// The wait after attempt number `attempt` (from 1), spread by `seed`.
    ///
    /// The same arguments always give the same wait. It is at most `max × (1 + jitter)`. What would be tried again at once for ever
    /// waits a second from the fourth attempt on.
    #[must_use]
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let exponent = f64::from(attempt.saturating_sub(1));
        // Infinite after enough attempts, of which nothing is nothing.
        let growth = self.factor.powf(exponent).min(f64::MAX);
        let capped = (self.initial.as_secs_f64() * growth).min(self.max.as_secs_f64());
        let spread = 1.0 + self.jitter * (2.0 * unit(seed) - 1.0);
        let wait = Duration::from_secs_f64((capped * spread).max(0.0));
        if attempt > AT_ONCE { wait.max(LEAST.min(self.max)) } else { wait }
    }
}

/// A number in 0..1 from a seed (`SplitMix64`, so that neighbouring ids land far apart).
#[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds exactly")]
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// What becomes of a job after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is over, in this end state.
    End(State),
    /// It is tried again after this long; the attempt counted.
    Retry(Duration),
    /// It goes back to `pending` at once; the attempt does not count.
    Again,
    /// It is tried again after this long; the attempt does not count.
    Later(Duration),
}

/// A shell tells by its exit code that a command was ended by a signal: by this and the number.
pub const SIGNALLED: i32 = 128;

/// How often a job has been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// The job.
    pub id: i64,
    /// The number of the attempt that ended, from 1.
    pub attempt: u32,
    /// Attempts at most.
    pub max_attempts: u32,
    /// How many attempts were orphaned before this one.
    pub orphaned: u32,
}

/// Decides what becomes of a job whose latest attempt ended in `outcome`.
///
/// `definition` is `None` when the name is not declared here; then the defaults decide, without jitter.
#[must_use]
pub fn verdict(outcome: &Outcome, definition: Option<&Definition>, tried: Tried) -> Verdict {
    let Tried { id, attempt: attempts, max_attempts, orphaned } = tried;
    let permanent = |code: i32| definition.is_some_and(|d| d.permanent_exit_codes.contains(&code));
    let later = |code: i32| definition.is_some_and(|d| d.later_exit_codes.contains(&code));
    let is_begun_once = definition.is_some_and(|d| d.on_orphan == OnOrphan::Stale);
    let backoff = definition.map_or(Backoff { jitter: 0.0, ..Backoff::default() }, |d| d.backoff);
    let seed = id.unsigned_abs() ^ (u64::from(attempts) << 48);
    match outcome {
        Outcome::Success => return Verdict::End(State::Success),
        Outcome::Cancelled => return Verdict::End(State::Cancelled),
        Outcome::Orphaned | Outcome::Interrupted if is_begun_once => return Verdict::End(State::Stale),
        Outcome::Interrupted => return Verdict::Again,
        Outcome::Exited(code) if later(*code) => {
            return Verdict::Later(backoff.delay(attempts, seed).max(LEAST));
        }
        Outcome::Exited(code) if permanent(*code) => return Verdict::End(State::Failed),
        Outcome::Signalled(signal) if permanent(SIGNALLED + signal) => return Verdict::End(State::Failed),
        Outcome::Exited(_)
        | Outcome::Signalled(_)
        | Outcome::TimedOut
        | Outcome::NotStarted(_)
        | Outcome::Orphaned => {}
    }
    if attempts >= max_attempts {
        return Verdict::End(State::Failed);
    }
    // A runner that vanished says nothing against the job, until it happens again.
    if *outcome == Outcome::Orphaned {
        return Verdict::Retry(if orphaned == 0 { Duration::ZERO } else { backoff.delay(orphaned, seed) });
    }
    Verdict::Retry(backoff.delay(attempts, seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_stays_within_its_cap_and_jitter(
            attempt in 1u32..200, seed: u64, initial in 0u64..100, factor in 1.0f64..10.0,
            max in 1u32..10_000, jitter in 0.0f64..1.0,
        ) {
            let backoff = Backoff {
                initial: Duration::from_secs(initial), factor,
                max: Duration::from_secs(max.into()), jitter,
            };
            let delay = backoff.delay(attempt, seed).as_secs_f64();
            let plain = (f64::from(u32::try_from(initial).unwrap())
                * factor.powf(f64::from(attempt - 1))).min(f64::from(max));
            prop_assert!(delay >= plain * (1.0 - jitter) - 1e-6);
            let least = if attempt > AT_ONCE { 1.0 } else { 0.0 };
            prop_assert!(delay <= (plain * (1.0 + jitter)).max(least) + 1e-6);
        }

        #[test]
        fn without_jitter_a_later_attempt_never_waits_less(attempt in 1u32..60, seed: u64) {
            let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
            prop_assert!(backoff.delay(attempt, seed) <= backoff.delay(attempt + 1, seed));
        }
    }

    #[test]
    fn the_default_waits_five_seconds_then_twenty_five() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        assert_eq!(backoff.delay(1, 1), Duration::from_secs(5));
        assert_eq!(backoff.delay(2, 1), Duration::from_secs(25));
        assert_eq!(backoff.delay(9, 1), Duration::from_secs(3600));
    }

    #[test]
    fn a_failure_is_tried_again_until_its_attempts_are_used_up() {
        let tried = |attempt| Tried { id: 7, attempt, max_attempts: 3, orphaned: 0 };
        assert!(matches!(verdict(&Outcome::Exited(1), None, tried(1)), Verdict::Retry(_)));
        assert_eq!(verdict(&Outcome::Exited(1), None, tried(3)), Verdict::End(State::Failed));
        assert_eq!(verdict(&Outcome::Orphaned, None, tried(3)), Verdict::End(State::Failed));
        assert_eq!(verdict(&Outcome::Interrupted, None, tried(3)), Verdict::Again);
    }

    #[test]
    fn an_orphan_is_tried_again_at_once_and_waits_when_it_happens_again() {
        let wait = |attempt, orphaned| match verdict(
            &Outcome::Orphaned,
            None,
            Tried { id: 7, attempt, max_attempts: 9, orphaned },
        ) {
            Verdict::Retry(wait) => wait,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(1, 0), Duration::ZERO);
        assert_eq!(wait(4, 0), Duration::ZERO, "what its command did before is no matter");
        assert!(wait(2, 1) >= Duration::from_secs(4) && wait(3, 2) >= Duration::from_secs(20));
    }

    #[test]
    fn no_wait_stays_none_for_three_attempts_and_is_a_second_after() {
        let backoff = Backoff { initial: Duration::ZERO, ..Backoff::default() };
        let waits: Vec<u64> =
            [1, 2, 3, 4, 442, 443, 1000].map(|attempt| backoff.delay(attempt, 1).as_secs()).to_vec();
        assert_eq!(waits, [0, 0, 0, 1, 1, 1, 1]);
    }
}
