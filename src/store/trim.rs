//! What clean-up deletes beside jobs: session statistics, and orders of Duly's own table that are over, with every try
//! at an order that is over. What an order's block rests on stays, however old it is.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::Text;

use super::connection::Store;
use super::enqueue::micros;
use super::error::StoreError;
use super::sql::{Id, Sql, marks};

/// Rows per transaction.
const BATCH: usize = 500;

#[derive(QueryableByName)]
struct Key {
    #[diesel(sql_type = Text)]
    source: String,
    #[diesel(sql_type = Text)]
    order_id: String,
}

impl Store {
    /// Deletes what is older than `age`, or counts it: session statistics, and orders that are confirmed or removed.
    ///
    /// # Errors
    ///
    /// When the database fails; what was deleted before stays deleted.
    pub(super) fn trim_shop(&mut self, age: Duration, dry_run: bool) -> Result<(u64, u64), StoreError> {
        let cutoff = self.now_plus();
        let stats = format!("duly_session_stat WHERE measured_at < {cutoff}");
        let orders = format!(
            "duly_lost_order WHERE state IN ('confirmed', 'removed') AND COALESCE(changed_at, created_at) < {cutoff}"
        );
        let stats = self.trim(&stats, age, dry_run)?;
        if !dry_run {
            self.trim_attempts(age)?;
        }
        Ok((stats, self.trim(&orders, age, dry_run)?))
    }

    fn trim(&mut self, which: &str, age: Duration, dry_run: bool) -> Result<u64, StoreError> {
        if dry_run {
            let query = Sql::new(format!("SELECT COUNT(*) AS id FROM {which}")).bind(-micros(age));
            let counted = self.rows::<Id>(&query)?;
            return Ok(counted.first().and_then(|row| u64::try_from(row.id).ok()).unwrap_or(0));
        }
        let (mut deleted, mut after) = (0, 0);
        let table = which.split(' ').next().unwrap_or_default();
        loop {
            let query = Sql::new(format!("SELECT id FROM {which} AND id > ? ORDER BY id LIMIT {BATCH}"));
            let ids = self.rows::<Id>(&query.bind(-micros(age)).bind(after))?;
            let Some(last) = ids.last() else { return Ok(deleted) };
            after = last.id;
            let delete = format!("DELETE FROM {table} WHERE id IN ({})", marks(ids.len()));
            let sql = Sql::sized(delete, ids.len()).bind_all(ids.iter().map(|row| row.id));
            deleted += self.unit(|tx| tx.execute(&sql))? as u64;
        }
    }

    fn trim_attempts(&mut self, age: Duration) -> Result<(), StoreError> {
        let query = format!(
            "SELECT a.source, a.order_id FROM duly_lost_order_attempt a \
             WHERE a.verdict IN ('confirmed', 'removed') AND a.blocks_until IS NULL AND a.finished_at < {} \
             AND (a.source > ? OR (a.source = ? AND a.order_id > ?)) \
             AND NOT EXISTS (SELECT 1 FROM duly_lost_order_attempt b \
             WHERE b.source = a.source AND b.order_id = a.order_id AND b.attempt > a.attempt) \
             ORDER BY a.source, a.order_id LIMIT {BATCH}",
            self.now_plus()
        );
        let mut after = Key { source: String::new(), order_id: String::new() };
        loop {
            let sql = Sql::new(query.clone()).bind(-micros(age));
            let sql = sql.bind(&after.source).bind(&after.source).bind(&after.order_id);
            let keys: Vec<Key> = self.rows(&sql)?;
            self.unit(|tx| {
                for key in &keys {
                    let delete = "DELETE FROM duly_lost_order_attempt WHERE source = ? AND order_id = ?";
                    tx.execute(&Sql::new(delete).bind(&key.source).bind(&key.order_id))?;
                }
                Ok(())
            })?;
            let Some(last) = keys.into_iter().next_back() else { return Ok(()) };
            after = last;
        }
    }
}
