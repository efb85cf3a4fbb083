//! `duly status`: how the whole stands, with a verdict in one line; as text, as JSON, and as a monitoring plugin says it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};

use super::Context;
use super::status_answer::{as_json, as_text};
use crate::cli::StatusArgs;
use crate::config::installed::{TickLine, tick_lines};
use crate::config::{Config, ConfigError};
use crate::exit_code::ExitCode;
use crate::job::health::{Finding, Level, Overview};
use crate::job::why::Hold;
use crate::job::{AHEAD, SILENT, State};
use crate::process::{self, state_dir};
use crate::render::{self, harmless};
use crate::store::{Job, ListFilter, Store};

/// How far back failures are told.
const FAILURES: Duration = Duration::from_secs(86_400);

/// Everything that is told.
pub(super) struct Told {
    pub(super) overview: Overview,
    /// Hosts that are not among those of the overview.
    pub(super) more_hosts: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) running: Vec<Job>,
    pub(super) lines: Vec<TickLine>,
    pub(super) schema: String,
    pub(super) database: String,
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
    let pauses = store.pauses().context(cannot)?;
    let is_paused = |name: &str| {
        let queue = config.definition(name).map_or("", |definition| definition.queue.as_str());
        pauses.iter().any(|pause| pause.holds(name, queue))
    };
    let schedules = store.schedules(false).context(cannot)?;
    let is_ours = |name: &str| config.definition(name).is_some_and(|definition| definition.enabled);
    let ahead = schedules
        .iter()
        .filter(|row| is_ours(&row.name) && row.mark - now > AHEAD)
        .map(|row| (row.name.clone(), row.mark))
        .collect();
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
        takes_writes: store.takes_writes().context(cannot)?,
        turn: store.wait_for_turn().map_err(|err| err.to_string()),
        clock_difference,
        hosts: store.hosts().context(cannot)?,
        depths: store.depths().context(cannot)?,
        failing: store.failing(FAILURES).context(cannot)?,
        stuck: store.stuck().context(cannot)?,
        backing_off: store.backing_off().context(cannot)?,
        expired: store.expired_leases().context(cannot)?,
        late,
        ahead,
        limits: config.queue_limits.clone(),
        max_wait,
        refused: crate::runner::refused(&folder),
        state_folder: state_dir::try_writing(&folder, config.runner.concurrency),
        has_cron: (!lines.is_empty()).then(|| process::is_running(&["cron", "crond", "fcron", "busybox"])),
        pauses: pauses.into_iter().map(Hold::from).collect(),
    };
    let filter = ListFilter { state: Some(State::Running), limit: 20, ..ListFilter::default() };
    let running = store.list(&filter).context(cannot)?;
    let more_hosts = store.more_hosts().context(cannot)?;
    Ok(Told {
        more_hosts,
        findings: overview.findings(),
        overview,
        running,
        lines,
        schema: crate::db::wanted_version(),
        database: config.database.to_string(),
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
    let last = overview.last_tick();
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
