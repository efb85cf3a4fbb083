//! What is explored: small jobs.yaml files, and sequences of things that happen, both made from a seed.

use super::cron::{DAY, HOUR, MINUTE, Ms, SECOND, ZONES, day_of_2026};
use crate::torture::Dice;

pub(super) const EXPRESSIONS: [&str; 14] = [
    "*/5 * * * *",
    "*/20 * * * * *",
    "* * * * *",
    "30 * * * *",
    "0 * * * *",
    "*/5 * * * * *",
    "*/15 * * * *",
    "0 */2 * * *",
    "30 2 * * *",
    "0 0-4 * * *",
    "*/30 1-3 * * *",
    "15,45 * * * 0,1",
    "0 3 1,29 * 0",
    "0 12 * * *",
];

pub(super) const QUEUES: [&str; 3] = ["default", "orders", "mails"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatchUp {
    Latest,
    All,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    Skip,
    Queue,
    Allow,
}

/// One definition; of its schedule an expression and a zone, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Def {
    pub(super) name: &'static str,
    pub(super) schedule: Option<(usize, usize)>,
    pub(super) catch_up: Option<CatchUp>,
    pub(super) deadline: Option<Ms>,
    pub(super) overlap: Option<Overlap>,
    pub(super) enabled: bool,
    pub(super) queue: usize,
    pub(super) priority: i64,
    pub(super) max_attempts: u32,
    /// Seconds at first, growth, seconds at most.
    pub(super) backoff: (i64, i64, i64),
    pub(super) permanent: Option<i32>,
    pub(super) is_stale_when_orphaned: bool,
    pub(super) unique: bool,
    pub(super) concurrency: Option<u32>,
    pub(super) dependents: Vec<&'static str>,
}

/// A jobs.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) defs: Vec<Def>,
    /// Of each of [`QUEUES`].
    pub(super) limits: [Option<u32>; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// The schedule of a definition goes.
    Unschedule(usize),
    Reschedule(usize, usize),
    Rezone(usize),
    Disable(usize),
    /// The whole definition goes.
    Remove(usize),
    /// All is as it was at first.
    PutBack,
    Requeue(usize, usize),
    Limit(usize, Option<u32>),
    LimitName(usize, Option<u32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Name(usize),
    Queue(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Exit(i32),
    Signal(i32),
    TimedOut,
    /// If that was asked for; else it succeeds.
    Cancelled,
}

/// What happens. Numbers choose among what there is, modulo how many there are; where there is none, nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Time passes; ticks that live renew their leases at its end.
    Pass(Ms),
    /// The clock is set, forward or back.
    Clock(Ms),
    /// A new jobs.yaml, made from the newest one there is, is put in place on one host, or on both.
    Change(Edit, Option<usize>),
    /// A host gets the newest one.
    Deploy(usize),
    /// A tick begins on a host.
    Tick(usize),
    /// One that still works by the file that lay there before, in a container on its way out.
    OldTick(usize),
    /// A tick that lives does what it does each second.
    Duty(usize),
    /// A command ends.
    End(usize, Ending),
    /// A runner is told to stop.
    Stop(usize),
    /// A runner vanishes with its host.
    Die(usize),
    Pause(Scope),
    Resume(Scope),
    Cancel(usize),
    Retry(usize),
    Start(usize),
}

/// A start, a file, and what happens.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) start: Ms,
    pub(super) file: File,
    pub(super) events: Vec<Event>,
}

/// The nth of a list that begins anew at its end.
pub(super) fn nth<T: Copy>(of: &[T], number: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[number % of.len()])
}

pub(super) fn pick<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
    of[usize::try_from(dice.roll(of.len() as u64)).unwrap()]
}

fn number(dice: &mut Dice, sides: u64) -> usize {
    usize::try_from(dice.roll(sides)).unwrap()
}

fn maybe<T: Copy>(dice: &mut Dice, one_in: u64, of: &[T]) -> Option<T> {
    (dice.roll(one_in) == 0).then(|| pick(dice, of))
}

impl Plan {
    pub(super) fn of(seed: u64) -> Plan {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66);
        for _ in 0..8 {
            dice.roll(2);
        }
        // Ordinary days, and the evenings before clocks are changed.
        let days = [61, 61, 61, 87, 297, 66, 304].map(|day| day_of_2026(day) + 20 * HOUR);
        let start = pick(&mut dice, &days) + 11 * SECOND + i64::try_from(dice.roll(3000)).unwrap() * SECOND;
        let file = File::of(&mut dice);
        let length = 6 + dice.roll(34);
        let mut events = vec![Event::Tick(0)];
        while (events.len() as u64) < length {
            event(&mut dice, &mut events);
        }
        Plan { start, file, events }
    }
}

fn event(dice: &mut Dice, events: &mut Vec<Event>) {
    let any = number(dice, 12);
    let host = usize::from(dice.roll(4) == 0);
    events.push(match dice.roll(36) {
        0..=7 => Event::Pass(pick(dice, &[1, 1, 3, 5, 20, 30, 61, 71]) * SECOND),
        8..=10 => Event::Pass(pick(dice, &[2, 4, 5, 11, 15, 31]) * MINUTE),
        11 => Event::Pass(pick(dice, &[HOUR, HOUR, 2 * HOUR, 5 * HOUR, 9 * HOUR, DAY, 4 * DAY])),
        12..=17 => Event::Tick(host),
        18 => {
            if dice.roll(2) == 0 {
                Event::OldTick(host)
            } else {
                Event::Tick(host)
            }
        }
        19..=20 => Event::Duty(any),
        21..=25 => Event::End(
            any,
            match dice.roll(10) {
                0..=2 => Ending::Success,
                3..=5 => Ending::Exit(1),
                6 => Ending::Exit(65),
                7 => Ending::Signal(9),
                8 => Ending::TimedOut,
                _ => Ending::Cancelled,
            },
        ),
        26 => Event::Stop(any),
        27 => Event::Die(any),
        28 | 29 => Event::Change(edit(dice), pick(dice, &[None, None, Some(0), Some(1)])),
        30 => Event::Deploy(host),
        31 => Event::Cancel(any),
        32 => {
            if dice.roll(2) == 0 {
                Event::Retry(any)
            } else {
                Event::Start(any)
            }
        }
        33 => Event::Pause(scope(dice)),
        34 => Event::Resume(scope(dice)),
        _ => Event::Clock(pick(dice, &[HOUR, -HOUR, HOUR, -HOUR, -30 * SECOND, 20 * MINUTE])),
    });
    // What most often follows.
    match events.last() {
        Some(Event::Change(..)) if dice.roll(2) == 0 => events.push(Event::Tick(host)),
        Some(Event::Clock(by)) if dice.roll(2) == 0 => {
            let back = Event::Clock(-by);
            let looked = if dice.roll(2) == 0 { Event::Tick(host) } else { Event::Duty(any) };
            events.extend([looked, Event::Pass(pick(dice, &[SECOND, MINUTE, 7 * MINUTE])), back]);
        }
        Some(Event::End(..)) if dice.roll(4) == 0 => events.extend([Event::End(any, Ending::Exit(1)); 3]),
        Some(Event::Pass(_)) if dice.roll(2) == 0 => events.push(Event::Tick(host)),
        _ => {}
    }
}

fn scope(dice: &mut Dice) -> Scope {
    if dice.roll(2) == 0 { Scope::Name(number(dice, 4)) } else { Scope::Queue(number(dice, 2)) }
}

fn edit(dice: &mut Dice) -> Edit {
    let job = number(dice, 4);
    match dice.roll(12) {
        0 | 1 => Edit::Unschedule(job),
        2 => Edit::Reschedule(job, number(dice, EXPRESSIONS.len() as u64)),
        3 => Edit::Rezone(job),
        4 | 5 => Edit::Disable(job),
        6 => Edit::Remove(job),
        7 | 8 => Edit::PutBack,
        9 => Edit::Requeue(job, number(dice, 3)),
        10 => Edit::Limit(number(dice, 2), pick(dice, &[None, Some(1), Some(2)])),
        _ => Edit::LimitName(job, pick(dice, &[None, Some(1)])),
    }
}

impl File {
    fn of(dice: &mut Dice) -> File {
        let count = 1 + number(dice, 4);
        let mut defs: Vec<Def> = NAMES[..count].iter().map(|name| Def::of(name, dice)).collect();
        for at in 1..count {
            if dice.roll(5) == 0 {
                let (earlier, later) = (number(dice, at as u64), defs[at].name);
                defs[earlier].dependents.push(later);
                if dice.roll(3) > 0 {
                    defs[at].schedule = None;
                }
            }
        }
        File { defs, limits: [maybe(dice, 6, &[1, 2]), maybe(dice, 2, &[1, 1, 2]), None] }
    }

    /// As an edit leaves it.
    pub(super) fn edited(&self, edit: Edit, first: &File) -> File {
        let mut file = self.clone();
        let count = file.defs.len().max(1);
        let mut with = |job: usize, change: &dyn Fn(&mut Def)| {
            file.defs.get_mut(job % count).into_iter().for_each(change);
        };
        match edit {
            Edit::Unschedule(job) => with(job, &|def| def.schedule = None),
            Edit::Reschedule(job, to) => with(job, &|def| {
                def.schedule = Some((to, def.schedule.map_or(0, |(_, zone)| zone)));
            }),
            Edit::Rezone(job) => with(job, &|def| {
                def.schedule = def.schedule.map(|(expression, zone)| (expression, (zone + 1) % ZONES.len()));
            }),
            Edit::Disable(job) => with(job, &|def| def.enabled = false),
            Edit::Requeue(job, queue) => with(job, &|def| def.queue = queue),
            Edit::LimitName(job, limit) => with(job, &|def| def.concurrency = limit),
            Edit::Limit(queue, limit) => file.limits[queue] = limit,
            Edit::Remove(job) if !file.defs.is_empty() => {
                let gone = file.defs.remove(job % count).name;
                file.defs.iter_mut().for_each(|def| def.dependents.retain(|name| *name != gone));
            }
            Edit::Remove(_) => {}
            Edit::PutBack => file = first.clone(),
        }
        file
    }

    pub(super) fn def(&self, name: &str) -> Option<&Def> {
        self.defs.iter().find(|def| def.name == name)
    }

    /// The queues that it declares, in its order.
    pub(super) fn queues(&self) -> Vec<usize> {
        (0..QUEUES.len())
            .filter(|queue| *queue == 0 || self.defs.iter().any(|def| def.queue == *queue))
            .collect()
    }
}

impl Def {
    fn of(name: &'static str, dice: &mut Dice) -> Def {
        let zone = if dice.roll(3) == 0 { number(dice, 3) } else { 0 };
        // The first ones come more often.
        let expression = number(dice, 14).min(number(dice, 14));
        let catch_up = maybe(dice, 2, &[CatchUp::Latest, CatchUp::All, CatchUp::All, CatchUp::None]);
        let deadline = match catch_up {
            // How many are made at once depends on how fast that goes.
            Some(CatchUp::All) => Some(pick(dice, &[30 * SECOND, 5 * MINUTE])),
            // What is on time depends on how far ticks were apart.
            Some(CatchUp::None) => Some(pick(dice, &[30 * SECOND, 5 * MINUTE, HOUR])),
            _ => maybe(dice, 4, &[30 * SECOND, 5 * MINUTE, HOUR]),
        };
        let unique = dice.roll(5) == 0;
        let overlap = maybe(dice, 2, &[Overlap::Skip, Overlap::Queue, Overlap::Allow]);
        Def {
            name,
            schedule: (dice.roll(8) > 0).then_some((expression, zone)),
            catch_up,
            deadline,
            // Which what is unique can only skip.
            overlap: if unique { Some(Overlap::Skip) } else { overlap },
            enabled: dice.roll(12) > 0,
            queue: usize::from(dice.roll(3) == 0),
            priority: if dice.roll(4) == 0 { pick(dice, &[5, -5]) } else { 0 },
            max_attempts: pick(dice, &[1, 2, 3, 6, 10]),
            backoff: pick(dice, &[(0, 2, 60), (1, 1, 60), (5, 5, 3600), (60, 2, 600), (600, 1, 600)]),
            permanent: maybe(dice, 2, &[65, 137, 1]),
            is_stale_when_orphaned: dice.roll(5) == 0,
            unique,
            concurrency: maybe(dice, 4, &[1, 1, 2]),
            dependents: Vec::new(),
        }
    }
}
