//! Cancelling a job: at once while it has not started, by its runner while it runs.

use super::enqueue::IdAndState;
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::Sql;
use crate::job::State;

/// What came of a request to cancel a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started, and is cancelled.
    Now,
    /// It is running; its runner stops it at its next look.
    Requested,
    /// It had ended before, like this.
    Ended(State),
    /// There is no such job.
    Unknown,
}

impl Store {
    /// Cancels job `id`. Locks it, and marks the jobs that wait for it.
    pub fn cancel(&mut self, id: i64, why: &str) -> Result<Cancelled, StoreError> {
        let (done, has_dependents) = self.unit(|tx| {
            let query = format!("SELECT id, state FROM duly_job WHERE id = ?{}", tx.for_update());
            let rows: Vec<IdAndState> = tx.rows(&Sql::new(query).bind(id))?;
            let Some(state) = rows.first().and_then(|row| row.state.parse::<State>().ok()) else {
                return Ok((Cancelled::Unknown, false));
            };
            let now = tx.now();
            match state {
                ended if ended.is_ended() => Ok((Cancelled::Ended(ended), false)),
                State::Running => {
                    // A root that waits for its children has no runner: it is settled when they have ended.
                    let update = format!(
                        "UPDATE duly_job SET cancel_requested_at = {now}, reason = ?, \
                         own_end = CASE WHEN owner IS NULL THEN 'cancelled' ELSE own_end END, \
                         lease_until = CASE WHEN owner IS NULL THEN {now} ELSE lease_until END \
                         WHERE id = ? AND state = 'running'"
                    );
                    tx.execute(&Sql::new(update).bind(clip(why)).bind(id))?;
                    Ok((Cancelled::Requested, true))
                }
                _ if tx.open_children(id)?.is_empty() => {
                    let update = format!(
                        "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = ?, finished_at = {now}, \
                         lease_until = NULL, unique_key = NULL WHERE id = ? AND state = ?"
                    );
                    tx.execute(&Sql::new(update).bind(clip(why)).bind(id).bind(state.as_str()))?;
                    let children = tx.roots_of(&[id])?;
                    let has_root = tx.mark_roots(&children)?;
                    Ok((Cancelled::Now, tx.mark_dependents(&[id])? || has_root))
                }
                // A root between two attempts: it ends when its children have, like one whose command is done.
                _ => {
                    let update = format!(
                        "UPDATE duly_job SET state = 'running', owner = NULL, own_end = 'cancelled', outcome = 'cancelled', \
                         reason = ?, cancel_requested_at = {now}, noted_at = {now}, lease_until = {now} \
                         WHERE id = ? AND state = ?"
                    );
                    tx.execute(&Sql::new(update).bind(clip(why)).bind(id).bind(state.as_str()))?;
                    Ok((Cancelled::Requested, true))
                }
            }
        })?;
        if has_dependents {
            self.settle_soon();
        }
        Ok(done)
    }

    /// Cancels job `id` and those of its children that have not started; with `kill` also those that run.
    pub fn cancel_with_children(&mut self, id: i64, why: &str, kill: bool) -> Result<Cancelled, StoreError> {
        let done = self.cancel(id, why)?;
        // The root is marked by now, so it gets no more children.
        for (child, state) in self.open_children(id)? {
            if state != State::Running || kill {
                self.cancel(child, &format!("its root, job {id}, was {why}"))?;
            }
        }
        self.settle()?;
        Ok(done)
    }

    /// The state of job `id`, if there is one.
    pub fn state_of(&mut self, id: i64) -> Result<Option<State>, StoreError> {
        let rows: Vec<IdAndState> =
            self.rows(&Sql::new("SELECT id, state FROM duly_job WHERE id = ?").bind(id))?;
        Ok(rows.first().and_then(|row| row.state.parse().ok()))
    }
}
