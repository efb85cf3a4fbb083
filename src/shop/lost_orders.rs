//! `process-lost-orders`: orders whose transfer to the ERP failed, sent again until it has them or they are given up.
//!
//! An order is claimed, sent and recorded, each for itself, so that a crash leaves at most those unrecorded that were being
//! sent: they are sent again, with the same key, when their claim has run out. Telling people is `order_news`'s business.

use std::collections::HashSet;
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result};

use super::order_news::tell_news;
use super::sending::{Breaker, Known, Sign, end_of, lease, send, sign};
use super::step::StepEnd;
use super::{Done, Shop, Tell};
use crate::config::LostOrders;
use crate::job::shop::OrderVerdict;
use crate::job::{Builtin, Outcome};
use crate::store::{
    ClaimedOrder, ORDER_PAGE, OrderClaim, OrderEnd, OrderReach, OrderRecorded, Sender, StoreError,
};

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
        breaker: if named.is_some() {
            Breaker::none()
        } else {
            Breaker::after(settings.circuit_breaker, &signs)
        },
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
        // Orders that cannot be claimed stay due, and at the head: the page after them is looked at then.
        let mut passed_over = 0;
        while self.breaker.lets_through(0) && !shop.stop.is_asked() {
            let table = &self.settings.table;
            let page = shop
                .patiently(|store| store.due_order_ids(table, passed_over))
                .context("cannot read lost orders")?;
            let found = page.len();
            let due: Vec<String> = page.into_iter().filter(|id| self.tried.insert(id.clone())).collect();
            if !due.is_empty() {
                self.send_all(shop, due, tell)?;
            } else if found == ORDER_PAGE {
                passed_over += found;
            } else {
                break;
            }
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

    /// Takes a sign in, and tells what is known of the order and of the ERP with it.
    ///
    /// An order is not given up for its count where the ERP has answered nobody since the order first failed: then it may be the
    /// ERP, though too few orders are lost for a row of failures as long as `circuit_breaker`.
    fn known(&mut self, shop: &mut Shop<'_>, order: &ClaimedOrder, sign: Sign) -> Result<Known> {
        let settings = self.settings;
        let mut known = Known { is_down: self.breaker.is_down(), has_failed: false };
        self.breaker.note(sign);
        if sign != Sign::Failed {
            return Ok(known);
        }
        let log = shop
            .patiently(|store| store.failures_before(&settings.table, order))
            .context("cannot read the tries before")?;
        known.has_failed =
            log.iter().any(|(outcome, code)| self::sign(settings, outcome, *code) == Sign::Failed);
        let would_be_last = order.failures.unsigned_abs() + 1 >= settings.max_failed;
        if would_be_last && order.failures > 0 && !known.is_down && !self.is_named {
            let codes = &settings.permanent_exit_codes;
            known.is_down = !shop
                .patiently(|store| store.has_answered_since_failure(&settings.table, order, codes))
                .context("cannot read the tries before")?;
            self.breaker.is_open |= known.is_down;
        }
        Ok(known)
    }

    fn record(
        &mut self,
        shop: &mut Shop<'_>,
        order: &ClaimedOrder,
        end: StepEnd,
        tell: Tell<'_>,
    ) -> Result<()> {
        let (settings, order_id, owner) = (self.settings, &order.order_id, shop.owner.clone());
        let sign = sign(settings, end.outcome.as_str(), end.outcome.exit_code());
        let known = self.known(shop, order, sign)?;
        let end = end_of(settings, order, end, known);
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
