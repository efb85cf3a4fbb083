//! How far apart the ticks of this host are: what `catch_up: none` takes for on time depends on it.
//!
//! Kept in the state folder, since it is this host's own business; where it is lost, ticks count as a minute apart.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

const FILE: &str = "distance";

/// How far apart ticks are taken to be at most while only two of them are known: the one before may have been an outage ago.
const FIRST: TimeDelta = TimeDelta::minutes(10);

/// Takes in that a tick begins at `now`; returns how far apart the two ticks before it were.
pub(super) fn take_in(folder: &Path, now: DateTime<Utc>) -> TimeDelta {
    let path = folder.join(FILE);
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let mut numbers = kept.split(' ').map_while(|number| number.trim().parse().ok());
    let last = numbers.next().and_then(DateTime::from_timestamp_micros);
    let usual = numbers.next().map(TimeDelta::microseconds);
    let gap = last.map(|last| (now - last).max(TimeDelta::zero()));
    let text = format!(
        "{} {}",
        now.timestamp_micros(),
        gap.and_then(|gap| gap.num_microseconds()).map(|gap| gap.to_string()).unwrap_or_default()
    );
    if let Err(err) = std::fs::write(&path, text) {
        log::debug!("cannot keep how far ticks are apart: {err}");
    }
    usual.or(gap.map(|gap| gap.min(FIRST))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_before_this_tick_so_that_an_outage_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let minutes = |at| take_in(folder.path(), start + TimeDelta::minutes(at)).num_minutes();
        assert_eq!([0, 5, 10, 100, 105].map(minutes), [0, 5, 5, 5, 90]);
        std::fs::write(folder.path().join(FILE), "no number").unwrap();
        assert_eq!(minutes(200), 0);
    }
}
