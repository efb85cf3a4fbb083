//! What there is to say about hosts and about the database.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::{Finding, GONE, Level, Overview, slow};
use crate::job::why::{clock, length};
use crate::job::{Host, SILENT};

/// What to do where a clock was ahead.
const CLOCKS: &str = "look at the clocks of the hosts and of the database's server (`timedatectl`); the next tick starts anew from now";

impl Overview {
    pub(super) fn about_hosts(&self, findings: &mut Vec<Finding>) {
        if let Err(trouble) = &self.state_folder {
            findings.push(Finding {
                level: Level::Critical,
                kind: "state_folder",
                text: format!("this host cannot start anything: {trouble}"),
                next: "make room, or mend the folder".to_owned(),
            });
        }
        self.about_refused(findings);
        let ticking: Vec<&Host> = self.hosts.iter().filter(|host| host.ticks(self.now)).collect();
        findings.extend(self.no_tick());
        let mut add = |level, kind, text, next: &str| {
            findings.push(Finding { level, kind, text, next: next.to_owned() });
        };
        for host in &self.hosts {
            let silent = host.last_tick_at.map_or(GONE + GONE, |at| self.now - at);
            if !ticking.is_empty() && silent > SILENT && silent <= GONE {
                let text = format!("{} has not ticked for {}, others do", host.shown(), length(silent));
                add(
                    Level::Warning,
                    "host_silent",
                    text,
                    "there: is cron alive, and does `duly check` find its jobs.yaml right?",
                );
            }
            if let Some(ahead) = host.ahead(self.now) {
                let text = format!(
                    "the last tick of {} was {} ahead of the database's clock: that clock was wrong, or another one was",
                    host.shown(),
                    length(ahead)
                );
                add(Level::Warning, "clock_ahead", text, CLOCKS);
            }
            if let Some(trouble) = host.trouble(self.now) {
                let text = format!("ticks of {} cannot work: {trouble}", host.shown());
                add(Level::Critical, "host_trouble", text, "mend that on this host; the next tick goes on");
            }
        }
        if let Some((name, until)) = self.ahead.first() {
            let more = if self.ahead.len() > 1 {
                format!(" and {} more", self.ahead.len() - 1)
            } else {
                String::new()
            };
            let text = format!(
                "`{name}`{more} stands still: it was made up to {}, which is still to come by the database's clock",
                clock(*until)
            );
            add(Level::Warning, "schedule_ahead", text, CLOCKS);
        }
        let whole: Vec<&&Host> =
            ticking.iter().filter(|host| host.queues.is_none() && host.declares.is_some()).collect();
        if let Some(text) = differences(&whole) {
            add(
                Level::Warning,
                "other_config",
                text,
                "bring jobs.yaml to the same version on all hosts, or ignore this where they are meant to differ",
            );
        }
        let versions: BTreeSet<&str> = ticking.iter().map(|host| host.version.as_str()).collect();
        if versions.len() > 1 {
            let all: Vec<&str> = versions.into_iter().collect();
            add(
                Level::Note,
                "other_version",
                format!("hosts have different versions of Duly: {}", all.join(", ")),
                "install the newest on all hosts",
            );
        }
    }

    fn about_refused(&self, findings: &mut Vec<Finding>) {
        if let Some((id, why)) = self.refused.first() {
            let more = match self.refused.len() {
                1 => String::new(),
                all => format!(", and those of {} more jobs", all - 1),
            };
            findings.push(Finding {
                level: Level::Warning,
                kind: "result_refused",
                text: format!("the result of job {id}{more} is put aside on this host, since the database refuses it: {why}"),
                next: "mend what refuses it (a trigger, a column that was changed); a tick then writes it within two minutes"
                    .to_owned(),
            });
        }
    }

    fn no_tick(&self) -> Option<Finding> {
        // What takes no writes takes no note of a tick either.
        if !self.takes_writes || self.hosts.iter().any(|host| host.ticks(self.now)) {
            return None;
        }
        let text = match self
            .hosts
            .iter()
            .filter(|host| host.ahead(self.now).is_none())
            .filter_map(|host| Some((host.last_tick_at?, host)))
            .max_by_key(|(at, _)| *at)
        {
            Some((at, host)) => {
                format!(
                    "no host has ticked for {}; the last was {} at {}",
                    length(self.now - at),
                    host.shown(),
                    clock(at)
                )
            }
            None if self.hosts.is_empty() => "no host has ever ticked".to_owned(),
            None => "no host is known to have ticked lately".to_owned(),
        };
        let next = match self.has_cron {
            Some(false) => {
                "a crontab of this host ticks, and no daemon of cron runs: start it (`systemctl start cron`)"
            }
            _ => {
                "look at the crontab (`duly check --crontab`), the timer or `duly daemon`: none of them starts `duly run`"
            }
        };
        Some(Finding { level: Level::Critical, kind: "no_tick", text, next: next.to_owned() })
    }

    pub(super) fn about_the_database(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: &str| {
            findings.push(Finding { level, kind, text, next: next.to_owned() });
        };
        if !self.takes_writes {
            add(
                Level::Critical,
                "read_only",
                "the database takes no writes: it follows another server, or has been made read-only"
                    .to_owned(),
                "name the node that takes writes in the URL, or all of them (mysql://USER@NODE1,NODE2/NAME); or `SET GLOBAL read_only = 0` there",
            );
        }
        let next = "look at its load, at who holds locks (`SHOW PROCESSLIST`, `fuser jobs.db`) and at the network between";
        if let Some((level, text)) = slow(self.latency, &self.turn) {
            add(level, "database_slow", text, next);
        }
        let difference = self.clock_difference.abs();
        if difference > TimeDelta::seconds(2) {
            let text = format!("this host's clock differs from the database's by {}", length(difference));
            add(
                Level::Note,
                "clock_difference",
                text,
                "nothing is decided by it; times in the system's log differ from Duly's",
            );
        }
    }
}

/// Which hosts declare other names than the others, where some do.
fn differences(hosts: &[&&Host]) -> Option<String> {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        for name in host.declares.iter().flat_map(|declares| &declares.jobs) {
            by_name.entry(name).or_default().push(&host.name);
        }
    }
    let some: Vec<(&str, &Vec<&str>)> =
        by_name.iter().filter(|(_, of)| of.len() < hosts.len()).map(|(name, of)| (*name, of)).collect();
    if let Some((name, of)) = some.first() {
        let without: Vec<&str> =
            hosts.iter().map(|host| host.name.as_str()).filter(|host| !of.contains(host)).collect();
        let more = if some.len() > 1 { format!(" and {} more", some.len() - 1) } else { String::new() };
        return Some(format!(
            "jobs.yaml differs between hosts: {} does not declare `{name}`{more}, {} does",
            without.join(", "),
            of.join(", ")
        ));
    }
    let schedules: BTreeSet<Option<&str>> = hosts.iter().map(|host| host.schedules.as_deref()).collect();
    (schedules.len() > 1).then(|| {
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        format!("jobs.yaml differs between hosts ({}): their schedules are not the same", names.join(", "))
    })
}
