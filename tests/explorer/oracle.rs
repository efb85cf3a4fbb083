//! Has a plan happen to the program and to the reference at once, and compares them after each step.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::compare::{self, How, lines, shown};
use super::cron::Ms;
use super::model::{Model, NAMES};
use super::plan::{Event, File, Plan, nth};
use super::world::{World, order};

/// Jobs at once on a host.
const SLOTS: usize = 3;

/// How often each rule has decided something.
pub(super) type Seen = BTreeMap<&'static str, u64>;

struct Run<'a> {
    world: &'a mut World,
    model: Model,
    first: Rc<File>,
    newest: Rc<File>,
}

/// Carries a plan out; says after how many events, and how, the program was found to differ.
pub(super) fn explore(world: &mut World, plan: &Plan, seen: &mut Seen) -> Result<(), (usize, String)> {
    duly_test_clock::set(Some(plan.start));
    world.clear();
    let first = Rc::new(plan.file.clone());
    let model = Model::new(plan.start, &first);
    let mut run = Run { world, model, newest: Rc::clone(&first), first };
    run.place(None);
    let done = plan.events.iter().enumerate().try_for_each(|(at, event)| {
        run.happen(*event)
            .map_err(|difference| (at, format!("{event:?} at {}: {difference}", shown(run.model.now))))
    });
    duly_test_clock::set(None);
    for (rule, count) in run.model.seen {
        *seen.entry(rule).or_default() += count;
    }
    done
}

impl Run<'_> {
    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
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
            Event::Tick(host) | Event::OldTick(host) => {
                let is_apart = matches!(event, Event::OldTick(_)) && self.model.before[host].1 > 0;
                self.model.begin(host, is_apart);
                self.world.begin(host, is_apart);
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
                self.model.pause(scope);
                self.world.pause(scope, true);
            }
            Event::Resume(scope) => {
                self.model.resume(scope);
                self.world.pause(scope, false);
            }
            Event::Cancel(number) => {
                if let Some(job) = nth(&self.model.jobs_that(|job| job.state.is_open()), number) {
                    self.model.cancel(job);
                    self.world.cancel(self.model.jobs[job].id);
                }
            }
            Event::Retry(number) => {
                if let Some(job) = nth(&self.model.jobs_that(|job| !job.state.is_open()), number) {
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
        // What it held under an older claim was lost.
        in_world.held.retain(|job| !ids.contains(&job.id));
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

    fn compare(&mut self) -> Result<(), String> {
        let found = self.world.jobs();
        let mut wrong: Vec<String> =
            compare::difference(&mut self.model, &found, How::Exact).into_iter().collect();
        for (tick, in_world) in self.model.ticks.iter().zip(&self.world.ticks) {
            let expected: Vec<i64> = tick.held.iter().map(|job| self.model.jobs[*job].id).collect();
            let held: Vec<i64> = in_world.held.iter().map(|job| job.id).collect();
            if held != expected {
                wrong.push(format!("tick {} holds {held:?}, expected {expected:?}", tick.number));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) }
    }
}
