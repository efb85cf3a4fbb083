//! Cancelling the children of a root, many in one transaction: a root may have tens of thousands.

use super::cancel::Cancelled;
use super::enqueue::IdAndState;
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::{Sql, id_marks};
use crate::job::State;

/// Children per transaction.
const BATCH: usize = 128;

impl Store {
    /// Cancels job `id` and those of its children that have not started; with `kill` also those that run.
    pub fn cancel_with_children(&mut self, id: i64, why: &str, kill: bool) -> Result<Cancelled, StoreError> {
        let done = self.cancel(id, why)?;
        // The root is marked by now, so it gets no more children.
        let children: Vec<i64> = self
            .open_children(id)?
            .into_iter()
            .filter(|(_, state)| *state != State::Running || kill)
            .map(|(child, _)| child)
            .collect();
        let why = clip(&format!("its root, job {id}, was {why}"));
        for chunk in children.chunks(BATCH) {
            self.unit(|tx| tx.cancel_children(id, chunk, &why, kill))?;
        }
        self.settle()?;
        Ok(done)
    }

    /// Locks the children and then their root. Part of a unit. They have no children of their own, and no schedule made them.
    fn cancel_children(&mut self, root: i64, ids: &[i64], why: &str, kill: bool) -> Result<(), StoreError> {
        let query = format!(
            "SELECT id, state FROM duly_job WHERE id IN ({}) AND finished_at IS NULL ORDER BY id{}",
            id_marks(ids.len()),
            self.for_update()
        );
        let rows: Vec<IdAndState> = self.rows(&Sql::new(query).bind_ids(ids))?;
        let (running, idle): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.state == State::Running.as_str());
        let of = |rows: &[IdAndState]| rows.iter().map(|row| row.id).collect::<Vec<i64>>();
        let (running, idle, now) = (of(&running), of(&idle), self.now());
        if !running.is_empty() && kill {
            let update = format!(
                "UPDATE duly_job SET cancel_requested_at = {now}, reason = ? WHERE id IN ({}) AND state = 'running'",
                id_marks(running.len())
            );
            self.execute(&Sql::new(update).bind(why).bind_ids(&running))?;
        }
        if !idle.is_empty() {
            let update = format!(
                "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = ?, finished_at = {now}, \
                 lease_until = NULL, unique_key = NULL WHERE id IN ({}) AND state IN ('new', 'waiting', 'delayed', 'pending')",
                id_marks(idle.len())
            );
            self.execute(&Sql::new(update).bind(why).bind_ids(&idle))?;
            let ended: Vec<(i64, i64)> = idle.iter().map(|child| (*child, root)).collect();
            self.mark_roots(&ended)?;
            self.mark_dependents(&idle)?;
        }
        Ok(())
    }
}
