//! The shop's sessions: counted by one query, and what was counted before.

use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::mapping::quoted;
use super::sql::{Sql, StoredTime};
use crate::job::shop::SessionTable;

/// What was counted at one time.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct SessionStat {
    /// When, by the database's clock.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub measured_at: Option<DateTime<Utc>>,
    /// Sessions that were used within the last 5 minutes.
    #[diesel(sql_type = BigInt)]
    pub active_5m: i64,
    /// Sessions that were used within the last 30 minutes.
    #[diesel(sql_type = BigInt)]
    pub active_30m: i64,
    /// Sessions that were used within the last day.
    #[diesel(sql_type = BigInt)]
    pub active_24h: i64,
    /// All sessions.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
}

impl Store {
    /// Counts the sessions by one query over their table, and keeps the result. `kind` is the type of the time's column.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] when that is neither a number nor a time; when the database fails.
    pub fn measure_sessions(&mut self, table: &SessionTable, kind: &str) -> Result<SessionStat, StoreError> {
        let within = self.used_within(table, kind)?;
        let query = format!(
            "SELECT {} AS measured_at, COUNT(*) AS total, {}, {}, {} FROM {}",
            self.now(),
            within(300, "active_5m"),
            within(1800, "active_30m"),
            within(86_400, "active_24h"),
            quoted(&table.table)
        );
        let counted = self.rows::<SessionStat>(&Sql::once(query))?.pop();
        let stat = counted.ok_or_else(|| StoreError::Other("the database gave no answer".to_owned()))?;
        let insert = Sql::once(
            "INSERT INTO duly_session_stat (measured_at, active_5m, active_30m, active_24h, total) VALUES (?, ?, ?, ?, ?)",
        );
        let values = [stat.active_5m, stat.active_30m, stat.active_24h, stat.total];
        self.execute(&insert.bind(stat.measured_at).bind_all(values))?;
        Ok(stat)
    }

    /// How to count, as SQL, what was used within so many seconds.
    fn used_within(
        &self,
        table: &SessionTable,
        kind: &str,
    ) -> Result<impl Fn(u32, &str) -> String + use<>, StoreError> {
        let column = quoted(&table.time);
        let has = |words: &[&str]| words.iter().any(|word| kind.contains(word));
        let (is_mysql, is_number) =
            (self.is_server(), has(&["int", "decimal", "numeric", "float", "double", "real"]));
        if is_mysql && !is_number && !has(&["datetime", "timestamp"]) {
            return Err(StoreError::Unknown(format!(
                "sessions.columns.time: the column `{}` of `{}` is of type {kind}; expected a number of seconds since \
                 1970, or a DATETIME or TIMESTAMP in UTC",
                table.time, table.table
            )));
        }
        Ok(move |seconds: u32, name: &str| {
            let is_recent = match (is_mysql, is_number) {
                (true, true) => format!("{column} >= UNIX_TIMESTAMP() - {seconds}"),
                (true, false) => format!("{column} >= UTC_TIMESTAMP(6) - INTERVAL {seconds} SECOND"),
                // A column of SQLite may hold both.
                (false, _) => format!(
                    "CASE WHEN typeof({column}) IN ('integer', 'real') THEN {column} \
                     ELSE CAST(strftime('%s', {column}) AS INTEGER) END >= CAST(strftime('%s', 'now') AS INTEGER) - {seconds}"
                ),
            };
            format!("COUNT(CASE WHEN {is_recent} THEN 1 END) AS {name}")
        })
    }

    /// What was counted within the last `since`, oldest first.
    pub fn session_stats(&mut self, since: Duration) -> Result<Vec<SessionStat>, StoreError> {
        let query = format!(
            "SELECT measured_at, active_5m, active_30m, active_24h, total FROM duly_session_stat \
             WHERE measured_at >= {} ORDER BY measured_at, id LIMIT 1000000",
            self.now_plus()
        );
        self.rows(&Sql::once(query).bind(-micros(since)))
    }

    /// The latest measurement, if there is one.
    pub fn latest_session_stat(&mut self) -> Result<Option<SessionStat>, StoreError> {
        let query = "SELECT measured_at, active_5m, active_30m, active_24h, total FROM duly_session_stat \
                     WHERE measured_at = (SELECT MAX(measured_at) FROM duly_session_stat) LIMIT 1";
        Ok(self.rows(&Sql::new(query))?.pop())
    }
}
