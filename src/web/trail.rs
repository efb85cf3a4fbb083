//! Who did what, on this page and by the command line.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Html;
use maud::{Markup, html};

use super::layout::{self, REFRESH};
use super::parts::{job_link, name_link, query, time};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use crate::job::harmless;
use crate::store::AuditRow;

/// Rows on a page.
const ROWS: usize = 100;

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let before = pairs.iter().find(|(key, _)| key == "before").and_then(|(_, value)| value.parse().ok());
    let most = u32::try_from(ROWS + 1).unwrap_or(u32::MAX);
    let mut deeds = site.database.read(move |store| store.deeds(None, before, most)).await?;
    let has_more = deeds.len() > ROWS;
    deeds.truncate(ROWS);
    let body = html! {
        div.title { h1 { "Audit trail" } p.faint { "What people did here and by the command line" } }
        section.card id="trail" data-live="" {
            (table(&deeds))
            @if deeds.is_empty() { p.faint { "Nobody has done anything yet." } }
            nav.pager aria-label="Pages of the trail" {
                @if before.is_some() { a.button href="/trail" { "« Newest" } }
                @if let Some(last) = deeds.last().filter(|_| has_more) {
                    a.button href=(format!("/trail?{}", query(&[("before", &last.id.to_string())]))) { "Older ›" }
                }
            }
        }
    };
    Ok(layout::page(&site, &visit, "Audit trail", REFRESH, &body))
}

pub(super) fn table(deeds: &[AuditRow]) -> Markup {
    html! {
        @if !deeds.is_empty() {
            div.scroll {
                table.cards {
                    thead { tr { th { "When" } th { "Who" } th { "Did" } th { "To" } th { "Detail" } th { "By" } } }
                    tbody {
                        @for deed in deeds {
                            tr {
                                td data-label="When" { (time(deed.at)) }
                                td data-label="Who" { (harmless(&deed.who)) }
                                td data-label="Did" { (deed.did) }
                                td data-label="To" { (subject(&deed.subject)) }
                                td data-label="Detail" { @if let Some(detail) = &deed.detail { (subject(detail)) } }
                                td data-label="By" { (deed.via) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Something that was done something to, as a link where it is a job or a definition.
fn subject(text: &str) -> Markup {
    let (before, id) =
        text.rsplit_once("job ").map_or(("", None), |(before, id)| (before, id.parse::<i64>().ok()));
    html! {
        span {
            @if let Some(id) = id { (before) "job " (job_link(id)) }
            @else if let Some(name) = text.strip_prefix("definition ") { "definition " (name_link(name)) }
            @else { (harmless(text)) }
        }
    }
}
