//! The list of jobs: filtered, newest first, in pages that an index serves.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::query::Job;
use super::sql::{Id, Sql, Value};
use crate::job::State;

/// By how much the times of jobs may be out of the order of their ids: a transaction that was open for long, a clock set back.
const SLACK: Duration = Duration::from_secs(3600);

/// Of a queue, so many of the newest jobs of all are looked at before its own are gathered.
const NEWEST: i64 = 20_000;

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
    /// Only what comes after this job in the list, for going on where a page ended.
    pub after: Option<ListPlace>,
    /// At most so many.
    pub limit: u32,
}

/// Where a job stands in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListPlace {
    /// Its id.
    pub id: i64,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it may start.
    pub run_at: Option<DateTime<Utc>>,
}

impl From<&Job> for ListPlace {
    fn from(job: &Job) -> Self {
        Self { id: job.id, finished_at: job.finished_at, run_at: job.run_at }
    }
}

impl ListPlace {
    fn at(&self, column: &str) -> Option<DateTime<Utc>> {
        if column == "finished_at" { self.finished_at } else { self.run_at }
    }
}

impl ListFilter {
    fn is_of_queue_alone(&self) -> bool {
        self.queue.is_some() && self.state.is_none() && self.name.is_none() && self.since.is_none()
    }

    /// The time by which the list is ordered, for which there is an index; `None`: by when jobs were put in.
    fn by_time(&self) -> Option<&'static str> {
        match self.state {
            _ if self.name.is_some() => None,
            Some(state) if state.is_ended() => Some("finished_at"),
            // In these states, and others than `new`, every job has one.
            Some(State::Waiting | State::Delayed | State::Pending) => Some("run_at"),
            _ => None,
        }
    }
}

impl Store {
    /// The latest jobs, newest first. If one state is asked for and no name: ended ones by when they ended, those that wait by
    /// when they may start.
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
        if filter.is_of_queue_alone() {
            return self.list_of_queue(filter);
        }
        let by_time = filter.by_time();
        if let Some(since) = filter.since {
            conditions.push(format!("created_at >= {}", self.now_plus()));
            values.push((-micros(since)).into());
            if by_time == Some("finished_at") {
                conditions.push(format!("finished_at >= {}", self.now_plus()));
                values.push((-micros(since)).into());
            } else {
                conditions.push("id >= ?".to_owned());
                values.push(self.first_since(since)?.into());
            }
        }
        if let Some(place) = filter.after {
            match by_time.and_then(|column| Some((column, place.at(column)?))) {
                // The first half is what the index serves.
                Some((column, at)) => {
                    conditions.push(format!("{column} <= ? AND ({column} < ? OR id < ?)"));
                    values.extend([at.into(), at.into(), place.id.into()]);
                }
                None => {
                    conditions.push("id < ?".to_owned());
                    values.push(place.id.into());
                }
            }
        }
        let wanted =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        // Not what is read under the same name, which no index orders.
        let order = by_time.map_or("id DESC".to_owned(), |column| format!("duly_job.{column} DESC, id DESC"));
        let columns = self.columns();
        let query =
            format!("SELECT {columns} FROM duly_job {wanted} ORDER BY {order} LIMIT {}", filter.limit);
        self.rows(&Sql::once(query).bind_all(values))
    }

    /// The latest jobs of a queue. No index has them in the order of their ids: if it is a busy one they are among the newest of all,
    /// else its index entries are gathered, without their rows.
    fn list_of_queue(&mut self, filter: &ListFilter) -> Result<Vec<Job>, StoreError> {
        let below = filter.after.map_or(i64::MAX, |place| place.id);
        let columns = self.columns();
        let newest = format!(
            "SELECT {columns} FROM duly_job WHERE queue = ? AND id < ? \
             AND id > COALESCE((SELECT MAX(n.id) FROM duly_job n WHERE n.id < ?), 0) - {NEWEST} \
             ORDER BY id DESC LIMIT {}",
            filter.limit
        );
        let sql = Sql::once(newest).bind(filter.queue.as_deref()).bind(below).bind(below);
        let rows: Vec<Job> = self.rows(&sql)?;
        if rows.len() as u64 == u64::from(filter.limit) {
            return Ok(rows);
        }
        let states = State::ALL.map(|state| format!("'{state}'")).join(", ");
        let by_queue = if self.is_server() { " FORCE INDEX (duly_job_claim)" } else { "" };
        let all = format!(
            "SELECT {columns} FROM duly_job WHERE id IN (SELECT id FROM (SELECT id FROM duly_job{by_queue} \
             WHERE state IN ({states}) AND queue = ? AND id + 0 < ? ORDER BY id + 0 DESC LIMIT {}) AS latest) ORDER BY id DESC",
            filter.limit
        );
        self.rows(&Sql::once(all).bind(filter.queue.as_deref()).bind(below))
    }

    /// An id below which no job was put in so long ago or less: ids grow with time, but for what lies within [`SLACK`]. No index
    /// has the time of putting in.
    fn first_since(&mut self, since: Duration) -> Result<i64, StoreError> {
        let ends = "SELECT COALESCE(MIN(id), 0) AS id FROM duly_job UNION ALL SELECT COALESCE(MAX(id), 0) FROM duly_job";
        let ends: Vec<Id> = self.rows(&Sql::new(ends))?;
        let [first, last] = ends.as_slice() else { return Ok(0) };
        let (mut from, mut to) = (first.id, last.id + 1);
        let query = format!(
            "SELECT CASE WHEN created_at < {} THEN 1 ELSE 0 END AS id FROM duly_job WHERE id >= ? ORDER BY duly_job.id LIMIT 1",
            self.now_plus()
        );
        let long_ago = -micros(since.saturating_add(SLACK));
        while from < to {
            let middle = from + (to - from) / 2;
            let rows: Vec<Id> = self.rows(&Sql::new(query.clone()).bind(long_ago).bind(middle))?;
            if rows.first().is_some_and(|row| row.id == 1) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        Ok(from)
    }
}
