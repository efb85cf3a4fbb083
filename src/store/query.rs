//! Reading jobs for people: one job whole, what is known of each name. Locks nothing.

use std::collections::BTreeMap;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, SecondsFormat, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable};

use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, StoredState, StoredTime};
use crate::job::{State, parse_params};

/// One job, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Job {
    /// Its id.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The name of its definition.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Where it is in its life.
    #[diesel(sql_type = Text, deserialize_as = StoredState)]
    pub state: State,
    /// Its queue; `None` until it is adopted.
    #[diesel(sql_type = Nullable<Text>)]
    pub queue: Option<String>,
    /// Its priority; `None` until it is adopted.
    #[diesel(sql_type = Nullable<Integer>)]
    pub priority: Option<i32>,
    /// Its parameters as stored.
    #[diesel(sql_type = Nullable<Text>)]
    pub params: Option<String>,
    /// What it is about.
    #[diesel(sql_type = Nullable<Text>)]
    pub target_type: Option<String>,
    /// What it is about.
    #[diesel(sql_type = Nullable<Text>)]
    pub target_id: Option<String>,
    /// Attempts so far, the present one included.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// Attempts at most.
    #[diesel(sql_type = Nullable<Integer>)]
    pub max_attempts: Option<i32>,
    /// When it may start.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub run_at: Option<DateTime<Utc>>,
    /// When it was put in.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub created_at: Option<DateTime<Utc>>,
    /// When its latest attempt was claimed.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub finished_at: Option<DateTime<Utc>>,
    /// How long its latest ended attempt ran.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub duration_ms: Option<i64>,
    /// How its latest attempt ended.
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome: Option<String>,
    /// The exit code of its latest attempt.
    #[diesel(sql_type = Nullable<Integer>)]
    pub exit_code: Option<i32>,
    /// The signal that ended its latest attempt.
    #[diesel(sql_type = Nullable<Integer>, column_name = signal_number)]
    pub signal: Option<i32>,
    /// Why, in a sentence.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
    /// Its root job.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub root_id: Option<i64>,
    /// The ended job that it repeats.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub retry_of: Option<i64>,
    /// The instant of its schedule that it is for.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Percent done.
    #[diesel(sql_type = Nullable<Integer>)]
    pub progress: Option<i32>,
    /// What it is doing, in its own words.
    #[diesel(sql_type = Nullable<Text>)]
    pub progress_text: Option<String>,
    /// The host of its latest attempt.
    #[diesel(sql_type = Nullable<Text>)]
    pub host: Option<String>,
    /// The fence of its latest claim.
    #[diesel(sql_type = BigInt)]
    pub fence: i64,
}

impl Job {
    /// How its latest attempt ended, in a few words; a dash where none has.
    #[must_use]
    pub fn result(&self) -> String {
        match (self.exit_code, self.signal, &self.reason) {
            // How its command ended is not why.
            (_, _, Some(reason)) if self.state == State::Cancelled => reason.clone(),
            (Some(0), _, _) => "ok".to_owned(),
            (Some(code), _, _) => format!("exit {code}"),
            (None, Some(signal), _) => format!("signal {signal}"),
            (None, None, Some(reason)) => reason.clone(),
            (None, None, None) => self.outcome.clone().unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// As JSON, with the fields that are documented; what is unknown is `null`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
        let params = self.params.as_deref().and_then(|params| parse_params(params).ok());
        serde_json::json!({
            "id": self.id,
            "name": self.name,
            "state": self.state.as_str(),
            "queue": self.queue,
            "priority": self.priority,
            "params": params,
            "target_type": self.target_type,
            "target_id": self.target_id,
            "attempts": self.attempts,
            "max_attempts": self.max_attempts,
            "run_at": time(self.run_at),
            "created_at": time(self.created_at),
            "started_at": time(self.started_at),
            "finished_at": time(self.finished_at),
            "duration_ms": self.duration_ms,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "reason": self.reason,
            "root_id": self.root_id,
            "retry_of": self.retry_of,
            "scheduled_for": time(self.scheduled_for),
            "progress": self.progress,
            "progress_text": self.progress_text,
            "host": self.host,
        })
    }
}

/// Of a name, how many of its latest jobs are looked at for one that has started.
const LATEST: u32 = 20_000;

/// Bytes of params that are read at most; no command line can hold more.
pub(super) const LONGEST_PARAMS: u32 = 1 << 20;

/// With a name in braces for a column that an application may have written anyhow: times go through [`readable`](crate::db::Connection::readable).
const COLUMNS: &str = "id, name, state, queue, priority, {params} AS params, target_type, target_id, \
     attempts, max_attempts, {run_at} AS run_at, {created_at} AS created_at, {started_at} AS started_at, \
     {finished_at} AS finished_at, duration_ms, outcome, exit_code, signal_number, reason, root_id, retry_of, \
     {scheduled_for} AS scheduled_for, \
     COALESCE(progress, CASE WHEN children > 0 THEN children_ended * 100 / children END) AS progress, progress_text, host, fence";

/// One attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct AttemptRow {
    /// Its number, from 1; one that was interrupted shares its number with the next.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// The fence of its claim.
    #[diesel(sql_type = BigInt)]
    pub fence: i64,
    /// How it ended.
    #[diesel(sql_type = Text)]
    pub outcome: String,
    /// Its exit code.
    #[diesel(sql_type = Nullable<Integer>)]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[diesel(sql_type = Nullable<Integer>, column_name = signal_number)]
    pub signal: Option<i32>,
    /// Why, in a sentence.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
    /// Where it ran.
    #[diesel(sql_type = Nullable<Text>)]
    pub host: Option<String>,
    /// When it began.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it ran.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub duration_ms: Option<i64>,
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

impl Store {
    pub(super) fn columns(&self) -> String {
        // An application may have written any length: a list of such rows would be gigabytes.
        let params = format!("CASE WHEN OCTET_LENGTH(params) > {LONGEST_PARAMS} THEN NULL ELSE params END");
        ["run_at", "created_at", "started_at", "finished_at", "scheduled_for"]
            .iter()
            .fold(COLUMNS.replace("{params}", &params), |columns, time| {
                columns.replace(&format!("{{{time}}}"), &self.readable(time))
            })
    }

    /// Job `id`, if there is one.
    pub fn job(&mut self, id: i64) -> Result<Option<Job>, StoreError> {
        let query = format!("SELECT {} FROM duly_job WHERE id = ?", self.columns());
        Ok(self.rows::<Job>(&Sql::new(query).bind(id))?.pop())
    }

    /// The ended attempts of job `id`, oldest first.
    pub fn attempts(&mut self, id: i64) -> Result<Vec<AttemptRow>, StoreError> {
        let query = "SELECT attempt, fence, outcome, exit_code, signal_number, reason, host, started_at, finished_at, \
                     duration_ms FROM duly_attempt WHERE job_id = ? ORDER BY fence";
        self.rows(&Sql::new(query).bind(id))
    }

    /// What the attempts of job `id` printed, oldest first.
    pub fn outputs(&mut self, id: i64) -> Result<Vec<OutputRow>, StoreError> {
        self.outputs_from(id, 0)
    }

    /// The same, of the attempt with this fence and of later ones.
    pub fn outputs_from(&mut self, id: i64, fence: i64) -> Result<Vec<OutputRow>, StoreError> {
        let query =
            "SELECT fence, body, truncated FROM duly_output WHERE job_id = ? AND fence >= ? ORDER BY fence";
        self.rows(&Sql::new(query).bind(id).bind(fence))
    }

    /// What job `id` waits or waited for.
    pub fn prerequisites(&mut self, id: i64) -> Result<Vec<Edge>, StoreError> {
        let query = "SELECT d.prerequisite_id AS id, d.`on` AS on_end, j.name, j.state FROM duly_dependency d \
                     LEFT JOIN duly_job j ON j.id = d.prerequisite_id WHERE d.job_id = ? ORDER BY d.prerequisite_id";
        self.rows(&Sql::new(query).bind(id))
    }

    /// What waits or waited for job `id`.
    pub fn dependents(&mut self, id: i64) -> Result<Vec<Edge>, StoreError> {
        let query = "SELECT d.job_id AS id, d.`on` AS on_end, j.name, j.state FROM duly_dependency d \
                     LEFT JOIN duly_job j ON j.id = d.job_id WHERE d.prerequisite_id = ? ORDER BY d.job_id";
        self.rows(&Sql::new(query).bind(id))
    }

    /// The children of root job `id`.
    pub fn children(&mut self, id: i64) -> Result<Vec<i64>, StoreError> {
        let query = Sql::new("SELECT id FROM duly_job WHERE root_id = ? ORDER BY id").bind(id);
        Ok(self.rows::<Id>(&query)?.into_iter().map(|row| row.id).collect())
    }

    /// The latest job of each of `names` that has started at all.
    pub fn latest_of<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Job>, StoreError> {
        // Of a name with hundreds of thousands of jobs that wait, the one that ran last is not looked for behind all of them.
        let query = format!(
            "SELECT {} FROM duly_job WHERE id = (SELECT MAX(id) FROM (SELECT id, started_at FROM duly_job WHERE name = ? \
             ORDER BY id DESC LIMIT {LATEST}) AS latest WHERE started_at IS NOT NULL)",
            self.columns()
        );
        let mut latest = BTreeMap::new();
        for name in names {
            if let Some(job) = self.rows::<Job>(&Sql::new(query.clone()).bind(name))?.pop() {
                latest.insert(name.to_owned(), job);
            }
        }
        Ok(latest)
    }
}
