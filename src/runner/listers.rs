//! Asking the commands that list targets, beside everything else that a tick does.
//!
//! Each is asked on a thread of its own, while the tick goes on claiming, executing and making other schedules. When the answer
//! is there, the thread that talks to the database makes the occurrences. Before it is asked, the next look at its schedule is
//! put off for longer than it may take, by an update that one tick only can make: so one name is asked for at one time, over
//! all hosts, and is asked for again should this tick die. A tick that is told to stop ends what it has asked, and sets the
//! look back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use chrono::{DateTime, TimeDelta, Utc};

use super::drain::{Drain, Event};
use super::schedule::of_row;
use crate::job::{Definition, Targets};
use crate::process::ask;
use crate::process::command::CommandLine;
use crate::process::stop::{StopReason, Switch};
use crate::store::{Made, Pass, ScheduleRow, StoreError, Target};

/// How long the command may take, how long nobody else asks meanwhile, and when it is asked again if it fails.
const ASKING: Duration = Duration::from_secs(20);
const PUT_OFF: TimeDelta = TimeDelta::seconds(30);
const ASK_AGAIN: TimeDelta = TimeDelta::seconds(60);

/// Commands asked at once by one tick.
const AT_ONCE: usize = 8;

/// Characters of a target's id at most, as the column has them.
const LONGEST_ID: usize = 190;

/// What a command answered.
pub(super) struct Listed {
    /// The schedule, as it is while it is put off.
    row: ScheduleRow,
    /// When it was due.
    due: DateTime<Utc>,
    /// Up to when its occurrences are made.
    now: DateTime<Utc>,
    /// What was asked.
    targets: Targets,
    answer: std::result::Result<Vec<Target>, String>,
}

/// The commands that this tick asks, by the names of their schedules.
#[derive(Default)]
pub(super) struct Listers {
    out: Mutex<Out>,
}

#[derive(Default)]
struct Out {
    switches: HashMap<String, Arc<Switch>>,
    /// Whether all are to stop, and at once.
    stop: Option<bool>,
}

impl Listers {
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().switches.len()
    }

    fn has(&self, name: &str) -> bool {
        self.lock().switches.contains_key(name)
    }

    /// From now on there is one more.
    fn add(&self, name: &str, switch: &Arc<Switch>) {
        let mut out = self.lock();
        out.switches.insert(name.to_owned(), Arc::clone(switch));
        if let Some(at_once) = out.stop {
            switch.press(StopReason::Interrupted, at_once);
        }
    }

    fn remove(&self, name: &str) {
        self.lock().switches.remove(name);
    }

    /// Stops all that are asked, and those that will be.
    pub(super) fn stop_all(&self, at_once: bool) {
        let mut out = self.lock();
        out.stop = Some(at_once);
        out.switches.values().for_each(|switch| switch.press(StopReason::Interrupted, at_once));
    }

    fn is_stopped(&self) -> bool {
        self.lock().stop.is_some()
    }
}

impl Drain {
    /// Whether nobody is asked, and nobody is to be.
    pub(super) fn has_asked_all(&self) -> bool {
        self.tick.to_ask.is_empty() && self.listers.len() == 0
    }

    /// Begins to ask those who are due, as many as may be asked at once.
    pub(super) fn ask_listers(&mut self) {
        if self.listers.is_stopped() {
            // They stay due.
            self.tick.to_ask.clear();
        }
        while self.listers.len() < AT_ONCE {
            let Some(row) = self.tick.to_ask.pop_front() else { return };
            let name = row.name.clone();
            if let Err(err) = self.ask_lister(row) {
                log::warn!("`{name}`: the command that lists its targets is not asked: {err:#}");
            }
        }
    }

    fn ask_lister(&mut self, row: ScheduleRow) -> Result<()> {
        let config = Arc::clone(&self.tick.config);
        let Some((definition, _)) = of_row(&config, &row) else { return Ok(()) };
        let (Some(targets), Some(due), false) = (&definition.targets, row.next, self.listers.has(&row.name))
        else {
            return Ok(());
        };
        let switch = Arc::new(Switch::new().context("cannot make a stop switch")?);
        let now = self.tick.store.time().context("cannot read the time")?;
        let until = now + PUT_OFF;
        if !self.tick.store.look_later(&row, until).context("cannot put a schedule off")? {
            log::info!("`{}`: another tick asks for its targets", row.name);
            return Ok(());
        }
        let row = ScheduleRow { next: Some(until), ..row };
        self.listers.add(&row.name, &switch);
        let (command, targets) = (command_line(definition, targets), targets.clone());
        let owner = self.tick.me.owner.clone();
        let (sender, asked) = (self.sender.clone(), row.clone());
        let thread = std::thread::Builder::new().name("lister".to_owned()).spawn(move || {
            let answer = targets_of(&asked.name, &targets, &command, &owner, &switch);
            let listed = Listed { row: asked, due, now, targets, answer };
            if sender.send(Event::Listed(Box::new(listed))).is_err() {
                log::debug!("targets were listed when all was done");
            }
        });
        if let Err(err) = thread {
            self.listers.remove(&row.name);
            self.look_back(&row, due);
            return Err(err).context("cannot start a thread");
        }
        Ok(())
    }

    /// Makes the occurrences of those who have answered.
    pub(super) fn make_listed(&mut self) {
        for listed in std::mem::take(&mut self.listed) {
            let name = listed.row.name.clone();
            if let Err(err) = self.make_one_listed(listed) {
                self.listers.remove(&name);
                log::warn!("cannot schedule `{name}`, the next tick will try again: {err:#}");
            }
            if self.listed.iter().all(|listed| listed.row.name != name) {
                self.listers.remove(&name);
            }
        }
    }

    fn make_one_listed(&mut self, listed: Listed) -> Result<()> {
        let Listed { row, due, now, targets: asked, answer } = listed;
        if self.listers.is_stopped() {
            self.look_back(&row, due);
            return Ok(());
        }
        let at = self.certainly("reading the time", |store| store.time())?;
        let targets = match answer {
            Ok(targets) => targets,
            Err(why) => {
                // Its occurrences are made when it answers; it is not asked all the time.
                log::warn!("`{}`: the command that lists its targets failed: {why}", row.name);
                return self
                    .certainly("putting a schedule off", |store| store.look_later(&row, at + ASK_AGAIN))
                    .map(drop);
            }
        };
        let config = Arc::clone(&self.tick.config);
        // Whoever asks after this one was thought dead makes them; and so does whoever knows it otherwise.
        let until = at + PUT_OFF;
        let is_ours = self.certainly("putting a schedule off", |store| store.look_later(&row, until))?;
        let row = ScheduleRow { next: Some(until), ..row };
        let Some((definition, schedule)) = of_row(&config, &row).filter(|_| is_ours) else {
            log::info!("`{}`: its targets were listed too late", row.name);
            return Ok(());
        };
        if definition.targets.as_ref() != Some(&asked) {
            log::info!("`{}`: its targets are not listed by this command any more", row.name);
            self.look_back(&row, due);
            return Ok(());
        }
        let declared = |name: &str| config.definition(name);
        let distance = self.tick.distance;
        let pass = Pass { definition, schedule, targets: Some(&targets), now, distance };
        let made = self.certainly("making jobs", |store| store.make_occurrences(&pass, &declared))?;
        log::info!("`{}`: jobs made: {}, occurrences skipped: {}", row.name, made.jobs, made.skipped);
        if made == Made::default() {
            // Where it was paused meanwhile, nothing has moved.
            self.look_back(&row, due);
        }
        if let Some(mark) = made.until {
            // Others want their turn; this goes on right after.
            let row = ScheduleRow { mark, next: schedule.look_again_at(mark), ..row };
            self.listed.push(Listed { row, due, now, targets: asked, answer: Ok(targets) });
        }
        // A late occurrence may have been spread to a time that has passed.
        self.certainly("promoting delayed jobs", |store| store.promote())?;
        self.may_claim = true;
        Ok(())
    }

    /// Does something in the database, waiting for it while it is away.
    fn certainly<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&mut crate::store::Store) -> std::result::Result<T, StoreError>,
    ) -> Result<T> {
        match attempt(&mut self.tick.store) {
            Err(err @ StoreError::Away(_)) => Ok(self.patiently(what, &err, attempt)?),
            other => other.with_context(|| anyhow!("{what}")),
        }
    }

    /// Lets the next tick look at a schedule that was put off, as if it had not been.
    fn look_back(&mut self, row: &ScheduleRow, due: DateTime<Utc>) {
        if let Err(err) = self.tick.store.look_later(row, due) {
            log::info!("`{}` is not looked at again before {:?}: {err}", row.name, row.next);
        }
    }
}

fn command_line(definition: &Definition, targets: &Targets) -> CommandLine {
    CommandLine {
        argv: targets.command.clone(),
        cwd: definition.cwd.clone(),
        env: definition.env.clone(),
        input: None,
    }
}

/// The targets that a command lists.
fn targets_of(
    name: &str,
    targets: &Targets,
    command: &CommandLine,
    owner: &str,
    switch: &Switch,
) -> std::result::Result<Vec<Target>, String> {
    let ids = ask::lines(command, owner, ASKING, switch)?;
    let (fine, long): (Vec<String>, Vec<String>) =
        ids.into_iter().partition(|id| id.chars().count() <= LONGEST_ID);
    if let Some(id) = long.first() {
        log::warn!(
            "`{name}`: {} targets have ids of over {LONGEST_ID} characters, the first is `{id}`",
            long.len()
        );
    }
    Ok(fine.into_iter().map(|id| (targets.kind.clone(), id)).collect())
}
