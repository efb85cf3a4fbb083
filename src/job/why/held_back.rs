//! What keeps a job from starting though its time has come: pauses, names and queues that nobody has, hosts that do not
//! tick, limits, slots.

use super::{Facts, Here, Hold, Kind, Other, Reason, clock, length, listed};
use crate::job::Host;

/// Everything that holds any job of its name and queue back.
pub(super) fn held_back(facts: &Facts, here: &Here) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = facts.pauses.iter().map(|hold| paused(facts, hold)).collect();
    let ticking: Vec<&Host> = facts.hosts.iter().filter(|host| host.ticks(facts.now)).collect();
    if ticking.is_empty() {
        reasons.push(no_tick(facts));
        if here.declared_queue.is_none() {
            reasons.push(undeclared(facts, here, &[]));
        }
    } else {
        reasons.extend(unable(facts, here, &ticking));
    }
    let troubles = ticking.iter().filter_map(|host| Some((host, host.trouble(facts.now)?)));
    for (host, trouble) in troubles.filter(|(host, _)| can(facts, here, host)) {
        reasons.push(Reason::new(
            Kind::HostTrouble,
            format!("ticks of {} cannot work: {trouble}", host.shown()),
            "mend that; the next tick goes on",
        ));
    }
    if let Some(slow) = &here.slow {
        reasons.push(Reason::new(
            Kind::DatabaseSlow,
            slow.clone(),
            "ticks wait for it; find what keeps it: its load, locks of an application, the network between",
        ));
    }
    if let Some(Err(trouble)) = &here.slots {
        reasons.push(Reason::new(
            Kind::HostTrouble,
            format!("this host ({}) cannot start anything: {trouble}", here.host),
            "mend that; the next tick goes on",
        ));
    }
    reasons
}

fn queue<'a>(facts: &'a Facts, here: &'a Here) -> Option<&'a str> {
    facts.queue.as_deref().or(here.declared_queue.as_deref())
}

fn can(facts: &Facts, here: &Here, host: &Host) -> bool {
    host.declares(&facts.name) && queue(facts, here).is_none_or(|queue| host.serves(queue))
}

fn paused(facts: &Facts, hold: &Hold) -> Reason {
    let (what, resume) = match hold.scope.split_once(':') {
        Some(("queue", name)) => (format!("queue `{name}` is"), format!("--queue {name}")),
        Some((_, name)) => (format!("`{name}` is"), name.to_owned()),
        None => ("everything is".to_owned(), "--all".to_owned()),
    };
    let mut text = format!("{what} paused");
    if let Some(since) = hold.since {
        text.push_str(&format!(" since {} ({} ago)", clock(since), length(facts.now - since)));
    }
    if let Some(by) = &hold.by {
        text.push_str(&format!(" by {by}"));
    }
    if let Some(reason) = &hold.reason {
        text.push_str(&format!(": {reason}"));
    }
    let next = match hold.until {
        Some(until) => {
            format!("it ends by itself at {}, or now by `duly resume {resume}`", clock(until))
        }
        None => format!("`duly resume {resume}` ends it"),
    };
    Reason::new(Kind::Paused, text, next).until(hold.until)
}

fn no_tick(facts: &Facts) -> Reason {
    let last =
        facts.hosts.iter().filter_map(|host| Some((host.last_tick_at?, host))).max_by_key(|(at, _)| *at);
    let text = match last {
        Some((at, host)) => format!(
            "no host has ticked for {}; the last was {} at {}",
            length(facts.now - at),
            host.shown(),
            clock(at)
        ),
        None => "no host has ever ticked".to_owned(),
    };
    Reason::new(
        Kind::NoTick,
        text,
        "a tick: is the line in the crontab (`crontab -l`, `duly check --crontab`), the timer or `duly daemon` there, \
         and does it run?",
    )
}

/// That no host which ticks could execute it, or that this one could not.
fn unable(facts: &Facts, here: &Here, ticking: &[&Host]) -> Option<Reason> {
    if ticking.iter().any(|host| can(facts, here, host)) {
        // Somebody does it. That this host would not is worth a word, since this is where one looks.
        if here.declared_queue.is_some() {
            return None;
        }
        let able: Vec<&&Host> = ticking.iter().filter(|host| can(facts, here, host)).collect();
        return Some(Reason::new(
            Kind::UndeclaredHere,
            format!(
                "{} on this host ({}) does not declare `{}`; {} does",
                here.config,
                here.host,
                facts.name,
                shown(&able)
            ),
            "a tick there takes it; or declare it here too",
        ));
    }
    let declaring: Vec<&&Host> = ticking.iter().filter(|host| host.declares(&facts.name)).collect();
    if declaring.is_empty() {
        return Some(undeclared(facts, here, ticking));
    }
    let name = queue(facts, here).unwrap_or("default");
    let serving: Vec<&&Host> = ticking.iter().filter(|host| host.serves(name)).collect();
    let text = if serving.is_empty() {
        format!("no host that ticks serves queue `{name}`")
    } else {
        format!(
            "no host that ticks both serves queue `{name}` ({} does) and declares `{}` ({} does)",
            shown(&serving),
            facts.name,
            shown(&declaring)
        )
    };
    Some(Reason::new(
        Kind::QueueNotServed,
        text,
        format!(
            "declare it under `queues` in the jobs.yaml of a host that declares `{}`, and let a tick there serve it \
             (`duly run` without --queue, or with `--queue {name}`)",
            facts.name
        ),
    ))
}

fn undeclared(facts: &Facts, here: &Here, ticking: &[&Host]) -> Reason {
    let text = match (ticking.is_empty(), here.declared_queue.is_some()) {
        (true, _) => format!("`{}` is not declared in {}", facts.name, here.config),
        (false, true) => format!(
            "no host that ticks ({}) declares `{}`, though {} on this host ({}) does",
            shown(&ticking.iter().collect::<Vec<_>>()),
            facts.name,
            here.config,
            here.host
        ),
        (false, false) => format!(
            "no host that ticks ({}) declares `{}`, and neither does {}",
            shown(&ticking.iter().collect::<Vec<_>>()),
            facts.name,
            here.config
        ),
    };
    Reason::new(
        Kind::Undeclared,
        text,
        format!(
            "declare it under `jobs` in the jobs.yaml of a host that ticks, or give the job up: `duly cancel {}`",
            facts.id
        ),
    )
}

fn shown(hosts: &[&&Host]) -> String {
    let names: Vec<String> = hosts.iter().map(|host| host.shown()).collect();
    names.join(", ")
}

/// That its queue or its name runs as often as it may.
pub(super) fn limits(facts: &Facts, here: &Here) -> Vec<Reason> {
    let queue = format!("queue `{}`", facts.queue.as_deref().unwrap_or("default"));
    let all = [
        (Kind::QueueLimit, queue, here.limits.0, &facts.holders.0),
        (Kind::NameLimit, format!("`{}`", facts.name), here.limits.1, &facts.holders.1),
    ];
    all.into_iter().filter_map(|(kind, what, limit, holders)| full(kind, &what, limit?, holders)).collect()
}

fn full(kind: Kind, what: &str, limit: u32, holders: &[Other]) -> Option<Reason> {
    if holders.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
        return None;
    }
    let reason = Reason::new(
        kind,
        format!(
            "{what} runs at most {limit} at once over all hosts, and the places are held by {}",
            listed(holders)
        ),
        "a place is free when one of these ends, or when its runner has vanished and its lease is over",
    );
    Some(reason.about(holders))
}

/// That this host has no slot free.
pub(super) fn slots(here: &Here) -> Option<Reason> {
    match here.slots {
        Some(Ok((0, total))) => Some(Reason::new(
            Kind::NoSlot,
            format!(
                "this host ({}) executes {total} at once (runner.concurrency), and all of its slots are taken",
                here.host
            ),
            "a slot is free when a job of this host ends; other hosts may start it before",
        )),
        _ => None,
    }
}
