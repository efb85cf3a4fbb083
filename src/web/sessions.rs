//! How many sessions the shop had, as it was measured.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Html;
use maud::html;

use super::chart::line;
use super::layout::{self, REFRESH, tabs};
use super::parts::time;
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;

/// How far back, by the words in the address.
const RANGES: [(&str, &str, u64); 3] =
    [("1d", "1 day", 86_400), ("7d", "7 days", 604_800), ("30d", "30 days", 2_592_000)];

/// Points in the chart, each the most of its stretch.
const POINTS: usize = 120;

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let asked = pairs.iter().find(|(key, _)| key == "range").map(|(_, value)| value.as_str());
    let range = RANGES.iter().find(|(word, ..)| Some(*word) == asked).unwrap_or(&RANGES[0]);
    let since = Duration::from_secs(range.2);
    let stats = site.database.read(move |store| store.session_stats(since)).await?;
    let size = stats.len().div_ceil(POINTS).max(1);
    let points: Vec<_> = stats
        .chunks(size)
        .filter_map(|chunk| {
            Some((chunk.first()?.measured_at?, chunk.iter().map(|stat| stat.active_5m).max()))
        })
        .collect();
    let choices: Vec<(&str, &str)> = RANGES.iter().map(|(word, text, _)| (*word, *text)).collect();
    let body = html! {
        div.title { h1 { "Sessions" } (tabs("How far back", "range", range.0, &choices, "/sessions")) }
        section id="sessions" data-live="" {
            @match stats.last() {
                Some(last) => {
                    p.faint { "Measured " (time(last.measured_at)) }
                    div.tiles {
                        div.tile { span.figure { (last.active_5m) } " within 5 minutes" }
                        div.tile { span.figure { (last.active_30m) } " within 30 minutes" }
                        div.tile { span.figure { (last.active_24h) } " within a day" }
                        div.tile { span.figure { (last.total) } " in all" }
                    }
                    section.card { h2 { "Used within 5 minutes" } (line("Sessions over time", &points, false)) }
                },
                None => p.card { "Nothing was measured in that time. " code { "duly sessions write-stat" } " measures; a definition with "
                    code { "builtin: sessions-write-stat" } " does it by a schedule." },
            }
        }
    };
    Ok(layout::page(&site, &visit, "Sessions", REFRESH, &body))
}
