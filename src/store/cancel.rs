//! Cancelling a job: at once while it has not started, by its runner while it runs.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::IdAndState;
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, id_marks};
use crate::job::State;

#[derive(QueryableByName)]
struct Asked {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
}

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
        let done = self.unit(|tx| tx.cancel_within(id, why))?;
        if matches!(done, Cancelled::Now | Cancelled::Requested) {
            self.settle_soon();
        }
        Ok(done)
    }

    /// Part of a unit, after which jobs that wait are to be settled.
    fn cancel_within(&mut self, id: i64, why: &str) -> Result<Cancelled, StoreError> {
        let query = format!("SELECT id, state FROM duly_job WHERE id = ?{}", self.for_update());
        let rows: Vec<IdAndState> = self.rows(&Sql::new(query).bind(id))?;
        let Some(state) = rows.first().and_then(|row| row.state.parse::<State>().ok()) else {
            return Ok(Cancelled::Unknown);
        };
        let now = self.now();
        match state {
            ended if ended.is_ended() => Ok(Cancelled::Ended(ended)),
            State::Running => {
                // A root that waits for its children has no runner: it is settled when they have ended.
                let update = format!(
                    "UPDATE duly_job SET cancel_requested_at = {now}, reason = ?, \
                         own_end = CASE WHEN owner IS NULL THEN 'cancelled' ELSE own_end END, \
                         lease_until = CASE WHEN owner IS NULL THEN {now} ELSE lease_until END \
                         WHERE id = ? AND state = 'running'"
                );
                self.execute(&Sql::new(update).bind(clip(why)).bind(id))?;
                Ok(Cancelled::Requested)
            }
            _ if self.open_children(id)?.is_empty() => {
                let update = format!(
                    "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = ?, finished_at = {now}, \
                         lease_until = NULL, unique_key = NULL WHERE id = ? AND state = ?"
                );
                self.execute(&Sql::new(update).bind(clip(why)).bind(id).bind(state.as_str()))?;
                let children = self.roots_of(&[id])?;
                self.mark_roots(&children)?;
                if state == State::Waiting {
                    self.close_the_gap(id)?;
                }
                self.mark_dependents(&[id])?;
                Ok(Cancelled::Now)
            }
            // A root between two attempts: it ends when its children have, like one whose command is done.
            _ => {
                let update = format!(
                    "UPDATE duly_job SET state = 'running', owner = NULL, own_end = 'cancelled', outcome = 'cancelled', \
                         reason = ?, cancel_requested_at = {now}, noted_at = {now}, lease_until = {now} \
                         WHERE id = ? AND state = ?"
                );
                self.execute(&Sql::new(update).bind(clip(why)).bind(id).bind(state.as_str()))?;
                Ok(Cancelled::Requested)
            }
        }
    }

    /// Cancels those of `ids` that are startable again, and whose cancellation was asked for while a runner held them; whether there
    /// were any. Part of a unit, as the above.
    pub(super) fn cancel_if_asked(&mut self, ids: &[i64]) -> Result<bool, StoreError> {
        let query = format!(
            "SELECT id, reason FROM duly_job WHERE id IN ({}) AND state = 'pending' AND cancel_requested_at IS NOT NULL ORDER BY id",
            id_marks(ids.len())
        );
        let asked: Vec<Asked> = self.rows(&Sql::new(query).bind_ids(ids))?;
        for Asked { id, reason } in &asked {
            self.cancel_within(*id, reason.as_deref().unwrap_or("cancelled"))?;
        }
        Ok(!asked.is_empty())
    }

    /// Cancels job `id` and those of its children that have not started. Part of a unit, as the above.
    pub(super) fn cancel_family(&mut self, id: i64, why: &str) -> Result<Cancelled, StoreError> {
        let done = self.cancel_within(id, why)?;
        for (child, state) in self.open_children(id)? {
            if state != State::Running {
                self.cancel_within(child, &format!("its root, job {id}, was {why}"))?;
            }
        }
        Ok(done)
    }

    /// Lets jobs that wait for `id` in the queue of their schedule wait for what that waits for: it has not begun, so what is before
    /// it goes on, and the next may not start beside that.
    fn close_the_gap(&mut self, id: i64) -> Result<(), StoreError> {
        let query = format!(
            "SELECT p.id FROM duly_dependency d JOIN duly_job p ON p.id = d.prerequisite_id JOIN duly_job j ON j.id = d.job_id \
             WHERE d.job_id = ? AND j.name = p.name AND j.scheduled_for IS NOT NULL AND p.scheduled_for IS NOT NULL ORDER BY p.id{}",
            self.for_update()
        );
        let before: Vec<Id> = self.rows(&Sql::new(query).bind(id))?;
        for Id { id: before } in before {
            let insert = if self.is_server() { "INSERT IGNORE" } else { "INSERT OR IGNORE" };
            let link = format!(
                "{insert} INTO duly_dependency (job_id, prerequisite_id, `on`) SELECT d.job_id, ?, d.`on` FROM duly_dependency d \
                 JOIN duly_job j ON j.id = d.job_id JOIN duly_job p ON p.id = d.prerequisite_id \
                 WHERE d.prerequisite_id = ? AND j.name = p.name AND j.scheduled_for IS NOT NULL AND p.scheduled_for IS NOT NULL"
            );
            self.execute(&Sql::new(link).bind(before).bind(id))?;
        }
        Ok(())
    }

    /// The state of job `id`, if there is one.
    pub fn state_of(&mut self, id: i64) -> Result<Option<State>, StoreError> {
        let rows: Vec<IdAndState> =
            self.rows(&Sql::new("SELECT id, state FROM duly_job WHERE id = ?").bind(id))?;
        Ok(rows.first().and_then(|row| row.state.parse().ok()))
    }
}
