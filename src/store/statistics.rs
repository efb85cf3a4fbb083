//! What the statistics of the web page are made of: the latest ends, through the index on state and end.

use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::sql::{Sql, StoredTime};
use crate::job::State;

/// One job that ended.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct EndRow {
    /// The name of its definition.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// When it could have started.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub run_at: Option<DateTime<Utc>>,
    /// When its latest attempt was claimed.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub finished_at: Option<DateTime<Utc>>,
    /// How long its latest attempt ran.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub duration_ms: Option<i64>,
}

impl Store {
    /// The latest `limit` jobs that ended in `state` within `since`, newest first. Locks nothing.
    pub fn latest_ends(
        &mut self,
        state: State,
        since: Duration,
        limit: usize,
    ) -> Result<Vec<EndRow>, StoreError> {
        let query = format!(
            "SELECT name, {} AS run_at, started_at, finished_at, duration_ms FROM duly_job \
             WHERE state = '{state}' AND finished_at >= {} ORDER BY finished_at DESC, id DESC LIMIT {limit}",
            self.readable("run_at"),
            self.now_plus()
        );
        self.rows(&Sql::new(query).bind(-micros(since)))
    }
}
