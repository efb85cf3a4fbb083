//! How the whole stands: from what is known to findings, each with what to do about it.
//!
//! Nothing is looked up in here, so that the command line, a monitoring plugin and the web page say the same.

mod jobs;
mod machines;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::host::GONE;
use super::why::{Hold, length};
use super::{Host, State};

/// An answer of the database that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);

/// A pause without an end that lasts longer may have been forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::days(1);

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

/// Of a queue, the number of jobs per state, and since when its oldest startable one waits.
pub type QueueDepth = (BTreeMap<State, u64>, Option<DateTime<Utc>>);

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
    /// Whether the database takes writes.
    pub takes_writes: bool,
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
    /// Schedules that were made up to an instant which is still to come.
    pub ahead: Vec<(String, DateTime<Utc>)>,
    /// Limits of queues that this host's jobs.yaml declares.
    pub limits: BTreeMap<String, u32>,
    /// How long a job may be startable before that is a warning.
    pub max_wait: Duration,
    /// What is wrong with this host's state folder.
    pub state_folder: Result<(), String>,
    /// Results of this host's runners that the database refuses: of which jobs, and why.
    pub refused: Vec<(i64, String)>,
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
        let last = self.last_tick();
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

    /// When any host last ticked, by a clock that was not ahead.
    #[must_use]
    pub fn last_tick(&self) -> Option<DateTime<Utc>> {
        let known = self.hosts.iter().filter(|host| host.ahead(self.now).is_none());
        known.filter_map(|host| host.last_tick_at).max()
    }

    /// The depth of each queue; that of jobs without one is under the empty name.
    #[must_use]
    pub fn queues(&self) -> BTreeMap<&str, QueueDepth> {
        let mut queues: BTreeMap<&str, QueueDepth> = BTreeMap::new();
        for depth in &self.depths {
            let entry = queues.entry(depth.queue.as_deref().unwrap_or("")).or_default();
            *entry.0.entry(depth.state).or_default() += depth.jobs;
            if matches!(depth.state, State::Pending | State::New) {
                entry.1 = [entry.1, depth.oldest].into_iter().flatten().min();
            }
        }
        queues
    }
}
