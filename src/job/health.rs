//! How the whole stands: from what is known to findings, each with what to do about it.
//!
//! Nothing is looked up in here, so that the command line, a monitoring plugin and the web page say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::why::{Hold, clock, length};
use super::{Host, SILENT, State};

/// An answer of the database that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);

/// A pause without an end that lasts longer may have been forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::days(1);

/// A host that has been silent for longer has been taken away.
const GONE: TimeDelta = TimeDelta::days(1);

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth knowing.
    Note,
    /// Something is wrong.
    Warning,
    /// Nothing runs.
    Critical,
}

impl Level {
    /// As programs read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something about the whole that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// For programs.
    pub kind: &'static str,
    /// What is so. Names and reasons are in it as they are stored.
    pub text: String,
    /// What to do about it.
    pub next: String,
}

/// Jobs of a queue in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The queue; `None` where they have not been adopted and the application named none.
    pub queue: Option<String>,
    /// The state.
    pub state: State,
    /// How many.
    pub jobs: u64,
    /// Since when the oldest could be started; of new ones, since when it is there.
    pub oldest: Option<DateTime<Utc>>,
}

/// A name of which jobs failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The name.
    pub name: String,
    /// How many failed.
    pub failed: u64,
    /// How many were given up.
    pub stale: u64,
    /// When the latest of them did.
    pub last_at: Option<DateTime<Utc>>,
    /// How the latest job of the name ended that was not cancelled.
    pub latest: Option<State>,
}

/// Jobs of a name and queue that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The name.
    pub name: String,
    /// The queue.
    pub queue: Option<String>,
    /// The state.
    pub state: State,
    /// How many, of those that were looked at.
    pub jobs: u64,
    /// Since when; of those that wait for another attempt, until when.
    pub since: Option<DateTime<Utc>>,
    /// The first of them.
    pub id: i64,
}

/// A running job whose runner has given no sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The job.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The host of its runner.
    pub host: Option<String>,
    /// When its lease ended.
    pub lease_until: Option<DateTime<Utc>>,
}

/// That the database is slow, if it is: to answer, or to let one write.
#[must_use]
pub fn slow(latency: Duration, turn: &Result<Duration, String>) -> Option<(Level, String)> {
    match turn {
        Err(why) => Some((Level::Critical, format!("the database cannot be written: {why}"))),
        Ok(turn) if *turn >= SLOW => Some((
            Level::Warning,
            format!("the database is slow: it took {:.1}s until one could write", turn.as_secs_f64()),
        )),
        Ok(_) if latency >= SLOW => Some((
            Level::Warning,
            format!("the database is slow: an answer took {:.1}s", latency.as_secs_f64()),
        )),
        Ok(_) => None,
    }
}

/// What is known of the whole.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// How long the database took to answer.
    pub latency: Duration,
    /// How long it took until one could have written; the text is why one could not.
    pub turn: Result<Duration, String>,
    /// The database's time less this host's.
    pub clock_difference: TimeDelta,
    /// Every host that ticks.
    pub hosts: Vec<Host>,
    /// Jobs that have not ended.
    pub depths: Vec<Depth>,
    /// Names that failed within a day.
    pub failing: Vec<Failing>,
    /// Jobs that could have been started for a while.
    pub stuck: Vec<Stuck>,
    /// Names whose jobs wait for another attempt.
    pub backing_off: Vec<Stuck>,
    /// Jobs whose runners have vanished.
    pub expired: Vec<Expired>,
    /// Pauses.
    pub pauses: Vec<Hold>,
    /// Schedules whose occurrence nobody has made a job of, and since when; those that are paused left out.
    pub late: Vec<(String, DateTime<Utc>)>,
    /// Limits of queues that this host's jobs.yaml declares.
    pub limits: BTreeMap<String, u32>,
    /// How long a job may be startable before that is a warning.
    pub max_wait: Duration,
    /// What is wrong with this host's state folder.
    pub state_folder: Result<(), String>,
    /// Whether a daemon of cron runs on this host, where a crontab of it ticks.
    pub has_cron: Option<bool>,
}

impl Overview {
    /// Everything worth knowing, the worst first.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.about_hosts(&mut findings);
        self.about_the_database(&mut findings);
        self.about_jobs(&mut findings);
        self.about_pauses_and_limits(&mut findings);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        findings
    }

    /// One line: whether all is well, and what is not.
    #[must_use]
    pub fn verdict(&self, findings: &[Finding]) -> String {
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.level > Level::Note).collect();
        if let Some(worst) = bad.first() {
            let more = match bad.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            return format!("{}: {}{more}", worst.level.as_str(), worst.text);
        }
        let of = |state| {
            self.depths.iter().filter(|depth| depth.state == state).map(|depth| depth.jobs).sum::<u64>()
        };
        let ticking = self.hosts.iter().filter(|host| host.ticks(self.now)).count();
        let last = self.hosts.iter().filter_map(|host| host.last_tick_at).max();
        let notes: Vec<&str> = findings.iter().map(|finding| finding.text.as_str()).collect();
        format!(
            "fine: {ticking} {} ({} ago), {} running, {} startable, {} waiting for later or for others{}{}",
            if ticking == 1 { "host ticks" } else { "hosts tick" },
            last.map_or_else(|| "-".to_owned(), |at| length(self.now - at)),
            of(State::Running),
            of(State::Pending) + of(State::New),
            of(State::Delayed) + of(State::Waiting),
            if notes.is_empty() { "" } else { "; note: " },
            notes.first().unwrap_or(&""),
        )
    }

    /// The depth of each queue: the number of jobs per state, and since when its oldest startable one waits.
    #[must_use]
    pub fn queues(&self) -> BTreeMap<&str, (BTreeMap<State, u64>, Option<DateTime<Utc>>)> {
        let mut queues: BTreeMap<&str, (BTreeMap<State, u64>, Option<DateTime<Utc>>)> = BTreeMap::new();
        for depth in &self.depths {
            let entry = queues.entry(depth.queue.as_deref().unwrap_or("")).or_default();
            *entry.0.entry(depth.state).or_default() += depth.jobs;
            if matches!(depth.state, State::Pending | State::New) {
                entry.1 = [entry.1, depth.oldest].into_iter().flatten().min();
            }
        }
        queues
    }

    fn is_paused(&self, name: &str, queue: Option<&str>) -> bool {
        self.pauses.iter().any(|hold| match hold.scope.split_once(':') {
            None => true,
            Some(("queue", paused)) => queue == Some(paused),
            Some((_, paused)) => name == paused,
        })
    }

    fn about_hosts(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: &str| {
            findings.push(Finding { level, kind, text, next: next.to_owned() });
        };
        if let Err(trouble) = &self.state_folder {
            add(
                Level::Critical,
                "state_folder",
                format!("this host cannot start anything: {trouble}"),
                "make room, or mend the folder",
            );
        }
        let ticking: Vec<&Host> = self.hosts.iter().filter(|host| host.ticks(self.now)).collect();
        if ticking.is_empty() {
            let text = match self
                .hosts
                .iter()
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
                None => "no host has ever ticked".to_owned(),
            };
            let next = match self.has_cron {
                Some(false) => {
                    "a crontab of this host ticks, and no daemon of cron runs: start it (`systemctl start cron`)"
                }
                _ => {
                    "look at the crontab (`duly check --crontab`), the timer or `duly daemon`: none of them starts `duly run`"
                }
            };
            add(Level::Critical, "no_tick", text, next);
        }
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
            if let Some(trouble) = host.trouble(self.now) {
                let text = format!("ticks of {} cannot work: {trouble}", host.shown());
                add(Level::Critical, "host_trouble", text, "mend that on this host; the next tick goes on");
            }
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

    fn about_the_database(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: &str| {
            findings.push(Finding { level, kind, text, next: next.to_owned() });
        };
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

    fn about_jobs(&self, findings: &mut Vec<Finding>) {
        let mut add = |level, kind, text, next: String| findings.push(Finding { level, kind, text, next });
        let ticking: Vec<&Host> = self.hosts.iter().filter(|host| host.ticks(self.now)).collect();
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
        for (name, since) in &self.late {
            let text = format!("`{name}` is late: its occurrence of {} has not become a job", clock(*since));
            add(
                Level::Warning,
                "late",
                text,
                "a tick makes it; where hosts tick, see what `duly run -v` says about it".to_owned(),
            );
        }
    }

    fn about_pauses_and_limits(&self, findings: &mut Vec<Finding>) {
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
