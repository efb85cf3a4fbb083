//! One tick: rescue, adopt, schedule, promote, claim, execute, finish, until nothing is startable.
//!
//! With nothing to do it sends one query after connecting. Everything else happens only where that query says so.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::drain::Drain;
use super::duties::Tick;
pub use super::duties::{TickOptions, TickReport};
use super::{Identity, distance, rescue, schedule};
use crate::config::Config;
use crate::db::pause;
use crate::process::ledger::{DeadRunner, dead_runners};
use crate::store::{Probe, StoreError};

/// How often a tick connects again whose connection goes before anything was begun.
const RECONNECT: u32 = 3;

/// Runs one tick.
///
/// # Errors
///
/// When the tool cannot work: the database is away, its schema is another's, the state folder cannot be written.
/// What had been started is recorded, or kept until it can be.
pub fn run(config: Config, mut options: TickOptions) -> Result<TickReport> {
    let began = Instant::now();
    let key = key(&options);
    if options.queues.is_empty() {
        options.queues.clone_from(&config.queues);
    }
    let config = Arc::new(config);
    let done = work(Arc::clone(&config), options, &key, began);
    if let Err(trouble) = &done {
        tell(&config, &key, trouble);
    }
    done
}

/// Under which name the database knows ticks of this kind on this host.
fn key(options: &TickOptions) -> String {
    let mut queues = options.queues.clone();
    queues.sort_unstable();
    queues.dedup();
    let host = crate::process::host();
    let key = if queues.is_empty() { host } else { format!("{host}/{}", queues.join(",")) };
    key.chars().take(255).collect()
}

/// Lets those who look from elsewhere know why this host does nothing, as far as the database can be reached.
fn tell(config: &Config, key: &str, trouble: &anyhow::Error) {
    let is_about_the_database = trouble.chain().any(|cause| cause.is::<StoreError>());
    if is_about_the_database {
        return;
    }
    let told = super::connect(config).map(|mut store| store.record_trouble(key, &format!("{trouble:#}")));
    if let Err(err) | Ok(Err(err)) = told.map(|told| told.map_err(anyhow::Error::new)) {
        log::debug!("the database was not told: {err:#}");
    }
}

fn work(config: Arc<Config>, options: TickOptions, key: &str, began: Instant) -> Result<TickReport> {
    let folder = super::state_folder(&config)?;
    // Before anything else, and whether or not the database answers: these may be running twice soon.
    let dead = dead_runners(&folder);
    dead.iter().for_each(DeadRunner::kill_groups);
    let mut store = super::connect(&config)?;
    store.set_limit(Some(super::patience(&config)));
    let mut tick = Tick {
        config,
        options,
        store,
        me: Identity::new(),
        key: key.to_owned(),
        folder,
        began,
        undeclared: BTreeSet::new(),
        to_ask: VecDeque::new(),
        trouble: None,
        is_outdated: false,
        under_way: Arc::default(),
        distance: chrono::TimeDelta::zero(),
    };
    let mut probe = tick.first_probe()?;
    if schedule::depends_on_distance(&tick.config) {
        tick.distance = distance::take_in(&tick.folder, probe.now);
    }
    let mut is_startable = get_ready(&mut tick, dead, &probe, true);
    let mut tries = 0;
    while tick.is_cut_off() && tries < RECONNECT {
        tries += 1;
        std::thread::sleep(pause(tries));
        tick.trouble = None;
        tick.store
            .reconnect()
            .with_context(|| format!("cannot open the database {}", tick.config.database))?;
        probe = tick.first_probe()?;
        let dead = dead_runners(&tick.folder);
        is_startable |= get_ready(&mut tick, dead, &probe, false);
    }
    let trouble = tick.trouble.take();
    let report = if is_startable { Drain::run(tick)? } else { TickReport::default() };
    match trouble {
        // What else there was to do has been done.
        Some(trouble) if report.signal.is_none() => Err(trouble),
        _ => Ok(report),
    }
}

/// Everything before something is claimed; returns whether anything may be. What fails is noted.
fn get_ready(tick: &mut Tick, dead: Vec<DeadRunner>, probe: &Probe, is_beginning: bool) -> bool {
    let had_kept = tick.write_kept();
    let had_dead = !dead.is_empty();
    for runner in dead {
        let done = rescue::after_dead_runner(&mut tick.store, &tick.config, &tick.folder, runner);
        tick.note(done);
    }
    let swept = rescue::sweep(&mut tick.store, &tick.folder);
    tick.note(swept);
    tick.prepare(probe, is_beginning) || had_dead || had_kept || !tick.to_ask.is_empty()
}
