//! Pages of jobs for the web page: from a key on, through an index, however many jobs there are.
//!
//! The order of a page is that of the index that serves it: by id, by name and id, or by the state and the time that
//! counts in it. A page goes on behind the key of the last job of the one before, so that rows that arrive meanwhile
//! move nothing. What no index serves (a text, a queue, an age) is looked for in a window of [`WINDOW`] jobs at a time;
//! where it ends, the page says so and the search can go on from there.

use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::query::{Job, OutputRow};
use super::sql::{Sql, StoredTime, Value};
use crate::job::State;

/// Jobs looked through at most for what no index serves.
const WINDOW: usize = 10_000;

/// Jobs counted at most in each state.
pub const COUNTED: i64 = 1000;

/// Jobs of a queue counted at most.
pub const QUEUED: i64 = 10_000;

/// How much waits in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLoad {
    /// Its name.
    pub queue: String,
    /// Jobs that could start, up to [`QUEUED`].
    pub pending: i64,
    /// Jobs that start later, up to [`QUEUED`].
    pub delayed: i64,
    /// Since when the first of them could start.
    pub oldest_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct LoadRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    oldest_at: Option<DateTime<Utc>>,
}

/// Which jobs, from where on.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// In this state.
    pub state: Option<State>,
    /// In this queue.
    pub queue: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// With this in its name, parameters, target or reason.
    pub text: Option<String>,
    /// Put in at most so long ago.
    pub within: Option<Duration>,
    /// Those that come after this place.
    pub after: Option<Place>,
    /// Jobs at most.
    pub limit: usize,
}

/// A place in the order of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The time that counts, where the order is by time.
    pub at: Option<DateTime<Utc>>,
    /// The job.
    pub id: i64,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Place>,
    /// Whether the search stopped before it had found a page full.
    pub is_cut: bool,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A stretch of an index: a condition that it serves, and its values.
type Leg = (String, Vec<Value>);

/// The order of a page, by the index that serves it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Id,
    Name,
    /// By this column, of jobs in one state.
    Time(State, &'static str),
}

impl Order {
    fn of(query: &JobQuery) -> Self {
        match query.state {
            // One name's jobs mostly succeed: its own index finds those sooner.
            Some(State::Success) | None if query.name.is_some() => Self::Name,
            None => Self::Id,
            Some(state) if state.is_ended() => Self::Time(state, "finished_at"),
            Some(state) => Self::Time(state, "run_at"),
        }
    }

    fn sql(self) -> String {
        match self {
            Self::Id | Self::Name => "id DESC".to_owned(),
            // Not what is read under the same name, which no index orders.
            Self::Time(_, column) => format!("duly_job.{column} DESC, id DESC"),
        }
    }

    /// The time that counts, as SQL.
    fn time(self) -> &'static str {
        match self {
            Self::Id | Self::Name => "NULL",
            Self::Time(_, column) => column,
        }
    }

    fn place_of(self, job: &Job) -> Place {
        let at = match self {
            Self::Id | Self::Name => None,
            Self::Time(_, "finished_at") => job.finished_at,
            Self::Time(..) => job.run_at,
        };
        Place { at, id: job.id }
    }

    /// The stretches of its index behind a place, in their order.
    fn legs(self, query: &JobQuery) -> Vec<Leg> {
        let id = query.after.map_or(i64::MAX, |place| place.id);
        match (self, query.after) {
            (Self::Id, _) => vec![("id < ?".to_owned(), vec![id.into()])],
            (Self::Name, _) => {
                let name = query.name.as_ref();
                vec![("name = ? AND id < ?".to_owned(), vec![name.cloned().into(), id.into()])]
            }
            (Self::Time(state, _), None) => vec![(format!("state = '{state}'"), vec![])],
            (Self::Time(state, column), Some(Place { at: Some(at), id })) => vec![
                (format!("state = '{state}' AND {column} = ? AND id < ?"), vec![at.into(), id.into()]),
                (format!("state = '{state}' AND {column} < ?"), vec![at.into()]),
                (format!("state = '{state}' AND {column} IS NULL"), vec![]),
            ],
            (Self::Time(state, column), Some(Place { at: None, id })) => {
                vec![(format!("state = '{state}' AND {column} IS NULL AND id < ?"), vec![id.into()])]
            }
        }
    }
}

impl Store {
    /// A page of jobs. Locks nothing.
    pub fn page(&mut self, query: &JobQuery) -> Result<JobPage, StoreError> {
        let order = Order::of(query);
        let rest = self.rest(query, order);
        let mut jobs: Vec<Job> = Vec::new();
        for leg in order.legs(query) {
            let wanted = query.limit + 1 - jobs.len();
            let (found, end) = self.leg(&leg, order, rest.as_ref(), wanted)?;
            jobs.extend(found);
            if jobs.len() > query.limit {
                jobs.truncate(query.limit);
                let next = jobs.last().map(|job| order.place_of(job));
                return Ok(JobPage { jobs, next, is_cut: false });
            }
            if end.is_some() {
                return Ok(JobPage { jobs, next: end, is_cut: true });
            }
        }
        Ok(JobPage { jobs, next: None, is_cut: false })
    }

    /// What no index serves, as a condition on rows; `None` where there is nothing of the kind.
    fn rest(&self, query: &JobQuery, order: Order) -> Option<Leg> {
        let (mut conditions, mut values): (Vec<String>, Vec<Value>) = (Vec::new(), Vec::new());
        if let (Some(state), Order::Id | Order::Name) = (query.state, order) {
            conditions.push(format!("state = '{state}'"));
        }
        if let (Some(name), Order::Id | Order::Time(..)) = (&query.name, order) {
            conditions.push("name = ?".to_owned());
            values.push(name.into());
        }
        if let Some(queue) = &query.queue {
            conditions.push("queue = ?".to_owned());
            values.push(queue.into());
        }
        if let Some(within) = query.within {
            conditions.push(format!("created_at >= {}", self.now_plus()));
            values.push((-micros(within)).into());
        }
        if let Some(text) = &query.text {
            let escaped = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
            let columns =
                ["name", "params", "target_id", "reason"].map(|column| format!("{column} LIKE ? ESCAPE '!'"));
            conditions.push(format!("({})", columns.join(" OR ")));
            values.extend(std::iter::repeat_n(Value::from(format!("%{escaped}%")), 4));
        }
        (!conditions.is_empty()).then(|| (conditions.join(" AND "), values))
    }

    /// At most `wanted` jobs of one stretch; and where the window ended, if it did before they were found.
    fn leg(
        &mut self,
        (condition, values): &Leg,
        order: Order,
        rest: Option<&Leg>,
        wanted: usize,
    ) -> Result<(Vec<Job>, Option<Place>), StoreError> {
        let (columns, by) = (self.columns(), order.sql());
        let Some((filter, filter_values)) = rest else {
            let query =
                format!("SELECT {columns} FROM duly_job WHERE {condition} ORDER BY {by} LIMIT {wanted}");
            return Ok((self.rows(&Sql::new(query).bind_all(values.iter().cloned()))?, None));
        };
        let query = format!(
            "SELECT {columns} FROM duly_job JOIN \
             (SELECT id AS window_id FROM duly_job WHERE {condition} ORDER BY {by} LIMIT {WINDOW}) w \
             ON id = window_id WHERE {filter} ORDER BY {by} LIMIT {wanted}"
        );
        let sql = Sql::once(query).bind_all(values.iter().cloned()).bind_all(filter_values.iter().cloned());
        let jobs: Vec<Job> = self.rows(&sql)?;
        if jobs.len() == wanted {
            return Ok((jobs, None));
        }
        let last = format!(
            "SELECT id, {} AS at FROM duly_job WHERE {condition} ORDER BY {by} LIMIT 1 OFFSET {}",
            order.time(),
            WINDOW - 1
        );
        let end: Vec<PlaceRow> = self.rows(&Sql::new(last).bind_all(values.iter().cloned()))?;
        Ok((jobs, end.first().map(|row| Place { at: row.at, id: row.id })))
    }

    /// How many jobs are in each state, up to [`COUNTED`]; of those that have ended, within the last day.
    pub fn state_counts(&mut self) -> Result<Vec<(State, i64)>, StoreError> {
        let day = -micros(Duration::from_secs(86_400));
        let since = format!("AND finished_at >= {}", self.now_plus());
        let parts = State::ALL.map(|state| {
            let since = if state.is_ended() { since.as_str() } else { "" };
            format!(
                "SELECT '{state}' AS state, COUNT(*) AS number FROM \
                 (SELECT 1 AS one FROM duly_job WHERE state = '{state}' {since} LIMIT {COUNTED}) c_{state}"
            )
        });
        let sql = Sql::new(parts.join(" UNION ALL ")).bind_all([day; State::ENDED.len()]);
        let rows: Vec<CountRow> = self.rows(&sql)?;
        Ok(rows.into_iter().filter_map(|row| Some((row.state.parse().ok()?, row.number))).collect())
    }

    /// The first `limit` children of a root, those that have not ended before the others, with what is to be known of each.
    pub fn children_of(&mut self, root: i64, limit: usize) -> Result<Vec<Job>, StoreError> {
        let query = format!(
            "SELECT {} FROM duly_job WHERE root_id = ? ORDER BY state, id LIMIT {limit}",
            self.columns()
        );
        self.rows(&Sql::new(query).bind(root))
    }

    /// How much waits in each of these queues. Reads the entries of the claim's index, of each queue so many at most.
    pub fn queue_loads(&mut self, queues: &[String]) -> Result<Vec<QueueLoad>, StoreError> {
        let of = |state: &str| {
            format!(
                "SELECT COUNT(*) AS number, MIN(run_at) AS oldest_at FROM \
                 (SELECT run_at FROM duly_job WHERE state = '{state}' AND queue = ? LIMIT {QUEUED}) q"
            )
        };
        let mut loads = Vec::with_capacity(queues.len());
        for queue in queues {
            let pending = self.rows::<LoadRow>(&Sql::new(of("pending")).bind(queue))?.pop();
            let delayed = self.rows::<LoadRow>(&Sql::new(of("delayed")).bind(queue))?.pop();
            loads.push(QueueLoad {
                queue: queue.clone(),
                pending: pending.as_ref().map_or(0, |row| row.number),
                delayed: delayed.map_or(0, |row| row.number),
                oldest_at: pending.and_then(|row| row.oldest_at),
            });
        }
        Ok(loads)
    }

    /// How many children of a root are in each state.
    pub fn child_counts(&mut self, root: i64) -> Result<Vec<(State, i64)>, StoreError> {
        let query = "SELECT CONCAT(state, '') AS state, COUNT(*) AS number FROM duly_job WHERE root_id = ? GROUP BY state";
        let query =
            if self.is_server() { query.to_owned() } else { query.replace("CONCAT(state, '')", "state") };
        let rows: Vec<CountRow> = self.rows(&Sql::new(query).bind(root))?;
        Ok(rows.into_iter().filter_map(|row| Some((row.state.parse().ok()?, row.number))).collect())
    }

    /// The latest jobs of a name that have ended, newest first. Served by the index on the name.
    pub fn strip_of(&mut self, name: &str, limit: usize) -> Result<Vec<Job>, StoreError> {
        let query =
            format!("SELECT {} FROM duly_job WHERE name = ? ORDER BY id DESC LIMIT {limit}", self.columns());
        self.rows(&Sql::new(query).bind(name))
    }

    /// The end of what an attempt of job `id` printed, the latest one that printed anything if none is named: at most
    /// `tail` characters, and how many bytes are missing in all.
    pub fn output_tail(
        &mut self,
        id: i64,
        fence: Option<i64>,
        tail: usize,
    ) -> Result<Option<OutputRow>, StoreError> {
        let (part, bytes) = if self.is_server() {
            (
                format!("RIGHT(body, {tail})"),
                ["LENGTH(body)".to_owned(), format!("LENGTH(RIGHT(body, {tail}))")],
            )
        } else {
            let bytes = |what: &str| format!("LENGTH(CAST({what} AS BLOB))");
            (format!("SUBSTR(body, -{tail})"), [bytes("body"), bytes(&format!("SUBSTR(body, -{tail})"))])
        };
        let which = if fence.is_some() { " AND fence = ?" } else { "" };
        let query = format!(
            "SELECT fence, {part} AS body, truncated + {} - {} AS truncated \
             FROM duly_output WHERE job_id = ?{which} ORDER BY fence DESC LIMIT 1",
            bytes[0], bytes[1]
        );
        Ok(self.rows::<OutputRow>(&Sql::new(query).bind(id).bind_all(fence))?.pop())
    }

    /// What runs now, longest first, at most `limit`.
    pub fn running(&mut self, limit: usize) -> Result<Vec<Job>, StoreError> {
        let query = format!(
            "SELECT {} FROM duly_job WHERE state = 'running' ORDER BY run_at, id LIMIT {limit}",
            self.columns()
        );
        self.rows(&Sql::new(query))
    }

    /// Ends each further statement of this session that takes longer; where the server can do that.
    pub fn limit_statements(&mut self, most: Duration) -> Result<(), StoreError> {
        if !self.is_server() {
            return Ok(());
        }
        let (millis, seconds) = (most.as_millis(), most.as_secs().max(1));
        let set =
            format!("SET /*!80000 max_execution_time = {millis} */ /*M! max_statement_time = {seconds} */");
        self.execute(&Sql::once(set)).map(drop)
    }
}
