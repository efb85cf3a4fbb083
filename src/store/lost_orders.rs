//! Claiming lost orders: which are due, and whose turn it is.
//!
//! An order is claimed by inserting its next attempt, whose number is part of the primary key: of two hosts that try, one
//! gets a duplicate key. The row's `blocks_until` is the lease. A claim reads the order's state after that insert, so
//! that it sees whatever the attempt before it has written. No row of the shop's own table is ever locked while
//! an order is sent; its state is changed by a guarded `UPDATE` in the transaction that records the end of the attempt.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable};

use super::enqueue::micros;
use super::error::StoreError;
use super::handle::Store;
use super::mapping::quoted;
use super::sql::AnyText as Text;
use super::sql::Sql;
use crate::job::shop::{OrderTable, OrderVerdict};

/// What blocks an order for good, where its table has no word for that.
pub(super) const FOR_EVER: &str = "9999-12-31 23:59:59.000000";

/// The outcome and verdict of a row that says that a person took the order out, or put it back.
pub(super) const REMOVED: &str = "removed";
pub(super) const ADDED: &str = "added";

/// Orders looked up at once.
pub const ORDER_PAGE: usize = 1000;

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

    /// Orders that are due, those first whose last try is longest ago, as many as are looked up at once, after the first
    /// `passed_over` of them.
    pub fn due_order_ids(
        &mut self,
        table: &OrderTable,
        passed_over: usize,
    ) -> Result<Vec<String>, StoreError> {
        let id = self.as_text(&format!("o.{}", quoted(&table.order_id)));
        let in_turn = if table.is_own { "o.id".to_owned() } else { format!("o.{}", quoted(&table.order_id)) };
        let query = format!(
            "SELECT {id} AS order_id FROM {} ORDER BY \
             (SELECT MAX(b.started_at) FROM duly_lost_order_attempt b WHERE b.source = ? AND b.order_id = {id}), \
             {in_turn} LIMIT {ORDER_PAGE} OFFSET {passed_over}",
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
}
