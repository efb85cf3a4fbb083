//! What the end of a job means for the jobs that wait for it.
//!
//! In the transaction that ends a job, each job that waits for it is marked: its `lease_until`, which a waiting job
//! has no other use for, becomes now. [`Store::settle`] looks at marked jobs, under a lock on each, and reads their
//! prerequisites afresh: whoever ends another prerequisite needs that same lock to leave its mark, so neither of two
//! that end at the same instant can miss the other. A mark that was left by a runner that then died is found by the
//! next tick through an index, however many jobs are waiting.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, id_marks};
use crate::job::{On, State};

/// Marked jobs looked at in one transaction.
const BATCH: usize = 128;

/// When what goes on waiting, for prerequisites or for children, is looked at again without having been marked.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(600);

#[derive(QueryableByName)]
struct Child {
    #[diesel(sql_type = BigInt)]
    job_id: i64,
    #[diesel(sql_type = BigInt)]
    id: i64,
}

#[derive(QueryableByName)]
struct Prerequisite {
    #[diesel(sql_type = BigInt)]
    job_id: i64,
    #[diesel(sql_type = BigInt)]
    prerequisite_id: i64,
    #[diesel(sql_type = Text)]
    on_end: String,
    #[diesel(sql_type = Nullable<Text>)]
    state: Option<String>,
}

/// What is to become of a marked job.
enum Fate {
    Wait,
    Start,
    Cancel(String),
}

impl Store {
    /// Marks the jobs that wait for any of `ended`; returns whether there are any.
    ///
    /// Part of the unit that ends those jobs, after their rows are locked. Locks the jobs it marks.
    pub(super) fn mark_dependents(&mut self, ended: &[i64]) -> Result<bool, StoreError> {
        if ended.is_empty() {
            return Ok(false);
        }
        let query = format!(
            "SELECT DISTINCT job_id AS id FROM duly_dependency WHERE prerequisite_id IN ({}) ORDER BY job_id",
            id_marks(ended.len())
        );
        let waiting: Vec<Id> = self.rows(&Sql::new(query).bind_ids(ended))?;
        for chunk in waiting.chunks(BATCH) {
            let update = format!(
                "UPDATE duly_job SET lease_until = {} WHERE id IN ({}) AND state = 'waiting'",
                self.now(),
                id_marks(chunk.len())
            );
            let ids: Vec<i64> = chunk.iter().map(|row| row.id).collect();
            self.execute(&Sql::new(update).bind_ids(&ids))?;
        }
        Ok(!waiting.is_empty())
    }

    /// [`Store::settle`] after work that is done and must not seem to have failed: its marks stay for the next tick.
    pub(super) fn settle_soon(&mut self) {
        if let Err(err) = self.settle() {
            log::warn!("waiting jobs will be looked at by the next tick: {err}");
        }
    }

    /// Starts or cancels every marked job whose prerequisites ask for it, and so on down; returns how many moved.
    ///
    /// # Errors
    ///
    /// When the database fails; what was settled before stays settled.
    pub fn settle(&mut self) -> Result<usize, StoreError> {
        let (mut moved, mut rounds) = (0, Rounds::of("settling waiting jobs"));
        loop {
            let (looked_at, changed) = self.unit(Self::settle_batch)?;
            rounds.turn(looked_at)?;
            moved += changed;
            // A child that was cancelled may have been the last one of its root, and a root may have dependents.
            let ended = self.settle_roots()?;
            moved += ended;
            if looked_at.is_none() && ended == 0 {
                return Ok(moved);
            }
        }
    }

    /// Locks up to [`BATCH`] marked jobs that nobody else is looking at, and takes their marks away.
    ///
    /// Returns the first of them, and how many moved.
    fn settle_batch(&mut self) -> Result<(Option<i64>, usize), StoreError> {
        let query = format!(
            "SELECT id FROM duly_job WHERE state = 'waiting' AND lease_until <= {} ORDER BY lease_until, id LIMIT {BATCH}{}",
            self.now(),
            self.skip_locked()
        );
        let marked: Vec<i64> = self.rows::<Id>(&Sql::new(query))?.into_iter().map(|row| row.id).collect();
        if marked.is_empty() {
            return Ok((None, 0));
        }
        let fates = self.fates(&marked)?;
        let with = |wanted: fn(&Fate) -> bool| -> Vec<i64> {
            fates.iter().filter(|(_, fate)| wanted(fate)).map(|(id, _)| *id).collect()
        };
        let starting = with(|fate| matches!(fate, Fate::Start));
        let waiting = with(|fate| matches!(fate, Fate::Wait));
        let cancelled = with(|fate| matches!(fate, Fate::Cancel(_)));
        let now = self.now();
        self.update_waiting(
            &format!(
                "state = CASE WHEN run_at > {now} THEN 'delayed' ELSE 'pending' END, lease_until = NULL"
            ),
            &starting,
        )?;
        self.look_again(&waiting)?;
        for (id, fate) in &fates {
            if let Fate::Cancel(why) = fate {
                self.cancel_waiting(*id, why)?;
            }
        }
        self.mark_dependents(&cancelled)?;
        let children = self.roots_of(&cancelled)?;
        self.mark_roots(&children)?;
        Ok((marked.first().copied(), starting.len() + cancelled.len()))
    }

    /// Cancels what waits for the success of a job that has ended otherwise, and so on down: at once, since what takes its place may
    /// have the same unique keys. Part of a unit, after [`Self::mark_dependents`].
    pub(super) fn cancel_hopeless(&mut self, ended: i64) -> Result<(), StoreError> {
        let (mut ended, mut rounds) = (vec![ended], Rounds::of("cancelling what waits"));
        while !ended.is_empty() {
            let query = format!(
                "SELECT DISTINCT j.id FROM duly_dependency d JOIN duly_job j ON j.id = d.job_id \
                 WHERE d.prerequisite_id IN ({}) AND j.state = 'waiting' ORDER BY j.id",
                id_marks(ended.len())
            );
            let waiting: Vec<Id> = self.rows(&Sql::new(query).bind_ids(&ended))?;
            let waiting: Vec<i64> = waiting.into_iter().map(|row| row.id).collect();
            rounds.turn(waiting.first().copied())?;
            ended.clear();
            if waiting.is_empty() {
                break;
            }
            for (id, fate) in self.fates(&waiting)? {
                if let Fate::Cancel(why) = fate {
                    self.cancel_waiting(id, &why)?;
                    ended.push(id);
                }
            }
            self.mark_dependents(&ended)?;
        }
        Ok(())
    }

    /// Those of `ids` that are children, each with its root.
    pub(super) fn roots_of(&mut self, ids: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT id AS job_id, root_id AS id FROM duly_job WHERE id IN ({}) AND root_id IS NOT NULL ORDER BY root_id",
            id_marks(ids.len())
        );
        let rows: Vec<Child> = self.rows(&Sql::new(query).bind_ids(ids))?;
        Ok(rows.into_iter().map(|row| (row.job_id, row.id)).collect())
    }

    fn fates(&mut self, marked: &[i64]) -> Result<BTreeMap<i64, Fate>, StoreError> {
        let query = format!(
            "SELECT d.job_id, d.prerequisite_id, d.`on` AS on_end, p.state FROM duly_dependency d \
             LEFT JOIN duly_job p ON p.id = d.prerequisite_id WHERE d.job_id IN ({})",
            id_marks(marked.len())
        );
        let edges: Vec<Prerequisite> = self.rows(&Sql::new(query).bind_ids(marked))?;
        let mut by_job: HashMap<i64, Vec<&Prerequisite>> = HashMap::new();
        for edge in &edges {
            by_job.entry(edge.job_id).or_default().push(edge);
        }
        Ok(marked.iter().map(|id| (*id, fate(by_job.get(id).map_or(&[], Vec::as_slice)))).collect())
    }

    fn update_waiting(&mut self, set: &str, ids: &[i64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let update =
            format!("UPDATE duly_job SET {set} WHERE id IN ({}) AND state = 'waiting'", id_marks(ids.len()));
        self.execute(&Sql::new(update).bind_ids(ids)).map(drop)
    }

    /// Moves the marks of jobs that go on waiting into the future.
    ///
    /// On a cluster whose nodes are all written to, a lock is the node's own, so a mark can be lost to a prerequisite
    /// that ended on another node at that instant. This finds it.
    fn look_again(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let update = format!(
            "UPDATE duly_job SET lease_until = {} WHERE id IN ({}) AND state = 'waiting'",
            self.now_plus(),
            id_marks(ids.len())
        );
        self.execute(&Sql::new(update).bind(micros(LOOK_AGAIN)).bind_ids(ids)).map(drop)
    }

    fn cancel_waiting(&mut self, id: i64, why: &str) -> Result<(), StoreError> {
        let update = format!(
            "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = ?, finished_at = {}, \
             lease_until = NULL, unique_key = NULL WHERE id = ? AND state = 'waiting'",
            self.now()
        );
        self.execute(&Sql::new(update).bind(why).bind(id)).map(drop)
    }
}

fn fate(prerequisites: &[&Prerequisite]) -> Fate {
    let mut is_open = false;
    for edge in prerequisites {
        let on: On = edge.on_end.parse().unwrap_or(On::Success);
        let Some(state) = edge.state.as_deref().and_then(|word| word.parse::<State>().ok()) else {
            return Fate::Cancel(format!("its prerequisite, job {}, no longer exists", edge.prerequisite_id));
        };
        if !state.is_ended() {
            is_open = true;
        } else if !on.is_met_by(state) {
            return Fate::Cancel(format!(
                "its prerequisite, job {}, ended as {state} and not as {}",
                edge.prerequisite_id,
                on.as_str()
            ));
        }
    }
    if is_open { Fate::Wait } else { Fate::Start }
}
