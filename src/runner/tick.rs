//! One tick: rescue, adopt, schedule, promote, claim, execute, finish, until nothing is startable.
//!
//! With nothing to do it sends one query after connecting. Everything else happens only where that query says so.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::drain::Drain;
use super::{Identity, kept, rescue, schedule};
use crate::config::Config;
use crate::process::ledger::dead_runners;
use crate::store::{Probe, Store, StoreError};

/// How old this host's recorded tick may be before it is written again.
const RECORD: chrono::TimeDelta = chrono::TimeDelta::seconds(30);

/// What one tick is asked to do.
#[derive(Debug, Clone)]
pub struct TickOptions {
    /// Only these queues; all that are declared where empty.
    pub queues: Vec<String>,
    /// Jobs started at most.
    pub limit: Option<u64>,
    /// After this nothing new is claimed.
    pub max_runtime: Option<Duration>,
    /// Jobs at once by this tick, at most the host's.
    pub concurrency: Option<usize>,
}

/// What a tick did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Jobs whose last attempt failed.
    pub failed: u64,
    /// The signal that stopped it.
    pub signal: Option<i32>,
}

/// What a tick works with.
pub(super) struct Tick {
    pub(super) config: Arc<Config>,
    pub(super) options: TickOptions,
    pub(super) store: Store,
    pub(super) me: Identity,
    pub(super) folder: PathBuf,
    pub(super) began: Instant,
    /// Names already complained about.
    undeclared: BTreeSet<String>,
}

/// Runs one tick.
///
/// # Errors
///
/// When the tool cannot work: the database is away, its schema is another's, the state folder cannot be written.
/// What had been started is recorded, or kept until it can be.
pub fn run(config: Config, mut options: TickOptions) -> Result<TickReport> {
    let began = Instant::now();
    let folder = super::state_folder(&config)?;
    // Before anything else, and whether or not the database answers: these may be running twice soon.
    let dead = dead_runners(&folder);
    dead.iter().for_each(crate::process::ledger::DeadRunner::kill_groups);
    if options.queues.is_empty() {
        options.queues.clone_from(&config.queues);
    }
    let store = super::connect(&config)?;
    let mut tick = Tick {
        config: Arc::new(config),
        options,
        store,
        me: Identity::new(),
        folder,
        began,
        undeclared: BTreeSet::new(),
    };
    let probe = tick.first_probe()?;
    if kept::any(&tick.folder) {
        kept::write(&tick.folder, &mut tick.store)?;
    }
    let had_dead = !dead.is_empty();
    for runner in dead {
        rescue::after_dead_runner(&mut tick.store, &tick.config, runner)?;
    }
    if tick.prepare(&probe)? || had_dead { Drain::run(tick) } else { Ok(TickReport::default()) }
}

impl Tick {
    fn first_probe(&mut self) -> Result<Probe> {
        let what = || format!("cannot use the database {}", self.config.database);
        let mut probe = self.store.probe(&self.me.host, &self.options.queues);
        let is_behind = match &probe {
            Ok(probe) => probe.schema.as_deref() != Some(crate::store::wanted_version().as_str()),
            Err(StoreError::Schema(_)) => true,
            Err(_) => false,
        };
        if is_behind {
            self.store.require_schema().with_context(what)?;
            probe = self.store.probe(&self.me.host, &self.options.queues);
        }
        probe.with_context(what)
    }

    /// Does all that makes jobs startable; returns whether any is.
    pub(super) fn prepare(&mut self, probe: &Probe) -> Result<bool> {
        let config = Arc::clone(&self.config);
        let digest = config.schedules_digest();
        let last = probe.last_tick.as_ref();
        let has_other_schedules = last.and_then(|tick| tick.schedules.as_ref()) != Some(&digest);
        if has_other_schedules {
            schedule::introduce(&mut self.store, &config, probe.now)?;
        }
        if has_other_schedules || last.is_none_or(|tick| probe.now - tick.at > RECORD) {
            self.store.record_tick(&self.me.host, &digest).context("cannot record this tick")?;
        }
        let mut is_startable = probe.has_pending;
        if probe.has_expired {
            let undeclared = rescue::expired(&mut self.store, &config, &self.folder)?;
            self.complain(undeclared);
            is_startable = true;
        }
        if probe.has_new {
            let declared = |name: &str| config.definition(name);
            let (adopted, undeclared) = self.store.adopt(&declared).context("cannot adopt new jobs")?;
            self.complain(undeclared);
            is_startable |= adopted > 0;
        }
        // A schedule that was introduced just now may be due at once (`@tick`).
        if probe.has_due || has_other_schedules {
            is_startable |= schedule::make_due(&mut self.store, &config, probe.now)?;
        }
        if probe.has_marked {
            is_startable |= self.store.settle().context("cannot settle waiting jobs")? > 0;
        }
        if probe.has_delayed {
            is_startable |= self.store.promote().context("cannot promote delayed jobs")? > 0;
        }
        Ok(is_startable)
    }

    /// Says once per tick that jobs of a name are left alone.
    pub(super) fn complain(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.undeclared.contains(&name) {
                log::warn!("jobs of that name are left alone: {}", self.config.unknown_definition(&name));
                self.undeclared.insert(name);
            }
        }
    }
}
