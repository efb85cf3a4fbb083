//! Giving back what a runner that vanished held.

use super::sql::AnyTime as Timestamp;
use chrono::NaiveDateTime;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable};
use std::time::Duration;

use super::enqueue::micros;
use super::error::StoreError;
use super::finish::{AttemptEnd, Finished, StartedAt, clip};
use super::handle::Store;
use super::output::Output;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, id_marks, utc};
use crate::job::{Outcome, State, Verdict};

/// How long after the end of a lease a job is taken from its runner: the clocks of two servers of a cluster differ.
const SLACK: Duration = Duration::from_secs(10);

/// Jobs rescued in one transaction.
const BATCH: usize = 50;

/// A job whose runner has vanished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The job.
    pub id: i64,
    /// The name of its definition.
    pub name: String,
    /// The fence of the claim that ended.
    pub fence: i64,
    /// The runner, and its host.
    pub owner: String,
    /// The runner's host.
    pub host: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// Attempts at most.
    pub max_attempts: u32,
    /// How many of its attempts were orphaned before.
    pub orphaned: u32,
    /// What it is now that it was rescued.
    pub became: Option<State>,
    started_at: Option<NaiveDateTime>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    fence: i64,
    #[diesel(sql_type = Nullable<Text>)]
    owner: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Nullable<Integer>)]
    max_attempts: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    started_at: Option<NaiveDateTime>,
    #[diesel(sql_type = BigInt)]
    orphaned: i64,
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

const COLUMNS: &str = "id, name, fence, owner, host, attempts, max_attempts, started_at, \
    (SELECT COUNT(*) FROM duly_attempt a WHERE a.job_id = duly_job.id AND a.outcome = 'orphaned') AS orphaned";

/// What is orphaned, before the time that the lease must have ended by.
const EXPIRED: &str = "state = 'running' AND lease_until <";

/// Decides what becomes of a job that was orphaned, and brings what its command had printed, if it can be had; `None` leaves
/// the job as it is.
pub(crate) type Judge<'a> = &'a mut dyn FnMut(&Expired) -> Option<(Verdict, Option<Output>)>;

impl Store {
    /// The names of the jobs whose leases ended more than [`SLACK`] ago, as many times as there are. Locks nothing.
    pub fn expired_names(&mut self) -> Result<Vec<String>, StoreError> {
        let query = format!(
            "SELECT name FROM duly_job WHERE state = 'running' AND lease_until < {} AND owner IS NOT NULL",
            self.now_plus()
        );
        let rows: Vec<Name> = self.rows(&Sql::new(query).bind(-micros(SLACK)))?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Ends the attempts whose lease ended more than [`SLACK`] ago, as `judge` decides; not those of the jobs `but`. Adds what the
    /// database refuses to `refused`, with the reason; it holds none of the others up.
    ///
    /// Looks and judges without a lock. Then locks the jobs, those that another tick is rescuing left out, and ends those that are
    /// still as they were.
    ///
    /// # Errors
    ///
    /// When the database is away; what was rescued before stays rescued.
    pub fn rescue(
        &mut self,
        but: &[i64],
        judge: Judge<'_>,
        refused: &mut Vec<(AttemptEnd, StoreError)>,
    ) -> Result<Vec<Expired>, StoreError> {
        let (mut rescued, mut but) = (Vec::new(), but.to_vec());
        loop {
            let without = if but.is_empty() {
                String::new()
            } else {
                format!(" AND id NOT IN ({})", id_marks(but.len()))
            };
            let query = format!(
                "SELECT {COLUMNS} FROM duly_job WHERE {EXPIRED} {} AND owner IS NOT NULL{without} ORDER BY lease_until, id LIMIT {BATCH}",
                self.now_plus()
            );
            let mut sql = Sql::new(query).bind(-micros(SLACK));
            if !but.is_empty() {
                sql = sql.bind_ids(&but);
            }
            let rows: Vec<Row> = self.rows(&sql)?;
            let known = but.len();
            // What was left as it is, or cannot be moved since it was edited by hand perhaps, must not keep this going.
            for row in &rows {
                if !but.contains(&row.id) {
                    but.push(row.id);
                }
            }
            if but.len() == known {
                return Ok(rescued);
            }
            let judged = judged(rows, judge);
            rescued.extend(self.end_orphans(judged, true, refused)?);
        }
    }

    /// Ends the attempts of a runner that is known to be dead, before its leases end. `owner` is its identity. As to the rest, as
    /// [`Store::rescue`].
    pub fn rescue_from(
        &mut self,
        owner: &str,
        judge: Judge<'_>,
        refused: &mut Vec<(AttemptEnd, StoreError)>,
    ) -> Result<Vec<Expired>, StoreError> {
        let query =
            format!("SELECT {COLUMNS} FROM duly_job WHERE state = 'running' AND owner = ? ORDER BY id");
        let rows: Vec<Row> = self.rows(&Sql::new(query).bind(owner))?;
        let mut judged = judged(rows, judge);
        let mut rescued = Vec::new();
        while !judged.is_empty() {
            let rest = judged.split_off(judged.len().min(BATCH));
            rescued.extend(self.end_orphans(std::mem::replace(&mut judged, rest), false, refused)?);
        }
        Ok(rescued)
    }

    /// Ends attempts, all in one transaction, or one by one where that is refused; returns those that were as they were found.
    fn end_orphans(
        &mut self,
        judged: Vec<(Expired, AttemptEnd)>,
        is_by_lease: bool,
        refused: &mut Vec<(AttemptEnd, StoreError)>,
    ) -> Result<Vec<Expired>, StoreError> {
        if judged.is_empty() {
            return Ok(Vec::new());
        }
        let done = self.unit(|tx| {
            let mut ends: Vec<AttemptEnd> = judged.iter().map(|(_, end)| end.clone()).collect();
            if is_by_lease {
                let ids: Vec<i64> = ends.iter().map(|end| end.id).collect();
                let query = format!(
                    "SELECT id FROM duly_job WHERE {EXPIRED} {} AND id IN ({}) ORDER BY id{}",
                    tx.now_plus(),
                    id_marks(ids.len()),
                    tx.skip_locked()
                );
                let still: Vec<Id> = tx.rows(&Sql::new(query).bind(-micros(SLACK)).bind_ids(&ids))?;
                ends.retain(|end| still.iter().any(|row| row.id == end.id));
            }
            if ends.is_empty() { Ok(Finished::default()) } else { tx.record_ends(&ends) }
        });
        match done {
            Ok(finished) => {
                if finished.has_dependents {
                    self.settle_soon();
                }
                let became =
                    |id| finished.moved.iter().find(|(moved, _)| *moved == id).map(|(_, state)| *state);
                let moved = judged.into_iter().map(|(job, _)| Expired { became: became(job.id), ..job });
                Ok(moved.filter(|job| job.became.is_some()).collect())
            }
            Err(err @ (StoreError::Away(_) | StoreError::Conflict(_))) => Err(err),
            Err(_) if judged.len() > 1 => {
                let mut moved = Vec::new();
                for one in judged {
                    moved.extend(self.end_orphans(vec![one], is_by_lease, refused)?);
                }
                Ok(moved)
            }
            Err(why) => {
                refused.extend(judged.into_iter().map(|(_, end)| end).zip([why]));
                Ok(Vec::new())
            }
        }
    }

    /// Says of a job that was given up why it was.
    pub fn explain_stale(&mut self, id: i64, why: &str) -> Result<(), StoreError> {
        let update = Sql::new("UPDATE duly_job SET reason = ? WHERE id = ? AND state = 'stale'");
        self.unit(|tx| tx.execute(&update.clone().bind(clip(why)).bind(id))).map(drop)
    }
}

/// What is to become of each, without what is to be left as it is.
fn judged(rows: Vec<Row>, judge: Judge<'_>) -> Vec<(Expired, AttemptEnd)> {
    let one = |row: Row| {
        let job = Expired::from(row);
        let (verdict, output) = judge(&job)?;
        let end = AttemptEnd {
            id: job.id,
            fence: job.fence,
            owner: job.owner.clone(),
            host: job.host.clone(),
            attempt: job.attempt,
            outcome: Outcome::Orphaned,
            verdict,
            started: StartedAt::At(utc(job.started_at)),
            ran: None,
            ended_ago: Duration::ZERO,
            output,
        };
        Some((job, end))
    };
    rows.into_iter().filter_map(one).collect()
}

impl From<Row> for Expired {
    fn from(row: Row) -> Self {
        let count = |number: i32| u32::try_from(number).unwrap_or(1);
        Self {
            id: row.id,
            name: row.name,
            fence: row.fence,
            owner: row.owner.unwrap_or_default(),
            host: row.host.unwrap_or_default(),
            attempt: count(row.attempts),
            max_attempts: count(row.max_attempts.unwrap_or(1)),
            orphaned: u32::try_from(row.orphaned).unwrap_or(u32::MAX),
            became: None,
            started_at: row.started_at,
        }
    }
}
