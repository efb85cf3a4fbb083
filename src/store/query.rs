//! Reading jobs for people: lists, one job whole, what is known of each name. Locks nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text, Timestamp};

use super::connection::Store;
use super::enqueue::micros;
use super::error::StoreError;
use super::sql::{Sql, Value, utc};
use crate::job::State;

/// One job, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: i64,
    /// The name of its definition.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// Its queue; `None` until it is adopted.
    pub queue: Option<String>,
    /// Its priority; `None` until it is adopted.
    pub priority: Option<i32>,
    /// Its parameters as stored.
    pub params: Option<String>,
    /// What it is about.
    pub target_type: Option<String>,
    /// What it is about.
    pub target_id: Option<String>,
    /// Attempts so far, the present one included.
    pub attempts: i32,
    /// Attempts at most.
    pub max_attempts: Option<i32>,
    /// When it may start.
    pub run_at: Option<DateTime<Utc>>,
    /// When it was put in.
    pub created_at: Option<DateTime<Utc>>,
    /// When its latest attempt was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long its latest ended attempt ran.
    pub duration_ms: Option<i64>,
    /// How its latest attempt ended.
    pub outcome: Option<String>,
    /// The exit code of its latest attempt.
    pub exit_code: Option<i32>,
    /// The signal that ended its latest attempt.
    pub signal: Option<i32>,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// Its root job.
    pub root_id: Option<i64>,
    /// The ended job that it repeats.
    pub retry_of: Option<i64>,
    /// The instant of its schedule that it is for.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Percent done.
    pub progress: Option<i32>,
    /// The host of its latest attempt.
    pub host: Option<String>,
    /// The fence of its latest claim.
    pub fence: i64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    priority: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    params: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_id: Option<String>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    max_attempts: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    run_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    created_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    started_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    finished_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<BigInt>)]
    duration_ms: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    outcome: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    exit_code: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    signal_number: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    root_id: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    retry_of: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    scheduled_for: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<BigInt>)]
    progress: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = BigInt)]
    fence: i64,
}

/// With `{run_at}` for a text of [`Store::readable`]: that column an application may have written anyhow.
const COLUMNS: &str = "id, name, state, queue, CAST(priority AS SIGNED) AS priority, params, target_type, target_id, \
     attempts, max_attempts, {run_at} AS run_at, created_at, started_at, finished_at, duration_ms, outcome, exit_code, \
     signal_number, reason, root_id, retry_of, scheduled_for, CAST(progress AS SIGNED) AS progress, host, fence";

impl From<Row> for Job {
    fn from(row: Row) -> Self {
        let small = |number: Option<i64>| number.and_then(|number| i32::try_from(number).ok());
        Self {
            id: row.id,
            name: row.name,
            state: row.state.parse().unwrap_or(State::New),
            queue: row.queue,
            priority: small(row.priority),
            params: row.params,
            target_type: row.target_type,
            target_id: row.target_id,
            attempts: row.attempts,
            max_attempts: row.max_attempts,
            run_at: utc(row.run_at),
            created_at: utc(row.created_at),
            started_at: utc(row.started_at),
            finished_at: utc(row.finished_at),
            duration_ms: row.duration_ms,
            outcome: row.outcome,
            exit_code: row.exit_code,
            signal: row.signal_number,
            reason: row.reason,
            root_id: row.root_id,
            retry_of: row.retry_of,
            scheduled_for: utc(row.scheduled_for),
            progress: small(row.progress),
            host: row.host,
            fence: row.fence,
        }
    }
}

/// One attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number, from 1; one that was interrupted shares its number with the next.
    pub attempt: i32,
    /// The fence of its claim.
    pub fence: i64,
    /// How it ended.
    pub outcome: String,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// Where it ran.
    pub host: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it ran.
    pub duration_ms: Option<i64>,
}

#[derive(QueryableByName)]
struct AttemptSql {
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = BigInt)]
    fence: i64,
    #[diesel(sql_type = Text)]
    outcome: String,
    #[diesel(sql_type = Nullable<Integer>)]
    exit_code: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    signal_number: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    started_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    finished_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<BigInt>)]
    duration_ms: Option<i64>,
}

/// What the command of one attempt printed.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct OutputRow {
    /// The fence of the attempt.
    #[diesel(sql_type = BigInt)]
    pub fence: i64,
    /// The text.
    #[diesel(sql_type = Text)]
    pub body: String,
    /// Bytes missing from it.
    #[diesel(sql_type = BigInt)]
    pub truncated: i64,
}

/// A job at the other end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Edge {
    /// The other job.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Which end of the prerequisite lets the dependent start.
    #[diesel(sql_type = Text)]
    pub on_end: String,
    /// The other job's name, if it still exists.
    #[diesel(sql_type = Nullable<Text>)]
    pub name: Option<String>,
    /// The other job's state, if it still exists.
    #[diesel(sql_type = Nullable<Text>)]
    pub state: Option<String>,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// In this state.
    pub state: Option<State>,
    /// In this queue.
    pub queue: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// Put in at most so long ago.
    pub since: Option<Duration>,
    /// At most so many.
    pub limit: u32,
}

impl Store {
    fn columns(&self) -> String {
        COLUMNS.replace("{run_at}", &self.readable("run_at"))
    }

    /// The latest jobs, newest first; ended ones by when they ended if only one end state is asked for.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn list(&mut self, filter: &ListFilter) -> Result<Vec<Job>, StoreError> {
        let mut conditions: Vec<String> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        if let Some(state) = filter.state {
            conditions.push(format!("state = '{state}'"));
        }
        for (column, value) in [("queue", &filter.queue), ("name", &filter.name)] {
            if let Some(value) = value {
                conditions.push(format!("{column} = ?"));
                values.push(value.into());
            }
        }
        if let Some(since) = filter.since {
            conditions.push(format!("created_at >= {}", self.now_plus()));
            values.push((-micros(since)).into());
        }
        let wanted =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let order = match filter.state {
            Some(state) if state.is_ended() && filter.name.is_none() => "finished_at DESC, id DESC",
            _ => "id DESC",
        };
        let columns = self.columns();
        let query =
            format!("SELECT {columns} FROM duly_job {wanted} ORDER BY {order} LIMIT {}", filter.limit);
        Ok(self.rows::<Row>(&Sql::once(query).bind_all(values))?.into_iter().map(Job::from).collect())
    }

    /// Job `id`, if there is one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn job(&mut self, id: i64) -> Result<Option<Job>, StoreError> {
        let query = format!("SELECT {} FROM duly_job WHERE id = ?", self.columns());
        Ok(self.rows::<Row>(&Sql::new(query).bind(id))?.pop().map(Job::from))
    }

    /// The ended attempts of job `id`, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn attempts(&mut self, id: i64) -> Result<Vec<AttemptRow>, StoreError> {
        let query = "SELECT attempt, fence, outcome, exit_code, signal_number, reason, host, started_at, finished_at, \
                     duration_ms FROM duly_attempt WHERE job_id = ? ORDER BY fence";
        let rows: Vec<AttemptSql> = self.rows(&Sql::new(query).bind(id))?;
        Ok(rows
            .into_iter()
            .map(|row| AttemptRow {
                attempt: row.attempt,
                fence: row.fence,
                outcome: row.outcome,
                exit_code: row.exit_code,
                signal: row.signal_number,
                reason: row.reason,
                host: row.host,
                started_at: utc(row.started_at),
                finished_at: utc(row.finished_at),
                duration_ms: row.duration_ms,
            })
            .collect())
    }

    /// What the attempts of job `id` printed, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn outputs(&mut self, id: i64) -> Result<Vec<OutputRow>, StoreError> {
        let query = "SELECT fence, body, truncated FROM duly_output WHERE job_id = ? ORDER BY fence";
        self.rows(&Sql::new(query).bind(id))
    }

    /// What job `id` waits or waited for.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn prerequisites(&mut self, id: i64) -> Result<Vec<Edge>, StoreError> {
        let query = "SELECT d.prerequisite_id AS id, d.`on` AS on_end, j.name, j.state FROM duly_dependency d \
                     LEFT JOIN duly_job j ON j.id = d.prerequisite_id WHERE d.job_id = ? ORDER BY d.prerequisite_id";
        self.rows(&Sql::new(query).bind(id))
    }

    /// What waits or waited for job `id`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn dependents(&mut self, id: i64) -> Result<Vec<Edge>, StoreError> {
        let query = "SELECT d.job_id AS id, d.`on` AS on_end, j.name, j.state FROM duly_dependency d \
                     LEFT JOIN duly_job j ON j.id = d.job_id WHERE d.prerequisite_id = ? ORDER BY d.job_id";
        self.rows(&Sql::new(query).bind(id))
    }

    /// The children of root job `id`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn children(&mut self, id: i64) -> Result<Vec<i64>, StoreError> {
        let query = Sql::new("SELECT id FROM duly_job WHERE root_id = ? ORDER BY id").bind(id);
        Ok(self.rows::<Id>(&query)?.into_iter().map(|row| row.id).collect())
    }

    /// The latest job of each of `names` that has started at all.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn latest_of<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Job>, StoreError> {
        let query = format!(
            "SELECT {} FROM duly_job WHERE name = ? AND started_at IS NOT NULL ORDER BY id DESC LIMIT 1",
            self.columns()
        );
        let mut latest = BTreeMap::new();
        for name in names {
            if let Some(row) = self.rows::<Row>(&Sql::new(query.clone()).bind(name))?.pop() {
                latest.insert(name.to_owned(), Job::from(row));
            }
        }
        Ok(latest)
    }
}
