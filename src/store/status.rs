//! How the whole stands: depths of queues, failures, what is overdue. Locks nothing, and touches no job that ended longer
//! ago than is asked for: with millions of them it is as quick as with none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{OPEN, Sql, StoredState, StoredTime, marks_or_empty};
use crate::job::health::{Depth, Expired, Failing, Stuck};
use crate::job::{SILENT, State};

/// Jobs looked at for the names that nobody starts.
const SAMPLE: u32 = 500;

/// Of a name, how many of its latest jobs are looked at for one that has ended.
const LATEST: u32 = 1000;

#[derive(QueryableByName)]
struct DepthRow {
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Text, deserialize_as = StoredState)]
    state: State,
    #[diesel(sql_type = BigInt)]
    jobs: i64,
    #[diesel(sql_type = BigInt)]
    first_id: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    oldest_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct FailingRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    failed: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    last_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct StuckRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = BigInt)]
    jobs: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    since_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    first_id: i64,
}

#[derive(QueryableByName)]
struct ExpiredRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    lease_until: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text, deserialize_as = StoredState)]
    state: State,
}

#[derive(QueryableByName)]
struct When {
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    created_at: Option<DateTime<Utc>>,
}

impl Store {
    /// How many jobs have not ended, by queue and state, and since when the oldest of them could be started. Reads the index
    /// entries of these jobs and no rows.
    pub fn depths(&mut self) -> Result<Vec<Depth>, StoreError> {
        let query = format!(
            "SELECT queue, state, COUNT(*) AS jobs, MIN(id) AS first_id, MIN(run_at) AS oldest_at FROM duly_job \
             WHERE state IN {OPEN} GROUP BY state, queue"
        );
        let rows: Vec<DepthRow> = self.rows(&Sql::new(query))?;
        let mut depths = Vec::with_capacity(rows.len());
        for row in rows {
            let mut oldest = row.oldest_at;
            if row.state == State::New {
                let created = Sql::new("SELECT created_at FROM duly_job WHERE id = ?").bind(row.first_id);
                oldest = self.rows::<When>(&created)?.pop().and_then(|row| row.created_at);
            }
            depths.push(Depth { queue: row.queue, state: row.state, jobs: count(row.jobs), oldest });
        }
        Ok(depths)
    }

    /// The names of which jobs failed or were given up within `age`, those with most of them first, 50 at most; and how the
    /// latest job of each that has ended did.
    pub fn failing(&mut self, age: Duration) -> Result<Vec<Failing>, StoreError> {
        let mut by_name: BTreeMap<String, Failing> = BTreeMap::new();
        for state in [State::Failed, State::Stale] {
            let query = format!(
                "SELECT name, COUNT(*) AS failed, MAX(finished_at) AS last_at FROM duly_job \
                 WHERE state = '{state}' AND finished_at >= {} GROUP BY name ORDER BY 2 DESC LIMIT 50",
                self.now_plus()
            );
            for row in self.rows::<FailingRow>(&Sql::new(query).bind(-micros(age)))? {
                let entry = by_name.entry(row.name.clone()).or_insert_with(|| Failing {
                    name: row.name.clone(),
                    failed: 0,
                    stale: 0,
                    last_at: None,
                    latest: None,
                });
                if state == State::Stale {
                    entry.stale = count(row.failed);
                } else {
                    entry.failed = count(row.failed);
                }
                entry.last_at = entry.last_at.max(row.last_at);
            }
        }
        let mut failing: Vec<Failing> = by_name.into_values().collect();
        failing.sort_by_key(|entry| std::cmp::Reverse(entry.failed + entry.stale));
        failing.truncate(50);
        for entry in &mut failing {
            entry.latest = self.latest_end(&entry.name)?;
        }
        Ok(failing)
    }

    /// How the latest job of `name` that has ended did, where it is among its latest thousand. One that was cancelled or
    /// skipped says nothing.
    fn latest_end(&mut self, name: &str) -> Result<Option<State>, StoreError> {
        let query = format!(
            "SELECT state FROM (SELECT id, state FROM duly_job WHERE name = ? ORDER BY id DESC LIMIT {LATEST}) AS latest \
             WHERE state IN ('success', 'failed', 'stale') ORDER BY id DESC LIMIT 1"
        );
        Ok(self.rows::<Word>(&Sql::new(query).bind(name))?.pop().map(|row| row.state))
    }

    /// The names, with their queues, of the jobs that could have been started or taken in for the longest and were not, for
    /// longer than a host may be silent. Looks at the oldest few hundred; where a pause holds some of them, also at the
    /// others among the oldest thousands, so that these are not hidden.
    pub fn stuck(&mut self) -> Result<Vec<Stuck>, StoreError> {
        let scopes: Vec<String> = self.pauses()?.into_iter().map(|pause| pause.scope).collect();
        let mut stuck: Vec<Stuck> = Vec::new();
        for state in [State::Pending, State::New, State::Delayed] {
            let found = self.stuck_in(state, SAMPLE, &[])?;
            let seen = found.iter().map(|stuck| stuck.jobs).sum::<u64>();
            let mut all = found;
            if !scopes.is_empty() && seen >= u64::from(SAMPLE) {
                let others = self.stuck_in(state, SAMPLE * 40, &scopes)?;
                all.retain(|known| !others.iter().any(|o| o.name == known.name && o.queue == known.queue));
                all.extend(others);
            }
            stuck.extend(all);
        }
        Ok(stuck)
    }

    /// Of the first `sample` jobs, without those that the pauses of `scopes` hold.
    fn stuck_in(&mut self, state: State, sample: u32, scopes: &[String]) -> Result<Vec<Stuck>, StoreError> {
        // New jobs mostly have no run_at, and are looked at in the order in which they are taken in.
        let since = if state == State::New { "created_at" } else { "run_at" };
        let late = format!(" AND run_at < {}", self.now_plus());
        let late = if state == State::New { "" } else { &late };
        let scoped = |kind: &str| -> Vec<&str> {
            scopes.iter().filter_map(|scope| scope.strip_prefix(kind)).collect()
        };
        let (names, queues) = (scoped("job:"), scoped("queue:"));
        let but = format!(
            "name NOT IN ({}) AND (queue IS NULL OR queue NOT IN ({}))",
            marks_or_empty(names.len()),
            marks_or_empty(queues.len())
        );
        let query = format!(
            "SELECT name, queue, COUNT(*) AS jobs, MIN(since_at) AS since_at, MIN(id) AS first_id FROM \
             (SELECT id, name, queue, {since} AS since_at FROM duly_job WHERE state = '{state}'{late} \
             ORDER BY run_at, id LIMIT {sample}) AS oldest WHERE {but} GROUP BY name, queue ORDER BY 5"
        );
        let mut sql = Sql::once(query);
        if state != State::New {
            sql = sql.bind(-micros(SILENT.to_std().unwrap_or_default()));
        }
        let rows: Vec<StuckRow> = self.rows(&sql.bind_all(names).bind_all(queues))?;
        let stuck = |row: StuckRow| Stuck {
            name: row.name,
            queue: row.queue,
            state,
            jobs: count(row.jobs),
            since: row.since_at,
            id: row.first_id,
        };
        Ok(rows.into_iter().map(stuck).collect())
    }

    /// Names whose jobs wait for another attempt, with the number of such jobs and when the first of them is due; of the 500
    /// that are due first.
    pub fn backing_off(&mut self) -> Result<Vec<Stuck>, StoreError> {
        let query = format!(
            "SELECT name, NULL AS queue, COUNT(*) AS jobs, MIN(run_at) AS since_at, MIN(id) AS first_id FROM \
             (SELECT id, name, attempts, run_at FROM duly_job WHERE state = 'delayed' ORDER BY run_at, id LIMIT {SAMPLE}) \
             AS first WHERE attempts > 0 GROUP BY name ORDER BY 3 DESC"
        );
        let rows: Vec<StuckRow> = self.rows(&Sql::new(query))?;
        Ok(rows
            .into_iter()
            .map(|row| Stuck {
                name: row.name,
                queue: row.queue,
                state: State::Delayed,
                jobs: count(row.jobs),
                since: row.since_at,
                id: row.first_id,
            })
            .collect())
    }

    /// Running jobs whose lease has ended, and with that their runner's claim; 20 at most.
    pub fn expired_leases(&mut self) -> Result<Vec<Expired>, StoreError> {
        let query = format!(
            "SELECT id, name, host, lease_until FROM duly_job WHERE state = 'running' AND lease_until < {} \
             AND owner IS NOT NULL ORDER BY lease_until, id LIMIT 20",
            self.now()
        );
        let rows: Vec<ExpiredRow> = self.rows(&Sql::new(query))?;
        Ok(rows
            .into_iter()
            .map(|row| Expired { id: row.id, name: row.name, host: row.host, lease_until: row.lease_until })
            .collect())
    }

    /// How long the database takes to answer, by this host's monotonic clock; and its time.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn answer_time(&mut self) -> Result<(Duration, DateTime<Utc>), StoreError> {
        // The first statement sets the session up, and prepares.
        self.time()?;
        let asked = Instant::now();
        let now = self.time()?;
        Ok((asked.elapsed(), now))
    }

    /// How long it took until this connection could have written, where a database has one writer at a time; at once where
    /// it has many.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when somebody else kept it from that all the time.
    pub fn wait_for_turn(&mut self) -> Result<Duration, StoreError> {
        let asked = Instant::now();
        if !self.is_server() {
            self.once(|_| Ok(()))?;
        }
        Ok(asked.elapsed())
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
