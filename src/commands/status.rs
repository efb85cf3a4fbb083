//! `duly status`: how the whole stands, with a verdict in one line; as text, as JSON, and as a monitoring plugin says it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::Context;
use crate::cli::StatusArgs;
use crate::config::installed::{TickLine, tick_lines};
use crate::config::{Config, ConfigError};
use crate::exit_code::ExitCode;
use crate::job::health::{Failing, Finding, Level, Overview};
use crate::job::why::{Hold, length};
use crate::job::{Host, SILENT, State};
use crate::process::{self, state_dir};
use crate::render::{self, Style, Table, harmless, utc_time};
use crate::store::{Job, ListFilter, Store};

/// How far back failures are told.
const FAILURES: Duration = Duration::from_secs(86_400);

/// Everything that is told.
struct Told {
    overview: Overview,
    findings: Vec<Finding>,
    running: Vec<Job>,
    lines: Vec<TickLine>,
    schema: String,
    database: String,
}

pub(super) fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode> {
    let looked = context.open().and_then(|(config, mut store)| look(&config, &mut store, args.max_wait));
    let told = match looked {
        Ok(told) => told,
        Err(err) if args.nagios => return unknown(&err),
        Err(err) => return Err(err),
    };
    if args.nagios {
        return nagios(&told);
    }
    if args.json {
        render::answer(&render::json::text(&as_json(&told)))?;
    } else {
        render::answer(&as_text(&told))?;
    }
    let is_bad = told.findings.iter().any(|finding| finding.level > Level::Note);
    Ok(if is_bad { ExitCode::JobFailed } else { ExitCode::Success })
}

fn look(config: &Config, store: &mut Store, max_wait: Duration) -> Result<Told> {
    let cannot = "cannot read how things stand";
    let (latency, now) = store.answer_time().context(cannot)?;
    let clock_difference = now - process::clock::host_time();
    let pauses: Vec<Hold> = store.pauses().context(cannot)?.into_iter().map(Hold::from).collect();
    let is_paused = |name: &str| {
        let queue = config.definition(name).map(|definition| definition.queue.as_str());
        pauses.iter().any(|hold| match hold.scope.split_once(':') {
            None => true,
            Some(("queue", paused)) => queue == Some(paused),
            Some((_, paused)) => name == paused,
        })
    };
    let schedules = store.schedules(false).context(cannot)?;
    let is_ours = |name: &str| config.definition(name).is_some_and(|definition| definition.enabled);
    let late = schedules
        .into_iter()
        .filter(|row| is_ours(&row.name) && !is_paused(&row.name))
        .filter_map(|row| Some((row.name, row.next.filter(|next| now - *next > SILENT)?)))
        .collect();
    let folder = state_dir::locate(&config.runner.state_dir, &config.database.identity());
    let lines = tick_lines();
    let overview = Overview {
        now,
        latency,
        turn: store.wait_for_turn().map_err(|err| err.to_string()),
        clock_difference,
        hosts: store.hosts().context(cannot)?,
        depths: store.depths().context(cannot)?,
        failing: store.failing(FAILURES).context(cannot)?,
        stuck: store.stuck().context(cannot)?,
        backing_off: store.backing_off().context(cannot)?,
        expired: store.expired_leases().context(cannot)?,
        late,
        limits: config.queue_limits.clone(),
        max_wait,
        state_folder: state_dir::try_writing(&folder, config.runner.concurrency),
        has_cron: (!lines.is_empty()).then(|| process::is_running(&["cron", "crond", "fcron", "busybox"])),
        pauses,
    };
    let filter = ListFilter { state: Some(State::Running), limit: 20, ..ListFilter::default() };
    let running = store.list(&filter).context(cannot)?;
    Ok(Told {
        findings: overview.findings(),
        overview,
        running,
        lines,
        schema: crate::store::wanted_version(),
        database: config.database.to_string(),
    })
}

fn as_text(told: &Told) -> String {
    let mut text = format!("{}\n", harmless(&told.overview.verdict(&told.findings)).replace('\n', " "));
    for finding in &told.findings {
        let line = format!("- {}: {}\n  → {}\n", finding.level.as_str(), finding.text, finding.next);
        text.push_str(&harmless(&line));
    }
    let overview = &told.overview;
    let now = overview.now;
    text.push_str("\nhosts\n");
    text.push_str(&hosts(&overview.hosts, now));
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
    let mut table = Table::new(&["HOST", "LAST TICK (UTC)", "AGO", "VERSION", "JOBS", "TROUBLE"]);
    for host in hosts {
        let ago = host.last_tick_at.map_or_else(|| "-".to_owned(), |at| length(now - at));
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

fn as_json(told: &Told) -> Value {
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
        "latency_seconds": overview.latency.as_secs_f64(),
        "clock_difference_seconds": overview.clock_difference.as_seconds_f64(),
    })
}

/// One line and figures, with the codes of monitoring plugins.
fn nagios(told: &Told) -> Result<ExitCode> {
    let worst = told.findings.iter().map(|finding| finding.level).max();
    let (word, code) = match worst {
        None | Some(Level::Note) => ("OK", 0),
        Some(Level::Warning) => ("WARNING", 1),
        Some(Level::Critical) => ("CRITICAL", 2),
    };
    let overview = &told.overview;
    let of = |state| overview.depths.iter().filter(|d| d.state == state).map(|d| d.jobs).sum::<u64>();
    let oldest = overview.queues().values().filter_map(|(_, oldest)| *oldest).min();
    let last = overview.hosts.iter().filter_map(|host| host.last_tick_at).max();
    let seconds = |at: Option<DateTime<Utc>>| at.map_or(0, |at| (overview.now - at).num_seconds().max(0));
    let failed: u64 = overview.failing.iter().map(|failing| failing.failed + failing.stale).sum();
    let verdict = overview.verdict(&told.findings);
    let mut text = format!(
        "DULY {word} - {} | pending={};;;0 running={};;;0 delayed={};;;0 waiting={};;;0 failed_24h={failed};;;0 oldest={}s;{};;0 \
         tick_age={}s;;{};0 latency={:.4}s;;;0\n",
        // A bar would begin the figures.
        harmless(verdict.split_once(": ").map_or(verdict.as_str(), |(_, text)| text))
            .replace(['\n', '|'], " "),
        of(State::Pending) + of(State::New),
        of(State::Running),
        of(State::Delayed),
        of(State::Waiting),
        seconds(oldest),
        overview.max_wait.as_secs(),
        seconds(last),
        SILENT.num_seconds(),
        overview.latency.as_secs_f64(),
    );
    for finding in &told.findings {
        let line = format!("{}: {}", finding.level.as_str(), finding.text);
        text.push_str(&format!("{}\n", harmless(&line).replace(['\n', '|'], " ")));
    }
    render::answer(&text)?;
    Ok(ExitCode::Plugin(code))
}

/// What a monitoring plugin says when it could not look: critical where the database is away, unknown where this host is set
/// up wrongly.
fn unknown(err: &anyhow::Error) -> Result<ExitCode> {
    let (word, code) = if err.is::<ConfigError>() { ("UNKNOWN", 3) } else { ("CRITICAL", 2) };
    let line = harmless(&format!("{err:#}")).replace(['\n', '|'], " ");
    render::answer(&format!("DULY {word} - {line}\n"))?;
    Ok(ExitCode::Plugin(code))
}
