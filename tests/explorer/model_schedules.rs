//! The half of the reference that makes jobs: when a schedule starts, which occurrences are due, and what overlap does.

use std::rc::Rc;

use super::cron::{DAY, HOUR, MINUTE, Ms, Read, SECOND};
use super::known::{
    AGAIN_BY_HAND, BEYOND_FIFTY, FOR_NOTHING, GIVES_WAY_WHOLE, PUT_OFF, SILENT_NEWER, is_known,
};
use super::model::{Host, Job, Model, On, Row, State};
use super::plan::{CatchUp, Def, EXPRESSIONS, File, Overlap};

/// Occurrences made in one pass at most.
const MOST: usize = 1000;
/// How late an occurrence may be where nothing is made up for.
const ON_TIME: Ms = 2 * MINUTE;
/// How far ahead of the database's clock a time may lie.
const AHEAD: Ms = MINUTE;
/// After which silence nobody waits for a host's file, and how often it is written that it ticks.
const SILENT: Ms = 15 * MINUTE;
const RECORD: Ms = 30 * SECOND;
/// After which silence it has been taken away.
const GONE: Ms = DAY;
/// See [`BEYOND_FIFTY`].
const FIFTY: usize = 50;

fn scheduled(file: &File) -> impl Iterator<Item = (&Def, (usize, usize))> {
    file.defs.iter().filter(|def| def.enabled).filter_map(|def| Some((def, def.schedule?)))
}

impl Host {
    fn has(&self, name: &str) -> bool {
        self.schedules.iter().any(|(had, _)| *had == name)
    }
}

impl Model {
    /// A host is known, with the schedules of its file: those that are new, or others, or that nobody had, start from now. Not by
    /// a file that is older than one by which ticks are alive.
    pub(super) fn attend(&mut self, tick: usize) {
        let (file, since, host) =
            (Rc::clone(&self.ticks[tick].file), self.ticks[tick].since, self.ticks[tick].host);
        let known = self.hosts.get(&host).cloned();
        let known_before = known.clone();
        let now = self.now;
        let is_recorded = known.as_ref().is_some_and(|known| known.since == since);
        if is_recorded && known.is_some_and(|known| (now - known.ticked).abs() <= RECORD) {
            return;
        }
        let (mut is_older, mut has_own) = (false, false);
        if !is_recorded {
            let alive = |host: &Host| (now - host.ticked).abs() <= SILENT;
            has_own = self.hosts.get(&host).is_some_and(alive);
            let mut others =
                self.hosts.iter().filter(|(key, known)| alive(known) && (!has_own || **key == host));
            is_older = others.any(|(_, known)| known.since > since);
            for (def, schedule) in scheduled(&file) {
                let had = self.hosts.is_empty() || self.hosts.values().any(|host| host.has(def.name));
                let row = self.rows.get(def.name);
                let is_newer = is_known(SILENT_NEWER) || row.is_none_or(|row| row.since <= since);
                let last = row.and_then(|row| row.last);
                let why = match row {
                    None => Some("a new schedule"),
                    Some(row) if row.schedule != schedule => Some("a changed schedule"),
                    Some(_) => (!had).then_some("a schedule that nobody had"),
                };
                if let Some(why) = why.filter(|_| is_newer && (!is_older || row.is_none())) {
                    self.see(why);
                    self.rows.insert(def.name, Row { schedule, mark: now, since, look: None, last });
                }
            }
        }
        if is_older {
            self.see("an older file is not heard");
            if has_own {
                return;
            }
        }
        let schedules = scheduled(&file).map(|(def, schedule)| (def.name, schedule)).collect();
        if !is_recorded && !is_older {
            self.requeue(&file, host);
        }
        let defs = file.defs.iter().map(|def| (def.name, def.is_stale_when_orphaned)).collect();
        self.hosts.insert(host, Host { ticked: now, since, schedules, queues: file.queues(), defs });
        let was_ahead =
            known_before.is_none_or(|known| known.ticked > now + AHEAD || now > known.ticked + HOUR);
        self.set_back(&file, was_ahead);
    }

    /// Jobs in queues that nobody serves any more follow their definitions.
    fn requeue(&mut self, file: &File, host: usize) {
        let now = self.now;
        let others = self.hosts.iter().filter(|(key, other)| **key != host && now - other.ticked <= GONE);
        let served: Vec<usize> =
            others.flat_map(|(_, other)| other.queues.clone()).chain(file.queues()).collect();
        let is_left = |job: &&mut Job| job.state < State::Running && !served.contains(&job.queue);
        let mut moved = 0;
        for job in self.jobs.iter_mut().filter(is_left) {
            if let Some(def) = file.def(job.name) {
                job.queue = def.queue;
                moved += 1;
            }
        }
        if moved > 0 {
            self.see("a queue that nobody serves any more");
        }
    }

    /// A mark that lies ahead of the clock begins anew; what was skipped of the time to come is no longer.
    /// Where the host's own last tick lies ahead, looks that were put off and leases are brought back too.
    fn set_back(&mut self, file: &File, was_ahead: bool) {
        for (def, schedule) in scheduled(file) {
            let next = self.rows.get(def.name).and_then(|row| self.occurrence_after(row));
            let Some(row) = self.rows.get_mut(def.name) else { continue };
            if row.schedule == schedule && was_ahead && next.is_some() {
                row.look = None;
            }
            if row.schedule == schedule && row.mark > self.now + AHEAD {
                (row.mark, row.look) = (self.now, None);
                self.see("a mark ahead of the clock");
                let to_come = |job: &&Job| {
                    job.name == def.name
                        && job.state == State::Cancelled
                        && job.at.is_some_and(|at| at > self.now)
                };
                for job in self.jobs.iter().filter(to_come) {
                    job.at.map(|at| self.taken.remove(&(def.name, at)));
                }
            }
        }
        if was_ahead {
            for job in self.jobs.iter_mut().filter(|job| job.owner.is_some()) {
                job.lease = job.lease.min(self.now + HOUR);
            }
        }
    }

    /// Makes what is due, name by name.
    pub(super) fn make_due(&mut self, tick: usize) {
        let file = Rc::clone(&self.ticks[tick].file);
        let names: Vec<&'static str> = self.rows.keys().copied().collect();
        for name in names {
            let found = scheduled(&file).find(|(def, _)| def.name == name);
            if self.is_paused(name, found.map_or(usize::MAX, |(def, _)| def.queue)) {
                continue;
            }
            let Some(next) = self.next_look(name).filter(|next| *next <= self.now) else { continue };
            let Some((def, schedule)) = found else {
                self.put_off(name, next);
                continue;
            };
            if self.rows[name].schedule != schedule {
                self.see("a schedule of another file");
                self.take_over(tick, name, next, schedule);
                continue;
            }
            self.make(&file, def);
        }
    }

    /// When a name is to be looked at next.
    fn next_look(&self, name: &str) -> Option<Ms> {
        let row = &self.rows[name];
        row.look.or_else(|| self.occurrence_after(row))
    }

    /// The first occurrence that has not been made, if it is due.
    fn occurrence_after(&self, row: &Row) -> Option<Ms> {
        let (expression, zone) = row.schedule;
        Read::new(EXPRESSIONS[expression], zone).between(row.mark, self.now).first().copied()
    }

    /// By a host that does not have it, where it is overdue.
    fn put_off(&mut self, name: &str, next: Ms) {
        let now = self.now;
        let is_kept = self.hosts.values().any(|host| now - host.ticked <= GONE && host.has(name));
        if is_known(PUT_OFF) && now - next > HOUR && !is_kept {
            let look = self.now + HOUR;
            self.rows.get_mut(name).unwrap().look = Some(look);
        }
    }

    /// By a host that has it otherwise, where no other ticks that has it.
    fn take_over(&mut self, tick: usize, name: &'static str, next: Ms, schedule: (usize, usize)) {
        let own: Vec<_> =
            scheduled(&self.ticks[tick].file).map(|(def, schedule)| (def.name, schedule)).collect();
        let (now, since) = (self.now, self.ticks[tick].since);
        let attends =
            |host: &Host| (now - host.ticked).abs() <= SILENT && host.has(name) && host.schedules != own;
        if is_known(SILENT_NEWER) && now - next > 5 * MINUTE && !self.hosts.values().any(attends) {
            let last = self.rows[name].last;
            self.rows.insert(name, Row { schedule, mark: now, since, look: None, last });
        }
    }

    fn make(&mut self, file: &File, def: &Def) {
        let Row { schedule: (expression, zone), mark, .. } = self.rows[def.name];
        let all = Read::new(EXPRESSIONS[expression], zone).between(mark, self.now);
        if all.is_empty() {
            return;
        }
        let deadline = match def.catch_up {
            Some(CatchUp::None) => Some(def.deadline.unwrap_or(ON_TIME)),
            _ => def.deadline,
        };
        let earliest = deadline.map_or(Ms::MIN, |deadline| self.now - deadline);
        let (mut missed, mut due): (Vec<Ms>, Vec<Ms>) = all.into_iter().partition(|at| *at < earliest);
        let mut mark = self.now;
        if def.catch_up == Some(CatchUp::All) {
            if due.len() > MOST {
                self.see("over a thousand made");
                due.truncate(MOST);
                mark = due[MOST - 1];
            }
        } else if due.len() > 1 {
            self.see("only the latest");
            let latest = due.split_off(due.len() - 1);
            missed.append(&mut due);
            due = latest;
        }
        if missed.len() > MOST {
            self.see("over a thousand missed");
        }
        if mark == self.now && missed.last().is_some_and(|last| *last < earliest) {
            self.see("too late");
        }
        let row = self.rows.get_mut(def.name).unwrap();
        (row.mark, row.look) = (mark, None);
        if let Some(last) = missed.last() {
            self.record(def, *last, Some(missed.len()));
        }
        if is_known(BEYOND_FIFTY) {
            let of_name = self.jobs_that(|job| job.name == def.name);
            let older = &of_name[..of_name.len().saturating_sub(FIFTY)];
            let last = self.rows[def.name].last;
            self.unseen = older.iter().copied().filter(|job| Some(*job) != last).collect();
        }
        for at in due {
            self.make_one(file, def, at);
        }
        for job in std::mem::take(&mut self.giving_way) {
            self.move_to_end(job, State::Failed);
        }
    }

    fn make_one(&mut self, file: &File, def: &Def, at: Ms) {
        let is_taken = self.taken.contains(&(def.name, at));
        if is_taken {
            self.see("an occurrence is made once");
        }
        if is_taken && !is_known(FOR_NOTHING) {
            return;
        }
        let overlap = match (def.overlap, def.catch_up) {
            (Some(overlap), _) => overlap,
            (None, Some(CatchUp::All)) => Overlap::Queue,
            (None, _) => Overlap::Skip,
        };
        let is_open = |job: &Job| job.name == def.name && job.at.is_some() && job.state.is_open();
        let open = self.jobs_that(is_open);
        let open: Vec<usize> = open.into_iter().filter(|job| !self.unseen.contains(job)).collect();
        let mut after = Vec::new();
        match overlap {
            Overlap::Allow => self.see("overlap: allow"),
            Overlap::Queue => {
                // The last one that waits does so for those before it, unless they were begun again since.
                let is_enough = |job: &&usize| {
                    !is_known(AGAIN_BY_HAND)
                        || self.jobs[**job].state != State::Waiting
                        || open.last() == Some(*job)
                };
                after = open.iter().filter(is_enough).map(|job| (*job, On::Always)).collect();
                if open.len() > 1 {
                    self.see("overlap: queue behind several");
                }
            }
            Overlap::Skip => {
                for job in &open {
                    let job = *job;
                    let Job { state, attempts, at: before, .. } = self.jobs[job];
                    if state == State::Delayed && attempts > 0 && before < Some(at) {
                        self.see("a job between two attempts gives way");
                        if is_known(GIVES_WAY_WHOLE) {
                            self.jobs[job].state = State::Failed;
                            self.giving_way.push(job);
                        } else {
                            self.move_to_end(job, State::Failed);
                        }
                    }
                }
                if open.iter().any(|job| is_open(&self.jobs[*job])) {
                    self.see("overlap: skip");
                    return self.record(def, at, None);
                }
            }
        }
        if is_taken {
            return;
        }
        if self.has_unique(def) {
            self.see("unique");
            return self.record(def, at, None);
        }
        self.taken.insert((def.name, at));
        self.rows.get_mut(def.name).unwrap().last = Some(self.jobs.len());
        self.put_in(file, def, Some(at), after);
    }

    fn has_unique(&self, def: &Def) -> bool {
        let holds = |job: &Job| job.name == def.name && job.is_unique && job.state.is_open();
        def.unique && self.jobs.iter().any(holds)
    }

    /// A row that tells of what was skipped.
    fn record(&mut self, def: &Def, at: Ms, missed: Option<usize>) {
        if self.taken.insert((def.name, at)) {
            let skipped = self.like(def, Some(at));
            self.jobs.push(Job { state: State::Cancelled, is_unique: false, missed, ..skipped });
        }
    }

    fn like(&self, def: &Def, at: Option<Ms>) -> Job {
        Job {
            id: 0,
            name: def.name,
            at,
            state: State::Pending,
            attempts: 0,
            max_attempts: def.max_attempts,
            run_at: self.now,
            queue: def.queue,
            priority: def.priority,
            is_unique: def.unique,
            after: Vec::new(),
            owner: None,
            lease: 0,
            orphans: 0,
            is_counted: (false, false),
            is_to_be_cancelled: false,
            missed: None,
        }
    }

    /// Puts a job in with all that depends on it, each name once.
    fn put_in(&mut self, file: &File, def: &Def, at: Option<Ms>, after: Vec<(usize, On)>) {
        let state = if after.is_empty() { State::Pending } else { State::Waiting };
        let first = self.jobs.len();
        let job = Job { state, after, ..self.like(def, at) };
        self.jobs.push(job);
        let (mut made, mut open): (Vec<(&str, usize)>, _) = (Vec::new(), vec![(first, def)]);
        while let Some((parent, def)) = open.pop() {
            for dependent in def.dependents.iter().filter_map(|name| file.def(name)) {
                if let Some((_, known)) = made.iter().find(|(name, _)| *name == dependent.name) {
                    self.jobs[*known].after.push((parent, On::Success));
                    continue;
                }
                let job = self.like(dependent, None);
                if self.has_unique(dependent) {
                    self.jobs.push(Job { state: State::Cancelled, is_unique: false, ..job });
                    continue;
                }
                let number = self.jobs.len();
                made.push((dependent.name, number));
                open.push((number, dependent));
                self.jobs.push(Job { state: State::Waiting, after: vec![(parent, On::Success)], ..job });
            }
        }
    }

    /// A person puts a job in, by the file of the first host.
    pub(super) fn start(&mut self, name: &str) {
        let file = Rc::clone(&self.files[0].0);
        if let Some(def) = file.def(name).filter(|def| !self.has_unique(def)) {
            self.put_in(&file, def, None, Vec::new());
        }
    }

    /// A person has a job done again that has ended.
    pub(super) fn retry(&mut self, job: usize) {
        let file = Rc::clone(&self.files[0].0);
        let Job { name, at, queue, priority, .. } = self.jobs[job];
        if let Some(def) = file.def(name).filter(|def| !self.has_unique(def)) {
            let number = self.jobs.len();
            self.put_in(&file, def, at, Vec::new());
            self.jobs[number].queue = queue;
            self.jobs[number].priority = priority;
        }
    }
}
