//! Root jobs and their children: two levels, and a root that ends when its own command and all children have.
//!
//! While its command runs, a root is leased like any job. When that has ended and children have not, it stays
//! `running` without an owner; how its command ended is in `own_end`, and `lease_until` says when to look at it. Whoever
//! ends a child locks its root first and sets that to now: so either the end of the root's command, which needs the
//! same lock, comes later and sees the child's end, or the mark is found. As with dependents, no wake-up is lost.

use std::time::Duration;

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};

use super::dependents::LOOK_AGAIN;
use super::enqueue::{Declared, NewJob, micros};
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::rounds::Rounds;
use super::sql::AnyText as Text;
use super::sql::{Id, OPEN, Sql, StoredTime, id_marks};
use crate::job::{MaybeTarget, On, State};

/// Roots looked at in one transaction.
const BATCH: usize = 32;

#[derive(QueryableByName)]
struct Root {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Text>)]
    own_end: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    time_before_stale_ms: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    alive_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Made {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    is_earlier: i64,
}

#[derive(QueryableByName)]
struct Caller {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    fence: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    root_id: Option<i64>,
    #[diesel(sql_type = BigInt)]
    is_cancelled: i64,
    #[diesel(sql_type = Nullable<Text>)]
    target_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    target_id: Option<String>,
}

#[derive(QueryableByName)]
struct Children {
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = BigInt)]
    jobs: i64,
    #[diesel(sql_type = BigInt)]
    alive: i64,
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    last_sign: Option<DateTime<Utc>>,
}

/// The job that calls, from within its command: its id and the fence of its claim.
pub type Calling = (i64, i64);

impl Store {
    /// Adds a child to the job that calls, with the dependents of its definition; they are its children too.
    ///
    /// A child's name with its params and target is unique within its root, also after it has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::HeldBack`] when the caller's claim no longer holds or it is being cancelled,
    /// [`StoreError::Unknown`] when the caller is a child itself, [`StoreError::Taken`] for a second one.
    pub fn add_child(
        &mut self,
        calling: Calling,
        job: &NewJob,
        declared: Declared<'_>,
    ) -> Result<i64, StoreError> {
        let root = calling.0;
        let key = key_within(root, "child", job);
        self.insert_once(|tx| {
            tx.require_root(calling)?;
            if let Some(id) = tx.made_before(root, &key, job)? {
                return Ok(id);
            }
            let child = NewJob { root_id: Some(root), occurrence_key: Some(key.clone()), ..job.clone() };
            let (id, made) = tx.insert_family(&child, declared)?;
            let count = Sql::new("UPDATE duly_job SET children = children + ? WHERE id = ?");
            tx.execute(&count.bind(i64::try_from(made).unwrap_or(i64::MAX)).bind(root))?;
            Ok(id)
        })
    }

    /// Puts a job in that starts when the root that calls has ended as success or as failed, or as `on` says; about the same target.
    pub fn add_dependent(
        &mut self,
        calling: Calling,
        on: On,
        job: &NewJob,
        declared: Declared<'_>,
    ) -> Result<i64, StoreError> {
        let key = key_within(calling.0, "dependent", job);
        let job = NewJob { after: vec![(calling.0, on)], occurrence_key: Some(key.clone()), ..job.clone() };
        self.insert_once(|tx| {
            let target = tx.require_root(calling)?;
            if let Some(id) = tx.made_before(calling.0, &key, &job)? {
                return Ok(id);
            }
            let job = job.clone();
            let job = match declared(&job.name) {
                Some(definition) => job.about(&target, definition),
                None => job,
            };
            tx.insert_with_dependents(&job, declared)
        })
    }

    /// The job under `key`, if there is one: as if it had been made now, if an earlier attempt of the root has made it; a
    /// second one, if this attempt has. Looked for before the insert, since the root is locked, and since of two keys that
    /// are taken a server names the one it likes.
    fn made_before(&mut self, root: i64, key: &str, job: &NewJob) -> Result<Option<i64>, StoreError> {
        let query = "SELECT j.id, CASE WHEN j.created_at < r.started_at THEN 1 ELSE 0 END AS is_earlier \
                     FROM duly_job j JOIN duly_job r ON r.id = ? WHERE j.occurrence_key = ?";
        match self.rows::<Made>(&Sql::new(query).bind(root).bind(key))?.pop() {
            None => Ok(None),
            Some(found) if found.is_earlier == 1 => Ok(Some(found.id)),
            Some(found) => Err(StoreError::Taken { id: found.id, name: job.name.clone() }),
        }
    }

    /// Notes how far the job that calls has come.
    ///
    /// # Errors
    ///
    /// [`StoreError::HeldBack`] when its claim no longer holds.
    pub fn set_progress(
        &mut self,
        calling: Calling,
        percent: u8,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let update = "UPDATE duly_job SET progress = ?, progress_text = ? \
                      WHERE id = ? AND fence = ? AND state = 'running' AND owner IS NOT NULL";
        let sql =
            Sql::new(update).bind(i32::from(percent)).bind(text.map(clip)).bind(calling.0).bind(calling.1);
        match self.unit(|tx| tx.execute(&sql))? {
            0 => Err(no_claim(calling)),
            _ => Ok(()),
        }
    }

    /// Locks the job that calls and makes sure that it may have children; returns what it is about.
    fn require_root(&mut self, calling: Calling) -> Result<MaybeTarget, StoreError> {
        let query = format!(
            "SELECT state, fence, root_id, CASE WHEN cancel_requested_at IS NULL THEN 0 ELSE 1 END AS is_cancelled, \
             target_type, target_id FROM duly_job WHERE id = ?{}",
            self.for_update()
        );
        let caller = self.rows::<Caller>(&Sql::new(query).bind(calling.0))?.pop();
        let Some(caller) = caller.filter(|job| job.state == "running" && job.fence == calling.1) else {
            return Err(no_claim(calling));
        };
        if let Some(root) = caller.root_id {
            return Err(StoreError::Unknown(format!(
                "job {} is a child of job {root}, and a child has neither children nor dependents of its own making",
                calling.0
            )));
        }
        if caller.is_cancelled != 0 {
            return Err(StoreError::HeldBack(format!("job {} is being cancelled", calling.0)));
        }
        Ok((caller.target_type, caller.target_id))
    }

    /// Locks the roots of children that are about to end, marks those whose command is done, and counts. Part of the
    /// unit that ends the children; returns whether a root was marked.
    pub(super) fn mark_roots(&mut self, ended: &[(i64, i64)]) -> Result<bool, StoreError> {
        let mut marked = false;
        let mut roots: Vec<i64> = ended.iter().map(|(_, root)| *root).collect();
        roots.sort_unstable();
        roots.dedup();
        for root in roots {
            let lock = format!("SELECT id FROM duly_job WHERE id = ?{}", self.for_update());
            self.rows::<Id>(&Sql::new(lock).bind(root))?;
            let count = ended.iter().filter(|(_, of)| *of == root).count();
            let update = format!(
                "UPDATE duly_job SET children_ended = children_ended + ?, \
                 lease_until = CASE WHEN state = 'running' AND owner IS NULL THEN {} ELSE lease_until END \
                 WHERE id = ?",
                self.now()
            );
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            marked |= self.execute(&Sql::new(update).bind(count).bind(root))? > 0;
        }
        Ok(marked)
    }

    /// Cancels a startable child if its root has been cancelled; returns whether it was. Part of a unit.
    pub(super) fn cancel_with_root(&mut self, id: i64, root: i64) -> Result<bool, StoreError> {
        let update = format!(
            "UPDATE duly_job SET state = 'cancelled', outcome = 'cancelled', reason = 'its root was cancelled', \
             finished_at = {}, unique_key = NULL WHERE id = ? AND state = 'pending' AND EXISTS (SELECT 1 FROM \
             (SELECT cancel_requested_at FROM duly_job WHERE id = ? LIMIT 1) AS root WHERE cancel_requested_at IS NOT NULL)",
            self.now()
        );
        if self.execute(&Sql::new(update).bind(id).bind(root))? == 0 {
            return Ok(false);
        }
        self.mark_roots(&[(id, root)])?;
        self.mark_dependents(&[id])?;
        Ok(true)
    }

    /// Ends every marked root whose children have all ended, or that has become stale; returns how many.
    ///
    /// # Errors
    ///
    /// When the database fails; what was settled before stays settled.
    pub fn settle_roots(&mut self) -> Result<usize, StoreError> {
        let (mut moved, mut rounds) = (0, Rounds::of("settling roots"));
        loop {
            let (looked_at, ended) = self.unit(Self::settle_roots_batch)?;
            rounds.turn(looked_at)?;
            moved += ended;
            if looked_at.is_none() {
                return Ok(moved);
            }
        }
    }

    fn settle_roots_batch(&mut self) -> Result<(Option<i64>, usize), StoreError> {
        let query = format!(
            "SELECT id, own_end, time_before_stale_ms, COALESCE(noted_at, started_at) AS alive_at FROM duly_job \
             WHERE state = 'running' AND lease_until <= {} AND owner IS NULL ORDER BY lease_until, id LIMIT {BATCH}{}",
            self.now(),
            self.skip_locked()
        );
        let roots: Vec<Root> = self.rows(&Sql::new(query))?;
        let now = if roots.is_empty() { DateTime::<Utc>::MIN_UTC } else { self.time()? };
        let mut ended = Vec::new();
        for root in &roots {
            let is_open = self.has_open_child(root.id)?;
            // Counted only where it matters: a large family is looked at after each of its members has ended.
            let children = if is_open && root.time_before_stale_ms.is_none() {
                Vec::new()
            } else {
                self.children_by_state(root.id)?
            };
            if !is_open {
                self.end_root(root.id, end_of(root, &children), None)?;
                ended.push(root.id);
                continue;
            }
            let wait = LOOK_AGAIN.min(time_until_stale(root, &children, now));
            if wait.is_zero() {
                self.end_stale(root.id)?;
                ended.push(root.id);
            } else {
                let update = format!("UPDATE duly_job SET lease_until = {} WHERE id = ?", self.now_plus());
                self.execute(&Sql::new(update).bind(micros(wait)).bind(root.id))?;
            }
        }
        self.start_hooks(&ended)?;
        self.mark_dependents(&ended)?;
        Ok((roots.first().map(|root| root.id), ended.len()))
    }

    fn has_open_child(&mut self, root: i64) -> Result<bool, StoreError> {
        let query = format!("SELECT id FROM duly_job WHERE root_id = ? AND state IN {OPEN} LIMIT 1");
        Ok(!self.rows::<Id>(&Sql::new(query).bind(root))?.is_empty())
    }

    fn children_by_state(&mut self, root: i64) -> Result<Vec<Children>, StoreError> {
        let now = self.now();
        let query = format!(
            "SELECT state, COUNT(*) AS jobs, \
             CAST(SUM(CASE WHEN state = 'running' AND lease_until > {now} THEN 1 ELSE 0 END) AS SIGNED) AS alive, \
             MAX(CASE WHEN finished_at IS NOT NULL THEN finished_at WHEN state = 'running' THEN lease_until \
             ELSE COALESCE(run_at, created_at) END) AS last_sign FROM duly_job WHERE root_id = ? GROUP BY state"
        );
        self.rows(&Sql::new(query).bind(root))
    }

    fn end_root(&mut self, id: i64, state: State, reason: Option<&str>) -> Result<(), StoreError> {
        let update = format!(
            "UPDATE duly_job SET state = ?, finished_at = {}, lease_until = NULL, unique_key = NULL, \
             reason = COALESCE(?, reason), progress = CASE WHEN ? = 'success' THEN 100 ELSE progress END \
             WHERE id = ? AND state = 'running' AND owner IS NULL",
            self.now()
        );
        let sql = Sql::new(update).bind(state.as_str()).bind(reason.map(clip)).bind(state.as_str()).bind(id);
        self.execute(&sql).map(drop)
    }

    /// Gives a root up, with its children that have not ended; their late results are refused.
    fn end_stale(&mut self, root: i64) -> Result<(), StoreError> {
        self.end_root(root, State::Stale, Some("it showed no sign of life for its time_before_stale"))?;
        let query =
            format!("SELECT id FROM duly_job WHERE root_id = ? AND state IN {OPEN}{}", self.for_update());
        let children: Vec<i64> =
            self.rows::<Id>(&Sql::new(query).bind(root))?.into_iter().map(|row| row.id).collect();
        for chunk in children.chunks(128) {
            let update = format!(
                "UPDATE duly_job SET state = 'stale', reason = 'its root became stale', finished_at = {}, owner = NULL, \
                 lease_until = NULL, unique_key = NULL, slot_key = NULL, name_slot_key = NULL \
                 WHERE id IN ({}) AND state IN {OPEN}",
                self.now(),
                id_marks(chunk.len())
            );
            self.execute(&Sql::new(update).bind_ids(chunk))?;
            self.start_hooks(chunk)?;
            self.mark_dependents(chunk)?;
        }
        Ok(())
    }

    /// The children of `root` that have not ended, and whether each is running.
    pub fn open_children(&mut self, root: i64) -> Result<Vec<(i64, State)>, StoreError> {
        let query =
            format!("SELECT id, state FROM duly_job WHERE root_id = ? AND state IN {OPEN} ORDER BY id DESC");
        let rows: Vec<super::enqueue::IdAndState> = self.rows(&Sql::new(query).bind(root))?;
        Ok(rows.into_iter().map(|row| (row.id, state_of(&row.state))).collect())
    }
}

/// What makes a job of a root one job: its name with its parameters and target.
fn key_within(root: i64, what: &str, job: &NewJob) -> String {
    let all = serde_json::json!([job.params, job.target.0, job.target.1]).to_string();
    format!("{what}:{root}:{}:{:016x}", job.name, crate::job::fnv1a(all.as_bytes()))
}

fn no_claim((id, fence): Calling) -> StoreError {
    StoreError::HeldBack(format!(
        "job {id} no longer runs under claim {fence}: it was taken from this process, or has ended"
    ))
}

fn state_of(word: &str) -> State {
    word.parse().unwrap_or(State::New)
}

/// No look is put off for longer; the database's times end somewhere.
const LONGEST_LOOK: Duration = Duration::from_secs(30 * 86_400);

/// How long until a root is stale that shows no further sign of life; a child whose runner is alive is one.
fn time_until_stale(root: &Root, children: &[Children], now: DateTime<Utc>) -> Duration {
    // Whoever may write the column may write anything.
    let Some(limit) = root.time_before_stale_ms.and_then(|ms| TimeDelta::try_milliseconds(ms.max(0))) else {
        return LOOK_AGAIN;
    };
    if children.iter().any(|row| row.alive > 0) {
        return limit.to_std().unwrap_or(LOOK_AGAIN).min(LONGEST_LOOK);
    }
    let last = children.iter().filter_map(|row| row.last_sign).chain(root.alive_at).max().unwrap_or(now);
    let end = last.checked_add_signed(limit).unwrap_or(DateTime::<Utc>::MAX_UTC);
    (end - now).to_std().unwrap_or(Duration::ZERO).min(LONGEST_LOOK)
}

/// Any cancelled → cancelled, else any failed → failed, else success; its own command counts like a child.
fn end_of(root: &Root, children: &[Children]) -> State {
    let own = root.own_end.as_deref().map(state_of);
    let any = |wanted: &[State]| {
        let has = |row: &&Children| row.jobs > 0 && wanted.contains(&state_of(&row.state));
        children.iter().any(|row| has(&row)) || own.is_some_and(|own| wanted.contains(&own))
    };
    if any(&[State::Cancelled]) {
        State::Cancelled
    } else if any(&[State::Failed, State::Stale]) {
        State::Failed
    } else {
        State::Success
    }
}
