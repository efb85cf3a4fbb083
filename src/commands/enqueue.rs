//! `duly enqueue`: one job by its arguments, or many as JSON Lines.
//!
//! Of a batch nothing is put in before every line of it has been found valid.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Context, Usage, definition, note, require_queue};
use crate::cli::EnqueueArgs;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::job::{On, duration, instant};
use crate::render;
use crate::store::{NewJob, Start, Store};

/// Jobs put in by one transaction.
const BATCH: usize = 10_000;

/// Problems told of a batch.
const TOLD: usize = 20;

/// What a line of a batch may say.
const KEYS: [&str; 10] =
    ["name", "params", "queue", "priority", "at", "in", "after", "unique_key", "target_type", "target_id"];

/// One line of a batch.
struct Line(Map<String, Value>);

impl Line {
    fn read(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|err| without_place(&err))?;
        let Value::Object(map) = value else {
            return Err("expected a JSON object such as {\"name\": \"import\"}".to_owned());
        };
        match map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            Some(key) => Err(format!("unknown key `{key}`, expected one of {}", KEYS.join(", "))),
            None => Ok(Self(map)),
        }
    }

    /// The value of `key`, if it is there and not `null`.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, String> {
        let value = self.0.remove(key).unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|err| format!("`{key}`: {}", without_place(&err)))
    }
}

/// A message without its place in the line, which says nothing to whoever wrote the line.
fn without_place(err: &serde_json::Error) -> String {
    let text = err.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

pub(super) fn run(context: &Context, args: EnqueueArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let jobs = match &args.batch {
        Some(path) => read_batch(&config, path)?,
        None => vec![from_arguments(&config, args)?],
    };
    let mut store = crate::runner::open(&config)?;
    for batch in jobs.chunks(BATCH) {
        put_in(&config, &mut store, batch)?;
    }
    // By hand, and not by an application.
    if let ([job], true) = (jobs.as_slice(), io::stdin().is_terminal()) {
        note(&mut store, "enqueue", &format!("definition {}", job.name), None);
    }
    Ok(ExitCode::Success)
}

fn put_in(config: &Config, store: &mut Store, jobs: &[NewJob]) -> Result<()> {
    let ids = store.enqueue(jobs, &|name| config.definition(name)).with_context(|| match jobs {
        [job] => format!("cannot enqueue `{}`", job.name),
        jobs => format!("cannot enqueue {} jobs", jobs.len()),
    })?;
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    render::answer(&lines)
}

fn from_arguments(config: &Config, args: EnqueueArgs) -> Result<NewJob> {
    let name = args.name.unwrap_or_default();
    let definition = definition(config, &name)?;
    let mut job = NewJob::of(definition);
    if let Some(queue) = args.queue {
        require_queue(config, &queue)?;
        job.queue = queue;
    }
    job.start = match (args.at, args.wait) {
        (Some(at), _) => Start::At(at),
        (None, Some(wait)) => Start::In(wait),
        (None, None) => Start::Now,
    };
    job.unique_key = args.unique_key;
    job.priority = args.priority.unwrap_or(job.priority);
    if !args.params.is_empty() {
        job.params = args.params;
    }
    job.target = (args.target.target_type, args.target.target_id);
    job.after = args.after;
    job.check(definition).map_err(Usage)?;
    Ok(job)
}

fn read_batch(config: &Config, path: &Path) -> Result<Vec<NewJob>> {
    let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path).with_context(|| format!("cannot read the batch `{}`", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let (mut jobs, mut problems, mut wrong) = (Vec::new(), Vec::new(), 0);
    for (number, line) in reader.split(b'\n').enumerate() {
        let line = line.with_context(|| format!("cannot read the batch `{}`", path.display()))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_line(config, &line) {
            Ok(job) => jobs.push(job),
            Err(problem) => {
                wrong += 1;
                if problems.len() < TOLD {
                    problems.push(format!("line {}: {problem}", number + 1));
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(jobs);
    }
    let more = if wrong > TOLD { format!("; and {} more", wrong - TOLD) } else { String::new() };
    Err(Usage(format!("nothing of the batch was put in: {}{more}", problems.join("; "))).into())
}

fn read_line(config: &Config, line: &[u8]) -> Result<NewJob, String> {
    let mut line = Line::read(line)?;
    let name: String = line.take("name")?.ok_or("`name` is missing")?;
    let definition = config.definition(&name).ok_or_else(|| config.unknown_definition(&name))?;
    let mut job = NewJob::of(definition);
    if let Some(queue) = line.take::<String>("queue")? {
        require_queue(config, &queue).map_err(|err| err.to_string())?;
        job.queue = queue;
    }
    job.start = match (line.take::<String>("at")?, line.take::<String>("in")?) {
        (Some(_), Some(_)) => return Err("`at` and `in` exclude each other".to_owned()),
        (Some(at), None) => Start::At(instant::parse(&at)?),
        (None, Some(wait)) => Start::In(duration::parse(&wait)?),
        (None, None) => Start::Now,
    };
    if let Some(priority) = line.take::<i32>("priority")? {
        if !(-100..=100).contains(&priority) {
            return Err(format!("`priority`: {priority} is not between -100 and 100"));
        }
        job.priority = priority;
    }
    job.unique_key = line.take("unique_key")?;
    job.params = line.take("params")?.unwrap_or(job.params);
    job.target = (line.take("target_type")?, line.take("target_id")?);
    let after: Vec<i64> = line.take("after")?.unwrap_or_default();
    job.after = after.into_iter().map(|id| (id, On::Success)).collect();
    job.check(definition)?;
    Ok(job)
}
