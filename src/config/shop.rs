//! The sections of the shop's own commands: what they work on, with defaults filled in.
//!
//! Whether tables and columns are there is for the database to say; here only their form is checked.

use std::time::Duration;

use super::error::show;
use super::raw;
use super::read::{Limit, Reader, Whole};
use super::validate::backoff;
use super::validate_jobs::{Inherited, action};
use crate::job::shop::{ChangeTable, OrderTable, SessionTable};
use crate::job::{Action, Backoff, NAME_RULE, is_valid_name};

/// `refresh_cache` in jobs.yaml.
#[derive(Debug, Clone, PartialEq)]
pub struct RefreshCache {
    /// Where the changes are.
    pub table: ChangeTable,
    /// Changes given to a processor at once, at least 1.
    pub batch: u32,
    /// Who gets them, in the order of the file; at least one.
    pub processors: Vec<(String, Step)>,
}

/// `lost_orders` in jobs.yaml.
#[derive(Debug, Clone, PartialEq)]
pub struct LostOrders {
    /// Where the orders are.
    pub table: OrderTable,
    /// Sends one order.
    pub send: Step,
    /// How often an order may fail before it is given up, at least 1.
    pub max_failed: u32,
    /// The wait between tries.
    pub backoff: Backoff,
    /// After so many failures in a row a pass stops, at least 1.
    pub circuit_breaker: u32,
    /// Orders sent at once, at least 1.
    pub concurrency: usize,
    /// Exit codes after which an order is given up at once.
    pub permanent_exit_codes: Vec<i32>,
    /// Exit codes that say that the ERP could not be asked: the try does not count, and the pass stops.
    pub unavailable_exit_codes: Vec<i32>,
    /// Told when an order fails for the first time and when it is given up.
    pub on_failed: Option<Step>,
}

/// A command that a command of the shop starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// How long it may take; `None` is for ever.
    pub timeout: Option<Duration>,
}

/// Said of what names parts of a table where none is named.
const WITHOUT_TABLE: &str = "has no effect without a `table`; add one, or remove it";

/// How long sending an order, and telling of one, may take.
const SEND: Duration = Duration::from_secs(30);
const TELL: Duration = Duration::from_secs(60);

pub(super) fn refresh_cache(
    raw: raw::RefreshCache,
    inherited: &Inherited<'_>,
    reader: &mut Reader<'_>,
) -> RefreshCache {
    if raw.table.is_none() && raw.columns.is_some() {
        reader.problem_at("columns", WITHOUT_TABLE);
    }
    let columns = raw.columns.unwrap_or_default();
    let table = match raw.table {
        None => ChangeTable::own(),
        Some(table) => {
            let plain = ChangeTable::named(&table.0);
            ChangeTable {
                id: columns.id.map_or(plain.id, |name| name.0),
                content_id: columns.content_id.map_or(plain.content_id, |name| name.0),
                action: columns.action.map_or(plain.action, |name| name.0),
                triggered_by: columns.triggered_by.map(|name| name.0),
                content_type: columns.content_type.map(|name| name.0),
                language: columns.language.map(|name| name.0),
                attributes: columns.attributes.map(|name| name.0),
                table: plain.table,
            }
        }
    };
    let timeout = inherited.defaults.timeout;
    let processors: Vec<(String, Step)> = reader.within("processors", |reader| {
        let named = raw.processors.unwrap_or_default().0;
        if named.is_empty() {
            reader.problem("names nobody to give changes to; expected navigation: {command: [bin/refresh]}");
        }
        let read = |(name, raw): (String, raw::Step)| {
            reader.within(&name, |reader| {
                if !is_valid_name(&name) {
                    reader.problem(format!("`{name}` cannot name a processor; expected {NAME_RULE}"));
                }
                Some((name.clone(), step(Some(raw), timeout, inherited, reader)?))
            })
        };
        named.into_iter().filter_map(read).collect()
    });
    RefreshCache { table, batch: raw.batch.map_or(1000, |Whole(count)| count.unsigned_abs()), processors }
}

pub(super) fn lost_orders(
    raw: raw::LostOrders,
    inherited: &Inherited<'_>,
    reader: &mut Reader<'_>,
) -> Option<LostOrders> {
    let code = |Whole(code): Whole<1, 255>| code;
    let default = Backoff {
        initial: Duration::from_secs(60),
        factor: 2.0,
        max: Duration::from_secs(3600),
        jitter: 0.2,
    };
    let permanent_exit_codes: Vec<i32> =
        raw.permanent_exit_codes.unwrap_or_default().into_iter().map(code).collect();
    let unavailable_exit_codes: Vec<i32> =
        raw.unavailable_exit_codes.unwrap_or_default().into_iter().map(code).collect();
    if let Some(code) = unavailable_exit_codes.iter().find(|code| permanent_exit_codes.contains(code)) {
        let message = format!("{code} is among permanent_exit_codes too; keep it in one of them");
        reader.problem_at("unavailable_exit_codes", message);
    }
    let send = reader.within("send", |reader| {
        let send = step(raw.send, Some(SEND), inherited, reader);
        if send.as_ref().is_some_and(|send| send.timeout.is_none()) {
            reader.problem_at("timeout", "`none` would hold an order for ever; expected a length of time");
        }
        send
    });
    let on_failed = raw
        .on_failed
        .and_then(|raw| reader.within("on_failed", |reader| step(Some(raw), Some(TELL), inherited, reader)));
    Some(LostOrders {
        table: order_table(raw.table, raw.columns, raw.states, reader),
        send: send?,
        max_failed: raw.max_failed.map_or(3, |Whole(count)| count.unsigned_abs()),
        backoff: backoff(raw.backoff, default),
        circuit_breaker: raw.circuit_breaker.map_or(5, |Whole(count)| count.unsigned_abs()),
        concurrency: raw.concurrency.map_or(1, |Whole(count)| usize::try_from(count).unwrap_or(1)),
        permanent_exit_codes,
        unavailable_exit_codes,
        on_failed,
    })
}

fn order_table(
    table: Option<super::values::TableName>,
    columns: Option<raw::OrderColumns>,
    states: Option<raw::OrderStates>,
    reader: &mut Reader<'_>,
) -> OrderTable {
    let own = OrderTable::own();
    let Some(table) = table else {
        for (key, is_given) in [("columns", columns.is_some()), ("states", states.is_some())] {
            if is_given {
                reader.problem_at(key, WITHOUT_TABLE);
            }
        }
        return own;
    };
    let (columns, states) = (columns.unwrap_or_default(), states.unwrap_or_default());
    let needed = "lacks `lost` or `confirmed`; expected {lost: ordered_failed, confirmed: confirmed}";
    let (Some(lost), Some(confirmed)) = (states.lost, states.confirmed) else {
        reader.problem_at("states", needed);
        return own;
    };
    let words: Vec<&String> =
        [Some(&lost), Some(&confirmed), states.given_up.as_ref(), states.removed.as_ref()]
            .into_iter()
            .flatten()
            .collect();
    if let Some(twice) = words.iter().enumerate().find(|(at, word)| words[..*at].contains(word)) {
        reader.problem_at("states", format!("`{}` stands for two states; expected different words", twice.1));
    }
    OrderTable {
        table: table.0,
        is_own: false,
        order_id: columns.order_id.map_or(own.order_id, |name| name.0),
        payload: columns.payload.map_or(own.payload, |name| name.0),
        state: columns.state.map_or(own.state, |name| name.0),
        erp_order_id: columns.erp_order_id.map(|name| name.0),
        lost,
        confirmed,
        given_up: states.given_up,
        removed: states.removed,
    }
}

pub(super) fn sessions(raw: raw::Sessions) -> SessionTable {
    let default = SessionTable::default();
    let time = raw.columns.unwrap_or_default().time;
    SessionTable {
        table: raw.table.map_or(default.table, |name| name.0),
        time: time.map_or(default.time, |name| name.0),
    }
}

fn step(
    raw: Option<raw::Step>,
    timeout: Option<Duration>,
    inherited: &Inherited<'_>,
    reader: &mut Reader<'_>,
) -> Option<Step> {
    let raw = raw.unwrap_or_default();
    let Some(command) = raw.command else {
        let here = show(reader.path());
        reader.problem(format!("lacks a `command`; expected {here}: {{command: [bin/program]}}"));
        return None;
    };
    match action(Some(command), None, inherited) {
        Action::Command(argv) => {
            Some(Step { argv, timeout: raw.timeout.map_or(timeout, |Limit(length)| length) })
        }
        Action::Builtin(_) => None,
    }
}
