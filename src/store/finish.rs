//! Recording how attempts ended, and moving their jobs on: over, again later, or again at once.
//!
//! A batch is one transaction. The jobs are locked first and compared with the owner and the fence of the claim: the
//! result of a claim that no longer holds is refused and changes nothing. A result that is written twice, because the
//! answer to the first `COMMIT` was lost, is recognised by its row in `duly_attempt`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable};
use serde::{Deserialize, Serialize};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::output::Output;
use super::sql::AnyText as Text;
use super::sql::{Sql, Value, id_marks, marks};
use crate::job::{Outcome, State, Verdict};

/// When an attempt began, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartedAt {
    /// So long ago, by the runner's monotonic clock.
    Ago(Duration),
    /// When the claim was made, by the database's clock.
    At(Option<DateTime<Utc>>),
}

/// How one attempt ended, and what is to become of its job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// The job.
    pub id: i64,
    /// The fence of the claim.
    pub fence: i64,
    /// The runner that held the claim, and its host.
    pub owner: String,
    /// The host of that runner.
    pub host: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What that means for the job.
    pub verdict: Verdict,
    /// When it began.
    pub started: StartedAt,
    /// How long it ran.
    pub ran: Option<Duration>,
    /// How long ago it ended.
    pub ended_ago: Duration,
    /// What its command printed, if anything.
    pub output: Option<Output>,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Finished {
    /// Results of claims that no longer hold: nothing was written of them.
    pub refused: Vec<(i64, i64)>,
    /// How each job stands now, of those whose results were written.
    pub moved: Vec<(i64, State)>,
    /// Whether jobs wait for any of those that are over.
    pub has_dependents: bool,
}

#[derive(QueryableByName)]
struct Current {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = BigInt)]
    fence: i64,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<Text>)]
    owner: Option<String>,
    #[diesel(sql_type = BigInt)]
    cancel: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    root_id: Option<i64>,
    #[diesel(sql_type = BigInt)]
    children: i64,
    #[diesel(sql_type = Nullable<Text>)]
    hooks: Option<String>,
}

/// A result whose claim holds, and what is known of its job.
struct Holding<'a> {
    end: &'a AttemptEnd,
    verdict: Verdict,
    root_id: Option<i64>,
    has_children: bool,
    has_hooks: bool,
}

#[derive(QueryableByName)]
struct Written {
    #[diesel(sql_type = BigInt)]
    fence: i64,
}

#[derive(QueryableByName)]
struct Owner {
    #[diesel(sql_type = Text)]
    owner: String,
}

impl Store {
    /// Writes a batch of results and settles what waited for them. Locks the jobs of the batch.
    ///
    /// # Errors
    ///
    /// When the database fails; the same batch may then be given again.
    pub fn finish(&mut self, ends: &[AttemptEnd]) -> Result<Finished, StoreError> {
        let finished = self.unit(|tx| tx.record_ends(ends))?;
        if finished.has_dependents {
            self.settle_soon();
        }
        Ok(finished)
    }

    /// Gives jobs that were claimed and never started back to the queue, as if they had not been claimed.
    ///
    /// One whose cancellation was asked for is cancelled by that.
    ///
    /// # Errors
    ///
    /// When the database fails; the same jobs may then be given back again.
    pub fn hand_back(&mut self, owner: &str, claims: &[(i64, i64)]) -> Result<(), StoreError> {
        self.unit(|tx| {
            for (id, fence) in claims {
                let update = "UPDATE duly_job SET state = 'pending', attempts = attempts - 1, owner = NULL, \
                              lease_until = NULL, slot_key = NULL, name_slot_key = NULL \
                              WHERE id = ? AND state = 'running' AND owner = ? AND fence = ?";
                tx.execute(&Sql::new(update).bind(*id).bind(owner).bind(*fence))?;
            }
            // To whoever cancelled a root, a child that had not begun looked as if it had.
            let ids: Vec<i64> = claims.iter().map(|(id, _)| *id).collect();
            let mut has_cancelled = tx.cancel_if_asked(&ids)?;
            for (id, root) in tx.roots_of(&ids)? {
                has_cancelled |= tx.cancel_with_root(id, root)?;
            }
            Ok(has_cancelled)
        })
        .map(|has_cancelled| {
            if has_cancelled {
                self.settle_soon();
            }
        })
    }

    /// The part of [`Store::finish`] that is one transaction; also used by rescue.
    pub(super) fn record_ends(&mut self, ends: &[AttemptEnd]) -> Result<Finished, StoreError> {
        let mut finished = Finished::default();
        let holds = self.still_held(ends, &mut finished)?;
        let (mut over, mut children, mut hooked) = (Vec::new(), Vec::new(), Vec::new());
        let mut alike: BTreeMap<String, (State, Vec<&AttemptEnd>)> = BTreeMap::new();
        for Holding { end, verdict, root_id, has_children, has_hooks } in &holds {
            match verdict {
                Verdict::End(own) if *has_children => {
                    finished.moved.push((end.id, State::Running));
                    finished.has_dependents = true;
                    self.wait_for_children(end, *own)?;
                }
                Verdict::End(state) => {
                    finished.moved.push((end.id, *state));
                    over.push(end.id);
                    hooked.extend(has_hooks.then_some(end.id));
                    children.extend(root_id.map(|root| (end.id, root)));
                    let key = format!("{state} {} {:?} {}", end.owner, end.outcome, uncounted(end));
                    alike.entry(key).or_insert((*state, Vec::new())).1.push(end);
                }
                Verdict::Retry(_) | Verdict::Again | Verdict::Later(_) => {
                    finished.moved.push((end.id, state_after(*verdict)));
                    self.move_back(end, *verdict)?;
                }
            }
        }
        for (state, group) in alike.values() {
            self.move_to_end(group, *state)?;
        }
        let written: Vec<&AttemptEnd> = holds.iter().map(|holding| holding.end).collect();
        self.insert_attempts(&written)?;
        self.insert_outputs(&written)?;
        self.start_hooks(&hooked)?;
        finished.has_dependents |= self.mark_roots(&children)?;
        finished.has_dependents |= self.mark_dependents(&over)?;
        Ok(finished)
    }

    /// A root whose command has ended: it stays `running` without an owner until its children have ended too.
    fn wait_for_children(&mut self, end: &AttemptEnd, own: State) -> Result<(), StoreError> {
        let now = self.now();
        let update = format!(
            "UPDATE duly_job SET own_end = ?, attempts = attempts - ?, outcome = ?, exit_code = ?, signal_number = ?, reason = COALESCE(?, reason), \
             duration_ms = ?, noted_at = {now}, owner = NULL, lease_until = {now}, slot_key = NULL, name_slot_key = NULL \
             WHERE id = ? AND state = 'running' AND owner = ? AND fence = ?"
        );
        let sql = Sql::new(update)
            .bind(own.as_str())
            .bind(uncounted(end))
            .bind_all(outcome_values(&end.outcome))
            .bind(millis(end.ran))
            .bind(end.id)
            .bind(&end.owner)
            .bind(end.fence);
        self.expect(&sql, 1)
    }

    /// Locks the jobs and keeps the results whose claim still holds; a cancelled job is not tried again.
    fn still_held<'a>(
        &mut self,
        ends: &'a [AttemptEnd],
        finished: &mut Finished,
    ) -> Result<Vec<Holding<'a>>, StoreError> {
        let query = format!(
            "SELECT id, fence, state, owner, CASE WHEN cancel_requested_at IS NULL THEN 0 ELSE 1 END AS cancel, \
             root_id, children, hooks FROM duly_job WHERE id IN ({}) ORDER BY id{}",
            id_marks(ends.len()),
            self.for_update()
        );
        let ids: Vec<i64> = ends.iter().map(|end| end.id).collect();
        let rows: Vec<Current> = self.rows(&Sql::new(query).bind_ids(&ids))?;
        let mut holds = Vec::with_capacity(ends.len());
        for end in ends {
            let row = rows.iter().find(|row| {
                row.id == end.id
                    && row.state == "running"
                    && row.fence == end.fence
                    && row.owner.as_deref() == Some(&end.owner)
            });
            if let Some(row) = row {
                // Whoever cancelled it has been told that it is; nothing that waits for its success may begin, though its command
                // came to an end before it was told to stop.
                let verdict = if row.cancel == 1 { Verdict::End(State::Cancelled) } else { end.verdict };
                holds.push(Holding {
                    end,
                    verdict,
                    root_id: row.root_id,
                    has_children: row.children > 0,
                    has_hooks: row.hooks.is_some(),
                });
            } else if self.is_written(end)? {
                finished.moved.push((end.id, state_after(end.verdict)));
            } else {
                finished.refused.push((end.id, end.fence));
            }
        }
        Ok(holds)
    }

    fn is_written(&mut self, end: &AttemptEnd) -> Result<bool, StoreError> {
        let query = Sql::new(
            "SELECT fence FROM duly_attempt WHERE job_id = ? AND fence = ? AND owner = ? AND outcome = ?",
        )
        .bind(end.id)
        .bind(end.fence)
        .bind(&end.owner)
        .bind(end.outcome.as_str());
        let written: Vec<Written> = self.rows(&query)?;
        Ok(written.iter().any(|row| row.fence == end.fence))
    }

    /// Jobs that ended alike, all in one statement.
    fn move_to_end(&mut self, group: &[&AttemptEnd], state: State) -> Result<(), StoreError> {
        let Some(first) = group.first() else { return Ok(()) };
        // Who cancelled it is noted already.
        let reason = if state == State::Cancelled { "COALESCE(reason, ?)" } else { "?" };
        let update = format!(
            "UPDATE duly_job SET state = ?, attempts = attempts - ?, outcome = ?, exit_code = ?, signal_number = ?, reason = {reason}, \
             duration_ms = CASE id{} END, finished_at = {}, owner = NULL, lease_until = NULL, unique_key = NULL, \
             slot_key = NULL, name_slot_key = NULL WHERE id IN ({}) AND state = 'running' AND owner = ?",
            " WHEN ? THEN ?".repeat(group.len()),
            self.now(),
            marks(group.len())
        );
        let sql = Sql::sized(update, group.len())
            .bind(state.as_str())
            .bind(uncounted(first))
            .bind_all(outcome_values(&first.outcome))
            .bind_all(group.iter().flat_map(|end| [Value::from(end.id), Value::from(millis(end.ran))]))
            .bind_all(group.iter().map(|end| end.id))
            .bind(&first.owner);
        self.expect(&sql, group.len())
    }

    /// A job that is tried again, later (the attempt counted) or at once (it did not).
    fn move_back(&mut self, end: &AttemptEnd, verdict: Verdict) -> Result<(), StoreError> {
        let (state, wait, uncounted) = match verdict {
            Verdict::Retry(wait) if !wait.is_zero() => ("delayed", wait, 0),
            Verdict::Retry(_) => ("pending", Duration::ZERO, 0),
            Verdict::Later(wait) => ("delayed", wait, 1),
            Verdict::Again | Verdict::End(_) => ("pending", Duration::ZERO, 1),
        };
        let update = format!(
            "UPDATE duly_job SET state = ?, run_at = {}, attempts = attempts - ?, outcome = ?, exit_code = ?, \
             signal_number = ?, reason = ?, duration_ms = ?, owner = NULL, lease_until = NULL, slot_key = NULL, name_slot_key = NULL \
             WHERE id = ? AND state = 'running' AND owner = ? AND fence = ?",
            self.now_plus()
        );
        let sql = Sql::new(update)
            .bind(state)
            .bind(micros(wait))
            .bind(uncounted)
            .bind_all(outcome_values(&end.outcome))
            .bind(millis(end.ran))
            .bind(end.id)
            .bind(&end.owner)
            .bind(end.fence);
        self.expect(&sql, 1)
    }

    fn expect(&mut self, sql: &Sql, rows: usize) -> Result<(), StoreError> {
        match self.execute(sql)? {
            matched if matched == rows => Ok(()),
            matched => Err(StoreError::Conflict(format!("{matched} of {rows} locked jobs were still held"))),
        }
    }

    fn insert_attempts(&mut self, ends: &[&AttemptEnd]) -> Result<(), StoreError> {
        match self.insert_attempt_rows(ends) {
            Err(StoreError::Duplicate(_)) => {
                let free = self.make_room(ends)?;
                self.insert_attempt_rows(&free)
            }
            done => done,
        }
    }

    /// Ids begin again where the table of jobs was emptied, and come again where a backup was restored. What is recorded of another
    /// job of the same id gives way; what is known of this very claim stays, and is told no second time. Returns what is to be
    /// recorded then.
    fn make_room<'a>(&mut self, ends: &[&'a AttemptEnd]) -> Result<Vec<&'a AttemptEnd>, StoreError> {
        let mut free = Vec::with_capacity(ends.len());
        for end in ends {
            let query = "SELECT owner FROM duly_attempt WHERE job_id = ? AND fence = ?";
            let rows: Vec<Owner> = self.rows(&Sql::new(query).bind(end.id).bind(end.fence))?;
            match rows.first() {
                Some(row) if row.owner == end.owner => continue,
                None => {}
                Some(row) => {
                    log::info!(
                        "what is recorded of an earlier job {} (its claim {}, by {}) gives way: ids have begun again",
                        end.id,
                        end.fence,
                        row.owner
                    );
                    let older = "(SELECT created_at FROM duly_job WHERE id = ?)";
                    for (table, at) in [("duly_attempt", "finished_at"), ("duly_output", "updated_at")] {
                        let delete =
                            format!("DELETE FROM {table} WHERE job_id = ? AND (fence = ? OR {at} < {older})");
                        self.execute(&Sql::new(delete).bind(end.id).bind(end.fence).bind(end.id))?;
                    }
                }
            }
            free.push(*end);
        }
        Ok(free)
    }

    fn insert_attempt_rows(&mut self, ends: &[&AttemptEnd]) -> Result<(), StoreError> {
        if ends.is_empty() {
            return Ok(());
        }
        // When it began is known, or how long ago that was.
        let row = |end: &&AttemptEnd| {
            let began = if matches!(end.started, StartedAt::At(_)) { "?" } else { self.now_plus() };
            format!("(?, ?, ?, ?, ?, {began}, {}, ?, ?, ?, ?, ?)", self.now_plus())
        };
        let insert = format!(
            "INSERT INTO duly_attempt (job_id, fence, attempt, owner, host, started_at, finished_at, duration_ms, \
             outcome, exit_code, signal_number, reason) VALUES {}",
            ends.iter().map(row).collect::<Vec<_>>().join(", ")
        );
        let values = ends.iter().flat_map(|end| {
            let began = match end.started {
                StartedAt::Ago(ago) => Value::from(-micros(ago)),
                StartedAt::At(at) => at.into(),
            };
            [
                Value::from(end.id),
                end.fence.into(),
                end.attempt.into(),
                (&end.owner).into(),
                (&end.host).into(),
                began,
                (-micros(end.ended_ago)).into(),
                millis(end.ran).into(),
            ]
            .into_iter()
            .chain(outcome_values(&end.outcome))
        });
        self.execute(&Sql::sized(insert, ends.len()).bind_all(values)).map(drop)
    }

    fn insert_outputs(&mut self, ends: &[&AttemptEnd]) -> Result<(), StoreError> {
        // One row per statement: together they could be larger than a packet may be.
        for end in ends {
            if let Some(output) = &end.output {
                self.put_output(end.id, end.fence, output)?;
            }
        }
        Ok(())
    }
}

/// What an attempt that does not count takes back of the claim's count. Also of a job that ends by it, since it was to be cancelled;
/// but one that is given up for it has been begun.
fn uncounted(end: &AttemptEnd) -> i64 {
    i64::from(end.outcome == Outcome::Interrupted && end.verdict != Verdict::End(State::Stale))
}

const fn state_after(verdict: Verdict) -> State {
    match verdict {
        Verdict::End(state) => state,
        Verdict::Later(_) => State::Delayed,
        Verdict::Retry(wait) if !wait.is_zero() => State::Delayed,
        Verdict::Retry(_) | Verdict::Again => State::Pending,
    }
}

fn millis(length: Option<Duration>) -> Option<i64> {
    length.map(|length| i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

/// The columns `outcome`, `exit_code`, `signal_number` and `reason`.
fn outcome_values(outcome: &Outcome) -> [Value; 4] {
    let reason = outcome.reason().map(|reason| clip(&reason));
    [outcome.as_str().into(), outcome.exit_code().into(), outcome.signal().into(), reason.into()]
}

/// A reason that fits its column.
pub(super) fn clip(reason: &str) -> String {
    reason.chars().take(500).collect()
}
