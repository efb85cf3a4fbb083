//! `duly next`: the coming starts, in UTC and in the schedule's own zone.

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Context, Usage, definition};
use crate::cli::NextArgs;
use crate::exit_code::ExitCode;
use crate::job::{Definition, Schedule, Trigger, Zone, duration};
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
    let mut coming: Vec<Start<'_>> = Vec::new();
    // What has a schedule and no next start, and why.
    let mut without: Vec<(&Definition, &str)> = Vec::new();
    for definition in wanted {
        let Some(schedule) = &definition.schedule else { continue };
        match schedule.trigger {
            _ if !definition.enabled => {
                without.extend(args.name.is_some().then_some((definition, "disabled")));
            }
            Trigger::Tick => without.push((definition, "each tick")),
            Trigger::Cron(_) if schedule.never_comes(now) => without.push((definition, "never")),
            Trigger::Cron(_) => {
                let first = schedule.next_start(&definition.name, now);
                let all = std::iter::successors(first, |(at, _)| schedule.next_start(&definition.name, *at));
                let starts = all.map(|(at, occurrence)| Start { definition, schedule, at, occurrence });
                coming.extend(starts.take(usize::try_from(args.count).unwrap_or(usize::MAX)));
            }
        }
    }
    coming.sort_by_key(|start| start.at);
    if args.json {
        render::answer(&render::json::text(&coming.iter().map(Start::as_json).collect()))?;
    } else {
        let mut table = Table::new(&["AT (UTC)", "NAME", "LOCAL"]);
        for start in coming {
            table.row([
                (utc_time(Some(start.at)), Style::Plain),
                (start.definition.name.clone(), Style::Plain),
                (start.local_and_jitter(), Style::Plain),
            ]);
        }
        for (definition, why) in without {
            table.row([
                (why.to_owned(), Style::Faint),
                (definition.name.clone(), Style::Plain),
                ("-".to_owned(), Style::Faint),
            ]);
        }
        render::answer(&table.text())?;
    }
    Ok(ExitCode::Success)
}

/// A start that will come.
struct Start<'a> {
    definition: &'a Definition,
    schedule: &'a Schedule,
    at: DateTime<Utc>,
    occurrence: DateTime<Utc>,
}

impl Start<'_> {
    fn local(&self) -> DateTime<Zone> {
        self.at.with_timezone(&self.schedule.timezone)
    }

    /// `2026-03-01 02:00:12 CET (12s of the jitter 30s)`.
    fn local_and_jitter(&self) -> String {
        let zone = self.schedule.timezone.abbreviation(self.at);
        let jitter = self.schedule.shown_jitter().map(|jitter| {
            let late = (self.at - self.occurrence).to_std().unwrap_or_default();
            format!(" ({} of the jitter {jitter})", duration::show(late))
        });
        format!("{} {zone}{}", self.local().format("%Y-%m-%d %H:%M:%S"), jitter.unwrap_or_default())
    }

    fn as_json(&self) -> Value {
        json!({
            "name": self.definition.name,
            "at": render::json::time(Some(self.at)),
            "local": self.local().to_rfc3339(),
            "timezone": self.schedule.timezone.name(),
            "scheduled_for": render::json::time(Some(self.occurrence)),
            "jitter": self.schedule.shown_jitter(),
        })
    }
}
