//! Taking in what applications have inserted, and moving on what has become startable.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::{Declared, micros, params_json};
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::query::LONGEST_PARAMS;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, id_marks, marks};
use crate::job::{Action, Definition, MaybeTarget, Unique, family, is_hook, parse_params};

/// Rows moved in one transaction.
pub(super) const BATCH: usize = 500;

/// Bytes of params in rows that one transaction adopts, unless it is one row. A group of MySQL's members refuses larger
/// transactions than 150 MB, and has each row in them twice.
const BATCH_BYTES: i64 = 16 << 20;

/// Bytes of params up to which they are read along with the others of a batch.
const READ_ALONG: i64 = 64 << 10;

/// Names or queues that are not declared, told of one tick.
const TOLD: usize = 5;

/// New rows read at one place where some are for others.
const WINDOW: usize = 2000;

/// What is not an application's to say, though it may be allowed to write it, as in SQLite, which knows no users.
const RESET: &str = "attempts = 0, fence = 0, owner = NULL, host = NULL, lease_until = NULL, slot_key = NULL, \
     name_slot_key = NULL, occurrence_key = NULL, scheduled_for = NULL, started_at = NULL, finished_at = NULL, \
     duration_ms = NULL, outcome = NULL, exit_code = NULL, signal_number = NULL, reason = NULL, \
     cancel_requested_at = NULL, root_id = NULL, retry_of = NULL, progress = NULL, progress_text = NULL, \
     own_end = NULL, children = 0, children_ended = 0, noted_at = NULL";

#[derive(QueryableByName)]
struct NewRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    params: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    priority: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    target_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_id: Option<String>,
    #[diesel(sql_type = BigInt)]
    has_bad_time: i64,
    /// Bytes of its params.
    #[diesel(sql_type = BigInt)]
    size: i64,
}

impl NewRow {
    fn target(&self) -> MaybeTarget {
        (self.target_type.clone(), self.target_id.clone())
    }
}

#[derive(QueryableByName)]
struct Params {
    #[diesel(sql_type = Nullable<Text>)]
    params: Option<String>,
}

/// A new row, as far as it tells whose it is.
#[derive(QueryableByName)]
struct Place {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
}

/// What came of adopting.
#[derive(Debug, Default)]
pub struct Adopted {
    /// How many jobs were taken in, or refused.
    pub jobs: usize,
    /// Names of new rows that are not declared here, a few of them.
    pub foreign_names: BTreeSet<String>,
    /// Queues of new rows that are not declared here, a few of them.
    pub foreign_queues: BTreeSet<String>,
}

impl Adopted {
    fn has_foreign(&self) -> bool {
        !self.foreign_names.is_empty() || !self.foreign_queues.is_empty()
    }
}

impl Store {
    /// Adopts `new` rows whose names are declared: fills in what the application left open, sets back what is not an
    /// application's to say, and adds dependents.
    ///
    /// A row that can never run (parameters that are no list, a priority out of range) ends as `failed` and says why.
    /// Locks the rows, those that another tick is adopting left out; rows of names and queues that are not declared here are
    /// for others, and however many there are, no more than [`WINDOW`] are read at a place.
    ///
    /// # Errors
    ///
    /// When the database fails; what was adopted before stays adopted.
    pub fn adopt(&mut self, declared: Declared<'_>, queues: &[String]) -> Result<Adopted, StoreError> {
        let mut all = Adopted::default();
        let (mut size, mut rounds) = (BATCH, Rounds::of("adopting new jobs"));
        loop {
            let (had_foreign, ids) = (all.has_foreign(), self.adoptable(declared, queues, size, &mut all)?);
            let done = if ids.is_empty() { 0 } else { self.unit(|tx| tx.adopt_batch(declared, &ids))? };
            rounds.turn(ids.first().copied())?;
            all.jobs += done;
            if done == 0 && had_foreign == all.has_foreign() {
                return Ok(all);
            }
            if all.has_foreign() {
                size = WINDOW;
            }
        }
    }

    /// Rows to adopt, a batch at most, among the first `size` new ones. Where these are not all of them and some are for
    /// others, also among the last ones, where what comes in is, and from any place on, so that none is left behind for ever.
    /// Locks nothing.
    fn adoptable(
        &mut self,
        declared: Declared<'_>,
        queues: &[String],
        size: usize,
        all: &mut Adopted,
    ) -> Result<Vec<i64>, StoreError> {
        let mut ids = BTreeSet::new();
        let mut places = vec!["ORDER BY run_at, id".to_owned()];
        let mut next = 0;
        while let Some(place) = places.get(next) {
            // With few rows a server may think that putting them in order costs less than an index.
            let by_time = if self.is_server() { " USE INDEX (duly_job_promote)" } else { "" };
            let query = format!(
                "SELECT id, name, queue FROM duly_job{by_time} WHERE state = 'new' {place} LIMIT {size}"
            );
            let rows: Vec<Place> = self.rows(&Sql::once(query))?;
            let is_more = rows.len() == size;
            let first = rows.iter().map(|row| row.id).min().unwrap_or(0);
            for row in rows {
                // Servers take a blank at the end of a queue's name for nothing.
                let queue = row.queue.as_deref().map(|queue| match self.is_server() {
                    true => queue.trim_end_matches(' '),
                    false => queue,
                });
                if let Some(queue) = queue.filter(|queue| !queues.iter().any(|known| known == queue)) {
                    tell(&mut all.foreign_queues, queue);
                } else if declared(&row.name).is_none() {
                    tell(&mut all.foreign_names, &row.name);
                } else {
                    ids.insert(row.id);
                }
            }
            if next == 0 && is_more && all.has_foreign() && size == WINDOW {
                places.push("ORDER BY run_at DESC, id DESC".to_owned());
                places.push("AND run_at IS NULL ORDER BY id DESC".to_owned());
                places.push(self.anywhere(first)?);
            }
            next += 1;
        }
        Ok(ids.into_iter().take(BATCH).collect())
    }

    /// A stretch of new rows from an id on that nobody can foresee: by chance each of them is looked at sooner or later.
    fn anywhere(&mut self, first: i64) -> Result<String, StoreError> {
        let last = self.rows::<Id>(&Sql::new("SELECT COALESCE(MAX(id), 0) AS id FROM duly_job"))?;
        let last = last.first().map_or(first, |row| row.id);
        let random = i64::try_from(RandomState::new().hash_one(first) >> 1).unwrap_or(0);
        let from = first + random % (last - first).max(1);
        Ok(format!("AND run_at IS NULL AND id >= {from} ORDER BY id"))
    }

    fn adopt_batch(&mut self, declared: Declared<'_>, ids: &[i64]) -> Result<usize, StoreError> {
        let query = format!(
            "SELECT id, name, CASE WHEN {0} > {READ_ALONG} THEN NULL ELSE params END AS params, \
             target_type, target_id, CAST(priority AS SIGNED) AS priority, \
             CASE WHEN run_at IS NOT NULL AND {1} IS NULL THEN 1 ELSE 0 END AS has_bad_time, \
             {0} AS size FROM duly_job{2} WHERE id IN ({3}) AND state = 'new' ORDER BY id{4}",
            "COALESCE(OCTET_LENGTH(params), 0)",
            self.readable("run_at"),
            if self.is_server() { " FORCE INDEX (PRIMARY)" } else { "" },
            id_marks(ids.len()),
            self.skip_locked()
        );
        let sql = Sql::new(query).bind_ids(ids);
        let mut rows = self.rows(&sql)?;
        self.bound(&mut rows)?;
        let mut fine: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        let mut done = 0;
        for row in &rows {
            if declared(&row.name).is_none() {
                // Its name has been changed since it was found.
            } else if let Err(why) = check(row, declared) {
                self.refuse(row.id, &why)?;
                done += 1;
            } else {
                fine.entry(&row.name).or_default().push(row.id);
            }
        }
        for (name, ids) in fine {
            let Some(definition) = declared(name) else { continue };
            let ids = if definition.unique == Unique::No {
                done += self.fill_in(definition, &ids)?;
                ids
            } else {
                done += ids.len();
                self.fill_in_unique(definition, rows.iter().filter(|row| ids.contains(&row.id)))?
            };
            if !definition.dependents.is_empty() {
                for row in rows.iter().filter(|row| ids.contains(&row.id)) {
                    self.add_dependents(row.id, name, &row.target(), declared)?;
                }
            }
        }
        Ok(done)
    }

    /// Leaves to another batch what would make this one too large, and reads the longer params of the rest. What is longer than
    /// any command line is not read at all.
    fn bound(&mut self, rows: &mut Vec<NewRow>) -> Result<(), StoreError> {
        let mut bytes = 0;
        let fitting = rows.iter().take_while(|row| {
            bytes += row.size;
            bytes <= BATCH_BYTES
        });
        let fitting = fitting.count().max(1);
        rows.truncate(fitting);
        for row in rows {
            if row.size > READ_ALONG && row.size <= i64::from(LONGEST_PARAMS) {
                let query = Sql::new("SELECT params FROM duly_job WHERE id = ?").bind(row.id);
                row.params = self.rows::<Params>(&query)?.pop().and_then(|found| found.params);
            }
        }
        Ok(())
    }

    fn fill_in(&mut self, definition: &Definition, ids: &[i64]) -> Result<usize, StoreError> {
        let (now, run_at) = (self.now(), self.readable("run_at"));
        let update = format!(
            "UPDATE duly_job SET state = CASE WHEN {run_at} > {now} THEN 'delayed' ELSE 'pending' END, \
             priority_order = -COALESCE(priority, ?), priority = COALESCE(priority, ?), \
             queue = COALESCE(queue, ?), run_at = COALESCE({run_at}, {now}), params = COALESCE(params, ?), \
             max_attempts = ?, time_before_stale_ms = ?, hooks = ?, {RESET} WHERE id IN ({}) AND state = 'new'",
            marks(ids.len())
        );
        let sql = Sql::once(update)
            .bind(definition.priority)
            .bind(definition.priority)
            .bind(&definition.queue)
            .bind(params_json(&definition.params))
            .bind(definition.max_attempts)
            .bind(definition.time_before_stale.map(|length| micros(length) / 1000))
            .bind(definition.hooks.stored())
            .bind_all(ids.iter().copied());
        self.execute(&sql)
    }

    /// One by one, since each may find that its key is taken; returns those that are taken in.
    fn fill_in_unique<'a>(
        &mut self,
        definition: &Definition,
        rows: impl Iterator<Item = &'a NewRow>,
    ) -> Result<Vec<i64>, StoreError> {
        let mut taken_in = Vec::new();
        for row in rows {
            let params = row.params.as_deref().map(parse_params);
            let params = params.and_then(Result::ok).unwrap_or_else(|| definition.params.clone());
            let key = definition.unique.key(&definition.name, &params, &row.target());
            let update =
                "UPDATE duly_job SET unique_key = COALESCE(unique_key, ?) WHERE id = ? AND state = 'new'";
            match self.execute(&Sql::new(update).bind(key).bind(row.id)) {
                Ok(_) => {
                    self.fill_in(definition, &[row.id])?;
                    taken_in.push(row.id);
                }
                Err(err) if err.is_taken_key("unique_key") => self.refuse_second(row.id)?,
                Err(other) => return Err(other),
            }
        }
        Ok(taken_in)
    }

    fn refuse_second(&mut self, id: i64) -> Result<(), StoreError> {
        let update = format!(
            "UPDATE duly_job SET {RESET}, state = 'cancelled', outcome = 'cancelled', finished_at = {}, unique_key = NULL, \
             reason = 'refused: another job of the same unique key had not ended' WHERE id = ? AND state = 'new'",
            self.now()
        );
        self.execute(&Sql::new(update).bind(id)).map(drop)
    }

    fn refuse(&mut self, id: i64, why: &str) -> Result<(), StoreError> {
        let why = clip(why);
        log::warn!("job {id}, which an application put in, can never run and has failed: {why}");
        let update = format!(
            "UPDATE duly_job SET {RESET}, state = 'failed', outcome = 'not_started', reason = ?, finished_at = {}, \
             run_at = NULL, unique_key = NULL WHERE id = ? AND state = 'new'",
            self.now()
        );
        self.execute(&Sql::new(update).bind(why).bind(id)).map(drop)
    }

    /// Moves `delayed` jobs whose time has come to `pending`.
    ///
    /// Locks the rows, those that another tick is promoting left out.
    ///
    /// # Errors
    ///
    /// When the database fails; what was promoted before stays promoted.
    pub fn promote(&mut self) -> Result<usize, StoreError> {
        let (mut promoted, mut rounds) = (0, Rounds::of("promoting delayed jobs"));
        loop {
            let (first, done) = self.unit(Self::promote_batch)?;
            rounds.turn(first)?;
            promoted += done;
            if done < BATCH {
                return Ok(promoted);
            }
        }
    }

    fn promote_batch(&mut self) -> Result<(Option<i64>, usize), StoreError> {
        let now = self.now();
        let query = format!(
            "SELECT id FROM duly_job WHERE state = 'delayed' AND run_at <= {now} ORDER BY run_at, id LIMIT {BATCH}{}",
            self.skip_locked()
        );
        let ids: Vec<Id> = self.rows(&Sql::new(query))?;
        if ids.is_empty() {
            return Ok((None, 0));
        }
        let first = ids.first().map(|row| row.id);
        let update = format!(
            "UPDATE duly_job SET state = 'pending' WHERE id IN ({}) AND state = 'delayed'",
            marks(ids.len())
        );
        let update = if ids.len() == BATCH { Sql::new(update) } else { Sql::once(update) };
        Ok((first, self.execute(&update.bind_all(ids.iter().map(|row| row.id)))?))
    }
}

/// Notes what is left to others, a few of them.
fn tell(told: &mut BTreeSet<String>, what: &str) {
    if told.len() < TOLD {
        told.insert(what.to_owned());
    }
}

/// Why a row can never run, if so.
fn check(row: &NewRow, declared: Declared<'_>) -> Result<(), String> {
    if row.size > i64::from(LONGEST_PARAMS) {
        return Err(format!(
            "params are longer than {} MiB, more than a command line can hold",
            LONGEST_PARAMS >> 20
        ));
    }
    let params = row.params.as_deref().map_or(Ok(Vec::new()), parse_params)?;
    if !params.is_empty()
        && declared(&row.name).is_some_and(|definition| matches!(definition.action, Action::Builtin(_)))
    {
        return Err("a job with `builtin` takes no params".to_owned());
    }
    if is_hook(&row.name) {
        return Err("it is a hook, which only the end of a job starts".to_owned());
    }
    let target = row.target();
    family(&row.name, declared).into_iter().try_for_each(|d| d.require_target(&target))?;
    if row.has_bad_time != 0 {
        return Err("run_at is not a time; expected UTC such as 2026-03-01 02:00:00".to_owned());
    }
    match row.priority {
        Some(priority) if !(-100..=100).contains(&priority) => {
            Err(format!("priority {priority} is not between -100 and 100"))
        }
        _ => Ok(()),
    }
}
