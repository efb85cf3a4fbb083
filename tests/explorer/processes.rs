//! A share of the same with real processes: `duly run` and its commands on SQLite, all under libfaketime with one offset, and
//! compared with the same reference.
//!
//! One tick lives at a time, unless the one before may begin nothing more. The clock goes on meanwhile, so a plan is made in
//! which nothing depends on less than half a minute, and each stretch between two leaps of the clock lasts from second 10 to
//! second 30 of a minute; a scenario that takes longer is begun again.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::compare::{How, difference, shown};
use super::cron::{MINUTE, Ms, SECOND};
use super::model::{Model, NAMES};
use super::plan::{Edit, Ending, Event, File, Plan, QUEUES, Scope, nth};
use super::world::{self, Found};
use super::yaml;
use crate::faults::forget_clocks;
use crate::support::{Backend, Running, Sandbox};

/// How long something may take to happen.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a stretch may take: from second 10 to second 30.
const STRETCH: Ms = 20 * SECOND;

/// Each job waits until it is told how to end.
const WORK: &str = "#!/bin/sh
unset LD_PRELOAD
until [ -f \"$1/go-$DULY_JOB_ID-$DULY_ATTEMPT\" ]; do sleep 0.05; done
. \"$1/go-$DULY_JOB_ID-$DULY_ATTEMPT\"
";

/// Why a scenario ended before its end.
pub(super) enum Stopped {
    Differs(String),
    TookTooLong,
}

struct Scenario {
    s: Sandbox,
    /// What the clock of all processes is ahead of the host's.
    ahead: Ms,
    /// The ticks that live, in the same order as in the reference.
    ticks: Vec<Running>,
    model: Model,
    first: Rc<File>,
    newest: Rc<File>,
}

/// The plan of a seed, in so far as real processes can carry it out.
pub(super) fn plan(seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    for def in &mut plan.file.defs {
        // Nothing by the second.
        def.schedule = def.schedule.map(|(expression, zone)| {
            (if expression == 1 || expression == 5 { 2 } else { expression }, zone)
        });
        def.deadline = def.deadline.map(|length| length.max(5 * MINUTE));
        def.backoff = if def.backoff.0 == 0 { (0, 1, 60) } else { (570, 1, 570) };
        if def.backoff.0 == 0 {
            def.max_attempts = def.max_attempts.min(3);
        }
    }
    plan.events = plan.events.into_iter().filter_map(feasible).take(16).collect();
    plan
}

fn feasible(event: Event) -> Option<Event> {
    match event {
        Event::Pass(by) => Some(Event::Pass((by / MINUTE).max(1) * MINUTE)),
        Event::Clock(by) if by >= 0 => Some(Event::Clock(by)),
        Event::Clock(_) | Event::OldTick(_) | Event::Duty(_) => None,
        Event::Change(Edit::Reschedule(job, to), _) => {
            Some(Event::Change(Edit::Reschedule(job, if to == 1 || to == 5 { 0 } else { to }), None))
        }
        Event::Change(edit, _) => Some(Event::Change(edit, None)),
        Event::Deploy(_) => Some(Event::Deploy(0)),
        Event::Tick(_) => Some(Event::Tick(0)),
        Event::End(number, Ending::TimedOut) => Some(Event::End(number, Ending::Exit(1))),
        other => Some(other),
    }
}

fn host_now() -> Ms {
    chrono::Utc::now().timestamp_millis()
}

/// Carries a plan out.
pub(super) fn run(plan: &Plan) -> Result<(), Stopped> {
    let s = Sandbox::new(Backend::Sqlite);
    s.file("work", WORK);
    assert!(s.duly(["migrate"]).output().status.success());
    let first = Rc::new(plan.file.clone());
    let mut scenario = Scenario {
        ahead: 0,
        ticks: Vec::new(),
        model: Model::new(plan.start, &first),
        newest: Rc::clone(&first),
        first,
        s,
    };
    scenario.place();
    scenario.leap(plan.start);
    let done = plan.events.iter().try_for_each(|event| scenario.happen(*event));
    for tick in scenario.ticks.drain(..) {
        tick.signal_if_alive(Signal::KILL);
    }
    forget_clocks();
    done
}

impl Scenario {
    fn place(&mut self) {
        self.model.place(0, &self.newest);
        let folder = self.s.path("");
        let head = format!("runner: {{concurrency: 3, state_dir: {}}}\n", self.s.state_dir().display());
        let command = format!(
            "['{}', '{}']",
            self.s.path("work").display(),
            folder.to_str().unwrap().trim_end_matches('/')
        );
        self.s.set_jobs(&yaml::text(&self.newest, &head, &command));
    }

    /// Lets the clock of all processes show second 10 of the minute of `to`.
    fn leap(&mut self, to: Ms) {
        let to = to.div_euclid(MINUTE) * MINUTE + 10 * SECOND;
        // Whole seconds, which is what the library takes.
        self.ahead = (to - host_now()).div_euclid(SECOND) * SECOND + SECOND;
        self.model.now = host_now() + self.ahead;
    }

    fn clock(&self) -> String {
        format!("{:+}", self.ahead / SECOND)
    }

    fn command(&self, words: &[&str]) {
        // It may be refused, as in the reference.
        self.s.duly(words).by_clock(&self.clock()).output();
    }

    fn happen(&mut self, event: Event) -> Result<(), Stopped> {
        self.model.now = host_now() + self.ahead;
        if self.model.now.rem_euclid(MINUTE) > 10 * SECOND + STRETCH {
            return Err(Stopped::TookTooLong);
        }
        self.begin(event);
        // What lives looks for work each second, and at once when something ends.
        for tick in 0..self.model.ticks.len() {
            self.model.duties(tick);
        }
        self.expect(event, How::There)?;
        for tick in 0..self.model.ticks.len() {
            let order = world::order(&self.jobs());
            let wanted = 3_usize.saturating_sub(self.model.ticks.iter().map(|tick| tick.held.len()).sum());
            self.model.claim(tick, wanted, &order);
        }
        self.expect(event, How::Late)?;
        self.await_ends(event)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
    fn begin(&mut self, event: Event) {
        let has_ticks = !self.model.ticks.is_empty();
        match event {
            Event::Pass(by) | Event::Clock(by) if !has_ticks => self.leap(self.model.now + by),
            Event::Change(edit, _) => {
                self.newest = Rc::new(self.newest.edited(edit, &self.first));
                self.place();
                if has_ticks {
                    // Until every tick has looked.
                    std::thread::sleep(Duration::from_millis(1600));
                }
            }
            Event::Deploy(_) => self.place(),
            Event::Tick(host) if (0..self.model.ticks.len()).all(|tick| self.model.is_outdated(tick)) => {
                self.model.begin(host, false);
                self.ticks.push(self.s.duly(["run"]).by_clock(&self.clock()).spawn());
            }
            Event::End(number, ending) => {
                if let Some((tick, held)) = nth(&self.held(), number) {
                    let job = &self.model.jobs[self.model.ticks[tick].held[held]];
                    let how = match ending {
                        Ending::Exit(code) => format!("exit {code}"),
                        Ending::Signal(signal) => format!("kill -{signal} $$"),
                        _ => "exit 0".to_owned(),
                    };
                    self.s.file(&format!("go-{}-{}", job.id, job.attempts), &how);
                    self.model.end(
                        tick,
                        held,
                        if ending == Ending::Cancelled { Ending::Success } else { ending },
                    );
                }
            }
            Event::Stop(number) | Event::Die(number) => {
                let ticks: Vec<usize> = (0..self.model.ticks.len()).collect();
                if let Some(tick) = nth(&ticks, number) {
                    let is_stop = matches!(event, Event::Stop(_));
                    if is_stop {
                        self.model.stop(tick);
                    } else {
                        // The next tick on this host finds what it had under way, and takes it back at once.
                        for job in self.model.ticks[tick].held.clone() {
                            self.model.jobs[job].lease = Ms::MIN / 2;
                        }
                    }
                    self.model.ticks.remove(tick);
                    self.ticks.remove(tick).signal_if_alive(if is_stop {
                        Signal::TERM
                    } else {
                        Signal::KILL
                    });
                }
            }
            Event::Pause(scope) => {
                self.model.pause(scope);
                self.pause("pause", scope);
            }
            Event::Resume(scope) => {
                self.model.resume(scope);
                self.pause("resume", scope);
            }
            Event::Cancel(number) => {
                if let Some(job) = nth(&self.model.jobs_that(|job| job.state.is_open()), number) {
                    self.model.cancel(job);
                    self.command(&["cancel", &self.model.jobs[job].id.to_string()]);
                    // Its runner stops it within a second or two.
                    let holds = |(tick, held): &(usize, usize)| self.model.ticks[*tick].held[*held] == job;
                    if let Some((tick, held)) = self.held().into_iter().find(holds) {
                        self.model.end(tick, held, Ending::Cancelled);
                    }
                }
            }
            Event::Retry(number) => {
                if let Some(job) = nth(&self.model.jobs_that(|job| !job.state.is_open()), number) {
                    self.model.retry(job);
                    self.command(&["retry", &self.model.jobs[job].id.to_string()]);
                }
            }
            Event::Start(number) => {
                let name = NAMES[number % NAMES.len()];
                self.model.start(name);
                self.command(&["start", name]);
            }
            Event::Pass(_) | Event::Clock(_) | Event::Tick(_) | Event::OldTick(_) | Event::Duty(_) => {}
        }
    }

    fn pause(&self, word: &str, scope: Scope) {
        match scope {
            Scope::Name(name) => self.command(&[word, NAMES[name]]),
            Scope::Queue(queue) => self.command(&[word, "--queue", QUEUES[queue]]),
        }
    }

    fn held(&self) -> Vec<(usize, usize)> {
        let of = |tick: usize| (0..self.model.ticks[tick].held.len()).map(move |held| (tick, held));
        (0..self.model.ticks.len()).flat_map(of).collect()
    }

    fn jobs(&self) -> Vec<Found> {
        let text = self.s.database().rows(world::JOBS).remove(0).remove(0);
        text.iter().flat_map(|text| text.lines()).map(world::found).collect()
    }

    /// Waits until the database is as the reference says, but for what a claim is going to change.
    fn expect(&mut self, event: Event, how: How) -> Result<(), Stopped> {
        let began = Instant::now();
        loop {
            let found = self.jobs();
            let Some(wrong) = difference(&mut self.model, &found, how) else { return Ok(()) };
            if began.elapsed() > PATIENCE {
                return Err(Stopped::Differs(format!("{event:?} at {}: {wrong}", shown(self.model.now))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A tick that executes nothing ends.
    fn await_ends(&mut self, event: Event) -> Result<(), Stopped> {
        for tick in (0..self.ticks.len()).rev() {
            if !self.model.ticks[tick].held.is_empty() {
                continue;
            }
            let began = Instant::now();
            while !self.ticks[tick].has_ended() {
                if began.elapsed() > PATIENCE {
                    let so_far = self.ticks[tick].stderr_so_far();
                    return Err(Stopped::Differs(format!(
                        "{event:?}: the tick does not end; it says {so_far}"
                    )));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(self.ticks.remove(tick));
            self.model.ticks.remove(tick);
        }
        Ok(())
    }
}
