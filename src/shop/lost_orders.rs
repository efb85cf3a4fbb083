//! `process-lost-orders`: orders whose transfer to the ERP failed, sent again until it has them or they are given up.
//!
//! An order is claimed, sent and recorded, each for itself, so that a crash leaves at most those unrecorded that were being
//! sent: they are sent again, with the same key, when their claim has run out. Who is to be told of a failure is
//! written with it, and crossed off when somebody was told: a crash between the two tells twice rather than never.

use std::collections::HashSet;
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result};

use super::sending::{Breaker, end_of, lease, send, sign};
use super::step::{self, Given, StepEnd};
use super::{Done, Shop, Tell};
use crate::config::{LostOrders, Step};
use crate::job::shop::OrderVerdict;
use crate::job::{Builtin, Outcome};
use crate::store::{
    ClaimedOrder, OrderAttempt, OrderClaim, OrderEnd, OrderReach, OrderRecorded, Sender, StoreError,
    UNWRITTEN,
};

/// How often in a row telling may fail before the rest is left to the next pass.
const IN_VAIN: u32 = 3;

/// Bytes of what the one who is told says, shown if telling fails.
const SAID: u64 = 4 << 10;

/// Sends every order that is due, or the one that is named, whatever its count and its wait.
///
/// # Errors
///
/// When jobs.yaml names a table or column that is not there; when the database fails.
pub fn run(shop: &mut Shop<'_>, settings: &LostOrders, named: Option<&str>, tell: Tell<'_>) -> Result<Done> {
    let table = &settings.table;
    let kinds = shop
        .store
        .require_columns("lost_orders", &table.table, &table.columns())
        .context("cannot read lost orders")?;
    require_readable_ids(settings, kinds.first().map_or("", String::as_str))?;
    let signs: Vec<_> = shop
        .patiently(|store| store.latest_order_ends(table, settings.circuit_breaker))
        .context("cannot read lost orders")?
        .iter()
        .map(|(outcome, exit_code)| sign(settings, outcome, *exit_code))
        .collect();
    let mut pass = Pass {
        settings,
        breaker: Breaker::after(if named.is_some() { u32::MAX } else { settings.circuit_breaker }, &signs),
        tried: HashSet::new(),
        is_named: named.is_some(),
        done: Done::Well,
    };
    // What the pass before could not tell any more.
    let is_told = tell_news(shop, settings, tell)?;
    if let Some(order_id) = named {
        pass.send_all(shop, vec![order_id.to_owned()], tell)?;
    } else {
        pass.send_due(shop, tell)?;
    }
    if pass.breaker.is_open && named.is_none() {
        tell("the ERP seems to be down: nothing more is sent for now; the next pass tries one order");
        // Told once a day, not by each pass while it lasts.
        let name = shop.config.builtin(Builtin::ProcessLostOrders).map_or("", |definition| &definition.name);
        let is_known = shop.patiently(|store| store.has_complained(table, name));
        if !is_known.context("cannot read the latest jobs")? {
            pass.done = Done::Badly;
        }
    }
    if is_told == Done::Badly || tell_news(shop, settings, tell)? == Done::Badly || shop.stop.is_asked() {
        pass.done = Done::Badly;
    }
    Ok(pass.done)
}

/// Ids are compared as text, so they must have one.
fn require_readable_ids(settings: &LostOrders, kind: &str) -> Result<()> {
    let (table, unreadable) = (&settings.table, ["binary", "blob", "bit", "date", "time", "float", "double"]);
    if unreadable.iter().any(|word| kind.contains(word)) {
        anyhow::bail!(
            "lost_orders.columns.order_id: the column `{}` of `{}` is of type {kind}; expected text or whole numbers",
            table.order_id,
            table.table
        );
    }
    Ok(())
}

struct Pass<'a> {
    settings: &'a LostOrders,
    breaker: Breaker,
    /// Orders that this pass has had its try at.
    tried: HashSet<String>,
    is_named: bool,
    done: Done,
}

impl Pass<'_> {
    fn send_due(&mut self, shop: &mut Shop<'_>, tell: Tell<'_>) -> Result<()> {
        while self.breaker.lets_through(0) && !shop.stop.is_asked() {
            let table = &self.settings.table;
            let due =
                shop.patiently(|store| store.due_order_ids(table)).context("cannot read lost orders")?;
            let due: Vec<String> = due.into_iter().filter(|id| self.tried.insert(id.clone())).collect();
            if due.is_empty() {
                break;
            }
            self.send_all(shop, due, tell)?;
        }
        Ok(())
    }

    /// Sends orders, as many at once as allowed, and records each end as it comes.
    fn send_all(&mut self, shop: &mut Shop<'_>, order_ids: Vec<String>, tell: Tell<'_>) -> Result<()> {
        let (settings, config) = (self.settings, shop.config);
        let (folder, stop) = (config.folder(), shop.stop.clone());
        let mut order_ids = order_ids.into_iter();
        let mut failed = None;
        std::thread::scope(|scope| {
            let (sender, ends) = channel();
            let mut active = 0;
            loop {
                while active < settings.concurrency
                    && self.breaker.lets_through(active)
                    && failed.is_none()
                    && !stop.is_asked()
                {
                    let Some(order_id) = order_ids.next() else { break };
                    match self.claim(shop, &order_id, tell) {
                        Ok(None) => {}
                        Ok(Some(order)) => {
                            let (sender, stop) = (sender.clone(), stop.clone());
                            active += 1;
                            scope.spawn(move || {
                                let end = send(settings, &order, folder, &stop);
                                sender.send((order, end)).is_ok()
                            });
                        }
                        Err(err) => failed = Some(err),
                    }
                }
                if active == 0 {
                    break;
                }
                let Ok((order, end)) = ends.recv() else { break };
                active -= 1;
                // What is under way is recorded, whatever else went wrong.
                if let Err(err) = self.record(shop, &order, end, tell) {
                    failed.get_or_insert(err);
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn claim(&mut self, shop: &mut Shop<'_>, order_id: &str, tell: Tell<'_>) -> Result<Option<ClaimedOrder>> {
        let (owner, host, job_id) = (shop.owner.clone(), shop.host.clone(), shop.job_id);
        let sender = Sender { owner: &owner, host: &host, job_id, lease: lease(self.settings) };
        let (table, most) = (&self.settings.table, self.settings.max_failed);
        let claim = shop.patiently(|store| store.claim_order(table, order_id, &sender, most, self.is_named));
        let claim = match claim {
            // Whatever is wrong with this one must not hold the others up.
            Err(err) if !err.is_away() => {
                tell(&format!("{order_id}: cannot be claimed: {err}"));
                self.done = Done::Badly;
                return Ok(None);
            }
            other => other.with_context(|| format!("cannot claim order `{order_id}`"))?,
        };
        let why = match claim {
            OrderClaim::Claimed(order) => return Ok(Some(order)),
            OrderClaim::GivenUp => {
                tell(&format!("{order_id}: given up, since whoever sent it vanished again"));
                return Ok(None);
            }
            OrderClaim::NotDue => "is being sent by another".to_owned(),
            OrderClaim::NotLost(Some(state)) => format!("is `{state}` by now"),
            OrderClaim::NotLost(None) => "is gone".to_owned(),
        };
        if self.is_named {
            tell(&format!("{order_id}: not sent, it {why}"));
            self.done = Done::Badly;
        }
        Ok(None)
    }

    fn record(
        &mut self,
        shop: &mut Shop<'_>,
        order: &ClaimedOrder,
        end: StepEnd,
        tell: Tell<'_>,
    ) -> Result<()> {
        let (settings, order_id, owner) = (self.settings, &order.order_id, shop.owner.clone());
        self.breaker.note(sign(settings, end.outcome.as_str(), end.outcome.exit_code()));
        let end = end_of(settings, order, end);
        let mut recorded = Err(StoreError::Other(String::new()));
        // What the ERP has said must not be lost to anything that is wrong with the shop's own row.
        for reach in [OrderReach::All, OrderReach::WithoutNumber, OrderReach::AttemptOnly] {
            recorded =
                shop.patiently(|store| store.finish_order(&settings.table, order, &owner, &end, reach));
            match &recorded {
                Err(err) if !err.is_away() => {
                    tell(&format!("{order_id}: cannot be written to `{}`: {err}", settings.table.table));
                    self.done = Done::Badly;
                }
                Ok(_) | Err(_) => break,
            }
        }
        let recorded =
            recorded.with_context(|| format!("cannot record that order `{order_id}` {}", end.outcome))?;
        tell(&format!("{order_id}: {}", described(&end)));
        let is_fault = matches!(end.outcome, Outcome::NotStarted(_));
        if is_fault || (self.is_named && end.verdict != OrderVerdict::Confirmed) {
            self.done = Done::Badly;
        }
        match recorded {
            OrderRecorded::Yes => {}
            OrderRecorded::TooLate => {
                tell(&format!("{order_id}: that came too late and was dropped; another sends it"));
            }
            OrderRecorded::StateLeft(state) => {
                tell(&format!("{order_id}: its state was `{state}` by then and was left"));
                self.done = Done::Badly;
            }
        }
        Ok(())
    }
}

fn described(end: &OrderEnd) -> String {
    match (end.verdict, &end.erp_order_id) {
        (OrderVerdict::Confirmed, Some(number)) => format!("confirmed as {number}"),
        (OrderVerdict::Confirmed, None) => "confirmed".to_owned(),
        (OrderVerdict::GivenUp, _) => format!("{}; given up", end.outcome),
        (OrderVerdict::Again, _) => format!("{}; sent again later", end.outcome),
        (OrderVerdict::Uncounted, _) => format!("{}; sent again later, this try does not count", end.outcome),
    }
}

/// Tells of orders that failed for the first time and of those that were given up, to the command that is declared for
/// it, else to whoever reads what this prints; and writes down what the shop's own table did not take before.
fn tell_news(shop: &mut Shop<'_>, settings: &LostOrders, tell: Tell<'_>) -> Result<Done> {
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
