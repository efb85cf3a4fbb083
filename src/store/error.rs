//! What can go wrong with what is done to jobs: the database's errors, and answers of its own.

use crate::db;

/// A statement or a connection that failed, or a job that cannot be had so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed: the whole transaction may be tried again.
    #[error("{0}")]
    Conflict(String),
    /// The server is away or does not accept writes now: connect again, then find out what happened.
    #[error("{0}")]
    Away(String),
    /// The server, its disk or a table has no room or cannot be written just now: the same may work later.
    #[error("{0}")]
    Full(String),
    /// A unique key is taken: an answer, not a fault.
    #[error("a unique key is taken: {0}")]
    Duplicate(String),
    /// The schema is not there or is another version's; the text says what to do.
    #[error("{0}")]
    Schema(String),
    /// A job of the same unique name or key has not ended.
    #[error("job {id} ({name}) of the same unique key has not ended; `duly why {id}` says why")]
    Taken {
        /// That job.
        id: i64,
        /// Its name.
        name: String,
    },
    /// A job may not start now: it is paused, or runs as often as it may.
    #[error("{0}")]
    HeldBack(String),
    /// A job that is named does not exist.
    #[error("{0}")]
    Unknown(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<db::Error> for StoreError {
    fn from(error: db::Error) -> Self {
        match error {
            db::Error::Conflict(text) => Self::Conflict(text),
            db::Error::Away(text) => Self::Away(text),
            db::Error::Full(text) => Self::Full(text),
            db::Error::Duplicate(text) => Self::Duplicate(text),
            db::Error::Schema(text) => Self::Schema(text),
            db::Error::Other(text) => Self::Other(text),
        }
    }
}

impl StoreError {
    /// Whether connecting again may help.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Whether it is about the unique key on this column, whose name is in every server's message.
    pub(super) fn is_taken_key(&self, column: &str) -> bool {
        matches!(self, Self::Duplicate(text) if text.contains(&format!("duly_job_{column}'"))
            || text.contains(&format!("duly_job.{column}")))
    }

    /// Whether a unique key was taken.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        matches!(self, Self::Duplicate(_))
    }
}
