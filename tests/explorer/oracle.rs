//! Has a plan happen to the program and to the reference at once, and compares them after each step.

use std::rc::Rc;

use super::cron::Ms;
use super::model::{Job, Model, NAMES, State};
use super::plan::{Event, File, Plan, QUEUES};
use super::world::{Found, World, order};

/// Jobs at once on a host.
const SLOTS: usize = 3;

struct Run<'a> {
    world: &'a mut World,
    model: Model,
    first: Rc<File>,
    newest: Rc<File>,
}

/// Carries a plan out; says after how many events, and how, the program was found to differ.
pub(super) fn explore(world: &mut World, plan: &Plan) -> Result<(), (usize, String)> {
    duly_test_clock::set(Some(plan.start));
    world.clear();
    let first = Rc::new(plan.file.clone());
    let model = Model::new(plan.start, &first);
    let mut run = Run { world, model, newest: Rc::clone(&first), first };
    run.place(None);
    let done = plan.events.iter().enumerate().try_for_each(|(at, event)| {
        run.happen(*event).map_err(|difference| (at, format!("{event:?} at {}: {difference}", shown(run.model.now))))
    });
    duly_test_clock::set(None);
    done
}

pub(super) fn shown(at: Ms) -> String {
    chrono::DateTime::from_timestamp_millis(at).map_or_else(String::new, |at| at.format("%m-%d %H:%M:%S").to_string())
}

fn nth<T: Copy>(of: &[T], number: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[number % of.len()])
}

impl Run<'_> {
    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Pass(by) => {
                self.set_clock(by);
                self.model.renew();
                self.world.renew();
                self.end_ticks();
            }
            Event::Clock(by) => self.set_clock(by),
            Event::Change(edit, host) => {
                self.newest = Rc::new(self.newest.edited(edit, &self.first));
                self.place(host);
            }
            Event::Deploy(host) => self.place(Some(host)),
            Event::Tick(host) => {
                self.model.begin(host);
                self.world.begin(host);
                return self.work(self.model.ticks.len() - 1, true);
            }
            Event::Duty(number) => {
                if let Some(tick) = nth(&self.ticks(), number) {
                    return self.work(tick, false);
                }
            }
            Event::End(number, ending) => {
                let held = |tick: usize| (0..self.model.ticks[tick].held.len()).map(move |held| (tick, held));
                let all: Vec<(usize, usize)> = self.ticks().into_iter().flat_map(held).collect();
                if let Some((tick, held)) = nth(&all, number) {
                    self.model.end(tick, held, ending);
                    self.world.end(tick, held, ending);
                    self.compare()?;
                    return self.claim(tick, true);
                }
            }
            Event::Stop(number) => {
                if let Some(tick) = nth(&self.ticks(), number) {
                    self.model.stop(tick);
                    self.world.stop(tick);
                    self.end_tick(tick);
                }
            }
            Event::Die(number) => {
                if let Some(tick) = nth(&self.ticks(), number) {
                    self.end_tick(tick);
                }
            }
            Event::Pause(scope) => {
                self.model.pauses.push(scope);
                self.world.pause(scope, true);
            }
            Event::Resume(scope) => {
                self.model.pauses.retain(|paused| *paused != scope);
                self.world.pause(scope, false);
            }
            Event::Cancel(number) => {
                if let Some(job) = nth(&self.jobs(|job| job.state.is_open()), number) {
                    self.model.cancel(job);
                    self.world.cancel(self.model.jobs[job].id);
                }
            }
            Event::Retry(number) => {
                if let Some(job) = nth(&self.jobs(|job| !job.state.is_open()), number) {
                    self.model.retry(job);
                    self.world.retry(self.model.jobs[job].id);
                }
            }
            Event::Start(number) => {
                let name = NAMES[number % NAMES.len()];
                self.model.start(name);
                self.world.start(name);
            }
        }
        self.compare()
    }

    fn ticks(&self) -> Vec<usize> {
        (0..self.model.ticks.len()).collect()
    }

    fn jobs(&self, are: impl Fn(&Job) -> bool) -> Vec<usize> {
        (0..self.model.jobs.len()).filter(|job| are(&self.model.jobs[*job])).collect()
    }

    fn set_clock(&mut self, by: Ms) {
        self.model.now += by;
        duly_test_clock::set(Some(self.model.now));
    }

    fn place(&mut self, host: Option<usize>) {
        for host in host.map_or_else(|| vec![0, 1], |host| vec![host]) {
            self.model.place(host, &self.newest);
            self.world.place(host, &self.newest);
        }
    }

    fn end_tick(&mut self, tick: usize) {
        self.model.ticks.remove(tick);
        self.world.end_tick(tick);
    }

    /// A tick that executes nothing ends.
    fn end_ticks(&mut self) {
        for tick in self.ticks().into_iter().rev() {
            if self.model.ticks[tick].held.is_empty() && self.world.ticks[tick].held.is_empty() {
                self.end_tick(tick);
            }
        }
    }

    fn work(&mut self, tick: usize, is_beginning: bool) -> Result<(), String> {
        self.model.duties(tick);
        let is_startable =
            self.world.ticks[tick].rehearsal.duties(is_beginning).map_err(|err| format!("{err:#}"))?;
        self.compare()?;
        self.claim(tick, is_startable)
    }

    fn claim(&mut self, tick: usize, is_startable: bool) -> Result<(), String> {
        let found = self.world.jobs();
        let host = self.model.ticks[tick].host;
        let on_host = self.model.ticks.iter().filter(|tick| tick.host == host);
        let wanted = SLOTS.saturating_sub(on_host.map(|tick| tick.held.len()).sum());
        let expected = self.model.claim(tick, wanted, &order(&found));
        let in_world = &mut self.world.ticks[tick];
        let claimed = if is_startable && wanted > 0 {
            in_world.rehearsal.claim(wanted).map_err(|err| format!("{err:#}"))?
        } else {
            Vec::new()
        };
        let ids: Vec<i64> = claimed.iter().map(|job| job.id).collect();
        in_world.held.extend(claimed);
        if ids != expected {
            return Err(format!(
                "begun were {ids:?}, expected {expected:?} (startable: {is_startable}); the jobs:\n{}",
                lines(&found)
            ));
        }
        self.compare()?;
        self.end_ticks();
        Ok(())
    }

    /// Finds each job of the reference again in the database, the nth of a name as the nth of that name.
    fn compare(&mut self) -> Result<(), String> {
        let found = self.world.jobs();
        let mut wrong = Vec::new();
        for name in NAMES {
            let mut theirs = found.iter().filter(|job| job.name == name);
            for job in self.model.jobs.iter_mut().filter(|job| job.name == name) {
                match theirs.next() {
                    None => wrong.push(format!("there is no {}", line(job))),
                    Some(found) => {
                        job.id = found.id;
                        if !is_like(job, found) {
                            wrong.push(format!("{}, expected {}", lines(std::slice::from_ref(found)).trim(), line(job)));
                        }
                    }
                }
            }
            wrong.extend(theirs.map(|more| format!("{}, expected none", lines(std::slice::from_ref(more)).trim())));
        }
        for (tick, in_world) in self.model.ticks.iter().zip(&self.world.ticks) {
            let expected: Vec<i64> = tick.held.iter().map(|job| self.model.jobs[*job].id).collect();
            let held: Vec<i64> = in_world.held.iter().map(|job| job.id).collect();
            if held != expected {
                wrong.push(format!("tick {} holds {held:?}, expected {expected:?}", tick.number));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong[..wrong.len().min(6)].join("\n    ")) }
    }
}

fn is_like(job: &Job, found: &Found) -> bool {
    let missed = found.reason.strip_prefix("skipped: ").and_then(|rest| rest.split_once(" missed")?.0.parse().ok());
    job.state.word() == found.state
        && job.at == found.at
        && job.attempts == found.attempts
        && QUEUES[job.queue] == found.queue
        && job.missed == missed
        && (job.state == State::Running) == found.is_held
        && (!job.state.is_open() || job.run_at == found.run_at)
}

fn line(job: &Job) -> String {
    let Job { id, name, state, attempts, missed, .. } = job;
    let at = job.at.map_or_else(String::new, |at| format!("@{}", shown(at)));
    let missed = missed.map_or_else(String::new, |missed| format!(", which tells of {missed} missed"));
    format!("job {id} {name}{at} {}, attempts {attempts}, run at {}{missed}", state.word(), shown(job.run_at))
}

fn lines(found: &[Found]) -> String {
    let line = |job: &Found| {
        let at = job.at.map_or_else(String::new, |at| format!("@{}", shown(at)));
        let Found { id, name, state, attempts, queue, order, reason, .. } = job;
        format!(
            "      job {id} {name}{at} {state}, attempts {attempts}, run at {}, {queue} {order} {reason}",
            shown(job.run_at)
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}
