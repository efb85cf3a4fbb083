//! The reasons for each state, the one that decides most first.

use super::ended::ended;
use super::held_back::{held_back, limits, slots};
use super::running::running;
use super::{Facts, Here, Kind, Reason, clock, length};
use crate::job::State;

/// Why the job is not running, or what it does if it is; never empty.
#[must_use]
pub fn why(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons = match facts.state {
        State::New => new(facts, here),
        State::Waiting => waiting(facts, here),
        State::Delayed => delayed(facts, here),
        State::Pending => pending(facts, here),
        State::Running => running(facts, here),
        State::Success | State::Failed | State::Cancelled | State::Stale => vec![ended(facts, here)],
    };
    if here.declared_queue.is_some() && !here.is_enabled && !facts.state.is_ended() {
        reasons.push(Reason::new(
            Kind::Disabled,
            format!(
                "`{}` is disabled: its schedule makes no jobs; this one is not held back by that",
                facts.name
            ),
            "set `enabled: true` in jobs.yaml for its schedule to go on",
        ));
    }
    reasons
}

fn new(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons = held_back(facts, here);
    let age = facts.created_at.map_or_else(String::new, |at| format!(" {} ago", length(facts.now - at)));
    reasons.push(Reason::new(
        Kind::NotAdopted,
        format!("an application inserted it{age}, and no tick has taken it in yet"),
        match reasons.is_empty() {
            true => "the next tick of a host that declares its name takes it in",
            false => "a tick takes it in when nothing of the above is in the way",
        },
    ));
    reasons.extend(not_before(facts));
    reasons
}

/// When a tick looks at a job all of whose prerequisites have ended.
fn settled(facts: &Facts, what: &str) -> String {
    match facts.lease_until.filter(|at| *at > facts.now) {
        Some(at) => format!("the first tick after {} looks at it again and {what}", clock(at)),
        None => format!("the next tick {what}"),
    }
}

fn waiting(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    let mut is_over = false;
    for (other, on) in &facts.prerequisites {
        let wish = match on {
            crate::job::On::Success => "succeed",
            crate::job::On::Failure => "fail",
            crate::job::On::Always => "end",
            crate::job::On::Finished => "succeed or fail",
        };
        match other.state {
            None => {
                is_over = true;
                reasons.push(
                    Reason::new(
                        Kind::Unsettled,
                        format!("it was to start after job {}, which no longer exists", other.id),
                        format!("nothing starts it any more: {}", settled(facts, "cancels it")),
                    )
                    .about([other]),
                );
            }
            Some(state) if !state.is_ended() => reasons.push(
                Reason::new(
                    Kind::Prerequisite,
                    format!("it waits for {} to {wish}, which is {state}", other.shown()),
                    format!("the end of job {0}; `duly why {0}` says what that waits for", other.id),
                )
                .about([other]),
            ),
            Some(state) if on.is_met_by(state) => {}
            Some(state) => {
                is_over = true;
                reasons.push(
                    Reason::new(
                        Kind::Unsettled,
                        format!("it was to start when {} would {wish}, and that is {state}", other.shown()),
                        format!("nothing starts it any more: {}", settled(facts, "cancels it")),
                    )
                    .about([other]),
                );
            }
        }
    }
    let is_free = reasons.is_empty();
    if is_free {
        reasons.push(Reason::new(
            Kind::Unsettled,
            "all that it waited for has ended as asked",
            settled(facts, "moves it on"),
        ));
    }
    if !is_over {
        reasons.extend(not_before(facts));
    }
    reasons.extend(held_back(facts, here));
    reasons
}

fn delayed(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    let ahead = facts.run_at.filter(|at| *at > facts.now);
    match (ahead, &facts.last_attempt) {
        (Some(at), Some(last)) if facts.attempts > 0 => {
            let most = facts.max_attempts.map_or_else(String::new, |most| format!(" of {most}"));
            let how = match (last.exit_code, last.signal, &last.reason) {
                (Some(code), _, _) => format!("exited with {code}"),
                (None, Some(signal), _) => format!("was ended by signal {signal}"),
                (None, None, Some(why)) => format!("ended as {}: {why}", last.outcome),
                (None, None, None) => format!("ended as {}", last.outcome),
            };
            reasons.push(
                Reason::new(
                    Kind::BackOff,
                    format!(
                        "its attempt {}{most} {how}; the next one is not before {}, in {}",
                        last.attempt,
                        clock(at),
                        length(at - facts.now)
                    ),
                    format!("the first tick after that; `duly show {}` has its output", facts.id),
                )
                .until(Some(at)),
            );
        }
        (Some(at), _) if facts.scheduled_for.is_some_and(|due| due < at) => {
            let due = facts.scheduled_for.map_or_else(String::new, clock);
            reasons.push(
                Reason::new(
                    Kind::Jitter,
                    format!(
                        "its occurrence is that of {due}, and `jitter` spreads its start to {}, in {}",
                        clock(at),
                        length(at - facts.now)
                    ),
                    "the first tick after that",
                )
                .until(Some(at)),
            );
        }
        (Some(_), _) => reasons.extend(not_before(facts)),
        (None, _) => {
            let since =
                facts.run_at.map_or_else(String::new, |at| format!(" {} ago", length(facts.now - at)));
            reasons.push(Reason::new(
                Kind::Due,
                format!("its time came{since}, and no tick has moved it on yet"),
                "the next tick makes it startable",
            ));
        }
    }
    let held = held_back(facts, here);
    if ahead.is_none() && !held.is_empty() {
        return held.into_iter().chain(reasons).collect();
    }
    reasons.extend(held);
    reasons
}

fn pending(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons = held_back(facts, here);
    if let Some((root, true)) = &facts.root {
        reasons.insert(
            0,
            Reason::new(
                Kind::RootCancelled,
                format!("its root, {}, is being cancelled", root.shown()),
                "nothing starts it any more: the claim that comes upon it cancels it",
            )
            .about([root]),
        );
    }
    reasons.extend(limits(facts, here));
    reasons.extend(slots(here));
    if facts.ahead > 0 {
        let many = if facts.ahead >= 1000 { "1,000 or more".to_owned() } else { facts.ahead.to_string() };
        let queue = facts.queue.as_deref().unwrap_or("default");
        reasons.push(Reason::new(
            Kind::Ahead,
            format!("startable jobs of queue `{queue}` that come first: {many}"),
            "its turn comes when these have started; more slots (runner.concurrency) or a higher priority bring it nearer",
        ));
    }
    if reasons.is_empty() {
        let since = facts.run_at.map_or_else(String::new, |at| format!(" since {}", clock(at)));
        reasons.push(Reason::new(
            Kind::Startable,
            format!("nothing holds it back: it is startable{since}"),
            "the next tick of a host with a free slot starts it",
        ));
    }
    reasons
}

/// That it was asked for at a time that has not come.
fn not_before(facts: &Facts) -> Option<Reason> {
    let at = facts.run_at.filter(|at| *at > facts.now)?;
    Some(
        Reason::new(
            Kind::NotBefore,
            format!("it was put in for {}, which is in {}", clock(at), length(at - facts.now)),
            "the first tick after that",
        )
        .until(Some(at)),
    )
}
