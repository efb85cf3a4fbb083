//! Making jobs of the occurrences that are due.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Config;
use crate::job::{Definition, Schedule, Trigger};
use crate::store::{ScheduleRow, Store};

/// How overdue a schedule must be before a host takes it over that has it with other instants.
const UNATTENDED: TimeDelta = TimeDelta::minutes(5);

/// How overdue a schedule must be before a host that does not have it puts the next look off, and by how much.
const ABANDONED: TimeDelta = TimeDelta::hours(1);
const LATER: TimeDelta = TimeDelta::hours(1);

fn scheduled(config: &Config) -> impl Iterator<Item = (&Definition, &Schedule)> {
    config
        .definitions
        .iter()
        .filter(|definition| definition.enabled)
        .filter_map(|definition| Some((definition, definition.schedule.as_ref()?)))
}

/// Lets schedules that the database does not know, or knows otherwise, start from `now`.
pub(super) fn introduce(store: &mut Store, config: &Config, now: DateTime<Utc>) -> Result<()> {
    let known = store.schedules(false).context("cannot read the schedules")?;
    for (definition, schedule) in scheduled(config) {
        let row = known.iter().find(|row| row.name == definition.name);
        if row.is_none_or(|row| is_other(row, schedule)) {
            start(store, definition, schedule, row, now)?;
        }
    }
    Ok(())
}

/// Makes the jobs of every occurrence up to `now`; returns whether there are any. Schedules whose targets are to be listed
/// first are added `to_ask`.
///
/// `@tick` makes one only when a tick begins (`is_beginning`), not while it lives.
pub(super) fn make_due(
    store: &mut Store,
    config: &Config,
    to_ask: &mut VecDeque<ScheduleRow>,
    now: DateTime<Utc>,
    is_beginning: bool,
) -> Result<bool> {
    let declared = |name: &str| config.definition(name);
    let mut has_jobs = false;
    let pauses = store.pauses().context("cannot read the pauses")?;
    for row in store.schedules(true).context("cannot read the schedules")? {
        let found = scheduled(config).find(|(definition, _)| definition.name == row.name);
        let overdue = row.next.map_or(TimeDelta::zero(), |next| now - next);
        let Some((definition, schedule)) = found else {
            // Another host's, or nobody's any more: then it must not make every tick look.
            if overdue > ABANDONED {
                store.look_later(&row, now + LATER).context("cannot put a schedule off")?;
            }
            continue;
        };
        if is_other(&row, schedule) {
            // A host that has a newer jobs.yaml began it, and looks at it; unless that host is gone.
            if overdue > UNATTENDED {
                start(store, definition, schedule, Some(&row), now)?;
            }
            continue;
        }
        if schedule.trigger == Trigger::Tick && !is_beginning {
            continue;
        }
        if pauses.iter().any(|pause| pause.holds(&definition.name, &definition.queue)) {
            continue;
        }
        if definition.targets.is_some() {
            // That takes a while, and is done beside everything else.
            if to_ask.iter().all(|asked| asked.name != row.name) {
                to_ask.push_back(row);
            }
            continue;
        }
        let made = store
            .make_occurrences(definition, schedule, None, &declared, now)
            .with_context(|| format!("cannot schedule `{}`", row.name))?;
        log::info!("`{}`: jobs made: {}, occurrences skipped: {}", row.name, made.jobs, made.skipped);
        has_jobs |= made.jobs > 0;
    }
    Ok(has_jobs)
}

/// The definition and the schedule that a row is about, if this host knows both as the row has them.
pub(super) fn of_row<'a>(config: &'a Config, row: &ScheduleRow) -> Option<(&'a Definition, &'a Schedule)> {
    let of_name = |(definition, _): &(&Definition, &Schedule)| definition.name == row.name;
    scheduled(config).find(of_name).filter(|(_, schedule)| !is_other(row, schedule))
}

fn is_other(row: &ScheduleRow, schedule: &Schedule) -> bool {
    schedule.signature() != row.signature
}

fn start(
    store: &mut Store,
    definition: &Definition,
    schedule: &Schedule,
    known: Option<&ScheduleRow>,
    now: DateTime<Utc>,
) -> Result<()> {
    log::info!("`{}`: schedule `{}` starts from {now}", definition.name, schedule.expression);
    store
        .start_schedule(&definition.name, schedule, known, now)
        .with_context(|| format!("cannot start the schedule of `{}`", definition.name))
}
