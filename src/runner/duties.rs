//! What a tick does besides executing: rescue, adopt, schedule, settle, promote, each only where the probe says so.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};

use super::under_way::UnderWay;
use super::{Identity, kept, rescue, schedule};
use crate::config::Config;
use crate::job::{AHEAD, Declares, Host, OnOrphan, fnv1a};
use crate::store::{Probe, ScheduleRow, Serves, Store, StoreError};

/// How old this host's recorded tick may be before it is written again.
const RECORD: TimeDelta = TimeDelta::seconds(30);

/// After this long without a tick of this host others may have put off what only it has.
const AWAY: TimeDelta = TimeDelta::hours(1);

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
    /// Whether another jobs.yaml is there by now: this tick starts nothing more, and the next one works by that.
    pub(super) is_outdated: bool,
    /// What this runner executes.
    pub(super) under_way: Arc<UnderWay>,
    /// How far ticks of this host were apart of late, where a schedule asks for it.
    pub(super) distance: TimeDelta,
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
        if self.is_outdated() {
            return false;
        }
        let config = Arc::clone(&self.config);
        let is_news = self.attend(probe);
        // Jobs may have followed their definitions to another queue.
        let mut is_startable = probe.has_pending || is_news;
        if probe.has_expired {
            // What this host has kept is better than an orphan.
            self.write_kept();
            let rescued = rescue::expired(&mut self.store, &config, &self.folder, &self.under_way);
            self.note(rescued);
            is_startable = true;
        }
        if probe.has_new {
            is_startable |= self.adopt();
        }
        // A schedule that was introduced just now may be due at once (`@tick`).
        let mut has_made = false;
        if probe.has_due || is_news {
            let look =
                schedule::Look { config: &config, now: probe.now, is_beginning, distance: self.distance };
            let made = schedule::make_due(&mut self.store, &look, &mut self.to_ask);
            if let Some((made, failed)) = self.note(made) {
                has_made = made;
                self.note(failed);
            }
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

    /// Whether another jobs.yaml than this tick's is there by now.
    pub(super) fn is_outdated(&mut self) -> bool {
        if !self.is_outdated && !self.config.stamp.is_current() {
            log::info!(
                "{} has changed: what runs may end, and the next tick goes on",
                self.config.path.display()
            );
            self.is_outdated = true;
        }
        self.is_outdated
    }

    /// Lets this host be known, with the schedules that it has; returns whether its jobs.yaml has changed.
    fn attend(&mut self, probe: &Probe) -> bool {
        let digest = format!("{}-{}", self.config.schedules_digest(), self.declares_digest());
        let last = probe.last_tick.as_ref();
        let is_known = last.and_then(|tick| tick.digest.as_deref()) == Some(&digest);
        if is_known && last.is_some_and(|tick| (probe.now - tick.at).abs() <= RECORD) {
            return false;
        }
        let mut is_news = false;
        if !is_known {
            let hosts = self.store.hosts().context("cannot read which hosts tick");
            let Some(hosts) = self.note(hosts) else { return false };
            let is_older = self.is_older(&hosts, probe.now);
            let config = Arc::clone(&self.config);
            let introduced = schedule::introduce(&mut self.store, &config, &hosts, probe.now, is_older);
            let Some(introduced) = self.note(introduced) else { return true };
            if is_older && hosts.iter().any(|host| host.key() == self.key && host.may_tick(probe.now)) {
                // The record of this host is the newer one's.
                return introduced;
            }
            if !is_older {
                self.requeue(&hosts, probe.now);
            }
            is_news = true;
        }
        let recorded = if is_news { self.store.record_declared(&self.key, &self.declares()) } else { Ok(()) };
        let recorded = recorded.and_then(|()| self.store.record_tick(&self.key, &digest));
        self.note(recorded.context("cannot record this tick"));
        // While it was away, a host without a schedule may have put that off.
        let was_ahead = last.is_some_and(|tick| tick.at - probe.now > AHEAD);
        let was_away = last.is_none_or(|tick| probe.now - tick.at > AWAY);
        let set_back =
            schedule::set_back_ahead(&mut self.store, &self.config, probe.now, was_ahead || was_away);
        is_news |= self.note(set_back).unwrap_or(false);
        if was_ahead {
            let shortened = self.store.shorten_leases().context("cannot shorten leases that lie ahead");
            self.note(shortened);
        }
        if probe.has_pending {
            let config = Arc::clone(&self.config);
            let is_declared = |name: &str| config.definition(name).is_some();
            let serves = Serves { queues: &self.options.queues, is_declared: &is_declared };
            let aged = self.store.age(&self.key, serves).context("cannot let waiting jobs age");
            self.note(aged);
        }
        is_news
    }

    /// Lets jobs follow their definitions out of queues that nobody serves any more.
    fn requeue(&mut self, hosts: &[Host], now: DateTime<Utc>) {
        let config = Arc::clone(&self.config);
        let others: Vec<&Host> =
            hosts.iter().filter(|host| host.name != self.me.host && !host.is_gone(now)).collect();
        let served = |queue: &str| {
            config.queues.iter().any(|own| own == queue) || others.iter().any(|host| host.serves(queue))
        };
        let queue_of = |name: &str| config.definition(name).map(|definition| definition.queue.clone());
        let moved =
            self.store.requeue(&served, &queue_of).context("cannot move jobs to the queues they are in now");
        match self.note(moved) {
            Some(moved) if moved > 0 => {
                log::info!(
                    "{moved} jobs were in queues that nobody serves, and are in those of their definitions now"
                );
            }
            _ => {}
        }
    }

    /// Whether ticks by a newer jobs.yaml are alive: of this host, or of any where this host has not ticked lately. Then this
    /// one may be of a container that is on its way out, and takes nothing back.
    fn is_older(&self, hosts: &[Host], now: DateTime<Utc>) -> bool {
        let alive = || hosts.iter().filter(|host| host.may_tick(now));
        let has_own = alive().any(|host| host.key() == self.key);
        let since = |host: &Host| host.declares.as_ref().and_then(|declares| declares.since);
        alive()
            .filter(|host| !has_own || host.key() == self.key)
            .any(|host| since(host).is_some_and(|since| since > self.config.stamp.since()))
    }

    /// What this tick can execute, for those who wonder why a job does not start, and for the ticks by other files.
    fn declares(&self) -> Declares {
        let own = |name: &str| name.to_owned();
        let schedules = schedule::scheduled(&self.config).map(|(definition, _)| definition.name.clone());
        Declares {
            queues: self.served(),
            jobs: self.config.declared_names().into_iter().map(own).collect(),
            schedules: Some(schedules.collect()),
            since: Some(self.config.stamp.since()),
            once: Some(self.begun_once().map(own).collect()),
        }
    }

    /// The queues that it serves, each once and in one order: ticks that name the same ones otherwise share a row.
    fn served(&self) -> Vec<String> {
        let mut queues = self.options.queues.clone();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    /// The names whose jobs are never begun twice.
    fn begun_once(&self) -> impl Iterator<Item = &str> {
        let is_once = |name: &&str| {
            self.config.definition(name).is_some_and(|definition| definition.on_orphan == OnOrphan::Stale)
        };
        self.config.declared_names().into_iter().filter(is_once)
    }

    /// Changes when [`Self::declares`] does.
    fn declares_digest(&self) -> String {
        let names = self.config.declared_names();
        let since = self.config.stamp.since().timestamp_micros().to_string();
        let queues = self.served();
        let words = queues.iter().map(String::as_str).chain(["", &since]).chain(names);
        let words = words.chain([""]).chain(self.begun_once());
        format!("{:016x}", fnv1a(words.collect::<Vec<&str>>().join("\n").as_bytes()))
    }

    fn adopt(&mut self) -> bool {
        let config = Arc::clone(&self.config);
        let declared = |name: &str| config.definition(name);
        let adopted = self.store.adopt(&declared, &config.queues).context("cannot adopt new jobs");
        let Some(adopted) = self.note(adopted) else { return false };
        self.complain(adopted.foreign_names);
        if adopted.jobs == 0 {
            for queue in adopted.foreign_queues {
                if self.undeclared.insert(format!("queue {queue}")) {
                    let path = config.path.display();
                    log::warn!("jobs of queue `{queue}` are left alone: {path} does not declare it");
                }
            }
        }
        adopted.jobs > 0
    }

    /// Writes what an earlier tick of this host could not; returns whether there was any: what was interrupted may be begun again.
    pub(super) fn write_kept(&mut self) -> bool {
        let is_any = kept::any(&self.folder);
        if is_any {
            let written = kept::write(&self.folder, &mut self.store);
            self.note(written);
        }
        is_any
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

    /// Whether a step failed since the connection has gone: on another one it may do well.
    pub(super) fn is_cut_off(&self) -> bool {
        let is_away = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_away)
        };
        self.trouble.as_ref().is_some_and(|trouble| trouble.chain().any(is_away))
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
