//! Claiming and finishing without processes: what the database and the statements are good for.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use duly::db::Location;
use duly::job::{Outcome, State, Verdict};
use duly::store::{AttemptEnd, ClaimRequest, Limits, StartedAt, Store};

/// Jobs claimed at once, and finished together.
const AT_ONCE: usize = 8;

/// What came of it.
pub(crate) struct Done {
    pub(crate) jobs: usize,
    pub(crate) errors: usize,
    pub(crate) taken: Duration,
}

/// So many claimers, each with a connection of its own, claim and finish until `jobs` are done.
pub(crate) fn run(location: &Location, claimers: usize, jobs: usize) -> Done {
    let (done, errors) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Barrier::new(claimers + 1);
    let begun = std::thread::scope(|scope| {
        for claimer in 0..claimers {
            let (done, errors, start) = (&done, &errors, &start);
            scope.spawn(move || {
                let mut store = Store::connect(location).unwrap();
                store.require_schema().unwrap();
                let owner = format!("claimer-{claimer}");
                start.wait();
                while done.load(Ordering::Relaxed) < jobs {
                    match claim_and_finish(&mut store, &owner) {
                        Ok(0) => std::thread::sleep(Duration::from_millis(1)),
                        Ok(count) => {
                            done.fetch_add(count, Ordering::Relaxed);
                        }
                        Err(_) => {
                            errors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        start.wait();
        Instant::now()
    });
    Done { jobs: done.into_inner(), errors: errors.into_inner(), taken: begun.elapsed() }
}

fn claim_and_finish(store: &mut Store, owner: &str) -> Result<usize, duly::store::StoreError> {
    let lease = Duration::from_secs(60);
    let request = ClaimRequest { queue: "default", limit: AT_ONCE, owner, host: "bench", lease };
    let limits = Limits { queue: None, name: &|_| None };
    let claims = store.claim(request, limits, &|_| true)?;
    let ends: Vec<AttemptEnd> = claims
        .jobs
        .iter()
        .map(|job| AttemptEnd {
            id: job.id,
            fence: job.fence,
            owner: owner.to_owned(),
            host: "bench".to_owned(),
            attempt: job.attempt,
            outcome: Outcome::Success,
            verdict: Verdict::End(State::Success),
            started: StartedAt::Ago(Duration::ZERO),
            ran: Some(Duration::ZERO),
            ended_ago: Duration::ZERO,
            output: None,
        })
        .collect();
    if ends.is_empty() { Ok(0) } else { Ok(store.finish(&ends)?.moved.len()) }
}
