//! What there is to say about jobs, schedules, pauses and limits.

use chrono::TimeDelta;

use super::{FORGOTTEN, Finding, Level, Overview};
use crate::job::why::{clock, is_in_scope, length};
use crate::job::{Host, SILENT, State};

impl Overview {
    pub(super) fn is_paused(&self, name: &str, queue: Option<&str>) -> bool {
        self.pauses.iter().any(|hold| is_in_scope(&hold.scope, name, queue.unwrap_or_default()))
    }

    pub(super) fn about_jobs(&self, findings: &mut Vec<Finding>) {
        self.about_vanished_runners(findings);
        self.about_stuck_jobs(findings);
        self.about_failures(findings);
        for (name, since) in &self.late {
            let text = format!("`{name}` is late: its occurrence of {} has not become a job", clock(*since));
            let next = "a tick makes it; where hosts tick, see what `duly run -v` says about it".to_owned();
            findings.push(Finding { level: Level::Warning, kind: "late", text, next });
        }
    }

    fn about_vanished_runners(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: String| findings.push(Finding { level, kind, text, next });
        if let Some(first) = self.expired.first() {
            let host = first.host.as_deref().unwrap_or("-");
            let ended =
                first.lease_until.map_or_else(String::new, |at| format!(", {} ago", length(self.now - at)));
            let text = format!(
                "runners have vanished: the leases of {} running jobs have ended, the first is job {} ({}) on {host}{ended}",
                self.expired.len(),
                first.id,
                first.name
            );
            add(
                Level::Warning,
                "runner_dead",
                text,
                format!("a tick takes them back 10s after the end; `duly why {}`", first.id),
            );
        }
    }

    fn about_stuck_jobs(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: String| findings.push(Finding { level, kind, text, next });
        let ticking: Vec<&Host> = self.hosts.iter().filter(|host| host.ticks(self.now)).collect();
        for stuck in &self.stuck {
            let waited = stuck.since.map_or_else(TimeDelta::zero, |at| self.now - at);
            let queue = stuck.queue.as_deref();
            let able =
                |host: &&Host| host.declares(&stuck.name) && queue.is_none_or(|queue| host.serves(queue));
            if waited > SILENT && !ticking.is_empty() && !ticking.iter().any(able) {
                let what = if ticking.iter().any(|host| host.declares(&stuck.name)) {
                    format!("serves queue `{}` and declares `{}`", queue.unwrap_or("default"), stuck.name)
                } else {
                    format!("declares `{}`", stuck.name)
                };
                let text = format!(
                    "{} {} for {}, and no host that ticks {what}",
                    jobs(stuck.jobs),
                    waits(stuck.jobs),
                    length(waited)
                );
                add(
                    Level::Warning,
                    "undeclared",
                    text,
                    format!("declare it in jobs.yaml on a host that ticks; `duly why {}`", stuck.id),
                );
            } else if stuck.state == State::Pending
                && waited.to_std().is_ok_and(|waited| waited > self.max_wait)
                && !self.is_paused(&stuck.name, queue)
            {
                let text =
                    format!("job {} ({}) has been startable for {}", stuck.id, stuck.name, length(waited));
                add(
                    Level::Warning,
                    "waits_long",
                    text,
                    format!(
                        "`duly why {}` says what holds it up; --max-wait sets what is too long",
                        stuck.id
                    ),
                );
            }
        }
    }

    fn about_failures(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: String| findings.push(Finding { level, kind, text, next });
        for failing in &self.failing {
            let times = failing.failed + failing.stale;
            let last = failing
                .last_at
                .map_or_else(String::new, |at| format!(", the last {} ago", length(self.now - at)));
            let (level, text) = match failing.latest {
                Some(State::Success) => (
                    Level::Note,
                    format!("`{}` failed {times}x in 24 hours{last}, and has succeeded since", failing.name),
                ),
                _ => (
                    Level::Warning,
                    format!(
                        "`{}` fails: {times}x in 24 hours{last}, and has not succeeded since",
                        failing.name
                    ),
                ),
            };
            add(
                level,
                "failing",
                text,
                format!("`duly list --name {} --state failed`, then `duly show ID`", failing.name),
            );
        }
        for off in &self.backing_off {
            let at = match off.since {
                Some(at) if at > self.now => format!(", the first is due in {}", length(at - self.now)),
                Some(_) => ", the first is due".to_owned(),
                None => String::new(),
            };
            let text = format!("`{}`: {} for another attempt{at}", off.name, waits_for(off.jobs));
            add(
                Level::Note,
                "back_off",
                text,
                format!("`duly show {}` has the output of the attempts that failed", off.id),
            );
        }
    }

    pub(super) fn about_pauses_and_limits(&self, findings: &mut Vec<Finding>) {
        for hold in &self.pauses {
            let what = match hold.scope.split_once(':') {
                Some(("queue", name)) => format!("queue `{name}`"),
                Some((_, name)) => format!("job `{name}`"),
                None => "everything".to_owned(),
            };
            let since = hold.since.map_or_else(TimeDelta::zero, |at| self.now - at);
            let is_forgotten = hold.until.is_none() && since > FORGOTTEN;
            let until = hold.until.map_or_else(String::new, |at| format!(" until {}", clock(at)));
            let by = hold.by.as_deref().map_or_else(String::new, |by| format!(" by {by}"));
            let reason = hold.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
            findings.push(Finding {
                level: if is_forgotten { Level::Warning } else { Level::Note },
                kind: "paused",
                text: format!("{what} is paused for {}{by}{until}{reason}", length(since)),
                next: "`duly resume` ends it".to_owned(),
            });
        }
        for (queue, limit) in &self.limits {
            let of = |state| {
                let found = self
                    .depths
                    .iter()
                    .find(|depth| depth.state == state && depth.queue.as_ref() == Some(queue));
                found.map_or(0, |depth| depth.jobs)
            };
            let waiting = of(State::Pending);
            if of(State::Running) >= u64::from(*limit) && waiting > 0 {
                findings.push(Finding {
                    level: Level::Note,
                    kind: "limit",
                    text: format!(
                        "queue `{queue}` is at its limit of {limit}, and {} for a place",
                        waits_for(waiting)
                    ),
                    next:
                        "a place is free when one ends; queues.NAME.concurrency in jobs.yaml sets the limit"
                            .to_owned(),
                });
            }
        }
    }
}

fn jobs(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

const fn waits(count: u64) -> &'static str {
    if count == 1 { "waits" } else { "wait" }
}

fn waits_for(count: u64) -> String {
    format!("{} {}", jobs(count), waits(count))
}
