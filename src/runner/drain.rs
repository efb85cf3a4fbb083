//! Claiming, executing and finishing until nothing is startable.
//!
//! This thread is the only one that claims and finishes. Results that come in while one commit is under way are
//! written together by the next. While jobs are so short that the database would hold the workers up, jobs are
//! claimed ahead; what is claimed and not begun within a second goes back.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::heartbeat::Heartbeat;
use super::kept;
use super::queue::Queue;
use super::tick::{Tick, TickReport};
use super::under_way::{Held, UnderWay};
use super::worker::{Bench, Ended, Report};
use crate::job::{Outcome, State};
use crate::process::clock::since_boot;
use crate::process::ledger::Ledger;
use crate::process::signals::on_stop_signal;
use crate::process::slots::Slots;
use crate::process::stop::StopReason;
use crate::store::{AttemptEnd, ClaimRequest, StoreError};

/// How often a tick that lives looks for new work.
const DUTY: Duration = Duration::from_secs(1);

/// How much work is claimed ahead of the workers, at most, as time and as jobs.
const AHEAD: Duration = Duration::from_millis(50);
const AHEAD_JOBS: usize = 24;

/// How long a claimed job may wait for a worker.
const UNBEGUN: Duration = Duration::from_secs(1);

/// How long a runner that was told to stop waits for the database.
const PATIENCE: Duration = Duration::from_secs(20);

/// Results written in one transaction, at most.
const BATCH: usize = 32;

enum Event {
    Report(Arc<Held>, Report),
    Signal(i32),
}

/// A tick that executes.
pub(super) struct Drain {
    tick: Tick,
    slots: Slots,
    under_way: Arc<UnderWay>,
    queue: Arc<Queue>,
    bench: Arc<Bench>,
    workers: Vec<JoinHandle<()>>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Results not yet written.
    results: Vec<(Arc<Held>, Box<Ended>)>,
    hand_back: Vec<Arc<Held>>,
    /// Claims that this runner has given up, job and fence.
    lost: HashSet<(i64, i64)>,
    started: u64,
    /// Mean time of the last jobs.
    pace: Option<Duration>,
    /// Whether there may be something to claim.
    may_claim: bool,
    report: TickReport,
    /// Why this runner cannot go on, once it can't.
    trouble: Option<anyhow::Error>,
    asked_to_stop_at: Option<Instant>,
}

impl Drain {
    /// Executes what is startable, as far as this host has slots free.
    pub(super) fn run(tick: Tick) -> Result<TickReport> {
        let concurrency = tick.config.runner.concurrency;
        let mut slots = Slots::new(&tick.folder, concurrency);
        let cannot = |folder: &Path| format!("cannot write in the state folder `{}`", folder.display());
        if slots.take(1).with_context(|| cannot(&tick.folder))? == 0 {
            log::info!("all {concurrency} slots of this host are taken");
            return Ok(TickReport::default());
        }
        let ledger = Ledger::create(&tick.folder, &tick.me.owner, concurrency)
            .with_context(|| cannot(&tick.folder))?;
        let bench = Arc::new(Bench { config: Arc::clone(&tick.config), folder: tick.folder.clone(), ledger });
        let (sender, events) = channel();
        let under_way = Arc::new(UnderWay::default());
        let (signals, stoppable) = (sender.clone(), Arc::clone(&under_way));
        let mut is_second = false;
        on_stop_signal(move |signal| {
            // At once, also while the thread that talks to the database waits for it.
            stoppable.stop_all(StopReason::Interrupted, is_second);
            is_second = true;
            if signals.send(Event::Signal(signal)).is_err() {
                log::debug!("signal {signal} came when all was done");
            }
        })
        .context("cannot catch signals")?;
        let mut drain = Self {
            tick,
            slots,
            under_way,
            queue: Arc::default(),
            bench,
            workers: Vec::new(),
            events,
            sender,
            results: Vec::new(),
            hand_back: Vec::new(),
            lost: HashSet::new(),
            started: 0,
            pace: None,
            may_claim: true,
            report: TickReport::default(),
            trouble: None,
            asked_to_stop_at: None,
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
        match drain.trouble {
            Some(trouble) if drain.report.signal.is_none() => Err(trouble),
            Some(trouble) => {
                log::error!("{trouble:#}");
                Ok(drain.report)
            }
            None => Ok(drain.report),
        }
    }

    fn start_heartbeat(&self, until: Receiver<()>) -> Result<JoinHandle<()>> {
        let heartbeat = Heartbeat {
            config: Arc::clone(&self.tick.config),
            location: super::location(&self.tick.config.database),
            owner: self.tick.me.owner.clone(),
            folder: self.tick.folder.clone(),
            under_way: Arc::clone(&self.under_way),
        };
        std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || heartbeat.run(&until))
            .context("cannot start a thread")
    }

    fn work(&mut self) {
        let mut duty_at = Instant::now() + DUTY;
        loop {
            if self.may_claim
                && !self.is_stopping()
                && let Err(err) = self.claim()
            {
                self.give_up(err);
            }
            if self.under_way.len() == 0 && self.results.is_empty() && (!self.may_claim || self.is_stopping())
            {
                return;
            }
            self.wait(duty_at);
            self.write_results();
            if duty_at <= Instant::now() {
                if let Err(err) = self.duties() {
                    self.give_up(err);
                }
                duty_at = Instant::now() + DUTY;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        let is_late = self.tick.options.max_runtime.is_some_and(|limit| self.tick.began.elapsed() >= limit);
        let is_done = self.tick.options.limit.is_some_and(|limit| self.started >= limit);
        is_late || is_done || self.report.signal.is_some() || self.trouble.is_some()
    }

    /// Claims for the slots that are free, and ahead of the workers where jobs are short.
    fn claim(&mut self) -> Result<()> {
        let (active, queued) = self.queue.load();
        let most =
            self.tick.options.concurrency.unwrap_or(usize::MAX).min(self.tick.config.runner.concurrency);
        let ahead = self.ahead(most);
        if queued > ahead / 2 || (queued > 0 && ahead == 0) || active + queued >= most + ahead {
            return Ok(());
        }
        let slots = self.slots.take(most).context("cannot take a slot of this host")?;
        let ahead = if slots == 0 { 0 } else { self.ahead(slots) };
        let mut wanted = (slots + ahead).saturating_sub(active + queued);
        if let Some(limit) = self.tick.options.limit {
            wanted = wanted.min(usize::try_from(limit - self.started).unwrap_or(usize::MAX));
        }
        self.queue.permit(slots);
        if slots == 0 {
            // Other ticks have them all, and take on what is startable: no reason to wait here.
            self.may_claim = false;
            return Ok(());
        }
        if wanted > 0 {
            let got = self.claim_from_queues(wanted)?;
            // Nothing more until a duty, an end or a promotion says so.
            self.may_claim = got == wanted;
        }
        let (active, queued) = self.queue.load();
        self.slots.keep((active + queued).min(slots));
        self.queue.permit(self.slots.held());
        self.start_workers()
    }

    /// How many jobs the workers get through while the database is busy with a batch.
    fn ahead(&self, slots: usize) -> usize {
        let Some(pace) = self.pace else { return 0 };
        let jobs = AHEAD.as_nanos() * slots as u128 / pace.as_nanos().max(1);
        usize::try_from(jobs).unwrap_or(AHEAD_JOBS).min(AHEAD_JOBS)
    }

    fn claim_from_queues(&mut self, wanted: usize) -> Result<usize> {
        let config = Arc::clone(&self.tick.config);
        let mut got = 0;
        for queue in self.tick.options.queues.clone() {
            if got >= wanted {
                break;
            }
            let lease = config.runner.lease;
            let me = self.tick.me.clone();
            let request =
                ClaimRequest { queue: &queue, limit: wanted - got, owner: &me.owner, host: &me.host, lease };
            let asked = since_boot();
            let claims = match self.tick.store.claim(request, &|name| config.definition(name).is_some()) {
                Ok(claims) => claims,
                Err(err) => return self.after_failed_claim(err, asked).map(|found| got + found),
            };
            self.tick.complain(claims.undeclared);
            got += claims.jobs.len();
            let mut jobs = claims.jobs.into_iter();
            while let Some(job) = jobs.next() {
                let claim = (job.id, job.fence);
                if let Err(err) = self.begin(job, asked) {
                    let rest: Vec<(i64, i64)> =
                        std::iter::once(claim).chain(jobs.map(|job| (job.id, job.fence))).collect();
                    self.tick.store.hand_back(&me.owner, &rest).context("cannot hand jobs back")?;
                    return Err(err);
                }
            }
        }
        Ok(got)
    }

    /// The answer to the claim was lost: the database knows what was claimed.
    fn after_failed_claim(&mut self, err: StoreError, asked: Duration) -> Result<usize> {
        if !matches!(err, StoreError::Away(_) | StoreError::Conflict(_)) {
            return Err(err).context("cannot claim jobs");
        }
        let owner = self.tick.me.owner.clone();
        if let StoreError::Conflict(why) = &err {
            log::debug!("nothing claimed for now: {why}");
            return Ok(0);
        }
        let (held, asked) = {
            let mut asked = asked;
            let lease = self.tick.config.runner.lease;
            let held = self.patiently("claiming jobs", &err, |store| {
                let held = store.held_by(&owner)?;
                let ids: Vec<i64> = held.iter().map(|job| job.id).collect();
                asked = since_boot();
                if !ids.is_empty() {
                    store.renew(&owner, &ids, lease)?;
                }
                Ok(held)
            })?;
            (held, asked)
        };
        let mut found = 0;
        for job in held {
            // Not what this runner executes already, and not what it has given up.
            if !self.under_way.has(job.id, job.fence) && !self.lost.contains(&(job.id, job.fence)) {
                self.begin(job, asked)?;
                found += 1;
            }
        }
        Ok(found)
    }

    fn begin(&mut self, job: crate::store::Claimed, asked: Duration) -> Result<()> {
        let lease = self.tick.config.runner.lease;
        let held = self.under_way.add(job, asked, lease).context("cannot make a stop switch")?;
        self.started += 1;
        self.queue.push(held);
        Ok(())
    }

    fn start_workers(&mut self) -> Result<()> {
        while self.workers.len() < self.slots.held() {
            let (queue, bench, sender) =
                (Arc::clone(&self.queue), Arc::clone(&self.bench), self.sender.clone());
            let line = self.workers.len();
            let worker = std::thread::Builder::new().name(format!("worker-{line}")).spawn(move || {
                while let Some(held) = queue.next() {
                    let report = bench.execute(&held, line);
                    queue.done();
                    if sender.send(Event::Report(held, report)).is_err() {
                        return;
                    }
                }
            });
            self.workers.push(worker.context("cannot start a thread")?);
        }
        Ok(())
    }

    /// Takes in at least one event, unless it is time for something else.
    fn wait(&mut self, until: Instant) {
        let limit = until.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(limit) {
            Ok(event) => self.take_in(event),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
        while self.results.len() < BATCH
            && let Ok(event) = self.events.try_recv()
        {
            self.take_in(event);
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Report(held, Report::Ended(ended)) => {
                let ran = ended.ran;
                self.pace = Some(self.pace.map_or(ran, |pace| (pace * 7 + ran) / 8));
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
            Event::Signal(signal) => {
                let is_second = self.report.signal.is_some();
                log::info!("signal {signal}: stopping{}", if is_second { " at once" } else { "" });
                self.report.signal = self.report.signal.or(Some(signal));
                self.asked_to_stop_at = self.asked_to_stop_at.or(Some(Instant::now()));
                self.hand_back.extend(self.queue.take_back(Duration::ZERO));
                self.under_way.stop_all(StopReason::Interrupted, is_second);
            }
        }
        // A slot or a dependent is free now.
        self.may_claim = true;
    }

    /// Stops everything: this runner cannot work any more.
    fn give_up(&mut self, why: anyhow::Error) {
        self.hand_back.extend(self.queue.take_back(Duration::ZERO));
        self.under_way.stop_all(StopReason::Interrupted, false);
        if self.trouble.is_none() {
            self.trouble = Some(why);
        }
    }

    /// Writes all results there are, and gives back what was not begun.
    fn write_results(&mut self) {
        if !self.hand_back.is_empty() {
            let claims: Vec<(i64, i64)> =
                self.hand_back.drain(..).map(|held| (held.job.id, held.job.fence)).collect();
            let owner = self.tick.me.owner.clone();
            let mut handed = self.tick.store.hand_back(&owner, &claims);
            if let Err(err) = &handed {
                let first = StoreError::Away(err.to_string());
                if self
                    .patiently("handing jobs back", &first, |store| store.hand_back(&owner, &claims))
                    .is_ok()
                {
                    handed = Ok(());
                }
            }
            if let Err(err) = handed {
                log::warn!(
                    "{} claimed jobs could not be handed back and will be rescued: {err}",
                    claims.len()
                );
            }
            for (id, fence) in claims {
                self.under_way.remove(id, fence);
            }
        }
        while !self.results.is_empty() {
            let rest = self.results.split_off(self.results.len().min(BATCH));
            let batch = std::mem::replace(&mut self.results, rest);
            self.write_batch(&batch);
        }
    }

    fn write_batch(&mut self, batch: &[(Arc<Held>, Box<Ended>)]) {
        let config = Arc::clone(&self.tick.config);
        let me = self.tick.me.clone();
        let records = || -> Vec<AttemptEnd> {
            batch.iter().map(|(held, ended)| ended.record(&held.job, &config, &me)).collect()
        };
        let mut finished = self.tick.store.finish(&records());
        if let Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) = &finished {
            let first = StoreError::Away(err.to_string());
            finished = self
                .patiently("recording results", &first, |store| store.finish(&records()))
                .map_err(|err| StoreError::Away(err.to_string()));
        }
        match finished {
            Ok(finished) => {
                for (id, fence) in &finished.refused {
                    log::warn!("job {id}: the result of claim {fence} came too late and is dropped");
                }
                let moved: HashMap<i64, State> = finished.moved.into_iter().collect();
                for (held, ended) in batch {
                    self.tell(held, &ended.outcome, moved.get(&held.job.id).copied());
                }
            }
            Err(err) => {
                let count = batch.len();
                match kept::keep(&self.tick.folder, &me.owner, records()) {
                    Ok(()) => log::warn!("{count} results are kept in the state folder for the next tick"),
                    Err(lost) => {
                        log::error!("{count} results are lost, their jobs will be rescued: {lost:#}");
                    }
                }
                self.give_up(anyhow!(err).context("cannot record results"));
            }
        }
        for (held, _) in batch {
            self.under_way.remove(held.job.id, held.job.fence);
        }
    }

    fn tell(&mut self, held: &Held, outcome: &Outcome, state: Option<State>) {
        let job = &held.job;
        match state {
            Some(State::Failed) => {
                self.report.failed += 1;
                log::warn!(
                    "job {} ({}) failed: its attempt {} of {} {outcome}; `duly show {}` has its output",
                    job.id,
                    job.name,
                    job.attempt,
                    job.max_attempts,
                    job.id
                );
            }
            Some(state) => log::info!("job {} ({}) {outcome} and is {state}", job.id, job.name),
            None => {}
        }
    }

    /// Tries again, on a new connection each time, until the database answers or no claim can hold any more.
    fn patiently<T>(
        &mut self,
        what: &str,
        first: &StoreError,
        mut attempt: impl FnMut(&mut crate::store::Store) -> Result<T, StoreError>,
    ) -> Result<T> {
        log::warn!("{what}: {first}; waiting for the database");
        let (mut wait, began) = (Duration::from_millis(100), Instant::now());
        let mut last = first.to_string();
        loop {
            let is_hopeless = self.under_way.is_all_lost()
                || began.elapsed() > self.tick.config.runner.lease
                || self.asked_to_stop_at.is_some_and(|at| at.elapsed() > PATIENCE);
            if is_hopeless {
                return Err(anyhow!("{what}: {last}"));
            }
            // Ends and signals are taken in meanwhile.
            match self.events.recv_timeout(wait) {
                Ok(event) => self.take_in(event),
                Err(_) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
            match self.tick.store.reconnect().and_then(|()| attempt(&mut self.tick.store)) {
                Ok(value) => {
                    log::warn!("{what}: the database is back");
                    return Ok(value);
                }
                Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) => last = err.to_string(),
                Err(err) => return Err(err).context(what.to_owned()),
            }
        }
    }

    /// Once a second: what else has become startable, and what has waited too long for a worker.
    fn duties(&mut self) -> Result<()> {
        let waited = self.queue.take_back(UNBEGUN);
        if !waited.is_empty() {
            // Jobs take longer than they did: no more is claimed ahead until they are quick again.
            self.pace = Some(UNBEGUN);
            self.started = self.started.saturating_sub(waited.len() as u64);
            self.hand_back.extend(waited);
            self.write_results();
        }
        let (active, queued) = self.queue.load();
        self.slots.keep((active + queued).max(1));
        self.queue.permit(self.slots.held());
        if self.is_stopping() {
            return Ok(());
        }
        let (host, queues) = (self.tick.me.host.clone(), self.tick.options.queues.clone());
        let probe = match self.tick.store.probe(&host, &queues) {
            Ok(probe) => probe,
            Err(err @ StoreError::Away(_)) => {
                self.patiently("looking for work", &err, |store| store.probe(&host, &queues))?
            }
            Err(err) => {
                // What runs goes on; this is tried again in a second.
                log::info!("cannot look for work: {err}");
                return Ok(());
            }
        };
        self.may_claim |= self.tick.prepare(&probe, false);
        Ok(())
    }
}
