//! Queues and hosts: how much waits and for how long, what runs and holds the limited places, who ticks, what is paused.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::definition::pause_fields;
use super::layout::{self, REFRESH};
use super::parts::{
    button, distance, form, job_link, job_state, name_link, particulars, time, time_and_distance,
};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use crate::config::Config;
use crate::job::{Host, harmless};
use crate::store::{Job, Pause, QUEUED, QueueLoad, StoreError};

/// Running jobs shown at most.
const RUNNING: usize = 200;

/// All that the page shows.
struct Seen {
    now: DateTime<Utc>,
    loads: Vec<QueueLoad>,
    hosts: Vec<Host>,
    pauses: Vec<Pause>,
    running: Vec<Job>,
}

pub(super) async fn show(State(site): State<Arc<Site>>, visit: Visit) -> Result<Html<String>, Problem> {
    let (config, _) = site.config();
    let queues = config.queues.clone();
    let seen = site.database.read(move |store| {
        Ok::<_, StoreError>(Seen {
            now: store.time()?,
            loads: store.queue_loads(&queues)?,
            hosts: store.hosts()?,
            pauses: store.pauses()?,
            running: store.running(RUNNING)?,
        })
    });
    let seen = seen.await?;
    let body = html! {
        div.title { h1 { "Queues and hosts" } }
        section.card id="pauses" data-live="" { (pauses(&visit, &seen)) }
        section.card id="queues" data-live="" { h2 { "Queues" } (queues_table(&config, &seen)) }
        section.card id="hosts" data-live="" { h2 { "Hosts" } (hosts(&seen)) }
        section.card id="running" data-live="" { h2 { "Running" } (running(&config, &seen)) }
        @if visit.may_change() { (pause_form(&visit, &config)) }
    };
    Ok(layout::page(&site, &visit, "Queues", REFRESH, &body))
}

fn pauses(visit: &Visit, seen: &Seen) -> Markup {
    html! {
        h2 { "Pauses" }
        @if seen.pauses.is_empty() { p.faint { "Nothing is paused." } }
        @for pause in &seen.pauses {
            @let (kind, name) = pause.scope.split_once(':').unwrap_or((pause.scope.as_str(), ""));
            div.pause {
                span.tag.paused { "paused" } " "
                strong { @match kind { "all" => "everything", "queue" => { "queue " (harmless(name)) }, _ => { "job " (harmless(name)) } } }
                span.faint {
                    " by " (harmless(pause.paused_by.as_deref().unwrap_or("–")))
                    @if let Some(at) = pause.paused_at { ", " (distance(at, seen.now)) }
                    @if let Some(at) = pause.until_at { ", until " (time(Some(at))) }
                    @if let Some(reason) = &pause.reason { ": " (harmless(reason)) }
                }
                @if visit.may_change() { (button(visit, "/resume", "", "Resume", &[("kind", kind), ("name", name)])) }
            }
        }
    }
}

fn queues_table(config: &Config, seen: &Seen) -> Markup {
    let counted =
        |number: i64| if number >= QUEUED { format!("{}+", QUEUED - 1) } else { number.to_string() };
    html! {
        div.scroll {
            table.cards {
                thead { tr { th { "Queue" } th.number { "Pending" } th { "Oldest" } th.number { "Delayed" } th.number { "Running" } th { "Limit" } } }
                tbody {
                    @for load in &seen.loads {
                        @let running = seen.running.iter().filter(|job| job.queue.as_ref() == Some(&load.queue)).count();
                        tr {
                            td data-label="Queue" { a href=(format!("/?{}", super::parts::query(&[("queue", &load.queue)]))) { (load.queue) } }
                            td.number data-label="Pending" { (counted(load.pending)) }
                            td data-label="Oldest" { @if load.pending > 0 { (time_and_distance(load.oldest_at, seen.now)) } @else { span.faint { "–" } } }
                            td.number data-label="Delayed" { (counted(load.delayed)) }
                            td.number data-label="Running" { (running) }
                            td data-label="Limit" {
                                @match config.queue_limits.get(&load.queue) {
                                    Some(limit) => span { meter min="0" max=(limit) value=(running) { (running) } " " (running) " of " (limit) },
                                    None => span.faint { "none" },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn hosts(seen: &Seen) -> Markup {
    html! {
        @if seen.hosts.is_empty() { p.faint { "No host has ticked yet: " code { "duly crontab" } " prints the line for cron." } }
        @else {
            div.scroll {
                table.cards {
                    thead { tr { th { "Host" } th { "State" } th { "Last tick" } th { "Version" } th { "Trouble" } } }
                    tbody {
                        @for host in &seen.hosts {
                            tr {
                                td data-label="Host" { (harmless(&host.shown())) }
                                td data-label="State" {
                                    @if host.ticks(seen.now) { span.state.success { "ticks" } } @else { span.state.failed { "silent" } }
                                }
                                td data-label="Last tick" { (time_and_distance(host.last_tick_at, seen.now)) }
                                td data-label="Version" { (host.version) }
                                td data-label="Trouble" { @if let Some(trouble) = host.trouble(seen.now) { (harmless(trouble)) } @else { span.faint { "–" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn running(config: &Config, seen: &Seen) -> Markup {
    html! {
        @if seen.running.is_empty() { p.faint { "Nothing." } }
        @else {
            div.scroll {
                table.cards {
                    thead { tr { th.number { "Id" } th { "Job" } th { "State" } th { "Queue" } th { "Host" } th { "Since" } th { "Holds" } } }
                    tbody {
                        @for job in &seen.running {
                            @let queue = job.queue.as_deref().unwrap_or("–");
                            tr {
                                td.number data-label="Id" { (job_link(job.id)) }
                                td.what data-label="Job" { (name_link(&job.name)) @if let Some(given) = particulars(job) { span.sub { (given) } } }
                                td data-label="State" { (job_state(job)) }
                                td data-label="Queue" { (queue) }
                                td data-label="Host" { (job.host.as_deref().unwrap_or("–")) }
                                td data-label="Since" { (time_and_distance(job.started_at, seen.now)) }
                                td data-label="Holds" {
                                    @if config.queue_limits.contains_key(queue) { span.tag { "a place of queue " (queue) } " " }
                                    @if config.definition(&job.name).is_some_and(|definition| definition.concurrency.is_some()) { span.tag { "a place of its name" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn pause_form(visit: &Visit, config: &Config) -> Markup {
    html! {
        div.columns {
            section.card {
                h2 { "Pause a queue" }
                (form(visit, "/pause", "fields", &html! {
                    input type="hidden" name="kind" value="queue";
                    label for="queue" { "Queue" }
                    select id="queue" name="name" { @for queue in &config.queues { option value=(queue) { (queue) } } }
                    (pause_fields())
                    button type="submit" { "Pause" }
                }))
            }
            section.card {
                h2 { "Pause everything" }
                p.faint { "Nothing new starts on any host; what runs goes on to its end." }
                (form(visit, "/pause", "fields", &html! {
                    input type="hidden" name="kind" value="all";
                    label for="all-reason" { "Why" }
                    input id="all-reason" name="reason" maxlength="400";
                    button.danger type="submit" { "Pause everything" }
                }))
            }
        }
    }
}
