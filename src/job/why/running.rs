//! What a running job is doing, and whether its runner is there.

use chrono::TimeDelta;

use super::{Facts, Here, Kind, Reason, clock, length, listed};

/// How long after the end of a lease a tick takes the job back.
const SLACK: TimeDelta = TimeDelta::seconds(10);

pub(super) fn running(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(since) = facts.cancel_requested_at {
        let why = facts.reason.as_deref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let text = format!("it is being cancelled since {}{why}", clock(since));
        reasons.push(Reason::new(Kind::Cancelling, text, who_cancels(facts, here)));
    }
    match &facts.owner {
        None => reasons.push(children(facts)),
        Some(_) if here.is_runner_alive == Some(false) => {
            let text = format!("its runner on this host ({}) is dead", here.host);
            let next =
                format!("the next tick on this host ends what it left running, and {}", taken_back(facts));
            reasons.push(Reason::new(Kind::RunnerDead, text, next));
        }
        Some(_) if facts.lease_until.is_some_and(|until| until < facts.now) => {
            reasons.push(lease_ended(facts));
        }
        Some(_) => reasons.push(held(facts, here)),
    }
    reasons
}

/// Who ends a running job that is to be cancelled, and when.
pub(in crate::job) fn who_cancels(facts: &Facts, here: &Here) -> String {
    let host = facts.host.as_deref().unwrap_or("a host without a name");
    match facts.lease_until {
        _ if facts.owner.is_none() => {
            "its own command has ended, and it is cancelled when those of its children that run have ended"
                .to_owned()
        }
        _ if here.is_runner_alive == Some(false) => {
            format!("its runner on this host ({}) is dead; the next tick on this host cancels it", here.host)
        }
        Some(until) if until < facts.now => {
            let since = length(facts.now - until);
            let when = if until + SLACK > facts.now {
                format!("any tick after {}", clock(until + SLACK))
            } else {
                "the next tick of any host".to_owned()
            };
            format!("its runner on {host} vanished, for its lease ended {since} ago; {when} cancels it")
        }
        _ => "its runner looks for that each second and stops it; after its `grace` it is killed".to_owned(),
    }
}

/// What whoever takes a job back does to it.
const fn taken_back(facts: &Facts) -> &'static str {
    if facts.cancel_requested_at.is_some() { "cancels it" } else { "records the attempt as orphaned" }
}

/// `attempt 2 of 3`.
fn attempt(facts: &Facts) -> String {
    let most = facts.max_attempts.map_or_else(String::new, |most| format!(" of {most}"));
    format!("attempt {}{most}", facts.attempts)
}

fn held(facts: &Facts, here: &Here) -> Reason {
    let host = facts.host.as_deref().unwrap_or("a host without a name");
    let since = facts
        .started_at
        .map_or_else(String::new, |at| format!(" since {} ({} ago)", clock(at), length(facts.now - at)));
    let lease = facts.lease_until.map_or_else(String::new, |until| {
        format!(", held by a lease until {}, in {}", clock(until), length(until - facts.now))
    });
    let alive = if here.is_runner_alive == Some(true) { ", whose runner is alive" } else { "" };
    Reason::new(
        Kind::Running,
        format!("it is running: {} on {host}{alive},{since}{lease}", attempt(facts)),
        format!(
            "its runner renews the lease; should that end, another host takes the job back. `duly show {} --follow` shows \
             its output",
            facts.id
        ),
    )
    .until(facts.lease_until)
}

fn lease_ended(facts: &Facts) -> Reason {
    let host = facts.host.as_deref().unwrap_or("a host without a name");
    let until = facts.lease_until.unwrap_or(facts.now);
    let take_back = until + SLACK;
    let end = taken_back(facts);
    let next = if take_back > facts.now {
        format!("any tick after {} takes it back and {end}", clock(take_back))
    } else if facts.hosts.iter().any(|other| other.ticks(facts.now)) {
        format!("the next tick of any host takes it back and {end}")
    } else {
        format!("a tick of any host takes it back and {end}, but no host ticks: see `duly status`")
    };
    Reason::new(
        Kind::LeaseEnded,
        format!(
            "its runner on {host} has given no sign of life: the lease of its {} ended at {}, {} ago",
            attempt(facts),
            clock(until),
            length(facts.now - until)
        ),
        next,
    )
}

fn children(facts: &Facts) -> Reason {
    let (all, ended) = facts.children;
    let own = facts.own_end.as_deref().unwrap_or("success");
    let open = (all - ended).max(0);
    let stale = facts.time_before_stale.map_or_else(String::new, |limit| {
        format!("; it is given up when there is no sign of life for {}", crate::job::duration::exact(limit))
    });
    if facts.open_children.is_empty() {
        return Reason::new(
            Kind::Children,
            format!("its own command has ended ({own}), and so have all of its {all} children"),
            "the next tick ends it",
        );
    }
    Reason::new(
        Kind::Children,
        format!(
            "its own command has ended ({own}), and it waits for {open} of its {all} children: {}{stale}",
            listed(&facts.open_children)
        ),
        format!(
            "the end of the last of them; `duly why {}` says what that one waits for",
            facts.open_children[0].id
        ),
    )
    .about(&facts.open_children)
}
