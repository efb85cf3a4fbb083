//! Making jobs of the occurrences that are due.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Config;
use crate::job::{AHEAD, CatchUp, Definition, Host, Schedule, Trigger};
use crate::store::{Pass, ScheduleRow, Store, StoreError};

/// How overdue a schedule must be before a host takes it over that has it with other instants.
const UNATTENDED: TimeDelta = TimeDelta::minutes(5);

/// How overdue a schedule must be before a host that does not have it puts the next look off, and by how much.
const ABANDONED: TimeDelta = TimeDelta::hours(1);
const LATER: TimeDelta = TimeDelta::hours(1);

pub(super) fn scheduled(config: &Config) -> impl Iterator<Item = (&Definition, &Schedule)> {
    config
        .definitions
        .iter()
        .filter(|definition| definition.enabled)
        .filter_map(|definition| Some((definition, definition.schedule.as_ref()?)))
}

/// Lets schedules start from `now` that the database does not know, or knows otherwise, or that no host had any more; by a file
/// that is older than another only the first of these. Returns whether there were any.
pub(super) fn introduce(
    store: &mut Store,
    config: &Config,
    hosts: &[Host],
    now: DateTime<Utc>,
    is_older: bool,
) -> Result<bool> {
    let known = store.schedules(false).context("cannot read the schedules")?;
    // Of a host of which it is not known it is taken to be so.
    let is_had = |host: &Host, name: &str| {
        host.declares.as_ref().is_none_or(|declares| declares.schedules.is_none()) || host.has_schedule(name)
    };
    let had = |name: &str| hosts.is_empty() || hosts.iter().any(|host| is_had(host, name));
    let mut is_any = false;
    for (definition, schedule) in scheduled(config) {
        let row = known.iter().find(|row| row.name == definition.name);
        if row.is_none_or(|row| !is_older && (is_other(row, schedule) || !had(&row.name))) {
            start(store, definition, schedule, row, now)?;
            is_any = true;
        }
    }
    Ok(is_any)
}

/// Lets schedules start anew whose mark was made by a clock that was ahead; returns whether there were any. Where this host's own
/// last tick lies ahead or long ago (`is_doubtful`), also looks that were put off are brought back.
pub(super) fn set_back_ahead(
    store: &mut Store,
    config: &Config,
    now: DateTime<Utc>,
    is_doubtful: bool,
) -> Result<bool> {
    let mut is_any = false;
    let rows = if is_doubtful { store.schedules(false) } else { store.schedules_ahead() };
    for row in rows.context("cannot read the schedules")? {
        let own = scheduled(config).find(|(definition, _)| definition.name == row.name);
        let Some((_, schedule)) = own.filter(|(_, schedule)| !is_other(&row, schedule)) else { continue };
        let cannot = || format!("cannot set the schedule of `{}` back", row.name);
        if row.mark - now > AHEAD {
            log::warn!(
                "`{}`: made up to {}, which lies {} ahead of the database's clock, now {now}: that clock was wrong, or another one \
                 was; the schedule starts anew from now",
                row.name,
                row.mark,
                crate::job::duration::exact((row.mark - now).to_std().unwrap_or_default())
            );
            store.set_back(&row, schedule, now).with_context(cannot)?;
            is_any = true;
        } else if let Some(due) = schedule.look_again_at(row.mark).filter(|due| *due <= now)
            && row.next.is_none_or(|next| next > now)
        {
            is_any |= store.look_later(&row, due).with_context(cannot)?;
        }
    }
    Ok(is_any)
}

/// Whether how far ticks are apart means anything to a schedule.
pub(super) fn depends_on_distance(config: &Config) -> bool {
    let depends =
        |schedule: &Schedule| schedule.catch_up == CatchUp::None && schedule.starting_deadline.is_none();
    scheduled(config).any(|(_, schedule)| depends(schedule))
}

/// What a look at the schedules goes by.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) config: &'a Config,
    pub(super) now: DateTime<Utc>,
    /// Whether the tick begins: `@tick` makes a job only then, not while it lives.
    pub(super) is_beginning: bool,
    pub(super) distance: TimeDelta,
}

/// Makes the jobs of every occurrence up to now; returns whether there are any. Schedules whose targets are to be listed first are
/// added `to_ask`. One that cannot be made holds none of the others up: it is told, and the first error is returned along.
pub(super) fn make_due(
    store: &mut Store,
    look: &Look<'_>,
    to_ask: &mut VecDeque<ScheduleRow>,
) -> Result<(bool, Result<()>)> {
    let config = look.config;
    let (mut has_jobs, mut failed) = (false, Ok(()));
    let pauses = store.pauses().context("cannot read the pauses")?;
    for row in store.schedules(true).context("cannot read the schedules")? {
        let found = scheduled(config).find(|(definition, _)| definition.name == row.name);
        let queue = found.map_or("", |(definition, _)| definition.queue.as_str());
        if pauses.iter().any(|pause| pause.holds(&row.name, queue)) {
            continue;
        }
        let name = row.name.clone();
        match make_one_due(store, look, found, row, to_ask) {
            Ok(has_made) => has_jobs |= has_made,
            // Nothing else would do better.
            Err(err) if err.chain().any(is_about_the_connection) => return Err(err),
            Err(err) if failed.is_ok() => failed = Err(err),
            Err(err) => log::warn!("`{name}`: {err:#}"),
        }
    }
    Ok((has_jobs, failed))
}

fn is_about_the_connection(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_away)
}

/// The same of one name, which `found` declares.
fn make_one_due(
    store: &mut Store,
    look: &Look<'_>,
    found: Option<(&Definition, &Schedule)>,
    row: ScheduleRow,
    to_ask: &mut VecDeque<ScheduleRow>,
) -> Result<bool> {
    let Look { config, now, is_beginning, distance } = *look;
    let declared = |name: &str| config.definition(name);
    let overdue = row.next.map_or(TimeDelta::zero(), |next| now - next);
    let Some((definition, schedule)) = found else {
        // Another host's, or nobody's any more: then it must not make every tick look.
        if overdue > ABANDONED && !is_kept(store, &row.name, now)? {
            store.look_later(&row, now + LATER).context("cannot put a schedule off")?;
        }
        return Ok(false);
    };
    if is_other(&row, schedule) {
        // Of a newer jobs.yaml, whose ticks look at it; unless there are none.
        if overdue > UNATTENDED && !is_attended(store, config, &row.name, now)? {
            start(store, definition, schedule, Some(&row), now)?;
        }
        return Ok(false);
    }
    if schedule.trigger == Trigger::Tick && !is_beginning {
        return Ok(false);
    }
    if definition.targets.is_some() {
        // That takes a while, and is done beside everything else.
        if to_ask.iter().all(|asked| asked.name != row.name) {
            to_ask.push_back(row);
        }
        return Ok(false);
    }
    let pass = Pass { definition, schedule, targets: None, now, distance };
    let made = store
        .make_occurrences(&pass, &declared)
        .with_context(|| format!("cannot schedule `{}`", row.name))?;
    log::info!("`{}`: jobs made: {}, occurrences skipped: {}", row.name, made.jobs, made.skipped);
    Ok(made.jobs > 0)
}

/// Whether there is a host that has this schedule, and that is not gone.
fn is_kept(store: &mut Store, name: &str, now: DateTime<Utc>) -> Result<bool> {
    let hosts = store.hosts().context("cannot read which hosts tick")?;
    Ok(hosts.iter().any(|host| !host.is_gone(now) && host.has_schedule(name)))
}

/// Whether a host ticks that has this schedule by another jobs.yaml.
fn is_attended(store: &mut Store, config: &Config, name: &str, now: DateTime<Utc>) -> Result<bool> {
    let own = config.schedules_digest();
    let hosts = store.hosts().context("cannot read which hosts tick")?;
    Ok(hosts
        .iter()
        .any(|host| host.may_tick(now) && host.schedules.as_ref() != Some(&own) && host.has_schedule(name)))
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
