//! Seeded scenarios of load and faults on every engine: several hosts execute while things are killed, frozen, cut off, filled
//! up and set wrong; afterwards an oracle compares what the jobs themselves wrote with the tables.
//!
//! `load` is what is to be done, `plan` what goes wrong and when, `scenario` carries both out, `oracle` judges. A scenario is
//! made by its engine and its seed alone; `DULY_FAULT_SEEDS=17` repeats that schedule of faults (not the instants at which
//! processes happen to be where). What is shown by how many of them is in RELIABILITY.md.

mod figures;
mod load;
mod oracle;
mod plan;
mod scenario;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use figures::Figures;
use plan::Engine;
use scenario::Ground;
pub(crate) use scenario::forget_clocks;

/// Without settings a few seeds, which are the same each time: see `DULY_FAULT_SEEDS` in CONTRIBUTING.md.
#[test]
fn nothing_is_lost_or_done_twice_on_sqlite() {
    suite(Engine::Sqlite, 4, 2);
}

#[test]
fn nothing_is_lost_or_done_twice_on_a_server() {
    suite(Engine::Server, 4, 2);
}

#[test]
fn nothing_is_lost_or_done_twice_on_a_cluster() {
    suite(Engine::Galera, 2, 1);
}

#[test]
fn nothing_is_lost_or_done_twice_on_a_group() {
    suite(Engine::Group, 1, 1);
}

#[test]
fn nothing_is_lost_or_done_twice_on_a_group_with_one_primary() {
    suite(Engine::GroupOfOne, 1, 1);
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The seeds asked for: `17` or `1-200`.
fn seeds(few: u64) -> Vec<u64> {
    let Some(text) = setting("DULY_FAULT_SEEDS") else { return (1..=few).collect() };
    let number =
        |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("DULY_FAULT_SEEDS={text}: not a number"));
    match text.split_once('-') {
        Some((first, last)) => (number(first)..=number(last)).collect(),
        None => vec![number(&text)],
    }
}

/// Carries all seeds out, several at a time, each worker on a server of its own; then tells all that was found.
#[expect(
    clippy::print_stdout,
    reason = "figures are for whoever runs it with --nocapture, and for a failure"
)]
fn suite(engine: Engine, few: u64, workers: usize) {
    let (seeds, next, began) = (seeds(few), AtomicUsize::new(0), Instant::now());
    let workers =
        setting("DULY_FAULT_WORKERS").and_then(|text| text.parse().ok()).unwrap_or(workers).min(seeds.len());
    let (total, wrong) = (Mutex::new(Figures::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                // Made anew after a panic: what that scenario has left behind must not be another seed's.
                let mut ground = None;
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let run = || scenario::run(ground.get_or_insert_with(|| Ground::new(engine)), *seed);
                    let done = catch_unwind(AssertUnwindSafe(run));
                    let took = began.elapsed();
                    match done {
                        Ok((figures, found)) => {
                            println!("{engine:?} seed {seed}: {took:.1?}, {figures:#}");
                            total.lock().unwrap().add(&figures);
                            wrong
                                .lock()
                                .unwrap()
                                .extend(found.into_iter().map(|what| format!("seed {seed}: {what}")));
                        }
                        Err(panic) => {
                            let text = panic.downcast_ref::<String>().cloned();
                            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                            wrong.lock().unwrap().push(format!("seed {seed}: {}", text.unwrap_or_default()));
                            ground = None;
                        }
                    }
                }
            });
        }
    });
    println!(
        "{engine:?}, {} seeds in {:.0?}:\n{:#}",
        seeds.len(),
        began.elapsed(),
        total.into_inner().unwrap()
    );
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{engine:?}: repeat one with DULY_FAULT_SEEDS=…\n{}", wrong.join("\n"));
}
