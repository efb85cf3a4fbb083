//! Whole files: what is accepted, and what is said about what is not.

mod accepted;
mod crontab;
mod database_url;
mod refused;

use std::path::Path;
use std::time::Duration;

use super::settings::Environment;
use super::source::Source;
use super::{Config, LoadOptions, load_in, validate};
use crate::job::{Action, Backoff, CatchUp, OnOrphan, Overlap, State};

/// Reads `yaml` as /srv/shop/jobs.yaml, called `jobs.yaml`, with an empty environment.
fn read(yaml: &str) -> Result<Config, Vec<String>> {
    let source = Source { shown: "jobs.yaml".to_owned(), path: "/srv/shop/jobs.yaml".into(), named_by: None };
    validate::config(yaml, &source, None, &Environment::default())
}

fn valid(yaml: &str) -> Config {
    read(yaml).unwrap_or_else(|problems| panic!("{}", problems.join("\n")))
}

#[track_caller]
fn assert_problems(yaml: &str, expected: &[&str]) {
    assert_eq!(read(yaml).map(|_| ()).unwrap_err(), expected, "{yaml}");
}

/// A job with one more key, whose problem is `expected` (after the key path).
#[track_caller]
fn assert_job_problem(key: &str, expected: &str) {
    let name = key.split(':').next().unwrap();
    assert_problems(
        &format!("jobs:\n  a:\n    command: [x]\n    {key}\n"),
        &[&format!("jobs.yaml:4: jobs.a.{name}{expected}")],
    );
}

fn command(words: &[&str]) -> Action {
    Action::Command(words.iter().map(|word| (*word).to_owned()).collect())
}
