//! Renewing a runner's leases and learning what it no longer holds or should stop.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::sql::{Sql, marks};

/// As long as a lease can be.
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// A job that the runner still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Held {
    /// The job.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The fence of the claim that holds it.
    #[diesel(sql_type = BigInt)]
    pub fence: i64,
    /// 1 when somebody asked for it to be cancelled.
    #[diesel(sql_type = BigInt)]
    pub cancel: i64,
}

impl Store {
    /// Extends the leases of those of `ids` that `owner` holds, all in one statement.
    ///
    /// # Errors
    ///
    /// When the database fails: then nothing may have been extended.
    pub fn renew(&mut self, owner: &str, ids: &[i64], lease: Duration) -> Result<(), StoreError> {
        let update = format!(
            "UPDATE duly_job SET lease_until = {} WHERE id IN ({}) AND state = 'running' AND owner = ?",
            self.now_plus(),
            marks(ids.len())
        );
        let sql = Sql::once(update).bind(micros(lease)).bind_all(ids.iter().copied()).bind(owner);
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }

    /// Those of `ids` that `owner` holds, and whether each is to be cancelled. Locks nothing.
    pub fn held(&mut self, owner: &str, ids: &[i64]) -> Result<Vec<Held>, StoreError> {
        let query = format!(
            "SELECT id, fence, CASE WHEN cancel_requested_at IS NULL THEN 0 ELSE 1 END AS cancel FROM duly_job \
             WHERE id IN ({}) AND state = 'running' AND owner = ?",
            marks(ids.len())
        );
        self.rows(&Sql::once(query).bind_all(ids.iter().copied()).bind(owner))
    }

    /// Shortens leases that are longer than a lease can be, since a clock was ahead when they were taken: else what a runner held that
    /// has died would be taken back only when that time has come.
    pub fn shorten_leases(&mut self) -> Result<usize, StoreError> {
        let update = format!(
            "UPDATE duly_job SET lease_until = {0} WHERE state = 'running' AND lease_until > {0} AND owner IS NOT NULL",
            self.now_plus()
        );
        let longest = micros(LONGEST_LEASE);
        self.unit(|tx| tx.execute(&Sql::new(update.as_str()).bind(longest).bind(longest)))
    }

    /// Those of `claims`, job and fence, that still hold, whoever holds them. Locks nothing.
    pub fn still_holding(&mut self, claims: &[(i64, i64)]) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut holding = Vec::new();
        for claims in claims.chunks(500) {
            let query = format!(
                "SELECT id, fence, 0 AS cancel FROM duly_job WHERE id IN ({}) AND state = 'running'",
                marks(claims.len())
            );
            let rows: Vec<Held> = self.rows(&Sql::once(query).bind_all(claims.iter().map(|(id, _)| *id)))?;
            holding
                .extend(rows.into_iter().map(|row| (row.id, row.fence)).filter(|row| claims.contains(row)));
        }
        Ok(holding)
    }
}
