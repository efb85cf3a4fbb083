//! Sending lost orders: which are due, whose turn it is, and what came of each try.
//!
//! An order is claimed by inserting its next attempt, whose number is part of the primary key: of two hosts that try, one
//! gets a duplicate key. The row's `blocks_until` is the lease. A claim reads the order's state after that insert, so
//! that it sees whatever the attempt before it has written. No row of the shop's own table is ever locked while
//! an order is sent; its state is changed by a guarded `UPDATE` in the transaction that records the end of the attempt.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};

use super::connection::Store;
use super::enqueue::micros;
use super::error::StoreError;
use super::finish::clip;
use super::mapping::quoted;
use super::sql::{Sql, Value};
use crate::job::Outcome;
use crate::job::shop::{OrderTable, OrderVerdict};

/// What blocks an order for good, where its table has no word for that.
pub(super) const FOR_EVER: &str = "9999-12-31 23:59:59.000000";

/// The outcome and verdict of a row that says that a person took the order out, or put it back.
pub(super) const REMOVED: &str = "removed";
pub(super) const ADDED: &str = "added";

/// What is noted of an order that the ERP has, while its own table does not say so.
pub const UNWRITTEN: &str = "unwritten";

/// Orders looked up at once.
const PAGE: usize = 1000;

/// Who claims an order.
#[derive(Debug, Clone)]
pub struct Sender<'a> {
    /// A value that no other process ever had.
    pub owner: &'a str,
    /// Its host.
    pub host: &'a str,
    /// The job that it works for.
    pub job_id: Option<i64>,
    /// How long the claim holds.
    pub lease: Duration,
}

/// What came of claiming an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderClaim {
    /// It is to be sent.
    Claimed(ClaimedOrder),
    /// Another has it, or it waits for its next try.
    NotDue,
    /// It is in no state to be sent: this one, in the shop's word; `None` where there is no such order.
    NotLost(Option<String>),
    /// Its last try was left unended by a sender that died, and was its last: it was given up.
    GivenUp,
}

/// An order to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedOrder {
    /// Which.
    pub order_id: String,
    /// The number of this try.
    pub attempt: i32,
    /// How many tries have failed, and counted.
    pub failures: i32,
    /// What is sent.
    pub payload: Vec<u8>,
    /// Whether it had been given up.
    pub was_given_up: bool,
}

/// How a try ended.
#[derive(Debug, Clone)]
pub struct OrderEnd {
    /// How its command ended.
    pub outcome: Outcome,
    /// What that means for the order.
    pub verdict: OrderVerdict,
    /// The wait before the next try.
    pub wait: Duration,
    /// How long the try took.
    pub ran: Duration,
    /// What the ERP said.
    pub answer: Option<String>,
    /// The number that the ERP gave it.
    pub erp_order_id: Option<String>,
    /// What somebody is to be told of it.
    pub tell: Option<&'static str>,
}

/// How much of the end of a try is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderReach {
    /// All of it.
    All,
    /// All but the number that the ERP gave the order, in the shop's own table.
    WithoutNumber,
    /// Nothing of it in the shop's own table, which is noted for later.
    AttemptOnly,
}

/// What became of the end of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderRecorded {
    /// It is written.
    Yes,
    /// It came after the lease, and another has taken the order over: not written.
    TooLate,
    /// The try is written; the order was in another state by then, which was left.
    StateLeft(String),
}

#[derive(QueryableByName)]
struct OrderId {
    #[diesel(sql_type = Nullable<Text>)]
    order_id: Option<String>,
}

#[derive(QueryableByName)]
struct Work {
    #[diesel(sql_type = BigInt)]
    due: i64,
    #[diesel(sql_type = BigInt)]
    untold: i64,
}

/// The latest attempt of an order; number 0 where there is none.
#[derive(Default, QueryableByName)]
pub(super) struct Last {
    #[diesel(sql_type = Integer)]
    pub(super) attempt: i32,
    #[diesel(sql_type = Text)]
    pub(super) owner: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) outcome: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) verdict: Option<String>,
    #[diesel(sql_type = Integer)]
    pub(super) failures: i32,
    #[diesel(sql_type = BigInt)]
    pub(super) is_blocked: i64,
}

#[derive(QueryableByName)]
struct Order {
    #[diesel(sql_type = Nullable<Text>)]
    order_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    state: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    payload: Option<Vec<u8>>,
}

#[derive(QueryableByName)]
struct End {
    #[diesel(sql_type = Nullable<Text>)]
    outcome: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    exit_code: Option<i32>,
}

impl Store {
    /// Whether any order is due or any news of one is untold; reads every column, so that a wrong name is found out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] when the table or a column is not there.
    pub fn has_order_work(&mut self, table: &OrderTable) -> Result<bool, StoreError> {
        let columns: Vec<String> =
            table.columns().iter().map(|(_, column)| format!("{} IS NULL", quoted(column))).collect();
        let query = format!(
            "SELECT EXISTS (SELECT {} FROM {}) AS due, \
             EXISTS (SELECT 1 FROM duly_lost_order_attempt WHERE source = ? AND tell IS NOT NULL) AS untold",
            columns.join(", "),
            self.due_orders(table)
        );
        let sql = Sql::once(query).bind(&table.lost).bind(&table.table).bind(&table.table);
        Ok(self.rows::<Work>(&sql)?.iter().any(|row| row.due + row.untold > 0))
    }

    /// Orders that are due, those first whose last try is longest ago, as many as are looked up at once.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn due_order_ids(&mut self, table: &OrderTable) -> Result<Vec<String>, StoreError> {
        let id = self.as_text(&format!("o.{}", quoted(&table.order_id)));
        let in_turn = if table.is_own { "o.id".to_owned() } else { format!("o.{}", quoted(&table.order_id)) };
        let query = format!(
            "SELECT {id} AS order_id FROM {} ORDER BY \
             (SELECT MAX(b.started_at) FROM duly_lost_order_attempt b WHERE b.source = ? AND b.order_id = {id}), \
             {in_turn} LIMIT {PAGE}",
            self.due_orders(table)
        );
        let sql = Sql::once(query).bind(&table.lost).bind(&table.table).bind(&table.table);
        Ok(self.rows::<OrderId>(&sql)?.into_iter().filter_map(|row| row.order_id).collect())
    }

    /// `FROM` and `WHERE` of orders that are due, with two values: the state's word, and the table's name.
    fn due_orders(&self, table: &OrderTable) -> String {
        format!(
            "{} o WHERE o.{} = ? AND o.{} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM duly_lost_order_attempt a \
             WHERE a.source = ? AND a.order_id = {} AND a.blocks_until > {})",
            quoted(&table.table),
            quoted(&table.state),
            quoted(&table.order_id),
            self.as_text(&format!("o.{}", quoted(&table.order_id))),
            self.now()
        )
    }

    /// How the last `count` tries of any order ended, the latest first: outcome and exit code. Those that were stopped
    /// or left unended are left out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn latest_order_ends(
        &mut self,
        table: &OrderTable,
        count: u32,
    ) -> Result<Vec<(String, Option<i32>)>, StoreError> {
        let query = format!(
            "SELECT outcome, exit_code FROM duly_lost_order_attempt WHERE source = ? AND finished_at IS NOT NULL \
             AND outcome IN ('success', 'exited', 'signalled', 'timed_out', 'not_started') \
             ORDER BY finished_at DESC LIMIT {count}"
        );
        let ends: Vec<End> = self.rows(&Sql::once(query).bind(&table.table))?;
        Ok(ends.into_iter().map(|end| (end.outcome.unwrap_or_default(), end.exit_code)).collect())
    }

    /// Claims an order for one try. `is_named`: a person wants it sent now, whatever its count and its wait.
    ///
    /// Locks the latest attempt of the order.
    ///
    /// # Errors
    ///
    /// When the database fails; given again, it returns what it has claimed.
    pub fn claim_order(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        sender: &Sender<'_>,
        max_failed: u32,
        is_named: bool,
    ) -> Result<OrderClaim, StoreError> {
        let claimed = self.unit(|tx| {
            let last = tx.last_attempt(table, order_id)?;
            let Last { attempt, owner, outcome, verdict, mut failures, is_blocked } =
                last.unwrap_or_default();
            let (is_under_way, is_blocked) = (attempt > 0 && outcome.is_none(), is_blocked != 0);
            let is_removed = verdict.as_deref() == Some(REMOVED);
            if is_under_way && is_blocked {
                // Our own, if the answer to its commit was lost.
                return match owner == sender.owner {
                    true => tx.read_claimed(table, order_id, attempt, failures, is_named),
                    false => Ok(OrderClaim::NotDue),
                };
            }
            if is_blocked && is_removed {
                return Ok(OrderClaim::NotLost(Some(REMOVED.to_owned())));
            }
            if is_blocked && !is_named {
                return Ok(OrderClaim::NotDue);
            }
            if is_under_way {
                failures += 1;
                let is_last = failures.unsigned_abs() >= max_failed && !is_named;
                tx.end_orphaned(table, order_id, attempt, failures, is_last)?;
                if is_last {
                    tx.set_order_state(table, order_id, table.given_up.as_deref(), None)?;
                    return Ok(OrderClaim::GivenUp);
                }
            }
            tx.insert_attempt(table, order_id, attempt + 1, failures, sender)?;
            let mut claim = tx.read_claimed(table, order_id, attempt + 1, failures, is_named)?;
            let had_been_given_up = verdict.as_deref() == Some(OrderVerdict::GivenUp.as_str());
            match &mut claim {
                OrderClaim::Claimed(order) => {
                    order.was_given_up |= had_been_given_up && is_blocked;
                    if had_been_given_up && !order.was_given_up {
                        // The shop has set it back: it begins anew.
                        order.failures = 0;
                    }
                }
                _ => tx.delete_attempt(table, order_id, attempt + 1)?,
            }
            Ok(claim)
        });
        match claimed {
            Err(StoreError::Duplicate(_)) => Ok(OrderClaim::NotDue),
            other => other,
        }
    }

    /// Inserts an attempt that begins now, and lets the one before it block nothing any more. Part of a unit.
    fn insert_attempt(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        attempt: i32,
        failures: i32,
        sender: &Sender<'_>,
    ) -> Result<(), StoreError> {
        self.unblock(table, order_id, attempt - 1)?;
        let insert = format!(
            "INSERT INTO duly_lost_order_attempt (source, order_id, attempt, owner, host, job_id, failures, started_at, \
             blocks_until) VALUES (?, ?, ?, ?, ?, ?, ?, {}, {})",
            self.now(),
            self.now_plus()
        );
        let sql = Sql::new(insert).bind(&table.table).bind(order_id).bind(attempt);
        let sql = sql.bind(sender.owner).bind(sender.host).bind(sender.job_id).bind(failures);
        self.execute(&sql.bind(micros(sender.lease))).map(drop)
    }

    /// Lets an attempt block its order no more. Part of a unit.
    pub(super) fn unblock(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        attempt: i32,
    ) -> Result<(), StoreError> {
        let update = "UPDATE duly_lost_order_attempt SET blocks_until = NULL \
             WHERE source = ? AND order_id = ? AND attempt = ? AND blocks_until IS NOT NULL";
        self.execute(&Sql::new(update).bind(&table.table).bind(order_id).bind(attempt)).map(drop)
    }

    fn delete_attempt(&mut self, table: &OrderTable, order_id: &str, attempt: i32) -> Result<(), StoreError> {
        let delete = "DELETE FROM duly_lost_order_attempt WHERE source = ? AND order_id = ? AND attempt = ?";
        self.execute(&Sql::new(delete).bind(&table.table).bind(order_id).bind(attempt)).map(drop)
    }

    pub(super) fn last_attempt(
        &mut self,
        table: &OrderTable,
        order_id: &str,
    ) -> Result<Option<Last>, StoreError> {
        let query = format!(
            "SELECT attempt, owner, outcome, verdict, failures, \
             CASE WHEN blocks_until > {} THEN 1 ELSE 0 END AS is_blocked FROM duly_lost_order_attempt \
             WHERE source = ? AND order_id = ? ORDER BY attempt DESC LIMIT 1{}",
            self.now(),
            self.for_update()
        );
        Ok(self.rows(&Sql::new(query).bind(&table.table).bind(order_id))?.pop())
    }

    /// Reads an order whose attempt has been inserted: after that, so that it is as the attempt before has left it.
    fn read_claimed(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        attempt: i32,
        failures: i32,
        is_named: bool,
    ) -> Result<OrderClaim, StoreError> {
        let query = format!(
            "SELECT {} AS order_id, {} AS state, {} AS payload FROM {} WHERE {} = ?",
            self.as_text(&quoted(&table.order_id)),
            self.as_text(&quoted(&table.state)),
            quoted(&table.payload),
            quoted(&table.table),
            quoted(&table.order_id)
        );
        let found: Vec<Order> = self.rows(&Sql::new(query).bind(order_id))?;
        // A database may take `2x` for 2, and `2 ` for `2`; the key that the ERP gets would be another.
        let order = found.into_iter().find(|order| order.order_id.as_deref() == Some(order_id));
        let Some(order) = order else { return Ok(OrderClaim::NotLost(None)) };
        let state = order.state.unwrap_or_default();
        let is_given_up = table.given_up.as_ref() == Some(&state);
        if state != table.lost && !(is_named && is_given_up) {
            return Ok(OrderClaim::NotLost(Some(state)));
        }
        Ok(OrderClaim::Claimed(ClaimedOrder {
            order_id: order_id.to_owned(),
            attempt,
            failures,
            payload: order.payload.unwrap_or_default(),
            was_given_up: is_given_up,
        }))
    }

    /// Ends a try whose sender died. It counts, so that an order that kills its sender is not sent for ever.
    fn end_orphaned(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        attempt: i32,
        failures: i32,
        is_last: bool,
    ) -> Result<(), StoreError> {
        let (verdict, tell) = match (is_last, failures) {
            (true, _) => (OrderVerdict::GivenUp, Some("given_up")),
            (false, 1) => (OrderVerdict::Again, Some("failed")),
            (false, _) => (OrderVerdict::Again, None),
        };
        let blocks = (is_last && table.given_up.is_none()).then_some(FOR_EVER);
        let update = format!(
            "UPDATE duly_lost_order_attempt SET outcome = 'orphaned', reason = ?, verdict = ?, failures = ?, tell = ?, \
             blocks_until = ?, finished_at = {} WHERE source = ? AND order_id = ? AND attempt = ?",
            self.now()
        );
        let sql = Sql::new(update).bind("its sender vanished while it was being sent");
        let sql = sql.bind(verdict.as_str()).bind(failures).bind(tell).bind(blocks);
        self.execute(&sql.bind(&table.table).bind(order_id).bind(attempt)).map(drop)
    }

    /// Records how a try ended, and moves its order on. May be given again when the answer was lost.
    ///
    /// A try that another has taken over since can only still succeed: the ERP has the order then, whatever else happened.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn finish_order(
        &mut self,
        table: &OrderTable,
        order: &ClaimedOrder,
        owner: &str,
        end: &OrderEnd,
        reach: OrderReach,
    ) -> Result<OrderRecorded, StoreError> {
        let is_apart = reach == OrderReach::AttemptOnly;
        let is_confirmed = end.verdict == OrderVerdict::Confirmed;
        self.unit(|tx| {
            let query = format!(
                "SELECT outcome, exit_code FROM duly_lost_order_attempt \
                 WHERE source = ? AND order_id = ? AND attempt = ? AND owner = ?{}",
                tx.for_update()
            );
            let key = |sql: Sql| sql.bind(&table.table).bind(&order.order_id).bind(order.attempt).bind(owner);
            let known = tx.rows::<End>(&key(Sql::new(query)))?.pop();
            match known.map(|known| known.outcome) {
                Some(None) => {}
                Some(Some(outcome)) if outcome == end.outcome.as_str() => return Ok(OrderRecorded::Yes),
                Some(Some(_)) if is_confirmed => {}
                Some(Some(_)) | None => return Ok(OrderRecorded::TooLate),
            }
            let update = format!(
                "UPDATE duly_lost_order_attempt SET outcome = ?, exit_code = ?, signal_number = ?, reason = ?, verdict = ?, \
                 failures = ?, tell = ?, erp_order_id = ?, answer = ?, duration_ms = ?, finished_at = {}, \
                 blocks_until = {} WHERE source = ? AND order_id = ? AND attempt = ? AND owner = ?",
                tx.now(),
                if end.verdict == OrderVerdict::Again || end.verdict == OrderVerdict::Uncounted { tx.now_plus() } else { "?" }
            );
            let counts = matches!(end.verdict, OrderVerdict::Again | OrderVerdict::GivenUp);
            let failures = if is_confirmed { 0 } else { order.failures + i32::from(counts) };
            let sql = Sql::new(update)
                .bind(end.outcome.as_str())
                .bind(end.outcome.exit_code())
                .bind(end.outcome.signal())
                .bind(end.outcome.reason().map(|reason| clip(&reason)))
                .bind(end.verdict.as_str())
                .bind(failures)
                .bind(if is_apart && is_confirmed { Some(UNWRITTEN) } else { end.tell })
                .bind(end.erp_order_id.as_deref())
                .bind(end.answer.as_deref())
                .bind(i64::try_from(end.ran.as_millis()).unwrap_or(i64::MAX));
            let blocks = match end.verdict {
                OrderVerdict::Again | OrderVerdict::Uncounted => Value::from(micros(end.wait)),
                OrderVerdict::GivenUp if table.given_up.is_none() => Value::from(FOR_EVER),
                OrderVerdict::GivenUp | OrderVerdict::Confirmed if is_apart => Value::from(FOR_EVER),
                OrderVerdict::GivenUp | OrderVerdict::Confirmed => Value::from(None::<&str>),
            };
            tx.execute(&key(sql.bind(blocks)))?;
            let state = match end.verdict {
                _ if is_apart => None,
                OrderVerdict::Confirmed => Some(table.confirmed.as_str()),
                OrderVerdict::GivenUp => table.given_up.as_deref(),
                OrderVerdict::Again | OrderVerdict::Uncounted => None,
            };
            let number = end.erp_order_id.as_deref().filter(|_| reach == OrderReach::All);
            match tx.set_order_state(table, &order.order_id, state, number)? {
                Some(other) => Ok(OrderRecorded::StateLeft(other)),
                None => Ok(OrderRecorded::Yes),
            }
        })
    }

    /// Writes down in the order's own table that the ERP has it, which could not be done when it took it. Returns the state
    /// that it was in by then, if that was left.
    ///
    /// # Errors
    ///
    /// When the table still refuses it.
    pub fn confirm_order(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        attempt: i32,
        erp_order_id: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        self.unit(|tx| {
            let left = tx.set_order_state(table, order_id, Some(&table.confirmed), erp_order_id)?;
            tx.unblock(table, order_id, attempt)?;
            Ok(left)
        })
    }

    /// Whether a run of the job `name` has ended badly within a day, and since the ERP last took an order.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn has_complained(&mut self, table: &OrderTable, name: &str) -> Result<bool, StoreError> {
        let day = -micros(Duration::from_secs(86_400));
        let query = format!(
            "SELECT COUNT(*) AS due, 0 AS untold FROM duly_job WHERE state = 'failed' AND finished_at >= {} AND name = ? \
             AND target_id IS NULL AND finished_at >= COALESCE((SELECT finished_at FROM duly_lost_order_attempt \
             WHERE source = ? AND finished_at IS NOT NULL AND verdict = 'confirmed' ORDER BY finished_at DESC LIMIT 1), '1970-01-01')",
            self.now_plus()
        );
        let sql = Sql::once(query).bind(day).bind(name).bind(&table.table);
        Ok(self.rows::<Work>(&sql)?.iter().any(|row| row.due > 0))
    }

    /// Moves an order that is lost or given up to `state`, if that is any; returns the state that it has if it is another
    /// one altogether. Part of a unit.
    pub(super) fn set_order_state(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        state: Option<&str>,
        erp_order_id: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        let Some(state) = state else { return Ok(None) };
        let (name, id, column) = (quoted(&table.table), quoted(&table.order_id), quoted(&table.state));
        let mut set = format!("{column} = ?");
        let erp = table.erp_order_id.as_ref().zip(erp_order_id);
        if let Some((erp, _)) = erp {
            set.push_str(&format!(", {} = ?", quoted(erp)));
        }
        if table.is_own {
            set.push_str(&format!(", changed_at = {}", self.now()));
        }
        let update = format!("UPDATE {name} SET {set} WHERE {id} = ? AND {column} IN (?, ?)");
        let mut sql = Sql::new(update).bind(state);
        if let Some((_, number)) = erp {
            sql = sql.bind(number);
        }
        let from = table.given_up.as_deref().unwrap_or(&table.lost);
        if self.execute(&sql.bind(order_id).bind(&table.lost).bind(from))? > 0 {
            return Ok(None);
        }
        let query = format!(
            "SELECT NULL AS order_id, {} AS state, NULL AS payload FROM {name} WHERE {id} = ?",
            self.as_text(&column)
        );
        let found: Option<Order> = self.rows(&Sql::new(query).bind(order_id))?.pop();
        let found = found.map_or_else(|| "gone".to_owned(), |order| order.state.unwrap_or_default());
        Ok((found != state).then_some(found))
    }
}
