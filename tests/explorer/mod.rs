//! The explorer: many small jobs.yaml files and sequences of things that happen, on the program's own code and on a reference
//! that was written apart from it, compared after each step.

mod compare;
mod cron;
mod known;
mod model;
mod model_schedules;
mod oracle;
mod plan;
mod processes;
mod shrink;
mod world;
mod yaml;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use oracle::Seen;
use plan::Plan;
use processes::Stopped;
use world::World;

/// Sequences that the suite explores.
const SEQUENCES: u64 = 1500;
/// Differences told at most.
const TOLD: u64 = 5;

/// What has to have decided something in so many sequences; the rest is told.
const DECIDED: [&str; 22] = [
    "a changed schedule",
    "a dependent is cancelled",
    "a job between two attempts gives way",
    "a later orphan, or the last attempt",
    "a mark ahead of the clock",
    "a permanent exit code",
    "a permanent signal",
    "a runner does not rescue its own",
    "a schedule that nobody had",
    "a tick by a file that has changed begins nothing",
    "an occurrence is made once",
    "an older file is not heard",
    "cancelled instead of again",
    "interrupted and stale",
    "orphaned and stale",
    "over a thousand missed",
    "overlap: queue behind several",
    "overlap: skip",
    "the first orphan at once",
    "the limit of a name",
    "the limit of a queue",
    "unique",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// `DULY_EXPLORER_SEQUENCES` says how many, `DULY_EXPLORER_SEED` which is the first, `DULY_EXPLORER_WORKERS` how many at once.
#[expect(clippy::print_stdout, reason = "how often each rule has decided")]
#[test]
fn what_the_program_does_is_what_the_rules_say() {
    let first = setting("DULY_EXPLORER_SEED", 1);
    let last = first + setting("DULY_EXPLORER_SEQUENCES", SEQUENCES);
    let (next, told, began) = (AtomicU64::new(first), Mutex::new(Vec::new()), Instant::now());
    let most = setting("DULY_EXPLORER_TOLD", TOLD);
    let all_seen = Mutex::new(Seen::new());
    std::thread::scope(|scope| {
        for _ in 0..setting("DULY_EXPLORER_WORKERS", 2) {
            scope.spawn(|| {
                duly_test_clock::set(None);
                let (mut world, mut seen) = (World::new(), Seen::new());
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || told.lock().unwrap().len() as u64 >= most {
                        break;
                    }
                    let plan = Plan::of(seed);
                    if oracle::explore(&mut world, &plan, &mut seen).is_err() {
                        let smallest = shrink::shrink(&mut world, plan);
                        told.lock().unwrap().push(format!("seed {seed}: {smallest}"));
                    }
                }
                let mut all = all_seen.lock().unwrap();
                seen.into_iter().for_each(|(rule, count)| *all.entry(rule).or_default() += count);
            });
        }
    });
    let (told, took) = (told.into_inner().unwrap(), began.elapsed());
    let count = next.into_inner().min(last) - first;
    println!("{count} sequences in {took:.1?}; rules that have decided:");
    let seen = all_seen.into_inner().unwrap();
    seen.iter().for_each(|(rule, count)| println!("{count:9} {rule}"));
    if count >= SEQUENCES {
        let unseen: Vec<&&str> = DECIDED.iter().filter(|rule| !seen.contains_key(*rule)).collect();
        assert!(unseen.is_empty() || !told.is_empty(), "no sequence came to {unseen:?}");
    }
    assert!(told.is_empty(), "the program differs from the rules:\n\n{}", told.join("\n\n"));
}

/// Scenarios that the suite has real processes carry out, and how many at once.
const SCENARIOS: u64 = 24;
const AT_ONCE: u64 = 6;

/// `DULY_EXPLORER_SCENARIOS` says how many, `DULY_EXPLORER_SEED` which is the first.
#[test]
fn what_real_ticks_do_is_what_the_rules_say() {
    let first = setting("DULY_EXPLORER_SEED", 1);
    let last = first + setting("DULY_EXPLORER_SCENARIOS", SCENARIOS);
    let (next, told, late) = (AtomicU64::new(first), Mutex::new(Vec::new()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || told.lock().unwrap().len() as u64 >= TOLD {
                        return;
                    }
                    let plan = processes::plan(seed);
                    match (0..3)
                        .map(|_| processes::run(&plan))
                        .find(|done| !matches!(done, Err(Stopped::TookTooLong)))
                    {
                        Some(Err(Stopped::Differs(how))) => {
                            told.lock().unwrap().push(format!("seed {seed}: {how}\n{plan:#?}"));
                        }
                        Some(_) => {}
                        None => drop(late.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    let (told, late) = (told.into_inner().unwrap(), late.into_inner());
    assert!(told.is_empty(), "real ticks differ from the rules:\n\n{}", told.join("\n\n"));
    assert!(late * 2 <= last - first, "{late} of {} scenarios took too long three times", last - first);
}
