//! What becomes of jobs whose runner vanished.
//!
//! When the machine is still there, the next tick on it finds the dead runner's ledger: it ends the process groups
//! that were left behind, saves what they had printed, and records the attempts as orphaned at once. When the
//! machine is gone, any tick anywhere takes its jobs back after their leases have ended, whatever it declares itself.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::declaring::Declaring;
use super::kept;
use super::under_way::UnderWay;
use super::worker::stored;
use crate::config::Config;
use crate::job::is_hook;
use crate::process::ask::remove_left;
use crate::process::ledger::{
    DeadRunner, dead_runners, kill_execution, output_files, output_path, remove_unfinished,
};
use crate::process::mirror::salvage;
use crate::store::{AttemptEnd, Expired, Output, Store, StoreError};

/// Records what a runner that died on this host had under way; its process groups must have been ended before.
pub(super) fn after_dead_runner(
    store: &mut Store,
    config: &Config,
    folder: &Path,
    dead: DeadRunner,
) -> Result<()> {
    let owner = dead.owner.as_str();
    let held = store.held_by(owner).context("cannot read the jobs of a dead runner")?;
    let not_begun: Vec<i64> =
        held.iter().filter(|job| !dead.has_begun(job.id, job.fence)).map(|job| job.id).collect();
    if !not_begun.is_empty() {
        // What was to be cancelled and had not begun has had no attempt.
        let claims = store.held(owner, &not_begun).context("cannot read what is to be cancelled")?;
        // And a hook that has not begun has told nobody anything.
        let is_hook = |id: i64| held.iter().any(|job| job.id == id && is_hook(&job.name));
        let given_back: Vec<(i64, i64)> = claims
            .iter()
            .filter(|claim| claim.cancel != 0 || is_hook(claim.id))
            .map(|claim| (claim.id, claim.fence))
            .collect();
        if !given_back.is_empty() {
            store.hand_back(owner, &given_back).context("cannot give jobs of a dead runner back")?;
        }
    }
    let names: Vec<String> = held.into_iter().map(|job| job.name).collect();
    let declaring = Declaring::read(store, config, &names)?;
    let mut judge = |job: &Expired| {
        Some((declaring.judge(job)?, salvaged(config, job, &dead.output_path(job.id, job.fence))))
    };
    let mut refused = Vec::new();
    let rescued = store
        .rescue_from(&dead.owner, &mut judge, &mut refused)
        .context("cannot rescue the jobs of a dead runner")?;
    declaring.tell(store, &rescued);
    put_all_aside(folder, refused);
    dead.forget(rescued.iter().map(|job| (job.id, job.fence)));
    Ok(())
}

/// Takes jobs back whose lease has ended, wherever their runner was and whoever declares them, but not what is `under_way` here.
pub(super) fn expired(store: &mut Store, config: &Config, folder: &Path, under_way: &UnderWay) -> Result<()> {
    let mut own: Vec<i64> = under_way.all().iter().map(|held| held.job.id).collect();
    // What was put aside is tried again by itself.
    own.extend(kept::aside(folder).into_iter().map(|(id, _)| id));
    let names = store.expired_names().context("cannot read what is orphaned")?;
    let declaring = Declaring::read(store, config, &names)?;
    let mut judge = |job: &Expired| {
        let verdict = declaring.judge(job)?;
        // Its runner may be on this host, and stopped rather than dead.
        kill_execution(folder, &job.owner, job.id, job.fence);
        Some((verdict, salvaged(config, job, &output_path(folder, job.id, job.fence))))
    };
    let mut refused = Vec::new();
    let rescued = store.rescue(&own, &mut judge, &mut refused).context("cannot rescue orphaned jobs")?;
    declaring.tell(store, &rescued);
    put_all_aside(folder, refused);
    for job in &rescued {
        // Only there where the runner was on this host.
        if std::fs::remove_file(output_path(folder, job.id, job.fence)).is_ok() {
            log::debug!("removed the output file of job {}", job.id);
        }
    }
    Ok(())
}

/// Removes what dead runners have left in the state folder and nobody will ask for: the output of executions whose claims do
/// not hold any more. It is there where a runner died between a result's commit and the removal of its output, or after
/// others had taken its jobs back.
pub(super) fn sweep(store: &mut Store, folder: &Path) -> Result<()> {
    remove_unfinished(folder);
    remove_left(folder);
    let there = output_files(folder);
    if there.is_empty() {
        return Ok(());
    }
    let holding = store.still_holding(&there).context("cannot read which jobs are running")?;
    for (job, fence) in there.into_iter().filter(|claim| !holding.contains(claim)) {
        if std::fs::remove_file(output_path(folder, job, fence)).is_ok() {
            log::debug!("removed the output file of claim {fence} of job {job}, which no longer holds");
        }
    }
    Ok(())
}

/// Deals with every runner that died, and with what it has kept, as a tick does.
pub(super) fn tidy_up(store: &mut Store, config: &Config, folder: &Path) -> Result<()> {
    let dead = dead_runners(folder);
    dead.iter().for_each(DeadRunner::kill_groups);
    if kept::any(folder) {
        kept::write(folder, store)?;
    }
    for runner in dead {
        after_dead_runner(store, config, folder, runner)?;
    }
    sweep(store, folder)?;
    expired(store, config, folder, &UnderWay::default())
}

fn put_all_aside(folder: &Path, refused: Vec<(AttemptEnd, StoreError)>) {
    for (end, why) in refused {
        kept::put_aside(folder, end, &why.to_string());
    }
}

fn salvaged(config: &Config, job: &Expired, path: &Path) -> Option<Output> {
    let limit = config.definition(&job.name).map_or(1 << 20, |definition| definition.output_limit);
    salvage(path, limit).map(stored)
}
