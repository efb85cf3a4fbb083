//! Deleting ended jobs that are old enough, a few hundred at a time, so that nobody waits for it.
//!
//! What stays: the newest of each name if so asked, a job that another one still waits for, and a root whose children
//! are still there. Ids come from the index on state and end; rows go by their primary key.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::sql::AnyTime as Timestamp;
use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, marks, time_text};
use crate::job::State;

/// Jobs per transaction.
const BATCH: usize = 500;

/// What to delete.
#[derive(Debug, Clone)]
pub struct CleanUp {
    /// How long ago a job must have ended, per end state.
    pub older_than: Vec<(State, Duration)>,
    /// How many of the newest ended jobs of each name stay, whatever their age.
    pub keep_last: u32,
    /// Jobs at most.
    pub per_call: u64,
    /// Count only.
    pub dry_run: bool,
}

/// What was deleted, or would have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Jobs, each with its attempts, output and edges.
    pub jobs: u64,
    /// Hosts that have not ticked for as long as an ended job is kept.
    pub hosts: u64,
    /// Measurements of sessions that are as old.
    pub session_stats: u64,
    /// Lost orders of Duly's own table that have been over for as long.
    pub orders: u64,
}

#[derive(QueryableByName)]
struct Candidate {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Timestamp)]
    finished_at: NaiveDateTime,
}

impl Store {
    /// Deletes ended jobs as `what` says; `progress` is told after each batch how many are gone.
    ///
    /// # Errors
    ///
    /// When the database fails; what was deleted before stays deleted.
    pub fn clean_up(&mut self, what: &CleanUp, progress: &mut dyn FnMut(u64)) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted::default();
        if !what.dry_run {
            // Counters must not lose what is deleted.
            self.add_up()?;
        }
        let mut added_up_at = Instant::now();
        let mut keep_from = HashMap::new();
        for (state, age) in &what.older_than {
            let mut after: Option<(NaiveDateTime, i64)> = None;
            let mut rounds = Rounds::of("deleting jobs");
            while deleted.jobs < what.per_call {
                let candidates = self.candidates(*state, *age, after)?;
                let Some(last) = candidates.last() else { break };
                after = Some((last.finished_at, last.id));
                rounds.turn(Some(last.id))?;
                let most = usize::try_from(what.per_call - deleted.jobs).unwrap_or(usize::MAX);
                let gone = if what.dry_run {
                    self.deletable(&candidates, what.keep_last, &mut keep_from)?.len().min(most)
                } else {
                    // What is old enough grows while this goes on.
                    if added_up_at.elapsed() > Duration::from_secs(300) {
                        self.add_up()?;
                        added_up_at = Instant::now();
                    }
                    let keep = (what.keep_last, &mut keep_from);
                    self.delete_jobs(&candidates, keep, most, Self::is_after_mark(*age))?
                };
                deleted.jobs += gone as u64;
                progress(deleted.jobs);
            }
        }
        if !what.dry_run {
            self.forget_pauses()?;
        }
        let longest = what.older_than.iter().map(|(_, age)| *age).max().unwrap_or_default();
        deleted.hosts = self.forget_hosts(longest, what.dry_run)?;
        (deleted.session_stats, deleted.orders) = self.trim_shop(longest, what.dry_run)?;
        Ok(deleted)
    }

    fn candidates(
        &mut self,
        state: State,
        age: Duration,
        after: Option<(NaiveDateTime, i64)>,
    ) -> Result<Vec<Candidate>, StoreError> {
        let cutoff = self.now_plus();
        let (from, values) = match after {
            None => ("", None),
            Some((at, id)) => {
                (" AND finished_at >= ? AND (finished_at > ? OR id > ?)", Some((time_text(at.and_utc()), id)))
            }
        };
        let query = format!(
            "SELECT id, name, finished_at FROM duly_job WHERE state = '{state}' AND finished_at <= {cutoff}{from} \
             ORDER BY finished_at, id LIMIT {BATCH}"
        );
        let mut sql = Sql::new(query).bind(-micros(age));
        if let Some((at, id)) = values {
            sql = sql.bind(at.clone()).bind(at).bind(id);
        }
        self.rows(&sql)
    }

    /// Those of `candidates` that nothing holds back.
    fn deletable(
        &mut self,
        candidates: &[Candidate],
        keep_last: u32,
        keep_from: &mut HashMap<String, Option<i64>>,
    ) -> Result<Vec<i64>, StoreError> {
        let ids = || candidates.iter().map(|row| row.id);
        let list = marks(candidates.len());
        let waited_for = format!(
            "SELECT DISTINCT d.prerequisite_id AS id FROM duly_dependency d JOIN duly_job j ON j.id = d.job_id \
             WHERE d.prerequisite_id IN ({list}) AND j.finished_at IS NULL"
        );
        let roots = format!("SELECT DISTINCT root_id AS id FROM duly_job WHERE root_id IN ({list})");
        // How a root ends depends on how its children did.
        let children = format!(
            "SELECT c.id FROM duly_job c JOIN duly_job r ON r.id = c.root_id WHERE c.id IN ({list}) AND r.finished_at IS NULL"
        );
        let mut held = BTreeSet::new();
        for query in [waited_for, roots, children] {
            let query = if candidates.len() == BATCH { Sql::new(query) } else { Sql::once(query) };
            held.extend(self.rows::<Id>(&query.bind_all(ids()))?.into_iter().map(|row| row.id));
        }
        let mut free = Vec::with_capacity(candidates.len());
        for row in candidates {
            if held.contains(&row.id) {
                continue;
            }
            if keep_last > 0 {
                if !keep_from.contains_key(&row.name) {
                    let from = self.oldest_kept(&row.name, keep_last)?;
                    keep_from.insert(row.name.clone(), from);
                }
                // With fewer ended jobs than are kept there is no oldest kept one, and all stay.
                if keep_from.get(&row.name).copied().flatten().is_none_or(|from| row.id >= from) {
                    continue;
                }
            }
            free.push(row.id);
        }
        Ok(free)
    }

    fn oldest_kept(&mut self, name: &str, keep_last: u32) -> Result<Option<i64>, StoreError> {
        let query = format!(
            "SELECT id FROM duly_job WHERE name = ? AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET {}",
            keep_last - 1
        );
        Ok(self.rows::<Id>(&Sql::new(query).bind(name))?.pop().map(|row| row.id))
    }

    /// Deletes those of `candidates` that nothing holds back, `most` at most, by primary key in one transaction, those that ended
    /// lately counted before; a batch that meets a conflict is halved. Returns how many.
    ///
    /// Locks the jobs before it looks: whoever lets a job wait for one of them locks that too, so the edge is seen, or the job is
    /// gone when it is looked for.
    fn delete_jobs(
        &mut self,
        candidates: &[Candidate],
        (keep_last, keep_from): (u32, &mut HashMap<String, Option<i64>>),
        most: usize,
        is_young: bool,
    ) -> Result<usize, StoreError> {
        let done = self.once(|tx| {
            if tx.is_server() {
                let lock = format!(
                    "SELECT id FROM duly_job WHERE id IN ({}){}",
                    marks(candidates.len()),
                    tx.for_update()
                );
                let sql = Sql::sized(lock, candidates.len()).bind_all(candidates.iter().map(|row| row.id));
                tx.rows::<Id>(&sql)?;
            }
            let mut ids = tx.deletable(candidates, keep_last, keep_from)?;
            ids.truncate(most);
            if !ids.is_empty() {
                tx.delete_these(&ids, is_young)?;
            }
            Ok(ids.len())
        });
        match done {
            Err(StoreError::Conflict(what)) if candidates.len() > 1 => {
                log::debug!("clean-up halves a batch of {}: {what}", candidates.len());
                let (first, second) = candidates.split_at(candidates.len() / 2);
                let gone = self.delete_jobs(first, (keep_last, keep_from), most, is_young)?;
                Ok(gone + self.delete_jobs(second, (keep_last, keep_from), most - gone, is_young)?)
            }
            other => other,
        }
    }

    /// Part of a unit.
    fn delete_these(&mut self, ids: &[i64], is_young: bool) -> Result<(), StoreError> {
        if is_young {
            self.add_deleted(ids)?;
        }
        let list = marks(ids.len());
        for text in [
            format!("DELETE FROM duly_output WHERE job_id IN ({list})"),
            format!("DELETE FROM duly_attempt WHERE job_id IN ({list})"),
            format!("DELETE FROM duly_dependency WHERE job_id IN ({list})"),
            format!("DELETE FROM duly_dependency WHERE prerequisite_id IN ({list})"),
            format!(
                "DELETE FROM duly_job WHERE id IN ({list}) AND state IN ('success', 'failed', 'cancelled', 'stale')"
            ),
        ] {
            let sql = if ids.len() == BATCH { Sql::new(text) } else { Sql::once(text) };
            self.execute(&sql.bind_all(ids.iter().copied()))?;
        }
        Ok(())
    }

    fn forget_hosts(&mut self, age: Duration, dry_run: bool) -> Result<u64, StoreError> {
        // A host that was seen within the last day is never forgotten, however short the retention; one that was not is gone,
        // and where there are very many these are not kept.
        let day = Duration::from_secs(86_400);
        let age = if self.more_hosts()? > 0 { day } else { age.max(day) };
        let old = format!("FROM duly_runner WHERE last_tick_at < {}", self.now_plus());
        if dry_run {
            let query = Sql::new(format!("SELECT COUNT(*) AS id {old}")).bind(-micros(age));
            let counted = self.rows::<Id>(&query)?;
            return Ok(counted.first().and_then(|row| u64::try_from(row.id).ok()).unwrap_or(0));
        }
        let sql = Sql::new(format!("DELETE {old}")).bind(-micros(age));
        let forgotten = self.execute(&sql)? as u64;
        // What is known of a host goes with it; of one that could never tick, too.
        let rest = format!(
            "DELETE FROM duly_host WHERE host NOT IN (SELECT host FROM duly_runner) \
             AND (trouble_at IS NULL OR trouble_at < {})",
            self.now_plus()
        );
        self.execute(&Sql::new(rest).bind(-micros(age)))?;
        Ok(forgotten)
    }
}
