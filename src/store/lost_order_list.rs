//! Lost orders for people: lists, one order whole, and news of them that is untold. Locks nothing.

use super::sql::AnyTime as Timestamp;
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable};

use super::error::StoreError;
use super::handle::Store;
use super::lost_orders::REMOVED;
use super::mapping::quoted;
use super::sql::AnyText as Text;
use super::sql::{Sql, StoredTime, marks};
use crate::job::shop::{OrderState, OrderTable, OrderVerdict};

/// Orders read at most; with fewer than that lost, a list is complete.
const MOST: usize = 100_000;

/// One order and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOrder {
    /// Which.
    pub order_id: String,
    /// Where it is in its life; `None` for a state of the shop's that Duly has no part in.
    pub state: Option<OrderState>,
    /// The state in the shop's own word.
    pub stored_state: String,
    /// Its latest try, if there was any.
    pub latest: Option<OrderAttempt>,
}

/// One try at sending an order, or one time that a person took it out or put it back.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct OrderAttempt {
    /// Which order.
    #[diesel(sql_type = Text)]
    pub order_id: String,
    /// Its number.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// How it ended; `None` while it is under way.
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome: Option<String>,
    /// What that meant for the order.
    #[diesel(sql_type = Nullable<Text>)]
    pub verdict: Option<String>,
    /// The exit code.
    #[diesel(sql_type = Nullable<Integer>)]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[diesel(sql_type = Nullable<Integer>, column_name = signal_number)]
    pub signal: Option<i32>,
    /// Why, in a sentence.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
    /// How many tries had failed by then, and counted.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
    /// The number that the ERP gave the order.
    #[diesel(sql_type = Nullable<Text>)]
    pub erp_order_id: Option<String>,
    /// What the ERP said.
    #[diesel(sql_type = Nullable<Text>)]
    pub answer: Option<String>,
    /// The host it was made on.
    #[diesel(sql_type = Nullable<Text>)]
    pub host: Option<String>,
    /// The job that it was made by.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub job_id: Option<i64>,
    /// When it began.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub finished_at: Option<DateTime<Utc>>,
    /// How long it took.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub duration_ms: Option<i64>,
    /// Until when nobody else sends it.
    #[diesel(sql_type = Nullable<Timestamp>, deserialize_as = StoredTime)]
    pub blocks_until: Option<DateTime<Utc>>,
    /// Whether that is still to come.
    #[diesel(sql_type = BigInt)]
    pub is_blocked: i64,
    /// What somebody is to be told of it: `failed` or `given_up`.
    #[diesel(sql_type = Nullable<Text>)]
    pub tell: Option<String>,
}

impl OrderAttempt {
    /// How a try ended, in a few words.
    #[must_use]
    pub fn result(&self) -> String {
        match (self.outcome.as_deref(), self.exit_code, self.signal) {
            (Some("success"), ..) => {
                self.erp_order_id.clone().map_or_else(|| "ok".to_owned(), |number| format!("ok, {number}"))
            }
            (Some(_), Some(code), _) => {
                let said = self.answer.as_deref().and_then(|answer| answer.trim().lines().last());
                said.map_or_else(|| format!("exit {code}"), |said| format!("exit {code}: {said}"))
            }
            (Some(_), None, Some(signal)) => format!("signal {signal}"),
            (Some(word), None, None) => {
                self.reason.as_ref().map_or_else(|| word.to_owned(), |why| format!("{word}: {why}"))
            }
            (None, ..) => self.host.as_ref().map_or_else(|| "-".to_owned(), |host| format!("on {host}")),
        }
    }

    /// When the order is sent again, where it waits for that.
    #[must_use]
    pub fn next_at(&self) -> Option<DateTime<Utc>> {
        let waits = [OrderVerdict::Again.as_str(), OrderVerdict::Uncounted.as_str()];
        self.blocks_until.filter(|_| self.verdict.as_deref().is_some_and(|verdict| waits.contains(&verdict)))
    }
}

#[derive(QueryableByName)]
struct OrderRow {
    #[diesel(sql_type = Nullable<Text>)]
    order_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    state: Option<String>,
}

#[derive(QueryableByName)]
struct PayloadRow {
    #[diesel(sql_type = Nullable<diesel::sql_types::Binary>)]
    payload: Option<Vec<u8>>,
}

impl Store {
    /// At most `limit` orders that are in one of `states`; of those that are confirmed or removed, only such as Duly has
    /// had to do with, the latest first.
    pub fn lost_orders(
        &mut self,
        table: &OrderTable,
        states: &[OrderState],
        limit: usize,
    ) -> Result<Vec<LostOrder>, StoreError> {
        let is_open = |state: &OrderState| {
            matches!(state, OrderState::Lost | OrderState::Sending | OrderState::GivenUp)
        };
        let has_word_removed = table.removed.is_some();
        let (mut open, mut ended) = (vec![table.lost.clone()], Vec::new());
        open.extend(table.given_up.clone());
        for state in states {
            match state {
                OrderState::Confirmed => ended.push(table.confirmed.clone()),
                OrderState::Removed => ended.extend(table.removed.clone()),
                OrderState::Lost | OrderState::Sending | OrderState::GivenUp => {}
            }
        }
        if !states.iter().any(is_open) && (has_word_removed || !states.contains(&OrderState::Removed)) {
            open.clear();
        }
        let id = self.as_text(&format!("o.{}", quoted(&table.order_id)));
        let state = quoted(&table.state);
        let mut found = Vec::new();
        for (words, only_ours) in [(open, false), (ended, true)] {
            if words.is_empty() {
                continue;
            }
            let ours = format!(
                " AND EXISTS (SELECT 1 FROM duly_lost_order_attempt a WHERE a.source = ? AND a.order_id = {id})"
            );
            let query = format!(
                "SELECT {id} AS order_id, {} AS state FROM {} o WHERE o.{state} IN ({}){} ORDER BY o.{} DESC LIMIT {MOST}",
                self.as_text(&format!("o.{state}")),
                quoted(&table.table),
                marks(words.len()),
                if only_ours { &ours } else { "" },
                quoted(if table.is_own { "id" } else { &table.order_id }),
            );
            let mut sql = Sql::once(query).bind_all(words);
            if only_ours {
                sql = sql.bind(&table.table);
            }
            found.extend(self.rows::<OrderRow>(&sql)?);
        }
        let mut orders = Vec::new();
        for chunk in found.chunks(500) {
            let ids: Vec<&str> = chunk.iter().filter_map(|row| row.order_id.as_deref()).collect();
            let latest = self.latest_attempts(table, &ids)?;
            for row in chunk {
                let order_id = row.order_id.clone().unwrap_or_default();
                let latest = latest.iter().find(|attempt| attempt.order_id == order_id).cloned();
                let order = lost_order(table, order_id, row.state.clone().unwrap_or_default(), latest);
                if order.state.is_some_and(|state| states.contains(&state)) {
                    orders.push(order);
                }
            }
            if orders.len() >= limit {
                break;
            }
        }
        orders.truncate(limit);
        Ok(orders)
    }

    fn latest_attempts(&mut self, table: &OrderTable, ids: &[&str]) -> Result<Vec<OrderAttempt>, StoreError> {
        let filter = format!(
            "source = ? AND order_id IN ({}) AND attempt = (SELECT MAX(b.attempt) FROM duly_lost_order_attempt b \
             WHERE b.source = duly_lost_order_attempt.source AND b.order_id = duly_lost_order_attempt.order_id)",
            marks(ids.len())
        );
        let sql = Sql::once(self.select_attempts(&filter)).bind(&table.table).bind_all(ids.iter().copied());
        self.rows(&sql)
    }

    fn select_attempts(&self, filter: &str) -> String {
        format!(
            "SELECT order_id, attempt, outcome, verdict, exit_code, signal_number, reason, failures, erp_order_id, answer, \
             host, job_id, started_at, finished_at, duration_ms, blocks_until, \
             CASE WHEN blocks_until > {} THEN 1 ELSE 0 END AS is_blocked, tell \
             FROM duly_lost_order_attempt WHERE {filter}",
            self.now()
        )
    }

    /// One order; its id as the table has it. `None` where there is none.
    pub fn lost_order(
        &mut self,
        table: &OrderTable,
        order_id: &str,
    ) -> Result<Option<LostOrder>, StoreError> {
        let query = format!(
            "SELECT {id} AS order_id, {} AS state FROM {} WHERE {} = ? AND {id} = ?",
            self.as_text(&quoted(&table.state)),
            quoted(&table.table),
            // By its index; a text that only begins with a number is no number's order.
            quoted(&table.order_id),
            id = self.as_text(&quoted(&table.order_id)),
        );
        let rows: Vec<OrderRow> = self.rows(&Sql::once(query).bind(order_id).bind(order_id))?;
        // For the database blanks at the end may make no difference; for the ERP they do.
        let Some(row) = rows.into_iter().find(|row| row.order_id.as_deref() == Some(order_id)) else {
            return Ok(None);
        };
        let latest = self.latest_attempts(table, &[order_id])?.pop();
        Ok(Some(lost_order(table, order_id.to_owned(), row.state.unwrap_or_default(), latest)))
    }

    /// Every attempt of an order, oldest first.
    pub fn order_attempts(
        &mut self,
        table: &OrderTable,
        order_id: &str,
    ) -> Result<Vec<OrderAttempt>, StoreError> {
        let query = format!("{} ORDER BY attempt", self.select_attempts("source = ? AND order_id = ?"));
        self.rows(&Sql::once(query).bind(&table.table).bind(order_id))
    }

    /// What is sent of an order.
    pub fn order_payload(&mut self, table: &OrderTable, order_id: &str) -> Result<Vec<u8>, StoreError> {
        let query = format!(
            "SELECT {} AS payload FROM {} WHERE {} = ?",
            quoted(&table.payload),
            quoted(&table.table),
            quoted(&table.order_id)
        );
        let found: Option<PayloadRow> = self.rows(&Sql::once(query).bind(order_id))?.pop();
        Ok(found.and_then(|row| row.payload).unwrap_or_default())
    }

    /// Attempts that somebody is to be told of, oldest first.
    pub fn untold_orders(&mut self, table: &OrderTable) -> Result<Vec<OrderAttempt>, StoreError> {
        let filter = "source = ? AND tell IS NOT NULL ORDER BY finished_at, order_id LIMIT 1000";
        self.rows(&Sql::new(self.select_attempts(filter)).bind(&table.table))
    }

    /// Remembers that somebody has been told.
    pub fn set_order_told(&mut self, table: &OrderTable, attempt: &OrderAttempt) -> Result<(), StoreError> {
        let update = "UPDATE duly_lost_order_attempt SET tell = NULL WHERE source = ? AND order_id = ? AND attempt = ?";
        let sql = Sql::new(update).bind(&table.table).bind(&attempt.order_id).bind(attempt.attempt);
        self.unit(|tx| tx.execute(&sql)).map(drop)
    }
}

/// What the stored state and the latest attempt say together.
fn lost_order(
    table: &OrderTable,
    order_id: String,
    stored_state: String,
    latest: Option<OrderAttempt>,
) -> LostOrder {
    let blocked = latest.as_ref().filter(|attempt| attempt.is_blocked != 0);
    let state = match blocked {
        _ if stored_state == table.confirmed => Some(OrderState::Confirmed),
        _ if table.removed.as_ref() == Some(&stored_state) => Some(OrderState::Removed),
        Some(attempt) if attempt.outcome.is_none() => Some(OrderState::Sending),
        _ if table.given_up.as_ref() == Some(&stored_state) => Some(OrderState::GivenUp),
        _ if stored_state != table.lost => None,
        Some(attempt) if attempt.verdict.as_deref() == Some(REMOVED) => Some(OrderState::Removed),
        Some(attempt) if attempt.verdict.as_deref() == Some(OrderVerdict::GivenUp.as_str()) => {
            Some(OrderState::GivenUp)
        }
        Some(_) | None => Some(OrderState::Lost),
    };
    LostOrder { order_id, state, stored_state, latest }
}
