//! Turning occurrences into jobs, each into one, however many hosts tick.
//!
//! Per scheduled name a row holds the mark up to which occurrences have been made; it moves forward only. The jobs and
//! the mark are one transaction under a lock on that row. Each job also has a key of name, instant and target that only
//! one row can have: it holds where the lock does not, on a cluster whose nodes are all written to, and where a mark was
//! set back or restored from a backup.

use std::collections::HashMap;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::enqueue::{Declared, NewJob, Start};
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{OPEN, Sql, utc};
use crate::job::{Definition, Occurrences, On, Overlap, Schedule, State, Unique};

/// A scheduled name that is due to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The name of the definition.
    pub name: String,
    /// What the schedule was when the mark was set.
    pub signature: String,
    /// Up to when occurrences have been made.
    pub mark: DateTime<Utc>,
    /// When to look next.
    pub next: Option<DateTime<Utc>>,
    /// The job of the latest occurrence.
    pub last_job_id: Option<i64>,
}

/// What a job is about: type and id.
pub type Target = (String, String);

/// What a pass over one name did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Jobs put in.
    pub jobs: usize,
    /// Occurrences recorded as skipped.
    pub skipped: usize,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    signature: String,
    #[diesel(sql_type = Timestamp)]
    mark_at: NaiveDateTime,
    #[diesel(sql_type = Nullable<Timestamp>)]
    next_at: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_job_id: Option<i64>,
}

#[derive(QueryableByName)]
struct OpenTarget {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    target_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_id: Option<String>,
}

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Text)]
    state: String,
}

impl From<Row> for ScheduleRow {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            signature: row.signature,
            mark: row.mark_at.and_utc(),
            next: utc(row.next_at),
            last_job_id: row.last_job_id,
        }
    }
}

impl Store {
    /// The scheduled names whose next look is due, or all of them.
    pub fn schedules(&mut self, only_due: bool) -> Result<Vec<ScheduleRow>, StoreError> {
        let due = if only_due { format!(" WHERE next_at <= {}", self.now()) } else { String::new() };
        let query = format!(
            "SELECT name, signature, mark_at, next_at, last_job_id FROM duly_schedule{due} ORDER BY name"
        );
        Ok(self.rows::<Row>(&Sql::new(query))?.into_iter().map(ScheduleRow::from).collect())
    }

    /// Lets a schedule that is new, or whose instants have changed, start from `now`.
    pub fn start_schedule(
        &mut self,
        name: &str,
        schedule: &Schedule,
        known: Option<&ScheduleRow>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let signature = schedule.signature();
        let mark = schedule.first_mark(now);
        let next = schedule.look_again_at(mark);
        let sql = match known {
            None => {
                Sql::new("INSERT INTO duly_schedule (mark_at, next_at, signature, name) VALUES (?, ?, ?, ?)")
            }
            Some(_) => Sql::new(
                "UPDATE duly_schedule SET mark_at = ?, next_at = ?, signature = ? WHERE name = ? AND signature = ?",
            ),
        };
        let sql = sql.bind(mark).bind(next).bind(signature).bind(name);
        let sql = match known {
            None => sql,
            // Unless another host has been quicker.
            Some(known) => sql.bind(&known.signature),
        };
        match self.unit(|tx| tx.execute(&sql)) {
            Err(StoreError::Duplicate(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes the jobs of `found`, records what was skipped, and moves the mark, in one transaction.
    ///
    /// With `targets` each occurrence is one job per target, and overlap is judged per target. Locks the row of the
    /// name, so that hosts take turns.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing was made.
    pub fn make_occurrences(
        &mut self,
        definition: &Definition,
        schedule: &Schedule,
        targets: Option<&[Target]>,
        declared: Declared<'_>,
        now: DateTime<Utc>,
    ) -> Result<Made, StoreError> {
        let made = self.unit(|tx| {
            let query = format!(
                "SELECT name, signature, mark_at, next_at, last_job_id FROM duly_schedule WHERE name = ?{}",
                tx.for_update()
            );
            let rows: Vec<Row> = tx.rows(&Sql::new(query).bind(&definition.name))?;
            let Some(row) = rows.into_iter().next().map(ScheduleRow::from) else { return Ok(Made::default()) };
            // Another host may have begun it anew with other instants.
            if row.signature != schedule.signature() {
                return Ok(Made::default());
            }
            // The mark stays: when the pause is over, what was missed is made up for as `catch_up` says.
            let pauses = tx.pauses_at_the_gate()?;
            if pauses.iter().any(|pause| pause.holds(&definition.name, &definition.queue)) {
                return Ok(Made::default());
            }
            let found = schedule.occurrences(row.mark, now);
            let mut made = Made::default();
            let mut last = row.last_job_id;
            for at in &found.due {
                let Some(targets) = targets else {
                    tx.make_one(definition, schedule, declared, (*at, None), &mut last, &mut made)?;
                    continue;
                };
                let open = tx.open_targets(&definition.name)?;
                for target in targets {
                    let mut last = open.get(target).copied();
                    tx.make_one(definition, schedule, declared, (*at, Some(target)), &mut last, &mut made)?;
                }
            }
            tx.record_missed(definition, &found, &mut made)?;
            let update = "UPDATE duly_schedule SET mark_at = ?, next_at = ?, last_job_id = ? WHERE name = ? AND mark_at <= ?";
            let sql = Sql::new(update)
                .bind(found.mark)
                .bind(schedule.look_again_at(found.mark))
                .bind(last)
                .bind(&definition.name)
                .bind(found.mark);
            tx.execute(&sql)?;
            Ok(made)
        })?;
        if schedule.overlap == Overlap::Queue {
            self.settle_soon();
        }
        Ok(made)
    }

    /// Moves the next look at a name to `at`, if nobody has moved it since `row` was read, or it is due again; returns whether
    /// that is so. Of those who have read that it is due, one only moves it into the future.
    pub fn look_later(&mut self, row: &ScheduleRow, at: DateTime<Utc>) -> Result<bool, StoreError> {
        let update = format!(
            "UPDATE duly_schedule SET next_at = ? WHERE name = ? AND signature = ? AND mark_at <= ? \
             AND (next_at = ? OR next_at <= {})",
            self.now()
        );
        let sql =
            Sql::new(update).bind(at).bind(&row.name).bind(&row.signature).bind(row.mark).bind(row.next);
        Ok(self.unit(|tx| tx.execute(&sql))? > 0)
    }

    fn make_one(
        &mut self,
        definition: &Definition,
        schedule: &Schedule,
        declared: Declared<'_>,
        (at, target): (DateTime<Utc>, Option<&Target>),
        last: &mut Option<i64>,
        made: &mut Made,
    ) -> Result<(), StoreError> {
        let busy = match (schedule.overlap, *last) {
            (Overlap::Skip | Overlap::Queue, Some(last)) => self.is_open(last)?.then_some(last),
            _ => None,
        };
        let mut job = NewJob {
            scheduled_for: Some(at),
            occurrence_key: Some(occurrence_key(&definition.name, at, target)),
            target: target.map_or((None, None), |(kind, id)| (Some(kind.clone()), Some(id.clone()))),
            ..NewJob::of(definition)
        };
        let delay = schedule.delay_of(&definition.name);
        if !delay.is_zero() {
            job.start = Start::At(at + delay);
        }
        match (busy, schedule.overlap) {
            (Some(_), Overlap::Skip) if schedule.trigger == crate::job::Trigger::Tick => return Ok(()),
            (Some(busy), Overlap::Skip) => {
                let why = format!("skipped: the previous one, job {busy}, had not ended");
                return self.record_skipped(&job, &why, made);
            }
            (Some(busy), Overlap::Queue) => job.after.push((busy, On::Always)),
            _ => {}
        }
        match self.insert_with_dependents(&job, declared) {
            Ok(id) => {
                *last = Some(id);
                made.jobs += 1;
                Ok(())
            }
            // Made by another node of a cluster, or before the mark was set back.
            Err(StoreError::Duplicate(_)) => Ok(()),
            Err(StoreError::Taken { id, .. }) => {
                let why = format!("skipped: job {id} of the same unique key had not ended");
                self.record_skipped(&job, &why, made)
            }
            Err(other) => Err(other),
        }
    }

    /// The latest job that has not ended, for each target of `name` that has one.
    fn open_targets(&mut self, name: &str) -> Result<HashMap<Target, i64>, StoreError> {
        let query = format!(
            "SELECT id, target_type, target_id FROM duly_job WHERE name = ? AND target_id IS NOT NULL \
             AND state IN {OPEN} ORDER BY id"
        );
        let rows: Vec<OpenTarget> = self.rows(&Sql::new(query).bind(name))?;
        let target = |row: OpenTarget| Some(((row.target_type?, row.target_id?), row.id));
        Ok(rows.into_iter().filter_map(target).collect())
    }

    fn is_open(&mut self, id: i64) -> Result<bool, StoreError> {
        let rows: Vec<StateRow> = self.rows(&Sql::new("SELECT state FROM duly_job WHERE id = ?").bind(id))?;
        Ok(rows.iter().any(|row| row.state.parse::<State>().is_ok_and(|state| !state.is_ended())))
    }

    /// Occurrences that nothing was running for are one row, which tells how many and which.
    fn record_missed(
        &mut self,
        definition: &Definition,
        found: &Occurrences,
        made: &mut Made,
    ) -> Result<(), StoreError> {
        let Some((count, first, last)) = found.missed else { return Ok(()) };
        let span = if first == last { format!("{first}") } else { format!("{first} to {last}") };
        let why = format!("skipped: {count} missed while nothing ran ({span})");
        let job = NewJob {
            scheduled_for: Some(last),
            occurrence_key: Some(occurrence_key(&definition.name, last, None)),
            ..NewJob::of(definition)
        };
        self.record_skipped(&job, &why, made)
    }

    fn record_skipped(&mut self, job: &NewJob, why: &str, made: &mut Made) -> Result<(), StoreError> {
        let free = NewJob { unique: Unique::No, unique_key: None, after: Vec::new(), ..job.clone() };
        let id = match self.insert(&[free]) {
            Ok(ids) => ids[0],
            Err(StoreError::Duplicate(_)) => return Ok(()),
            Err(other) => return Err(other),
        };
        let update = format!(
            "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = ?, finished_at = {} WHERE id = ?",
            self.now()
        );
        self.execute(&Sql::new(update).bind(clip(why)).bind(id))?;
        made.skipped += 1;
        Ok(())
    }
}

/// Name, instant and target in one value, since a composite unique key would let `NULL`s pass.
fn occurrence_key(name: &str, at: DateTime<Utc>, target: Option<&Target>) -> String {
    let target = target.map_or_else(String::new, |(kind, id)| format!("/{kind}:{id}"));
    format!("{name}@{}{target}", at.format("%Y-%m-%dT%H:%M:%SZ"))
}
