//! The reference: `design.md`'s rules for occurrences, overlap, retries and limits, written apart from the program, in memory,
//! for one thing after the other. The half about schedules is in `model_schedules.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cron::{DAY, Ms, SECOND};
use super::known::{AGAIN_BY_HAND, ENDED_PAUSE, NEW_LIMIT, is_known};
use super::plan::{Ending, File, Scope};
use super::yaml;

/// How long a claim holds.
pub(super) const LEASE: Ms = 60 * SECOND;
/// How long after its end any tick may take a job back.
const SLACK: Ms = 10 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Waiting,
    Delayed,
    Pending,
    Running,
    Success,
    Failed,
    Cancelled,
    Stale,
}

impl State {
    pub(super) fn is_open(self) -> bool {
        self <= State::Running
    }

    pub(super) fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Which end of an earlier job a waiting one asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Success,
    Always,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    /// As the database numbers it, once that is known.
    pub(super) id: i64,
    pub(super) name: &'static str,
    /// Of an occurrence.
    pub(super) at: Option<Ms>,
    pub(super) state: State,
    pub(super) attempts: u32,
    pub(super) max_attempts: u32,
    pub(super) run_at: Ms,
    pub(super) queue: usize,
    pub(super) priority: i64,
    pub(super) is_unique: bool,
    pub(super) after: Vec<(usize, On)>,
    /// The tick that executes it.
    pub(super) owner: Option<usize>,
    pub(super) lease: Ms,
    pub(super) orphans: u32,
    /// Whether it was begun under a limit of its queue, and of its name.
    pub(super) is_counted: (bool, bool),
    pub(super) is_to_be_cancelled: bool,
    /// Of a row that tells of missed occurrences: how many.
    pub(super) missed: Option<usize>,
}

/// A tick that lives.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    /// Which one, of all there have been.
    pub(super) number: usize,
    pub(super) host: usize,
    /// The file it works by, and when that was put in place: a count of such events.
    pub(super) file: Rc<File>,
    pub(super) since: usize,
    pub(super) held: Vec<usize>,
    pub(super) is_outdated: bool,
    /// Whether it works by a file of its own, as one in a container on its way out does.
    pub(super) is_apart: bool,
}

/// What the database knows of a scheduled name.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) schedule: (usize, usize),
    pub(super) mark: Ms,
    /// Which file has started it.
    pub(super) since: usize,
    /// When the next look was put off to.
    pub(super) look: Option<Ms>,
    /// The job that was made last.
    pub(super) last: Option<usize>,
}

/// What it knows of a host that ticks.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) ticked: Ms,
    pub(super) since: usize,
    pub(super) schedules: Vec<(&'static str, (usize, usize))>,
    pub(super) queues: Vec<usize>,
    /// The names that it declares, and whether each is never begun twice.
    pub(super) defs: Vec<(&'static str, bool)>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: Ms,
    pub(super) jobs: Vec<Job>,
    pub(super) rows: BTreeMap<&'static str, Row>,
    pub(super) hosts: BTreeMap<usize, Host>,
    /// Occurrences that have been made or skipped.
    pub(super) taken: BTreeSet<(&'static str, Ms)>,
    /// With when each was ended, where it was.
    pub(super) pauses: Vec<(Scope, Option<Ms>)>,
    pub(super) ticks: Vec<Tick>,
    pub(super) ticks_begun: usize,
    /// What lies on each host: the file and since when.
    pub(super) files: Vec<(Rc<File>, usize)>,
    /// What lay there before.
    pub(super) before: Vec<(Rc<File>, usize)>,
    pub(super) files_placed: usize,
    /// Jobs that a pass over their name does not see.
    pub(super) unseen: Vec<usize>,
    /// Jobs that have given way, and what depends on them has not yet.
    pub(super) giving_way: Vec<usize>,
    /// Which rules have decided something.
    pub(super) seen: BTreeMap<&'static str, u64>,
}

/// The names that files may declare, by number.
pub(super) const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Model {
    pub(super) fn new(now: Ms, file: &Rc<File>) -> Model {
        let files = vec![(Rc::clone(file), 0); 2];
        Model { now, before: files.clone(), files, ..Model::default() }
    }

    pub(super) fn pause(&mut self, scope: Scope) {
        self.pauses.retain(|(paused, _)| *paused != scope);
        self.pauses.push((scope, None));
    }

    pub(super) fn resume(&mut self, scope: Scope) {
        let now = self.now;
        if !is_known(ENDED_PAUSE) {
            self.pauses.retain(|(paused, _)| *paused != scope);
        }
        let lasts = |ended: Option<Ms>| ended.is_none_or(|at| at > now);
        let all = self.pauses.iter_mut();
        all.filter(|(paused, ended)| *paused == scope && lasts(*ended))
            .for_each(|(_, ended)| *ended = Some(now));
    }

    pub(super) fn jobs_that(&self, are: impl Fn(&Job) -> bool) -> Vec<usize> {
        (0..self.jobs.len()).filter(|job| are(&self.jobs[*job])).collect()
    }

    pub(super) fn place(&mut self, host: usize, file: &Rc<File>) {
        self.files_placed += 1;
        let placed = (Rc::clone(file), self.files_placed);
        self.before[host] = std::mem::replace(&mut self.files[host], placed);
    }

    pub(super) fn see(&mut self, rule: &'static str) {
        *self.seen.entry(rule).or_default() += 1;
    }

    pub(super) fn begin(&mut self, host: usize, is_apart: bool) {
        // A link to a release is younger than the file in it.
        let (file, since) = match is_apart {
            true => (Rc::clone(&self.before[host].0), 2 * self.before[host].1),
            false => (Rc::clone(&self.files[host].0), 2 * self.files[host].1 + 1),
        };
        let number = self.ticks_begun;
        self.ticks_begun += 1;
        self.ticks.push(Tick { number, host, file, since, held: Vec::new(), is_outdated: false, is_apart });
    }

    /// Whether a tick may begin nothing more, since another text has come to lie where it read its own.
    pub(super) fn is_outdated(&mut self, tick: usize) -> bool {
        let tick = &mut self.ticks[tick];
        let text = |file: &Rc<File>| yaml::text(file, "", "");
        let found = &self.files[tick.host].0;
        tick.is_outdated |=
            !tick.is_apart && !Rc::ptr_eq(found, &tick.file) && text(found) != text(&tick.file);
        tick.is_outdated
    }

    /// What a tick does before it claims.
    pub(super) fn duties(&mut self, tick: usize) {
        if self.is_outdated(tick) {
            self.see("a tick by a file that has changed begins nothing");
            return;
        }
        self.attend(tick);
        self.rescue(tick);
        self.make_due(tick);
        for job in &mut self.jobs {
            if job.state == State::Delayed && job.run_at <= self.now {
                job.state = State::Pending;
            }
        }
    }

    fn rescue(&mut self, tick: usize) {
        let (file, me) = (Rc::clone(&self.ticks[tick].file), self.ticks[tick].number);
        for job in 0..self.jobs.len() {
            let Job { state, lease, owner, name, .. } = self.jobs[job];
            let is_over = state == State::Running && lease + SLACK < self.now;
            if is_over && owner == Some(me) {
                self.see("a runner does not rescue its own");
            } else if is_over {
                self.jobs[job].orphans += 1;
                let end = match file.def(name) {
                    Some(def) => self.after_orphan(job, def.is_stale_when_orphaned, def.backoff),
                    None => {
                        let may_begin = self.is_begun_again_elsewhere(name);
                        self.see(if may_begin {
                            "another host declares an orphan"
                        } else {
                            "nobody declares an orphan"
                        });
                        self.after_orphan(job, !may_begin, (5, 5, 3600))
                    }
                };
                self.settle_attempt(job, end);
            }
        }
    }

    /// Whether hosts that ticked within a day declare it, and each lets it be begun again.
    fn is_begun_again_elsewhere(&self, name: &str) -> bool {
        let known = self.hosts.values().filter(|host| self.now - host.ticked <= DAY);
        let mut stale = known
            .flat_map(|host| &host.defs)
            .filter(|(def, _)| *def == name)
            .map(|(_, stale)| *stale)
            .peekable();
        stale.peek().is_some() && !stale.any(|stale| stale)
    }

    /// Whether one of the pauses holds this back.
    pub(super) fn is_paused(&self, name: &str, queue: usize) -> bool {
        let lasts = |ended: &Option<Ms>| ended.is_none_or(|at| at > self.now);
        self.pauses.iter().filter(|(_, ended)| lasts(ended)).any(|(pause, _)| match pause {
            Scope::Name(paused) => NAMES[*paused] == name,
            Scope::Queue(paused) => *paused == queue,
        })
    }

    /// Claims up to `wanted` jobs; `order` is where a job stands in its queue by priority, which age improves.
    pub(super) fn claim(&mut self, tick: usize, wanted: usize, order: &BTreeMap<i64, i64>) -> Vec<i64> {
        if self.is_outdated(tick) {
            return Vec::new();
        }
        let file = Rc::clone(&self.ticks[tick].file);
        let mut claimed = Vec::new();
        for queue in file.queues() {
            let mut line: Vec<usize> = (0..self.jobs.len())
                .filter(|job| self.jobs[*job].state == State::Pending && self.jobs[*job].queue == queue)
                .collect();
            line.sort_by_key(|job| {
                let job = &self.jobs[*job];
                (order.get(&job.id).copied(), job.run_at, job.id)
            });
            for job in line {
                let name = self.jobs[job].name;
                let Some(def) = file.def(name) else { continue };
                let running = |is: &dyn Fn(&Job) -> bool| {
                    self.jobs.iter().filter(|job| job.state == State::Running && is(job)).count()
                };
                let is_full = |limit: Option<u32>, is: &dyn Fn(&Job) -> bool| {
                    limit.is_some_and(|limit| running(is) >= usize::try_from(limit).unwrap())
                };
                let why_not = if claimed.len() == wanted {
                    Some("no slot")
                } else if self.is_paused(name, queue) {
                    Some("a pause")
                } else if is_full(file.limits[queue], &|job| {
                    job.queue == queue && (job.is_counted.0 || !is_known(NEW_LIMIT))
                }) {
                    Some("the limit of a queue")
                } else if is_full(def.concurrency, &|job| {
                    job.name == name && (job.is_counted.1 || !is_known(NEW_LIMIT))
                }) {
                    Some("the limit of a name")
                } else {
                    None
                };
                if let Some(why) = why_not {
                    self.see(why);
                    continue;
                }
                let number = self.ticks[tick].number;
                let taken = &mut self.jobs[job];
                taken.state = State::Running;
                taken.attempts += 1;
                taken.is_counted = (file.limits[queue].is_some(), def.concurrency.is_some());
                taken.owner = Some(number);
                taken.lease = self.now + LEASE;
                claimed.push(taken.id);
                // What it held under an older claim was lost.
                self.ticks[tick].held.retain(|held| *held != job);
                self.ticks[tick].held.push(job);
            }
        }
        claimed
    }

    /// Renews the leases of all ticks; each forgets what it no longer holds.
    pub(super) fn renew(&mut self) {
        for tick in &mut self.ticks {
            tick.held.retain(|job| self.jobs[*job].owner == Some(tick.number));
            for job in &tick.held {
                self.jobs[*job].lease = self.now + LEASE;
            }
        }
    }

    /// A command has ended: what that means for its job.
    pub(super) fn end(&mut self, tick: usize, held: usize, ending: Ending) {
        let job = self.ticks[tick].held.remove(held);
        let (number, file) = (self.ticks[tick].number, Rc::clone(&self.ticks[tick].file));
        if self.jobs[job].owner != Some(number) {
            return;
        }
        let permanent = file.def(self.jobs[job].name).and_then(|def| def.permanent);
        let end = match ending {
            Ending::Success => After::End(State::Success),
            Ending::Cancelled if self.jobs[job].is_to_be_cancelled => After::End(State::Cancelled),
            Ending::Cancelled => After::End(State::Success),
            Ending::Exit(code) if permanent == Some(code) => {
                self.see("a permanent exit code");
                After::End(State::Failed)
            }
            Ending::Signal(signal) if permanent == Some(128 + signal) => {
                self.see("a permanent signal");
                After::End(State::Failed)
            }
            Ending::Exit(_) | Ending::Signal(_) | Ending::TimedOut => {
                let def = file.def(self.jobs[job].name).unwrap();
                self.again_after(job, self.jobs[job].attempts, def.backoff)
            }
        };
        self.settle_attempt(job, end);
    }

    /// A runner that is told to stop stops what it executes; that does not count as an attempt.
    pub(super) fn stop(&mut self, tick: usize) {
        let tick = self.ticks[tick].clone();
        for job in tick.held {
            if self.jobs[job].owner == Some(tick.number) {
                let def = tick.file.def(self.jobs[job].name);
                let is_stale = def.is_some_and(|def| def.is_stale_when_orphaned);
                self.see(if is_stale { "interrupted and stale" } else { "interrupted" });
                self.jobs[job].attempts -= u32::from(!is_stale);
                self.settle_attempt(job, if is_stale { After::End(State::Stale) } else { After::Wait(0) });
            }
        }
    }

    fn after_orphan(&mut self, job: usize, is_stale: bool, backoff: (Ms, Ms, Ms)) -> After {
        let Job { orphans, attempts, max_attempts, .. } = self.jobs[job];
        if is_stale {
            self.see("orphaned and stale");
            After::End(State::Stale)
        } else if attempts < max_attempts && orphans == 1 {
            self.see("the first orphan at once");
            After::Wait(0)
        } else {
            self.see("a later orphan, or the last attempt");
            self.again_after(job, orphans.saturating_sub(1), backoff)
        }
    }

    /// Another attempt, after the wait that follows on the `nth`, if there may be one.
    fn again_after(&mut self, job: usize, nth: u32, backoff: (Ms, Ms, Ms)) -> After {
        let Job { attempts, max_attempts, .. } = self.jobs[job];
        if attempts >= max_attempts {
            self.see("no attempt left");
            return After::End(State::Failed);
        }
        let (initial, factor, max) = backoff;
        let mut wait = initial.min(max);
        for _ in 1..nth {
            wait = (wait * factor).min(max);
        }
        self.see(if wait > 0 { "a back-off" } else { "no back-off" });
        if nth >= 4 && wait == 0 {
            self.see("at least a second");
            wait = 1;
        }
        After::Wait(wait * SECOND)
    }

    fn settle_attempt(&mut self, job: usize, after: After) {
        let now = self.now;
        let ended = &mut self.jobs[job];
        ended.owner = None;
        let after = match after {
            other if !ended.is_to_be_cancelled => other,
            After::Wait(_) => {
                self.see("cancelled instead of again");
                After::End(State::Cancelled)
            }
            After::End(_) => After::End(State::Cancelled),
        };
        let ended = &mut self.jobs[job];
        match after {
            After::Wait(wait) => {
                ended.state = if wait == 0 { State::Pending } else { State::Delayed };
                ended.run_at = now + wait;
            }
            After::End(state) => self.move_to_end(job, state),
        }
    }

    /// A job ends, and with it the waiting of those that wait for it.
    pub(super) fn move_to_end(&mut self, job: usize, state: State) {
        self.jobs[job].state = state;
        let waits =
            |other: &Job| other.state == State::Waiting && other.after.iter().any(|(of, _)| *of == job);
        let waiting: Vec<usize> = (0..self.jobs.len()).filter(|other| waits(&self.jobs[*other])).collect();
        for other in waiting {
            self.look_at_waiting(other);
        }
    }

    pub(super) fn look_at_waiting(&mut self, job: usize) {
        let prerequisites: Vec<(State, On)> =
            self.jobs[job].after.iter().map(|(of, on)| (self.jobs[*of].state, *on)).collect();
        let is_missed =
            |(state, on): &(State, On)| !state.is_open() && *on == On::Success && *state != State::Success;
        if self.jobs[job].state != State::Waiting {
            return;
        }
        if prerequisites.iter().any(is_missed) {
            self.see("a dependent is cancelled");
            self.move_to_end(job, State::Cancelled);
        } else if prerequisites.iter().all(|(state, _)| !state.is_open()) {
            self.see("a waiting job starts");
            let is_early = self.jobs[job].run_at > self.now;
            self.jobs[job].state = if is_early { State::Delayed } else { State::Pending };
        }
    }

    /// What waits for a job of its schedule waits for what that waits for.
    fn close_the_gap(&mut self, gone: usize) {
        let (before, name) = (self.jobs[gone].after.clone(), self.jobs[gone].name);
        let is_alike = |job: &Job| job.name == name && job.at.is_some();
        let before: Vec<(usize, On)> =
            before.into_iter().filter(|(of, _)| is_alike(&self.jobs[*of])).collect();
        for job in
            self.jobs.iter_mut().filter(|job| is_alike(job) && job.after.iter().any(|(of, _)| *of == gone))
        {
            job.after.extend(before.clone());
        }
    }

    pub(super) fn cancel(&mut self, job: usize) {
        match self.jobs[job].state {
            State::Running => self.jobs[job].is_to_be_cancelled = true,
            state if state.is_open() => {
                if state == State::Waiting && is_known(AGAIN_BY_HAND) {
                    self.close_the_gap(job);
                }
                self.move_to_end(job, State::Cancelled);
            }
            _ => {}
        }
    }
}

/// What becomes of a job after an attempt.
#[derive(Debug, Clone, Copy)]
enum After {
    End(State),
    Wait(Ms),
}
