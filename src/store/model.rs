//! A model of what this folder does to a job that two runners may execute, and a search through all that can happen to it.
//!
//! One step of the model is one transaction (claim, renew, finish, rescue, cancel), one step of the world (time passes, a
//! command ends, a runner dies, freezes, thaws, is started again) or a lost answer. Time is counted in thirds of a lease. The
//! search visits every state that can be reached, so what it asserts holds for each order of steps, within these bounds: two
//! attempts at most, and a few faults of each kind. Each rule can be left out (`Flaw`): the search must then find what it is for.
//!
//! The search is our own since it asserts that from every state the job can still come to an end, which explorers that follow
//! single paths do not tell where paths go in circles.

use std::collections::{HashMap, HashSet};

/// Attempts that the job may have.
const MOST: u8 = 2;
/// A lease.
const LEASE: u8 = 3;
/// How long after its end a job is taken back.
const GRACE: u8 = 1;
/// How long before its end an execution stops by itself.
const MARGIN: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Pending,
    Running,
    Success,
    Failed,
    Cancelled,
    Stale,
}

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A result is written whatever the fence.
    NoFence,
    /// A result is written whatever the owner and the state.
    NoGuard,
    /// An execution goes on past what its runner can prove.
    NoSelfStop,
    /// An attempt is counted at its end.
    CountedAtTheEnd,
    /// Nobody takes jobs back.
    NoRescue,
    /// A job is taken back before its lease ends.
    RescueTooSoon,
    /// A result whose answer was lost is not recognised.
    WrittenTwice,
}

/// Who claimed: a runner and its life.
type Owner = (u8, u8);

/// What a row of `duly_job` says, and how often a success was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Job {
    state: State,
    fence: u8,
    attempts: u8,
    owner: Option<Owner>,
    /// Until its end, in the time of the database.
    lease: u8,
    /// Until it may be taken back.
    rescue: u8,
    is_cancel_asked: bool,
    /// Executions that began, of attempts that count.
    begun: u8,
    accepted: u8,
}

/// What a runner believes to hold, and the process that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hold {
    fence: u8,
    /// How long the execution trusts in its lease.
    trusted: u8,
    is_executing: bool,
    result: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ended {
    Well,
    Badly,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Runner {
    life: u8,
    is_alive: bool,
    is_frozen: bool,
    /// The answer to its claim, or to its result, has not come.
    is_unsure: bool,
    hold: Option<Hold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    job: Job,
    runners: [Runner; 2],
    crashes: u8,
    freezes: u8,
    losses: u8,
    /// What was found to be wrong by the step that led here.
    wrong: Option<&'static str>,
}

impl World {
    fn new() -> World {
        let job = Job {
            state: State::Pending,
            fence: 0,
            attempts: 0,
            owner: None,
            lease: 0,
            rescue: 0,
            is_cancel_asked: false,
            begun: 0,
            accepted: 0,
        };
        let runner = Runner { life: 0, is_alive: true, is_frozen: false, is_unsure: false, hold: None };
        World { job, runners: [runner; 2], crashes: 2, freezes: 1, losses: 1, wrong: None }
    }

    fn owner(&self, r: usize) -> Owner {
        (u8::from(r == 1), self.runners[r].life)
    }

    fn is_awake(&self, r: usize) -> bool {
        self.runners[r].is_alive && !self.runners[r].is_frozen
    }

    fn is_over(&self) -> bool {
        !matches!(self.job.state, State::Pending | State::Running)
    }

    /// Every state that one step leads to.
    fn steps(&self, flaw: Flaw, on_orphan_stale: bool) -> Vec<World> {
        let mut next = Vec::new();
        self.passing(flaw, &mut next);
        self.cancel(&mut next);
        for r in 0..2 {
            self.faults(r, &mut next);
            self.command(r, &mut next);
            if self.is_awake(r) {
                self.claim(r, flaw, &mut next);
                self.heartbeat(r, &mut next);
                self.finish(r, flaw, &mut next);
                self.rescue(r, flaw, on_orphan_stale, &mut next);
            }
        }
        for world in &mut next {
            world.check(self);
        }
        next
    }

    /// A third of a lease, for everybody. An execution that is past what it can prove has stopped by itself before.
    fn passing(&self, flaw: Flaw, next: &mut Vec<World>) {
        let mut world = *self;
        let job = &mut world.job;
        (job.lease, job.rescue) = (job.lease.saturating_sub(1), job.rescue.saturating_sub(1));
        for r in 0..2 {
            let is_awake = self.is_awake(r);
            let runner = &mut world.runners[r];
            if let Some(hold) = &mut runner.hold {
                hold.trusted = hold.trusted.saturating_sub(1);
                if hold.trusted == 0 && hold.is_executing && is_awake && flaw != Flaw::NoSelfStop {
                    runner.hold = None;
                }
            }
        }
        next.push(world);
    }

    fn cancel(&self, next: &mut Vec<World>) {
        let mut world = *self;
        match self.job.state {
            State::Pending => world.job.state = State::Cancelled,
            State::Running => world.job.is_cancel_asked = true,
            _ => return,
        }
        next.push(world);
    }

    fn faults(&self, r: usize, next: &mut Vec<World>) {
        let mut push = |change: &dyn Fn(&mut World)| {
            let mut world = *self;
            change(&mut world);
            next.push(world);
        };
        let runner = self.runners[r];
        if runner.is_alive && self.crashes > 0 {
            push(&|world| {
                world.crashes -= 1;
                (world.runners[r].is_alive, world.runners[r].is_frozen) = (false, false);
            });
        }
        if self.is_awake(r) && self.freezes > 0 {
            push(&|world| {
                world.freezes -= 1;
                world.runners[r].is_frozen = true;
            });
        }
        if runner.is_frozen {
            push(&|world| {
                let runner = &mut world.runners[r];
                runner.is_frozen = false;
                // The first thing that an execution does when it runs again is to look at the clock.
                if runner.hold.is_some_and(|hold| hold.is_executing && hold.trusted == 0) {
                    runner.hold = None;
                }
            });
        }
        if !runner.is_alive {
            // Another process; what the old one started is ended first, or is on a host that is gone.
            push(&|world| {
                let life = runner.life + 1;
                world.runners[r] =
                    Runner { life, is_alive: true, is_frozen: false, is_unsure: false, hold: None };
            });
        }
    }

    /// The command ends, whatever has become of its runner.
    fn command(&self, r: usize, next: &mut Vec<World>) {
        let Some(hold) = self.runners[r].hold.filter(|hold| hold.is_executing) else { return };
        for result in [Ended::Well, Ended::Badly] {
            let mut world = *self;
            world.runners[r].hold = Some(Hold { is_executing: false, result: Some(result), ..hold });
            next.push(world);
        }
    }

    /// `Store::claim`; where the answer is lost, `Store::held_by` tells later.
    fn claim(&self, r: usize, flaw: Flaw, next: &mut Vec<World>) {
        let runner = self.runners[r];
        if runner.is_unsure && runner.hold.is_none() {
            let mut world = *self;
            world.runners[r].is_unsure = false;
            let is_held = self.job.state == State::Running && self.job.owner == Some(self.owner(r));
            if is_held {
                world.begin(r);
                (world.job.lease, world.job.rescue) = (LEASE, LEASE + GRACE);
            }
            next.push(world);
            return;
        }
        if runner.hold.is_some() || self.job.state != State::Pending {
            return;
        }
        let mut world = *self;
        let job = &mut world.job;
        (job.state, job.fence, job.owner) = (State::Running, job.fence + 1, Some(self.owner(r)));
        (job.lease, job.rescue) = (LEASE, LEASE + GRACE);
        job.attempts += u8::from(flaw != Flaw::CountedAtTheEnd);
        if self.losses > 0 {
            let mut lost = world;
            lost.losses -= 1;
            lost.runners[r].is_unsure = true;
            next.push(lost);
        }
        world.begin(r);
        next.push(world);
    }

    fn begin(&mut self, r: usize) {
        self.job.begun += 1;
        let hold = Hold { fence: self.job.fence, trusted: LEASE - MARGIN, is_executing: true, result: None };
        self.runners[r].hold = Some(hold);
    }

    /// `Store::renew`, and `Store::held`, by which only an execution that still holds its claim is trusted for longer.
    fn heartbeat(&self, r: usize, next: &mut Vec<World>) {
        let is_held = self.job.state == State::Running && self.job.owner == Some(self.owner(r));
        let Some(hold) = self.runners[r].hold.filter(|hold| hold.is_executing) else { return };
        let mut world = *self;
        if is_held && self.job.fence == hold.fence {
            (world.job.lease, world.job.rescue) = (LEASE, LEASE + GRACE);
            let renewed = Hold { trusted: LEASE - MARGIN, ..hold };
            world.runners[r].hold = Some(renewed);
            next.push(world);
            if self.job.is_cancel_asked {
                world.runners[r].hold =
                    Some(Hold { is_executing: false, result: Some(Ended::Stopped), ..renewed });
                next.push(world);
            }
        } else {
            world.runners[r].hold = None;
            next.push(world);
        }
    }

    /// `Store::finish`.
    fn finish(&self, r: usize, flaw: Flaw, next: &mut Vec<World>) {
        let Some(hold) = self.runners[r].hold else { return };
        let Some(result) = hold.result else { return };
        let mut world = *self;
        let holds = match flaw {
            Flaw::NoGuard => true,
            Flaw::NoFence => self.job.state == State::Running,
            Flaw::WrittenTwice if self.runners[r].is_unsure => true,
            _ => {
                self.job.state == State::Running
                    && self.job.owner == Some(self.owner(r))
                    && self.job.fence == hold.fence
            }
        };
        if holds {
            if hold.fence != self.job.fence {
                world.wrong = Some("a result of an older claim was accepted");
            }
            let job = &mut world.job;
            job.attempts += u8::from(flaw == Flaw::CountedAtTheEnd);
            job.accepted += u8::from(result == Ended::Well);
            (job.owner, job.lease, job.rescue) = (None, 0, 0);
            job.state = match result {
                Ended::Well => State::Success,
                Ended::Stopped => State::Cancelled,
                Ended::Badly if job.is_cancel_asked => State::Cancelled,
                Ended::Badly if job.attempts >= MOST => State::Failed,
                Ended::Badly => State::Pending,
            };
            if self.losses > 0 {
                // Written, and not known to be: the same is given again, and recognised by its row in `duly_attempt`.
                let mut lost = world;
                lost.losses -= 1;
                lost.runners[r].is_unsure = true;
                next.push(lost);
            }
        }
        (world.runners[r].hold, world.runners[r].is_unsure) = (None, false);
        next.push(world);
    }

    /// `Store::rescue` after the lease, and `Store::rescue_from` at once by the runner that is started in a dead one's place.
    fn rescue(&self, r: usize, flaw: Flaw, on_orphan_stale: bool, next: &mut Vec<World>) {
        let Some(owner) = self.job.owner.filter(|_| self.job.state == State::Running) else { return };
        let is_expired = self.job.rescue == 0 || flaw == Flaw::RescueTooSoon && self.job.lease <= MARGIN + 1;
        let is_dead = owner.0 == u8::from(r == 1) && owner.1 < self.runners[r].life;
        if flaw == Flaw::NoRescue || !(is_expired || is_dead) {
            return;
        }
        let mut world = *self;
        let job = &mut world.job;
        (job.owner, job.lease, job.rescue) = (None, 0, 0);
        job.state = match () {
            () if job.is_cancel_asked => State::Cancelled,
            () if on_orphan_stale => State::Stale,
            () if job.attempts >= MOST => State::Failed,
            () => State::Pending,
        };
        next.push(world);
    }

    /// What must hold of each state, and of each step from one to another.
    fn check(&mut self, before: &World) {
        let executing =
            |r: &usize| self.is_awake(*r) && self.runners[*r].hold.is_some_and(|hold| hold.is_executing);
        let wrong = if (0..2).filter(executing).count() > 1 {
            Some("two runners that are awake execute it at once")
        } else if self.job.accepted > 1 {
            Some("two successes were accepted")
        } else if before.is_over() && self.job != before.job {
            Some("an end was left again")
        } else if self.job.attempts > MOST || self.job.begun > MOST {
            Some("it was tried more often than allowed")
        } else if self.job.fence < before.job.fence {
            Some("a fence came again")
        } else {
            None
        };
        self.wrong = self.wrong.or(wrong);
    }
}

/// What the search found.
struct Found {
    states: usize,
    wrong: HashSet<&'static str>,
    /// Whether the job can come to an end from everywhere.
    can_always_end: bool,
}

/// Visits every state; ends early where `wanted` is found to go wrong.
fn search(flaw: Flaw, on_orphan_stale: bool, wanted: Option<&'static str>) -> Found {
    let mut numbers: HashMap<World, usize> = HashMap::from([(World::new(), 0)]);
    let (mut worlds, mut before, mut at) = (vec![World::new()], vec![Vec::new()], 0);
    let mut wrong = HashSet::new();
    while let Some(world) =
        worlds.get(at).copied().filter(|_| wanted.is_none_or(|what| !wrong.contains(what)))
    {
        // What has gone wrong is not followed further.
        for step in if world.wrong.is_none() { world.steps(flaw, on_orphan_stale) } else { Vec::new() } {
            wrong.extend(step.wrong);
            let number = *numbers.entry(step).or_insert_with(|| {
                worlds.push(step);
                before.push(Vec::new());
                worlds.len() - 1
            });
            before[number].push(at);
        }
        at += 1;
    }
    let mut can_end = vec![false; worlds.len()];
    let mut open: Vec<usize> = (0..worlds.len()).filter(|n| worlds[*n].is_over()).collect();
    while let Some(number) = open.pop() {
        if !std::mem::replace(&mut can_end[number], true) {
            open.extend(&before[number]);
        }
    }
    let can_always_end = (0..worlds.len()).all(|n| can_end[n] || worlds[n].wrong.is_some());
    Found { states: worlds.len(), wrong, can_always_end }
}

#[test]
fn whatever_happens_to_two_runners_a_job_is_done_by_one_and_comes_to_an_end() {
    for on_orphan_stale in [false, true] {
        let found = search(Flaw::None, on_orphan_stale, None);
        assert_eq!(found.wrong, HashSet::new());
        assert!(found.can_always_end);
        assert!(found.states > 10_000, "{} states are not all there are", found.states);
    }
}

#[test]
fn each_rule_that_is_left_out_is_missed() {
    for (flaw, what) in [
        (Flaw::NoFence, "a result of an older claim was accepted"),
        (Flaw::NoGuard, "an end was left again"),
        (Flaw::WrittenTwice, "two successes were accepted"),
        (Flaw::NoSelfStop, "two runners that are awake execute it at once"),
        (Flaw::CountedAtTheEnd, "it was tried more often than allowed"),
        (Flaw::RescueTooSoon, "two runners that are awake execute it at once"),
    ] {
        let found = search(flaw, false, Some(what));
        assert!(found.wrong.contains(what), "{flaw:?} went unnoticed: {:?}", found.wrong);
    }
    assert!(!search(Flaw::NoRescue, false, None).can_always_end);
}
