//! `duly jobs`: what is declared, when it runs next, how it went last.

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::Context;
use crate::cli::JsonArgs;
use crate::exit_code::ExitCode;
use crate::job::{Definition, Schedule, Trigger};
use crate::render::{self, Style, Table, utc_time};
use crate::store::{Job, Pause};

pub(super) fn run(context: &Context, args: &JsonArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let now = store.time().context("cannot ask the database for its time")?;
    let names = config.definitions.iter().map(|definition| definition.name.as_str());
    let latest = store.latest_of(names).context("cannot read the latest jobs")?;
    let pauses = store.pauses().context("cannot read the pauses")?;
    let pause_of = |definition: &Definition| {
        pauses.iter().find(|pause| pause.holds(&definition.name, &definition.queue))
    };
    let rows = || {
        config.definitions.iter().map(|definition| {
            let next = definition
                .schedule
                .as_ref()
                .filter(|_| definition.enabled)
                .and_then(|schedule| schedule.next_start(&definition.name, now))
                .map(|(start, _)| start);
            (definition, next, latest.get(&definition.name))
        })
    };
    if args.json {
        let list: Value = rows()
            .map(|(definition, next, last)| as_json(definition, next, last, pause_of(definition)))
            .collect();
        render::answer(&render::json::text(&list))?;
    } else {
        let mut table = Table::new(&["NAME", "DESCRIPTION", "SCHEDULE", "NEXT (UTC)", "LAST"]);
        for (definition, next, last) in rows() {
            table.row(as_row(definition, (next, now), last, pause_of(definition)));
        }
        render::answer(&table.text())?;
    }
    Ok(ExitCode::Success)
}

fn as_json(
    definition: &Definition,
    next: Option<DateTime<Utc>>,
    last: Option<&Job>,
    pause: Option<&Pause>,
) -> Value {
    let schedule = definition.schedule.as_ref();
    json!({
        "name": definition.name,
        "label": definition.label,
        "description": definition.description,
        "schedule": schedule.map(|schedule| schedule.expression.clone()),
        "timezone": schedule.map(|schedule| schedule.timezone.name()),
        "enabled": definition.enabled,
        "next_at": render::json::time(next),
        "jitter": schedule.and_then(Schedule::shown_jitter),
        "queue": definition.queue,
        "dependents": definition.dependents,
        "paused": pause.map(|pause| json!({
            "scope": pause.scope,
            "since": render::json::time(pause.paused_at),
            "until": render::json::time(pause.until_at),
            "by": pause.paused_by,
            "reason": pause.reason,
        })),
        "last": last.map(render::json::job),
    })
}

fn as_row(
    definition: &Definition,
    (next, now): (Option<DateTime<Utc>>, DateTime<Utc>),
    last: Option<&Job>,
    pause: Option<&Pause>,
) -> [(String, Style); 5] {
    let description = definition.description.as_ref().or(definition.label.as_ref());
    let schedule = definition.schedule.as_ref().map_or_else(
        || "-".to_owned(),
        |schedule| {
            let jitter =
                schedule.shown_jitter().map(|jitter| format!(" (jitter {jitter})")).unwrap_or_default();
            let disabled = if definition.enabled { "" } else { " (disabled)" };
            format!("{}{jitter}{disabled}", schedule.expression)
        },
    );
    let comes = definition.schedule.as_ref().filter(|_| definition.enabled);
    let (result, style) = last.map_or(("-".to_owned(), Style::Faint), |job| {
        (
            format!("{} {}", job.state, utc_time(job.finished_at.or(job.started_at))),
            super::list::style(job.state),
        )
    });
    [
        (definition.name.clone(), Style::Plain),
        (description.cloned().unwrap_or_else(|| "-".to_owned()), Style::Plain),
        (schedule, Style::Plain),
        match pause {
            Some(pause) => (format!("paused by {}", pause.paused_by.as_deref().unwrap_or("-")), Style::Bad),
            None => match comes {
                Some(schedule) if schedule.never_comes(now) => ("never".to_owned(), Style::Bad),
                Some(schedule) if schedule.trigger == Trigger::Tick => ("each tick".to_owned(), Style::Faint),
                Some(_) | None => (utc_time(next), Style::Plain),
            },
        },
        (result, style),
    ]
}
