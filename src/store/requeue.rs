//! Jobs in queues that nobody serves any more, since these were renamed or removed: they follow their definitions.

use diesel::QueryableByName;

use super::adopt::BATCH;
use super::error::StoreError;
use super::handle::Store;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, id_marks};

/// The states in which a job has a queue and has not begun.
const WAITING: [&str; 3] = ["waiting", "delayed", "pending"];

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
}

impl Store {
    /// Moves jobs from queues that are not `served` to the one that `queue_of` their name says; returns how many.
    ///
    /// Locks the rows of some hundred at a time.
    pub fn requeue(
        &mut self,
        served: &dyn Fn(&str) -> bool,
        queue_of: &dyn Fn(&str) -> Option<String>,
    ) -> Result<usize, StoreError> {
        let mut moved = 0;
        for state in WAITING {
            let queues = Sql::new("SELECT DISTINCT queue AS word FROM duly_job WHERE state = ?").bind(state);
            for Word { word: queue } in self.rows::<Word>(&queues)? {
                if served(&queue) {
                    continue;
                }
                let names = "SELECT DISTINCT name AS word FROM duly_job WHERE state = ? AND queue = ?";
                for Word { word: name } in self.rows::<Word>(&Sql::new(names).bind(state).bind(&queue))? {
                    let Some(new) = queue_of(&name) else { continue };
                    moved += self.move_queue(state, &queue, &name, &new)?;
                }
            }
        }
        Ok(moved)
    }

    fn move_queue(&mut self, state: &str, from: &str, name: &str, to: &str) -> Result<usize, StoreError> {
        let (mut moved, mut rounds) = (0, Rounds::of("moving jobs to another queue"));
        loop {
            let mut first = None;
            let step = self.unit(|tx| {
                let query = format!(
                    "SELECT id FROM duly_job WHERE state = ? AND queue = ? AND name = ? ORDER BY id LIMIT {BATCH}{}",
                    tx.for_update()
                );
                let ids: Vec<i64> = tx
                    .rows::<Id>(&Sql::new(query).bind(state).bind(from).bind(name))?
                    .into_iter()
                    .map(|row| row.id)
                    .collect();
                first = ids.first().copied();
                if ids.is_empty() {
                    return Ok(0);
                }
                let update =
                    format!("UPDATE duly_job SET queue = ? WHERE id IN ({}) AND state = ?", id_marks(ids.len()));
                tx.execute(&Sql::new(update).bind(to).bind_ids(&ids).bind(state))
            })?;
            rounds.turn(first)?;
            if step == 0 {
                return Ok(moved);
            }
            moved += step;
        }
    }
}
