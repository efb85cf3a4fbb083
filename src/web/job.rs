//! One job whole: where it is and why, what it prints, its attempts, the jobs around it, its children, who did what to it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::graph;
use super::layout::{self, REFRESH};
use super::overview::actions;
use super::parts::{
    button, job_link, job_state, name_link, output, particulars, result, state, time, time_and_distance, took,
};
use super::problem::Problem;
use super::site::Site;
use super::trail;
use super::visit::Visit;
use crate::config::Config;
use crate::job::why::{Facts, Here, why};
use crate::job::{State as JobState, harmless};
use crate::process;
use crate::store::{Around, AttemptRow, AuditRow, Job, OutputRow, Store, StoreError};

/// How often the page of a running job fetches itself, in seconds.
const LIVE: u32 = 2;

/// Characters of an output's end that are shown at once; a link leads to the whole.
const TAIL: usize = 100_000;

/// Children shown at most.
const CHILDREN: usize = 100;

/// All that the page shows.
struct Seen {
    now: DateTime<Utc>,
    job: Job,
    attempts: Vec<AttemptRow>,
    printed: Option<OutputRow>,
    around: Around,
    children: Vec<Job>,
    child_counts: Vec<(JobState, i64)>,
    deeds: Vec<AuditRow>,
    /// What is known of why it does not run.
    facts: Option<Facts>,
}

impl Seen {
    fn read(
        store: &mut Store,
        config: &Config,
        id: i64,
        fence: Option<i64>,
    ) -> Result<Option<Self>, StoreError> {
        let Some(job) = store.job(id)? else { return Ok(None) };
        // Read after the state: what an ended job printed is complete.
        let printed =
            store.output_tail(id, fence.or((job.state == JobState::Running).then_some(job.fence)), TAIL)?;
        Ok(Some(Self {
            now: store.time()?,
            attempts: store.attempts(id)?,
            printed,
            around: store.around(id)?,
            children: store.children_of(id, CHILDREN)?,
            child_counts: store.child_counts(id)?,
            facts: match job.state {
                JobState::Success => None,
                _ => store
                    .facts(id, &|name| config.definition(name).map(|definition| definition.queue.clone()))?,
            },
            deeds: store.deeds(Some(&format!("job {id}")), None, 10)?,
            job,
        }))
    }
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Path(id): Path<i64>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let fence = pairs.iter().find(|(key, _)| key == "output").and_then(|(_, value)| value.parse().ok());
    let (config, _) = site.config();
    let declared = Arc::clone(&config);
    let seen = site.database.read(move |store| Seen::read(store, &declared, id, fence)).await?;
    let seen = seen.ok_or_else(|| {
        Problem::not_found(format!(
            "There is no job {id}. It may have been deleted by clean-up, as `retention` says."
        ))
    })?;
    let job = &seen.job;
    let body = html! {
        div.title id="head" data-live="" {
            div {
                p.path { a href="/" { "Jobs" } " / " (name_link(&job.name)) }
                h1 { "Job " (id) " " (job_state(job)) }
                @if let Some(text) = job.progress_text.as_ref().filter(|_| !job.state.is_ended()) { p.faint { (harmless(text)) } }
            }
            div.actions { (more_actions(&visit, job)) }
        }
        (reasons(&seen, &config))
        (facts(&seen, &config))
        (output_card(&seen))
        (attempts(&seen))
        (graph_card(&seen))
        (children(&seen))
        @if !seen.deeds.is_empty() {
            section.card { h2 { "Who did what" } (trail::table(&seen.deeds)) }
        }
    };
    let every = if job.state == JobState::Running { LIVE } else { REFRESH };
    Ok(layout::page(&site, &visit, &format!("{} {id}", harmless(&job.name)), every, &body))
}

fn more_actions(visit: &Visit, job: &Job) -> Markup {
    html! {
        (actions(visit, job))
        @if visit.may_change() && !job.state.is_ended() && job.root_id.is_none() {
            (button(visit, &format!("/job/{}/cancel", job.id), "danger quiet", "Cancel and kill children", &[("kill", "1")]))
        }
    }
}

/// Why it is not running, and what would start it.
fn reasons(seen: &Seen, config: &Config) -> Markup {
    let reasons = seen.facts.as_ref().map_or_else(Vec::new, |facts| {
        let here = Here { host: process::host(), ..config.here(&facts.name, facts.queue.as_deref()) };
        why(facts, &here)
    });
    html! {
        @if !reasons.is_empty() {
            section.card id="why" data-live="" {
                h2 { @if seen.job.state == JobState::Running { "What it is doing" } @else { "Why it is not running" } }
                ul.why { @for reason in &reasons { li { (harmless(&reason.text)) span.next { (harmless(&reason.next)) } } } }
            }
        }
    }
}

fn facts(seen: &Seen, config: &Config) -> Markup {
    let job = &seen.job;
    let most = job.max_attempts.map_or_else(|| "–".to_owned(), |most| most.to_string());
    let label = config.definition(&job.name).and_then(|definition| definition.label.as_deref());
    html! {
        section.card id="facts" data-live="" aria-label="Facts" {
            @if let Some(reason) = &job.reason { p.reason { (harmless(reason)) } }
            dl.facts {
                @if let Some(label) = label { div { dt { "Label" } dd { (label) } } }
                @if let Some(particulars) = particulars(job) { div { dt { "Parameters" } dd { code { (particulars) } } } }
                div { dt { "Queue" } dd { (job.queue.as_deref().unwrap_or("–")) ", priority " (job.priority.unwrap_or(0)) } }
                div { dt { "Attempts" } dd { (job.attempts) " of " (most) } }
                @if let Some(at) = job.scheduled_for { div { dt { "Scheduled for" } dd { (time(Some(at))) } } }
                div { dt { "Created" } dd { (time_and_distance(job.created_at, seen.now)) } }
                @if !job.state.is_ended() && job.started_at.is_none() {
                    div { dt { "Not before" } dd { (time_and_distance(job.run_at, seen.now)) } }
                }
                @if job.started_at.is_some() {
                    div { dt { "Started" } dd { (time_and_distance(job.started_at, seen.now)) " on " (job.host.as_deref().unwrap_or("–")) } }
                }
                @if job.state == JobState::Delayed && job.started_at.is_some() {
                    div { dt { "Next attempt" } dd { (time_and_distance(job.run_at, seen.now)) } }
                }
                @if job.finished_at.is_some() {
                    div { dt { "Finished" } dd { (time_and_distance(job.finished_at, seen.now)) } }
                    div { dt { "Duration" } dd { (took(job.duration_ms)) } }
                }
                @if let Some(root) = job.root_id { div { dt { "Child of" } dd { "job " (job_link(root)) } } }
                @if let Some(old) = job.retry_of { div { dt { "Retry of" } dd { "job " (job_link(old)) } } }
            }
        }
    }
}

fn output_card(seen: &Seen) -> Markup {
    let job = &seen.job;
    let is_live = job.state == JobState::Running && job.outcome.is_none();
    html! {
        section.card id="printed" data-live="" aria-label="Output" {
            h2 { "Output" @if is_live { " " span.tag.live { "live" } } }
            @match &seen.printed {
                Some(row) => {
                    (output("output", &row.body, row.truncated))
                    p.faint { a href=(format!("/job/{}/output/{}", job.id, row.fence)) { "The whole output as text" } }
                },
                None if is_live => p.faint { "It has printed nothing yet." },
                None => p.faint { "It has printed nothing." },
            }
        }
    }
}

fn attempts(seen: &Seen) -> Markup {
    let job = &seen.job;
    html! {
        @if !seen.attempts.is_empty() {
            section.card id="attempts" data-live="" {
                h2 { "Attempts" }
                div.scroll {
                    table.cards {
                        thead { tr { th.number { "Attempt" } th { "Outcome" } th { "Started" } th.number { "Duration" } th { "Host" } th { "Output" } } }
                        tbody {
                            @for attempt in seen.attempts.iter().rev() {
                                tr {
                                    td.number data-label="Attempt" { (attempt.attempt) }
                                    td data-label="Outcome" { (ended(attempt)) }
                                    td data-label="Started" { (time(attempt.started_at)) }
                                    td.number data-label="Duration" { (took(attempt.duration_ms)) }
                                    td data-label="Host" { (attempt.host.as_deref().unwrap_or("–")) }
                                    td data-label="Output" {
                                        a href=(format!("/job/{}?output={}#printed", job.id, attempt.fence)) { "show" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn ended(attempt: &AttemptRow) -> Markup {
    let class = if attempt.outcome == "success" { "state success" } else { "state failed" };
    html! {
        span class=(class) { (attempt.outcome) }
        @match (attempt.exit_code, attempt.signal) {
            (Some(code), _) if code != 0 => { " with " (code) },
            (_, Some(signal)) => { " " (signal) },
            _ => {},
        }
        @if let Some(reason) = &attempt.reason { span.sub { (harmless(reason)) } }
    }
}

fn graph_card(seen: &Seen) -> Markup {
    html! {
        @if seen.around.jobs.len() > 1 {
            section.card id="graph" data-live="" {
                h2 { "Dependencies" }
                (graph::draw(&seen.around, seen.job.id))
                @if seen.around.is_cut { p.faint { "There are more than are drawn." } }
            }
        }
    }
}

fn children(seen: &Seen) -> Markup {
    let total: i64 = seen.child_counts.iter().map(|(_, number)| number).sum();
    html! {
        @if total > 0 {
            section.card id="children" data-live="" {
                h2 { (total) @if total == 1 { " child job" } @else { " child jobs" } }
                p.counts { @for (kind, number) in &seen.child_counts { span.count { (number) " " (state(*kind)) } } }
                div.scroll {
                    table.cards {
                        thead { tr { th.number { "Id" } th { "Job" } th { "State" } th.number { "Duration" } th { "Result" } } }
                        tbody {
                            @for child in &seen.children {
                                tr {
                                    td.number data-label="Id" { (job_link(child.id)) }
                                    td data-label="Job" { (name_link(&child.name)) @if let Some(given) = particulars(child) { span.sub { (given) } } }
                                    td data-label="State" { (job_state(child)) }
                                    td.number data-label="Duration" { (took(child.duration_ms)) }
                                    td data-label="Result" { (result(child)) }
                                }
                            }
                        }
                    }
                }
                @if usize::try_from(total).is_ok_and(|total| total > seen.children.len()) {
                    p.faint { "The first " (seen.children.len()) " are shown, those that have not ended before the others." }
                }
            }
        }
    }
}

/// What an attempt printed, as plain text and nothing else.
pub(super) async fn whole_output(
    State(site): State<Arc<Site>>,
    Path((id, fence)): Path<(i64, i64)>,
) -> Result<Response, Problem> {
    let outputs = site.database.read(move |store| store.output_tail(id, Some(fence), 1 << 27)).await?;
    let output = outputs.ok_or_else(|| Problem::not_found(format!("Job {id} has no such output.")))?;
    let mut response = harmless(&output.body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}
