//! What `duly status` answers: as text with tables, and as JSON.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::status::Told;
use crate::job::health::{Failing, Level, Overview};
use crate::job::why::length;
use crate::job::{Host, State};
use crate::render::{self, Style, Table, harmless, utc_time};
use crate::store::Job;

pub(super) fn as_text(told: &Told) -> String {
    let mut text = format!("{}\n", harmless(&told.overview.verdict(&told.findings)).replace('\n', " "));
    for finding in &told.findings {
        let line = format!("- {}: {}\n  → {}\n", finding.level.as_str(), finding.text, finding.next);
        text.push_str(&harmless(&line));
    }
    let overview = &told.overview;
    let now = overview.now;
    text.push_str("\nhosts\n");
    text.push_str(&hosts(&overview.hosts, now));
    if told.more_hosts > 0 {
        text.push_str(&format!(
            "and {} more that ticked longer ago; `duly clean-up` forgets those of over a day ago\n",
            told.more_hosts
        ));
    }
    text.push_str("\nqueues\n");
    text.push_str(&queues(overview));
    if !told.running.is_empty() {
        text.push_str("\nrunning\n");
        text.push_str(&running(&told.running, now));
    }
    if !overview.failing.is_empty() {
        text.push_str("\nfailed within 24 hours\n");
        text.push_str(&failing(&overview.failing, now));
    }
    text.push_str(&format!(
        "\ndatabase {}, schema {}, answered in {:.1}ms, its clock is {} this host's\n",
        told.database,
        told.schema,
        overview.latency.as_secs_f64() * 1000.0,
        difference(overview.clock_difference)
    ));
    for line in &told.lines {
        let entry = &line.entry;
        let offset = entry.sleep.map_or_else(String::new, |sleep| format!(" + {}s", sleep.as_secs()));
        let user = entry.user.as_deref().map_or_else(String::new, |user| format!(" as {user}"));
        text.push_str(&harmless(&format!(
            "crontab {}:{}: `{}`{offset}{user}\n",
            line.file.display(),
            entry.line,
            entry.schedule
        )));
    }
    text
}

fn difference(difference: TimeDelta) -> String {
    let millis = difference.num_milliseconds();
    match millis {
        -50..=50 => "that of".to_owned(),
        _ => format!(
            "{:.1}s {}",
            difference.abs().as_seconds_f64(),
            if millis > 0 { "ahead of" } else { "behind" }
        ),
    }
}

fn hosts(hosts: &[Host], now: DateTime<Utc>) -> String {
    let mut table = Table::new(&["HOST", "LAST TICK (UTC)", "AGO", "VERSION", "NAMES", "TROUBLE"]);
    for host in hosts {
        let ago = match (host.ahead(now), host.last_tick_at) {
            (Some(ahead), _) => format!("{} ahead", length(ahead)),
            (None, Some(at)) => length(now - at),
            (None, None) => "-".to_owned(),
        };
        let style = if host.ticks(now) { Style::Good } else { Style::Bad };
        let jobs =
            host.declares.as_ref().map_or_else(|| "-".to_owned(), |declares| declares.jobs.len().to_string());
        let trouble = host.trouble(now).unwrap_or("-").to_owned();
        table.row([
            (host.shown(), Style::Plain),
            (utc_time(host.last_tick_at), Style::Plain),
            (ago, style),
            (host.version.clone(), Style::Plain),
            (jobs, Style::Plain),
            (trouble, Style::Plain),
        ]);
    }
    table.text()
}

/// The states that a queue's jobs have, in the order of the columns.
const OPEN: [State; 5] = [State::New, State::Waiting, State::Delayed, State::Pending, State::Running];

fn queues(overview: &Overview) -> String {
    let mut table = Table::new(&["QUEUE", "NEW", "WAITING", "DELAYED", "PENDING", "RUNNING", "OLDEST"]);
    for (queue, (states, oldest)) in overview.queues() {
        let name = if queue.is_empty() { "(not adopted)" } else { queue };
        let numbers = OPEN.map(|state| (states.get(&state).copied().unwrap_or(0).to_string(), Style::Plain));
        let oldest = oldest.map_or_else(|| "-".to_owned(), |at| length(overview.now - at));
        table.row(
            [(name.to_owned(), Style::Plain)].into_iter().chain(numbers).chain([(oldest, Style::Plain)]),
        );
    }
    table.text()
}

fn running(jobs: &[Job], now: DateTime<Utc>) -> String {
    let mut table = Table::new(&["ID", "NAME", "QUEUE", "HOST", "SINCE (UTC)", "FOR"]);
    for job in jobs {
        table.row([
            (job.id.to_string(), Style::Plain),
            (job.name.clone(), Style::Active),
            (job.queue.clone().unwrap_or_else(|| "-".to_owned()), Style::Plain),
            (job.host.clone().unwrap_or_else(|| "-".to_owned()), Style::Plain),
            (utc_time(job.started_at), Style::Plain),
            (job.started_at.map_or_else(|| "-".to_owned(), |at| length(now - at)), Style::Plain),
        ]);
    }
    table.text()
}

fn failing(all: &[Failing], now: DateTime<Utc>) -> String {
    let mut table = Table::new(&["NAME", "FAILED", "STALE", "LAST", "SINCE THEN"]);
    for failing in all {
        let has_recovered = failing.latest == Some(State::Success);
        table.row([
            (failing.name.clone(), Style::Plain),
            (failing.failed.to_string(), Style::Plain),
            (failing.stale.to_string(), Style::Plain),
            (
                failing.last_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", length(now - at))),
                Style::Plain,
            ),
            if has_recovered {
                ("has succeeded".to_owned(), Style::Good)
            } else {
                ("-".to_owned(), Style::Bad)
            },
        ]);
    }
    table.text()
}

pub(super) fn as_json(told: &Told) -> Value {
    let overview = &told.overview;
    let time = render::json::time;
    json!({
        "verdict": overview.verdict(&told.findings),
        "level": told.findings.iter().map(|finding| finding.level).max().map_or("fine", Level::as_str),
        "findings": told.findings.iter().map(|finding| json!({
            "level": finding.level.as_str(),
            "kind": finding.kind,
            "text": finding.text,
            "next": finding.next,
        })).collect::<Vec<_>>(),
        "now": time(Some(overview.now)),
        "hosts": overview.hosts.iter().map(|host| json!({
            "host": host.name,
            "queues": host.queues,
            "last_tick_at": time(host.last_tick_at),
            "version": host.version,
            "ticks": host.ticks(overview.now),
            "trouble": host.trouble(overview.now),
        })).collect::<Vec<_>>(),
        "queues": overview.queues().into_iter().map(|(queue, (states, oldest))| {
            let mut value = json!({
                "queue": (!queue.is_empty()).then_some(queue),
                "oldest_at": time(oldest),
            });
            for state in OPEN {
                value[state.as_str()] = states.get(&state).copied().unwrap_or(0).into();
            }
            value
        }).collect::<Vec<_>>(),
        "running": told.running.iter().map(render::json::job).collect::<Vec<_>>(),
        "failing": overview.failing.iter().map(|failing| json!({
            "name": failing.name,
            "failed": failing.failed,
            "stale": failing.stale,
            "last_at": time(failing.last_at),
            "has_succeeded_since": failing.latest == Some(State::Success),
        })).collect::<Vec<_>>(),
        "late": overview.late.iter().map(|(name, at)| json!({ "name": name, "since": time(Some(*at)) })).collect::<Vec<_>>(),
        "pauses": overview.pauses.iter().map(|hold| json!({
            "scope": hold.scope,
            "since": time(hold.since),
            "until": time(hold.until),
            "by": hold.by,
            "reason": hold.reason,
        })).collect::<Vec<_>>(),
        "crontab": told.lines.iter().map(|line| json!({
            "file": line.file,
            "line": line.entry.line,
            "schedule": line.entry.schedule,
            "offset_seconds": line.entry.sleep.map_or(0, |sleep| sleep.as_secs()),
            "user": line.entry.user,
        })).collect::<Vec<_>>(),
        "schema": told.schema,
        "tzdata": crate::config::tzdata(),
        "latency_seconds": overview.latency.as_secs_f64(),
        "clock_difference_seconds": overview.clock_difference.as_seconds_f64(),
    })
}
