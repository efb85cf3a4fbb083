//! What a tick does besides executing: rescue, adopt, schedule, settle, promote, each only where the probe says so.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{Identity, kept, rescue, schedule};
use crate::config::Config;
use crate::job::{Declares, fnv1a};
use crate::store::{Probe, ScheduleRow, Serves, Store, StoreError};

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
    /// Under which this host is recorded: its name, with the queues where not all are served.
    pub(super) key: String,
    pub(super) folder: PathBuf,
    pub(super) began: Instant,
    /// Names already complained about.
    pub(super) undeclared: BTreeSet<String>,
    /// Schedules that are due, whose targets are to be asked for.
    pub(super) to_ask: VecDeque<ScheduleRow>,
    /// The first step that failed.
    pub(super) trouble: Option<anyhow::Error>,
}

impl Tick {
    /// Asks what there is to do; makes sure of the schema, which SQLite gets here.
    pub(super) fn first_probe(&mut self) -> Result<Probe> {
        let what = || format!("cannot use the database {}", self.config.database);
        let mut probe = self.store.probe(&self.key, &self.options.queues);
        let is_behind = match &probe {
            Ok(probe) => probe.schema.as_deref() != Some(crate::db::wanted_version().as_str()),
            Err(StoreError::Schema(_)) => true,
            Err(_) => false,
        };
        if is_behind {
            self.store.require_schema().with_context(what)?;
            probe = self.store.probe(&self.key, &self.options.queues);
        }
        probe.with_context(what)
    }

    /// Does all that makes jobs startable; returns whether any may be.
    ///
    /// A step that fails is noted and holds none of the others up.
    pub(super) fn prepare(&mut self, probe: &Probe, is_beginning: bool) -> bool {
        let config = Arc::clone(&self.config);
        let has_other_schedules = self.attend(probe);
        let mut is_startable = probe.has_pending;
        if probe.has_expired {
            // What this host has kept is better than an orphan.
            self.write_kept();
            let undeclared = rescue::expired(&mut self.store, &config, &self.folder);
            let undeclared = self.note(undeclared).unwrap_or_default();
            self.complain(undeclared);
            is_startable = true;
        }
        if probe.has_new {
            is_startable |= self.adopt();
        }
        // A schedule that was introduced just now may be due at once (`@tick`).
        let mut has_made = false;
        if probe.has_due || has_other_schedules {
            let made =
                schedule::make_due(&mut self.store, &config, &mut self.to_ask, probe.now, is_beginning);
            has_made = self.note(made).unwrap_or(false);
            is_startable |= has_made;
        }
        if probe.has_marked {
            let settled = self.store.settle().context("cannot settle waiting jobs");
            is_startable |= self.note(settled).unwrap_or(0) > 0;
        }
        // A late occurrence may have been spread to a time that has passed.
        if probe.has_delayed || has_made {
            let promoted = self.store.promote().context("cannot promote delayed jobs");
            is_startable |= self.note(promoted).unwrap_or(0) > 0;
        }
        is_startable
    }

    /// Lets this host be known, with the schedules that it has; returns whether those have changed.
    fn attend(&mut self, probe: &Probe) -> bool {
        let config = Arc::clone(&self.config);
        let schedules = config.schedules_digest();
        let digest = format!("{schedules}-{}", self.declares_digest());
        let last = probe.last_tick.as_ref();
        let known = last.and_then(|tick| tick.digest.as_deref());
        let has_other_schedules = known.and_then(|known| known.split('-').next()) != Some(&schedules);
        if has_other_schedules {
            let introduced = schedule::introduce(&mut self.store, &config, probe.now);
            if self.note(introduced).is_none() {
                return true;
            }
        }
        let declares_other = known != Some(&digest);
        if declares_other || last.is_none_or(|tick| probe.now - tick.at > RECORD) {
            let mut recorded = Ok(());
            if declares_other {
                recorded = self.store.record_declared(&self.key, &self.declares());
            }
            let recorded = recorded.and_then(|()| self.store.record_tick(&self.key, &digest));
            self.note(recorded.context("cannot record this tick"));
            if probe.has_pending {
                let is_declared = |name: &str| config.definition(name).is_some();
                let serves = Serves { queues: &self.options.queues, is_declared: &is_declared };
                let aged = self.store.age(&self.key, serves).context("cannot let waiting jobs age");
                self.note(aged);
            }
        }
        has_other_schedules
    }

    /// What this tick can execute, for those who wonder why a job does not start.
    fn declares(&self) -> Declares {
        let own = |name: &str| name.to_owned();
        Declares {
            queues: self.options.queues.clone(),
            jobs: self.config.declared_names().into_iter().map(own).collect(),
        }
    }

    /// Changes when [`Self::declares`] does.
    fn declares_digest(&self) -> String {
        let names = self.config.declared_names();
        let words = self.options.queues.iter().map(String::as_str).chain([""]).chain(names);
        format!("{:016x}", fnv1a(words.collect::<Vec<&str>>().join("\n").as_bytes()))
    }

    fn adopt(&mut self) -> bool {
        let config = Arc::clone(&self.config);
        let declared = |name: &str| config.definition(name);
        let names: Vec<String> = config.definitions.all_names().map(str::to_owned).collect();
        let adopted = self.store.adopt(&declared, &names, &config.queues).context("cannot adopt new jobs");
        let Some((adopted, has_undeclared)) = self.note(adopted) else { return false };
        if has_undeclared {
            let undeclared = self.store.foreign_names(&names, &config.queues).context("cannot read new jobs");
            let undeclared = self.note(undeclared).unwrap_or_default();
            self.complain(undeclared);
        }
        if adopted == 0 && !has_undeclared {
            let foreign = self.store.foreign_queues(&config.queues).context("cannot read new jobs");
            for queue in self.note(foreign).unwrap_or_default() {
                if self.undeclared.insert(format!("queue {queue}")) {
                    let path = config.path.display();
                    log::warn!("jobs of queue `{queue}` are left alone: {path} does not declare it");
                }
            }
        }
        adopted > 0
    }

    /// Writes what an earlier tick of this host could not.
    pub(super) fn write_kept(&mut self) {
        if kept::any(&self.folder) {
            let written = kept::write(&self.folder, &mut self.store);
            self.note(written);
        }
    }

    /// Passes a value on; an error is told once, and remembered.
    pub(super) fn note<T>(&mut self, done: Result<T>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(err) => {
                if self.trouble.is_none() {
                    log::warn!("{err:#}");
                    self.trouble = Some(err);
                }
                None
            }
        }
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
