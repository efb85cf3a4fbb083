//! `duly clean-up`: deletes jobs that ended long enough ago.
//!
//! `--max-retention` is for all four end states, unless `--max-retention-succeeded` says otherwise for successes; both
//! win over `retention` in jobs.yaml. A second clean-up on the same host is refused while one is going on.

use std::fs::OpenOptions;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Context, Refused, note};
use crate::cli::CleanUpArgs;
use crate::config::Retention;
use crate::exit_code::ExitCode;
use crate::job::State;
use crate::process::slots::try_lock;
use crate::render::{self, Progress};
use crate::store::CleanUp;

pub(super) fn run(context: &Context, args: &CleanUpArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let path = crate::runner::state_folder(&config)?.join("clean-up.lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    if !try_lock(&lock).with_context(|| format!("cannot lock `{}`", path.display()))? {
        return Err(Refused("another clean-up is going on on this host".to_owned()).into());
    }
    let what = CleanUp {
        older_than: State::ENDED.map(|state| (state, age(&config.retention, args, state))).to_vec(),
        keep_last: args.keep_last.unwrap_or(config.retention.keep_last),
        per_call: args.per_call.unwrap_or(u64::MAX),
        dry_run: args.dry_run,
    };
    let mut progress = Progress::new("jobs deleted");
    let deleted = store.clean_up(&what, &mut |done| progress.set(done)).context("cannot clean up")?;
    drop(progress);
    if let Some(settings) = config.refresh_cache.as_ref().filter(|_| !args.dry_run) {
        store.forget_gone_changes(&settings.table).context("cannot clean up after content changes")?;
    }
    let plural = if deleted.jobs == 1 { "job" } else { "jobs" };
    if args.dry_run {
        render::answer(&format!("{} {plural} would be deleted", deleted.jobs))?;
    } else {
        if deleted.jobs > 0 {
            note(&mut store, "clean-up", "jobs", Some(&format!("{} {plural} deleted", deleted.jobs)));
        }
        log::info!(
            "deleted: {} {plural}, {} hosts, {} measurements of sessions, {} orders that are over",
            deleted.jobs,
            deleted.hosts,
            deleted.session_stats,
            deleted.orders
        );
    }
    Ok(ExitCode::Success)
}

fn age(retention: &Retention, args: &CleanUpArgs, state: State) -> Duration {
    let own = if state == State::Success { args.max_retention_succeeded } else { None };
    own.or(args.max_retention).unwrap_or_else(|| retention.of(state))
}
