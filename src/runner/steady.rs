//! Whether the database's clock goes on as this host's does. One that steps makes leases end and occurrences due that are not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A step is more than clocks are apart that are set right, and than a statement may take.
const STEP: TimeDelta = TimeDelta::seconds(60);

/// How long nothing is believed after one: it may be set right at once.
const UNSURE: Duration = Duration::from_secs(10);

/// How the database's clock goes beside this host's.
#[derive(Debug, Default)]
pub(super) struct Steady {
    /// What it showed when it was last gone by, and when that was since this host's boot.
    last: Option<(DateTime<Utc>, Duration)>,
    /// When it was first seen to have stepped.
    stepped_at: Option<Duration>,
}

impl Steady {
    /// Takes in that it shows `now` at `boot` since this host's boot; returns whether it may be gone by.
    pub(super) fn takes(&mut self, now: DateTime<Utc>, boot: Duration) -> bool {
        let stepped_from = self
            .last
            .map(|(before, at)| before + TimeDelta::from_std(boot.saturating_sub(at)).unwrap_or_default());
        if let Some(expected) = stepped_from.filter(|expected| (now - *expected).abs() > STEP) {
            if self.stepped_at.is_none() {
                log::warn!(
                    "the database's clock shows {now} and should show {expected}: for {} nothing is scheduled or taken back by it",
                    crate::job::duration::exact(UNSURE)
                );
            }
            if boot.saturating_sub(*self.stepped_at.get_or_insert(boot)) < UNSURE {
                return false;
            }
        }
        (self.last, self.stepped_at) = (Some((now, boot)), None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_step_of_the_clock_and_after_the_step_back_it_is_not_gone_by() {
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut steady = Steady::default();
        let mut takes = |ahead: i64, second: u64| {
            let now = start + TimeDelta::seconds(ahead) + TimeDelta::seconds(i64::try_from(second).unwrap());
            steady.takes(now, Duration::from_secs(1000 + second))
        };
        // A host that slept is no step: its own clock went on.
        assert!(takes(0, 0) && takes(0, 1) && takes(0, 7000));
        assert!(!takes(3600, 7001) && !takes(3600, 7004) && takes(30, 7005));
        // One that stays is believed after a while.
        assert!(!takes(-3600, 7017) && !takes(-3600, 7026) && takes(-3600, 7027) && takes(-3600, 7028));
    }
}
