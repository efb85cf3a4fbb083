//! How a job ended that will not run any more.

use super::{Facts, Here, Kind, Reason, clock};
use crate::job::State;

pub(super) fn ended(facts: &Facts, here: &Here) -> Reason {
    let at = facts.finished_at.map_or_else(String::new, |at| format!(" at {}", clock(at)));
    let why = facts.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    let most = facts.max_attempts.map_or_else(String::new, |most| format!(" of {most}"));
    let tried = format!("attempt {}{most}", facts.attempts);
    let text = match facts.state {
        State::Success => format!("it has succeeded{at}, with its {tried}"),
        State::Cancelled => format!("it was cancelled{at}{why}"),
        State::Stale => format!("it was given up{at} as stale{why}"),
        _ if facts.attempts == 0 => format!("it failed{at} and was never started{why}"),
        _ => {
            let how = match (facts.exit_code, facts.outcome.as_deref()) {
                (Some(0), _) => ", though its command succeeded: a child of it failed".to_owned(),
                (Some(code), _) => format!(": it exited with {code}"),
                (None, Some(outcome)) => format!(": {outcome}"),
                (None, None) => String::new(),
            };
            let why = if facts.exit_code.is_some() { "" } else { why.as_str() };
            format!("it failed{at} with its {tried}{how}{why}")
        }
    };
    let next = if here.declared_queue.is_none() {
        format!("nothing starts it again; `{}` is not declared in {}", facts.name, here.config)
    } else if facts.state == State::Success {
        format!("nothing, it is done; `duly start {}` puts another one in", facts.name)
    } else {
        format!("nothing starts it again; `duly retry {}` puts in another one like it", facts.id)
    };
    Reason::new(Kind::Ended, text, next)
}
