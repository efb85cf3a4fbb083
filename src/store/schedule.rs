//! Turning occurrences into jobs, each into one, however many hosts tick.
//!
//! Per scheduled name a row holds the mark up to which occurrences have been made; it moves forward only. The jobs and
//! the mark are one transaction under a lock on that row. Each job also has a key of name, instant and target that only
//! one row can have: it holds where the lock does not, on a cluster whose nodes are all written to, and where a mark was
//! set back or restored from a backup.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::cancel::Cancelled;
use super::enqueue::{Declared, NewJob, Start, micros};
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::sql::AnyText as Text;
use super::sql::{Id, OPEN, Sql, utc};
use crate::job::{AHEAD, Definition, Occurrences, On, Overlap, Schedule, Trigger, Unique};

/// Jobs made in one transaction, at most, and how long one look goes on with such: others want to claim, and to pause.
const STEP: usize = 200;
const PASS: Duration = Duration::from_secs(1);

/// How many of the newest jobs of a name are looked at for one that has not ended.
const NEWEST: usize = 50;

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

/// One look at a name of which occurrences are due.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// What is declared under that name.
    pub definition: &'a Definition,
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// One job for each of these, where it has targets.
    pub targets: Option<&'a [Target]>,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// How far ticks are usually apart.
    pub distance: TimeDelta,
}

/// What a pass over one name did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Jobs put in.
    pub jobs: usize,
    /// Occurrences recorded as skipped.
    pub skipped: usize,
    /// Up to where they are made, if there is more than one look may take.
    pub until: Option<DateTime<Utc>>,
    has_dependents: bool,
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
struct OpenRow {
    #[diesel(sql_type = BigInt)]
    is_waiting: i64,
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Timestamp)]
    scheduled_for: NaiveDateTime,
    #[diesel(sql_type = Nullable<Text>)]
    target_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_id: Option<String>,
}

/// A job of an occurrence that has not ended.
struct OpenJob {
    id: i64,
    /// Whether it waits for those before it.
    is_waiting: bool,
    scheduled_for: DateTime<Utc>,
}

impl OpenJob {
    fn is_before(&self, at: DateTime<Utc>) -> bool {
        self.scheduled_for < at
    }
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

    /// Makes the jobs of what is due of `pass`, records what was skipped, and moves the mark: in transactions of some hundred
    /// jobs, each of which locks the row of the name, so that hosts take turns; what a second does not suffice for is left to the
    /// next look.
    ///
    /// With targets each occurrence is one job per target, and overlap is judged per target.
    ///
    /// # Errors
    ///
    /// When the database fails; what was made before stays made, and nothing is made twice.
    pub fn make_occurrences(&mut self, pass: &Pass<'_>, declared: Declared<'_>) -> Result<Made, StoreError> {
        let (began, mut made, mut from) = (Instant::now(), Made::default(), None);
        loop {
            let mut step = Made::default();
            from = self.unit(|tx| {
                step = Made::default();
                tx.make_some(pass, declared, from, &mut step)
            })?;
            made.jobs += step.jobs;
            made.skipped += step.skipped;
            if step.has_dependents {
                self.settle_soon();
            }
            made.until = step.until;
            if from.is_none() || began.elapsed() >= PASS {
                return Ok(made);
            }
        }
    }

    /// One transaction: up to [`STEP`] jobs, from a target of an occurrence on where one is given. Returns where the next
    /// transaction goes on, if there is more.
    fn make_some(
        &mut self,
        pass: &Pass<'_>,
        declared: Declared<'_>,
        from: Option<(DateTime<Utc>, usize)>,
        made: &mut Made,
    ) -> Result<Option<(DateTime<Utc>, usize)>, StoreError> {
        let Pass { definition, schedule, targets, now, distance } = *pass;
        let query = format!(
            "SELECT name, signature, mark_at, next_at, last_job_id FROM duly_schedule WHERE name = ?{}",
            self.for_update()
        );
        let rows: Vec<Row> = self.rows(&Sql::new(query).bind(&definition.name))?;
        // One that a newer jobs.yaml has taken over meanwhile is that one's.
        let row = rows.into_iter().next().map(ScheduleRow::from);
        let Some(row) = row.filter(|row| row.signature == schedule.signature()) else { return Ok(None) };
        // The mark stays: when the pause is over, what was missed is made up for as `catch_up` says.
        let pauses = self.pauses_at_the_gate()?;
        if pauses.iter().any(|pause| pause.holds(&definition.name, &definition.queue)) {
            return Ok(None);
        }
        let found = schedule.occurrences_by_ticks(row.mark, now, distance);
        self.record_missed(definition, &found, made)?;
        let none = [None];
        let each: Vec<Option<&Target>> = match targets {
            Some(targets) => targets.iter().map(Some).collect(),
            None => none.to_vec(),
        };
        let mut open = self.open_occurrences(&definition.name, row.last_job_id, targets.is_some())?;
        let (mut last, mut mark, mut left, mut resume) = (row.last_job_id, row.mark, STEP, None);
        for at in &found.due {
            let from = from.filter(|(of, _)| of == at).map_or(0, |(_, from)| from);
            let to = each.len().min(from + left);
            for target in each.get(from..to).unwrap_or_default() {
                let open = open.entry(target.cloned()).or_default();
                if let Some(id) = self.make_one(pass, declared, (*at, *target), open, made)? {
                    last = if targets.is_some() { last } else { Some(id) };
                }
            }
            left -= to.saturating_sub(from);
            if to < each.len() {
                resume = Some((*at, to));
                break;
            }
            mark = *at;
            if left == 0 {
                resume = found.due.iter().find(|next| *next > at).map(|next| (*next, 0));
                break;
            }
        }
        if resume.is_none() {
            mark = found.mark;
        } else {
            made.until = Some(mark);
        }
        let update = "UPDATE duly_schedule SET mark_at = ?, next_at = ?, last_job_id = ? WHERE name = ? AND mark_at <= ?";
        let sql = Sql::new(update)
            .bind(mark)
            .bind(schedule.look_again_at(mark))
            .bind(last)
            .bind(&definition.name)
            .bind(mark);
        self.execute(&sql)?;
        Ok(resume)
    }

    /// The schedules whose mark lies over a minute ahead of the database's clock, since that, or another, was set wrong.
    pub fn schedules_ahead(&mut self) -> Result<Vec<ScheduleRow>, StoreError> {
        let query = format!(
            "SELECT name, signature, mark_at, next_at, last_job_id FROM duly_schedule WHERE mark_at > {} ORDER BY name",
            self.now_plus()
        );
        let rows: Vec<Row> = self.rows(&Sql::new(query).bind(micros(AHEAD.to_std().unwrap_or_default())))?;
        Ok(rows.into_iter().map(ScheduleRow::from).collect())
    }

    /// Lets a schedule whose mark lies ahead start anew from `now`; what was skipped of the time to come is no longer.
    pub fn set_back(
        &mut self,
        row: &ScheduleRow,
        schedule: &Schedule,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mark = schedule.first_mark(now);
        // Unless a newer jobs.yaml has taken it over meanwhile, or another host has been quicker.
        let update = "UPDATE duly_schedule SET mark_at = ?, next_at = ? WHERE name = ? AND mark_at = ? AND signature = ?";
        let next = schedule.look_again_at(mark);
        let sql = Sql::new(update).bind(mark).bind(next).bind(&row.name).bind(row.mark).bind(&row.signature);
        let free = "UPDATE duly_job SET occurrence_key = NULL WHERE name = ? AND state = 'cancelled' \
                    AND scheduled_for > ? AND occurrence_key IS NOT NULL";
        let free = Sql::new(free).bind(&row.name).bind(now);
        self.unit(|tx| match tx.execute(&sql)? {
            0 => Ok(()),
            _ => tx.execute(&free).map(drop),
        })
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

    /// Returns the job that was made of an occurrence, if one was.
    fn make_one(
        &mut self,
        pass: &Pass<'_>,
        declared: Declared<'_>,
        (at, target): (DateTime<Utc>, Option<&Target>),
        open: &mut Vec<OpenJob>,
        made: &mut Made,
    ) -> Result<Option<i64>, StoreError> {
        let Pass { definition, schedule, .. } = *pass;
        let key = occurrence_key(&definition.name, at, target);
        // Nothing gives way to what was made before: by another node of a cluster, or before the mark was set back.
        if !open.is_empty() && self.has_occurrence(&key)? {
            return Ok(None);
        }
        let mut job = NewJob {
            scheduled_for: Some(at),
            occurrence_key: Some(key),
            target: target.map_or((None, None), |(kind, id)| (Some(kind.clone()), Some(id.clone()))),
            ..NewJob::of(definition)
        };
        let delay = schedule.delay_of(&definition.name);
        if !delay.is_zero() {
            job.start = Start::At(at + delay);
        }
        match schedule.overlap {
            Overlap::Skip => {
                let mut busy = Vec::new();
                for other in open.drain(..) {
                    if schedule.trigger != Trigger::Tick
                        && other.is_before(at)
                        && self.give_way(other.id, at)?
                    {
                        made.has_dependents = true;
                    } else {
                        busy.push(other);
                    }
                }
                *open = busy;
                match open.last() {
                    Some(_) if schedule.trigger == Trigger::Tick => return Ok(None),
                    Some(busy) => {
                        let why = format!("skipped: the previous one, job {}, had not ended", busy.id);
                        return self.record_skipped(&job, &why, made).map(|()| None);
                    }
                    None => {}
                }
            }
            Overlap::Queue => {
                // The last one that waits does so for those before it; one of these may have been begun again by hand.
                let last = open.last().map(|last| last.id);
                let before = open.iter().filter(|other| !other.is_waiting || Some(other.id) == last);
                job.after.extend(before.map(|other| (other.id, On::Always)));
            }
            Overlap::Replace => {
                for other in open.iter().filter(|other| other.is_before(at)) {
                    let why = format!("replaced by the occurrence of {}", shown(at));
                    if self.cancel_family(other.id, &why)? == Cancelled::Requested {
                        job.after.push((other.id, On::Always));
                    }
                    made.has_dependents = true;
                }
            }
            Overlap::Allow => {}
        }
        made.has_dependents |= !job.after.is_empty();
        match self.insert_with_dependents(&job, declared) {
            Ok(id) => {
                open.push(OpenJob { id, is_waiting: !job.after.is_empty(), scheduled_for: at });
                made.jobs += 1;
                Ok(Some(id))
            }
            // As above, at this very moment.
            Err(StoreError::Duplicate(_)) => Ok(None),
            Err(StoreError::Taken { id, .. }) => {
                let why = format!("skipped: job {id} of the same unique key had not ended");
                self.record_skipped(&job, &why, made).map(|()| None)
            }
            Err(other) => Err(other),
        }
    }

    fn has_occurrence(&mut self, key: &str) -> Result<bool, StoreError> {
        let query = Sql::new("SELECT id FROM duly_job WHERE occurrence_key = ?").bind(key);
        Ok(!self.rows::<Id>(&query)?.is_empty())
    }

    /// A job between two attempts ends as failed for the occurrence of `at`; returns whether it was one, and has no children that
    /// have not ended.
    fn give_way(&mut self, id: i64, at: DateTime<Utc>) -> Result<bool, StoreError> {
        if !self.open_children(id)?.is_empty() {
            return Ok(false);
        }
        let update = format!(
            "UPDATE duly_job SET state = 'failed', reason = ?, finished_at = {}, unique_key = NULL \
             WHERE id = ? AND state = 'delayed' AND fence > 0",
            self.now()
        );
        let why = format!("gave way between two attempts to the occurrence of {}", shown(at));
        if self.execute(&Sql::new(update).bind(why).bind(id))? == 0 {
            return Ok(false);
        }
        self.start_hooks(&[id])?;
        self.mark_dependents(&[id])?;
        self.cancel_hopeless(id)?;
        Ok(true)
    }

    /// The jobs of occurrences of `name` that have not ended, oldest first, by their targets: of those without, among the newest and
    /// the last that was made.
    fn open_occurrences(
        &mut self,
        name: &str,
        last: Option<i64>,
        has_targets: bool,
    ) -> Result<HashMap<Option<Target>, Vec<OpenJob>>, StoreError> {
        let select = |from: &str, which: &str| {
            format!(
                "SELECT j.id, CASE WHEN j.state = 'waiting' THEN 1 ELSE 0 END AS is_waiting, j.scheduled_for, j.target_type, \
                 j.target_id FROM {from} WHERE {which} \
                 AND j.scheduled_for IS NOT NULL AND j.state IN {OPEN}"
            )
        };
        let sql = if has_targets {
            let query = select("duly_job j", "j.name = ? AND j.target_id IS NOT NULL");
            Sql::new(format!("{query} ORDER BY id")).bind(name)
        } else {
            let newest = format!(
                "(SELECT id FROM duly_job WHERE name = ? ORDER BY id DESC LIMIT {NEWEST}) AS newest JOIN duly_job j ON j.id = newest.id"
            );
            let newest = select(&newest, "j.target_id IS NULL");
            // Ids begin again where the table was emptied: then it is another's.
            let last_one = select("duly_job j", "j.id = ? AND j.name = ? AND j.target_id IS NULL");
            Sql::new(format!("{newest} UNION {last_one} ORDER BY id"))
                .bind(name)
                .bind(last.unwrap_or(0))
                .bind(name)
        };
        let mut open: HashMap<Option<Target>, Vec<OpenJob>> = HashMap::new();
        for row in self.rows::<OpenRow>(&sql)? {
            let is_waiting = row.is_waiting != 0;
            let job = OpenJob { id: row.id, is_waiting, scheduled_for: row.scheduled_for.and_utc() };
            open.entry(row.target_type.zip(row.target_id)).or_default().push(job);
        }
        Ok(open)
    }

    /// Occurrences that nothing was running for are one row, which tells how many and which.
    fn record_missed(
        &mut self,
        definition: &Definition,
        found: &Occurrences,
        made: &mut Made,
    ) -> Result<(), StoreError> {
        let Some((count, first, last)) = found.missed else { return Ok(()) };
        let span = if first == last { shown(first) } else { format!("{} to {}", shown(first), shown(last)) };
        let why = format!(
            "skipped: {count} missed ({span}); by the database's clock no tick looked at it in time, or it was paused"
        );
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
    format!("{name}@{}{target}", shown(at))
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
