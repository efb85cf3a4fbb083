//! The part of a drain that claims: for the slots that are free, and ahead of the workers where jobs are short.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::drain::{Drain, Event};
use super::worker::{Ended, Report};
use crate::job::{Outcome, is_hook, parse_params};
use crate::process::clock::since_boot;
use crate::process::execute::no_room;
use crate::process::state_dir::ensure;
use crate::store::{ClaimRequest, Claimed, Limits, StoreError};

/// Whether it has nothing to do with the row that was asked for.
const fn is_passing(err: &StoreError) -> bool {
    matches!(err, StoreError::Away(_) | StoreError::Conflict(_) | StoreError::Full(_))
}

impl Drain {
    /// Claims for the slots that are free, and ahead of the workers where jobs are short.
    pub(super) fn claim(&mut self) -> Result<()> {
        let (active, queued) = self.queue.load();
        let most =
            self.tick.options.concurrency.unwrap_or(usize::MAX).min(self.tick.config.runner.concurrency);
        let ahead = self.pace.ahead(most);
        if queued > ahead / 2 || (queued > 0 && ahead == 0) || active + queued >= most + ahead {
            return Ok(());
        }
        // Whoever has removed the folder has not stopped what runs.
        let taken = ensure(&self.tick.folder).and_then(|()| self.slots.take(most));
        match taken {
            // A host that has no room for more files goes on with fewer commands, which take more of them than a slot.
            Err(err) if self.slots.held() > active + queued => {
                self.slots.keep((self.slots.held() / 6).max(active + queued).max(1));
                log::info!("only {} slots of this host can be used: {err}", self.slots.held());
            }
            taken => taken.map(drop).context("cannot take a slot of this host")?,
        }
        let slots = self.slots.held();
        let ahead = if slots == 0 { 0 } else { self.pace.ahead(slots) };
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
        if wanted > 0 && self.tick.is_outdated() {
            self.hand_back.extend(self.queue.take_back(Duration::ZERO));
            self.listers.stop_all(false);
        } else if wanted > 0 {
            let begun = Instant::now();
            let got = self.claim_from_queues(wanted)?;
            self.pace.claim_took(begun.elapsed());
            // Nothing more until a duty, an end or a promotion says so.
            self.may_claim = got == wanted;
        }
        let (active, queued) = self.queue.load();
        self.slots.keep((active + queued).min(slots));
        self.queue.permit(self.slots.held());
        self.start_workers();
        Ok(())
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
            let limit_of = |name: &str| config.definition(name).and_then(|definition| definition.concurrency);
            let limits = Limits { queue: config.queue_limits.get(&queue).copied(), name: &limit_of };
            let is_declared = |name: &str| config.definition(name).is_some();
            let claims = match self.tick.store.claim(request, limits, &is_declared) {
                Ok(claims) => claims,
                Err(err) => return self.after_failed_claim(err, asked).map(|found| got + found),
            };
            self.tick.complain(claims.undeclared);
            if let Some((id, fence)) = self.take_note(&claims.jobs) {
                self.may_claim = false;
                self.trouble = self.trouble.take().or_else(|| Some(anyhow!(
                    "the database gave job {id} out twice under fence {fence}: what answers there keeps no claims; look for a \
                     trigger on duly_job, or a proxy that answers what reads from another server"
                )));
                return Ok(got);
            }
            for job in claims.jobs {
                got += usize::from(self.begin(job, asked));
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
                found += usize::from(self.begin(job, asked));
            }
        }
        Ok(found)
    }

    /// Remembers what was claimed; returns what this runner had claimed before, which cannot be.
    fn take_note(&mut self, jobs: &[Claimed]) -> Option<(i64, i64)> {
        let claims: Vec<(i64, i64)> = jobs.iter().map(|job| (job.id, job.fence)).collect();
        let again = claims.iter().find(|claim| self.claimed.contains(claim)).copied();
        self.claimed = claims;
        again
    }

    /// Takes a job in that was claimed; whether this host has room for it, without which it goes back.
    fn begin(&mut self, job: Claimed, asked: Duration) -> bool {
        let lease = self.tick.config.runner.lease;
        let input = if is_hook(&job.name) { self.told_to_hook(&job) } else { Ok(None) };
        let (input, trouble) = match input {
            Ok(input) => (input, None),
            Err(err) => (None, Some(err)),
        };
        let claim = (job.id, job.fence);
        let held = match self.under_way.add(job, input, asked, lease) {
            Ok(held) => held,
            Err(err) => {
                self.hand_back_claims(&[claim]);
                // What runs makes room by its end; where nothing does, this host can do nothing for now.
                if self.under_way.len() == 0 {
                    self.trouble = self.trouble.take().or_else(|| Some(anyhow!(no_room(&err))));
                }
                return false;
            }
        };
        self.started += 1;
        match trouble {
            None => self.queue.push(held),
            // What it is to be told may be had later, unless it is the row itself that cannot be read.
            Some(err) if is_passing(&err) => {
                self.hand_back.push(held);
                self.set_back(anyhow!(err).context("cannot read the job of a hook"));
            }
            Some(err) => {
                let why = format!("the job that it is about cannot be read: {err}");
                self.results.push((held, Box::new(Ended::without_process(Outcome::NotStarted(why)))));
            }
        }
        true
    }

    /// The job that a hook is about, as JSON.
    fn told_to_hook(&mut self, hook: &Claimed) -> Result<Option<String>, StoreError> {
        let id = parse_params(&hook.params).ok().and_then(|params| params.first()?.parse().ok());
        let Some(id) = id else { return Ok(None) };
        let job = match self.tick.store.job(id) {
            Err(err) if is_passing(&err) => {
                self.patiently("reading the job of a hook", &err, |store| store.job(id))
            }
            done => done,
        };
        Ok(job?.map(|job| format!("{}\n", job.to_json())))
    }

    fn start_workers(&mut self) {
        while self.workers.len() < self.slots.held() {
            let (queue, bench, sender) =
                (Arc::clone(&self.queue), Arc::clone(&self.bench), self.sender.clone());
            let line = self.workers.len();
            let worker = std::thread::Builder::new().name(format!("worker-{line}")).spawn(move || {
                while let Some(held) = queue.next() {
                    // What was claimed by an older jobs.yaml is not begun by it.
                    let report = if bench.config.stamp.is_current() {
                        bench.execute(&held, line)
                    } else {
                        Report::NotBegun(None)
                    };
                    queue.done();
                    if sender.send(Event::Report(held, report)).is_err() {
                        return;
                    }
                }
            });
            match worker {
                Ok(worker) => self.workers.push(worker),
                // What does not get to its turn for that goes back.
                Err(err) if !self.workers.is_empty() => {
                    log::info!("no more than {} commands run at once: {}", self.workers.len(), no_room(&err));
                    break;
                }
                Err(err) => {
                    self.trouble = self.trouble.take().or_else(|| Some(anyhow!(no_room(&err))));
                    self.hand_back.extend(self.queue.take_back(Duration::ZERO));
                    break;
                }
            }
        }
    }
}
