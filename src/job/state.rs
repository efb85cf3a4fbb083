//! Where a job is in its life, and which end of a prerequisite lets a dependent start.
//!
//! A state only ever changes through an `UPDATE` whose `WHERE` names the state it leaves (and the
//! owner and fence while it runs); the statements are in `store/`.
//!
//! ```text
//! SQL insert ──► new ─────────────┐                  ┌──────── retry after a back-off ───────┐
//!                 │ unreadable    │                  ▼                                       │
//!                 └──► failed     ├──► delayed ──► pending ──► running ──► success           │
//!                                 │                  ▲  ▲          │ │ └─► failed            │
//! enqueue ──┬─────────────────────┘──────────────────┘  │          │ ├───► cancelled         │
//!           │                                           │          │ ├───► stale             │
//!           └──► waiting ── its prerequisites ended ────┘          │ └───────────────────────┘
//!                 │         as asked                    ▲          │
//!                 └──► cancelled: one ended otherwise   └──────────┘ interrupted, handed back
//! ```
//!
//! A person cancels a job that has not ended from any of these; `run-job` puts a job in as `running`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a job is in its life, as stored in `duly_job.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Inserted by an application with plain SQL; the next tick adopts it.
    New,
    /// Has prerequisites that have not ended; the last one of them moves it on.
    Waiting,
    /// Startable later, because it was asked for so or as the back-off of a retry; promoted by a tick.
    Delayed,
    /// Startable now; claimed by a runner.
    Pending,
    /// Leased to a runner; left by its end or by rescue.
    Running,
    /// Ended: its command succeeded.
    Success,
    /// Ended: its attempts are used up, or its failure is permanent.
    Failed,
    /// Ended: by a person, by a prerequisite that ended otherwise, or an occurrence that was skipped.
    Cancelled,
    /// Ended: it gave no sign of life and was given up.
    Stale,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 9] = [
        Self::New,
        Self::Waiting,
        Self::Delayed,
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Failed,
        Self::Cancelled,
        Self::Stale,
    ];

    /// The states that a job never leaves.
    pub const ENDED: [Self; 4] = [Self::Success, Self::Failed, Self::Cancelled, Self::Stale];

    /// The word stored in the database and shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stale => "stale",
        }
    }

    /// Whether a job in this state is over.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled | Self::Stale)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("no job state is called `{word}`; expected one of {}", known.join(", "))
        })
    }
}

/// Which end of a prerequisite lets its dependent start; any other end cancels the dependent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum On {
    /// It succeeded.
    Success,
    /// It failed or became stale.
    Failure,
    /// It ended, however.
    Always,
    /// It succeeded or failed, and was neither cancelled nor given up.
    Finished,
}

impl On {
    /// The word stored in the database and typed by people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Always => "always",
            Self::Finished => "finished",
        }
    }

    /// Whether a prerequisite that ended in `end` lets its dependent start.
    #[must_use]
    pub const fn is_met_by(self, end: State) -> bool {
        match self {
            Self::Success => matches!(end, State::Success),
            Self::Failure => matches!(end, State::Failed | State::Stale),
            Self::Always => end.is_ended(),
            Self::Finished => matches!(end, State::Success | State::Failed),
        }
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Success, Self::Failure, Self::Always, Self::Finished]
            .into_iter()
            .find(|on| on.as_str() == word)
            .ok_or_else(|| format!("`{word}` is no end; expected success, failure, always or finished"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_found_again_by_its_word() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse::<State>(), Ok(state));
        }
        assert!("finished".parse::<State>().unwrap_err().contains("success"));
    }

    #[test]
    fn a_dependent_after_success_is_not_met_by_any_other_end() {
        let met: Vec<State> = State::ALL.into_iter().filter(|end| On::Success.is_met_by(*end)).collect();
        assert_eq!(met, [State::Success]);
        assert!(On::Failure.is_met_by(State::Stale));
        assert!(!On::Failure.is_met_by(State::Cancelled));
        assert!(On::Always.is_met_by(State::Cancelled));
        assert!(!On::Always.is_met_by(State::Running));
        assert!(On::Finished.is_met_by(State::Failed) && !On::Finished.is_met_by(State::Stale));
    }
}
