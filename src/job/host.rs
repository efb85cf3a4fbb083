//! What is known of a host that ticks.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::is_hook;

/// After this long without a tick a host counts as silent: cron starts one each minute, and the database hears of it at
/// most every 30 seconds.
pub const SILENT: TimeDelta = TimeDelta::minutes(3);

/// After this long without a tick what a host's jobs.yaml says of schedules is no longer waited for.
const ABSENT: TimeDelta = TimeDelta::minutes(15);

/// From how far ahead of the database's clock on a time is one of another clock.
pub const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// A host that has been silent for longer has been taken away.
pub(super) const GONE: TimeDelta = TimeDelta::days(1);

/// What a host's jobs.yaml declares, in so far as others ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declares {
    /// The queues that its ticks serve.
    pub queues: Vec<String>,
    /// The names whose jobs it can execute, hooks left out.
    pub jobs: Vec<String>,
    /// The names whose schedules make jobs; `None` where a Duly has written it that did not tell.
    #[serde(default)]
    pub schedules: Option<Vec<String>>,
    /// When its jobs.yaml was put in its place, by its own clock.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// The names whose jobs are never begun twice; `None` where a Duly has written it that did not tell.
    #[serde(default)]
    pub once: Option<Vec<String>>,
}

/// A host, or the part of it that ticks for some queues only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The queues that its ticks are restricted to by `run --queue`, if they are.
    pub queues: Option<Vec<String>>,
    /// When it last ticked, to about half a minute.
    pub last_tick_at: Option<DateTime<Utc>>,
    /// Its version of Duly.
    pub version: String,
    /// A digest of the schedules that it has.
    pub schedules: Option<String>,
    /// What it declares; `None` where that is not known.
    pub declares: Option<Declares>,
    /// Why its latest tick that went wrong did, and when that was.
    pub trouble: Option<(String, DateTime<Utc>)>,
    /// How long its latest tick took that lasted over a second.
    pub tick: Option<Duration>,
    /// How often such ticks have renewed their leases.
    pub renewals: u64,
}

impl Host {
    /// Whether it has ticked lately.
    #[must_use]
    pub fn ticks(&self, now: DateTime<Utc>) -> bool {
        self.last_tick_at.is_some_and(|at| (now - at).abs() <= SILENT)
    }

    /// Whether ticks by its jobs.yaml may still come: cron may start one each ten minutes only.
    #[must_use]
    pub fn may_tick(&self, now: DateTime<Utc>) -> bool {
        self.last_tick_at.is_some_and(|at| (now - at).abs() <= ABSENT)
    }

    /// How far its last tick lies ahead of the database's clock, where a clock was or is wrong.
    #[must_use]
    pub fn ahead(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.last_tick_at.map(|at| at - now).filter(|ahead| *ahead > AHEAD)
    }

    /// Whether it has been silent for so long that it will not come back.
    #[must_use]
    pub fn is_gone(&self, now: DateTime<Utc>) -> bool {
        self.last_tick_at.is_none_or(|at| now - at > GONE)
    }

    /// Why its ticks cannot work, if that happened lately.
    #[must_use]
    pub fn trouble(&self, now: DateTime<Utc>) -> Option<&str> {
        self.trouble.as_ref().filter(|(_, at)| now - *at <= SILENT).map(|(trouble, _)| trouble.as_str())
    }

    /// Whether its jobs.yaml has a schedule of this name that makes jobs, as far as is known.
    #[must_use]
    pub fn has_schedule(&self, name: &str) -> bool {
        let schedules = self.declares.as_ref().and_then(|declares| declares.schedules.as_ref());
        schedules.is_some_and(|names| names.iter().any(|had| had == name))
    }

    /// Whether it can execute jobs of this name, as far as is known. A hook's job is of the definition after its `@`.
    #[must_use]
    pub fn declares(&self, name: &str) -> bool {
        let name = if is_hook(name) { name.split('@').nth(1).unwrap_or(name) } else { name };
        self.declares.as_ref().is_none_or(|declares| declares.jobs.iter().any(|declared| declared == name))
    }

    /// Whether it may begin a job of this name again whose runner vanished; `None` where it is not known to declare it.
    #[must_use]
    pub fn begins_again(&self, name: &str) -> Option<bool> {
        let declares = self.declares.as_ref().filter(|_| self.declares(name))?;
        Some(declares.once.as_ref().is_some_and(|once| !once.iter().any(|declared| declared == name)))
    }

    /// Whether it serves this queue, as far as is known.
    #[must_use]
    pub fn serves(&self, queue: &str) -> bool {
        self.declares.as_ref().is_none_or(|declares| declares.queues.iter().any(|served| served == queue))
    }

    /// Under which it is recorded: its name, with the queues that it is restricted to.
    #[must_use]
    pub fn key(&self) -> String {
        match &self.queues {
            None => self.name.clone(),
            Some(queues) => format!("{}/{}", self.name, queues.join(",")),
        }
    }

    /// Its name, with the queues that it is restricted to.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.queues {
            None => self.name.clone(),
            Some(queues) => format!("{} (queue {})", self.name, queues.join(", ")),
        }
    }
}
