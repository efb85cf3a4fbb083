//! From the mirror of jobs.yaml to a [`Config`]: defaults, bounds, and what the environment says otherwise.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::database_url::DatabaseUrl;
use super::error::one_line;
use super::raw::{self, File};
use super::read::{Limit, Named, Read as _, Reader, Whole};
use super::settings::Environment;
use super::source::Source;
use super::stamp::Stamp;
use super::validate_jobs::{Inherited, definitions};
use super::{Config, Retention, RunnerConfig, shop, web};
use crate::job::{Backoff, Builtin, NAME_RULE, duration, is_valid_name};

const HOUR: Duration = Duration::from_secs(3600);
const DEFAULT_QUEUE: &str = "default";

/// Checks a whole file.
///
/// # Errors
///
/// Every problem, as lines of text.
pub(super) fn config(
    yaml: &str,
    source: &Source,
    database_argument: Option<&str>,
    environment: &Environment,
) -> Result<Config, Vec<String>> {
    let file = &source.shown;
    let folder = source.path.parent().unwrap_or(Path::new("/"));
    let named_outside = environment.database(database_argument, folder);
    let mut problems: Vec<String> =
        named_outside.as_ref().err().map(|line| one_line(line)).into_iter().collect();
    let node = match raw::parse(yaml) {
        Ok(node) => node,
        Err((line, message)) => {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            problems.push(format!("{file}{line}: {}", one_line(&message)));
            return Err(problems);
        }
    };
    let mut reader = Reader::new(yaml);
    let raw = File::read(node, &mut reader).unwrap_or_default();
    // Its form is checked even where something else wins.
    let in_file = database(raw.database.as_ref().map(|text| text.0.as_str()), folder, &mut reader);
    let (queues, queue_limits) = queues(raw.queues, &mut reader);
    let runner = runner(raw.runner.unwrap_or_default(), folder, environment, &mut reader);
    let retention = retention(raw.retention.unwrap_or_default());
    let mut shop = vec![Builtin::SessionsWriteStat];
    shop.extend(raw.refresh_cache.as_ref().map(|_| Builtin::RefreshCache));
    shop.extend(raw.lost_orders.as_ref().map(|_| Builtin::ProcessLostOrders));
    let inherited = Inherited {
        folder,
        queues: &queues,
        command_prefix: &command_prefix(raw.command_prefix, &mut reader),
        hooks: raw.hooks.unwrap_or_default(),
        defaults: defaults(raw.defaults.unwrap_or_default()),
        shop: &shop,
    };
    let refresh_cache = raw
        .refresh_cache
        .map(|raw| reader.within("refresh_cache", |reader| shop::refresh_cache(raw, &inherited, reader)));
    let lost_orders = raw
        .lost_orders
        .and_then(|raw| reader.within("lost_orders", |reader| shop::lost_orders(raw, &inherited, reader)));
    let sessions = shop::sessions(raw.sessions.unwrap_or_default());
    let web = reader.within("web", |reader| web::web(raw.web.unwrap_or_default(), reader));
    let definitions = definitions(raw.jobs.unwrap_or_default(), &inherited, &mut reader);
    problems.extend(reader.finish(file));
    match named_outside.ok().flatten().or(in_file) {
        Some(database) if problems.is_empty() => Ok(Config {
            path: source.path.clone(),
            stamp: Stamp::new(&source.path, yaml),
            database,
            is_database_given: database_argument.is_some(),
            runner,
            queues,
            queue_limits,
            definitions,
            retention,
            refresh_cache,
            lost_orders,
            sessions,
            web,
        }),
        Some(_) | None => Err(problems),
    }
}

fn database(url: Option<&str>, folder: &Path, reader: &mut Reader<'_>) -> Option<DatabaseUrl> {
    reader.within("database", |reader| {
        reader.ok(match url {
            Some(url) => DatabaseUrl::parse(url, folder),
            None => DatabaseUrl::sqlite("jobs.db", folder),
        })
    })
}

/// The names in the order of the file, and how many jobs may run at once where that is limited.
fn queues(
    declared: Option<Named<raw::Queue>>,
    reader: &mut Reader<'_>,
) -> (Vec<String>, BTreeMap<String, u32>) {
    let declared = declared.unwrap_or_default().0;
    let limit = |queue: &raw::Queue| queue.concurrency.as_ref().map(|Whole(count)| count.unsigned_abs());
    let limits = declared.iter().filter_map(|(name, queue)| Some((name.clone(), limit(queue)?))).collect();
    let mut names: Vec<String> = declared.into_iter().map(|(name, _)| name).collect();
    reader.within("queues", |reader| {
        for name in names.iter().filter(|name| !is_valid_name(name)) {
            reader.problem_at(name, format!("`{name}` cannot name a queue; expected {NAME_RULE}"));
        }
    });
    if !names.iter().any(|name| name == DEFAULT_QUEUE) {
        names.insert(0, DEFAULT_QUEUE.to_owned());
    }
    (names, limits)
}

fn runner(
    raw: raw::Runner,
    folder: &Path,
    environment: &Environment,
    reader: &mut Reader<'_>,
) -> RunnerConfig {
    let lease = raw.lease.unwrap_or(Duration::from_secs(60));
    reader.within("runner", |reader| {
        if !(Duration::from_secs(3)..=HOUR).contains(&lease) {
            let found = duration::exact(lease);
            reader.problem_at("lease", format!("found {found}, expected 3s to 1h"));
        }
        if raw.state_dir.as_ref().is_some_and(String::is_empty) {
            reader.problem_at("state_dir", "is empty; expected a folder");
        }
    });
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    RunnerConfig {
        concurrency: raw
            .concurrency
            .and_then(|Whole(count)| usize::try_from(count).ok())
            .unwrap_or_else(cpus),
        max_runtime: raw.max_runtime.and_then(|Limit(length)| length),
        lease,
        is_state_dir_given: raw.state_dir.is_some(),
        state_dir: raw.state_dir.map_or_else(|| environment.state_dir(), |dir| folder.join(dir)),
    }
}

fn retention(raw: raw::Retention) -> Retention {
    Retention {
        default: raw.default.unwrap_or(30 * 24 * HOUR),
        success: raw.success,
        failed: raw.failed,
        cancelled: raw.cancelled,
        stale: raw.stale,
        keep_last: raw.keep_last.map_or(0, |Whole(count)| count.unsigned_abs()),
    }
}

fn command_prefix(words: Option<Vec<String>>, reader: &mut Reader<'_>) -> Vec<String> {
    let words = words.unwrap_or_default();
    if words.first().is_some_and(String::is_empty) {
        reader.problem_at("command_prefix", "names no program; expected one such as [php, bin/console]");
    }
    words
}

/// What holds for every definition that does not say otherwise.
pub(super) struct Defaults {
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) max_attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) output_limit: u64,
}

fn defaults(raw: raw::Defaults) -> Defaults {
    Defaults {
        timeout: raw.timeout.map_or(Some(HOUR), |Limit(length)| length),
        grace: raw.grace.unwrap_or(Duration::from_secs(10)),
        max_attempts: raw.max_attempts.map_or(10, |Whole(count)| count.unsigned_abs()),
        backoff: backoff(raw.backoff, Backoff::default()),
        output_limit: raw.output_limit.map_or(1 << 20, |size| size.0),
    }
}

/// What is said, over what is inherited.
pub(super) fn backoff(raw: Option<raw::Backoff>, inherited: Backoff) -> Backoff {
    let raw = raw.unwrap_or_default();
    Backoff {
        initial: raw.initial.unwrap_or(inherited.initial),
        factor: raw.factor.map_or(inherited.factor, |factor| factor.0),
        max: raw.max.unwrap_or(inherited.max),
        jitter: raw.jitter.map_or(inherited.jitter, |share| share.0),
    }
}
