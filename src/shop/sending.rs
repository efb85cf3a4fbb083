//! Sending one lost order: the command, and what its end means for the order and for the pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::PATIENCE;
use super::step::{self, GRACE, Given, StepEnd, Stop};
use crate::config::LostOrders;
use crate::job::shop::OrderVerdict;
use crate::job::{Outcome, fnv1a};
use crate::store::{ClaimedOrder, OrderEnd};

/// Bytes of the ERP's answer that are kept per try.
const ANSWER: u64 = 64 << 10;

/// Characters of the ERP's number that are kept.
const NUMBER: usize = 190;

/// What a try says about the ERP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It has answered, one way or the other.
    Answered,
    /// The try failed; it may be down.
    Failed,
    /// It could not be asked.
    Unavailable,
    /// Nothing: the try was stopped.
    None,
}

/// How long a claim holds: as long as a try may take, and then as long as a database is waited for to record it.
pub(super) fn lease(settings: &LostOrders) -> Duration {
    settings.send.timeout.unwrap_or_default() + GRACE + PATIENCE + Duration::from_secs(25)
}

/// Sends an order.
pub(super) fn send(settings: &LostOrders, order: &ClaimedOrder, folder: &Path, stop: &Stop) -> StepEnd {
    let env = BTreeMap::from(
        [
            ("DULY_ORDER_ID", order.order_id.clone()),
            ("DULY_IDEMPOTENCY_KEY", settings.table.idempotency_key(&order.order_id)),
            ("DULY_ORDER_ATTEMPT", order.attempt.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let input = order.payload.clone();
    // Should the machine sleep, it does not go on with what another may have taken over.
    let hold = Some(lease(settings).saturating_sub(Duration::from_secs(10)));
    step::execute(Given { step: &settings.send, folder, env, input, output_limit: ANSWER, hold }, stop)
}

/// What the end of a try says about the ERP.
pub(super) fn sign(settings: &LostOrders, outcome: &str, exit_code: Option<i32>) -> Sign {
    let is_among = |codes: &[i32]| exit_code.is_some_and(|code| codes.contains(&code));
    match outcome {
        "success" => Sign::Answered,
        "not_started" => Sign::Unavailable,
        "exited" if is_among(&settings.permanent_exit_codes) => Sign::Answered,
        "exited" if is_among(&settings.unavailable_exit_codes) => Sign::Unavailable,
        "exited" | "signalled" | "timed_out" => Sign::Failed,
        _ => Sign::None,
    }
}

/// What is known of an order, and of the ERP, when a try of it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The ERP seems to be down, so that a try that fails says nothing about the order.
    pub(super) is_down: bool,
    /// An earlier try of it has failed, since it was put in or put back.
    pub(super) has_failed: bool,
}

/// What the end of a try means for its order.
pub(super) fn end_of(settings: &LostOrders, order: &ClaimedOrder, end: StepEnd, known: Known) -> OrderEnd {
    let is_permanent =
        matches!(end.outcome, Outcome::Exited(code) if settings.permanent_exit_codes.contains(&code));
    let failures = order.failures.unsigned_abs() + 1;
    let sign = sign(settings, end.outcome.as_str(), end.outcome.exit_code());
    let verdict = match sign {
        Sign::Answered if end.outcome == Outcome::Success => OrderVerdict::Confirmed,
        Sign::Unavailable | Sign::None if order.was_given_up => OrderVerdict::GivenUp,
        Sign::Unavailable | Sign::None => OrderVerdict::Uncounted,
        Sign::Failed if known.is_down && !order.was_given_up => OrderVerdict::Uncounted,
        Sign::Answered | Sign::Failed
            if is_permanent || order.was_given_up || failures >= settings.max_failed =>
        {
            OrderVerdict::GivenUp
        }
        Sign::Answered | Sign::Failed => OrderVerdict::Again,
    };
    let tell = match verdict {
        OrderVerdict::GivenUp if !order.was_given_up => Some("given_up"),
        OrderVerdict::Again | OrderVerdict::Uncounted if sign == Sign::Failed && !known.has_failed => {
            Some("failed")
        }
        _ => None,
    };
    let wait = match &end.outcome {
        Outcome::Interrupted => Duration::ZERO,
        _ => settings.backoff.delay(failures, fnv1a(order.order_id.as_bytes()) ^ u64::from(failures)),
    };
    let last_line = || end.answer.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let number = (verdict == OrderVerdict::Confirmed).then(last_line).flatten();
    OrderEnd {
        verdict,
        wait,
        ran: end.ran,
        tell,
        erp_order_id: number.map(|line| line.chars().take(NUMBER).collect()),
        answer: (!end.output.is_empty()).then_some(end.output),
        outcome: end.outcome,
    }
}

/// Stops a pass when the ERP seems to be down. While the pass before ended so, one order at a time is tried.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: u32,
    in_a_row: u32,
    is_half_open: bool,
    /// Whether nothing more is to be sent.
    pub(super) is_open: bool,
}

impl Breaker {
    /// How it stands after the latest tries, the latest one first: failures in a row are, whichever pass they were of.
    pub(super) fn after(limit: u32, signs: &[Sign]) -> Self {
        let row = signs.iter().take_while(|sign| **sign != Sign::Answered);
        let in_a_row = u32::try_from(row.count()).unwrap_or(u32::MAX);
        let is_half_open = in_a_row >= limit || signs.first() == Some(&Sign::Unavailable);
        Self { limit, in_a_row, is_half_open, is_open: false }
    }

    /// One that stops nothing.
    pub(super) const fn none() -> Self {
        Self { limit: u32::MAX, in_a_row: 0, is_half_open: false, is_open: false }
    }

    /// Whether another order may be sent while `active` are.
    pub(super) const fn lets_through(&self, active: usize) -> bool {
        !self.is_open && (!self.is_half_open || active == 0)
    }

    /// Whether a try that fails now says nothing about its order.
    pub(super) const fn is_down(&self) -> bool {
        self.is_open || self.in_a_row >= self.limit
    }

    /// Takes a sign in.
    pub(super) const fn note(&mut self, sign: Sign) {
        match sign {
            Sign::Answered => (self.in_a_row, self.is_half_open) = (0, false),
            Sign::Failed => {
                self.in_a_row += 1;
                self.is_open |= self.is_half_open || self.in_a_row >= self.limit;
            }
            Sign::Unavailable => self.is_open = true,
            Sign::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_failures_in_a_row_stop_a_pass_and_an_answer_starts_the_row_again() {
        let mut breaker = Breaker::after(3, &[]);
        for sign in [Sign::Failed, Sign::Failed, Sign::Answered, Sign::Failed, Sign::Failed, Sign::None] {
            breaker.note(sign);
            assert!(breaker.lets_through(5));
        }
        breaker.note(Sign::Failed);
        assert!(!breaker.lets_through(0));
    }

    #[test]
    fn after_a_pass_that_was_stopped_one_order_at_a_time_is_tried() {
        for signs in [&[Sign::Failed; 3][..], &[Sign::Unavailable, Sign::Answered]] {
            let mut breaker = Breaker::after(3, signs);
            assert!(breaker.lets_through(0) && !breaker.lets_through(1));
            breaker.note(Sign::Answered);
            assert!(breaker.lets_through(1));
        }
        let mut breaker = Breaker::after(3, &[Sign::Failed; 3]);
        breaker.note(Sign::Failed);
        assert!(!breaker.lets_through(0));
        assert!(Breaker::after(3, &[Sign::Failed, Sign::Failed]).lets_through(1));
        assert!(Breaker::after(3, &[Sign::Failed, Sign::Answered, Sign::Failed]).lets_through(1));
    }

    #[test]
    fn failures_of_the_passes_before_are_of_the_same_row() {
        let mut breaker = Breaker::after(3, &[Sign::Failed, Sign::Failed, Sign::Answered, Sign::Failed]);
        assert!(breaker.lets_through(1) && !breaker.is_down());
        breaker.note(Sign::Failed);
        assert!(!breaker.lets_through(0) && breaker.is_down());
    }
}
