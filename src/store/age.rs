//! Letting jobs that wait for a slot come nearer to the head of their queue.
//!
//! Only waiting for slots and limits counts: not what is paused, was paused lately, or is of a queue or a name that the host
//! which looks would not start. A pass reads a window of what has been startable for long, by an index, and goes on from
//! there the next time: it costs the same however many jobs wait, and none of them can keep the others from their turn.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::pause::Pause;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, marks};
use crate::job::fnv1a;

/// How long a job is startable before it comes nearer to the head of its queue, and by how much of a priority.
pub(super) const AGEING: Duration = Duration::from_secs(600);
const AGEING_STEP: i32 = 10;

/// How near it may come.
const FLOOR: i32 = -10_000;

/// Jobs that a pass reads, and of which it moves so many, at most.
const WINDOW: usize = 5000;
const BATCH: usize = 500;

/// Which jobs a host would start if it had a slot.
#[derive(Clone, Copy)]
pub struct Serves<'a> {
    /// Of these queues.
    pub queues: &'a [String],
    /// Of these names.
    pub is_declared: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Serves<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serves").field("queues", &self.queues).finish_non_exhaustive()
    }
}

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = BigInt)]
    id: i64,
    /// As it is stored.
    #[diesel(sql_type = Text)]
    at: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    /// Neither moved lately nor as far as it may come.
    #[diesel(sql_type = BigInt)]
    may_move: i64,
}

/// The last job that a pass looked at.
#[derive(QueryableByName, Clone)]
struct Place {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    at: String,
}

impl Store {
    /// Lets jobs that `serves` would start, and that have been startable for long, come nearer to the head of their queue:
    /// [`AGEING_STEP`] for each [`AGEING`], the oldest first, so that no stream of jobs of a higher priority holds them up for
    /// ever. `host` is whose place among the jobs is gone on from.
    ///
    /// Locks the rows that are moved, those that are being claimed left out. Returns how many were moved.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing was moved.
    pub fn age(&mut self, host: &str, serves: Serves<'_>) -> Result<usize, StoreError> {
        let pauses = self.pauses_that_count(AGEING)?;
        if pauses.iter().any(|pause| pause.scope == "all") {
            return Ok(0);
        }
        let key = format!("{:016x}", fnv1a(host.as_bytes()));
        let from = self.aged_up_to(&key)?;
        let window = self.long_startable(from.as_ref())?;
        let may_start = |row: &Waiting| {
            let queue = row.queue.as_deref().unwrap_or_default();
            serves.queues.iter().any(|served| served == queue)
                && (serves.is_declared)(&row.name)
                && !pauses.iter().any(|pause: &Pause| pause.holds(&row.name, queue))
        };
        let mut ids = Vec::new();
        let mut seen = 0;
        for row in &window {
            if ids.len() == BATCH {
                break;
            }
            seen += 1;
            if row.may_move != 0 && may_start(row) {
                ids.push(row.id);
            }
        }
        let is_through = seen == window.len() && seen < WINDOW;
        let last = window.get(seen.wrapping_sub(1)).filter(|_| !is_through);
        let last = last.map(|row| Place { id: row.id, at: row.at.clone() });
        let moved = if ids.is_empty() { 0 } else { self.unit(|tx| tx.move_nearer(&ids))? };
        if from.is_some() || last.is_some() {
            self.go_on_after(&key, last.as_ref())?;
        }
        Ok(moved)
    }

    /// Jobs that have been startable for long, from a place on, as far as one pass looks. Locks nothing.
    ///
    /// Those of the same instant are asked for apart: so each query is one stretch of the index, however many there are.
    fn long_startable(&mut self, from: Option<&Place>) -> Result<Vec<Waiting>, StoreError> {
        let Some(place) = from else { return self.stretch_of("", |sql| sql, WINDOW) };
        let same = |sql: Sql| sql.bind(&place.at).bind(place.id);
        let mut found = self.stretch_of(" AND run_at = ? AND id > ?", same, WINDOW)?;
        if found.len() < WINDOW {
            found.extend(self.stretch_of(
                " AND run_at > ?",
                |sql| sql.bind(&place.at),
                WINDOW - found.len(),
            )?);
        }
        Ok(found)
    }

    fn stretch_of(
        &mut self,
        condition: &str,
        bound: impl FnOnce(Sql) -> Sql,
        limit: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let long_ago = self.now_plus();
        let query = format!(
            "SELECT id, {} AS at, name, queue, CASE WHEN priority_order > {FLOOR} AND (noted_at IS NULL OR noted_at <= {long_ago}) \
             THEN 1 ELSE 0 END AS may_move FROM duly_job WHERE state = 'pending' AND run_at <= {long_ago}{condition} \
             ORDER BY run_at, id LIMIT {limit}",
            self.as_text("run_at")
        );
        let before = -micros(AGEING);
        self.rows(&bound(Sql::new(query).bind(before).bind(before)))
    }

    /// Part of a unit.
    fn move_nearer(&mut self, ids: &[i64]) -> Result<usize, StoreError> {
        let may_move = format!(
            "state = 'pending' AND priority_order > {FLOOR} AND (noted_at IS NULL OR noted_at <= {})",
            self.now_plus()
        );
        let by_id = if self.is_server() { " FORCE INDEX (PRIMARY)" } else { "" };
        let query = format!(
            "SELECT id FROM duly_job{by_id} WHERE id IN ({}) AND {may_move}{}",
            marks(ids.len()),
            self.skip_locked()
        );
        let sql = Sql::once(query).bind_all(ids.iter().copied()).bind(-micros(AGEING));
        let free: Vec<Id> = self.rows(&sql)?;
        if free.is_empty() {
            return Ok(0);
        }
        let update = format!(
            "UPDATE duly_job SET priority_order = priority_order - {AGEING_STEP}, noted_at = {} \
             WHERE id IN ({}) AND state = 'pending'",
            self.now(),
            marks(free.len())
        );
        self.execute(&Sql::once(update).bind_all(free.iter().map(|row| row.id)))
    }

    /// Where the latest pass of a host came to; `None` at the beginning.
    fn aged_up_to(&mut self, key: &str) -> Result<Option<Place>, StoreError> {
        let query = format!(
            "SELECT total AS id, {} AS at FROM duly_metric WHERE metric = 'aged' AND name = ? AND label = '' \
             AND at IS NOT NULL",
            self.as_text("at")
        );
        Ok(self.rows::<Place>(&Sql::new(query).bind(key))?.pop())
    }

    fn go_on_after(&mut self, key: &str, place: Option<&Place>) -> Result<(), StoreError> {
        let sql = match place {
            Some(place) => Sql::new(
                "REPLACE INTO duly_metric (metric, name, label, total, at) VALUES ('aged', ?, '', ?, ?)",
            )
            .bind(key)
            .bind(place.id)
            .bind(&place.at),
            None => Sql::new("DELETE FROM duly_metric WHERE metric = 'aged' AND name = ?").bind(key),
        };
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }
}
