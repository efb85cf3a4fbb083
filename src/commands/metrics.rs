//! `duly metrics`: how the whole stands, as Prometheus reads it; to standard output, or to a file of `node_exporter`'s.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};

use super::Context;
use crate::cli::MetricsArgs;
use crate::config::Config;
use crate::db::wanted_version;
use crate::exit_code::ExitCode;
use crate::job::{Host, State, Trigger};
use crate::process::clock::host_time;
use crate::render::{self, Exposition};
use crate::store::{BOUNDS_MS, Counters, Store};

/// Lost orders counted at most.
const ORDERS: usize = 10_000;

pub(super) fn run(context: &Context, args: &MetricsArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let measured = crate::runner::open(&config).and_then(|mut store| measure(&config, &mut store));
    let mut exposition = Exposition::default();
    exposition.family(
        "duly_up",
        "gauge",
        "Whether the database answers and has the schema that this version needs",
    );
    exposition.sample(&[], if measured.is_ok() { 1.0 } else { 0.0 });
    let text = exposition.text() + measured.as_ref().map_or("", String::as_str);
    match (&args.textfile, measured) {
        // That the database is away is in the file; who looks at it is told by that.
        (Some(path), measured) => {
            if let Err(err) = measured {
                log::info!("{err:#}");
            }
            write_whole(path, &text)
                .with_context(|| format!("cannot write the metrics to `{}`", path.display()))?;
        }
        (None, Ok(_)) => render::answer(&text)?,
        (None, Err(err)) => {
            render::answer(&text)?;
            return Err(err);
        }
    }
    Ok(ExitCode::Success)
}

/// Writes a file that is never seen half written: beside it first, then in its place. Others may read it.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let name = path
        .file_name()
        .context("it names no file; expected one such as /var/lib/node_exporter/duly.prom")?;
    let beside = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&beside).and_then(|mut file| {
            use std::os::unix::fs::PermissionsExt as _;
            // Whatever the umask of cron or systemd: node_exporter is another user.
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            fs::rename(&beside, path)
        });
    if written.is_err()
        && let Err(err) = fs::remove_file(&beside)
    {
        log::debug!("cannot remove {}: {err}", beside.display());
    }
    Ok(written?)
}

fn measure(config: &Config, store: &mut Store) -> Result<String> {
    let cannot = "cannot read the metrics";
    let (latency, now) = store.answer_time().context(cannot)?;
    let mut out = Exposition::default();
    out.family("duly_info", "gauge", "The version of Duly");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    out.family("duly_schema_version", "gauge", "The version of the schema");
    out.sample(&[], wanted_version().parse().unwrap_or(0.0));
    out.family("duly_database_latency_seconds", "gauge", "How long one query took to be answered");
    out.sample(&[], latency.as_secs_f64());
    out.family("duly_database_clock_difference_seconds", "gauge", "The database's time less this host's");
    out.sample(&[], (now - host_time()).as_seconds_f64());
    queues(&mut out, config, store, now).context(cannot)?;
    counters(&mut out, &store.counters().context(cannot)?);
    names(&mut out, config, store, now).context(cannot)?;
    hosts(&mut out, &store.hosts().context(cannot)?, now);
    out.family(
        "duly_expired_leases",
        "gauge",
        "Running jobs whose runner has vanished and that nobody has taken back, up to 20",
    );
    out.sample(&[], number(store.expired_leases().context(cannot)?.len()));
    out.family("duly_paused", "gauge", "1 for each pause that lasts");
    for pause in store.pauses().context(cannot)? {
        out.sample(&[("scope", &pause.scope)], 1.0);
    }
    shop(&mut out, config, store).context(cannot)?;
    Ok(out.text())
}

fn queues(out: &mut Exposition, config: &Config, store: &mut Store, now: DateTime<Utc>) -> Result<()> {
    let depths = store.depths()?;
    let mut jobs: BTreeMap<(String, State), u64> = BTreeMap::new();
    let mut oldest: BTreeMap<String, TimeDelta> = BTreeMap::new();
    // What is empty is told too: a series that comes and goes cannot be compared.
    for queue in &config.queues {
        oldest.insert(queue.clone(), TimeDelta::zero());
        jobs.extend(OPEN.map(|state| ((queue.clone(), state), 0)));
    }
    for depth in depths {
        let queue = depth.queue.unwrap_or_default();
        *jobs.entry((queue.clone(), depth.state)).or_default() += depth.jobs;
        if let Some(at) = depth.oldest.filter(|_| depth.state == State::Pending) {
            oldest.insert(queue, (now - at).max(TimeDelta::zero()));
        }
    }
    out.family(
        "duly_queue_jobs",
        "gauge",
        "Jobs that have not ended, by queue and state; those not taken in may have no queue yet",
    );
    for ((queue, state), count) in &jobs {
        out.sample(&[("queue", queue), ("state", state.as_str())], number(*count));
    }
    out.family(
        "duly_jobs_running",
        "gauge",
        "Jobs that are held by runners, and roots that wait for their children",
    );
    for ((queue, _), count) in jobs.iter().filter(|((_, state), _)| *state == State::Running) {
        out.sample(&[("queue", queue)], number(*count));
    }
    out.family(
        "duly_queue_oldest_age_seconds",
        "gauge",
        "How long the oldest startable job of the queue has been startable",
    );
    for (queue, age) in &oldest {
        out.sample(&[("queue", queue)], age.as_seconds_f64());
    }
    Ok(())
}

const OPEN: [State; 5] = [State::New, State::Waiting, State::Delayed, State::Pending, State::Running];

fn counters(out: &mut Exposition, counters: &Counters) {
    out.family("duly_jobs_ended_total", "counter", "Jobs that ended");
    for ((name, state), (count, _)) in &counters.ended {
        out.sample(&[("name", name), ("state", state)], number(*count));
    }
    out.family("duly_attempts_total", "counter", "Attempts, by how they ended; counted when their job ends");
    for ((name, outcome), (count, _)) in &counters.attempts {
        out.sample(&[("name", name), ("outcome", outcome)], number(*count));
    }
    out.family(
        "duly_orphans_total",
        "counter",
        "Attempts whose runner vanished; counted when their job ends",
    );
    for ((name, _), (count, _)) in counters.attempts.iter().filter(|((_, outcome), _)| outcome == "orphaned")
    {
        out.sample(&[("name", name)], number(*count));
    }
    out.family(
        "duly_attempt_duration_seconds",
        "histogram",
        "How long attempts ran; counted when their job ends",
    );
    for (name, slots) in &counters.durations {
        let mut sum = 0;
        for (count, bound) in slots.iter().zip(BOUNDS_MS.iter().map(Some).chain([None])) {
            sum += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |ms| seconds(*ms).to_string());
            out.part("_bucket", &[("name", name), ("le", &bound)], number(sum));
        }
        let took = counters.durations_ms.get(name).copied().unwrap_or(0);
        out.part("_sum", &[("name", name)], Duration::from_millis(took).as_secs_f64());
        out.part("_count", &[("name", name)], number(sum));
    }
    let mut last: BTreeMap<&str, DateTime<Utc>> = BTreeMap::new();
    out.family("duly_last_success_timestamp_seconds", "gauge", "When a job of the name last succeeded");
    for ((name, state), (_, at)) in &counters.ended {
        let Some(at) = *at else { continue };
        let latest = last.entry(name).or_insert(at);
        *latest = at.max(*latest);
        if state == State::Success.as_str() {
            out.sample(&[("name", name)], timestamp(at));
        }
    }
    out.family("duly_last_end_timestamp_seconds", "gauge", "When a job of the name last ended, however");
    for (name, at) in last {
        out.sample(&[("name", name)], timestamp(at));
    }
}

fn names(out: &mut Exposition, config: &Config, store: &mut Store, now: DateTime<Utc>) -> Result<()> {
    let scheduled = || {
        let enabled = config.definitions.iter().filter(|definition| definition.enabled);
        enabled.filter_map(|definition| Some((definition, definition.schedule.as_ref()?)))
    };
    out.family(
        "duly_next_occurrence_timestamp_seconds",
        "gauge",
        "The next instant of the schedule, before its jitter",
    );
    for (definition, schedule) in scheduled().filter(|(_, schedule)| schedule.trigger != Trigger::Tick) {
        if let Some(next) = schedule.next_after(now) {
            out.sample(&[("name", &definition.name)], timestamp(next));
        }
    }
    let rows = store.schedules(false)?;
    let pauses = store.pauses()?;
    out.family(
        "duly_schedule_late_seconds",
        "gauge",
        "How long an occurrence has been due that no tick has made a job of",
    );
    for (definition, _) in scheduled() {
        let is_paused = pauses.iter().any(|pause| pause.holds(&definition.name, &definition.queue));
        let next = rows.iter().find(|row| row.name == definition.name).and_then(|row| row.next);
        let late =
            next.filter(|_| !is_paused).map_or(TimeDelta::zero(), |next| (now - next).max(TimeDelta::zero()));
        out.sample(&[("name", &definition.name)], late.as_seconds_f64());
    }
    Ok(())
}

fn hosts(out: &mut Exposition, hosts: &[Host], now: DateTime<Utc>) {
    let names: Vec<String> = hosts.iter().map(Host::shown).collect();
    let all = || names.iter().zip(hosts);
    out.family(
        "duly_runner_last_tick_timestamp_seconds",
        "gauge",
        "When the host last ticked, to about 30 seconds",
    );
    for (name, host) in all() {
        out.sample(&[("host", name)], host.last_tick_at.map_or(0.0, timestamp));
    }
    out.family("duly_runner_trouble", "gauge", "1 where a tick of the last three minutes could not work");
    for (name, host) in all() {
        out.sample(&[("host", name)], if host.trouble(now).is_some() { 1.0 } else { 0.0 });
    }
    out.family(
        "duly_tick_duration_seconds",
        "gauge",
        "How long the host's latest tick took that lasted over a second",
    );
    for (name, tick) in all().filter_map(|(name, host)| Some((name, host.tick?))) {
        out.sample(&[("host", name)], tick.as_secs_f64());
    }
    out.family("duly_lease_renewals_total", "counter", "How often such ticks have renewed their leases");
    for (name, host) in all() {
        out.sample(&[("host", name)], number(host.renewals));
    }
}

fn shop(out: &mut Exposition, config: &Config, store: &mut Store) -> Result<()> {
    if let Some(settings) = &config.lost_orders {
        use crate::job::shop::OrderState;
        let open = [OrderState::Lost, OrderState::Sending, OrderState::GivenUp];
        let orders = store.lost_orders(&settings.table, &open, ORDERS)?;
        out.family("duly_lost_orders", "gauge", "Orders whose transfer to the ERP failed, up to 10,000");
        for state in open {
            let count = orders.iter().filter(|order| order.state == Some(state)).count();
            out.sample(&[("state", state.as_str())], number(count));
        }
    }
    if let Some(stat) = store.latest_session_stat()? {
        out.family("duly_sessions", "gauge", "Sessions used within the time, by the latest measurement");
        let windows = [
            ("5m", stat.active_5m),
            ("30m", stat.active_30m),
            ("24h", stat.active_24h),
            ("total", stat.total),
        ];
        for (window, count) in windows {
            out.sample(&[("window", window)], number(count));
        }
    }
    Ok(())
}

/// A number as the format has them all; exact up to 2⁵³.
fn number(count: impl TryInto<u64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of jobs beyond 2⁵³ may be rounded")]
    let number = count.try_into().unwrap_or(0) as f64;
    number
}

fn seconds(millis: i64) -> f64 {
    TimeDelta::milliseconds(millis).as_seconds_f64()
}

fn timestamp(at: DateTime<Utc>) -> f64 {
    seconds(at.timestamp_millis())
}
