//! Making jobs of the occurrences that are due.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Config;
use crate::job::{Definition, Schedule, Trigger};
use crate::process::ask;
use crate::process::command::CommandLine;
use crate::store::{ScheduleRow, Store, Target};

/// How overdue a schedule must be before a host takes it over that has it with other instants.
const UNATTENDED: TimeDelta = TimeDelta::minutes(5);

/// How overdue a schedule must be before a host that does not have it puts the next look off, and by how much.
const ABANDONED: TimeDelta = TimeDelta::hours(1);
const LATER: Duration = Duration::from_secs(3600);

/// How long the command may take that lists targets, and when it is asked again if it fails.
const ASKING: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_secs(60);

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

/// Makes the jobs of every occurrence up to `now`; returns whether there are any.
///
/// `@tick` makes one only when a tick begins (`is_beginning`), not while it lives.
pub(super) fn make_due(
    store: &mut Store,
    config: &Config,
    folder: &Path,
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
                store.look_later(&row, LATER).context("cannot put a schedule off")?;
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
        let targets = match ask_for_targets(definition, folder) {
            Ok(targets) => targets,
            Err(why) => {
                // Its occurrences are made when it answers; it is not asked all the time.
                log::warn!("`{}`: the command that lists its targets failed: {why}", row.name);
                store.look_later(&row, ASK_AGAIN).context("cannot put a schedule off")?;
                continue;
            }
        };
        let made = store
            .make_occurrences(definition, schedule, targets.as_deref(), &declared, now)
            .with_context(|| format!("cannot schedule `{}`", row.name))?;
        log::info!("`{}`: jobs made: {}, occurrences skipped: {}", row.name, made.jobs, made.skipped);
        has_jobs |= made.jobs > 0;
    }
    Ok(has_jobs)
}

/// The targets of a definition that has some, as its command lists them.
fn ask_for_targets(
    definition: &Definition,
    folder: &Path,
) -> std::result::Result<Option<Vec<Target>>, String> {
    let Some(targets) = &definition.targets else { return Ok(None) };
    let command = CommandLine {
        argv: targets.command.clone(),
        cwd: definition.cwd.clone(),
        env: definition.env.clone(),
        input: None,
    };
    let mark = format!("{}-{}", std::process::id(), definition.name.replace('/', "_"));
    let ids = ask::lines(&command, folder, &mark, ASKING)?;
    let (fine, long): (Vec<String>, Vec<String>) = ids.into_iter().partition(|id| id.chars().count() <= 190);
    if let Some(id) = long.first() {
        log::warn!(
            "`{}`: {} targets have ids of over 190 characters, the first is `{id}`",
            definition.name,
            long.len()
        );
    }
    Ok(Some(fine.into_iter().map(|id| (targets.kind.clone(), id)).collect()))
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
