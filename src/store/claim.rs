//! Claiming startable jobs, so that each is executed by one runner only.
//!
//! One transaction: the rows are locked, those that another claim has locked left out, and then moved from `pending`
//! to `running` by an update that names the state they leave. The lock is an optimisation; the guard and the count of
//! rows are what makes it right, also where `SKIP LOCKED` does less than it says.

use std::collections::BTreeSet;
use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable};

use super::enqueue::{Declared, NewJob, micros, no_answer};
use super::error::StoreError;
use super::handle::Store;
use super::limits::Limits;
use super::sql::AnyText as Text;
use super::sql::{Sql, id_marks, utc};

/// Who wants how many jobs of which queue.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// The queue.
    pub queue: &'a str,
    /// Jobs at most.
    pub limit: usize,
    /// The claiming runner, a value that no other process ever had.
    pub owner: &'a str,
    /// Its host, for people.
    pub host: &'a str,
    /// How long the claim holds.
    pub lease: Duration,
}

/// A job that this runner now holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The job.
    pub id: i64,
    /// The fence of this claim.
    pub fence: i64,
    /// The name of its definition.
    pub name: String,
    /// Its parameters as they are stored: a JSON array, unless an application wrote something else.
    pub params: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// Attempts at most.
    pub max_attempts: u32,
    /// What it is about.
    pub target: (Option<String>, Option<String>),
    /// The instant of its schedule that it is for.
    pub scheduled_for: Option<DateTime<Utc>>,
    /// Its root job.
    pub root_id: Option<i64>,
}

/// Windows that a claim tries before it locks the head of the queue row by row.
const WINDOWS: usize = 3;

/// Names that a claim leaves alone.
#[derive(Debug, Default)]
struct PassedOver {
    undeclared: BTreeSet<String>,
    /// Paused, or at their limits.
    held_back: BTreeSet<String>,
    /// Whether children of a cancelled root were cancelled instead.
    has_cancelled: bool,
    /// Whether the queue is paused.
    is_shut: bool,
}

impl PassedOver {
    fn len(&self) -> usize {
        self.undeclared.len() + self.held_back.len()
    }

    fn names(&self) -> Vec<String> {
        self.undeclared.iter().chain(&self.held_back).cloned().collect()
    }
}

/// What a claim found.
#[derive(Debug, Default)]
pub struct Claims {
    /// Now held.
    pub jobs: Vec<Claimed>,
    /// Names that were found in the queue, are not declared here, and were left alone.
    pub undeclared: BTreeSet<String>,
}

#[derive(QueryableByName)]
pub(super) struct ClaimRow {
    #[diesel(sql_type = BigInt)]
    pub(super) id: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) fence: i64,
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Nullable<Text>)]
    params: Option<String>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    max_attempts: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    target_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_id: Option<String>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    scheduled_for: Option<NaiveDateTime>,
    #[diesel(sql_type = Nullable<BigInt>)]
    root_id: Option<i64>,
}

/// The columns of a [`ClaimRow`].
pub(super) const CLAIM_COLUMNS: &str =
    "id, fence, name, params, attempts, max_attempts, target_type, target_id, scheduled_for, root_id";

impl ClaimRow {
    /// The job as it is after a claim that added `added` to its fence and its attempts.
    pub(super) fn claimed(self, added: i64) -> Claimed {
        let count = |number: i64| u32::try_from(number).unwrap_or(1);
        Claimed {
            id: self.id,
            fence: self.fence + added,
            name: self.name,
            params: self.params.unwrap_or_else(|| "[]".to_owned()),
            attempt: count(i64::from(self.attempts) + added),
            max_attempts: count(self.max_attempts.unwrap_or(1).into()),
            target: (self.target_type, self.target_id),
            scheduled_for: utc(self.scheduled_for),
            root_id: self.root_id,
        }
    }
}

impl Store {
    /// Claims up to `request.limit` startable jobs whose names are declared, by priority, time and id.
    ///
    /// Nothing of what is paused, and no more of what is limited than its limit leaves free.
    ///
    /// # Errors
    ///
    /// When the database fails. After [`StoreError::Away`] it is not known whether the claim was made:
    /// [`Store::held_by`] tells.
    pub fn claim(
        &mut self,
        request: ClaimRequest<'_>,
        limits: Limits<'_>,
        is_declared: &dyn Fn(&str) -> bool,
    ) -> Result<Claims, StoreError> {
        let (mut passed, mut jobs) = (PassedOver::default(), Vec::new());
        let mut windows = 0;
        loop {
            let before = passed.len();
            let rest = ClaimRequest { limit: request.limit - jobs.len(), ..request };
            let was_late = match self.claim_round(rest, limits, is_declared, windows, &mut passed) {
                Ok((more, was_late)) => {
                    jobs.extend(more);
                    was_late
                }
                // Nothing came of this round, and what is held from those before must begin.
                Err(err) if !jobs.is_empty() && !matches!(err, StoreError::Away(_)) => break,
                Err(err) => return Err(err),
            };
            // Names that may not be touched can fill the head of the queue: look past them.
            let has_cancelled = std::mem::take(&mut passed.has_cancelled);
            if has_cancelled {
                self.settle_soon();
            }
            if jobs.len() == request.limit || passed.is_shut {
                break;
            }
            if passed.len() == before && !has_cancelled {
                windows += 1;
                // Others were quicker: look elsewhere, and at last go through the queue row by row.
                if !was_late || (windows >= WINDOWS && !jobs.is_empty()) {
                    break;
                }
            }
        }
        Ok(Claims { jobs, undeclared: passed.undeclared })
    }

    /// One look at the queue and one claim; also whether other claims were quicker.
    fn claim_round(
        &mut self,
        request: ClaimRequest<'_>,
        limits: Limits<'_>,
        is_declared: &dyn Fn(&str) -> bool,
        windows: usize,
        passed: &mut PassedOver,
    ) -> Result<(Vec<Claimed>, bool), StoreError> {
        self.pass_over(request.queue, &passed.names())?;
        let among = if windows < WINDOWS { self.stretch(request, limits, &passed.names())? } else { None };
        if among.as_ref().is_some_and(Vec::is_empty) {
            return Ok((Vec::new(), false));
        }
        let jobs = self.unit(|tx| tx.claim_once(request, limits, is_declared, among.as_deref(), passed))?;
        let was_late = among.is_some_and(|ids| jobs.len() < ids.len());
        Ok((jobs, was_late))
    }

    fn claim_once(
        &mut self,
        request: ClaimRequest<'_>,
        limits: Limits<'_>,
        is_declared: &dyn Fn(&str) -> bool,
        among: Option<&[i64]>,
        passed: &mut PassedOver,
    ) -> Result<Vec<Claimed>, StoreError> {
        let known = passed.len();
        for pause in self.pauses_at_the_gate()? {
            match pause.scope.strip_prefix("job:") {
                Some(name) => passed.held_back.insert(name.to_owned()),
                None if pause.holds("", request.queue) => {
                    passed.is_shut = true;
                    return Ok(Vec::new());
                }
                None => false,
            };
        }
        let mut free = self.free_slots(request.queue, limits)?;
        let room = Self::room(&free, request.limit);
        // What is to be passed over is read without locks, before the next look.
        if room == 0 || (among.is_none() && passed.len() > known) {
            return Ok(Vec::new());
        }
        let rows = match among {
            Some(ids) => self.lock_these(ids)?,
            None => self.lock_head(request.queue, room, limits, &passed.names())?,
        };
        let found = rows.len();
        let rows = self.without_cancelled_families(rows)?;
        passed.has_cancelled |= rows.len() < found;
        let mut mine = Vec::with_capacity(rows.len());
        for row in rows {
            if passed.held_back.contains(&row.name) {
                // Locked before it was known.
            } else if !is_declared(&row.name) {
                passed.undeclared.insert(row.name);
            } else if !limits.hold_for(&row.name) || self.take_slots(&row, limits, &mut free)? {
                mine.push(row);
            } else {
                passed.held_back.insert(row.name);
            }
        }
        self.move_to_running(request, mine)
    }

    /// Cancels, instead of claiming, children whose root has been cancelled.
    fn without_cancelled_families(&mut self, rows: Vec<ClaimRow>) -> Result<Vec<ClaimRow>, StoreError> {
        let mut free = Vec::with_capacity(rows.len());
        for row in rows {
            match row.root_id {
                Some(root) if self.cancel_with_root(row.id, root)? => {}
                _ => free.push(row),
            }
        }
        Ok(free)
    }

    fn move_to_running(
        &mut self,
        request: ClaimRequest<'_>,
        mine: Vec<ClaimRow>,
    ) -> Result<Vec<Claimed>, StoreError> {
        if mine.is_empty() {
            return Ok(Vec::new());
        }
        let update = format!(
            "UPDATE duly_job SET state = 'running', fence = fence + 1, attempts = attempts + 1, owner = ?, host = ?, \
             lease_until = {}, started_at = {}, finished_at = NULL, outcome = NULL, exit_code = NULL, \
             signal_number = NULL, reason = NULL, duration_ms = NULL WHERE id IN ({}) AND state = 'pending'",
            self.now_plus(),
            self.now(),
            id_marks(mine.len())
        );
        let ids: Vec<i64> = mine.iter().map(|row| row.id).collect();
        let sql = Sql::new(update)
            .bind(request.owner)
            .bind(request.host)
            .bind(micros(request.lease))
            .bind_ids(&ids);
        let claimed = self.execute(&sql)?;
        if claimed != mine.len() {
            return Err(StoreError::Conflict(format!("claimed {claimed} of {} locked jobs", mine.len())));
        }
        Ok(mine.into_iter().map(|row| row.claimed(1)).collect())
    }

    /// Puts a job in with its dependents, already claimed by `owner`.
    ///
    /// Unless it is by `force`, not while it is paused, nor beyond its limits.
    ///
    /// # Errors
    ///
    /// [`StoreError::HeldBack`] for a pause or a limit. When the database fails. Then nothing was put in.
    pub fn insert_claimed(
        &mut self,
        job: &NewJob,
        limits: Limits<'_>,
        declared: Declared<'_>,
        request: ClaimRequest<'_>,
        is_forced: bool,
    ) -> Result<Claimed, StoreError> {
        let ClaimRequest { queue, owner, host, lease, .. } = request;
        self.insert_once(|tx| {
            let id = tx.insert_with_dependents(job, declared)?;
            if !is_forced {
                tx.require_room(id, (&job.name, queue), limits)?;
            }
            let update = format!(
                "UPDATE duly_job SET state = 'running', fence = 1, attempts = 1, owner = ?, host = ?, \
                 lease_until = {}, started_at = {} WHERE id = ? AND state = 'pending'",
                tx.now_plus(),
                tx.now()
            );
            tx.execute(&Sql::new(update).bind(owner).bind(host).bind(micros(lease)).bind(id))?;
            let query = format!("SELECT {CLAIM_COLUMNS} FROM duly_job WHERE id = ?");
            let row = tx.rows::<ClaimRow>(&Sql::new(query).bind(id))?.pop().ok_or_else(no_answer)?;
            Ok(row.claimed(0))
        })
    }

    /// Takes the slots that a job of this name in this queue needs, unless that is paused or at its limit.
    fn require_room(
        &mut self,
        id: i64,
        (name, queue): (&str, &str),
        limits: Limits<'_>,
    ) -> Result<(), StoreError> {
        if let Some(pause) = self.pauses_at_the_gate()?.iter().find(|pause| pause.holds(name, queue)) {
            let why = pause.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            return Err(StoreError::HeldBack(format!(
                "`{name}` is paused ({}){why}; `duly resume` ends that",
                pause.scope
            )));
        }
        if !limits.hold_for(name) {
            return Ok(());
        }
        let mut free = self.free_slots(queue, limits)?;
        let query = format!("SELECT {CLAIM_COLUMNS} FROM duly_job WHERE id = ?");
        let row = self.rows::<ClaimRow>(&Sql::new(query).bind(id))?.pop().ok_or_else(no_answer)?;
        if self.take_slots(&row, limits, &mut free)? {
            return Ok(());
        }
        let limited = format!(
            "`{name}` runs as often as its limit or its queue's allows; `duly status` shows what runs"
        );
        Err(StoreError::HeldBack(limited))
    }

    /// Every job that `owner` holds, for a runner that lost its connection while claiming.
    pub fn held_by(&mut self, owner: &str) -> Result<Vec<Claimed>, StoreError> {
        let query = format!("SELECT {CLAIM_COLUMNS} FROM duly_job WHERE state = 'running' AND owner = ?");
        let rows: Vec<ClaimRow> = self.rows(&Sql::new(query).bind(owner))?;
        Ok(rows.into_iter().map(|row| row.claimed(0)).collect())
    }
}
