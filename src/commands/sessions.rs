//! `duly sessions`: counts the sessions of the shop, and draws what was counted.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::Context;
use super::shop_job::ShopJob;
use crate::cli::{SessionsArgs, SessionsCommand, SessionsShowArgs};
use crate::exit_code::ExitCode;
use crate::job::{Builtin, duration};
use crate::render;
use crate::shop::session_stats;
use crate::store::SessionStat;

/// Lines of the chart.
const LINES: usize = 24;

/// Characters of the longest bar.
const WIDTH: i64 = 40;

pub(super) fn run(context: &Context, args: &SessionsArgs) -> Result<ExitCode> {
    match &args.command {
        SessionsCommand::WriteStat => write_stat(context),
        SessionsCommand::Show(args) => show(context, args),
    }
}

fn write_stat(context: &Context) -> Result<ExitCode> {
    let config = Arc::new(context.config()?);
    let table = &config.sessions;
    let names = ("sessions", table.table.as_str(), vec![("time", table.time.as_str())]);
    ShopJob { config: &config, builtin: Builtin::SessionsWriteStat, target: (None, None), names }.run(
        |store| store.require_columns("sessions", &table.table, &[("time", &table.time)]).map(|_| true),
        session_stats::write,
    )
}

fn show(context: &Context, args: &SessionsShowArgs) -> Result<ExitCode> {
    let (_, mut store) = context.open()?;
    let stats = store.session_stats(args.since).context("cannot read the measurements")?;
    if args.json {
        let all: Value = stats.iter().map(as_json).collect();
        render::answer(&render::json::text(&all))?;
    } else {
        render::answer(&chart(&stats, args.since))?;
    }
    Ok(ExitCode::Success)
}

fn as_json(stat: &SessionStat) -> Value {
    json!({
        "measured_at": render::json::time(stat.measured_at),
        "active_5m": stat.active_5m,
        "active_30m": stat.active_30m,
        "active_24h": stat.active_24h,
        "total": stat.total,
    })
}

/// The latest measurement, and how many sessions were used within 5 minutes: the most of each stretch of time.
fn chart(stats: &[SessionStat], since: Duration) -> String {
    let Some((last, last_at)) = stats.last().and_then(|stat| Some((stat, stat.measured_at?))) else {
        let since = duration::show(since);
        return format!("nothing was measured within {since}; `duly sessions write-stat` measures once");
    };
    let mut text = format!(
        "{} sessions at {} UTC; used within 5 minutes: {}, 30 minutes: {}, a day: {}\n",
        last.total,
        render::utc_time(Some(last_at)),
        last.active_5m,
        last.active_30m,
        last.active_24h
    );
    let peaks = peaks(stats, last_at);
    let most = peaks.iter().map(|(_, peak)| *peak).max().unwrap_or(0).max(1);
    for (at, peak) in peaks {
        let eighths = peak * WIDTH * 8 / most;
        let full = usize::try_from(eighths / 8).unwrap_or(0);
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][usize::try_from(eighths % 8).unwrap_or(0)];
        let bar = format!("{}{rest}", "█".repeat(full));
        let (Ok(()) | Err(_)) = writeln!(text, "{}  {bar} {peak}", at.format("%m-%d %H:%M"));
    }
    text
}

/// Stretches of equal length from the first measurement to the last, each by its beginning, and the most of each.
fn peaks(stats: &[SessionStat], last_at: DateTime<Utc>) -> Vec<(DateTime<Utc>, i64)> {
    let first_at = stats.first().and_then(|stat| stat.measured_at).unwrap_or(last_at);
    let seconds = (last_at - first_at).num_seconds() + 1;
    let lines = i64::try_from(LINES.min(stats.len())).unwrap_or(1);
    // Whole minutes, so that the times in front of the bars are what they say.
    let stretch = (seconds / lines / 60 + 1) * 60;
    let mut peaks: Vec<(DateTime<Utc>, i64)> = Vec::new();
    for stat in stats {
        let Some(at) = stat.measured_at else { continue };
        let begin =
            DateTime::from_timestamp(at.timestamp() - at.timestamp().rem_euclid(stretch), 0).unwrap_or(at);
        match peaks.last_mut() {
            Some((last, peak)) if *last == begin => *peak = (*peak).max(stat.active_5m),
            _ => peaks.push((begin, stat.active_5m)),
        }
    }
    peaks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(minute: i64, active_5m: i64) -> SessionStat {
        let measured_at = DateTime::from_timestamp(1_800_000_000 + minute * 60, 0);
        SessionStat { measured_at, active_5m, active_30m: 0, active_24h: 0, total: 9 }
    }

    #[test]
    fn a_day_of_measurements_is_at_most_a_screen_of_bars_and_the_highest_is_full() {
        let stats: Vec<SessionStat> = (0..288).map(|n| stat(n * 5, n)).collect();
        let text = chart(&stats, Duration::from_secs(86_400));
        let bars: Vec<&str> = text.lines().skip(1).collect();
        assert!((20..=LINES + 1).contains(&bars.len()), "{text}");
        assert!(bars.last().is_some_and(|bar| bar.ends_with(&format!("{} 287", "█".repeat(40)))), "{text}");
    }

    #[test]
    fn one_measurement_is_one_bar_and_none_says_what_to_do() {
        assert_eq!(chart(&[stat(0, 0)], Duration::from_secs(60)).lines().count(), 2);
        assert!(chart(&[], Duration::from_secs(60)).contains("write-stat"));
    }
}
