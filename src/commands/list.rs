//! `duly list`: the last jobs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Context;
use crate::cli::ListArgs;
use crate::exit_code::ExitCode;
use crate::job::{State, duration};
use crate::render::{self, Style, Table, utc_time};
use crate::store::{Job, ListFilter};

pub(super) fn run(context: &Context, args: ListArgs) -> Result<ExitCode> {
    let (_, mut store) = context.open()?;
    let filter = ListFilter {
        state: args.state,
        queue: args.queue,
        name: args.name,
        since: args.since,
        limit: args.limit,
    };
    let jobs = store.list(&filter).context("cannot list jobs")?;
    if args.json {
        let list: Value = jobs.iter().map(render::json::job).collect();
        render::answer(&render::json::text(&list))?;
        return Ok(ExitCode::Success);
    }
    let mut table = Table::new(&["ID", "NAME", "STATE", "QUEUE", "ATTEMPT", "AT (UTC)", "TOOK", "RESULT"]);
    for job in &jobs {
        table.row(as_row(job));
    }
    render::answer(&table.text())?;
    Ok(ExitCode::Success)
}

pub(super) const fn style(state: State) -> Style {
    match state {
        State::Success => Style::Good,
        State::Failed | State::Stale => Style::Bad,
        State::Running => Style::Active,
        State::Cancelled => Style::Faint,
        State::New | State::Waiting | State::Delayed | State::Pending => Style::Plain,
    }
}

fn as_row(job: &Job) -> [(String, Style); 8] {
    let at = match job.state {
        State::Delayed | State::Waiting => job.run_at,
        _ => job.finished_at.or(job.started_at).or(job.run_at).or(job.created_at),
    };
    let most = job.max_attempts.map_or_else(|| "-".to_owned(), |most| most.to_string());
    [
        (job.id.to_string(), Style::Plain),
        (job.name.clone(), Style::Plain),
        (job.state.to_string(), style(job.state)),
        (job.queue.clone().unwrap_or_else(|| "-".to_owned()), Style::Plain),
        (format!("{}/{most}", job.attempts), Style::Plain),
        (utc_time(at), Style::Plain),
        (took(job.duration_ms), Style::Plain),
        (job.result(), Style::Plain),
    ]
}

/// A stored duration for people.
pub(super) fn took(millis: Option<i64>) -> String {
    millis
        .and_then(|millis| u64::try_from(millis).ok())
        .map_or_else(|| "-".to_owned(), |millis| duration::show(Duration::from_millis(millis)))
}
