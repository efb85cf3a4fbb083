//! How tries at sending lost orders end: recorded, with the order's own state, and known afterwards.
//!
//! The end of an attempt and the change of its order are one transaction, guarded by the attempt's owner and by the states that
//! the order may leave. What the shop's own table refuses is recorded apart, and written down later.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{Integer, Nullable};

use super::enqueue::micros;
use super::error::StoreError;
use super::finish::clip;
use super::handle::Store;
use super::lost_orders::{ClaimedOrder, FOR_EVER};
use super::mapping::quoted;
use super::sql::AnyText as Text;
use super::sql::{Id, Sql, Value, marks_or_empty};
use crate::job::Outcome;
use crate::job::shop::{OrderTable, OrderVerdict};

/// What is noted of an order that the ERP has, while its own table does not say so.
pub const UNWRITTEN: &str = "unwritten";

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
struct End {
    #[diesel(sql_type = Nullable<Text>)]
    outcome: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    exit_code: Option<i32>,
}

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Nullable<Text>)]
    state: Option<String>,
}

impl Store {
    /// How the last `count` tries of any order ended, the latest first: outcome and exit code. Those that were stopped
    /// or left unended are left out.
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

    /// How the tries of an order before `order.attempt` ended that did not succeed, since it was put in, put back or begun anew:
    /// outcome and exit code, those that say most first, a hundred at most.
    pub fn failures_before(
        &mut self,
        table: &OrderTable,
        order: &ClaimedOrder,
    ) -> Result<Vec<(String, Option<i32>)>, StoreError> {
        let query = "SELECT outcome, exit_code FROM duly_lost_order_attempt WHERE source = ? AND order_id = ? \
             AND attempt < ? AND verdict IN ('again', 'uncounted') AND attempt > COALESCE((SELECT MAX(b.attempt) \
             FROM duly_lost_order_attempt b WHERE b.source = ? AND b.order_id = ? AND b.attempt < ? \
             AND b.verdict IN ('confirmed', 'given_up', 'added', 'removed')), 0) ORDER BY failures DESC, attempt DESC LIMIT 100";
        let key = |sql: Sql| sql.bind(&table.table).bind(&order.order_id).bind(order.attempt);
        let ends: Vec<End> = self.rows(&key(key(Sql::new(query))))?;
        Ok(ends.into_iter().map(|end| (end.outcome.unwrap_or_default(), end.exit_code)).collect())
    }

    /// Whether the ERP has answered a try of any order, one way or the other, since the first failure of this one that counts.
    /// `permanent` are exit codes that are an answer.
    pub fn has_answered_since_failure(
        &mut self,
        table: &OrderTable,
        order: &ClaimedOrder,
        permanent: &[i32],
    ) -> Result<bool, StoreError> {
        let query = format!(
            "SELECT 1 AS id FROM duly_lost_order_attempt WHERE source = ? AND finished_at >= (SELECT MAX(b.finished_at) \
             FROM duly_lost_order_attempt b WHERE b.source = ? AND b.order_id = ? AND b.verdict = 'again' AND b.failures = 1) \
             AND (outcome = 'success' OR (outcome = 'exited' AND exit_code IN ({}))) LIMIT 1",
            marks_or_empty(permanent.len())
        );
        let sql = Sql::once(query).bind(&table.table).bind(&table.table).bind(&order.order_id);
        Ok(!self.rows::<Id>(&sql.bind_all(permanent.iter().copied()))?.is_empty())
    }

    /// Records how a try ended, and moves its order on. May be given again when the answer was lost.
    ///
    /// A try that another has taken over since can only still succeed: the ERP has the order then, whatever else happened.
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
    pub fn has_complained(&mut self, table: &OrderTable, name: &str) -> Result<bool, StoreError> {
        let day = -micros(Duration::from_secs(86_400));
        let query = format!(
            "SELECT COUNT(*) AS id FROM duly_job WHERE state = 'failed' AND finished_at >= {} AND name = ? \
             AND target_id IS NULL AND finished_at >= COALESCE((SELECT finished_at FROM duly_lost_order_attempt \
             WHERE source = ? AND finished_at IS NOT NULL AND verdict = 'confirmed' ORDER BY finished_at DESC LIMIT 1), '1970-01-01')",
            self.now_plus()
        );
        let sql = Sql::once(query).bind(day).bind(name).bind(&table.table);
        Ok(self.rows::<Id>(&sql)?.iter().any(|row| row.id > 0))
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
        let query = format!("SELECT {} AS state FROM {name} WHERE {id} = ?", self.as_text(&column));
        let found: Option<StateRow> = self.rows(&Sql::new(query).bind(order_id))?.pop();
        let found = found.map_or_else(|| "gone".to_owned(), |row| row.state.unwrap_or_default());
        Ok((found != state).then_some(found))
    }
}
