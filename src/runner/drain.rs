//! Claiming, executing and finishing until nothing is startable.
//!
//! This thread is the only one that claims and finishes. Results that come in while one commit is under way are
//! written together by the next. While jobs are so short that the database would hold the workers up, jobs are
//! claimed ahead; what is claimed and not begun within a second goes back.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::duties::{Tick, TickReport};
use super::heartbeat::Heartbeat;
use super::listers::{Listed, Listers};
use super::pace::Pace;
use super::queue::Queue;
use super::recording::Stalled;
use super::setback::Setback;
use super::steady::Steady;
use super::under_way::{Held, UnderWay};
use super::worker::{Bench, Ended, Report};
use crate::process::clock::since_boot;
use crate::process::execute::make_room_for;
use crate::process::ledger::Ledger;
use crate::process::signals::{Patience, on_stop_signal};
use crate::process::slots::Slots;
use crate::process::stop::StopReason;
use crate::store::StoreError;

/// How often a tick that lives looks for new work.
const DUTY: Duration = Duration::from_secs(1);

/// How long a claimed job may wait for a worker.
const UNBEGUN: Duration = Duration::from_secs(1);

/// From how long on what a tick took is recorded.
const BUSY: Duration = Duration::from_secs(1);

/// Results written in one transaction, at most.
pub(super) const BATCH: usize = 32;

/// What the other threads tell.
pub(super) enum Event {
    Report(Arc<Held>, Report),
    Listed(Box<Listed>),
    /// Its number, and whether nothing is to be waited for any more.
    Signal(i32, bool),
}

/// A tick that executes.
pub(super) struct Drain {
    pub(super) tick: Tick,
    pub(super) slots: Slots,
    pub(super) under_way: Arc<UnderWay>,
    heartbeat: Arc<Heartbeat>,
    pub(super) queue: Arc<Queue>,
    pub(super) bench: Arc<Bench>,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) events: Receiver<Event>,
    pub(super) sender: Sender<Event>,
    /// Results not yet written.
    pub(super) results: Vec<(Arc<Held>, Box<Ended>)>,
    /// Results that the database would not take, to be tried again.
    pub(super) stalled: Vec<Stalled>,
    /// How many of them were put aside.
    pub(super) put_aside: u64,
    pub(super) hand_back: Vec<Arc<Held>>,
    pub(super) listers: Arc<Listers>,
    /// Lists that have come and of which nothing has been made.
    pub(super) listed: Vec<Listed>,
    /// Claims that this runner has given up, job and fence.
    pub(super) lost: HashSet<(i64, i64)>,
    pub(super) started: u64,
    /// What the latest claim brought.
    pub(super) claimed: Vec<(i64, i64)>,
    pub(super) pace: Pace,
    /// Whether there may be something to claim.
    pub(super) may_claim: bool,
    pub(super) report: TickReport,
    /// Why this runner cannot go on, once it can't.
    pub(super) trouble: Option<anyhow::Error>,
    /// What the database would not do, and is asked for again.
    pub(super) setback: Option<Setback>,
    /// Since when the database has been away.
    pub(super) away_since: Option<Instant>,
    pub(super) asked_to_stop_at: Option<Instant>,
    steady: Steady,
}

impl Drain {
    /// Executes what is startable, as far as this host has slots free.
    pub(super) fn run(tick: Tick) -> Result<TickReport> {
        let concurrency = tick.config.runner.concurrency;
        make_room_for(concurrency);
        let mut slots = Slots::new(&tick.folder, &super::slots_key(&tick.config), concurrency);
        // Who only asks for targets needs no slot.
        if slots.take(1).with_context(|| cannot(&tick.folder))? == 0 && tick.to_ask.is_empty() {
            log::info!("all {concurrency} slots of this host are taken");
            return Ok(TickReport::default());
        }
        let bench = bench(&tick)?;
        let (sender, events) = channel();
        let under_way = Arc::clone(&tick.under_way);
        let listers = Arc::new(Listers::default());
        let (signals, stoppable, asked) = (sender.clone(), Arc::clone(&under_way), Arc::clone(&listers));
        let mut patience = Patience::default();
        on_stop_signal(move |signal| {
            let at_once = patience.is_over();
            // At once, also while the thread that talks to the database waits for it.
            stoppable.stop_all(StopReason::Interrupted, at_once);
            asked.stop_all(at_once);
            if signals.send(Event::Signal(signal, at_once)).is_err() {
                log::debug!("signal {signal} came when all was done");
            }
        })
        .context("cannot catch signals")?;
        let mut drain = Self {
            heartbeat: Arc::new(Heartbeat::new(&bench, Arc::clone(&under_way))),
            tick,
            slots,
            under_way,
            queue: Arc::default(),
            bench,
            workers: Vec::new(),
            events,
            sender,
            results: Vec::new(),
            stalled: Vec::new(),
            put_aside: 0,
            hand_back: Vec::new(),
            listers,
            listed: Vec::new(),
            lost: HashSet::new(),
            started: 0,
            claimed: Vec::new(),
            pace: Pace::default(),
            may_claim: true,
            report: TickReport::default(),
            trouble: None,
            setback: None,
            away_since: None,
            asked_to_stop_at: None,
            steady: Steady::default(),
        };
        let (alive, until) = channel();
        let heartbeat = drain.start_heartbeat(until)?;
        drain.work();
        drop(alive);
        drain.queue.close();
        // The heartbeat may be waiting for a database that is gone, and has nothing more to say.
        drop(heartbeat);
        for worker in drain.workers.drain(..) {
            if worker.join().is_err() {
                drain.trouble = drain.trouble.or(Some(anyhow!("a thread of the runner failed")));
            }
        }
        drain.note_busy_tick();
        drain.answer()
    }

    /// What the tick ends with.
    fn answer(self) -> Result<TickReport> {
        let aside = (self.put_aside > 0).then(|| anyhow!("results that were put aside: {}", self.put_aside));
        match self.trouble.or(self.setback.map(|setback| setback.why)).or(aside) {
            Some(trouble) if self.report.signal.is_none() => Err(trouble),
            Some(trouble) => {
                log::error!("{trouble:#}");
                Ok(self.report)
            }
            None => Ok(self.report),
        }
    }

    /// Records for the metrics what a tick took that lasted; one that did not pays no transaction for it.
    fn note_busy_tick(&mut self) {
        let took = self.tick.began.elapsed();
        if took < BUSY || self.trouble.is_some() {
            return;
        }
        let renewals = self.under_way.renewals();
        if let Err(err) = self.tick.store.record_busy_tick(&self.tick.key, took, renewals) {
            log::debug!("what this tick took is not recorded: {err}");
        }
    }

    fn start_heartbeat(&self, until: Receiver<()>) -> Result<JoinHandle<()>> {
        let heartbeat = Arc::clone(&self.heartbeat);
        std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || heartbeat.run_guarded(&until))
            .context("cannot start a thread")
    }

    fn work(&mut self) {
        let mut duty_at = Instant::now() + DUTY;
        loop {
            self.ask_listers();
            if self.may_claim && !self.is_stopping() && !self.is_set_back() {
                match self.claim() {
                    Ok(()) => self.get_over(),
                    Err(err) => self.set_back(err),
                }
            }
            if self.under_way.len() == 0
                && self.results.is_empty()
                && self.stalled.is_empty()
                && self.has_asked_all()
                && (!self.may_claim || self.is_stopping() || self.setback.is_some())
            {
                return;
            }
            self.wait(duty_at);
            self.write_results();
            self.make_listed();
            if duty_at <= Instant::now() {
                match self.duties() {
                    Ok(()) if !self.may_claim => self.get_over(),
                    Ok(()) => {}
                    Err(err) => self.set_back(err),
                }
                duty_at = Instant::now() + DUTY;
            }
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        let is_late = self.tick.options.max_runtime.is_some_and(|limit| self.tick.began.elapsed() >= limit);
        let is_done = self.tick.options.limit.is_some_and(|limit| self.started >= limit);
        is_late || is_done || self.tick.is_outdated || self.report.signal.is_some() || self.trouble.is_some()
    }

    /// Takes in at least one event, unless it is time for something else.
    fn wait(&mut self, until: Instant) {
        let limit = if self.listed.is_empty() {
            until.saturating_duration_since(Instant::now())
        } else {
            Duration::ZERO
        };
        match self.events.recv_timeout(limit) {
            Ok(event) => self.take_in(event),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
        let gathered = Instant::now() + self.pace.gather();
        while self.results.len() < BATCH {
            // While the workers have more than one job each to go on with, what ends soon is recorded along with this.
            let may_gather = self.queue.load().1 > self.slots.held() && self.report.signal.is_none();
            let limit =
                if may_gather { gathered.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.events.recv_timeout(limit) {
                Ok(event) => self.take_in(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Report(held, Report::Ended(ended)) => {
                self.pace.job_took(ended.ran);
                self.results.push((held, ended));
            }
            Event::Report(held, Report::NotBegun(why)) => {
                // Something is wrong with this host: what runs may end, nothing new begins.
                if let Some(why) = why {
                    self.trouble = self.trouble.take().or(Some(anyhow!(why)));
                    self.hand_back.extend(self.queue.take_back(Duration::ZERO));
                }
                self.hand_back.push(held);
            }
            Event::Report(held, Report::Lost) => {
                log::warn!("job {} ({}) was stopped: its lease was lost", held.job.id, held.job.name);
                self.lost.insert((held.job.id, held.job.fence));
                self.under_way.remove(held.job.id, held.job.fence);
            }
            Event::Listed(listed) => self.listed.push(*listed),
            Event::Signal(signal, at_once) => {
                log::info!("signal {signal}: stopping{}", if at_once { " at once" } else { "" });
                self.report.signal = self.report.signal.or(Some(signal));
                self.asked_to_stop_at = self.asked_to_stop_at.or(Some(Instant::now()));
                self.hand_back.extend(self.queue.take_back(Duration::ZERO));
                self.under_way.stop_all(StopReason::Interrupted, at_once);
            }
        }
        // A slot or a dependent is free now.
        self.may_claim = true;
    }

    /// Once a second: what else has become startable, and what has waited too long for a worker.
    fn duties(&mut self) -> Result<()> {
        let waited = self.queue.take_back(UNBEGUN);
        if !waited.is_empty() {
            self.pace.is_slow(UNBEGUN);
            self.started = self.started.saturating_sub(waited.len() as u64);
            self.hand_back.extend(waited);
            self.write_results();
        }
        self.heartbeat.stand_in(&mut self.tick.store);
        let (active, queued) = self.queue.load();
        // One to go on with; who only waits for targets, and begins nothing more, leaves it to others.
        self.slots.keep((active + queued).max(usize::from(!self.is_stopping())));
        self.queue.permit(self.slots.held());
        if self.tick.is_outdated() {
            self.hand_back.extend(self.queue.take_back(Duration::ZERO));
            self.listers.stop_all(false);
        }
        if self.is_stopping() {
            return Ok(());
        }
        let (key, queues) = (self.tick.key.clone(), self.tick.options.queues.clone());
        let probe = match self.tick.store.probe(&key, &queues) {
            Ok(probe) => probe,
            Err(err @ StoreError::Away(_)) => {
                self.patiently("looking for work", &err, |store| store.probe(&key, &queues))?
            }
            Err(err) => {
                // What runs goes on; this is tried again in a second.
                log::info!("cannot look for work: {err}");
                return Ok(());
            }
        };
        if let Some(newer) = crate::db::newer_version(probe.schema.as_deref()) {
            self.make_way(newer);
            return Ok(());
        }
        if self.steady.takes(probe.now, since_boot()) {
            self.may_claim |= self.tick.prepare(&probe, false);
        }
        Ok(())
    }

    /// A newer Duly has migrated the database: what runs may end and is recorded, since migrations only add; nothing
    /// begins any more.
    fn make_way(&mut self, newer: &str) {
        self.hand_back.extend(self.queue.take_back(Duration::ZERO));
        self.listers.stop_all(false);
        self.trouble = Some(anyhow!(
            "the database {} has got schema {newer} of a newer Duly meanwhile: what ran was finished and nothing more \
             was started; install the newer version on this host",
            self.tick.config.database
        ));
    }
}

/// What workers need, with a ledger that this runner is known by.
fn bench(tick: &Tick) -> Result<Arc<Bench>> {
    let ledger = Ledger::create(&tick.folder, &tick.me.owner, tick.config.runner.concurrency)
        .with_context(|| cannot(&tick.folder))?;
    Ok(Arc::new(Bench {
        config: Arc::clone(&tick.config),
        folder: tick.folder.clone(),
        owner: tick.me.owner.clone(),
        ledger,
    }))
}

fn cannot(folder: &Path) -> String {
    format!("cannot write in the state folder `{}` (make room, or set runner.state_dir)", folder.display())
}
