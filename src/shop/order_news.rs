//! Telling of lost orders: of the first failure of each and of those that were given up.
//!
//! What is to be told is written with the end of the try, and crossed off when somebody was told: a crash between the two tells
//! twice rather than never. What the shop's own table did not take before is written down along with it.

use anyhow::{Context as _, Result};

use super::step::{self, Given};
use super::{Done, Shop, Tell};
use crate::config::{LostOrders, Step};
use crate::job::Outcome;
use crate::store::{OrderAttempt, UNWRITTEN};

/// How often in a row telling may fail before the rest is left to the next pass.
const IN_VAIN: u32 = 3;

/// Bytes of what the one who is told says, shown if telling fails.
const SAID: u64 = 4 << 10;

/// Tells of orders that failed for the first time and of those that were given up, to the command that is declared for
/// it, else to whoever reads what this prints; and writes down what the shop's own table did not take before.
pub(super) fn tell_news(shop: &mut Shop<'_>, settings: &LostOrders, tell: Tell<'_>) -> Result<Done> {
    let table = &settings.table;
    let (mut done, mut in_vain) = (Done::Well, 0);
    let news = shop.patiently(|store| store.untold_orders(table)).context("cannot read lost orders")?;
    for attempt in &news {
        let order_id = &attempt.order_id;
        if shop.stop.is_asked() || in_vain == IN_VAIN {
            break;
        }
        let told = match &settings.on_failed {
            _ if attempt.tell.as_deref() == Some(UNWRITTEN) => confirm_late(shop, settings, attempt),
            Some(step) => tell_of(shop, settings, step, attempt)
                .map_err(|why| format!("nobody could be told of its failure, since on_failed {why}")),
            None => {
                let what = match attempt.tell.as_deref() {
                    Some("given_up") => "was given up",
                    _ => "failed for the first time",
                };
                tell(&format!("{order_id}: {what}; `duly lost-orders show {order_id}` tells more"));
                done = Done::Badly;
                Ok(())
            }
        };
        match told {
            Ok(()) => {
                in_vain = 0;
                shop.patiently(|store| store.set_order_told(table, attempt))
                    .context("cannot cross news off")?;
            }
            Err(why) => {
                tell(&format!("{order_id}: {why}"));
                (done, in_vain) = (Done::Badly, in_vain + 1);
            }
        }
    }
    Ok(done)
}

/// Writes down that the ERP has an order, without its number where that is what the table refuses.
fn confirm_late(
    shop: &mut Shop<'_>,
    settings: &LostOrders,
    attempt: &OrderAttempt,
) -> std::result::Result<(), String> {
    let table = &settings.table;
    let mut write = |number: Option<&str>| {
        shop.patiently(|store| store.confirm_order(table, &attempt.order_id, attempt.attempt, number))
    };
    let mut written = write(attempt.erp_order_id.as_deref());
    if written.as_ref().is_err_and(|err| !err.is_away()) {
        written = write(None);
    }
    written
        .map(drop)
        .map_err(|err| format!("the ERP has it, which cannot be written to `{}`: {err}", table.table))
}

fn tell_of(
    shop: &Shop<'_>,
    settings: &LostOrders,
    step: &Step,
    attempt: &OrderAttempt,
) -> std::result::Result<(), String> {
    let event = attempt.tell.as_deref().unwrap_or_default();
    let text = serde_json::json!({
        "event": event,
        "order_id": attempt.order_id,
        "attempt": attempt.attempt,
        "failures": attempt.failures,
        "max_failed": settings.max_failed,
        "outcome": attempt.outcome,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "reason": attempt.reason,
        "answer": attempt.answer,
        "next_at": attempt.next_at().map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
        "idempotency_key": settings.table.idempotency_key(&attempt.order_id),
    });
    let env = [("DULY_ORDER_ID", attempt.order_id.clone()), ("DULY_ORDER_EVENT", event.to_owned())];
    let given = Given {
        step,
        folder: shop.config.folder(),
        env: env.map(|(name, value)| (name.to_owned(), value)).into(),
        input: format!("{text}\n").into_bytes(),
        output_limit: SAID,
        hold: None,
    };
    let end = step::execute(given, &shop.stop);
    match end.outcome {
        Outcome::Success => Ok(()),
        outcome => Err(format!("{outcome}: {}", end.output.trim())),
    }
}
