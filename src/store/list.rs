//! The list of jobs: filtered, newest first, in pages that an index serves.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::query::Job;
use super::sql::{Sql, Value};
use crate::job::State;

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
        if let Some(since) = filter.since {
            conditions.push(format!("created_at >= {}", self.now_plus()));
            values.push((-micros(since)).into());
        }
        let by_time = filter.by_time();
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
}
