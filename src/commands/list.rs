//! `duly list`: the last jobs.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Context;
use crate::cli::ListArgs;
use crate::exit_code::ExitCode;
use crate::job::{State, duration};
use crate::render::{self, Style, Table, utc_time};
use crate::store::{Job, ListFilter, Store};

/// Jobs read and shown at once: a list of a million rows takes no more memory than one of a thousand.
const PAGE: u32 = 1000;

pub(super) const HEADINGS: [&str; 8] =
    ["ID", "NAME", "STATE", "QUEUE", "ATTEMPT", "AT (UTC)", "TOOK", "RESULT"];

pub(super) fn run(context: &Context, args: ListArgs) -> Result<ExitCode> {
    let filter = ListFilter {
        state: args.state,
        queue: args.queue,
        name: args.name,
        since: args.since,
        after: None,
        limit: args.limit,
    };
    if args.watch {
        return super::watch::run(context, filter);
    }
    let (_, mut store) = context.open()?;
    print(&mut store, filter, args.json)?;
    Ok(ExitCode::Success)
}

/// Reads and shows the list in parts.
fn print(store: &mut Store, mut filter: ListFilter, as_json: bool) -> Result<()> {
    let mut left = filter.limit;
    let mut array = render::json::Array::default();
    let mut table = Table::new(&HEADINGS);
    loop {
        filter.limit = left.min(PAGE);
        let jobs = store.list(&filter).context("cannot list jobs")?;
        let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        left = left.saturating_sub(count);
        let is_last = left == 0 || count < filter.limit;
        if as_json {
            let part = jobs.iter().map(|job| array.element(&render::json::job(job))).collect::<String>();
            render::answer_part(&part)?;
        } else if filter.after.is_none() || !jobs.is_empty() {
            for job in &jobs {
                table.row(as_row(job));
            }
            render::answer(&table.text())?;
            table = table.following();
        }
        let Some(last) = jobs.last().filter(|_| !is_last) else { break };
        filter.after = Some(last.into());
    }
    if as_json {
        render::answer_part(array.end())?;
    }
    Ok(())
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

pub(super) fn as_row(job: &Job) -> [(String, Style); 8] {
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
        (result(job), Style::Plain),
    ]
}

/// A stored duration for people.
pub(super) fn took(millis: Option<i64>) -> String {
    millis
        .and_then(|millis| u64::try_from(millis).ok())
        .map_or_else(|| "-".to_owned(), |millis| duration::show(Duration::from_millis(millis)))
}

/// How the latest attempt ended, in a few words.
fn result(job: &Job) -> String {
    match (job.exit_code, job.signal, &job.reason) {
        (Some(0), _, _) => "ok".to_owned(),
        (Some(code), _, _) => format!("exit {code}"),
        (None, Some(signal), _) => format!("signal {signal}"),
        (None, None, Some(reason)) => reason.clone(),
        (None, None, None) => job.outcome.clone().unwrap_or_else(|| "-".to_owned()),
    }
}
