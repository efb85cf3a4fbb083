//! Runs, failures, durations and waiting over time and per name, from the latest ends. What was read is kept for some
//! seconds and shared, since many viewers ask for the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::response::Html;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use tokio::sync::Mutex;

use super::chart::{Bar, bars, line};
use super::layout::{self, tabs};
use super::parts::{name_link, query, time, took};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use crate::job::State as JobState;
use crate::store::{EndRow, StoreError};

/// Ends read of each state, at most.
const SUCCESSES: usize = 10_000;
const OTHERS: usize = 5_000;

/// How long what was read is good.
const FRESH: Duration = Duration::from_secs(15);

/// How often this page fetches itself, in seconds.
const REFRESH: u32 = 30;

/// Bars in a chart.
const BARS: i64 = 48;

/// How far back, by the words in the address.
const RANGES: [(&str, &str, u64); 4] = [
    ("1h", "1 hour", 3600),
    ("1d", "1 day", 86_400),
    ("7d", "7 days", 604_800),
    ("30d", "30 days", 2_592_000),
];

/// What was read of a range.
pub(super) struct Ends {
    now: DateTime<Utc>,
    ends: Vec<(JobState, EndRow)>,
    /// Since when there is everything, where not all was read.
    cut: Option<DateTime<Utc>>,
}

/// What was read of each range, and when. Held while it is read: who comes meanwhile waits for that.
#[derive(Default)]
pub(super) struct Figures {
    kept: Mutex<HashMap<u64, (Instant, Arc<Ends>)>>,
}

impl Figures {
    async fn get(&self, site: &Site, seconds: u64) -> Result<Arc<Ends>, Problem> {
        let mut kept = self.kept.lock().await;
        if let Some((_, ends)) = kept.get(&seconds).filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(ends));
        }
        let since = Duration::from_secs(seconds);
        let ends = Arc::new(
            site.database
                .read(move |store| {
                    let mut all = Ends { now: store.time()?, ends: Vec::new(), cut: None };
                    for state in JobState::ENDED {
                        let most = if state == JobState::Success { SUCCESSES } else { OTHERS };
                        let rows = store.latest_ends(state, since, most)?;
                        if rows.len() == most {
                            all.cut = all.cut.max(rows.last().and_then(|row| row.finished_at));
                        }
                        all.ends.extend(rows.into_iter().map(|row| (state, row)));
                    }
                    Ok::<_, StoreError>(all)
                })
                .await?,
        );
        kept.insert(seconds, (Instant::now(), Arc::clone(&ends)));
        Ok(ends)
    }
}

/// What the ends of one name come to.
#[derive(Default)]
struct OfName {
    runs: usize,
    failures: usize,
    durations: Vec<i64>,
    waits: Vec<i64>,
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let asked = |key: &str| pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let range = RANGES.iter().find(|(word, ..)| Some(*word) == asked("range")).unwrap_or(&RANGES[1]);
    let only = asked("name").filter(|name| !name.is_empty());
    let all = site.figures.get(&site, range.2).await?;
    let ends: Vec<&(JobState, EndRow)> =
        all.ends.iter().filter(|(_, row)| only.is_none_or(|only| only == row.name)).collect();
    let choices: Vec<(&str, &str)> = RANGES.iter().map(|(word, text, _)| (*word, *text)).collect();
    let body = html! {
        div.title {
            h1 { "Statistics" @if let Some(only) = only { " of " (crate::job::harmless(only)) } }
            (tabs("How far back", "range", range.0, &choices, "/statistics"))
        }
        section id="statistics" data-live="" {
            @if let Some(cut) = all.cut { p.faint { "More ended than is read at once: complete since " (time(Some(cut))) "." } }
            (totals(&ends))
            (charts(&ends, all.now, range.2))
            (names(&ends, range.0))
        }
    };
    Ok(layout::page(&site, &visit, "Statistics", REFRESH, &body))
}

const fn is_bad(state: JobState) -> bool {
    matches!(state, JobState::Failed | JobState::Stale)
}

fn waited(row: &EndRow) -> Option<i64> {
    Some((row.started_at? - row.run_at?).num_milliseconds().max(0))
}

/// The value that this share of `values` does not exceed.
fn percentile(values: &mut [i64], percent: usize) -> Option<i64> {
    values.sort_unstable();
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
}

fn totals(ends: &[&(JobState, EndRow)]) -> Markup {
    let failures = ends.iter().filter(|(state, _)| is_bad(*state)).count();
    let mut durations: Vec<i64> = ends.iter().filter_map(|(_, row)| row.duration_ms).collect();
    let mut waits: Vec<i64> = ends.iter().filter_map(|(_, row)| waited(row)).collect();
    html! {
        div.tiles {
            div.tile { span.figure { (ends.len()) } " ended" }
            div.tile.bad[failures > 0] { span.figure { (failures) } " failed or given up" }
            div.tile { span.figure { (took(percentile(&mut durations, 50))) } " median duration" }
            div.tile { span.figure { (took(percentile(&mut durations, 95))) } " 95 % took less" }
            div.tile { span.figure { (took(percentile(&mut waits, 95))) } " 95 % waited less" }
        }
    }
}

fn charts(ends: &[&(JobState, EndRow)], now: DateTime<Utc>, seconds: u64) -> Markup {
    let width = i64::try_from(seconds).unwrap_or(i64::MAX) / BARS;
    let first = now.timestamp() - width * BARS;
    let empty = || (0_i64, 0_i64, Vec::new(), Vec::new());
    let mut stretches: Vec<(i64, i64, Vec<i64>, Vec<i64>)> = (0..BARS).map(|_| empty()).collect();
    for (state, row) in ends {
        let Some(at) = row.finished_at else { continue };
        let Ok(at) = usize::try_from((at.timestamp() - first) / width) else { continue };
        let Some(stretch) = stretches.get_mut(at) else { continue };
        *(if is_bad(*state) { &mut stretch.1 } else { &mut stretch.0 }) += 1;
        stretch.2.extend(row.duration_ms);
        stretch.3.extend(waited(row));
    }
    let begins = |at: usize| {
        DateTime::from_timestamp(first + width * i64::try_from(at).unwrap_or(0), 0).unwrap_or(now)
    };
    let runs: Vec<Bar> = stretches
        .iter()
        .enumerate()
        .map(|(at, (good, bad, ..))| Bar { at: begins(at), good: *good, bad: *bad })
        .collect();
    let durations: Vec<(DateTime<Utc>, Option<i64>)> = stretches
        .iter_mut()
        .enumerate()
        .map(|(at, stretch)| (begins(at), percentile(&mut stretch.2, 95)))
        .collect();
    let waits: Vec<(DateTime<Utc>, Option<i64>)> = stretches
        .iter_mut()
        .enumerate()
        .map(|(at, stretch)| (begins(at), percentile(&mut stretch.3, 95)))
        .collect();
    html! {
        section.card { h2 { "Runs and failures" } (bars("Runs and failures over time", &runs)) }
        div.columns {
            section.card { h2 { "Duration, 95th percentile" } (line("Duration over time", &durations, true)) }
            section.card { h2 { "Waiting, 95th percentile" } (line("Waiting over time", &waits, true)) }
        }
    }
}

fn names(ends: &[&(JobState, EndRow)], range: &str) -> Markup {
    let mut by_name: BTreeMap<&str, OfName> = BTreeMap::new();
    for (state, row) in ends {
        let of = by_name.entry(&row.name).or_default();
        of.runs += 1;
        of.failures += usize::from(is_bad(*state));
        of.durations.extend(row.duration_ms);
        of.waits.extend(waited(row));
    }
    let mut all: Vec<(&str, OfName)> = by_name.into_iter().collect();
    all.sort_by_key(|(_, of)| std::cmp::Reverse((of.failures, of.runs)));
    html! {
        section.card {
            h2 { "By name" }
            div.scroll {
                table.cards {
                    thead { tr { th { "Name" } th.number { "Runs" } th.number { "Failed" } th.number { "Median" } th.number { "95 %" } th.number { "Longest" } th.number { "Waited, 95 %" } th { } } }
                    tbody {
                        @for (name, mut of) in all.into_iter().take(200) {
                            tr {
                                td data-label="Name" { (name_link(name)) }
                                td.number data-label="Runs" { (of.runs) }
                                td.number.bad[of.failures > 0] data-label="Failed" { (of.failures) }
                                td.number data-label="Median" { (took(percentile(&mut of.durations, 50))) }
                                td.number data-label="95 %" { (took(percentile(&mut of.durations, 95))) }
                                td.number data-label="Longest" { (took(of.durations.last().copied())) }
                                td.number data-label="Waited" { (took(percentile(&mut of.waits, 95))) }
                                td { a href=(format!("/statistics?{}", query(&[("range", range), ("name", name)]))) { "charts" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
