//! How quick the last jobs and the database were: how many jobs are claimed ahead, and how long results are gathered.
//!
//! On a database that many runners keep busy each round trip takes longer; then each of them asks for more at once, and their
//! transactions together do not become more than the database bears.

use std::time::Duration;

/// How much work is claimed ahead of the workers: as time, while the database is quick and at most, and as jobs.
const AHEAD: Duration = Duration::from_millis(50);
const AHEAD_MOST: Duration = Duration::from_millis(300);
const AHEAD_JOBS: usize = 48;

/// How long a result may wait for others to be written with it, while the database is quick and at most.
const GATHER: Duration = Duration::from_millis(5);
const GATHER_MOST: Duration = Duration::from_millis(40);

/// Means over the last jobs, claims and batches of results.
#[derive(Debug, Default)]
pub(super) struct Pace {
    job: Option<Duration>,
    claim: Option<Duration>,
    finish: Option<Duration>,
}

impl Pace {
    pub(super) fn job_took(&mut self, length: Duration) {
        take_in(&mut self.job, length);
    }

    pub(super) fn claim_took(&mut self, length: Duration) {
        take_in(&mut self.claim, length);
    }

    pub(super) fn finish_took(&mut self, length: Duration) {
        take_in(&mut self.finish, length);
    }

    /// Jobs take longer than they did: none is claimed ahead until they are quick again.
    pub(super) fn is_slow(&mut self, unbegun: Duration) {
        self.job = Some(unbegun);
    }

    /// How many jobs so many workers get through while the database is busy with a claim and a batch.
    pub(super) fn ahead(&self, slots: usize) -> usize {
        let Some(job) = self.job else { return 0 };
        let database = self.claim.unwrap_or_default() + self.finish.unwrap_or_default();
        let ahead = (database * 6).clamp(AHEAD, AHEAD_MOST);
        let jobs = ahead.as_nanos() * slots as u128 / job.as_nanos().max(1);
        usize::try_from(jobs).unwrap_or(AHEAD_JOBS).min(AHEAD_JOBS)
    }

    /// How long the first result of a batch waits for others.
    pub(super) fn gather(&self) -> Duration {
        self.finish.unwrap_or_default().clamp(GATHER, GATHER_MOST)
    }
}

fn take_in(mean: &mut Option<Duration>, length: Duration) {
    *mean = Some(mean.map_or(length, |mean| (mean * 7 + length) / 8));
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(length: u64) -> Duration {
        Duration::from_millis(length)
    }

    #[test]
    fn more_is_claimed_ahead_of_a_slow_database_and_nothing_ahead_of_slow_jobs() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(2), 0);
        pace.job_took(ms(10));
        assert_eq!((pace.ahead(2), pace.gather()), (10, GATHER));
        pace.claim_took(ms(10));
        pace.finish_took(ms(15));
        assert_eq!((pace.ahead(2), pace.gather()), (30, ms(15)));
        for _ in 0..40 {
            pace.finish_took(ms(3000));
        }
        assert_eq!((pace.ahead(1), pace.ahead(8), pace.gather()), (30, AHEAD_JOBS, GATHER_MOST));
        pace.is_slow(ms(1000));
        assert_eq!(pace.ahead(2), 0);
    }
}
