//! What an attempt's outcome means for its job: over, again at once, or again later.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Definition, OnOrphan, Outcome, State};

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
    /// The same arguments always give the same wait. It is at most `max × (1 + jitter)`.
    #[must_use]
    pub fn delay(&self, attempt: u32, seed: u64) -> Duration {
        let exponent = f64::from(attempt.saturating_sub(1));
        let grown = self.initial.as_secs_f64() * self.factor.powf(exponent);
        let capped = grown.min(self.max.as_secs_f64());
        let spread = 1.0 + self.jitter * (2.0 * unit(seed) - 1.0);
        Duration::from_secs_f64((capped * spread).max(0.0))
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
}

/// Decides what becomes of job `id` whose attempt number `attempts` of `max_attempts` ended in `outcome`.
///
/// `definition` is `None` when the name is no longer declared; then the defaults decide.
#[must_use]
pub fn verdict(
    outcome: &Outcome,
    definition: Option<&Definition>,
    id: i64,
    attempts: u32,
    max_attempts: u32,
) -> Verdict {
    let permanent = |code: &i32| definition.is_some_and(|d| d.permanent_exit_codes.contains(code));
    match outcome {
        Outcome::Success => return Verdict::End(State::Success),
        Outcome::Cancelled => return Verdict::End(State::Cancelled),
        Outcome::Interrupted => return Verdict::Again,
        Outcome::Exited(code) if permanent(code) => return Verdict::End(State::Failed),
        Outcome::Orphaned if definition.is_some_and(|d| d.on_orphan == OnOrphan::Stale) => {
            return Verdict::End(State::Stale);
        }
        Outcome::Exited(_)
        | Outcome::Signalled(_)
        | Outcome::TimedOut
        | Outcome::NotStarted(_)
        | Outcome::Orphaned => {}
    }
    if attempts >= max_attempts {
        return Verdict::End(State::Failed);
    }
    let backoff = definition.map(|d| d.backoff).unwrap_or_default();
    Verdict::Retry(backoff.delay(attempts, id.unsigned_abs() ^ (u64::from(attempts) << 48)))
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
            prop_assert!(delay <= plain * (1.0 + jitter) + 1e-6);
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
        assert!(matches!(verdict(&Outcome::Exited(1), None, 7, 1, 3), Verdict::Retry(_)));
        assert_eq!(verdict(&Outcome::Exited(1), None, 7, 3, 3), Verdict::End(State::Failed));
        assert_eq!(verdict(&Outcome::Orphaned, None, 7, 3, 3), Verdict::End(State::Failed));
        assert_eq!(verdict(&Outcome::Interrupted, None, 7, 3, 3), Verdict::Again);
    }
}
