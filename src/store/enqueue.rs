//! Putting jobs in: with their defaults, their dependents and their prerequisites, all or nothing.

use std::collections::HashMap;
use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::certain::Inserted;
use super::error::StoreError;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Sql, Value, marks};
use crate::job::{Action, Definition, Hooks, MaybeTarget, On, State, Unique, family};

/// Jobs per `INSERT`.
const BATCH: usize = 500;

/// Looks a definition up by its name.
pub type Declared<'a> = &'a dyn Fn(&str) -> Option<&'a Definition>;

/// When a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// So much later, by the database's clock.
    In(Duration),
    /// Not before.
    At(DateTime<Utc>),
}

/// A job to put in.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// The name of its definition.
    pub name: String,
    /// Its parameters.
    pub params: Vec<String>,
    /// Its queue.
    pub queue: String,
    /// −100 to 100, higher first.
    pub priority: i32,
    /// Attempts at most.
    pub max_attempts: u32,
    /// When it may start.
    pub start: Start,
    /// What it is about, for commands that take `{target_type}` and `{target_id}`.
    pub target: MaybeTarget,
    /// The instant of its schedule that it is for.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// What makes the job of an occurrence one job.
    pub occurrence_key: Option<String>,
    /// The ended job that this one repeats.
    pub retry_of: Option<i64>,
    /// The job that it is a child of.
    pub root_id: Option<i64>,
    /// How long it may show no sign of life while it waits for children.
    pub time_before_stale: Option<Duration>,
    /// Which of its ends are told to a command.
    pub hooks: Hooks,
    /// How many not-ended jobs like this there may be.
    pub unique: Unique,
    /// A key of its own that only one not-ended job can have.
    pub unique_key: Option<String>,
    /// The jobs that must have ended first, and how.
    pub after: Vec<(i64, On)>,
}

impl NewJob {
    /// A job of `definition`, as configured, startable at once.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        Self {
            name: definition.name.clone(),
            params: definition.params.clone(),
            queue: definition.queue.clone(),
            priority: definition.priority,
            max_attempts: definition.max_attempts,
            start: Start::Now,
            target: (None, None),
            scheduled_for: None,
            occurrence_key: None,
            retry_of: None,
            root_id: None,
            time_before_stale: definition.time_before_stale,
            hooks: definition.hooks,
            unique: definition.unique,
            unique_key: None,
            after: Vec::new(),
        }
    }

    /// The same job about `target`, unless it is about something already, or does what is about nothing else.
    #[must_use]
    pub(super) fn about(mut self, target: &MaybeTarget, definition: &Definition) -> Self {
        let is_builtin = matches!(definition.action, Action::Builtin(_));
        if self.target == (None, None) && !is_builtin {
            self.target.clone_from(target);
        }
        self
    }

    /// Says of a job that a person asks for whether it can never be stored or run, in words rather than the database's own.
    ///
    /// # Errors
    ///
    /// What is wrong, and what is expected.
    pub fn check(&self, definition: &Definition) -> Result<(), String> {
        if matches!(definition.action, Action::Builtin(_)) && !self.params.is_empty() {
            return Err(format!("`{}` is a builtin and takes no params", self.name));
        }
        definition.require_target(&self.target)?;
        let too_long =
            |text: &Option<String>, most: usize| text.as_ref().is_some_and(|t| t.chars().count() > most);
        if too_long(&self.target.0, 100) || too_long(&self.target.1, 190) {
            return Err("a target's type has at most 100 characters, its id at most 190".to_owned());
        }
        if too_long(&self.unique_key, 190) {
            return Err("a unique key has at most 190 characters".to_owned());
        }
        if self.params.iter().any(|param| param.contains('\0')) {
            return Err("params have a NUL byte, which no command line can hold".to_owned());
        }
        if self.params.iter().map(String::len).sum::<usize>() > 1 << 20 {
            return Err("params are longer than 1 MiB, more than a command line can hold".to_owned());
        }
        Ok(())
    }

    fn unique_key(&self) -> Option<String> {
        self.unique_key.clone().or_else(|| self.unique.key(&self.name, &self.params, &self.target))
    }

    fn state(&self) -> State {
        match self.start {
            _ if !self.after.is_empty() => State::Waiting,
            Start::Now => State::Pending,
            Start::In(wait) if wait.is_zero() => State::Pending,
            Start::In(_) | Start::At(_) => State::Delayed,
        }
    }
}

#[derive(QueryableByName)]
struct FirstId {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    step: i64,
    #[diesel(sql_type = Nullable<Timestamp>)]
    created_at: Option<NaiveDateTime>,
}

#[derive(QueryableByName)]
pub(super) struct IdAndState {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = Text)]
    pub(super) state: String,
}

impl Store {
    /// Puts `jobs` in, each with the dependents of its definition, in one transaction; returns their ids in order.
    ///
    /// Locks the prerequisites that they name, so that none of them ends unseen.
    ///
    /// # Errors
    ///
    /// [`StoreError::Taken`] for a unique key, [`StoreError::Unknown`] when a prerequisite or a target that a command needs does not exist, [`StoreError::Duplicate`] for a taken key.
    pub fn enqueue(&mut self, jobs: &[NewJob], declared: Declared<'_>) -> Result<Vec<i64>, StoreError> {
        let ids = self.insert_once(|tx| {
            let mut ids = Vec::with_capacity(jobs.len());
            let is_plain = |job: &NewJob| {
                job.after.is_empty() && declared(&job.name).is_none_or(|d| d.dependents.is_empty())
            };
            for run in jobs.chunk_by(|a, b| is_plain(a) && is_plain(b)) {
                if run.len() == 1 {
                    ids.push(tx.insert_with_dependents(&run[0], declared)?);
                } else {
                    run.iter().try_for_each(|job| require_targets(job, declared))?;
                    ids.extend(tx.insert(run)?);
                }
            }
            Ok(ids)
        })?;
        if jobs.iter().any(|job| !job.after.is_empty()) {
            self.settle_soon();
        }
        Ok(ids)
    }

    /// Inserts one job, its edges, and the whole tree of dependents of its definition. Part of a unit.
    pub(super) fn insert_with_dependents(
        &mut self,
        job: &NewJob,
        declared: Declared<'_>,
    ) -> Result<i64, StoreError> {
        self.insert_family(job, declared).map(|(id, _)| id)
    }

    /// The same; also how many jobs that makes, refused ones left out.
    pub(super) fn insert_family(
        &mut self,
        job: &NewJob,
        declared: Declared<'_>,
    ) -> Result<(i64, usize), StoreError> {
        require_targets(job, declared)?;
        self.lock_prerequisites(&job.after)?;
        let id = self.insert(std::slice::from_ref(job))?[0];
        let mut edges: Vec<(i64, i64, On)> =
            job.after.iter().map(|(before, on)| (id, *before, *on)).collect();
        let dependents =
            self.insert_dependents(id, (&job.name, job.root_id), &job.target, declared, &mut edges)?;
        self.insert_edges(&edges)?;
        Ok((id, dependents + 1))
    }

    /// Inserts the jobs that depend on job `id` of definition `name`, each name once and about the same target, and collects
    /// the edges; those of a child are children of the same root.
    fn insert_dependents(
        &mut self,
        id: i64,
        (name, root_id): (&str, Option<i64>),
        target: &MaybeTarget,
        declared: Declared<'_>,
        edges: &mut Vec<(i64, i64, On)>,
    ) -> Result<usize, StoreError> {
        let mut made: HashMap<&str, i64> = HashMap::new();
        let mut open = vec![(id, declared(name))];
        while let Some((parent, definition)) = open.pop() {
            for dependent in definition.iter().flat_map(|d| &d.dependents) {
                let Some(definition) = declared(dependent) else { continue };
                let known = made.get(definition.name.as_str()).copied();
                let child = match known {
                    Some(child) => child,
                    None => {
                        let after = vec![(parent, On::Success)];
                        let job =
                            NewJob { after, root_id, ..NewJob::of(definition).about(target, definition) };
                        let child = match self.insert(std::slice::from_ref(&job)) {
                            Ok(ids) => ids[0],
                            // Its own dependents are not put in either.
                            Err(StoreError::Taken { id, .. }) => {
                                self.record_refused(&job, id)?;
                                continue;
                            }
                            Err(other) => return Err(other),
                        };
                        made.insert(&definition.name, child);
                        open.push((child, Some(definition)));
                        child
                    }
                };
                edges.push((child, parent, On::Success));
            }
        }
        Ok(made.len())
    }

    /// Records a dependent that was not put in because one like it has not ended. Part of a unit.
    fn record_refused(&mut self, job: &NewJob, taken_by: i64) -> Result<(), StoreError> {
        let free = NewJob { unique: Unique::No, root_id: None, after: Vec::new(), ..job.clone() };
        let id = self.insert(&[free])?[0];
        let update = format!(
            "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = ?, finished_at = {} WHERE id = ?",
            self.now()
        );
        let why = format!("refused: job {taken_by} of the same unique key had not ended");
        self.execute(&Sql::new(update).bind(why).bind(id)).map(drop)
    }

    /// Adds the dependents of a job that an application has inserted. Part of a unit.
    pub(super) fn add_dependents(
        &mut self,
        id: i64,
        name: &str,
        target: &MaybeTarget,
        declared: Declared<'_>,
    ) -> Result<(), StoreError> {
        let mut edges = Vec::new();
        self.insert_dependents(id, (name, None), target, declared, &mut edges)?;
        self.insert_edges(&edges)
    }

    fn lock_prerequisites(&mut self, after: &[(i64, On)]) -> Result<(), StoreError> {
        if after.is_empty() {
            return Ok(());
        }
        let query = format!(
            "SELECT id, state FROM duly_job WHERE id IN ({}) ORDER BY id{}",
            marks(after.len()),
            self.for_update()
        );
        let found: Vec<IdAndState> = self.rows(&Sql::new(query).bind_all(after.iter().map(|(id, _)| *id)))?;
        match after.iter().find(|(id, _)| !found.iter().any(|row| row.id == *id)) {
            Some((missing, _)) => Err(StoreError::Unknown(format!(
                "there is no job {missing} to wait for; `duly list` shows the last ones"
            ))),
            None => Ok(()),
        }
    }

    fn insert_edges(&mut self, edges: &[(i64, i64, On)]) -> Result<(), StoreError> {
        for chunk in edges.chunks(BATCH) {
            let rows = vec!["(?, ?, ?)"; chunk.len()].join(", ");
            let sql = Sql::new(format!(
                "INSERT INTO duly_dependency (job_id, prerequisite_id, `on`) VALUES {rows}"
            ));
            let values = chunk.iter().flat_map(|(job, before, on)| {
                [Value::from(*job), Value::from(*before), Value::from(on.as_str())]
            });
            self.execute(&sql.bind_all(values))?;
        }
        Ok(())
    }

    /// Inserts rows and returns their ids in order. Part of a unit.
    ///
    /// InnoDB gives one multi-row `INSERT` consecutive ids (spaced by `auto_increment_increment` on a cluster).
    pub(super) fn insert(&mut self, jobs: &[NewJob]) -> Result<Vec<i64>, StoreError> {
        let mut ids = Vec::with_capacity(jobs.len());
        for chunk in jobs.chunks(BATCH) {
            if let Err(err) = self.execute(&self.insert_statement(chunk)) {
                return Err(self.who_has_it(err, chunk)?);
            }
            let count = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
            let query = if self.is_server() {
                "SELECT id, CAST(@@auto_increment_increment AS SIGNED) AS step, created_at FROM duly_job \
                 WHERE id = LAST_INSERT_ID()"
                    .to_owned()
            } else {
                "SELECT last_insert_rowid() - ? + 1 AS id, 1 AS step, NULL AS created_at".to_owned()
            };
            let mut query = Sql::new(query);
            if !self.is_server() {
                query = query.bind(count);
            }
            let first = self.rows::<FirstId>(&query)?;
            let FirstId { id, step, created_at } = first.first().ok_or_else(no_answer)?;
            self.inserted = created_at.map(|created_at| Inserted { id: *id, created_at });
            ids.extend((0..count).map(|n| id + n * step));
        }
        Ok(ids)
    }

    /// For a unique key that is taken: by which job.
    fn who_has_it(&mut self, err: StoreError, jobs: &[NewJob]) -> Result<StoreError, StoreError> {
        let keys: Vec<String> = jobs.iter().filter_map(NewJob::unique_key).collect();
        if !err.is_taken_key("unique_key") || keys.is_empty() {
            return Ok(err);
        }
        let query = format!(
            "SELECT id, name AS state FROM duly_job WHERE unique_key IN ({}) LIMIT 1",
            marks(keys.len())
        );
        let rows: Vec<IdAndState> = self.rows(&Sql::once(query).bind_all(keys.iter()))?;
        Ok(match rows.into_iter().next() {
            Some(row) => StoreError::Taken { id: row.id, name: row.state },
            None if has_twice(&keys) => {
                StoreError::Other("two of these jobs have the same unique key".to_owned())
            }
            // It has ended since.
            None => StoreError::Conflict(err.to_string()),
        })
    }

    /// Columns that all of these jobs leave to the database are left out.
    fn insert_statement(&self, jobs: &[NewJob]) -> Sql {
        let rows: Vec<_> = jobs.iter().map(cells_of).collect();
        let columns: Vec<usize> =
            (0..rows[0].len()).filter(|column| rows.iter().any(|row| row[*column].1.is_some())).collect();
        let mark = |cell: &Option<Cell>| match cell {
            None => "NULL",
            Some(Cell::Value(_)) => "?",
            Some(Cell::Now) => self.now(),
            Some(Cell::NowPlus(_)) => self.now_plus(),
        };
        let mark_row = |row: &[(&str, Option<Cell>); COLUMNS]| {
            let marks: Vec<&str> = columns.iter().map(|column| mark(&row[*column].1)).collect();
            format!("({})", marks.join(", "))
        };
        let names: Vec<&str> = columns.iter().map(|column| rows[0][*column].0).collect();
        let marked: Vec<String> = rows.iter().map(mark_row).collect();
        let text = format!("INSERT INTO duly_job ({}) VALUES {}", names.join(", "), marked.join(", "));
        let is_common = jobs.len() == 1 || jobs.len() == BATCH;
        let sql = if is_common { Sql::new(text) } else { Sql::once(text) };
        sql.bind_all(rows.into_iter().flatten().filter_map(|(_, cell)| match cell? {
            Cell::Value(value) => Some(value),
            Cell::Now => None,
            Cell::NowPlus(wait) => Some(micros(wait).into()),
        }))
    }
}

/// What stands in a column of a new row.
enum Cell {
    Value(Value),
    Now,
    NowPlus(Duration),
}

/// Columns that a new job may have something in.
const COLUMNS: usize = 18;

/// What a new job has in each column; `None` where it has nothing.
fn cells_of(job: &NewJob) -> [(&'static str, Option<Cell>); COLUMNS] {
    fn value(value: impl Into<Value>) -> Option<Cell> {
        Some(Cell::Value(value.into()))
    }
    let text = |text: &Option<String>| text.as_deref().and_then(value);
    let id = |id: Option<i64>| id.and_then(value);
    let run_at = match job.start {
        Start::Now => Cell::Now,
        Start::In(wait) if wait.is_zero() => Cell::Now,
        Start::In(wait) => Cell::NowPlus(wait),
        Start::At(at) => Cell::Value(at.into()),
    };
    [
        ("name", value(&job.name)),
        ("params", value(params_json(&job.params))),
        ("state", value(job.state().as_str())),
        ("queue", value(&job.queue)),
        ("priority", value(job.priority)),
        ("priority_order", value(-job.priority)),
        ("run_at", Some(run_at)),
        ("target_type", text(&job.target.0)),
        ("target_id", text(&job.target.1)),
        ("occurrence_key", text(&job.occurrence_key)),
        ("scheduled_for", job.scheduled_for.and_then(value)),
        ("max_attempts", value(job.max_attempts)),
        ("retry_of", id(job.retry_of)),
        ("root_id", id(job.root_id)),
        ("time_before_stale_ms", id(job.time_before_stale.map(|length| micros(length) / 1000))),
        ("hooks", job.hooks.stored().and_then(value)),
        ("unique_key", job.unique_key().and_then(value)),
        // One with prerequisites is marked, so that the next look finds it whatever happened to them.
        ("lease_until", (!job.after.is_empty()).then_some(Cell::Now)),
    ]
}

/// Refuses a job whose command, or that of a dependent, has a place for a target that it lacks.
fn require_targets(job: &NewJob, declared: Declared<'_>) -> Result<(), StoreError> {
    let family = family(&job.name, declared);
    let refused = family.into_iter().find_map(|d| d.require_target(&job.target).err());
    refused.map_or(Ok(()), |why| Err(StoreError::Unknown(why)))
}

fn has_twice(keys: &[String]) -> bool {
    let distinct: std::collections::HashSet<&String> = keys.iter().collect();
    distinct.len() < keys.len()
}

/// Parameters as they are stored.
pub(super) fn params_json(params: &[String]) -> String {
    serde_json::Value::from(params).to_string()
}

/// A length in the unit of [`now_plus`](crate::db::Connection::now_plus).
pub(super) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn no_answer() -> StoreError {
    StoreError::Other("the database answered a query with no row where one was expected".to_owned())
}
