//! Putting in the jobs that tell a command how another job ended.
//!
//! In the transaction that ends the job: so there is one for each end, whatever dies when. Which ends are told is on
//! the job's own row, and what the command is told is read when it starts.

use super::error::StoreError;
use super::handle::Store;
use super::sql::{Sql, id_marks};
use crate::job::{State, hook_name};

const EVENTS: [(State, &str); 3] =
    [(State::Success, "success"), (State::Failed, "failure"), (State::Stale, "stale")];

impl Store {
    /// Puts in the hooks of jobs that have just ended. Part of the unit that ended them.
    pub(super) fn start_hooks(&mut self, ended: &[i64]) -> Result<(), StoreError> {
        if ended.is_empty() {
            return Ok(());
        }
        for (state, event) in EVENTS {
            let insert = format!(
                "INSERT INTO duly_job (name, params, state, queue, priority, priority_order, run_at, max_attempts) \
                 SELECT CONCAT('{}', name), CONCAT('[\"', id, '\"]'), 'pending', queue, 100, -100, {}, 1 FROM duly_job \
                 WHERE id IN ({}) AND state = '{state}' AND hooks LIKE '%{event}%'",
                hook_name(event, ""),
                self.now(),
                id_marks(ended.len())
            );
            self.execute(&Sql::new(insert).bind_ids(ended))?;
        }
        Ok(())
    }
}
