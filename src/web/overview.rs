//! The overview: the last jobs, what is to be seen of each, and ways to find one.
//!
//! What is looked for, and which rows are open, is in the address, so that a refresh, a bookmark and the way back show the
//! same; a page goes on behind a job, not after a number of rows, so that it stays while rows arrive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Html;
use chrono::DateTime;
use maud::{Markup, html};

use super::icon;
use super::layout::{self, REFRESH};
use super::parts::{
    button, form, job_link, job_state, name_link, output, particulars, query, result, time, took,
};
use super::problem::Problem;
use super::site::Site;
use super::visit::Visit;
use crate::config::Config;
use crate::job::{State as JobState, is_hook};
use crate::store::{COUNTED, Job, JobPage, JobQuery, OutputRow, Place, StoreError};

/// Jobs on a page.
const ROWS: usize = 50;

/// Rows that may be open at once.
const OPEN: usize = 20;

/// Characters of an output's end that an open row shows.
const TAIL: usize = 6000;

/// How long ago jobs may have been put in, by the words in the address.
const AGES: [(&str, &str, u64); 4] = [
    ("1h", "the last hour", 3600),
    ("1d", "the last day", 86_400),
    ("7d", "7 days", 604_800),
    ("30d", "30 days", 2_592_000),
];

/// What is asked for.
#[derive(Debug, Clone, Default)]
struct Asked {
    state: Option<JobState>,
    queue: Option<String>,
    name: Option<String>,
    text: Option<String>,
    age: Option<&'static str>,
    after: Option<Place>,
    open: Vec<i64>,
}

impl Asked {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for (key, value) in pairs {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match key.as_str() {
                "state" => asked.state = Some(value.parse().map_err(Problem::bad)?),
                "queue" => asked.queue = Some(value.to_owned()),
                "name" => asked.name = Some(value.to_owned()),
                "q" => asked.text = Some(value.chars().take(200).collect()),
                "age" => asked.age = AGES.iter().find(|(age, ..)| *age == value).map(|(age, ..)| *age),
                "after" => {
                    asked.after =
                        Some(place(value).ok_or_else(|| Problem::bad("That is no place in the list."))?);
                }
                "open" => asked.open = value.split(',').filter_map(|id| id.parse().ok()).take(OPEN).collect(),
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The address of what is asked for.
    fn address(&self) -> String {
        let after = self.after.map(|place| match place.at {
            Some(at) => format!("{}@{}", place.id, at.timestamp_micros()),
            None => place.id.to_string(),
        });
        let open: Vec<String> = self.open.iter().map(i64::to_string).collect();
        let open = open.join(",");
        let all = [
            ("state", self.state.map(JobState::as_str)),
            ("queue", self.queue.as_deref()),
            ("name", self.name.as_deref()),
            ("q", self.text.as_deref()),
            ("age", self.age),
            ("after", after.as_deref()),
            ("open", Some(open.as_str()).filter(|open| !open.is_empty())),
        ];
        let pairs: Vec<(&str, &str)> =
            all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        if pairs.is_empty() { "/".to_owned() } else { format!("/?{}", query(&pairs)) }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut asked = self.clone();
        change(&mut asked);
        asked.address()
    }

    fn is_filtered(&self) -> bool {
        self.state.is_some()
            || self.queue.is_some()
            || self.name.is_some()
            || self.text.is_some()
            || self.age.is_some()
    }
}

fn place(text: &str) -> Option<Place> {
    let (id, at) = text.split_once('@').map_or((text, None), |(id, at)| (id, Some(at)));
    let at = match at {
        Some(micros) => Some(DateTime::from_timestamp_micros(micros.parse().ok()?)?),
        None => None,
    };
    Some(Place { at, id: id.parse().ok()? })
}

/// All that the page shows.
struct Seen {
    page: JobPage,
    counts: Vec<(JobState, i64)>,
    /// The end of what the open ones printed last.
    outputs: BTreeMap<i64, Option<OutputRow>>,
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    visit: Visit,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, Problem> {
    let asked = Asked::read(pairs)?;
    let wanted = asked.clone();
    let seen = site.database.read(move |store| {
        let age = wanted.age.and_then(|age| AGES.iter().find(|(known, ..)| *known == age));
        let filter = JobQuery {
            state: wanted.state,
            queue: wanted.queue.clone(),
            name: wanted.name.clone(),
            text: wanted.text.clone().filter(|text| text.parse::<i64>().is_err()),
            within: age.map(|(_, _, seconds)| Duration::from_secs(*seconds)),
            after: wanted.after,
            limit: ROWS,
        };
        let number = wanted.text.as_ref().and_then(|text| text.parse().ok());
        let page = match number {
            Some(id) => JobPage { jobs: store.job(id)?.into_iter().collect(), next: None, is_cut: false },
            None => store.page(&filter)?,
        };
        let mut outputs = BTreeMap::new();
        for job in page.jobs.iter().filter(|job| wanted.open.contains(&job.id)) {
            outputs.insert(job.id, store.output_tail(job.id, None, TAIL)?);
        }
        Ok::<_, StoreError>(Seen { page, counts: store.state_counts()?, outputs })
    });
    let seen = seen.await?;
    let (config, _) = site.config();
    let body = html! {
        div.title {
            h1 { "Jobs" }
            @if visit.may_change() { (starter(&visit, &config)) }
        }
        (states(&asked, &seen.counts))
        (filters(&asked, &config))
        section id="jobs" data-live="" aria-label="Jobs" {
            (table(&visit, &asked, &seen))
            (pager(&asked, &seen.page))
        }
    };
    Ok(layout::page(&site, &visit, "Jobs", REFRESH, &body))
}

/// The Start button of the back office.
fn starter(visit: &Visit, config: &Config) -> Markup {
    let own = config.definitions.iter().filter(|definition| !is_hook(&definition.name));
    form(
        visit,
        "/start",
        "start",
        &html! {
            label.unseen for="start-name" { "What to start" }
            select id="start-name" name="name" required {
                option value="" { "Start a job…" }
                @for definition in own {
                    option value=(definition.name) {
                        (definition.label.as_deref().unwrap_or(&definition.name))
                    }
                }
            }
            button.primary type="submit" { "Start" }
        },
    )
}

/// How many jobs are in each state, as links to them.
fn states(asked: &Asked, counts: &[(JobState, i64)]) -> Markup {
    let to = |state: Option<JobState>| {
        asked.with(|asked| (asked.state, asked.after, asked.open) = (state, None, Vec::new()))
    };
    let count =
        |number: i64| if number >= COUNTED { format!("{}+", COUNTED - 1) } else { number.to_string() };
    html! {
        nav.states id="states" data-live="" aria-label="States" {
            a href=(to(None)) aria-current=[asked.state.is_none().then_some("true")] { "All" }
            @for (state, number) in counts {
                a class=(format!("state {state}{}", if *number == 0 { " none" } else { "" })) href=(to(Some(*state))) aria-current=[(asked.state == Some(*state)).then_some("true")]
                    title=[state.is_ended().then_some("within the last day")] {
                    (icon::of(*state)) (state) " " b { (count(*number)) }
                }
            }
            span.faint { "ended: last 24 h" }
        }
    }
}

fn filters(asked: &Asked, config: &Config) -> Markup {
    html! {
        form.filters method="get" action="/" role="search" aria-label="Jobs" {
            @if let Some(state) = asked.state { input type="hidden" name="state" value=(state); }
            label.unseen for="q" { "Number or text" }
            input id="q" name="q" type="search" placeholder="Number, name, parameter, target, reason" maxlength="200" value=[asked.text.as_deref()];
            label.unseen for="name" { "Name" }
            input id="name" name="name" list="names" placeholder="Name" maxlength="120" value=[asked.name.as_deref()];
            datalist id="names" { @for definition in config.definitions.iter() { option value=(definition.name) {} } }
            label.unseen for="queue" { "Queue" }
            select id="queue" name="queue" {
                option value="" { "Any queue" }
                @for queue in &config.queues { option value=(queue) selected[asked.queue.as_ref() == Some(queue)] { (queue) } }
            }
            label.unseen for="age" { "Created within" }
            select id="age" name="age" {
                option value="" { "Any time" }
                @for (age, words, _) in AGES { option value=(age) selected[asked.age == Some(age)] { (words) } }
            }
            button type="submit" { "Find" }
            @if asked.is_filtered() { a.quiet href="/" { "Clear" } }
        }
    }
}

fn table(visit: &Visit, asked: &Asked, seen: &Seen) -> Markup {
    html! {
        div.scroll {
            table.jobs {
                caption.unseen { "Jobs, newest first" }
                thead {
                    tr {
                        th.plus { span.unseen { "Open" } }
                        th.number { "Id" } th { "Job" } th { "State" } th { "Queue" } th.number { "Attempt" } th { "When" }
                        th.number { "Duration" } th { "Result" }
                    }
                }
                tbody {
                    @for job in &seen.page.jobs {
                        (row(asked, job))
                        @if let Some(output) = seen.outputs.get(&job.id) { (opened(visit, job, output.as_ref())) }
                    }
                    @if seen.page.jobs.is_empty() {
                        tr.empty { td colspan="9" { @if asked.is_filtered() { "Nothing like that." } @else { "No jobs yet." } } }
                    }
                }
            }
        }
    }
}

fn row(asked: &Asked, job: &Job) -> Markup {
    let is_open = asked.open.contains(&job.id);
    let toggled = asked.with(|asked| {
        if is_open {
            asked.open.retain(|open| *open != job.id);
        } else {
            asked.open.insert(0, job.id);
            asked.open.truncate(OPEN);
        }
    });
    let at = match job.state {
        JobState::Delayed | JobState::Waiting => job.run_at,
        _ => job.finished_at.or(job.started_at).or(job.run_at).or(job.created_at),
    };
    html! {
        tr id=(format!("row-{}", job.id)) class=(job.state) {
            td.plus {
                a.plus data-swap="" id=(format!("plus-{}", job.id)) href=(format!("{toggled}#row-{}", job.id)) aria-expanded=(is_open)
                    aria-label=(format!("{} job {}", if is_open { "Close" } else { "Open" }, job.id)) {
                    @if is_open { "−" } @else { "+" }
                }
            }
            td.number data-label="Id" { (job_link(job.id)) }
            td.what data-label="Job" {
                (name_link(&job.name))
                @if let Some(root) = job.root_id { " " span.tag { "child of " (job_link(root)) } }
                @if let Some(particulars) = particulars(job) { span.sub title=(particulars) { (particulars) } }
            }
            td data-label="State" { (job_state(job)) }
            td data-label="Queue" { (job.queue.as_deref().unwrap_or("–")) }
            td.number data-label="Attempt" { (job.attempts) "/" @if let Some(most) = job.max_attempts { (most) } @else { "–" } }
            td.when data-label="When" { (time(at)) }
            td.number data-label="Duration" { (took(job.duration_ms)) }
            td.result data-label="Result" { (result(job)) }
        }
    }
}

/// What the plus sign opens: the reason, the end of the output, and what can be done.
fn opened(visit: &Visit, job: &Job, printed: Option<&OutputRow>) -> Markup {
    html! {
        tr.opened {
            td colspan="9" {
                div.inside {
                    @if let Some(reason) = &job.reason { p.reason { (crate::job::harmless(reason)) } }
                    @match printed {
                        Some(row) => (output(&format!("output-{}", job.id), &row.body, row.truncated)),
                        None => p.faint { "It has printed nothing." },
                    }
                    div.actions {
                        a.button href=(format!("/job/{}", job.id)) { "All about job " (job.id) }
                        (actions(visit, job))
                    }
                }
            }
        }
    }
}

/// What can be done to a job now.
pub(super) fn actions(visit: &Visit, job: &Job) -> Markup {
    let address = |what: &str| format!("/job/{}/{what}", job.id);
    html! {
        @if visit.may_change() {
            @if job.state.is_ended() {
                (button(visit, &address("retry"), "", "Retry", &[]))
            } @else {
                (button(visit, &address("cancel"), "danger", "Cancel", &[]))
            }
        }
    }
}

fn pager(asked: &Asked, page: &JobPage) -> Markup {
    let older =
        page.next.map(|next| asked.with(|asked| (asked.after, asked.open) = (Some(next), Vec::new())));
    let newest = asked.after.map(|_| asked.with(|asked| (asked.after, asked.open) = (None, Vec::new())));
    html! {
        nav.pager aria-label="Pages of the list" {
            @if let Some(newest) = newest { a.button href=(newest) rel="first" { "« Newest" } }
            @if page.is_cut { span.faint { "Looked through 10,000 jobs." } }
            @if let Some(older) = older {
                a.button href=(older) rel="next" { @if page.is_cut { "Search further back ›" } @else { "Older ›" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_as_it_was_written() {
        let pairs = [
            ("state", "failed"),
            ("name", "a b"),
            ("q", "x&y"),
            ("age", "7d"),
            ("after", "12@1700000000000001"),
            ("open", "3,4"),
        ];
        let pairs: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let address = Asked::read(pairs.clone()).unwrap().address();
        assert_eq!(address, "/?state=failed&name=a+b&q=x%26y&age=7d&after=12%401700000000000001&open=3%2C4");
        let read: Vec<(String, String)> =
            url::form_urlencoded::parse(&address.as_bytes()[2..]).into_owned().collect();
        assert_eq!(read, pairs);
        assert!(Asked::read(vec![("state".to_owned(), "gone".to_owned())]).is_err());
        assert!(Asked::read(vec![("after".to_owned(), "1@x".to_owned())]).is_err());
        assert_eq!(Asked::default().address(), "/");
    }
}
