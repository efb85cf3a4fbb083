//! What is declared: when it runs in words, how its last jobs ended, and a Start button.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::layout::{self, REFRESH};
use super::parts::{button, name_link, time_and_distance, took};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use super::words::words;
use crate::config::Config;
use crate::job::{Definition, harmless, is_hook};
use crate::store::{Job, Pause, StoreError};

/// Results in a strip.
pub(super) const STRIP: usize = 20;

/// Definitions of which the last results are read; more would make the page slow.
const STRIPS: usize = 300;

pub(super) async fn show(State(site): State<Arc<Site>>, visit: Visit) -> Result<Html<String>, Problem> {
    let (config, _) = site.config();
    let names: Vec<String> = own(&config).take(STRIPS).map(|definition| definition.name.clone()).collect();
    let seen = site.database.read(move |store| {
        let mut strips = BTreeMap::new();
        for name in &names {
            strips.insert(name.clone(), store.strip_of(name, STRIP)?);
        }
        Ok::<_, StoreError>((store.time()?, store.pauses()?, strips))
    });
    let (now, pauses, strips) = seen.await?;
    let body = html! {
        div.title { h1 { "Definitions" } p.faint { "What " (config.path.display()) " declares" } }
        section id="definitions" data-live="" {
            div.scroll {
                table.cards.definitions {
                    thead {
                        tr { th { "Name" } th { "Schedule" } th { "Next (UTC)" } th { "Last results, newest first" } th.number { "Duration" } th { span.unseen { "Actions" } } }
                    }
                    tbody {
                        @for definition in own(&config) {
                            (row(&visit, definition, now, &pauses, strips.get(&definition.name).map_or(&[], Vec::as_slice)))
                        }
                    }
                }
            }
        }
    };
    Ok(layout::page(&site, &visit, "Definitions", REFRESH, &body))
}

fn own(config: &Config) -> impl Iterator<Item = &Definition> {
    config.definitions.iter().filter(|definition| !is_hook(&definition.name))
}

fn row(
    visit: &Visit,
    definition: &Definition,
    now: DateTime<Utc>,
    pauses: &[Pause],
    strip: &[Job],
) -> Markup {
    let enabled = definition.schedule.as_ref().filter(|_| definition.enabled);
    let next =
        enabled.and_then(|schedule| schedule.next_start(&definition.name, now)).map(|(start, _)| start);
    let never = enabled.is_some_and(|schedule| schedule.never_comes(now));
    let pause = pauses.iter().find(|pause| pause.holds(&definition.name, &definition.queue));
    let last = strip.iter().find(|job| job.duration_ms.is_some());
    html! {
        tr {
            td.what data-label="Name" {
                (name_link(&definition.name))
                @if let Some(label) = definition.label.as_ref().or(definition.description.as_ref()) { span.sub { (label) } }
                @if let Some(pause) = pause { (paused(pause)) }
            }
            td data-label="Schedule" { (schedule(definition)) }
            td data-label="Next" { @if next.is_some() { (time_and_distance(next, now)) } @else if never { "never" } @else { span.faint { "–" } } }
            td data-label="Last results" { (results(strip)) }
            td.number data-label="Duration" { (took(last.and_then(|job| job.duration_ms))) }
            td.actions {
                @if visit.may_change() { (button(visit, "/start", "", "Start", &[("name", &definition.name)])) }
            }
        }
    }
}

/// When a definition is due, in words and as it is written.
pub(super) fn schedule(definition: &Definition) -> Markup {
    html! {
        @match &definition.schedule {
            Some(schedule) => {
                @if let Some(words) = words(schedule) { (words) span.sub { code { (schedule.expression) } " " (schedule.timezone.name()) } }
                @else { code { (schedule.expression) } span.sub { (schedule.timezone.name()) } }
                @if let Some(jitter) = schedule.shown_jitter() { span.sub { "jitter " (jitter) } }
                @if !definition.enabled { " " span.tag { "disabled" } }
            },
            None => span.faint { "on request" },
        }
    }
}

/// That something is paused, by whom, until when and why.
pub(super) fn paused(pause: &Pause) -> Markup {
    html! {
        span.tag.paused {
            "paused" @if pause.scope == "all" { " with everything" } @else if let Some(queue) = pause.scope.strip_prefix("queue:") { " with queue " (queue) }
        }
        span.sub {
            "by " (harmless(pause.paused_by.as_deref().unwrap_or("–")))
            @if let Some(at) = pause.until_at { " until " (at.format("%Y-%m-%d %H:%M:%S")) }
            @if let Some(reason) = &pause.reason { ": " (harmless(reason)) }
        }
    }
}

/// The last jobs as a strip: a mark for each, newest first, which leads to the job.
pub(super) fn results(strip: &[Job]) -> Markup {
    html! {
        @if strip.is_empty() { span.faint { "never" } }
        span.strip {
            @for job in strip {
                a class=(format!("mark {}", job.state)) href=(format!("/job/{}", job.id)) title=(format!("job {}: {}", job.id, job.state))
                    aria-label=(format!("job {}, {}", job.id, job.state)) {}
            }
        }
    }
}
