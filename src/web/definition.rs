//! One definition: what it is, when it runs next, how it went, and forms to start and to pause it.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Html;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::definitions::{paused, results, schedule};
use super::layout::{self, REFRESH};
use super::parts::{button, form, job_link, job_state, name_link, particulars, query, result, time, took};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use crate::job::{Action, Definition, duration};
use crate::store::{Job, Pause, StoreError};

/// Jobs and occurrences shown.
const JOBS: usize = 60;
const NEXT: usize = 5;

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let name = pairs.into_iter().find(|(key, _)| key == "name").map(|(_, name)| name).unwrap_or_default();
    let (config, _) = site.config();
    let wanted = name.clone();
    let seen = site.database.read(move |store| {
        Ok::<_, StoreError>((store.time()?, store.pauses()?, store.strip_of(&wanted, JOBS)?))
    });
    let (now, pauses, jobs) = seen.await?;
    let definition = config.definition(&name);
    if definition.is_none() && jobs.is_empty() {
        return Err(Problem::not_found(format!(
            "jobs.yaml declares no job `{name}`, and there are none of that name."
        )));
    }
    let pause =
        definition.and_then(|definition| pauses.iter().find(|pause| pause.holds(&name, &definition.queue)));
    let body = html! {
        div.title {
            div {
                p.path { a href="/definitions" { "Definitions" } }
                h1 { (crate::job::harmless(&name)) @if let Some(pause) = pause { " " (paused(pause)) } }
                @if let Some(text) = definition.and_then(|definition| definition.description.as_ref().or(definition.label.as_ref())) { p { (text) } }
            }
        }
        @match definition {
            Some(definition) => {
                (facts(definition, now))
                @if visit.may_change() { (forms(&visit, definition, pause)) }
            },
            None => p.banner.bad { "jobs.yaml on this host declares no such job." },
        }
        section.card id="last" data-live="" {
            h2 { "Last jobs" }
            (results(&jobs))
            (table(&jobs))
            p { a href=(format!("/?{}", query(&[("name", &name)]))) { "All of them" } }
        }
    };
    Ok(layout::page(&site, &visit, &name, REFRESH, &body))
}

fn facts(definition: &Definition, now: DateTime<Utc>) -> Markup {
    let command = match &definition.action {
        Action::Command(words) => shell_words::join(words),
        Action::Builtin(builtin) => format!("duly {}", builtin.arguments().join(" ")),
    };
    html! {
        section.card {
            dl.facts {
                div { dt { "Command" } dd { code { (command) } } }
                div { dt { "Schedule" } dd { (schedule(definition)) } }
                div { dt { "Queue" } dd { (definition.queue) ", priority " (definition.priority) } }
                div { dt { "Timeout" } dd { (definition.timeout.map_or_else(|| "none".to_owned(), duration::exact)) } }
                div { dt { "Attempts" } dd { "up to " (definition.max_attempts) } }
                @if let Some(most) = definition.concurrency { div { dt { "At once" } dd { (most) " over all hosts" } } }
                @if !definition.dependents.is_empty() {
                    div { dt { "Then" } dd { @for (at, name) in definition.dependents.iter().enumerate() { @if at > 0 { ", " } (name_link(name)) } } }
                }
            }
            (next(definition, now))
        }
    }
}

/// The next starts, in UTC and by the schedule's own clock.
fn next(definition: &Definition, now: DateTime<Utc>) -> Markup {
    let coming = definition.schedule.as_ref().filter(|_| definition.enabled);
    let times = coming.map(|schedule| {
        let first = schedule.next_start(&definition.name, now);
        let all = std::iter::successors(first, |(at, _)| schedule.next_start(&definition.name, *at));
        all.map(|(at, _)| at)
            .take(NEXT)
            .map(|at| (at, at.with_timezone(&schedule.timezone), schedule.timezone.abbreviation(at)))
            .collect::<Vec<_>>()
    });
    html! {
        @if coming.is_some_and(|schedule| schedule.never_comes(now)) { h2 { "Next" } p { "Never: there is no such day." } }
        @if let Some(times) = times.filter(|times| !times.is_empty()) {
            h2 { "Next" }
            div.scroll {
                table.cards {
                    thead { tr { th { "UTC" } th { "In its time zone" } th { "From now" } } }
                    tbody {
                        @for (at, local, zone) in times {
                            tr {
                                td data-label="UTC" { (time(Some(at))) }
                                td data-label="In its time zone" { (local.format("%a %Y-%m-%d %H:%M:%S")) " " (zone) }
                                td data-label="From now" { (super::parts::distance(at, now)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn forms(visit: &Visit, definition: &Definition, pause: Option<&Pause>) -> Markup {
    let name = definition.name.as_str();
    html! {
        div.columns {
            section.card {
                h2 { "Start" }
                (form(visit, "/start", "fields", &html! {
                    input type="hidden" name="name" value=(name);
                    label for="params" { "Parameters, one a line" }
                    textarea id="params" name="params" rows="3" spellcheck="false" { (definition.params.join("\n")) }
                    label for="target_type" { "Target: type" }
                    input id="target_type" name="target_type" maxlength="100";
                    label for="target_id" { "Target: id" }
                    input id="target_id" name="target_id" maxlength="190";
                    button.primary type="submit" { "Start" }
                }))
            }
            section.card {
                @match pause {
                    Some(pause) => {
                        h2 { "Paused" }
                        p { (paused(pause)) }
                        @if pause.scope == format!("job:{name}") {
                            (button(visit, "/resume", "primary", "Resume", &[("kind", "job"), ("name", name)]))
                        } @else { p { "It is resumed on " a href="/queues" { "Queues" } "." } }
                    },
                    None => {
                        h2 { "Pause" }
                        (form(visit, "/pause", "fields", &html! {
                            input type="hidden" name="kind" value="job";
                            input type="hidden" name="name" value=(name);
                            (pause_fields())
                            button type="submit" { "Pause" }
                        }))
                    },
                }
            }
        }
    }
}

/// What is asked of whoever pauses something.
pub(super) fn pause_fields() -> Markup {
    html! {
        label for="for" { "For how long" }
        input id="for" name="for" placeholder="2 hours; empty: until resumed" maxlength="60";
        label for="reason" { "Why" }
        input id="reason" name="reason" maxlength="400";
    }
}

fn table(jobs: &[Job]) -> Markup {
    html! {
        div.scroll {
            table.cards {
                thead { tr { th.number { "Id" } th { "State" } th { "Parameters" } th { "Started" } th.number { "Duration" } th { "Result" } } }
                tbody {
                    @for job in jobs.iter().take(15) {
                        tr {
                            td.number data-label="Id" { (job_link(job.id)) }
                            td data-label="State" { (job_state(job)) }
                            td data-label="Parameters" { @if let Some(given) = particulars(job) { (given) } }
                            td data-label="Started" { (time(job.started_at)) }
                            td.number data-label="Duration" { (took(job.duration_ms)) }
                            td data-label="Result" { (result(job)) }
                        }
                    }
                }
            }
        }
    }
}
