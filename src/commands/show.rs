//! `duly show`: one job whole, or its output as it comes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::list::took;
use super::{Context, graph, no_such_job};
use crate::cli::ShowArgs;
use crate::exit_code::ExitCode;
use crate::job::State;
use crate::render::{self, harmless, utc_time};
use crate::store::{AttemptRow, Job, OutputRow, Store};

/// How often a job that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn run(context: &Context, args: &ShowArgs) -> Result<ExitCode> {
    let (_, mut store) = context.open()?;
    let store = &mut store;
    if args.follow {
        return follow(store, args.id);
    }
    let job = find(store, args.id)?;
    let cannot = || format!("cannot read job {}", args.id);
    let attempts = store.attempts(args.id).with_context(cannot)?;
    let outputs = store.outputs(args.id).with_context(cannot)?;
    let prerequisites = store.prerequisites(args.id).with_context(cannot)?;
    let dependents = store.dependents(args.id).with_context(cannot)?;
    if args.json {
        let mut value = render::json::job(&job);
        let last = outputs.last();
        value["output"] = last.map_or(Value::Null, |output| output.body.clone().into());
        value["output_truncated"] = last.map_or(0, |output| output.truncated).into();
        value["attempt_log"] = attempts
            .iter()
            .map(|attempt| {
                let mut entry = render::json::attempt(attempt);
                let output = outputs.iter().find(|output| output.fence == attempt.fence);
                entry["output"] = output.map_or(Value::Null, |output| output.body.clone().into());
                entry
            })
            .collect();
        value["prerequisites"] = render::json::edges(&prerequisites);
        value["dependents"] = render::json::edges(&dependents);
        value["children"] = store.children(args.id).with_context(cannot)?.into();
        render::answer(&render::json::text(&value))?;
        return Ok(ExitCode::Success);
    }
    render::answer(&in_words(store, &job, &attempts, &outputs)?)?;
    Ok(ExitCode::Success)
}

/// Job `id` whole, for people; and whether it has ended.
pub(super) fn page(store: &mut Store, id: i64) -> Result<(String, bool)> {
    let job = find(store, id)?;
    let cannot = || format!("cannot read job {id}");
    let attempts = store.attempts(id).with_context(cannot)?;
    let outputs = store.outputs(id).with_context(cannot)?;
    Ok((in_words(store, &job, &attempts, &outputs)?, job.state.is_ended()))
}

fn in_words(store: &mut Store, job: &Job, attempts: &[AttemptRow], outputs: &[OutputRow]) -> Result<String> {
    let mut text = head(job);
    text.push_str(&graph::draw(store, job.id)?);
    attempts_and_output(&mut text, attempts, outputs, job);
    Ok(text)
}

fn find(store: &mut Store, id: i64) -> Result<Job> {
    store.job(id).with_context(|| format!("cannot read job {id}"))?.ok_or_else(|| no_such_job(id))
}

fn head(job: &Job) -> String {
    let mut text = format!("job {} ({}) is {}\n", job.id, harmless(&job.name).replace('\n', " "), job.state);
    let mut line = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            let (Ok(()) | Err(_)) = writeln!(text, "  {what:<10} {}", harmless(&value).replace('\n', " "));
        }
    };
    let time = |at| Some(at).filter(Option::is_some).map(|at| format!("{} UTC", utc_time(at)));
    line("reason", job.reason.clone());
    line("queue", job.queue.as_ref().map(|queue| format!("{queue}, priority {}", job.priority.unwrap_or(0))));
    line("params", job.params.clone().filter(|params| params != "[]"));
    let target = (job.target_type.as_deref(), job.target_id.as_deref());
    if target != (None, None) {
        line("target", Some(format!("{} {}", target.0.unwrap_or("-"), target.1.unwrap_or("-"))));
    }
    line("scheduled", time(job.scheduled_for));
    line("created", time(job.created_at));
    line("not before", time(job.run_at));
    line("started", time(job.started_at).map(|at| format!("{at} on {}", job.host.as_deref().unwrap_or("-"))));
    line("finished", time(job.finished_at));
    let most = job.max_attempts.map_or_else(|| "-".to_owned(), |most| most.to_string());
    line("attempts", Some(format!("{} of {most}", job.attempts)));
    line(
        "progress",
        job.progress.map(|percent| {
            format!(
                "{percent} %{}",
                job.progress_text.as_ref().map_or_else(String::new, |text| format!(", {text}"))
            )
        }),
    );
    line("child of", job.root_id.map(|id| format!("job {id}")));
    line("repeats", job.retry_of.map(|id| format!("job {id}")));
    text
}

fn attempts_and_output(text: &mut String, attempts: &[AttemptRow], outputs: &[OutputRow], job: &Job) {
    for attempt in attempts {
        let detail = match (attempt.exit_code, attempt.signal, &attempt.reason) {
            (Some(code), _, _) if code != 0 => format!(" {code}"),
            (_, Some(signal), _) => format!(" {signal}"),
            (_, _, Some(reason)) => format!(": {}", harmless(reason).replace('\n', " ")),
            _ => String::new(),
        };
        let (Ok(()) | Err(_)) = writeln!(
            text,
            "attempt {} {}{detail}, {} UTC, took {}, on {}",
            attempt.attempt,
            attempt.outcome,
            utc_time(attempt.started_at),
            took(attempt.duration_ms),
            harmless(attempt.host.as_deref().unwrap_or("-"))
        );
        output(text, outputs, attempt.fence);
    }
    if job.state == State::Running && job.outcome.is_some() {
        let (Ok(()) | Err(_)) = writeln!(text, "its command has ended; it ends when its children have");
    } else if job.state == State::Running {
        let (Ok(()) | Err(_)) = writeln!(text, "attempt {} is running", job.attempts);
        output(text, outputs, job.fence);
    }
}

fn output(text: &mut String, outputs: &[OutputRow], fence: i64) {
    for line in outputs.iter().filter(|output| output.fence == fence).flat_map(|output| output.body.lines()) {
        let (Ok(()) | Err(_)) = writeln!(text, "  | {}", harmless(line));
    }
}

/// Shows new output until the job ends; exits with 3 when it ended badly.
fn follow(store: &mut Store, id: i64) -> Result<ExitCode> {
    let mut shown: BTreeMap<i64, String> = BTreeMap::new();
    let mut latest = 0;
    loop {
        let job = find(store, id)?;
        // Read after the state: what an ended job printed is complete.
        // What earlier attempts printed was complete when the next one began.
        for output in store.outputs_from(id, latest).with_context(|| format!("cannot read job {id}"))? {
            latest = output.fence;
            let before = shown.entry(output.fence).or_default();
            match output.body.strip_prefix(before.as_str()) {
                Some(new) => render::answer_part(&harmless(new))?,
                // The middle has been left out since: show it anew.
                None => render::answer(&format!("\n… shown again, shortened …\n{}", harmless(&output.body)))?,
            }
            *before = output.body;
        }
        if job.state.is_ended() {
            let is_good = job.state == State::Success;
            if !is_good {
                log::warn!(
                    "job {id} ({}) is {}{}",
                    job.name,
                    job.state,
                    job.reason.map_or_else(String::new, |r| format!(": {r}"))
                );
            }
            return Ok(if is_good { ExitCode::Success } else { ExitCode::JobFailed });
        }
        std::thread::sleep(LOOK);
    }
}
