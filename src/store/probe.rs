//! The one question a tick asks first: is there anything to do?

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::no_answer;
use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Sql, marks};

/// What a tick needs to know before it does anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The schema's version.
    pub schema: Option<String>,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// This host's last recorded tick, and a digest of what it declared.
    pub last_tick: Option<Tick>,
    /// Rows that applications have inserted.
    pub has_new: bool,
    /// Occurrences or looks that are due.
    pub has_due: bool,
    /// Delayed jobs whose time has come.
    pub has_delayed: bool,
    /// Waiting jobs with a prerequisite, and roots with a child, that has ended since they were last looked at.
    pub has_marked: bool,
    /// Running jobs whose lease has ended.
    pub has_expired: bool,
    /// Startable jobs in the queues asked for.
    pub has_pending: bool,
}

/// A tick as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
    /// A digest of what it declared.
    pub digest: Option<String>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Nullable<Text>)]
    version: Option<String>,
    #[diesel(sql_type = Timestamp)]
    now_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    last_tick_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Text>)]
    schedules_digest: Option<String>,
    #[diesel(sql_type = BigInt)]
    has_new: i64,
    #[diesel(sql_type = BigInt)]
    has_due: i64,
    #[diesel(sql_type = BigInt)]
    has_delayed: i64,
    #[diesel(sql_type = BigInt)]
    has_marked: i64,
    #[diesel(sql_type = BigInt)]
    has_expired: i64,
    #[diesel(sql_type = BigInt)]
    has_pending: i64,
}

impl Store {
    /// Asks everything at once, each part answered by the head of an index. Locks nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] where the tables are missing.
    pub fn probe(&mut self, host: &str, queues: &[String]) -> Result<Probe, StoreError> {
        let now = self.now();
        let query = format!(
            "SELECT (SELECT MAX(version) FROM duly_migration) AS version, {now} AS now_at, \
             (SELECT last_tick_at FROM duly_runner WHERE host = ?) AS last_tick_at, \
             (SELECT schedules_digest FROM duly_runner WHERE host = ?) AS schedules_digest, \
             EXISTS(SELECT 1 FROM duly_job WHERE state = 'new') AS has_new, \
             EXISTS(SELECT 1 FROM duly_schedule WHERE next_at <= {now}) AS has_due, \
             EXISTS(SELECT 1 FROM duly_job WHERE state = 'delayed' AND run_at <= {now}) AS has_delayed, \
             EXISTS(SELECT 1 FROM duly_job WHERE state = 'waiting' AND lease_until <= {now}) \
             OR EXISTS(SELECT 1 FROM duly_job WHERE state = 'running' AND lease_until <= {now} AND owner IS NULL) \
             AS has_marked, \
             EXISTS(SELECT 1 FROM duly_job WHERE state = 'running' AND lease_until < {} AND owner IS NOT NULL) \
             AS has_expired, \
             EXISTS(SELECT 1 FROM duly_job WHERE state = 'pending' AND queue IN ({})) AS has_pending",
            self.now_plus(),
            marks(queues.len())
        );
        let sql = Sql::new(query).bind(host).bind(host).bind(-10_000_000_i64).bind_all(queues.iter());
        let row = self.rows_of_any_session::<Row>(&sql)?.pop().ok_or_else(no_answer)?;
        Ok(Probe {
            schema: row.version,
            now: row.now_at.and_utc(),
            last_tick: row.last_tick_at.map(|at| Tick { at: at.and_utc(), digest: row.schedules_digest }),
            has_new: row.has_new != 0,
            has_due: row.has_due != 0,
            has_delayed: row.has_delayed != 0,
            has_marked: row.has_marked != 0,
            has_expired: row.has_expired != 0,
            has_pending: row.has_pending != 0,
        })
    }

    /// The database's time.
    pub fn time(&mut self) -> Result<DateTime<Utc>, StoreError> {
        #[derive(QueryableByName)]
        struct Now {
            #[diesel(sql_type = Timestamp)]
            now_at: NaiveDateTime,
        }
        let query = format!("SELECT {} AS now_at", self.now());
        let row = self.rows::<Now>(&Sql::new(query))?.pop().ok_or_else(no_answer)?;
        Ok(row.now_at.and_utc())
    }
}
