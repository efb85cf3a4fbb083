//! The explorer: many small jobs.yaml files and sequences of things that happen, on the program's own code and on a reference
//! that was written apart from it, compared after each step.

mod cron;
mod model;
mod model_schedules;
mod oracle;
mod plan;
mod shrink;
mod world;
mod yaml;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use plan::Plan;
use world::World;

/// Sequences that the suite explores.
const SEQUENCES: u64 = 1500;
/// Differences told at most.
const TOLD: usize = 5;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// `DULY_EXPLORER_SEQUENCES` says how many, `DULY_EXPLORER_SEED` which is the first, `DULY_EXPLORER_WORKERS` how many at once.
#[test]
fn what_the_program_does_is_what_the_rules_say() {
    let first = setting("DULY_EXPLORER_SEED", 1);
    let last = first + setting("DULY_EXPLORER_SEQUENCES", SEQUENCES);
    let (next, told, began) = (AtomicU64::new(first), Mutex::new(Vec::new()), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..setting("DULY_EXPLORER_WORKERS", 2) {
            scope.spawn(|| {
                duly_test_clock::set(None);
                let mut world = World::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || told.lock().unwrap().len() >= TOLD {
                        return;
                    }
                    let plan = Plan::of(seed);
                    if oracle::explore(&mut world, &plan).is_err() {
                        let smallest = shrink::shrink(&mut world, plan);
                        told.lock().unwrap().push(format!("seed {seed}: {smallest}"));
                    }
                }
            });
        }
    });
    let (told, took) = (told.into_inner().unwrap(), began.elapsed());
    println!("{} sequences in {took:.1?}", next.into_inner().min(last) - first);
    assert!(told.is_empty(), "the program differs from the rules:\n\n{}", told.join("\n\n"));
}
