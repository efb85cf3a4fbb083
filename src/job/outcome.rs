//! How one attempt at executing a job ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How one attempt ended; what that means for the job is decided by [`super::verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The command exited with 0.
    Success,
    /// The command exited with this code, which is not 0.
    Exited(i32),
    /// The command was ended by this signal, which Duly had not sent.
    Signalled(i32),
    /// The command ran longer than its `timeout` and was stopped.
    TimedOut,
    /// The command could not be started, and why.
    NotStarted(String),
    /// A person cancelled the job while it ran.
    Cancelled,
    /// The runner vanished, so how the command ended is not known.
    Orphaned,
    /// The runner was told to stop, and stopped the command. Does not count as an attempt.
    Interrupted,
}

impl Outcome {
    /// The word stored in the database and shown to people.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Exited(_) => "exited",
            Self::Signalled(_) => "signalled",
            Self::TimedOut => "timed_out",
            Self::NotStarted(_) => "not_started",
            Self::Cancelled => "cancelled",
            Self::Orphaned => "orphaned",
            Self::Interrupted => "interrupted",
        }
    }

    /// The exit code, where the command had one.
    #[must_use]
    pub const fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Success => Some(0),
            Self::Exited(code) => Some(*code),
            Self::Signalled(_)
            | Self::TimedOut
            | Self::NotStarted(_)
            | Self::Cancelled
            | Self::Orphaned
            | Self::Interrupted => None,
        }
    }

    /// The number of the signal that ended the command, where one did.
    #[must_use]
    pub const fn signal(&self) -> Option<i32> {
        match self {
            Self::Signalled(number) => Some(*number),
            Self::Success
            | Self::Exited(_)
            | Self::TimedOut
            | Self::NotStarted(_)
            | Self::Cancelled
            | Self::Orphaned
            | Self::Interrupted => None,
        }
    }

    /// A sentence for people, or `None` where the word says it all.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::NotStarted(why) => Some(why.clone()),
            Self::Orphaned => Some("the runner vanished while the command was running".to_owned()),
            Self::Success
            | Self::Exited(_)
            | Self::Signalled(_)
            | Self::TimedOut
            | Self::Cancelled
            | Self::Interrupted => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("succeeded"),
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signalled(number) => write!(f, "was ended by signal {number}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Orphaned => f.write_str("was orphaned"),
            Self::Interrupted => f.write_str("was interrupted"),
        }
    }
}
