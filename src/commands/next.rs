//! `duly next`: the coming occurrences, in UTC and in the schedule's own zone.

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Context, Usage, definition};
use crate::cli::NextArgs;
use crate::exit_code::ExitCode;
use crate::job::{Definition, Schedule};
use crate::render::{self, Style, Table, utc_time};

pub(super) fn run(context: &Context, args: &NextArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let now = store.time().context("cannot ask the database for its time")?;
    let wanted: Vec<&Definition> = match &args.name {
        Some(name) => vec![definition(&config, name)?],
        None => config.definitions.iter().collect(),
    };
    if let (Some(name), [only]) = (&args.name, wanted.as_slice())
        && only.schedule.is_none()
    {
        return Err(Usage(format!("`{name}` has no schedule in {}", config.path.display())).into());
    }
    let mut coming: Vec<(&Definition, &Schedule, DateTime<Utc>)> = Vec::new();
    for definition in wanted.into_iter().filter(|definition| definition.enabled) {
        let Some(schedule) = &definition.schedule else { continue };
        let mut at = now;
        for _ in 0..args.count {
            let Some(next) = schedule.next_after(at) else { break };
            coming.push((definition, schedule, next));
            at = next;
        }
    }
    coming.sort_by_key(|(_, _, at)| *at);
    let local = |schedule: &Schedule, at: DateTime<Utc>| at.with_timezone(&schedule.timezone);
    if args.json {
        let list: Value = coming
            .iter()
            .map(|(definition, schedule, at)| {
                json!({
                    "name": definition.name,
                    "at": render::json::time(Some(*at)),
                    "local": local(schedule, *at).to_rfc3339(),
                    "timezone": schedule.timezone.name(),
                })
            })
            .collect();
        render::answer(&render::json::text(&list))?;
    } else {
        let mut table = Table::new(&["AT (UTC)", "NAME", "LOCAL"]);
        for (definition, schedule, at) in coming {
            let zone = schedule.timezone.abbreviation(at);
            let local = format!("{} {zone}", local(schedule, at).format("%Y-%m-%d %H:%M:%S"));
            table.row([
                (utc_time(Some(at)), Style::Plain),
                (definition.name.clone(), Style::Plain),
                (local, Style::Plain),
            ]);
        }
        render::answer(&table.text())?;
    }
    Ok(ExitCode::Success)
}
