//! What has to do with whether a job runs, read for [`crate::job::why`]. Locks nothing; every query goes through an index.

use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable};

use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{OPEN, Sql, StoredState, StoredTime};
use crate::job::why::{Facts, Hold, LastAttempt, Other};
use crate::job::{On, State};

/// Children and holders of places that are named at most.
const NAMED: u32 = 20;

/// Jobs before one that are counted at most.
const AHEAD: u32 = 1000;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text, deserialize_as = StoredState)]
    state: State,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Integer)]
    priority_order: i32,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    run_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    created_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    finished_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    scheduled_for: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    lease_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    cancel_requested_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    max_attempts: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    owner: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    outcome: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    exit_code: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    root_id: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    own_end: Option<String>,
    #[diesel(sql_type = BigInt)]
    children: i64,
    #[diesel(sql_type = BigInt)]
    children_ended: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    time_before_stale_ms: Option<i64>,
}

#[derive(QueryableByName)]
struct OtherRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text, deserialize_as = StoredState)]
    state: State,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = BigInt)]
    is_cancelled: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    jobs: i64,
}

const OTHER: &str = "id, name, state, CASE WHEN state = 'running' THEN host END AS host, \
                     CASE WHEN cancel_requested_at IS NULL THEN 0 ELSE 1 END AS is_cancelled";

impl From<OtherRow> for Other {
    fn from(row: OtherRow) -> Self {
        Self { id: row.id, name: Some(row.name), state: Some(row.state), host: row.host }
    }
}

impl Store {
    /// What has to do with whether job `id` runs; `None` if there is no such job. `queue` is that of its definition, for one
    /// that has not been adopted.
    pub fn facts(
        &mut self,
        id: i64,
        queue_of: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Facts>, StoreError> {
        let query = format!(
            "SELECT name, state, queue, CAST(priority_order AS {int}) AS priority_order, {run_at} AS run_at, created_at, \
             started_at, finished_at, scheduled_for, lease_until, cancel_requested_at, attempts, max_attempts, owner, host, \
             reason, outcome, exit_code, root_id, own_end, children + 0 AS children, children_ended + 0 AS children_ended, \
             time_before_stale_ms FROM duly_job WHERE id = ?",
            int = if self.is_server() { "SIGNED" } else { "INTEGER" },
            run_at = self.readable("run_at")
        );
        let Some(row) = self.rows::<Row>(&Sql::new(query).bind(id))?.pop() else { return Ok(None) };
        let queue = row.queue.clone().or_else(|| queue_of(&row.name));
        let root = match row.root_id {
            Some(root) => self.others(&format!("SELECT {OTHER} FROM duly_job WHERE id = ?"), root)?.pop(),
            None => None,
        };
        let open_children = self.children_that_hold(id, &row)?;
        let is_pending = row.state == State::Pending;
        let holders = if is_pending {
            (
                self.holders("slot_key", &format!("queue:{}", queue.as_deref().unwrap_or("default")))?,
                self.holders("name_slot_key", &format!("job:{}", row.name))?,
            )
        } else {
            (Vec::new(), Vec::new())
        };
        let ahead = if is_pending { self.ahead_of(id, &row)? } else { 0 };
        let pauses = if row.state.is_ended() || row.state == State::Running {
            Vec::new()
        } else {
            self.holds(&row.name, queue.as_deref())?
        };
        Ok(Some(Facts {
            now: self.time()?,
            id,
            prerequisites: self.prerequisites_of(id, row.state)?,
            last_attempt: self.latest_attempt(id)?,
            hosts: self.hosts()?,
            queue,
            root,
            open_children,
            holders,
            ahead,
            pauses,
            name: row.name,
            state: row.state,
            run_at: row.run_at,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            scheduled_for: row.scheduled_for,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            max_attempts: row.max_attempts.and_then(|most| u32::try_from(most).ok()),
            owner: row.owner,
            host: row.host,
            lease_until: row.lease_until,
            cancel_requested_at: row.cancel_requested_at,
            reason: row.reason,
            outcome: row.outcome,
            exit_code: row.exit_code,
            own_end: row.own_end,
            children: (row.children, row.children_ended),
            time_before_stale: row
                .time_before_stale_ms
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis),
        }))
    }

    /// Children that a root whose command has ended waits for, some of them.
    fn children_that_hold(&mut self, id: i64, row: &Row) -> Result<Vec<Other>, StoreError> {
        if row.children == 0 || row.state != State::Running {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT {OTHER} FROM duly_job WHERE root_id = ? AND state IN {OPEN} ORDER BY id LIMIT {NAMED}"
        );
        Ok(self.others(&query, id)?.into_iter().map(|(other, _)| other).collect())
    }

    fn others(&mut self, query: &str, id: i64) -> Result<Vec<(Other, bool)>, StoreError> {
        let rows: Vec<OtherRow> = self.rows(&Sql::new(query).bind(id))?;
        Ok(rows
            .into_iter()
            .map(|row| (row.is_cancelled != 0, row))
            .map(|(is, row)| (row.into(), is))
            .collect())
    }

    /// The jobs that hold places of one limited thing.
    fn holders(&mut self, column: &str, prefix: &str) -> Result<Vec<Other>, StoreError> {
        let query = format!("SELECT {OTHER} FROM duly_job WHERE {column} >= ? AND {column} < ? ORDER BY id");
        let sql = Sql::new(query).bind(format!("{prefix}#")).bind(format!("{prefix}$"));
        Ok(self.rows::<OtherRow>(&sql)?.into_iter().map(Other::from).collect())
    }

    /// How many startable jobs of its queue come before a job, in the order of the index.
    fn ahead_of(&mut self, id: i64, row: &Row) -> Result<u32, StoreError> {
        let query = format!(
            "SELECT COUNT(*) AS jobs FROM (SELECT id FROM duly_job WHERE state = 'pending' AND queue = ? AND \
             (priority_order < ? OR (priority_order = ? AND (run_at < ? OR (run_at = ? AND id < ?)))) LIMIT {AHEAD}) AS first"
        );
        let sql = Sql::new(query)
            .bind(row.queue.clone())
            .bind(row.priority_order)
            .bind(row.priority_order)
            .bind(row.run_at)
            .bind(row.run_at)
            .bind(id);
        let count = self.rows::<Count>(&sql)?.pop().map_or(0, |row| row.jobs);
        Ok(u32::try_from(count).unwrap_or(AHEAD))
    }

    fn holds(&mut self, name: &str, queue: Option<&str>) -> Result<Vec<Hold>, StoreError> {
        let pauses = self.pauses()?.into_iter().filter(|pause| pause.holds(name, queue.unwrap_or_default()));
        Ok(pauses.map(Hold::from).collect())
    }

    fn prerequisites_of(&mut self, id: i64, state: State) -> Result<Vec<(Other, On)>, StoreError> {
        if state != State::Waiting {
            return Ok(Vec::new());
        }
        let edges = self.prerequisites(id)?.into_iter();
        Ok(edges
            .map(|edge| {
                let state = edge.state.as_deref().and_then(|word| word.parse().ok());
                let other = Other { id: edge.id, name: edge.name, state, host: None };
                (other, edge.on_end.parse().unwrap_or(On::Success))
            })
            .collect())
    }

    fn latest_attempt(&mut self, id: i64) -> Result<Option<LastAttempt>, StoreError> {
        Ok(self.attempts(id)?.pop().map(|row| LastAttempt {
            attempt: u32::try_from(row.attempt).unwrap_or(0),
            outcome: row.outcome,
            exit_code: row.exit_code,
            signal: row.signal,
            reason: row.reason,
        }))
    }
}
