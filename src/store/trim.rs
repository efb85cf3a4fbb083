//! What clean-up deletes beside jobs: session statistics, who did what, and orders of Duly's own table that are over, with every try
//! at an order that is over. What an order's block rests on stays, however old it is.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
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

#[derive(QueryableByName)]
struct Latest {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = BigInt)]
    is_over: i64,
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
            self.trim(&format!("duly_audit WHERE at < {cutoff}"), age, false)?;
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
        let mut rounds = Rounds::of("deleting what is old");
        loop {
            let query = Sql::new(format!("SELECT id FROM {which} AND id > ? ORDER BY id LIMIT {BATCH}"));
            let ids = self.rows::<Id>(&query.bind(-micros(age)).bind(after))?;
            let Some(last) = ids.last() else { return Ok(deleted) };
            after = last.id;
            rounds.turn(Some(after))?;
            // Somebody may have put one back meanwhile.
            let delete = format!("DELETE FROM {which} AND id IN ({})", marks(ids.len()));
            let sql = Sql::sized(delete, ids.len()).bind(-micros(age));
            let sql = sql.bind_all(ids.iter().map(|row| row.id));
            deleted += self.unit(|tx| tx.execute(&sql))? as u64;
        }
    }

    fn trim_attempts(&mut self, age: Duration) -> Result<(), StoreError> {
        let is_over = format!(
            "a.verdict IN ('confirmed', 'removed') AND a.blocks_until IS NULL AND a.tell IS NULL AND a.finished_at < {}",
            self.now_plus()
        );
        let query = format!(
            "SELECT a.source, a.order_id FROM duly_lost_order_attempt a WHERE {is_over} \
             AND (a.source > ? OR (a.source = ? AND a.order_id > ?)) \
             AND NOT EXISTS (SELECT 1 FROM duly_lost_order_attempt b \
             WHERE b.source = a.source AND b.order_id = a.order_id AND b.attempt > a.attempt) \
             ORDER BY a.source, a.order_id LIMIT {BATCH}"
        );
        let latest = format!(
            "SELECT a.attempt AS id, CASE WHEN {is_over} THEN 1 ELSE 0 END AS is_over FROM duly_lost_order_attempt a \
             WHERE a.source = ? AND a.order_id = ? ORDER BY a.attempt DESC LIMIT 1{}",
            self.for_update()
        );
        let mut after = Key { source: String::new(), order_id: String::new() };
        let mut rounds = Rounds::of("deleting old tries at orders");
        loop {
            let sql = Sql::new(query.clone()).bind(-micros(age));
            let sql = sql.bind(&after.source).bind(&after.source).bind(&after.order_id);
            let keys: Vec<Key> = self.rows(&sql)?;
            for key in &keys {
                self.unit(|tx| {
                    let sql = Sql::new(latest.clone()).bind(-micros(age)).bind(&key.source).bind(&key.order_id);
                    // Somebody may be sending it again by now: that locks the latest attempt too.
                    let Some(last) = tx.rows::<Latest>(&sql)?.pop().filter(|last| last.is_over != 0) else {
                        return Ok(());
                    };
                    let delete =
                        "DELETE FROM duly_lost_order_attempt WHERE source = ? AND order_id = ? AND attempt <= ?";
                    let sql = Sql::new(delete).bind(&key.source).bind(&key.order_id).bind(last.id);
                    tx.execute(&sql).map(drop)
                })?;
            }
            let Some(last) = keys.into_iter().next_back() else { return Ok(()) };
            rounds.turn((last.source == after.source && last.order_id == after.order_id).then_some(0))?;
            after = last;
        }
    }
}
