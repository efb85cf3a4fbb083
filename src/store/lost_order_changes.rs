//! What people do to lost orders: taking one out, putting one back, putting one in.
//!
//! Each is a row among the order's attempts, so that it cannot happen beside a claim, and stays known.

use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::lost_orders::{ADDED, FOR_EVER, Last, REMOVED};
use super::mapping::quoted;
use super::sql::{Sql, marks};
use crate::job::shop::{OrderState, OrderTable};

/// What came of taking an order out or putting one in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderChange {
    /// It is as asked for.
    Done,
    /// It is in this state, which does not allow it; `None` where there is no such order, or it is in a state of the
    /// shop's that Duly has no part in.
    Refused(Option<OrderState>),
}

impl Store {
    /// Takes an order out that is lost or given up. Locks its latest attempt.
    pub fn remove_order(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        (owner, who): (&str, &str),
    ) -> Result<OrderChange, StoreError> {
        let from = [OrderState::Lost, OrderState::GivenUp];
        self.change_order(table, order_id, &from, |tx, attempt| {
            let blocks = table.removed.is_none().then_some(FOR_EVER);
            if tx.set_order_state(table, order_id, table.removed.as_deref(), None)?.is_some() {
                return Ok(false);
            }
            tx.note_change(table, (order_id, attempt), REMOVED, (owner, who), blocks)?;
            Ok(true)
        })
    }

    /// Puts an order back that was given up or removed, with all its tries before it. Locks its latest attempt.
    pub fn put_order_back(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        payload: Option<&[u8]>,
        (owner, who): (&str, &str),
    ) -> Result<OrderChange, StoreError> {
        let from = [OrderState::GivenUp, OrderState::Removed];
        self.change_order(table, order_id, &from, |tx, attempt| {
            let (name, id, column) = (quoted(&table.table), quoted(&table.order_id), quoted(&table.state));
            let from: Vec<&String> = [Some(&table.lost), table.given_up.as_ref(), table.removed.as_ref()]
                .into_iter()
                .flatten()
                .collect();
            let update = Sql::new(format!(
                "UPDATE {name} SET {column} = ? WHERE {id} = ? AND {column} IN ({})",
                marks(from.len())
            ));
            // It may have been confirmed a moment ago.
            if tx.execute(&update.bind(&table.lost).bind(order_id).bind_all(from))? == 0 {
                return Ok(false);
            }
            tx.note_change(table, (order_id, attempt), ADDED, (owner, who), None)?;
            if let Some(payload) = payload {
                let column = quoted(&table.payload);
                let update = Sql::new(format!("UPDATE {name} SET {column} = ? WHERE {id} = ?"));
                tx.execute(&update.bind(payload).bind(order_id))?;
            }
            Ok(true)
        })
    }

    /// Puts a new order into Duly's own table; `false` where there is one of that id already.
    pub fn add_order(&mut self, order_id: &str, payload: &[u8]) -> Result<bool, StoreError> {
        let insert = Sql::once("INSERT INTO duly_lost_order (order_id, payload) VALUES (?, ?)");
        match self.execute(&insert.bind(order_id).bind(payload)) {
            Ok(_) => Ok(true),
            Err(StoreError::Duplicate(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Does `work`, which is given the number of the next attempt and may find that it cannot, if the order is in one of
    /// `from`.
    fn change_order(
        &mut self,
        table: &OrderTable,
        order_id: &str,
        from: &[OrderState],
        mut work: impl FnMut(&mut Self, i32) -> Result<bool, StoreError>,
    ) -> Result<OrderChange, StoreError> {
        let changed = self.unit(|tx| {
            let last: Last = tx.last_attempt(table, order_id)?.unwrap_or_default();
            let order = tx.lost_order(table, order_id)?;
            let state = order.and_then(|order| order.state);
            if !state.is_some_and(|state| from.contains(&state)) {
                return Ok(OrderChange::Refused(state));
            }
            if !work(tx, last.attempt + 1)? {
                let order = tx.lost_order(table, order_id)?;
                return Ok(OrderChange::Refused(order.and_then(|order| order.state)));
            }
            tx.unblock(table, order_id, last.attempt)?;
            Ok(OrderChange::Done)
        });
        match changed {
            // A sender has been quicker.
            Err(StoreError::Duplicate(_)) => Ok(OrderChange::Refused(Some(OrderState::Sending))),
            other => other,
        }
    }

    fn note_change(
        &mut self,
        table: &OrderTable,
        (order_id, attempt): (&str, i32),
        what: &str,
        (owner, who): (&str, &str),
        blocks: Option<&str>,
    ) -> Result<(), StoreError> {
        let insert = format!(
            "INSERT INTO duly_lost_order_attempt (source, order_id, attempt, owner, outcome, verdict, reason, blocks_until, \
             started_at, finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {now}, {now})",
            now = self.now()
        );
        let sql = Sql::new(insert).bind(&table.table).bind(order_id).bind(attempt).bind(owner);
        self.execute(&sql.bind(what).bind(what).bind(clip(&format!("by {who}"))).bind(blocks)).map(drop)
    }
}
