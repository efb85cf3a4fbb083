//! `duly lost-orders`: looks at lost orders, puts one in, takes one out.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::list::took;
use super::{Context, Refused, Usage};
use crate::cli::{
    LostOrdersAddArgs, LostOrdersArgs, LostOrdersCommand, LostOrdersListArgs, LostOrdersShowArgs,
};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::job::shop::{OrderState, OrderTable};
use crate::process;
use crate::render::{self, Style, Table, harmless, utc_time};
use crate::store::{LostOrder, OrderAttempt, OrderChange, Store};

/// Bytes of a payload at most: what one statement can carry by the servers' defaults.
const PAYLOAD: u64 = 15 << 20;

pub(super) fn run(context: &Context, args: LostOrdersArgs) -> Result<ExitCode> {
    let (config, mut store) = context.open()?;
    let table = table(&config);
    store
        .require_columns("lost_orders", &table.table, &table.columns())
        .context("cannot read lost orders")?;
    match args.command {
        LostOrdersCommand::List(args) => list(&mut store, &table, args),
        LostOrdersCommand::Show(args) => show(&mut store, &table, &args),
        LostOrdersCommand::Add(args) => add(&mut store, &table, &args),
        LostOrdersCommand::Remove(args) => remove(&mut store, &table, &args.order),
    }
}

fn table(config: &Config) -> OrderTable {
    config.lost_orders.as_ref().map_or_else(OrderTable::own, |settings| settings.table.clone())
}

/// Says that there is no such order.
pub(super) fn no_such_order(table: &OrderTable, order_id: &str) -> String {
    format!(
        "there is no order `{}` in `{}`; `duly lost-orders list` shows those there are",
        harmless(order_id),
        table.table
    )
}

fn list(store: &mut Store, table: &OrderTable, args: LostOrdersListArgs) -> Result<ExitCode> {
    let states = if args.state.is_empty() {
        vec![OrderState::Lost, OrderState::Sending, OrderState::GivenUp]
    } else {
        args.state
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let orders = store.lost_orders(table, &states, limit).context("cannot read lost orders")?;
    if args.json {
        let all: Value = orders.iter().map(|order| as_json(table, order)).collect();
        render::answer(&render::json::text(&all))?;
        return Ok(ExitCode::Success);
    }
    let mut shown = Table::new(&["ORDER", "STATE", "FAILED", "LAST TRY (UTC)", "AGAIN (UTC)", "RESULT"]);
    for order in &orders {
        let latest = order.latest.as_ref();
        shown.row([
            (order.order_id.clone(), Style::Plain),
            (state_of(order), style(order)),
            (latest.map_or(0, |attempt| attempt.failures).to_string(), Style::Plain),
            (utc_time(latest.and_then(|attempt| attempt.started_at)), Style::Plain),
            (utc_time(latest.and_then(OrderAttempt::next_at)), Style::Plain),
            (latest.map_or_else(|| "-".to_owned(), result), Style::Plain),
        ]);
    }
    render::answer(&shown.text())?;
    Ok(ExitCode::Success)
}

fn state_of(order: &LostOrder) -> String {
    order.state.map_or_else(|| order.stored_state.clone(), |state| state.to_string())
}

const fn style(order: &LostOrder) -> Style {
    match order.state {
        Some(OrderState::Confirmed) => Style::Good,
        Some(OrderState::GivenUp) => Style::Bad,
        Some(OrderState::Sending) => Style::Active,
        Some(OrderState::Removed) => Style::Faint,
        Some(OrderState::Lost) | None => Style::Plain,
    }
}

/// How a try ended, in a few words.
fn result(attempt: &OrderAttempt) -> String {
    match (attempt.outcome.as_deref(), attempt.exit_code, attempt.signal) {
        (Some("success"), ..) => {
            attempt.erp_order_id.clone().map_or_else(|| "ok".to_owned(), |number| format!("ok, {number}"))
        }
        (Some(_), Some(code), _) => {
            let said = attempt.answer.as_deref().and_then(|answer| answer.trim().lines().last());
            said.map_or_else(|| format!("exit {code}"), |said| format!("exit {code}: {said}"))
        }
        (Some(_), None, Some(signal)) => format!("signal {signal}"),
        (Some(word), None, None) => {
            attempt.reason.as_ref().map_or_else(|| word.to_owned(), |why| format!("{word}: {why}"))
        }
        (None, ..) => attempt.host.as_ref().map_or_else(|| "-".to_owned(), |host| format!("on {host}")),
    }
}

fn as_json(table: &OrderTable, order: &LostOrder) -> Value {
    let latest = order.latest.as_ref();
    json!({
        "order_id": order.order_id,
        "state": order.state.map(OrderState::as_str),
        "stored_state": order.stored_state,
        "attempts": latest.map_or(0, |attempt| attempt.attempt),
        "failures": latest.map_or(0, |attempt| attempt.failures),
        "last_at": render::json::time(latest.and_then(|attempt| attempt.started_at)),
        "next_at": render::json::time(latest.and_then(OrderAttempt::next_at)),
        "erp_order_id": latest.and_then(|attempt| attempt.erp_order_id.clone()),
        "idempotency_key": table.idempotency_key(&order.order_id),
    })
}

fn attempt_as_json(attempt: &OrderAttempt) -> Value {
    json!({
        "attempt": attempt.attempt,
        "outcome": attempt.outcome,
        "verdict": attempt.verdict,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "reason": attempt.reason,
        "failures": attempt.failures,
        "erp_order_id": attempt.erp_order_id,
        "answer": attempt.answer,
        "host": attempt.host,
        "job_id": attempt.job_id,
        "started_at": render::json::time(attempt.started_at),
        "finished_at": render::json::time(attempt.finished_at),
        "duration_ms": attempt.duration_ms,
    })
}

fn show(store: &mut Store, table: &OrderTable, args: &LostOrdersShowArgs) -> Result<ExitCode> {
    let what = || format!("cannot read order `{}`", args.order);
    let order = store.lost_order(table, &args.order).with_context(what)?;
    let order = order.ok_or_else(|| Usage(no_such_order(table, &args.order)))?;
    if args.payload {
        let payload = store.order_payload(table, &order.order_id).with_context(what)?;
        render::pass_on(&payload).with_context(what)?;
        return Ok(ExitCode::Success);
    }
    let attempts = store.order_attempts(table, &order.order_id).with_context(what)?;
    if args.json {
        let mut whole = as_json(table, &order);
        whole["attempt_log"] = attempts.iter().map(attempt_as_json).collect();
        render::answer(&render::json::text(&whole))?;
        return Ok(ExitCode::Success);
    }
    let mut text = format!("order {} is {}\n", harmless(&order.order_id), harmless(&state_of(&order)));
    if let Some(next) = order.latest.as_ref().and_then(OrderAttempt::next_at) {
        let (Ok(()) | Err(_)) = writeln!(text, "  sent again after {} UTC", utc_time(Some(next)));
    }
    for attempt in &attempts {
        let (Ok(()) | Err(_)) = writeln!(
            text,
            "attempt {} {}, {} UTC, took {}{}",
            attempt.attempt,
            harmless(&result(attempt)),
            utc_time(attempt.started_at),
            took(attempt.duration_ms),
            attempt.host.as_ref().map_or_else(String::new, |host| format!(", on {}", harmless(host)))
        );
        for line in attempt.answer.iter().flat_map(|answer| answer.lines()) {
            let (Ok(()) | Err(_)) = writeln!(text, "  | {}", harmless(line));
        }
    }
    render::answer(&text)?;
    Ok(ExitCode::Success)
}

fn add(store: &mut Store, table: &OrderTable, args: &LostOrdersAddArgs) -> Result<ExitCode> {
    let what = || format!("cannot put order `{}` in", args.order);
    let length = args.order.chars().count();
    if !(1..=190).contains(&length) {
        return Err(Usage(format!("an order's id has 1 to 190 characters, this one has {length}")).into());
    }
    if args.payload.is_some() && !table.is_own {
        let text = format!(
            "the payload of an order is in `{}`, where the shop puts it; leave --payload out",
            table.table
        );
        return Err(Usage(text).into());
    }
    let payload = args.payload.as_deref().map(read_payload).transpose().with_context(what)?;
    let me = (process::new_owner(), process::who());
    let who = (me.0.as_str(), me.1.as_str());
    let state = match store.put_order_back(table, &args.order, payload.as_deref(), who).with_context(what)? {
        OrderChange::Done => return Ok(ExitCode::Success),
        OrderChange::Refused(state) => state,
    };
    match (state, payload) {
        (Some(state), _) => Err(Refused(format!("order `{}` is {state} already", args.order)).into()),
        (None, Some(payload)) if table.is_own => {
            if store.add_order(&args.order, &payload).with_context(what)? {
                return Ok(ExitCode::Success);
            }
            Err(Refused(format!("order `{}` is there already", args.order)).into())
        }
        (None, None) if table.is_own => {
            Err(Usage(format!("order `{}` is new; say what is sent of it with --payload", args.order)).into())
        }
        (None, _) => Err(Usage(format!(
            "order `{}` was neither given up nor removed; the shop itself puts orders into `{}`",
            args.order, table.table
        ))
        .into()),
    }
}

fn read_payload(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let source: Box<dyn std::io::Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?)
    };
    source
        .take(PAYLOAD + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    if bytes.len() as u64 > PAYLOAD {
        return Err(Usage(format!("`{}` is longer than {PAYLOAD} bytes", path.display())).into());
    }
    Ok(bytes)
}

fn remove(store: &mut Store, table: &OrderTable, order_id: &str) -> Result<ExitCode> {
    let me = (process::new_owner(), process::who());
    let changed = store
        .remove_order(table, order_id, (&me.0, &me.1))
        .with_context(|| format!("cannot take order `{order_id}` out"))?;
    match changed {
        OrderChange::Done => Ok(ExitCode::Success),
        OrderChange::Refused(Some(state)) => {
            Err(Refused(format!("order `{order_id}` is {state} and cannot be taken out")).into())
        }
        OrderChange::Refused(None) => Err(Usage(no_such_order(table, order_id)).into()),
    }
}
